//! The outbox: in order per endpoint and subject, at least once, every attempt written down.
#![expect(clippy::unwrap_used, reason = "a test that cannot set up its world has failed")]

use lastgood_domain::{
    evidence::{ChainName, Head},
    terms::{Span, Timestamp},
};
use lastgood_store::{
    AppendError, Claimed, MessageId, NewNotice, NewRecord, NoticeState, OutboxError, Outcome, Settled, Settlement,
    Store, retry_delay,
};
use tempfile::TempDir;

const LEASE: Span = Span::seconds(30);

struct World {
    _dir: TempDir,
    store: Store,
    head: Head,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        Self { _dir: dir, store, head: Head::EMPTY }
    }

    /// Enqueues messages written `endpoint/subject/body`, each with a record of its own.
    fn enqueue(&mut self, messages: &[&str]) {
        for message in messages {
            let [endpoint, subject, body]: [&str; 3] = message.split('/').collect::<Vec<_>>().try_into().unwrap();
            let (endpoint, subject, body) = (endpoint.into(), subject.into(), body.into());
            let notice = NewNotice { endpoint, subject, kind: "test".into(), body, at: Timestamp(0) };
            let record = NewRecord { at: Timestamp(0), bytes: message.as_bytes().to_vec() };
            let chain = ChainName::new("service/actual").unwrap();
            self.head = self.store.append(&chain, &self.head, &[record], &[notice]).unwrap();
        }
    }

    fn claim(&mut self, now: i64) -> Vec<Claimed> {
        self.store.claim(Timestamp(now), Timestamp(now).after(LEASE), 100).unwrap()
    }

    fn settle(&mut self, claimed: &Claimed, at: i64, outcome: Outcome) -> Settled {
        let (id, attempt, at) = (claimed.id.clone(), claimed.attempt, Timestamp(at));
        self.store.settle(&[Settlement { id, attempt, at, code: None, took: Span(3), outcome, jitter: 0 }]).unwrap()
    }

    fn state(&self, id: &MessageId) -> NoticeState {
        use NoticeState::{Delivered, Failed, InFlight, Parked, Pending};
        let has = |state: &NoticeState| self.store.notices(*state, 100).unwrap().iter().any(|row| row.id == *id);
        [Pending, InFlight, Delivered, Failed, Parked].into_iter().find(has).unwrap()
    }
}

fn bodies(claimed: &[Claimed]) -> Vec<String> {
    claimed.iter().map(|message| String::from_utf8(message.body.clone()).unwrap()).collect()
}

fn retry(retry_after: Option<Span>) -> Outcome {
    Outcome::Retry { class: "http-503".into(), text: "busy".into(), retry_after }
}

#[test]
fn what_a_clock_that_was_ahead_has_put_off_is_sent_once_it_is_set_back() {
    const YEAR: i64 = 365 * 24 * 3_600_000;
    let mut world = World::new();
    world.enqueue(&["ops/web/first", "ops/web/second"]);
    let first = world.claim(YEAR).remove(0);
    let retry = Outcome::Retry { class: "timeout".into(), text: "no answer".into(), retry_after: None };
    world.settle(&first, YEAR, retry.clone());
    // What was put off a moment ago waits.
    assert!(bodies(&world.claim(YEAR)).is_empty());
    let again = world.claim(0);
    assert_eq!(bodies(&again), ["first"]);
    world.settle(&again[0], 0, retry);
    assert!(bodies(&world.claim(0)).is_empty(), "its wait is a wait again, whenever it was tried first");
}

#[test]
fn a_later_message_of_a_pair_waits_for_the_earlier_and_others_do_not() {
    let mut world = World::new();
    world.enqueue(&["ops/a/1", "ops/a/2", "ops/b/3", "pager/a/4"]);
    let first = world.claim(0);
    assert_eq!(bodies(&first), ["1", "3", "4"]);
    assert!(world.claim(0).is_empty(), "2 was given while 1 is in flight");
    world.settle(&first[0], 10, retry(None));
    assert!(world.claim(10).is_empty(), "2 was given while 1 waits for its retry");
    let again = world.claim(10_000);
    assert_eq!((bodies(&again), again[0].attempt), (vec!["1".to_string()], 2));
    assert_eq!(again[0].id, first[0].id, "a retry has another webhook-id");
    world.settle(&again[0], 10_001, Outcome::Delivered);
    assert_eq!(bodies(&world.claim(10_001)), ["2"]);
}

