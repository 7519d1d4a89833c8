//! One thread and its share of the connections: it waits for them all at once, answers, and writes what changes straight to
//! every subscriber's socket. What is written was made once, for all.

use super::{
    answer::{Then, answer},
    board::{Ask, Asker},
    connection::{Connection, Flow, Kind},
    given::Given,
    http::Answer,
};
use lastgood_domain::terms::Digest;
use rustix::{
    buffer::spare_capacity,
    event::{EventfdFlags, Timespec, epoll, eventfd},
    fd::{AsFd, OwnedFd},
    process::{Resource, getrlimit},
};
use std::{
    io,
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::Sender,
    },
    time::{Duration, Instant},
};

/// Connections of one shard: a machine of 10,000 subscribers has room on one.
const CONNECTIONS_MAX: usize = 20_000;
/// File descriptors that stay for everything else this process does, above all for noticing what dies and going back.
const FILES_KEPT: u64 = 1_024;
/// Connections taken at once, so that those there are get their turn.
const ACCEPTS_MAX: usize = 64;
/// Events taken at once.
const EVENTS_MAX: usize = 1_024;
/// How often idle connections are looked for, and a listener that failed is tried again.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// The places in epoll of what is no connection.
const WAKE: u64 = u64::MAX;
const LISTENER: u64 = u64::MAX - 1;

/// Shares what descriptors there are among the shards.
fn connections_max(files: Option<u64>, shards: usize) -> usize {
    let Some(files) = files else { return CONNECTIONS_MAX };
    let each = (files - FILES_KEPT.min(files / 2)) / shards.max(1) as u64;
    usize::try_from(each).map_or(CONNECTIONS_MAX, |each| each.min(CONNECTIONS_MAX))
}

/// What reaches a shard from other threads.
pub(super) struct Post {
    inner: Mutex<Inbox>,
    wake: OwnedFd,
    stop: AtomicBool,
    /// Programs that follow: the switches, the flags.
    followers: [AtomicU64; 2],
}

#[derive(Default)]
struct Inbox {
    streams: Vec<TcpStream>,
    given: Option<Arc<Given>>,
    answers: Vec<(u64, u16, Vec<u8>)>,
}

