//! `lastgood status`: what runs where, and what is awaited.

use super::{Ended, hold, incident, switch};
use crate::{app::App, drive, exit::Exit, screen::Trouble};
use clap::Args;
use lastgood_domain::{
    failure::Failure,
    service::{Condition, Phase, Service},
    terms::{InstanceName, ServiceName, Timestamp},
    traffic::RouteSide,
    words,
};
use lastgood_engine::{config::InstanceConfig, doubt, fold::Folded, setup};
use lastgood_store::{DriverLock, NoticeState, Reader};
use serde_json::{Value, json};

/// Show what runs where and what it waits for.
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// The service [default: all].
    pub(crate) service: Option<String>,
}

impl Status {
    /// Runs the command.
    pub(crate) fn run(self, app: &App) -> Ended {
        let mut looked = Vec::new();
        for name in app.services(self.service.as_deref())? {
            let folded = app.look(&name)?;
            looked.push((name, folded));
        }
        let (mut data, mut text) = describe(app, &looked)?;
        let recommended = incident::recommended(app)?;
        text += &recommended.as_ref().map(incident::recommended_words).unwrap_or_default();
        data["recommendation"] = json!(recommended);
        app.screen.show("status", &data, &text);
        Ok(Exit::Done)
    }
}

/// Describes services as data and as text.
pub(crate) fn describe(app: &App, looked: &[(ServiceName, Folded)]) -> Result<(Value, String), Trouble> {
    let now = app.now();
    let mut services = Vec::new();
    let mut text = String::new();
    for (service, Folded { service: folded, .. }) in looked {
        let driver =
            DriverLock::holder(app.home.root(), service).map_err(|error| Trouble::new(Exit::Failed, &error))?;
        let configured = app.config.service.get(service).map(|one| one.instance.as_slice()).unwrap_or_default();
        text += &service_text(service, folded, configured, now);
        let apart = setup::apart(&app.config, service, &app.home.service(service), folded);
        for one in &apart {
            text += &format!("  {}\n", words::one_line(&one.says()));
        }
        let closed = switch::closed(app, service)?;
        for closed in &closed {
            text += &format!("  CLOSED by switch {}: {}\n", closed.switch, closed.routes.join(", "));
        }
        if let Some(driver) = &driver {
            text += &format!("  driven by process {} ({})\n", driver.pid, driver.what);
            if drive::is_outdated(app, driver) {
                text += "  lastgood.toml was changed since the daemon read it: restart the daemon\n";
            }
        } else if drive::is_undriven(app, service, folded)? {
            text += &format!("  {}\n", undriven_words(service));
        }
        let mut data = service_data(service, folded, configured, now);
        data["driver"] = json!(driver);
        data["config_changed"] = json!(driver.as_ref().is_some_and(|driver| drive::is_outdated(app, driver)));
        data["closed"] = json!(closed);
        data["setups"] = json!(apart);
        services.push(data);
    }
    let (outbox, outbox_text) = outbox(app, now)?;
    text += &outbox_text;
    if let Some(frozen) = app.frozen() {
        text += &format!("everything is held: {frozen}\n");
    }
    let doubts = doubts(app)?;
    for doubt in &doubts {
        text += &format!(
            "no run goes on: {}
",
            words::one_line(&doubt.message)
        );
    }
    let switches_doubt = switch::doubt(app)?;
    if let Some(doubt) = &switches_doubt {
        text += &format!(
            "SWITCHES IN DOUBT: {doubt}; see them: lastgood switch list
"
        );
    }
    let data = json!({
        "services": services, "outbox": outbox, "frozen": app.frozen(), "doubts": doubts,
        "switches_doubt": switches_doubt,
    });
    Ok((data, text))
}

/// Says what is wrong between the evidence and what was signed: the next run is refused by each.
fn doubts(app: &App) -> Result<Vec<Failure>, Trouble> {
    let Some(reader) = app.reader()? else { return Ok(Vec::new()) };
    doubt::all(&reader, app.home.root(), &app.config.anchor()).map_err(|error| Trouble::new(Exit::Failed, &error))
}

/// Says that nobody drives a run, and what to type.
pub(crate) fn undriven_words(service: &ServiceName) -> String {
    format!("nobody drives it: go on with lastgood run {service}, or back with lastgood rollback {service}")
}

