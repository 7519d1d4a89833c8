//! What a release switches on, and what a guard trips: in the evidence, in the answers to programs, and back again.

use crate::{
    kit::{CLOSES_POSTING, Chat, until},
    person::reserve,
};
use serde_json::Value;
use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

const BRINGS: &str = r#"
turns_on = [{ flag = "new-sync", at = 25 }, { flag = "old-sync", at = 25 }]

[switches]
subsystems = ["posting", "other"]
listen = "127.0.0.1:0"

[switches.flag.new-sync]
type = "boolean"

[switches.flag.old-sync]
type = "boolean"
"#;

fn flag(chat: &Chat, key: &str) -> bool {
    let list = chat.json(&["flag", "list"]);
    let flags = list["flags"].as_array().unwrap_or_else(|| panic!("{list}"));
    let flag = flags.iter().find(|flag| flag["flag"] == key || flag["key"] == key);
    flag.unwrap_or_else(|| panic!("{list}"))["on"].as_bool().unwrap()
}

fn both(chat: &Chat) -> [bool; 2] {
    ["new-sync", "old-sync"].map(|key| flag(chat, key))
}

#[test]
fn a_rollback_turns_off_what_the_release_turned_on_and_nothing_that_a_person_had_on() {
    let chat = Chat::running(BRINGS);
    chat.lastgood(&["flag", "on", "old-sync", "--reason", "it has been on for a year"]).ended(0);
    assert_eq!(both(&chat), [false, true]);
    chat.publish("1.1.0");
    let run = chat.spawn(&["run"]);
    until("the flag", || both(&chat) == [true, true]);
    chat.lastgood(&["status"]).ended(0).says("1.1.0 has turned on new-sync");
    chat.lastgood(&["--yes", "rollback", "--reason", "not today"]).ended(0);
    assert_eq!(both(&chat), [false, true]);
    let said = run.join().unwrap();
    said.says("flags turned on: new-sync; on already, and nobody turns it off: old-sync");
    assert!(chat.log().contains("flags turned off: new-sync"));
}

#[test]
fn a_person_who_turned_a_flag_meanwhile_has_the_last_word_and_is_named() {
    for (typed, on) in [("off", false), ("on", true)] {
        let chat = Chat::running(BRINGS);
        chat.publish("1.1.0");
        let run = chat.spawn(&["run"]);
        until("the flag", || flag(&chat, "new-sync"));
        chat.lastgood(&["flag", "off", "new-sync", "--reason", "a doubt"]).ended(0);
        if on {
            chat.lastgood(&["flag", "on", "new-sync", "--reason", "no doubt any more"]).ended(0);
        }
        chat.lastgood(&["--yes", "rollback", "--reason", "not today"]).ended(0);
        run.join().unwrap();
        assert_eq!(flag(&chat, "new-sync"), on);
        let log = chat.log();
        let word = if on { "new-sync stays on: person:" } else { "new-sync was off: person:" };
        assert!(log.contains(word), "turned {typed}: not {word:?} in {log}");
    }
}

const TRIPS: &str = r#"
[switches]
lease = "1h"
subsystems = ["posting", "other"]
listen = "127.0.0.1:0"
"#;

#[test]
fn a_guard_trips_its_switch_which_closes_its_routes_and_no_way_back_opens_them() {
    let chat = Chat::new(&format!("{CLOSES_POSTING}{TRIPS}"));
    chat.configure(|text| text.replace("error_rate_max = 10,", "error_rate_max = 10, trips = [\"posting\"],"));
    chat.lastgood(&["run"]).ended(0);
    chat.publish("1.2.0");
    let run = chat.spawn(&["run"]);
    until("the first share", || chat.share() > 0.0);
    let people = chat.people(60, Duration::from_secs(8));
    run.join().unwrap().ended(5).says("tripped: posting");
    people.join().unwrap();
    let list = chat.json(&["switch", "list"]).to_string();
    assert!(list.contains("lastgood:guard") && list.contains("requests failed"), "{list}");
    let post = || chat.ask("POST /rooms/lobby/messages");
    assert!(post().contains("Posting is switched off"), "{}", post());
    // Neither the end of that way back nor another one opens it.
    let list = chat.json(&["switch", "list"]);
    let is_tripped = |one: &&Value| one["tripped"] == Value::Bool(true);
    let tripped = list["switches"].as_array().unwrap().iter().filter(is_tripped).count();
    assert_eq!(tripped, 1, "only the named one: {list}");
    chat.lastgood(&["switch", "reset", "posting", "--reason", "mended"]).ended(0);
    assert!(!post().contains("Posting is switched off"));
}

