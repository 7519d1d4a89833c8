//! `lastgood rollback`: one command back, from any state.

use super::Ended;
use crate::{
    app::{App, quoted},
    drive,
    exit::Exit,
    room,
    screen::Trouble,
};
use clap::Args;
use lastgood_domain::{
    event::{Aim, Back, End},
    facts::Busyness,
    failure::Failure,
    operations::cap::Risky,
    service::Service,
    terms::{Digest, InstanceName, ReleaseTag, RunId, ServiceName},
    traffic::TrafficEvent,
    words,
};
use lastgood_drivers::runtime::session;
use lastgood_engine::{
    config::FILE_NAME,
    setup::{self, Apart},
    world::Site,
};
use lastgood_store::DriverLock;
use serde_json::json;
use std::{collections::BTreeSet, path::Path};

/// The reason in the evidence where none is given.
const NO_REASON: &str = "asked on the command line";
/// What a rollback calls itself where it drives.
const ROLLBACK: &str = "lastgood rollback";

/// Roll back to last-good or a named release, with the data.
#[derive(Debug, Args)]
pub(crate) struct Rollback {
    /// The service [default: the only one].
    service: Option<String>,
    /// The release to roll back to [default: last-good, or the one before where last-good runs].
    #[arg(long, value_name = "RELEASE")]
    to: Option<ReleaseTag>,
    /// Only this instance. Repeatable.
    #[arg(long = "instance", value_name = "NAME")]
    instances: Vec<InstanceName>,
    /// Why; kept in the evidence.
    #[arg(long, default_value = NO_REASON)]
    reason: String,
    /// Accept a named risk: lost-writes:INSTANCE or busy-instance:INSTANCE.
    #[arg(long = "accept-risk", value_name = "RISK")]
    risks: Vec<String>,
    /// Show what would be rolled back; change nothing.
    #[arg(long)]
    dry_run: bool,
}

impl Rollback {
    /// Runs the command.
    pub(crate) fn run(self, app: &App) -> Ended {
        let service = app.service(self.service.as_deref())?;
        let _kept_open = (!self.dry_run).then(|| room::make(app));
        let folded = app.look(&service)?.service;
        let (lost, busy) = self.accepted(&folded)?;
        let unknown = self.instances.iter().find(|name| !folded.instances.contains_key(*name));
        if let Some(unknown) = unknown {
            let known: Vec<InstanceName> = folded.instances.keys().cloned().collect();
            return Err(Trouble::say(
                Exit::Usage,
                "instance-unknown",
                format!("{service} has no instance {unknown}"),
                &format!("one of: {}", words::names(&known)),
            ));
        }
        let aim = self.aim(lost);
        let Preview { back, traffic } = preview(app, &service, &folded, &aim)?;
        let mut text: Vec<String> = back.iter().map(|one| says(app, &service, &folded, one)).collect();
        text.extend(traffic.clone());
        if traffic.is_none() {
            text.extend(self.stays(&folded, &back));
        }
        if let Some(run) = folded.run.as_ref().filter(|_| back.is_empty() && traffic.is_none()) {
            text.push(format!("{} ends; no instance is touched", run.id));
        }
        refuse_damaged(app, &service, &folded, &back, Site::looks_ready)?;
        if self.dry_run {
            app.screen.show("rollback-plan", &json!({ "service": service, "says": text }), &text.join("\n"));
            return Ok(Exit::Done);
        }
        // Naming an instance is saying so by name; only those taken along unnamed are asked.
        if self.instances.is_empty() {
            refuse_nothing_before(&service, &back)?;
            refuse_busy(app, &service, &back, &busy)?;
        }
        for line in &text {
            app.screen.tell(line);
        }
        if !app.screen.confirm(&format!("Take {service} back?")) {
            return Err(Trouble::say(
                Exit::Declined,
                "declined",
                "nothing was changed",
                &format!("confirm: {} --yes, or look first: --dry-run", self.typed(app, &service)),
            ));
        }
        refuse_damaged(app, &service, &folded, &back, Site::stands_ready)?;
        let end = self.carry_out(app, &service, aim)?;
        app.count_risky(Risky::Rollback);
        let Some(end) = end else { return Ok(Exit::Pending) };
        let next = match end {
            End::RolledBack { .. } => format!("see it: lastgood status {service}"),
            _ => format!("why: lastgood why {service}"),
        };
        let says = words::end_words(&end);
        app.screen.show(
            "rollback",
            &json!({ "service": service, "end": end, "says": says }),
            &format!("{service}: {says}\n{next}"),
        );
        Ok(Exit::of_rollback(&end))
    }

