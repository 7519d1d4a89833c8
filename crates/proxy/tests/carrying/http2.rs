//! HTTP/2 through the proxy: frames of our own making, so that broken ones can be sent too.

use crate::{
    service::Service,
    stage::{PATIENCE, Stage, until},
};
use std::{io::Write as _, net::TcpStream, sync::atomic::Ordering, time::Duration};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Writes fields as literals without Huffman coding and without indexing.
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            assert!(text.len() < 127);
            block.push(text.len() as u8);
            block.extend(text.bytes());
        }
    }
    block
}

pub(crate) fn get(path: &str) -> Vec<(&str, &str)> {
    vec![(":method", "GET"), (":scheme", "http"), (":authority", "chat"), (":path", path)]
}

/// A client of frames over any stream.
pub(crate) struct Client<S> {
    pub(crate) stream: S,
    read: Vec<u8>,
}

impl Client<TcpStream> {
    pub(crate) fn new(stage: &Stage) -> Self {
        Self::over(stage.connect())
    }
}

impl<S: std::io::Read + std::io::Write> Client<S> {
    pub(crate) fn over(mut stream: S) -> Self {
        stream.write_all(PREFACE).unwrap();
        stream.write_all(&frame(SETTINGS, 0, 0, &[])).unwrap();
        Self { stream, read: Vec::new() }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        // The proxy may have ended the connection already.
        let _ = self.stream.write_all(bytes);
    }

    pub(crate) fn request(&mut self, stream: u32, fields: &[(&str, &str)], body: Option<&[u8]>) {
        let end = if body.is_none() { END_STREAM } else { 0 };
        self.send(&frame(HEADERS, END_HEADERS | end, stream, &block(fields)));
        for piece in body.iter().flat_map(|body| body.chunks(16_000)) {
            self.send(&frame(DATA, 0, stream, piece));
        }
        if body.is_some() {
            self.send(&frame(DATA, END_STREAM, stream, &[]));
        }
    }

    /// Reads the next frame; acknowledges settings. `None` at the end.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        loop {
            if self.read.len() >= 9 {
                let length = u32::from_be_bytes([0, self.read[0], self.read[1], self.read[2]]) as usize;
                if self.read.len() >= 9 + length {
                    let bytes: Vec<u8> = self.read.drain(..9 + length).collect();
                    let stream = u32::from_be_bytes(bytes[5..9].try_into().unwrap());
                    let frame = Frame { kind: bytes[3], flags: bytes[4], stream, payload: bytes[9..].to_vec() };
                    if frame.kind == SETTINGS && frame.flags == 0 {
                        self.send(&self::frame(SETTINGS, 1, 0, &[]));
                    }
                    return Some(frame);
                }
            }
            let mut piece = [0; 16 << 10];
            match self.stream.read(&mut piece) {
                Ok(count) if count > 0 => self.read.extend(&piece[..count]),
                _ => return None,
            }
        }
    }

    /// Reads until a stream has ended; gives its body, its last frame's kind, and its trailers.
    pub(crate) fn answer(&mut self, stream: u32) -> (String, u8, usize) {
        let (mut body, mut heads) = (Vec::new(), 0);
        while let Some(frame) = self.next() {
            if frame.kind == GOAWAY {
                return (String::from_utf8_lossy(&body).into_owned(), GOAWAY, heads);
            }
            if frame.stream != stream {
                continue;
            }
            match frame.kind {
                DATA => {
                    body.extend(&frame.payload);
                    if !frame.payload.is_empty() {
                        let count = (frame.payload.len() as u32).to_be_bytes();
                        self.send(
                            &[self::frame(WINDOW_UPDATE, 0, 0, &count), self::frame(WINDOW_UPDATE, 0, stream, &count)]
                                .concat(),
                        );
                    }
                }
                HEADERS => heads += 1,
                _ => {}
            }
            if frame.kind == RST_STREAM || (matches!(frame.kind, DATA | HEADERS) && frame.flags & END_STREAM != 0) {
                return (String::from_utf8_lossy(&body).into_owned(), frame.kind, heads);
            }
        }
        (String::from_utf8_lossy(&body).into_owned(), u8::MAX, heads)
    }
}

#[test]
fn many_requests_at_once_are_answered_each_on_its_stream() {
    let (stage, service) = (Stage::new(), Service::start("one"));
    stage.all_to(service.address);
    let mut client = Client::new(&stage);
    for stream in 0..50 {
        client.request(stream * 2 + 1, &get("/hello"), None);
    }
    let mut ended = 0;
    while ended < 50 {
        let frame = client.next().expect("it ended");
        if frame.kind == DATA && frame.flags & END_STREAM != 0 {
            assert_eq!(frame.payload, b"one");
            ended += 1;
        }
        assert_ne!(frame.kind, RST_STREAM);
    }
}

