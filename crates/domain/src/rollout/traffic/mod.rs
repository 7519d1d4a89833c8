//! Shared traffic: the candidate runs beside last-good on the same data and gets a growing share of its users.
//!
//! Forward is [`shifting`], back is [`returning`]. The release that is left stands by without traffic, warm after a
//! promotion, so that going back is one order to the router.

mod proving;
pub(super) mod returning;
pub(super) mod shifting;

use super::{Deciding, Judging};
use crate::{
    effect::{Answer, Effect},
    event::{Cause, End, Event, Health, Settings, Verdict},
    failure::Failure,
    service::{CLOSING, Phase},
    terms::{Digest, InstanceName, Span, Timestamp},
    traffic::{Judged, Route, RouteLeaving, RouteSide, Share, TrafficEvent, TrafficSettings},
    words::names,
};
use alloc::{string::String, vec::Vec};

/// Gives the settings of a service whose traffic is shared.
pub(super) fn settings(deciding: &Deciding) -> Option<&TrafficSettings> {
    deciding.settings().and_then(|settings| settings.traffic.as_ref())
}

/// Tells whether this service goes back by its traffic: also one whose configuration no longer says so.
pub(super) fn moves_so(deciding: &Deciding) -> bool {
    settings(deciding).is_some() || deciding.service.traffic.route.is_some()
}

/// Refuses to begin while instances run that the configuration no longer has: they work on the same data, and nobody
/// would stop or count them. It is what turning `traffic` on or off leaves behind.
pub(super) fn strangers(deciding: &Deciding) -> Option<Failure> {
    let settings = deciding.settings()?;
    if settings.traffic.is_none() && deciding.service.traffic.route.is_none() {
        return None;
    }
    let running = deciding.service.instances.iter().filter(|(_, one)| one.release.is_some());
    let strangers: Vec<InstanceName> =
        running.map(|(name, _)| name.clone()).filter(|name| !settings.instances.contains(name)).collect();
    (!strangers.is_empty()).then(|| {
        Failure::new(
            "instances-left",
            alloc::format!("{} still run on this data and are not in the configuration", names(&strangers)),
            Some("put the configuration back as it was, or set the service up under a new name"),
        )
    })
}

/// Says why nothing may be started while the last way back is not over: people may still be sent to what was to be left.
pub(super) fn unfinished(deciding: &Deciding) -> Option<String> {
    let route = deciding.service.traffic.route.as_ref()?;
    let name = |side: Option<&RouteSide>| deciding.service.name_of(side.map(|side| &side.release));
    match &route.candidate {
        Some(candidate) => {
            Some(alloc::format!("{} has a share still: a rollback takes its way back up again", name(Some(candidate))))
        }
        None if deciding.service.traffic.confirmed => None,
        None => {
            let left = name(route.leaving.first().map(|one| &one.side));
            Some(alloc::format!("the router has not confirmed the way back from {left}: a rollback takes it up again"))
        }
    }
}

/// Tells whether last-good alone is on trial: no run is under way, or one that has not touched its traffic or data.
pub(super) fn is_watched(deciding: &Deciding) -> bool {
    deciding.phase().is_none_or(Phase::leaves_traffic)
}

/// Gives the side that carries nothing: where the candidate goes.
fn idle_side(deciding: &Deciding) -> Vec<InstanceName> {
    let Some(TrafficSettings { sides: [first, second], .. }) = settings(deciding) else { return Vec::new() };
    let carries =
        |name: &InstanceName| deciding.service.traffic.last_good().is_some_and(|side| side.instances.contains(name));
    if first.iter().any(carries) { second.clone() } else { first.clone() }
}

/// Tells whether the newest candidate was started on the data that this holder works on: of several folders, one that
/// failed at once has touched the first only.
pub(super) fn is_touched(deciding: &Deciding, holder: &InstanceName) -> bool {
    let Some(TrafficSettings { sides, .. }) = settings(deciding) else { return false };
    let at = sides.iter().find_map(|side| side.iter().position(|name| name == holder));
    let twins = at.map(|at| sides.iter().filter_map(move |side| side.get(at)));
    twins.into_iter().flatten().any(|name| deciding.service.traffic.touched.contains(name))
}

