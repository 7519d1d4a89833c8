//! The list that `http2_cases` plays: what is sent, and what must come of it.

use crate::http2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PUSH_PROMISE, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, block, frame, get,
};

const PRIORITY: u8 = 2;
const PADDED: u8 = 8;
const PRIORITISED: u8 = 32;
pub(crate) const END: u8 = END_STREAM | END_HEADERS;

pub(crate) const PROTOCOL: u32 = 1;
const FLOW: u32 = 3;
const CLOSED: u32 = 5;
const SIZE: u32 = 6;
pub(crate) const REFUSED: u32 = 7;
const COMPRESSION: u32 = 9;

/// What must come of it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Want {
    /// The stream is answered in full.
    Answer(u32),
    /// The stream is reset with one of these codes and the connection goes on, or the connection ends with one of them.
    Stream(u32, &'static [u32]),
    /// The connection ends: behind a GOAWAY with one of these codes, or at once.
    Connection(&'static [u32]),
    /// Not what the standard says, and known: the stream is answered with this text, because of that.
    Known(u32, &'static str, &'static str),
    /// A ping comes back with these bytes.
    Pong([u8; 8]),
    /// Nothing comes of it: the next ping is answered first.
    Nothing,
}
use Want::{Answer, Connection, Nothing, Pong};

pub(crate) struct Case {
    pub(crate) section: &'static str,
    pub(crate) what: &'static str,
    /// What is sent; before each part but the first the answer of the stream named is awaited.
    pub(crate) sent: Vec<(Option<u32>, Vec<u8>)>,
    pub(crate) want: Want,
}

pub(crate) fn case(section: &'static str, what: &'static str, sent: impl Into<Vec<u8>>, want: Want) -> Case {
    Case { section, what, sent: vec![(None, sent.into())], want }
}

/// One whose second part is sent when stream 1 was answered.
fn after(section: &'static str, what: &'static str, first: Vec<u8>, then: Vec<u8>, want: Want) -> Case {
    Case { section, what, sent: vec![(None, first), (Some(1), then)], want }
}

pub(crate) fn request(stream: u32) -> Vec<u8> {
    frame(HEADERS, END, stream, &block(&get("/hello")))
}

/// A request whose head must not be taken.
fn bad(fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END, 1, &block(fields))
}

fn with(extra: &[(&'static str, &'static str)]) -> Vec<u8> {
    bad(&[&get("/bad")[..], extra].concat())
}

/// A POST that goes on with a body.
fn post(stream: u32, extra: &[(&str, &str)]) -> Vec<u8> {
    let fields = [(":method", "POST"), (":scheme", "http"), (":authority", "chat"), (":path", "/echo")];
    frame(HEADERS, END_HEADERS, stream, &block(&[&fields[..], extra].concat()))
}

/// A request that its service does not answer at once.
pub(crate) fn slow(stream: u32) -> Vec<u8> {
    frame(HEADERS, END, stream, &block(&get("/slow?300")))
}

/// A head in indexed fields but for its path of four bytes, and one more field as the bytes say it.
fn packed(path: &[u8; 4], more: &[u8]) -> Vec<u8> {
    let indexed = [0x82, 0x86, 0x41, 4, b'c', b'h', b'a', b't', 0x04, 4];
    frame(HEADERS, END, 1, &[&indexed[..], path, more].concat())
}

pub(crate) fn setting(id: u16, value: u32) -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
}

pub(crate) fn window(stream: u32, by: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes())
}

fn priority(stream: u32, on: u32, weight: u8) -> Vec<u8> {
    frame(PRIORITY, 0, stream, &[&on.to_be_bytes()[..], &[weight]].concat())
}

fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &code.to_be_bytes())
}

