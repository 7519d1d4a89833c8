//! The state of one service: a fold of its events and nothing else.
//!
//! It can be serialised so that it may be kept beside its chain. That form is no format: it is read only by the very
//! program that wrote it, and is never evidence.

mod answers;
mod fold;
mod hold;
mod ids;
mod late;
mod setup;
mod steps;
mod traffic;

pub use hold::{Exempt, Hold};
pub use ids::NextIds;
pub use setup::Begun;
pub(crate) use steps::HELD_PAUSE_MAX;
pub use steps::{MoveStep, ReturnStep};
pub(crate) use traffic::CLOSING;
pub use traffic::Unproven;

use crate::{
    effect::{Effect, Leg},
    event::{Aim, Back, Cause, DeferReason, End, GateFacts, Health, Settings, Verdict, WayBack},
    facts::{Installation, Loss, Offer, Outcomes, SnapshotFacts},
    failure::Failure,
    operations::rca::Owed,
    rollout,
    terms::{
        Actor, Digest, GateName, HoldId, IncidentId, InstanceName, OrderId, Reason, ReleaseTag, RunId, SnapshotId,
        Span, Timestamp,
    },
    totals::Totals,
    traffic::{Judged, Share, Traffic},
};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
    vec::Vec,
};
use serde::{Deserialize, Serialize};

/// What is known of a service after reading its chain.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Service {
    /// Holds that were set and not lifted; some may have expired.
    pub holds: BTreeMap<HoldId, Hold>,
    /// The release it must stay at.
    pub pin: Option<Pin>,
    /// Releases that are never tried again until waived.
    pub rejected: BTreeMap<Digest, Rejection>,
    /// Installations by release.
    pub installed: BTreeMap<Digest, Known>,
    /// The first digest seen under each tag.
    pub tags: BTreeMap<ReleaseTag, Digest>,
    /// The first mark that the channel gave with each tag, whether or not the release was ever installed.
    pub marks: BTreeMap<ReleaseTag, String>,
    /// The newest release that fully passed.
    pub last_good: Option<Digest>,
    /// The one before.
    pub previous_good: Option<Digest>,
    /// Releases that fully passed and were not taken back; any other that runs is on trial.
    pub passed: BTreeSet<Digest>,
    /// Every instance that ever ran here.
    pub instances: BTreeMap<InstanceName, Instance>,
    /// The run under way.
    pub run: Option<Run>,
    /// How and when the last run ended.
    pub last_end: Option<(RunId, Timestamp, End)>,
    /// How the last run ended that got as far as to find something out: none of those that were held, only tried
    /// something, or cleared up.
    pub last_verdict: Option<(RunId, End)>,
    /// When the last run began.
    pub last_run_at: Option<Timestamp>,
    /// Since when the service has not accepted what its channel offers, and why.
    pub behind: Option<(Timestamp, String)>,
    /// Whether being behind has been raised as an alarm.
    pub stale: bool,
    /// When last-good was last set.
    pub promoted_at: Option<Timestamp>,
    /// When an instance or the traffic was moved last.
    pub moved_at: Option<Timestamp>,
    /// The newest verdict on users' outcomes since then.
    pub health: Option<(Health, Outcomes)>,
    /// When that verdict was first given.
    pub health_at: Option<Timestamp>,
    /// Rejected releases that the last check passed over for an older one, newest first.
    pub passed_over: Vec<ReleaseTag>,
    /// What was taken in their place, if anything was.
    pub taken_instead: Option<ReleaseTag>,
    /// The analysis that is owed.
    pub analysis: Option<Owed>,
    /// The last rollback that nobody asked for.
    pub rolled_back: Option<RolledBack>,
    /// The ids that the next records take.
    pub next: NextIds,
    /// Whom the newest answer was about; for sentences.
    pub answered: Option<InstanceName>,
    /// Which try of a rehearsal it was of, if it was one's; for sentences.
    #[serde(default)]
    pub rehearsed: Option<Leg>,
    /// The instances that the last run was configured with; others were removed since. Empty before the first run.
    pub configured: Vec<InstanceName>,
    /// The incidents that the chain names.
    pub incidents: BTreeSet<IncidentId>,
    /// What happened how often.
    pub totals: Totals,
    /// Where shared traffic goes.
    pub traffic: Traffic,
    /// Number of records folded.
    pub records: u64,
}

/// A rollback that nobody asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolledBack {
    /// When it ended.
    pub at: Timestamp,
    /// The hold by which the service stopped itself.
    pub hold: HoldId,
    /// Why it went back.
    pub because: String,
}

/// The release a service must stay at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// Which.
    pub tag: ReleaseTag,
    /// Who said so.
    pub by: Actor,
    /// Why.
    pub reason: Reason,
}

/// Why a release is never tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// Its tag.
    pub tag: ReleaseTag,
    /// Since when.
    pub at: Timestamp,
    /// Who or what rejected it.
    pub by: Actor,
    /// Why.
    pub reason: String,
}

