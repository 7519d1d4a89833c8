//! The form of the records: every kind of version 1 stays readable and writes the same bytes for ever.
//!
//! `tests/golden/operations-v1.jsonl` is never edited: a line is only ever added, when an event or field is. A new kind
//! of event does not compile in [`kind`] until it is named there, and fails until [`all`] has one of it.

use crate::{actor, enforcer, name, reason};
use lastgood_domain::{
    failure::Failure,
    operations::{
        Event, Record,
        approval::{ApprovalEvent, Door, Request},
        cap::Risky,
        credential::CredentialEvent,
        emergency,
        escalation::PageEvent,
        hold::{Enforcement, Exemption, HoldEvent, HoldKind, InFlight, MergeExemption, Selector},
        incident::{
            IncidentEvent, Level, Signature, State,
            plan::{self, Act, Area, Outcome, PlanEvent, Precondition, Risk, RiskLevel, Step, Target, Turn, Undo},
            recommend::Recommendation,
        },
        overrule::Overrule,
    },
    terms::{ApprovalId, CommitId, Digest, IncidentId, PageId, ReleaseTag, Span, Timestamp, WideHoldId},
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
    // Add, never remove: then this number grows.
    assert_eq!(lines, 71);
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
const KINDS: [&str; 31] = [
    "hold set",
    "hold lifted",
    "hold review-due",
    "hold exemption-asked",
    "hold merge-exemption-asked",
    "hold enforced",
    "hold still-unconfirmed",
    "approval requested",
    "approval approved",
    "approval rejected",
    "approval link-given",
    "approval reminded",
    "approval expired",
    "approval voided",
    "approval extended",
    "approval used",
    "incident declared",
    "incident moved",
    "incident raised",
    "incident noted",
    "incident plan",
    "page",
    "risk",
    "credential begun",
    "credential done",
    "credential failed",
    "overruled",
    "emergency",
    "recommended",
    "seen",
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
            HoldEvent::MergeExemptionAsked { .. } => "hold merge-exemption-asked",
            HoldEvent::Enforced { .. } => "hold enforced",
            HoldEvent::StillUnconfirmed { .. } => "hold still-unconfirmed",
        },
        Event::Approval(event) => match event {
            ApprovalEvent::Requested { .. } => "approval requested",
            ApprovalEvent::Approved { .. } => "approval approved",
            ApprovalEvent::Rejected { .. } => "approval rejected",
            ApprovalEvent::LinkGiven { .. } => "approval link-given",
            ApprovalEvent::Reminded { .. } => "approval reminded",
            ApprovalEvent::Expired { .. } => "approval expired",
            ApprovalEvent::Voided { .. } => "approval voided",
            ApprovalEvent::Extended { .. } => "approval extended",
            ApprovalEvent::Used { .. } => "approval used",
        },
        Event::Incident { event, .. } => match event {
            IncidentEvent::Declared { .. } => "incident declared",
            IncidentEvent::Moved { .. } => "incident moved",
            IncidentEvent::Raised { .. } => "incident raised",
            IncidentEvent::Noted { .. } => "incident noted",
            IncidentEvent::Plan(_) => "incident plan",
            // These stand in incident-v1.jsonl, which has a test of its own.
            IncidentEvent::Began { .. }
            | IncidentEvent::Level(_)
            | IncidentEvent::Role(_)
            | IncidentEvent::Checklist(_)
            | IncidentEvent::Verify(_)
            | IncidentEvent::Unfreeze(_)
            | IncidentEvent::Message(_)
            | IncidentEvent::Closing(_) => "incident life",
        },
        Event::Page { .. } => "page",
        Event::Risk { .. } => "risk",
        Event::Credential { event, .. } => match event {
            CredentialEvent::Begun { .. } => "credential begun",
            CredentialEvent::Done { .. } => "credential done",
            CredentialEvent::Failed { .. } => "credential failed",
        },
        Event::Overruled(_) => "overruled",
        Event::Emergency(_) => "emergency",
        Event::Recommended { .. } => "recommended",
        Event::Seen { .. } => "seen",
        Event::RewindAcknowledged { .. } => "rewind-acknowledged",
    }
}

