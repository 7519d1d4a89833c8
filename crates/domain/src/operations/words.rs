//! What people read of holds, approvals and incidents.

use super::{Event, Operations, Record, approval::ApprovalEvent, escalation::PageEvent, hold::HoldEvent, incident};
use crate::{
    notice::{Notice, NoticeKind, Severity},
    terms::{Actor, PageId},
    words::one_line,
};
use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

/// Says what a record tells, given the state after it.
pub fn sentence(after: &Operations, record: &Record) -> String {
    let by = &record.by;
    let text = match &record.event {
        Event::Hold(HoldEvent::Set { hold, kinds, selector, reason, .. }) => {
            let kinds = kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ");
            let services = selector.services.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let services = if services.is_empty() { "every service".into() } else { services };
            format!("{hold} stops {kinds} of {services}, set by {by}: {reason}")
        }
        Event::Hold(HoldEvent::Lifted { hold, reason }) => format!("{hold} lifted by {by}: {reason}"),
        Event::Approval(event) => approval(after, record, event),
        Event::Incident { incident, event } => incident::sentence(*incident, by, event),
        Event::Page { page, event } => paged(after, *page, by, event),
        Event::Risk { act } => format!("{by} did what is counted as {}", act.as_str()),
        Event::Overruled(one) => {
            let (gate, service, tag) = (&one.gate, &one.service, &one.tag);
            format!("{by} overrides the gate {gate} for {tag} of {service}: {}", one.reason)
        }
        Event::RewindAcknowledged { reason } => format!("{by} acknowledged that the evidence was put back: {reason}"),
    };
    one_line(&text)
}

fn paged(after: &Operations, page: PageId, by: &Actor, event: &PageEvent) -> String {
    let text = after.pages.all.get(&page).map_or_else(String::new, |one| one.text.clone());
    match event {
        PageEvent::Raised { text, .. } => format!("somebody is needed ({page}): {text}"),
        PageEvent::Paged { step, to } => {
            let to = to.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            format!("{page} pages {to} as step {}: {text}", step + 1)
        }
        PageEvent::Skipped { step } => format!("{page} passes step {}, which reaches nobody: {text}", step + 1),
        PageEvent::Exhausted => format!("{page} reached nobody who answered: {text}"),
        PageEvent::Acknowledged => format!("{by} is there for {page}: {text}"),
        PageEvent::Ended { because } => format!("{page} needs nobody any more, {because}: {text}"),
    }
}

fn approval(after: &Operations, record: &Record, event: &ApprovalEvent) -> String {
    let by = &record.by;
    let of = |approval| {
        let one = after.approvals.all.get(approval);
        one.map_or_else(String::new, |one| format!(" ({})", one.request.what))
    };
    match event {
        ApprovalEvent::Requested { approval, request } => {
            format!("{by} asks {} to approve {approval}: {}", request.needed, request.what)
        }
        ApprovalEvent::Approved { approval, .. } => {
            let one = after.approvals.all.get(approval);
            let (yes, needed) = one.map_or((0, 0), |one| (one.yes.len(), one.request.needed));
            format!("{by} approves {approval}, {yes} of {needed}{}", of(approval))
        }
        ApprovalEvent::Rejected { approval, reason } => format!("{by} rejects {approval}{}: {reason}", of(approval)),
        ApprovalEvent::Reminded { approval, percent } => {
            format!("{approval} still waits after {percent} % of its time{}", of(approval))
        }
        ApprovalEvent::Extended { approval, .. } => format!("{by} gives {approval} more time{}", of(approval)),
        ApprovalEvent::Used { approval } => format!("{approval} is used by {by}{}", of(approval)),
        ApprovalEvent::Expired { approval } => format!("{approval} expired; nothing was allowed{}", of(approval)),
        ApprovalEvent::Voided { approval, because } => format!("{approval} is void: {because}{}", of(approval)),
    }
}

/// Makes the notice that a record causes, given the state after it.
pub fn notice(after: &Operations, record: &Record) -> Option<Notice> {
    let (kind, severity, hint) = match &record.event {
        Event::Hold(HoldEvent::Set { .. } | HoldEvent::Lifted { .. }) => {
            (NoticeKind::Frozen, Severity::Warning, "lastgood hold list".into())
        }
        Event::Approval(event) => match event {
            ApprovalEvent::Requested { approval, .. } | ApprovalEvent::Reminded { approval, .. } => {
                (NoticeKind::Approval, Severity::Warning, format!("lastgood approval show {approval}"))
            }
            ApprovalEvent::Expired { approval } | ApprovalEvent::Voided { approval, .. } => {
                (NoticeKind::Approval, Severity::Critical, format!("lastgood approval show {approval}"))
            }
            ApprovalEvent::Approved { .. } | ApprovalEvent::Extended { .. } | ApprovalEvent::Used { .. } => {
                return None;
            }
            ApprovalEvent::Rejected { approval, .. } => {
                (NoticeKind::Approval, Severity::Warning, format!("lastgood approval show {approval}"))
            }
        },
        Event::Incident { incident, event } => {
            let severity = incident::severity(event)?;
            (NoticeKind::Incident, severity, format!("lastgood incident show {incident}"))
        }
        // Those of a step are paged where they are reached; that nobody is left is told to all.
        Event::Page { page, event: PageEvent::Paged { .. } | PageEvent::Exhausted } => {
            (NoticeKind::Page, Severity::Critical, format!("lastgood page ack {page}"))
        }
        Event::Overruled(_) => (NoticeKind::Approval, Severity::Warning, "lastgood override list".into()),
        Event::Page { .. } | Event::Risk { .. } | Event::RewindAcknowledged { .. } => return None,
    };
    Some(Notice { kind, severity, summary: sentence(after, record), hint })
}
