//! WebSocket through the proxy.

use crate::{
    service::Service,
    stage::{PATIENCE, Stage, until},
};
use lastgood_domain::traffic::Share;
use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::SystemTime,
};
use tungstenite::{Message, WebSocket, client::IntoClientRequest as _, protocol::CloseFrame};

pub(crate) fn open(stage: &Stage) -> WebSocket<TcpStream> {
    try_open(stage).expect("no WebSocket")
}

pub(crate) fn try_open(stage: &Stage) -> Result<WebSocket<TcpStream>, String> {
    let request = format!("ws://{}/ws", stage.address).into_client_request().unwrap();
    let stream = stage.connect();
    tungstenite::client(request, stream).map(|(socket, _)| socket).map_err(|error| error.to_string())
}

pub(crate) fn echo(socket: &mut WebSocket<TcpStream>, text: &str) {
    socket.send(Message::text(text)).unwrap();
    assert_eq!(socket.read().unwrap(), Message::text(text));
}

pub(crate) fn unix_ms() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as i64
}

#[test]
fn messages_pass_both_ways_and_the_tunnel_is_counted() {
    let (stage, service) = (Stage::new(), Service::start("one"));
    stage.all_to(service.address);
    let mut socket = open(&stage);
    echo(&mut socket, "hello");
    let big = Message::binary(vec![7; 3 << 20]);
    socket.send(big.clone()).unwrap();
    assert_eq!(socket.read().unwrap(), big);
    assert_eq!(stage.live("1"), (0, 1));
    socket.close(None).unwrap();
    while socket.read().is_ok() {}
    until("the tunnel is over", || stage.live("1").1 == 0);
    let counts = stage.counted("1", |counts| counts.closes.clean == 1);
    assert_eq!((counts.opened, counts.status[0], counts.closes.cut), (1, 1, 0));
}

#[test]
fn closes_are_told_apart_by_who_broke_off_and_how() {
    let (stage, service) = (Stage::new(), Service::start("one"));
    stage.all_to(service.address);
    for (say, code) in [("close 1000", Some(1000)), ("close 1011", Some(1011)), ("cut now", None)] {
        let mut socket = open(&stage);
        socket.send(Message::text(say)).unwrap();
        match socket.read() {
            Ok(Message::Close(frame)) => assert_eq!(frame.map(|frame| frame.code.into()), code),
            other => assert!(code.is_none(), "{say}: {other:?}"),
        }
        let _ = socket.read();
    }
    drop(open(&stage));
    let counts = stage.counted("1", |counts| counts.opened == 4 && counts.closes.clean == 2);
    assert_eq!((counts.closes.errors, counts.closes.cut), (1, 1));
}

#[test]
fn a_person_whose_tunnel_breaks_each_time_is_one_who_failed() {
    let stage = Stage::with(|serving| serving["sticky"] = serde_json::json!({ "header": "x-user" }));
    let service = Service::start("one");
    stage.all_to(service.address);
    for person in ["loop", "loop", "loop", "other"] {
        let mut request = format!("ws://{}/ws", stage.address).into_client_request().unwrap();
        request.headers_mut().insert("x-user", person.parse().unwrap());
        let (mut socket, _) = tungstenite::client(request, stage.connect()).unwrap();
        socket.send(Message::text("cut now")).unwrap();
        while socket.read().is_ok() {}
        until("the tunnel is over", || stage.live("1").1 == 0);
    }
    let counts = stage.counted("1", |counts| counts.closes.cut == 4);
    // Of who failed before: two requests that opened a tunnel, and two tunnels.
    assert_eq!((counts.failed(), counts.again.failed, counts.again.requests), (4, 2, 4), "{counts:?}");
}

#[test]
fn a_drain_refuses_nobody_keeps_tunnels_and_closes_them_at_the_deadline_with_1012() {
    let (stage, old, new) = (Stage::new(), Service::start("old"), Service::start("new"));
    stage.split(old.address, new.address, Share::ALL);
    let mut socket = open(&stage);
    echo(&mut socket, "on the candidate");
    assert_eq!(stage.live("2").1, 1);
    stage.leave(old.address, new.address, None);
    echo(&mut socket, "still there");
    let mut another = open(&stage);
    echo(&mut another, "on last-good");
    assert_eq!((stage.live("1").1, stage.live("2").1), (1, 1));
    stage.leave(old.address, new.address, Some(unix_ms()));
    match socket.read().unwrap() {
        Message::Close(Some(CloseFrame { code, .. })) => assert_eq!(u16::from(code), 1012),
        other => panic!("{other:?}"),
    }
    // tungstenite has answered; then the connection ends in order.
    assert!(matches!(socket.read(), Err(tungstenite::Error::ConnectionClosed)));
    until("the tunnel is over", || stage.live("2").1 == 0);
    until("the service was told", || new.seen.closes.lock().unwrap().len() == 1);
    assert_eq!(new.seen.closes.lock().unwrap()[0], Some(1012));
    echo(&mut another, "untouched");
    let counts = stage.counted("2", |counts| counts.closes.drained == 1);
    assert_eq!((counts.closes.cut, counts.closes.errors), (0, 0));
}

