//! The time one act may take, and the engine's wish to end it early: asked in every loop.

use super::{ChannelError, Context};
use crate::config_terms::Length;
use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

/// Ends an act when its time is over or the engine cancels it.
pub(crate) struct Deadline<'a> {
    what: String,
    limit: Length,
    at: Instant,
    context: &'a Context,
}

impl<'a> Deadline<'a> {
    /// Starts the clock for `what`.
    pub(crate) fn start(what: String, limit: Length, context: &'a Context) -> Self {
        Self { what, limit, at: Instant::now() + limit.duration(), context }
    }

    /// Gives the circumstances the act runs in.
    pub(crate) fn context(&self) -> &'a Context {
        self.context
    }

    /// Gives the time left; zero when it is over.
    pub(crate) fn left(&self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    /// Refuses to go on after the time or a cancel.
    pub(crate) fn check(&self) -> Result<(), ChannelError> {
        if self.context.cancelled.load(Ordering::Relaxed) {
            return Err(ChannelError::Cancelled { what: self.what.clone() });
        }
        if self.left().is_zero() { Err(self.over(String::new())) } else { Ok(()) }
    }

    /// Makes the error for an act whose time is over.
    pub(crate) fn over(&self, output: String) -> ChannelError {
        ChannelError::TimedOut { what: self.what.clone(), limit: self.limit.0, output }
    }
}
