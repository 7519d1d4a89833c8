//! One client: what came from it, what is to go to it, and how long it may take.

use super::{
    answer::Then,
    board::problem,
    http::{self, GO_ON, Read, Request, STREAM_HEAD},
};
use lastgood_domain::failure::Failure;
use std::{
    io::{self, Read as _, Write as _},
    net::TcpStream,
    sync::Arc,
    time::{Duration, Instant},
};

/// A kept connection without a request ends after this.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// A request must be whole, and an answer taken, within this.
const MOVE_MAX: Duration = Duration::from_secs(10);
/// Bytes read at once: a question has some hundred, and the room is cleared each time.
const READ_BYTES: usize = 4 * 1024;
/// Answers that wait for a client that sends and doesn't read: beyond this its requests wait.
const OUT_BYTES_MAX: usize = 256 * 1024;
/// Requests that wait behind one another: beyond this nothing is read. The longest request fits.
const IN_BYTES_MAX: usize = 128 * 1024;
/// Ends an event, so that a client sees that we live.
const COMMENT: &[u8] = b":\n\n";

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Questions and answers.
    Requests,
    /// Hears every switch.
    Switches,
    /// Hears that flags changed.
    Events,
}

/// Whether a connection goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    /// It does.
    Stays,
    /// It is over.
    Ends,
}

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Interest {
    pub(super) read: bool,
    pub(super) write: bool,
}