/// A release that was installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// Where and what.
    pub installation: Installation,
    /// The channel's mark when it was first offered.
    pub mark: Option<String>,
    /// How it can be left, as its rehearsal showed.
    pub way_back: Option<WayBack>,
}

/// One running copy and the ways back it has.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Instance {
    /// What it runs.
    pub release: Option<Digest>,
    /// What its data belongs to: the release that migrated it last, which a code-only way back does not change.
    pub data: Option<Digest>,
    /// The moves it made, newest last; each can be undone.
    pub history: Vec<Moved>,
    /// What it was started with last.
    pub begun: Option<Begun>,
    /// The setup with which each release ran well here.
    pub setups: BTreeMap<Digest, Digest>,
    /// Where it stands.
    pub condition: Condition,
    /// Unasked ends of its process since it last settled.
    pub deaths: u32,
    /// When it is to be started again after it died.
    pub again_at: Option<Timestamp>,
    /// Tries since then that the machine hindered.
    pub hindered: u32,
    /// The deaths that followed each other closely, up to the last one.
    pub streak: Option<Streak>,
    /// Since when it is stuck or waits for a person, if it does.
    pub stuck_since: Option<Timestamp>,
    /// The release to which a way back leads that is not done; whoever takes it up goes there and no further.
    pub goes_back_to: Option<Digest>,
}

/// Deaths of one instance, each within [`Streak::GAP_MAX`] of the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Streak {
    /// When the first of them was.
    pub since: Timestamp,
    /// When the last one was.
    pub last: Timestamp,
    /// How many.
    pub deaths: u32,
}

impl Streak {
    /// Longest time between two deaths of one streak: three times the longest wait before a start (5 min), so
    /// that a program which runs for a while between its deaths still counts as looping.
    pub const GAP_MAX: Span = Span::minutes(15);

    fn then(streak: Option<Self>, at: Timestamp) -> Self {
        match streak {
            Some(before) if at.since(before.last) <= Self::GAP_MAX => {
                Self { since: before.since, last: at, deaths: before.deaths.saturating_add(1) }
            }
            _ => Self { since: at, last: at, deaths: 1 },
        }
    }
}

/// Where an instance stands.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Condition {
    /// Runs what it should.
    #[default]
    Settled,
    /// Stopped or started by a run that has not finished with it.
    Between,
    /// Left alone because it is busy or held: why and since when.
    Deferred {
        /// Why, as it was when it was last looked at.
        why: String,
        /// Of what kind that is.
        #[serde(default, skip_serializing_if = "DeferReason::is_other")]
        reason: DeferReason,
        /// Since when.
        since: Timestamp,
        /// When it was last looked at: nobody knows whether `why` still holds.
        asked: Timestamp,
    },
    /// Could not be brought back.
    Stuck {
        /// Why.
        failure: Failure,
    },
    /// Its restore waits for a person.
    LossHeld {
        /// What would be lost.
        loss: Loss,
    },
}

/// One move that can be undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// What it ran before.
    pub from: Option<Digest>,
    /// What it ran after.
    pub to: Digest,
    /// Its data as it was at the stop in between.
    pub snapshot: SnapshotId,
    /// What that data belonged to.
    pub data: Option<Digest>,
    /// When the new release was first started on the data.
    pub at: Timestamp,
    /// How it can be left.
    pub way_back: WayBack,
}

/// A run under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// What it is for.
    pub aim: Aim,
    /// Who caused it.
    pub by: Actor,
    /// When it began.
    pub started: Timestamp,
    /// The settings it keeps to its end.
    pub settings: Settings,
    /// The first id of the holds that were set since it began.
    pub holds_since: HoldId,
    /// What holds its forward moves and stands nowhere in the log, as it was seen last.
    pub held: Option<String>,
    /// Intended effects without an answer.
    pub orders: BTreeMap<OrderId, Effect>,
    /// What its required gates have said so far.
    pub gates: BTreeMap<GateName, GateFacts>,
    /// Where it stands.
    pub phase: Phase,
}

