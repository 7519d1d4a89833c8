//! What delivery promises: at least once, in order, by one sender, past kills and bad receivers.

#![expect(clippy::unwrap_used, reason = "a test that can not go on has failed")]

mod alerts;
mod kill;
mod world;

use lastgood_domain::{failure::Coded as _, terms::Timestamp};
use lastgood_engine::deliver::{DeliverError, Deliverer, Wake};
use lastgood_store::{NoticeState, Reader, Store};
use std::{collections::BTreeMap, fs, thread, time::Instant};
use world::{SECRET, Sink, World, deliverer, hook};

const DAY_MS: i64 = 24 * 3_600_000;

fn lines(endpoint: &str, subjects: usize, each: usize) -> Vec<String> {
    (0..each)
        .flat_map(|n| (0..subjects).map(move |subject| (subject, n)))
        .map(|(subject, n)| format!("{endpoint}/s{subject}/{n:03}"))
        .collect()
}

#[test]
fn all_that_is_due_is_delivered_in_one_pass_and_then_nothing_is_left() {
    let mut world = World::new();
    world.enqueue(&lines("ops", 20, 5));
    let sink = Sink::new(|_, _| "204 No Content");
    let mut deliverer = world.deliverer(&hook("ops", &sink.url));
    let report = deliverer.deliver_due(Timestamp(1)).unwrap();
    assert_eq!((report.delivered, report.retried, report.unfinished), (100, 0, false));
    assert_eq!((sink.taken().len(), world.count(NoticeState::Delivered)), (100, 100));
    assert_eq!(deliverer.deliver_due(Timestamp(2)).unwrap().delivered, 0);
}

#[test]
fn a_later_message_of_a_line_never_overtakes_an_earlier_one_that_fails() {
    let mut world = World::new();
    world.enqueue(&lines("ops", 10, 6));
    // Each message is refused twice, at different times for different lines.
    let sink = Sink::new(|body, taken| {
        let tries = taken.iter().filter(|(_, other)| other == body).count();
        if tries <= 2 { "503 Busy" } else { "204 No Content" }
    });
    let mut deliverer = world.deliverer(&hook("ops", &sink.url));
    let mut passes = 0;
    while world.count(NoticeState::Pending) > 0 {
        deliverer.deliver_due(Timestamp(1 + passes * DAY_MS)).unwrap();
        passes += 1;
        assert!(passes < 100, "it never ends");
    }
    let taken = sink.taken();
    assert_eq!(taken.len(), 180);
    for subject in 0..10 {
        let prefix = format!("s{subject}/");
        let line: Vec<_> = taken.iter().filter_map(|(_, body)| body.strip_prefix(&prefix)).collect();
        let mut sorted = line.clone();
        sorted.sort_unstable();
        assert_eq!(line, sorted, "line {subject} was out of order");
    }
}

#[test]
fn receivers_that_do_not_answer_keep_nobody_from_the_others_and_use_up_no_attempts() {
    let mut world = World::new();
    world.enqueue(&lines("hung", 100, 1));
    world.enqueue(&lines("ops", 50, 1));
    let sink = Sink::new(|_, _| "204 No Content");
    let endpoints = hook("ops", &sink.url) + "[hung]\ncommand = [\"sleep\", \"1000\"]\ntimeout = \"500ms\"\n";
    let mut deliverer = world.deliverer(&endpoints);
    let report = deliverer.deliver_due(Timestamp(1)).unwrap();
    assert_eq!(report.delivered, 50);
    assert!((3..=4).contains(&report.retried), "{report:?}");
    assert_eq!(report.retried + report.held_back, 100, "{report:?}");
    assert_eq!(report.problems["hung"], "timeout: sleep did not end within 500 ms and was killed");
    let tried = Reader::open(&world.state_dir()).unwrap().notices(NoticeState::Pending, 1_000).unwrap();
    let tried = tried.iter().filter(|row| row.attempts > 0).count() as u64;
    assert_eq!(tried, report.retried, "what was not sent has an attempt");
}

