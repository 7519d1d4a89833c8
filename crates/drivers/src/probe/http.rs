//! HTTP/1.1 over a plain connection: one small client, because a probe during a rollback has to cost less than a
//! millisecond and has to tell a cut answer from a wrong one.

use super::wire::{Base, Trouble, Wire};
use std::{
    io::{self, Read as _, Write as _},
    time::Instant,
};

/// Most bytes of a body that are read: answers that are checked are pages and JSON, not downloads.
pub(crate) const BODY_BYTES_MAX: usize = 1 << 20;
/// Most bytes of status line and headers: servers themselves allow 8 to 64 KiB.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Most interim answers (100, 103) before the real one.
const INTERIM_MAX: usize = 10;
/// Most bytes of one line that tells a chunk's size.
const CHUNK_LINE_BYTES_MAX: usize = 1 << 10;
/// Read at once: fits most answers whole.
const BUFFER_BYTES: usize = 16 << 10;

/// A request with everything put in.
#[derive(Debug)]
pub(crate) struct Request {
    pub method: String,
    /// Path and query as sent.
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Option<String>,
}

/// An answer read to its end.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Response {
    pub status: u16,
    /// Names in small letters.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// A connection that is kept between requests.
#[derive(Debug)]
pub(crate) struct Connection {
    wire: Wire,
    buffer: Vec<u8>,
    /// How much of the buffer has been used.
    used: usize,
}

/// Sends a request, on `kept` if it still lives, and leaves there what can be used again.
pub(crate) fn exchange(
    base: &Base,
    kept: &mut Option<Connection>,
    request: &Request,
    until: Instant,
) -> Result<Response, Trouble> {
    // A server may close a kept connection at any time; one that has is not asked.
    let reused = kept.take().filter(|connection| connection.buffer.is_empty() && connection.wire.is_quiet());
    if let Some(mut connection) = reused {
        connection.wire.set_until(until);
        match connection.exchange(base, request) {
            Ok((response, is_open)) => {
                *kept = is_open.then_some(connection);
                return Ok(response);
            }
            // Closed in the instant between: asked again only where asking twice does no harm.
            Err((trouble, nothing_came)) if !(nothing_came && is_repeatable(&request.method)) => {
                return Err(trouble);
            }
            Err(_) => {}
        }
    }
    let wire = base.connect(until)?;
    let mut connection = Connection { wire, buffer: Vec::new(), used: 0 };
    let (response, is_open) = connection.exchange(base, request).map_err(|(trouble, _)| trouble)?;
    *kept = is_open.then_some(connection);
    Ok(response)
}

fn is_repeatable(method: &str) -> bool {
    ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"].contains(&method)
}

/// How an answer's body ends.
enum Ending {
    Nothing,
    Length(usize),
    Chunks,
    Close,
}

impl Connection {
    /// Gives the answer and whether the connection stays open; in an error, whether nothing came at all.
    fn exchange(&mut self, base: &Base, request: &Request) -> Result<(Response, bool), (Trouble, bool)> {
        let sent = self.send(base, request);
        // A server that refuses a body may answer and close before it has read all of it.
        let head = match (self.head(), sent) {
            (Ok(head), _) => head,
            (Err(_), Err(error)) if error.kind() != io::ErrorKind::TimedOut => {
                return Err((Trouble::of_io(&error, "no answer"), true));
            }
            (Err((trouble, came)), _) => return Err((trouble, !came)),
        };
        let (status, headers, version_11) = head;
        let mut response = Response { status, headers, body: Vec::new() };
        let ending = ending(&request.method, &response).map_err(|trouble| (trouble, false))?;
        let is_delimited = !matches!(ending, Ending::Close);
        self.body(ending, &mut response).map_err(|trouble| (trouble, false))?;
        let says_close = values(&response.headers, "connection").any(|value| has_token(value, "close"));
        self.buffer.drain(..self.used);
        self.used = 0;
        Ok((response, is_delimited && version_11 && !says_close && self.buffer.is_empty()))
    }

