//! How often things happened over a whole chain, so that a restart of ours sets no count back.

use crate::{
    event::{Cause, End, Event},
    terms::InstanceName,
};
use alloc::collections::BTreeMap;
use serde::{Deserialize, Serialize};

/// Counts over all records of a chain: each record is counted once, whoever folds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Runs by their end.
    pub runs: BTreeMap<RunEnd, u64>,
    /// Rollbacks begun, by their cause.
    pub rollbacks: BTreeMap<RollbackCause, u64>,
    /// Unasked ends of each instance's process.
    pub deaths: BTreeMap<InstanceName, u64>,
}

impl Totals {
    /// Counts one more event.
    pub(crate) fn count(&mut self, event: &Event) {
        match event {
            Event::RunEnded { end, .. } => *self.runs.entry(end.into()).or_default() += 1,
            Event::ReturnBegun { cause, .. } => *self.rollbacks.entry(cause.into()).or_default() += 1,
            Event::Died { instance, .. } => *self.deaths.entry(instance.clone()).or_default() += 1,
            _ => {}
        }
    }
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// All of them, in the order they are listed.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Gives the label's value.
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }
    };
}

words! {
    /// How a run ended, without the details.
    RunEnd {
        /// A release became last-good.
        Promoted = "promoted",
        /// Nothing newer.
        UpToDate = "up-to-date",
        /// A dry run passed.
        Rehearsed = "rehearsed",
        /// No instance could move yet.
        Waiting = "waiting",
        /// A hold or the freeze file.
        Held = "held",
        /// A gate refused.
        Refused = "refused",
        /// Failed before anything moved.
        Stopped = "stopped",
        /// The control failed.
        GateBroken = "gate-broken",
        /// The candidate failed its rehearsal.
        RehearsalFailed = "rehearsal-failed",
        /// Went back.
        RolledBack = "rolled-back",
        /// Could not go back everywhere.
        RollbackFailed = "rollback-failed",
        /// A restore waits for a person.
        RollbackHeld = "rollback-held",
        /// A rollback took over.
        Superseded = "superseded",
        /// The release that stood by is stopped.
        Cooled = "cooled",
        /// Nobody could tell whether it passes a required gate.
        Unproven = "unproven",
    }
}

words! {
    /// Why instances went back, without the details.
    RollbackCause {
        /// The candidate failed.
        Candidate = "candidate",
        /// The machine failed.
        Machine = "machine",
        /// Users' outcomes turned bad.
        Broken = "broken",
        /// The guards found it broken.
        Guard = "guard",
        /// A required gate failed between two shares.
        Gate = "gate",
        /// The router did not take its table.
        Router = "router",
        /// A person asked.
        Asked = "asked",
        /// A pin.
        Pinned = "pinned",
        /// A hold or rejection came half-way.
        Halted = "halted",
    }
}

impl From<&End> for RunEnd {
    fn from(end: &End) -> Self {
        match end {
            End::Promoted => Self::Promoted,
            End::UpToDate => Self::UpToDate,
            End::Rehearsed { .. } => Self::Rehearsed,
            End::Waiting { .. } => Self::Waiting,
            End::Held { .. } => Self::Held,
            End::Refused { .. } => Self::Refused,
            End::Stopped { .. } => Self::Stopped,
            End::GateBroken { .. } => Self::GateBroken,
            End::RehearsalFailed { .. } => Self::RehearsalFailed,
            End::RolledBack { .. } => Self::RolledBack,
            End::RollbackFailed { .. } => Self::RollbackFailed,
            End::RollbackHeld { .. } => Self::RollbackHeld,
            End::Superseded => Self::Superseded,
            End::Cooled => Self::Cooled,
            End::Unproven { .. } => Self::Unproven,
        }
    }
}

impl From<&Cause> for RollbackCause {
    fn from(cause: &Cause) -> Self {
        match cause {
            Cause::Candidate { .. } => Self::Candidate,
            Cause::Machine { .. } => Self::Machine,
            Cause::Broken { .. } => Self::Broken,
            Cause::Guard { .. } => Self::Guard,
            Cause::Gate { .. } => Self::Gate,
            Cause::Router { .. } => Self::Router,
            Cause::Asked { .. } => Self::Asked,
            Cause::Pinned { .. } => Self::Pinned,
            Cause::Halted { .. } => Self::Halted,
        }
    }
}
