//! The format of the log: every kind of record of version 1 stays readable and writes the same bytes for ever.
//!
//! `tests/golden/records-v1.jsonl` is never edited: a line is only ever added, when an event or field is.

use crate::walk::{
    digest, failure, gate, gate_facts, installation, instance, reason, rehearsal_facts, settings, snapshot_facts, tag,
};
use lastgood_domain::{
    effect::{Answer, Effect, Leg},
    event::{Aim, Back, Cause, DeferReason, End, Event, Expected, Gate, Health, Record, Settings, Verdict, WayBack},
    facts::{Busyness, KeptFlag, Loss, Offer, Outcomes, ProbeFacts, RestoreFacts, ResumeFacts, Standing},
    guard::GuardSettings,
    operations::{
        hold::{Exemption, InFlight},
        rca::{AnalysisEvent, Rca},
    },
    provenance::{Environment, GitTag, Policy, Provenance, Signature},
    terms::{Actor, FlagKey, HoldId, IncidentId, OrderId, RunId, SnapshotId, Span, SwitchName, Timestamp, WideHoldId},
    traffic::{DegradedSettings, Route, RouteLeaving, RouteSide, Share, ShareStep, TrafficEvent, TrafficSettings},
};

const RECORDS: &str = include_str!("../golden/records-v1.jsonl");

#[test]
fn every_record_of_version_1_reads_and_writes_the_same_bytes() {
    let mut lines = 0;
    for line in RECORDS.lines() {
        let record: Record = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(serde_json::to_string(&record).expect("a record is JSON"), line);
        lines += 1;
    }
    assert!(lines >= 90, "records were removed: {lines} are left");
}

#[test]
fn every_kind_of_record_written_today_is_kept_as_golden() {
    let kept: Vec<&str> = RECORDS.lines().collect();
    let missing: Vec<String> = all()
        .into_iter()
        .map(|event| {
            let by = Actor::new("person:alice").expect("a valid actor");
            let record = Record { v: Record::VERSION, at: Timestamp(1_767_225_600_000), by, event };
            serde_json::to_string(&record).expect("a record is JSON")
        })
        .filter(|line| !kept.contains(&line.as_str()))
        .collect();
    assert!(missing.is_empty(), "add these to tests/golden/records-v1.jsonl:\n{}", missing.join("\n"));
}

#[test]
fn a_record_of_an_unknown_kind_is_refused_and_not_skipped() {
    let line = r#"{"v":1,"at":0,"by":"person:alice","event":{"kind":"exploded"}}"#;
    assert!(serde_json::from_str::<Record>(line).is_err());
}

/// Every kind of event with every form it takes today.
pub(crate) fn all() -> Vec<Event> {
    let mut events = said();
    events.extend(traffic());
    events.extend(analyses());
    events.extend(run());
    events.extend(effects().into_iter().map(|effect| Event::Ordered { order: OrderId(7), effect }));
    events.extend(answers().into_iter().map(|answer| Event::Answered { order: OrderId(7), answer }));
    events.extend(ends().into_iter().map(|end| Event::RunEnded { run: RunId(3), end }));
    events.extend(causes().into_iter().map(|cause| Event::ReturnBegun {
        cause,
        back: vec![
            Back {
                instance: instance("alice"),
                to: Some(digest("1.0")),
                snapshot: Some(SnapshotId(4)),
                with_data: true,
                since: Some(Timestamp(5)),
            },
            Back { instance: instance("bob"), to: None, snapshot: None, with_data: false, since: None },
        ],
        left: Some(digest("2.0")),
    }));
    events.push(Event::ReturnBegun { cause: Cause::Asked { reason: "slow".into() }, back: Vec::new(), left: None });
    events
}

fn route() -> Route {
    let side = |release: &str, name: &str| RouteSide { release: digest(release), instances: vec![instance(name)] };
    Route {
        last_good: Some(side("1.0", "a.blue")),
        candidate: Some(side("2.0", "a.green")),
        share: Share::percent(5),
        leaving: vec![RouteLeaving { side: side("0.9", "b.green"), deadline: Timestamp(9) }],
        salt: "salt".into(),
    }
}

