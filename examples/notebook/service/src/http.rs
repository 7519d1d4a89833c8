//! The part of HTTP/1.1 that the notebook needs: requests with a length, keep-alive, limits, and time-outs.
//!
//! Written here and not taken from a library so that the service starts in a few milliseconds and has no runtime:
//! the crash tests start it thousands of times. What it doesn't understand it refuses; it never guesses.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Largest request line with all headers: what common servers allow.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Most headers in a request; browsers send about 15.
const HEADERS_MAX: usize = 64;
/// Largest body; a note is text that a person wrote.
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// A connection that asks nothing for this long is closed; clients open another.
const IDLE: Duration = Duration::from_secs(15);
/// From the first byte of a request to its last: a slow phone needs seconds, a slow attacker takes for ever.
const REQUEST: Duration = Duration::from_secs(10);
/// To write one answer.
const ANSWER: Duration = Duration::from_secs(10);
/// Requests on one connection, so that no client keeps its place for ever.
pub(crate) const REQUESTS_PER_CONNECTION_MAX: u32 = 100_000;

/// One request, whole.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// The path without the query.
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
    pub(crate) cookie: Option<String>,
    pub(crate) body: Vec<u8>,
    /// Whether the client wants to go on with the connection.
    pub(crate) keeps_alive: bool,
}

/// One answer; bodies are JSON.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
    pub(crate) set_cookie: Option<String>,
}

/// Why there is no request.
#[derive(Debug)]
pub(crate) enum NoRequest {
    /// The client closed the connection or was silent for too long between two requests.
    Over,
    /// The request can't be served; the connection is closed after this answer.
    Refused(Answer),
}

impl Answer {
    pub(crate) fn json(status: u16, body: &serde_json::Value) -> Self {
        Self { status, body: body.to_string(), set_cookie: None }
    }

    pub(crate) fn error(status: u16, reason: &str) -> Self {
        Self::json(status, &serde_json::json!({ "error": reason }))
    }
}

/// Reads requests from one connection, keeping what a client sent ahead.
pub(crate) struct Connection {
    stream: TcpStream,
    ahead: Vec<u8>,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, ahead: Vec::new() }
    }

    /// Waits for the next request.
    pub(crate) fn next(&mut self) -> Result<Request, NoRequest> {
        if self.ahead.is_empty() {
            self.fill(Instant::now() + IDLE).map_err(|_| NoRequest::Over)?;
        }
        let deadline = Instant::now() + REQUEST;
        let head_end = self.until_head_ends(deadline)?;
        let head: Vec<u8> = self.ahead.drain(..head_end).collect();
        let (mut request, expectation) = parse_head(&head).map_err(NoRequest::Refused)?;
        let Expectation { length, continues } = expectation;
        if continues && self.ahead.len() < length {
            self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").map_err(|_| NoRequest::Over)?;
        }
        while self.ahead.len() < length {
            self.fill(deadline).map_err(unfinished)?;
        }
        request.body = self.ahead.drain(..length).collect();
        Ok(request)
    }

    /// Sends an answer; to a HEAD request without its body.
    pub(crate) fn answer(&mut self, answer: &Answer, head_only: bool, keeps_alive: bool) -> io::Result<()> {
        let cookie = answer.set_cookie.as_ref().map(|cookie| format!("Set-Cookie: {cookie}\r\n")).unwrap_or_default();
        let connection = if keeps_alive { "keep-alive" } else { "close" };
        let body = if head_only { "" } else { answer.body.as_str() };
        let text = format!(
            "HTTP/1.1 {} {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
             {cookie}Connection: {connection}\r\n\r\n{body}",
            answer.status,
            reason_of(answer.status),
            answer.body.len(),
        );
        self.stream.set_write_timeout(Some(ANSWER))?;
        self.stream.write_all(text.as_bytes())
    }

    /// Reads off what a refused client still sends, for a moment: closing at once would destroy the answer on its way.
    pub(crate) fn hang_up(&mut self) {
        const LINGER: Duration = Duration::from_millis(500);
        const LINGER_BYTES_MAX: usize = 256 * 1024;
        let deadline = Instant::now() + LINGER;
        let mut seen = 0;
        if self.stream.shutdown(std::net::Shutdown::Write).is_err() {
            return;
        }
        while seen < LINGER_BYTES_MAX {
            self.ahead.clear();
            if self.fill(deadline).is_err() {
                return;
            }
            seen += self.ahead.len();
        }
    }

    fn until_head_ends(&mut self, deadline: Instant) -> Result<usize, NoRequest> {
        loop {
            let end = self.ahead.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4);
            match end {
                Some(end) if end <= HEAD_BYTES_MAX => return Ok(end),
                None if self.ahead.len() < HEAD_BYTES_MAX => self.fill(deadline).map_err(unfinished)?,
                _ => {
                    return Err(NoRequest::Refused(Answer::error(431, "the headers are too long")));
                }
            }
        }
    }

    fn fill(&mut self, deadline: Instant) -> io::Result<()> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        let mut piece = [0; 8 * 1024];
        match self.stream.read(&mut piece) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                self.ahead.extend_from_slice(&piece[..count]);
                Ok(())
            }
            // Not a byte was lost; whoever waits asks again until its deadline.
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(cause) => Err(cause),
        }
    }
}