/// What every server must take: the generic part.
pub(crate) fn taken() -> Vec<Case> {
    let whole = block(&get("/hello"));
    let (one, two, three) = (&whole[..9], &whole[9..20], &whole[20..]);
    let padded = [&[3], &whole[..], &[0; 3]].concat();
    let depending = [&[0x80, 0, 0, 3, 15], &whole[..]].concat();
    let both = [&[2, 0, 0, 0, 3, 15], &whole[..], &[0; 2]].concat();
    let head = frame(HEADERS, END, 1, &block(&[&[(":method", "HEAD")], &get("/hello")[1..]].concat()));
    let trailers = frame(HEADERS, END, 1, &block(&[("x-end", "1")]));
    let pair = [frame(CONTINUATION, 0, 1, two), frame(CONTINUATION, END_HEADERS, 1, three)].concat();
    let rest = frame(CONTINUATION, END_HEADERS, 1, &[two, three].concat());
    let begun = frame(HEADERS, END_STREAM, 1, one);
    let done = frame(DATA, END_STREAM, 1, b"x");
    let part = frame(DATA, 0, 1, b"hello");
    vec![
        case("9113-3.4", "a preface, then a request", request(1), Answer(1)),
        case("9113-5.1", "priority on an idle stream", [priority(1, 0, 15), request(1)].concat(), Answer(1)),
        case("9113-5.1", "window on a half-closed stream", [slow(1), window(1, 1)].concat(), Answer(1)),
        case("9113-5.1", "priority on a half-closed stream", [slow(1), priority(1, 0, 15)].concat(), Answer(1)),
        case("9113-5.1", "reset of a half-closed stream", [slow(1), reset(1, 8), request(3)].concat(), Answer(3)),
        after(
            "9113-5.1",
            "priority on a closed stream",
            request(1),
            [priority(1, 0, 15), request(3)].concat(),
            Answer(3),
        ),
        after("9113-5.1", "window on a closed stream", request(1), [window(1, 1), request(3)].concat(), Answer(3)),
        after("9113-5.1", "reset of a closed stream", request(1), [reset(1, 8), request(3)].concat(), Answer(3)),
        case("9113-6.1", "data", [post(1, &[]), done.clone()].concat(), Answer(1)),
        case("9113-6.1", "data in parts", [post(1, &[]), part.clone(), done.clone()].concat(), Answer(1)),
        case("9113-6.1", "empty data", [post(1, &[]), frame(DATA, END_STREAM, 1, &[])].concat(), Answer(1)),
        case(
            "9113-6.1",
            "padded data",
            [post(1, &[]), frame(DATA, END_STREAM | PADDED, 1, &[2, b'x', 0, 0])].concat(),
            Answer(1),
        ),
        case("9113-6.2", "headers", request(1), Answer(1)),
        case("9113-6.2", "padded headers", frame(HEADERS, END | PADDED, 1, &padded), Answer(1)),
        case("9113-6.2", "headers with a priority", frame(HEADERS, END | PRIORITISED, 1, &depending), Answer(1)),
        case("9113-6.2", "both", frame(HEADERS, END | PADDED | PRIORITISED, 1, &both), Answer(1)),
        case("9113-6.3", "priority 1", [priority(1, 0, 0), request(1)].concat(), Answer(1)),
        case("9113-6.3", "priority 256", [priority(1, 0, 255), request(1)].concat(), Answer(1)),
        case("9113-6.3", "priority after another stream", [priority(1, 3, 15), request(1)].concat(), Answer(1)),
        case("9113-6.3", "exclusive priority", [priority(1, 0x8000_0003, 15), request(1)].concat(), Answer(1)),
        case("9113-6.3", "priority of a later stream first", [priority(5, 0, 15), request(3)].concat(), Answer(3)),
        case("9113-6.4", "reset", [slow(1), reset(1, 8), request(3)].concat(), Answer(3)),
        case("9113-6.5", "settings", [setting(3, 100), request(1)].concat(), Answer(1)),
        case("9113-6.5", "empty settings", [frame(SETTINGS, 0, 0, &[]), request(1)].concat(), Answer(1)),
        case("9113-6.7", "ping", frame(PING, 0, 0, b"lastgood"), Pong(*b"lastgood")),
        case("9113-6.8", "goaway", frame(GOAWAY, 0, 0, &[0; 8]), Connection(&[0])),
        case("9113-6.9", "window of the connection", [window(0, 1), request(1)].concat(), Answer(1)),
        case("9113-6.9", "window of a stream", [slow(1), window(1, 1)].concat(), Answer(1)),
        case("9113-6.10", "a continuation", [begun.clone(), rest].concat(), Answer(1)),
        case("9113-6.10", "two continuations", [begun, pair].concat(), Answer(1)),
        case("9113-8.1", "GET", request(1), Answer(1)),
        case("9113-8.1", "HEAD", head, Answer(1)),
        case("9113-8.1", "POST", [post(1, &[("content-length", "1")]), done].concat(), Answer(1)),
        case("9113-8.1", "POST with trailers", [post(1, &[]), part, trailers].concat(), Answer(1)),
    ]
}

