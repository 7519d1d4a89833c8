//! Why a service is as it is: each reason with its rule, its numbers, who can change it and how.

use super::{condition_words, count, doing, lost, names, one_line, traffic};
use crate::{
    event::{DeferReason, End, Gate, Health},
    service::{Condition, Instance, MoveStep, Phase, Run, Service},
    terms::{InstanceName, ServiceName, Timestamp},
};
use alloc::{format, string::String, vec::Vec};

/// One reason for the state a service is in.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Why {
    /// The rule.
    pub rule: &'static str,
    /// The names and numbers behind it.
    pub because: String,
    /// Who can change it.
    pub who: &'static str,
    /// What they would type.
    pub how: String,
}

/// What a freeze file does to everything.
#[derive(Debug, Clone, Copy)]
pub struct FrozenBy<'a> {
    /// Where the file is.
    pub file: &'a str,
    /// That it exists, or why it counts as there.
    pub because: &'a str,
}

/// Says why a service is as it is: every reason that keeps it from something, the most pressing first.
pub fn why(name: &ServiceName, service: &Service, frozen: Option<FrozenBy<'_>>, now: Timestamp) -> Vec<Why> {
    let mut reasons = Vec::new();
    if let Some(FrozenBy { file, because }) = frozen {
        reasons.push(Why {
            rule: "a freeze file holds every service",
            because: because.into(),
            who: "whoever may remove the file",
            how: format!("rm {file}"),
        });
    }
    reasons.extend(service.run.as_ref().map(|run| under_way(name, service, run, now)));
    reasons.extend(holds(name, service, now));
    reasons.extend(service.pin.as_ref().map(|pin| Why {
        rule: "a pinned service stays at one release",
        because: format!("pinned to {} by {}: {}", pin.tag, pin.by, pin.reason),
        who: "anyone, with a reason",
        how: format!("lastgood unpin {name} --reason …"),
    }));
    reasons.extend(service.traffic.stopped.as_ref().map(|stopped| Why {
        rule: "new sessions are refused; existing ones finish",
        because: format!(
            "{} refused by {} for {}: {}",
            stopped.what(),
            stopped.by,
            now.since(stopped.since),
            stopped.reason
        ),
        who: "anyone, with a reason",
        how: format!("lastgood stop-new {name} --lift --reason …"),
    }));
    reasons.extend(rejections(name, service));
    for (instance, state) in &service.instances {
        reasons.extend(condition(name, service, instance, state, now));
        reasons.extend(died(name, service, instance, state, now));
    }
    reasons.extend(outcomes(name, service));
    reasons.extend(by_fallback(name, service));
    reasons.extend(behind(name, service, now));
    reasons.extend(not_ready(name, service));
    reasons.extend(nothing_before(name, service));
    for why in &mut reasons {
        why.because = one_line(&why.because);
    }
    reasons
}

/// Says that a run is under way and nobody drives it, as after a kill; nothing goes on until somebody does.
pub fn undriven(name: &ServiceName, run: &Run, now: Timestamp) -> Why {
    Why {
        rule: "a run makes progress only while a process drives it",
        because: format!("nobody drives run {}, which began {} ago", run.id, now.since(run.started)),
        who: "anyone who may run lastgood",
        how: format!("lastgood run {name}"),
    }
}

/// Says what a run waits for.
pub fn awaited(service: &Service, run: &Run, now: Timestamp) -> String {
    let waits: Vec<String> = run.orders.values().filter(|order| !order.is_housekeeping()).map(doing).collect();
    let soaks = |steps: &alloc::collections::BTreeMap<InstanceName, MoveStep>| {
        steps.values().any(|step| *step == MoveStep::Soaking)
    };
    match (&run.phase, waits.is_empty()) {
        (Phase::Moving { soak_until: Some(until), steps, .. }, true) if soaks(steps) => {
            format!("watching the wave for another {}", until.since(now))
        }
        (_, true) => traffic::awaited(service, run, now).unwrap_or_else(|| "deciding what is next".into()),
        (_, false) => waits.join("; "),
    }
}

fn under_way(name: &ServiceName, service: &Service, run: &Run, now: Timestamp) -> Why {
    Why {
        rule: "a run is under way",
        because: format!("run {} by {} for {}: {}", run.id, run.by, now.since(run.started), awaited(service, run, now)),
        who: "anyone who may roll back",
        how: format!("lastgood rollback {name}"),
    }
}