fn traffic() -> Vec<Event> {
    let (release, alice) = (digest("2.0"), || vec![instance("alice")]);
    let mut events = vec![
        TrafficEvent::ShiftBegun { plan: digest("plan"), release, instances: alice() },
        TrafficEvent::ShareBegun { share: Share::percent(5), until: Timestamp(6) },
        TrafficEvent::Returned { to: Some(digest("1.0")) },
        TrafficEvent::Returned { to: None },
        TrafficEvent::Emptied { release },
        TrafficEvent::Degraded { release, share: Share::ALL, because: "60 of 100 answers came by a fallback".into() },
        TrafficEvent::DegradedNoMore { release },
        TrafficEvent::EntriesStopped {
            routes: vec!["POST /rooms/*".parse().expect("a valid route")],
            retry_after: Span(5),
            reason: reason("audit"),
        },
        TrafficEvent::EntriesStopped { routes: Vec::new(), retry_after: Span(5), reason: reason("audit") },
        TrafficEvent::EntriesResumed { reason: reason("done") },
    ];
    for verdict in [Verdict::Pass, Verdict::Fail, Verdict::CannotTell] {
        events.push(TrafficEvent::Judged { share: Share::ALL, verdict, because: "3 of 100 failed".into() });
    }
    events.extend(causes().into_iter().map(|cause| TrafficEvent::ReturnBegun {
        cause,
        left: release,
        to: Some(digest("1.0")),
        raise: alice(),
    }));
    events.into_iter().map(Event::Traffic).collect()
}

fn analyses() -> Vec<Event> {
    let owed = |incident, owner| AnalysisEvent::Owed {
        because: "rolled back: slow".into(),
        due: Timestamp(5),
        incident,
        owner,
    };
    let alice = || Actor::new("person:alice").ok();
    let waived = |release| AnalysisEvent::Waived { reason: reason("hotfix"), until: Timestamp(6), release };
    let events = [
        owed(None, None),
        owed(Some(IncidentId(2)), alice()),
        AnalysisEvent::Submitted { document: digest("analysis") },
        AnalysisEvent::Accepted { document: digest("analysis") },
        waived(None),
        waived(Some(tag("2.1"))),
    ];
    events.map(Event::Analysis).into()
}

fn said() -> Vec<Event> {
    let gates = [
        (Gate::Hold, Verdict::Hold),
        (Gate::Pin, Verdict::Pass),
        (Gate::Channel, Verdict::Fail),
        (Gate::Rejected, Verdict::Fail),
        (Gate::Newer, Verdict::CannotTell),
        (Gate::Digest, Verdict::Pass),
        (Gate::Version, Verdict::Pass),
        (Gate::WayBack, Verdict::Pass),
        (Gate::Provenance, Verdict::Hold),
        (Gate::Required, Verdict::CannotTell),
        (Gate::Preflight, Verdict::CannotTell),
        (Gate::Rca, Verdict::Hold),
    ];
    let mut events: Vec<Event> =
        gates.into_iter().map(|(gate, verdict)| Event::Gated { gate, verdict, because: "so it is".into() }).collect();
    events.extend([
        Event::HoldSet {
            hold: HoldId(1),
            reason: reason("audit"),
            until: None,
            origin: None,
            in_flight: InFlight::Pause,
        },
        Event::HoldSet {
            hold: HoldId(2),
            reason: reason("audit"),
            until: Some(Timestamp(9)),
            origin: None,
            in_flight: InFlight::Pause,
        },
        Event::HoldSet {
            hold: HoldId(3),
            reason: reason("freeze"),
            until: None,
            origin: Some(WideHoldId(1)),
            in_flight: InFlight::Pause,
        },
        Event::HoldSet {
            hold: HoldId(3),
            reason: reason("audit"),
            until: None,
            origin: Some(WideHoldId(3)),
            in_flight: InFlight::Abort,
        },
        Event::HoldReviewSet { hold: HoldId(2), review: Timestamp(9) },
        Event::HoldReviewDue { hold: HoldId(2), again: Timestamp(90) },
        Event::HoldExempted {
            hold: HoldId(3),
            exemption: Exemption {
                release: digest("2.0"),
                tag: tag("2.0"),
                reason: reason("the fix"),
                until: Timestamp(9),
            },
            asked_by: Actor::new("person:bob").expect("a valid actor"),
        },
        Event::Annotated { incident: IncidentId(2) },
        Event::HoldLifted { hold: HoldId(1), reason: reason("done") },
        Event::Pinned { tag: tag("1.0"), reason: reason("audit") },
        Event::Unpinned { reason: reason("done") },
        Event::Rejected { release: digest("2.0"), tag: tag("2.0"), reason: "slow".into() },
        Event::Waived { release: digest("2.0"), reason: reason("fixed") },
        Event::Died { instance: instance("alice"), why: "exit status 1".into(), again_at: Timestamp(8) },
        Event::Revived { instance: instance("alice") },
        Event::NotRevived { instance: instance("alice"), failure: failure("port-taken"), again_at: Timestamp(9) },
        Event::WentOnWithout { failure: failure("anchor-missing") },
        Event::SetupAccepted {
            instance: instance("alice"),
            release: digest("2.0"),
            setup: digest("a setup"),
            reason: reason("the new port"),
        },
        Event::RewindAcknowledged { reason: reason("restored from a backup"), abandoned: None },
        Event::RewindAcknowledged { reason: reason("restored from a backup"), abandoned: Some(812) },
        Event::WentStale { since: Timestamp(1), because: "refused".into() },
    ]);
    for health in [Health::Good, Health::Degraded, Health::Broken, Health::CannotTell] {
        events.push(Event::OutcomesCounted { outcomes: Outcomes { good: 1, degraded: 2, broken: 3 }, health });
    }
    events
}

