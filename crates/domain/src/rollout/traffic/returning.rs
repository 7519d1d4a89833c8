//! Back: bring last-good up to capacity, flip, and only then let what is left finish and stop.

use super::{failure_of, other_side, route_all, settings};
use crate::{
    effect::{Answer, Effect},
    event::{Aim, Cause, End, Event, Settings, WayBack},
    rollout::{Deciding, IllegalStep, concluding, forward},
    service::{Phase, Raised, Service, TRIES_MAX},
    terms::{Digest, InstanceName, ReleaseTag, RunId, Span, Timestamp},
    traffic::{Brought, Route, RouteSide, TrafficEvent},
};
use alloc::{format, string::String, vec::Vec};

/// How long a flip waits for instances that are started while others of the same release are up: well below the 30 s
/// that requirement L-3 gives a way back at worst.
const STARTS_MAX: Span = Span::seconds(20);

/// Leaves the candidate of the rollout under way.
pub(in crate::rollout) fn begin(deciding: &mut Deciding, cause: Cause) {
    let Some(Phase::Shifting { release, .. }) = deciding.phase() else { return };
    let left = *release;
    let to = before(deciding, left);
    let raise = to.map(|to| dead_of(deciding, to)).unwrap_or_default();
    go(deciding, cause, left, to, raise);
}

/// Finds who carried the traffic before `left` did: in the route of a promotion it is what leaves, else who carries it.
///
/// Where nobody does, what leaves was left for a fault of its own, and nobody goes back to it.
fn before(deciding: &Deciding, left: Digest) -> Option<Digest> {
    let route = deciding.service.traffic.route.as_ref()?;
    match route.last_good.as_ref()?.release {
        serving if serving != left => Some(serving),
        _ => route.leaving.iter().map(|one| one.side.release).find(|release| *release != left),
    }
}

/// Gives the instances of a release that died and were not started again yet, and those that get no traffic: nobody
/// would have started them again. The others are up; to start one that is up costs nothing.
fn dead_of(deciding: &Deciding, release: Digest) -> Vec<InstanceName> {
    let instances = deciding.service.instances.iter().filter(|(_, one)| one.release == Some(release));
    let carries = |name: &InstanceName| deciding.service.traffic.carries(name);
    let dead = instances.filter(|(name, one)| one.again_at.is_some() || !carries(name));
    dead.map(|(name, _)| name.clone()).collect()
}

/// Goes back from the promoted release without anybody's order; takes over a run that has touched nothing.
pub(in crate::rollout) fn by_itself(deciding: &mut Deciding, cause: Cause, settings: Settings) {
    let Some((left, to)) = proven_back(&deciding.service) else { return };
    if let Some(run) = deciding.service.run.as_ref().map(|run| run.id) {
        deciding.say(Event::RunEnded { run, end: End::Superseded });
    }
    let reason = End::RolledBack { cause: cause.clone() }.because();
    let aim = Aim::Back { to: None, instances: Vec::new(), accept_loss: Vec::new(), reason };
    let run = RunId(deciding.service.next.run);
    deciding.say(Event::RunStarted { run, aim, settings });
    let raise = side_of_previous(deciding);
    go(deciding, cause, left, Some(to), raise);
}

/// Goes back to a pinned release where that way back was proven; tells whether it does.
pub(in crate::rollout) fn pinned(deciding: &mut Deciding, tag: &ReleaseTag, target: Digest) -> bool {
    let Some((left, to)) = proven_back(&deciding.service).filter(|(_, to)| *to == target) else { return false };
    let raise = side_of_previous(deciding);
    go(deciding, Cause::Pinned { tag: tag.clone() }, left, Some(to), raise);
    true
}

/// Finds what is last-good and what was before it, if that is a way back that was proven.
pub(crate) fn proven_back(service: &Service) -> Option<(Digest, Digest)> {
    let left = service.traffic.last_good()?.release;
    // Without the data: nobody has seen an older release read what this one may have migrated, nor what a candidate
    // left in it since.
    if service.traffic.data != Some(left) {
        return None;
    }
    let way_back = service.installed.get(&left).and_then(|known| known.way_back);
    if way_back != Some(WayBack::CodeOnly) {
        return None;
    }
    let to = service.previous_good.filter(|to| *to != left && service.installed.contains_key(to))?;
    Some((left, to))
}

/// Gives the instances on which the release before is up or can be started.
fn side_of_previous(deciding: &Deciding) -> Vec<InstanceName> {
    deciding.service.traffic.last_good().map(|side| other_side(deciding, &side.instances)).unwrap_or_default()
}

/// What a rollback of traffic finds under way.
pub(in crate::rollout) enum Found {
    /// A rollout that has started the candidate.
    Candidate(Digest),
    /// A way back that did not end.
    Return(Digest, Option<Digest>),
    /// A run that has touched no instance.
    Untouched,
    /// No run.
    Nothing,
}