fn holds(name: &ServiceName, service: &Service, now: Timestamp) -> Vec<Why> {
    let holds = service.standing_holds(now);
    let why = holds.map(|(id, hold)| {
        let until = hold.until.map_or_else(|| "until lifted".into(), |until| format!("for {} more", until.since(now)));
        Why {
            rule: "a hold stops every forward move",
            because: format!("{} by {}, {until}: {}", hold.called(*id), hold.owner, hold.reason),
            who: "anyone, with a reason",
            how: match hold.origin {
                None => format!("lastgood hold lift {name} {id} --reason …"),
                Some(origin) => format!("lastgood hold lift {origin} --reason …"),
            },
        }
    });
    why.collect()
}

fn rejections(name: &ServiceName, service: &Service) -> Vec<Why> {
    let last_good = service.name_of(service.last_good.as_ref());
    let why = service.rejected.values().map(|rejection| {
        let passed = match (service.passed_over.contains(&rejection.tag), &service.taken_instead) {
            (false, _) => String::new(),
            (true, Some(instead)) => format!("; passed over at the last check, {instead} was taken in its place"),
            (true, None) => {
                format!("; passed over at the last check, and nothing else is newer than last-good {last_good}")
            }
        };
        Why {
            rule: "a rejected release is never tried again",
            because: format!("{} by {}: {}{passed}", rejection.tag, rejection.by, rejection.reason),
            who: "anyone, with a reason",
            how: format!("lastgood waive {name} {} --reason …", rejection.tag),
        }
    });
    why.collect()
}

fn condition(
    name: &ServiceName,
    service: &Service,
    instance: &InstanceName,
    state: &Instance,
    now: Timestamp,
) -> Option<Why> {
    Some(match &state.condition {
        Condition::Settled => return None,
        // The run under way says it; without one, something was left half-way.
        Condition::Between if service.run.is_some() => return None,
        Condition::Between => Why {
            rule: "an instance left between two releases is rolled back first",
            because: format!("{instance} is between two releases"),
            who: "anyone who may roll back",
            how: way_back(name, service, instance, state),
        },
        Condition::Deferred { reason: DeferReason::Unrehearsed, .. } => Why {
            rule: "no instance moves to a release that was not rehearsed on data like its own",
            because: format!("{instance} {}", condition_words(&state.condition, now)),
            who: "whoever runs lastgood: the next run rehearses it",
            how: format!("lastgood run {name} --now"),
        },
        Condition::Deferred { reason: DeferReason::CannotTell, .. } => Why {
            rule: "an instance that may be busy is never stopped",
            because: format!("{instance} {}", condition_words(&state.condition, now)),
            who: "whoever can mend its busy check",
            how: format!("lastgood log {name}"),
        },
        Condition::Deferred { reason: DeferReason::Busy, .. } => Why {
            rule: "a busy instance is never stopped",
            because: format!("{instance} {}", condition_words(&state.condition, now)),
            who: "its users, by leaving it idle",
            how: format!("lastgood run {name} --now"),
        },
        Condition::Deferred { reason: DeferReason::Other, .. } => Why {
            rule: "an instance that can't move safely now is left for a later run",
            because: format!("{instance} {}", condition_words(&state.condition, now)),
            who: "whoever runs lastgood",
            how: format!("lastgood run {name} --now"),
        },
        Condition::Stuck { failure } => Why {
            rule: "a failed rollback is shown until it is done",
            because: format!("{instance}: {}", failure.about(instance)),
            who: "whoever can fix the cause",
            how: way_back(name, service, instance, state),
        },
        Condition::LossHeld { loss } => Why {
            rule: "a restore above the bound waits for a person",
            because: format!("{instance} would lose {}", lost(loss)),
            who: "whoever owns the data",
            how: format!("lastgood rollback {name} --accept-risk lost-writes:{instance}"),
        },
    })
}

fn died(
    name: &ServiceName,
    service: &Service,
    instance: &InstanceName,
    state: &Instance,
    now: Timestamp,
) -> Option<Why> {
    let again = state.again_at?;
    if state.hindered > 0 {
        let (tries, next) = (count(state.hindered.into(), "try"), again.since(now));
        return Some(Why {
            rule: "a failed start is retried with growing delays",
            because: format!("{instance} can't be started again after {tries}; the next is in {next}"),
            who: "whoever can fix the cause, which the log names",
            how: format!("lastgood log {name}"),
        });
    }
    Some(Why {
        rule: "a crashed program is restarted with growing delays",
        because: format!(
            "{instance} died {}; it is started again in {}",
            count(state.deaths.into(), "time"),
            again.since(now)
        ),
        who: "whoever can fix the program; the daemon starts it again",
        how: way_back(name, service, instance, state),
    })
}

