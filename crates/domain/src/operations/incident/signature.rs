//! A named risk that one person takes and a second one signs, until a time: a waiver, an unmet row of the unfreeze.

use super::subject;
use crate::{
    operations::{
        Event, Operations, Refused,
        approval::{self, Approvals, EXPIRES_AFTER, Request, Standing},
    },
    terms::{Actor, ApprovalId, Digest, IncidentId, Reason, Span, Timestamp},
};
use alloc::{format, string::String, vec::Vec};
use serde::{Deserialize, Serialize};

/// A risk and the request for its approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// Which risk is taken.
    pub risk: Reason,
    /// When it is no longer taken.
    pub until: Timestamp,
    /// The request that a second person approves.
    pub approval: ApprovalId,
    /// Digest of exactly what is approved.
    pub plan: Digest,
}

/// Where a signature stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signed {
    /// A second person is awaited.
    Awaited,
    /// It is given, and its time is not over.
    Given,
    /// It was refused, was not given in time, is void, or its own time is over.
    Gone,
}

impl Signature {
    /// Tells where it stands at `now`.
    pub fn standing(&self, approvals: &Approvals, now: Timestamp) -> Signed {
        let Some(one) = approvals.all.get(&self.approval).filter(|one| one.request.plan == self.plan) else {
            return Signed::Gone;
        };
        match one.standing {
            _ if now >= self.until => Signed::Gone,
            Standing::Approved => Signed::Given,
            Standing::Pending if now < one.request.expires => Signed::Awaited,
            _ => Signed::Gone,
        }
    }
}

/// What is typed twice is read by two clocks: by so much the same time may differ.
const SAME_WITHIN: Span = Span::minutes(1);

impl Signature {
    /// Tells whether this is what is wanted again at `now`: the same risk, and no later or for the same time. Asking anew would
    /// void what was signed.
    pub(super) fn is_wanted_again(
        &self,
        approvals: &Approvals,
        (risk, until): (&Reason, Timestamp),
        now: Timestamp,
    ) -> bool {
        let asked = approvals.all.get(&self.approval).map(|one| one.at);
        let same_time = asked.is_some_and(|at| is_same_time((at, self.until), (now, until)));
        self.risk == *risk && same_time && self.standing(approvals, now) != Signed::Gone
    }
}

/// Tells whether what is wanted from now on is no more than what is there: it ends no later, or is for as long.
pub(in crate::operations) fn is_same_time(
    (from, until): (Timestamp, Timestamp),
    (now, wanted): (Timestamp, Timestamp),
) -> bool {
    let (span, other) = (until.since(from).0, wanted.since(now).0);
    wanted <= until || span.abs_diff(other) <= SAME_WITHIN.0
}

/// What somebody wants signed.
pub(super) struct Wanted<'a> {
    pub(super) incident: IncidentId,
    /// The last part of the request's subject, such as `waiver/queues-drained`.
    pub(super) matter: String,
    /// What would be allowed, in one sentence.
    pub(super) what: String,
    /// What exactly is unmet; another state of things needs another signature.
    pub(super) basis: &'a str,
    pub(super) risk: Reason,
    pub(super) until: Timestamp,
}

impl Wanted<'_> {
    /// Gives the digest of exactly what is signed.
    pub(super) fn plan(&self) -> Digest {
        let Self { incident, matter, basis, risk, until, .. } = self;
        Digest::of(format!("{incident}\n{matter}\n{basis}\n{risk}\n{}", until.0).as_bytes())
    }
}

/// Asks a second person.
///
/// Errors: as [`approval::request`]; somebody said no to it.
pub(super) fn ask(
    operations: &Operations,
    by: &Actor,
    now: Timestamp,
    wanted: Wanted<'_>,
) -> Result<(Signature, Vec<Event>), Refused> {
    let plan = wanted.plan();
    let Wanted { incident, matter, what, risk, until, .. } = wanted;
    let request = Request {
        subject: subject(incident, &matter),
        what,
        plan,
        needed: 1,
        of: [].into(),
        expires: now.after(EXPIRES_AFTER).min(until),
    };
    approval::not_refused(&operations.approvals, &request.subject, |_| true, now)?;
    let events = approval::request(&operations.approvals, by, request)?;
    let signature = Signature { risk, until, approval: ApprovalId(operations.approvals.next), plan };
    Ok((signature, events.into_iter().map(Event::Approval).collect()))
}
