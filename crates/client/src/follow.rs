//! The thread that follows: it reads, takes, ends leases without being told, and comes again when it is cut off.

use crate::{message::Message, stream::Events, view::View};
use std::{
    collections::BTreeMap,
    hash::{BuildHasher as _, RandomState},
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// Longest wait for a connection; on one machine it takes microseconds.
const CONNECT_MAX: Duration = Duration::from_secs(1);
/// Pause before the second try; it doubles, up to the longest, and half of it is chance.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// Longest wait for bytes before the lease is known.
const FIRST_WAIT: Duration = Duration::from_secs(5);
/// Shortest wait: a timeout of nothing would be none.
const WAIT_MIN: Duration = Duration::from_millis(1);

/// What the follower and those who ask share.
#[derive(Default)]
pub(crate) struct Shared {
    inner: Mutex<Inner>,
    stopping: Condvar,
}

#[derive(Default)]
struct Inner {
    view: View,
    switches: BTreeMap<String, Arc<AtomicBool>>,
    /// The connection, so that it can be ended from outside.
    stream: Option<TcpStream>,
    is_stopped: bool,
    /// Nobody follows any more.
    is_closed: bool,
}

impl Inner {
    /// Makes every switch what it is now.
    fn publish(&self, now: Instant) {
        for (name, state) in &self.switches {
            state.store(self.is_closed || self.view.is_tripped(name, now), Ordering::Release);
        }
    }
}

impl Shared {
    pub(crate) fn register(&self, name: &str) -> Arc<AtomicBool> {
        let mut inner = self.lock();
        let tripped = inner.is_closed || inner.view.is_tripped(name, Instant::now());
        let state = inner.switches.entry(name.to_owned()).or_insert_with(|| Arc::new(AtomicBool::new(tripped)));
        Arc::clone(state)
    }

    pub(crate) fn epoch(&self) -> Option<u64> {
        self.lock().view.epoch()
    }

    pub(crate) fn is_in_contact(&self, now: Instant) -> bool {
        let inner = self.lock();
        !inner.is_closed && inner.view.is_in_contact(now)
    }

    pub(crate) fn stop(&self) {
        let mut inner = self.lock();
        inner.is_stopped = true;
        if let Some(stream) = &inner.stream {
            // One that is closed already needs no closing.
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.stopping.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic in between leaves an older view, which the lease ends.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a message; tells whether it was taken.
    fn take(&self, message: Message) -> bool {
        let now = Instant::now();
        let mut inner = self.lock();
        let taken = inner.view.take(message, now);
        inner.publish(now);
        taken
    }

    /// Ends the lease if it is over; gives when it ends otherwise.
    fn lease_left(&self) -> Option<Duration> {
        let now = Instant::now();
        let inner = self.lock();
        match inner.view.lease_ends() {
            Some(end) if end > now => Some(end - now),
            _ => {
                inner.publish(now);
                None
            }
        }
    }

    /// Pauses, for as long as nobody stops us; leases end meanwhile. Tells whether to go on.
    fn pause(&self, time: Duration) -> bool {
        let end = Instant::now() + time;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let wait = self.lease_left().map_or(left, |lease| lease.min(left)).max(WAIT_MIN);
            let inner = self.lock();
            if inner.is_stopped {
                return false;
            }
            if left.is_zero() {
                return true;
            }
            drop(self.stopping.wait_timeout(inner, wait));
        }
    }

    fn is_stopped(&self) -> bool {
        self.lock().is_stopped
    }
}

/// Blocks everything once nobody follows, however that came.
pub(crate) struct Closing<'a>(pub(crate) &'a Shared);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        let mut inner = self.0.lock();
        inner.is_closed = true;
        inner.publish(Instant::now());
    }
}

/// Follows until it is stopped.
pub(crate) fn follow(shared: &Shared, addresses: &[SocketAddr]) {
    let mut pause = PAUSE_MIN;
    let mut tries = 0_usize;
    loop {
        let address = addresses[tries % addresses.len()];
        tries += 1;
        // How a connection ended does not matter: another one is tried, and the lease decides meanwhile.
        let heard = listen(shared, address).unwrap_or(false);
        if heard {
            pause = PAUSE_MIN;
        }
        if !shared.pause(jittered(pause)) {
            return;
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Half of it, and up to as much again by chance, so that thousands don't come back at once.
fn jittered(pause: Duration) -> Duration {
    let chance = RandomState::new().hash_one(0) % 1_024;
    pause / 2 + pause / 2 * chance as u32 / 1_024
}

/// Follows one connection to its end; tells whether anything was taken.
fn listen(shared: &Shared, address: SocketAddr) -> io::Result<bool> {
    // While it connects the lease may end; it is looked at again right after.
    let longest = shared.lease_left().map_or(CONNECT_MAX, |left| left.min(CONNECT_MAX)).max(WAIT_MIN);
    let mut stream = TcpStream::connect_timeout(&address, longest)?;
    stream.set_nodelay(true)?;
    shared.lock().stream = Some(stream.try_clone()?);
    if shared.is_stopped() {
        return Ok(false);
    }
    stream.set_write_timeout(Some(CONNECT_MAX))?;
    let request = format!("GET /v1/switches/stream HTTP/1.1\r\nHost: {address}\r\nAccept: text/event-stream\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut events = Events::default();
    let mut buffer = [0; 4_096];
    let mut heard = false;
    let mut silent_since = Instant::now();
    loop {
        let wait = match shared.lease_left() {
            Some(left) => left,
            // Without a lease there is nothing to lose by waiting, but a dead connection must be left.
            None if silent_since.elapsed() < FIRST_WAIT => FIRST_WAIT - silent_since.elapsed(),
            None => return Ok(heard),
        };
        stream.set_read_timeout(Some(wait.max(WAIT_MIN)))?;
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(heard),
            Ok(count) => {
                silent_since = Instant::now();
                events.add(&buffer[..count]);
                // Of several that came at once each is taken in turn: the view keeps the newest.
                while let Some(data) = events.next().map_err(|_| io::ErrorKind::InvalidData)? {
                    let message = Message::read(&data).ok_or(io::ErrorKind::InvalidData)?;
                    heard |= shared.take(message);
                }
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
