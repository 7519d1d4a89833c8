//! A chain of one subject that people write to: its records folded, and what they say appended with the notices it causes.
//!
//! A record that is damaged is passed over and told; one in doubt is believed where it only blocks. Services have a log
//! of their own kind ([`crate::log`]), because a driver stands between a decision and the next.

use crate::{letter::kind_name, log::Route, room};
use lastgood_domain::{
    evidence::{ChainCheck, Head, RecordView, RewindAcknowledged},
    failure::Coded,
    notice::Notice,
    terms::{Actor, ChainName, Timestamp},
};
use lastgood_store::{Append, AppendError, NewNotice, NewRecord, READ_RECORDS_MAX, Reader, Store, StoreError};
use serde::{Serialize, de::DeserializeOwned};
use std::ops::Deref;

/// Damaged records that are told one by one; more are only counted.
const DAMAGED_TOLD_MAX: usize = 100;
/// Tries after other chains have moved, before the next is made alone: a service that is driven writes some records a second,
/// and a try takes milliseconds; with hundreds of services under way every try would come too late.
const ELSEWHERE_MAX: u32 = 3;

/// What a chain is about, and how its records are understood.
pub trait Subject {
    /// What the records fold to.
    type State: Default;
    /// One entry as it is written.
    type Record: Serialize;
    /// What an entry says happened.
    type Event;
    /// Why nothing was said.
    type Refused: Coded;

    /// Names the chain.
    fn chain(&self) -> ChainName;

    /// Reads stored bytes. Errors: why they can't be understood.
    fn parse(bytes: &[u8]) -> Result<Self::Record, String>;

    /// Makes an entry.
    fn record(at: Timestamp, by: Actor, event: Self::Event) -> Self::Record;

    /// Folds record number `seq`; `None` is one that can't be read.
    fn apply(state: &mut Self::State, seq: u64, record: Option<&Self::Record>);

    /// Tells whether it can only block and never open: then it is taken even where the record is in doubt.
    fn only_blocks(record: &Self::Record) -> bool;

    /// Takes in what stands outside of the chain and bears on its state; called each time the chain was read.
    ///
    /// Errors: the store can't be read.
    fn look_around(&self, _reader: &Reader, _state: &mut Self::State) -> Result<(), StoreError> {
        Ok(())
    }

    /// Folds record number `seq`, which only blocks and is in doubt.
    fn apply_in_doubt(state: &mut Self::State, seq: u64, record: &Self::Record) {
        Self::apply(state, seq, Some(record));
    }

    /// Makes the notices of record `seq` for the endpoints that want them, given the state after it.
    fn notices(&self, routes: &[Route], after: &Self::State, seq: u64, record: &Self::Record) -> Vec<NewNotice>;

    /// Sets the terms that the configuration has for what `by` says.
    ///
    /// Errors: what nobody could meet.
    fn on_terms(
        &self,
        _by: &Actor,
        events: Vec<Self::Event>,
        _now: Timestamp,
    ) -> Result<Vec<Self::Event>, Self::Refused> {
        Ok(events)
    }

    /// Tells whether `by` may say this, decided on `before`: the one place that every door comes through.
    ///
    /// Errors: why not.
    fn permit(
        &self,
        _before: &Self::State,
        _by: &Actor,
        _event: &Self::Event,
        _now: Timestamp,
    ) -> Result<(), Self::Refused> {
        Ok(())
    }

    /// Gives what has to stand in other chains together with `records`, which were decided on `before`.
    ///
    /// Errors: the store can't be read; nothing is said then.
    fn elsewhere(
        &self,
        _store: &Reader,
        _routes: &[Route],
        _before: &Self::State,
        _records: &[Self::Record],
    ) -> Result<Vec<Append>, AppendError> {
        Ok(Vec::new())
    }
}

/// Reads stored bytes as an entry; `corrective` makes one of the evidence's own, which has another form because it is
/// signed.
///
/// Errors: why they can't be understood.
pub fn parse<R: DeserializeOwned>(bytes: &[u8], corrective: fn(RewindAcknowledged) -> R) -> Result<R, String> {
    match serde_json::from_slice(bytes) {
        Ok(entry) => Ok(corrective(entry)),
        Err(_) => serde_json::from_slice(bytes).map_err(|error| format!("it can't be understood: {error}")),
    }
}

/// Addresses a notice to the endpoints that want its kind.
pub fn addressed(routes: &[Route], notice: &Notice, subject: &str, body: &[u8], at: Timestamp) -> Vec<NewNotice> {
    let wanting = routes.iter().filter(|route| route.wants(notice.kind));
    let notices = wanting.map(|route| NewNotice {
        endpoint: route.endpoint.clone(),
        subject: subject.into(),
        kind: kind_name(notice.kind),
        body: body.into(),
        at,
    });
    notices.collect()
}

/// A record that could not be taken as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// Its number in the chain.
    pub seq: u64,
    /// What is wrong with it.
    pub what: String,
}