fn service_text(name: &ServiceName, service: &Service, configured: &[InstanceConfig], now: Timestamp) -> String {
    let last_good = service.name_of(service.last_good.as_ref());
    let mut text = format!("{name}  last-good {last_good}");
    if let Some(pin) = &service.pin {
        text += &format!("  pinned to {}", pin.tag);
    }
    if let Some(at) = service.promoted_at {
        text += &format!("  since {}", now.since(at));
    }
    text.push('\n');
    for (instance, state) in &service.instances {
        let is_configured = configured.iter().any(|one| one.name == *instance);
        if !is_configured && state.release.is_none() {
            // It was named once and runs nothing.
            continue;
        }
        let release = service.name_of(state.release.as_ref());
        let part = part(service, instance).filter(|_| state.condition == Condition::Settled);
        let condition = part.map_or_else(|| words::condition_words(&state.condition, now), Into::into);
        let removed = if is_configured { "" } else { "; not in lastgood.toml any more" };
        text += &format!("  {instance:<12} {release:<14} {condition}{removed}\n");
    }
    if let Some(run) = &service.run {
        text += &format!("  run {} for {}: {}\n", run.id, now.since(run.started), words::awaited(service, run, now));
    } else if let Some((run, at, end)) = &service.last_end {
        text += &format!("  run {run}, {} ago: {}\n", now.since(*at), words::brief(&words::end_words(end)));
    }
    text += &traffic_text(service, now);
    for (id, hold) in service.standing_holds(now) {
        let (called, reason) = (hold.called(*id), words::brief(hold.reason.as_str()));
        text += &format!("  {called} by {}: {reason}{}\n", hold.owner, hold::review_words(hold, now));
    }
    for rejection in service.rejected.values() {
        text += &format!("  rejected {}: {}\n", rejection.tag, words::brief(&rejection.reason));
    }
    if service.stale {
        text += "  STALE: nothing was accepted for too long\n";
    }
    text
}

/// Says what a settled instance of shared traffic is there for.
fn part(service: &Service, instance: &InstanceName) -> Option<&'static str> {
    let traffic = &service.traffic;
    let route = traffic.route.as_ref()?;
    let is_of = |side: Option<&RouteSide>| side.is_some_and(|side| side.instances.contains(instance));
    if is_of(route.last_good.as_ref()) {
        Some("serves")
    } else if is_of(route.candidate.as_ref()) {
        Some("on trial")
    } else if is_of(traffic.standby.as_ref().map(|standby| &standby.side)) {
        Some("on standby")
    } else {
        service.instances.get(instance)?.release.is_none().then_some("empty")
    }
}

/// Says who gets whose share, if the service's traffic is shared.
fn traffic_text(service: &Service, now: Timestamp) -> String {
    let Some(route) = &service.traffic.route else { return String::new() };
    let name = |side: &RouteSide| service.name_of(Some(&side.release));
    let mut text = match (&route.last_good, &route.candidate) {
        (None, _) => "  traffic closed\n".to_owned(),
        (Some(last_good), None) => format!("  traffic all to {}\n", name(last_good)),
        (Some(last_good), Some(candidate)) => {
            format!("  traffic {} to {}, the rest to {}\n", route.share, name(candidate), name(last_good))
        }
    };
    if !service.traffic.confirmed {
        text += "  NOT CONFIRMED by the router\n";
    }
    if let Some(standby) = &service.traffic.standby {
        let left = standby.until.since(now);
        let what = match standby.warm {
            _ if standby.until <= now => {
                "on standby; its time is over: the daemon stops it, or the next release takes its place".to_owned()
            }
            true => format!("on standby for another {left}"),
            false => format!("finishes what it has, for another {left}"),
        };
        text += &format!("  {} {what}\n", name(&standby.side));
    }
    if let Some(degraded) = &service.traffic.degraded {
        let release = service.name_of(Some(&degraded.release));
        text +=
            &format!("  DEGRADED {release} for {}: {}\n", now.since(degraded.since), words::brief(&degraded.because));
    }
    for (release, brought) in &service.traffic.brought {
        let flags: Vec<&str> = brought.flags.iter().map(|flag| flag.as_str()).collect();
        let release = service.name_of(Some(release));
        text += &format!("  {release} has turned on {}; a rollback turns it off\n", flags.join(", "));
    }
    if let Some(stopped) = &service.traffic.stopped {
        let what = match stopped.routes.is_empty() {
            true => "NEW SESSIONS REFUSED".to_owned(),
            false => format!("STOPPED {}", stopped.what()),
        };
        text += &format!("  {what} by {}: {}\n", stopped.by, words::brief(stopped.reason.as_str()));
    }
    text
}