    fn send(&mut self, base: &Base, request: &Request) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(512);
        let mut line = |name: &str, value: &str| {
            for part in [name, ": ", value, "\r\n"] {
                bytes.extend_from_slice(part.as_bytes());
            }
        };
        line("Host", &base.authority());
        let given = |name: &str| request.headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
        for (name, value) in
            [("User-Agent", super::run::USER_AGENT), ("Accept", "*/*"), ("Accept-Encoding", "identity")]
        {
            if !given(name) {
                line(name, value);
            }
        }
        for (name, value) in &request.headers {
            line(name, value);
        }
        match &request.body {
            Some(body) => line("Content-Length", &body.len().to_string()),
            None if ["POST", "PUT", "PATCH"].contains(&request.method.as_str()) => line("Content-Length", "0"),
            None => {}
        }
        let mut message = format!("{} {}{} HTTP/1.1\r\n", request.method, base.prefix, request.path).into_bytes();
        message.append(&mut bytes);
        message.extend_from_slice(b"\r\n");
        message.extend_from_slice(request.body.as_deref().unwrap_or_default().as_bytes());
        self.wire.write_all(&message)
    }

    /// Reads more into the buffer; false at the end of the connection.
    fn fill(&mut self) -> io::Result<bool> {
        let start = self.buffer.len();
        self.buffer.resize(start + BUFFER_BYTES, 0);
        let read = loop {
            match self.wire.read(&mut self.buffer[start..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.buffer.truncate(start + read.as_ref().copied().unwrap_or(0));
        read.map(|count| count > 0)
    }

    /// Reads the head of the final answer; in an error, whether anything came.
    #[expect(clippy::type_complexity, reason = "private, and each part is named where it is taken apart")]
    fn head(&mut self) -> Result<(u16, Vec<(String, String)>, bool), (Trouble, bool)> {
        for _ in 0..=INTERIM_MAX {
            let length = self.head_length()?;
            let text = String::from_utf8_lossy(&self.buffer[self.used..self.used + length]).into_owned();
            self.used += length;
            let (status, version_11) = status_line(text.lines().next().unwrap_or_default()).map_err(|t| (t, true))?;
            if status / 100 != 1 {
                return Ok((status, headers(&text).map_err(|t| (t, true))?, version_11));
            }
            if status == 101 {
                return Err((Trouble::failed("status 101 without being asked to switch protocols"), true));
            }
        }
        Err((Trouble::failed(format!("more than {INTERIM_MAX} interim answers")), true))
    }

    fn head_length(&mut self) -> Result<usize, (Trouble, bool)> {
        loop {
            let rest = &self.buffer[self.used..];
            if let Some(length) = end_of_head(rest) {
                return Ok(length);
            }
            let came = !self.buffer.is_empty();
            if rest.len() > HEAD_BYTES_MAX {
                return Err((Trouble::failed(format!("headers of more than {HEAD_BYTES_MAX} bytes")), came));
            }
            let so_far =
                if came { format!("only the first {} bytes of an answer", rest.len()) } else { "no answer".into() };
            match self.fill() {
                Ok(true) => {}
                Ok(false) => {
                    return Err((Trouble::of_io(&io::ErrorKind::UnexpectedEof.into(), &so_far), came));
                }
                Err(error) => return Err((Trouble::of_io(&error, &so_far), came)),
            }
        }
    }

    fn body(&mut self, ending: Ending, response: &mut Response) -> Result<(), Trouble> {
        match ending {
            Ending::Nothing => Ok(()),
            Ending::Length(length) => self.take(length, response),
            Ending::Chunks => self.chunks(response),
            Ending::Close => loop {
                response.body.extend_from_slice(&self.buffer[self.used..]);
                self.used = self.buffer.len();
                within_limit(response.body.len())?;
                self.buffer.clear();
                self.used = 0;
                match self.fill() {
                    Ok(true) => {}
                    Ok(false) => return Ok(()),
                    Err(error) => return Err(cut(&error, response, None)),
                }
            },
        }
    }

    /// Moves `length` bytes into the body.
    fn take(&mut self, length: usize, response: &mut Response) -> Result<(), Trouble> {
        within_limit(response.body.len().saturating_add(length))?;
        let mut left = length;
        loop {
            let rest = &self.buffer[self.used..];
            let part = rest.len().min(left);
            response.body.extend_from_slice(&rest[..part]);
            self.used += part;
            left -= part;
            if left == 0 {
                return Ok(());
            }
            self.buffer.clear();
            self.used = 0;
            match self.fill() {
                Ok(true) => {}
                Ok(false) => {
                    return Err(cut(&io::ErrorKind::UnexpectedEof.into(), response, Some(left)));
                }
                Err(error) => return Err(cut(&error, response, Some(left))),
            }
        }
    }

    fn chunks(&mut self, response: &mut Response) -> Result<(), Trouble> {
        loop {
            let line = self.line(response)?;
            let digits = line.split(';').next().unwrap_or_default().trim();
            let size = Some(digits)
                .filter(|digits| {
                    !digits.is_empty() && digits.len() <= 8 && digits.bytes().all(|b| b.is_ascii_hexdigit())
                })
                .and_then(|digits| usize::from_str_radix(digits, 16).ok())
                .ok_or_else(|| Trouble::failed(format!("a chunk of size {digits:?}")))?;
            if size == 0 {
                break;
            }
            self.take(size, response)?;
            if !self.line(response)?.is_empty() {
                return Err(Trouble::failed("a chunk that is longer than it said"));
            }
        }
        // Trailers end with an empty line; they are as limited as the head.
        let mut trailer_bytes = 0;
        loop {
            let line = self.line(response)?;
            trailer_bytes += line.len();
            if line.is_empty() {
                return Ok(());
            }
            if trailer_bytes > HEAD_BYTES_MAX {
                return Err(Trouble::failed(format!("trailers of more than {HEAD_BYTES_MAX} bytes")));
            }
        }
    }

    fn line(&mut self, response: &Response) -> Result<String, Trouble> {
        loop {
            let rest = &self.buffer[self.used..];
            if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
                let line = String::from_utf8_lossy(line).into_owned();
                self.used += end + 1;
                return Ok(line);
            }
            if rest.len() > CHUNK_LINE_BYTES_MAX {
                return Err(Trouble::failed("a chunk without a size"));
            }
            self.buffer.drain(..self.used);
            self.used = 0;
            match self.fill() {
                Ok(true) => {}
                Ok(false) => return Err(cut(&io::ErrorKind::UnexpectedEof.into(), response, None)),
                Err(error) => return Err(cut(&error, response, None)),
            }
        }
    }
}

fn within_limit(bytes: usize) -> Result<(), Trouble> {
    if bytes > BODY_BYTES_MAX {
        return Err(Trouble::failed(format!("a body of more than {BODY_BYTES_MAX} bytes")));
    }
    Ok(())
}

/// Tells of an answer that ended too early.
fn cut(error: &io::Error, response: &Response, missing: Option<usize>) -> Trouble {
    let (status, came) = (response.status, response.body.len());
    let so_far = match missing {
        Some(missing) => {
            format!("status {status} and only {came} of {} bytes of the body", came.saturating_add(missing))
        }
        None => format!("status {status} and only the first {came} bytes of the body"),
    };
    Trouble::of_io(error, &so_far)
}

/// Finds the empty line after the headers; gives the length with it.
fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let mut start = 0;
    while let Some(at) = bytes[start..].iter().position(|byte| *byte == b'\n') {
        let next = start + at + 1;
        match &bytes[next..] {
            [b'\n', ..] => return Some(next + 1),
            [b'\r', b'\n', ..] => return Some(next + 2),
            _ => start = next,
        }
    }
    None
}