/// Every form of a field (RFC 7541, 6), and what is none.
pub(crate) fn fields() -> Vec<Case> {
    // From RFC 7541, C.4: `custom-key` and `custom-value` in Huffman's code.
    let key = [0x88, 0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f];
    let value = [0x89, 0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xb8, 0xe8, 0xb4, 0xbf];
    let plain = [&[10], &b"custom-key"[..], &[12], b"custom-value"].concat();
    let coded = [&key[..], &value].concat();
    let ok = |what, more: Vec<u8>| case("7541-6", what, packed(b"/any", &more), Answer(1));
    let no =
        |section, what, more: &[u8]| case(section, what, packed(b"/bad", more), Connection(&[COMPRESSION, PROTOCOL]));
    vec![
        ok("indexed", vec![0x90]),
        ok("incremental, indexed name", [&[0x7a], &value[..]].concat()),
        ok("incremental, indexed name, plain", vec![0x7a, 1, b'x']),
        ok("incremental, new name", [&[0x40], &plain[..]].concat()),
        ok("incremental, new name, coded", [&[0x40], &coded[..]].concat()),
        ok("not indexed, indexed name", vec![0x0f, 0x2b, 1, b'x']),
        ok("not indexed, indexed name, coded", [&[0x0f, 0x2b], &value[..]].concat()),
        ok("not indexed, new name", [&[0x00], &plain[..]].concat()),
        ok("not indexed, new name, coded", [&[0x00], &coded[..]].concat()),
        ok("never indexed, indexed name", vec![0x1f, 0x2b, 1, b'x']),
        ok("never indexed, indexed name, coded", [&[0x1f, 0x2b], &value[..]].concat()),
        ok("never indexed, new name", [&[0x10], &plain[..]].concat()),
        ok("never indexed, new name, coded", [&[0x10], &coded[..]].concat()),
        ok("from the dynamic table", [&[0x40], &plain[..], &[0xbe]].concat()),
        case(
            "7541-6.3",
            "a smaller table",
            frame(HEADERS, END, 1, &[&[0x3f, 0x61], &block(&get("/hello"))[..]].concat()),
            Answer(1),
        ),
        case(
            "7541-6.3",
            "two sizes of the table",
            frame(HEADERS, END, 1, &[&[0x20, 0x3f, 0x61], &block(&get("/hello"))[..]].concat()),
            Answer(1),
        ),
        no("7541-2.3.3", "an index that is not there", &[0xc6]),
        no("7541-2.3.3", "a name that is not there", &[0x7f, 0x40, 1, b'x']),
        no("7541-4.2", "a size of the table behind fields", &[0x20]),
        no("7541-5.1", "a number without an end", &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
        no("7541-5.2", "padding of more than seven bits", &[0x40, 1, b'x', 0x82, 0x1f, 0xff]),
        no("7541-5.2", "padding of zeros", &[0x40, 1, b'x', 0x81, 0x18]),
        no("7541-5.2", "the end sign within", &[0x40, 1, b'x', 0x84, 0xff, 0xff, 0xff, 0xff]),
        no("7541-5.2", "a text that is cut", &[0x00, 5, b'x']),
        no("7541-6.1", "index 0", &[0x80]),
        case(
            "7541-6.3",
            "a table larger than allowed",
            frame(HEADERS, END, 1, &[&[0x3f, 0xe2, 0x1f], &block(&get("/bad"))[..]].concat()),
            Connection(&[COMPRESSION, PROTOCOL]),
        ),
    ]
}

/// Frames that are no frames, or stand where none may (RFC 9113, 4 to 6).
pub(crate) fn frames() -> Vec<Case> {
    let whole = block(&get("/bad"));
    let begun = frame(HEADERS, END_STREAM, 1, &whole[..9]);
    let rest = frame(CONTINUATION, END_HEADERS, 1, &whole[9..]);
    let mut reserved = frame(PING, 0, 0, b"reserved");
    reserved[5] |= 0x80;
    let connection = |section, what, sent: Vec<u8>| case(section, what, sent, Connection(&[PROTOCOL]));
    let size = |section, what, sent: Vec<u8>| case(section, what, sent, Connection(&[SIZE, PROTOCOL]));
    let stream = |section, what, sent: Vec<u8>, codes| case(section, what, sent, Want::Stream(1, codes));
    let body = |bytes: usize| [post(1, &[]), frame(DATA, END_STREAM, 1, &vec![b'x'; bytes])].concat();
    let closed = |what, then| after("9113-5.1", what, request(1), then, Want::Stream(1, &[CLOSED, PROTOCOL]));
    vec![
        case("9113-4.1", "a frame of an unknown kind", [frame(0xfe, 0, 0, b"x"), request(1)].concat(), Answer(1)),
        case("9113-4.1", "flags that are none", frame(PING, 0x16, 0, b"lastgood"), Pong(*b"lastgood")),
        case("9113-4.1", "the reserved bit", reserved, Pong(*b"reserved")),
        case("9113-4.2", "data of 2^14 bytes", body(1 << 14), Answer(1)),
        stream("9113-4.2", "data of more", body((1 << 14) + 1), &[SIZE]),
        case(
            "9113-4.2",
            "headers of more",
            frame(HEADERS, END, 1, &[&whole[..], &[0; 1 << 14]].concat()),
            Connection(&[SIZE]),
        ),
        case("9113-4.3", "no fields", frame(HEADERS, END, 1, &[0x40]), Connection(&[COMPRESSION, PROTOCOL])),
        connection("9113-4.3", "priority within headers", [&begun[..], &priority(1, 0, 15), &rest].concat()),
        connection("9113-4.3", "other headers within headers", [begun.clone(), request(3)].concat()),
        connection("9113-5.1", "idle: data", frame(DATA, END_STREAM, 1, b"x")),
        connection("9113-5.1", "idle: reset", reset(1, 8)),
        connection("9113-5.1", "idle: window", window(1, 100)),
        connection("9113-5.1", "idle: continuation", frame(CONTINUATION, END_HEADERS, 1, &whole)),
        stream(
            "9113-5.1",
            "half-closed: data",
            [slow(1), frame(DATA, END_STREAM, 1, b"x")].concat(),
            &[CLOSED, PROTOCOL],
        ),
        stream("9113-5.1", "half-closed: headers", [slow(1), request(1)].concat(), &[CLOSED, PROTOCOL]),
        stream("9113-5.1", "half-closed: continuation", [slow(1), rest.clone()].concat(), &[CLOSED, PROTOCOL]),
        stream("9113-5.1", "reset: data", [post(1, &[]), reset(1, 8), frame(DATA, 1, 1, b"x")].concat(), &[CLOSED]),
        stream("9113-5.1", "reset: headers", [slow(1), reset(1, 8), request(1)].concat(), &[CLOSED, PROTOCOL]),
        stream("9113-5.1", "reset: continuation", [slow(1), reset(1, 8), rest.clone()].concat(), &[CLOSED, PROTOCOL]),
        closed("closed: data", frame(DATA, END_STREAM, 1, b"x")),
        closed("closed: headers", request(1)),
        closed("closed: continuation", rest.clone()),
        connection("9113-5.1.1", "an even stream", frame(HEADERS, END, 2, &whole)),
        case(
            "9113-5.1.1",
            "a stream before another",
            [slow(5), frame(HEADERS, END, 3, &whole)].concat(),
            Connection(&[PROTOCOL, CLOSED]),
        ),
        stream(
            "9113-5.3.1",
            "headers after themselves",
            frame(HEADERS, END | PRIORITISED, 1, &[&[0, 0, 0, 1, 15], &whole[..]].concat()),
            &[PROTOCOL],
        ),
        stream("9113-5.3.1", "priority after itself", priority(1, 1, 15), &[PROTOCOL]),
        size("9113-5.4.1", "a broken ping ends the connection", frame(PING, 0, 0, b"four")),
        case("9113-5.5", "an unknown frame", [frame(0x16, 0, 0, b"x"), request(1)].concat(), Answer(1)),
        connection(
            "9113-5.5",
            "an unknown frame within headers",
            [&begun[..], &frame(0x16, 0, 0, b"x"), &rest].concat(),
        ),
        connection("9113-6.1", "data on stream 0", frame(DATA, END_STREAM, 0, b"x")),
        stream(
            "9113-6.1",
            "data on a closed stream",
            [slow(1), frame(DATA, END_STREAM, 1, b"x")].concat(),
            &[CLOSED, PROTOCOL],
        ),
        connection(
            "9113-6.1",
            "padding longer than data",
            [post(1, &[]), frame(DATA, END_STREAM | PADDED, 1, &[9, 0])].concat(),
        ),
        connection("9113-6.2", "headers, then priority", [&begun[..], &priority(3, 0, 15), &rest].concat()),
        connection("9113-6.2", "headers, then other headers", [begun.clone(), request(3)].concat()),
        connection("9113-6.2", "headers on stream 0", frame(HEADERS, END, 0, &whole)),
        connection(
            "9113-6.2",
            "padding longer than headers",
            frame(HEADERS, END | PADDED, 1, &[&[255], &whole[..]].concat()),
        ),
        connection("9113-6.3", "priority on stream 0", priority(0, 0, 15)),
        stream(
            "9113-6.3",
            "priority of four bytes",
            [slow(1), frame(PRIORITY, 0, 1, &[0; 4])].concat(),
            &[SIZE, PROTOCOL],
        ),
        connection("9113-6.4", "reset of stream 0", reset(0, 8)),
        connection("9113-6.4", "reset of an idle stream", reset(1, 8)),
        size("9113-6.4", "reset of three bytes", [slow(1), frame(RST_STREAM, 0, 1, &[0; 3])].concat()),
        size("9113-6.5", "acknowledged settings with contents", frame(SETTINGS, 1, 0, &[0; 6])),
        connection("9113-6.5", "settings on a stream", frame(SETTINGS, 0, 1, &[0, 3, 0, 0, 0, 9])),
        size("9113-6.5", "settings of three bytes", frame(SETTINGS, 0, 0, &[0, 3, 0])),
        connection("9113-6.5.2", "push of 2", setting(2, 2)),
        case("9113-6.5.2", "window above 2^31-1", setting(4, 0x8000_0000), Connection(&[FLOW, PROTOCOL])),
        connection("9113-6.5.2", "frames below 2^14", setting(5, 16_383)),
        connection("9113-6.5.2", "frames above 2^24-1", setting(5, 1 << 24)),
        case("9113-6.5.2", "an unknown setting", [setting(0xff, 1), request(1)].concat(), Answer(1)),
        case("9113-6.7", "an acknowledged ping", frame(PING, 1, 0, b"lastgood"), Nothing),
        connection("9113-6.7", "ping on a stream", frame(PING, 0, 1, &[0; 8])),
        size("9113-6.7", "ping of six bytes", frame(PING, 0, 0, &[0; 6])),
        connection("9113-6.8", "goaway on a stream", frame(GOAWAY, 0, 1, &[0; 8])),
        connection("9113-6.9", "window by 0", window(0, 0)),
        stream("9113-6.9", "window of a stream by 0", [slow(1), window(1, 0)].concat(), &[PROTOCOL]),
        size("9113-6.9", "window of three bytes", frame(WINDOW_UPDATE, 0, 0, &[0, 0, 1])),
        case("9113-6.9.1", "windows above 2^31-1", window(0, 0x7fff_ffff).repeat(2), Connection(&[FLOW])),
        stream(
            "9113-6.9.1",
            "windows of a stream above 2^31-1",
            [slow(1), window(1, 0x7fff_ffff).repeat(2)].concat(),
            &[FLOW],
        ),
        case("9113-6.9.2", "an initial window above 2^31-1", setting(4, 0xffff_ffff), Connection(&[FLOW, PROTOCOL])),
        connection(
            "9113-6.10",
            "continuation, then data",
            [
                &frame(HEADERS, END_STREAM, 1, &whole[..9])[..],
                &frame(CONTINUATION, 0, 1, &whole[9..12]),
                &frame(DATA, 1, 1, b"x"),
            ]
            .concat(),
        ),
        connection(
            "9113-6.10",
            "continuation of stream 0",
            [begun, frame(CONTINUATION, END_HEADERS, 0, &whole[9..])].concat(),
        ),
        connection("9113-6.10", "continuation behind whole headers", [slow(1), rest.clone()].concat()),
        connection(
            "9113-6.10",
            "continuation behind the last one",
            [
                frame(HEADERS, END_STREAM, 1, &block(&get("/slow?300"))[..9]),
                frame(CONTINUATION, END_HEADERS, 1, &block(&get("/slow?300"))[9..]),
                rest.clone(),
            ]
            .concat(),
        ),
        connection("9113-6.10", "continuation behind data", [post(1, &[]), frame(DATA, 0, 1, b"x"), rest].concat()),
        case(
            "9113-7",
            "goaway with an unknown code",
            frame(GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 0xff]),
            Connection(&[0]),
        ),
        case("9113-7", "reset with an unknown code", [slow(1), reset(1, 0xff), request(3)].concat(), Answer(3)),
        connection("9113-8.4", "a push", frame(PUSH_PROMISE, END_HEADERS, 1, &[&[0, 0, 0, 2], &whole[..]].concat())),
    ]
}

