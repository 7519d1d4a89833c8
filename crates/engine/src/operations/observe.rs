//! What the logs say that may call for an incident.

use crate::{
    config::{Concern, Config},
    desk::Damaged,
    doubt, fold, log,
    paths::Home,
    signals, watched,
};
use lastgood_domain::{
    event::{Cause, End, Gate, Health},
    notice::Severity,
    operations::incident::recommend::{Observation, Sign},
    service::Service,
    terms::{GateName, ServiceName},
};
use lastgood_store::Reader;

/// Looks at every configured service and at the signals, of which `signals` keeps what was folded; `damaged` is what was damaged in the operations chain itself, which
/// whoever asks often has read already.
pub fn observe(
    store: &Reader,
    config: &Config,
    signals: &mut signals::Folded,
    damaged: &[Damaged],
) -> Vec<Observation> {
    let mut seen = Vec::new();
    for name in config.service.keys() {
        match fold::Folded::read(store, name) {
            Ok(folded) => {
                seen.extend(of_service(name, &folded.service));
                seen.extend(of_gates(config, name, &folded.service));
            }
            Err(error) => seen.push(observation(Sign::EvidenceUncertain, Some(name), error.to_string())),
        }
    }
    seen.extend(of_signals(store, config, signals));
    seen.extend(damaged.iter().map(|one| {
        let what = format!("record {} of operations: {}", one.seq, one.what);
        named(Sign::EvidenceUncertain, format!("operations-{}", one.seq), what)
    }));
    seen.extend(in_doubt(store, config));
    seen
}

/// Gives the chains that what was signed and is kept elsewhere speaks against. A store that can't be read at all says so by
/// whatever else is read of it.
fn in_doubt(store: &Reader, config: &Config) -> Vec<Observation> {
    let against = doubt::against(store, &config.state_dir, &config.anchor()).unwrap_or_default();
    let seen = against.into_iter().map(|(chain, failure)| {
        let service = config.service.keys().find(|name| log::chain_of(name).to_string() == chain).cloned();
        Observation { sign: Sign::EvidenceUncertain, service, name: format!("signed/{chain}"), what: failure.message }
    });
    seen.collect()
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
    // Runs that were held since, as by the incident itself, found nothing out.
    match &service.last_verdict {
        Some((run, End::RollbackFailed { instances })) => {
            let instances = instances.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            seen.push(observation(Sign::RollbackFailed, Some(name), format!("{run} could not bring back {instances}")));
        }
        Some((run, End::Refused { gate: Gate::Required, because })) => {
            seen.push(observation(Sign::CiFailing, Some(name), format!("{run} was refused: {because}")));
        }
        Some((run, End::Unproven { gate: Gate::Required, because })) => {
            let what = format!("{run}: nobody can tell: {because}");
            seen.push(observation(Sign::CiFailing, Some(name), what));
        }
        Some((run, End::RolledBack { cause: Cause::Gate { because, .. } })) => {
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

/// Gives the watched gates that fail about what is last-good now.
fn of_gates(config: &Config, name: &ServiceName, service: &Service) -> Vec<Observation> {
    let home = Home::at(&config.state_dir);
    let required = config.service.get(name).map(|one| one.gates.as_slice()).unwrap_or_default();
    let is_watched = |gate: &&GateName| config.gate.get(*gate).is_some_and(|one| one.watch.is_some());
    let failing = required.iter().filter(is_watched).filter_map(|gate| {
        let failing = watched::read(&home, gate).remove(name).filter(|one| service.last_good == Some(one.release))?;
        let tag = service.name_of(Some(&failing.release));
        let what = format!("{gate} fails about {tag}, which is last-good: {}", failing.because);
        Some(Observation { sign: Sign::CiFailing, service: Some(name.clone()), name: format!("gate/{gate}"), what })
    });
    failing.collect()
}

/// Gives what fires. One that is not configured any more can't become well, and one that only informs calls nobody.
fn of_signals(store: &Reader, config: &Config, folded: &mut signals::Folded) -> Vec<Observation> {
    if let Err(error) = folded.read_on(store) {
        return vec![named(Sign::EvidenceUncertain, signals::CHAIN.into(), error.to_string())];
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use lastgood_domain::{
        event::Gate,
        terms::{InstanceName, RunId, Timestamp},
    };

    #[test]
    fn runs_that_were_held_since_hide_neither_a_red_gate_nor_a_rollback_that_failed() {
        let name = ServiceName::new("web").unwrap();
        let held = End::Held { because: "incident i0".into(), moved: Vec::new(), went_back: false };
        let because = "lint failed".to_owned();
        let red = End::Refused { gate: Gate::Required, because };
        let failed = End::RollbackFailed { instances: vec![InstanceName::new("alice").unwrap()] };
        for (end, sign) in [(red, Sign::CiFailing), (failed, Sign::RollbackFailed)] {
            let last_end = Some((RunId(9), Timestamp(9), held.clone()));
            let service = Service { last_end, last_verdict: Some((RunId(3), end)), ..Service::default() };
            let seen: Vec<Sign> = of_service(&name, &service).iter().map(|one| one.sign).collect();
            assert_eq!(seen, [sign]);
        }
    }
}
