//! HTTP requests of a probe: a small client of our own for `http://`, because a rollback is measured in
//! milliseconds and one connection serves all steps; `https://` goes through ureq.

use super::{
    expand::Scope,
    expect::{Good, Got},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Read, Write as _},
    net::{TcpStream, ToSocketAddrs as _},
    time::{Duration, Instant},
};

/// Largest body read: a probe looks at answers, it does not download.
const BODY_BYTES_MAX: u64 = 1 << 20;
/// Longest line of an answer's head, and most of them: servers send some ten short ones.
const LINE_BYTES_MAX: u64 = 16 << 10;
const HEADERS_MAX: usize = 200;

/// An HTTP request.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpRequest {
    /// The method. Default `GET`, or `POST` with `json` or `body`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The path with its query: `/account/login`.
    pub path: String,
    /// Headers by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// A body sent as JSON; `{…}` in its texts are filled in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json: Option<Value>,
    /// A body sent as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

/// Sends the requests of one run over one connection, and keeps cookies.
pub(super) struct Client {
    base: String,
    open: Option<BufReader<TcpStream>>,
    cookies: BTreeMap<String, String>,
}

/// A request with everything filled in.
struct Filled {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Client {
    pub(super) fn new(base: &str) -> Self {
        Self { base: base.trim_end_matches('/').into(), open: None, cookies: BTreeMap::new() }
    }

    pub(super) fn base(&self) -> &str {
        &self.base
    }

    pub(super) fn send(&mut self, request: &HttpRequest, scope: &Scope, until: Instant) -> Result<Got, String> {
        let filled = self.fill(request, scope)?;
        let got = match self.base.strip_prefix("http://").map(ToOwned::to_owned) {
            Some(host) => self.plain(&host, &filled, until),
            None => self.secure(&filled, until),
        }
        .map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                format!("{} {} did not answer in time", filled.method, request.path)
            }
            _ => format!("{} {} failed: {error}", filled.method, request.path),
        })?;
        self.keep_cookies(&got);
        Ok(got)
    }

    fn fill(&self, request: &HttpRequest, scope: &Scope) -> Result<Filled, String> {
        let mut headers = Vec::new();
        for (name, value) in &request.headers {
            headers.push((name.clone(), scope.fill(value)?));
        }
        let named = |wanted: &str| request.headers.keys().any(|name| name.eq_ignore_ascii_case(wanted));
        let body = match (&request.json, &request.body) {
            (Some(json), _) => {
                if !named("content-type") {
                    headers.push(("Content-Type".into(), "application/json".into()));
                }
                fill_json(json, scope)?.to_string().into_bytes()
            }
            (None, Some(body)) => scope.fill(body)?.into_bytes(),
            (None, None) => Vec::new(),
        };
        if !self.cookies.is_empty() && !named("cookie") {
            let all: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            headers.push(("Cookie".into(), all.join("; ")));
        }
        let posts = request.json.is_some() || request.body.is_some();
        let method = request.method.clone().unwrap_or_else(|| if posts { "POST" } else { "GET" }.into());
        let path = scope.fill(&request.path)?;
        let hostile = |text: &str| text.chars().any(|c| c.is_control());
        if hostile(&path) || path.contains(' ') || headers.iter().any(|(name, value)| hostile(name) || hostile(value)) {
            return Err("a filled-in path or header has characters that HTTP does not allow there".into());
        }
        Ok(Filled { method, path, headers, body })
    }

    /// Sends over the open connection, or over a new one where that was closed meanwhile.
    fn plain(&mut self, host: &str, filled: &Filled, until: Instant) -> io::Result<Got> {
        if let Some(mut open) = self.open.take() {
            match exchange(&mut open, host, filled, until) {
                Ok((got, keep)) => {
                    self.open = keep.then_some(open);
                    return Ok(got);
                }
                // The server closed an idle connection before it saw the request; that says nothing of it.
                Err(error) if is_closed(&error) => {}
                Err(error) => return Err(error),
            }
        }
        let mut open = BufReader::new(connect(host, until)?);
        let (got, keep) = exchange(&mut open, host, filled, until)?;
        self.open = keep.then_some(open);
        Ok(got)
    }

    fn secure(&self, filled: &Filled, until: Instant) -> io::Result<Got> {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(left(until)?))
            .max_redirects(0)
            .http_status_as_error(false)
            .build();
        let agent = ureq::Agent::new_with_config(config);
        let mut request = ureq::http::Request::builder()
            .method(filled.method.as_str())
            .uri(format!("{}{}", self.base, filled.path));
        for (name, value) in &filled.headers {
            request = request.header(name, value);
        }
        let request = request.body(filled.body.clone()).map_err(io::Error::other)?;
        let mut response = agent.run(request).map_err(io::Error::other)?;
        let headers = response
            .headers()
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect();
        let status = Some(i32::from(response.status().as_u16()));
        let body = response.body_mut().with_config().limit(BODY_BYTES_MAX).read_to_vec().map_err(io::Error::other)?;
        Ok(Got { status, headers, body, good: Good::Http })
    }

    fn keep_cookies(&mut self, got: &Got) {
        for (_, value) in got.headers.iter().filter(|(name, _)| name == "set-cookie") {
            let pair = value.split(';').next().unwrap_or_default();
            if let Some((name, value)) = pair.split_once('=') {
                self.cookies.insert(name.trim().into(), value.trim().into());
            }
        }
    }
}

