//! A new proxy takes over from the one that runs, under load.

use crate::{
    crowd::Crowd,
    service::Service,
    stage::{Stage, body, chat, until},
    websockets::{echo, open},
};
use lastgood_domain::traffic::Share;
use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, SystemTime},
};
use tungstenite::{Message, WebSocket};

/// Clients that ask without a pause, each on a kept connection, and count what fails.
fn load(address: SocketAddr, clients: u64) -> Crowd {
    Crowd::start(clients, move |client| {
        let mut kept = None;
        move || ask(address, &mut kept, client).map(|()| 1)
    })
}

/// Asks for the seconds since the last one, as a guard does, and adds them up.
struct Guard {
    stop: Arc<AtomicBool>,
    total: Arc<AtomicU64>,
    asking: thread::JoinHandle<()>,
}

impl Guard {
    fn start(stage: &Stage) -> Self {
        let (stop, total) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, sum, control) = (stop.clone(), total.clone(), stage.control());
        let asking = thread::spawn(move || {
            let mut after = 0;
            while !stopped.load(Ordering::Relaxed) {
                for slice in control.slices(&chat(), after).unwrap_or_default() {
                    assert!(slice.second > after, "a second is given twice");
                    after = slice.second;
                    sum.fetch_add(slice.counts.iter().map(|(_, counts)| counts.requests()).sum(), Ordering::Relaxed);
                }
                thread::sleep(Duration::from_millis(20));
            }
        });
        Self { stop, total, asking }
    }

    fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.asking.join().unwrap();
        self.total.load(Ordering::Relaxed)
    }
}

/// Sends a POST, which nobody may repeat, and reads its answer; half of the clients connect anew each time.
fn ask(address: SocketAddr, kept: &mut Option<TcpStream>, client: u64) -> Result<(), String> {
    let mut stream = match kept.take() {
        Some(stream) => stream,
        None => TcpStream::connect(address).map_err(|error| format!("connect: {error}"))?,
    };
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let request =
        format!("POST /echo HTTP/1.1\r\nHost: c\r\nCookie: lastgood={client:032x}\r\nContent-Length: 5\r\n\r\nhello");
    stream.write_all(request.as_bytes()).map_err(|error| format!("write: {error}"))?;
    let mut answer = Vec::new();
    let mut piece = [0; 1024];
    while !answer.ends_with(b"hello") {
        match stream.read(&mut piece) {
            Ok(0) => return Err(format!("ended after {:?}", String::from_utf8_lossy(&answer))),
            Ok(count) => answer.extend(&piece[..count]),
            Err(error) => return Err(format!("read: {error}")),
        }
    }
    let text = String::from_utf8_lossy(&answer);
    if !text.starts_with("HTTP/1.1 200 OK") {
        return Err(text.into_owned());
    }
    if !text.contains("Connection: close") && client.is_multiple_of(2) {
        *kept = Some(stream);
    }
    Ok(())
}

#[test]
fn under_load_no_request_is_lost_while_one_proxy_after_another_takes_over() {
    let (mut stage, one, two) = (Stage::new(), Service::start("one"), Service::start("two"));
    stage.split(one.address, two.address, Share::percent(30));
    let load = load(stage.address, 8);
    let guard = Guard::start(&stage);
    for _ in 0..5 {
        let before = load.done();
        until("requests flow", || load.done() > before + 200);
        let mut old = stage.start_again();
        until("the old one has ended", || old.try_wait().unwrap().is_some());
        assert!(old.wait().unwrap().success());
        stage.split(one.address, two.address, Share::percent(60));
    }
    let before = load.done();
    until("requests flow", || load.done() > before + 200);
    let done = load.done.clone();
    let failed = load.end();
    assert!(failed.is_empty(), "{} failed: {:?}", failed.len(), failed.first());
    // Nothing that the old ones counted is lost with them.
    let done = done.load(Ordering::Relaxed);
    until("all is counted", || {
        let counted = stage.counted("1", |_| true).requests() + stage.counted("2", |_| true).requests();
        counted == done
    });
    // Nor for one who asks for what is new again and again, as a guard does.
    until("a guard has counted all", || guard.total.load(Ordering::Relaxed) >= done);
    assert_eq!(guard.end(), done);
}

#[test]
fn a_hundred_flips_in_a_row_lose_no_request() {
    let (stage, one, two) = (Stage::new(), Service::start("one"), Service::start("two"));
    stage.split(one.address, two.address, Share::NONE);
    let load = load(stage.address, 8);
    for flip in 0..100 {
        let before = load.done();
        until("requests flow", || load.done() > before + 20);
        stage.split(one.address, two.address, if flip % 2 == 0 { Share::ALL } else { Share::NONE });
    }
    let failed = load.end();
    assert!(failed.is_empty(), "{} failed: {:?}", failed.len(), failed.first());
    let (one, two) =
        (stage.counted("1", |counts| counts.requests() > 0), stage.counted("2", |counts| counts.requests() > 0));
    assert_eq!((one.failed(), two.failed()), (0, 0));
}

