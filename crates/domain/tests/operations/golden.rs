//! The form of the records: every kind of version 1 stays readable and writes the same bytes for ever.
//!
//! `tests/golden/operations-v1.jsonl` is never edited: a line is only ever added, when an event or field is. A new kind
//! of event does not compile in [`kind`] until it is named there, and fails until [`all`] has one of it.

use crate::{actor, enforcer, name, reason};
use lastgood_domain::{
    operations::{
        Event, Record,
        approval::{ApprovalEvent, Request},
        hold::{Enforcement, Exemption, HoldEvent, HoldKind, InFlight, Selector},
        incident::{IncidentEvent, Level, State},
    },
    terms::{ApprovalId, Digest, IncidentId, ReleaseTag, Timestamp, WideHoldId},
};
use std::collections::BTreeSet;

const RECORDS: &str = include_str!("../golden/operations-v1.jsonl");

fn written(event: Event) -> String {
    let record = Record { v: Record::VERSION, at: Timestamp(1_767_225_600_000), by: actor("alice"), event };
    serde_json::to_string(&record).unwrap()
}

#[test]
fn every_record_of_version_1_reads_and_writes_the_same_bytes() {
    let mut lines = 0;
    for line in RECORDS.lines() {
        let record: Record = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(serde_json::to_string(&record).unwrap(), line);
        lines += 1;
    }
    assert!(lines >= 23, "records were removed: {lines} are left");
}

#[test]
fn every_kind_of_record_written_today_is_kept_as_golden() {
    let kept: Vec<&str> = RECORDS.lines().collect();
    let missing: Vec<String> = all().into_iter().map(written).filter(|line| !kept.contains(&line.as_str())).collect();
    assert!(missing.is_empty(), "add these to tests/golden/operations-v1.jsonl:\n{}", missing.join("\n"));
    let here: BTreeSet<&str> = all().iter().map(kind).collect();
    let missing: Vec<_> = KINDS.iter().filter(|kind| !here.contains(*kind)).collect();
    assert!(missing.is_empty(), "all() has none of {missing:?}");
}

#[test]
fn a_record_of_an_unknown_kind_cannot_be_read() {
    for kind in [r#""kind":"exploded""#, r#""kind":"hold","what":"exploded""#] {
        let line = format!(r#"{{"v":1,"at":0,"by":"person:alice","event":{{{kind}}}}}"#);
        assert!(serde_json::from_str::<Record>(&line).is_err());
    }
}

/// Every kind that [`kind`] can give.
const KINDS: [&str; 17] = [
    "hold set",
    "hold lifted",
    "hold review-due",
    "hold exemption-asked",
    "hold enforced",
    "hold still-unconfirmed",
    "approval requested",
    "approval approved",
    "approval rejected",
    "approval reminded",
    "approval expired",
    "approval voided",
    "incident declared",
    "incident moved",
    "incident raised",
    "incident noted",
    "rewind-acknowledged",
];

/// Names the kind of an event: a new one does not compile until it stands here, and then belongs into [`KINDS`].
fn kind(event: &Event) -> &'static str {
    match event {
        Event::Hold(event) => match event {
            HoldEvent::Set { .. } => "hold set",
            HoldEvent::Lifted { .. } => "hold lifted",
            HoldEvent::ReviewDue { .. } => "hold review-due",
            HoldEvent::ExemptionAsked { .. } => "hold exemption-asked",
            HoldEvent::Enforced { .. } => "hold enforced",
            HoldEvent::StillUnconfirmed { .. } => "hold still-unconfirmed",
        },
        Event::Approval(event) => match event {
            ApprovalEvent::Requested { .. } => "approval requested",
            ApprovalEvent::Approved { .. } => "approval approved",
            ApprovalEvent::Rejected { .. } => "approval rejected",
            ApprovalEvent::Reminded { .. } => "approval reminded",
            ApprovalEvent::Expired { .. } => "approval expired",
            ApprovalEvent::Voided { .. } => "approval voided",
        },
        Event::Incident { event, .. } => match event {
            IncidentEvent::Declared { .. } => "incident declared",
            IncidentEvent::Moved { .. } => "incident moved",
            IncidentEvent::Raised { .. } => "incident raised",
            IncidentEvent::Noted { .. } => "incident noted",
        },
        Event::RewindAcknowledged { .. } => "rewind-acknowledged",
    }
}