#[test]
fn a_request_reaches_the_service_as_http_1_with_its_cookies_in_one_line() {
    let (stage, service) = (Stage::new(), Service::start("one"));
    stage.all_to(service.address);
    let mut client = Client::new(&stage);
    let mut fields = get("/head?a=b");
    fields.extend([("cookie", "a=1"), ("cookie", "b=2"), ("x-odd", "y"), ("te", "trailers")]);
    client.request(1, &fields, None);
    let (head, kind, _) = client.answer(1);
    assert_eq!(kind, DATA);
    assert!(head.starts_with("GET /head?a=b HTTP/1.1\r\nHost: chat\r\nCookie: a=1; b=2\r\nx-odd: y\r\n"), "{head}");
    assert!(
        head.contains("Connection: TE\r\nTE: trailers\r\n") && head.contains("X-Forwarded-For: 127.0.0.1\r\n"),
        "{head}"
    );
}

#[test]
fn bodies_of_known_and_unknown_length_and_trailers_pass_both_ways() {
    let (stage, service) = (Stage::new(), Service::start("one"));
    stage.all_to(service.address);
    let mut client = Client::new(&stage);
    // Until then the window is 64 KiB.
    while client.next().expect("it ended").kind != WINDOW_UPDATE {}
    let big: String = (0..150_000).map(|n| char::from(b'a' + (n % 26) as u8)).collect();
    let post = [(":method", "POST"), (":scheme", "http"), (":authority", "chat"), (":path", "/echo")];
    client.request(1, &post, Some(big.as_bytes()));
    assert!(client.answer(1).0 == big, "the body came back otherwise");
    assert!(service.last_head().contains("Transfer-Encoding: chunked\r\n"));
    let mut sized = post.to_vec();
    sized.push(("content-length", "5"));
    client.request(3, &sized, Some(b"hello"));
    assert_eq!(client.answer(3).0, "hello");
    assert!(service.last_head().contains("Content-Length: 5\r\n"));
    // With trailers from the client, then from the service.
    client.send(&frame(HEADERS, END_HEADERS, 5, &block(&post)));
    client.send(&frame(DATA, 0, 5, b"hi"));
    client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 5, &block(&[("x-end", "1")])));
    assert_eq!(client.answer(5).0, "hi[x-end: 1]");
    client.request(7, &get("/chunked"), None);
    assert_eq!(client.answer(7), ("hello world".into(), HEADERS, 2));
    client.request(9, &get("/until-close"), None);
    assert_eq!(client.answer(9), ("all there is".into(), DATA, 1));
    client.request(11, &[(":method", "HEAD"), (":scheme", "http"), (":authority", "chat"), (":path", "/hello")], None);
    assert_eq!(client.answer(11), (String::new(), HEADERS, 1));
}

#[test]
fn an_answer_that_breaks_off_resets_its_stream_and_no_other() {
    let (stage, service) = (Stage::new(), Service::start("one"));
    stage.all_to(service.address);
    let mut client = Client::new(&stage);
    client.request(1, &get("/cut"), None);
    assert_eq!(client.answer(1).1, RST_STREAM);
    client.request(3, &get("/hello"), None);
    assert_eq!(client.answer(3).0, "one");
    let before = service.seen.left.load(Ordering::Relaxed);
    client.request(5, &get("/silent"), None);
    until("it is in flight", || stage.live("1").0 == 1);
    client.send(&frame(RST_STREAM, 0, 5, &8_u32.to_be_bytes()));
    until("the service is left", || service.seen.left.load(Ordering::Relaxed) == before + 1);
    client.request(7, &get("/hello"), None);
    assert_eq!(client.answer(7).0, "one");
}

#[test]
fn an_answer_without_a_length_that_breaks_off_is_an_error_for_clients_of_both_versions() {
    let stage = Stage::new();
    let service = Service::speaking(|mut stream, _| {
        let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
        if crate::service::head(&mut reader).is_some() {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nhalf of it");
            // What was said has arrived; then the connection is reset.
            std::thread::sleep(Duration::from_millis(100));
            rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
        }
    });
    stage.all_to(service.address);
    let mut client = Client::new(&stage);
    client.request(1, &get("/"), None);
    assert_eq!(client.answer(1).1, RST_STREAM);
    let mut stream = stage.connect();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: c\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let read = std::io::Read::read_to_end(&mut stream, &mut answer);
    assert!(read.is_err(), "it was taken for the whole: {}", String::from_utf8_lossy(&answer));
    let counts = stage.counted("1", |counts| counts.requests() == 2);
    assert_eq!(counts.aborted, 2);
}

