//! Forward: start the candidate beside last-good, then share by share, each only on evidence of health.

use super::{failure_of, idle_side, leaving, proving, returning, settings};
use crate::{
    effect::{Answer, Effect},
    event::{Cause, End, Event, Gate, Verdict, WayBack},
    rollout::{
        Deciding, gates,
        plan::{self, Moves},
    },
    service::{CLOSING, MoveStep, Phase, Service},
    terms::{Digest, FlagKey, InstanceName, Span, Timestamp},
    traffic::{Route, RouteSide, Share, ShareStep, TrafficEvent, TrafficSettings},
};
use alloc::{collections::BTreeMap, format, vec::Vec};

/// Seals the plan and starts the candidate; refuses one that last-good can't live with.
pub(in crate::rollout) fn begin(deciding: &mut Deciding) {
    let Some(Phase::Rehearsing { release, .. }) = deciding.phase() else { return };
    let release = *release;
    let way_back = deciding.service.installed.get(&release).and_then(|known| known.way_back);
    if way_back == Some(WayBack::Restore) && deciding.service.last_good.is_some() {
        return refuse_migration(deciding, release);
    }
    let instances = idle_side(deciding);
    let plan = plan::digest(deciding, Moves::Traffic, &release, way_back, &instances);
    deciding.say(Event::Traffic(TrafficEvent::ShiftBegun { plan, release, instances }));
    go_on(deciding);
}

/// Both releases run on the same data at once, so data that last-good can't read is refused before anything starts.
fn refuse_migration(deciding: &mut Deciding, release: Digest) {
    let [new, old] = [Some(release), deciding.service.last_good].map(|one| deciding.service.name_of(one.as_ref()));
    let because = format!(
        "{old} can't read the data that {new} migrates, and both would run on it at once: \
         expand first, contract in a later release"
    );
    if let Some(tag) = deciding.service.tag(&release).cloned() {
        deciding.say(Event::Rejected { release, tag, reason: because.clone() });
    }
    gates::refuse(deciding, Gate::WayBack, Verdict::Fail, because);
}

/// Does whatever can be done now.
pub(in crate::rollout) fn go_on(deciding: &mut Deciding) {
    let Some(Phase::Shifting { release, steps, ordered, until, .. }) = deciding.phase() else { return };
    let (release, ordered, until) = (*release, *ordered, *until);
    if let Some(because) = gates::unwanted(deciding, &release) {
        return returning::begin(deciding, Cause::Halted { because });
    }
    if ordered == 0 {
        let waiting = match stoppable(deciding, steps, release) {
            others if others.is_empty() => startable(steps),
            others => others,
        };
        let ready = steps.values().all(|step| *step == MoveStep::Moved);
        for instance in waiting {
            raise(deciding, instance, release);
        }
        if ready {
            next_share(deciding);
        }
        return;
    }
    if let Some(until) = until {
        if until > deciding.now.after(bake_of(deciding, deciding.service.traffic.share())) {
            // The clock was set back: it is watched anew.
            return watch(deciding);
        }
        baked(deciding, until);
    }
}

/// Gives how long a share is watched at least.
fn bake_of(deciding: &Deciding, share: Share) -> Span {
    let step = settings(deciding).and_then(|settings| settings.steps.iter().find(|step| step.share == share));
    step.map(|step| step.bake).unwrap_or_default()
}

/// Begins the bake time of the share that the router has confirmed.
fn watch(deciding: &mut Deciding) {
    let share = deciding.service.traffic.share();
    let until = deciding.now.after(bake_of(deciding, share));
    deciding.say(Event::Traffic(TrafficEvent::ShareBegun { share, until }));
}

/// Gives the instances that run something else still: all are stopped before the first is started, so that none of them
/// is forgotten when that one fails.
fn stoppable(deciding: &Deciding, steps: &BTreeMap<InstanceName, MoveStep>, release: Digest) -> Vec<InstanceName> {
    let runs = |name: &InstanceName| deciding.service.instances.get(name).and_then(|one| one.release);
    let waiting = steps.iter().filter(|(_, step)| matches!(step, MoveStep::Waiting | MoveStep::Stopping));
    let others = waiting.filter(|(name, _)| runs(name).is_some_and(|other| other != release));
    others.map(|(name, _)| name.clone()).collect()
}

/// Gives the instances that may be started now: one alone until it has passed its probe, then all others.
///
/// The first migrates the data that all of them share; what the rehearsal proved is one process that does so.
fn startable(steps: &BTreeMap<InstanceName, MoveStep>) -> Vec<InstanceName> {
    let waiting = steps.iter().filter(|(_, step)| **step == MoveStep::Waiting).map(|(name, _)| name.clone());
    let has = |wanted: fn(&MoveStep) -> bool| steps.values().any(wanted);
    match has(|step| *step == MoveStep::Moved) {
        true => waiting.collect(),
        false if has(|step| *step != MoveStep::Waiting) => Vec::new(),
        false => waiting.take(1).collect(),
    }
}