fn fill_json(value: &Value, scope: &Scope) -> Result<Value, String> {
    Ok(match value {
        Value::String(text) => Value::String(scope.fill(text)?),
        Value::Array(list) => Value::Array(list.iter().map(|one| fill_json(one, scope)).collect::<Result<_, _>>()?),
        Value::Object(map) => Value::Object(
            map.iter().map(|(key, one)| Ok((key.clone(), fill_json(one, scope)?))).collect::<Result<_, String>>()?,
        ),
        other => other.clone(),
    })
}

fn is_closed(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(error.kind(), Kind::UnexpectedEof | Kind::ConnectionReset | Kind::BrokenPipe | Kind::ConnectionAborted)
}

fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// Connects to `host` (name or address, with a port) before `until`.
pub(super) fn connect(host: &str, until: Instant) -> io::Result<TcpStream> {
    let host = if host.rsplit(':').next().is_some_and(|port| port.parse::<u16>().is_ok()) {
        host.to_owned()
    } else {
        format!("{host}:80")
    };
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"));
    for address in host.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, left(until)?) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn exchange(open: &mut BufReader<TcpStream>, host: &str, filled: &Filled, until: Instant) -> io::Result<(Got, bool)> {
    let mut head = format!("{} {} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: lastgood\r\nAccept: */*\r\n", filled.method, filled.path);
    for (name, value) in &filled.headers {
        head += &format!("{name}: {value}\r\n");
    }
    if !filled.body.is_empty() || filled.method != "GET" {
        head += &format!("Content-Length: {}\r\n", filled.body.len());
    }
    head += "\r\n";
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(&filled.body);
    open.get_ref().set_write_timeout(Some(left(until)?))?;
    open.get_mut().write_all(&bytes)?;
    let mut answer = Timed { open, until };
    loop {
        let status = status_of(&answer.line()?)?;
        let headers = read_headers(&mut answer)?;
        // 100 to 199 come before the answer itself.
        if status < 200 {
            continue;
        }
        let (body, keep) = read_body(&mut answer, status, &headers, &filled.method)?;
        return Ok((Got { status: Some(status), headers, body, good: Good::Http }, keep));
    }
}

/// Reads from a connection, never past `until`, however slowly the bytes come.
struct Timed<'a> {
    open: &'a mut BufReader<TcpStream>,
    until: Instant,
}

