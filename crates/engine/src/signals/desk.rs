//! The chain `signals`: what stands, and what a verdict changes appended with its notice in one transaction.

use crate::{
    letter::{kind_name, rfc3339},
    log::Route,
};
use lastgood_domain::{
    evidence::{ChainCheck, Head, RecordView, RewindAcknowledged},
    failure::Coded,
    notice::Notice,
    signal::{self, Event, Firing, Record, Signals},
    terms::{Actor, ChainName, SignalName, Timestamp},
};
use lastgood_store::{AppendError, NewNotice, NewRecord, READ_RECORDS_MAX, Reader, Store, StoreError};
use serde_json::json;
use std::ops::Deref;

/// The chain's name.
pub const CHAIN: &str = "signals";

fn chain() -> ChainName {
    ChainName::new(CHAIN).expect("a fixed valid name")
}

/// Why signals can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SignalsError {
    /// The evidence can't be read or written.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// A record is not what was written.
    #[error("record {seq} of the chain {CHAIN} can't be believed: {what}")]
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

/// What stands, as of one place in the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folded {
    /// What the records up to `head` fold to.
    pub signals: Signals,
    /// Where that is.
    pub head: Head,
}

impl Default for Folded {
    fn default() -> Self {
        Self { signals: Signals::default(), head: Head::EMPTY }
    }
}

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
    fn read_on(&mut self, reader: &Reader) -> Result<(), SignalsError> {
        let chain = chain();
        if let Some(last) = self.head.size.checked_sub(1) {
            let kept = reader.read(&chain, last, 1)?;
            if kept.first().is_none_or(|record| record.seq != last || record.link != self.head.link) {
                *self = Self::default();
            }
        }
        loop {
            let stored = reader.read(&chain, self.head.size, READ_RECORDS_MAX)?;
            if stored.is_empty() {
                return Ok(());
            }
            for one in stored {
                let damaged = |what: String| SignalsError::Damaged { seq: one.seq, what };
                let view = RecordView { seq: one.seq, at: one.at, bytes: &one.bytes, leaf: None, link: one.link };
                ChainCheck::from(&chain, self.head).next(&view).map_err(|broken| damaged(broken.to_string()))?;
                let record = parse(&one.bytes).map_err(damaged)?;
                self.signals.apply(Some(&record));
                self.head = Head { size: one.seq + 1, link: one.link };
            }
        }
    }

    /// Gives the signals that fire, with their reasons: what a recommendation to declare an incident rests on.
    pub fn firing(&self) -> impl Iterator<Item = (&SignalName, &Firing)> {
        self.signals.standing.iter().filter_map(|(name, standing)| Some((name, standing.firing.as_ref()?)))
    }
}

fn parse(bytes: &[u8]) -> Result<Record, String> {
    // The corrective entry of the evidence has a form of its own, because it is signed.
    if let Ok(entry) = serde_json::from_slice::<RewindAcknowledged>(bytes) {
        let event = Event::RewindAcknowledged { reason: entry.reason.to_string() };
        return Ok(Record { v: Record::VERSION, at: entry.at, by: entry.actor, event });
    }
    serde_json::from_slice(bytes).map_err(|error| format!("it can't be understood: {error}"))
}

/// The chain, open for writing.
pub struct Desk {
    store: Store,
    routes: Vec<Route>,
    folded: Folded,
}

impl Desk {
    /// Opens the chain; `routes` are the endpoints that want notices.
    pub fn new(store: Store, routes: Vec<Route>) -> Self {
        Self { store, routes, folded: Folded::default() }
    }

    /// Gives what stands now.
    ///
    /// Errors: as [`Folded::read`].
    pub fn look(&mut self) -> Result<&Folded, SignalsError> {
        self.folded.read_on(self.store.deref())?;
        Ok(&self.folded)
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
        loop {
            self.folded.read_on(self.store.deref())?;
            let Some(event) = decide(&self.folded.signals) else { return Ok(None) };
            let record = Record { v: Record::VERSION, at: now, by: by.clone(), event };
            let new = NewRecord { at: now, bytes: canonical(&record) };
            match self.store.append(&chain(), &self.folded.head, &[new], &self.notices(&record)) {
                Ok(head) => {
                    self.folded.signals.apply(Some(&record));
                    self.folded.head = head;
                    return Ok(Some(record));
                }
                Err(AppendError::Moved { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn notices(&self, record: &Record) -> Vec<NewNotice> {
        let Some(notice) = signal::notice(record) else { return Vec::new() };
        let wanting = self.routes.iter().filter(|route| route.kinds.is_empty() || route.kinds.contains(&notice.kind));
        let notices = wanting.map(|route| NewNotice {
            endpoint: route.endpoint.clone(),
            subject: CHAIN.into(),
            kind: kind_name(notice.kind),
            body: body(self.folded.head.size, record, &notice),
            at: record.at,
        });
        notices.collect()
    }
}

/// Makes the body of record `seq`'s notice: one CloudEvent, made once and kept.
fn body(seq: u64, record: &Record, notice: &Notice) -> Vec<u8> {
    let kind = kind_name(notice.kind);
    let (signal, why) = match &record.event {
        Event::Fired { signal, why, .. } | Event::WentSilent { signal, why, .. } | Event::Cleared { signal, why } => {
            (Some(signal), Some(why))
        }
        Event::Forgotten { signal } => (Some(signal), None),
        Event::RewindAcknowledged { .. } => (None, None),
    };
    let event = json!({
        "specversion": "1.0",
        "id": format!("{CHAIN}#{seq}"),
        "source": format!("lastgood/{CHAIN}"),
        "type": format!("dev.lastgood.{kind}.v1"),
        "subject": signal,
        "time": rfc3339(record.at),
        "datacontenttype": "application/json",
        "data": {
            "signal": signal,
            "kind": kind,
            "severity": notice.severity,
            "summary": notice.summary,
            "hint": notice.hint,
            "why": why,
            "event": seq,
            "by": record.by,
        }
    });
    event.to_string().into_bytes()
}

/// Writes a record's canonical bytes (RFC 8785), as [`crate::log::canonical`] does.
fn canonical(record: &Record) -> Vec<u8> {
    serde_json::to_value(record)
        .and_then(|value| serde_json::to_vec(&value))
        .expect("records hold only texts and whole numbers")
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
