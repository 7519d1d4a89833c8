//! What is answered over HTTP.

use crate::instance::{Instance, agent};
use serde_json::json;

#[test]
fn a_message_is_stored_once_under_its_id_and_read_back_by_its_number() {
    let world = tempfile::tempdir().unwrap();
    let service = Instance::start("1.0.0", world.path());
    assert_eq!(service.post("lobby", "a-1", "one"), (201, json!({ "id": "a-1", "seq": 1 })));
    assert_eq!(service.post("lobby", "a-2", "two"), (201, json!({ "id": "a-2", "seq": 2 })));
    assert_eq!(service.post("lobby", "a-1", "one"), (200, json!({ "id": "a-1", "seq": 1 })));
    assert_eq!(service.post("lobby", "a-1", "another").0, 409);
    assert_eq!(service.post("attic", "a-1", "elsewhere"), (201, json!({ "id": "a-1", "seq": 1 })));
    let (status, page) = service.get("/rooms/lobby/messages?after=1");
    assert_eq!((status, page), (200, json!({ "messages": [{ "seq": 2, "id": "a-2", "text": "two" }], "last": 2 })));
    let (_, whole) = service.get("/rooms/lobby/messages");
    assert_eq!(whole["messages"].as_array().unwrap().len(), 2);
}

#[test]
fn what_can_not_be_a_message_is_refused_with_a_reason() {
    let world = tempfile::tempdir().unwrap();
    let service = Instance::start("1.0.0", world.path());
    assert_eq!(service.post("lobby", "", "text").0, 422);
    assert_eq!(service.post("lobby", "a b", "text").0, 422);
    assert_eq!(service.post("lobby", &"a".repeat(65), "text").0, 422);
    assert_eq!(service.post("lobby", "a", &"x".repeat(64 * 1024)).0, 201);
    assert_eq!(service.post("lobby", "b", &"x".repeat(64 * 1024 + 1)).0, 422);
    assert_eq!(service.post("no%20room", "a", "text").0, 404);
    assert_eq!(service.get("/rooms/lobby/messages?after=x").0, 400);
    assert_eq!(service.get("/rooms/lobby/socket").0, 426);
    let mut answer = agent().post(format!("http://{}/rooms/lobby/messages", service.address())).send("{").unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["x-release"].to_str().unwrap()), (422, "1.0.0"));
    assert!(answer.body_mut().read_to_string().unwrap().contains("error"));
}

#[test]
fn it_is_ready_only_while_it_can_write_and_read() {
    let world = tempfile::tempdir().unwrap();
    let service = Instance::start("1.1.0", world.path());
    assert_eq!(service.get("/health"), (200, json!({ "status": "ok", "version": "1.1.0" })));
    assert_eq!(service.get("/version"), (200, json!({ "version": "1.1.0", "migrations": [1, 2] })));
    // Somebody holds the write lock and does not let go.
    let other = rusqlite::Connection::open(world.path().join("data/last-layer.sqlite")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_eq!(service.get("/health").0, 503);
    other.execute_batch("ROLLBACK").unwrap();
    crate::instance::await_true(|| service.get("/health").0 == 200);
}