#[test]
fn a_failed_message_no_longer_holds_up_its_line_and_is_reported_dead() {
    let mut world = World::new();
    world.enqueue(&["ops/a/1", "ops/a/2"]);
    let first = world.claim(0);
    let refused = Outcome::Failed { class: "http-400".into(), text: "invalid_payload".into() };
    let settled = world.settle(&first[0], 5, refused);
    assert_eq!(settled.dead, [first[0].id.clone()]);
    assert_eq!(bodies(&world.claim(5)), ["2"]);
    let dead = &world.store.notices(NoticeState::Failed, 10).unwrap()[0];
    assert_eq!(dead.why.as_deref(), Some("http-400: invalid_payload"));
    assert_eq!((dead.chain.as_str(), dead.seq), ("service/actual", 0));
}

#[test]
fn ten_attempts_over_75_hours_and_then_it_is_dead_with_ten_rows() {
    let mut world = World::new();
    world.enqueue(&["ops/a/1"]);
    let mut now = 0;
    for attempt in 1..=10 {
        let claimed = world.claim(now);
        assert_eq!(claimed[0].attempt, attempt);
        let settled = world.settle(&claimed[0], now, retry(None));
        assert_eq!(settled.dead.len(), usize::from(attempt == 10));
        if let Some(due) = world.store.next_due().unwrap() {
            assert!(world.claim(due.0 - 1).is_empty());
            now = due.0;
        }
    }
    // Jitter 0 is 10 % below 75 h 35 min 5 s.
    assert_eq!(now, 244_894_500);
    let id = &world.store.notices(NoticeState::Failed, 10).unwrap()[0].id;
    let attempts = world.store.attempts(id).unwrap();
    assert_eq!(attempts.len(), 10);
    assert_eq!(attempts[9].class.as_deref(), Some("http-503"));
    assert_eq!(attempts[9].took, Some(Span(3)));
}

#[test]
fn the_retry_schedule_is_jittered_by_ten_percent_and_honours_the_receiver_in_full() {
    let hour = Span::minutes(60);
    assert_eq!(retry_delay(1, None, 0), Some(Span(4_500)));
    assert_eq!(retry_delay(1, None, u32::MAX), Some(Span(5_500)));
    assert_eq!(retry_delay(9, None, u32::MAX / 2 + 1), Some(Span::minutes(24 * 60)));
    assert_eq!(retry_delay(10, None, 0), None);
    assert_eq!(retry_delay(0, None, 0), None);
    assert_eq!(retry_delay(1, Some(hour), 0), Some(hour));
    assert_eq!(
        retry_delay(4, Some(Span::seconds(1)), 0),
        Some(Span(6_480_000)),
        "sooner than asked for is not sooner than ours"
    );
    assert_eq!(retry_delay(1, Some(Span::minutes(8 * 24 * 60)), 0), None);
}

#[test]
fn retry_after_is_waited_for_to_the_millisecond() {
    let mut world = World::new();
    world.enqueue(&["ops/a/1"]);
    let claimed = world.claim(0);
    world.settle(&claimed[0], 100, retry(Some(Span::seconds(3_600))));
    assert!(world.claim(3_600_099).is_empty());
    assert_eq!(bodies(&world.claim(3_600_100)), ["1"]);
}