fn status_line(line: &str) -> Result<(u16, bool), Trouble> {
    let mut words = line.split_ascii_whitespace();
    let version = words.next().filter(|version| version.starts_with("HTTP/1."));
    let status = words.next().filter(|code| code.len() == 3).and_then(|code| code.parse::<u16>().ok());
    match (version, status) {
        (Some(version), Some(status)) if (100..=999).contains(&status) => Ok((status, version != "HTTP/1.0")),
        _ => Err(Trouble::failed(format!("an answer that is not HTTP/1.1: {}", super::text::shown(line)))),
    }
}

fn headers(head: &str) -> Result<Vec<(String, String)>, Trouble> {
    let lines = head.lines().skip(1).take_while(|line| !line.is_empty());
    let one = |line: &str| match line.split_once(':') {
        Some((name, value)) if super::config::is_header_name(name) => {
            Ok((name.to_ascii_lowercase(), value.trim().to_owned()))
        }
        _ => Err(Trouble::failed("a header that is none")),
    };
    lines.map(one).collect()
}

/// Gives every value of a header.
pub(crate) fn values<'h>(headers: &'h [(String, String)], name: &'h str) -> impl Iterator<Item = &'h str> {
    headers.iter().filter(move |(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

fn has_token(value: &str, token: &str) -> bool {
    value.split(',').any(|part| part.trim().eq_ignore_ascii_case(token))
}

fn ending(method: &str, response: &Response) -> Result<Ending, Trouble> {
    if method == "HEAD" || matches!(response.status, 204 | 304) {
        return Ok(Ending::Nothing);
    }
    let mut encodings = values(&response.headers, "transfer-encoding").peekable();
    if encodings.peek().is_some() {
        let is_chunked = encodings.all(|value| value.trim().eq_ignore_ascii_case("chunked"));
        return if is_chunked {
            Ok(Ending::Chunks)
        } else {
            Err(Trouble::failed("a transfer encoding that is not chunked"))
        };
    }
    let mut length = None;
    for value in values(&response.headers, "content-length") {
        let all_digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
        let this = value.parse::<usize>().ok().filter(|_| all_digits);
        if this.is_none() || length.is_some_and(|known| Some(known) != this) {
            return Err(Trouble::failed("a Content-Length that is no length"));
        }
        length = this;
    }
    Ok(length.map_or(Ending::Close, Ending::Length))
}