fn run() -> Vec<Event> {
    let mut full = settings(&["alice", "bob"]);
    full.canary = Some(instance("bob"));
    full.rehearse_on = Some(instance("alice"));
    let mut shared = settings(&["a.blue", "a.green"]);
    shared.traffic = Some(TrafficSettings {
        sides: ["a.blue", "a.green"].map(|name| vec![instance(name)]),
        holders: vec![instance("a.blue")],
        steps: vec![ShareStep { share: Share::ALL, bake: Span(7) }],
        drain: Span(8),
        warm: Span(9),
        cannot_tell_max: Span(10),
        guard: GuardSettings::default(),
        degraded: None,
        flags: Vec::new(),
        trips: Vec::new(),
        resume: true,
    });
    let mut strict = shared.clone();
    if let Some(traffic) = &mut strict.traffic {
        traffic.guard = GuardSettings { early: false, p95_max: Span(900), ..GuardSettings::default() };
    }
    let mut counted = shared.clone();
    if let Some(traffic) = &mut counted.traffic {
        traffic.guard = GuardSettings { p95: false, ..GuardSettings::default() };
        let goes_back = true;
        traffic.degraded =
            Some(DegradedSettings { percent: 20, against_last_good_percent: 150, outcomes_min: 20, goes_back });
    }
    full.policy = Policy {
        tags: Some("v*".into()),
        annotated: true,
        signed: true,
        digests: [(tag("1.0"), digest("1.0"))].into(),
        passed_in: Some("staging".into()),
    };
    let aims = [
        (Aim::Track, settings(&["alice"])),
        (Aim::Drain, settings(&["alice"])),
        (Aim::Cool, shared),
        (Aim::Track, strict),
        (Aim::Track, counted),
        (Aim::Track, Settings { rca: Rca::Required, ..settings(&["alice"]) }),
        (Aim::Track, Settings { expects: Some(Expected { tag: tag("2.0"), mark: None }), ..settings(&["alice"]) }),
        (Aim::DryRun, full.clone()),
        (Aim::Track, Settings { gates: vec![gate("load"), gate("unit")], ..settings(&["alice"]) }),
        (Aim::DryRun, Settings { policy: Policy::default(), ..full }),
        (
            Aim::Back { to: None, instances: Vec::new(), accept_loss: Vec::new(), reason: "slow".into() },
            settings(&["alice"]),
        ),
        (
            Aim::Back {
                to: Some(tag("1.0")),
                instances: vec![instance("alice")],
                accept_loss: vec![instance("alice")],
                reason: "slow".into(),
            },
            settings(&["alice"]),
        ),
    ];
    let mut events: Vec<Event> =
        aims.into_iter().map(|(aim, settings)| Event::RunStarted { run: RunId(3), aim, settings }).collect();
    for way_back in [WayBack::CodeOnly, WayBack::Restore, WayBack::Empty] {
        events.push(Event::WayBackProven { release: digest("2.0"), way_back, because: "seen".into() });
    }
    let alice = || instance("alice");
    events.extend([
        Event::CandidateChosen { offer: offer() },
        Event::SnapshotsBegun { instances: vec![alice()] },
        Event::RehearsalBegun { instance: alice(), snapshot: SnapshotId(4) },
        Event::MoveBegun { plan: digest("plan"), release: digest("2.0"), instances: vec![alice()] },
        Event::WaveBegun { number: 1, size: 1 },
        Event::Deferred { instance: alice(), why: "held".into(), reason: DeferReason::Other },
        Event::Deferred { instance: alice(), why: "busy".into(), reason: DeferReason::Busy },
        Event::Deferred { instance: alice(), why: "no answer".into(), reason: DeferReason::CannotTell },
        Event::Deferred { instance: alice(), why: "older data".into(), reason: DeferReason::Unrehearsed },
        Event::SoakBegun { until: Timestamp(6) },
        Event::Moved { instance: alice() },
        Event::ReturnWithData { instance: alice(), snapshot: SnapshotId(4) },
        Event::Returned { instance: alice() },
        Event::ReturnHeld { instance: alice(), loss: Loss { rows: 5, files: 1 }, age: Span(9) },
        Event::ReturnFailed { instance: alice(), failure: failure("stop-failed"), reopens: None },
        Event::Promoted { release: digest("2.0"), behind: vec![alice()] },
        Event::Demoted { release: Some(digest("1.0")) },
        Event::Demoted { release: None },
    ]);
    events
}

