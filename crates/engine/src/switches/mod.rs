//! An environment's chain in the store: its records folded, and what people say appended with the notices it causes.
//!
//! A record that is damaged is passed over and told; one in doubt is believed where it only blocks.

mod letter;

use crate::{letter::kind_name, log::Route};
use lastgood_domain::{
    evidence::{ChainCheck, Head, RecordView, RewindAcknowledged},
    failure::Coded,
    switches::{self, Event, Record, Switches},
    terms::{Actor, ChainName, EnvironmentName, Timestamp},
};
use lastgood_store::{AppendError, NewNotice, NewRecord, READ_RECORDS_MAX, Reader, Store, StoreError};
use std::ops::Deref;

/// Damaged records that are told one by one; more are only counted.
const DAMAGED_TOLD_MAX: usize = 100;

/// Names the chain that holds an environment's records.
pub fn chain_of(environment: &EnvironmentName) -> ChainName {
    ChainName::new(&format!("switches/{environment}")).expect("an environment's name is shorter than a chain's")
}

/// A record that could not be taken as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// Its number in the chain.
    pub seq: u64,
    /// What is wrong with it.
    pub what: String,
}

/// An environment's state as of one place in its chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folded {
    /// What the records up to `head` fold to.
    pub switches: Switches,
    /// Where that is.
    pub head: Head,
    /// Records that were passed over or were in doubt.
    pub damaged: Vec<Damaged>,
}

impl Default for Folded {
    fn default() -> Self {
        Self { switches: Switches::default(), head: Head::EMPTY, damaged: Vec::new() }
    }
}

impl Folded {
    /// Gives the state of now.
    ///
    /// Errors: the store can't be read at all; a single bad record is no error.
    pub fn read(reader: &Reader, environment: &EnvironmentName) -> Result<Self, StoreError> {
        let mut folded = Self::default();
        folded.read_on(reader, environment)?;
        Ok(folded)
    }

    /// Folds what was written since; all anew if the chain is no longer the one that was read.
    ///
    /// Errors: as [`Folded::read`]; what was folded before stays.
    pub fn read_on(&mut self, reader: &Reader, environment: &EnvironmentName) -> Result<(), StoreError> {
        let chain = chain_of(environment);
        if !self.is_of(reader, &chain)? {
            *self = Self::default();
        }
        loop {
            let from = self.head.size;
            let stored = match reader.read(&chain, from, READ_RECORDS_MAX) {
                // One row of a wrong form hides all others of the same look: each is looked at alone.
                Err(StoreError::Damaged { .. }) => match reader.read(&chain, from, 1) {
                    Err(StoreError::Damaged { source, .. }) => {
                        self.pass_over(from, source.to_string());
                        continue;
                    }
                    other => other?,
                },
                other => other?,
            };
            if stored.is_empty() {
                // Rows may be missing before the head.
                let head = reader.head(&chain)?;
                if head.size > from {
                    self.pass_over(from, "it is missing".into());
                    continue;
                }
                // What is damaged may have no link of its own.
                if head.size == from {
                    self.head = head;
                }
                return Ok(());
            }
            for one in stored {
                while self.head.size < one.seq {
                    self.pass_over(self.head.size, "it is missing".into());
                }
                self.take(&chain, &one);
            }
        }
    }

    fn take(&mut self, chain: &ChainName, one: &lastgood_store::Record) {
        let view = RecordView { seq: one.seq, at: one.at, bytes: &one.bytes, leaf: None, link: one.link };
        let doubt = ChainCheck::from(chain, self.head).next(&view).err().map(|broken| broken.to_string());
        let record = parse(&one.bytes);
        let taken = record.as_ref().ok().filter(|record| doubt.is_none() || record.event.only_blocks());
        self.switches.apply(one.seq, taken);
        self.head = Head { size: one.seq + 1, link: one.link };
        if let Some(what) = doubt.or_else(|| record.err()) {
            self.tell(one.seq, what);
        }
    }

    fn pass_over(&mut self, seq: u64, what: String) {
        self.switches.apply(seq, None);
        self.head.size = seq + 1;
        self.tell(seq, what);
    }

    fn tell(&mut self, seq: u64, what: String) {
        if self.damaged.len() < DAMAGED_TOLD_MAX {
            self.damaged.push(Damaged { seq, what });
        }
    }

    /// Tells whether the chain still has what was folded: one record's link stands for all before it.
    fn is_of(&self, reader: &Reader, chain: &ChainName) -> Result<bool, StoreError> {
        let Some(last) = self.head.size.checked_sub(1) else { return Ok(true) };
        match reader.read(chain, last, 1) {
            Ok(stored) => Ok(match stored.first() {
                Some(record) if record.seq == last => record.link == self.head.link || !self.damaged.is_empty(),
                _ => reader.head(chain)?.size >= self.head.size && !self.damaged.is_empty(),
            }),
            Err(StoreError::Damaged { .. }) => Ok(true),
            Err(error) => Err(error),
        }
    }
}

