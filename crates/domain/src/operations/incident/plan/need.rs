//! What a step needs before it is tried, and what may go wrong with it.

use crate::terms::{ReleaseTag, ServiceName};
use alloc::{format, string::String};
use serde::{Deserialize, Serialize};

/// What must be so right before a step is first tried. What is not so, or what nobody can tell, stops the plan there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "needs", rename_all = "kebab-case")]
pub enum Precondition {
    /// A service can go back: each instance that moves can be reached, the release and the snapshots that it goes back to
    /// are whole, there is room, none is in use unless that was accepted, and whoever drives the service can be asked.
    WayBack {
        /// Which.
        service: ServiceName,
        /// The release.
        to: ReleaseTag,
    },
    /// A release is last-good of a service, and nothing of the service is on its way.
    AtRest {
        /// Which.
        service: ServiceName,
        /// The release.
        at: ReleaseTag,
    },
    /// What the runbook's step of this name asks.
    Asked {
        /// Its name.
        name: String,
    },
    /// The old secret of a credential is refused when it is tried, or two people's word stands for that.
    OldRefused {
        /// Its name in the configuration.
        name: String,
    },
    /// There is room for copies of all that is kept.
    Room,
}

impl Precondition {
    /// Says what must be so.
    pub fn says(&self) -> String {
        match self {
            Self::WayBack { service, to } => format!(
                "{to} is whole, each instance of {service} that moves can be reached, its snapshot and the room for it are \
                 there, and none is in use that was not accepted"
            ),
            Self::AtRest { service, at } => format!("{at} is last-good of {service}, and nothing of it is on its way"),
            Self::Asked { name } => format!("what {name} needs is so: its precondition is asked"),
            Self::OldRefused { name } => format!("the old {name} is tried once more and refused"),
            Self::Room => "there is room for the copies".into(),
        }
    }
}

/// How bad it is if a step goes wrong, or even if it does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RiskLevel {
    /// Nobody notices.
    Low,
    /// Some notice, for a short time.
    Moderate,
    /// Users lose something, or it stays. Who approves the plan is told the step's name.
    Severe,
}

impl RiskLevel {
    /// Gives it as people read it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Moderate => "moderate",
            Self::Severe => "severe",
        }
    }
}

/// What may go wrong with a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Risk {
    /// How bad that is.
    pub level: RiskLevel,
    /// What it is.
    pub what: String,
}

impl Risk {
    /// Says it in one line.
    pub fn says(&self) -> String {
        format!("{}: {}", self.level.as_str(), self.what)
    }
}