/// Gives the command that takes an instance back, with the release it leads to: nobody is to find out by typing it that
/// it leads to nothing.
fn way_back(name: &ServiceName, service: &Service, instance: &InstanceName, state: &Instance) -> String {
    let before = || state.history.last().and_then(|moved| moved.from);
    let to = state.goes_back_to.or_else(before).and_then(|release| service.tag(&release));
    match to {
        Some(to) => format!("lastgood rollback {name} --to {to} --instance {instance}"),
        // What has passed is not given up for nothing.
        None if state.release.is_some_and(|release| service.passed.contains(&release)) => {
            format!("lastgood log {name}")
        }
        None => format!("lastgood rollback {name} --instance {instance}"),
    }
}

fn by_fallback(name: &ServiceName, service: &Service) -> Option<Why> {
    let degraded = service.traffic.degraded.as_ref()?;
    Some(Why {
        rule: "a fallback answers more than it may",
        because: format!("{}: {}", service.name_of(Some(&degraded.release)), degraded.because),
        who: "whoever releases it, or anyone who may roll back",
        how: format!("lastgood rollback {name}"),
    })
}

fn outcomes(name: &ServiceName, service: &Service) -> Option<Why> {
    let (health, outcomes) = service.health?;
    let rule = match health {
        Health::Broken => "users' outcomes are broken",
        Health::Degraded => "users' outcomes are degraded",
        Health::Good | Health::CannotTell => return None,
    };
    Some(Why {
        rule,
        because: format!("{} good, {} by a fallback, {} broken", outcomes.good, outcomes.degraded, outcomes.broken),
        who: "whoever releases it, or anyone who may roll back",
        how: format!("lastgood rollback {name}"),
    })
}

/// Says why the channel's offer was not taken, by the rule that the last run ended with.
fn behind(name: &ServiceName, service: &Service, now: Timestamp) -> Option<Why> {
    let (since, because) = service.behind.as_ref()?;
    // A dry run that came after says nothing of why the service is behind.
    let end = service.last_end.as_ref().map(|(_, _, end)| end).filter(|end| end.because() == *because);
    let (rule, who, how) =
        end.map_or((GENERAL, OWNERS, format!("lastgood run {name} --now")), |end| refusal(name, service, end));
    let stale = if service.stale { "; so long that it is an alarm (rollout.stale_after)" } else { "" };
    Some(Why { rule, because: format!("for {}{stale}; last time: {because}", now.since(*since)), who, how })
}

/// Says what stood before the last move, if that was it; the channel was not even asked then.
fn not_ready(name: &ServiceName, service: &Service) -> Option<Why> {
    let (End::Refused { gate: gate @ Gate::Preflight, because }
    | End::Unproven { gate: gate @ Gate::Preflight, because }) = &service.last_end.as_ref()?.2
    else {
        return None;
    };
    let told = service.behind.as_ref().is_some_and(|(_, told)| told == because);
    if told || service.run.is_some() {
        return None;
    }
    let (rule, who, how) = refused(name, *gate);
    Some(Why { rule, because: format!("the last run was refused: {because}"), who, how })
}

const GENERAL: &str = "the channel's offer was not taken";
const OWNERS: &str = "whoever releases it, or whoever owns the gate named here";