/// Gives an environment's records that can be read, oldest first.
///
/// Errors: the store can't be read at all; a single bad record is left out.
pub fn records(reader: &Reader, environment: &EnvironmentName) -> Result<Vec<Record>, StoreError> {
    let chain = chain_of(environment);
    let (size, mut from, mut all) = (reader.head(&chain)?.size, 0, Vec::new());
    while from < size {
        let stored = match reader.read(&chain, from, READ_RECORDS_MAX) {
            // One row of a wrong form hides all others of the same look.
            Err(StoreError::Damaged { .. }) => match reader.read(&chain, from, 1) {
                Err(StoreError::Damaged { .. }) => Vec::new(),
                other => other?,
            },
            other => other?,
        };
        from = stored.last().map_or(from, |last| last.seq) + 1;
        all.extend(stored.iter().filter_map(|one| parse(&one.bytes).ok()));
    }
    Ok(all)
}

fn parse(bytes: &[u8]) -> Result<Record, String> {
    // The corrective entry of the evidence has a form of its own, because it is signed.
    if let Ok(entry) = serde_json::from_slice::<RewindAcknowledged>(bytes) {
        let event = Event::RewindAcknowledged { reason: entry.reason.to_string() };
        return Ok(Record { v: Record::VERSION, at: entry.at, by: entry.actor, event });
    }
    serde_json::from_slice(bytes).map_err(|error| format!("it can't be understood: {error}"))
}

/// Why nothing was said.
#[derive(Debug, thiserror::Error)]
pub enum SayError {
    /// It is not allowed or makes no sense.
    #[error(transparent)]
    Refused(#[from] switches::Refused),
    /// The evidence can't be read or written.
    #[error(transparent)]
    Append(#[from] AppendError),
}

impl From<StoreError> for SayError {
    fn from(error: StoreError) -> Self {
        Self::Append(error.into())
    }
}

impl SayError {
    /// Gives the error as one with a code and a next step.
    pub fn coded(&self) -> &dyn Coded {
        match self {
            Self::Refused(inner) => inner,
            Self::Append(inner) => inner,
        }
    }
}

/// An environment's chain, open for writing.
pub struct Desk {
    store: Store,
    environment: EnvironmentName,
    routes: Vec<Route>,
    folded: Folded,
}

impl Desk {
    /// Opens the chain; `routes` are the endpoints that want notices.
    pub fn new(store: Store, environment: EnvironmentName, routes: Vec<Route>) -> Self {
        Self { store, environment, routes, folded: Folded::default() }
    }

    /// Gives the state of now.
    ///
    /// Errors: the store can't be read; what was folded before stays.
    pub fn look(&mut self) -> Result<&Folded, StoreError> {
        self.folded.read_on(self.store.deref(), &self.environment)?;
        Ok(&self.folded)
    }

    /// Gives the records found so far that could not be taken as they stand.
    pub fn damaged(&self) -> &[Damaged] {
        &self.folded.damaged
    }

    /// Appends what `decide` decides on the state of now, with the notices it causes, in one transaction. If somebody else
    /// appended in between it is decided again.
    ///
    /// Gives the record and the state after it. Errors: what `decide` refuses; the store fails.
    pub fn say(
        &mut self,
        by: &Actor,
        now: Timestamp,
        decide: &dyn Fn(&Switches) -> Result<Event, switches::Refused>,
    ) -> Result<(Record, &Folded), SayError> {
        let decide = |state: &Switches| decide(state).map(Some);
        let record = self.say_if(by, now, &decide)?.expect("it decides for an event or refuses");
        Ok((record, &self.folded))
    }

    /// Appends what `decide` decides, if it decides for anything; otherwise as [`Desk::say`].
    pub fn say_if(
        &mut self,
        by: &Actor,
        now: Timestamp,
        decide: &dyn Fn(&Switches) -> Result<Option<Event>, switches::Refused>,
    ) -> Result<Option<Record>, SayError> {
        let chain = chain_of(&self.environment);
        let mut moved = None;
        loop {
            self.folded.read_on(self.store.deref(), &self.environment)?;
            // Nothing new was read: the stored head is not one that any reading leads to.
            if moved == Some(self.folded.head) {
                let (expected, found) = (self.folded.head, self.store.head(&chain)?);
                return Err(AppendError::Moved { chain, expected, found }.into());
            }
            let Some(event) = decide(&self.folded.switches)? else { return Ok(None) };
            let record = Record { v: Record::VERSION, at: now, by: by.clone(), event };
            let new = NewRecord { at: now, bytes: canonical(&record) };
            let notices = self.notices(&record);
            match self.store.append(&chain, &self.folded.head, &[new], &notices) {
                Ok(head) => {
                    self.folded.switches.apply(self.folded.head.size, Some(&record));
                    self.folded.head = head;
                    return Ok(Some(record));
                }
                Err(AppendError::Moved { expected, .. }) => moved = Some(expected),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn notices(&self, record: &Record) -> Vec<NewNotice> {
        let Some(notice) = switches::notice(&self.environment, record) else { return Vec::new() };
        let wanting = self.routes.iter().filter(|route| route.kinds.is_empty() || route.kinds.contains(&notice.kind));
        let notices = wanting.map(|route| NewNotice {
            endpoint: route.endpoint.clone(),
            subject: chain_of(&self.environment).to_string(),
            kind: kind_name(notice.kind),
            body: letter::body(&self.environment, self.folded.head.size, record, &notice),
            at: record.at,
        });
        notices.collect()
    }
}

/// Writes a record's canonical bytes (RFC 8785), as [`crate::log::canonical`] does.
fn canonical(record: &Record) -> Vec<u8> {
    serde_json::to_value(record)
        .and_then(|value| serde_json::to_vec(&value))
        .expect("records hold only texts, whole numbers and lists of them")
}

#[cfg(test)]
mod tests;
