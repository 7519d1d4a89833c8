//! Who listens gets each message once and in order, from whichever process it came.

use crate::instance::Instance;
use rustix::process::Signal;
use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn a_post_is_acknowledged_and_reaches_every_subscriber_of_its_room_and_nobody_else() {
    let world = tempfile::tempdir().unwrap();
    let service = Instance::start("1.0.0", world.path());
    let (mut anna, mut bert) = (service.socket("lobby", ""), service.socket("lobby", ""));
    let mut carol = service.socket("attic", "");
    anna.say("a-1", "hello");
    let heard = [anna.hear(), anna.hear()];
    assert!(heard.contains(&json!({ "type": "stored", "id": "a-1", "seq": 1 })), "{heard:?}");
    assert!(heard.contains(&json!({ "type": "message", "seq": 1, "id": "a-1", "text": "hello" })), "{heard:?}");
    assert_eq!(bert.hear()["text"], "hello");
    assert_eq!(service.post("lobby", "b-1", "by post").0, 201);
    assert_eq!((anna.hear_numbers(1), bert.hear_numbers(1)), (vec![2], vec![2]));
    anna.say("a-1", "hello");
    assert_eq!(anna.hear(), json!({ "type": "stored", "id": "a-1", "seq": 1 }));
    anna.say("a-1", "changed");
    assert_eq!(anna.hear()["type"], "refused");
    assert!(bert.is_silent(), "a repetition is not a message");
    assert!(carol.is_silent());
}

#[test]
fn processes_of_two_releases_on_one_file_hear_each_other_and_number_without_a_gap() {
    let world = tempfile::tempdir().unwrap();
    let services = [
        Instance::start("1.0.0", world.path()),
        Instance::start("1.1.0", world.path()),
        Instance::start("1.1.0", world.path()),
    ];
    let mut listeners: Vec<_> = services.iter().map(|service| service.socket("lobby", "?after=0")).collect();
    std::thread::scope(|scope| {
        for (place, service) in services.iter().enumerate() {
            scope.spawn(move || {
                for number in 0..40 {
                    assert_eq!(service.post("lobby", &format!("{place}-{number}"), "text").0, 201);
                }
            });
        }
    });
    let all: Vec<i64> = (1..=120).collect();
    for listener in &mut listeners {
        assert_eq!(listener.hear_numbers(120), all);
        assert!(listener.is_silent());
    }
}

#[test]
fn who_comes_back_gets_what_was_missed_without_gap_or_repetition_while_messages_come_in() {
    let world = tempfile::tempdir().unwrap();
    let (one, two) = (Instance::start("1.0.0", world.path()), Instance::start("1.1.0", world.path()));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (one, two) = (&one, &two);
        for (place, service) in [one, two].into_iter().enumerate() {
            let done = &done;
            scope.spawn(move || {
                let mut number = 0;
                while !done.load(Ordering::SeqCst) {
                    service.post("lobby", &format!("{place}-{number}"), "text");
                    number += 1;
                }
            });
        }
        // Also when an assertion below fails: the scope waits for those who post.
        let _told_at_the_end = Done(&done);
        let mut last = 0;
        for round in 0..40 {
            let service = if round % 2 == 0 { one } else { two };
            let mut socket = service.socket("lobby", &format!("?after={last}"));
            let expected: Vec<i64> = (last + 1..=last + 25).collect();
            assert_eq!(socket.hear_numbers(25), expected, "round {round}");
            last += 25;
        }
    });
}

struct Done<'d>(&'d AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_room_of_more_messages_than_memory_keeps_is_replayed_whole() {
    let world = tempfile::tempdir().unwrap();
    let service = Instance::start("1.1.0", world.path());
    let mut sender = service.socket("lobby", "");
    for number in 0..1_300 {
        sender.say(&format!("m-{number}"), "text");
    }
    let all: Vec<i64> = (1..=1_300).collect();
    assert_eq!(sender.hear_numbers(1_300), all);
    assert_eq!(service.socket("lobby", "?after=0").hear_numbers(1_300), all);
    assert_eq!(service.socket("lobby", "?after=1295").hear_numbers(5), all[1_295..]);
}

#[test]
fn a_stop_acknowledges_what_was_sent_closes_sockets_with_1001_and_ends() {
    let world = tempfile::tempdir().unwrap();
    let mut service = Instance::start("1.0.0", world.path());
    let (mut anna, mut bert) = (service.socket("lobby", "?after=0"), service.socket("lobby", "?after=0"));
    anna.say("a-1", "first");
    bert.hear_numbers(1);
    service.signal(Signal::TERM);
    let (heard, code) = anna.hear_close();
    assert_eq!(code, 1001);
    assert!(heard.iter().any(|said| said["type"] == "stored"), "{heard:?}");
    assert_eq!(bert.hear_close().1, 1001);
    assert!(service.end().success());
}