/// Heads and bodies that are no request (RFC 9113, 8).
pub(crate) fn messages() -> Vec<Case> {
    let no = |section, what, sent: Vec<u8>| case(section, what, sent, Want::Stream(1, &[PROTOCOL]));
    let twice = |name: &'static str, value| with(&[(name, value)]);
    let without = |at: usize| {
        let mut fields = get("/bad");
        fields.remove(at);
        bad(&fields)
    };
    let short = |says: &str| [post(1, &[("content-length", says)]), frame(DATA, END_STREAM, 1, b"test")].concat();
    let halves = [post(1, &[("content-length", "9")]), frame(DATA, 0, 1, b"test"), frame(DATA, 1, 1, b"test")].concat();
    let trailers = |flags, fields: &[(&str, &str)]| {
        [post(1, &[]), frame(DATA, 0, 1, b"test"), frame(HEADERS, flags, 1, &block(fields))].concat()
    };
    vec![
        no("9113-8.1", "other headers without an end", trailers(END_HEADERS, &[("x", "1")])),
        no("9113-8.2", "a name in capitals", with(&[("X-Test", "ok")])),
        no("9113-8.2.1", "a name with a line feed", with(&[("x\ny", "ok")])),
        no("9113-8.2.1", "a value with a line feed", with(&[("x", "a\nb")])),
        no("9113-8.2.1", "a value with a zero", with(&[("x", "a\0b")])),
        no("9113-8.2.2", "connection", with(&[("connection", "keep-alive")])),
        no("9113-8.2.2", "keep-alive", with(&[("keep-alive", "5")])),
        no("9113-8.2.2", "proxy-connection", with(&[("proxy-connection", "close")])),
        no("9113-8.2.2", "transfer-encoding", with(&[("transfer-encoding", "chunked")])),
        no("9113-8.2.2", "upgrade", with(&[("upgrade", "h2c")])),
        no("9113-8.2.2", "te beyond trailers", with(&[("te", "trailers, deflate;q=0.5")])),
        no("9113-8.3", "an unknown pseudo-header", bad(&[&[(":test", "ok")], &get("/bad")[..]].concat())),
        no("9113-8.3", "a pseudo-header of answers", bad(&[&[(":status", "200")], &get("/bad")[..]].concat())),
        // Without trailers: the service would say them in its answer.
        case(
            "9113-8.3",
            "a pseudo-header in trailers",
            trailers(END, &[(":method", "200")]),
            Want::Known(1, "test", "`h2` leaves pseudo-headers out of trailers and does not tell"),
        ),
        no("9113-8.3", "a pseudo-header behind a header", bad(&[&[("x", "1")], &get("/bad")[..]].concat())),
        no("9113-8.3.1", "an empty path", bad(&get(""))),
        no("9113-8.3.1", "no method", without(0)),
        no("9113-8.3.1", "no scheme", without(1)),
        no("9113-8.3.1", "no path", without(3)),
        no("9113-8.3.1", "two methods", twice(":method", "GET")),
        no("9113-8.3.1", "two schemes", twice(":scheme", "http")),
        no("9113-8.3.1", "two paths", twice(":path", "/bad")),
        no("9113-8.1.1", "a length that is not the data's", short("1")),
        no("9113-8.1.1", "a length above the data's", short("5")),
        no("9113-8.1.1", "a length that is not that of all data", halves),
    ]
}
