//! Holds over several services. Deny wins: what any standing hold forbids is forbidden, whoever asks.
//!
//! A freeze is a set of them. Each has its own id and owner, so lifting one never lifts another. An incident's hold ends
//! with its incident only; any other has an end or a time at which its owner is asked whether it is still needed.

mod check;
mod enforce;
mod exempt;
mod merging;
mod refused;
mod words;

pub use check::{Question, Stop, effective, owned};
pub(super) use enforce::PAGES_ABOUT;
pub use enforce::{CONFIRMS_WITHIN, Enforcement, Enforcing, NAGS_EVERY, Outcome, Step, changed};
pub use exempt::{AskedExemption, EXEMPT_FOR, Exemption, ask, asked_already};
pub use merging::{AskedMerge, MergeExemption, ask_merge, merge_asked_already, merges_ended, merges_let_through};
pub use refused::Refused;
pub(super) use words::{sentence, urgency};

use crate::terms::{Actor, ApprovalId, EnforcerName, IncidentId, Reason, ServiceName, Span, Timestamp, WideHoldId};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
    vec::Vec,
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

/// What a hold does to work that is under way when it is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InFlight {
    /// A run goes on to its end; the next one does not begin.
    Finish,
    /// No further wave or share begins; what has moved stays.
    #[default]
    Pause,
    /// What the run has moved goes back, without blame to the release.
    Abort,
}

impl InFlight {
    /// Gives the word as people type it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Finish => "finish",
            Self::Pause => "pause",
            Self::Abort => "abort",
        }
    }

    /// Tells whether it is what holds do if nothing else is said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
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
    /// When its owner is asked next whether it is still needed.
    pub review: Option<Timestamp>,
    /// What becomes of runs under way.
    pub in_flight: InFlight,
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
        /// When its owner is asked whether it is still needed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        review: Option<Timestamp>,
        /// What becomes of runs under way.
        #[serde(default, skip_serializing_if = "InFlight::is_default")]
        in_flight: InFlight,
    },
    /// It was lifted.
    Lifted {
        /// Which.
        hold: WideHoldId,
        /// Why.
        reason: Reason,
    },
    /// Its owner is asked whether it is still needed.
    ReviewDue {
        /// Which.
        hold: WideHoldId,
        /// When its owner is asked again.
        again: Timestamp,
    },
    /// Somebody asks that one release of one service may pass it; it may once the request is approved.
    ExemptionAsked {
        /// Which.
        hold: WideHoldId,
        /// The request for approval that opens it.
        approval: ApprovalId,
        /// Whose release.
        service: ServiceName,
        /// Which release, and until when.
        exemption: Exemption,
    },
    /// Somebody asks that one commit may pass it; it may once the request is approved.
    MergeExemptionAsked {
        /// Which.
        hold: WideHoldId,
        /// The request for approval that opens it.
        approval: ApprovalId,
        /// Which commit, and until when.
        exemption: MergeExemption,
    },
    /// An enforcer outside got to another state with it.
    Enforced {
        /// Which.
        hold: WideHoldId,
        /// The enforcer.
        enforcer: EnforcerName,
        /// How it stands there.
        state: Enforcement,
    },
    /// It is still not confirmed there: somebody is told again.
    StillUnconfirmed {
        /// Which.
        hold: WideHoldId,
        /// The enforcer.
        enforcer: EnforcerName,
    },
}

impl HoldEvent {
    /// Tells whether it can only block and never open.
    pub const fn only_blocks(&self) -> bool {
        match self {
            Self::Set { .. } | Self::ReviewDue { .. } | Self::StillUnconfirmed { .. } => true,
            // A confirmation that is in doubt is none: the next look asks again.
            Self::Lifted { .. }
            | Self::ExemptionAsked { .. }
            | Self::MergeExemptionAsked { .. }
            | Self::Enforced { .. } => false,
        }
    }
}

