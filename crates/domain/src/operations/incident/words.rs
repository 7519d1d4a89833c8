//! What people read of an incident.

use super::{
    IncidentEvent,
    checklist::ChecklistEvent,
    closing::ClosingEvent,
    level::LevelEvent,
    message::MessageEvent,
    plan::{self, Outcome, PlanEvent},
    role::RoleEvent,
    unfreeze::UnfreezeEvent,
    verify::VerifyEvent,
};
use crate::{
    notice::Severity,
    terms::{Actor, IncidentId, Reason},
};
use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

/// Makes a reason of our own words, cut to what one may have.
pub(super) fn reason(text: &str) -> Reason {
    let line: String = text.chars().filter(|c| !c.is_control()).take(120).collect();
    Reason::new(&line).or_else(|_| Reason::new("it went on")).expect("a fixed valid reason")
}

/// Says what an event tells.
pub fn sentence(incident: IncidentId, by: &Actor, event: &IncidentEvent) -> String {
    match event {
        IncidentEvent::Declared { level, trigger, commander, drill, .. } => {
            let drill = if *drill { "drill " } else { "" };
            format!("{drill}incident {incident} declared at {} by {by}, led by {commander}: {trigger}", level.as_str())
        }
        IncidentEvent::Moved { to, reason } => format!("incident {incident} is {}, by {by}: {reason}", to.as_str()),
        IncidentEvent::Raised { level, reason } => {
            format!("incident {incident} raised to {} by {by}: {reason}", level.as_str())
        }
        IncidentEvent::Plan(event) => format!("incident {incident}: {}", plan::sentence(event)),
        IncidentEvent::Noted { text } => format!("{by} notes on {incident}: {text}"),
        IncidentEvent::Began { .. } => format!("incident {incident} had begun before, says {by}"),
        IncidentEvent::Level(event) => level(incident, by, event),
        IncidentEvent::Role(event) => role(incident, by, event),
        IncidentEvent::Checklist(event) => checklist(incident, by, event),
        IncidentEvent::Verify(event) => verify(incident, by, event),
        IncidentEvent::Unfreeze(event) => unfreeze(incident, by, event),
        IncidentEvent::Message(MessageEvent::Sent { message, text, .. }) => {
            format!("incident {incident}, {} message by {by}: {text}", message.as_str())
        }
        IncidentEvent::Message(MessageEvent::Overdue { .. }) => {
            format!("the next update of incident {incident} is overdue")
        }
        IncidentEvent::Closing(event) => closing(incident, by, event),
    }
}

fn level(incident: IncidentId, by: &Actor, event: &LevelEvent) -> String {
    match event {
        LevelEvent::LowerAsked { level, signature } => {
            format!("{by} asks to lower incident {incident} to {}: {}", level.as_str(), signature.risk)
        }
        LevelEvent::Lowered { level, reason } => {
            format!("incident {incident} lowered to {} by {by}: {reason}", level.as_str())
        }
    }
}

fn role(incident: IncidentId, by: &Actor, event: &RoleEvent) -> String {
    match event {
        RoleEvent::Assigned { role, to } => format!("{to} has {} of incident {incident}, by {by}", role.as_str()),
        RoleEvent::Offered { role, to } => format!("{by} offers {} of incident {incident} to {to}", role.as_str()),
        RoleEvent::Accepted { role, to } => format!("{to} accepts {} of incident {incident}", role.as_str()),
        RoleEvent::TakenOver { from, to, reason } => {
            format!("{to} takes incident {incident} over from {from}, who can't lead it: {reason}")
        }
    }
}

fn checklist(incident: IncidentId, by: &Actor, event: &ChecklistEvent) -> String {
    match event {
        ChecklistEvent::Added { items } => {
            let names = items.iter().map(|item| item.item.to_string()).collect::<Vec<_>>().join(", ");
            format!("cleanup checklist of incident {incident}: {names}")
        }
        ChecklistEvent::Done { item, evidence } => {
            format!("{item} of incident {incident} is done by {by}: {}", evidence.words())
        }
        ChecklistEvent::WaiverAsked { item, signature } => {
            format!("{by} asks to leave {item} of incident {incident} undone: {}", signature.risk)
        }
        ChecklistEvent::WaiverOver { item } => {
            format!("{item} of incident {incident} is open again: its waiver ended")
        }
    }
}

