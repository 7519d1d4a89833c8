//! One request and its answer over a local socket, within a time that is never exceeded.

use super::RouterError;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, sockopt};
use std::{
    fmt, io,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Read at once.
const PART_BYTES: usize = 64 * 1024;

/// Where a router listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

/// How an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// With its line.
    Line,
    /// With the connection.
    Connection,
}

/// Sends the request and reads the answer, all within `wait`; the line's end is not part of it.
///
/// Errors: `Unreachable`, `Denied`, `Silent`, and `AnswerUnreadable` for one longer than `bytes_max`.
pub(super) fn ask(
    place: &Place,
    request: &[u8],
    end: End,
    bytes_max: usize,
    wait: Duration,
) -> Result<Vec<u8>, RouterError> {
    let until = Instant::now() + wait;
    let failed = |error| failure(place, error, wait);
    let mut stream = open(place, wait).map_err(failed)?;
    let mut left = request;
    while !left.is_empty() {
        stream.allow(rest(until).map_err(failed)?).map_err(failed)?;
        let sent = stream.write(left).map_err(failed)?;
        left = &left[sent..];
    }
    let mut answer = Vec::new();
    let mut part = vec![0; PART_BYTES];
    loop {
        stream.allow(rest(until).map_err(failed)?).map_err(failed)?;
        let got = match stream.read(&mut part) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            got => got.map_err(failed)?,
        };
        if got == 0 {
            return match end {
                End::Connection => Ok(answer),
                End::Line => Err(failed(io::Error::new(io::ErrorKind::UnexpectedEof, "it hung up without an answer"))),
            };
        }
        let before = answer.len();
        answer.extend_from_slice(&part[..got]);
        if end == End::Line
            && let Some(at) = part[..got].iter().position(|byte| *byte == b'\n')
        {
            answer.truncate(before + at);
            return Ok(answer);
        }
        if answer.len() > bytes_max {
            let why = format!("it is longer than {bytes_max} bytes");
            return Err(RouterError::AnswerUnreadable { at: place.to_string(), why });
        }
    }
}

fn rest(until: Instant) -> io::Result<Duration> {
    let rest = until.saturating_duration_since(Instant::now());
    if rest.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(rest) }
}

fn failure(place: &Place, error: io::Error, waited: Duration) -> RouterError {
    let at = place.to_string();
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => RouterError::Silent { at, waited },
        io::ErrorKind::PermissionDenied => RouterError::Denied { at, why: error.to_string() },
        _ => RouterError::Unreachable { at, source: error },
    }
}

trait Stream: Read + Write {
    /// Lets the next read or write wait so long.
    fn allow(&self, wait: Duration) -> io::Result<()>;
}

impl Stream for UnixStream {
    fn allow(&self, wait: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(wait))?;
        self.set_write_timeout(Some(wait))
    }
}

impl Stream for TcpStream {
    fn allow(&self, wait: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(wait))?;
        self.set_write_timeout(Some(wait))
    }
}

fn open(place: &Place, wait: Duration) -> io::Result<Box<dyn Stream>> {
    Ok(match place {
        Place::Unix(path) => Box::new(open_unix(path, wait)?),
        Place::Tcp(address) => Box::new(TcpStream::connect_timeout(address, wait)?),
    })
}

/// Connects with a time-out: a listener that does not accept would hold us for ever once its queue is full.
fn open_unix(path: &Path, wait: Duration) -> io::Result<UnixStream> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(wait))?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket.into())
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => path.display().fmt(f),
            Self::Tcp(address) => address.fmt(f),
        }
    }
}