fn unfinished(cause: io::Error) -> NoRequest {
    match cause.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
            NoRequest::Refused(Answer::error(408, "the request took too long"))
        }
        _ => NoRequest::Over,
    }
}

struct Expectation {
    length: usize,
    continues: bool,
}

fn parse_head(head: &[u8]) -> Result<(Request, Expectation), Answer> {
    let bad = |reason| Answer::error(400, reason);
    let text = std::str::from_utf8(head).map_err(|_| bad("the headers are not text"))?;
    let mut lines = text.trim_end_matches("\r\n").split("\r\n");
    let mut line = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some(version), None) = (line.next(), line.next(), line.next(), line.next()) else {
        return Err(bad("the request line is not METHOD PATH VERSION"));
    };
    let first_version = match version {
        "HTTP/1.1" => false,
        "HTTP/1.0" => true,
        _ => return Err(Answer::error(505, "this service speaks HTTP/1.1")),
    };
    if !target.starts_with('/') || !target.bytes().all(|byte| byte.is_ascii_graphic()) || !is_token(method) {
        return Err(bad("the request line is not METHOD PATH VERSION"));
    }
    let mut request = Request {
        method: method.to_owned(),
        path: target.split(['?', '#']).next().unwrap_or("/").to_owned(),
        authorization: None,
        cookie: None,
        body: Vec::new(),
        keeps_alive: !first_version,
    };
    let mut length = None;
    let mut continues = false;
    for (count, line) in lines.enumerate() {
        if count >= HEADERS_MAX {
            return Err(Answer::error(431, "too many headers"));
        }
        let (name, value) = line.split_once(':').ok_or_else(|| bad("a header has no colon"))?;
        let value = value.trim_matches([' ', '\t']);
        if !is_token(name) || value.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
            return Err(bad("a header's name or value has a character that can't be there"));
        }
        match name.to_ascii_lowercase().as_str() {
            "content-length" => {
                let stated = parse_length(value)?;
                // Two lengths that differ are how requests are smuggled past a proxy.
                if length.is_some_and(|known| known != stated) {
                    return Err(bad("two lengths"));
                }
                length = Some(stated);
            }
            "transfer-encoding" => {
                return Err(Answer::error(501, "send a Content-Length, not an encoding"));
            }
            "expect" if value.eq_ignore_ascii_case("100-continue") => continues = true,
            "expect" => return Err(Answer::error(417, "only 100-continue can be expected")),
            "connection" => {
                for option in value.split(',').map(str::trim) {
                    if option.eq_ignore_ascii_case("close") {
                        request.keeps_alive = false;
                    } else if option.eq_ignore_ascii_case("keep-alive") && first_version {
                        request.keeps_alive = true;
                    }
                }
            }
            "authorization" => request.authorization = Some(value.to_owned()),
            "cookie" => request.cookie = Some(value.to_owned()),
            _ => {}
        }
    }
    Ok((request, Expectation { length: length.unwrap_or(0), continues }))
}

fn parse_length(value: &str) -> Result<usize, Answer> {
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Answer::error(400, "the length is not a number"));
    }
    match value.parse::<usize>() {
        Ok(length) if length <= BODY_BYTES_MAX => Ok(length),
        _ => Err(Answer::error(413, "the body is longer than 1 MiB")),
    }
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

fn reason_of(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        417 => "Expectation Failed",
        422 => "Unprocessable Content",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Other",
    }
}
