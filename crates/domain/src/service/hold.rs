//! A hold as a service knows it: its own, or its part of one over several services.

use crate::{
    operations::hold::{Exemption, InFlight},
    terms::{Actor, Digest, HoldId, Reason, Timestamp, WideHoldId},
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
    /// The hold over several services that this one is a part of.
    pub origin: Option<WideHoldId>,
    /// What becomes of a run under way.
    pub in_flight: InFlight,
    /// The releases that may pass it, and who said so.
    pub exempt: Vec<Exempt>,
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

    /// Names it as people do: by the hold over several services, if it is a part of one.
    pub fn called(&self, id: HoldId) -> String {
        self.origin.map_or_else(|| format!("hold {id}"), |origin| origin.to_string())
    }
}
