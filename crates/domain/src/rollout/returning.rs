//! Going back: code, then data where it must, for exactly the instances that moved.

use super::{Deciding, IllegalStep, concluding, forward, gates};
use crate::{
    effect::{Answer, Effect},
    event::{Aim, Back, Cause, End, Event, Settings, WayBack},
    facts::Loss,
    service::{Condition, HELD_PAUSE_MAX, Instance, MoveStep, Moved, Phase, ReturnStep, Service},
    terms::{Digest, InstanceName, ReleaseTag, RunId, Span, Timestamp},
};
use alloc::{collections::BTreeMap, format, string::String, vec::Vec};

/// Tries of each order on the way back: a rollback that gives up at the first hiccup strands people.
const TRIES_MAX: u32 = 3;

/// Longest time that somebody who has the data open is waited for: a backup of one instance, or a person at a shell.
const HELD_MAX: Span = Span::minutes(5);

/// Takes back every instance this run has touched.
pub(super) fn begin(deciding: &mut Deciding, cause: Cause) {
    let Some(Phase::Moving { steps, .. }) = deciding.phase() else { return };
    let touched: Vec<InstanceName> =
        steps.iter().filter(|(_, step)| is_touched(step)).map(|(name, _)| name.clone()).collect();
    let back = touched.iter().filter_map(|name| undo_last(deciding, name)).collect();
    let left = left_by(deciding);
    go(deciding, cause, back, left);
}

/// Opens stopped instances again on what they ran; those that moved and passed stay.
pub(super) fn halted(deciding: &mut Deciding, because: String) {
    let Some(Phase::Moving { steps, .. }) = deciding.phase() else { return };
    let unfinished: Vec<InstanceName> = steps
        .iter()
        .filter(|(_, step)| is_touched(step) && **step != MoveStep::Moved)
        .map(|(name, _)| name.clone())
        .collect();
    let back = unfinished.iter().filter_map(|name| undo_last(deciding, name)).collect();
    let left = left_by(deciding);
    go(deciding, Cause::Halted { because }, back, left);
}

fn is_touched(step: &MoveStep) -> bool {
    match step {
        MoveStep::Waiting | MoveStep::Baselining | MoveStep::Asking | MoveStep::Deferred => false,
        MoveStep::Stopping
        | MoveStep::Keeping { .. }
        | MoveStep::Starting
        | MoveStep::Probing
        | MoveStep::Soaking
        | MoveStep::Reprobing
        | MoveStep::Moved => true,
    }
}

/// Says how to undo what this run did to one instance.
fn undo_last(deciding: &Deciding, name: &InstanceName) -> Option<Back> {
    let instance = deciding.service.instances.get(name)?;
    let step = match deciding.phase() {
        Some(Phase::Moving { steps, .. }) => steps.get(name)?,
        _ => return None,
    };
    match step {
        // Stopped, but the candidate never touched its data.
        MoveStep::Stopping | MoveStep::Keeping { .. } => Some(stay(instance, name)),
        _ => undo(instance, name),
    }
}

/// Finds the release that the run under way moves to or leaves.
pub(super) fn left_by(deciding: &Deciding) -> Option<Digest> {
    match deciding.phase()? {
        Phase::Moving { release, .. } => Some(*release),
        Phase::Returning { left, .. } => *left,
        _ => None,
    }
}

/// What a rollback finds under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TakenOver {
    /// No run.
    Nothing,
    /// A run that checks, installs, copies or rehearses: it has touched no instance.
    Untouched,
    /// A run that moves to this release or leaves it; none where it leaves nothing in particular.
    Of(Option<Digest>),
}

/// Tells what a rollback takes over.
pub(super) fn taken_over(deciding: &Deciding) -> TakenOver {
    match deciding.phase() {
        None => TakenOver::Nothing,
        Some(
            Phase::Checking
            | Phase::Installing { .. }
            | Phase::Snapshotting { .. }
            | Phase::Rehearsing { .. }
            | Phase::Shifting { .. }
            | Phase::Unshifting { .. }
            | Phase::Cooling { .. },
        ) => TakenOver::Untouched,
        Some(Phase::Moving { .. } | Phase::Returning { .. }) => TakenOver::Of(left_by(deciding)),
    }
}

