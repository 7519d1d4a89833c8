//! Moving instances to the candidate, wave by wave.

use super::{
    Deciding, back_off, gates,
    plan::{self, Moves},
    returning, traffic,
};
use crate::{
    effect::{Answer, Effect},
    event::{Cause, DeferReason, End, Event, Settings},
    facts::Busyness,
    failure::Failure,
    service::{MoveStep, Phase},
    terms::{Digest, InstanceName, Span},
};
use alloc::{collections::BTreeMap, format, string::String, vec::Vec};

/// Seals the plan and asks the first instance.
pub(super) fn begin(deciding: &mut Deciding) {
    let Some(Phase::Rehearsing { release, scope, instance, .. }) = deciding.phase() else { return };
    let (release, mut instances, rehearsed) = (*release, scope.clone(), instance.clone());
    if let Some(canary) = deciding.settings().and_then(|settings| settings.canary.clone())
        && let Some(at) = instances.iter().position(|name| *name == canary)
    {
        let canary = instances.remove(at);
        instances.insert(0, canary);
    }
    let way_back = deciding.service.installed.get(&release).and_then(|known| known.way_back);
    let plan = plan::digest(deciding, Moves::Instances, &release, way_back, &instances);
    deciding.say(Event::MoveBegun { plan, release, instances: instances.clone() });
    defer_unrehearsed(deciding, &instances, &rehearsed);
    next_wave(deciding);
}

/// Leaves alone whose data is of another release than what was rehearsed on: nobody has seen the candidate
/// read it. A later run rehearses on it, once the others are through.
fn defer_unrehearsed(deciding: &mut Deciding, instances: &[InstanceName], rehearsed: &InstanceName) {
    let data = |deciding: &Deciding, name: &InstanceName| {
        deciding.service.instances.get(name).and_then(|instance| instance.data)
    };
    let seen = data(deciding, rehearsed);
    for instance in instances {
        let own = data(deciding, instance);
        if own != seen {
            let [own, seen] = [own, seen].map(|data| deciding.service.name_of(data.as_ref()));
            let why = format!("its data is of {own}, rehearsed was data of {seen}: a later run rehearses it");
            deciding.say(Event::Deferred { instance: instance.clone(), why, reason: DeferReason::Unrehearsed });
        }
    }
}

fn steps(deciding: &Deciding) -> Option<&BTreeMap<InstanceName, MoveStep>> {
    match deciding.phase() {
        Some(Phase::Moving { steps, .. }) => Some(steps),
        _ => None,
    }
}

fn is_active(step: &MoveStep) -> bool {
    !matches!(step, MoveStep::Waiting | MoveStep::Moved | MoveStep::Deferred)
}

/// Begins the next wave; the first is the canary, one instance, whatever the wave size.
fn next_wave(deciding: &mut Deciding) {
    let Some(Phase::Moving { wave, steps, .. }) = deciding.phase() else { return };
    let number = wave + 1;
    if number > 1 && !steps.values().any(|step| *step == MoveStep::Waiting) {
        return finish(deciding);
    }
    let size = if number == 1 { 1 } else { deciding.settings().map_or(1, |s| s.wave_size.max(1)) };
    deciding.say(Event::WaveBegun { number, size });
    go_on(deciding);
}

/// Fills the wave, then watches it, then begins the next, until nobody waits.
fn go_on(deciding: &mut Deciding) {
    loop {
        if let Some(because) = gates::blocked(deciding) {
            defer_waiting(deciding, &because);
        }
        let Some(Phase::Moving { steps, queue, wave_size, release, soak_until, .. }) = deciding.phase() else {
            return;
        };
        let release = *release;
        let active = steps.values().filter(|step| is_active(step)).count();
        let soaking = steps.values().filter(|step| **step == MoveStep::Soaking).count();
        let waiting = queue.iter().find(|name| steps.get(*name) == Some(&MoveStep::Waiting)).cloned();
        match waiting {
            Some(instance) if active < *wave_size as usize && soak_until.is_none() => {
                ask(deciding, instance, release);
            }
            _ if active > soaking => return,
            _ if soaking > 0 => return soak(deciding),
            Some(_) => return next_wave(deciding),
            None => return finish(deciding),
        }
    }
}

