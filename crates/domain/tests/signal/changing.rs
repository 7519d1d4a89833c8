//! Which verdicts are written, and the form of the records.

use crate::{NOW, name};
use lastgood_domain::{
    notice::{NoticeKind, Severity},
    signal::{Event, Judged, Record, Signals, State, notice, sentence},
    terms::{Actor, Span, Timestamp},
};
use proptest::prelude::*;

const RECORDS: &str = include_str!("../golden/signals-v1.jsonl");
const PATIENCE: Span = Span::minutes(10);

fn record(at: Timestamp, event: Event) -> Record {
    Record { v: Record::VERSION, at, by: Actor::new("lastgood:signals").unwrap(), event }
}

/// Walks through verdicts a minute apart as the daemon does; gives what was written.
fn walk(states: &[State]) -> (Vec<Event>, Signals) {
    let (mut signals, mut written, mut silent_since) = (Signals::default(), Vec::new(), None);
    for (index, state) in states.iter().enumerate() {
        let now = Timestamp(NOW.0 + index as i64 * 60_000);
        silent_since = (*state == State::CannotTell).then(|| silent_since.unwrap_or(now));
        let judged = Judged { state: *state, why: format!("number {index}") };
        let event = signals.decide(&name(), Severity::Warning, &judged, silent_since, PATIENCE, now);
        if let Some(event) = event {
            signals.apply(Some(&record(now, event.clone())));
            written.push(event);
        }
    }
    (written, signals)
}

#[test]
fn each_change_is_written_once_and_silence_only_when_it_lasts() {
    use State::{CannotTell as No, Firing as Bad, Ok as Good};
    let kinds = |states: &[State]| {
        let kind = |event: &Event| serde_json::to_value(event).unwrap()["kind"].as_str().unwrap().to_owned();
        walk(states).0.iter().map(kind).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(kinds(&[Good, Good]), "");
    assert_eq!(kinds(&[Good, Bad, Bad, Good, Good]), "fired cleared");
    assert_eq!(kinds(&[No; 10]), "");
    assert_eq!(kinds(&[No; 30]), "went-silent");
    assert_eq!(kinds(&[&[Bad], &[No; 20][..], &[Bad, Good]].concat()), "fired went-silent fired cleared");
    assert_eq!(kinds(&[&[No; 20][..], &[Good, No, Good]].concat()), "went-silent cleared");
    // One that fires goes on firing while nobody knows.
    let (_, signals) = walk(&[&[Bad], &[No; 20][..]].concat());
    assert!(signals.standing[&name()].firing.is_some() && signals.standing[&name()].silent.is_some());
}

#[test]
fn what_people_are_told_names_the_signal_and_its_numbers() {
    let fired =
        record(NOW, Event::Fired { signal: name(), severity: Severity::Critical, why: "12 is above 10".into() });
    let told = notice(&fired).unwrap();
    assert_eq!((told.kind, told.severity), (NoticeKind::SignalFired, Severity::Critical));
    assert_eq!(told.summary, "signal outbox-drains fires: 12 is above 10");
    let since = Timestamp(NOW.0 - 600_000);
    let silent = Event::WentSilent { signal: name(), severity: Severity::Warning, since, why: "nobody there".into() };
    assert_eq!(sentence(&record(NOW, silent)), "signal outbox-drains can't be told for 10 min: nobody there");
    assert!(notice(&record(NOW, Event::Forgotten { signal: name() })).is_none());
}

#[test]
fn every_record_of_version_1_reads_and_writes_the_same_bytes() {
    let kept: Vec<&str> = RECORDS.lines().collect();
    for line in &kept {
        let record: Record = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(serde_json::to_string(&record).unwrap(), *line);
    }
    let all = [
        Event::Fired { signal: name(), severity: Severity::Critical, why: "12 is above 10".into() },
        Event::WentSilent {
            signal: name(),
            severity: Severity::Warning,
            since: Timestamp(NOW.0 - 1),
            why: "why".into(),
        },
        Event::Cleared { signal: name(), why: "9 is not above 10".into() },
        Event::Forgotten { signal: name() },
        Event::RewindAcknowledged { reason: "put back".into() },
    ];
    let lines = all.map(|event| serde_json::to_string(&record(NOW, event)).unwrap());
    let missing: Vec<&String> = lines.iter().filter(|line| !kept.contains(&line.as_str())).collect();
    assert!(missing.is_empty(), "add these to tests/golden/signals-v1.jsonl:\n{missing:#?}");
}

proptest! {
    #[test]
    fn firing_and_clearing_alternate_and_what_stands_is_the_last_word(states in prop::collection::vec(0usize..3, 0..60)) {
        let states: Vec<State> = states.into_iter().map(|index| State::ALL[index]).collect();
        let (written, signals) = walk(&states);
        for pair in written.windows(2) {
            let twice = matches!(pair, [Event::Cleared { .. }, Event::Cleared { .. }])
                || matches!(pair, [Event::Fired { .. }, Event::Fired { .. }])
                || matches!(pair, [Event::WentSilent { .. }, Event::WentSilent { .. }]);
            prop_assert!(!twice, "{pair:?}");
        }
        let known = states.iter().rev().find(|state| **state != State::CannotTell);
        let fires = signals.standing.get(&name()).is_some_and(|standing| standing.firing.is_some());
        prop_assert_eq!(fires, known == Some(&State::Firing));
    }
}
