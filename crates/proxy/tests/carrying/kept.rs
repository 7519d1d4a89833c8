//! Clients with kept connections over take-overs: none sends a request twice, and each must be answered.

use crate::{
    crowd::Crowd,
    http2::{self, END_STREAM, GOAWAY, PING, frame},
    service::Service,
    stage::{PATIENCE, Stage, until},
    tls,
};
use lastgood_domain::traffic::Share;
use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::Child,
    thread,
    time::{Duration, Instant},
};

/// Longer than a connection may be idle when a proxy stops and nobody takes over.
const IDLE: Duration = Duration::from_millis(1_500);

/// A connection of either kind.
trait Wire: Read + Write + Send {}
impl<T: Read + Write + Send> Wire for T {}

/// How clients connect.
#[derive(Clone, Copy)]
struct Way {
    tls: bool,
    http2: bool,
}

impl Way {
    fn connect(self, address: SocketAddr) -> Result<Box<dyn Wire>, String> {
        let stream = TcpStream::connect(address).map_err(|error| format!("connect: {error}"))?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        if !self.tls {
            return Ok(Box::new(stream));
        }
        let protocol: &[u8] = if self.http2 { b"h2" } else { b"http/1.1" };
        let stream = tls::shake_hands(stream, "one.test", &[protocol]).ok_or("shaking hands failed")?;
        Ok(Box::new(stream))
    }
}

/// Clients that ask on kept connections, with pauses of all lengths between.
fn load(address: SocketAddr, way: Way, clients: u64) -> Crowd {
    Crowd::start(clients, move |client| {
        let (mut kept, mut round) = (Kept::None, client);
        move || {
            let asked = if way.http2 { ask_2(way, address, &mut kept) } else { ask_1(way, address, &mut kept) };
            // From none to more than the times after which a proxy that stops closes what is idle.
            round = round.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let pause = [0, 0, 3, 20, 100, 450, 500, 550, 700, 1_300][(round >> 33) as usize % 10];
            thread::sleep(Duration::from_millis(pause));
            asked
        }
    })
}

/// What a client keeps from one request to the next.
enum Kept {
    None,
    One(Box<dyn Wire>),
    /// And the next stream's number.
    Two(http2::Client<Box<dyn Wire>>, u32),
}

/// Sends one POST, which nobody may repeat, and reads its answer.
fn ask_1(way: Way, address: SocketAddr, kept: &mut Kept) -> Result<u64, String> {
    let mut stream = match std::mem::replace(kept, Kept::None) {
        Kept::One(stream) => stream,
        _ => way.connect(address)?,
    };
    let text = post(&mut stream)?;
    if !text.contains("Connection: close") {
        *kept = Kept::One(stream);
    }
    Ok(1)
}

fn post(stream: &mut impl Wire) -> Result<String, String> {
    let request = b"POST /echo HTTP/1.1\r\nHost: c\r\nContent-Length: 5\r\n\r\nhello";
    stream.write_all(request).map_err(|error| format!("write: {error}"))?;
    let (mut answer, mut piece) = (Vec::new(), [0; 1024]);
    while !answer.ends_with(b"hello") {
        match stream.read(&mut piece) {
            Ok(0) => return Err(format!("ended after {:?}", String::from_utf8_lossy(&answer))),
            Ok(count) => answer.extend(&piece[..count]),
            Err(error) => return Err(format!("read: {error}")),
        }
    }
    let text = String::from_utf8_lossy(&answer).into_owned();
    if text.starts_with("HTTP/1.1 200 OK") { Ok(text) } else { Err(text) }
}

/// Sends three POSTs at once, before it looks whether it was told to go, and reads their answers.
fn ask_2(way: Way, address: SocketAddr, kept: &mut Kept) -> Result<u64, String> {
    let (mut client, first) = match std::mem::replace(kept, Kept::None) {
        Kept::Two(client, next) => (client, next),
        _ => (http2::Client::over(way.connect(address)?), 1),
    };
    let streams = [first, first + 2, first + 4];
    let fields = [(":method", "POST"), (":scheme", "http"), (":authority", "chat"), (":path", "/echo")];
    streams.iter().for_each(|stream| client.request(*stream, &fields, Some(b"hello")));
    if await_answers(&mut client, &streams)?.is_none() {
        *kept = Kept::Two(client, first + 6);
    }
    Ok(streams.len() as u64)
}

/// Reads until all streams are answered; gives the last stream that the other end has named, if it has said goodbye.
fn await_answers<S: Read + Write>(client: &mut http2::Client<S>, streams: &[u32]) -> Result<Option<u32>, String> {
    let mut open: BTreeSet<u32> = streams.iter().copied().collect();
    let mut goodbye = None;
    while !open.is_empty() {
        let Some(frame) = client.next() else { return Err(format!("ended with {open:?} open")) };
        match frame.kind {
            http2::HEADERS | http2::DATA if frame.flags & END_STREAM != 0 => drop(open.remove(&frame.stream)),
            http2::RST_STREAM => return Err(format!("stream {} was reset", frame.stream)),
            PING if frame.flags == 0 => client.send(&self::frame(PING, 1, 0, &frame.payload)),
            GOAWAY => {
                let last = last_stream(&frame);
                goodbye = Some(last);
                if open.iter().any(|stream| *stream > last) {
                    return Err(format!("{open:?} are not done, the last one is {last}"));
                }
            }
            _ => {}
        }
    }
    Ok(goodbye)
}

