//! What was answered is kept, whenever the process is killed; what was not is whole or absent.

use crate::instance::{Instance, PASSWORD, PATIENCE, publish, release};
use lastgood_notebook::{Seed, seed};
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Instant;

#[test]
fn every_note_that_was_acknowledged_survives_a_kill() {
    let world = tempfile::tempdir().unwrap();
    let (folder, data) = first_with_probe(world.path());
    let mut acknowledged = 0_i64;
    for round in 0..5 {
        let notebook = Instance::start(&folder, &data);
        let token = notebook.token_at("/account/login", "probe");
        for _ in 0..10 {
            let (status, body) = notebook.post_as(&token, "/notes", &json!({ "text": format!("round {round}") }));
            assert_eq!(status, 201);
            acknowledged += 1;
            assert_eq!(body["id"], acknowledged);
        }
        notebook.kill();
    }
    let notebook = Instance::start(&folder, &data);
    let token = notebook.token_at("/account/login", "probe");
    assert_eq!(notebook.get("/notes", &token).1["total"], 50);
}

#[test]
fn a_bulk_that_is_killed_on_its_way_is_there_in_full_or_not_at_all() {
    let world = tempfile::tempdir().unwrap();
    let (folder, data) = first_with_probe(world.path());
    let mut before = 0;
    for _ in 0..4 {
        let notebook = Instance::start(&folder, &data);
        let token = notebook.token_at("/account/login", "probe");
        let _unanswered = send_bulk(&notebook, &token);
        await_writer(&data);
        notebook.kill();
        let notebook = Instance::start(&folder, &data);
        let total = notebook.get("/notes", &token).1["total"].as_i64().unwrap();
        assert!(total == before || total == before + 20_000, "{total} after {before}");
        before = total;
    }
}

#[test]
fn a_migration_that_is_killed_is_done_again_by_the_next_start() {
    let world = tempfile::tempdir().unwrap();
    let releases = world.path().join("releases");
    let first = release("1.0.0");
    let second = publish(&release("2.0.0"), &releases);
    for round in 0..6_u64 {
        let data = world.path().join(format!("data-{round}"));
        seed(&data, &Seed { release: &first, names: &["probe"], accounts: 20, notes: 5, password: PASSWORD }).unwrap();
        let half = Instance::spawn(&second, &data);
        // Not a wait for anything: each round kills at another moment of the start.
        std::thread::sleep(std::time::Duration::from_millis(round * 2));
        half.kill();
        let whole = Instance::start(&second, &data);
        let token = whole.token_at("/v2/login", "reader-20");
        assert_eq!(whole.get("/notes", &token).1["total"], 5, "round {round}");
    }
}

#[test]
fn a_stop_lets_the_request_in_flight_finish_and_leaves_one_file() {
    let world = tempfile::tempdir().unwrap();
    let (folder, data) = first_with_probe(world.path());
    let notebook = Instance::start(&folder, &data);
    let token = notebook.token_at("/account/login", "probe");
    let _idle = TcpStream::connect(("127.0.0.1", notebook.port)).unwrap();
    let mut stream = send_bulk(&notebook, &token);
    await_writer(&data);

    assert!(notebook.stop(), "an idle connection holds nothing up");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 Created\r\n"), "{answer}");
    assert!(answer.ends_with(r#"{"last":20000,"written":20000}"#), "{answer}");
    let wal = data.join("notebook.sqlite-wal");
    assert_eq!(std::fs::metadata(wal).unwrap().len(), 0, "all of it is in one file");
}

fn first_with_probe(world: &Path) -> (PathBuf, PathBuf) {
    let data = world.join("data");
    let first = release("1.0.0");
    let probe = Seed { release: &first, names: &["probe"], accounts: 0, notes: 0, password: PASSWORD };
    seed(&data, &probe).unwrap();
    (publish(&first, &world.join("releases")), data)
}

fn send_bulk(notebook: &Instance, token: &str) -> TcpStream {
    let body = r#"{"count":20000}"#;
    let length = body.len();
    let mut stream = TcpStream::connect(("127.0.0.1", notebook.port)).unwrap();
    let head = format!("POST /notes/bulk HTTP/1.1\r\nAuthorization: Bearer {token}\r\n");
    write!(stream, "{head}Content-Length: {length}\r\n\r\n{body}").unwrap();
    stream
}

/// Waits until somebody holds the write lock.
fn await_writer(data: &Path) {
    let other = rusqlite::Connection::open(data.join("notebook.sqlite")).unwrap();
    other.busy_timeout(std::time::Duration::ZERO).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while other.execute_batch("BEGIN IMMEDIATE; ROLLBACK").is_ok() {
        assert!(Instant::now() < deadline, "nobody writes");
        std::thread::yield_now();
    }
}
