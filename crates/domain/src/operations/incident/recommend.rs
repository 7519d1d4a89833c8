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
    /// A gate that a service requires fails, or nobody can tell.
    CiFailing,
    /// Users' outcomes are broken.
    UsersBroken,
    /// A rule over data or numbers fires.
    SignalFiring,
    /// An instance could not be brought back.
    RollbackFailed,
    /// A rule about security fires: tenants that see each other's rows, access that nobody gave.
    SecurityRisk,
    /// The evidence is damaged or not what was signed.
    EvidenceUncertain,
}

impl Sign {
    /// Gives the level that it speaks for.
    pub const fn level(self) -> Level {
        match self {
            Self::CiFailing | Self::UsersBroken => Level::L1,
            Self::SignalFiring | Self::RollbackFailed => Level::L2,
            Self::SecurityRisk | Self::EvidenceUncertain => Level::L3,
        }
    }

    /// Gives the rule in words.
    pub const fn rule(self) -> &'static str {
        match self {
            Self::CiFailing => "a required gate does not say yes",
            Self::UsersBroken => "users are broken",
            Self::SignalFiring => "a signal fires",
            Self::RollbackFailed => "a rollback failed",
            Self::SecurityRisk => "security is at risk",
            Self::EvidenceUncertain => "the evidence is uncertain",
        }
    }

    /// Gives its name, as it stands in the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CiFailing => "ci-failing",
            Self::UsersBroken => "users-broken",
            Self::SignalFiring => "signal-firing",
            Self::RollbackFailed => "rollback-failed",
            Self::SecurityRisk => "security-risk",
            Self::EvidenceUncertain => "evidence-uncertain",
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
    /// Which of several of its kind, such as a signal's name; empty where there is only one.
    pub name: String,
    /// The numbers.
    pub what: String,
}

impl Observation {
    /// Gives what it is called while it lasts, whatever its numbers are.
    pub fn key(&self) -> String {
        let mut key = String::from(self.sign.as_str());
        for part in self.service.iter().map(ServiceName::as_str).chain([self.name.as_str()]) {
            if !part.is_empty() {
                key.push('/');
                key.push_str(part);
            }
        }
        key
    }
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
    /// What was seen, without the numbers: people hear again when it changes.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub signs: BTreeSet<String>,
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
    let signs = seen.iter().map(|one| one.key()).collect();
    Some(Recommendation { level, services, why: why.collect(), signs })
}

/// Gives what is to be written of what is seen now: that it is another than was written last, what that says about
/// declaring, and whether one is to be declared by itself, where that is configured.
///
/// That is so for what was not seen at the last look only: an incident that a person ended is not declared anew for
/// what still stands, and one thing that lasts is one incident.
pub fn news(operations: &Operations, seen: &[Observation]) -> Option<News> {
    let signs: BTreeSet<String> = seen.iter().map(Observation::key).collect();
    let said = recommend(operations, seen);
    let fresh: Vec<Observation> = seen.iter().filter(|one| !operations.seen.contains(&one.key())).cloned().collect();
    let rules = |one: &Option<Recommendation>| one.as_ref().map(|one| (one.level, one.signs.clone()));
    let news = News {
        seen: (signs != operations.seen).then_some(signs),
        told: (rules(&said) != rules(&operations.recommended)).then(|| said.clone()),
        declare: recommend(operations, &fresh),
    };
    (news.seen.is_some() || news.told.is_some()).then_some(news)
}

/// What another look than the last one says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// All that is seen now, if it is not what was seen before.
    pub seen: Option<BTreeSet<String>>,
    /// What to tell people about declaring, if that is not what they were told last.
    pub told: Option<Option<Recommendation>>,
    /// What is to be declared where it is configured that nobody is asked.
    pub declare: Option<Recommendation>,
}
