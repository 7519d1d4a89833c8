//! New entries are refused at once, what runs goes on, and all of it can be turned on again.

use crate::kit::{CLOSES_POSTING, Chat, until};
use serde_json::json;
use std::net::TcpStream;
use tungstenite::{Message, client};

#[test]
fn new_entries_stop_at_once_and_what_runs_goes_on() {
    let chat = Chat::running("");
    let stream = TcpStream::connect(("127.0.0.1", chat.front)).unwrap();
    let (mut socket, _) = client("ws://chat/rooms/lobby/socket", stream).unwrap();
    chat.lastgood(&["stop-new", "--reason", "an audit", "--retry-after", "90s"])
        .ended(0)
        .says("the router refuses new sessions")
        .says("1 tunnel,");
    let answer = chat.ask("GET /version");
    assert!(answer.starts_with("HTTP/1.1 503") && answer.to_lowercase().contains("retry-after: 90"), "{answer}");
    // The open socket goes on where it was.
    let post = json!({ "type": "post", "id": "a-1", "text": "c2VjcmV0" }).to_string();
    socket.send(Message::text(post)).unwrap();
    let mut heard = Vec::new();
    while heard.len() < 2 {
        heard.push(socket.read().unwrap().to_text().unwrap().to_owned());
    }
    assert!(heard.iter().any(|text| text.contains("\"message\"") && text.contains("a-1")), "{heard:?}");
    let status = chat.lastgood(&["status"]).ended(0);
    status.says("NEW SESSIONS REFUSED");
    chat.lastgood(&["why"]).ended(0).says("new sessions refused by").says("stop-new chat --lift");
    chat.lastgood(&["stop-new", "--lift", "--reason", "done"]).ended(0).says("accepts new sessions again");
    assert_eq!(chat.version(), "1.0.0");
    chat.lastgood(&["stop-new", "--lift", "--reason", "done"]).ended(1).says("does not refuse new sessions");
}

#[test]
fn a_stop_whose_command_was_killed_before_it_told_the_router_is_told_by_the_daemon_and_so_is_its_lifting() {
    let chat = Chat::running("");
    let mut daemon = chat.begin(&["serve"]);
    until("the daemon", || chat.status()["driver"]["what"] == "lastgood serve");
    let refuses = || chat.ask("GET /version").starts_with("HTTP/1.1 503");
    // The second boundary is behind the record; a command that was not killed there would have told the router itself.
    let killed = |arguments: &[&str]| {
        assert_eq!(chat.lastgood_with(arguments, "LASTGOOD_CRASH_AFTER", "2").code, 137);
    };
    killed(&["stop-new", "--reason", "an audit"]);
    until("the stop", refuses);
    chat.lastgood(&["status"]).ended(0).says("NEW SESSIONS REFUSED");
    killed(&["stop-new", "--lift", "--reason", "done"]);
    until("the lifting", || !refuses());
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}

#[test]
fn only_the_named_routes_are_stopped_whatever_their_spelling() {
    let chat = Chat::running("");
    chat.lastgood(&["stop-new", "--route", "/rooms/*", "--reason", "an audit"]).ended(0).says("refuses /rooms/*");
    for path in [
        "/rooms/lobby/messages",
        "//rooms/lobby/messages",
        "/%72ooms/lobby/messages",
        "/x/../rooms/lobby/messages",
        "/rooms/%2e%2e/messages",
    ] {
        let answer = chat.ask(&format!("GET {path}"));
        assert!(answer.starts_with("HTTP/1.1 503"), "{path}: {answer}");
    }
    assert_eq!(chat.version(), "1.0.0");
    chat.lastgood(&["status"]).ended(0).says("STOPPED /rooms/* by");
    chat.lastgood(&["stop-new", "--route", "rooms", "--reason", "an audit"]).ended(2).says("a path starts with /");
}

const SWITCHES: &str = r#"
[switches]
lease = "1h"
subsystems = ["posting"]
listen = "127.0.0.1:0"
"#;

#[test]
fn a_kill_switch_closes_exactly_its_routes_at_once_and_opens_them_again() {
    let chat = Chat::running(&format!("{CLOSES_POSTING}{SWITCHES}"));
    let post = || chat.ask("POST /rooms/lobby/messages");
    let before = post();
    assert!(!before.starts_with("HTTP/1.1 403"), "{before}");
    // Without a daemon, and by either name.
    for switch in ["posting", "all"] {
        chat.lastgood(&["switch", "trip", switch, "--reason", "abuse"]).ended(0);
        let answer = post();
        assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("Posting is switched off."), "{answer}");
        assert_eq!(chat.version(), "1.0.0");
        chat.lastgood(&["status"]).ended(0).says("CLOSED by switch posting: POST /rooms/*");
        chat.lastgood(&["why"]).ended(0).says("POST /rooms/* is answered 403").says("switch reset posting");
        chat.lastgood(&["switch", "reset", switch, "--reason", "over"]).ended(0);
        assert!(!post().starts_with("HTTP/1.1 403"));
    }
    // A release that moves in between does not open what is closed.
    chat.lastgood(&["switch", "trip", "posting", "--reason", "abuse"]).ended(0);
    chat.lastgood(&["stop-new", "--route", "/version", "--reason", "an audit"]).ended(0);
    assert!(post().starts_with("HTTP/1.1 403"));
}

#[test]
fn a_router_that_can_not_be_asked_is_state_unknown_and_never_a_yes() {
    let chat = Chat::running("");
    let [proxy] = chat.processes("proxy --settings")[..] else { panic!("not one proxy") };
    let signal = |name: &str| {
        assert!(std::process::Command::new("kill").args([name, &proxy.to_string()]).status().unwrap().success());
    };
    signal("-STOP");
    let said = [
        chat.lastgood(&["stop-new", "--reason", "a fair"]),
        chat.lastgood(&["stop-new"]),
        chat.lastgood(&["stop-new", "--lift", "--reason", "it is over"]),
    ];
    signal("-CONT");
    assert!(said.iter().all(|said| said.code == 11), "{said:?}");
    assert!(said[1].out.contains("the router does not say what runs"), "{said:?}");
    chat.lastgood(&["stop-new"]).ended(0);
}