#[test]
fn a_lease_that_ended_is_taken_back_and_the_late_answer_is_refused() {
    let mut world = World::new();
    world.enqueue(&["ops/a/1"]);
    let lost = world.claim(0);
    assert!(world.claim(29_999).is_empty());
    let again = world.claim(30_000);
    assert_eq!((again[0].attempt, &again[0].id), (2, &lost[0].id));
    assert_eq!(world.settle(&lost[0], 30_001, retry(None)).stale, [lost[0].id.clone()]);
    assert_eq!(world.state(&lost[0].id), NoticeState::InFlight);
    world.settle(&again[0], 30_002, Outcome::Delivered);
    assert_eq!(world.state(&lost[0].id), NoticeState::Delivered);
    let attempts = world.store.attempts(&lost[0].id).unwrap();
    let classes: Vec<_> = attempts.iter().map(|attempt| attempt.class.as_deref().unwrap()).collect();
    assert_eq!(classes, ["lease-lost", "delivered"]);
}

#[test]
fn what_was_delivered_after_the_lease_is_not_sent_again_if_nobody_claimed_it() {
    let mut world = World::new();
    world.enqueue(&["ops/a/1", "ops/a/2"]);
    let slow = world.claim(0);
    assert_eq!(world.store.reclaim_all(Timestamp(1)).unwrap(), 1);
    assert_eq!(world.settle(&slow[0], 2, Outcome::Delivered), Settled::default());
    assert_eq!(bodies(&world.claim(2)), ["2"]);
}

#[test]
fn a_start_takes_every_lease_back_at_once() {
    let mut world = World::new();
    world.enqueue(&["ops/a/1", "ops/b/2"]);
    world.claim(0);
    assert_eq!(world.store.reclaim_all(Timestamp(1)).unwrap(), 2);
    assert_eq!(bodies(&world.claim(1)), ["1", "2"]);
}

#[test]
fn a_message_that_kills_its_sender_is_dead_after_twenty_times() {
    let mut world = World::new();
    world.enqueue(&["ops/a/poison", "ops/a/2"]);
    for round in 0..20 {
        assert_eq!(bodies(&world.claim(round)), ["poison"], "round {round}");
        world.store.reclaim_all(Timestamp(round)).unwrap();
    }
    assert_eq!(bodies(&world.claim(20)), ["2"]);
    assert_eq!(world.store.notices(NoticeState::Failed, 10).unwrap().len(), 1);
}

#[test]
fn an_operator_skips_a_stuck_message_and_replays_it_at_the_end_of_its_line() {
    let mut world = World::new();
    world.enqueue(&["ops/a/1", "ops/a/2", "ops/a/3"]);
    let stuck = world.claim(0);
    world.settle(&stuck[0], 0, retry(None));
    world.store.skip(&stuck[0].id, "receiver rejects it", Timestamp(1)).unwrap();
    let second = world.claim(1);
    assert_eq!(bodies(&second), ["2"]);
    world.store.replay(&stuck[0].id, Timestamp(2)).unwrap();
    world.settle(&second[0], 3, Outcome::Delivered);
    let third = world.claim(3);
    assert_eq!(bodies(&third), ["3"]);
    world.settle(&third[0], 4, Outcome::Delivered);
    let replayed = world.claim(4);
    assert_eq!((bodies(&replayed), &replayed[0].id), (vec!["1".to_string()], &stuck[0].id));
    assert_eq!(replayed[0].attempt, 2, "attempts go on counting, so that none is overwritten");
    world.settle(&replayed[0], 5, Outcome::Delivered);
    let wrong = world.store.replay(&stuck[0].id, Timestamp(6)).unwrap_err();
    assert!(matches!(wrong, OutboxError::WrongState { state: NoticeState::Delivered, .. }), "{wrong}");
    assert!(world.store.verify(None, None).unwrap().is_ok(), "replay changed what verify binds");
}

