//! The built-in proxy's client, against a small stand-in that speaks its control protocol.

use crate::world::{only, release, service, side, table};
use lastgood_domain::{
    failure::Coded as _,
    traffic::{Counts, Share, Slice, Table},
};
use lastgood_drivers::traffic::{Builtin, Load, Router as _};
use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixListener,
    path::Path,
    sync::{Arc, Mutex},
    thread,
};

/// Answers each connection's first line by the next of `answers`; an empty one hangs up.
fn stand_in(dir: &Path, answers: Vec<String>) -> Arc<Mutex<Vec<Value>>> {
    let _ = fs::remove_file(dir.join("control.sock"));
    let listener = UnixListener::bind(dir.join("control.sock")).unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let asked = Arc::clone(&seen);
    thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut line = String::new();
            BufReader::new(stream.try_clone().unwrap()).read_line(&mut line).unwrap();
            asked.lock().unwrap().push(serde_json::from_str(&line).unwrap());
            if !answer.is_empty() {
                // Of one that is too long the end is not taken.
                let _ = stream.write_all(format!("{answer}\n").as_bytes());
            }
        }
    });
    seen
}

fn shared() -> Table {
    table(7, &side("1.0.0", &[("a", 1)]), &side("1.1.0", &[("b", 2)]), Share::percent(5))
}

#[test]
fn a_table_is_told_whole_and_its_epoch_is_confirmed() {
    let dir = tempfile::tempdir().unwrap();
    let seen = stand_in(dir.path(), vec![json!({"is": "routed", "epoch": 7}).to_string()]);
    let routed = Builtin::new(dir.path()).route(&shared()).unwrap();
    assert_eq!((routed.epoch, routed.share), (7, Share::percent(5)));
    let asked = seen.lock().unwrap();
    assert_eq!((asked.len(), &asked[0]["do"]), (1, &json!("route")));
    assert_eq!(serde_json::from_value::<Table>(asked[0]["table"].clone()).unwrap(), shared());
}

#[test]
fn a_newer_table_another_confirmation_and_a_refusal_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    for (answer, code) in [
        (json!({"is": "refused", "why": "there is a newer one", "epoch": 9}).to_string(), "router-table-older"),
        (json!({"is": "refused", "why": "the disk is full", "epoch": 6}).to_string(), "router-refused"),
        (json!({"is": "refused", "why": "the disk is full"}).to_string(), "router-refused"),
        (json!({"is": "routed", "epoch": 6}).to_string(), "router-unconfirmed"),
        (json!({"is": "stopping"}).to_string(), "router-answer-unreadable"),
        (json!({"is": "slices", "slices": []}).to_string(), "router-answer-unreadable"),
        ("nonsense".into(), "router-answer-unreadable"),
        ("x".repeat(5 << 20), "router-answer-unreadable"),
    ] {
        let _seen = stand_in(dir.path(), vec![answer.clone()]);
        let error = Builtin::new(dir.path()).route(&shared()).unwrap_err();
        assert_eq!(error.code(), code, "{}", answer.chars().take(100).collect::<String>());
    }
    let nobody = Table { candidate: None, ..shared() };
    assert_eq!(Builtin::new(dir.path()).route(&nobody).unwrap_err().code(), "router-table-unfit");
}

#[test]
fn counts_and_what_is_under_way_are_read_and_a_newer_proxy_may_say_more() {
    let dir = tempfile::tempdir().unwrap();
    let mut counts = Counts { status: [1, 2, 3, 4, 5], aborted: 6, ..Counts::default() };
    counts.latency.add(1_500);
    let slices = vec![Slice { second: 12, counts: vec![(release("1.0.0"), counts)] }];
    let live = json!({"release": release("1.0.0"), "in_flight": 3, "tunnels": 4, "people": 5, "new": 6});
    let seen = stand_in(
        dir.path(),
        vec![
            json!({"is": "slices", "slices": slices, "more": true}).to_string(),
            json!({"is": "looked", "epoch": 7, "pid": 9, "releases": [live], "troubles": []}).to_string(),
        ],
    );
    let router = Builtin::new(dir.path());
    assert_eq!(router.slices(&service(), 11).unwrap(), slices);
    let load = Load { release: release("1.0.0"), in_flight: 3, tunnels: Some(4), people: Some(5) };
    assert_eq!(router.look(&service()).unwrap(), [load]);
    let expected = [json!({"do": "slices", "service": "chat", "after": 11}), json!({"do": "look", "service": "chat"})];
    assert_eq!(*seen.lock().unwrap(), expected);
}

#[test]
fn a_proxy_that_hangs_up_is_asked_once_more_and_one_that_is_gone_or_silent_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let router = Builtin::new(dir.path());
    let table = only(7, &side("1.0.0", &[("a", 1)]), &side("1.1.0", &[("b", 2)]));
    assert_eq!(router.route(&table).unwrap_err().code(), "router-unreachable");
    let routed = json!({"is": "routed", "epoch": 7}).to_string();
    let seen = stand_in(dir.path(), vec![String::new(), routed]);
    assert_eq!(router.route(&table).unwrap().epoch, 7);
    assert_eq!(seen.lock().unwrap().len(), 2);
    let _seen = stand_in(dir.path(), vec![String::new(), String::new()]);
    assert_eq!(router.route(&table).unwrap_err().code(), "router-unreachable");
    // Accepts nobody: with its queue full, connecting itself would wait for ever.
    let _ = fs::remove_file(dir.path().join("control.sock"));
    let silent = UnixListener::bind(dir.path().join("control.sock")).unwrap();
    assert_eq!(router.route(&table).unwrap_err().code(), "router-silent");
    let full: Vec<_> = (0..)
        .map_while(|_| {
            let socket = rustix::net::socket_with(
                rustix::net::AddressFamily::UNIX,
                rustix::net::SocketType::STREAM,
                rustix::net::SocketFlags::NONBLOCK,
                None,
            );
            let socket = socket.unwrap();
            let address = rustix::net::SocketAddrUnix::new(dir.path().join("control.sock")).unwrap();
            rustix::net::connect(&socket, &address).ok().map(|()| socket)
        })
        .collect();
    assert!(!full.is_empty());
    assert_eq!(router.look(&service()).unwrap_err().code(), "router-silent");
    drop(silent);
}
