//! One service's chain in the store, as the loop sees it: records in, records and notices out.

use crate::{
    boundary,
    drive::{Log, LogError},
    fold::{self, Folded, KEEP_RECORDS_MIN},
    letter, room,
};
use lastgood_domain::{
    event::{Aim, Event, Record},
    evidence::{Head, RewindAcknowledged},
    notice::{self, NoticeKind},
    service::{Phase, Service},
    terms::{ChainName, ServiceName},
};
use lastgood_store::{AppendError, NewNotice, NewRecord, READ_RECORDS_MAX, Reader, Store, StoreError};

/// An endpoint and the kinds of notices it wants.
#[derive(Debug, Clone)]
pub struct Route {
    /// The endpoint's name in the configuration.
    pub endpoint: String,
    /// What it wants; empty is everything.
    pub kinds: Vec<NoticeKind>,
}

impl Route {
    /// Tells whether the endpoint wants notices of this kind; those of drills only if it says so.
    pub fn wants(&self, kind: NoticeKind) -> bool {
        (self.kinds.is_empty() && kind != NoticeKind::Drill) || self.kinds.contains(&kind)
    }
}

/// The chain of one service.
pub struct ServiceLog {
    store: Store,
    name: ServiceName,
    chain: ChainName,
    head: Head,
    /// Records that the kept state folds.
    kept: u64,
    routes: Vec<Route>,
}

/// Names the chain that holds a service's records.
pub fn chain_of(service: &ServiceName) -> ChainName {
    ChainName::new(&format!("service/{service}")).expect("a service name is shorter and plainer than a chain name")
}

impl ServiceLog {
    /// Opens the chain behind what is `folded`: the news are what comes after.
    pub fn new(store: Store, name: ServiceName, routes: Vec<Route>, folded: &Folded) -> Self {
        let chain = chain_of(&name);
        Self { store, name, chain, head: folded.head, kept: folded.kept, routes }
    }

    /// Gives the place up to which everything was read or appended.
    pub fn head(&self) -> Head {
        self.head
    }
}

/// Makes the notices that records of a service cause, decided on `before`, for the endpoints that want them.
pub(crate) fn notices(name: &ServiceName, routes: &[Route], before: &Service, records: &[Record]) -> Vec<NewNotice> {
    let (mut service, subject) = (before.clone(), chain_of(name).to_string());
    let mut notices = Vec::new();
    for record in records {
        service.apply(record);
        let Some(notice) = notice::notice(name, &service, record) else { continue };
        let wanting = routes.iter().filter(|route| route.wants(notice.kind));
        notices.extend(wanting.map(|route| NewNotice {
            endpoint: route.endpoint.clone(),
            subject: subject.clone(),
            kind: letter::kind_name(notice.kind),
            body: letter::body(name, &service, record, &notice),
            at: record.at,
        }));
    }
    notices
}

/// Tells whether records belong to a way back: one that is under way, or the one that they begin.
fn goes_back(before: &Service, records: &[Record]) -> bool {
    let returns = |service: &Service| {
        service.run.as_ref().is_some_and(|run| {
            matches!(run.aim, Aim::Back { .. })
                || matches!(run.phase, Phase::Returning { .. } | Phase::Unshifting { .. })
        })
    };
    let mut service = before.clone();
    returns(&service)
        || records.iter().any(|record| {
            service.apply(record);
            returns(&service)
        })
}

impl Log for ServiceLog {
    fn news(&mut self) -> Result<Vec<Record>, LogError> {
        let mut records = Vec::new();
        loop {
            let stored =
                self.store.read(&self.chain, self.head.size, READ_RECORDS_MAX).map_err(|error| LogError::of(&error))?;
            if stored.is_empty() {
                return Ok(records);
            }
            for one in stored {
                records.push(parse(&self.chain, one.seq, &one.bytes)?);
                self.head = Head { size: one.seq + 1, link: one.link };
            }
        }
    }

    fn append(&mut self, before: &Service, records: &[Record]) -> Result<(), LogError> {
        let notices = notices(&self.name, &self.routes, before, records);
        let new: Vec<NewRecord> =
            records.iter().map(|record| NewRecord { at: record.at, bytes: canonical(record) }).collect();
        boundary::cross();
        let mut appended = self.store.append(&self.chain, &self.head, &new, &notices);
        for _ in 0..room::TRIES {
            let Err(AppendError::Store(StoreError::NoSpace { .. })) = &appended else { break };
            if let Some(root) = self.store.path().parent() {
                room::make_room(root, goes_back(before, records));
            }
            appended = self.store.append(&self.chain, &self.head, &new, &notices);
        }
        match appended {
            Ok(head) => {
                self.head = head;
                boundary::cross();
                Ok(())
            }
            Err(AppendError::Moved { .. }) => Err(LogError::Moved),
            Err(error) => Err(LogError::of(&error)),
        }
    }

    fn keep(&mut self, service: &Service) -> Result<(), LogError> {
        if self.head.size < self.kept + KEEP_RECORDS_MIN {
            return Ok(());
        }
        fold::keep(&mut self.store, &self.chain, &self.head, service)?;
        self.kept = self.head.size;
        Ok(())
    }
}

/// Reads records of a chain from number `from` on, as many as the store gives at once; none if there are no more.
///
/// Errors: [`LogError::Failed`] names the first record that can't be understood.
pub fn read(reader: &Reader, service: &ServiceName, from: u64, limit: usize) -> Result<Vec<Record>, LogError> {
    let chain = chain_of(service);
    let stored = reader.read(&chain, from, limit).map_err(|error| LogError::of(&error))?;
    stored.iter().map(|one| parse(&chain, one.seq, &one.bytes)).collect()
}

/// Reads a whole chain into memory.
///
/// Errors: [`LogError::Failed`] names the first record that can't be understood.
pub fn read_all(reader: &Reader, service: &ServiceName) -> Result<Vec<Record>, LogError> {
    let mut records = Vec::new();
    loop {
        let more = read(reader, service, records.len() as u64, READ_RECORDS_MAX)?;
        if more.is_empty() {
            return Ok(records);
        }
        records.extend(more);
    }
}

/// Writes a record's canonical bytes (RFC 8785): keys sorted, no white space, whole numbers only.
///
/// `serde_json` sorts the keys of a [`serde_json::Value`] by bytes, which is the order RFC 8785 asks for as
/// long as keys are ASCII; ours are, and none of our numbers is a fraction.
pub fn canonical(record: &Record) -> Vec<u8> {
    serde_json::to_value(record)
        .and_then(|value| serde_json::to_vec(&value))
        .expect("records hold only texts, whole numbers and lists of them")
}

/// Reads the stored bytes of record `seq` of `chain`.
///
/// Errors: [`LogError::Failed`] if they can't be understood.
pub fn parse(chain: &ChainName, seq: u64, bytes: &[u8]) -> Result<Record, LogError> {
    // The corrective entry of the evidence has a form of its own, because it is signed.
    if let Ok(entry) = serde_json::from_slice::<RewindAcknowledged>(bytes) {
        let abandoned = entry.abandoned_size();
        let event = Event::RewindAcknowledged { reason: entry.reason, abandoned };
        return Ok(Record { v: Record::VERSION, at: entry.at, by: entry.actor, event });
    }
    serde_json::from_slice(bytes)
        .map_err(|error| LogError::damaged(format!("record {seq} of {chain} can't be understood: {error}")))
}