fn offer() -> Offer {
    Offer { tag: tag("2.0"), origin: "npm:x".into(), mark: Some("m".into()), published: Some(Timestamp(1)) }
}

fn effects() -> Vec<Effect> {
    let (alice, snapshot, release) = (|| instance("alice"), SnapshotId(4), digest("2.0"));
    let legs = [Leg::Control, Leg::Candidate, Leg::Restart, Leg::WayBack];
    let mut effects: Vec<Effect> =
        legs.map(|leg| Effect::Rehearse { instance: alice(), snapshot, release, leg }).into();
    effects.extend([
        Effect::Check { tag: None, except: Vec::new() },
        Effect::Check { tag: Some(tag("1.0")), except: Vec::new() },
        Effect::Check { tag: None, except: vec![tag("1.2"), tag("1.1")] },
        Effect::Install { offer: offer() },
        Effect::Install { offer: Offer { mark: None, published: None, ..offer() } },
        Effect::Verify { release },
        Effect::AskGate { gate: gate("unit"), release, control: Some(digest("1.0")) },
        Effect::AskGate { gate: gate("unit"), release, control: None },
        Effect::Snapshot { instance: alice(), snapshot },
        Effect::ClearRehearsal,
        Effect::AskBusy { instance: alice() },
        Effect::Stop { instance: alice() },
        Effect::SnapshotStopped { instance: alice(), snapshot },
        Effect::Start { instance: alice(), release },
        Effect::Probe { instance: alice(), release },
        Effect::Measure { instance: alice(), snapshot },
        Effect::Restore { instance: alice(), snapshot },
        Effect::LayReady { instance: alice(), snapshot },
        Effect::Route { route: route() },
        Effect::Route { route: Route { last_good: None, candidate: None, leaving: Vec::new(), ..route() } },
        Effect::TryResume { candidate: release, last_good: digest("1.0") },
        Effect::Prune { snapshots: vec![snapshot], releases: vec![release] },
        Effect::TurnOn { run: RunId(3), flags: vec![flag()] },
        Effect::TurnOff { run: RunId(3), flags: vec![flag()] },
        Effect::Trip { run: RunId(3), switches: vec![switch()], because: "3 of 100 failed".into() },
    ]);
    effects
}

fn answers() -> Vec<Answer> {
    let standings = [Standing::Newer, Standing::Same, Standing::Older, Standing::Unordered];
    let mut answers: Vec<Answer> =
        standings.map(|standing| Answer::Offered { offer: offer(), standing: Some(standing), foreign: None }).into();
    let busyness = [Busyness::Idle, Busyness::Busy("2".into()), Busyness::CannotTell("late".into())];
    answers.extend(busyness.map(|busyness| Answer::BusyAsked { busyness }));
    let restored =
        |aside| RestoreFacts { snapshot: SnapshotId(4), aside, bytes: 1, took: Span(2), earlier: Vec::new() };
    let used = [("login".to_owned(), "new".to_owned())].into();
    answers.extend([
        Answer::Offered { offer: offer(), standing: None, foreign: Some("not a nightly".into()) },
        Answer::NothingElse,
        Answer::Installed { installation: installation("2.0"), provenance: None },
        Answer::Verified,
        Answer::GateAsked { facts: gate_facts(Verdict::Fail, Some(Verdict::Pass)) },
        Answer::GateAsked { facts: gate_facts(Verdict::CannotTell, None) },
        Answer::Snapshotted { facts: snapshot_facts(SnapshotId(4), 10, 20) },
        Answer::RehearsalPassed { facts: rehearsal_facts() },
        Answer::RehearsalFailed { failure: failure("login-refused") },
        Answer::Stopped,
        Answer::NotStopped { failure: failure("state-owner-unknown") },
        Answer::Started { pid: 7, setup: None, unit: Vec::new() },
        Answer::Started { pid: 7, setup: Some(digest("a setup")), unit: Vec::new() },
        Answer::Started { pid: 7, setup: None, unit: vec!["a.service, what was there is a.service.before-r1".into()] },
        Answer::ProbePassed { facts: ProbeFacts::default() },
        Answer::ProbePassed { facts: ProbeFacts { used, requests: 3, took: Span(2) } },
        Answer::Measured { loss: Loss { rows: 5, files: 1 } },
        Answer::Restored { facts: restored(Some("/aside/1".into())) },
        Answer::Restored { facts: restored(None) },
        Answer::Cleared,
        Answer::LaidReady { bytes: 5 },
        Answer::Routed { took: Span(3) },
        Answer::ResumePassed { facts: ResumeFacts { sent: 9, delivered: 9, replayed: 2, took: Span(4) } },
        Answer::FlagsOn { on: vec![flag()], were_on: Vec::new() },
        Answer::FlagsOn { on: Vec::new(), were_on: vec![flag()] },
        Answer::FlagsOff { off: vec![flag()], kept: Vec::new() },
        Answer::FlagsOff {
            off: Vec::new(),
            kept: [true, false].map(|on| KeptFlag { flag: flag(), on, by: by() }).into(),
        },
        Answer::Tripped { switches: vec![switch()] },
        Answer::NotAsAnnounced { announced: "m".into(), fetched: "n".into() },
        Answer::Failed { failure: failure("probe-refused") },
        Answer::Hindered { failure: failure("disk-full") },
    ]);
    answers.extend(provenances().into_iter().map(|provenance| Answer::Installed {
        installation: installation("2.0"),
        provenance: Some(Box::new(provenance)),
    }));
    answers
}