fn ask(deciding: &mut Deciding, instance: InstanceName, candidate: Digest) {
    match deciding.service.instances.get(&instance).and_then(|one| one.release) {
        Some(release) if release != candidate => deciding.order(Effect::Probe { instance, release }),
        // Nothing ran here before, so there is nothing to compare with.
        _ => deciding.order(Effect::AskBusy { instance }),
    }
}

fn defer_waiting(deciding: &mut Deciding, because: &str) {
    let waiting: Vec<InstanceName> = steps(deciding)
        .into_iter()
        .flatten()
        .filter(|(_, step)| **step == MoveStep::Waiting)
        .map(|(name, _)| name.clone())
        .collect();
    for instance in waiting {
        deciding.say(Event::Deferred { instance, why: because.into(), reason: DeferReason::Other });
    }
}

fn defer(deciding: &mut Deciding, instance: InstanceName, reason: DeferReason, why: String) {
    deciding.say(Event::Deferred { instance, why, reason });
    go_on(deciding);
}

/// Watches the wave, or passes it at once where no soak is wanted.
fn soak(deciding: &mut Deciding) {
    let Some(Phase::Moving { soak_until, .. }) = deciding.phase() else { return };
    let begun = soak_until.is_some();
    let span = deciding.settings().map_or(Span::ZERO, |settings| settings.soak);
    if span == Span::ZERO {
        for instance in in_step(deciding, &MoveStep::Soaking) {
            deciding.say(Event::Moved { instance });
        }
        next_wave(deciding);
    } else if !begun {
        let until = deciding.now.after(span);
        deciding.say(Event::SoakBegun { until });
    }
}

fn in_step(deciding: &Deciding, wanted: &MoveStep) -> Vec<InstanceName> {
    let steps = steps(deciding).into_iter().flatten();
    steps.filter(|(_, step)| *step == wanted).map(|(name, _)| name.clone()).collect()
}

/// Ends a soak whose time has come: everyone in the wave is probed again.
pub(super) fn tick(deciding: &mut Deciding) {
    let Some(Phase::Moving { soak_until: Some(until), release, .. }) = deciding.phase() else { return };
    let (release, until) = (*release, *until);
    let span = deciding.settings().map_or(Span::ZERO, |settings| settings.soak);
    if deciding.now.after(span) < until {
        // The clock was set back: the soak begins again, so that it ends at all.
        let until = deciding.now.after(span);
        return deciding.say(Event::SoakBegun { until });
    }
    if deciding.now < until {
        return;
    }
    for instance in in_step(deciding, &MoveStep::Soaking) {
        deciding.order(Effect::Probe { instance, release });
    }
}

