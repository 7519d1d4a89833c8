//! What a router counted within one second, release by release.

use super::{Again, Latency};
use crate::terms::Digest;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// One second of one service's traffic.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Slice {
    /// Seconds since 1970.
    pub second: u64,
    /// What each release answered; one that answered nothing may be left out.
    pub counts: Vec<(Digest, Counts)>,
}

impl Slice {
    /// Gives what a release answered.
    pub fn of(&self, release: &Digest) -> Option<&Counts> {
        self.counts.iter().find(|(digest, _)| digest == release).map(|(_, counts)| counts)
    }
}

/// What was counted of one release.
///
/// Each request counts once, at its end, for the release that it was first sent to: one that failed there and was
/// saved by another release counts as failed here.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Answers by class: 1xx (an upgrade), 2xx, 3xx, 4xx, 5xx.
    pub status: [u64; 5],
    /// Requests that got no whole answer: no connection, a time-out, a stream cut by the release.
    pub aborted: u64,
    /// Of all failed ones, how many were sent to another release.
    pub retried: u64,
    /// Of these, how many it answered.
    pub saved: u64,
    /// Of all requests, how many were lastgood's own.
    #[serde(skip_serializing_if = "is_zero")]
    pub synthetic: u64,
    /// Of all requests that did not fail, how many were answered by a fallback, as the table says what counts as one.
    #[serde(skip_serializing_if = "is_zero")]
    pub degraded: u64,
    /// Of all requests and tunnels that ended, those of people who had failed here and not been well since.
    #[serde(skip_serializing_if = "Again::is_none")]
    pub again: Again,
    /// Requests whose client went away before any answer; they count in nothing else.
    pub left: u64,
    /// Times from the request's arrival to the answer's first byte, of those that were answered.
    pub latency: Latency,
    /// The same of requests whose time is only known to be above the guard's limit or not.
    #[serde(skip_serializing_if = "Timed::is_none")]
    pub timed: Timed,
    /// People (sticky ids) not seen at this release within the last minute.
    pub people: u64,
    /// WebSocket tunnels opened.
    pub opened: u64,
    /// WebSocket tunnels that ended.
    pub closes: Closes,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over so")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Requests of which somebody else has measured the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Timed {
    /// Those that were answered.
    pub answered: u64,
    /// Of these, those that took longer than the guard's limit.
    pub slow: u64,
}

impl Timed {
    /// Tells whether there are none.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// How tunnels ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Closes {
    /// With a Close frame that names no error, or by the client.
    pub clean: u64,
    /// Cut by the release without a Close frame.
    pub cut: u64,
    /// With a Close frame of the release that names an error (1002, 1003, 1007 to 1011).
    pub errors: u64,
    /// Ended by the router at a drain's deadline, with 1012.
    pub drained: u64,
}

impl Counts {
    /// Gives the number of requests that came to an end.
    pub fn requests(&self) -> u64 {
        self.status.iter().sum::<u64>() + self.aborted
    }

    /// Gives how many of them failed by the release's fault: 5xx, no whole answer, a tunnel cut or closed with an error.
    pub fn failed(&self) -> u64 {
        self.status[4] + self.aborted + self.closes.cut + self.closes.errors
    }

    /// Gives how many requests and tunnels came to an end by themselves: what can fail.
    pub fn trials(&self) -> u64 {
        self.requests() + self.closes.clean + self.closes.cut + self.closes.errors
    }

    /// Adds all that another one counted.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.status.iter_mut().zip(other.status) {
            *mine += theirs;
        }
        self.aborted += other.aborted;
        self.retried += other.retried;
        self.saved += other.saved;
        self.synthetic += other.synthetic;
        self.degraded += other.degraded;
        self.again.merge(&other.again);
        self.left += other.left;
        self.latency.merge(&other.latency);
        self.timed.answered += other.timed.answered;
        self.timed.slow += other.timed.slow;
        self.people += other.people;
        self.opened += other.opened;
        self.closes.clean += other.closes.clean;
        self.closes.cut += other.closes.cut;
        self.closes.errors += other.closes.errors;
        self.closes.drained += other.closes.drained;
    }
}
