//! A load in threads of its own, for whoever does something else meanwhile.

use super::{Load, Report, run_until};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use tokio::runtime::Builder;

/// Threads that all clients of a crowd share: what they use is not left for the service.
const THREADS: usize = 2;

/// Clients that use a service until they are told to leave.
#[derive(Debug)]
pub struct Crowd {
    enough: Arc<AtomicBool>,
    thread: JoinHandle<Report>,
}

impl Crowd {
    /// Lets the clients come; they leave by themselves when the load is done.
    ///
    /// Errors: the system gives no thread.
    pub fn come(load: Load) -> std::io::Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(THREADS).enable_all().build()?;
        let enough = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&enough);
        let work = move || runtime.block_on(run_until(load, told));
        let thread = thread::Builder::new().name("crowd".into()).spawn(work)?;
        Ok(Self { enough, thread })
    }

    /// Lets no client send anything new, waits for what is on its way, and gives what they saw.
    ///
    /// A crowd that broke has seen nothing: its report does not hold.
    pub fn leave(self) -> Report {
        self.enough.store(true, Ordering::SeqCst);
        self.thread.join().unwrap_or_default()
    }
}
