//! Holds over several services. Deny wins: what any standing hold forbids is forbidden, whoever asks.
//!
//! A freeze is a set of them. Each has its own id and owner, so lifting one never lifts another.

use crate::{
    failure::Coded,
    terms::{Actor, IncidentId, Reason, ServiceName, Timestamp, WideHoldId},
};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::String,
};
use serde::{Deserialize, Serialize};

/// What a hold stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HoldKind {
    /// Merging into the branches that releases are made of; enforced outside.
    Merge,
    /// Claims of new work other than the way back and the incident's own; enforced outside.
    Claim,
    /// Taking over a release from another environment.
    Promote,
    /// Any forward move of a service.
    Deploy,
}

impl HoldKind {
    /// Every kind, least risky to open first: the order in which a freeze is lifted.
    pub const ALL: [Self; 4] = [Self::Claim, Self::Merge, Self::Promote, Self::Deploy];

    /// Gives the kind as people type it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Merge => "merge",
            Self::Claim => "claim",
            Self::Promote => "promote",
            Self::Deploy => "deploy",
        }
    }
}

/// What a hold applies to: everything that matches all of it. An empty set matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selector {
    /// The services.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub services: BTreeSet<ServiceName>,
    /// Labels of the service, all of which it must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// What of a service's configuration holds look at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subject {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether its releases come from another environment, so that each of its moves is a promotion.
    pub promoted: bool,
}

impl Selector {
    /// Tells whether a service is meant.
    pub fn matches(&self, name: &ServiceName, subject: &Subject) -> bool {
        (self.services.is_empty() || self.services.contains(name))
            && self.labels.iter().all(|(key, value)| subject.labels.get(key) == Some(value))
    }
}

/// A hold over several services.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WideHold {
    /// What it stops.
    pub kinds: BTreeSet<HoldKind>,
    /// Where.
    pub selector: Selector,
    /// Who set it.
    pub owner: Actor,
    /// Why.
    pub reason: Reason,
    /// The incident it belongs to; such a hold never ends by itself.
    pub incident: Option<IncidentId>,
    /// Since when.
    pub since: Timestamp,
    /// When it ends by itself.
    pub until: Option<Timestamp>,
}

impl WideHold {
    /// Tells whether it stands at `now`.
    pub fn stands(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    /// Tells whether it stops a service's forward moves.
    pub fn stops(&self, name: &ServiceName, subject: &Subject) -> bool {
        let kinds = &self.kinds;
        let stopped = kinds.contains(&HoldKind::Deploy) || (subject.promoted && kinds.contains(&HoldKind::Promote));
        stopped && self.selector.matches(name, subject)
    }
}

/// Something that happened to a hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum HoldEvent {
    /// It stands.
    Set {
        /// Its id.
        hold: WideHoldId,
        /// What it stops.
        kinds: BTreeSet<HoldKind>,
        /// Where.
        selector: Selector,
        /// Why.
        reason: Reason,
        /// The incident it belongs to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        incident: Option<IncidentId>,
        /// When it ends by itself; `None` stands until lifted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
    },
    /// It was lifted.
    Lifted {
        /// Which.
        hold: WideHoldId,
        /// Why.
        reason: Reason,
    },
}

impl HoldEvent {
    /// Tells whether it can only block and never open.
    pub const fn only_blocks(&self) -> bool {
        matches!(self, Self::Set { .. })
    }
}

/// The holds that were set and not lifted; some may have ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holds {
    /// By id.
    pub all: BTreeMap<WideHoldId, WideHold>,
    /// The number that the next one takes.
    pub next: u64,
}

impl Holds {
    pub(super) fn apply(&mut self, at: Timestamp, by: &Actor, event: &HoldEvent) {
        match event.clone() {
            HoldEvent::Set { hold, kinds, selector, reason, incident, until } => {
                self.next = self.next.max(hold.0 + 1);
                let owner = by.clone();
                self.all.insert(hold, WideHold { kinds, selector, owner, reason, incident, since: at, until });
            }
            HoldEvent::Lifted { hold, .. } => {
                self.all.remove(&hold);
            }
        }
    }

    /// Gives the holds that stand at `now`.
    pub fn standing(&self, now: Timestamp) -> impl Iterator<Item = (&WideHoldId, &WideHold)> {
        self.all.iter().filter(move |(_, hold)| hold.stands(now))
    }
}

/// Why a hold was not set or lifted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no such hold.
    #[error("there is no {hold}")]
    Unknown {
        /// Which.
        hold: WideHoldId,
    },
    /// It stops nothing.
    #[error("the hold names nothing that it stops")]
    NoKind,
    /// It belongs to an incident, whose own end lifts it.
    #[error("{hold} belongs to incident {incident}, which lifts it when it may")]
    OfIncident {
        /// Which.
        hold: WideHoldId,
        /// The incident.
        incident: IncidentId,
    },
}

impl Coded for Refused {
    fn code(&self) -> &'static str {
        match self {
            Self::Unknown { .. } => "hold-unknown",
            Self::NoKind => "hold-kinds-none",
            Self::OfIncident { .. } => "hold-of-incident",
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unknown { .. } => "see which stand: lastgood hold list".into(),
            Self::NoKind => "name what it stops: --kind deploy".into(),
            Self::OfIncident { incident, .. } => format!("see what is missing: lastgood incident unfreeze {incident}"),
        })
    }
}

/// Sets a hold.
///
/// Errors: [`Refused::NoKind`].
pub fn set(
    holds: &Holds,
    kinds: BTreeSet<HoldKind>,
    selector: Selector,
    reason: Reason,
    until: Option<Timestamp>,
) -> Result<HoldEvent, Refused> {
    match kinds.is_empty() {
        true => Err(Refused::NoKind),
        false => {
            let hold = WideHoldId(holds.next);
            Ok(HoldEvent::Set { hold, kinds, selector, reason, incident: None, until })
        }
    }
}

/// Lifts a hold that belongs to no incident.
///
/// Errors: there is none, or an incident lifts it.
pub fn lift(holds: &Holds, hold: WideHoldId, reason: Reason) -> Result<HoldEvent, Refused> {
    match holds.all.get(&hold) {
        None => Err(Refused::Unknown { hold }),
        Some(WideHold { incident: Some(incident), .. }) => Err(Refused::OfIncident { hold, incident: *incident }),
        Some(_) => Ok(HoldEvent::Lifted { hold, reason }),
    }
}
