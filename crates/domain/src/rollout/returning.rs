//! Going back: code, then data where it must, for exactly the instances that moved.

mod answers;

pub(super) use answers::{answered, tick, wakes_at};

use super::{Deciding, IllegalStep, traffic};
use crate::{
    effect::Effect,
    event::{Aim, Back, Cause, End, Event, Settings, WayBack},
    service::{Condition, Instance, MoveStep, Moved, Phase, Service},
    terms::{Digest, InstanceName, ReleaseTag, RunId, Span},
    words::names as names_of,
};
use alloc::{collections::BTreeMap, format, string::String, vec::Vec};

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
            // What failed or was broken off is taken up towards where it was to go, never further back.
            _ if !instance.is_settled() && instance.goes_back_to.is_some() => {
                path_back(deciding, name, instance.goes_back_to).unwrap_or_default()
            }
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
        // Where somebody goes back to is not left: a way back that is taken up again ends there.
        None => left.filter(|left| back.iter().all(|one| one.to != Some(*left))),
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

/// Goes back to an older pinned release where instances came from it, each once it is idle; tells whether it does.
pub(super) fn pinned(deciding: &mut Deciding, tag: &ReleaseTag) -> bool {
    let Some(target) = deciding.service.tags.get(tag).copied() else { return false };
    if traffic::moves_so(deciding) {
        return !deciding.is_dry() && traffic::returning::pinned(deciding, tag, target);
    }
    let names: Vec<InstanceName> = deciding.service.instances.keys().cloned().collect();
    let (mut back, mut waiting) = (Vec::new(), Vec::new());
    for name in &names {
        match path_back(deciding, name, Some(target)) {
            Ok(Some(one)) if waits_for_a_person(deciding, &one) => waiting.push(one.instance),
            Ok(Some(one)) => back.push(one),
            Ok(None) => {}
            Err(_) => return false,
        }
    }
    if deciding.is_dry() {
        return false;
    }
    if back.is_empty() && !waiting.is_empty() {
        let because = format!("the way back to the pinned {tag} waits for a person on {}", names_of(&waiting));
        deciding.end(End::Waiting { because });
        return true;
    }
    if back.is_empty() {
        return false;
    }
    let left = leaves(deciding, &back);
    go(deciding, Cause::Pinned { tag: tag.clone() }, back, left);
    true
}

/// Tells whether this very way back was measured before and waits for a person: nobody is stopped for it once more.
fn waits_for_a_person(deciding: &Deciding, one: &Back) -> bool {
    let Some(known) = deciding.service.instances.get(&one.instance) else { return false };
    match known.condition {
        Condition::LossHeld { loss } if known.goes_back_to == one.to => answers::exceeds(
            deciding,
            &one.instance,
            Some(loss),
            one.since.map_or(Span::ZERO, |since| deciding.now.since(since)),
        ),
        _ => false,
    }
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
    let can_wait = cause.can_wait();
    deciding.say(Event::ReturnBegun { cause, back, left });
    for instance in names {
        deciding.order(match can_wait {
            true => Effect::AskBusy { instance },
            false => Effect::Stop { instance },
        });
    }
    answers::finish_if_over(deciding);
}