#[test]
fn a_slow_stream_does_not_hold_up_its_neighbours() {
    let (stage, service) = (Stage::new(), Service::start("one"));
    stage.all_to(service.address);
    let mut client = Client::new(&stage);
    // Nobody gives this stream any window beyond the first 64 KiB; but the connection gets more.
    client.request(1, &get("/big?10000000"), None);
    client.send(&frame(WINDOW_UPDATE, 0, 0, &(1_u32 << 24).to_be_bytes()));
    client.request(3, &get("/hello"), None);
    let mut seen = 0;
    loop {
        let frame = client.next().expect("it ended");
        if frame.kind == DATA && frame.stream == 1 {
            seen += frame.payload.len();
            assert!(seen <= 65_535, "more than the window");
        }
        if frame.kind == DATA && frame.stream == 3 {
            assert_eq!(frame.payload, b"one");
            break;
        }
    }
}

/// Each ends the stream or the connection; none may reach the service.
#[test]
fn broken_frames_end_their_stream_or_connection_and_never_reach_the_service() {
    let (stage, service) = (Stage::new(), Service::start("one"));
    stage.all_to(service.address);
    let head = |fields: &[(&str, &str)]| frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(fields));
    let with = |extra: (&'static str, &'static str)| {
        let mut fields = get("/bad");
        fields.push(extra);
        head(&fields)
    };
    let open = frame(
        HEADERS,
        END_HEADERS,
        1,
        &block(&[
            (":method", "POST"),
            (":scheme", "http"),
            (":authority", "chat"),
            (":path", "/bad"),
            ("content-length", "3"),
        ]),
    );
    let begun = frame(HEADERS, 0, 1, &block(&get("/bad")));
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("upper case", with(("X-Upper", "1"))),
        ("connection", with(("connection", "close"))),
        ("transfer-encoding", with(("transfer-encoding", "chunked"))),
        ("upgrade", with(("upgrade", "h2c"))),
        ("keep-alive", with(("keep-alive", "5"))),
        ("te", with(("te", "gzip"))),
        ("another host", with(("host", "other"))),
        ("pseudo-header behind a header", with((":late", "1"))),
        ("line feed in a value", with(("x", "a\nb: c"))),
        ("carriage return in a value", with(("x", "a\r\nb: c"))),
        ("line feed in a name", with(("x\nb", "a"))),
        ("space in a name", with(("x b", "a"))),
        ("look-alike of a length", with(("content_length", "5"))),
        (
            "two lengths",
            [
                &frame(
                    HEADERS,
                    END_HEADERS,
                    1,
                    &block(&[&get("/bad")[..], &[("content-length", "3"), ("content-length", "4")]].concat()),
                )[..],
                &frame(DATA, END_STREAM, 1, b"abc"),
            ]
            .concat(),
        ),
        ("no method", head(&get("/bad")[1..])),
        ("no path", head(&get("/bad")[..3])),
        ("empty path", head(&get(""))),
        ("path without a slash", head(&get("bad"))),
        ("path with a space", head(&get("/bad HTTP/1.1"))),
        ("two paths", with((":path", "/bad"))),
        ("unknown pseudo-header", head(&[&[(":x", "1")], &get("/bad")[..]].concat())),
        ("connect", head(&[(":method", "CONNECT"), (":authority", "chat:80")])),
        ("shorter than its length", [&open[..], &frame(DATA, END_STREAM, 1, b"ab")].concat()),
        ("longer than its length", [&open[..], &frame(DATA, END_STREAM, 1, b"abcd")].concat()),
        ("headers on stream 0", frame(HEADERS, END_HEADERS | END_STREAM, 0, &block(&get("/bad")))),
        ("headers on an even stream", frame(HEADERS, END_HEADERS | END_STREAM, 2, &block(&get("/bad")))),
        ("data on stream 0", frame(DATA, 0, 0, b"x")),
        ("data on an idle stream", frame(DATA, 0, 1, b"x")),
        ("data within headers", [&begun[..], &frame(DATA, 0, 1, b"x")].concat()),
        (
            "another stream within headers",
            [&begun[..], &frame(HEADERS, END_HEADERS | END_STREAM, 3, &block(&get("/bad")))].concat(),
        ),
        ("continuation without headers", frame(CONTINUATION, END_HEADERS, 1, &block(&get("/bad")))),
        ("ping of seven bytes", frame(PING, 0, 0, &[0; 7])),
        ("ping on a stream", frame(PING, 0, 1, &[0; 8])),
        ("settings of five bytes", frame(SETTINGS, 0, 0, &[0; 5])),
        ("settings on a stream", frame(SETTINGS, 0, 1, &[])),
        ("acknowledgement with contents", frame(SETTINGS, 1, 0, &[0; 6])),
        ("window of zero", frame(WINDOW_UPDATE, 0, 0, &[0; 4])),
        (
            "window beyond its limit",
            [
                frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes()),
                frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes()),
            ]
            .concat(),
        ),
        ("push", frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2])),
        ("reset of an idle stream", frame(RST_STREAM, 0, 1, &[0; 4])),
        ("frame beyond its size", frame(DATA, 0, 1, &[0; 17_000])),
        ("unknown index", frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0xff, 0xff, 0x00])),
        ("cut literal", frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0, 5, b'a'])),
    ];
    for (name, bytes) in cases {
        let mut client = Client::new(&stage);
        client.send(&bytes);
        // An answer is a refusal too: the service never saw the request.
        let mut refused = false;
        while let Some(frame) = client.next() {
            refused |= matches!(frame.kind, GOAWAY | RST_STREAM | HEADERS);
            if refused {
                break;
            }
        }
        drop(client);
        let heads = service.seen.heads.lock().unwrap();
        let whole = heads.iter().filter(|head| head.contains("/bad") && !head.contains("Content-Length: 3")).count();
        assert_eq!(whole, 0, "{name}: {heads:?}");
        drop(heads);
        assert!(refused || name.contains("length"), "{name} was not refused");
    }
    let mut client = Client::new(&stage);
    client.request(1, &get("/hello"), None);
    assert_eq!(client.answer(1).0, "one");
}

