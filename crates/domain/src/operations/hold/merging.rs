//! The hotfix lane of merges: one commit passes one hold, because two people say so.
//!
//! It is bound to the whole id of the commit that a branch is moved to, and so to everything that leads to it. Who enforces
//! the hold outside hears of it once the second person has agreed.

use super::{HoldEvent, HoldKind, Refused, exempt};
use crate::{
    operations::{Event, Operations, approval, incident::is_same_time},
    terms::{Actor, ApprovalId, CommitId, Digest, Reason, Timestamp, WideHoldId},
};
use alloc::{collections::BTreeSet, format, vec::Vec};
use serde::{Deserialize, Serialize};

/// Which commit may pass, and until when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MergeExemption {
    /// What a held branch may be moved to.
    pub commit: CommitId,
    /// Why.
    pub reason: Reason,
    /// When it ends.
    pub until: Timestamp,
}

impl MergeExemption {
    /// Digests what the second person agrees to.
    pub fn plan(&self, hold: WideHoldId) -> Digest {
        Digest::of(format!("lastgood-merge-exemption 1\n{hold}\n{}\n{}\n", self.commit, self.until.0).as_bytes())
    }
}

/// A commit that somebody asked to let through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskedMerge {
    /// Which hold.
    pub hold: WideHoldId,
    /// Who asked.
    pub by: Actor,
    /// Which commit.
    pub exemption: MergeExemption,
}

/// Gives the request by which exactly this passes already, or is to pass: typed again it would void what was agreed to.
pub fn merge_asked_already(
    operations: &Operations,
    hold: WideHoldId,
    exemption: &MergeExemption,
    now: Timestamp,
) -> Option<ApprovalId> {
    let same = |id: &ApprovalId, asked: &AskedMerge| {
        let Some(one) = operations.approvals.all.get(id) else { return false };
        let MergeExemption { commit, reason, until } = &asked.exemption;
        exempt::stands(one, *until, now)
            && asked.hold == hold
            && *commit == exemption.commit
            && *reason == exemption.reason
            && is_same_time((one.at, *until), (now, exemption.until))
    };
    operations.holds.merges.iter().rev().find(|(id, asked)| same(id, asked)).map(|(id, _)| *id)
}

/// Asks that one commit may pass: the request for a second person, and what it is for; nothing where that is so already, or
/// asked.
///
/// Errors: there is no such hold; it stops no merges; it would end before it begins; somebody said no to it.
pub fn ask_merge(
    operations: &Operations,
    by: &Actor,
    hold: WideHoldId,
    exemption: MergeExemption,
    now: Timestamp,
) -> Result<Vec<Event>, crate::operations::Refused> {
    let standing = operations.holds.all.get(&hold).filter(|one| one.stands(now)).ok_or(Refused::Unknown { hold })?;
    if !standing.kinds.contains(&HoldKind::Merge) {
        return Err(Refused::NoMerges { hold }.into());
    }
    if exemption.until <= now {
        return Err(Refused::Ended.into());
    }
    if merge_asked_already(operations, hold, &exemption, now).is_some() {
        return Ok(Vec::new());
    }
    let incident = standing.incident.map(|incident| format!(" in incident {incident}")).unwrap_or_default();
    let request = approval::Request {
        subject: format!("hold/{hold}/merge/{}", exemption.commit),
        what: format!("let commit {} pass {hold}{incident}: {}", exemption.commit, exemption.reason),
        plan: exemption.plan(hold),
        needed: 1,
        of: BTreeSet::new(),
        expires: exemption.until.min(now.after(approval::EXPIRES_AFTER)),
    };
    approval::not_refused(&operations.approvals, &request.subject, |_| true, now)?;
    // First what it is for: who may answer, and gets a link, is read from it.
    let asked = HoldEvent::MergeExemptionAsked { hold, approval: ApprovalId(operations.approvals.next), exemption };
    let mut events = Vec::from([Event::Hold(asked)]);
    events.extend(approval::request(&operations.approvals, by, request)?.into_iter().map(Event::Approval));
    Ok(events)
}

/// Gives what passes a hold at `now`, because a second person agreed.
pub fn merges_let_through(
    operations: &Operations,
    hold: WideHoldId,
    now: Timestamp,
) -> impl Iterator<Item = (ApprovalId, &AskedMerge)> {
    let agreed = move |id: &ApprovalId, asked: &AskedMerge| {
        let one = operations.approvals.all.get(id);
        asked.hold == hold
            && now < asked.exemption.until
            && one.is_some_and(|one| one.standing == approval::Standing::Approved)
    };
    operations.holds.merges.iter().filter(move |(id, asked)| agreed(id, asked)).map(|(id, asked)| (*id, asked))
}

/// Gives what passed a hold and no longer does at `now`: its time is over, or it was asked for anew.
pub fn merges_ended(operations: &Operations, hold: WideHoldId, now: Timestamp) -> impl Iterator<Item = &CommitId> {
    let ended = move |id: &ApprovalId, asked: &AskedMerge| {
        let one = operations.approvals.all.get(id).filter(|one| one.yes.len() >= one.request.needed as usize);
        let is_over = now >= asked.exemption.until;
        asked.hold == hold && one.is_some_and(|one| is_over || one.standing != approval::Standing::Approved)
    };
    operations.holds.merges.iter().filter(move |(id, asked)| ended(id, asked)).map(|(_, asked)| &asked.exemption.commit)
}