fn verify(incident: IncidentId, by: &Actor, event: &VerifyEvent) -> String {
    match event {
        VerifyEvent::Marked { marker } => {
            format!("marker {} of incident {incident} written to check the evidence", marker.short())
        }
        VerifyEvent::Verified { verification } => {
            let good = verification.checks.iter().filter(|check| check.proof.counts()).count();
            let bad = verification.checks.iter().filter(|check| !check.proof.counts());
            let bad: Vec<String> = bad.map(|check| format!("{} is {}", check.name, check.proof.as_str())).collect();
            let bad = if bad.is_empty() { String::new() } else { format!(": {}", bad.join(", ")) };
            format!("incident {incident} verified by {by}, {good} of {} passed{bad}", verification.checks.len())
        }
    }
}

fn unfreeze(incident: IncidentId, by: &Actor, event: &UnfreezeEvent) -> String {
    match event {
        UnfreezeEvent::RiskAsked { row, signature } => {
            format!("{by} accepts the risk of row {} of incident {incident}: {}", row.as_str(), signature.risk)
        }
        UnfreezeEvent::Lifted { hold } => format!("incident {incident} no longer holds {}, by {by}", hold.as_str()),
        UnfreezeEvent::HeldAgain { reason } => format!("incident {incident} holds everything again: {reason}"),
    }
}

fn closing(incident: IncidentId, by: &Actor, event: &ClosingEvent) -> String {
    match event {
        ClosingEvent::NextOwner { to } => format!("{to} owns the delivery cycle after incident {incident}, by {by}"),
        ClosingEvent::RootCause { text } => format!("root cause of incident {incident}, by {by}: {text}"),
        ClosingEvent::FollowUpAdded { follow_up, text, owner, .. } => {
            format!("follow-up {follow_up} of incident {incident} for {owner}: {text}")
        }
        ClosingEvent::FollowUpClosed { follow_up, reason } => {
            format!("follow-up {follow_up} of incident {incident} is done, by {by}: {reason}")
        }
        ClosingEvent::Safeguard { text } => format!("safeguard after incident {incident}, by {by}: {text}"),
        ClosingEvent::Reported { digest } => {
            format!("report {} of incident {incident} written by {by}", digest.short())
        }
    }
}

/// Tells how urgent an event is for those who hear of it; `None` is told to nobody.
pub fn severity(event: &IncidentEvent) -> Option<Severity> {
    match event {
        IncidentEvent::Declared { .. } | IncidentEvent::Raised { .. } => Some(Severity::Critical),
        IncidentEvent::Moved { .. } => Some(Severity::Info),
        IncidentEvent::Plan(PlanEvent::Ended {
            outcome: Outcome::Failed { .. } | Outcome::Unmet { .. } | Outcome::CannotTell { .. },
            ..
        }) => Some(Severity::Critical),
        IncidentEvent::Noted { .. }
        | IncidentEvent::Began { .. }
        | IncidentEvent::Plan(_)
        | IncidentEvent::Closing(_) => None,
        IncidentEvent::Level(LevelEvent::LowerAsked { .. }) => None,
        IncidentEvent::Level(LevelEvent::Lowered { .. }) => Some(Severity::Warning),
        IncidentEvent::Role(RoleEvent::TakenOver { .. }) => Some(Severity::Critical),
        IncidentEvent::Role(_) => Some(Severity::Warning),
        IncidentEvent::Checklist(ChecklistEvent::WaiverOver { .. }) => Some(Severity::Critical),
        IncidentEvent::Checklist(_) => None,
        IncidentEvent::Verify(VerifyEvent::Marked { .. }) => Some(Severity::Info),
        IncidentEvent::Verify(VerifyEvent::Verified { verification }) => {
            (!verification.worst().counts()).then_some(Severity::Warning)
        }
        IncidentEvent::Unfreeze(UnfreezeEvent::HeldAgain { .. }) => Some(Severity::Critical),
        IncidentEvent::Unfreeze(_) => None,
        IncidentEvent::Message(MessageEvent::Sent { .. }) => Some(Severity::Warning),
        IncidentEvent::Message(MessageEvent::Overdue { .. }) => Some(Severity::Critical),
    }
}