fn last_stream(goodbye: &http2::Frame) -> u32 {
    u32::from_be_bytes(goodbye.payload[..4].try_into().unwrap())
}

fn no_request_is_lost(mut stage: Stage, way: Way) {
    let (one, two) = (Service::start("one"), Service::start("two"));
    stage.split(one.address, two.address, Share::percent(30));
    let load = load(stage.address, way, 12);
    let mut olds = Vec::new();
    for _ in 0..8 {
        let before = load.done();
        until("requests flow", || load.done() > before + 30);
        olds.push(stage.start_again());
        stage.split(one.address, two.address, Share::percent(60));
    }
    let before = load.done();
    until("requests flow", || load.done() > before + 30);
    let failed = load.end();
    assert!(failed.is_empty(), "{} failed: {:?}", failed.len(), failed.first());
    have_ended(olds);
}

fn have_ended(olds: Vec<Child>) {
    for mut old in olds {
        until("the old ones have ended", || old.try_wait().unwrap().is_some());
        assert!(old.wait().unwrap().success());
    }
}

#[test]
fn over_many_take_overs_no_request_of_kept_http_1_connections_is_lost() {
    no_request_is_lost(Stage::new(), Way { tls: false, http2: false });
}

#[test]
fn over_many_take_overs_no_request_of_kept_http_2_connections_is_lost() {
    no_request_is_lost(Stage::new(), Way { tls: false, http2: true });
}

#[test]
fn over_many_take_overs_no_request_of_kept_tls_connections_is_lost() {
    let (stage, _keys) = tls::stage();
    no_request_is_lost(stage, Way { tls: true, http2: false });
}

#[test]
fn over_many_take_overs_no_request_of_kept_http_2_connections_over_tls_is_lost() {
    let (stage, _keys) = tls::stage();
    no_request_is_lost(stage, Way { tls: true, http2: true });
}

#[test]
fn a_connection_that_is_idle_at_a_take_over_is_answered_once_more() {
    let (mut stage, service) = (Stage::new(), Service::start("one"));
    stage.all_to(service.address);
    let mut kept: Vec<TcpStream> = (0..20).map(|_| stage.connect()).collect();
    // Half of them have not asked anything yet.
    kept.iter_mut().step_by(2).for_each(|stream| drop(post(stream).unwrap()));
    let mut old = stage.start_again();
    thread::sleep(IDLE);
    assert!(old.try_wait().unwrap().is_none(), "it has left them alone");
    for stream in &mut kept {
        assert!(post(stream).unwrap().contains("Connection: close\r\n"));
        assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
    }
    have_ended(vec![old]);
}

#[test]
fn a_connection_that_stays_idle_after_a_take_over_is_closed_when_it_would_have_been_without() {
    let mut stage = Stage::with(|serving| serving["limits"] = serde_json::json!({ "idle_seconds": 2 }));
    let service = Service::start("one");
    stage.all_to(service.address);
    let mut kept = stage.connect();
    post(&mut kept).unwrap();
    let asked = Instant::now();
    let old = stage.start_again();
    assert_eq!(kept.read(&mut [0; 1]).unwrap(), 0);
    assert!(asked.elapsed() >= Duration::from_secs(2), "closed after {:?}", asked.elapsed());
    have_ended(vec![old]);
}

#[test]
fn an_http_2_client_that_has_not_heard_of_a_take_over_is_answered_and_told_its_last_stream() {
    let (mut stage, service) = (Stage::new(), Service::start("one"));
    stage.all_to(service.address);
    let mut client = http2::Client::new(&stage);
    client.request(1, &http2::get("/hello"), None);
    assert_eq!(client.answer(1).0, "one");
    let old = stage.start_again();
    thread::sleep(IDLE);
    // Nothing was read since: as if the goodbye were still on its way.
    client.request(3, &http2::get("/hello"), None);
    let mut last = await_answers(&mut client, &[3]).unwrap().expect("it was not told to go");
    while last != 3 {
        assert_eq!(last, i32::MAX as u32);
        let frame = client.next().expect("it was not told its last stream");
        match frame.kind {
            GOAWAY => last = last_stream(&frame),
            PING if frame.flags == 0 => client.send(&self::frame(PING, 1, 0, &frame.payload)),
            _ => {}
        }
    }
    // What the client still says to the end of a connection must not reset it: an answer could be lost by that.
    for _ in 0..3 {
        client.stream.write_all(&frame(PING, 0, 0, &[0; 8])).unwrap();
        thread::sleep(Duration::from_millis(50));
    }
    let mut rest = Vec::new();
    client.stream.read_to_end(&mut rest).expect("the connection was reset");
    drop(client);
    have_ended(vec![old]);
}
