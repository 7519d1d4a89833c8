//! What the logs say that may call for an incident.

use super::{Folded, Scope};
use crate::{
    config::{Concern, Config},
    fold, signals,
};
use lastgood_domain::{
    event::{Cause, End, Gate, Health},
    notice::Severity,
    operations::incident::recommend::{Observation, Sign},
    service::Service,
    terms::ServiceName,
};
use lastgood_store::Reader;

/// Looks at every configured service, at the signals, and at the operations chain itself.
pub fn observe(store: &Reader, config: &Config) -> Vec<Observation> {
    let mut seen = Vec::new();
    for name in config.service.keys() {
        match fold::Folded::read(store, name) {
            Ok(folded) => seen.extend(of_service(name, &folded.service)),
            Err(error) => seen.push(observation(Sign::EvidenceUncertain, Some(name), error.to_string())),
        }
    }
    seen.extend(of_signals(store, config));
    match Folded::read(store, &Scope::default()) {
        Ok(folded) => seen.extend(folded.damaged.iter().map(|one| {
            let what = format!("record {} of operations: {}", one.seq, one.what);
            named(Sign::EvidenceUncertain, format!("operations-{}", one.seq), what)
        })),
        Err(error) => seen.push(named(Sign::EvidenceUncertain, "operations".into(), error.to_string())),
    }
    seen
}

fn observation(sign: Sign, service: Option<&ServiceName>, what: String) -> Observation {
    Observation { sign, service: service.cloned(), name: String::new(), what }
}

/// Makes an observation that is about no service.
fn named(sign: Sign, name: String, what: String) -> Observation {
    Observation { sign, service: None, name, what }
}

fn of_service(name: &ServiceName, service: &Service) -> Vec<Observation> {
    let mut seen = Vec::new();
    match &service.last_end {
        Some((run, _, End::RollbackFailed { instances })) => {
            let instances = instances.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            seen.push(observation(Sign::RollbackFailed, Some(name), format!("{run} could not bring back {instances}")));
        }
        Some((run, _, End::Refused { gate: Gate::Required, because })) => {
            seen.push(observation(Sign::CiFailing, Some(name), format!("{run} was refused: {because}")));
        }
        Some((run, _, End::Unproven { gate: Gate::Required, because })) => {
            let what = format!("{run}: nobody can tell: {because}");
            seen.push(observation(Sign::CiFailing, Some(name), what));
        }
        Some((run, _, End::RolledBack { cause: Cause::Gate { because, .. } })) => {
            seen.push(observation(Sign::CiFailing, Some(name), format!("{run} was taken back: {because}")));
        }
        _ => {}
    }
    if let Some((Health::Broken, outcomes)) = &service.health {
        let all = outcomes.good + outcomes.degraded + outcomes.broken;
        let what = format!("{} of {all} outcomes", outcomes.broken);
        seen.push(observation(Sign::UsersBroken, Some(name), what));
    }
    seen
}

/// Gives what fires. One that is not configured any more can't become well, and one that only informs calls nobody.
fn of_signals(store: &Reader, config: &Config) -> Vec<Observation> {
    let folded = match signals::Folded::read(store) {
        Ok(folded) => folded,
        Err(error) => return vec![named(Sign::EvidenceUncertain, signals::CHAIN.into(), error.to_string())],
    };
    let firing = folded.firing().filter_map(|(name, firing)| {
        let signal = config.signal.get(name).filter(|signal| signal.severity != Severity::Info)?;
        let sign = match signal.concerns {
            Concern::Reliability => Sign::SignalFiring,
            Concern::Security => Sign::SecurityRisk,
        };
        Some(named(sign, name.to_string(), format!("{name}: {}", firing.why)))
    });
    firing.collect()
}