/// Gives one instance for each data folder, on the side that runs last-good: its data is copied and rehearsed on.
pub(super) fn holders(deciding: &Deciding) -> Option<Vec<InstanceName>> {
    let TrafficSettings { sides: [first, second], holders, .. } = settings(deciding)?;
    let carries =
        |name: &InstanceName| deciding.service.traffic.last_good().is_some_and(|side| side.instances.contains(name));
    if !second.iter().any(carries) {
        return Some(holders.clone());
    }
    // Both sides list their instances in the same order.
    let twin = |name: &InstanceName| first.iter().position(|one| one == name).and_then(|at| second.get(at)).cloned();
    Some(holders.iter().filter_map(twin).collect())
}

fn other_side(deciding: &Deciding, side: &[InstanceName]) -> Vec<InstanceName> {
    let Some(TrafficSettings { sides: [first, second], .. }) = settings(deciding) else { return Vec::new() };
    if first.iter().any(|name| side.contains(name)) { second.clone() } else { first.clone() }
}

/// Says that a release gets nothing new, and until when its tunnels may last.
fn leaving(deciding: &Deciding, side: RouteSide) -> RouteLeaving {
    let drain = settings(deciding).map_or(crate::terms::Span::ZERO, |settings| settings.drain);
    RouteLeaving { side, deadline: deciding.now.after(drain) }
}

/// Gives a route on which last-good alone carries everything.
fn route_all(deciding: &Deciding, last_good: Option<RouteSide>, left: Option<RouteSide>) -> Route {
    let salt = deciding.service.traffic.route.as_ref().map_or_else(String::new, |route| route.salt.clone());
    let leaving = left.map(|side| leaving(deciding, side)).into_iter().collect();
    Route { last_good, candidate: None, share: Share::NONE, leaving, salt }
}

/// How often the numbers of a doubt that lasts are written anew: who asks why a share waits must not read old ones.
const NUMBERS_EVERY: Span = Span::seconds(30);

/// Finds whether a release is on trial at this share: `Some(true)` while it shifts, `Some(false)` while it is watched after
/// its promotion.
fn trial(deciding: &Deciding, on: Judging, settings: &Settings) -> Option<bool> {
    let traffic = &deciding.service.traffic;
    let (on_trial, shifts) = match deciding.phase() {
        Some(Phase::Shifting { release, until, .. }) => {
            (until.is_some() && on == Judging { release: *release, share: traffic.share() }, true)
        }
        _ if !is_watched(deciding) => (false, false),
        _ => {
            let serves = traffic.last_good().is_some_and(|side| side.release == on.release);
            (serves && on.share == Share::ALL && super::forward::watches(deciding, settings), false)
        }
    };
    on_trial.then_some(shifts)
}

/// Reacts to how much a release on trial answers by a fallback: only a change is worth a record, and nobody is moved for
/// it unless so configured.
pub(super) fn degrading(deciding: &mut Deciding, on: Judging, health: Health, because: String, settings: Settings) {
    let Some(shifts) = trial(deciding, on, &settings) else { return };
    let (release, share) = (on.release, on.share);
    let known = deciding.service.traffic.degraded.as_ref().is_some_and(|one| one.release == release);
    match health {
        Health::Degraded => {
            if !known {
                let because = because.clone();
                deciding.say(Event::Traffic(TrafficEvent::Degraded { release, share, because }));
            }
            // A shift is held to what its run began with.
            let of_run = self::settings(deciding).filter(|_| shifts);
            let degraded = of_run.or(settings.traffic.as_ref()).and_then(|traffic| traffic.degraded);
            match (degraded.is_some_and(|degraded| degraded.goes_back), shifts) {
                (true, true) => returning::begin(deciding, Cause::Guard { share, because }),
                (true, false) => returning::by_itself(deciding, Cause::Guard { share, because }, settings),
                (false, _) => {}
            }
        }
        Health::Good if known => deciding.say(Event::Traffic(TrafficEvent::DegradedNoMore { release })),
        Health::Good | Health::CannotTell | Health::Broken => {}
    }
}

