//! The HTTP that the notebook speaks: correct for good clients, short for bad ones.

use crate::instance::{Instance, PASSWORD, publish, release};
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;

fn notebook() -> (Instance, tempfile::TempDir) {
    let world = tempfile::tempdir().unwrap();
    let data = world.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let instance = Instance::start(&publish(&release("1.0.0"), &world.path().join("releases")), &data);
    (instance, world)
}

fn first_line(answer: &str) -> &str {
    answer.lines().next().unwrap_or_default()
}

#[test]
fn one_connection_carries_many_requests_also_ahead_of_their_answers() {
    let (notebook, _world) = notebook();
    let three = "GET /health HTTP/1.1\r\nHost: a\r\n\r\nGET /busy HTTP/1.1\r\nHost: a\r\n\r\n\
                 GET /version HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let answers = notebook.raw(three.as_bytes());
    let bodies: Vec<&str> = answers.lines().filter(|line| line.starts_with('{')).collect();
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 3, "{answers}");
    assert!(answers.contains(r#"{"busy":false,"open":0}HTTP/1.1 200 OK"#), "{answers}");
    assert_eq!(bodies.len(), 3);
    assert!(answers.ends_with(r#"{"migrations":[1],"version":"1.0.0"}"#), "{answers}");
}

#[test]
fn a_request_that_comes_byte_by_byte_is_understood() {
    let (notebook, _world) = notebook();
    let mut stream = TcpStream::connect(("127.0.0.1", notebook.port)).unwrap();
    stream.set_nodelay(true).unwrap();
    let body = json!({ "name": "probe", "password": PASSWORD }).to_string();
    let length = body.len();
    let request = format!("POST /account/bootstrap HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{body}");
    for byte in request.bytes() {
        stream.write_all(&[byte]).unwrap();
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(first_line(&answer), "HTTP/1.1 201 Created", "{answer}");
}

#[test]
fn a_client_that_asks_before_it_sends_is_told_to_go_on() {
    let (notebook, _world) = notebook();
    let mut stream = TcpStream::connect(("127.0.0.1", notebook.port)).unwrap();
    stream
        .write_all(
            b"POST /session/open HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\nConnection: close\r\n\r\n",
        )
        .unwrap();
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"{}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with(r#"{"busy":true,"open":1}"#), "{answer}");
}

#[test]
fn a_head_request_gets_the_length_and_no_body() {
    let (notebook, _world) = notebook();
    let answer = notebook.raw(b"HEAD /health HTTP/1.1\r\nConnection: close\r\n\r\n");
    assert!(answer.contains("\r\nContent-Length: 33\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
}

#[test]
fn what_makes_no_sense_or_is_too_long_is_refused_and_the_service_lives() {
    let (mut notebook, _world) = notebook();
    let long_header = format!("GET /health HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    let many_headers = format!("GET /health HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(65));
    let requests: [(&str, &str); 15] = [
        ("rubbish\r\n\r\n", "400 Bad Request"),
        ("GET  /health HTTP/1.1\r\n\r\n", "400 Bad Request"),
        ("GET health HTTP/1.1\r\n\r\n", "400 Bad Request"),
        ("GET /a\u{7f}b HTTP/1.1\r\n\r\n", "400 Bad Request"),
        ("GET /health HTTP/2.0\r\n\r\n", "505 HTTP Version Not Supported"),
        ("GET /health HTTP/1.1\r\nno colon\r\n\r\n", "400 Bad Request"),
        ("GET /health HTTP/1.1\r\nbad name: x\r\n\r\n", "400 Bad Request"),
        ("GET /health HTTP/1.1\r\nX: a\nY: b\r\n\r\n", "400 Bad Request"),
        ("POST /notes HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "400 Bad Request"),
        ("POST /notes HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "400 Bad Request"),
        ("POST /notes HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", "413 Content Too Large"),
        ("POST /notes HTTP/1.1\r\nContent-Length: 1048577\r\n\r\n", "413 Content Too Large"),
        ("POST /notes HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "501 Not Implemented"),
        (&long_header, "431 Request Header Fields Too Large"),
        (&many_headers, "431 Request Header Fields Too Large"),
    ];
    for (request, status) in requests {
        let answer = notebook.raw(request.as_bytes());
        assert_eq!(first_line(&answer), format!("HTTP/1.1 {status}"), "{request:?}");
        assert!(answer.contains("\r\nConnection: close\r\n"), "{request:?}");
    }
    assert!(notebook.is_running());
    assert_eq!(notebook.get("/health", "").0, 200);
}

#[test]
fn a_body_that_is_not_what_was_asked_for_is_refused_without_repeating_it() {
    let (notebook, _world) = notebook();
    for body in [json!(null), json!([]), json!({ "name": "probe" }), json!({ "name": 1, "password": PASSWORD })] {
        let (status, answer) = notebook.post("/account/login", &body);
        assert_eq!(status, 422);
        assert!(!answer.to_string().contains(PASSWORD));
    }
    let endless = json!({ "name": "n".repeat(101), "password": PASSWORD });
    assert_eq!(notebook.post("/account/bootstrap", &endless).0, 422);
    assert_eq!(notebook.post("/health", &json!({})).0, 405);
    assert_eq!(notebook.get("/account/login", "").0, 405);
    assert_eq!(notebook.get("/nowhere", "").0, 404);
}

#[test]
fn a_client_that_leaves_in_the_middle_disturbs_nobody() {
    let (notebook, _world) = notebook();
    for piece in [&b"GET /hea"[..], b"POST /notes HTTP/1.1\r\nContent-Length: 100\r\n\r\nhalf", b""] {
        let mut stream = TcpStream::connect(("127.0.0.1", notebook.port)).unwrap();
        stream.write_all(piece).unwrap();
    }
    assert_eq!(notebook.get("/health", "").0, 200);
}

#[test]
fn more_connections_than_there_is_room_for_are_told_so() {
    let (notebook, _world) = notebook();
    let mut held = Vec::new();
    for _ in 0..256 {
        let mut stream = TcpStream::connect(("127.0.0.1", notebook.port)).unwrap();
        stream.write_all(b"GET /busy HTTP/1.1\r\n\r\n").unwrap();
        // Its answer is the proof that it has a place.
        let mut start = [0; 15];
        stream.read_exact(&mut start).unwrap();
        assert_eq!(&start, b"HTTP/1.1 200 OK");
        held.push(stream);
    }
    let answer = notebook.raw(b"");
    assert_eq!(first_line(&answer), "HTTP/1.1 503 Service Unavailable");
}