/// Gives the rule behind an end that is no success, who can change it, and how.
fn refusal(name: &ServiceName, service: &Service, end: &End) -> (&'static str, &'static str, String) {
    let (run, dry) = (format!("lastgood run {name} --now"), format!("lastgood run {name} --dry-run"));
    match end {
        End::Held { went_back: true, .. } => (
            "a release that may not go on loses its share at once",
            "whoever the reason names",
            format!("lastgood plan {name}"),
        ),
        End::Held { .. } => ("a held service does not move", "whoever holds it", run),
        End::Refused { gate, .. } => refused(name, *gate),
        End::Stopped { .. } => ("a failure before anything moved changes nothing", "whoever can fix the cause", run),
        End::GateBroken { .. } => (
            "the probe fails on last-good as well, so the candidate is not rejected",
            "whoever owns the probe, or this machine",
            dry,
        ),
        End::Unproven { gate: gate @ Gate::Preflight, .. } => refused(name, *gate),
        End::Unproven { .. } => (
            "no release moves until every required gate has been evaluated",
            "whoever owns the gate named here",
            format!("lastgood gate check; lastgood run {name} --now"),
        ),
        End::RehearsalFailed { .. } if service.last_good.is_none() => (
            "in a first run nothing has passed the checks yet: they or the release may be wrong, and nothing is rejected",
            "whoever set it up, or whoever releases it",
            dry,
        ),
        End::RehearsalFailed { .. } => (
            "a release that fails its rehearsal is not rolled out",
            "whoever releases it",
            format!("lastgood plan {name}"),
        ),
        End::Waiting { .. } => ("a run waits while no instance can move", "whoever keeps the instances busy", run),
        End::RolledBack { .. } => (
            "a release that was rolled back is not tried again",
            "anyone, with a reason",
            format!("lastgood log {name}"),
        ),
        End::RollbackFailed { .. } | End::RollbackHeld { .. } => {
            ("an unfinished rollback comes first", "anyone who may roll back", format!("lastgood rollback {name}"))
        }
        End::UpToDate | End::Rehearsed { .. } | End::Promoted | End::Superseded | End::Cooled => (GENERAL, OWNERS, run),
    }
}

fn refused(name: &ServiceName, gate: Gate) -> (&'static str, &'static str, String) {
    let plan = format!("lastgood plan {name}");
    match gate {
        Gate::Hold => ("a held service does not move", "whoever holds it", format!("lastgood run {name} --now")),
        Gate::Pin => (
            "a pinned service stays at one release",
            "anyone, with a reason",
            format!("lastgood unpin {name} --reason …"),
        ),
        Gate::Channel => {
            ("only releases of the channel are accepted", "whoever releases it, or sets up the channel", plan)
        }
        Gate::Rejected => ("a rejected release is never tried again", "anyone, with a reason", plan),
        Gate::Newer => ("a candidate must be newer than last-good", "whoever releases it", plan),
        Gate::Digest => {
            ("a tag republished with different contents is refused", "whoever releases it, under a new tag", plan)
        }
        Gate::Version => ("a program must report the version that was installed", "whoever releases it", plan),
        Gate::Provenance => {
            ("a release must come from where the policy says", "whoever releases it, or owns the policy", plan)
        }
        Gate::Required => (
            "a release must pass every gate that its service requires",
            "whoever releases it, or owns the gate named here",
            plan,
        ),
        Gate::Preflight => (
            "no release moves until its preflight checks pass",
            "whoever runs this machine, or owns the check",
            "lastgood preflight --for deploy".into(),
        ),
        Gate::Rca => (
            "after a rollback or an incident no release moves until the analysis is accepted",
            "whoever owes it, and somebody else who accepts it",
            format!("lastgood rca submit {name} --file analysis.md"),
        ),
        Gate::WayBack => ("no way back, no rollout", "whoever runs this machine", format!("lastgood log {name}")),
    }
}

/// Says that there is nothing to go back to: for the service as a whole, or for single instances beside others.
fn nothing_before(name: &ServiceName, service: &Service) -> Option<Why> {
    if service.run.is_some() {
        return None;
    }
    if service.instances.values().all(|instance| instance.release.is_none()) {
        return Some(Why {
            rule: "nothing runs yet",
            because: "no release was started on any instance".into(),
            who: "anyone who may run lastgood",
            how: format!("lastgood run {name} --now"),
        });
    }
    // One left behind needs none: it runs what the others would go back to.
    let is_on_last_good = |one: &Instance| one.release.is_some() && one.release == service.last_good;
    let first = |instance: &Instance| instance.history.iter().all(|moved| moved.from.is_none());
    let on_last_good = service.instances.iter().filter(|(_, instance)| is_on_last_good(instance));
    let (only, others): (Vec<_>, Vec<_>) = on_last_good.partition(|(_, instance)| first(instance));
    // Before the first bump nobody has a way back, and nobody misses one.
    if only.is_empty() || others.is_empty() {
        return None;
    }
    let only: Vec<InstanceName> = only.into_iter().map(|(name, _)| name.clone()).collect();
    Some(Why {
        rule: "an instance that ran no other release has nothing to roll back to",
        because: format!("{} came later: a rollback leaves it as it is", names(&only)),
        who: "nobody: it has a way back after its first move",
        how: format!("lastgood run {name} --now"),
    })
}
