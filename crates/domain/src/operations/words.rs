//! What people read of holds, approvals and incidents.

use super::{
    Event, Operations, Record,
    approval::ApprovalEvent,
    credential::{self, CredentialEvent},
    escalation::PageEvent,
    hold,
    incident::{self, plan::Turn},
};
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
        Event::Hold(event) => hold::sentence(&after.holds, by, event),
        Event::Approval(event) => approval(after, record, event),
        Event::Incident { incident, event } => incident::sentence(*incident, by, event),
        Event::Emergency(event) => {
            let failed = event.failed();
            let tried = event.rows.len();
            format!("{by} disabled everything, {} of {tried} acts done: {}", tried - failed, event.reason)
        }
        Event::Recommended { recommendation: Some(one) } => {
            format!("declare an incident at {}: {}", one.level.as_str(), one.why.join("; "))
        }
        Event::Recommended { recommendation: None } => "no incident is recommended any more".into(),
        Event::Seen { signs } if signs.is_empty() => "no signs of an incident are left".into(),
        Event::Seen { signs } => {
            let signs: Vec<&str> = signs.iter().map(String::as_str).collect();
            format!("signs of an incident: {}", signs.join(", "))
        }
        Event::Page { page, event } => paged(after, *page, by, event),
        Event::Risk { act } => format!("{by} did what is counted as {}", act.as_str()),
        Event::Credential { credential, event } => credential::sentence(by, credential, event),
        Event::Overruled(one) => {
            let (gate, service, tag) = (&one.gate, &one.service, &one.tag);
            format!("{by} overrides the gate {gate} for {tag} of {service}: {}", one.reason)
        }
        Event::RewindAcknowledged { reason } => format!("{by} acknowledged that the evidence was rewound: {reason}"),
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
        PageEvent::Acknowledged => format!("{by} acknowledged {page}: {text}"),
        PageEvent::Ended { because } => format!("{page} is closed, {because}: {text}"),
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
        ApprovalEvent::Approved { approval, door, .. } => {
            let one = after.approvals.all.get(approval);
            let (yes, needed) = one.map_or((0, 0), |one| (one.yes.len(), one.request.needed));
            format!("{by} approves {approval}{}, {yes} of {needed}{}", door.words(), of(approval))
        }
        ApprovalEvent::Rejected { approval, reason, door } => {
            format!("{by} rejects {approval}{}{}: {reason}", door.words(), of(approval))
        }
        ApprovalEvent::LinkGiven { approval, person } => {
            format!("{by} has a link printed by which {person} can answer {approval}{}", of(approval))
        }
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
        Event::Hold(event) => {
            let (kind, severity) = hold::urgency(event)?;
            (kind, severity, "lastgood hold list".into())
        }
        Event::Approval(event) => match event {
            ApprovalEvent::Requested { approval, .. } | ApprovalEvent::Reminded { approval, .. } => {
                (NoticeKind::Approval, Severity::Warning, format!("lastgood approval show {approval}"))
            }
            ApprovalEvent::Expired { approval } | ApprovalEvent::Voided { approval, .. } => {
                (NoticeKind::Approval, Severity::Critical, format!("lastgood approval show {approval}"))
            }
            ApprovalEvent::Approved { .. }
            | ApprovalEvent::LinkGiven { .. }
            | ApprovalEvent::Extended { .. }
            | ApprovalEvent::Used { .. } => return None,
            ApprovalEvent::Rejected { approval, .. } => {
                (NoticeKind::Approval, Severity::Warning, format!("lastgood approval show {approval}"))
            }
        },
        Event::Incident { incident, event } => {
            let severity = incident::severity(event)?;
            (NoticeKind::Incident, severity, format!("lastgood incident show {incident}"))
        }
        Event::Emergency(_) => (NoticeKind::Incident, Severity::Critical, "lastgood hold list".into()),
        Event::Recommended { recommendation: Some(_) } => {
            (NoticeKind::Incident, Severity::Critical, "lastgood incident recommend".into())
        }
        // Those of a step are paged where they are reached; that nobody is left is told to all.
        Event::Page { page, event: PageEvent::Paged { .. } | PageEvent::Exhausted } => {
            (NoticeKind::Page, Severity::Critical, format!("lastgood page ack {page}"))
        }
        // Whoever uses it is cut off.
        Event::Credential { event: CredentialEvent::Done { turn: Turn::Revoke, .. }, .. } => {
            (NoticeKind::Incident, Severity::Critical, "lastgood credential list".into())
        }
        Event::Overruled(_) => (NoticeKind::Approval, Severity::Warning, "lastgood override list".into()),
        Event::Recommended { recommendation: None }
        | Event::Seen { .. }
        | Event::Page { .. }
        | Event::Risk { .. }
        | Event::Credential { .. }
        | Event::RewindAcknowledged { .. } => return None,
    };
    let summary = sentence(after, record);
    Some(match is_drill(after, &record.event) {
        // Nobody is woken by a drill who did not ask for it.
        true => {
            Notice { kind: NoticeKind::Drill, severity: Severity::Info, summary: format!("DRILL: {summary}"), hint }
        }
        false => Notice { kind, severity, summary, hint },
    })
}

fn is_drill(after: &Operations, event: &Event) -> bool {
    let incident = match event {
        Event::Incident { incident, .. } => Some(*incident),
        Event::Approval(event) => {
            let one = after.approvals.all.get(&event.approval());
            let subject = one.and_then(|one| one.request.subject.strip_prefix("incident/"));
            subject.and_then(|rest| rest.split('/').next()?.parse().ok())
        }
        Event::Hold(_)
        | Event::Emergency(_)
        | Event::Recommended { .. }
        | Event::Seen { .. }
        | Event::Page { .. }
        | Event::Risk { .. }
        | Event::Credential { .. }
        | Event::Overruled(_)
        | Event::RewindAcknowledged { .. } => None,
    };
    incident.and_then(|id| after.incidents.all.get(&id)).is_some_and(|incident| incident.drill)
}