    fn aim(&self, accept_loss: Vec<InstanceName>) -> Aim {
        let (to, instances, reason) = (self.to.clone(), self.instances.clone(), self.reason.clone());
        Aim::Back { to, instances, accept_loss, reason }
    }

    /// Tells which instances that were asked for stay, because they ran nothing else.
    fn stays(&self, folded: &Service, back: &[Back]) -> Option<String> {
        let ran_nothing_else = |name: &InstanceName| {
            folded
                .instances
                .get(name)
                .is_some_and(|one| one.release.is_some() && one.history.iter().all(|moved| moved.from.is_none()))
        };
        let stay: Vec<InstanceName> = folded
            .instances
            .keys()
            .filter(|name| self.instances.is_empty() || self.instances.contains(name))
            .filter(|name| ran_nothing_else(name) && !back.iter().any(|one| one.instance == **name))
            .cloned()
            .collect();
        (!stay.is_empty()).then(|| format!("{}: ran no other release, stays as it is", words::names(&stay)))
    }

    fn accepted(&self, folded: &Service) -> Result<(Vec<InstanceName>, BTreeSet<InstanceName>), Trouble> {
        let mut lost = Vec::new();
        let mut busy = BTreeSet::new();
        for risk in &self.risks {
            let wrong = || {
                Trouble::say(
                    Exit::Usage,
                    "risk-unknown",
                    format!("{risk:?} is no risk of this rollback"),
                    "write lost-writes:INSTANCE or busy-instance:INSTANCE",
                )
            };
            let (kind, name) = risk.split_once(':').ok_or_else(wrong)?;
            let name = InstanceName::new(name).map_err(|_| wrong())?;
            if !folded.instances.contains_key(&name) {
                return Err(wrong());
            }
            match kind {
                "lost-writes" => lost.push(name),
                "busy-instance" => drop(busy.insert(name)),
                _ => return Err(wrong()),
            }
        }
        Ok((lost, busy))
    }
}

/// Takes all of a service back to a release without asking anybody, as part of a plan that was agreed to.
///
/// Gives how it ended; none while somebody else still drives it. Errors: what was not accepted by name, as the command.
pub(crate) fn take_back(
    app: &App,
    service: &ServiceName,
    to: &ReleaseTag,
    risks: &[String],
    reason: &str,
) -> Result<Option<End>, Trouble> {
    let rollback = Rollback {
        service: Some(service.to_string()),
        to: Some(to.clone()),
        instances: Vec::new(),
        reason: reason.into(),
        risks: risks.to_vec(),
        dry_run: false,
    };
    let folded = app.look(service)?.service;
    let (lost, busy) = rollback.accepted(&folded)?;
    let aim = rollback.aim(lost);
    let Preview { back, .. } = preview(app, service, &folded, &aim)?;
    refuse_damaged(app, service, &folded, &back, Site::stands_ready)?;
    refuse_nothing_before(service, &back)?;
    refuse_busy(app, service, &back, &busy)?;
    rollback.carry_out(app, service, aim)
}

