//! What comes of each order on the way back, instance by instance, until all of it is over.

use super::super::{Deciding, concluding, forward};
use crate::{
    effect::{Answer, Effect},
    event::{Aim, Back, Cause, End, Event},
    facts::Loss,
    service::{HELD_PAUSE_MAX, Phase, ReturnStep},
    terms::{Digest, InstanceName, Span, Timestamp},
};
use alloc::{collections::BTreeMap, format, vec::Vec};

/// Tries of each order on the way back: a rollback that gives up at the first hiccup strands people.
const TRIES_MAX: u32 = 3;

/// Longest time that somebody who has the data open is waited for: a backup of one instance, or a person at a shell.
const HELD_MAX: Span = Span::minutes(5);

fn ways(deciding: &Deciding) -> Option<&BTreeMap<InstanceName, (Back, ReturnStep)>> {
    match deciding.phase() {
        Some(Phase::Returning { back, .. }) => Some(back),
        _ => None,
    }
}

pub(in crate::rollout) fn answered(deciding: &mut Deciding, effect: Effect, answer: Answer) {
    let Some(instance) = effect.instance().cloned() else { return };
    let Some((one, step)) = ways(deciding).and_then(|ways| ways.get(&instance)).cloned() else { return };
    match step {
        ReturnStep::Asking => match forward::in_use(answer) {
            // The stop follows the check with nothing in between.
            None => deciding.order(Effect::Stop { instance }),
            Some((reason, why)) => deciding.say(Event::Deferred { instance, why, reason }),
        },
        ReturnStep::Stopping { tries } => match answer {
            Answer::Stopped => stopped(deciding, &one),
            other => again_or_reopen(deciding, &one, effect, other, tries),
        },
        ReturnStep::Measuring => measured(deciding, &one, answer),
        ReturnStep::Restoring { tries, held, .. } => match answer {
            Answer::Restored { .. } => restored(deciding, &one),
            other if other.is_still_held() => still_held(deciding, &one, other, held),
            other => again_or_fail(deciding, &one, effect, other, tries),
        },
        ReturnStep::Starting { tries } => match answer {
            Answer::Started { .. } => {
                let release = one.to.unwrap_or(Digest([0; 32]));
                deciding.order(Effect::Probe { instance, release });
            }
            // Data that a restore has taken apart is made whole by a restore.
            other if other.blames_release() || other.is_half_restored() => {
                again_or_with_data(deciding, &one, effect, other, tries);
            }
            // Nothing was started, so nothing is proven against last-good on this data.
            other => again_or_reopen(deciding, &one, effect, other, tries),
        },
        ReturnStep::Probing { tries } => match answer {
            Answer::ProbePassed { .. } => deciding.say(Event::Returned { instance }),
            other if other.blames_release() => again_or_with_data(deciding, &one, effect, other, tries),
            other => again_or_fail(deciding, &one, effect, other, tries),
        },
        // The fold of the answer has moved it from reopening to held.
        ReturnStep::Reopening
        | ReturnStep::FailedReopening
        | ReturnStep::Waiting
        | ReturnStep::Returned
        | ReturnStep::Held
        | ReturnStep::Failed
        | ReturnStep::Deferred => {}
    }
    finish_if_over(deciding);
}

fn stopped(deciding: &mut Deciding, one: &Back) {
    let instance = one.instance.clone();
    match (one.with_data, one.snapshot, one.to) {
        (true, Some(snapshot), _) => deciding.order(Effect::Measure { instance, snapshot }),
        (_, _, Some(release)) => deciding.order(Effect::Start { instance, release }),
        (_, _, None) => deciding.say(Event::Returned { instance }),
    }
}

fn measured(deciding: &mut Deciding, one: &Back, answer: Answer) {
    let instance = one.instance.clone();
    let Some(snapshot) = one.snapshot else { return };
    let age = one.since.map_or(Span::ZERO, |since| deciding.now.since(since));
    let loss = match answer {
        Answer::Measured { loss } => Some(loss),
        _ => None,
    };
    if exceeds(deciding, &instance, loss, age) {
        let loss = loss.unwrap_or_default();
        deciding.say(Event::ReturnHeld { instance: instance.clone(), loss, age });
        if let Some(release) = opens(deciding, one) {
            deciding.order(Effect::Start { instance, release });
        }
    } else {
        deciding.order(Effect::Restore { instance, snapshot });
    }
}

/// Finds what can read an instance's data as it is.
///
/// Last-good may have been tried on this data in vain: what wrote it can read it.
fn opens(deciding: &Deciding, one: &Back) -> Option<Digest> {
    let known = deciding.service.instances.get(&one.instance)?;
    if known.release == one.to { known.data } else { known.release }
}

/// Waits while somebody has the data open; after a while the instance opens again on its data, which is untouched.
fn still_held(deciding: &mut Deciding, one: &Back, answer: Answer, held: Option<Timestamp>) {
    if held.is_some_and(|since| deciding.now.since(since) < HELD_MAX) {
        // The fold of the answer has noted when it is looked at again.
        return;
    }
    let reopens = opens(deciding, one);
    fail(deciding, one, answer, reopens);
}

/// Finds when it is looked again whether data is still open elsewhere.
pub(in crate::rollout) fn wakes_at(back: &BTreeMap<InstanceName, (Back, ReturnStep)>) -> Option<Timestamp> {
    let waits = back.values().filter_map(|(_, step)| match step {
        ReturnStep::Restoring { again_at, .. } => *again_at,
        _ => None,
    });
    waits.min()
}