/// A subject's state as of one place in its chain.
pub struct Folded<S: Subject> {
    /// What the records up to `head` fold to.
    pub state: S::State,
    /// Where that is.
    pub head: Head,
    /// Records that were passed over or were in doubt.
    pub damaged: Vec<Damaged>,
}

impl<S: Subject> Default for Folded<S> {
    fn default() -> Self {
        Self { state: S::State::default(), head: Head::EMPTY, damaged: Vec::new() }
    }
}

impl<S: Subject<State: Clone>> Clone for Folded<S> {
    fn clone(&self) -> Self {
        Self { state: self.state.clone(), head: self.head, damaged: self.damaged.clone() }
    }
}

impl<S: Subject<State: PartialEq>> PartialEq for Folded<S> {
    fn eq(&self, other: &Self) -> bool {
        self.state == other.state && self.head == other.head && self.damaged == other.damaged
    }
}

impl<S: Subject<State: std::fmt::Debug>> std::fmt::Debug for Folded<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Folded")
            .field("state", &self.state)
            .field("head", &self.head)
            .field("damaged", &self.damaged)
            .finish()
    }
}

impl<S: Subject> Folded<S> {
    /// Gives the state of now.
    ///
    /// Errors: the store can't be read at all; a single bad record is no error.
    pub fn read(reader: &Reader, subject: &S) -> Result<Self, StoreError> {
        let mut folded = Self::default();
        folded.read_on(reader, subject)?;
        Ok(folded)
    }

    /// Folds what was written since; all anew if the chain is no longer the one that was read.
    ///
    /// Errors: as [`Folded::read`]; what was folded before stays.
    pub fn read_on(&mut self, reader: &Reader, subject: &S) -> Result<(), StoreError> {
        let chain = subject.chain();
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
                return subject.look_around(reader, &mut self.state);
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
        let record = S::parse(&one.bytes);
        match (&record, &doubt) {
            (Ok(record), None) => S::apply(&mut self.state, one.seq, Some(record)),
            (Ok(record), Some(_)) if S::only_blocks(record) => S::apply_in_doubt(&mut self.state, one.seq, record),
            _ => S::apply(&mut self.state, one.seq, None),
        }
        self.head = Head { size: one.seq + 1, link: one.link };
        if let Some(what) = doubt.or_else(|| record.err()) {
            self.tell(one.seq, what);
        }
    }

