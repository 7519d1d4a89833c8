//! The driver killed at boundaries of a shift and of its way back, with a real proxy, real instances and people: the next
//! command brings it to a good end, and nobody loses a message meanwhile.
//!
//! All boundaries would take half an hour, so each run of this test takes another sample; a failure names its boundary.

use crate::{
    kit::{Chat, ask, nobody_lost_anything},
    person::Said,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// What a killed command ends with.
const KILLED: i32 = 137;
/// A shift has about ninety; those before its first share are those of any bump.
const FIRST: u32 = 24;
/// Boundaries between two kills.
const STRIDE: u32 = 11;
/// Kills of a run forward, each with one of a way back.
const LIVES: u32 = 5;
/// People who count what they lose, and how long: as long as the lives take on an idle machine.
const PEOPLE: (u32, Duration) = (40, Duration::from_secs(40));

/// Guards that have an answer soon, and tunnels that end soon.
fn hasty(text: String) -> String {
    let text = text.replace("bake = \"1s\"", "bake = \"300ms\"").replace("drain = \"5s\"", "drain = \"500ms\"");
    text.replace("error_rate_max = 10,", "error_rate_max = 30,")
}

fn crash(chat: &Chat, boundary: u32, arguments: &[&str]) -> Said {
    chat.lastgood_with(arguments, "LASTGOOD_CRASH_AFTER", &boundary.to_string())
}

#[test]
fn a_kill_at_a_boundary_of_a_shift_or_its_way_back_costs_nobody_anything() {
    let chat = Chat::new("");
    chat.configure(hasty);
    chat.lastgood(&["run"]).ended(0);
    chat.publish("1.1.0");
    let people = chat.people(PEOPLE.0, PEOPLE.1);
    let is_over = Arc::new(AtomicBool::new(false));
    // However long it takes, somebody asks: guards can't tell otherwise.
    let (asking, address) = (Arc::clone(&is_over), ("127.0.0.1", chat.front));
    let asker = thread::spawn(move || {
        let mut asked = 0;
        while !asking.load(Ordering::SeqCst) {
            let answer = ask(address, "GET /rooms/lobby/messages");
            assert!(answer.starts_with("HTTP/1.1 200"), "request {asked}: {answer}");
            asked += 1;
            thread::sleep(Duration::from_millis(10));
        }
        asked
    });
    let offset = std::process::id() % STRIDE;
    let (mut forward, mut back) = (0, 0);
    for boundary in (0..LIVES).map(|life| FIRST + offset + life * STRIDE) {
        let before = format!("run killed at boundary {boundary}");
        let said = crash(&chat, boundary, &["run"]);
        match said.code {
            KILLED => forward += 1,
            code => assert_eq!(code, 0, "{before}: {said:?}"),
        }
        // Somebody always answers, whoever drives.
        assert!(["1.0.0", "1.1.0"].contains(&chat.version().as_str()), "{before}");
        let said = chat.lastgood(&["run"]);
        assert_eq!(said.code, 0, "{before}: {said:?}");
        assert_eq!((chat.version().as_str(), chat.share()), ("1.1.0", 0.0), "{before}");

        // A way back has few boundaries: each is met.
        let boundary = 1 + boundary % 9;
        let after = format!("rollback killed at boundary {boundary}, after: {before}");
        let said = crash(&chat, boundary, &["--yes", "rollback"]);
        match said.code {
            KILLED => back += 1,
            code => assert_eq!(code, 0, "{after}: {said:?}"),
        }
        let said = chat.lastgood(&["--yes", "rollback"]);
        // Killed after all traffic was back, there is nothing to go back from.
        assert!([0, 9].contains(&said.code), "{after}: {said:?}");
        assert_eq!((chat.version().as_str(), chat.share()), ("1.0.0", 0.0), "{after}");
        let said = chat.lastgood(&["waive", "chat", "1.1.0", "--reason", "once more"]);
        assert!([0, 1].contains(&said.code), "{after}: {said:?}");
        chat.lastgood(&["evidence", "verify"]).ended(0);
    }
    assert!(forward >= 3 && back >= 3, "killed {forward} runs and {back} ways back");
    is_over.store(true, Ordering::SeqCst);
    assert!(asker.join().unwrap() > 0);
    nobody_lost_anything(&people.join().unwrap());
}
