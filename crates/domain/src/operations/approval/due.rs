//! What becomes due of a request by itself: reminders, and its end.

use super::{Approval, ApprovalEvent, Approvals, Standing};
use crate::terms::{Span, Timestamp};
use alloc::vec::Vec;

/// Percent of the time at which people are reminded; at the second the next in the chain is paged too.
pub const REMINDED_AT: [u8; 2] = [50, 80];

/// Gives what has become due by `now`: reminders and ends.
pub fn due(approvals: &Approvals, now: Timestamp) -> Vec<ApprovalEvent> {
    let pending = approvals.all.iter().filter(|(_, one)| one.standing == Standing::Pending);
    let events = pending.filter_map(|(approval, one)| {
        let approval = *approval;
        if now >= one.request.expires {
            return Some(ApprovalEvent::Expired { approval });
        }
        let percent = over(one, now)?;
        (percent > one.reminded).then_some(ApprovalEvent::Reminded { approval, percent })
    });
    events.collect()
}

/// Gives the last of [`REMINDED_AT`] that is over.
pub(super) fn over(one: &Approval, now: Timestamp) -> Option<u8> {
    REMINDED_AT.iter().rev().find(|percent| now >= reminder(one, **percent)).copied()
}

fn reminder(one: &Approval, percent: u8) -> Timestamp {
    let whole = one.request.expires.since(one.at);
    one.at.after(Span(whole.0 / 100 * u64::from(percent)))
}