/// Looks what a rollback would take over; before the run under way is ended.
pub(in crate::rollout) fn found(deciding: &Deciding) -> Found {
    match deciding.phase() {
        Some(Phase::Shifting { release, .. }) => Found::Candidate(*release),
        Some(Phase::Unshifting { left, to, .. }) => Found::Return(*left, *to),
        Some(_) => Found::Untouched,
        // A way back that the router never confirmed is not over, although its run is.
        // Nor is one that could not bring up where it leads to: a candidate has its share still.
        None => match &deciding.service.traffic.route {
            Some(Route { candidate: Some(candidate), last_good, .. }) => {
                Found::Return(candidate.release, last_good.as_ref().map(|side| side.release))
            }
            _ if deciding.service.traffic.confirmed => Found::Nothing,
            Some(Route { leaving, last_good, .. }) if !leaving.is_empty() => {
                Found::Return(leaving[0].side.release, last_good.as_ref().map(|side| side.release))
            }
            _ => Found::Nothing,
        },
    }
}

/// Answers a person's order to go back.
pub(in crate::rollout) fn asked(
    deciding: &mut Deciding,
    to: Option<ReleaseTag>,
    only: &[InstanceName],
    reason: String,
    found: Found,
) -> Result<(), IllegalStep> {
    let refused = |why: String| Err(IllegalStep::NoWayBack(why));
    if !only.is_empty() {
        return refused("shared traffic goes back as a whole, not by instance".into());
    }
    let serving = deciding.service.traffic.last_good().map(|side| side.release);
    let cause = Cause::Asked { reason };
    let (left, target, raise) = match found {
        Found::Candidate(release) => {
            let to = before(deciding, release);
            (release, to, to.map(|to| dead_of(deciding, to)).unwrap_or_default())
        }
        Found::Return(left, to) => {
            let raise = if to == serving {
                to.map(|to| dead_of(deciding, to)).unwrap_or_default()
            } else {
                side_of_previous(deciding)
            };
            (left, to, raise)
        }
        Found::Untouched if proven_back(&deciding.service).is_none() && to.is_none() => {
            // With nowhere to go back to, a run that has touched nobody still ends.
            deciding.end(End::RolledBack { cause });
            return Ok(());
        }
        Found::Untouched | Found::Nothing => {
            let Some((left, to)) = proven_back(&deciding.service) else {
                return refused(no_way(deciding));
            };
            (left, Some(to), side_of_previous(deciding))
        }
    };
    if let Some(tag) = to
        && deciding.service.tags.get(&tag).copied() != target
    {
        let proven = deciding.service.name_of(target.as_ref());
        return refused(format!("the way back from here leads to {proven}: nobody has proven one to {tag}"));
    }
    go(deciding, cause, left, target, raise);
    Ok(())
}

/// Says why nobody can go back from here.
fn no_way(deciding: &Deciding) -> String {
    let service = &deciding.service;
    let serving = service.traffic.last_good().map(|side| side.release);
    match service.traffic.data.filter(|data| serving.is_some_and(|serving| serving != *data)) {
        Some(data) if service.previous_good.is_some() => {
            let [data, before] = [Some(data), service.previous_good].map(|one| service.name_of(one.as_ref()));
            format!("{data} has been on the data since, and nobody has seen {before} read what it left")
        }
        _ => "no earlier release is known to be good, or it is not installed any more".into(),
    }
}

fn go(deciding: &mut Deciding, cause: Cause, left: Digest, to: Option<Digest>, raise: Vec<InstanceName>) {
    let guards = matches!(cause, Cause::Guard { .. });
    let because = End::RolledBack { cause: cause.clone() }.because();
    deciding.say(Event::Traffic(TrafficEvent::ReturnBegun { cause, left, to, raise: raise.clone() }));
    if let Some(release) = to {
        for instance in raise {
            start(deciding, instance, release);
        }
    }
    flip_if_up(deciding);
    switch(deciding, left, guards.then_some(because));
}

/// Turns off what the release has turned on, and trips what is to be tripped; nothing is ever reset by a way back.
fn switch(deciding: &mut Deciding, left: Digest, broken: Option<String>) {
    // What an earlier driver of this way back may not have done.
    let pending = deciding.service.traffic.tripping.clone();
    let Some(run) = deciding.service.run.as_ref().map(|run| run.id) else { return };
    let switches = settings(deciding).map(|settings| settings.trips.clone()).unwrap_or_default();
    for effect in pending {
        deciding.order(effect);
    }
    if let Some(because) = broken.filter(|_| !switches.is_empty()) {
        deciding.order(Effect::Trip { run, switches, because });
    }
    if let Some(Brought { run, flags }) = deciding.service.traffic.brought.get(&left).cloned() {
        deciding.order(Effect::TurnOff { run, flags });
    }
}

