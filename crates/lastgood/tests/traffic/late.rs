//! A release that fails after it was promoted, while the one before is still up: real processes, real people.

use crate::kit::{Chat, until};
use std::{fs, process::Child, time::Duration};

/// Does well with the rooms of the load, and fails for everybody once it was asked about 40.
const FAILS_LATE: &str = "1.4.1";
/// From the first share to the end of the way back, on a machine that has other work.
const LONG: Duration = Duration::from_secs(60);

/// A daemon has promoted what will fail late, people are on it, and 1.0.0 is up in this one process.
fn promoted(chat: &Chat) -> (Child, u32) {
    let daemon = chat.begin(&["serve"]);
    until("the daemon", || chat.status()["driver"]["what"] == "lastgood serve");
    chat.publish(FAILS_LATE);
    chat.lastgood(&["run", "--now"]).ended(0);
    let status = chat.status();
    assert_eq!((status["last_good"].as_str(), chat.version().as_str()), (Some(FAILS_LATE), FAILS_LATE), "{status}");
    assert_eq!(status["traffic"]["standby"]["warm"], true, "{status}");
    let [warm] = chat.processes("1.0.0")[..] else { panic!("1.0.0 is not up once: {status}") };
    (daemon, warm)
}

/// People come to more rooms than it has place for.
fn fill(chat: &Chat) {
    let mut rooms = 0..100;
    let failed = rooms.find(|room| !chat.ask(&format!("GET /rooms/more-{room}/messages")).starts_with("HTTP/1.1 200"));
    assert!(failed.is_some(), "it never fails");
}

/// Everybody is back at the process that stood by, and what was left is rejected, held and told of with its numbers.
fn went_back(chat: &Chat, warm: u32) {
    until("the way back", || chat.status()["last_good"] == "1.0.0" && chat.status()["run"].is_null());
    assert_eq!(chat.version(), "1.0.0");
    assert_eq!(chat.processes("1.0.0"), [warm], "it was never stopped, and nothing had to be started");
    let status = chat.status();
    assert!(chat.log().contains("all traffic goes back from 1.4.1 to 1.0.0"), "{status}");
    assert_eq!(status["rejected"][0]["release"], FAILS_LATE, "{status}");
    assert_eq!(status["holds"].as_array().unwrap().len(), 1, "{status}");
    until("the notice", || {
        let notices = fs::read_to_string(chat.path("notices")).unwrap_or_default();
        notices.contains("rolled back") && notices.contains("requests failed")
    });
}

#[test]
fn a_release_that_fails_after_its_promotion_goes_back_to_the_process_that_was_kept_warm() {
    let chat = Chat::running("");
    let people = chat.people(60, LONG);
    let (mut daemon, warm) = promoted(&chat);
    fill(&chat);
    went_back(&chat, warm);
    let report = people.join().unwrap();
    // They saw it fail; what was acknowledged came to everybody, once.
    assert!(report.failed_requests > 0, "{report:#?}");
    assert_eq!(report.missing + report.doubled + report.out_of_order, 0, "{report:#?}");
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}

#[test]
fn a_release_that_fails_while_no_daemon_lives_is_left_by_the_next_one() {
    let chat = Chat::running("");
    let people = chat.people(60, LONG);
    let (mut daemon, warm) = promoted(&chat);
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    fill(&chat);
    assert_eq!(chat.status()["last_good"], FAILS_LATE);
    let mut daemon = chat.begin(&["serve"]);
    went_back(&chat, warm);
    let report = people.join().unwrap();
    assert_eq!(report.missing + report.doubled + report.out_of_order, 0, "{report:#?}");
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}