#[test]
fn floods_of_resets_settings_and_pings_end_the_connection_and_hurt_nobody() {
    let stage = Stage::with(|serving| serving["limits"] = serde_json::json!({ "streams": 10, "resets": 20 }));
    let service = Service::start("one");
    stage.all_to(service.address);
    let mut flood = Client::new(&stage);
    flood.stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    for number in 0..5_000_u32 {
        let stream = number * 2 + 1;
        let both = [
            frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&get("/slow?50"))),
            frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]),
        ];
        if flood.stream.write_all(&both.concat()).is_err() {
            break;
        }
    }
    let mut said_goodbye = false;
    while let Some(frame) = flood.next() {
        said_goodbye |= frame.kind == GOAWAY;
    }
    assert!(said_goodbye, "the flood went on");
    assert!(service.requests() < 500, "{} of the flood's requests reached the service", service.requests());
    let mut client = Client::new(&stage);
    client.request(1, &get("/hello"), None);
    assert_eq!(client.answer(1).0, "one");
    // Headers that never end.
    let mut endless = Client::new(&stage);
    endless.stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    endless.send(&frame(HEADERS, 0, 1, &block(&get("/bad"))));
    for _ in 0..10_000 {
        if endless
            .stream
            .write_all(&frame(CONTINUATION, 0, 1, &block(&[("x", "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy")])))
            .is_err()
        {
            break;
        }
    }
    while endless.next().is_some() {}
    client.request(3, &get("/hello"), None);
    assert_eq!(client.answer(3).0, "one");
}

#[test]
fn a_websocket_over_http_2_is_a_tunnel_like_any_other() {
    let (stage, service) = (Stage::new(), Service::start("one"));
    stage.all_to(service.address);
    let mut client = Client::new(&stage);
    let fields = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":authority", "chat"),
        (":path", "/ws"),
        ("sec-websocket-version", "13"),
    ];
    client.send(&frame(HEADERS, END_HEADERS, 1, &block(&fields)));
    // "hi" as text, masked with zeros.
    client.send(&frame(DATA, 0, 1, &[0x81, 0x82, 0, 0, 0, 0, b'h', b'i']));
    let mut got = Vec::new();
    while got.len() < 4 {
        let frame = client.next().expect("it ended");
        if frame.kind == DATA {
            got.extend(frame.payload);
        }
    }
    assert_eq!(got, [0x81, 2, b'h', b'i']);
    assert_eq!(stage.live("1").1, 1);
    client.send(&frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]));
    until("the tunnel is over", || stage.live("1").1 == 0);
}

#[test]
fn a_stop_says_goodbye_and_finishes_what_runs() {
    let (mut stage, service) = (Stage::new(), Service::start("one"));
    stage.all_to(service.address);
    let mut client = Client::new(&stage);
    client.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    client.request(1, &get("/slow?600"), None);
    until("it is in flight", || stage.live("1").0 == 1);
    stage.control().stop(PATIENCE).unwrap();
    let (mut goodbye, mut body) = (false, Vec::new());
    while let Some(frame) = client.next() {
        goodbye |= frame.kind == GOAWAY;
        if frame.kind == PING && frame.flags == 0 {
            client.send(&self::frame(PING, 1, 0, &frame.payload));
        }
        if frame.kind == DATA {
            body.extend(frame.payload);
        }
    }
    assert!(goodbye && body == b"one");
    until("it has ended", || stage.child.try_wait().unwrap().is_some());
}