/// Starts an instance on the candidate, once what it carried before is over.
fn raise(deciding: &mut Deciding, instance: InstanceName, release: Digest) {
    if gates::holding(deciding, None).is_some() {
        return;
    }
    if is_draining(deciding, &instance) || deciding.is_ordered(&instance) {
        return;
    }
    let runs = deciding.service.instances.get(&instance).and_then(|one| one.release);
    match runs {
        Some(other) if other != release => deciding.order(Effect::Stop { instance }),
        _ => deciding.order(Effect::Start { instance, release }),
    }
}

/// Tells whether tunnels of what it carried before may still go on.
fn is_draining(deciding: &Deciding, instance: &InstanceName) -> bool {
    let traffic = &deciding.service.traffic;
    let standby = traffic.standby.as_ref().filter(|one| !one.empty && one.side.instances.contains(instance));
    let leaving = traffic.route.iter().flat_map(|route| &route.leaving);
    // At the deadline the router begins to close the last of them.
    let deadline = leaving.map(|one| one.deadline.after(CLOSING)).max();
    standby.is_some() && deadline.is_some_and(|deadline| deciding.now < deadline)
}

/// Tells whether something was ordered that decides what is next.
fn is_awaited(deciding: &Deciding) -> bool {
    let orders = deciding.service.run.iter().flat_map(|run| run.orders.values());
    orders.into_iter().any(|effect| !effect.is_housekeeping())
}

/// Lets the share grow once its bake time is over, on a healthy verdict only.
fn baked(deciding: &mut Deciding, until: Timestamp) {
    if deciding.now < until || is_awaited(deciding) {
        return;
    }
    let judged = deciding.service.traffic.judged.as_ref();
    if is_healthy(deciding) {
        return next_share(deciding);
    }
    let most = settings(deciding).map(|settings| settings.cannot_tell_max).unwrap_or_default();
    if deciding.now >= doubted_since(&deciding.service, until).after(most) {
        let said = judged.map_or_else(|| "nothing was measured".into(), |judged| judged.because.clone());
        let share = deciding.service.traffic.share();
        let because =
            format!("cannot tell at {share} of the traffic whether it is healthy, for {most} too long: {said}");
        returning::begin(deciding, Cause::Halted { because });
    }
}

/// Tells since when nobody can say how the share does: a doubt counts from when it began, not from when a hold or a stop
/// of ours let the bake time pass.
pub(super) fn doubted_since(service: &Service, until: Timestamp) -> Timestamp {
    service.traffic.judged.as_ref().map_or(until, |judged| judged.since.max(until))
}

/// Tells whether the guards' last word on the share is that it is healthy.
fn is_healthy(deciding: &Deciding) -> bool {
    deciding.service.traffic.judged.as_ref().is_some_and(|judged| judged.verdict == Verdict::Pass)
}

/// Tells whether nothing but required gates stands before the next share.
fn is_due(deciding: &Deciding) -> bool {
    let Some(Phase::Shifting { steps, until, .. }) = deciding.phase() else { return false };
    let stands = match until {
        Some(until) => deciding.now >= *until && is_healthy(deciding),
        None => steps.values().all(|step| *step == MoveStep::Moved),
    };
    // A hold lets the share stand where it is; the guards go on watching it.
    stands && !is_awaited(deciding) && gates::holding(deciding, None).is_none()
}

/// Orders what comes before the next share, or asks the required gates about it.
fn next_share(deciding: &mut Deciding) {
    if !is_due(deciding) {
        return;
    }
    let Some(Phase::Shifting { release, ordered, resumed, .. }) = deciding.phase() else { return };
    let (release, ordered, resumed) = (*release, *ordered as usize, *resumed);
    let Some(TrafficSettings { steps: shares, resume, .. }) = settings(deciding) else { return };
    let above = shares.get(ordered).is_some_and(|step| step.share > TrafficSettings::RESUME_ABOVE);
    if let Some(last_good) = deciding.service.traffic.last_good().filter(|_| above && *resume && !resumed) {
        return deciding.order(Effect::TryResume { candidate: release, last_good: last_good.release });
    }
    // Last, so that nothing lies between their yes and the share.
    if !proving::ask(deciding) {
        give_share(deciding);
    }
}

/// Reacts to required gates that all say yes; what came while they were asked is looked at again.
pub(super) fn proven(deciding: &mut Deciding, release: Digest) {
    if let Some(because) = gates::unwanted(deciding, &release) {
        return returning::begin(deciding, Cause::Halted { because });
    }
    if is_due(deciding) {
        give_share(deciding);
    }
}

