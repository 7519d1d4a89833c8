//! What is written to the chain `signals`. As with a service's events, variants and fields are only added.

use crate::{
    notice::Severity,
    terms::{Actor, SignalName, Timestamp},
};
use alloc::string::String;
use serde::{Deserialize, Serialize};

/// One entry of the chain as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Version of the format; now [`Record::VERSION`].
    pub v: u16,
    /// When it was decided.
    pub at: Timestamp,
    /// Who caused it.
    pub by: Actor,
    /// What happened.
    pub event: Event,
}

impl Record {
    /// The version written today.
    pub const VERSION: u16 = 1;
}

/// A change of what a signal says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Event {
    /// It began to fire.
    Fired {
        /// Which.
        signal: SignalName,
        /// How urgent it is.
        severity: Severity,
        /// The numbers.
        why: String,
    },
    /// It could not be told for long.
    WentSilent {
        /// Which.
        signal: SignalName,
        /// How urgent it is.
        severity: Severity,
        /// Since when.
        since: Timestamp,
        /// What is missing.
        why: String,
    },
    /// All is well again.
    Cleared {
        /// Which.
        signal: SignalName,
        /// The numbers.
        why: String,
    },
    /// It is no longer configured.
    Forgotten {
        /// Which.
        signal: SignalName,
    },
    /// The evidence went on after it had turned out not to be the one that was signed.
    RewindAcknowledged {
        /// Why.
        reason: String,
    },
}
