//! Answers flags and tells of switches: OpenFeature's remote evaluation protocol, and a stream that ends in a safe state.
//!
//! One board reads and writes the evidence; some shards have the connections. Between them go ready-made bytes.

mod answer;
mod board;
mod connection;
mod context;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod given;
mod http;
mod shard;
#[cfg(test)]
mod tests;

pub use board::{Bell, RoutersTold, Setting, Tell};

use crate::serve::{ServeError, check_loopback};
use board::{Ask, Board};
use lastgood_domain::failure::{Coded, Failure};
use shard::{Current, Post, Shard};
use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
};

/// Threads that have the connections: more than cores only take turns.
const SHARDS_MAX: usize = 4;

/// Why nobody is told of switches.
#[derive(Debug, thiserror::Error)]
pub enum SwitchesError {
    /// The address or a thread can't be had.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The chain can't be read.
    #[error("the switches can't be read: {}", .0.message)]
    Unread(Failure),
}

impl Coded for SwitchesError {
    fn code(&self) -> &'static str {
        match self {
            Self::Serve(inner) => inner.code(),
            Self::Unread(_) => "switches-unread",
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Serve(inner) => inner.hint(),
            Self::Unread(failure) => failure.hint.clone(),
        }
    }
}

/// Answers until it is dropped.
pub struct SwitchServer {
    address: SocketAddr,
    bell: Bell,
    posts: Vec<Arc<Post>>,
    threads: Vec<JoinHandle<()>>,
}

impl SwitchServer {
    /// Gives the address it answers on.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Gives what counts the programs that follow it.
    pub fn followers(&self) -> Followers {
        Followers(self.posts.clone())
    }

    /// Gives what rings it when something was written.
    pub fn bell(&self) -> Bell {
        self.bell.clone()
    }
}

/// Counts the programs that follow a server.
#[derive(Clone)]
pub struct Followers(Vec<Arc<Post>>);

impl Followers {
    /// Gives how many follow the switches, and how many the flags.
    pub fn count(&self) -> [u64; 2] {
        let each = self.0.iter().map(|post| post.followers());
        each.fold([0; 2], |[switches, flags], [more, others]| [switches + more, flags + others])
    }
}

impl Drop for SwitchServer {
    fn drop(&mut self) {
        // A board that has gone home needs no word.
        let _ = self.bell.0.send(Ask::Stop);
        for post in &self.posts {
            post.stop();
        }
        for thread in self.threads.drain(..) {
            // A thread that panicked has stopped as well.
            let _ = thread.join();
        }
    }
}

/// Answers flags and tells of switches on `listener` until the server is dropped.
///
/// Errors: the address is not loopback; the chain can't be read; no thread can be had.
pub fn serve_switches(listener: TcpListener, setting: Setting) -> Result<SwitchServer, SwitchesError> {
    let starting = |source: io::Error| SwitchesError::Serve(ServeError::Start { source });
    let address = listener.local_addr().map_err(starting)?;
    check_loopback(address)?;
    listener.set_nonblocking(true).map_err(starting)?;
    let count = thread::available_parallelism().map_or(1, usize::from).min(SHARDS_MAX);
    let posts = (0..count).map(|_| Post::new().map(Arc::new)).collect::<io::Result<Vec<_>>>().map_err(starting)?;
    let (asks, asked) = mpsc::channel();
    let token = setting.token.as_deref().map(Arc::from);
    let mut board = Board::new(setting, posts.clone(), asks.clone());
    let given = board.first().map_err(SwitchesError::Unread)?;
    let current = Arc::new(Current::new(Arc::clone(&given)));
    let mut server = SwitchServer { address, bell: Bell(asks.clone()), posts: posts.clone(), threads: Vec::new() };
    let mut listener = Some(listener);
    for number in 0..count {
        let with = (asks.clone(), token.clone());
        let shard = Shard::new(number, posts.clone(), listener.take(), Arc::clone(&current), with).map_err(starting)?;
        // A shard ends early only if the system fails; its clients then run out of their lease.
        let thread = thread::Builder::new().name(format!("switches-{number}")).spawn(move || drop(shard.run()));
        server.threads.push(thread.map_err(starting)?);
    }
    let thread = thread::Builder::new().name("switch-board".into()).spawn(move || board.run(&asked, &current, given));
    server.threads.push(thread.map_err(starting)?);
    Ok(server)
}
