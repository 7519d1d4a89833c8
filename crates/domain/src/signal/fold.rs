//! What stands, and which verdicts change it.

use super::{Event, Judged, Record, State};
use crate::{
    notice::Severity,
    terms::{SignalName, Span, Timestamp},
};
use alloc::{collections::BTreeMap, string::String};

/// What stands of one signal. One that fires goes on firing while it can't be told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// That it fires.
    pub firing: Option<Firing>,
    /// That it can't be told, and since when.
    pub silent: Option<Firing>,
}

/// Since when something stands, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firing {
    /// Since when.
    pub since: Timestamp,
    /// How urgent it is.
    pub severity: Severity,
    /// The numbers.
    pub why: String,
}

/// What the records of the chain fold to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Signals {
    /// How many records are folded.
    pub records: u64,
    /// What stands; a signal that is well is not in it.
    pub standing: BTreeMap<SignalName, Standing>,
}

impl Signals {
    /// Folds one record; `None` is one that can't be read: it changes nothing.
    pub fn apply(&mut self, record: Option<&Record>) {
        self.records += 1;
        let Some(record) = record else { return };
        match &record.event {
            Event::Fired { signal, severity, why } => {
                let standing = self.standing.entry(signal.clone()).or_default();
                standing.firing = Some(Firing { since: record.at, severity: *severity, why: why.clone() });
                standing.silent = None;
            }
            Event::WentSilent { signal, severity, since, why } => {
                let standing = self.standing.entry(signal.clone()).or_default();
                standing.silent = Some(Firing { since: *since, severity: *severity, why: why.clone() });
            }
            Event::Cleared { signal, .. } | Event::Forgotten { signal } => {
                self.standing.remove(signal);
            }
            Event::RewindAcknowledged { .. } => {}
        }
    }

    /// Gives what a verdict changes.
    ///
    /// `silent_since` is since when every verdict was [`State::CannotTell`]; `patience` is how long that may be.
    pub fn decide(
        &self,
        signal: &SignalName,
        severity: Severity,
        judged: &Judged,
        silent_since: Option<Timestamp>,
        patience: Span,
        now: Timestamp,
    ) -> Option<Event> {
        decide(self.standing.get(signal), signal, severity, judged, silent_since, patience, now)
    }
}

/// As [`Signals::decide`], for what stands of the signal.
pub fn decide(
    standing: Option<&Standing>,
    signal: &SignalName,
    severity: Severity,
    judged: &Judged,
    silent_since: Option<Timestamp>,
    patience: Span,
    now: Timestamp,
) -> Option<Event> {
    let (signal, why) = (signal.clone(), judged.why.clone());
    let fires = standing.is_some_and(|standing| standing.firing.is_some());
    let silent = standing.is_some_and(|standing| standing.silent.is_some());
    match judged.state {
        State::Firing if !fires || silent => Some(Event::Fired { signal, severity, why }),
        State::Firing => None,
        State::Ok => standing.map(|_| Event::Cleared { signal, why }),
        State::CannotTell => {
            let since = silent_since.unwrap_or(now);
            let long = now.since(since) >= patience;
            (long && !silent).then_some(Event::WentSilent { signal, severity, since, why })
        }
    }
}
