//! What the unfreeze of an incident looks at besides its own record.

use super::Operations;
use crate::{config::Config, enforce, fold::Folded};
use lastgood_domain::{
    operations::incident::{Incident, unfreeze::Facts},
    service::Service,
    terms::{IncidentId, ServiceName, Timestamp, WideHoldId},
};
use lastgood_store::{NoticeState, Reader};

/// Messages of an incident looked at: more dead ones than anybody leaves lying.
const DEAD_MAX: usize = 1_000;

/// Gives the services that an incident is about.
pub(super) fn services<'a>(config: &'a Config, incident: &'a Incident) -> impl Iterator<Item = &'a ServiceName> {
    config.service.keys().filter(|name| incident.services.is_empty() || incident.services.contains(*name))
}

/// Gives the services that an incident names and that are not configured, or no longer called so.
pub(super) fn gone<'a>(config: &'a Config, incident: &'a Incident) -> impl Iterator<Item = &'a ServiceName> {
    incident.services.iter().filter(|name| !config.service.contains_key(*name))
}

/// Messages of the incident that were given up, or why nobody knows.
pub type Dead = Result<Vec<String>, String>;

/// Looks at what runs, at what is held, and at messages that were given up. What can't be read is not settled.
pub fn facts(
    store: Option<&Reader>,
    config: &Config,
    operations: &Operations,
    id: IncidentId,
    incident: &Incident,
    now: Timestamp,
) -> Facts {
    let Some(store) = store else {
        return Facts { unsettled: vec!["nothing was ever written".into()], ..Facts::default() };
    };
    let service = |name: &ServiceName| {
        let folded = Folded::read(store, name);
        folded.map(|folded| folded.service).map_err(|error| error.to_string())
    };
    let subject = format!("incident/{id}");
    // Given up by the last try, or set aside by a person: nobody gets either.
    let gone = [(NoticeState::Failed, "is dead"), (NoticeState::Parked, "was set aside")].map(|(state, what)| {
        let rows = store.notices_about(&subject, state, DEAD_MAX).map_err(|error| error.to_string());
        rows.map(|rows| rows.into_iter().map(|row| format!("notice {} to {} {what}", row.id, row.endpoint)).collect())
    });
    let dead = gone.into_iter().collect::<Result<Vec<Vec<String>>, String>>().map(|all| all.concat());
    let mut facts = facts_of(&service, dead, config, operations, (id, incident), now);
    let fresh = config.incident.verify.fresh.0;
    for enforcer in enforce::unheard(config, operations, id, (now, fresh)) {
        // What was confirmed long ago may have been taken away since.
        if !facts.unconfirmed.iter().any(|one| one.starts_with(&format!("{enforcer} "))) {
            facts.unconfirmed.push(format!("{enforcer} was not read back within {fresh}"));
        }
    }
    facts
}

/// As [`facts`], of logs that lie elsewhere.
pub fn facts_of(
    service: &dyn Fn(&ServiceName) -> Result<Service, String>,
    dead: Dead,
    config: &Config,
    operations: &Operations,
    (id, incident): (IncidentId, &Incident),
    now: Timestamp,
) -> Facts {
    let mut facts = Facts::default();
    for name in services(config, incident) {
        match service(name) {
            Ok(service) => look(&mut facts, config, operations, id, name, &service, now),
            Err(error) => facts.unsettled.push(format!("{name} can't be read: {error}")),
        }
    }
    for (enforcer, holds) in enforce::unconfirmed(config, operations, now) {
        let ours = |hold: &&WideHoldId| operations.holds.all.get(hold).is_some_and(|one| one.incident == Some(id));
        let unconfirmed = holds.iter().filter(ours).map(|hold| format!("{enforcer} has not confirmed {hold}"));
        facts.unconfirmed.extend(unconfirmed);
    }
    if config.service.is_empty() {
        // What runs is not known here; the clock starts where the plan ended.
        facts.stable_since = incident.recovered_at;
    }
    facts.undelivered = dead.unwrap_or_else(|error| vec![format!("the outbox can't be read: {error}")]);
    facts
}

fn look(
    facts: &mut Facts,
    config: &Config,
    operations: &Operations,
    id: IncidentId,
    name: &ServiceName,
    service: &Service,
    now: Timestamp,
) {
    let good = service
        .last_good
        .map_or_else(|| "nothing".into(), |digest| format!("{} {}", service.name_of(Some(&digest)), digest.short()));
    facts.target.insert(name.clone(), good);
    if service.run.is_some() {
        facts.unsettled.push(format!("a run of {name} is under way"));
    }
    let configured = config.service[name].instance.iter();
    for instance in configured {
        let state = service.instances.get(&instance.name);
        let is_good = state.is_some_and(|state| {
            // One that a held run left where it was runs what it should.
            state.release.is_some() && state.release == service.last_good && state.is_settled()
        });
        if !is_good {
            facts.unsettled.push(format!("{} of {name} is not settled on last-good", instance.name));
        }
    }
    let back = service.rolled_back.as_ref().map(|back| back.at);
    facts.stable_since = [facts.stable_since, service.promoted_at, service.moved_at, back].into_iter().flatten().max();
    let subject = config.service[name].subject();
    for (hold, wide) in operations.holds.standing(now).filter(|(_, hold)| hold.incident == Some(id)) {
        if wide.stops(name, &subject) && !service.holds.values().any(|part| part.origin == Some(*hold)) {
            facts.unconfirmed.push(format!("{hold} is not in the record of {name}"));
        }
    }
}
