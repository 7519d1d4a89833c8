//! Ends a count that nobody waits for any more.

use super::error::StateError;
use rusqlite::{Connection, InterruptHandle};
use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

/// Says that nobody waits any more, once that is so.
#[derive(Default)]
pub(super) struct Stop {
    is_over: Arc<AtomicBool>,
    /// Ends the query that runs.
    query: Mutex<Option<InterruptHandle>>,
}

impl Stop {
    /// Makes one that ends what goes on once `is_over` is set.
    pub(super) fn when(is_over: Arc<AtomicBool>) -> Self {
        Self { is_over, query: Mutex::default() }
    }

    /// Has the queries of a connection ended as well.
    pub(super) fn reaches(&self, connection: &Connection) {
        *self.query.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection.get_interrupt_handle());
    }

    /// Ends what goes on. To be repeated until it has ended: a query that begins just now is not reached.
    pub(super) fn now(&self) {
        self.is_over.store(true, Ordering::SeqCst);
        if let Some(query) = self.query.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            query.interrupt();
        }
    }

    /// Errors: nobody waits any more.
    pub(super) fn check(&self) -> Result<(), StateError> {
        match self.is_over.load(Ordering::SeqCst) {
            true => Err(StateError::WorkerDied { how: "nobody waits for the count any more".into() }),
            false => Ok(()),
        }
    }
}