fn trip_over_http(port: u16) -> String {
    let (mut stream, body) = (TcpStream::connect(("127.0.0.1", port)).unwrap(), "{\"reason\":\"abuse\"}");
    write!(
        stream,
        "POST /v1/switches/posting/trip HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_trip_over_http_is_answered_when_the_router_has_closed_its_routes() {
    let (port, _kept) = reserve();
    let chat =
        Chat::running(&(CLOSES_POSTING.to_owned() + &TRIPS.replace("127.0.0.1:0", &format!("127.0.0.1:{port}"))));
    let mut daemon = chat.begin(&["serve"]);
    until("the switchboard", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    let post = || chat.ask("POST /rooms/lobby/messages");
    for _ in 0..5 {
        until("open routes", || !post().contains("Posting is switched off"));
        let answer = trip_over_http(port);
        // Asked at once: it must not need the daemon's next look.
        let after = post();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(after.contains("Posting is switched off"), "{answer}: {after}");
        chat.lastgood(&["switch", "reset", "posting", "--reason", "over"]).ended(0);
    }
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}

const IN_DOUBT: &str = r#"
[[service.chat.traffic.closes]]
switch = "reading"
routes = ["GET /rooms/*"]
status = 403

[switches]
subsystems = ["posting", "reading"]
listen = "127.0.0.1:0"
lease = "4s"

[switches.safe]
reading = "as-heard"
"#;

#[test]
fn a_proxy_out_of_contact_for_the_lease_closes_what_is_tripped_when_in_doubt() {
    let chat = Chat::running(&format!("{CLOSES_POSTING}{IN_DOUBT}"));
    let is_open = || !chat.ask("POST /rooms/lobby/messages").starts_with("HTTP/1.1 403");
    let mut daemon = chat.begin(&["serve"]);
    until("the daemon", || chat.status()["driver"]["what"] == "lastgood serve" && is_open());
    // Longer than the lease: nothing has changed, and it is told so all the same.
    std::thread::sleep(Duration::from_secs(5));
    assert!(is_open(), "a proxy in contact has closed a route");
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    until("the end of the lease", || !is_open());
    assert!(chat.ask("GET /rooms/lobby/messages").starts_with("HTTP/1.1 200"), "this one stays as it was heard");
    assert_eq!(chat.version(), "1.0.0");
    let mut daemon = chat.begin(&["serve"]);
    until("contact", is_open);
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}

/// Damages the only record of the other service.
fn damage(chat: &Chat) {
    let database = rusqlite::Connection::open(chat.path("state/evidence.db")).unwrap();
    let of_other = "chain = (SELECT id FROM chain WHERE name = 'service/another')";
    let damage = format!("UPDATE record SET bytes = CAST('{{}}' AS BLOB) WHERE {of_other}");
    assert_eq!(database.execute(&damage, []).unwrap(), 1);
}

#[test]
fn one_services_damaged_record_keeps_no_other_services_router_from_being_told() {
    let front = reserve();
    let traffic = format!(
        "\n[service.another.traffic]\nproxy = {{ listen = [\"127.0.0.1:{}\"] }}\n\
         shares = [{{ percent = 100, bake = \"1s\" }}]\nno_resume = \"it has no sessions\"\n",
        front.0
    );
    for (traffic, confirms) in [(traffic.as_str(), false), ("", true)] {
        let (port, _kept) = reserve();
        let chat =
            Chat::running(&(CLOSES_POSTING.to_owned() + &TRIPS.replace("127.0.0.1:0", &format!("127.0.0.1:{port}"))));
        let another = "\n[service.another]\nchannel = { directory = \"releases\", version_file = \"VERSION\" }\n\
                       command = [\"{release}/last-layer\"]\nstate = { directory = \"{data}\" }\n\
                       ready = { http = { path = \"/health\" }, expect = { status = 200 } }\n\n\
                       [[service.another.probe]]\nname = \"page\"\nhttp = { path = \"/health\" }\n\
                       expect = { status = 200 }\n\n\
                       [[service.another.instance]]\nname = \"only\"\nport = 1\nother_port = 2\ndata = \"other\"\n";
        let another = if traffic.is_empty() { another.replace("other_port = 2\n", "") } else { another.to_owned() };
        chat.configure(|text| text + &another + traffic);
        chat.lastgood(&["hold", "set", "another", "--reason", "its only record"]).ended(0);
        // Before anybody has looked at it: what was folded once is not read again.
        damage(&chat);
        chat.lastgood(&["status", "another"]).ended(1);
        let mut daemon = chat.begin(&["serve"]);
        until("the switchboard", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        let is_closed = || chat.ask("POST /rooms/lobby/messages").contains("Posting is switched off");
        until("open routes", || !is_closed());
        let answer = trip_over_http(port);
        assert!(is_closed(), "{answer}");
        assert_eq!(answer.starts_with("HTTP/1.1 200"), confirms, "{answer}");
        // So is the way back, while the damage lasts.
        chat.lastgood(&["switch", "reset", "posting", "--reason", "over"]);
        until("open routes again", || !is_closed());
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    }
}
