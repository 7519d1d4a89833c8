//! What happens to shared traffic, in words.

use super::{cause_words, names, verdict_name};
use crate::{
    event::{Record, Verdict},
    facts::KeptFlag,
    service::{Phase, Run, Service, Unproven},
    terms::{FlagKey, Timestamp},
    traffic::{Route, TrafficEvent},
};
use alloc::{format, string::String, vec::Vec};

/// Says what happened.
pub(super) fn sentence(service: &Service, event: &TrafficEvent, record: &Record) -> String {
    let name = |digest| service.name_of(Some(digest));
    match event {
        TrafficEvent::ShiftBegun { plan, release, instances } => {
            format!("plan {} starts {} beside last-good on {}", plan.short(), name(release), names(instances))
        }
        TrafficEvent::ShareBegun { share, until } => {
            format!("{share} of the traffic for at least {}", until.since(record.at))
        }
        TrafficEvent::Judged { share, verdict, because } => {
            format!("guards at {share}: {}: {because}", health(*verdict))
        }
        TrafficEvent::Degraded { release, share, because } => {
            format!("{} is degraded at {share}: {because}", name(release))
        }
        TrafficEvent::DegradedNoMore { release } => {
            format!("{} counts as degraded no longer", name(release))
        }
        TrafficEvent::ReturnBegun { cause, left, to, raise } => {
            let first = match raise.is_empty() {
                true => String::new(),
                false => format!("{} first; ", names(raise)),
            };
            let to = service.name_of(to.as_ref());
            format!("all traffic goes back from {} to {to}: {first}{}", name(left), cause_words(cause))
        }
        TrafficEvent::Returned { to } => format!("all traffic goes to {}", service.name_of(to.as_ref())),
        TrafficEvent::Emptied { release } => format!("{} has nothing left to finish", name(release)),
        TrafficEvent::EntriesStopped { routes, retry_after, reason } => {
            let which = match routes.is_empty() {
                true => "new sessions".into(),
                false => {
                    let routes: Vec<String> = routes.iter().map(|route| format!("{route}")).collect();
                    format!("new sessions to {}", routes.join(", "))
                }
            };
            format!("{which} are refused by {} (retry after {retry_after}): {reason}", record.by)
        }
        TrafficEvent::EntriesResumed { reason } => {
            format!("new sessions are accepted again by {}: {reason}", record.by)
        }
    }
}

fn health(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "healthy",
        Verdict::Fail => "broken",
        Verdict::Hold | Verdict::CannotTell => verdict_name(Verdict::CannotTell),
    }
}

/// Says what the router is told.
pub(super) fn routing(route: &Route) -> String {
    match (&route.candidate, &route.last_good) {
        (Some(_), _) => format!("giving the candidate {} of the traffic", route.share),
        (None, Some(side)) => format!("sending all traffic to {}", names(&side.instances)),
        (None, None) => "closing the service".into(),
    }
}

/// Says which flags a run has turned on.
pub(super) fn flags_on(on: &[FlagKey], were_on: &[FlagKey]) -> String {
    let ours = (!on.is_empty()).then(|| format!("flags turned on: {}", names(on)));
    let theirs = (!were_on.is_empty()).then(|| format!("on already, and nobody turns it off: {}", names(were_on)));
    let said: Vec<String> = ours.into_iter().chain(theirs).collect();
    if said.is_empty() { "no flag was turned on".into() } else { said.join("; ") }
}

/// Says which flags a way back has turned off, and whose word stands.
pub(super) fn flags_off(off: &[FlagKey], kept: &[KeptFlag]) -> String {
    let ours = (!off.is_empty()).then(|| format!("flags turned off: {}", names(off)));
    let theirs = kept.iter().map(|kept| match kept.on {
        true => format!("{} stays on: {} turned it on since", kept.flag, kept.by),
        false => format!("{} was off: {} turned it off before", kept.flag, kept.by),
    });
    let said: Vec<String> = ours.into_iter().chain(theirs).collect();
    if said.is_empty() { "no flag was on".into() } else { said.join("; ") }
}

