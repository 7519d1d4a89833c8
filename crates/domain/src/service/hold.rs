//! A hold as a service knows it: its own, or its part of one over several services.

use super::Service;
use crate::{
    event::Event,
    operations::hold::{Exemption, InFlight},
    terms::{Actor, Digest, HoldId, Reason, Span, Timestamp, WideHoldId},
};
use alloc::{
    format,
    string::{String, ToString as _},
    vec::Vec,
};
use serde::{Deserialize, Serialize};

/// A named, owned, reasoned stop of forward moves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Who set it.
    pub owner: Actor,
    /// Why.
    pub reason: Reason,
    /// Since when.
    pub since: Timestamp,
    /// Until when; `None` stands until lifted.
    pub until: Option<Timestamp>,
    /// When its owner is asked next whether it is still needed; `None` where nobody is asked.
    #[serde(default)]
    pub review: Option<Timestamp>,
    /// Since when its owner has been asked, and it still stands.
    #[serde(default)]
    pub overdue: Option<Timestamp>,
    /// The hold over several services that this one is a part of.
    pub origin: Option<WideHoldId>,
    /// What becomes of a run under way.
    pub in_flight: InFlight,
    /// The releases that may pass it, and who said so.
    pub exempt: Vec<Exempt>,
}

impl Service {
    /// Gives what is to be written at `now` of its own holds whose owners must be asked; each is asked again after
    /// `again_after`. A hold never ends by it.
    pub fn reviews_due(&self, now: Timestamp, again_after: Span) -> Vec<Event> {
        let own = self.standing_holds(now).filter(|(_, hold)| hold.origin.is_none());
        let due = own.filter(|(_, hold)| hold.review.is_some_and(|review| review <= now));
        due.map(|(hold, _)| Event::HoldReviewDue { hold: *hold, again: now.after(again_after) }).collect()
    }

    /// Says that the owner of a hold is asked after it.
    pub(crate) fn asked_after(&self, hold: HoldId) -> String {
        match self.holds.get(&hold) {
            Some(Hold { owner, reason, .. }) => {
                format!("hold {hold} still stands ({reason}): {owner} is asked whether it is needed")
            }
            None => format!("hold {hold} is gone"),
        }
    }
}

/// A release that may pass a hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exempt {
    /// Which, and until when.
    pub exemption: Exemption,
    /// Who asked.
    pub asked_by: Actor,
    /// Who approved.
    pub approved_by: Actor,
}

impl Hold {
    /// Gives the exemptions that stand at `now`.
    pub fn exempt_at(&self, now: Timestamp) -> impl Iterator<Item = &Exempt> {
        self.exempt.iter().filter(move |one| now < one.exemption.until)
    }

    /// Tells whether a release may pass it at `now`.
    pub fn lets_pass(&self, release: &Digest, now: Timestamp) -> bool {
        self.exempt_at(now).any(|one| one.exemption.release == *release)
    }

    /// Gives since when its owner was to say at `now` whether it is still needed, if that time is over.
    pub fn overdue_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.overdue.or_else(|| self.review.filter(|review| *review <= now))
    }

    /// Names it as people do: by the hold over several services, if it is a part of one.
    pub fn called(&self, id: HoldId) -> String {
        self.origin.map_or_else(|| format!("hold {id}"), |origin| origin.to_string())
    }
}
