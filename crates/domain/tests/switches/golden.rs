//! The form of the records: every kind of version 1 stays readable and writes the same bytes for ever.
//!
//! `tests/golden/switches-v1.jsonl` is never edited: a line is only ever added, when an event or field is.

use crate::{actor, flag, reason, record, switch, variant};
use lastgood_domain::switches::{
    Comparison, Condition, Definition, Event, FlagKind, FlagValue, Part, Record, Rule, Serve, Test,
};

const RECORDS: &str = include_str!("../golden/switches-v1.jsonl");

#[test]
fn every_record_of_version_1_reads_and_writes_the_same_bytes() {
    let mut lines = 0;
    for line in RECORDS.lines() {
        let record: Record = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(serde_json::to_string(&record).unwrap(), line);
        lines += 1;
    }
    assert!(lines >= 11, "records were removed: {lines} are left");
}

#[test]
fn every_kind_of_record_written_today_is_kept_as_golden() {
    let kept: Vec<&str> = RECORDS.lines().collect();
    let lines = all().into_iter().map(|event| serde_json::to_string(&record("alice", event)).unwrap());
    let missing: Vec<String> = lines.filter(|line| !kept.contains(&line.as_str())).collect();
    assert!(missing.is_empty(), "add these to tests/golden/switches-v1.jsonl:\n{}", missing.join("\n"));
}

#[test]
fn a_record_of_an_unknown_kind_cannot_be_read() {
    let line = r#"{"v":1,"at":0,"by":"person:alice","event":{"kind":"exploded"}}"#;
    assert!(serde_json::from_str::<Record>(line).is_err());
}

fn all() -> Vec<Event> {
    let (auth, new, why) = (switch("auth"), flag("new-editor"), reason("audit"));
    let set = |definition| Event::FlagSet { flag: new.clone(), definition, reason: why.clone() };
    vec![
        Event::Tripped { switch: auth.clone(), reason: why.clone() },
        Event::ResetRequested { switch: auth.clone(), reason: why.clone() },
        Event::Reset { switch: auth.clone(), reason: why.clone(), requested_by: None },
        Event::Reset { switch: auth, reason: why.clone(), requested_by: Some(actor("bob")) },
        set(Definition::boolean()),
        set(everything()),
        Event::FlagTurnedOn { flag: new.clone(), reason: why.clone() },
        Event::FlagTurnedOff { flag: new.clone(), reason: why.clone() },
        Event::FlagRemoved { flag: new.clone(), reason: why.clone() },
        Event::RewindAcknowledged { reason: "put back".into() },
    ]
    .into_iter()
    .chain([FlagKind::Number, FlagKind::Object].map(|kind| {
        let value = if kind == FlagKind::Number { "-1.5e3" } else { "{\"a\":[1,null]}" };
        let variants = [(variant("one"), FlagValue::new(value).unwrap())].into();
        set(Definition { kind, variants, off: None, serve: Serve::Variant(variant("one")), ..Definition::boolean() })
    }))
    .collect()
}

/// A flag that uses everything there is.
fn everything() -> Definition {
    let tests = [
        Test::Equals { value: "pro".into() },
        Test::In { values: vec!["ch".into(), "de".into()] },
        Test::Prefix { value: "qa-".into() },
        Test::Number { is: Comparison::AtLeast, value: "1.5".into() },
        Test::Number { is: Comparison::Less, value: "9".into() },
        Test::Version { is: Comparison::Greater, value: "1.4.0".into() },
        Test::Version { is: Comparison::AtMost, value: "2.0.0".into() },
        Test::Version { is: Comparison::Equal, value: "2.0.0-rc.1".into() },
    ];
    let when = tests.into_iter().map(|test| Condition { attribute: "plan".into(), test }).collect();
    let split = Serve::Split(vec![
        Part { variant: variant("short"), seats: 500 },
        Part { variant: variant("long"), seats: 2_500 },
    ]);
    let text = |name: &str, text: &str| (variant(name), FlagValue::new(text).unwrap());
    Definition {
        kind: FlagKind::String,
        variants: [text("none", "\"\""), text("short", "\"Hi\""), text("long", "\"Good day\"")].into(),
        off: Some(variant("none")),
        rules: vec![Rule { when, serve: split.clone() }],
        serve: split,
        subsystem: Some(switch("auth")),
        salt: Some("spring".into()),
        comment: "the greeting of issue 12".into(),
    }
}