/// Says what a shift waits for, if `run` is one that waits.
pub(super) fn awaited(service: &Service, run: &Run, now: Timestamp) -> Option<String> {
    let traffic = &service.traffic;
    let Phase::Shifting { until, ordered, unproven, .. } = &run.phase else { return None };
    if let Some(unproven) = unproven {
        return Some(doubted(service, run, *unproven, now));
    }
    if *ordered == 0 {
        let standby = traffic.standby.as_ref().filter(|standby| now < standby.until)?;
        return Some(format!("what was left before finishes its tunnels, for at most {}", standby.until.since(now)));
    }
    let share = traffic.share();
    let said = traffic.judged.as_ref();
    let verdict = said.map_or_else(
        || "nothing was measured yet".into(),
        |judged| format!("{}: {}", health(judged.verdict), judged.because),
    );
    Some(match until {
        Some(until) if now < *until => {
            format!("watching {share} of the traffic for another {}; {verdict}", until.since(now))
        }
        _ if service.standing_holds(now).next().is_some() => {
            format!("watching {share} of the traffic, which does not grow while a hold stands; {verdict}")
        }
        _ => format!("watching {share} of the traffic until it is known to be healthy; {verdict}"),
    })
}

/// Says which required gates keep the next share, and until when that is waited for.
fn doubted(service: &Service, run: &Run, unproven: Unproven, now: Timestamp) -> String {
    let said = run.gates.iter().map(|(name, facts)| (name, facts.weigh()));
    let open = said.filter(|(_, (verdict, _))| *verdict == Verdict::CannotTell);
    let open: Vec<String> = open.map(|(name, (_, because))| format!("{name}: {because}")).collect();
    let most = run.settings.traffic.as_ref().map(|traffic| traffic.cannot_tell_max).unwrap_or_default();
    let (share, open) = (service.traffic.share(), open.join("; "));
    if service.standing_holds(now).next().is_some() {
        return format!(
            "keeping {share} of the traffic while a hold stands; before the next share nobody could tell: {open}"
        );
    }
    let left = unproven.since.after(most).since(now);
    format!("keeping {share} of the traffic, and all goes back in {left}: could not evaluate gate {open}")
}

/// Gives the rule behind an event, who can change it and what they type.
pub(super) const fn rule(event: &TrafficEvent) -> (&'static str, &'static str, &'static str) {
    match event {
        TrafficEvent::ShiftBegun { .. } => (
            "What moves belongs to this plan and no other: candidate, last-good, instances, way back and settings.",
            "anyone, with a reason",
            "hold set NAME --reason …",
        ),
        TrafficEvent::ShareBegun { .. } => (
            "A share grows only on a healthy verdict with enough traffic and once each required gate says yes again, never on \
             time alone; nobody moves back as it grows.",
            "whoever sets up the service, by `traffic.shares` in lastgood.toml",
            "rollback NAME",
        ),
        TrafficEvent::Judged { .. } => (
            "Guards judge each release by what its own users got; cannot-tell never promotes.",
            "whoever sets up the service, by `traffic.guard` in lastgood.toml",
            "why NAME",
        ),
        TrafficEvent::Degraded { .. } | TrafficEvent::DegradedNoMore { .. } => (
            "What a fallback answers is an answer: it is told, and moves nobody unless so configured.",
            "whoever sets up the service, by `traffic.degraded` in lastgood.toml",
            "why NAME",
        ),
        TrafficEvent::ReturnBegun { .. } | TrafficEvent::Returned { .. } | TrafficEvent::Emptied { .. } => (
            "Last-good is brought up first, then all new traffic goes there, then what runs may finish until the deadline.",
            "anyone who may roll back",
            "status NAME",
        ),
        TrafficEvent::EntriesStopped { .. } | TrafficEvent::EntriesResumed { .. } => (
            "New entries can be refused at once; what runs finishes where it began.",
            "anyone, with a reason",
            "stop-new NAME --lift --reason …",
        ),
    }
}
