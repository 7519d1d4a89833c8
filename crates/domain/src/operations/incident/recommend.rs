//! When to declare: rules over what the logs say. They say why, and declare nothing.

use super::{Incident, Level, State};
use crate::{operations::Operations, terms::ServiceName};
use alloc::{
    collections::BTreeSet,
    format,
    string::{String, ToString},
    vec::Vec,
};
use serde::{Deserialize, Serialize};

/// What kind of thing was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sign {
    /// A required check fails in a critical area.
    CiFailing,
    /// Users' outcomes are broken.
    UsersBroken,
    /// A rule over data or numbers fires.
    SignalFiring,
    /// An instance could not be brought back.
    RollbackFailed,
    /// The evidence is damaged or not what was signed.
    EvidenceUncertain,
}

impl Sign {
    /// Gives the level that it speaks for.
    pub const fn level(self) -> Level {
        match self {
            Self::CiFailing | Self::UsersBroken => Level::L1,
            Self::SignalFiring | Self::RollbackFailed => Level::L2,
            Self::EvidenceUncertain => Level::L3,
        }
    }

    /// Gives the rule in words.
    pub const fn rule(self) -> &'static str {
        match self {
            Self::CiFailing => "a required check fails in a critical area",
            Self::UsersBroken => "users are broken",
            Self::SignalFiring => "a signal fires",
            Self::RollbackFailed => "a rollback failed",
            Self::EvidenceUncertain => "the evidence is uncertain",
        }
    }
}

/// One thing that was seen.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Observation {
    /// What kind.
    pub sign: Sign,
    /// Of which service; none is all.
    pub service: Option<ServiceName>,
    /// The numbers.
    pub what: String,
}

/// That somebody should declare, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recommendation {
    /// At which level.
    pub level: Level,
    /// For which services; empty is all.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub services: BTreeSet<ServiceName>,
    /// Each rule that speaks for it, with the numbers.
    pub why: Vec<String>,
}

fn covers(incident: &Incident, seen: &Observation) -> bool {
    // After its end it covers nothing that is seen then.
    let is_worked_on = !incident.drill && !incident.state.is_over() && incident.state != State::ClosedPendingRca;
    let is_about = incident.services.is_empty()
        || seen.service.as_ref().is_some_and(|service| incident.services.contains(service));
    is_worked_on && is_about && incident.level >= seen.sign.level()
}

/// Says whether to declare for what is seen; none if nothing is, or incidents are open that cover it.
pub fn recommend(operations: &Operations, seen: &[Observation]) -> Option<Recommendation> {
    let is_covered = |one: &&Observation| operations.incidents.all.values().any(|incident| covers(incident, one));
    let mut seen: Vec<&Observation> = seen.iter().filter(|one| !is_covered(one)).collect();
    seen.sort();
    let level = seen.iter().map(|one| one.sign.level()).max()?;
    let services = match seen.iter().any(|one| one.service.is_none()) {
        true => BTreeSet::new(),
        false => seen.iter().filter_map(|one| one.service.clone()).collect(),
    };
    let why = seen.iter().map(|one| {
        let of = one.service.as_ref().map_or_else(|| "all services".to_string(), ToString::to_string);
        format!("{}: {of}: {}", one.sign.rule(), one.what)
    });
    Some(Recommendation { level, services, why: why.collect() })
}