/// Orders the restores again that somebody was in the way of.
pub(in crate::rollout) fn tick(deciding: &mut Deciding) {
    let now = deciding.now;
    // A clock that was set back must not let an instance be down for long.
    let is_due = |at: Timestamp| at <= now || now.after(HELD_PAUSE_MAX) < at;
    let due = ways(deciding).into_iter().flatten().filter_map(|(instance, (one, step))| match step {
        ReturnStep::Restoring { again_at: Some(at), .. } if is_due(*at) => Some((instance.clone(), one.snapshot?)),
        _ => None,
    });
    for (instance, snapshot) in due.collect::<Vec<_>>() {
        deciding.order(Effect::Restore { instance, snapshot });
    }
}

/// Tells whether a restore would drop more than the bound that holds without a person's word.
///
/// Data that can't be measured is judged by its age alone; it is kept aside in any case.
pub(super) fn exceeds(deciding: &Deciding, instance: &InstanceName, loss: Option<Loss>, age: Span) -> bool {
    let Some(run) = &deciding.service.run else { return true };
    if let Aim::Back { accept_loss, .. } = &run.aim
        && accept_loss.contains(instance)
    {
        return false;
    }
    let settings = &run.settings;
    let is_old = age > settings.loss_age_max;
    loss.map_or(is_old, |loss| {
        loss.rows > settings.loss_rows_max
            || loss.files > settings.loss_files_max
            || (loss != Loss::default() && is_old)
    })
}

fn restored(deciding: &mut Deciding, one: &Back) {
    let instance = one.instance.clone();
    match one.to {
        Some(release) => deciding.order(Effect::Start { instance, release }),
        None => deciding.say(Event::Returned { instance }),
    }
}

fn again_or_fail(deciding: &mut Deciding, one: &Back, effect: Effect, answer: Answer, tries: u32) {
    if tries < TRIES_MAX {
        return deciding.order(effect);
    }
    fail(deciding, one, answer, None);
}

/// What the machine keeps from being done leaves the data alone: the instance opens again on what can read it.
fn again_or_reopen(deciding: &mut Deciding, one: &Back, effect: Effect, answer: Answer, tries: u32) {
    if tries < TRIES_MAX {
        return deciding.order(effect);
    }
    // To open on the target itself was tried just now, and what stays as it is has nothing else.
    let moves = !answer.blames_release() && one.snapshot.is_some() && one.to.is_some();
    let reopens = opens(deciding, one).filter(|release| moves && Some(*release) != one.to);
    fail(deciding, one, answer, reopens);
}

fn fail(deciding: &mut Deciding, one: &Back, answer: Answer, reopens: Option<Digest>) {
    let (failure, _) = forward::failure_of(answer, "the way back");
    let instance = one.instance.clone();
    deciding.say(Event::ReturnFailed { instance: instance.clone(), failure, reopens });
    if let Some(release) = reopens {
        deciding.order(Effect::Start { instance, release });
    }
}

/// When last-good does not work on data it was proven to work on, its own data goes back as well.
fn again_or_with_data(deciding: &mut Deciding, one: &Back, effect: Effect, answer: Answer, tries: u32) {
    match one.snapshot {
        Some(snapshot) if !one.with_data && tries >= 2 => {
            let instance = one.instance.clone();
            deciding.say(Event::ReturnWithData { instance: instance.clone(), snapshot });
            deciding.order(Effect::Stop { instance });
        }
        _ => again_or_fail(deciding, one, effect, answer, tries),
    }
}

pub(super) fn finish_if_over(deciding: &mut Deciding) {
    let Some(Phase::Returning { cause, left, back }) = deciding.phase() else { return };
    if !back.values().all(|(_, step)| step.is_over()) {
        return;
    }
    let (cause, left) = (cause.clone(), *left);
    let named = |wanted: ReturnStep| -> Vec<InstanceName> {
        back.iter().filter(|(_, (_, step))| *step == wanted).map(|(name, _)| name.clone()).collect()
    };
    let (failed, held) = (named(ReturnStep::Failed), named(ReturnStep::Held));
    if !back.is_empty() && named(ReturnStep::Deferred).len() == back.len() {
        // Nobody was touched, so nothing is left yet.
        let pinned = End::RolledBack { cause }.because();
        let because = format!("{pinned}; nobody could go back: each is busy or can't be asked");
        return deciding.end(End::Waiting { because });
    }
    let target = back.values().map(|(one, _)| one.to).find(|to| *to != left).flatten();
    let everyone = deciding.service.instances.values().all(|one| one.release != left);
    // What halted the run stands already: nothing is to blame and nothing more to freeze.
    if !matches!(cause, Cause::Halted { .. }) {
        concluding::conclude(deciding, &cause, left, target, everyone);
    }
    deciding.end(match cause {
        _ if !failed.is_empty() => End::RollbackFailed { instances: failed },
        _ if !held.is_empty() => End::RollbackHeld { instances: held },
        Cause::Halted { because } => End::Held { because, moved: stayed(deciding, left), went_back: false },
        cause => End::RolledBack { cause },
    });
}

/// Finds who stays on a release that is not last-good.
fn stayed(deciding: &Deciding, release: Option<Digest>) -> Vec<InstanceName> {
    let is_new = release.is_some() && release != deciding.service.last_good;
    let instances = deciding.service.instances.iter().filter(|(_, one)| is_new && one.release == release);
    instances.map(|(name, _)| name.clone()).collect()
}