#[test]
fn tunnels_stay_with_the_old_process_are_seen_by_the_new_one_and_drained_by_its_tables() {
    let (mut stage, one, two) = (Stage::new(), Service::start("one"), Service::start("two"));
    stage.split(one.address, two.address, Share::ALL);
    let mut socket = open(&stage);
    echo(&mut socket, "before");
    let mut old = stage.start_again();
    echo(&mut socket, "after");
    assert_eq!(stage.live("2").1, 1, "the new process does not know of the old one's tunnel");
    assert_eq!(body(&stage.get("/hello", "")), "two");
    assert!(old.try_wait().unwrap().is_none());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as i64;
    stage.leave(one.address, two.address, Some(now));
    match socket.read().unwrap() {
        Message::Close(Some(frame)) => assert_eq!(u16::from(frame.code), 1012),
        other => panic!("{other:?}"),
    }
    let _ = socket.read();
    until("the old one has ended", || old.try_wait().unwrap().is_some());
    assert!(old.wait().unwrap().success());
    assert_eq!(body(&stage.get("/hello", "")), "one");
}

#[test]
fn tunnels_of_the_first_process_are_seen_and_drained_through_as_many_as_took_over_since() {
    let (mut stage, one, two) = (Stage::new(), Service::start("one"), Service::start("two"));
    stage.split(one.address, two.address, Share::ALL);
    let mut socket = open(&stage);
    echo(&mut socket, "before");
    let mut first = stage.start_again();
    let mut second = stage.start_again();
    let mut third = stage.start_again();
    // Time enough for one that carries nothing to end, which is what must not happen.
    thread::sleep(Duration::from_secs(1));
    echo(&mut socket, "after");
    assert_eq!(stage.live("2").1, 1, "nobody knows of the first one's tunnel any more");
    drain(&stage, &one, &two, &mut socket);
    for old in [&mut first, &mut second, &mut third] {
        until("the old ones have ended", || old.try_wait().unwrap().is_some());
        assert!(old.wait().unwrap().success());
    }
    let left = std::fs::read_dir(stage.folder.path().join("state")).unwrap();
    let sockets =
        left.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("control")).count();
    assert_eq!(sockets, 2, "the control socket, and the living one's own");
}

#[test]
fn tunnels_outlive_the_death_of_whoever_took_over_and_the_next_one_finds_them() {
    let (mut stage, one, two) = (Stage::new(), Service::start("one"), Service::start("two"));
    stage.split(one.address, two.address, Share::ALL);
    let mut socket = open(&stage);
    echo(&mut socket, "before");
    let mut first = stage.start_again();
    stage.child.kill().unwrap();
    stage.child.wait().unwrap();
    drop(stage.start_again());
    echo(&mut socket, "after");
    assert_eq!(stage.live("2").1, 1, "the first one's tunnel is nobody's");
    // Also one that dies between two that live.
    let mut second = stage.start_again();
    second.kill().unwrap();
    second.wait().unwrap();
    until("it is found again", || stage.live("2").1 == 1);
    drain(&stage, &one, &two, &mut socket);
    until("the old one has ended", || first.try_wait().unwrap().is_some());
    assert!(first.wait().unwrap().success());
}

/// Leaves release 2 now, and waits until its tunnel is told to come again.
fn drain(stage: &Stage, one: &Service, two: &Service, socket: &mut WebSocket<TcpStream>) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as i64;
    stage.leave(one.address, two.address, Some(now));
    match socket.read().unwrap() {
        Message::Close(Some(frame)) => assert_eq!(u16::from(frame.code), 1012),
        other => panic!("{other:?}"),
    }
    let _ = socket.read();
}

#[test]
fn whoever_takes_over_and_dies_leaves_everything_as_it_was() {
    let (mut stage, one) = (Stage::new(), Service::start("one"));
    stage.all_to(one.address);
    {
        let mut stream =
            std::os::unix::net::UnixStream::connect(stage.folder.path().join("state/control.sock")).unwrap();
        stream.write_all(b"{\"do\":\"hand-over\"}\n").unwrap();
        let mut answer = [0; 256];
        assert!(stream.read(&mut answer).unwrap() > 0);
        // Meanwhile tables are refused, because nobody knows who will serve.
        assert!(stage.control().route(&stage.table(None)).is_err());
    }
    until("tables are taken again", || {
        stage.control().route(&stage.table(Some(crate::stage::side("1", &[one.address])))).is_ok()
    });
    assert_eq!(body(&stage.get("/hello", "")), "one");
    assert!(stage.child.try_wait().unwrap().is_none());
}

#[test]
fn a_stop_finishes_what_runs_and_refuses_new_connections() {
    let (mut stage, one) = (Stage::new(), Service::start("one"));
    stage.all_to(one.address);
    let mut socket = open(&stage);
    echo(&mut socket, "hello");
    let mut slow = stage.connect();
    slow.write_all(b"GET /slow?700 HTTP/1.1\r\nHost: c\r\n\r\n").unwrap();
    until("it is in flight", || stage.live("1").0 == 1);
    stage.control().stop(Duration::ZERO).unwrap();
    until(
        "nobody listens",
        || matches!(TcpStream::connect(stage.address), Err(error) if error.kind() == ErrorKind::ConnectionRefused),
    );
    let mut answer = String::new();
    slow.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("Connection: close") && body(&answer) == "one", "{answer}");
    assert!(matches!(socket.read().unwrap(), Message::Close(Some(frame)) if u16::from(frame.code) == 1012));
    let _ = socket.read();
    until("it has ended", || stage.child.try_wait().unwrap().is_some());
    assert!(stage.child.wait().unwrap().success());
    assert!(stage.control().look(&chat()).is_err());
}
