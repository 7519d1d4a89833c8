//! Clients at once, each a thread of its own, until they are told to end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

/// Clients that ask, and count what was answered and what failed.
pub(crate) struct Crowd {
    stop: Arc<AtomicBool>,
    /// How many answers came so far.
    pub(crate) done: Arc<AtomicU64>,
    threads: Vec<thread::JoinHandle<Vec<String>>>,
}

impl Crowd {
    /// Starts so many clients; each asks with what `client` gives for its number: how many answers came, or why none.
    pub(crate) fn start<Ask: FnMut() -> Result<u64, String>>(
        clients: u64,
        client: impl Fn(u64) -> Ask + Send + Copy + 'static,
    ) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads = (0..clients).map(|number| {
            let (stop, done) = (stop.clone(), done.clone());
            thread::spawn(move || {
                let (mut failed, mut ask) = (Vec::new(), client(number));
                while !stop.load(Ordering::Relaxed) {
                    match ask() {
                        Ok(count) => drop(done.fetch_add(count, Ordering::Relaxed)),
                        Err(error) => failed.push(error),
                    }
                }
                failed
            })
        });
        let threads = threads.collect();
        Self { stop, done, threads }
    }

    /// Gives how many answers came so far.
    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Ends it; gives the failures.
    pub(crate) fn end(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    }
}
