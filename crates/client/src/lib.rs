//! Kill switches inside a program.
//!
//! A thread of its own follows the stream of `lastgood serve`; asking whether a switch is tripped is one atomic load. Until
//! the daemon was heard every switch is tripped; once it was not heard for the lease, each is as the configuration calls
//! safe. Nothing older than what was heard is ever taken. There are no dependencies.
//!
//! ```no_run
//! let switches = lastgood_client::Switches::connect("127.0.0.1:9465")?;
//! let auth = switches.switch("auth");
//! if auth.is_tripped() {
//!     // refuse
//! }
//! # Ok::<(), std::io::Error>(())
//! ```

mod follow;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod json;
mod message;
mod stream;
mod view;

pub use message::{Message, Safe, Told};
pub use view::View;

use follow::Shared;
use std::{
    io,
    net::{SocketAddr, ToSocketAddrs},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// How often [`Switches::wait_until_heard`] looks.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// The switches of one daemon, followed until this is dropped.
pub struct Switches {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// One switch; cheap to clone and to ask.
#[derive(Debug, Clone)]
pub struct Switch(Arc<AtomicBool>);

impl Switch {
    /// Tells whether what the switch names is blocked now: by itself, by the switch above all, or because nobody knows.
    #[inline]
    pub fn is_tripped(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl Switches {
    /// Begins to follow the daemon at `address`. Returns at once; a daemon that is not there yet is found later.
    ///
    /// Errors: the address can't be resolved, or the system has no thread left.
    pub fn connect(address: impl ToSocketAddrs) -> io::Result<Self> {
        let addresses: Vec<SocketAddr> = address.to_socket_addrs()?.collect();
        if addresses.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        }
        let shared = Arc::new(Shared::default());
        let follower = Arc::clone(&shared);
        let thread = thread::Builder::new().name("lastgood-switches".into()).spawn(move || {
            // Whatever ends this thread, what is not followed is blocked.
            let _last = follow::Closing(&follower);
            follow::follow(&follower, &addresses);
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Gives a switch by its name. One that the daemon doesn't know is tripped.
    pub fn switch(&self, name: &str) -> Switch {
        Switch(self.shared.register(name))
    }

    /// Gives the epoch that was heard last; it never falls.
    pub fn epoch(&self) -> Option<u64> {
        self.shared.epoch()
    }

    /// Tells whether the daemon was heard within the lease.
    pub fn is_in_contact(&self) -> bool {
        self.shared.is_in_contact(Instant::now())
    }

    /// Waits until the daemon was heard, for `time` at most; tells whether it was.
    pub fn wait_until_heard(&self, time: Duration) -> bool {
        let end = Instant::now() + time;
        while !self.is_in_contact() {
            if Instant::now() >= end {
                return false;
            }
            thread::sleep(LOOK_EVERY);
        }
        true
    }
}

impl Drop for Switches {
    fn drop(&mut self) {
        self.shared.stop();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has blocked everything already.
            let _ = thread.join();
        }
    }
}