/// Answers a person's order to go back; open from every state.
///
/// Whatever the run that is taken over left between two releases goes back as well, named or not: nobody else
/// would bring it to an end.
pub(super) fn asked(
    deciding: &mut Deciding,
    to: Option<ReleaseTag>,
    only: &[InstanceName],
    reason: String,
    found: TakenOver,
) -> Result<(), IllegalStep> {
    let taken_over = match found {
        TakenOver::Of(left) => left,
        TakenOver::Nothing | TakenOver::Untouched => None,
    };
    let target =
        match &to {
            None => None,
            Some(tag) => Some(*deciding.service.tags.get(tag).ok_or_else(|| {
                IllegalStep::NoWayBack(format!("{tag} never ran here, so there is no way back to it"))
            })?),
        };
    let names: Vec<InstanceName> = deciding.service.instances.keys().cloned().collect();
    let left = to_leave(deciding, taken_over, only);
    let mut back = Vec::new();
    for name in &names {
        let Some(instance) = deciding.service.instances.get(name) else { continue };
        let named = only.is_empty() || only.contains(name);
        let one = match target {
            _ if !named && instance.condition != Condition::Between => continue,
            Some(_) if named => path_back(deciding, name, target).map_err(IllegalStep::NoWayBack)?,
            _ if instance.release == left || instance.half_undone().is_some() => undo(instance, name),
            _ => None,
        };
        back.extend(one.or_else(|| (!instance.is_settled()).then(|| stay(instance, name))));
    }
    // What ran no other release stays as it is, named or not: stopping it is no way back. A run that is taken over
    // did start it, and takes that back.
    if taken_over.is_none() {
        back.retain(|one| one.to.is_some() || !is_settled(deciding, one));
    }
    // A move that was taken over before it touched anything is over with that: what it was about is left.
    let is_abort = target.is_none() && taken_over.is_some() && left == taken_over;
    let leads_nowhere = taken_over.is_none() && back.is_empty();
    // With nowhere to go back to, or everybody there already, a run that has touched nobody still ends: nothing is left
    // and nothing rejected.
    let runs = |release| deciding.service.instances.values().all(|one| one.release == Some(release));
    let is_there = target.is_none_or(|target| Some(target) == deciding.service.last_good && runs(target));
    if leads_nowhere && found == TakenOver::Untouched && is_there && only.is_empty() {
        go(deciding, Cause::Asked { reason }, back, None);
        return Ok(());
    }
    if leads_nowhere && !is_abort {
        let wanted = to.map_or_else(|| "an earlier release".into(), |tag| format!("{tag}"));
        return Err(IllegalStep::NoWayBack(format!(
            "no instance has a way back to {wanted}: none has moved since it was set up"
        )));
    }
    // Going to a named release leaves what its instances run, and never the release it goes to.
    let left = match target {
        Some(_) => leaves(deciding, &back).or(taken_over).filter(|left| Some(*left) != target),
        None => left,
    };
    go(deciding, Cause::Asked { reason }, back, left);
    Ok(())
}

fn is_settled(deciding: &Deciding, one: &Back) -> bool {
    deciding.service.instances.get(&one.instance).is_some_and(Instance::is_settled)
}

fn leaves(deciding: &Deciding, back: &[Back]) -> Option<Digest> {
    back.iter().find_map(|one| {
        let runs = deciding.service.instances.get(&one.instance).and_then(|instance| instance.release);
        runs.filter(|_| runs != one.to)
    })
}

/// Finds the release that a rollback without a target leaves.
///
/// It is what the run it takes over was about, unless it names instances and that run has touched nothing;
/// else one on trial, which runs and has not passed; else last-good.
fn to_leave(deciding: &Deciding, taken_over: Option<Digest>, only: &[InstanceName]) -> Option<Digest> {
    let service = &deciding.service;
    let touched = service.instances.values().any(|instance| {
        instance.condition == Condition::Between || taken_over.is_some() && instance.release == taken_over
    });
    if taken_over.is_some() && (touched || only.is_empty()) {
        return taken_over;
    }
    let runs = service.instances.values().filter_map(|instance| instance.release);
    let on_trial = runs.filter(|release| Some(*release) != service.last_good).find(|one| !service.passed.contains(one));
    on_trial.or(service.last_good)
}

/// Undoes an instance's newest move.
fn undo(instance: &Instance, name: &InstanceName) -> Option<Back> {
    let moved = instance.history.last()?;
    if Some(moved.to) != instance.release && instance.half_undone().is_none() {
        return None;
    }
    Some(Back {
        instance: name.clone(),
        to: moved.from,
        snapshot: Some(moved.snapshot),
        with_data: needs_data(instance, moved),
        since: Some(moved.at),
    })
}

