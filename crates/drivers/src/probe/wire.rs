//! A connection on which every read and write ends at one instant, however slowly the bytes come.

use super::failure::FailureKind;
use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs as _},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// Why an exchange gave no usable answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub kind: FailureKind,
    /// Completes "expected …, got".
    pub got: String,
}

impl Trouble {
    pub(crate) fn unreachable(got: impl Into<String>) -> Self {
        Self { kind: FailureKind::Unreachable, got: got.into() }
    }

    pub(crate) fn timeout(got: impl Into<String>) -> Self {
        Self { kind: FailureKind::Timeout, got: got.into() }
    }

    pub(crate) fn failed(got: impl Into<String>) -> Self {
        Self { kind: FailureKind::Failed, got: got.into() }
    }

    pub(crate) fn config(got: impl Into<String>) -> Self {
        Self { kind: FailureKind::Config, got: got.into() }
    }

    /// Tells a time-out from other ends of a connection; `so_far` says what had come.
    pub(crate) fn of_io(error: &io::Error, so_far: &str) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Self::timeout(format!("{so_far} in time")),
            io::ErrorKind::UnexpectedEof => Self::failed(format!("{so_far} before the connection was closed")),
            _ => Self::failed(format!("{so_far} before the connection broke ({error})")),
        }
    }
}

/// Where requests go: parsed from a target's base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Base {
    pub is_tls: bool,
    pub host: String,
    pub port: u16,
    /// A path before every path; empty or without a slash at its end.
    pub prefix: String,
}

impl Base {
    /// Reads `http://127.0.0.1:7101`, `https://notes.example/app`, `[::1]:80` or `localhost:80`.
    pub(crate) fn parse(text: &str) -> Result<Self, Trouble> {
        let wrong = || Trouble::config(format!("{text:?} is not an address such as http://127.0.0.1:7101"));
        let (is_tls, rest) = match text.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            Some(_) => return Err(wrong()),
            None => (false, text),
        };
        let (authority, prefix) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse().map_err(|_| wrong())?),
            _ => (authority, if is_tls { 443 } else { 80 }),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        // Each stands in a request's head: nothing in them may end its line.
        let splits = |c: char| matches!(c, '?' | '#') || c.is_whitespace() || c.is_control();
        if host.is_empty() || !host.chars().all(fits) || prefix.contains(splits) {
            return Err(wrong());
        }
        Ok(Self { is_tls, host: host.into(), port, prefix: prefix.trim_end_matches('/').into() })
    }

    /// Writes host and port for a `Host` header.
    pub(crate) fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.is_tls, self.port) {
            (false, 80) | (true, 443) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }

    /// Connects before `until`.
    pub(crate) fn connect(&self, until: Instant) -> Result<Wire, Trouble> {
        let mut last = Trouble::unreachable(format!("no address for {}", self.host));
        for address in self.addresses(until)? {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Trouble::timeout(format!("no connection to {address} in time")));
            }
            match TcpStream::connect_timeout(&address, left) {
                Ok(stream) => {
                    // One small message each way: waiting for more to send would only cost time.
                    let _ = stream.set_nodelay(true);
                    return Ok(Wire { stream, until });
                }
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    last = Trouble::timeout(format!("no connection to {address} in time"));
                }
                Err(error) => last = Trouble::unreachable(format!("no connection to {address} ({error})")),
            }
        }
        Err(last)
    }

    fn addresses(&self, until: Instant) -> Result<Vec<SocketAddr>, Trouble> {
        if let Ok(address) = self.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, self.port)]);
        }
        // The system's resolver knows no time-out, so a thread waits for it; it ends by itself.
        let (tell, told) = mpsc::channel();
        let (host, port) = (self.host.clone(), self.port);
        let asked = thread::Builder::new().name("resolve".into()).spawn(move || {
            let found = (host.as_str(), port).to_socket_addrs().map(|all| all.collect::<Vec<_>>());
            let _ = tell.send(found);
        });
        asked.map_err(|error| Trouble::unreachable(format!("no thread to look up {} ({error})", self.host)))?;
        match told.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => Err(Trouble::unreachable(format!("no address for {} ({error})", self.host))),
            Err(_) => Err(Trouble::timeout(format!("no address for {} in time", self.host))),
        }
    }
}

/// A connection with an end in time.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    until: Instant,
}

impl Wire {
    /// Sets the end for what comes next.
    pub(crate) fn set_until(&mut self, until: Instant) {
        self.until = until;
    }

    /// Tells whether the other side still waits for a request and has said nothing unasked.
    pub(crate) fn is_quiet(&self) -> bool {
        let mut byte = [0];
        let peeked = self.stream.set_nonblocking(true).and_then(|()| self.stream.peek(&mut byte));
        let blocking = self.stream.set_nonblocking(false).is_ok();
        blocking && matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    fn left(&self) -> io::Result<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
    }
}

/// The system says "would block" for a time-out on a socket.
fn as_timeout(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock { io::ErrorKind::TimedOut.into() } else { error }
}

impl Read for Wire {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        self.stream.read(into).map_err(as_timeout)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        self.stream.write(bytes).map_err(as_timeout)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_with_and_without_scheme_port_and_path() {
        let parsed = |text: &str| {
            Base::parse(text).map(|base| (base.is_tls, base.authority(), base.port, base.prefix)).map_err(|t| t.got)
        };
        assert_eq!(parsed("http://127.0.0.1:7101"), Ok((false, "127.0.0.1:7101".into(), 7101, String::new())));
        assert_eq!(parsed("https://notes.example/app/"), Ok((true, "notes.example".into(), 443, "/app".into())));
        assert_eq!(parsed("http://[::1]:80"), Ok((false, "[::1]".into(), 80, String::new())));
        assert_eq!(parsed("http://:::7101"), Ok((false, "[::]:7101".into(), 7101, String::new())));
        assert_eq!(parsed("localhost:81"), Ok((false, "localhost:81".into(), 81, String::new())));
        for wrong in [
            "ftp://x",
            "http://",
            "http://a b",
            "http://user:pw@host:1",
            "http://x:99999",
            "http://x/?a",
            "http://x/a\r\nHost:",
        ] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }
}