/// Orders the next share, or promotes a candidate that has all.
fn give_share(deciding: &mut Deciding) {
    let Some(Phase::Shifting { release, steps, ordered, .. }) = deciding.phase() else { return };
    let (release, ordered) = (*release, *ordered as usize);
    let instances: Vec<InstanceName> = steps.keys().cloned().collect();
    let side = RouteSide { release, instances };
    let Some(TrafficSettings { steps: shares, .. }) = settings(deciding).cloned() else { return };
    let Some(last_good) = deciding.service.traffic.last_good().cloned() else {
        // There is nobody to share with.
        let salt = release.short();
        return deciding.order(Effect::Route {
            route: Route { last_good: Some(side), candidate: None, share: Share::NONE, leaving: Vec::new(), salt },
        });
    };
    let Some(ShareStep { share, .. }) = shares.get(ordered).copied() else {
        return promote(deciding, side, last_good);
    };
    // Another salt for each candidate, so that not the same people are first each time.
    let salt = release.short();
    deciding.order(Effect::Route {
        route: Route { last_good: Some(last_good), candidate: Some(side), share, leaving: Vec::new(), salt },
    });
}

/// Makes the candidate last-good in the router; it is said when the router has confirmed.
fn promote(deciding: &mut Deciding, side: RouteSide, last_good: RouteSide) {
    let leaving = Vec::from([leaving(deciding, last_good)]);
    let salt = side.release.short();
    deciding.order(Effect::Route {
        route: Route { last_good: Some(side), candidate: None, share: Share::NONE, leaving, salt },
    });
}

pub(in crate::rollout) fn answered(deciding: &mut Deciding, effect: Effect, answer: Answer) {
    let Some(Phase::Shifting { release, .. }) = deciding.phase() else { return };
    let release = *release;
    match (effect, answer) {
        (Effect::Stop { .. }, Answer::Stopped) => go_on(deciding),
        (Effect::Start { instance, .. }, Answer::Started { .. }) => {
            deciding.order(Effect::Probe { instance, release });
        }
        (Effect::Probe { .. }, Answer::ProbePassed { .. }) => go_on(deciding),
        (Effect::AskGate { gate, .. }, answer) => proving::answered(deciding, release, &gate, &answer),
        // Asked anew: a hold or a doubt may have come meanwhile.
        (Effect::TryResume { .. }, Answer::ResumePassed { .. }) => go_on(deciding),
        (Effect::Route { route }, Answer::Routed { .. }) => routed(deciding, release, &route),
        (Effect::TurnOn { .. }, Answer::FlagsOn { .. }) => go_on(deciding),
        (Effect::TurnOn { .. }, answer) => {
            let (failure, _) = failure_of(answer, "flags");
            let because = format!("the flags that it brings can't be turned on: {failure}");
            returning::begin(deciding, Cause::Halted { because });
        }
        (Effect::Route { .. }, answer) => {
            let (failure, _) = failure_of(answer, "route");
            returning::begin(deciding, Cause::Router { failure });
        }
        (effect, answer) => {
            let (failure, blamed) = failure_of(answer, "start of the candidate");
            // What does not end is not the candidate's fault: it has not begun there.
            let blamed = blamed && !matches!(effect, Effect::Stop { .. });
            let first = || idle_side(deciding).into_iter().next();
            let Some(instance) = effect.instance().cloned().or_else(first) else { return };
            returning::begin(
                deciding,
                match blamed {
                    true => Cause::Candidate { instance, failure },
                    false => Cause::Machine { instance, failure },
                },
            );
        }
    }
}

fn routed(deciding: &mut Deciding, release: Digest, route: &Route) {
    // Somebody may have rejected it, or pinned another, while the router was told.
    if let Some(because) = gates::unwanted(deciding, &release) {
        return returning::begin(deciding, Cause::Halted { because });
    }
    if route.candidate.is_some() {
        watch(deciding);
        return bring(deciding, route.share);
    }
    deciding.say(Event::Promoted { release, behind: Vec::new() });
    deciding.end(End::Promoted);
}

/// Turns on what the release brings from this share on.
fn bring(deciding: &mut Deciding, share: Share) {
    let (Some(run), Some(settings)) = (deciding.service.run.as_ref().map(|run| run.id), settings(deciding)) else {
        return;
    };
    let before = settings.steps.iter().map(|step| step.share).filter(|step| *step < share).max();
    let before = before.unwrap_or(Share::NONE);
    let due = settings.flags.iter().filter(|one| before < one.share && one.share <= share);
    let flags: Vec<FlagKey> = due.map(|one| one.flag.clone()).collect();
    if !flags.is_empty() {
        deciding.order(Effect::TurnOn { run, flags });
    }
}

/// Reacts to a process that ended by itself; tells whether that ends the rollout.
pub(in crate::rollout) fn died(
    deciding: &mut Deciding,
    instance: &InstanceName,
    failure: &crate::failure::Failure,
) -> bool {
    let Some(Phase::Shifting { steps, .. }) = deciding.phase() else { return false };
    let on_trial = steps.get(instance).is_some_and(|step| matches!(step, MoveStep::Probing | MoveStep::Moved));
    if on_trial {
        let (instance, failure) = (instance.clone(), failure.clone());
        returning::begin(deciding, Cause::Candidate { instance, failure });
    }
    on_trial
}
