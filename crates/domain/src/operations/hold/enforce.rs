//! What enforcers outside make of a hold: asked for, read back, or not as it should be.
//!
//! A success message is no evidence. A hold counts as enforced only where it was read back; anything else is red.

use super::{HoldEvent, Holds};
use crate::{
    terms::{EnforcerName, Span, Timestamp, WideHoldId},
    words::one_line,
};
use alloc::{collections::BTreeMap, format, string::String, vec::Vec};
use serde::{Deserialize, Serialize};

/// How often somebody is told again of a hold that is not confirmed.
pub const NAGS_EVERY: Span = Span::minutes(30);
/// How long a place may take to be read back before people are paged: two looks of the daemon and a slow answer.
pub const CONFIRMS_WITHIN: Span = Span::minutes(5);

/// How what pages about holds are about begins.
pub(in crate::operations) const PAGES_ABOUT: &str = "hold/";

/// How a hold stands at one enforcer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum Enforcement {
    /// It was asked for; nobody has read it back yet.
    Requested,
    /// It was read back.
    Confirmed,
    /// The enforcer says it is done, and reading it back says otherwise.
    Drifted {
        /// What was read.
        why: String,
    },
    /// The enforcer could not be asked, or refused.
    Failed {
        /// Why.
        why: String,
    },
    /// The hold is over, and the enforcer has let go of it.
    Released,
}

impl Enforcement {
    /// Gives the word for it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Confirmed => "confirmed",
            Self::Drifted { .. } => "drifted",
            Self::Failed { .. } => "failed",
            Self::Released => "released",
        }
    }

    /// Gives why it is not as it should be.
    pub fn why(&self) -> Option<&str> {
        match self {
            Self::Drifted { why } | Self::Failed { why } => Some(why),
            Self::Requested | Self::Confirmed | Self::Released => None,
        }
    }

    /// Tells whether it is the same state: other words for why are no change.
    pub fn same_kind(&self, other: &Self) -> bool {
        core::mem::discriminant(self) == core::mem::discriminant(other)
    }
}

/// A hold at one enforcer, as of now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enforcing {
    /// How it stands.
    pub state: Enforcement,
    /// Since when.
    pub since: Timestamp,
    /// When somebody was told last.
    pub told: Timestamp,
}

/// What one look at an enforcer came to for one hold; a look may find a drift and mend it.
pub type Outcome = (WideHoldId, Vec<Step>);

/// One state that a look went through.
pub type Step = Enforcement;

/// Gives what is to be written of a look: only what changed.
pub fn changed(holds: &Holds, enforcer: &EnforcerName, outcomes: &[Outcome]) -> Vec<HoldEvent> {
    let mut events = Vec::new();
    for (hold, steps) in outcomes {
        let known = |events: &[HoldEvent]| {
            let written = events.iter().rev().find_map(|event| match event {
                HoldEvent::Enforced { hold: of, state, .. } if of == hold => Some(state.clone()),
                _ => None,
            });
            written.or_else(|| Some(holds.enforced.get(hold)?.get(enforcer)?.state.clone()))
        };
        for state in steps {
            let before = known(&events);
            let nothing = match (&before, state) {
                (None | Some(Enforcement::Released), Enforcement::Released) => true,
                (Some(before), state) => before.same_kind(state),
                (None, _) => false,
            };
            if !nothing {
                let state = short(state.clone());
                events.push(HoldEvent::Enforced { hold: *hold, enforcer: enforcer.clone(), state });
            }
        }
    }
    events
}

/// A line in a record, whatever the enforcer said.
fn short(state: Enforcement) -> Enforcement {
    let short = |why: &str| one_line(why).chars().take(300).collect();
    match state {
        Enforcement::Drifted { why } => Enforcement::Drifted { why: short(&why) },
        Enforcement::Failed { why } => Enforcement::Failed { why: short(&why) },
        other => other,
    }
}

/// Gives the holds that stand and are still not confirmed, or are over and not released, when somebody must be told.
pub(super) fn due(holds: &Holds, now: Timestamp) -> Vec<HoldEvent> {
    let each = holds.enforced.iter().flat_map(|(hold, of)| of.iter().map(move |(enforcer, one)| (hold, enforcer, one)));
    let red = each.filter(|(hold, _, one)| {
        let stands = holds.all.get(hold).is_some_and(|hold| hold.stands(now));
        (one.state != Enforcement::Confirmed || !stands) && now.since(one.told) >= NAGS_EVERY
    });
    red.map(|(hold, enforcer, _)| HoldEvent::StillUnconfirmed { hold: *hold, enforcer: enforcer.clone() }).collect()
}

impl Holds {
    /// Gives what people are needed for at `now`, by what a page of it is about, `hold/HOLD/ENFORCER`: a hold that is not as
    /// it must be at an enforcer, and one that was only asked for and not read back for [`CONFIRMS_WITHIN`].
    pub(in crate::operations) fn paging(&self, now: Timestamp) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        for (hold, of) in &self.enforced {
            for (enforcer, one) in of {
                let is_red = match one.state {
                    Enforcement::Drifted { .. } | Enforcement::Failed { .. } => true,
                    Enforcement::Requested => now.since(one.since) >= CONFIRMS_WITHIN,
                    Enforcement::Confirmed | Enforcement::Released => false,
                };
                if is_red {
                    let text = super::words::unconfirmed(self, *hold, enforcer);
                    all.insert(format!("{PAGES_ABOUT}{hold}/{enforcer}"), text);
                }
            }
        }
        all
    }

    /// Gives each standing hold that an enforcer has not confirmed at `now`, by enforcer, and each that is over and was
    /// not released there.
    pub fn unconfirmed(&self, now: Timestamp) -> BTreeMap<&EnforcerName, Vec<WideHoldId>> {
        let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (hold, of) in &self.enforced {
            let stands = self.all.get(hold).is_some_and(|one| one.stands(now));
            for (enforcer, one) in of {
                if !stands || one.state != Enforcement::Confirmed {
                    all.entry(enforcer).or_default().push(*hold);
                }
            }
        }
        all
    }
}