fn all() -> Vec<Event> {
    let mut events: Vec<Event> = holds().into_iter().map(Event::Hold).collect();
    events.extend(approvals().into_iter().map(Event::Approval));
    events.extend(incidents().into_iter().map(|event| Event::Incident { incident: IncidentId(2), event }));
    events.extend(
        plans().into_iter().map(|event| Event::Incident { incident: IncidentId(2), event: IncidentEvent::Plan(event) }),
    );
    events.extend(others());
    events.push(Event::RewindAcknowledged { reason: "put back".into() });
    events
}

fn plans() -> Vec<PlanEvent> {
    let acts = [
        Act::RollBack { service: name("web"), to: tag("1.0"), risks: vec!["busy-instance:a".into()] },
        Act::RollBack { service: name("web"), to: tag("1.0"), risks: Vec::new() },
        Act::PutBack { service: name("web"), risks: Vec::new() },
        Act::Command { name: "rebuild".into() },
        Act::Check { name: "tenants".into() },
        Act::Annotate,
        Act::VerifyEvidence,
        Act::CutOver,
        Act::ByHand { what: reason("call the bank") },
        Act::Credential { name: "db".into(), turn: Turn::ProveRefused },
    ];
    let undos = [Undo::Nothing, Undo::By { how: "again".into() }, Undo::None { why: "it is gone".into() }];
    let step = |(number, act): (usize, Act)| Step {
        id: format!("step/{number}"),
        area: [Area::Application, Area::Infrastructure, Area::Data, Area::Evidence, Area::Credentials][number % 5],
        act,
        says: "it is so".into(),
        undo: undos[number % 3].clone(),
        precondition: None,
        risk: None,
        timeout: Span::seconds(60),
        attempts: 1,
        may_fail: number == 3,
        spec: Digest::of(b"spec"),
    };
    let target = |commit: Option<&str>| Target {
        service: name("web"),
        tag: tag("1.0"),
        release: Digest::of(b"1.0"),
        commit: commit.map(Into::into),
        config: Digest::of(b"config"),
        data: [("a".into(), "1.0".into())].into(),
        position: 7,
    };
    let steps: Vec<Step> = acts.into_iter().enumerate().map(step).collect();
    // Since steps say what they need and what may go wrong.
    let needs = [
        Precondition::WayBack { service: name("web"), to: tag("1.0") },
        Precondition::AtRest { service: name("web"), at: tag("1.0") },
        Precondition::Asked { name: "rebuild".into() },
        Precondition::OldRefused { name: "db".into() },
        Precondition::Room,
    ];
    let levels = [RiskLevel::Low, RiskLevel::Moderate, RiskLevel::Severe];
    let needing = (0..).zip(needs).map(|(number, precondition)| Step {
        precondition: Some(precondition),
        risk: Some(Risk { level: levels[number % 3], what: "users notice".into() }),
        ..step((number, Act::Preserve))
    });
    let needing: Vec<Step> = needing.collect();
    let ended = |outcome| PlanEvent::Ended { step: "step/0".into(), outcome };
    vec![
        PlanEvent::Made {
            made: plan::Plan { level: Level::L3, targets: vec![target(None), target(Some("1f3a9c0"))], steps },
            hash: Digest::of(b"plan"),
        },
        PlanEvent::Begun { step: "step/0".into() },
        ended(Outcome::Done { evidence: "seen".into(), output: Some(Digest::of(b"seen")) }),
        ended(Outcome::Done { evidence: "seen".into(), output: None }),
        ended(Outcome::Failed { why: "exit status 1".into() }),
        ended(Outcome::CannotTell { why: "no verify".into() }),
        ended(Outcome::Settled { reason: reason("seen") }),
        ended(Outcome::Again { reason: reason("not seen") }),
        PlanEvent::Made {
            made: plan::Plan { level: Level::L3, targets: Vec::new(), steps: needing },
            hash: Digest::of(b"plan"),
        },
        PlanEvent::Met { step: "step/0".into(), evidence: "seen".into() },
        ended(Outcome::Unmet { why: "no room".into() }),
        PlanEvent::WaiverAsked {
            step: "step/0".into(),
            signature: Signature {
                risk: reason("noise"),
                until: Timestamp(9),
                approval: ApprovalId(3),
                plan: Digest::of(b"plan"),
            },
        },
    ]
}

