//! Snapshots of everything, then the four tries on copies.

use super::{Deciding, forward, gates::unexpected, traffic};
use crate::{
    effect::{Answer, Effect, Leg},
    event::{End, Event, WayBack},
    facts::SnapshotFacts,
    failure::Failure,
    service::Phase,
    terms::{Digest, InstanceName},
};
use alloc::{collections::BTreeMap, format, string::ToString, vec::Vec};

/// Orders a snapshot of every instance: if one fails, nothing has changed.
pub(super) fn begin(deciding: &mut Deciding) {
    let all = || deciding.settings().map(|settings| settings.instances.clone()).unwrap_or_default();
    let instances: Vec<InstanceName> = traffic::holders(deciding).unwrap_or_else(all);
    deciding.say(Event::SnapshotsBegun { instances: instances.clone() });
    for instance in instances {
        let snapshot = deciding.next_snapshot();
        deciding.order(Effect::Snapshot { instance, snapshot });
    }
}

pub(super) fn snapshotted(deciding: &mut Deciding, answer: Answer) {
    match answer {
        Answer::Snapshotted { .. } => {}
        Answer::Failed { failure } | Answer::Hindered { failure } => return deciding.stop(failure),
        _ => return deciding.stop(unexpected("snapshot")),
    }
    let Some(Phase::Snapshotting { release, instances, taken }) = deciding.phase() else { return };
    if taken.len() < instances.len() {
        return;
    }
    let Some((instance, facts)) = most_demanding(deciding, *release, instances, taken) else {
        return deciding.stop(Failure::new(
            "no-instances",
            "the service has no instances",
            Some("add one: [[service.NAME.instance]] with name, port and data"),
        ));
    };
    let (instance, snapshot) = (instance.clone(), facts.id);
    deciding.say(Event::RehearsalBegun { instance, snapshot });
    let from = match deciding.phase() {
        Some(Phase::Rehearsing { from, release, .. }) => from.filter(|from| from != release),
        _ => None,
    };
    rehearse(deciding, if from.is_some() { Leg::Control } else { Leg::Candidate });
}

/// Chooses the instance whose data is rehearsed on: of those that run last-good the named one, else the largest.
///
/// One that runs the candidate already would try neither its migration nor its way back. Data of last-good
/// comes before all other because the way back that is proven leads to what that instance runs.
fn most_demanding<'a>(
    deciding: &Deciding,
    candidate: Digest,
    instances: &'a [InstanceName],
    taken: &'a BTreeMap<InstanceName, SnapshotFacts>,
) -> Option<(&'a InstanceName, &'a SnapshotFacts)> {
    let named = deciding.settings().and_then(|settings| settings.rehearse_on.as_ref());
    let runs = |name: &InstanceName| deciding.service.instances.get(name).and_then(|one| one.release);
    let mut best: Option<(&InstanceName, &SnapshotFacts)> = None;
    let rank = |name: &InstanceName, facts: &SnapshotFacts| {
        let release = runs(name);
        (
            release != Some(candidate),
            // What a candidate left is newer than what the others hold: who can read that can read them.
            traffic::is_touched(deciding, name),
            release == deciding.service.last_good,
            Some(name) == named,
            facts.bytes,
            facts.rows,
        )
    };
    for name in instances {
        let Some(facts) = taken.get(name) else { continue };
        // Strictly greater, so that the first in configured order wins a tie.
        if best.is_none_or(|(other, most)| rank(name, facts) > rank(other, most)) {
            best = Some((name, facts));
        }
    }
    best
}

fn rehearse(deciding: &mut Deciding, leg: Leg) {
    let Some(Phase::Rehearsing { release, instance, snapshot, from, .. }) = deciding.phase() else { return };
    let release = match leg {
        Leg::Control | Leg::WayBack => from.unwrap_or(*release),
        Leg::Candidate | Leg::Restart => *release,
    };
    let (instance, snapshot) = (instance.clone(), *snapshot);
    deciding.order(Effect::Rehearse { instance, snapshot, release, leg });
}

pub(super) fn rehearsed(deciding: &mut Deciding, effect: Effect, answer: Answer) {
    let Effect::Rehearse { leg, .. } = effect else { return };
    let Some(Phase::Rehearsing { release, from, .. }) = deciding.phase() else { return };
    let (release, from) = (*release, *from);
    let has_control = from.is_some_and(|from| from != release);
    match (leg, answer) {
        (_, Answer::Hindered { failure }) => {
            clear(deciding);
            deciding.stop(failure);
        }
        (Leg::Control, Answer::RehearsalPassed { .. }) => rehearse(deciding, Leg::Candidate),
        (Leg::Control, Answer::RehearsalFailed { failure } | Answer::Failed { failure }) => {
            clear(deciding);
            deciding.end(End::GateBroken { failure });
        }
        (Leg::Candidate, Answer::RehearsalPassed { .. }) => rehearse(deciding, Leg::Restart),
        (Leg::Candidate | Leg::Restart, Answer::RehearsalFailed { failure } | Answer::Failed { failure }) => {
            failed(deciding, release, leg, failure)
        }
        (Leg::Restart, Answer::RehearsalPassed { .. }) if has_control => rehearse(deciding, Leg::WayBack),
        (Leg::Restart, Answer::RehearsalPassed { .. }) if from == Some(release) => {
            let known = deciding.service.installed.get(&release).and_then(|known| known.way_back);
            let because = "it runs everywhere already; each instance keeps the way back it came with".to_string();
            proven(deciding, release, known.unwrap_or(WayBack::Restore), because);
        }
        (Leg::Restart, Answer::RehearsalPassed { .. }) => {
            proven(deciding, release, WayBack::Empty, "there is no last-good to go back to".to_string());
        }
        (Leg::WayBack, Answer::RehearsalPassed { .. }) => {
            let because = "last-good works on the data this release migrated".to_string();
            proven(deciding, release, WayBack::CodeOnly, because);
        }
        (Leg::WayBack, Answer::RehearsalFailed { failure } | Answer::Failed { failure }) => {
            let because = format!("last-good fails on the data this release migrated: {failure}");
            proven(deciding, release, WayBack::Restore, because);
        }
        _ => {
            clear(deciding);
            deciding.stop(unexpected("rehearsal"));
        }
    }
}

fn clear(deciding: &mut Deciding) {
    deciding.order(Effect::ClearRehearsal);
}

fn failed(deciding: &mut Deciding, release: Digest, leg: Leg, failure: Failure) {
    let Some(Phase::Rehearsing { from, .. }) = deciding.phase() else { return };
    // In a first run nothing has passed the checks yet: they may be what is wrong. A restart comes after a pass.
    let is_told_apart = from.is_some() || leg == Leg::Restart;
    clear(deciding);
    // Last-good is never rejected by a late instance's rehearsal: it works for the others.
    if is_told_apart
        && deciding.service.last_good != Some(release)
        && !deciding.is_dry()
        && let Some(tag) = deciding.service.tag(&release).cloned()
    {
        let reason = format!("rehearsal, {}: {failure}", leg.says());
        deciding.say(Event::Rejected { release, tag, reason });
    }
    deciding.end(End::RehearsalFailed { failure });
}

fn proven(deciding: &mut Deciding, release: Digest, way_back: WayBack, because: alloc::string::String) {
    clear(deciding);
    deciding.say(Event::WayBackProven { release, way_back, because });
    if deciding.is_dry() {
        deciding.end(End::Rehearsed { way_back });
    } else if traffic::settings(deciding).is_some() {
        traffic::shifting::begin(deciding);
    } else {
        forward::begin(deciding);
    }
}