fn flag() -> FlagKey {
    FlagKey::new("new-sync").expect("a valid key")
}

fn switch() -> SwitchName {
    SwitchName::new("auth").expect("a valid name")
}

fn by() -> Actor {
    Actor::new("person:alice").expect("a valid actor")
}

fn provenances() -> Vec<Provenance> {
    let signatures = [
        None,
        Some(Signature::Missing),
        Some(Signature::Good { signer: "alice".into() }),
        Some(Signature::Bad { why: "expired".into() }),
    ];
    let git_tag = |named, signature| Some(GitTag { commit: "c0ffee".into(), named, signature });
    let tags = signatures.map(|signature| Provenance { git_tag: git_tag(Some("2.0".into()), signature), ..none() });
    let environments = [
        Environment::Promoted { signed: 9 },
        Environment::Rejected { because: "by bob".into() },
        Environment::NotYet { because: "never seen".into() },
        Environment::CannotTell { because: "unreadable".into() },
    ];
    let environments = environments.map(|environment| Provenance { environment: Some(environment), ..none() });
    let mut all =
        vec![Provenance { fits: Some(true), ..none() }, Provenance { git_tag: git_tag(None, None), ..none() }];
    all.extend(tags.into_iter().chain(environments));
    all
}

fn none() -> Provenance {
    Provenance::default()
}

fn causes() -> Vec<Cause> {
    vec![
        Cause::Candidate { instance: instance("alice"), failure: failure("login-refused") },
        Cause::Machine { instance: instance("alice"), failure: failure("disk-full") },
        Cause::Broken { outcomes: Outcomes { good: 1, degraded: 2, broken: 3 } },
        Cause::Asked { reason: "slow".into() },
        Cause::Guard { share: Share::percent(5), because: "3 of 100 failed".into() },
        Cause::Gate { share: Share::percent(5), because: "load: 3 of 100 failed".into() },
        Cause::Router { failure: failure("router-gone") },
        Cause::Pinned { tag: tag("1.0") },
        Cause::Halted { because: "a hold".into() },
    ]
}

fn ends() -> Vec<End> {
    let mut ends: Vec<End> = causes().into_iter().map(|cause| End::RolledBack { cause }).collect();
    ends.extend([
        End::Held { because: "a hold".into(), moved: Vec::new(), went_back: false },
        End::Held { because: "pinned to 1.0".into(), moved: Vec::new(), went_back: true },
        End::UpToDate,
        End::Refused { gate: Gate::Newer, because: "older".into() },
        End::Stopped { failure: failure("disk-full") },
        End::GateBroken { failure: failure("login-refused") },
        End::RehearsalFailed { failure: failure("login-refused") },
        End::Rehearsed { way_back: WayBack::Restore },
        End::Promoted,
        End::Waiting { because: "busy".into() },
        End::RollbackFailed { instances: vec![instance("alice")] },
        End::RollbackHeld { instances: vec![instance("alice")] },
        End::Superseded,
        End::Cooled,
        End::Unproven { gate: Gate::Required, because: "unit: nobody can tell".into() },
        End::Unproven { gate: Gate::Preflight, because: "room: nobody can tell".into() },
    ]);
    ends
}