pub(super) fn answered(deciding: &mut Deciding, effect: Effect, answer: Answer) {
    let Some(instance) = effect.instance().cloned() else { return };
    let Some(Phase::Moving { release, steps, .. }) = deciding.phase() else { return };
    let release = *release;
    let Some(step) = steps.get(&instance).cloned() else { return };
    match step {
        MoveStep::Baselining => match answer {
            Answer::ProbePassed { .. } => deciding.order(Effect::AskBusy { instance }),
            Answer::Failed { failure } | Answer::Hindered { failure } => {
                // Its own trouble or a broken gate: in no case the candidate's, which has not run yet.
                defer(
                    deciding,
                    instance,
                    DeferReason::Other,
                    format!("its probe fails before the move already: {failure}"),
                );
            }
            _ => defer(deciding, instance, DeferReason::Other, "its probe answered something else".into()),
        },
        MoveStep::Asking => match in_use(answer) {
            None => match gates::blocked(deciding) {
                Some(because) => defer(deciding, instance, DeferReason::Other, because),
                // The stop follows the check with nothing in between.
                None => deciding.order(Effect::Stop { instance }),
            },
            Some((reason, why)) => defer(deciding, instance, reason, why),
        },
        MoveStep::Stopping => match answer {
            Answer::Stopped => {
                let snapshot = deciding.next_snapshot();
                deciding.order(Effect::SnapshotStopped { instance, snapshot });
            }
            Answer::NotStopped { failure } => {
                defer(deciding, instance, DeferReason::Other, format!("it can't be started on it: {failure}"));
            }
            other => machine_failed(deciding, instance, other, "stop"),
        },
        MoveStep::Keeping { .. } => match answer {
            Answer::Snapshotted { .. } => start(deciding, instance, release),
            other => machine_failed(deciding, instance, other, "snapshot at the stop"),
        },
        MoveStep::Starting => match answer {
            Answer::Started { .. } => deciding.order(Effect::Probe { instance, release }),
            other => candidate_failed(deciding, instance, other, "start"),
        },
        MoveStep::Probing | MoveStep::Reprobing | MoveStep::Soaking => match answer {
            Answer::ProbePassed { .. } => probed(deciding, instance, &step),
            other => candidate_failed(deciding, instance, other, "probe"),
        },
        // No order of these steps is outstanding.
        MoveStep::Waiting | MoveStep::Moved | MoveStep::Deferred => {}
    }
}

/// Says why an instance counts as busy by what its check answered; none if it is idle. No usable answer is no idle one.
pub(super) fn in_use(answer: Answer) -> Option<(DeferReason, String)> {
    let unknown = |why: &str| (DeferReason::CannotTell, format!("cannot tell whether it is busy: {why}"));
    match answer {
        Answer::BusyAsked { busyness: Busyness::Idle } => None,
        Answer::BusyAsked { busyness: Busyness::Busy(why) } => Some((DeferReason::Busy, format!("busy: {why}"))),
        Answer::BusyAsked { busyness: Busyness::CannotTell(why) } => Some(unknown(&why)),
        Answer::Failed { failure } | Answer::Hindered { failure } => Some(unknown(&format!("{failure}"))),
        _ => Some((DeferReason::CannotTell, "the busy check answered something else".into())),
    }
}

fn start(deciding: &mut Deciding, instance: InstanceName, release: Digest) {
    match gates::blocked(deciding) {
        // Stopped, but its data is untouched: it opens again on what it ran.
        Some(because) => returning::halted(deciding, because),
        None => deciding.order(Effect::Start { instance, release }),
    }
}

fn probed(deciding: &mut Deciding, instance: InstanceName, step: &MoveStep) {
    if *step != MoveStep::Reprobing {
        return go_on(deciding);
    }
    deciding.say(Event::Moved { instance });
    if in_step(deciding, &MoveStep::Reprobing).is_empty() {
        next_wave(deciding);
    }
}

pub(super) fn failure_of(answer: Answer, what: &str) -> (Failure, bool) {
    match answer {
        Answer::Failed { failure } => (failure, true),
        Answer::Hindered { failure } => (failure, false),
        _ => (gates::unexpected(what), false),
    }
}

fn machine_failed(deciding: &mut Deciding, instance: InstanceName, answer: Answer, what: &str) {
    let (failure, _) = failure_of(answer, what);
    returning::begin(deciding, Cause::Machine { instance, failure });
}

fn candidate_failed(deciding: &mut Deciding, instance: InstanceName, answer: Answer, what: &str) {
    let cause = match failure_of(answer, what) {
        (failure, true) => Cause::Candidate { instance, failure },
        (failure, false) => Cause::Machine { instance, failure },
    };
    returning::begin(deciding, cause);
}

