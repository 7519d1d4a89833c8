//! The chain `signals`: what stands, and what a verdict changes appended with its notice in one transaction.
//!
//! Unlike people's words, a verdict can be given anew: a record that can't be believed stops all of them until somebody
//! has looked.

use crate::{
    desk::{self, SayError, Subject, addressed},
    letter::{Place, cloud_event},
    log::Route,
};
use lastgood_domain::{
    failure::Coded,
    signal::{self, Event, Firing, Record, Signals},
    terms::{Actor, ChainName, SignalName, Timestamp},
};
use lastgood_store::{AppendError, NewNotice, Reader, Store, StoreError};
use serde_json::json;

/// The chain's name.
pub const CHAIN: &str = "signals";

/// Why signals can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SignalsError {
    /// The evidence can't be read or written.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// A record is not what was written.
    #[error("record {seq} of the chain {CHAIN} is not valid: {what}")]
    Damaged {
        /// Its number.
        seq: u64,
        /// What is wrong with it.
        what: String,
    },
}

impl From<StoreError> for SignalsError {
    fn from(error: StoreError) -> Self {
        Self::Append(error.into())
    }
}

impl Coded for SignalsError {
    fn code(&self) -> &'static str {
        match self {
            Self::Append(inner) => inner.code(),
            Self::Damaged { .. } => "signals-damaged",
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Append(inner) => inner.hint(),
            Self::Damaged { .. } => Some("find out where it is damaged: lastgood evidence verify".into()),
        }
    }
}

impl From<SayError<SignalsError>> for SignalsError {
    fn from(error: SayError<SignalsError>) -> Self {
        match error {
            SayError::Refused(refused) => refused,
            SayError::Append(error) => error.into(),
        }
    }
}

/// All signals, as a chain that is written to.
struct All;

impl Subject for All {
    type State = Signals;
    type Record = Record;
    type Event = Event;
    type Refused = SignalsError;

    fn chain(&self) -> ChainName {
        ChainName::new(CHAIN).expect("a fixed valid name")
    }

    fn parse(bytes: &[u8]) -> Result<Record, String> {
        desk::parse(bytes, |entry| {
            let event = Event::RewindAcknowledged { reason: entry.reason.to_string() };
            Self::record(entry.at, entry.actor, event)
        })
    }

    fn record(at: Timestamp, by: Actor, event: Event) -> Record {
        Record { v: Record::VERSION, at, by, event }
    }

    fn apply(state: &mut Signals, _seq: u64, record: Option<&Record>) {
        state.apply(record);
    }

    fn only_blocks(_record: &Record) -> bool {
        false
    }

    fn notices(&self, routes: &[Route], _after: &Signals, seq: u64, record: &Record) -> Vec<NewNotice> {
        let Some(notice) = signal::notice(record) else { return Vec::new() };
        let (signal, why) = match &record.event {
            Event::Fired { signal, why, .. }
            | Event::WentSilent { signal, why, .. }
            | Event::Cleared { signal, why } => (Some(signal), Some(why)),
            Event::Forgotten { signal } => (Some(signal), None),
            Event::RewindAcknowledged { .. } => (None, None),
        };
        let place = Place { chain: CHAIN, seq, at: record.at, by: &record.by };
        let body = cloud_event(&place, &notice, json!(signal), json!({ "signal": signal, "why": why })).to_string();
        addressed(routes, &notice, CHAIN, body.as_bytes(), record.at)
    }
}

/// Gives what stands, if every record can be believed.
fn believed(folded: &desk::Folded<All>) -> Result<&Signals, SignalsError> {
    match folded.damaged.first() {
        None => Ok(&folded.state),
        Some(first) => Err(SignalsError::Damaged { seq: first.seq, what: first.what.clone() }),
    }
}

/// What stands, as of one place in the chain. Who looks again and again keeps it, and only what is new is read.
#[derive(Debug, Clone, Default)]
pub struct Folded(desk::Folded<All>);

impl Folded {
    /// Gives what stands now.
    ///
    /// Errors: the store can't be read, or a record can't be believed.
    pub fn read(reader: &Reader) -> Result<Self, SignalsError> {
        let mut folded = Self::default();
        folded.read_on(reader)?;
        Ok(folded)
    }

    /// Folds what was written since; all anew if the chain is no longer the one that was read.
    ///
    /// Errors: as [`Folded::read`].
    pub fn read_on(&mut self, reader: &Reader) -> Result<(), SignalsError> {
        self.0.read_on(reader, &All)?;
        believed(&self.0).map(drop)
    }

    /// Gives what the records fold to.
    pub const fn signals(&self) -> &Signals {
        &self.0.state
    }

    /// Gives the signals that fire, with their reasons: what a recommendation to declare an incident rests on.
    pub fn firing(&self) -> impl Iterator<Item = (&SignalName, &Firing)> {
        self.0.state.standing.iter().filter_map(|(name, standing)| Some((name, standing.firing.as_ref()?)))
    }
}

