//! What the logs say that may call for an incident.

use super::{Folded, Operations, Scope};
use crate::{config::Config, fold};
use lastgood_domain::{
    event::{End, Health},
    operations::incident::recommend::{Observation, Recommendation, Sign, recommend},
    service::Service,
    terms::ServiceName,
};
use lastgood_store::Reader;

/// Looks at every configured service and at the operations chain itself.
pub fn observe(store: &Reader, config: &Config) -> Vec<Observation> {
    let mut seen = Vec::new();
    for name in config.service.keys() {
        match fold::Folded::read(store, name) {
            Ok(folded) => seen.extend(of_service(name, &folded.service)),
            Err(error) => seen.push(observation(Sign::EvidenceUncertain, Some(name), error.to_string())),
        }
    }
    match Folded::read(store, &Scope::default()) {
        Ok(folded) => {
            let what = |one: &crate::desk::Damaged| format!("record {} of operations: {}", one.seq, one.what);
            seen.extend(folded.damaged.iter().map(|one| observation(Sign::EvidenceUncertain, None, what(one))));
        }
        Err(error) => seen.push(observation(Sign::EvidenceUncertain, None, error.to_string())),
    }
    seen
}

fn observation(sign: Sign, service: Option<&ServiceName>, what: String) -> Observation {
    Observation { sign, service: service.cloned(), what }
}

fn of_service(name: &ServiceName, service: &Service) -> Vec<Observation> {
    let mut seen = Vec::new();
    if let Some((run, _, End::RollbackFailed { instances })) = &service.last_end {
        let instances = instances.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        seen.push(observation(Sign::RollbackFailed, Some(name), format!("{run} could not bring back {instances}")));
    }
    if let Some((Health::Broken, outcomes)) = &service.health {
        let all = outcomes.good + outcomes.degraded + outcomes.broken;
        let what = format!("{} of {all} outcomes", outcomes.broken);
        seen.push(observation(Sign::UsersBroken, Some(name), what));
    }
    seen
}

/// Tells what is recommended now and was not told yet: the outer `None` is no change.
pub fn news(operations: &Operations, seen: &[Observation]) -> Option<Option<Recommendation>> {
    let now = recommend(operations, seen);
    // The numbers move all the time; people hear again when another rule speaks.
    let rules = |one: &Option<Recommendation>| one.as_ref().map(|one| (one.level, one.services.clone(), one.why.len()));
    (rules(&now) != rules(&operations.recommended)).then_some(now)
}