/// Ends the forward way: last-good moves only after full success.
fn finish(deciding: &mut Deciding) {
    let Some(Phase::Moving { release, steps, baseline_failure, unstartable, .. }) = deciding.phase() else { return };
    let (release, baseline_failure, unstartable) = (*release, baseline_failure.clone(), unstartable.clone());
    let moved: Vec<InstanceName> =
        steps.iter().filter(|(_, step)| **step == MoveStep::Moved).map(|(name, _)| name.clone()).collect();
    let runs = |name: &InstanceName| deciding.service.instances.get(name).and_then(|one| one.release);
    let (on_it, behind): (Vec<InstanceName>, Vec<InstanceName>) = deciding
        .settings()
        .map(|settings| settings.instances.clone())
        .unwrap_or_default()
        .into_iter()
        .partition(|name| runs(name) == Some(release));
    if let Some(because) = gates::blocked(deciding) {
        return deciding.end(End::Held { because, moved, went_back: false });
    }
    if moved.is_empty() && (on_it.is_empty() || deciding.service.last_good == Some(release)) {
        return deciding.end(match (baseline_failure, unstartable) {
            (Some(failure), _) => End::GateBroken { failure },
            (None, Some(failure)) => End::Stopped { failure },
            (None, None) => End::Waiting { because: "no instance could move: each is busy or can't be asked".into() },
        });
    }
    deciding.say(Event::Promoted { release, behind });
    deciding.end(End::Promoted);
}

/// Unasked ends of one instance after which a release on watch counts as failed.
const DEATHS_MAX: u32 = 3;

/// Reacts to a process that ended by itself.
pub(super) fn died(deciding: &mut Deciding, instance: InstanceName, why: String, settings: Settings) {
    let in_trial = steps(deciding).and_then(|steps| steps.get(&instance)).is_some_and(|step| {
        matches!(step, MoveStep::Probing | MoveStep::Soaking | MoveStep::Reprobing | MoveStep::Moved)
    });
    // Whose it is stands in the cause.
    let failure =
        Failure::new("instance-died", format!("it died: {why}"), Some("read its output.log in the state folder"));
    if in_trial {
        return returning::begin(deciding, Cause::Candidate { instance, failure });
    }
    let deaths = deciding.service.instances.get(&instance).map_or(0, |one| one.deaths);
    let again_at = deciding.now.after(back_off(deaths));
    deciding.say(Event::Died { instance: instance.clone(), why, again_at });
    if settings.traffic.is_some() {
        if traffic::shifting::died(deciding, &instance, &failure) {
            return;
        }
        traffic::returning::died(deciding, &instance);
        let carries = deciding.service.traffic.carries(&instance);
        if deaths + 1 >= DEATHS_MAX && carries && traffic::is_watched(deciding) && watches(deciding, &settings) {
            traffic::returning::by_itself(deciding, Cause::Candidate { instance, failure }, settings);
        }
        return;
    }
    if deaths + 1 >= DEATHS_MAX && deciding.service.run.is_none() && watches(deciding, &settings) {
        returning::by_itself(deciding, Cause::Candidate { instance, failure }, settings);
    }
}

/// Reacts to a start after a death that the machine hindered: it is tried again later and later, and blames nobody.
pub(super) fn not_revived(deciding: &mut Deciding, instance: InstanceName, failure: Failure) {
    let known = deciding.service.instances.get(&instance);
    let tries = known.map_or(0, |one| one.deaths.saturating_add(one.hindered));
    let again_at = deciding.now.after(back_off(tries));
    deciding.say(Event::NotRevived { instance, failure, again_at });
}

/// Tells whether last-good is young enough that a late failure goes back by itself.
///
/// One that became last-good again by a rollback is not young: without this, trouble of another kind would
/// take the service back release by release.
pub(super) fn watches(deciding: &Deciding, settings: &Settings) -> bool {
    if deciding.service.previous_good.is_none() {
        return false;
    }
    let age = deciding.service.promoted_at.map(|promoted| deciding.now.since(promoted));
    age.is_some_and(|age| age < settings.watch)
}