fn all() -> Vec<Event> {
    let mut events: Vec<Event> = holds().into_iter().map(Event::Hold).collect();
    events.extend(approvals().into_iter().map(Event::Approval));
    events.extend(incidents().into_iter().map(|event| Event::Incident { incident: IncidentId(2), event }));
    events.push(Event::RewindAcknowledged { reason: "put back".into() });
    events
}

fn holds() -> Vec<HoldEvent> {
    let hold = WideHoldId(3);
    let selector = Selector { services: [name("web")].into(), labels: [("tier".into(), "api".into())].into() };
    let exemption = Exemption {
        release: Digest::of(b"fix"),
        tag: ReleaseTag::new("2.0.1").unwrap(),
        reason: reason("the fix"),
        until: Timestamp(9),
    };
    let states = [
        Enforcement::Requested,
        Enforcement::Confirmed,
        Enforcement::Drifted { why: "it reads back without it".into() },
        Enforcement::Failed { why: "no answer".into() },
        Enforcement::Released,
    ];
    let mut events = vec![
        HoldEvent::Set {
            hold,
            kinds: HoldKind::ALL.into(),
            selector,
            reason: reason("audit"),
            incident: Some(IncidentId(2)),
            until: Some(Timestamp(9)),
            review: Some(Timestamp(8)),
            in_flight: InFlight::Abort,
        },
        HoldEvent::Set {
            hold,
            kinds: [HoldKind::Deploy].into(),
            selector: Selector::default(),
            reason: reason("audit"),
            incident: None,
            until: None,
            review: None,
            in_flight: InFlight::Pause,
        },
        HoldEvent::Lifted { hold, reason: reason("done") },
        HoldEvent::ReviewDue { hold, again: Timestamp(9) },
        HoldEvent::ExemptionAsked { hold, approval: ApprovalId(1), service: name("web"), exemption },
        HoldEvent::StillUnconfirmed { hold, enforcer: enforcer("repository") },
    ];
    events.extend(states.map(|state| HoldEvent::Enforced { hold, enforcer: enforcer("repository"), state }));
    events
}

fn approvals() -> Vec<ApprovalEvent> {
    let (approval, plan) = (ApprovalId(1), Digest::of(b"plan"));
    let request = Request {
        subject: "hold/hold-3/exempt/web".into(),
        what: "let web 2.0.1 pass hold-3".into(),
        plan,
        needed: 1,
        of: BTreeSet::new(),
        expires: Timestamp(9),
    };
    let asked = Request { of: [actor("bob")].into(), ..request.clone() };
    vec![
        ApprovalEvent::Requested { approval, request },
        ApprovalEvent::Requested { approval, request: asked },
        ApprovalEvent::Approved { approval, plan },
        ApprovalEvent::Rejected { approval, reason: reason("not now") },
        ApprovalEvent::Reminded { approval, percent: 50 },
        ApprovalEvent::Expired { approval },
        ApprovalEvent::Voided { approval, because: "it was asked anew".into() },
    ]
}

fn incidents() -> Vec<IncidentEvent> {
    let declared = |drill| IncidentEvent::Declared {
        level: Level::L2,
        trigger: reason("orders are doubled"),
        services: [name("web")].into(),
        commander: actor("bob"),
        drill,
    };
    vec![
        declared(false),
        declared(true),
        IncidentEvent::Moved { to: State::Planning, reason: reason("held") },
        IncidentEvent::Raised { level: Level::L3, reason: reason("a key is out") },
        IncidentEvent::Noted { text: reason("looked at the logs") },
    ]
}
