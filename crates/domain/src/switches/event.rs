//! What is written to an environment's chain. As with a service's events, variants and fields are only added.

use super::Definition;
use crate::terms::{Actor, FlagKey, Reason, SwitchName, Timestamp};
use alloc::string::String;
use serde::{Deserialize, Serialize};

/// One entry of an environment's chain as it is written.
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

/// Something that happened to an environment's flags and switches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Event {
    /// A switch was tripped: what it names is blocked.
    Tripped {
        /// Which.
        switch: SwitchName,
        /// Why.
        reason: Reason,
    },
    /// Somebody asked for a reset that needs a second person.
    ResetRequested {
        /// Which switch.
        switch: SwitchName,
        /// Why.
        reason: Reason,
    },
    /// A switch was reset: what it names is open again.
    Reset {
        /// Which.
        switch: SwitchName,
        /// Why.
        reason: Reason,
        /// Who had asked for it, where a second person was needed; whoever wrote this record is the second.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        requested_by: Option<Actor>,
    },
    /// A flag was given values and rules. Whether it is on does not change by that.
    FlagSet {
        /// Which.
        flag: FlagKey,
        /// Everything about it.
        definition: Definition,
        /// Why.
        reason: Reason,
    },
    /// A flag was turned on.
    FlagTurnedOn {
        /// Which.
        flag: FlagKey,
        /// Why.
        reason: Reason,
    },
    /// A flag was turned off.
    FlagTurnedOff {
        /// Which.
        flag: FlagKey,
        /// Why.
        reason: Reason,
    },
    /// A flag was forgotten; if it is declared in the configuration it is off from here on.
    FlagRemoved {
        /// Which.
        flag: FlagKey,
        /// Why.
        reason: Reason,
    },
    /// The evidence went on after it had turned out not to be the one that was signed.
    RewindAcknowledged {
        /// Why.
        reason: String,
    },
}

impl Event {
    /// Tells whether it can only block and never open: then it is taken even where the record is in doubt.
    pub const fn only_blocks(&self) -> bool {
        matches!(self, Self::Tripped { .. } | Self::FlagTurnedOff { .. })
    }
}