#[test]
fn a_closed_service_refuses_upgrades_with_503_and_when_to_come_again() {
    let stage = Stage::new();
    stage.control().route(&stage.table(None)).unwrap();
    let answer = stage.say(
        b"GET /ws HTTP/1.1\r\nHost: c\r\nConnection: close, upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("\r\nRetry-After: 5\r\n"), "{answer}");
}

#[test]
fn a_tunnel_that_says_nothing_for_long_is_closed_in_order() {
    let stage = Stage::with(|serving| serving["limits"] = serde_json::json!({ "tunnel_idle_seconds": 1 }));
    let service = Service::start("one");
    stage.all_to(service.address);
    let mut socket = open(&stage);
    socket.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
    match socket.read().unwrap() {
        Message::Close(Some(frame)) => assert_eq!(u16::from(frame.code), 1001),
        other => panic!("{other:?}"),
    }
}

/// Opens a WebSocket and gives the bare connection.
pub(crate) fn open_bare(stage: &Stage) -> TcpStream {
    let mut stream = stage.connect();
    let request = "GET /ws HTTP/1.1\r\nHost: c\r\nCookie: lastgood=0123456789abcdef0123456789abcdef\r\nConnection: upgrade\r\n\
        Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    stream
}

/// A service that switches and then does what it wants with the bare connection.
pub(crate) fn switching(then: impl Fn(TcpStream) + Send + Sync + 'static) -> Service {
    Service::speaking(move |mut stream, _| {
        let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
        if crate::service::head(&mut reader).is_some() {
            let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
            stream.write_all(answer.as_bytes()).unwrap();
            then(stream);
        }
    })
}

fn wire(first: u8, length: usize, is_masked: bool) -> Vec<u8> {
    let bit = if is_masked { 128 } else { 0 };
    let mut frame = vec![first];
    match length {
        0..=125 => frame.push(bit | length as u8),
        126..=65_535 => {
            frame.push(bit | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        _ => {
            frame.push(bit | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    if is_masked {
        frame.extend([1, 2, 3, 4]);
    }
    frame.extend((0..length).map(|at| at as u8));
    frame
}

#[test]
fn frames_of_any_kind_pass_byte_for_byte_both_ways() {
    let stage = Stage::new();
    let service = switching(|stream| {
        let (mut from, mut to) = (stream.try_clone().unwrap(), stream);
        let _ = std::io::copy(&mut from, &mut to);
    });
    stage.all_to(service.address);
    let mut cases = Vec::new();
    for is_masked in [true, false] {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, 300_000] {
            cases.push(wire(0x82, length, is_masked));
        }
        // In parts, with a ping, a pong and an empty part between; reserved bits and opcodes; a close within a message.
        let parts =
            [(0x01, 3), (0x89, 125), (0x00, 0), (0x8a, 0), (0x80, 200), (0xf1, 9), (0x83, 4), (0x8b, 4), (0x01, 2)];
        cases.push(parts.into_iter().flat_map(|(first, length)| wire(first, length, is_masked)).collect());
    }
    let mut stream = open_bare(&stage);
    for case in &cases {
        let mut writer = stream.try_clone().unwrap();
        let sent = case.clone();
        let writing = std::thread::spawn(move || writer.write_all(&sent).unwrap());
        let mut got = vec![0; case.len()];
        stream.read_exact(&mut got).unwrap();
        assert!(got == *case, "{} bytes came otherwise", case.len());
        writing.join().unwrap();
    }
    drop(stream);
    for code in [1000_u16, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 3000, 4999, 0, 999, 5000] {
        let mut stream = open_bare(&stage);
        let mut close = vec![0x88, 0x82, 0, 0, 0, 0];
        close.extend(code.to_be_bytes());
        // What follows a Close goes nowhere.
        stream.write_all(&[&close[..], &wire(0x81, 5, true)].concat()).unwrap();
        let mut got = vec![0; close.len()];
        stream.read_exact(&mut got).unwrap();
        assert_eq!(got, close);
        drop(stream);
    }
    let counts = stage.counted("1", |counts| counts.closes.clean == 16);
    assert_eq!((counts.closes.errors, counts.closes.cut), (0, 0));
}

#[test]
fn a_close_is_put_where_a_message_ends_and_never_within_one() {
    let stage = Stage::new();
    let old = Service::start("old");
    let new = switching(|mut stream| {
        // One message in two parts, the first of them in two pieces.
        for piece in [&[0x01, 5, b'h', b'e'][..], b"llo", &[0x80, 1, b'!'], &[0x81, 5, b'a', b'f', b't', b'e', b'r']] {
            if stream.write_all(piece).is_err() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(400));
        }
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    });
    stage.split(old.address, new.address, Share::ALL);
    let mut stream = open_bare(&stage);
    let mut got = vec![0; 4];
    stream.read_exact(&mut got).unwrap();
    stage.leave(old.address, new.address, Some(unix_ms()));
    let mut rest = vec![0; 6];
    stream.read_exact(&mut rest).unwrap();
    assert_eq!([got, rest].concat(), [0x01, 5, b'h', b'e', b'l', b'l', b'o', 0x80, 1, b'!']);
    let mut close = [0; 4];
    stream.read_exact(&mut close).unwrap();
    assert_eq!((close[0], u16::from_be_bytes([close[2], close[3]])), (0x88, 1012));
    let mut reason = vec![0; usize::from(close[1]) - 2];
    stream.read_exact(&mut reason).unwrap();
    // The client says Close; then the connection ends, with nothing more of the message behind.
    stream.write_all(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xf4]).unwrap();
    let mut end = Vec::new();
    stream.read_to_end(&mut end).unwrap();
    assert_eq!(end, b"");
}

#[test]
fn what_a_client_says_after_the_close_and_before_its_own_still_reaches_the_service() {
    let stage = Stage::new();
    let old = Service::start("old");
    let heard = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let hears = heard.clone();
    let new = switching(move |mut stream| {
        let mut bytes = Vec::new();
        let mut piece = [0; 1_024];
        // Until the client's Close.
        while !bytes.windows(2).any(|pair| pair == [0x88, 0x82]) {
            match stream.read(&mut piece) {
                Ok(count) if count > 0 => bytes.extend(&piece[..count]),
                _ => break,
            }
        }
        *hears.lock().unwrap() = bytes;
    });
    stage.split(old.address, new.address, Share::ALL);
    let mut stream = open_bare(&stage);
    until("it is open", || stage.live("2").1 == 1);
    stage.leave(old.address, new.address, Some(unix_ms()));
    let mut close = [0; 2];
    stream.read_exact(&mut close).unwrap();
    assert_eq!(close[0], 0x88);
    let last = wire(0x81, 5, true);
    stream.write_all(&last).unwrap();
    stream.write_all(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xf4]).unwrap();
    let mut end = Vec::new();
    let _ = stream.read_to_end(&mut end);
    until("the service heard it", || heard.lock().unwrap().starts_with(&last));
}

#[test]
fn an_instance_that_resets_while_its_client_sends_has_cut_the_tunnel() {
    let stage = Stage::new();
    let service = Service::speaking(|mut stream, _| {
        let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
        let Some(head) = crate::service::head(&mut reader) else { return };
        let key = crate::service::value(&head, "sec-websocket-key").unwrap_or_default();
        let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        let _ = stream.write_all(answer.as_bytes());
        let _ = reader.read(&mut [0; 4_096]);
        rustix::net::sockopt::set_socket_linger(&stream, Some(std::time::Duration::ZERO)).unwrap();
    });
    stage.all_to(service.address);
    for _ in 0..20 {
        let mut socket = open(&stage);
        let piece = Message::binary(vec![0; 64 << 10]);
        while socket.send(piece.clone()).is_ok() {}
    }
    let ended =
        |counts: &lastgood_domain::traffic::Counts| counts.closes.clean + counts.closes.cut + counts.closes.errors;
    let counts = stage.counted("1", |counts| ended(counts) == 20);
    assert_eq!((counts.closes.cut, counts.closes.clean), (20, 0));
}
