//! WebSocket and plain connections.

use crate::world::{LONG, answer, free_port, probe, raw, target};
use lastgood_drivers::probe::FailureKind;
use std::{
    io::{Read as _, Write as _},
    sync::mpsc,
};
use tungstenite::{
    Message,
    handshake::server::{Request, Response},
};

#[test]
fn a_script_is_spoken_and_the_connection_closed_properly() {
    let (tell, told) = mpsc::channel();
    let tell = std::sync::Mutex::new(tell);
    let port = raw(move |stream| {
        let mut seen = String::new();
        let check = |request: &Request, mut response: Response| {
            seen = format!("{} {:?}", request.uri(), request.headers().get("x-token"));
            response.headers_mut().insert("Sec-WebSocket-Protocol", "notes.v1".parse().unwrap());
            Ok(response)
        };
        let mut socket = tungstenite::accept_hdr(stream, check).unwrap();
        socket.send(Message::text("welcome")).unwrap();
        while let Ok(message) = socket.read() {
            match message {
                Message::Text(text) if text.contains("list") => {
                    socket.send(Message::text("presence: bob")).unwrap();
                    socket.send(Message::text(r#"{"type":"notes","count":3}"#)).unwrap();
                }
                Message::Close(_) => tell.lock().unwrap().send(seen.clone()).unwrap(),
                _ => {}
            }
        }
    });
    let text = r#"
        [[probe]]
        name = "live notes"
        websocket = { path = "/live?of={account}", protocol = "notes.v1", headers = { X-Token = "abc" }, script = [
          { expect = "^welcome$" }, { send_json = { type = "list" } }, { expect_json = { "$.type" = "notes" } },
        ] }
        capture = { count = { json = "$.count" } }
        [[probe]]
        name = "plain"
        tcp = {}
        "#;
    let mut target = target(port);
    target.vars.insert("account".into(), "a b".into());
    probe(text).run(&target, LONG).unwrap();
    assert_eq!(told.recv().unwrap(), "/live?of=a%20b Some(\"abc\")");
}

#[test]
fn a_socket_that_is_refused_or_says_nothing_fitting_fails() {
    let text = "[[probe]]\nname = \"live\"\ntimeout = \"300ms\"\nwebsocket = { path = \"/\", script = [{ expect = \"yes\" }] }";
    let refusing = raw(|mut stream| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(&answer("403 Forbidden", "", "who are you"));
    });
    let failure = probe(text).run(&target(refusing), LONG).unwrap_err();
    assert!(failure.got().starts_with("status 403 instead of 101"), "{failure}");

    let silent = raw(|stream| {
        let mut socket = tungstenite::accept(stream).unwrap();
        socket.send(Message::text("no")).unwrap();
        while socket.read().is_ok() {}
    });
    let failure = probe(text).run(&target(silent), LONG).unwrap_err();
    assert_eq!((failure.kind, failure.got()), (FailureKind::Timeout, "only \"no\" in time"));

    let ending = raw(|stream| {
        let mut socket = tungstenite::accept(stream).unwrap();
        socket.close(None).unwrap();
        while socket.read().is_ok() {}
    });
    let failure = probe(text).run(&target(ending), LONG).unwrap_err();
    assert_eq!((failure.kind, failure.got()), (FailureKind::Failed, "no message before the service ended it"));

    let chatty = raw(|stream| {
        let mut socket = tungstenite::accept(stream).unwrap();
        while socket.send(Message::text("no")).is_ok() {}
    });
    let failure = probe(&text.replace("300ms", "10s")).run(&target(chatty), LONG).unwrap_err();
    assert_eq!(failure.got(), "100 messages that don't fit, the last \"no\"");

    let hanging = raw(|mut stream| drop(stream.read_to_end(&mut Vec::new())));
    assert_eq!(probe(text).run(&target(hanging), LONG).unwrap_err().kind, FailureKind::Timeout);
    assert_eq!(probe(text).run(&target(free_port()), LONG).unwrap_err().kind, FailureKind::Unreachable);
}

#[test]
fn a_plain_connection_sends_and_awaits() {
    let port = raw(|mut stream| {
        let mut read = [0; 6];
        if stream.read_exact(&mut read).is_ok() && &read == b"PING\r\n" {
            stream.write_all(b"+PO").unwrap();
            stream.write_all(b"NG 42\r\n").unwrap();
        }
    });
    let text = r#"
        [[probe]]
        name = "ping"
        timeout = "300ms"
        tcp = { send = "PING\r\n", expect = "PONG [0-9]+\r\n" }
        capture = { n = { body = "([0-9]+)" } }
        "#;
    probe(text).run(&target(port), LONG).unwrap();
    let failure = probe(&text.replace("PONG", "OK")).run(&target(port), LONG).unwrap_err();
    assert_eq!(failure.got(), "only \"+PONG 42\" before the connection was closed");
    let silent = raw(|mut stream| drop(stream.read_to_end(&mut Vec::new())));
    let failure = probe(text).run(&target(silent), LONG).unwrap_err();
    assert_eq!((failure.kind, failure.got()), (FailureKind::Timeout, "nothing that fits in time"));
}
