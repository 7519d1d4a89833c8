//! What the metrics page says, number by number.
#![expect(clippy::unwrap_used, reason = "a test that cannot set up its world has failed")]

mod world;

use lastgood_domain::{
    alarm,
    effect::{Answer, Effect},
    event::{Back, Cause, End, Event, Gate, Health, Record, Verdict},
    facts::{Installation, Offer, Outcomes},
    failure::Failure,
    notice::{self, NoticeKind},
    service::Service,
    signal::State as SignalState,
    switches::{self, Switches},
    terms::{
        Actor, Digest, EnvironmentName, OrderId, Reason, Release, ReleaseTag, RunId, SignalName, Span, SwitchName,
    },
    traffic::{Judged, Route, RouteSide, Share},
};
use lastgood_engine::{
    config::Severity,
    letter::kind_name,
    log::chain_of,
    preflight::State,
    traffic::{Metered, Total},
};
use lastgood_server::{DriverState, Lookout, Readiness, Snapshot, SwitchesView, metrics};
use lastgood_store::{Anchor, EndpointBacklog, NewNotice, Outcome, Reader, Settlement, Signer, Store};
use std::{collections::BTreeSet, process::Command, thread};
use world::{at, hold, instance, service, started, write, write_with};

fn tag(text: &str) -> ReleaseTag {
    ReleaseTag::new(text).unwrap()
}

