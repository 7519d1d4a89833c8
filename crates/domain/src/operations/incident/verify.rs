//! Verification: positive proof, of exactly what runs now, that it works.

use super::{Incident, IncidentEvent, Refused, State, find, moved, of, unfreeze, words};
use crate::{
    operations::{Event, Operations},
    terms::{Digest, IncidentId, ServiceName, Timestamp},
};
use alloc::{
    collections::BTreeMap,
    format,
    string::{String, ToString},
    vec::Vec,
};
use serde::{Deserialize, Serialize};

/// What a check came to. Only [`Proof::Pass`] and [`Proof::Waived`] count; everything else is no proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Proof {
    /// It was done and is so.
    Pass,
    /// Somebody signed that it need not be.
    Waived,
    /// It was done and is not so.
    Fail,
    /// It could not be done.
    Error,
    /// It was done for another target or too long ago.
    Stale,
    /// There is nothing that could be done: no test, no probe, no such name.
    Missing,
}

impl Proof {
    /// Gives the word that is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Waived => "waived",
            Self::Fail => "fail",
            Self::Error => "error",
            Self::Stale => "stale",
            Self::Missing => "missing",
        }
    }

    /// Tells whether it counts.
    pub const fn counts(self) -> bool {
        matches!(self, Self::Pass | Self::Waived)
    }
}

/// One check and what it came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Its name, such as `smoke/notes`.
    pub name: String,
    /// What it came to.
    pub proof: Proof,
    /// The numbers.
    pub detail: String,
}

/// All checks of one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// What ran, by service.
    pub target: BTreeMap<ServiceName, String>,
    /// The checks.
    pub checks: Vec<Check>,
}

impl Verification {
    /// Gives the worst that came; no check at all proves nothing.
    pub fn worst(&self) -> Proof {
        self.checks.iter().map(|check| check.proof).max().unwrap_or(Proof::Missing)
    }
}

/// Something that happened on the way to a proof.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "did", rename_all = "kebab-case")]
pub enum VerifyEvent {
    /// A marker that must be read back, and whose notice must be seen on its way.
    Marked {
        /// What is looked for.
        marker: Digest,
    },
    /// All checks were made.
    Verified {
        /// What they came to.
        verification: Verification,
    },
}

pub(super) fn apply(incident: &mut Incident, at: Timestamp, event: &VerifyEvent) {
    if let VerifyEvent::Verified { verification } = event {
        incident.verified = Some((at, verification.clone()));
    }
}

/// Makes a marker.
///
/// Errors: there is no such incident, or it is over.
pub fn marked(operations: &Operations, incident: IncidentId, marker: Digest) -> Result<Event, Refused> {
    let found = find(operations, incident)?;
    match found.state.is_over() {
        true => Err(Refused::Over { incident, state: found.state }),
        false => Ok(of(incident, IncidentEvent::Verify(VerifyEvent::Marked { marker }))),
    }
}

/// Takes what the checks came to, begun when the unfreeze had made `steps` steps. What passed before a step is no proof of
/// what is after it; what failed blocks whenever it was seen.
///
/// Errors: as [`verified`]; something was lifted or held again since it began.
pub fn verified_since(
    operations: &Operations,
    incident: IncidentId,
    verification: Verification,
    steps: u64,
) -> Result<Vec<Event>, Refused> {
    if verification.worst().counts() && find(operations, incident)?.unfreeze.steps != steps {
        return Err(Refused::Overtaken { incident });
    }
    verified(operations, incident, verification)
}

/// Takes what the checks came to. After the cleanup it begins the verification; where something fails while the freeze
/// is being lifted, what was lifted is held again.
///
/// Errors: there is no such incident, or it is over.
pub fn verified(
    operations: &Operations,
    incident: IncidentId,
    verification: Verification,
) -> Result<Vec<Event>, Refused> {
    let found = find(operations, incident)?;
    if found.state.is_over() {
        return Err(Refused::Over { incident, state: found.state });
    }
    let bad: Vec<String> = verification
        .checks
        .iter()
        .filter(|check| !check.proof.counts())
        .map(|check| format!("{} is {}", check.name, check.proof.as_str()))
        .collect();
    let passed = verification.worst().counts();
    let mut events = Vec::from([of(incident, IncidentEvent::Verify(VerifyEvent::Verified { verification }))]);
    let reason = words::reason(&match bad.as_slice() {
        [] => "verification begins".to_string(),
        bad => bad.join(", "),
    });
    match found.state {
        State::Cleaning => events.push(of(incident, moved(found.state, incident, State::Verifying, reason)?)),
        State::UnfreezeReady | State::Monitoring if !passed => {
            events.extend(unfreeze::frozen_again(operations, incident, found, &reason));
            events.push(of(incident, moved(found.state, incident, State::Verifying, reason)?));
        }
        _ => {}
    }
    Ok(events)
}