/// Asks whether all of a service could go back as [`take_back`] would take it; moves nothing.
///
/// Gives what was seen. Errors: what is in the way of it, or was not accepted by name.
pub(crate) fn way_back(app: &App, service: &ServiceName, to: &ReleaseTag, risks: &[String]) -> Result<String, Trouble> {
    let rollback = Rollback {
        service: Some(service.to_string()),
        to: Some(to.clone()),
        instances: Vec::new(),
        reason: NO_REASON.into(),
        risks: risks.to_vec(),
        dry_run: false,
    };
    let folded = app.look(service)?.service;
    let (lost, busy) = rollback.accepted(&folded)?;
    let Preview { back, traffic } = preview(app, service, &folded, &rollback.aim(lost))?;
    refuse_damaged(app, service, &folded, &back, Site::stands_ready)?;
    refuse_nothing_before(service, &back)?;
    refuse_busy(app, service, &back, &busy)?;
    let site = Site::open_for_return(&app.config, service, app.home.service(service), drive::program()?)
        .map_err(|error| Trouble::new(Exit::Failed, &error))?;
    for one in &back {
        site.can_go_back(&folded, one).map_err(|failure| Trouble { exit: Exit::Refused, failure })?;
    }
    // Nobody is shut out for driving it: whoever does is asked, and goes back.
    let driven = DriverLock::holder(app.home.root(), service).map_err(|error| Trouble::new(Exit::Failed, &error))?;
    let driven = if driven.is_some() { "whoever drives it is asked" } else { "nobody drives it" };
    let all = traffic.map_or_else(|| words::count(back.len() as u64, "instance"), |_| "all traffic".into());
    Ok(format!("{all} of {service} can go back; {driven}"))
}

/// Says what a pin to a release that ran here does: each instance goes back to it as by hand, with the data that belongs
/// to it. `None` if that is no way back, and the release is offered like any other.
pub(super) fn pinned(app: &App, service: &ServiceName, folded: &Service) -> Option<Vec<String>> {
    let to = folded.pin.as_ref().map(|pin| pin.tag.clone())?;
    let aim = Aim::Back { to: Some(to), instances: Vec::new(), accept_loss: Vec::new(), reason: NO_REASON.into() };
    let Preview { back, traffic } = preview(app, service, folded, &aim).ok()?;
    let lines: Vec<String> = back.iter().map(|one| says(app, service, folded, one)).chain(traffic).collect();
    (!lines.is_empty()).then_some(lines)
}

/// Says how far a way back to a release reaches now: which of the instances move, and which of those are in use.
pub(super) fn reaches(app: &App, service: &ServiceName, folded: &Service, to: &ReleaseTag) -> String {
    let aim =
        Aim::Back { to: Some(to.clone()), instances: Vec::new(), accept_loss: Vec::new(), reason: NO_REASON.into() };
    let Preview { back, traffic } = match preview(app, service, folded, &aim) {
        Ok(preview) => preview,
        Err(trouble) => return format!("nobody can tell: {}", words::one_line(&trouble.failure.message)),
    };
    if let Some(traffic) = traffic {
        return traffic;
    }
    let all = app.config.service[service].instance.len();
    let names: Vec<InstanceName> = back.iter().map(|one| one.instance.clone()).collect();
    if names.is_empty() {
        return format!("none of {} moves", words::count(all as u64, "instance"));
    }
    let mut text =
        format!("moves {} of {}: {}", names.len(), words::count(all as u64, "instance"), words::names(&names));
    match in_use(app, service, names.iter()) {
        Ok(None) => {}
        Ok(Some(risks)) if risks.is_empty() => text += "; none is in use",
        Ok(Some(risks)) => {
            let list: Vec<String> = risks.iter().map(|(name, why)| format!("{name} ({why})")).collect();
            text += &format!("; in use: {}", list.join(", "));
        }
        Err(trouble) => text += &format!("; who uses it: {}", words::one_line(&trouble.failure.message)),
    }
    text
}

/// Gives those of some instances that are in use and why; `None` if the service is not asked for that.
fn in_use<'n>(
    app: &App,
    service: &ServiceName,
    names: impl Iterator<Item = &'n InstanceName>,
) -> Result<Option<Vec<(InstanceName, String)>>, Trouble> {
    if app.config.service[service].busy.is_none() {
        return Ok(None);
    }
    let site = Site::open_for_return(&app.config, service, app.home.service(service), drive::program()?)
        .map_err(|error| Trouble::new(Exit::Failed, &error))?;
    let busy = names.filter_map(|name| match site.busyness(name) {
        Some(Busyness::Busy(why)) => Some((name.clone(), why)),
        _ => None,
    });
    Ok(Some(busy.collect()))
}

/// What a rollback would do.
struct Preview {
    /// Instance by instance.
    back: Vec<Back>,
    /// To shared traffic, in words.
    traffic: Option<String>,
}

