//! The outbox: messages written with the records that cause them, sent later, at least once, in order.
//!
//! pending -> in-flight (leased) -> delivered | pending again (retry) | failed (dead) | parked (set aside).
//! A lease saves double work; correctness does not need it: the receiver knows a repeat by the message id,
//! and an answer to a lost lease is refused by its attempt number. Order holds per (endpoint, subject): only
//! the first unsettled message of such a line is ever due. Failed and parked ones no longer hold up their line.
//! How a line is kept stands in `line.rs`.

mod deliver;
mod enqueue;
mod line;
mod operate;
mod schedule;

pub use deliver::{Claimed, Outcome, Settled, Settlement};
pub(crate) use enqueue::{enqueue, message_id};
pub use operate::{Attempt, EndpointBacklog, NoticeRow, OutboxError};
pub use schedule::retry_delay;

use lastgood_domain::terms::TermError;
use rusqlite::{Connection, OptionalExtension};
use std::{fmt, str::FromStr};

/// Identifies a message for ever, on every attempt: the `webhook-id`, by which a receiver knows a repeat.
#[derive(Debug, Clone)]
pub struct MessageId {
    text: String,
    /// The number of its row, where it came from the store. Ids are not indexed: they are random, and each commit would
    /// write a page per message. A sender's ids come with their rows; for one that a person typed all are read.
    row: Option<i64>,
}

impl MessageId {
    fn of_row(text: String, row: i64) -> Self {
        Self { text, row: Some(row) }
    }

    /// Gives the text, such as `msg_0f3a…`: 32 hex digits, no dot.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Gives the number of the message's row.
    fn find(&self, connection: &Connection) -> rusqlite::Result<Option<i64>> {
        if let Some(row) = self.row {
            return connection
                .prepare_cached("SELECT n FROM notice WHERE n = ?1 AND message_id = ?2")?
                .query_row((row, &self.text), |row| row.get(0))
                .optional();
        }
        connection
            .prepare_cached("SELECT n FROM notice WHERE message_id = ?1 LIMIT 1")?
            .query_row([&self.text], |row| row.get(0))
            .optional()
    }
}

impl PartialEq for MessageId {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for MessageId {}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl FromStr for MessageId {
    type Err = TermError;

    fn from_str(text: &str) -> Result<Self, TermError> {
        let hex = text.strip_prefix("msg_").unwrap_or_default();
        if hex.len() == 32 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            Ok(Self { text: text.into(), row: None })
        } else {
            Err(TermError {
                what: "message id",
                text: text.chars().take(80).collect(),
                why: "write msg_ and 32 hex digits",
            })
        }
    }
}

/// Where a message stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NoticeState {
    /// Waits for its turn, or for its next attempt.
    Pending,
    /// Claimed by a sender until its lease ends.
    InFlight,
    /// Accepted by the receiver.
    Delivered,
    /// Dead: refused for good, or all attempts used. Kept and replayable.
    Failed,
    /// Set aside by an operator or because the receiver is gone. Kept and replayable.
    Parked,
}

impl NoticeState {
    /// Gives the word that is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::InFlight => "in-flight",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Parked => "parked",
        }
    }

    fn of(word: &str) -> Option<Self> {
        [Self::Pending, Self::InFlight, Self::Delivered, Self::Failed, Self::Parked]
            .into_iter()
            .find(|state| state.as_str() == word)
    }
}
