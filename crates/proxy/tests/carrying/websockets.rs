//! WebSocket through the proxy.

use crate::{
    service::Service,
    stage::{PATIENCE, Stage, until},
};
use lastgood_domain::traffic::Share;
use std::{net::TcpStream, time::SystemTime};
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

fn unix_ms() -> i64 {
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
