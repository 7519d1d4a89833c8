//! What is written to the log: every command, decision, intended effect and outcome.
//!
//! A record's bytes are kept for ever, so this is a format: variants and fields are only added, with
//! defaults; a golden file of every past version must stay readable.

use crate::{
    effect::{Answer, Effect},
    facts::{Loss, Offer, Outcomes},
    failure::Failure,
    operations::{
        hold::{Exemption, InFlight},
        rca::{AnalysisEvent, Rca},
    },
    provenance::Policy,
    terms::{
        Actor, Digest, GateName, HoldId, IncidentId, InstanceName, OrderId, Reason, ReleaseTag, RunId, SnapshotId,
        Span, Timestamp, WideHoldId,
    },
    traffic::{TrafficEvent, TrafficSettings},
};
use alloc::{string::String, vec::Vec};
use serde::{Deserialize, Serialize};

mod end;

pub use self::end::{Back, Cause, DeferReason, End};
pub use crate::facts::Health;
pub use crate::gate::{Gate, GateControl, GateFacts, Verdict};
pub use crate::way_back::WayBack;

/// One entry of a service's chain as it is written.
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

/// Something that happened to a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[expect(clippy::large_enum_variant, reason = "records come one by one; a box would only be in every reader's way")]
pub enum Event {
    /// A hold stands: no forward move.
    HoldSet {
        /// Its id.
        hold: HoldId,
        /// Why.
        reason: Reason,
        /// When it ends by itself; `None` stands until lifted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
        /// The hold over several services that this one is a part of, and is lifted with.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        origin: Option<WideHoldId>,
        /// What becomes of a run under way.
        #[serde(default, skip_serializing_if = "InFlight::is_default")]
        in_flight: InFlight,
    },
    /// The owner of one of the service's own holds is to say by then whether it is still needed.
    HoldReviewSet {
        /// Which.
        hold: HoldId,
        /// When its owner is asked.
        review: Timestamp,
    },
    /// That time is over and it still stands: its owner is asked. The hold goes on.
    HoldReviewDue {
        /// Which.
        hold: HoldId,
        /// When its owner is asked again.
        again: Timestamp,
    },
    /// One release may pass a hold that a hold over several services has set here.
    HoldExempted {
        /// Which.
        hold: HoldId,
        /// Which release, and until when.
        exemption: Exemption,
        /// Who asked for it; who wrote this record approved it.
        asked_by: Actor,
    },
    /// A hold was lifted.
    HoldLifted {
        /// Which.
        hold: HoldId,
        /// Why.
        reason: Reason,
    },
    /// The service must stay at `tag`.
    Pinned {
        /// The release.
        tag: ReleaseTag,
        /// Why.
        reason: Reason,
    },
    /// Tracking goes on.
    Unpinned {
        /// Why.
        reason: Reason,
    },
    /// A release is never tried again until waived.
    Rejected {
        /// Its digest.
        release: Digest,
        /// Its tag.
        tag: ReleaseTag,
        /// Why.
        reason: String,
    },
    /// A rejected release may be tried again.
    Waived {
        /// Its digest.
        release: Digest,
        /// Why.
        reason: Reason,
    },
    /// The service is part of an incident: what comes after belongs to it.
    Annotated {
        /// Which.
        incident: IncidentId,
    },
    /// A run began.
    RunStarted {
        /// Its id.
        run: RunId,
        /// What it is for.
        aim: Aim,
        /// The settings it keeps to its end.
        settings: Settings,
    },
    /// A gate answered.
    Gated {
        /// Which gate.
        gate: Gate,
        /// What it answered.
        verdict: Verdict,
        /// The numbers and names behind it.
        because: String,
    },
    /// An effect is intended; it is performed only after this is written.
    Ordered {
        /// Its id.
        order: OrderId,
        /// What to make so.
        effect: Effect,
    },
    /// An order came to an end.
    Answered {
        /// Which.
        order: OrderId,
        /// How.
        answer: Answer,
    },
    /// This run's candidate.
    CandidateChosen {
        /// What the channel offers.
        offer: Offer,
    },
    /// Snapshots of these instances are being taken.
    SnapshotsBegun {
        /// Whose.
        instances: Vec<InstanceName>,
    },
    /// The rehearsal uses this instance's data, the most demanding one.
    RehearsalBegun {
        /// Whose.
        instance: InstanceName,
        /// The golden copy.
        snapshot: SnapshotId,
    },
    /// The way back of this release is proven.
    WayBackProven {
        /// Of which release.
        release: Digest,
        /// What kind it is.
        way_back: WayBack,
        /// What the rehearsal saw.
        because: String,
    },
    /// The plan is sealed: forward effects from here on belong to this hash.
    MoveBegun {
        /// Digest over candidate, last-good, scope, way back and settings.
        plan: Digest,
        /// What moves.
        release: Digest,
        /// Which instances, in order.
        instances: Vec<InstanceName>,
    },
    /// The next instances move together.
    WaveBegun {
        /// Its number in this run; the first is the canary.
        number: u32,
        /// How many instances may be in it.
        size: u32,
    },
    /// An instance is left alone for now.
    Deferred {
        /// Which.
        instance: InstanceName,
        /// Why.
        why: String,
        /// Of what kind that is.
        #[serde(default, skip_serializing_if = "DeferReason::is_other")]
        reason: DeferReason,
    },
    /// The wave answers; it is watched until then.
    SoakBegun {
        /// When it ends.
        until: Timestamp,
    },
    /// An instance runs the new release and passed its probes.
    Moved {
        /// Which.
        instance: InstanceName,
    },
    /// Instances go back.
    ReturnBegun {
        /// Why.
        cause: Cause,
        /// Which, where to, and how.
        back: Vec<Back>,
        /// The release that is left, also where an instance has left it already.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        left: Option<Digest>,
    },
    /// A way back without data did not work; this instance's data goes back too.
    ReturnWithData {
        /// Which.
        instance: InstanceName,
        /// What is put back.
        snapshot: SnapshotId,
    },
    /// An instance is back and passed its probes.
    Returned {
        /// Which.
        instance: InstanceName,
    },
    /// A restore would drop more than the bound; a person must decide.
    ReturnHeld {
        /// Which.
        instance: InstanceName,
        /// What would be lost.
        loss: Loss,
        /// Over how long it was written.
        age: Span,
    },
    /// An instance could not be brought back.
    ReturnFailed {
        /// Which.
        instance: InstanceName,
        /// Why.
        failure: Failure,
        /// What it is started on again: its data is untouched, and that release can read it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reopens: Option<Digest>,
    },
    /// Last-good is this release now.
    Promoted {
        /// Which.
        release: Digest,
        /// Instances that still run something else.
        behind: Vec<InstanceName>,
    },
    /// Last-good is this release again.
    Demoted {
        /// What it is now; `None` when there never was an earlier one.
        release: Option<Digest>,
    },
    /// A run ended.
    RunEnded {
        /// Which.
        run: RunId,
        /// How.
        end: End,
    },
    /// An instance's process ended without being told to.
    Died {
        /// Which.
        instance: InstanceName,
        /// What is known.
        why: String,
        /// When it is started again.
        again_at: Timestamp,
    },
    /// It was started again.
    Revived {
        /// Which.
        instance: InstanceName,
    },
    /// It could not be started again, by no fault of its program: no death.
    NotRevived {
        /// Which.
        instance: InstanceName,
        /// What stood in the way.
        failure: Failure,
        /// When it is tried again.
        again_at: Timestamp,
    },
    /// A way back went on without something that it doesn't need and that a forward run insists on.
    WentOnWithout {
        /// What is missing, and why.
        failure: Failure,
    },
    /// A person takes what the configuration says now for what an instance is started with, also on a way back.
    SetupAccepted {
        /// Whose.
        instance: InstanceName,
        /// The release that runs with it.
        release: Digest,
        /// Digest of the setup.
        setup: Digest,
        /// Why.
        reason: Reason,
    },
    /// Users' outcomes after a bump.
    OutcomesCounted {
        /// What was counted.
        outcomes: Outcomes,
        /// What that means.
        health: Health,
    },
    /// A person acknowledged that the log is not the one that was signed before. Written in a form of its own.
    RewindAcknowledged {
        /// Why.
        reason: Reason,
        /// Records of the log that was signed before, if that is known: ids up to there may have been used.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        abandoned: Option<u64>,
    },
    /// No release was accepted for too long although newer ones are offered.
    WentStale {
        /// Since when the service is behind.
        since: Timestamp,
        /// Why the last one was not taken.
        because: String,
    },
    /// Something happened to shared traffic.
    Traffic(TrafficEvent),
    /// Something happened to the analysis that the service owes.
    Analysis(AnalysisEvent),
}

