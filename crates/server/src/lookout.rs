//! Keeps the folded state between two looks, so that a scrape reads only what is new.

use crate::snapshot::{ChainSize, LookError, PeopleView, ServiceView, Snapshot};
use lastgood_domain::{
    alarm::alarms,
    evidence::{Checkpoint, Note},
    operations::{Operations, approval::Standing, hold::HoldKind},
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
    /// Enforcers that are told even when every hold is confirmed.
    enforcers: BTreeSet<String>,
}

impl Lookout {
    /// Begins to watch `services`; `endpoints` are those that notices are configured for.
    pub fn new(services: &[ServiceName], endpoints: &[String]) -> Self {
        Self {
            services: services.iter().map(|name| (name.clone(), Folded::default())).collect(),
            operations: operations::Folded::default(),
            endpoints: endpoints.iter().cloned().collect(),
            enforcers: BTreeSet::new(),
        }
    }

    /// Tells of these enforcers of holds from now on.
    #[must_use]
    pub fn enforced_by<'a>(mut self, enforcers: impl Iterator<Item = &'a String>) -> Self {
        self.enforcers.extend(enforcers.cloned());
        self
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
        self.operations.read_on(reader, &Scope::default())?;
        let operations = self.operations.state.clone();
        let outbox = self.outbox(reader.backlog()?);
        let (wide_holds, holds_unconfirmed) = self.holds(now);
        let chains = sizes(reader)?;
        let people = people(&self.operations.state, now);
        Ok(Snapshot {
            at: now,
            services,
            operations,
            outbox,
            chains,
            people,
            wide_holds,
            holds_unconfirmed,
            ..Snapshot::default()
        })
    }

    /// Counts holds over several services by kind, and those that an enforcer has not confirmed.
    fn holds(&self, now: Timestamp) -> (BTreeMap<HoldKind, u64>, BTreeMap<String, u64>) {
        let holds = &self.operations.state.holds;
        let standing = |kind| holds.standing(now).filter(|(_, hold)| hold.kinds.contains(kind)).count() as u64;
        let kinds = HoldKind::ALL.iter().map(|kind| (*kind, standing(kind))).collect();
        let mut unconfirmed: BTreeMap<String, u64> = self.enforcers.iter().map(|name| (name.clone(), 0)).collect();
        for (name, of) in holds.unconfirmed(now) {
            unconfirmed.insert(name.to_string(), of.len() as u64);
        }
        (kinds, unconfirmed)
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
