//! What two readers could read differently is refused with 400, and the connection ends.

use crate::{
    service::Service,
    stage::{Stage, body},
};

const WS: &str = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// Each is one message that must be refused, whatever follows it.
fn refused() -> Vec<(String, u16)> {
    // The bodies are right for whoever takes the headers, so that only their refusal keeps the service from them.
    let headers = |headers: &str| {
        let lower = headers.to_lowercase();
        let body = match (lower.contains("encoding"), lower.contains("length")) {
            (true, _) => "0\r\n\r\n",
            (false, true) => "hello",
            (false, false) => "",
        };
        (format!("POST / HTTP/1.1\r\nHost: c\r\n{headers}\r\n{body}"), 400)
    };
    let line = |line: &str, status: u16| (format!("{line}\r\nHost: c\r\n\r\n"), status);
    let chunks =
        |chunks: &str| (format!("POST / HTTP/1.1\r\nHost: c\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"), 400);
    let mut all = vec![
        // Lengths.
        headers("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
        headers("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
        headers("Content-Length: 5\r\nContent-Length: 6\r\n"),
        headers("Content-Length: 5\r\nContent-Length: 5\r\n"),
        headers("Content-Length: 5, 5\r\n"),
        headers("Content-Length: +5\r\n"),
        headers("Content-Length: -5\r\n"),
        headers("Content-Length: 5 \x0b\r\n"),
        headers("Content-Length: 0x5\r\n"),
        headers("Content-Length: \r\n"),
        headers("Content-Length: 99999999999999999999\r\n"),
        headers("Content_Length: 5\r\n"),
        headers("Content-Length : 5\r\n"),
        headers(" Content-Length: 5\r\n"),
        // Codings.
        headers("Transfer-Encoding: identity\r\n"),
        headers("Transfer-Encoding: chunked, identity\r\n"),
        headers("Transfer-Encoding: xchunked\r\n"),
        headers("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        headers("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"),
        headers("Transfer-Encoding:\x0bchunked\r\n"),
        headers("Transfer-Encoding\t: chunked\r\n"),
        headers("Transfer_Encoding: chunked\r\n"),
        headers("Transfer-Encoding: \"chunked\"\r\n"),
        // Lines.
        headers("X: a\r\n folded\r\n"),
        headers("X: a\r\n\tfolded\r\n"),
        headers("X: a\nY: b\r\n"),
        headers("X: a\rY: b\r\n"),
        headers("X: a\0b\r\n"),
        headers("X: a\x7fb\r\n"),
        headers("X\r\n"),
        headers(": a\r\n"),
        headers("X y: a\r\n"),
        headers("X(: a\r\n"),
        headers("Host: d\r\n"),
        headers("Connection: host\r\n"),
        headers("Connection: close, content-length\r\n"),
        headers("Connection: x-forwarded-for\r\n"),
        headers("Connection: authorization\r\n"),
        headers("X_Forwarded_For: 1.2.3.4\r\n"),
        ("GET / HTTP/1.1\r\n\r\n".into(), 400),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n".into(), 400),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n".into(), 400),
        ("GET / HTTP/1.1\nHost: c\n\n".into(), 400),
        ("GET / HTTP/1.1\r\nHost: c\r\n\n".into(), 400),
        ("\n\nGET / HTTP/1.1\r\nHost: c\r\n\r\n".into(), 400),
        ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".into(), 400),
        // First lines.
        line("GET  / HTTP/1.1", 400),
        line("GET /", 400),
        line("GET / HTTP/1.1 ", 400),
        line("GET /a b HTTP/1.1", 400),
        line("GET /\x01 HTTP/1.1", 400),
        line("GET /\u{e9} HTTP/1.1", 400),
        line("GET /a#b HTTP/1.1", 400),
        line("GET a HTTP/1.1", 400),
        line("GET * HTTP/1.1", 400),
        line("G\tT / HTTP/1.1", 400),
        line("GET http://other/ HTTP/1.1", 400),
        line("GET ftp://c/ HTTP/1.1", 400),
        line("GET / http/1.1", 400),
        line("GET / HTTP/1.2", 505),
        line("GET / HTTP/2.0", 505),
        line("CONNECT c:443 HTTP/1.1", 405),
        // Chunks.
        chunks("5;a\nb\r\nhello\r\n0\r\n\r\n"),
        chunks("g\r\n"),
        chunks("-1\r\n"),
        chunks("0x5\r\nhello\r\n"),
        chunks("5 \r\nhello\r\n"),
        chunks("5\nhello\n0\n\n"),
        chunks("5\rhello\r\n"),
        chunks("3\r\nhello\r\n0\r\n\r\n"),
        chunks("ffffffffffffffff\r\n"),
        chunks("0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        chunks("0\r\nContent-Length: 9\r\n\r\n"),
        // Upgrades.
        headers("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"),
        headers("Connection: upgrade\r\nUpgrade: websocket, h2c\r\n"),
        headers(&format!("Upgrade: websocket\r\n{WS}")),
        headers(&format!("Connection: upgrade\r\nUpgrade: websocket\r\n{WS}")),
    ];
    let upgrade = |rest: &str, status| {
        (format!("GET / HTTP/1.1\r\nHost: c\r\nConnection: upgrade\r\nUpgrade: websocket\r\n{rest}\r\n"), status)
    };
    all.push(upgrade("Sec-WebSocket-Version: 13\r\n", 400));
    all.push(upgrade("Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: short\r\n", 400));
    all.push(upgrade("Sec-WebSocket-Version: 8\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", 426));
    all.push(upgrade(&format!("{WS}{WS}"), 400));
    all.push(upgrade(&format!("{WS}Content-Length: 5\r\n"), 400));
    all.push(upgrade(&format!("{WS}Transfer-Encoding: chunked\r\n"), 400));
    all
}

#[test]
fn what_could_be_read_in_two_ways_is_refused_and_nothing_behind_it_is_carried() {
    let (stage, service) = (Stage::new(), Service::start("one"));
    stage.all_to(service.address);
    for (message, status) in refused() {
        let smuggled = "GET /smuggled HTTP/1.1\r\nHost: c\r\n\r\n";
        let answer = stage.say(format!("{message}{smuggled}").as_bytes());
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{message:?}: {answer}");
        assert!(answer.contains("\r\nConnection: close\r\n"), "{message:?}: {answer}");
        assert_eq!(answer.matches("Content-Type: text/plain").count(), 1, "{message:?}: {answer}");
    }
    let heads = service.seen.heads.lock().unwrap().clone();
    assert!(heads.iter().all(|head| !head.contains("smuggled")), "{heads:?}");
    drop(heads);
    assert_eq!(body(&stage.get("/hello", "")), "one");
}

#[test]
fn a_tunnel_needs_a_real_switch_with_its_proof() {
    let stage = Stage::new();
    for answer in [
        &b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"[..],
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Accept: AAAA\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
    ] {
        let service = Service::saying(answer);
        stage.all_to(service.address);
        let message = format!("GET / HTTP/1.1\r\nHost: c\r\nConnection: upgrade\r\nUpgrade: websocket\r\n{WS}\r\n");
        let got = stage.say(message.as_bytes());
        assert!(got.starts_with("HTTP/1.1 502"), "{:?}: {got}", String::from_utf8_lossy(answer));
    }
    // An answer that is no switch leaves an ordinary connection: what follows is read as a request again.
    let service = Service::start("one");
    stage.all_to(service.address);
    let message = format!(
        "GET /hello HTTP/1.1\r\nHost: c\r\nConnection: upgrade\r\nUpgrade: websocket\r\n{WS}\r\nnonsense\r\n\r\n"
    );
    let got = stage.say(message.as_bytes());
    assert!(got.starts_with("HTTP/1.1 200") && got.contains("HTTP/1.1 400"), "{got}");
}

#[test]
fn a_wish_for_another_protocol_is_ignored() {
    let (stage, service) = (Stage::new(), Service::start("one"));
    stage.all_to(service.address);
    let answer = stage.say(b"GET /head HTTP/1.1\r\nHost: c\r\nConnection: close, Upgrade\r\nUpgrade: TLS/1.3\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200") && !body(&answer).to_lowercase().contains("upgrade"), "{answer}");
}

#[test]
fn too_much_is_refused_with_what_it_was_too_much_of() {
    let stage = Stage::with(|serving| {
        serving["limits"] = serde_json::json!({ "header_bytes": 4096, "header_count": 10, "body_bytes": 10 });
    });
    let service = Service::start("one");
    stage.all_to(service.address);
    let long = "a".repeat(5_000);
    for (message, status) in [
        (format!("GET /{long} HTTP/1.1\r\nHost: c\r\n\r\n"), 414),
        (format!("GET / HTTP/1.1\r\nHost: c\r\nX: {long}\r\n\r\n"), 431),
        (format!("GET / HTTP/1.1\r\nHost: c\r\n{}\r\n", "X: y\r\n".repeat(10)), 431),
        ("POST /echo HTTP/1.1\r\nHost: c\r\nContent-Length: 11\r\n\r\nhello world".into(), 413),
        (
            "POST /echo HTTP/1.1\r\nHost: c\r\nTransfer-Encoding: chunked\r\n\r\nb\r\nhello world\r\n0\r\n\r\n".into(),
            413,
        ),
    ] {
        let answer = stage.say(message.as_bytes());
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{status}: {answer}");
    }
    assert_eq!(body(&stage.get("/hello", "")), "one");
}