/// Where a run stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Waits for the channel's answer.
    Checking,
    /// Installs the offer and verifies last-good.
    Installing {
        /// What is installed.
        offer: Offer,
    },
    /// Copies the states.
    Snapshotting {
        /// The candidate.
        release: Digest,
        /// Whose states.
        instances: Vec<InstanceName>,
        /// The copies so far.
        taken: BTreeMap<InstanceName, SnapshotFacts>,
    },
    /// Tries on copies.
    Rehearsing {
        /// The candidate.
        release: Digest,
        /// Whose data.
        instance: InstanceName,
        /// The golden copy.
        snapshot: SnapshotId,
        /// What that instance runs today: control and way back.
        from: Option<Digest>,
        /// Which instances will move.
        scope: Vec<InstanceName>,
    },
    /// Moves wave by wave.
    Moving {
        /// The candidate.
        release: Digest,
        /// What the rehearsal started from; another start has no proven way back but its data.
        from: Option<Digest>,
        /// How the candidate can be left.
        way_back: WayBack,
        /// All that move, in order.
        steps: BTreeMap<InstanceName, MoveStep>,
        /// Their order.
        queue: Vec<InstanceName>,
        /// Number of the wave.
        wave: u32,
        /// How many may be in it.
        wave_size: u32,
        /// When its soak ends.
        soak_until: Option<Timestamp>,
        /// A probe that failed on what an instance ran before anything was changed.
        baseline_failure: Option<Failure>,
        /// Why an instance was not stopped: the candidate can't be started there.
        unstartable: Option<Failure>,
    },
    /// Goes back.
    Returning {
        /// Why.
        cause: Cause,
        /// What is left.
        left: Option<Digest>,
        /// Each instance's way.
        back: BTreeMap<InstanceName, (Back, ReturnStep)>,
    },
    /// Gives the candidate shares of the traffic.
    Shifting {
        /// The candidate.
        release: Digest,
        /// Its instances and how far each has come.
        steps: BTreeMap<InstanceName, MoveStep>,
        /// How many of the configured shares were ordered.
        ordered: u32,
        /// When the bake time of the newest share is over; `None` until the router has confirmed it.
        until: Option<Timestamp>,
        /// Whether sessions were proven to survive a change of release.
        resumed: bool,
        /// Since when its required gates leave the next share open, if they do.
        unproven: Option<Unproven>,
    },
    /// Takes all traffic back.
    Unshifting {
        /// Why.
        cause: Cause,
        /// What is left.
        left: Digest,
        /// Where to.
        to: Option<Digest>,
        /// The instances that must be up first, and how often each start was tried.
        raise: BTreeMap<InstanceName, Raised>,
        /// How often the router was told.
        told: u32,
        /// When it began.
        since: Timestamp,
        /// Whether the router has confirmed it, and no more than starts are awaited.
        returned: bool,
    },
    /// Stops a release that stands by.
    Cooling {
        /// The instances that still run.
        left: BTreeSet<InstanceName>,
    },
}

/// Tries of each order on a way back of traffic: one that gives up at the first hiccup strands people.
pub(crate) const TRIES_MAX: u32 = 3;

/// How far an instance has come that must be up before traffic goes to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Raised {
    /// Being started.
    Starting {
        /// Tries so far.
        tries: u32,
    },
    /// Ready.
    Up,
    /// Could not be started.
    Failed,
}

impl Service {
    /// Lists the holds that stand at `now`.
    pub fn standing_holds(&self, now: Timestamp) -> impl Iterator<Item = (&HoldId, &Hold)> {
        self.holds.iter().filter(move |(_, hold)| hold.until.is_none_or(|until| now < until))
    }

    /// Gives what the guards say of a promoted release that fails while nobody has proven a way back from it.
    pub fn fails_without_way_back(&self) -> Option<&Judged> {
        let stands = self.run.as_ref().is_none_or(|run| run.phase.leaves_traffic());
        let judged = self.traffic.judged.as_ref()?;
        let fails = judged.verdict == Verdict::Fail && judged.share == Share::ALL;
        (fails && stands && rollout::proven_back(self).is_none()).then_some(judged)
    }

    /// Gives the tag of a release we installed or rejected.
    pub fn tag(&self, release: &Digest) -> Option<&ReleaseTag> {
        self.installed
            .get(release)
            .map(|known| &known.installation.release.tag)
            .or_else(|| self.rejected.get(release).map(|rejection| &rejection.tag))
            .or_else(|| self.tags.iter().find(|(_, digest)| *digest == release).map(|(tag, _)| tag))
    }

    /// Gives what screens call a release: its tag, else the start of its digest, else `none`.
    pub fn name_of(&self, release: Option<&Digest>) -> String {
        match release {
            None => "none".into(),
            Some(digest) => self.tag(digest).map_or_else(|| digest.short(), |tag| tag.as_str().into()),
        }
    }
}

impl Instance {
    /// Tells whether nothing has to be done to it before it runs as it should.
    pub const fn is_settled(&self) -> bool {
        matches!(self.condition, Condition::Settled | Condition::Deferred { .. })
    }

    /// Gives the move that its return has undone for its program, but not for its data.
    pub fn half_undone(&self) -> Option<&Moved> {
        let newest = self.history.last()?;
        (!self.is_settled() && newest.from == self.release && Some(newest.to) != self.release).then_some(newest)
    }

    /// Drops the moves that ended in something else than what it runs.
    fn forget_undone(&mut self) {
        while self.history.last().is_some_and(|moved| Some(moved.to) != self.release) {
            self.history.pop();
        }
    }

    /// Records that the data is what `snapshot` holds again: every move since is undone.
    fn undo_moves(&mut self, snapshot: SnapshotId) {
        let Some(at) = self.history.iter().position(|moved| moved.snapshot == snapshot) else { return };
        if let Some(oldest) = self.history.drain(at..).next() {
            (self.release, self.data) = (oldest.from, oldest.data);
        }
    }
}

impl Run {
    /// Gives the leg of the rehearsal under way.
    pub fn leg(&self) -> Option<Leg> {
        self.orders.values().find_map(|effect| match effect {
            Effect::Rehearse { leg, .. } => Some(*leg),
            _ => None,
        })
    }
}