/// One client.
pub(super) struct Connection {
    stream: TcpStream,
    kind: Kind,
    input: Vec<u8>,
    out: Vec<u8>,
    /// Bytes of `out` that are written.
    written: usize,
    /// The newest event that waits behind `out`: an older one that was not begun is not worth sending.
    pending: Option<Arc<[u8]>>,
    /// Whether the board still owes an answer, and whether the connection stays after it.
    waiting: Option<bool>,
    /// Whether it ends once `out` is written.
    last: bool,
    /// Whether the client has said everything; it may still want to hear the answers.
    is_done: bool,
    /// What the system was told that we want.
    interest: Interest,
    /// Since when nothing has moved.
    since: Instant,
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            kind: Kind::Requests,
            input: Vec::new(),
            out: Vec::new(),
            written: 0,
            pending: None,
            waiting: None,
            last: false,
            is_done: false,
            interest: Interest { read: true, write: false },
            since: Instant::now(),
        }
    }

    pub(super) fn socket(&self) -> &TcpStream {
        &self.stream
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Reads what has come.
    pub(super) fn read(&mut self) -> Flow {
        if self.is_done || self.input.len() >= IN_BYTES_MAX {
            return Flow::Stays;
        }
        let mut buffer = [0; READ_BYTES];
        match self.stream.read(&mut buffer) {
            Ok(0) => {
                self.is_done = true;
                if self.kind == Kind::Requests { Flow::Stays } else { Flow::Ends }
            }
            // A subscriber has nothing more to say.
            Ok(_) if self.kind != Kind::Requests => Flow::Stays,
            Ok(count) => {
                self.input.extend_from_slice(&buffer[..count]);
                self.since = Instant::now();
                Flow::Stays
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Flow::Stays,
            Err(_) => Flow::Ends,
        }
    }

    /// Gives the next whole request to `answer`; none if there is none, or answers wait to be taken first.
    pub(super) fn next(&mut self, answer: impl FnOnce(&Request<'_>, &mut Vec<u8>) -> Then) -> Option<Then> {
        if self.kind != Kind::Requests || self.waiting.is_some() || self.last || self.out.len() > OUT_BYTES_MAX {
            return None;
        }
        let (then, length, keep) = match http::read(&self.input) {
            Read::Part(waits) => {
                if waits {
                    self.out.extend_from_slice(GO_ON);
                }
                return None;
            }
            Read::Bad(status) => {
                let what = "the request can't be read as HTTP/1.1, has no plain length, or is too long";
                let failure = Failure::new("api-request-unreadable", what, Some("send it with one Content-Length"));
                http::Answer { status, tag: None, keep: false }
                    .write(&mut self.out, |out| out.extend_from_slice(problem(&failure).to_string().as_bytes()));
                self.last = true;
                return Some(Then::Answered);
            }
            Read::Whole(request) => (answer(&request, &mut self.out), request.length, request.keep),
        };
        self.input.drain(..length);
        if let Then::Trip(..) = then {
            self.waiting = Some(keep);
        } else {
            self.last |= !keep;
        }
        Some(then)
    }

    /// Ends the wait; tells whether the connection stays.
    pub(super) fn stop_waiting(&mut self) -> bool {
        let keep = self.waiting.take().unwrap_or(false) && !self.last;
        self.last = !keep;
        keep
    }

    pub(super) fn become_stream(&mut self, kind: Kind, first: Option<&Arc<[u8]>>) {
        self.kind = kind;
        self.last = false;
        // Thousands of subscribers need no room for requests.
        self.input = Vec::new();
        self.out.extend_from_slice(STREAM_HEAD);
        self.out.extend_from_slice(first.map_or(&[], |event| &event[..]));
    }

    /// Sends an event: straight to the socket where it takes it, else behind what it has not taken yet.
    pub(super) fn push(&mut self, event: &Arc<[u8]>) -> Flow {
        if !self.out.is_empty() {
            self.pending = Some(Arc::clone(event));
            return Flow::Stays;
        }
        match self.stream.write(event) {
            Ok(count) if count == event.len() => {
                self.since = Instant::now();
                Flow::Stays
            }
            Ok(count) => {
                self.out.extend_from_slice(&event[count..]);
                Flow::Stays
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                self.out.extend_from_slice(event);
                Flow::Stays
            }
            Err(_) => Flow::Ends,
        }
    }

    /// Shows that we live, unless there is something to say anyway.
    pub(super) fn comment(&mut self) -> Flow {
        if !self.out.is_empty() {
            return Flow::Stays;
        }
        self.out.extend_from_slice(COMMENT);
        self.flush()
    }

    /// Writes what waits, as far as the socket takes it.
    pub(super) fn flush(&mut self) -> Flow {
        loop {
            while self.written < self.out.len() {
                match self.stream.write(&self.out[self.written..]) {
                    Ok(0) => return Flow::Ends,
                    Ok(count) => {
                        self.written += count;
                        self.since = Instant::now();
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Flow::Stays,
                    Err(_) => return Flow::Ends,
                }
            }
            self.out.clear();
            self.written = 0;
            match self.pending.take() {
                Some(event) => self.out.extend_from_slice(&event),
                None => break,
            }
        }
        if self.kind != Kind::Requests {
            self.out = Vec::new();
        }
        if self.last && self.waiting.is_none() { Flow::Ends } else { Flow::Stays }
    }

    /// Tells whether everything was said and answered.
    pub(super) fn is_finished(&self) -> bool {
        self.is_done && self.waiting.is_none() && self.out.is_empty()
    }

    /// Tells whether all that was to be written is.
    pub(super) fn is_written(&self) -> bool {
        self.out.is_empty()
    }

    /// Tells what it waits for, if that is news.
    pub(super) fn interest_changed(&mut self) -> Option<Interest> {
        let read = !self.is_done && self.input.len() < IN_BYTES_MAX;
        let interest = Interest { read, write: !self.out.is_empty() };
        let changed = interest != self.interest;
        self.interest = interest;
        changed.then_some(interest)
    }

    /// Tells whether it has had its time.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        let still = now.saturating_duration_since(self.since);
        let moves = !self.out.is_empty() || !self.input.is_empty() || self.waiting.is_some();
        match self.kind {
            _ if moves => still > MOVE_MAX,
            Kind::Requests => still > IDLE_MAX,
            Kind::Switches | Kind::Events => false,
        }
    }
}