impl Post {
    pub(super) fn new() -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { inner: Mutex::default(), wake, stop: AtomicBool::new(false), followers: Default::default() })
    }

    /// Says what is given from now on, or that it is still the same.
    pub(super) fn say(&self, given: &Arc<Given>) {
        self.inbox().given = Some(Arc::clone(given));
        self.ring();
    }

    /// Answers a client that waits.
    pub(super) fn answer(&self, token: u64, status: u16, body: Vec<u8>) {
        self.inbox().answers.push((token, status, body));
        self.ring();
    }

    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        self.ring();
    }

    /// Gives how many follow the switches, and the flags.
    pub(super) fn followers(&self) -> [u64; 2] {
        self.followers.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    fn count(&self, kind: Kind, by: u64) {
        let which = match kind {
            Kind::Switches => 0,
            Kind::Events => 1,
            Kind::Requests => return,
        };
        self.followers[which].fetch_add(by, Ordering::Relaxed);
    }

    fn pass(&self, stream: TcpStream) {
        self.inbox().streams.push(stream);
        self.ring();
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        // Lists have no broken state in between.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) {
        // A counter that is full rings all the same.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }
}

/// What is given now, for all shards: set before anybody is told, so that whoever asks because it was told gets the new.
pub(super) struct Current {
    turn: AtomicU64,
    given: Mutex<Arc<Given>>,
}

impl Current {
    pub(super) fn new(given: Arc<Given>) -> Self {
        Self { turn: AtomicU64::new(0), given: Mutex::new(given) }
    }

    pub(super) fn set(&self, given: &Arc<Given>) {
        *self.lock() = Arc::clone(given);
        self.turn.fetch_add(1, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Given>> {
        // A pointer has no broken state in between.
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One thread's share.
pub(super) struct Shard {
    pub(super) number: usize,
    epoll: OwnedFd,
    posts: Vec<Arc<Post>>,
    listener: Option<TcpListener>,
    listening: bool,
    next: usize,
    current: Arc<Current>,
    given: Arc<Given>,
    /// The turn that `given` is of.
    turn: u64,
    /// The flags that followers were told of.
    told: Digest,
    /// When the board said it last.
    said: Instant,
    connections_max: usize,
    connections: Vec<Option<Connection>>,
    /// Counts the connections that a place had, so that news of one are not taken for another's.
    turns: Vec<u32>,
    free: Vec<usize>,
    asks: Sender<Ask>,
    token: Option<Arc<str>>,
}

impl Shard {
    /// Makes a shard; the one with the listener takes connections for all.
    pub(super) fn new(
        number: usize,
        posts: Vec<Arc<Post>>,
        listener: Option<TcpListener>,
        current: Arc<Current>,
        (asks, token): (Sender<Ask>, Option<Arc<str>>),
    ) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &posts[number].wake, epoll::EventData::new_u64(WAKE), epoll::EventFlags::IN)?;
        let given = Arc::clone(&current.lock());
        let connections_max = connections_max(getrlimit(Resource::Nofile).current, posts.len());
        let mut shard = Self {
            number,
            epoll,
            posts,
            listener,
            listening: false,
            next: 0,
            current,
            told: given.version,
            given,
            turn: 0,
            said: Instant::now(),
            connections_max,
            connections: Vec::new(),
            turns: Vec::new(),
            free: Vec::new(),
            asks,
            token,
        };
        shard.listen()?;
        Ok(shard)
    }

    fn listen(&mut self) -> io::Result<()> {
        if let (Some(listener), false) = (&self.listener, self.listening) {
            epoll::add(&self.epoll, listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
            self.listening = true;
        }
        Ok(())
    }

    /// Serves until it is stopped.
    ///
    /// Errors: the system no longer lets it wait.
    pub(super) fn run(mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        let mut sweep = Instant::now() + SWEEP_EVERY;
        let longest = Timespec { tv_sec: 1, tv_nsec: 0 };
        loop {
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&longest)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let mut woken = false;
            for event in &events {
                match event.data.u64() {
                    // New connections come last: a place that is left in this round must not be taken in it.
                    WAKE | LISTENER => woken = true,
                    place => self.serve(place, event.flags),
                }
            }
            if self.posts[self.number].stop.load(Ordering::SeqCst) {
                return Ok(());
            }
            if woken {
                self.take_post();
                self.accept();
            }
            let now = Instant::now();
            if now >= sweep {
                sweep = now + SWEEP_EVERY;
                self.sweep(now);
            }
        }
    }

    fn accept(&mut self) {
        for _ in 0..ACCEPTS_MAX {
            let Some(listener) = self.listener.as_ref().filter(|_| self.listening) else { return };
            match listener.accept() {
                Ok((stream, _)) => {
                    let shard = self.next % self.posts.len();
                    self.next += 1;
                    if shard == self.number { self.enter(stream) } else { self.posts[shard].pass(stream) }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(_) => {
                    // For want of files as a rule: the next sweep tries again, instead of this thread all the time.
                    if epoll::delete(&self.epoll, listener).is_ok() {
                        self.listening = false;
                    }
                    return;
                }
            }
        }
    }

    fn enter(&mut self, stream: TcpStream) {
        let full = self.connections.len() - self.free.len() >= self.connections_max;
        if full || stream.set_nonblocking(true).is_err() || stream.set_nodelay(true).is_err() {
            return;
        }
        let place = self.free.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.turns.push(0);
            self.connections.len() - 1
        });
        let data = epoll::EventData::new_u64(self.name(place));
        let flags = epoll::EventFlags::IN | epoll::EventFlags::RDHUP;
        match epoll::add(&self.epoll, &stream, data, flags) {
            Ok(()) => self.connections[place] = Some(Connection::new(stream)),
            Err(_) => self.free.push(place),
        }
    }

    fn name(&self, place: usize) -> u64 {
        (u64::from(self.turns[place]) << 32) | place as u64
    }

    /// Finds the place that was meant, if the same connection still has it.
    fn place_of(&self, name: u64) -> Option<usize> {
        let place = (name & u64::from(u32::MAX)) as usize;
        let same = self.turns.get(place).is_some_and(|turn| u64::from(*turn) == name >> 32);
        (same && self.connections[place].is_some()).then_some(place)
    }

    fn leave(&mut self, place: usize) {
        if let Some(connection) = self.connections[place].take() {
            self.posts[self.number].count(connection.kind(), 1_u64.wrapping_neg());
            // Closing takes it out of epoll as well; nobody else has this socket.
            drop(connection);
            // 31 bits, so that no name is one of those above.
            self.turns[place] = (self.turns[place] + 1) & (u32::MAX >> 1);
            self.free.push(place);
        }
    }

    fn serve(&mut self, name: u64, flags: epoll::EventFlags) {
        let Some(place) = self.place_of(name) else { return };
        let Some(connection) = &mut self.connections[place] else { return };
        let mut flow = if flags.intersects(epoll::EventFlags::OUT) { connection.flush() } else { Flow::Stays };
        let readable = epoll::EventFlags::IN | epoll::EventFlags::RDHUP;
        if flow == Flow::Stays && flags.intersects(readable) {
            flow = connection.read();
        }
        if flags.intersects(epoll::EventFlags::HUP | epoll::EventFlags::ERR) {
            flow = Flow::Ends;
        }
        if flow == Flow::Stays {
            flow = self.requests(place);
        }
        self.settle(place, flow);
    }

    /// Answers the requests that lie in a connection's buffer.
    fn requests(&mut self, place: usize) -> Flow {
        let name = self.name(place);
        let turn = self.current.turn.load(Ordering::Acquire);
        if turn != self.turn {
            self.turn = turn;
            self.given = Arc::clone(&self.current.lock());
        }
        // A board that can't look must not lend a lease to those who come again and again.
        let fresh = self.said.elapsed() <= self.given.lease / 2;
        let Some(connection) = &mut self.connections[place] else { return Flow::Ends };
        loop {
            let mut any = false;
            loop {
                let (given, token) = (&self.given, self.token.as_deref());
                let then = connection.next(|request, out| answer(request, given, (fresh, token), out));
                let Some(then) = then else { break };
                any = true;
                match then {
                    Then::Answered => {}
                    Then::Switches => {
                        self.posts[self.number].count(Kind::Switches, 1);
                        connection.become_stream(Kind::Switches, Some(&given.switches_event).filter(|_| fresh));
                    }
                    // Whoever comes is told to evaluate: what it knows may be from before.
                    Then::Events => {
                        self.posts[self.number].count(Kind::Events, 1);
                        connection.become_stream(Kind::Events, Some(&given.refetch_event));
                    }
                    Then::Trip(switch, reason) => {
                        let from = Asker { shard: self.number, token: name };
                        if self.asks.send(Ask::Trip { switch, reason, from }).is_err() {
                            return Flow::Ends;
                        }
                    }
                }
            }
            if connection.flush() == Flow::Ends || connection.is_finished() {
                return Flow::Ends;
            }
            // Requests may wait that had no room for their answers before.
            if !any || !connection.is_written() {
                return Flow::Stays;
            }
        }
    }

    fn settle(&mut self, place: usize, flow: Flow) {
        let Some(connection) = &mut self.connections[place] else { return };
        if flow == Flow::Ends {
            return self.leave(place);
        }
        if let Some(interest) = connection.interest_changed() {
            let mut flags = epoll::EventFlags::empty();
            if interest.read {
                flags |= epoll::EventFlags::IN | epoll::EventFlags::RDHUP;
            }
            if interest.write {
                flags |= epoll::EventFlags::OUT;
            }
            let data = epoll::EventData::new_u64((u64::from(self.turns[place]) << 32) | place as u64);
            if epoll::modify(&self.epoll, connection.socket().as_fd(), data, flags).is_err() {
                self.leave(place);
            }
        }
    }

    fn take_post(&mut self) {
        let post = Arc::clone(&self.posts[self.number]);
        let mut counter = [0; 8];
        // Nothing to read means that somebody has read it already.
        let _ = rustix::io::read(&post.wake, &mut counter);
        let Inbox { streams, given, answers } = std::mem::take(&mut *post.inbox());
        if let Some(given) = given {
            self.say(given);
        }
        for (token, status, body) in answers {
            let Some(place) = self.place_of(token) else { continue };
            let Some(connection) = &mut self.connections[place] else { continue };
            let keep = connection.stop_waiting();
            Answer { status, tag: None, keep }.write(connection.out(), |out| out.extend_from_slice(&body));
            let flow = self.requests(place);
            self.settle(place, flow);
        }
        for stream in streams {
            self.enter(stream);
        }
    }

    /// Writes what is given to all who follow it. The switches' stream is told even if it is the same: that is the beat.
    fn say(&mut self, given: Arc<Given>) {
        let flags_changed = given.version != self.told;
        self.told = given.version;
        self.said = Instant::now();
        for place in 0..self.connections.len() {
            let Some(connection) = &mut self.connections[place] else { continue };
            let flow = match connection.kind() {
                Kind::Switches => connection.push(&given.switches_event),
                Kind::Events if flags_changed => connection.push(&given.refetch_event),
                Kind::Events => connection.comment(),
                Kind::Requests => continue,
            };
            self.settle(place, flow);
        }
    }

    /// Ends what idles, and looks for new connections again.
    fn sweep(&mut self, now: Instant) {
        if self.listen().is_err() {
            self.listening = false;
        }
        for place in 0..self.connections.len() {
            if self.connections[place].as_ref().is_some_and(|connection| connection.is_over(now)) {
                self.leave(place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::connections_max;

    #[test]
    fn all_shards_together_leave_descriptors_for_what_goes_back() {
        assert_eq!(connections_max(Some(65_536), 2), 20_000);
        assert_eq!(connections_max(Some(65_536), 4), 16_128);
        assert_eq!(connections_max(Some(256), 2), 64);
        assert_eq!(connections_max(Some(1), 4), 0);
        assert_eq!(connections_max(None, 4), 20_000);
    }
}