fn release_of(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

/// A release that went well, then one that went back by itself.
fn history() -> Vec<(i64, Event)> {
    let release = |text: &str| Release { tag: tag(text), digest: release_of(text), origin: "npm:web".into() };
    let offer = |text: &str| Offer { tag: tag(text), origin: "npm:web".into(), mark: None, published: None };
    let install = |order: u64, text: &str| {
        let facts = Installation {
            release: release(text),
            version: text.into(),
            path: "/srv/web".into(),
            tree: Digest::of(b"tree"),
            bytes: 1,
        };
        [
            Event::Ordered { order: OrderId(order), effect: Effect::Install { offer: offer(text) } },
            Event::Answered {
                order: OrderId(order),
                answer: Answer::Installed { installation: facts, provenance: None },
            },
        ]
    };
    let start = |order: u64, name: &str, text: &str| Event::Ordered {
        order: OrderId(order),
        effect: Effect::Start { instance: instance(name), release: release(text).digest },
    };
    let failure = Failure::new("probe-failed", "GET / answered 500", None);
    let cause = Cause::Candidate { instance: instance("alice"), failure };
    let back = Back {
        instance: instance("alice"),
        to: Some(release("1.0.0").digest),
        snapshot: None,
        with_data: false,
        since: None,
    };
    let outcomes = Outcomes { good: 90, degraded: 4, broken: 6 };
    let mut events = vec![(0, started(0, &["alice", "bob"]))];
    events.extend(install(0, "1.0.0").map(|event| (1, event)));
    events.extend([
        (2, start(1, "alice", "1.0.0")),
        (2, start(2, "bob", "1.0.0")),
        (3, Event::Promoted { release: release("1.0.0").digest, behind: vec![] }),
        (3, Event::RunEnded { run: RunId(0), end: End::Promoted }),
        (4, Event::Died { instance: instance("bob"), why: "exit status 1".into(), again_at: at(5) }),
        (5, Event::Revived { instance: instance("bob") }),
        (6, Event::OutcomesCounted { outcomes, health: Health::Broken }),
        (10, started(1, &["alice", "bob"])),
    ]);
    events.extend(install(3, "1.1.0").map(|event| (11, event)));
    events.extend([
        (12, start(4, "alice", "1.1.0")),
        (13, Event::ReturnBegun { cause: cause.clone(), back: vec![back], left: None }),
        (14, Event::Rejected { release: release("1.1.0").digest, tag: tag("1.1.0"), reason: "it failed".into() }),
        (14, hold(0, "rolled back: it failed")),
        (14, Event::RunEnded { run: RunId(1), end: End::RolledBack { cause } }),
    ]);
    events
}

fn queued(endpoint: &str, minute: i64) -> NewNotice {
    NewNotice {
        endpoint: endpoint.into(),
        subject: "service/web".into(),
        kind: "rolled-back".into(),
        body: b"{}".to_vec(),
        at: at(minute),
    }
}

/// Everything there is to tell, at half past midnight.
fn full() -> Snapshot {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    write_with(&mut store, &service("web"), &history(), &[queued("ops", 15), queued("ops", 20)]);
    let names = [service("shop"), service("web")];
    let mut lookout = Lookout::new(&names, &["chat".into()]);
    let mut snapshot = lookout.look(&Reader::open(dir.path()).unwrap(), at(30)).unwrap();
    snapshot.drivers.insert(service("shop"), DriverState { alive: false, last_look: None });
    snapshot.drivers.insert(service("web"), DriverState { alive: true, last_look: Some(at(29)) });
    share(&mut snapshot);
    let checks = [
        ((Severity::Required, State::Pass), 5),
        ((Severity::Required, State::CannotTell), 1),
        ((Severity::Recommended, State::Fail), 2),
    ];
    snapshot.readiness = Some(Readiness { at: at(28), checks: checks.into() });
    snapshot.signals.insert(SignalName::new("outbox").unwrap(), SignalState::Firing);
    snapshot
}

/// Lets `web` share its traffic: half of the people are at the candidate, and two of its requests were saved.
fn share(snapshot: &mut Snapshot) {
    let [old, new] = ["1.0.0", "1.1.0"].map(release_of);
    let web = snapshot.services.get_mut(&service("web")).unwrap();
    let side = |release, name: &str| RouteSide { release, instances: vec![instance(name)] };
    web.state.traffic.route = Some(Route {
        last_good: Some(side(old, "alice")),
        candidate: Some(side(new, "bob")),
        share: Share::percent(50),
        leaving: Vec::new(),
        salt: String::new(),
    });
    let (share, verdict, because) = (Share::percent(50), Verdict::CannotTell, "few".into());
    web.state.traffic.judged = Some(Judged { share, verdict, because, since: at(29), at: at(29) });
    let total = Total { requests: 700, people: 40, tunnels: 3, in_flight: 1, ..Total::default() };
    let failing = Total { failed: 9, retried: 3, saved: 2, degraded: 5, ..total };
    let metered = Metered { up: true, epoch: Some(31), releases: [(old, total), (new, failing)].into() };
    snapshot.proxied = [(service("shop"), Metered::default()), (service("web"), metered)].into();
    let mut switches = Switches::default();
    let (switch, reason) = (SwitchName::new("auth").unwrap(), Reason::new("tokens leak").unwrap());
    let (at, by) = (at(3), Actor::new("person:alice").unwrap());
    let event = switches::Event::Tripped { switch: switch.clone(), reason };
    switches.apply(0, Some(&switches::Record { v: 1, at, by, event }));
    let known = vec![switches::all(), switch];
    let environment = EnvironmentName::new("production").unwrap();
    snapshot.switches = Some(SwitchesView::new(environment, known, &switches, [1_000, 2]));
}

#[test]
fn the_page_is_what_it_was() {
    assert_eq!(metrics(&full()), include_str!("golden/metrics.txt"));
}

#[test]
fn promtool_has_nothing_to_say_about_the_page() {
    use std::{io::Write as _, process::Stdio};
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is needed: install the Debian package prometheus");
    promtool.stdin.take().unwrap().write_all(metrics(&full()).as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn every_alarm_kind_is_there_at_0_before_anything_was_wrong_and_at_1_when_it_is() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open(dir.path()).unwrap());
    let mut snapshot = Snapshot::look(&Reader::open(dir.path()).unwrap(), &[service("web")], at(0)).unwrap();
    let words = [
        "broken",
        "degraded",
        "rolled-back",
        "rollback-failed",
        "rollback-held",
        "frozen",
        "stale",
        "gate-broken",
        "died",
    ];
    let page = metrics(&snapshot);
    assert_eq!(page.matches("\nlastgood_alarm{").count(), words.len());
    for word in words {
        assert!(page.contains(&format!("lastgood_alarm{{service=\"web\",alarm=\"{word}\"}} 0\n")), "{word}");
    }
    for kind in alarm::KINDS {
        let one = alarm::Alarm { kind, service: service("web"), since: at(0), summary: "it is".into() };
        snapshot.services.get_mut(&service("web")).unwrap().alarms = vec![one];
        let page = metrics(&snapshot);
        let firing: Vec<&str> =
            page.lines().filter(|line| line.starts_with("lastgood_alarm{") && line.ends_with(" 1")).collect();
        assert_eq!(firing, [format!("lastgood_alarm{{service=\"web\",alarm=\"{}\"}} 1", kind_name(kind))]);
    }
}

/// From its records alone: what people are told of it, and the number that stands meanwhile.
#[test]
fn each_thing_that_can_be_wrong_with_a_service_has_a_notice_and_a_number() {
    let good = &history()[..9];
    let outcomes = Outcomes { good: 90, degraded: 4, broken: 6 };
    let judged = |health| (6, Event::OutcomesCounted { outcomes, health });
    let ended = |run, end| (20, Event::RunEnded { run: RunId(run), end });
    // Up to where the candidate is to be left again.
    let going_back = || history().into_iter().filter(|(minute, _)| *minute < 14).collect::<Vec<_>>();
    let stuck = Event::ReturnFailed {
        instance: instance("alice"),
        failure: Failure::new("start-failed", "no port", None),
        reopens: None,
    };
    let refused = End::Refused { gate: Gate::Rejected, because: "1.1.0 was rejected".into() };
    let worlds: [(NoticeKind, Vec<(i64, Event)>); 6] = [
        (NoticeKind::Broken, [good, &[judged(Health::Broken)]].concat()),
        (NoticeKind::Degraded, [good, &[judged(Health::Degraded)]].concat()),
        (NoticeKind::RolledBack, history()),
        (NoticeKind::RollbackFailed, {
            let instances = vec![instance("alice")];
            [going_back(), vec![(14, stuck), ended(1, End::RollbackFailed { instances })]].concat()
        }),
        (NoticeKind::Frozen, [good, &[(6, hold(0, "a fair"))]].concat()),
        (NoticeKind::Stale, {
            let behind = [(10, started(1, &["alice", "bob"])), ended(1, refused)];
            let stale = (25, Event::WentStale { since: at(20), because: "1.1.0 was rejected".into() });
            [good, &behind, &[stale]].concat()
        }),
    ];
    for (kind, events) in worlds {
        let (web, dir) = (service("web"), tempfile::tempdir().unwrap());
        let mut store = Store::open(dir.path()).unwrap();
        write(&mut store, &web, &events);
        let mut state = Service::default();
        let by = Actor::new("lastgood:run").unwrap();
        let told = events.iter().filter_map(|(minute, event)| {
            let record = Record { v: 1, at: at(*minute), by: by.clone(), event: event.clone() };
            state.apply(&record);
            notice::notice(&web, &state, &record).map(|notice| notice.kind)
        });
        assert!(told.collect::<Vec<_>>().contains(&kind), "nobody hears of {kind:?}");
        let page = metrics(&Snapshot::look(&Reader::open(dir.path()).unwrap(), &[web], at(30)).unwrap());
        let line = |of: &str| format!("\nlastgood_alarm{{service=\"web\",alarm=\"{}\"}} {of}\n", kind_name(kind));
        assert!(page.contains(&line("1")), "{kind:?} has no number in\n{page}");
        drop(store);
        let before = tempfile::tempdir().unwrap();
        write(&mut Store::open(before.path()).unwrap(), &service("web"), good);
        let page = metrics(&Snapshot::look(&Reader::open(before.path()).unwrap(), &[service("web")], at(30)).unwrap());
        assert!(page.contains(&line("0")), "{kind:?} stands before it is so");
    }
}

#[test]
fn a_freeze_file_freezes_every_service() {
    let mut snapshot = full();
    snapshot.freeze_file = true;
    let frozen = kind_name(NoticeKind::Frozen);
    let page = metrics(&snapshot);
    for name in ["shop", "web"] {
        assert!(page.contains(&format!("lastgood_alarm{{service=\"{name}\",alarm=\"{frozen}\"}} 1\n")));
    }
}

#[test]
fn hostile_names_cannot_add_lines_to_the_page() {
    let mut snapshot = full();
    snapshot.outbox = vec![EndpointBacklog {
        endpoint: "a\"} 1\nlastgood_alarm{service=\"web\\".into(),
        waiting: 1,
        in_flight: 0,
        oldest: None,
        dead: 0,
        parked: 0,
        paused: None,
    }];
    let page = metrics(&snapshot);
    let line = r#"lastgood_notices_waiting{endpoint="a\"} 1\nlastgood_alarm{service=\"web\\"} 1"#;
    assert!(page.lines().any(|found| found == line), "{page}");
}

#[test]
fn the_reference_lists_exactly_the_families_of_the_page() {
    let page = metrics(&full());
    let served: BTreeSet<&str> =
        page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let reference = include_str!("../../../docs/reference/metrics.md");
    let listed: BTreeSet<&str> = reference
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split(['`', '{']).next())
        .filter(|name| name.starts_with("lastgood_"))
        .collect();
    assert_eq!(served, listed);
}

