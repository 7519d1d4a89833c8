//! What people read of holds.

use super::{Enforcement, HoldEvent, Holds, Selector, WideHold};
use crate::{
    notice::{NoticeKind, Severity},
    terms::{Actor, EnforcerName, WideHoldId},
};
use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

impl Selector {
    /// Says what it chooses: `every service`, `web, notes`, `services with tier=api`.
    pub fn words(&self) -> String {
        let services = self.services.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let labels = self.labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(", ");
        match (services.is_empty(), labels.is_empty()) {
            (true, true) => "every service".into(),
            (false, true) => services,
            (true, false) => format!("services with {labels}"),
            (false, false) => format!("{services} with {labels}"),
        }
    }
}

impl WideHold {
    /// Lists what it stops.
    pub fn kinds_words(&self) -> String {
        self.kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ")
    }
}

/// Says what an event tells, given the state after it.
pub(in crate::operations) fn sentence(after: &Holds, by: &Actor, event: &HoldEvent) -> String {
    let owner = |hold| after.all.get(hold).map_or_else(|| "its owner".into(), |hold| hold.owner.to_string());
    match event {
        HoldEvent::Set { hold, kinds, selector, reason, .. } => {
            let kinds = kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ");
            format!("{hold} stops {kinds} of {}, set by {by}: {reason}", selector.words())
        }
        HoldEvent::Lifted { hold, reason } => format!("{hold} lifted by {by}: {reason}"),
        HoldEvent::ReviewDue { hold, .. } => {
            let reason = after.all.get(hold).map(|hold| format!(" ({})", hold.reason)).unwrap_or_default();
            format!("{hold} still stands{reason}: {} is asked whether it is needed", owner(hold))
        }
        HoldEvent::ExemptionAsked { hold, service, exemption, .. } => {
            let (tag, bytes) = (&exemption.tag, exemption.release.short());
            format!("{by} asks that {service} {tag} ({bytes}) may pass {hold}: {}", exemption.reason)
        }
        HoldEvent::MergeExemptionAsked { hold, exemption, .. } => {
            format!("{by} asks that commit {} may pass {hold}: {}", exemption.commit, exemption.reason)
        }
        HoldEvent::Enforced { hold, enforcer, state } => match state {
            Enforcement::Requested => format!("{hold} is asked of {enforcer}"),
            Enforcement::Confirmed => format!("{hold} is confirmed by {enforcer}"),
            Enforcement::Drifted { why } => format!("{hold} is not enforced by {enforcer}, which says it is: {why}"),
            Enforcement::Failed { why } => format!("{hold} could not be settled with {enforcer}: {why}"),
            Enforcement::Released => format!("{enforcer} has let go of {hold}"),
        },
        HoldEvent::StillUnconfirmed { hold, enforcer } => unconfirmed(after, *hold, enforcer),
    }
}

/// Says of a hold that it is not as it must be at an enforcer.
pub(super) fn unconfirmed(holds: &Holds, hold: WideHoldId, enforcer: &EnforcerName) -> String {
    let state = holds.enforced.get(&hold).and_then(|of| of.get(enforcer)).map(|one| &one.state);
    let word = state.map_or("unknown", Enforcement::as_str);
    let why = state.and_then(Enforcement::why).map(|why| format!(": {why}")).unwrap_or_default();
    match holds.all.contains_key(&hold) {
        true => format!("{hold} is still not confirmed by {enforcer}, it is {word}{why}"),
        false => format!("{hold} is over and {enforcer} has still not let go of it{why}"),
    }
}

/// Tells what a notice of an event is about and how urgent it is; `None` is told to nobody.
pub(in crate::operations) const fn urgency(event: &HoldEvent) -> Option<(NoticeKind, Severity)> {
    match event {
        HoldEvent::Set { .. } | HoldEvent::Lifted { .. } | HoldEvent::ReviewDue { .. } => {
            Some((NoticeKind::Frozen, Severity::Warning))
        }
        // The request for approval is told of.
        HoldEvent::ExemptionAsked { .. } | HoldEvent::MergeExemptionAsked { .. } => None,
        HoldEvent::Enforced { state, .. } => match state {
            Enforcement::Drifted { .. } | Enforcement::Failed { .. } => {
                Some((NoticeKind::HoldUnconfirmed, Severity::Critical))
            }
            Enforcement::Requested | Enforcement::Confirmed | Enforcement::Released => None,
        },
        HoldEvent::StillUnconfirmed { .. } => Some((NoticeKind::HoldUnconfirmed, Severity::Critical)),
    }
}
