//! The users: many real clients over one address, who notice whether a message is lost or comes twice.
//!
//! They are as good as clients should be: each comes back after a cut with the last number it had, and sends what was
//! not acknowledged once more under the same id. What they count is what they saw, before any repetition.

mod crowd;
mod listener;
mod poster;
mod tally;

pub use crowd::Crowd;
pub use tally::{Percentiles, Report};

use listener::Listener;
use poster::Poster;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tally::Tally;
use tokio::sync::watch;

/// After the last new message, what is on its way may take this long.
const FINISH: Duration = Duration::from_secs(20);
/// Waits between two tries to connect or to post: short at first, so that a cut of a moment costs a moment.
const AGAIN_FIRST: Duration = Duration::from_millis(10);
/// The longest wait between two tries.
const AGAIN_MAX: Duration = Duration::from_millis(300);
/// One request or handshake; longer is a failure that a user sees.
const REQUEST: Duration = Duration::from_secs(10);
/// Time in which a message that comes twice may come again before the count ends.
const LINGER: Duration = Duration::from_millis(300);

/// What is done, to whom, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Load {
    /// Where the service, or what stands before it, listens.
    pub address: SocketAddr,
    /// How many clients; every other one posts over its socket, the rest over HTTP, and all listen.
    pub clients: u32,
    /// How many rooms they are spread over; new ones for each run.
    pub rooms: u32,
    /// Messages of each client.
    pub messages: u64,
    /// No new message after this time.
    pub time: Duration,
    /// Between a client's acknowledgement and its next message.
    pub pause: Duration,
}

/// What all clients share.
struct Shared {
    load: Load,
    /// Tells this run's rooms and messages from others'.
    run: String,
    started: Instant,
    tally: Mutex<Tally>,
    /// Clients that still send.
    senders: AtomicU32,
    /// Becomes true when nobody shall send any more, whatever the load says.
    enough: Arc<AtomicBool>,
    /// Becomes true when nobody sends any more.
    all_sent: watch::Sender<bool>,
}

impl Shared {
    fn tally<T>(&self, change: impl FnOnce(&mut Tally) -> T) -> T {
        change(&mut self.tally.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Gives the text of a message sent now; what follows the time stands for what the server can't read.
    fn text(&self) -> String {
        format!("{} {}", self.started.elapsed().as_micros(), "9vK3mS0qLr".repeat(12))
    }

    /// Tells how long ago a text was made, in microseconds.
    fn age(&self, text: &str) -> Option<u32> {
        let made: u128 = text.split(' ').next()?.parse().ok()?;
        u32::try_from(self.started.elapsed().as_micros().saturating_sub(made)).ok()
    }

    fn may_send(&self, sent: u64) -> bool {
        sent < self.load.messages && self.started.elapsed() < self.load.time && !self.enough.load(Ordering::SeqCst)
    }

    /// The time at which even what is on its way is given up.
    fn gives_up(&self) -> Instant {
        self.started + self.load.time + FINISH
    }

    fn one_has_sent_all(&self) {
        if self.senders.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.all_sent.send_replace(true);
        }
    }
}

/// One client, as its two sides know it.
struct Person {
    shared: Arc<Shared>,
    number: u32,
    room: String,
    /// The one cookie it keeps, as `name=value`.
    cookie: Mutex<Option<String>>,
}

impl Person {
    fn cookie(&self) -> Option<String> {
        self.cookie.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps what an answer sets, and counts which release gave it.
    fn note_answer(&self, headers: &hyper::HeaderMap) {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        if let Some(pair) = text("set-cookie").and_then(|value| value.split(';').next()) {
            *self.cookie.lock().unwrap_or_else(PoisonError::into_inner) = Some(pair.trim().to_owned());
        }
        if let Some(release) = text("x-release") {
            self.shared.tally(|tally| *tally.releases.entry(release.to_owned()).or_default() += 1);
        }
    }
}

/// Lets the clients do their work and gives what they saw. Ends by itself, [`FINISH`] after `load.time` at the latest.
pub async fn run(load: Load) -> Report {
    run_until(load, Arc::default()).await
}

/// As [`run`]; no new message either once `enough` is true.
async fn run_until(load: Load, enough: Arc<AtomicBool>) -> Report {
    let (all_sent, told) = watch::channel(false);
    let shared = Arc::new(Shared {
        run: format!("{:08x}", getrandom::u32().unwrap_or(std::process::id())),
        started: Instant::now(),
        tally: Mutex::default(),
        senders: AtomicU32::new(load.clients),
        enough,
        all_sent,
        load: load.clone(),
    });
    let (mut posters, mut listeners) = (Vec::new(), Vec::new());
    for number in 0..load.clients {
        let person = Arc::new(Person {
            shared: Arc::clone(&shared),
            number,
            room: format!("load-{}-{}", shared.run, number % load.rooms.max(1)),
            cookie: Mutex::default(),
        });
        let posts_on_socket = number % 2 == 1;
        if !posts_on_socket {
            posters.push(tokio::spawn(Poster::new(Arc::clone(&person)).post_all()));
        }
        listeners.push(tokio::spawn(Listener::new(person, posts_on_socket, told.clone()).listen()));
    }
    for poster in posters {
        // A task that panicked has sent less than it should, and the count shows it.
        let _panicked = poster.await;
    }
    let mut heard = Vec::new();
    for listener in listeners {
        heard.push(listener.await.ok());
    }
    shared.tally(|tally| tally.report(&heard))
}