/// Tells whether undoing a move takes the data back too.
///
/// Without data is proven only for what the move's own release left: not for data that a later one migrated.
fn needs_data(instance: &Instance, moved: &Moved) -> bool {
    moved.way_back != WayBack::CodeOnly || instance.data != Some(moved.to)
}

/// Gives the instances that run `target` on data that another release left, each with that release: going there takes
/// code back and no data, or was there already and has nothing to take back.
pub fn keeps_data(service: &Service, target: &Digest) -> BTreeMap<InstanceName, Digest> {
    let left = |instance: &Instance| {
        let data = instance.data.filter(|data| data != target)?;
        if instance.release == Some(*target) {
            return instance.half_undone().is_none_or(|moved| !needs_data(instance, moved)).then_some(data);
        }
        for moved in instance.history.iter().rev() {
            if needs_data(instance, moved) {
                return None;
            }
            if moved.from == Some(*target) {
                return Some(data);
            }
        }
        None
    };
    service.instances.iter().filter_map(|(name, instance)| Some((name.clone(), left(instance)?))).collect()
}

/// Opens an instance again on what it runs, its data as it is.
fn stay(instance: &Instance, name: &InstanceName) -> Back {
    let (to, snapshot, since) = (instance.release, None, None);
    Back { instance: name.clone(), to, snapshot, with_data: false, since }
}

/// Begins a way back without anybody's order, outside a run.
pub(super) fn by_itself(deciding: &mut Deciding, cause: Cause, settings: Settings) {
    let left = deciding.service.last_good;
    let instances = deciding.service.instances.iter();
    let back: Vec<Back> = instances
        .filter(|(_, instance)| instance.release == left)
        .filter_map(|(name, instance)| undo(instance, name))
        .filter(|one| one.to.is_some())
        .collect();
    if back.is_empty() {
        return;
    }
    let reason = End::RolledBack { cause: cause.clone() }.because();
    let aim = Aim::Back { to: None, instances: Vec::new(), accept_loss: Vec::new(), reason };
    let run = RunId(deciding.service.next.run);
    deciding.say(Event::RunStarted { run, aim, settings });
    go(deciding, cause, back, left);
}

/// Goes back to an older pinned release where instances came from it; tells whether it does.
pub(super) fn pinned(deciding: &mut Deciding, tag: &ReleaseTag) -> bool {
    let Some(target) = deciding.service.tags.get(tag).copied() else { return false };
    let names: Vec<InstanceName> = deciding.service.instances.keys().cloned().collect();
    let mut back = Vec::new();
    for name in &names {
        match path_back(deciding, name, Some(target)) {
            Ok(Some(one)) => back.push(one),
            Ok(None) => {}
            Err(_) => return false,
        }
    }
    if back.is_empty() || deciding.is_dry() {
        return false;
    }
    let left = leaves(deciding, &back);
    go(deciding, Cause::Pinned { tag: tag.clone() }, back, left);
    true
}

/// Finds one instance's way back to `target` through the moves it made.
///
/// `Ok(None)`: it is there already, or never ran. Data goes back if any of the moves in between needs it; more
/// than one always does, because no rehearsal tried the oldest release on the newest one's data.
fn path_back(deciding: &Deciding, name: &InstanceName, target: Option<Digest>) -> Result<Option<Back>, String> {
    let Some(instance) = deciding.service.instances.get(name) else { return Ok(None) };
    if instance.release.is_none() {
        return Ok(None);
    }
    if instance.release == target {
        return Ok(instance.half_undone().and_then(|_| undo(instance, name)));
    }
    let mut with_data = false;
    for moved in instance.history.iter().rev() {
        with_data |= needs_data(instance, moved);
        if moved.from == target {
            return Ok(Some(Back {
                instance: name.clone(),
                to: target,
                snapshot: Some(moved.snapshot),
                with_data,
                since: Some(moved.at),
            }));
        }
    }
    Err(format!("{name} never ran {}, or its snapshot is no longer kept", deciding.service.name_of(target.as_ref())))
}

