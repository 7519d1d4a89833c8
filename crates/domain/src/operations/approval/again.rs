//! What was asked and answered before: who asks again gets the same answer.

use super::{Approval, Approvals, Refused, Standing};
use crate::terms::{ApprovalId, Digest, Timestamp};

/// Gives the request for exactly this plan that still waits, was approved, or was said no to, within its time: who asks
/// for the same again gets the same answer.
pub fn answered<'a>(
    approvals: &'a Approvals,
    subject: &'a str,
    plan: &Digest,
    now: Timestamp,
) -> Option<(&'a ApprovalId, &'a Approval)> {
    let stands = |one: &Approval| {
        let answered = matches!(one.standing, Standing::Pending | Standing::Approved | Standing::Rejected { .. });
        answered && one.request.plan == *plan && now < one.request.expires
    };
    approvals.of(subject).filter(|(_, one)| stands(one)).last()
}

/// Refuses to ask again what somebody else said no to, while that request's time lasts, whatever the words and the times:
/// a subject is asked about once. `same` tells which requests of the subject were about the very same thing. A request that
/// who asked took back was not said no to.
///
/// Errors: [`Refused::Rejected`].
pub fn not_refused(
    approvals: &Approvals,
    subject: &str,
    same: impl Fn(ApprovalId) -> bool,
    now: Timestamp,
) -> Result<(), Refused> {
    let same = approvals.of(subject).filter(|(id, one)| same(**id) && now < one.request.expires);
    let no = same.filter_map(|(id, one)| match &one.standing {
        Standing::Rejected { by, reason } if *by != one.by => Some((id, by, reason)),
        _ => None,
    });
    match no.last() {
        Some((approval, by, reason)) => {
            Err(Refused::Rejected { approval: *approval, by: by.clone(), reason: reason.clone() })
        }
        None => Ok(()),
    }
}
