//! The questions asked before a step may run, and what they answer. Both are part of the log's format.

use serde::{Deserialize, Serialize};

/// A question asked before a step may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gate {
    /// Does a hold or a freeze file stand?
    Hold,
    /// Is it what the pin asks for?
    Pin,
    /// Is it of this channel?
    Channel,
    /// Was it rejected before?
    Rejected,
    /// Is it strictly newer than last-good?
    Newer,
    /// Are the bytes under this tag those seen before?
    Digest,
    /// Is the installed version the one asked for?
    Version,
    /// Is last-good's installation whole?
    WayBack,
    /// Does it come from where the service's policy says?
    Provenance,
    /// Is an analysis owed that nobody has accepted?
    Rca,
}

/// What a gate answers. Only pass moves forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Go on.
    Pass,
    /// Never this candidate.
    Fail,
    /// Not now.
    Hold,
    /// The question has no answer; never a yes.
    CannotTell,
}
