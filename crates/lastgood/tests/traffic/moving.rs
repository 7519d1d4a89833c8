//! Releases move by share: good ones through, bad ones back, and nobody loses a message.

use crate::kit::{Chat, ask, nobody_lost_anything, until};
use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// Half of them ask over HTTP: that two or less of thirty have a seat in a quarter happens once in a hundred times.
const PEOPLE: u32 = 60;
/// Longer than a rollout takes from its first share on, on a machine that has other work.
const LONG: Duration = Duration::from_secs(25);

const RESUME: &str = r#"
[service.chat.traffic.resume]
path = "/rooms/gate-{run}/socket"
resume_path = "/rooms/gate-{run}/socket?after={last}"
send_json = { type = "post", id = "{id}", text = "c2VjcmV0" }
when = { "$.type" = "message" }
id = "$.id"
position = "$.seq"
"#;

#[test]
fn a_good_release_gets_share_by_share_and_nobody_loses_a_message() {
    let chat = Chat::running(RESUME);
    chat.publish("1.1.0");
    let run = chat.spawn(&["run"]);
    until("the first share", || chat.share() > 0.0);
    let people = chat.people(PEOPLE, LONG);
    let (said, report) = (run.join().unwrap(), people.join().unwrap());
    assert_eq!(said.code, 0, "{said:?}\n{report:#?}");
    assert_eq!(chat.version(), "1.1.0");
    nobody_lost_anything(&report);
    assert!(report.releases["1.0.0"] > 0 && report.releases["1.1.0"] > 0, "{:?}", report.releases);
    let log = chat.log();
    for said in ["25 % of the traffic", "50 % of the traffic", "100 % of the traffic", "sessions resume both ways"] {
        assert!(log.contains(said), "not {said:?} in {log}");
    }
    let status = chat.status();
    assert_eq!(status["traffic"]["standby"]["warm"], true, "{status}");
    // The release before is warm: going back is one order to the router, and forward again is another release's turn.
    chat.lastgood(&["--yes", "rollback"]).ended(0).says("all traffic: 1.1.0 -> 1.0.0");
    assert_eq!(chat.version(), "1.0.0");
}

#[test]
fn a_release_that_fails_a_fifth_goes_back_by_itself_and_says_the_numbers() {
    let chat = Chat::running("");
    chat.publish("1.2.0");
    let run = chat.spawn(&["run"]);
    until("the first share", || chat.share() > 0.0);
    let people = chat.people(PEOPLE, Duration::from_secs(12));
    let (said, report) = (run.join().unwrap(), people.join().unwrap());
    assert_eq!(said.code, 5, "{said:?}\n{report:#?}");
    let said = said.says("requests failed");
    let times = |text: &str| said.err.matches(text).count();
    assert_eq!(times("the failures are the candidate's own"), 2, "the guards and the end say it: {said:?}");
    said.says("1.2.0 is rejected: what the guards said");
    assert_eq!((chat.version(), chat.share()), ("1.0.0".into(), 0.0));
    // Some requests failed at the candidate; what was acknowledged came to everybody, once.
    assert!(report.failed_requests > 0 && report.missing + report.doubled + report.out_of_order == 0, "{report:#?}");
    let status = chat.status();
    assert_eq!(status["rejected"][0]["release"], "1.2.0");
    assert_eq!(status["holds"].as_array().unwrap().len(), 1);
    until("the notice", || {
        let notices = fs::read_to_string(chat.path("notices")).unwrap_or_default();
        notices.contains("rolled back") && notices.contains("requests failed")
    });
}

#[test]
fn a_release_that_only_retries_save_goes_back_and_says_how_many_were_saved() {
    const SAVED: &str = "saved by a retry on last-good";
    let chat = Chat::running("");
    chat.publish("1.2.4");
    let run = chat.spawn(&["run"]);
    until("the first share", || chat.share() > 0.0);
    // They only read: each request that breaks is repeated on last-good, and nobody sees a failure.
    let mut asked = 0;
    while !run.is_finished() {
        assert!(chat.ask("GET /rooms/lobby/messages").starts_with("HTTP/1.1 200"), "request {asked}");
        asked += 1;
    }
    run.join().unwrap().ended(5).says("requests failed").says(SAVED);
    assert_eq!(chat.version(), "1.0.0");
    let status = chat.status();
    assert!(status["holds"][0]["reason"].as_str().unwrap().contains(SAVED), "{status}");
    until("the notice", || fs::read_to_string(chat.path("notices")).unwrap_or_default().contains(SAVED));
}

#[test]
fn a_release_that_forgets_where_people_were_never_gets_more_than_a_quarter() {
    for (version, word) in [("1.3.0", "missing"), ("1.3.1", "doubled")] {
        let chat = Chat::running(RESUME);
        chat.publish(version);
        let run = chat.spawn(&["run"]);
        until("the first share", || chat.share() > 0.0);
        let people = chat.people(PEOPLE, Duration::from_secs(12));
        let (said, report) = (run.join().unwrap(), people.join().unwrap());
        assert_eq!(said.code, 5, "{said:?}\n{report:#?}");
        said.says(word);
        assert_eq!(chat.version(), "1.0.0");
        let log = chat.log();
        let reached = ["25 % of the traffic", "50 % of the traffic"].map(|share| log.contains(share));
        assert_eq!(reached, [true, false], "{version}");
    }
}

