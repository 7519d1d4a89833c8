//! A release that answers by its fallback, as the proxy counts it: people are told, and only where so configured it is left.

use crate::kit::{Chat, ask, ask_with, until};
use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// Answers three of five readings from a copy, with 203.
const FALLS_BACK: &str = "1.2.5";

/// Reads the lobby as new people, until told to end; gives how many got no message page.
fn readers(front: u16) -> (Arc<AtomicBool>, JoinHandle<usize>) {
    let ends = Arc::new(AtomicBool::new(false));
    let ended = ends.clone();
    let reading = thread::spawn(move || {
        let mut refused = 0;
        while !ended.load(Ordering::Relaxed) {
            let answer = ask(("127.0.0.1", front), "GET /rooms/lobby/messages");
            refused += usize::from(!answer.starts_with("HTTP/1.1 20"));
            thread::sleep(Duration::from_millis(5));
        }
        refused
    });
    (ends, reading)
}

#[test]
fn a_release_that_answers_by_its_fallback_is_told_of_and_its_share_grows_all_the_same() {
    let chat = Chat::new("degraded = { status = [203] }");
    // The probe would find it before anybody is on it.
    chat.configure(|text| text.replace("path = \"/rooms/lobby/messages\"", "path = \"/version\""));
    chat.lastgood(&["run"]).ended(0);
    let mut daemon = chat.begin(&["serve"]);
    until("the daemon", || chat.status()["driver"]["what"] == "lastgood serve");
    let alarm = || chat.metric("lastgood_alarm{service=\"chat\",alarm=\"degraded\"}");
    until("the page", || alarm() == Some(0.0));
    chat.publish(FALLS_BACK);
    let (ends, reading) = readers(chat.front);
    chat.lastgood(&["run", "--now"]).ended(0);
    until("the alarm", || alarm() == Some(1.0));
    chat.lastgood(&["status"]).ended(0).says("DEGRADED 1.2.5").says("answers came by a fallback");
    chat.lastgood(&["why"]).ended(0).says("a fallback answers more than it may");
    let counted =
        |release| chat.metric(&format!("lastgood_traffic_degraded_total{{service=\"chat\",release=\"{release}\"}}"));
    assert!(counted(FALLS_BACK) > Some(10.0) && counted("1.0.0").unwrap_or(0.0) == 0.0, "{}", chat.metrics());
    until("the notice", || {
        let notices = fs::read_to_string(chat.path("notices")).unwrap_or_default();
        notices.contains("1.2.5 is degraded") && notices.contains("answers came by a fallback")
    });
    // Nobody was moved for it; whoever goes back by hand ends the alarm.
    assert_eq!(chat.status()["last_good"], FALLS_BACK);
    chat.lastgood(&["--yes", "rollback", "--reason", "what is wrong with it?"]).ended(0);
    until("the end of the alarm", || alarm() == Some(0.0));
    ends.store(true, Ordering::Relaxed);
    assert_eq!(reading.join().unwrap(), 0, "a fallback's answer is an answer");
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}

#[test]
fn a_release_that_uses_the_routes_of_a_fallback_goes_back_where_so_configured() {
    let keys = "degraded = { routes = [\"GET /rooms/*\"], degraded_percent = 10, goes_back = true }";
    let chat = Chat::running(keys);
    chat.publish("1.1.0");
    let run = chat.spawn(&["run"]);
    until("the first share", || chat.share() > 0.0);
    // Last-good is asked otherwise; whoever is on the candidate takes the fallback's route as well.
    while !run.is_finished() {
        let answer = chat.ask("GET /version");
        if answer.contains("1.1.0") {
            let cookie = answer.split("ookie: ").nth(1).and_then(|rest| rest.split(';').next()).unwrap();
            let cookie = format!("Cookie: {cookie}\r\n");
            ask_with(("127.0.0.1", chat.front), "GET /rooms/lobby/messages", &cookie);
        }
    }
    run.join().unwrap().ended(5).says("answers came by a fallback").says("1.1.0 is rejected");
    assert_eq!((chat.version(), chat.share()), ("1.0.0".into(), 0.0));
}