fn go(deciding: &mut Deciding, cause: Cause, back: Vec<Back>, left: Option<Digest>) {
    let names: Vec<InstanceName> = back.iter().map(|one| one.instance.clone()).collect();
    deciding.say(Event::ReturnBegun { cause, back, left });
    for instance in names {
        deciding.order(Effect::Stop { instance });
    }
    finish_if_over(deciding);
}

fn ways(deciding: &Deciding) -> Option<&BTreeMap<InstanceName, (Back, ReturnStep)>> {
    match deciding.phase() {
        Some(Phase::Returning { back, .. }) => Some(back),
        _ => None,
    }
}

pub(super) fn answered(deciding: &mut Deciding, effect: Effect, answer: Answer) {
    let Some(instance) = effect.instance().cloned() else { return };
    let Some((one, step)) = ways(deciding).and_then(|ways| ways.get(&instance)).cloned() else { return };
    match step {
        ReturnStep::Stopping { tries } => match answer {
            Answer::Stopped => stopped(deciding, &one),
            other => again_or_fail(deciding, &one, effect, other, tries),
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
            other => again_or_with_data(deciding, &one, effect, other, tries),
        },
        ReturnStep::Probing { tries } => match answer {
            Answer::ProbePassed { .. } => deciding.say(Event::Returned { instance }),
            other => again_or_with_data(deciding, &one, effect, other, tries),
        },
        // The fold of the answer has moved it from reopening to held.
        ReturnStep::Reopening
        | ReturnStep::FailedReopening
        | ReturnStep::Waiting
        | ReturnStep::Returned
        | ReturnStep::Held
        | ReturnStep::Failed => {}
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
    let (failure, _) = forward::failure_of(answer, "the restore");
    let (instance, reopens) = (one.instance.clone(), opens(deciding, one));
    deciding.say(Event::ReturnFailed { instance: instance.clone(), failure, reopens });
    if let Some(release) = reopens {
        deciding.order(Effect::Start { instance, release });
    }
}

/// Finds when it is looked again whether data is still open elsewhere.
pub(super) fn wakes_at(back: &BTreeMap<InstanceName, (Back, ReturnStep)>) -> Option<Timestamp> {
    let waits = back.values().filter_map(|(_, step)| match step {
        ReturnStep::Restoring { again_at, .. } => *again_at,
        _ => None,
    });
    waits.min()
}

/// Orders the restores again that somebody was in the way of.
pub(super) fn tick(deciding: &mut Deciding) {
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
fn exceeds(deciding: &Deciding, instance: &InstanceName, loss: Option<Loss>, age: Span) -> bool {
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
    let failure = match answer {
        Answer::Failed { failure } | Answer::Hindered { failure } => failure,
        _ => gates::unexpected("the way back"),
    };
    deciding.say(Event::ReturnFailed { instance: one.instance.clone(), failure, reopens: None });
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

fn finish_if_over(deciding: &mut Deciding) {
    let Some(Phase::Returning { cause, left, back }) = deciding.phase() else { return };
    if !back.values().all(|(_, step)| step.is_over()) {
        return;
    }
    let (cause, left) = (cause.clone(), *left);
    let named = |wanted: ReturnStep| -> Vec<InstanceName> {
        back.iter().filter(|(_, (_, step))| *step == wanted).map(|(name, _)| name.clone()).collect()
    };
    let (failed, held) = (named(ReturnStep::Failed), named(ReturnStep::Held));
    let target = back.values().map(|(one, _)| one.to).find(|to| *to != left).flatten();
    let everyone = deciding.service.instances.values().all(|one| one.release != left);
    // What halted the run stands already: nothing is to blame and nothing more to freeze.
    if !matches!(cause, Cause::Halted { .. }) {
        concluding::conclude(deciding, &cause, left, target, everyone);
    }
    deciding.end(match cause {
        _ if !failed.is_empty() => End::RollbackFailed { instances: failed },
        _ if !held.is_empty() => End::RollbackHeld { instances: held },
        Cause::Halted { because } => End::Held { because, moved: stayed(deciding, left) },
        cause => End::RolledBack { cause },
    });
}

/// Finds who stays on a release that is not last-good.
fn stayed(deciding: &Deciding, release: Option<Digest>) -> Vec<InstanceName> {
    let is_new = release.is_some() && release != deciding.service.last_good;
    let instances = deciding.service.instances.iter().filter(|(_, one)| is_new && one.release == release);
    instances.map(|(name, _)| name.clone()).collect()
}