/// The chain, open for writing.
pub struct Desk(desk::Desk<All>);

impl Desk {
    /// Opens the chain; `routes` are the endpoints that want notices.
    pub fn new(store: Store, routes: Vec<Route>) -> Self {
        Self(desk::Desk::new(store, All, routes))
    }

    /// Gives what stands now.
    ///
    /// Errors: as [`Folded::read`].
    pub fn look(&mut self) -> Result<&Signals, SignalsError> {
        believed(self.0.look()?)
    }

    /// Appends what `decide` decides on what stands now, with its notice, in one transaction. If somebody else appended in
    /// between it is decided again.
    ///
    /// Gives the record; none if nothing changes. Errors: [`SignalsError`]; nothing was written.
    pub fn say(
        &mut self,
        by: &Actor,
        now: Timestamp,
        decide: &dyn Fn(&Signals) -> Option<Event>,
    ) -> Result<Option<Record>, SignalsError> {
        self.look()?;
        let (mut records, _) = self.0.say(by, now, &|signals| Ok(decide(signals).into_iter().collect()))?;
        Ok(records.pop())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lastgood_domain::{
        notice::{NoticeKind, Severity},
        signal::Judged,
        terms::Span,
    };

    fn fire(desk: &mut Desk, at: i64) -> Option<Record> {
        let (by, name) = (Actor::new("lastgood:signals").unwrap(), SignalName::new("outbox").unwrap());
        let judged = Judged { state: signal::State::Firing, why: "12 is above 10".into() };
        let now = Timestamp(at);
        let decide =
            |signals: &Signals| signals.decide(&name, Severity::Critical, &judged, None, Span::seconds(1), now);
        desk.say(&by, now, &decide).unwrap()
    }

    #[test]
    fn a_signal_fires_once_however_many_say_so_and_its_notice_is_written_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let desk = || {
            let route =
                |endpoint: &str, kinds: &[NoticeKind]| Route { endpoint: endpoint.into(), kinds: kinds.to_vec() };
            let routes = vec![route("pager", &[NoticeKind::SignalFired]), route("deploys", &[NoticeKind::Promoted])];
            Desk::new(Store::open(folder.path()).unwrap(), routes)
        };
        let (mut one, mut other) = (desk(), desk());
        other.look().unwrap();
        assert!(fire(&mut one, 1).is_some());
        assert!(fire(&mut other, 2).is_none());
        let folded = Folded::read(&Reader::open(folder.path()).unwrap()).unwrap();
        let firing: Vec<_> = folded.firing().map(|(name, firing)| (name.as_str(), firing.why.as_str())).collect();
        assert_eq!(firing, [("outbox", "12 is above 10")]);
        let store = Store::open(folder.path()).unwrap();
        let notices = store.notices(lastgood_store::NoticeState::Pending, 10).unwrap();
        let told: Vec<_> = notices.iter().map(|row| (row.endpoint.as_str(), row.kind.as_str(), row.seq)).collect();
        assert_eq!(told, [("pager", "signal-fired", 0)]);
        assert!(store.verify(None, None).unwrap().is_ok());
    }

    #[test]
    fn who_looks_again_and_again_reads_only_what_is_new() {
        let folder = tempfile::tempdir().unwrap();
        let mut desk = Desk::new(Store::open(folder.path()).unwrap(), Vec::new());
        fire(&mut desk, 1).unwrap();
        let reader = Reader::open(folder.path()).unwrap();
        let mut kept = Folded::read(&reader).unwrap();
        // What was folded is not read again: an edit of it goes unseen here, and is found by whoever reads the whole.
        let file = folder.path().join(lastgood_store::EVIDENCE_FILE);
        let edit = "UPDATE record SET bytes = CAST(replace(CAST(bytes AS TEXT), '12', '11') AS BLOB)";
        rusqlite::Connection::open(file).unwrap().execute_batch(edit).unwrap();
        kept.read_on(&reader).unwrap();
        assert_eq!(kept.firing().count(), 1);
        assert_eq!(Folded::read(&reader).unwrap_err().code(), "signals-damaged");
        // Another chain in its place is read from its beginning.
        let other = tempfile::tempdir().unwrap();
        drop(Store::open(other.path()).unwrap());
        kept.read_on(&Reader::open(other.path()).unwrap()).unwrap();
        assert_eq!(kept.firing().count(), 0);
    }

    #[test]
    fn an_edited_record_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let mut desk = Desk::new(Store::open(folder.path()).unwrap(), Vec::new());
        fire(&mut desk, 1).unwrap();
        let file = folder.path().join(lastgood_store::EVIDENCE_FILE);
        let edit = "UPDATE record SET bytes = CAST(replace(CAST(bytes AS TEXT), '12', '11') AS BLOB)";
        rusqlite::Connection::open(file).unwrap().execute_batch(edit).unwrap();
        let error = Folded::read(&Reader::open(folder.path()).unwrap()).unwrap_err();
        assert_eq!(error.code(), "signals-damaged", "{error}");
    }
}