#[test]
fn what_is_dead_about_one_subject_is_found_among_however_many_of_others() {
    let mut world = World::new();
    let others: Vec<String> = (0..1_100).map(|n| format!("ops/other-{n}/x")).collect();
    world.enqueue(&others.iter().map(String::as_str).collect::<Vec<_>>());
    world.enqueue(&["ops/mine/1", "pager/mine/2"]);
    loop {
        let claimed = world.claim(0);
        if claimed.is_empty() {
            break;
        }
        for one in claimed.iter().filter(|one| one.body != b"2") {
            world.settle(one, 1, Outcome::Failed { class: "http-400".into(), text: "no".into() });
        }
        if let Some(parked) = claimed.iter().find(|one| one.body == b"2") {
            world.store.skip(&parked.id, "nobody reads it", Timestamp(1)).unwrap();
        }
    }
    let about = |subject, state| world.store.notices_about(subject, state, 1_000).unwrap().len();
    assert_eq!(about("mine", NoticeState::Failed), 1);
    assert_eq!(about("mine", NoticeState::Parked), 1);
    assert_eq!(about("nothing", NoticeState::Failed), 0);
}

#[test]
fn a_replayed_dead_letter_gets_a_whole_new_run_of_attempts() {
    let mut world = World::new();
    world.enqueue(&["ops/a/1"]);
    for round in 0..10 {
        let now = round * 100_000_000;
        let claimed = world.claim(now);
        world.settle(&claimed[0], now, retry(None));
    }
    let id = world.store.notices(NoticeState::Failed, 1).unwrap()[0].id.clone();
    // Setting a dead one aside takes it from the list of what somebody must look at, and it can still be sent again.
    world.enqueue(&["ops/a/2"]);
    world.store.skip(&id, "its receiver is gone", Timestamp(1_999_000_000)).unwrap();
    assert!(world.store.notices(NoticeState::Failed, 1).unwrap().is_empty());
    let behind = world.claim(1_999_000_000);
    assert_eq!(behind.len(), 1, "the next one does not wait for it");
    world.settle(&behind[0], 1_999_000_000, Outcome::Delivered);
    world.store.replay(&id, Timestamp(2_000_000_000)).unwrap();
    let claimed = world.claim(2_000_000_000);
    assert!(world.settle(&claimed[0], 2_000_000_000, retry(None)).dead.is_empty());
    assert_eq!(world.store.next_due().unwrap(), Some(Timestamp(2_000_004_500)));
}

#[test]
fn an_answer_after_a_skip_changes_nothing() {
    let mut world = World::new();
    world.enqueue(&["ops/a/1"]);
    let claimed = world.claim(0);
    world.store.skip(&claimed[0].id, "wrong channel", Timestamp(1)).unwrap();
    assert_eq!(world.settle(&claimed[0], 2, retry(None)).stale.len(), 1);
    assert_eq!(world.state(&claimed[0].id), NoticeState::Parked);
}

#[test]
fn a_paused_endpoint_gets_nothing_until_it_is_resumed_and_loses_nothing() {
    let mut world = World::new();
    world.enqueue(&["ops/a/1", "pager/a/2"]);
    world.store.pause("ops", "url cleared", Timestamp(0)).unwrap();
    assert_eq!(bodies(&world.claim(0)), ["2"]);
    let backlog = world.store.backlog().unwrap();
    assert_eq!((backlog[0].endpoint.as_str(), backlog[0].paused.as_deref()), ("ops", Some("url cleared")));
    assert_eq!(world.store.next_due().unwrap(), None);
    world.store.resume("ops").unwrap();
    assert_eq!(bodies(&world.claim(0)), ["1"]);
}

#[test]
fn the_backlog_counts_what_waits_how_long_and_what_is_dead() {
    let mut world = World::new();
    world.enqueue(&["ops/a/1", "ops/a/2", "ops/b/3", "ops/c/4", "pager/a/5"]);
    let claimed = world.claim(0);
    world.settle(&claimed[1], 0, Outcome::Failed { class: "http-404".into(), text: String::new() });
    world.settle(&claimed[2], 0, Outcome::Parked { class: "http-410".into(), text: String::new() });
    world.settle(&claimed[3], 0, Outcome::Delivered);
    let backlog = world.store.backlog().unwrap();
    assert_eq!(backlog.len(), 1, "an endpoint without backlog is listed");
    let ops = &backlog[0];
    assert_eq!((ops.waiting, ops.in_flight, ops.dead, ops.parked), (2, 1, 1, 1));
    assert_eq!(ops.oldest, Some(Timestamp(0)));
}