#[test]
fn a_second_look_reads_only_what_is_new_and_says_the_same_as_a_first_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let names = [service("web")];
    let mut lookout = Lookout::new(&names, &[]);
    let reader = Reader::open(dir.path()).unwrap();
    for event in history() {
        write(&mut store, &names[0], &[event]);
        let kept = lookout.look(&reader, at(30)).unwrap();
        assert_eq!(kept, Snapshot::look(&reader, &names, at(30)).unwrap());
    }
}

#[test]
fn evidence_that_was_replaced_is_read_from_its_beginning() {
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let names = [service("web")];
    write(&mut Store::open(old.path()).unwrap(), &names[0], &history());
    let mut other = history();
    other[0] = (0, started(0, &["alice", "carol"]));
    other.push((20, hold(1, "another")));
    write(&mut Store::open(new.path()).unwrap(), &names[0], &other);

    let mut lookout = Lookout::new(&names, &[]);
    lookout.look(&Reader::open(old.path()).unwrap(), at(30)).unwrap();
    let reader = Reader::open(new.path()).unwrap();
    assert_eq!(lookout.look(&reader, at(30)).unwrap(), Snapshot::look(&reader, &names, at(30)).unwrap());
    let shorter = tempfile::tempdir().unwrap();
    write(&mut Store::open(shorter.path()).unwrap(), &names[0], &history()[..3]);
    let reader = Reader::open(shorter.path()).unwrap();
    assert_eq!(lookout.look(&reader, at(30)).unwrap(), Snapshot::look(&reader, &names, at(30)).unwrap());
}

