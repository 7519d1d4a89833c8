//! Keeps the folded state between two looks, so that a scrape reads only what is new.

use crate::snapshot::{ChainSize, LookError, ServiceView, Snapshot, Totals};
use lastgood_domain::{
    alarm::alarms,
    event::{Event, Record},
    evidence::{Checkpoint, Head, Note},
    service::Service,
    terms::{ChainName, InstanceName, ServiceName, Timestamp},
};
use lastgood_engine::log::{chain_of, parse};
use lastgood_store::{EndpointBacklog, READ_RECORDS_MAX, Reader};
use std::collections::{BTreeMap, BTreeSet};

/// What was folded so far, chain by chain.
#[derive(Debug)]
pub struct Lookout {
    services: BTreeMap<ServiceName, Folded>,
    /// Endpoints that are told even when nothing waits for them.
    endpoints: BTreeSet<String>,
}

#[derive(Debug)]
struct Folded {
    /// The end of what is folded.
    head: Head,
    state: Service,
    instances: Option<Vec<InstanceName>>,
    totals: Totals,
}

impl Lookout {
    /// Begins to watch `services`; `endpoints` are those that notices are configured for.
    pub fn new(services: &[ServiceName], endpoints: &[String]) -> Self {
        Self {
            services: services.iter().map(|name| (name.clone(), Folded::default())).collect(),
            endpoints: endpoints.iter().cloned().collect(),
        }
    }

    /// Reads what was written since the last look and tells how things stand at `now`.
    ///
    /// Errors: [`LookError`]; what was folded before stays, and the next look goes on from there.
    pub fn look(&mut self, reader: &Reader, now: Timestamp) -> Result<Snapshot, LookError> {
        let mut services = BTreeMap::new();
        for (name, folded) in &mut self.services {
            folded.read_on(reader, &chain_of(name))?;
            services.insert(name.clone(), folded.view(name, now));
        }
        let outbox = self.outbox(reader.backlog()?);
        Ok(Snapshot { at: now, services, outbox, chains: sizes(reader)?, ..Snapshot::default() })
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

impl Default for Folded {
    fn default() -> Self {
        Self { head: Head::EMPTY, state: Service::default(), instances: None, totals: Totals::default() }
    }
}

impl Folded {
    fn read_on(&mut self, reader: &Reader, chain: &ChainName) -> Result<(), LookError> {
        if !self.is_of(reader, chain)? {
            // The file was put back to an earlier state, or replaced: what we folded is not in it.
            *self = Self::default();
        }
        loop {
            let stored = reader.read(chain, self.head.size, READ_RECORDS_MAX)?;
            if stored.is_empty() {
                return Ok(());
            }
            for one in stored {
                self.fold(&parse(chain, one.seq, &one.bytes)?);
                self.head = Head { size: one.seq + 1, link: one.link };
            }
        }
    }

    /// Tells whether the chain still has what was folded: one record's link stands for all before it.
    fn is_of(&self, reader: &Reader, chain: &ChainName) -> Result<bool, LookError> {
        let Some(last) = self.head.size.checked_sub(1) else { return Ok(true) };
        let stored = reader.read(chain, last, 1)?;
        Ok(stored.first().is_some_and(|record| record.seq == last && record.link == self.head.link))
    }

    fn fold(&mut self, record: &Record) {
        self.state.apply(record);
        match &record.event {
            Event::RunStarted { settings, .. } => self.instances = Some(settings.instances.clone()),
            Event::RunEnded { end, .. } => *self.totals.runs.entry(end.into()).or_default() += 1,
            Event::ReturnBegun { cause, .. } => *self.totals.rollbacks.entry(cause.into()).or_default() += 1,
            Event::Died { instance, .. } => *self.totals.deaths.entry(instance.clone()).or_default() += 1,
            _ => {}
        }
    }

    fn view(&self, name: &ServiceName, now: Timestamp) -> ServiceView {
        let known = || self.state.instances.keys().cloned().collect();
        ServiceView {
            alarms: alarms(name, &self.state, now),
            instances: self.instances.clone().unwrap_or_else(known),
            state: self.state.clone(),
            totals: self.totals.clone(),
        }
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
