//! What the engine is told to make so, and what comes back.
//!
//! An effect is an order with an id: doing it twice is the same as once, and an answer to an order that is
//! no longer outstanding is refused by its id. Effects and answers are part of events, so their form only
//! ever grows.

use crate::{
    facts::{
        Busyness, Installation, KeptFlag, Loss, Offer, ProbeFacts, RehearsalFacts, RestoreFacts, ResumeFacts,
        SnapshotFacts, Standing,
    },
    failure::Failure,
    gate::GateFacts,
    provenance::Provenance,
    terms::{Digest, FlagKey, GateName, InstanceName, ReleaseTag, RunId, SnapshotId, Span, SwitchName},
    traffic::Route,
};
use alloc::{boxed::Box, string::String, vec::Vec};
use serde::{Deserialize, Serialize};

/// Something to make so outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Effect {
    /// Ask the channel what it offers: the newest, or exactly `tag`.
    Check {
        /// The exact release wanted, when pinned.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tag: Option<ReleaseTag>,
        /// Releases left out of the question: the newest but these.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        except: Vec<ReleaseTag>,
    },
    /// Install the offer beside the others.
    Install {
        /// What to install.
        offer: Offer,
    },
    /// Verify by digest that an installation is still what was installed.
    Verify {
        /// Whose installation.
        release: Digest,
    },
    /// Ask a gate of the configuration about the candidate, and about last-good if it does not pass.
    AskGate {
        /// Which gate.
        gate: GateName,
        /// The candidate.
        release: Digest,
        /// Last-good, if there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        control: Option<Digest>,
    },
    /// Copy the instance's state while it runs, and verify the copy.
    Snapshot {
        /// Whose state.
        instance: InstanceName,
        /// The copy's id and folder name.
        snapshot: SnapshotId,
    },
    /// Start a throwaway instance on a copy of `snapshot`, probe it, stop it.
    Rehearse {
        /// Whose data is copied.
        instance: InstanceName,
        /// The golden copy.
        snapshot: SnapshotId,
        /// What is started.
        release: Digest,
        /// Which of the four tries this is.
        leg: Leg,
    },
    /// Remove the rehearsal's copies.
    ClearRehearsal,
    /// Ask whether the instance is in use.
    AskBusy {
        /// Which instance.
        instance: InstanceName,
    },
    /// Stop the instance and close it, so that nothing else starts it.
    Stop {
        /// Which instance.
        instance: InstanceName,
    },
    /// Copy the state of the stopped instance.
    SnapshotStopped {
        /// Whose state.
        instance: InstanceName,
        /// The copy's id and folder name.
        snapshot: SnapshotId,
    },
    /// Start the instance from `release`'s installation, which is verified by digest first.
    Start {
        /// Which instance.
        instance: InstanceName,
        /// What it runs from now on.
        release: Digest,
    },
    /// Probe the instance through its real front door.
    Probe {
        /// Which instance.
        instance: InstanceName,
        /// What it should be running.
        release: Digest,
    },
    /// Count what a restore of `snapshot` would drop.
    Measure {
        /// Which stopped instance.
        instance: InstanceName,
        /// What would be put back.
        snapshot: SnapshotId,
    },
    /// Put `snapshot` back; the newer data is kept aside.
    Restore {
        /// Which stopped instance.
        instance: InstanceName,
        /// What to put back.
        snapshot: SnapshotId,
    },
    /// Copy `snapshot` beside the instance's data, so that a restore moves it into place instead of copying it.
    LayReady {
        /// Whose way back.
        instance: InstanceName,
        /// What a restore would put back.
        snapshot: SnapshotId,
    },
    /// Tell the router who gets whose share, and wait until it confirms.
    Route {
        /// The whole of it; it replaces what was told before.
        route: Route,
    },
    /// Prove that sessions dropped at one release can be resumed at the other, both ways, and no message is lost or doubled.
    TryResume {
        /// The candidate.
        candidate: Digest,
        /// What serves today.
        last_good: Digest,
    },
    /// Turn on the flags that a release brings; one that is on already is left as it is and is not the run's.
    TurnOn {
        /// The run they belong to from then on.
        run: RunId,
        /// Which.
        flags: Vec<FlagKey>,
    },
    /// Turn off what a run has turned on, unless somebody else has turned it since: a person's word stands.
    TurnOff {
        /// The run that turned them on.
        run: RunId,
        /// Which.
        flags: Vec<FlagKey>,
    },
    /// Trip kill switches, as a person would.
    Trip {
        /// The run in which it was decided.
        run: RunId,
        /// Which.
        switches: Vec<SwitchName>,
        /// Why, with the numbers.
        because: String,
    },
    /// Remove snapshots and installations that no way back needs any more.
    Prune {
        /// Snapshots to keep.
        snapshots: Vec<SnapshotId>,
        /// Releases whose installations to keep.
        releases: Vec<Digest>,
    },
}

/// The code of a restore that found the data open elsewhere; nothing was changed then.
const STILL_HELD: &str = "restore-still-held";
/// The code of a start on data that a restore has taken apart and not finished.
const HALF_RESTORED: &str = "restore-unfinished";

impl Answer {
    /// Tells whether somebody has the data open that was to be put back: nothing was changed, and it passes.
    pub fn is_still_held(&self) -> bool {
        matches!(self, Self::Failed { failure } | Self::Hindered { failure } if failure.code == STILL_HELD)
    }

    /// Tells whether nothing was started because a restore has taken the data apart and is not finished.
    pub fn is_half_restored(&self) -> bool {
        matches!(self, Self::Failed { failure } | Self::Hindered { failure } if failure.code == HALF_RESTORED)
    }