/// Tells what would go back, by deciding without writing.
fn preview(app: &App, service: &ServiceName, folded: &Service, aim: &Aim) -> Result<Preview, Trouble> {
    use lastgood_domain::{event::Event, rollout};
    let settings = app.config.service[service].settings();
    let input = rollout::Input::Begin { aim: aim.clone(), settings, frozen: None, preflight: None };
    let records =
        rollout::step(folded, input, &app.actor, app.now()).map_err(|illegal| drive::drive_trouble(&illegal.into()))?;
    let mut preview = Preview { back: Vec::new(), traffic: None };
    for record in records {
        match record.event {
            Event::ReturnBegun { back, .. } => preview.back = back,
            Event::Traffic(TrafficEvent::ReturnBegun { left, to, raise, .. }) => {
                let [left, to] = [Some(left), to].map(|release| folded.name_of(release.as_ref()));
                let first = match raise.is_empty() {
                    true => String::new(),
                    false => format!("; {} first", words::names(&raise)),
                };
                preview.traffic = Some(format!("all traffic: {left} -> {to}, its data stays as it is{first}"));
            }
            _ => {}
        }
    }
    Ok(preview)
}

fn says(app: &App, service: &ServiceName, folded: &Service, one: &Back) -> String {
    let runs = folded.instances.get(&one.instance).and_then(|state| state.release);
    let how = match (one.with_data, one.snapshot) {
        (true, Some(snapshot)) => {
            let age = one.since.map_or_else(String::new, |since| format!(", {} old", app.now().since(since)));
            format!("with its data of {snapshot}{age}; newer data is kept aside")
        }
        _ => "its data stays as it is".into(),
    };
    let home = app.home.service(service);
    let apart = one.to.and_then(|to| setup::apart_as(&app.config, service, &home, folded, &one.instance, &to));
    let with = match apart {
        None => String::new(),
        Some(Apart { unusable: Some(failure), .. }) => {
            format!("; with lastgood.toml as it is: {}", words::one_line(&failure.message))
        }
        Some(Apart { keys, .. }) => {
            format!("; with the setup of its last good run; lastgood.toml differs in {}", keys.join(", "))
        }
    };
    let (runs, to) = (folded.name_of(runs.as_ref()), folded.name_of(one.to.as_ref()));
    format!("{}: {runs} -> {to}, {how}{with}", one.instance)
}

/// Refuses to go back to nothing unless it is said by name: before the first release there is only a stopped service.
fn refuse_nothing_before(service: &ServiceName, back: &[Back]) -> Result<(), Trouble> {
    let nothing: Vec<InstanceName> =
        back.iter().filter(|one| one.to.is_none()).map(|one| one.instance.clone()).collect();
    if nothing.is_empty() {
        return Ok(());
    }
    let flags: Vec<String> = nothing.iter().map(|name| format!("--instance {name}")).collect();
    Err(Trouble::say(
        Exit::Refused,
        "no-way-back",
        format!("no earlier release ran as {}: going back would leave it stopped", words::names(&nothing)),
        &format!("to do it all the same: lastgood rollback {service} {}", flags.join(" ")),
    ))
}

/// Refuses to stop anything for a release that can't be started as it was installed; one that was moved away is installed
/// again.
fn refuse_damaged(
    app: &App,
    service: &ServiceName,
    folded: &Service,
    back: &[Back],
    ready: fn(&Site, &Service, &Digest) -> Result<(), Failure>,
) -> Result<(), Trouble> {
    let to: BTreeSet<Digest> = back.iter().filter_map(|one| one.to).collect();
    if to.is_empty() {
        return Ok(());
    }
    let site = Site::open_for_return(&app.config, service, app.home.service(service), drive::program()?)
        .map_err(|error| Trouble::new(Exit::Failed, &error))?;
    let mut checked = to.iter().map(|release| ready(&site, folded, release));
    checked.find_map(Result::err).map_or(Ok(()), |failure| Err(Trouble { exit: Exit::Refused, failure }))
}