#[test]
fn each_end_is_visible_as_what_it_is() {
    let mut world = World::new();
    world.enqueue(&["ops/a/refused", "ops/b/gone", "ops/c/locked", "removed/d/x", "ops/a/next"].map(String::from));
    let sink = Sink::new(|body, _| match body {
        "a/refused" => "400 Bad Request",
        "b/gone" => "410 Gone",
        "c/locked" => "401 Unauthorized",
        _ => "204 No Content",
    });
    let report = world.deliverer(&hook("ops", &sink.url)).deliver_due(Timestamp(1)).unwrap();
    assert_eq!((report.delivered, report.retried, report.dead.len(), report.parked.len()), (1, 1, 1, 2));
    assert_eq!(report.problems["removed"], "endpoint-unknown: it is no longer in lastgood.toml");
    let reader = Reader::open(&world.state_dir()).unwrap();
    let parked: Vec<_> =
        reader.notices(NoticeState::Parked, 9).unwrap().into_iter().filter_map(|row| row.why).collect();
    assert_eq!(parked, ["http-410: answered 410", "endpoint-unknown: [notice.removed] is no longer in lastgood.toml"]);
}

#[test]
fn messages_wait_for_a_missing_secret_and_go_when_it_is_there() {
    let mut world = World::new();
    world.enqueue(&lines("ops", 2, 1));
    let sink = Sink::new(|_, _| "204 No Content");
    let file = world.dir.path().join("secret");
    let path = file.clone();
    let mut deliverer =
        deliverer(&world.state_dir(), &hook("ops", &sink.url), Box::new(move |_| fs::read_to_string(&path).ok()));
    let report = deliverer.deliver_due(Timestamp(1)).unwrap();
    assert_eq!((report.delivered, report.held_back), (0, 2));
    assert_eq!(report.problems["ops"], "endpoint-unusable: notice endpoint ops: there is no secret s");
    fs::write(&file, SECRET).unwrap();
    assert_eq!(deliverer.deliver_due(Timestamp(120_000)).unwrap().delivered, 2);
}

#[test]
fn there_is_one_sender_at_a_time() {
    let mut world = World::new();
    world.enqueue(&lines("ops", 1, 1));
    let first = world.deliverer("");
    let again = || {
        let store = Store::open(&world.state_dir()).unwrap();
        Deliverer::new(store, BTreeMap::new(), Box::new(|_| None), 1, Timestamp(0))
    };
    let Err(error @ DeliverError::Busy { .. }) = again() else { panic!("a second sender started") };
    assert_eq!(error.code(), "notice-sender-busy");
    drop(first);
    assert!(again().is_ok());
}

#[test]
fn a_daemon_delivers_when_woken_and_ends_when_told() {
    let mut world = World::new();
    world.enqueue(&lines("ops", 1, 1));
    let sink = Sink::new(|_, _| "204 No Content");
    let mut deliverer = world.deliverer(&hook("ops", &sink.url));
    let wake = Wake::default();
    let began = Instant::now();
    let clock = move || Timestamp(i64::try_from(began.elapsed().as_millis()).unwrap() + 1);
    let daemon = {
        let wake = wake.clone();
        thread::spawn(move || {
            let mut delivered = 0;
            deliverer.run_forever(&clock, &wake, &mut |report| delivered += report.unwrap().delivered);
            delivered
        })
    };
    sink.wait_for(1);
    world.enqueue(&lines("ops", 3, 1));
    wake.ring();
    sink.wait_for(4);
    wake.stop();
    assert_eq!(daemon.join().unwrap(), 4);
}

/// How fast is what `cargo xtask bench outbox` measures.
#[test]
fn four_thousand_are_delivered_and_settled_in_one_pass_each_once() {
    let mut world = World::new();
    world.enqueue(&lines("ops", 4_000, 1));
    let sink = Sink::new(|_, _| "204 No Content");
    let mut deliverer = world.deliverer(&hook("ops", &sink.url));
    assert_eq!(deliverer.deliver_due(Timestamp(1)).unwrap().delivered, 4_000);
    let taken = sink.taken();
    let ids: std::collections::BTreeSet<_> = taken.iter().map(|(id, _)| id).collect();
    assert_eq!((taken.len(), ids.len()), (4_000, 4_000));
    assert_eq!(deliverer.deliver_due(Timestamp(2)).unwrap().delivered, 0);
}
