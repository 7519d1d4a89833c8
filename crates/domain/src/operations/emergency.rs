//! Emergency disablement: what was done in one command, and how each act ended.

use crate::terms::Reason;
use alloc::{format, string::String, vec::Vec};
use serde::{Deserialize, Serialize};

/// One act of an emergency disablement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "kebab-case")]
pub enum Act {
    /// The switch above all others is tripped.
    TripAll,
    /// Every kind of change of every service is held.
    HoldAll,
    /// A command of the runbook, such as one that stops runners or agents.
    Command {
        /// Its name.
        name: String,
    },
    /// Every chain is checked against what was signed.
    VerifyEvidence,
    /// Chains and logs are copied apart.
    PreserveLogs,
}

impl Act {
    /// Says what is done.
    pub fn words(&self) -> String {
        match self {
            Self::TripAll => "trip the switch above all".into(),
            Self::HoldAll => "hold every change".into(),
            Self::Command { name } => format!("run {name}"),
            Self::VerifyEvidence => "verify the evidence".into(),
            Self::PreserveLogs => "keep chains and logs apart".into(),
        }
    }
}

/// How one act ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// What.
    pub act: Act,
    /// Whether it is so.
    pub done: bool,
    /// What was seen, or why it is not.
    pub says: String,
}

/// An emergency disablement, once all of it was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmergencyEvent {
    /// Why.
    pub reason: Reason,
    /// What was tried, in its order.
    pub rows: Vec<Row>,
}

impl EmergencyEvent {
    /// Gives how many acts failed.
    pub fn failed(&self) -> usize {
        self.rows.iter().filter(|row| !row.done).count()
    }
}