/// The holds that were set and not lifted, and what enforcers outside have to do with them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holds {
    /// By id; some may have ended.
    pub all: BTreeMap<WideHoldId, WideHold>,
    /// The number that the next one takes.
    pub next: u64,
    /// What somebody asked to let through, by the request that opens it.
    pub asked: BTreeMap<ApprovalId, AskedExemption>,
    /// The commits that somebody asked to let through, by the request that opens it.
    pub merges: BTreeMap<ApprovalId, AskedMerge>,
    /// How each hold stands at each enforcer; also of one that was lifted, until it is released there.
    pub enforced: BTreeMap<WideHoldId, BTreeMap<EnforcerName, Enforcing>>,
}

impl Holds {
    pub(super) fn apply(&mut self, at: Timestamp, by: &Actor, event: &HoldEvent) {
        match event.clone() {
            HoldEvent::Set { hold, kinds, selector, reason, incident, until, review, in_flight } => {
                self.next = self.next.max(hold.0 + 1);
                let owner = by.clone();
                let set = WideHold { kinds, selector, owner, reason, incident, since: at, until, review, in_flight };
                self.all.insert(hold, set);
            }
            HoldEvent::Lifted { hold, .. } => {
                self.all.remove(&hold);
                self.asked.retain(|_, asked| asked.hold != hold);
                self.merges.retain(|_, asked| asked.hold != hold);
            }
            HoldEvent::ReviewDue { hold, again } => {
                if let Some(hold) = self.all.get_mut(&hold) {
                    hold.review = Some(again);
                }
            }
            HoldEvent::ExemptionAsked { hold, approval, service, exemption } => {
                self.asked.insert(approval, AskedExemption { hold, service, by: by.clone(), exemption });
            }
            HoldEvent::MergeExemptionAsked { hold, approval, exemption } => {
                self.merges.insert(approval, AskedMerge { hold, by: by.clone(), exemption });
            }
            HoldEvent::Enforced { hold, enforcer, state } => {
                let of = self.enforced.entry(hold).or_default();
                if state == Enforcement::Released {
                    of.remove(&enforcer);
                } else {
                    let since = of.get(&enforcer).filter(|was| was.state.same_kind(&state)).map_or(at, |was| was.since);
                    of.insert(enforcer, Enforcing { state, since, told: at });
                }
                if self.enforced.get(&hold).is_some_and(BTreeMap::is_empty) {
                    self.enforced.remove(&hold);
                }
            }
            HoldEvent::StillUnconfirmed { hold, enforcer } => {
                if let Some(one) = self.enforced.get_mut(&hold).and_then(|of| of.get_mut(&enforcer)) {
                    one.told = at;
                }
            }
        }
    }

    /// Gives the holds that stand at `now`.
    pub fn standing(&self, now: Timestamp) -> impl Iterator<Item = (&WideHoldId, &WideHold)> {
        self.all.iter().filter(move |(_, hold)| hold.stands(now))
    }

    /// Gives what has become due by `now`: owners to be asked, and enforcers that still do not enforce.
    pub fn due(&self, now: Timestamp, review_after: Span) -> Vec<HoldEvent> {
        let asked = self.standing(now).filter(|(_, hold)| hold.review.is_some_and(|review| review <= now));
        let again = now.after(review_after);
        let mut events: Vec<_> = asked.map(|(hold, _)| HoldEvent::ReviewDue { hold: *hold, again }).collect();
        events.extend(enforce::due(self, now));
        events
    }
}

/// What somebody wants held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// What it stops.
    pub kinds: BTreeSet<HoldKind>,
    /// Where.
    pub selector: Selector,
    /// Why.
    pub reason: Reason,
    /// When it ends by itself.
    pub until: Option<Timestamp>,
    /// When its owner is asked whether it is still needed.
    pub review: Option<Timestamp>,
    /// What becomes of runs under way.
    pub in_flight: InFlight,
}

/// Sets a hold.
///
/// Errors: [`Refused::NoKind`]; [`Refused::NoReview`] where nothing would ever end it or ask after it.
pub fn set(holds: &Holds, wanted: Wanted) -> Result<HoldEvent, Refused> {
    let Wanted { kinds, selector, reason, until, review, in_flight } = wanted;
    if kinds.is_empty() {
        return Err(Refused::NoKind);
    }
    if until.is_none() && review.is_none() {
        return Err(Refused::NoReview);
    }
    let hold = WideHoldId(holds.next);
    Ok(HoldEvent::Set { hold, kinds, selector, reason, incident: None, until, review, in_flight })
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