#[test]
fn delivered_messages_are_cleared_and_everything_else_stays() {
    let mut world = World::new();
    world.enqueue(&["ops/a/1", "ops/b/2"]);
    let claimed = world.claim(0);
    world.settle(&claimed[0], 10, Outcome::Delivered);
    assert_eq!(world.store.clear_delivered(Timestamp(10)).unwrap(), 0);
    assert_eq!(world.store.clear_delivered(Timestamp(11)).unwrap(), 1);
    assert!(world.store.attempts(&claimed[0].id).unwrap().is_empty());
    assert_eq!(world.state(&claimed[1].id), NoticeState::InFlight);
    assert!(world.store.verify(None, None).unwrap().is_ok());
}

#[test]
fn a_message_too_large_is_refused_aloud_and_its_record_is_not_written() {
    let mut world = World::new();
    let chain = ChainName::new("service/actual").unwrap();
    let record = NewRecord { at: Timestamp(0), bytes: vec![1] };
    let (endpoint, subject, kind) = ("ops".to_string(), "a".to_string(), "test".to_string());
    let notice = NewNotice { endpoint, subject, kind, body: vec![0; 65_537], at: Timestamp(0) };
    let refused = world.store.append(&chain, &Head::EMPTY, &[record], std::slice::from_ref(&notice)).unwrap_err();
    assert!(matches!(refused, AppendError::TooLarge { actual: 65_537, limit: 65_536, .. }), "{refused}");
    assert_eq!(world.store.head(&chain).unwrap(), Head::EMPTY);
    let refused = world.store.append(&chain, &Head::EMPTY, &[], &[NewNotice { body: vec![], ..notice }]).unwrap_err();
    assert!(matches!(refused, AppendError::NoRecord { notices: 1, .. }), "{refused}");
}

#[test]
fn a_message_id_of_fixed_content_never_changes() {
    let mut world = World::new();
    let chain = ChainName::new("service/actual").unwrap();
    let records = [
        NewRecord { at: Timestamp(1_700_000_000_000), bytes: br#"{"kind":"opened"}"#.to_vec() },
        NewRecord { at: Timestamp(1_700_000_000_001), bytes: vec![] },
        NewRecord { at: Timestamp(-1), bytes: (0..=255).collect() },
    ];
    let notice = NewNotice {
        endpoint: "ops".into(),
        subject: "service/actual".into(),
        kind: "test".into(),
        body: b"body".to_vec(),
        at: Timestamp(0),
    };
    world.store.append(&chain, &Head::EMPTY, &records, &[notice.clone(), notice]).unwrap();
    let ids: Vec<_> =
        world.store.notices(NoticeState::Pending, 9).unwrap().iter().map(|row| row.id.to_string()).collect();
    // Computed with another language's SHA-256 from the layout in docs/design/evidence.md.
    assert_eq!(ids, ["msg_2d8294d3df534542903a6b88d42de030", "msg_e9fbb43e767625cc705897cb160d37f6"]);
    assert!("msg_2d8294d3df534542903a6b88d42de030".parse::<MessageId>().is_ok());
    for bad in ["", "msg_", "msg_2D8294d3df534542903a6b88d42de030", "2d8294d3df534542903a6b88d42de030"] {
        assert!(bad.parse::<MessageId>().is_err());
    }
}

#[test]
fn a_message_handed_back_unsent_counts_no_attempt_and_keeps_its_place() {
    let mut world = World::new();
    world.enqueue(&["ops/a/1", "ops/a/2"]);
    let claimed = world.claim(0);
    assert_eq!(bodies(&claimed), ["1"]);
    assert_eq!(world.settle(&claimed[0], 10, Outcome::NotSent { again: Timestamp(500) }), Settled::default());
    assert!(world.store.attempts(&claimed[0].id).unwrap().is_empty(), "an attempt that was not made is written down");
    assert!(world.claim(499).is_empty(), "it came before its time, or what is behind it overtook it");
    let again = world.claim(500);
    assert_eq!((bodies(&again), again[0].attempt), (vec!["1".into()], 1));
}