fn service_data(name: &ServiceName, service: &Service, configured: &[InstanceConfig], now: Timestamp) -> Value {
    let instances: Vec<Value> = service
        .instances
        .iter()
        .map(|(instance, state)| {
            json!({
                "name": instance,
                "configured": configured.iter().any(|one| one.name == *instance),
                "release": state.release.map(|digest| service.name_of(Some(&digest))),
                "digest": state.release,
                "condition": match &state.condition {
                    Condition::Settled => "settled",
                    Condition::Between => "between",
                    Condition::Deferred { .. } => "deferred",
                    Condition::Stuck { .. } => "stuck",
                    Condition::LossHeld { .. } => "loss-held",
                },
                "says": words::condition_words(&state.condition, now),
                "asked": match &state.condition {
                    Condition::Deferred { asked, .. } => Some(asked),
                    _ => None,
                },
                "deaths": state.deaths,
                "ways_back": state.history.iter().rev().map(|moved| json!({
                    "to": service.name_of(moved.from.as_ref()),
                    "kind": moved.way_back,
                    "snapshot": moved.snapshot,
                })).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({
        "name": name,
        "last_good": service.last_good.map(|digest| service.name_of(Some(&digest))),
        "digest": service.last_good,
        "pin": service.pin.as_ref().map(|pin| &pin.tag),
        "instances": instances,
        "run": service.run.as_ref().map(|run| json!({
            "id": run.id,
            "started": run.started,
            "soak_until": match &run.phase {
                Phase::Moving { soak_until, .. } => *soak_until,
                _ => None,
            },
            "doing": run.orders.values().map(words::doing).collect::<Vec<_>>(),
        })),
        "last_end": service.last_end.as_ref().map(|(run, at, end)| json!({
            "run": run, "at": at, "end": end, "says": words::end_words(end),
        })),
        "holds": service.standing_holds(now).map(|(id, hold)| json!({
            "hold": id, "origin": hold.origin, "owner": hold.owner, "reason": hold.reason, "until": hold.until,
            "review": hold.review, "overdue": hold.overdue_at(now),
        })).collect::<Vec<_>>(),
        "rejected": service.rejected.values().map(|rejection| json!({
            "release": rejection.tag, "reason": rejection.reason,
        })).collect::<Vec<_>>(),
        "traffic": service.traffic.route.as_ref().map(|route| json!({
            "last_good": route.last_good.as_ref().map(|side| service.name_of(Some(&side.release))),
            "candidate": route.candidate.as_ref().map(|side| service.name_of(Some(&side.release))),
            "percent": f64::from(route.share.seats()) / 100.0,
            "confirmed": service.traffic.confirmed,
            "judged": service.traffic.judged,
            "degraded": service.traffic.degraded,
            "standby": service.traffic.standby,
            "stopped": service.traffic.stopped,
            "brought": service.traffic.brought,
        })),
        "stale": service.stale,
        "behind": service.behind.as_ref().map(|(since, because)| json!({ "since": since, "because": because })),
    })
}

fn outbox(app: &App, now: Timestamp) -> Result<(Value, String), Trouble> {
    let Some(reader) = app.reader()? else { return Ok((Value::Null, String::new())) };
    let backlog = reader.backlog().map_err(|error| Trouble::new(Exit::Failed, &error))?;
    let mut rows = Vec::new();
    let mut text = String::new();
    for one in &backlog {
        let next = next_try(&reader, &one.endpoint, now)?;
        if one.waiting + one.dead + one.parked > 0 {
            let paused = one.paused.as_ref().map_or_else(String::new, |why| format!(", paused: {why}"));
            text += &format!(
                "notices to {}: {} waiting{next}, {} dead, {} set aside{paused}\n",
                one.endpoint, one.waiting, one.dead, one.parked
            );
        }
        rows.push(json!({
            "endpoint": one.endpoint, "waiting": one.waiting, "in_flight": one.in_flight, "dead": one.dead,
            "parked": one.parked, "oldest": one.oldest, "paused": one.paused,
        }));
    }
    Ok((json!(rows), text))
}

/// Says when the next message to an endpoint is tried, and what kept the last try from success.
fn next_try(reader: &Reader, endpoint: &str, now: Timestamp) -> Result<String, Trouble> {
    /// Messages looked at: those of one endpoint are near the front of its queue.
    const LOOK_MAX: usize = 200;
    let waiting = reader.notices(NoticeState::Pending, LOOK_MAX).map_err(|error| Trouble::new(Exit::Failed, &error))?;
    let next = waiting
        .iter()
        .filter(|row| row.endpoint == endpoint)
        .filter_map(|row| row.due.map(|due| (due, row)))
        .min_by_key(|(due, _)| *due);
    Ok(match next {
        None => String::new(),
        Some((due, row)) => {
            let why = row.why.as_ref().map_or_else(String::new, |why| format!(" after {why}"));
            format!(" (try {} in {}{why})", row.attempts + 1, due.since(now))
        }
    })
}
