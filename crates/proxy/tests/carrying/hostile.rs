//! Clients that are slow, rude or many don't hurt the others.

use crate::{
    service::Service,
    stage::{Stage, body, until},
    websockets::{echo, open},
};
use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
    thread,
    time::{Duration, Instant},
};

/// Gives a number of `/proc/PID/status`, in KiB.
fn memory(stage: &Stage, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", stage.child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn slow_heads_and_slow_bodies_are_ended_in_time_and_nobody_waits_for_them() {
    let stage = Stage::with(|serving| {
        serving["limits"] = serde_json::json!({ "header_seconds": 1, "pause_seconds": 1, "idle_seconds": 1 })
    });
    let service = Service::start("one");
    stage.all_to(service.address);
    // A byte every 50 ms never lets a reader's own time-out pass; the head's deadline does not move.
    let slow: Vec<_> = (0..50)
        .map(|_| {
            let mut stream = stage.connect();
            thread::spawn(move || {
                for byte in b"GET / HTTP/1.1\r\nHost: c\r\nX: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy" {
                    if stream.write_all(&[*byte]).is_err() {
                        break;
                    }
                    thread::sleep(Duration::from_millis(50));
                }
                let mut answer = String::new();
                let _ = stream.read_to_string(&mut answer);
                answer
            })
        })
        .collect();
    for _ in 0..20 {
        assert_eq!(body(&stage.get("/hello", "")), "one");
    }
    for slow in slow {
        let answer = slow.join().unwrap();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    }
    // A body that stops, a head that never starts, a connection that waits too long.
    for start in
        ["POST /echo HTTP/1.1\r\nHost: c\r\nContent-Length: 9\r\n\r\nabc", "", "GET /hello HTTP/1.1\r\nHost: c\r\n\r\n"]
    {
        let began = Instant::now();
        let mut stream = stage.connect();
        stream.write_all(start.as_bytes()).unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        assert!(began.elapsed() < Duration::from_secs(15), "{start:?} was never ended");
    }
    until("nothing is in flight", || stage.live("1").0 == 0);
}

#[test]
fn a_client_that_stalls_its_body_is_its_own_fault_and_a_service_that_takes_nothing_is_the_service_s() {
    let stage =
        Stage::with(|serving| serving["limits"] = serde_json::json!({ "pause_seconds": 1, "answer_seconds": 1 }));
    let service = Service::start("one");
    stage.all_to(service.address);
    let mut stream = stage.connect();
    stream.write_all(b"POST /echo HTTP/1.1\r\nHost: c\r\nContent-Length: 9\r\n\r\nabc").unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    let counts = stage.counted("1", |counts| counts.left + counts.requests() > 0);
    assert_eq!((counts.aborted, counts.left, counts.requests()), (0, 1, 0));
    // The whole body is there, and no answer comes.
    let answer = stage.say(b"POST /silent HTTP/1.1\r\nHost: c\r\nContent-Length: 3\r\n\r\nabc");
    assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
    let counts = stage.counted("1", |counts| counts.aborted > 0);
    assert_eq!((counts.aborted, counts.left), (1, 1));
}

#[test]
fn ten_thousand_idle_connections_cost_little_and_hurt_nobody() {
    let (stage, service) = (Stage::new(), Service::start("one"));
    stage.all_to(service.address);
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, ..limit };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).unwrap();
    for _ in 0..50 {
        assert_eq!(body(&stage.get("/hello", "")), "one");
    }
    let before = memory(&stage, "VmRSS");
    let request = b"GET /hello HTTP/1.1\r\nHost: c\r\nCookie: lastgood=0123456789abcdef0123456789abcdef\r\n\r\n";
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none";
    let idle: Vec<TcpStream> = (0..10_000)
        .map(|_| {
            let mut stream = stage.connect();
            stream.write_all(request).unwrap();
            let mut got = vec![0; answer.len()];
            stream.read_exact(&mut got).unwrap();
            assert_eq!(got, answer);
            stream
        })
        .collect();
    let each = (memory(&stage, "VmRSS") - before) * 1024 / idle.len() as u64;
    println!("{each} bytes for an idle connection");
    assert!(each <= 16 << 10, "{each} bytes for an idle connection");
    for _ in 0..50 {
        assert_eq!(body(&stage.get("/hello", "")), "one");
    }
    // They are still good.
    for mut stream in idle.into_iter().step_by(500) {
        stream.write_all(request).unwrap();
        let mut got = vec![0; answer.len()];
        stream.read_exact(&mut got).unwrap();
        assert_eq!(got, answer);
    }
}

#[test]
fn idle_tunnels_cost_little() {
    let (stage, service) = (Stage::new(), Service::start("one"));
    stage.all_to(service.address);
    drop(open(&stage));
    let before = memory(&stage, "VmRSS");
    let mut tunnels: Vec<_> = (0..1_000).map(|_| open(&stage)).collect();
    tunnels.iter_mut().for_each(|tunnel| echo(tunnel, "hello"));
    let each = (memory(&stage, "VmRSS") - before) * 1024 / tunnels.len() as u64;
    println!("{each} bytes for an idle tunnel");
    assert!(each <= 16 << 10, "{each} bytes for an idle tunnel");
    assert_eq!(stage.live("1").1, 1_000);
}

#[test]
fn connections_and_tunnels_beyond_their_limits_are_refused() {
    let stage = Stage::with(|serving| {
        serving["limits"] = serde_json::json!({ "connections": 20, "connections_per_address": 10, "tunnels": 2 })
    });
    let service = Service::start("one");
    stage.all_to(service.address);
    let held: Vec<TcpStream> = (0..10).map(|_| stage.connect()).collect();
    assert_eq!(stage.get("/hello", ""), "");
    drop(held);
    until("they are counted out", || body(&stage.get("/hello", "")) == "one");
    let (mut first, _second) = (open(&stage), open(&stage));
    let refused = crate::websockets::try_open(&stage);
    assert!(refused.is_err_and(|why| why.contains("503")), "a third tunnel was opened");
    echo(&mut first, "still there");
}

#[test]
fn ends_that_are_half_closed_are_not_left_lying() {
    let (stage, service) = (Stage::new(), Service::start("one"));
    stage.all_to(service.address);
    for start in [
        "",
        "GET",
        "POST /echo HTTP/1.1\r\nHost: c\r\nContent-Length: 9\r\n\r\nabc",
        "GET /silent HTTP/1.1\r\nHost: c\r\n\r\n",
    ] {
        let mut stream = stage.connect();
        stream.write_all(start.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    }
    // A WebSocket that is half closed still gets what was on its way.
    let mut socket = open(&stage);
    socket.send(tungstenite::Message::text("count 1000")).unwrap();
    socket.get_ref().shutdown(Shutdown::Write).unwrap();
    for number in 0..1_000 {
        assert_eq!(socket.read().unwrap(), tungstenite::Message::text(number.to_string()));
    }
    drop(socket);
    until("nothing is left", || stage.live("1") == (0, 0));
}