/// What a run is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "aim", rename_all = "kebab-case")]
pub enum Aim {
    /// Follow the channel (or the pin), then move those left behind.
    Track,
    /// Move the instances left behind to last-good; ask no channel.
    Drain,
    /// Stop the release that stands by without traffic.
    Cool,
    /// Gate and rehearse in a temporary place; change nothing.
    DryRun,
    /// Go back.
    Back {
        /// Where to; `None` is last-good, or the one before if an instance runs last-good.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<ReleaseTag>,
        /// Which instances; empty is all.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        instances: Vec<InstanceName>,
        /// Instances whose lost writes a person accepts.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        accept_loss: Vec<InstanceName>,
        /// Why.
        reason: String,
    },
}

/// What a run's decisions depend on, from the configuration, kept as they were when it began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// All instances in configured order.
    pub instances: Vec<InstanceName>,
    /// Who goes first; `None` is the first idle one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<InstanceName>,
    /// Whose data is rehearsed on; `None` is the largest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rehearse_on: Option<InstanceName>,
    /// How many move at once after the canary; at least 1.
    pub wave_size: u32,
    /// How long a wave is watched after it answers, before it is probed again.
    pub soak: Span,
    /// Largest number of rows an automatic restore may drop from one instance.
    pub loss_rows_max: u64,
    /// Largest number of files an automatic restore may drop from one instance.
    pub loss_files_max: u64,
    /// Largest age of data an automatic restore may drop.
    pub loss_age_max: Span,
    /// How long after a promotion a late failure goes back by itself.
    pub watch: Span,
    /// How long the service may be behind its channel before that is an alarm.
    pub stale_after: Span,
    /// Whether a broken verdict while watching goes back by itself.
    pub back_when_broken: bool,
    /// Share of broken outcomes, in percent, from which a release counts as broken.
    pub broken_percent: u32,
    /// Share of degraded outcomes, in percent, from which it counts as degraded.
    pub degraded_percent: u32,
    /// Fewer outcomes than this are cannot-tell.
    pub outcomes_min: u64,
    /// How shared traffic moves; `None` moves instance by instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<TrafficSettings>,
    /// What a release must prove of where it comes from.
    #[serde(default, skip_serializing_if = "Policy::is_empty")]
    pub policy: Policy,
    /// Gates that a release must pass before anything is moved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<GateName>,
    /// Whether a rollback owes an analysis.
    #[serde(default, skip_serializing_if = "Rca::is_off")]
    pub rca: Rca,
    /// The only release that this run may move to: whoever asked for it has looked at a plan. Never from the configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expects: Option<Expected>,
}

/// The release that somebody has looked at before they asked for a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "ExpectedForm", into = "ExpectedForm")]
pub struct Expected {
    /// Its tag.
    pub tag: ReleaseTag,
    /// The channel's identity of its bytes, as [`Offer::mark`]; none if the channel told none, or an older version asked.
    pub mark: Option<String>,
}

/// How it is written: the tag alone, as before marks were kept, or both.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum ExpectedForm {
    Tag(ReleaseTag),
    Marked { tag: ReleaseTag, mark: String },
}

impl From<ExpectedForm> for Expected {
    fn from(form: ExpectedForm) -> Self {
        match form {
            ExpectedForm::Tag(tag) => Self { tag, mark: None },
            ExpectedForm::Marked { tag, mark } => Self { tag, mark: Some(mark) },
        }
    }
}

impl From<Expected> for ExpectedForm {
    fn from(Expected { tag, mark }: Expected) -> Self {
        match mark {
            None => Self::Tag(tag),
            Some(mark) => Self::Marked { tag, mark },
        }
    }
}