/// Refuses if an instance that nobody named is in use; one that can't tell does not block a way back.
fn refuse_busy(
    app: &App,
    service: &ServiceName,
    back: &[Back],
    accepted: &BTreeSet<InstanceName>,
) -> Result<(), Trouble> {
    let names = back.iter().map(|one| &one.instance).filter(|name| !accepted.contains(*name));
    let risks = in_use(app, service, names)?.unwrap_or_default();
    if risks.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = risks.iter().map(|(name, why)| format!("{name} ({why})")).collect();
    let flags: Vec<String> = risks.iter().map(|(name, _)| format!("--accept-risk busy-instance:{name}")).collect();
    Err(Trouble::say(
        Exit::Refused,
        "instance-busy",
        format!("in use: {}", list.join(", ")),
        &format!("add to the command: {}", flags.join(" ")),
    ))
}

impl Rollback {
    /// Gives this very order as arguments: what is typed again must not reach further than what was typed first.
    fn arguments(&self, service: &ServiceName) -> Vec<String> {
        let mut all = vec!["rollback".to_owned(), service.to_string()];
        all.extend(self.to.iter().flat_map(|to| ["--to".to_owned(), to.to_string()]));
        all.extend(self.instances.iter().flat_map(|name| ["--instance".to_owned(), name.to_string()]));
        if self.reason != NO_REASON {
            all.extend(["--reason".to_owned(), self.reason.clone()]);
        }
        all.extend(self.risks.iter().flat_map(|risk| ["--accept-risk".to_owned(), risk.clone()]));
        all
    }

    /// Gives this very order as a line for a shell.
    fn typed(&self, app: &App, service: &ServiceName) -> String {
        let mut all = vec!["lastgood".to_owned()];
        if app.config_path != Path::new(FILE_NAME) {
            all.extend(["--config".to_owned(), app.config_path.display().to_string()]);
        }
        all.extend(self.arguments(service));
        all.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
    }

    fn carry_out(&self, app: &App, service: &ServiceName, aim: Aim) -> Result<Option<End>, Trouble> {
        let driven =
            DriverLock::holder(app.home.root(), service).map_err(|error| Trouble::new(Exit::Failed, &error))?;
        // A rollback typed in a session that the service itself hosts must outlive that session.
        let host = session::host();
        if driven.is_none() {
            if let Some(host) = &host {
                return self.go_outside(app, service, host);
            }
            match drive::lock(app, service, ROLLBACK) {
                Ok(lock) => return here(app, service, &aim, &lock),
                // A daemon begins just now.
                Err(trouble) if trouble.exit == Exit::Driven => {}
                Err(trouble) => return Err(trouble),
            }
        }
        let (run, end) = drive::ask(app, service, &aim)?;
        match (end, host) {
            (Some(end), _) => Ok(Some(end)),
            // Whoever drove has ended; what was asked for stands in the log.
            (None, None) => drive::take_over(app, service, run, ROLLBACK),
            (None, Some(host)) => self.go_outside(app, service, &host),
        }
    }

    fn go_outside(&self, app: &App, service: &ServiceName, host: &str) -> Result<Option<End>, Trouble> {
        app.screen.tell(&format!("this session runs inside {host}: the rollback goes on without it"));
        let folded = app.look(service)?;
        let program = drive::program()?;
        let config = std::path::absolute(&app.config_path).unwrap_or_else(|_| app.config_path.clone());
        let mut argv =
            vec![program.display().to_string(), "--config".into(), config.display().to_string(), "--yes".into()];
        argv.extend(self.arguments(service));
        let log = app.home.root().join("rollback.log");
        session::detach(&program, &argv, &log, None).map_err(|error| Trouble::new(Exit::Failed, &error))?;
        let end = drive::follow(app, service, RunId(folded.service.next.run), folded)?;
        end.map(Some).ok_or_else(|| {
            Trouble::say(
                Exit::Failed,
                "run-undriven",
                format!("the process that took {service} back has ended before its time"),
                &format!("read what it said: {}; go on: {}", log.display(), self.typed(app, service)),
            )
        })
    }
}

fn here(app: &App, service: &ServiceName, aim: &Aim, _lock: &DriverLock) -> Result<Option<End>, Trouble> {
    // A run that was killed half-way is taken over, not finished first: the way back is open from any state.
    let (mut driver, progress) = drive::open_over(app, service, aim)?;
    let end = drive::to_end(&mut driver, &progress)?;
    progress.end();
    drive::settle(app, driver);
    Ok(end)
}