/// Starts an instance that must be up; one that runs it already is left as it is by the runtime.
fn start(deciding: &mut Deciding, instance: InstanceName, release: Digest) {
    let other = deciding.service.instances.get(&instance).and_then(|one| one.release);
    match other {
        // A candidate that never got traffic stands where last-good must be.
        Some(other) if other != release => deciding.order(Effect::Stop { instance }),
        _ => deciding.order(Effect::Start { instance, release }),
    }
}

/// Flips as soon as every instance that must be up is, or at once where some of them carry people already: one that
/// hangs in its start keeps nobody at what is to be left.
fn flip_if_up(deciding: &mut Deciding) {
    let Some(Phase::Unshifting { left, to, raise, told, since, .. }) = deciding.phase() else { return };
    let (left, to, since) = (*left, *to, *since);
    // Only switches and starts are awaited: whoever died meanwhile needs no other table.
    let is_back = is_back(*told, deciding);
    let carries = to.is_some() && deciding.service.traffic.last_good().map(|side| side.release) == to;
    let waits = !carries && is_within(since, deciding.now);
    let starting = waits && raise.values().any(|one| matches!(one, Raised::Starting { .. }));
    if is_back || is_told(deciding) || starting || !to.is_none_or(|to| somebody_is_up(deciding, to)) {
        return;
    }
    flip(deciding, left, to);
}

/// Tells whether a way back that began then still waits for all that it starts; not after the clock was set back.
fn is_within(since: Timestamp, now: Timestamp) -> bool {
    since <= now && now < since.after(STARTS_MAX)
}

/// Gives when a way back under way waits no longer for all that it starts, if it waits.
pub(super) fn gives_up_at(service: &Service) -> Option<Timestamp> {
    match service.run.as_ref().map(|run| &run.phase)? {
        Phase::Unshifting { raise, told: 0, since, .. }
            if raise.values().any(|one| matches!(one, Raised::Starting { .. })) =>
        {
            Some(since.after(STARTS_MAX))
        }
        _ => None,
    }
}

/// Flips when it has waited long enough.
pub(in crate::rollout) fn tick(deciding: &mut Deciding) {
    if gives_up_at(&deciding.service).is_some() {
        flip_if_up(deciding);
    }
}

/// Tells whether the router has confirmed that all go back.
fn is_back(told: u32, deciding: &Deciding) -> bool {
    told > 0 && deciding.service.traffic.confirmed
}

/// Tells whether the router is being told.
fn is_told(deciding: &Deciding) -> bool {
    let mut orders = deciding.service.run.iter().flat_map(|run| run.orders.values());
    orders.any(|effect| matches!(effect, Effect::Route { .. }))
}

/// Starts again what died of the release that is gone back to: nobody is sent to one that is down.
pub(in crate::rollout) fn died(deciding: &mut Deciding, instance: &InstanceName) {
    let Some(Phase::Unshifting { to: Some(to), .. }) = deciding.phase() else { return };
    let to = *to;
    let runs = deciding.service.instances.get(instance).and_then(|one| one.release);
    if runs == Some(to) && !deciding.is_ordered(instance) {
        start(deciding, instance.clone(), to);
    }
}

/// Tells whether a release has an instance that can answer.
fn somebody_is_up(deciding: &Deciding, release: Digest) -> bool {
    let Some(Phase::Unshifting { raise, .. }) = deciding.phase() else { return false };
    let up = |name: &InstanceName| raise.get(name).is_none_or(|one| *one == Raised::Up);
    let mut on = deciding.service.instances.iter().filter(|(_, one)| one.release == Some(release));
    on.any(|(name, _)| up(name))
}

fn flip(deciding: &mut Deciding, left: Digest, to: Option<Digest>) {
    let route = deciding.service.traffic.route.clone();
    let earlier = route.as_ref().map(|route| route.leaving.clone()).unwrap_or_default();
    let sides: Vec<RouteSide> = route
        .into_iter()
        .flat_map(|route| {
            route.last_good.into_iter().chain(route.candidate).chain(route.leaving.into_iter().map(|one| one.side))
        })
        .collect();
    let leaves = sides.iter().find(|side| side.release == left).cloned().or_else(|| running(deciding, left));
    let instances =
        to.and_then(|to| sides.iter().find(|side| side.release == to).cloned().or_else(|| running(deciding, to)));
    let mut route = route_all(deciding, instances, leaves);
    if route.leaving.is_empty() {
        // What is left was never started: the one that was left before goes on leaving.
        route.leaving = earlier.into_iter().filter(|one| Some(one.side.release) != to).collect();
    }
    deciding.order(Effect::Route { route });
}

