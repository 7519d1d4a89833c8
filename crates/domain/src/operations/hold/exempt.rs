//! The hotfix lane: one release of one service passes one hold, because two people say so.
//!
//! It is bound to the bytes of the release and to people the program knows, never to a name that a contributor chooses:
//! a branch, a label or a moved tag opens nothing.

use super::{HoldEvent, Holds, Refused, Subject};
use crate::{
    operations::{Event, approval, incident::is_same_time},
    terms::{Actor, ApprovalId, Digest, Reason, ReleaseTag, ServiceName, Span, Timestamp, WideHoldId},
};
use alloc::{collections::BTreeSet, format, vec::Vec};
use serde::{Deserialize, Serialize};

/// How long an exemption stands if nothing else is asked: a fix that takes longer is asked for again.
pub const EXEMPT_FOR: Span = Span::minutes(24 * 60);

/// Which release may pass, and until when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exemption {
    /// Its bytes.
    pub release: Digest,
    /// Its tag, as the channel names it.
    pub tag: ReleaseTag,
    /// Why.
    pub reason: Reason,
    /// When it ends.
    pub until: Timestamp,
}

impl Exemption {
    /// Digests what the second person agrees to.
    pub fn plan(&self, hold: WideHoldId, service: &ServiceName) -> Digest {
        let Self { release, tag, until, .. } = self;
        Digest::of(format!("lastgood-exemption 1\n{hold}\n{service}\n{tag}\n{release}\n{}\n", until.0).as_bytes())
    }
}

/// What somebody asked to let through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskedExemption {
    /// Which hold.
    pub hold: WideHoldId,
    /// Whose release.
    pub service: ServiceName,
    /// Who asked.
    pub by: Actor,
    /// Which release.
    pub exemption: Exemption,
}

/// Gives the request by which exactly this passes already, or is to pass: typed again it would void what was agreed to.
pub fn asked_already(
    operations: &crate::operations::Operations,
    (hold, service): (WideHoldId, &ServiceName),
    exemption: &Exemption,
    now: Timestamp,
) -> Option<ApprovalId> {
    let same = |id: &ApprovalId, asked: &AskedExemption| {
        let Some(one) = operations.approvals.all.get(id) else { return false };
        let stands = stands(one, asked.exemption.until, now);
        let Exemption { release, tag, reason, until } = &asked.exemption;
        let same_time = is_same_time((one.at, *until), (now, exemption.until));
        let same = *release == exemption.release && *tag == exemption.tag && *reason == exemption.reason;
        stands && same && same_time && asked.hold == hold && asked.service == *service
    };
    operations.holds.asked.iter().rev().find(|(id, asked)| same(id, asked)).map(|(id, _)| *id)
}

/// Tells whether what was asked for passes at `now`, or may still be agreed to.
pub(super) fn stands(one: &approval::Approval, until: Timestamp, now: Timestamp) -> bool {
    match one.standing {
        approval::Standing::Approved => now < until,
        approval::Standing::Pending => now < one.request.expires,
        _ => false,
    }
}

/// Asks that one release may pass: the request for a second person, and what it is for; nothing where that is so already,
/// or asked.
///
/// Errors: there is no such hold; it does not stop the service; it would end before it begins; somebody said no to it.
pub fn ask(
    operations: &crate::operations::Operations,
    by: &Actor,
    (hold, service, subject): (WideHoldId, &ServiceName, &Subject),
    exemption: Exemption,
    now: Timestamp,
) -> Result<Vec<Event>, crate::operations::Refused> {
    let holds: &Holds = &operations.holds;
    let standing = holds.all.get(&hold).filter(|one| one.stands(now)).ok_or(Refused::Unknown { hold })?;
    if !standing.stops(service, subject) {
        return Err(Refused::NotStopped { hold, service: service.clone() }.into());
    }
    if exemption.until <= now {
        return Err(Refused::Ended.into());
    }
    if asked_already(operations, (hold, service), &exemption, now).is_some() {
        return Ok(Vec::new());
    }
    let incident = standing.incident.map(|incident| format!(" in incident {incident}"));
    let what = format!(
        "let {service} {} ({}) pass {hold}{}: {}",
        exemption.tag,
        exemption.release.short(),
        incident.unwrap_or_default(),
        exemption.reason
    );
    let request = approval::Request {
        subject: format!("hold/{hold}/exempt/{service}"),
        what,
        plan: exemption.plan(hold, service),
        needed: 1,
        of: BTreeSet::new(),
        expires: exemption.until.min(now.after(approval::EXPIRES_AFTER)),
    };
    // Another release of the service is another question.
    let same = |id| holds.asked.get(&id).is_some_and(|asked| asked.exemption.release == exemption.release);
    approval::not_refused(&operations.approvals, &request.subject, same, now)?;
    // First what it is for: who may answer, and gets a link, is read from it.
    let approval = ApprovalId(operations.approvals.next);
    let asked = HoldEvent::ExemptionAsked { hold, approval, service: service.clone(), exemption };
    let mut events = Vec::from([Event::Hold(asked)]);
    events.extend(approval::request(&operations.approvals, by, request)?.into_iter().map(Event::Approval));
    Ok(events)
}
