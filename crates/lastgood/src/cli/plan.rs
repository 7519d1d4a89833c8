//! `lastgood plan`: what would happen now, and why; nothing is changed.

use super::{Ended, rollback};
use crate::{app::App, drive, exit::Exit, screen::Trouble};
use clap::Args;
use lastgood_domain::{
    self as domain,
    event::{Gate, Verdict},
    facts::{Offer, Standing},
    failure::Failure,
    rollout::{self, Checked, Weighed},
    service::Service,
    terms::{Digest, InstanceName, Release, ReleaseTag, ServiceName},
    words,
};
use lastgood_drivers::channel::{self, ChannelError};
use lastgood_engine::{
    config::ServiceConfig,
    doctor,
    letter::rfc3339,
    preflight::{self, Asker},
    provenance,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Show what would happen now, and why; change nothing.
#[derive(Debug, Args)]
pub(crate) struct Plan {
    /// The service; all if left out.
    service: Option<String>,
}

/// One line of a plan: a gate and what it says now.
struct Line {
    gate: &'static str,
    verdict: &'static str,
    because: String,
}

/// What a run would look at: the newest offer, or the next where that was rejected.
struct Looked {
    offer: Offer,
    standing: Option<Standing>,
    /// Rejected releases passed over, newest first, and why each was rejected.
    passed: Vec<(ReleaseTag, String)>,
}

impl Plan {
    /// Runs the command.
    pub(crate) fn run(self, app: &App) -> Ended {
        let mut exit = Exit::Done;
        let (mut all, mut text) = (Vec::new(), String::new());
        for service in app.services(self.service.as_deref())? {
            let (data, says, one) = plan(app, &service)?;
            all.push(data);
            text += &says;
            if exit == Exit::Done {
                exit = one;
            }
        }
        app.screen.show("plan", &all, &text);
        Ok(exit)
    }
}

fn plan(app: &App, service: &ServiceName) -> Result<(Value, String, Exit), Trouble> {
    let folded = app.look(service)?.service;
    let config = &app.config.service[service];
    let context = channel::Context { folder: app.config.folder.clone(), ..channel::Context::default() };
    let looked = look(config, &folded, &context)
        .map_err(|error| Trouble { exit: Exit::CannotTell, failure: Failure::of(&error) })?;
    let Looked { offer, standing, passed } = looked;
    let foreign = config.channel.belongs(&offer.tag).err();
    let mut lines = gates(app, service, &folded, &offer, standing, foreign);
    lines.extend(preflight_line(app, service));
    lines.extend(provenance_line(config, &folded, &offer, &context)?);
    lines.extend(in_the_way(app, service, &folded)?);
    let blocked = lines.iter().find(|line| line.verdict != "pass");
    let last_good = folded.name_of(folded.last_good.as_ref());
    let known = folded.tags.get(&offer.tag);
    let way_back = known
        .and_then(|digest| folded.installed.get(digest))
        .and_then(|known| known.way_back)
        .map_or("not rehearsed yet: the rehearsal decides", |way| way.says());
    let behind: Vec<_> = config
        .instance
        .iter()
        .map(|instance| instance.name.clone())
        .filter(|name| known.is_none() || folded.instances.get(name).and_then(|one| one.release) != known.copied())
        .collect();
    let everywhere = behind.is_empty() || config.traffic.is_some();
    let up_to_date = known.is_some() && known == folded.last_good.as_ref() && everywhere;
    let offers = if folded.pin.is_some() { "it is pinned to" } else { "the channel offers" };
    let mut text = format!("{service}  last-good {last_good}, {offers} {}\n", offer.tag);
    let back = rollback::pinned(app, service, &folded);
    for (_, because) in &passed {
        text += &format!("  passed over    {}\n", words::one_line(because));
    }
    for line in &lines {
        text += &format!("  gate {:<9} {:<11} {}\n", line.gate, line.verdict, words::one_line(&line.because));
    }
    let (verdict, exit) = match (blocked, up_to_date) {
        (Some(line), _) => {
            // As the run would end.
            let is_unknown = line.gate == words::gate_name(Gate::Preflight)
                && line.verdict == words::verdict_name(Verdict::CannotTell);
            let exit = if is_unknown { Exit::CannotTell } else { Exit::Refused };
            (format!("nothing would move: the {} gate says {}", line.gate, line.verdict), exit)
        }
        (None, true) => ("nothing to do: every instance runs it".to_owned(), Exit::Done),
        (None, false) if let Some(back) = &back => {
            for line in back {
                text += &format!("  back      {line}\n");
            }
            (format!("the pin takes {} back to {}, all at once", words::names(&behind), offer.tag), Exit::Done)
        }
        (None, false) => {
            text += &format!("  way back  {way_back}\n");
            text += &asks(config);
            text += "  then      install beside the others; snapshot every instance; rehearse control, candidate, restart, way back\n";
            text += &moves(config, &folded, &behind);
            let who = if config.traffic.is_some() { "the traffic".into() } else { words::names(&behind) };
            (format!("{who} would move to {}", offer.tag), Exit::Done)
        }
    };
    text += &format!("{verdict}\n");
    text += &match exit {
        Exit::Done if back.is_some() => format!("leave it where it is: lastgood unpin {service} --reason …\n"),
        Exit::Done if !up_to_date => format!("try it without changing anything: lastgood run {service} --dry-run\n"),
        Exit::Done => format!("see it: lastgood status {service}\n"),
        _ => format!("why: lastgood why {service}\n"),
    };
    let data = json!({
        "service": service, "last_good": last_good, "offer": offer, "verdict": verdict, "way_back": way_back,
        "passed_over": passed.iter().map(|(tag, because)| json!({ "tag": tag, "because": because })).collect::<Vec<_>>(),
        "moves": behind, "up_to_date": up_to_date, "back": back,
        "gates": lines.iter().map(|line| json!({
            "gate": line.gate, "verdict": line.verdict, "because": line.because,
        })).collect::<Vec<_>>(),
    });
    Ok((data, text, exit))
}

/// Says which gates would be asked: most of them know nothing of a release before it is installed.
fn asks(config: &ServiceConfig) -> String {
    match config.gates.as_slice() {
        [] => String::new(),
        gates => {
            let names: Vec<String> = gates.iter().map(ToString::to_string).collect();
            format!(
                "  then      ask the gates {} about it; each must say yes before anything is copied\n",
                names.join(", ")
            )
        }
    }
}

/// Says how the release would be reached.
fn moves(config: &ServiceConfig, state: &Service, behind: &[InstanceName]) -> String {
    let Some(traffic) = &config.traffic else {
        let size = config.rollout.wave_size;
        return format!("  then      move {}: one first, then {size} at a time\n", words::names(behind));
    };
    if state.traffic.route.is_none() {
        return "  then      start it; it gets all the traffic once it answers, for there is no other\n".into();
    }
    let shares: Vec<String> =
        traffic.shares.iter().map(|share| format!("{} % for at least {}", share.percent, share.bake.0)).collect();
    let resume = match traffic.resume {
        Some(_) => "  then      above 25 %, prove that cut sessions are resumed, on it and back on last-good\n",
        None => "  then      go above 25 % without a proof that cut sessions are resumed: traffic.resume is not set\n",
    };
    let again = match config.gates.as_slice() {
        [] => "",
        _ => {
            "  then      before each share and the promotion, ask those gates again: a fail takes all back, cannot-tell waits\n"
        }
    };
    format!(
        "  then      start it beside last-good on the same data; give it {}\n{resume}{again}\
         \x20 then      each share grows only on evidence of health; cannot-tell goes back after another {}\n\
         \x20 then      what is left finishes its tunnels within {}, then they are closed with 1012; it stays warm for {}\n",
        shares.join(", "),
        traffic.guard.deadline.0,
        traffic.drain.0,
        traffic.warm.0
    )
}

/// Says what the policy says of the offer, if there is one; what its digest decides only if it is known already.
fn provenance_line(
    config: &ServiceConfig,
    service: &Service,
    offer: &Offer,
    context: &channel::Context,
) -> Result<Option<Line>, Trouble> {
    if config.policy.is_empty() {
        return Ok(None);
    }
    let cannot_tell = |failure| Trouble { exit: Exit::CannotTell, failure };
    let temporary = tempfile::tempdir().map_err(|error| {
        cannot_tell(Failure::new(
            "channel-io",
            format!("no temporary folder: {error}"),
            Some("check space: df -h /tmp"),
        ))
    })?;
    // Marks that are digests are those of the release itself.
    let digest = service.tags.get(&offer.tag).copied().or_else(|| offer.mark.as_deref()?.parse().ok());
    let found = provenance::found(config, offer, digest.as_ref(), temporary.path(), context)
        .map_err(|error| cannot_tell(Failure::of(&error)))?;
    let mut policy = provenance::policy(config);
    let later = digest.is_none() && (policy.passed_in.is_some() || !policy.digests.is_empty());
    if digest.is_none() {
        (policy.passed_in, policy.digests) = (None, BTreeMap::new());
    }
    let digest = digest.unwrap_or(Digest([0; 32]));
    let release = Release { tag: offer.tag.clone(), digest, origin: offer.origin.clone() };
    let (verdict, mut because) = domain::provenance::weigh(&policy, &release, Some(&found));
    if later {
        because += if because.is_empty() { "" } else { "; " };
        because += "what its digest decides is asked when it is installed";
    }
    Ok(Some(Line { gate: words::gate_name(Gate::Provenance), verdict: words::verdict_name(verdict), because }))
}

/// Gives a line for each thing on this machine that a run would be refused for, or that no way back could lead over.
fn in_the_way(app: &App, name: &ServiceName, service: &Service) -> Result<Vec<Line>, Trouble> {
    let findings = doctor::examine_running(&app.config, name, service, &drive::program()?);
    let gate = |code: &str| match code {
        "instance-port-in-use" => Some("port"),
        "installation-damaged" | "installation-unsealed" | "installation-missing" => Some("way-back"),
        "restore-other-folder" | "data-open-elsewhere" => Some("data"),
        _ => None,
    };
    let lines = findings.into_iter().filter_map(|finding| {
        let gate = gate(&finding.failure.code)?;
        Some(Line { gate, verdict: "fail", because: finding.failure.message })
    });
    Ok(lines.collect())
}

/// Asks the channel as a run would, passing over what was rejected.
fn look(config: &ServiceConfig, service: &Service, context: &channel::Context) -> Result<Looked, ChannelError> {
    let last_good = service.last_good.as_ref().and_then(|last_good| service.tag(last_good));
    let standing = |offer: &Offer| last_good.map(|last_good| config.channel.standing(&offer.tag, last_good));
    let instances: Vec<InstanceName> = config.instance.iter().map(|instance| instance.name.clone()).collect();
    let newest = match &service.pin {
        Some(pin) => config.channel.offer_of(&pin.tag, context)?,
        None => config.channel.newest(context)?,
    };
    let (mut passed, mut next) = (Vec::new(), Some(newest.clone()));
    while let Some(offer) = next {
        let except: Vec<ReleaseTag> = passed.iter().map(|(tag, _): &(ReleaseTag, String)| tag.clone()).collect();
        let standing = standing(&offer);
        match rollout::weigh(service, &instances, &except, &offer, standing) {
            Weighed::Taken => return Ok(Looked { offer, standing, passed }),
            Weighed::Refused { .. } => break,
            Weighed::PassedOver { because } => {
                passed.push((offer.tag.clone(), because));
                let except: Vec<ReleaseTag> = passed.iter().map(|(tag, _)| tag.clone()).collect();
                next = config.channel.newest_but(&except, context)?;
            }
        }
    }
    // Nothing stands in its place: the newest is what the gates refuse.
    let standing = standing(&newest);
    Ok(Looked { offer: newest, standing, passed: Vec::new() })
}

/// Says how it stands with what must be so before a move, where something is declared.
fn preflight_line(app: &App, service: &ServiceName) -> Option<Line> {
    let Checked { verdict, because } = preflight::before_deploy(&app.config, service, &Asker::default())?;
    Some(Line { gate: words::gate_name(Gate::Preflight), verdict: words::verdict_name(verdict), because })
}

fn gates(
    app: &App,
    name: &ServiceName,
    service: &Service,
    offer: &Offer,
    standing: Option<Standing>,
    foreign: Option<String>,
) -> Vec<Line> {
    let line = |gate, verdict, because| Line { gate, verdict, because };
    let mut lines = Vec::new();
    let hold = service.standing_holds(app.now()).next();
    lines.push(match (app.stopped(name, service), hold) {
        (Some(frozen), _) => line("hold", "hold", frozen),
        (None, Some((id, hold))) => line("hold", "hold", format!("{id} by {}: {}", hold.owner, hold.reason)),
        (None, None) => line("hold", "pass", "no hold stands".into()),
    });
    lines.push(match foreign {
        Some(because) => line("channel", "fail", because),
        None => {
            let published = offer.published.map_or_else(String::new, |at| format!(", published {}", rfc3339(at)));
            line("channel", "pass", format!("{}{published}", offer.origin))
        }
    });
    lines.push(match service.rejected.values().find(|rejection| rejection.tag == offer.tag) {
        Some(rejection) => line("rejected", "fail", format!("by {}: {}", rejection.by, rejection.reason)),
        None => line("rejected", "pass", "never rejected".into()),
    });
    let last_good = service.name_of(service.last_good.as_ref());
    lines.push(match (&service.pin, standing) {
        (Some(pin), _) => line("newer", "pass", format!("pinned to {} by {}", pin.tag, pin.by)),
        (None, None) => line("newer", "pass", "nothing runs yet".into()),
        (None, Some(Standing::Newer)) => line("newer", "pass", format!("newer than {last_good}")),
        (None, Some(Standing::Same)) => line("newer", "pass", format!("it is {last_good}")),
        (None, Some(Standing::Older)) => line("newer", "fail", format!("older than {last_good}")),
        (None, Some(Standing::Unordered)) => line("newer", "cannot tell", format!("no order to {last_good}")),
    });
    lines.push(match (service.marks.get(&offer.tag), &offer.mark) {
        (Some(first), Some(now)) if first != now => line("digest", "fail", format!("was {first}, is {now} now")),
        _ => line("digest", "pass", "the tag has not moved".into()),
    });
    lines
}
