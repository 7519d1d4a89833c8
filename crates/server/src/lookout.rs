//! Keeps the folded state between two looks, so that a scrape reads only what is new.

use crate::snapshot::{ChainSize, LookError, PeopleView, ServiceView, Snapshot};
use lastgood_domain::{
    alarm::alarms,
    evidence::{Checkpoint, Note},
    operations::{Operations, approval::Standing},
    service::Service,
    terms::{ServiceName, Timestamp},
};
use lastgood_engine::{
    fold::Folded,
    operations::{self, Scope},
};
use lastgood_store::{EndpointBacklog, Reader};
use std::collections::{BTreeMap, BTreeSet};

/// What was folded so far, chain by chain.
#[derive(Debug)]
pub struct Lookout {
    services: BTreeMap<ServiceName, Folded>,
    operations: operations::Folded,
    /// Endpoints that are told even when nothing waits for them.
    endpoints: BTreeSet<String>,
}

impl Lookout {
    /// Begins to watch `services`; `endpoints` are those that notices are configured for.
    pub fn new(services: &[ServiceName], endpoints: &[String]) -> Self {
        Self {
            services: services.iter().map(|name| (name.clone(), Folded::default())).collect(),
            operations: operations::Folded::default(),
            endpoints: endpoints.iter().cloned().collect(),
        }
    }

    /// Reads what was written since the last look and tells how things stand at `now`.
    ///
    /// Errors: [`LookError`]; what was folded before stays, and the next look goes on from there.
    pub fn look(&mut self, reader: &Reader, now: Timestamp) -> Result<Snapshot, LookError> {
        let mut services = BTreeMap::new();
        for (name, folded) in &mut self.services {
            folded.read_on(reader, name)?;
            services.insert(name.clone(), view(name, &folded.service, now));
        }
        let outbox = self.outbox(reader.backlog()?);
        self.operations.read_on(reader, &Scope::default())?;
        let people = people(&self.operations.state, now);
        Ok(Snapshot { at: now, services, outbox, people, chains: sizes(reader)?, ..Snapshot::default() })
    }

    /// Adds those for which nothing waits: a series that comes and goes can't be watched.
    fn outbox(&mut self, backlog: Vec<EndpointBacklog>) -> Vec<EndpointBacklog> {
        let mut backlog: BTreeMap<String, EndpointBacklog> =
            backlog.into_iter().map(|one| (one.endpoint.clone(), one)).collect();
        self.endpoints.extend(backlog.keys().cloned());
        for endpoint in &self.endpoints {
            backlog.entry(endpoint.clone()).or_insert_with(|| EndpointBacklog {
                endpoint: endpoint.clone(),
                waiting: 0,
                in_flight: 0,
                oldest: None,
                dead: 0,
                parked: 0,
                paused: None,
            });
        }
        backlog.into_values().collect()
    }
}

fn view(name: &ServiceName, state: &Service, now: Timestamp) -> ServiceView {
    let instances = match state.configured.as_slice() {
        // Before the first run nothing is configured here; what is known at all is told.
        [] => state.instances.keys().cloned().collect(),
        configured => configured.to_vec(),
    };
    ServiceView { alarms: alarms(name, state, now), instances, state: state.clone() }
}

fn people(operations: &Operations, now: Timestamp) -> PeopleView {
    let pending = || operations.approvals.all.values().filter(|one| one.standing_at(now) == Standing::Pending);
    PeopleView {
        approvals: pending().count() as u64,
        oldest: pending().map(|one| one.at).min(),
        pages: operations.pages.all.values().filter(|page| page.is_open()).count() as u64,
        overrides: operations.overrules.all.len() as u64,
    }
}

fn sizes(reader: &Reader) -> Result<Vec<ChainSize>, LookError> {
    let mut sizes = Vec::new();
    for info in reader.chains()? {
        let note = reader.checkpoint_note(&info.name)?;
        let signed = note.as_deref().and_then(signed_size).unwrap_or(0);
        sizes.push(ChainSize { name: info.name, records: info.head.size, signed });
    }
    Ok(sizes)
}

/// Reads how many records a checkpoint speaks of; one that can't be read speaks of none.
fn signed_size(note: &str) -> Option<u64> {
    let note = Note::parse(note).ok()?;
    Checkpoint::parse(note.text()).ok().map(|checkpoint| checkpoint.head.size)
}