/// Ends the alarm about a release that nobody looks at any more: its watch is over, or nothing counts as a fallback any
/// longer.
pub(super) fn review(deciding: &mut Deciding, settings: &Settings) {
    let traffic = &deciding.service.traffic;
    let Some(release) = traffic.degraded.as_ref().map(|one| one.release) else { return };
    // A run that moves traffic is held to what it began with, and ends with the release promoted or left.
    if !is_watched(deciding) {
        return;
    }
    let counts = settings.traffic.as_ref().is_some_and(|traffic| traffic.degraded.is_some());
    // Where a run has stopped and left it its share, people are on it still.
    let has_share = traffic.route.iter().flat_map(|route| &route.candidate).any(|side| side.release == release);
    let serves = traffic.last_good().is_some_and(|side| side.release == release);
    if !counts || !(has_share || serves && super::forward::watches(deciding, settings)) {
        deciding.say(Event::Traffic(TrafficEvent::DegradedNoMore { release }));
    }
}

/// Reacts to an answer of the guards: they are asked all the time, and only a change is worth a record.
pub(super) fn judged(deciding: &mut Deciding, on: Judging, verdict: Verdict, because: String, settings: Settings) {
    let known = deciding.service.traffic.judged.as_ref().map(|judged| judged.verdict);
    let Some(shifts) = trial(deciding, on, &settings) else { return };
    let share = on.share;
    let has_grown_old =
        |judged: &Judged| judged.because != because && deciding.now.since(judged.at) >= NUMBERS_EVERY && shifts;
    let old = verdict == Verdict::CannotTell && deciding.service.traffic.judged.as_ref().is_some_and(has_grown_old);
    if known != Some(verdict) || old {
        deciding.say(Event::Traffic(TrafficEvent::Judged { share, verdict, because: because.clone() }));
    }
    match (verdict, shifts) {
        (Verdict::Fail, true) => returning::begin(deciding, Cause::Guard { share, because }),
        (Verdict::Fail, false) => returning::by_itself(deciding, Cause::Guard { share, because }, settings),
        (_, true) => shifting::go_on(deciding),
        (_, false) => {}
    }
}

/// Reacts to a release that was left and has nothing to finish any more.
pub(super) fn emptied(deciding: &mut Deciding, release: Digest) {
    let waits = deciding.service.traffic.standby_of(&release).is_some_and(|one| !one.empty && deciding.now < one.until);
    if waits {
        deciding.say(Event::Traffic(TrafficEvent::Emptied { release }));
        if matches!(deciding.phase(), Some(Phase::Shifting { .. })) {
            shifting::go_on(deciding);
        }
    }
}

/// Stops the release that stands by, if its time has come.
pub(super) fn cool(deciding: &mut Deciding) {
    let traffic = &deciding.service.traffic;
    let is_time = traffic.cools_at().is_some_and(|at| at <= deciding.now);
    let Some(standby) = traffic.standby.clone().filter(|_| is_time) else {
        return deciding.end(End::Cooled);
    };
    for instance in standby.side.instances {
        deciding.order(Effect::Stop { instance });
    }
}

pub(super) fn cooled(deciding: &mut Deciding, answer: Answer) {
    match answer {
        Answer::Stopped => {
            if let Some(Phase::Cooling { left }) = deciding.phase()
                && left.is_empty()
            {
                deciding.end(End::Cooled);
            }
        }
        Answer::Failed { failure } | Answer::Hindered { failure } => deciding.stop(failure),
        _ => deciding.stop(super::gates::unexpected("stop")),
    }
}

/// Gives the time at which a tick changes something while traffic moves.
pub(super) fn wakes_at(deciding: &super::Service, now: Timestamp) -> Option<Timestamp> {
    let run = deciding.run.as_ref()?;
    if let Some(at) = returning::gives_up_at(deciding) {
        return Some(at).filter(|at| *at > now);
    }
    let settings = run.settings.traffic.as_ref()?;
    let Phase::Shifting { until, ordered, unproven, .. } = &run.phase else { return None };
    let drained = deciding.traffic.standby.as_ref().filter(|_| *ordered == 0).and_then(|_| {
        let route = deciding.traffic.route.as_ref()?;
        route.leaving.iter().map(|one| one.deadline.after(CLOSING)).max()
    });
    let over = until.map(|until| shifting::doubted_since(deciding, until).after(settings.cannot_tell_max));
    let unproven = unproven.iter().flat_map(|unproven| proving::times(unproven, settings));
    [*until, over, drained].into_iter().flatten().chain(unproven).filter(|at| *at > now).min()
}

fn failure_of(answer: Answer, what: &str) -> (Failure, bool) {
    super::forward::failure_of(answer, what)
}
