//! As much of HTTP/1.1 as is answered here: requests with a length, kept connections, answers written in one piece.

/// Longest head of a request: what proxies and SDKs send is some hundred bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Longest body: contexts are some attributes.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Most headers of a request.
const HEADERS_MAX: usize = 64;

/// A request as it lies in the buffer.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) method: &'a str,
    /// The path without its query.
    pub(super) path: &'a str,
    pub(super) body: &'a [u8],
    pub(super) if_none_match: Option<&'a str>,
    pub(super) authorization: Option<&'a str>,
    /// Whether a browser says which page asks.
    pub(super) has_origin: bool,
    pub(super) is_json: bool,
    /// Whether the connection stays.
    pub(super) keep: bool,
    /// Bytes of the buffer that it takes.
    pub(super) length: usize,
}

/// What lies in a buffer.
#[derive(Debug)]
pub(super) enum Read<'a> {
    /// A whole request.
    Whole(Request<'a>),
    /// More must come. With `true` the client waits to be told to go on.
    Part(bool),
    /// It can't be answered; the connection ends after this status.
    Bad(u16),
}

/// Reads the first request of a buffer.
pub(super) fn read(buffer: &[u8]) -> Read<'_> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut headers);
    let head = match parsed.parse(buffer) {
        Ok(httparse::Status::Complete(head)) if head <= HEAD_BYTES_MAX => head,
        Ok(httparse::Status::Partial) if buffer.len() <= HEAD_BYTES_MAX => return Read::Part(false),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Read::Bad(431),
        Err(_) => return Read::Bad(400),
    };
    let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version) else {
        return Read::Bad(400);
    };
    let mut request = Request {
        method,
        path: target.split('?').next().unwrap_or_default(),
        body: &[],
        if_none_match: None,
        authorization: None,
        has_origin: false,
        is_json: false,
        keep: version == 1,
        length: head,
    };
    let (mut length, mut waits) = (None, false);
    for header in parsed.headers.iter() {
        let Ok(value) = std::str::from_utf8(header.value) else { return Read::Bad(400) };
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("content-length") {
            // Two lengths, or one that is no plain number: whoever stands between us may see another end.
            let plain = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
            match value.parse::<usize>() {
                Ok(bytes) if plain && length.is_none() => length = Some(bytes),
                _ => return Read::Bad(400),
            }
        } else if is("transfer-encoding") {
            return Read::Bad(411);
        } else if is("if-none-match") {
            request.if_none_match = Some(value);
        } else if is("authorization") {
            request.authorization = Some(value);
        } else if is("origin") {
            request.has_origin = true;
        } else if is("content-type") {
            request.is_json =
                value.split(';').next().is_some_and(|one| one.trim().eq_ignore_ascii_case("application/json"));
        } else if is("connection") {
            let says = |word: &str| value.split(',').any(|one| one.trim().eq_ignore_ascii_case(word));
            request.keep = (request.keep && !says("close")) || says("keep-alive");
        } else if is("expect") {
            waits = value.eq_ignore_ascii_case("100-continue");
        }
    }
    let length = length.unwrap_or(0);
    if length > BODY_BYTES_MAX {
        return Read::Bad(413);
    }
    match buffer.get(head..head + length) {
        Some(body) => {
            request.body = body;
            request.length = head + length;
            Read::Whole(request)
        }
        None => Read::Part(waits && buffer.len() == head),
    }
}

/// What is answered with.
pub(super) struct Answer<'a> {
    pub(super) status: u16,
    /// An `ETag`, in its quotation marks.
    pub(super) tag: Option<&'a str>,
    /// Whether the connection stays.
    pub(super) keep: bool,
}

