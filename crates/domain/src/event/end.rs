//! How a run ends, and why something goes back: the words of it are part of the log's format.

use super::{Gate, WayBack};
use crate::{
    facts::Outcomes,
    failure::Failure,
    terms::{Digest, InstanceName, ReleaseTag, SnapshotId, Timestamp},
    traffic::Share,
};
use alloc::{format, string::String, vec::Vec};
use serde::{Deserialize, Serialize};

/// Why instances go back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "kebab-case")]
pub enum Cause {
    /// The candidate failed where it ran for real.
    Candidate {
        /// On which instance.
        instance: InstanceName,
        /// What was seen.
        failure: Failure,
    },
    /// The machine failed, not the candidate; nothing is rejected.
    Machine {
        /// On which instance.
        instance: InstanceName,
        /// What was seen.
        failure: Failure,
    },
    /// Users' outcomes turned bad while the release was watched.
    Broken {
        /// What was counted.
        outcomes: Outcomes,
    },
    /// The guards found it broken while users were on it.
    Guard {
        /// Its share at that time.
        share: Share,
        /// The numbers.
        because: String,
    },
    /// A required gate that had passed it fails it now, and passes last-good.
    Gate {
        /// Its share at that time; none before the first.
        share: Share,
        /// Which gates, and their numbers.
        because: String,
    },
    /// The router did not take its table; nothing is said about the release.
    Router {
        /// Why.
        failure: Failure,
    },
    /// A person asked.
    Asked {
        /// Why.
        reason: String,
    },
    /// The pin names an older release that these instances came from.
    Pinned {
        /// The pinned release.
        tag: ReleaseTag,
    },
    /// A hold or a rejection came while instances were stopped on their way forward.
    Halted {
        /// What stands in the way.
        because: String,
    },
}

impl Cause {
    /// Tells whether the release that is left is to blame, and so rejected.
    pub const fn blames_release(&self) -> bool {
        match self {
            Self::Candidate { .. }
            | Self::Broken { .. }
            | Self::Guard { .. }
            | Self::Gate { .. }
            | Self::Asked { .. } => true,
            Self::Machine { .. } | Self::Router { .. } | Self::Pinned { .. } | Self::Halted { .. } => false,
        }
    }
}

impl Cause {
    /// Tells whether nothing is wrong with what is left, and no person said so by name: who is in use is not stopped for it.
    pub const fn can_wait(&self) -> bool {
        matches!(self, Self::Pinned { .. })
    }
}

/// One instance's way back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Back {
    /// Which instance.
    pub instance: InstanceName,
    /// What it runs afterwards; `None` is stopped.
    pub to: Option<Digest>,
    /// The snapshot that belongs to `to`, if one was taken when it was left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotId>,
    /// Whether the data goes back from the start.
    pub with_data: bool,
    /// When the data began to differ from the snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

/// Why an instance is left for later: who can change it depends on that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeferReason {
    /// Somebody uses it.
    Busy,
    /// Its busy check could not tell.
    CannotTell,
    /// Its data is of another release than what was rehearsed on.
    Unrehearsed,
    /// Anything else; a log from before reasons were kept says only this.
    #[default]
    Other,
}

impl DeferReason {
    /// Tells whether it is of no kind of its own.
    pub const fn is_other(&self) -> bool {
        matches!(self, Self::Other)
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "kebab-case")]
pub enum End {
    /// A hold or freeze file stands; nothing more was done.
    Held {
        /// What holds.
        because: String,
        /// Who had moved by then, and stays.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        moved: Vec<InstanceName>,
        /// Whether the traffic had a share on the candidate by then, or it was being started, and went back.
        #[serde(default, skip_serializing_if = "core::ops::Not::not")]
        went_back: bool,
    },
    /// The channel offers nothing newer and no instance is behind.
    UpToDate,
    /// A gate refused the candidate.
    Refused {
        /// Which gate.
        gate: Gate,
        /// Why.
        because: String,
    },
    /// Something failed before anything moved.
    Stopped {
        /// What.
        failure: Failure,
    },
    /// The control failed: the gate is broken, nothing is rejected.
    GateBroken {
        /// What was seen.
        failure: Failure,
    },
    /// The candidate failed its rehearsal and is rejected.
    RehearsalFailed {
        /// What was seen.
        failure: Failure,
    },
    /// A dry run passed.
    Rehearsed {
        /// How the release could be left again.
        way_back: WayBack,
    },
    /// Every instance that could move did, and last-good is the candidate.
    Promoted,
    /// No instance could move yet.
    Waiting {
        /// What is awaited.
        because: String,
    },
    /// Back on the release from before, with its data.
    RolledBack {
        /// Why.
        cause: Cause,
    },
    /// At least one instance is neither here nor there.
    RollbackFailed {
        /// Which.
        instances: Vec<InstanceName>,
    },
    /// At least one restore waits for a person, because it would lose too much.
    RollbackHeld {
        /// Which.
        instances: Vec<InstanceName>,
    },
    /// A rollback took over.
    Superseded,
    /// The release that stood by is stopped.
    Cooled,
    /// Nobody can tell whether a required gate or preflight says yes; nothing was moved.
    Unproven {
        /// Which gate.
        #[serde(default = "Gate::required", skip_serializing_if = "Gate::is_required")]
        gate: Gate,
        /// Which gates, and what is missing.
        because: String,
    },
}

impl End {
    /// Says why the channel's offer was not taken, in one line.
    pub fn because(&self) -> String {
        match self {
            Self::Held { because, .. } | Self::Waiting { because } => because.clone(),
            Self::Refused { because, .. } | Self::Unproven { because, .. } => because.clone(),
            Self::Stopped { failure } => format!("{failure}"),
            Self::GateBroken { failure } => format!("the gate is broken: {failure}"),
            Self::RehearsalFailed { failure } => format!("the rehearsal failed: {failure}"),
            Self::RolledBack { cause } => match cause {
                Cause::Candidate { instance, failure } => format!("{instance} failed: {}", failure.about(instance)),
                Cause::Machine { instance, failure } => format!("{instance}: {}", failure.about(instance)),
                Cause::Broken { outcomes: of } => {
                    format!("{} of {} outcomes were broken", of.broken, of.good + of.degraded + of.broken)
                }
                Cause::Guard { share, because } => format!("at {share} of the traffic: {because}"),
                Cause::Gate { share: Share::NONE, because } => {
                    format!("before its first share a required gate failed: {because}")
                }
                Cause::Gate { share, because } => {
                    format!("at {share} of the traffic a required gate failed: {because}")
                }
                Cause::Router { failure } => format!("the router: {failure}"),
                Cause::Asked { reason } => reason.clone(),
                Cause::Pinned { tag } => format!("pinned to {tag}"),
                Cause::Halted { because } => because.clone(),
            },
            Self::RollbackFailed { .. } => "a rollback failed".into(),
            Self::RollbackHeld { .. } => "a restore waits for a person".into(),
            Self::UpToDate | Self::Promoted | Self::Rehearsed { .. } | Self::Superseded | Self::Cooled => String::new(),
        }
    }
}