impl Timed<'_> {
    fn fill(&mut self) -> io::Result<&[u8]> {
        if self.open.buffer().is_empty() {
            self.open.get_ref().set_read_timeout(Some(left(self.until)?))?;
        }
        self.open.fill_buf()
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        loop {
            let buffer = self.fill()?;
            if buffer.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let count = end.map_or(buffer.len(), |end| end + 1);
            line.extend_from_slice(&buffer[..count]);
            self.open.consume(count);
            if line.len() as u64 > LINE_BYTES_MAX {
                return Err(broken("a line of the answer is too long"));
            }
            if end.is_some() {
                let text = String::from_utf8_lossy(&line);
                return Ok(text.trim_end_matches(['\r', '\n']).to_owned());
            }
        }
    }

    fn take(&mut self, count: u64, into: &mut Vec<u8>) -> io::Result<()> {
        let mut left = count;
        while left > 0 {
            let buffer = self.fill()?;
            if buffer.is_empty() {
                return Err(broken("the answer ends before its announced length"));
            }
            let some = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            into.extend_from_slice(&buffer[..some]);
            self.open.consume(some);
            left -= some as u64;
        }
        Ok(())
    }
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

fn status_of(line: &str) -> io::Result<i32> {
    let mut parts = line.split(' ');
    let is_http = parts.next().is_some_and(|version| version.starts_with("HTTP/1."));
    let status = parts.next().and_then(|status| status.parse().ok()).filter(|status| (100..1000).contains(status));
    match (is_http, status) {
        (true, Some(status)) => Ok(status),
        _ => Err(broken("the answer is not HTTP")),
    }
}

fn read_headers(answer: &mut Timed<'_>) -> io::Result<Vec<(String, String)>> {
    let mut headers = Vec::new();
    loop {
        let line = answer.line()?;
        if line.is_empty() {
            return Ok(headers);
        }
        if headers.len() >= HEADERS_MAX {
            return Err(broken("the answer has too many headers"));
        }
        let (name, value) = line.split_once(':').ok_or_else(|| broken("a header has no colon"))?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

/// Reads the body and tells whether the connection can be used again.
fn read_body(
    answer: &mut Timed<'_>,
    status: i32,
    headers: &[(String, String)],
    method: &str,
) -> io::Result<(Vec<u8>, bool)> {
    let value = |wanted: &str| headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
    let keep = !value("connection").is_some_and(|value| value.to_ascii_lowercase().contains("close"));
    let mut body = Vec::new();
    if method == "HEAD" || matches!(status, 204 | 304) {
        return Ok((body, keep));
    }
    if value("transfer-encoding").is_some_and(|value| value.to_ascii_lowercase().contains("chunked")) {
        loop {
            let line = answer.line()?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(size, 16).map_err(|_| broken("a chunk has no size"))?;
            if body.len() as u64 + size > BODY_BYTES_MAX {
                return Err(broken("the body is larger than a probe reads (1 MiB)"));
            }
            answer.take(size, &mut body)?;
            let mut end = answer.line()?;
            if size == 0 {
                // Trailers, up to the empty line.
                while !end.is_empty() {
                    end = answer.line()?;
                }
                return Ok((body, keep));
            }
        }
    }
    match value("content-length") {
        Some(length) => {
            let length: u64 = length.parse().map_err(|_| broken("the announced length is no number"))?;
            if length > BODY_BYTES_MAX {
                return Err(broken("the body is larger than a probe reads (1 MiB)"));
            }
            answer.take(length, &mut body)?;
            Ok((body, keep))
        }
        None => {
            loop {
                let buffer = answer.fill()?;
                if buffer.is_empty() {
                    return Ok((body, false));
                }
                let count = buffer.len();
                body.extend_from_slice(buffer);
                answer.open.consume(count);
                if body.len() as u64 > BODY_BYTES_MAX {
                    return Err(broken("the body is larger than a probe reads (1 MiB)"));
                }
            }
        }
    }
}

/// Reads at most `limit` bytes of what a peer sends until it closes, is satisfied or the time is over.
pub(super) fn read_some(stream: &mut TcpStream, limit: usize, until: Instant, enough: &dyn Fn(&[u8]) -> bool) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    while all.len() < limit && !enough(&all) {
        stream.set_read_timeout(Some(left(until)?))?;
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        all.extend_from_slice(&buffer[..count]);
    }
    Ok(all)
}