    fn pass_over(&mut self, seq: u64, what: String) {
        S::apply(&mut self.state, seq, None);
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

/// Why nothing was said.
#[derive(Debug, thiserror::Error)]
pub enum SayError<R: std::error::Error> {
    /// It is not allowed or makes no sense.
    #[error(transparent)]
    Refused(R),
    /// The evidence can't be read or written.
    #[error(transparent)]
    Append(#[from] AppendError),
}

impl<R: std::error::Error> From<StoreError> for SayError<R> {
    fn from(error: StoreError) -> Self {
        Self::Append(error.into())
    }
}

impl<R: Coded + std::error::Error> SayError<R> {
    /// Gives the error as one with a code and a next step.
    pub fn coded(&self) -> &dyn Coded {
        match self {
            Self::Refused(inner) => inner,
            Self::Append(inner) => inner,
        }
    }
}

/// A subject's chain, open for writing.
pub struct Desk<S: Subject> {
    store: Store,
    subject: S,
    routes: Vec<Route>,
    folded: Folded<S>,
}

/// What a decision comes to: events to write, or why not.
pub type Decision<'a, S> =
    &'a dyn Fn(&<S as Subject>::State) -> Result<Vec<<S as Subject>::Event>, <S as Subject>::Refused>;

/// The one event that a decision comes to, or why not.
pub type OneDecision<'a, S> =
    &'a dyn Fn(&<S as Subject>::State) -> Result<<S as Subject>::Event, <S as Subject>::Refused>;
/// The records that a decision comes to and all that is appended for them, or why nothing is.
type Decided<S> = Result<(Vec<<S as Subject>::Record>, Vec<Append>), SayError<<S as Subject>::Refused>>;
/// What was written and the state after it, or why nothing was.
pub type Said<'a, S, Written> = Result<(Written, &'a Folded<S>), SayError<<S as Subject>::Refused>>;

impl<S: Subject<Refused: std::error::Error>> Desk<S> {
    /// Opens the chain; `routes` are the endpoints that want notices.
    pub fn new(store: Store, subject: S, routes: Vec<Route>) -> Self {
        Self { store, subject, routes, folded: Folded::default() }
    }

    /// Decides by another configuration from now on.
    pub fn decide_by(&mut self, subject: S) {
        self.subject = subject;
    }

    /// Gives the state of now.
    ///
    /// Errors: the store can't be read; what was folded before stays.
    pub fn look(&mut self) -> Result<&Folded<S>, StoreError> {
        self.folded.read_on(self.store.deref(), &self.subject)?;
        Ok(&self.folded)
    }

    /// Gives the records found so far that could not be taken as they stand.
    pub fn damaged(&self) -> &[Damaged] {
        &self.folded.damaged
    }

    /// Appends what `decide` decides on the state of now, with the notices it causes and what belongs into other chains,
    /// in one transaction. If somebody else appended in between it is decided again; where other chains move all the time,
    /// alone. Deciding on nothing writes nothing.
    ///
    /// Gives the records and the state after them. Errors: what `decide` refuses; the store fails.
    pub fn say(&mut self, by: &Actor, now: Timestamp, decide: Decision<'_, S>) -> Said<'_, S, Vec<S::Record>> {
        let chain = self.subject.chain();
        let (mut moved, mut elsewhere, mut room_made) = (None, 0, 0);
        loop {
            let Self { store, subject, routes, folded } = self;
            let said = match elsewhere < ELSEWHERE_MAX {
                true => folded.decide((subject, routes), store, (by, now), decide).and_then(|(records, appends)| {
                    let heads = if appends.is_empty() { Vec::new() } else { store.append_all(&appends)? };
                    Ok((records, heads))
                }),
                false => {
                    let mut said = Vec::new();
                    let heads = store.append_alone(|reader| {
                        let (records, appends) = folded.decide((subject, routes), reader, (by, now), decide)?;
                        said = records;
                        Ok::<_, SayError<S::Refused>>(appends)
                    });
                    heads.map(|heads| (said, heads))
                }
            };
            match said {
                Ok((records, heads)) => {
                    if let Some(head) = heads.first() {
                        self.folded.head = *head;
                    }
                    return Ok((records, &self.folded));
                }
                Err(SayError::Refused(refused)) => return Err(SayError::Refused(refused)),
                Err(SayError::Append(error)) => {
                    let expected = self.folded.head;
                    self.folded = Folded::default();
                    if let (AppendError::Store(StoreError::NoSpace { .. }), Some(root)) =
                        (&error, self.store.path().parent())
                        && room_made < room::TRIES
                    {
                        room::make_room(root, false);
                        room_made += 1;
                        continue;
                    }
                    let AppendError::Moved { chain: of, .. } = &error else { return Err(error.into()) };
                    // A service's chain moves whenever it is driven, which says nothing of ours.
                    match *of == chain {
                        // Nothing new was read: the stored head is not one that any reading leads to.
                        true if moved == Some(expected) => return Err(error.into()),
                        true => moved = Some(expected),
                        false if elsewhere <= ELSEWHERE_MAX => elsewhere += 1,
                        false => return Err(error.into()),
                    }
                }
            }
        }
    }

    /// Says one thing, as [`Desk::say`] does.
    ///
    /// Errors: as [`Desk::say`].
    pub fn say_one(&mut self, by: &Actor, now: Timestamp, decide: OneDecision<'_, S>) -> Said<'_, S, S::Record> {
        let (mut records, folded) = self.say(by, now, &|state| decide(state).map(|event| vec![event]))?;
        let record = records.pop().expect("one event makes one record");
        Ok((record, folded))
    }
}

impl<S: Subject<Refused: std::error::Error>> Folded<S> {
    /// Reads what is new and gives what `decide` makes of it: its records, and all that is appended for them, ours first. They
    /// are folded already, because a notice tells of the state after; where nothing is written, all is read anew.
    fn decide(
        &mut self,
        (subject, routes): (&S, &[Route]),
        reader: &Reader,
        (by, now): (&Actor, Timestamp),
        decide: Decision<'_, S>,
    ) -> Decided<S> {
        self.read_on(reader, subject)?;
        let expected = self.head;
        let events = decide(&self.state).and_then(|events| subject.on_terms(by, events, now));
        let events = events.map_err(SayError::Refused)?;
        for event in &events {
            subject.permit(&self.state, by, event, now).map_err(SayError::Refused)?;
        }
        if events.is_empty() {
            return Ok((Vec::new(), Vec::new()));
        }
        let records: Vec<_> = events.into_iter().map(|event| S::record(now, by.clone(), event)).collect();
        let mut appends = subject.elsewhere(reader, routes, &self.state, &records)?;
        let mut notices = Vec::new();
        for (seq, record) in (self.head.size..).zip(&records) {
            S::apply(&mut self.state, seq, Some(record));
            notices.extend(subject.notices(routes, &self.state, seq, record));
        }
        let new = records.iter().map(|record| NewRecord { at: now, bytes: canonical(record) }).collect();
        appends.insert(0, Append { chain: subject.chain(), expected, records: new, notices });
        Ok((records, appends))
    }
}

/// Writes a record's canonical bytes (RFC 8785), as [`crate::log::canonical`] does.
fn canonical(record: &impl Serialize) -> Vec<u8> {
    serde_json::to_value(record)
        .and_then(|value| serde_json::to_vec(&value))
        .expect("records hold only texts, whole numbers and lists of them")
}

#[cfg(test)]
mod tests;