    /// Tells whether the release was really tried and is at fault, not the machine.
    pub const fn blames_release(&self) -> bool {
        matches!(self, Self::Failed { .. })
    }
}

impl Effect {
    /// Tells whether it only clears up or prepares: its answer decides nothing, and it may outlive its run.
    pub fn is_housekeeping(&self) -> bool {
        matches!(self, Self::ClearRehearsal | Self::Prune { .. } | Self::LayReady { .. })
    }

    /// Gives the instance it acts on; two effects on one instance never run at once.
    pub fn instance(&self) -> Option<&InstanceName> {
        match self {
            Self::Snapshot { instance, .. }
            | Self::Rehearse { instance, .. }
            | Self::AskBusy { instance }
            | Self::Stop { instance }
            | Self::SnapshotStopped { instance, .. }
            | Self::Start { instance, .. }
            | Self::Probe { instance, .. }
            | Self::Measure { instance, .. }
            | Self::Restore { instance, .. }
            | Self::LayReady { instance, .. } => Some(instance),
            Self::Check { .. }
            | Self::Install { .. }
            | Self::Verify { .. }
            | Self::AskGate { .. }
            | Self::ClearRehearsal
            | Self::Route { .. }
            | Self::TryResume { .. }
            | Self::TurnOn { .. }
            | Self::TurnOff { .. }
            | Self::Trip { .. }
            | Self::Prune { .. } => None,
        }
    }
}

/// The four tries of a rehearsal, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Leg {
    /// Last-good on its own copy: if it fails, the gate is broken, not the candidate.
    Control,
    /// The candidate on a second copy, which it migrates.
    Candidate,
    /// The candidate again on its own migrated copy: a restart must work.
    Restart,
    /// Last-good on the migrated copy: is there a way back without data?
    WayBack,
}

impl Leg {
    /// Says what it tries.
    pub const fn says(self) -> &'static str {
        match self {
            Self::Control => "control: last-good on a copy",
            Self::Candidate => "candidate on a copy",
            Self::Restart => "candidate again on its migrated copy",
            Self::WayBack => "way back: last-good on the migrated copy",
        }
    }
}

/// What an order came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "got", rename_all = "kebab-case")]
pub enum Answer {
    /// The channel's offer.
    Offered {
        /// What it offers.
        offer: Offer,
        /// How it stands to last-good; `None` without a last-good.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        standing: Option<Standing>,
        /// Why it is not of this channel, if it isn't.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        foreign: Option<String>,
    },
    /// The channel offers nothing but what was left out of the question.
    NothingElse,
    /// Installed beside the others.
    Installed {
        /// Where and what.
        installation: Installation,
        /// Where it comes from, as far as the service's policy asks.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        provenance: Option<Box<Provenance>>,
    },
    /// What was fetched is not what the channel announced a moment before; nothing is installed.
    NotAsAnnounced {
        /// The offer's mark.
        announced: String,
        /// What was fetched in its place.
        fetched: String,
    },
    /// The installation is what it was.
    Verified,
    /// A gate has answered, or nobody can tell.
    GateAsked {
        /// What it says.
        facts: GateFacts,
    },
    /// A snapshot, published whole.
    Snapshotted {
        /// What is in it.
        facts: SnapshotFacts,
    },
    /// A leg of the rehearsal passed.
    RehearsalPassed {
        /// What was seen.
        facts: RehearsalFacts,
    },
    /// A leg of the rehearsal failed by the fault of what was rehearsed.
    RehearsalFailed {
        /// What was seen instead.
        failure: Failure,
    },
    /// Whether the instance is in use.
    BusyAsked {
        /// What the check says.
        busyness: Busyness,
    },
    /// Stopped; nothing of it runs.
    Stopped,
    /// Nothing was stopped: what it was to be moved to can't be started there.
    NotStopped {
        /// What is missing or in the way.
        failure: Failure,
    },
    /// Started and ready.
    Started {
        /// Its main process.
        pid: u32,
        /// Digest of the setup it was started with: arguments, environment, address and checks.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        setup: Option<Digest>,
        /// Files of its unit that were put back to what they were with that release, each with where what was there is kept.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        unit: Vec<String>,
    },
    /// The whole probe passed.
    ProbePassed {
        /// What was seen.
        facts: ProbeFacts,
    },
    /// What a restore would drop.
    Measured {
        /// Rows and files.
        loss: Loss,
    },
    /// The snapshot is back.
    Restored {
        /// Where the newer data is kept.
        facts: RestoreFacts,
    },
    /// Scratch copies or unneeded ones are gone.
    Cleared,
    /// The way back lies ready beside the data.
    LaidReady {
        /// Bytes written; 0 if it lay there already.
        bytes: u64,
    },
    /// The router confirmed.
    Routed {
        /// From the order to the confirmation.
        took: Span,
    },
    /// Sessions can be resumed, both ways.
    ResumePassed {
        /// What was seen.
        facts: ResumeFacts,
    },
    /// The flags are on.
    FlagsOn {
        /// Those that belong to the run.
        on: Vec<FlagKey>,
        /// Those that were on before.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        were_on: Vec<FlagKey>,
    },
    /// What the run had turned on is off.
    FlagsOff {
        /// Those that were turned off.
        off: Vec<FlagKey>,
        /// Those that somebody else had turned since.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        kept: Vec<KeptFlag>,
    },
    /// The switches are tripped.
    Tripped {
        /// Which.
        switches: Vec<SwitchName>,
    },
    /// What the order was about failed: the release did not start, the probe did not pass.
    Failed {
        /// Why.
        failure: Failure,
    },
    /// The machine could not carry the order out; nothing is said about the release.
    Hindered {
        /// Why.
        failure: Failure,
    },
}
