//! Where an incident can stand, and the arrows between.

use serde::{Deserialize, Serialize};

/// How deep an incident goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Level {
    /// Code and configuration.
    L1,
    /// Schema and data as well.
    L2,
    /// Evidence and credentials as well.
    L3,
}

impl Level {
    /// Gives it as people type it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::L1 => "L1",
            Self::L2 => "L2",
            Self::L3 => "L3",
        }
    }
}

/// Where an incident stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Somebody said so.
    Declared,
    /// Holds are being confirmed where they are enforced.
    Freezing,
    /// What is done is being planned and approved.
    Planning,
    /// The plan runs.
    Executing,
    /// What is left behind is cleaned up.
    Cleaning,
    /// Gates are asked.
    Verifying,
    /// Every row of the unfreeze is true or signed off.
    UnfreezeReady,
    /// Holds are lifted one after the other and watched.
    Monitoring,
    /// Nothing is held; the analysis is owed.
    ClosedPendingRca,
    /// Over.
    Done,
    /// It was none.
    StoodDown,
}

impl State {
    /// Every state, in order.
    pub const ALL: [Self; 11] = [
        Self::Declared,
        Self::Freezing,
        Self::Planning,
        Self::Executing,
        Self::Cleaning,
        Self::Verifying,
        Self::UnfreezeReady,
        Self::Monitoring,
        Self::ClosedPendingRca,
        Self::Done,
        Self::StoodDown,
    ];

    /// Gives it as people read it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Declared => "declared",
            Self::Freezing => "freezing",
            Self::Planning => "planning",
            Self::Executing => "executing",
            Self::Cleaning => "cleaning",
            Self::Verifying => "verifying",
            Self::UnfreezeReady => "unfreeze-ready",
            Self::Monitoring => "monitoring",
            Self::ClosedPendingRca => "closed-pending-rca",
            Self::Done => "done",
            Self::StoodDown => "stood-down",
        }
    }

    /// Tells whether nothing comes after.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::StoodDown)
    }

    /// Tells whether there is an arrow from here to `to`.
    ///
    /// Forward one at a time; back to planning from wherever work may turn out to be more; standing down only before
    /// anything was executed, because what was executed has to be cleaned up and verified.
    pub const fn may_become(self, to: Self) -> bool {
        match self {
            Self::Declared => matches!(to, Self::Freezing | Self::StoodDown),
            Self::Freezing => matches!(to, Self::Planning | Self::StoodDown),
            Self::Planning => matches!(to, Self::Executing | Self::StoodDown),
            Self::Executing => matches!(to, Self::Cleaning | Self::Planning),
            Self::Cleaning => matches!(to, Self::Verifying | Self::Planning),
            Self::Verifying => matches!(to, Self::UnfreezeReady | Self::Cleaning | Self::Planning),
            Self::UnfreezeReady => matches!(to, Self::Monitoring | Self::Verifying | Self::Planning),
            Self::Monitoring => matches!(to, Self::ClosedPendingRca | Self::Verifying | Self::Planning),
            Self::ClosedPendingRca => matches!(to, Self::Done),
            Self::Done | Self::StoodDown => false,
        }
    }
}