fn others() -> Vec<Event> {
    let raised = |first: &[&str]| PageEvent::Raised {
        about: "approval/a3".into(),
        text: "asked".into(),
        chain: "people".into(),
        first: first.iter().map(|one| actor(one)).collect(),
    };
    let page = |event| Event::Page { page: PageId(1), event };
    let overrule = |digest| Overrule {
        gate: "unit".into(),
        service: name("web"),
        tag: tag("2.0"),
        digest,
        reason: reason("flaky"),
        until: Timestamp(9),
    };
    let acts = [
        emergency::Act::TripAll,
        emergency::Act::HoldAll,
        emergency::Act::Command { name: "runners".into() },
        emergency::Act::VerifyEvidence,
        emergency::Act::PreserveLogs,
    ];
    let row = |act| emergency::Row { act, done: true, says: "seen".into() };
    let rows = acts.into_iter().map(row).collect();
    let why = vec!["rollback-failed: web".into()];
    let signs = BTreeSet::from(["rollback-failed/web".to_owned()]);
    let recommended = |signs: BTreeSet<String>| {
        let recommendation =
            Recommendation { level: Level::L1, services: [name("web")].into(), why: why.clone(), signs };
        Event::Recommended { recommendation: Some(recommendation) }
    };
    let mut events = vec![
        page(raised(&[])),
        page(raised(&["bob"])),
        page(PageEvent::Paged { step: 0, to: [actor("bob")].into() }),
        page(PageEvent::Skipped { step: 1 }),
        page(PageEvent::Exhausted),
        page(PageEvent::Acknowledged),
        page(PageEvent::Ended { because: "approved".into() }),
        credential(CredentialEvent::Begun { turn: Turn::Revoke }),
        credential(CredentialEvent::Done { turn: Turn::ProveRefused, what: "the old one is refused".into() }),
        credential(CredentialEvent::Failed {
            turn: Turn::Rotate,
            failure: Failure::new("credential-command", "it did not work", None),
        }),
        Event::Overruled(overrule(None)),
        Event::Overruled(overrule(Some(Digest::of(b"2.0")))),
        Event::Emergency(emergency::EmergencyEvent { reason: reason("a key leaked"), rows }),
        recommended(BTreeSet::new()),
        recommended(signs.clone()),
        Event::Seen { signs },
        Event::Seen { signs: BTreeSet::new() },
        Event::Recommended { recommendation: None },
    ];
    let risky = [
        Risky::Rollback,
        Risky::Trip,
        Risky::Override,
        Risky::Exempt,
        Risky::Waive,
        Risky::AcceptRisk,
        Risky::Lower,
        Risky::StandDown,
    ];
    events.extend(risky.map(|act| Event::Risk { act }));
    events
}

fn credential(event: CredentialEvent) -> Event {
    Event::Credential { credential: "app-database".into(), event }
}

fn tag(text: &str) -> ReleaseTag {
    ReleaseTag::new(text).unwrap()
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
    let commit = CommitId::new("1c6e6c4c02e55178e85890fc9bbed4ce046415ec").unwrap();
    let merge = MergeExemption { commit, reason: reason("the fix"), until: Timestamp(9) };
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
        HoldEvent::MergeExemptionAsked { hold, approval: ApprovalId(2), exemption: merge },
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
        ApprovalEvent::Approved { approval, plan, door: Door::Command },
        ApprovalEvent::Approved { approval, plan, door: Door::Link },
        ApprovalEvent::Rejected { approval, reason: reason("not now"), door: Door::Command },
        ApprovalEvent::Rejected { approval, reason: reason("not now"), door: Door::Link },
        ApprovalEvent::LinkGiven { approval, person: actor("bob") },
        ApprovalEvent::Reminded { approval, percent: 50 },
        ApprovalEvent::Extended { approval, expires: Timestamp(9) },
        ApprovalEvent::Used { approval },
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