#[test]
fn a_record_that_cannot_be_understood_is_an_error_and_not_an_old_number() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let names = [service("web")];
    let head = write(&mut store, &names[0], &history());
    let bad = lastgood_store::NewRecord { at: at(20), bytes: b"{\"v\":1".to_vec() };
    store.append(&chain_of(&names[0]), &head, &[bad], &[]).unwrap();
    let error = Snapshot::look(&Reader::open(dir.path()).unwrap(), &names, at(30)).unwrap_err();
    assert!(error.to_string().contains(&format!("record {} of service/web", head.size)), "{error}");
}

#[test]
fn a_look_while_the_store_is_written_sees_whole_records_and_never_fewer_than_before() {
    const WRITES: u64 = 200;
    let dir = tempfile::tempdir().unwrap();
    let names = [service("web")];
    let mut store = Store::open(dir.path()).unwrap();
    let path = dir.path().to_owned();
    let writer = thread::spawn(move || {
        for id in 0..WRITES {
            write(&mut store, &service("web"), &[(1, hold(id, "one more"))]);
        }
    });
    let reader = Reader::open(&path).unwrap();
    let mut lookout = Lookout::new(&names, &[]);
    let mut seen = 0;
    while seen < WRITES {
        let ended = writer.is_finished();
        let snapshot = lookout.look(&reader, at(2)).unwrap();
        let records = snapshot.services[&names[0]].state.records;
        assert!(records >= seen, "{records} after {seen}");
        seen = records;
        assert!(!ended || seen == WRITES, "{seen} of {WRITES} after the last write");
    }
    writer.join().unwrap();
}

#[test]
fn signed_records_fall_behind_until_the_next_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let web = service("web");
    let mut store = Store::open(dir.path()).unwrap();
    write(&mut store, &web, &history());
    let signer = Signer::load_or_create(dir.path()).unwrap();
    store.checkpoint(&chain_of(&web), &signer, &Anchor::at(&dir.path().join("anchor")), at(20)).unwrap();
    write(&mut store, &web, &[(21, hold(1, "another"))]);
    let page = metrics(&Snapshot::look(&Reader::open(dir.path()).unwrap(), &[web], at(30)).unwrap());
    assert!(page.contains("lastgood_evidence_records{chain=\"service/web\"} 19\n"), "{page}");
    assert!(page.contains("lastgood_evidence_signed_records{chain=\"service/web\"} 18\n"), "{page}");
}

#[test]
fn dead_notices_are_told_apart_from_waiting_ones() {
    let dir = tempfile::tempdir().unwrap();
    let web = service("web");
    let mut store = Store::open(dir.path()).unwrap();
    write_with(&mut store, &web, &[(1, hold(0, "one"))], &[queued("ops", 1), queued("chat", 2)]);
    let claimed = store.claim(at(3), at(4), 1).unwrap();
    let outcome = Outcome::Failed { class: "http-400".into(), text: "answered 400".into() };
    let end = Settlement {
        id: claimed[0].id.clone(),
        attempt: claimed[0].attempt,
        at: at(3),
        code: Some(400),
        took: Span::ZERO,
        outcome,
        jitter: 0,
    };
    store.settle(&[end]).unwrap();
    let page = metrics(&Snapshot::look(&Reader::open(dir.path()).unwrap(), &[web], at(30)).unwrap());
    for (dead, waiting, endpoint) in [(1, 0, "ops"), (0, 1, "chat")] {
        assert!(page.contains(&format!("lastgood_notices_dead{{endpoint=\"{endpoint}\"}} {dead}\n")), "{page}");
        assert!(page.contains(&format!("lastgood_notices_waiting{{endpoint=\"{endpoint}\"}} {waiting}\n")), "{page}");
    }
}
