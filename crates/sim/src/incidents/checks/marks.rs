//! What came up in a world, so that a rule that no world ever meets is seen.

use lastgood_domain::operations::{
    Event,
    approval::ApprovalEvent,
    escalation::PageEvent,
    hold::{Enforcement, HoldEvent},
    incident::{
        IncidentEvent, State,
        checklist::ChecklistEvent,
        level::LevelEvent,
        message::MessageEvent,
        plan::{Outcome, PlanEvent},
        role::RoleEvent,
        unfreeze::UnfreezeEvent,
    },
};

/// Names what a record shows; none of what every world has.
pub(super) const fn mark(event: &Event) -> Option<&'static str> {
    Some(match event {
        Event::Hold(event) => return hold(event),
        Event::Approval(event) => return approval(event),
        Event::Incident { event, .. } => return incident(event),
        Event::Page { event: PageEvent::Acknowledged, .. } => "a page was answered",
        Event::Page { event: PageEvent::Exhausted, .. } => "a page reached nobody",
        Event::Overruled(_) => "a gate was overridden",
        _ => return None,
    })
}

const fn hold(event: &HoldEvent) -> Option<&'static str> {
    Some(match event {
        HoldEvent::ReviewDue { .. } => "an owner was asked after a hold",
        HoldEvent::ExemptionAsked { .. } => "a lane was asked for",
        HoldEvent::Enforced { state: Enforcement::Drifted { .. }, .. } => "a place read back otherwise",
        HoldEvent::Enforced { state: Enforcement::Failed { .. }, .. } => "a place did not answer",
        HoldEvent::StillUnconfirmed { .. } => "a hold stayed red",
        _ => return None,
    })
}

const fn approval(event: &ApprovalEvent) -> Option<&'static str> {
    Some(match event {
        ApprovalEvent::Rejected { .. } => "a request was rejected",
        ApprovalEvent::Expired { .. } => "a request expired",
        ApprovalEvent::Extended { .. } => "a request got more time",
        ApprovalEvent::Voided { .. } => "a request became void",
        _ => return None,
    })
}

const fn incident(event: &IncidentEvent) -> Option<&'static str> {
    Some(match event {
        IncidentEvent::Moved { to: State::StoodDown, .. } => State::StoodDown.as_str(),
        IncidentEvent::Moved { to, .. } => to.as_str(),
        IncidentEvent::Raised { .. } => "the level was raised",
        IncidentEvent::Level(LevelEvent::LowerAsked { .. }) => "a lower level was asked for",
        IncidentEvent::Level(LevelEvent::Lowered { .. }) => "the level was lowered",
        IncidentEvent::Role(RoleEvent::Offered { .. }) => "a role was offered",
        IncidentEvent::Role(RoleEvent::Accepted { .. }) => "a role was handed over",
        IncidentEvent::Checklist(ChecklistEvent::WaiverAsked { .. }) => "a waiver was asked for",
        IncidentEvent::Checklist(ChecklistEvent::WaiverOver { .. }) => "a waiver ended",
        IncidentEvent::Unfreeze(UnfreezeEvent::RiskAsked { .. }) => "a risk was asked for",
        IncidentEvent::Unfreeze(UnfreezeEvent::Lifted { .. }) => "a stage was lifted",
        IncidentEvent::Unfreeze(UnfreezeEvent::HeldAgain { .. }) => "stages were held again",
        IncidentEvent::Message(MessageEvent::Overdue { .. }) => "word was overdue",
        IncidentEvent::Plan(PlanEvent::WaiverAsked { .. }) => "a proof was asked to be waived",
        IncidentEvent::Plan(PlanEvent::Ended { outcome, .. }) => match outcome {
            Outcome::Failed { .. } => "a step failed",
            Outcome::Unmet { .. } => "a step was not tried for want of what it needs",
            Outcome::CannotTell { .. } => "nobody could tell of a step",
            Outcome::Settled { .. } => "a person settled a step",
            Outcome::Again { .. } => "a person wanted a step again",
            Outcome::Done { .. } => return None,
        },
        _ => return None,
    })
}
