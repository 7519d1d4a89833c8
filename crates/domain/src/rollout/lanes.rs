//! What may pass a hold: a run that it lets finish, and a release that two people let through.

use super::{Deciding, returning, traffic};
use crate::{
    event::{Aim, Cause},
    operations::hold::InFlight,
    service::{Exempt, Hold, Phase},
    terms::{Digest, HoldId, Release, ReleaseTag},
};
use alloc::{format, string::String, vec::Vec};

/// Tells whether the run under way may go on under a hold.
pub(super) fn passes(deciding: &Deciding, id: HoldId, hold: &Hold) -> bool {
    let Some(run) = &deciding.service.run else { return false };
    if hold.in_flight == InFlight::Finish && id >= run.holds_since {
        return true;
    }
    let release = match &run.phase {
        Phase::Snapshotting { release, .. }
        | Phase::Rehearsing { release, .. }
        | Phase::Moving { release, .. }
        | Phase::Shifting { release, .. } => *release,
        Phase::Checking
        | Phase::Installing { .. }
        | Phase::Returning { .. }
        | Phase::Unshifting { .. }
        | Phase::Cooling { .. } => return false,
    };
    hold.lets_pass(&release, deciding.now)
}

/// Begins a run: gives the tag that every standing hold lets pass, or none where nothing is held.
///
/// Errors: what holds it.
pub(super) fn begin(deciding: &Deciding, frozen: Option<String>) -> Result<Option<ReleaseTag>, String> {
    if let Some(frozen) = frozen {
        return Err(frozen);
    }
    let (service, now) = (&deciding.service, deciding.now);
    let Some((_, first)) = service.standing_holds(now).next() else { return Ok(None) };
    let passes_all =
        |one: &&Exempt| service.standing_holds(now).all(|(_, hold)| hold.lets_pass(&one.exemption.release, now));
    // Those left behind follow to last-good: it must be what may pass.
    let drains = service.run.as_ref().is_some_and(|run| run.aim == Aim::Drain);
    let fits = |one: &&Exempt| !drains || service.last_good == Some(one.exemption.release);
    // The newest word counts where several releases may pass.
    if let Some(lane) = first.exempt_at(now).filter(passes_all).filter(fits).last() {
        return Ok(Some(lane.exemption.tag.clone()));
    }
    let closed = service.standing_holds(now).find(|(_, hold)| hold.exempt_at(now).next().is_none());
    let (id, hold) = closed.or_else(|| service.standing_holds(now).next()).expect("one stands");
    Err(format!("{} by {}: {}", hold.called(*id), hold.owner, hold.reason))
}

/// The holds that stood when the run began: those set since act at the next wave or share.
fn from_the_beginning(deciding: &Deciding) -> impl Iterator<Item = (&HoldId, &Hold)> {
    let run = deciding.service.run.as_ref().filter(|run| run.aim != Aim::DryRun);
    let since = run.map_or(HoldId(0), |run| run.holds_since);
    deciding.service.standing_holds(deciding.now).filter(move |(id, _)| **id < since)
}

/// Says what stood already when the run began and still stands.
pub(super) fn standing(deciding: &Deciding) -> Option<String> {
    let (id, hold) = from_the_beginning(deciding).next()?;
    Some(format!("{} by {}: {}", hold.called(*id), hold.owner, hold.reason))
}

/// Says which hold does not let a release of this name pass, before it is fetched.
pub(super) fn other_tag(deciding: &Deciding, tag: &ReleaseTag) -> Option<String> {
    let passes = |hold: &Hold| hold.exempt_at(deciding.now).any(|one| one.exemption.tag == *tag);
    let (id, hold) = from_the_beginning(deciding).find(|(_, hold)| !passes(hold))?;
    Some(refusal(*id, hold, tag, None, deciding))
}

/// Says by whose word the installed release passes each hold that stood when the run began.
///
/// Errors: a hold lets other bytes pass, or none.
pub(super) fn pass(deciding: &Deciding, release: &Release) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    for (id, hold) in from_the_beginning(deciding) {
        let one = hold.exempt_at(deciding.now).find(|one| one.exemption.release == release.digest);
        let Some(one) = one else { return Err(refusal(*id, hold, &release.tag, Some(&release.digest), deciding)) };
        words.push(word(*id, hold, one, release));
    }
    Ok(words)
}

fn word(id: HoldId, hold: &Hold, one: &Exempt, release: &Release) -> String {
    let Exempt { exemption, asked_by, approved_by } = one;
    let (name, bytes) = (hold.called(id), release.digest.short());
    format!(
        "{} ({bytes}) passes {name} by {}, asked by {asked_by}, approved by {approved_by}: {}",
        release.tag, hold.owner, exemption.reason
    )
}

fn refusal(id: HoldId, hold: &Hold, tag: &ReleaseTag, bytes: Option<&Digest>, deciding: &Deciding) -> String {
    let let_through: Vec<String> = hold
        .exempt_at(deciding.now)
        .map(|one| format!("{} ({})", one.exemption.tag, one.exemption.release.short()))
        .collect();
    let only = match let_through.is_empty() {
        true => String::new(),
        false => format!("; it lets only {} pass", let_through.join(", ")),
    };
    let bytes = bytes.map(|digest| format!(" ({})", digest.short())).unwrap_or_default();
    format!("{} by {}: {}; {tag}{bytes} does not pass it{only}", hold.called(id), hold.owner, hold.reason)
}

/// Takes back what the run under way has moved, because a hold was set that says so. Nothing is blamed.
pub(super) fn abort(deciding: &mut Deciding, id: HoldId) {
    let Some(hold) = deciding.service.holds.get(&id) else { return };
    let because = format!("{} by {}: {}", hold.called(id), hold.owner, hold.reason);
    match deciding.phase() {
        Some(Phase::Moving { .. }) => returning::begin(deciding, Cause::Halted { because }),
        Some(Phase::Shifting { .. }) => traffic::returning::begin(deciding, Cause::Halted { because }),
        // Nothing has moved yet, or it is on its way back already.
        _ => {}
    }
}
