//! What was answered is kept, whenever the process is killed; what was not is whole or absent.

mod instance;

use instance::{Instance, PASSWORD, publish, release};
use lastgood_notebook::{Seed, seed};
use serde_json::json;
use std::net::TcpStream;
use std::io::{Read, Write};

#[test]
fn every_note_that_was_acknowledged_survives_a_kill() {
    let world = tempfile::tempdir().unwrap();
    let data = world.path().join("data");
    let first = release("1.0.0");
    seed(&data, &Seed { release: &first, names: &["probe"], accounts: 0, notes: 0, password: PASSWORD }).unwrap();
    let folder = publish(&first, &world.path().join("releases"));
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
    let data = world.path().join("data");
    let first = release("1.0.0");
    seed(&data, &Seed { release: &first, names: &["probe"], accounts: 0, notes: 0, password: PASSWORD }).unwrap();
    let folder = publish(&first, &world.path().join("releases"));
    let mut before = 0;
    for round in 0..4_u32 {
        let notebook = Instance::start(&folder, &data);
        let token = notebook.token_at("/account/login", "probe");
        let body = json!({ "count": 20_000 }).to_string();
        let mut stream = TcpStream::connect(("127.0.0.1", notebook.port)).unwrap();
        let length = body.len();
        write!(stream, "POST /notes/bulk HTTP/1.1\r\nAuthorization: Bearer {token}\r\nContent-Length: {length}\r\n\r\n{body}")
            .unwrap();
        // Another request is answered while the bulk is under way, a little later each round; then the kill.
        for _ in 0..round {
            assert_eq!(notebook.get("/health", "").0, 200);
        }
        notebook.kill();
        drop(stream);
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
    let data = world.path().join("data");
    let first = release("1.0.0");
    seed(&data, &Seed { release: &first, names: &["probe"], accounts: 0, notes: 0, password: PASSWORD }).unwrap();
    let folder = publish(&first, &world.path().join("releases"));
    let notebook = Instance::start(&folder, &data);
    let token = notebook.token_at("/account/login", "probe");
    let mut idle = TcpStream::connect(("127.0.0.1", notebook.port)).unwrap();
    assert_eq!(notebook.post_as(&token, "/notes", &json!({ "text": "kept" })).0, 201);
    assert!(notebook.stop(), "an idle connection holds nothing up");
    let mut rest = Vec::new();
    let _reset = idle.read_to_end(&mut rest);
    assert!(rest.is_empty());
    let files: Vec<String> = std::fs::read_dir(&data)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with("-wal") && std::fs::metadata(data.join(name)).unwrap().len() > 0)
        .collect();
    assert_eq!(files, Vec::<String>::new());
}