impl Answer<'_> {
    /// Writes head and body; the body's length is known only after it was made.
    pub(super) fn write(&self, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
        out.extend_from_slice(status_line(self.status).as_bytes());
        if let Some(tag) = self.tag {
            out.extend_from_slice(b"ETag: ");
            out.extend_from_slice(tag.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        if !self.keep {
            out.extend_from_slice(b"Connection: close\r\n");
        }
        // A 304 has neither a body nor its length.
        if self.status == 304 {
            out.extend_from_slice(b"\r\n");
            return;
        }
        if self.status == 401 {
            out.extend_from_slice(b"WWW-Authenticate: Bearer\r\n");
        }
        let kind =
            if self.status < 400 || self.status == 404 { "application/json" } else { "application/problem+json" };
        out.extend_from_slice(b"Content-Type: ");
        // OFREP's clients read errors only as plain JSON.
        out.extend_from_slice(if self.status == 400 { b"application/json" } else { kind.as_bytes() });
        out.extend_from_slice(b"\r\nContent-Length: ");
        // Room for the longest length there is; blanks before a value count for nothing.
        let place = out.len();
        out.extend_from_slice(b"        \r\n\r\n");
        let begin = out.len();
        body(out);
        let digits = (out.len() - begin).to_string();
        out[place + 8 - digits.len()..place + 8].copy_from_slice(digits.as_bytes());
    }
}

/// The head of a stream of server-sent events.
pub(super) const STREAM_HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n\
    Connection: close\r\n\r\n";
/// Tells a client that waits for it to send its body.
pub(super) const GO_ON: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

fn status_line(status: u16) -> &'static str {
    match status {
        200 => "HTTP/1.1 200 OK\r\n",
        304 => "HTTP/1.1 304 Not Modified\r\n",
        400 => "HTTP/1.1 400 Bad Request\r\n",
        401 => "HTTP/1.1 401 Unauthorized\r\n",
        403 => "HTTP/1.1 403 Forbidden\r\n",
        404 => "HTTP/1.1 404 Not Found\r\n",
        405 => "HTTP/1.1 405 Method Not Allowed\r\n",
        411 => "HTTP/1.1 411 Length Required\r\n",
        413 => "HTTP/1.1 413 Content Too Large\r\n",
        415 => "HTTP/1.1 415 Unsupported Media Type\r\n",
        431 => "HTTP/1.1 431 Request Header Fields Too Large\r\n",
        503 => "HTTP/1.1 503 Service Unavailable\r\n",
        _ => "HTTP/1.1 500 Internal Server Error\r\n",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bad(text: &str) -> Option<u16> {
        match read(text.as_bytes()) {
            Read::Bad(status) => Some(status),
            _ => None,
        }
    }

    #[test]
    fn a_request_is_read_from_its_buffer_and_the_next_one_stays() {
        let text =
            b"POST /ofrep/v1/evaluate/flags?a=b HTTP/1.1\r\nContent-Length: 2\r\nIf-None-Match: \"x\"\r\n\r\n{}GET";
        let Read::Whole(request) = read(text) else { panic!("it was not read") };
        assert_eq!((request.method, request.path, request.body), ("POST", "/ofrep/v1/evaluate/flags", &b"{}"[..]));
        assert_eq!((request.if_none_match, request.keep, request.length), (Some("\"x\""), true, text.len() - 3));
        for end in 0..text.len() - 3 {
            assert!(matches!(read(&text[..end]), Read::Part(_)), "{end} bytes were taken for a request");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        assert_eq!(bad("POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx"), Some(400));
        assert_eq!(bad("POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\nx"), Some(400));
        assert_eq!(bad("POST / HTTP/1.1\r\nContent-Length: 1, 2\r\n\r\nx"), Some(400));
        assert_eq!(bad("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n0\r\n"), Some(411));
        assert_eq!(bad("POST / HTTP/1.1\r\nA : b\r\n\r\n"), Some(400));
        assert_eq!(bad("POST / HTTP/1.1\r\nA: b\r\n c\r\n\r\n"), Some(400));
    }

    #[test]
    fn nothing_too_long_is_waited_for() {
        assert_eq!(bad("POST / HTTP/1.1\r\nContent-Length: 65537\r\n\r\n"), Some(413));
        assert_eq!(bad(&format!("GET /{} HTTP/1.1\r\n", "a".repeat(17_000))), Some(431));
        assert_eq!(bad(&format!("GET / HTTP/1.1\r\n{}", "A: b\r\n".repeat(65))), Some(431));
        assert_eq!(bad("\x16\x03\x01\x00\u{1}\r\n\r\n"), Some(400));
    }

    #[test]
    fn an_answer_says_its_own_length() {
        let mut out = Vec::new();
        Answer { status: 200, tag: Some("\"t\""), keep: false }
            .write(&mut out, |out| out.extend_from_slice(b"{\"a\":1}"));
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text,
            "HTTP/1.1 200 OK\r\nETag: \"t\"\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length:        7\r\n\r\n{\"a\":1}"
        );
    }
}
