//! How the daemon's other threads reach the sender: come now, or go home.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// A bell and a stop sign, shared by its clones.
#[derive(Debug, Clone, Default)]
pub struct Wake {
    inner: Arc<(Mutex<Signs>, Condvar)>,
}

#[derive(Debug, Default)]
struct Signs {
    rung: bool,
    stopped: bool,
}

impl Wake {
    /// Ends a pause now: something was enqueued.
    pub fn ring(&self) {
        self.signs().rung = true;
        self.inner.1.notify_all();
    }

    /// Ends the work: what is in flight is settled, nothing more is begun.
    pub fn stop(&self) {
        self.signs().stopped = true;
        self.inner.1.notify_all();
    }

    /// Tells whether it was stopped.
    pub fn is_stopped(&self) -> bool {
        self.signs().stopped
    }

    /// Pauses until it is rung or stopped, for `pause` at most. A ring during the work is not lost.
    pub fn wait(&self, pause: Duration) {
        let calm = |signs: &mut Signs| !signs.rung && !signs.stopped;
        let waited = self.inner.1.wait_timeout_while(self.signs(), pause, calm);
        waited.unwrap_or_else(PoisonError::into_inner).0.rung = false;
    }

    fn signs(&self) -> MutexGuard<'_, Signs> {
        // Two booleans have no broken state in between.
        self.inner.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