/// Gives the instances that run a release.
fn running(deciding: &Deciding, release: Digest) -> Option<RouteSide> {
    let on = deciding.service.instances.iter().filter(|(_, one)| one.release == Some(release));
    let instances: Vec<InstanceName> = on.map(|(name, _)| name.clone()).collect();
    (!instances.is_empty()).then_some(RouteSide { release, instances })
}

pub(in crate::rollout) fn answered(deciding: &mut Deciding, effect: Effect, answer: Answer) {
    let Some(Phase::Unshifting { to, raise, told, .. }) = deciding.phase() else { return };
    let (to, told, raise) = (*to, *told, raise.clone());
    match (effect, answer) {
        (Effect::Stop { instance }, Answer::Stopped) => {
            if let Some(release) = to {
                deciding.order(Effect::Start { instance, release });
            }
        }
        (Effect::Start { .. }, Answer::Started { .. }) => {
            flip_if_up(deciding);
            return_if_done(deciding);
        }
        (Effect::Route { .. }, Answer::Routed { .. }) => return_if_done(deciding),
        // What could not be switched is told by its answer, and keeps nobody from last-good.
        (Effect::TurnOff { .. } | Effect::Trip { .. }, _) => return_if_done(deciding),
        (Effect::Route { .. }, _) if told < TRIES_MAX => flip_if_up(deciding),
        (Effect::Start { instance, release }, answer) => match raise.get(&instance) {
            Some(Raised::Starting { .. }) => deciding.order(Effect::Start { instance, release }),
            _ if is_back(told, deciding) => {
                left_down(deciding, instance, answer);
                return_if_done(deciding);
            }
            // The others carry it alone; that is better than what is left.
            _ if somebody_is_up(deciding, release)
                || raise.values().any(|one| matches!(one, Raised::Starting { .. })) =>
            {
                left_down(deciding, instance, answer);
                flip_if_up(deciding);
            }
            _ => stuck(deciding, instance, answer),
        },
        (effect, answer) => {
            let first = settings(deciding).and_then(|settings| settings.sides[0].first().cloned());
            if let Some(instance) = effect.instance().cloned().or(first) {
                stuck(deciding, instance, answer);
            }
        }
    }
}

/// Says when an instance that could not be started is tried again: this way back waits for it no longer, and without the
/// record nobody would.
fn left_down(deciding: &mut Deciding, instance: InstanceName, answer: Answer) {
    let (failure, _) = failure_of(answer, "the start");
    forward::not_revived(deciding, instance, failure);
}

/// Ends a way back that can't be finished: what carries the traffic goes on carrying it, and somebody is paged.
fn stuck(deciding: &mut Deciding, instance: InstanceName, answer: Answer) {
    let (failure, _) = failure_of(answer, "the way back");
    let cause = match deciding.phase() {
        Some(Phase::Unshifting { cause, .. }) => Some(cause.clone()),
        _ => None,
    };
    deciding.say(Event::ReturnFailed { instance: instance.clone(), failure: failure.clone(), reopens: None });
    // What is to be left must not be tried once more while somebody mends the way back.
    if let Some(cause) = cause {
        concluding::freeze(deciding, &cause, &format!("the way back failed: {failure}"));
    }
    deciding.end(End::RollbackFailed { instances: Vec::from([instance]) });
}

/// Says that all are back once the router and the switches have confirmed, and ends the way back when nothing is being
/// started any more.
fn return_if_done(deciding: &mut Deciding) {
    let Some(Phase::Unshifting { told, returned, .. }) = deciding.phase() else { return };
    let (told, returned) = (*told, *returned);
    let orders = deciding.service.run.iter().flat_map(|run| run.orders.values());
    let switching = |effect: &Effect| matches!(effect, Effect::TurnOff { .. } | Effect::Trip { .. });
    if !is_back(told, deciding) || orders.into_iter().any(switching) {
        return;
    }
    if !returned {
        conclude(deciding);
    }
    let Some(Phase::Unshifting { cause, raise, .. }) = deciding.phase() else { return };
    if raise.values().any(|one| matches!(one, Raised::Starting { .. })) {
        return;
    }
    let cause = cause.clone();
    deciding.end(match cause {
        Cause::Halted { because } => End::Held { because, moved: Vec::new(), went_back: true },
        cause => End::RolledBack { cause },
    });
}

/// Nothing new goes to what was left: the rest is evidence.
fn conclude(deciding: &mut Deciding) {
    let Some(Phase::Unshifting { cause, left, to, .. }) = deciding.phase() else { return };
    let (cause, left, to) = (cause.clone(), *left, *to);
    deciding.say(Event::Traffic(TrafficEvent::Returned { to }));
    if !matches!(cause, Cause::Halted { .. }) {
        concluding::conclude(deciding, &cause, Some(left), to, true);
    }
}