#[test]
fn data_that_the_release_before_can_t_read_is_refused_before_anything_starts() {
    let chat = Chat::running("");
    chat.publish("2.0.0");
    chat.lastgood(&["run"]).ended(9).says("expand first");
    assert_eq!(chat.version(), "1.0.0");
    assert_eq!(chat.log().matches("shift-begun").count(), 1, "that of 1.0.0");
}

#[test]
fn probes_of_lastgood_s_own_are_evidence_where_nobody_asks_and_are_told_apart() {
    let chat = Chat::new("");
    chat.configure(|text| {
        text.replace("error_rate_max = 10,", "error_rate_max = 30, synthetic = { every = \"100ms\" },")
    });
    chat.lastgood(&["run"]).ended(0);
    chat.publish("1.1.0");
    let said = chat.lastgood(&["run"]).ended(0);
    assert!(said.err.contains("synthetic) failed (0 %)"), "{said:?}");
    assert_eq!(chat.version(), "1.1.0");
}

#[test]
fn the_plan_of_a_first_release_speaks_of_no_release_before() {
    let chat = Chat::new("");
    let said = chat.lastgood(&["plan"]).ended(0).says("it gets all the traffic once it answers");
    assert!(!said.out.contains("beside last-good on the same data"), "{said:?}");
}

#[test]
fn without_traffic_nothing_grows_and_the_plan_says_what_is_missing() {
    let chat = Chat::running("");
    chat.publish("1.1.0");
    chat.lastgood(&["plan"]).ended(0).says("25 % for at least 1.0 s").says("closed with 1012");
    let mut run = chat.begin(&["run"]);
    until("the first share", || chat.share() > 0.0);
    until("an answer of the guards", || chat.lastgood(&["why"]).out.contains("requests are needed"));
    // Far beyond the bake time: a share that grew on time alone would be at 100 % by now.
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(chat.share(), 25.0);
    // A person takes it back; the run that waits ends.
    chat.lastgood(&["--yes", "rollback", "--reason", "not today"]).ended(0);
    assert_eq!((chat.version(), chat.share()), ("1.0.0".into(), 0.0));
    run.wait().unwrap();
}

#[test]
fn a_service_with_websockets_that_does_not_say_how_they_resume_gets_no_more_than_a_quarter() {
    let chat = Chat::running("# neither resume nor a reason against it");
    chat.publish("1.1.0");
    chat.lastgood(&["plan"]).ended(0).says("only if nobody has a WebSocket");
    let run = chat.spawn(&["run"]);
    until("the first share", || chat.share() > 0.0);
    let people = chat.people(PEOPLE, LONG);
    let said = run.join().unwrap();
    assert_ne!(said.code, 0, "{said:?}");
    let log = chat.log();
    assert!(log.contains("nothing says how they are resumed"), "{log}");
    assert!(log.contains("25 % of the traffic") && !log.contains("50 % of the traffic"), "{log}");
    assert_eq!((chat.version(), chat.share()), ("1.0.0".into(), 0.0));
    nobody_lost_anything(&people.join().unwrap());
}

#[test]
fn a_service_without_websockets_needs_no_word_about_them() {
    let chat = Chat::running("# neither resume nor a reason against it");
    chat.publish("1.1.0");
    let (front, ends) = (chat.front, Arc::new(AtomicBool::new(false)));
    let ended = ends.clone();
    let readers = thread::spawn(move || {
        while !ended.load(Ordering::Relaxed) {
            ask(("127.0.0.1", front), "GET /rooms/lobby/messages");
            thread::sleep(Duration::from_millis(5));
        }
    });
    chat.lastgood(&["run"]).ended(0).says("the router has seen no session to resume");
    ends.store(true, Ordering::Relaxed);
    readers.join().unwrap();
    assert_eq!(chat.version(), "1.1.0");
}

#[test]
fn a_release_whose_warm_time_is_over_is_started_again_before_anybody_goes_back_to_it() {
    let chat = Chat::new("");
    chat.configure(|text| text.replace("warm = \"10m\"", "warm = \"1s\"").replace("drain = \"5s\"", "drain = \"1s\""));
    chat.lastgood(&["run"]).ended(0);
    let mut daemon = chat.begin(&["serve"]);
    until("the daemon", || chat.status()["driver"]["what"] == "lastgood serve");
    chat.publish("1.1.0");
    let people = chat.people(PEOPLE, LONG);
    chat.lastgood(&["run", "--now"]).ended(0);
    assert_eq!(chat.version(), "1.1.0");
    nobody_lost_anything(&people.join().unwrap());
    until("the end of the warm time", || chat.processes("1.0.0").is_empty());
    let people = chat.people(PEOPLE, Duration::from_secs(12));
    chat.lastgood(&["--yes", "rollback", "--reason", "a drill"]).ended(0);
    assert_eq!(chat.version(), "1.0.0");
    assert_eq!(chat.processes("1.0.0").len(), 1, "it was started again");
    nobody_lost_anything(&people.join().unwrap());
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}
