//! The state of one service: a fold of its events and nothing else.
//!
//! It can be serialised so that it may be kept beside its chain. That form is no format: it is read only by the very
//! program that wrote it, and is never evidence.

use crate::{
    effect::{Answer, Effect, Leg},
    event::{Aim, Back, Cause, End, Event, Health, Record, Settings, WayBack},
    facts::{Installation, Loss, Offer, Outcomes, SnapshotFacts},
    failure::Failure,
    terms::{Actor, Digest, HoldId, InstanceName, OrderId, Reason, ReleaseTag, RunId, SnapshotId, Span, Timestamp},
    totals::Totals,
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
    /// When the last run began.
    pub last_run_at: Option<Timestamp>,
    /// Since when the service has not accepted what its channel offers, and why.
    pub behind: Option<(Timestamp, String)>,
    /// Whether being behind has been raised as an alarm.
    pub stale: bool,
    /// When last-good was last set.
    pub promoted_at: Option<Timestamp>,
    /// The newest verdict on users' outcomes since then.
    pub health: Option<(Health, Outcomes)>,
    /// When that verdict was first given.
    pub health_at: Option<Timestamp>,
    /// Rejected releases that the last check passed over for an older one, newest first.
    pub passed_over: Vec<ReleaseTag>,
    /// What was taken in their place, if anything was.
    pub taken_instead: Option<ReleaseTag>,
    /// The last rollback that nobody asked for.
    pub rolled_back: Option<RolledBack>,
    /// The ids that the next records take.
    pub next: NextIds,
    /// Whom the newest answer was about; for sentences.
    pub answered: Option<InstanceName>,
    /// The instances that the last run was configured with; others were removed since. Empty before the first run.
    pub configured: Vec<InstanceName>,
    /// What happened how often.
    pub totals: Totals,
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

/// The ids that the next records take.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NextIds {
    /// Orders so far.
    pub order: u64,
    /// Runs so far.
    pub run: u64,
    /// Holds so far.
    pub hold: u64,
    /// Snapshots so far.
    pub snapshot: u64,
}

/// A named, owned, reasoned stop of forward moves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Who set it.
    pub owner: Actor,
    /// Why.
    pub reason: Reason,
    /// Since when.
    pub since: Timestamp,
    /// Until when; `None` stands until lifted.
    pub until: Option<Timestamp>,
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
    /// Where it stands.
    pub condition: Condition,
    /// Unasked ends of its process since it last settled.
    pub deaths: u32,
    /// When it is to be started again after it died.
    pub again_at: Option<Timestamp>,
    /// The deaths that followed each other closely, up to the last one.
    pub streak: Option<Streak>,
    /// Since when it is stuck or waits for a person, if it does.
    pub stuck_since: Option<Timestamp>,
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
    /// Intended effects without an answer.
    pub orders: BTreeMap<OrderId, Effect>,
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
}

/// Where one instance stands on its way forward.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MoveStep {
    /// Not asked yet.
    Waiting,
    /// Probed on what it runs today, so that a broken gate is not taken for a bad release.
    Baselining,
    /// Asked whether it is busy.
    Asking,
    /// Being stopped.
    Stopping,
    /// Its data at the stop is copied.
    Keeping {
        /// The copy.
        snapshot: SnapshotId,
    },
    /// Being started on the candidate; its data belongs to the candidate from here on.
    Starting,
    /// Probed through its front door.
    Probing,
    /// Answers; watched with its wave.
    Soaking,
    /// Probed again after the soak.
    Reprobing,
    /// Done.
    Moved,
    /// Left alone.
    Deferred,
}

/// Where one instance stands on its way back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReturnStep {
    /// Not begun.
    Waiting,
    /// Being stopped.
    Stopping {
        /// Tries so far.
        tries: u32,
    },
    /// What a restore would drop is counted.
    Measuring,
    /// Its data is put back.
    Restoring {
        /// Tries so far.
        tries: u32,
    },
    /// Being started.
    Starting {
        /// Tries so far.
        tries: u32,
    },
    /// Probed.
    Probing {
        /// Tries so far.
        tries: u32,
    },
    /// Being started again on what it left, because its restore waits for a person.
    Reopening,
    /// Back.
    Returned,
    /// Waits for a person.
    Held,
    /// Could not be brought back.
    Failed,
}

impl ReturnStep {
    /// Tells whether nothing more happens to it in this run.
    pub const fn is_over(&self) -> bool {
        matches!(self, Self::Returned | Self::Held | Self::Failed)
    }
}

impl Service {
    /// Folds a chain's records, oldest first.
    pub fn fold<'a>(records: impl IntoIterator<Item = &'a Record>) -> Self {
        let mut service = Self::default();
        for record in records {
            service.apply(record);
        }
        service
    }

    /// Lists the holds that stand at `now`.
    pub fn standing_holds(&self, now: Timestamp) -> impl Iterator<Item = (&HoldId, &Hold)> {
        self.holds.iter().filter(move |(_, hold)| hold.until.is_none_or(|until| now < until))
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

    /// Folds one more record in.
    pub fn apply(&mut self, record: &Record) {
        self.records += 1;
        self.totals.count(&record.event);
        let at = record.at;
        match &record.event {
            Event::HoldSet { hold, reason, until } => {
                self.next.hold = self.next.hold.max(hold.0 + 1);
                let held = Hold { owner: record.by.clone(), reason: reason.clone(), since: at, until: *until };
                self.holds.insert(*hold, held);
            }
            Event::HoldLifted { hold, .. } => {
                self.holds.remove(hold);
            }
            Event::Pinned { tag, reason } => {
                self.pin = Some(Pin { tag: tag.clone(), by: record.by.clone(), reason: reason.clone() });
            }
            Event::Unpinned { .. } => self.pin = None,
            Event::Rejected { release, tag, reason } => {
                let rejection = Rejection { tag: tag.clone(), at, by: record.by.clone(), reason: reason.clone() };
                self.rejected.insert(*release, rejection);
            }
            Event::Waived { release, .. } => {
                self.rejected.remove(release);
            }
            Event::RunStarted { run, aim, settings } => self.start_run(record, *run, aim, settings),
            Event::RunEnded { run, end } => self.end_run(*run, at, end),
            Event::Promoted { release, .. } => {
                if self.last_good != Some(*release) {
                    self.previous_good = self.last_good;
                    self.promoted_at = Some(at);
                    self.health = None;
                    self.health_at = None;
                }
                self.last_good = Some(*release);
                self.passed.insert(*release);
            }
            Event::Demoted { release } => {
                if let Some(left) = self.last_good {
                    self.passed.remove(&left);
                }
                self.last_good = *release;
                self.previous_good = None;
                self.promoted_at = Some(at);
                self.health = None;
                self.health_at = None;
            }
            Event::WayBackProven { release, way_back, .. } => {
                if let Some(known) = self.installed.get_mut(release) {
                    known.way_back = Some(*way_back);
                }
            }
            Event::Died { instance, again_at, .. } => {
                let instance = self.instances.entry(instance.clone()).or_default();
                instance.deaths += 1;
                instance.again_at = Some(*again_at);
                instance.streak = Some(Streak::then(instance.streak, at));
            }
            Event::Revived { instance } => {
                self.instances.entry(instance.clone()).or_default().again_at = None;
            }
            Event::OutcomesCounted { outcomes, health } => {
                if self.health.map(|(known, _)| known) != Some(*health) {
                    self.health_at = Some(at);
                }
                self.health = Some((*health, *outcomes));
            }
            Event::WentStale { .. } => self.stale = true,
            Event::Gated { .. } | Event::RewindAcknowledged { .. } => {}
            Event::Ordered { order, effect } => self.order(*order, effect, at),
            Event::Answered { order, answer } => self.answer(*order, answer),
            Event::CandidateChosen { .. }
            | Event::SnapshotsBegun { .. }
            | Event::RehearsalBegun { .. }
            | Event::MoveBegun { .. }
            | Event::WaveBegun { .. }
            | Event::Deferred { .. }
            | Event::SoakBegun { .. }
            | Event::Moved { .. } => self.forward(&record.event, at),
            Event::ReturnBegun { .. }
            | Event::ReturnWithData { .. }
            | Event::Returned { .. }
            | Event::ReturnHeld { .. }
            | Event::ReturnFailed { .. } => self.backward(&record.event, at),
        }
    }

    fn start_run(&mut self, record: &Record, id: RunId, aim: &Aim, settings: &Settings) {
        self.next.run = self.next.run.max(id.0 + 1);
        self.last_run_at = Some(record.at);
        self.configured.clone_from(&settings.instances);
        for name in &settings.instances {
            self.instances.entry(name.clone()).or_default();
        }
        self.run = Some(Run {
            id,
            aim: aim.clone(),
            by: record.by.clone(),
            started: record.at,
            settings: settings.clone(),
            orders: BTreeMap::new(),
            phase: Phase::Checking,
        });
    }

    fn end_run(&mut self, id: RunId, at: Timestamp, end: &End) {
        let run = self.run.take();
        match end {
            // A dry run changes nothing: neither what is accepted nor since when.
            _ if run.is_some_and(|run| run.aim == Aim::DryRun) => {}
            End::Promoted | End::UpToDate => {
                self.behind = None;
                self.stale = false;
            }
            End::Rehearsed { .. } | End::Superseded => {}
            _ => {
                let since = self.behind.take().map_or(at, |(since, _)| since);
                self.behind = Some((since, end.because()));
            }
        }
        if let End::RolledBack { cause: Cause::Candidate { .. } | Cause::Machine { .. } | Cause::Broken { .. } } = end {
            // The hold by which a machine stops itself is set in the same step, right before the end.
            let newest = self.holds.iter().next_back().filter(|(_, hold)| hold.since == at);
            self.rolled_back = newest.map(|(hold, _)| RolledBack { at, hold: *hold, because: end.because() });
        }
        self.last_end = Some((id, at, end.clone()));
    }

    fn order(&mut self, order: OrderId, effect: &Effect, at: Timestamp) {
        self.next.order = self.next.order.max(order.0 + 1);
        if let Effect::Snapshot { snapshot, .. } | Effect::SnapshotStopped { snapshot, .. } = effect {
            self.next.snapshot = self.next.snapshot.max(snapshot.0 + 1);
        }
        if let Effect::Start { instance, release } = effect {
            self.start_ordered(instance, release, at);
        }
        if let Effect::Check { except, .. } = effect {
            (self.passed_over, self.taken_instead) = (except.clone(), None);
        }
        if let Effect::Prune { releases, .. } = effect {
            self.installed.retain(|digest, _| releases.contains(digest));
        }
        if let Effect::Prune { snapshots, .. } = effect {
            for instance in self.instances.values_mut() {
                instance.history.retain(|moved| snapshots.contains(&moved.snapshot));
            }
        }
        let Some(run) = &mut self.run else { return };
        run.orders.insert(order, effect.clone());
        match &mut run.phase {
            Phase::Moving { steps, .. } => {
                if let Some(step) = effect.instance().and_then(|name| steps.get_mut(name)) {
                    step.ordered(effect);
                    if matches!(step, MoveStep::Stopping)
                        && let Some(instance) = effect.instance().and_then(|i| self.instances.get_mut(i))
                    {
                        instance.condition = Condition::Between;
                    }
                }
            }
            Phase::Returning { back, .. } => {
                if let Some((_, step)) = effect.instance().and_then(|name| back.get_mut(name)) {
                    step.ordered(effect);
                }
            }
            Phase::Checking | Phase::Installing { .. } | Phase::Snapshotting { .. } | Phase::Rehearsing { .. } => {}
        }
    }

    /// Records that `release` may touch the data from now on, whether or not the start succeeds.
    fn start_ordered(&mut self, name: &InstanceName, release: &Digest, at: Timestamp) {
        let instance = self.instances.entry(name.clone()).or_default();
        if let Some(Phase::Moving { steps, way_back, from, .. }) = self.run.as_ref().map(|run| &run.phase)
            && let Some(MoveStep::Keeping { snapshot }) = steps.get(name)
        {
            let way_back = match instance.release {
                None => WayBack::Empty,
                Some(_) if instance.release == *from => *way_back,
                // The rehearsal did not start from this release: only its data is a proven way back.
                Some(_) => WayBack::Restore,
            };
            instance.forget_undone();
            instance.history.push(Moved {
                from: instance.release,
                to: *release,
                snapshot: *snapshot,
                data: instance.data,
                at,
                way_back,
            });
            instance.data = Some(*release);
        }
        instance.release = Some(*release);
    }

    fn answer(&mut self, order: OrderId, answer: &Answer) {
        let Some(run) = &mut self.run else { return };
        let Some(effect) = run.orders.remove(&order) else { return };
        self.answered = effect.instance().cloned();
        match (effect, answer) {
            (Effect::Install { offer }, Answer::Installed { installation }) => {
                let release = &installation.release;
                self.tags.entry(release.tag.clone()).or_insert(release.digest);
                let way_back = self.installed.get(&release.digest).and_then(|known| known.way_back);
                let known = Known { installation: installation.clone(), mark: offer.mark, way_back };
                self.installed.insert(release.digest, known);
            }
            (Effect::Snapshot { instance, .. }, Answer::Snapshotted { facts }) => {
                if let Phase::Snapshotting { taken, .. } = &mut run.phase {
                    taken.insert(instance, facts.clone());
                }
            }
            (Effect::Probe { instance, .. }, Answer::ProbePassed { .. }) => {
                if let Phase::Moving { steps, .. } = &mut run.phase
                    && let Some(step @ MoveStep::Probing) = steps.get_mut(&instance)
                {
                    *step = MoveStep::Soaking;
                }
            }
            (Effect::Probe { instance, .. }, Answer::Failed { failure } | Answer::Hindered { failure }) => {
                if let Phase::Moving { steps, baseline_failure, .. } = &mut run.phase
                    && steps.get(&instance) == Some(&MoveStep::Baselining)
                {
                    *baseline_failure = Some(failure.clone());
                }
            }
            (Effect::Restore { instance, snapshot }, Answer::Restored { .. }) => {
                if let Some(known) = self.instances.get_mut(&instance) {
                    known.undo_moves(snapshot);
                }
            }
            (Effect::Start { instance, .. }, _) => {
                if let Phase::Returning { back, .. } = &mut run.phase
                    && let Some((_, step @ ReturnStep::Reopening)) = back.get_mut(&instance)
                {
                    *step = ReturnStep::Held;
                }
            }
            _ => {}
        }
    }

    fn forward(&mut self, event: &Event, at: Timestamp) {
        let Some(run) = &mut self.run else { return };
        match event {
            Event::CandidateChosen { offer } => {
                self.taken_instead = (!self.passed_over.is_empty()).then(|| offer.tag.clone());
                run.phase = Phase::Installing { offer: offer.clone() };
            }
            Event::SnapshotsBegun { instances } => {
                if let Phase::Installing { offer } = &run.phase
                    && let Some(release) = self.tags.get(&offer.tag)
                {
                    run.phase =
                        Phase::Snapshotting { release: *release, instances: instances.clone(), taken: BTreeMap::new() };
                }
            }
            Event::RehearsalBegun { instance, snapshot } => {
                if let Phase::Snapshotting { release, .. } = run.phase {
                    let scope = run.settings.instances.iter();
                    let behind = |name: &&InstanceName| {
                        self.instances.get(*name).is_none_or(|instance| instance.release != Some(release))
                    };
                    run.phase = Phase::Rehearsing {
                        release,
                        instance: instance.clone(),
                        snapshot: *snapshot,
                        from: self.instances.get(instance).and_then(|instance| instance.release),
                        scope: scope.filter(behind).cloned().collect(),
                    };
                }
            }
            Event::MoveBegun { release, instances, .. } => {
                let from = match &run.phase {
                    Phase::Rehearsing { from, .. } => *from,
                    _ => None,
                };
                let proven = self.installed.get(release).and_then(|known| known.way_back);
                run.phase = Phase::Moving {
                    release: *release,
                    from,
                    way_back: proven.unwrap_or(WayBack::Restore),
                    steps: instances.iter().map(|name| (name.clone(), MoveStep::Waiting)).collect(),
                    queue: instances.clone(),
                    wave: 0,
                    wave_size: 1,
                    soak_until: None,
                    baseline_failure: None,
                };
            }
            Event::WaveBegun { number, size } => {
                if let Phase::Moving { wave, wave_size, soak_until, .. } = &mut run.phase {
                    (*wave, *wave_size, *soak_until) = (*number, *size, None);
                }
            }
            Event::SoakBegun { until } => {
                if let Phase::Moving { soak_until, .. } = &mut run.phase {
                    *soak_until = Some(*until);
                }
            }
            Event::Deferred { instance, why } => {
                if let Phase::Moving { steps, .. } = &mut run.phase {
                    steps.insert(instance.clone(), MoveStep::Deferred);
                }
                let known = self.instances.entry(instance.clone()).or_default();
                let since = match &known.condition {
                    // What waits for a person goes on waiting.
                    Condition::Stuck { .. } | Condition::LossHeld { .. } => return,
                    Condition::Deferred { since, .. } => *since,
                    Condition::Settled | Condition::Between => at,
                };
                known.condition = Condition::Deferred { why: why.clone(), since, asked: at };
            }
            Event::Moved { instance } => {
                if let Phase::Moving { steps, .. } = &mut run.phase {
                    steps.insert(instance.clone(), MoveStep::Moved);
                }
                self.settle(&instance.clone());
            }
            _ => {}
        }
    }

    fn backward(&mut self, event: &Event, at: Timestamp) {
        let Some(run) = &mut self.run else { return };
        if let Event::ReturnBegun { cause, back, left } = event {
            let left = *left;
            for one in back {
                self.instances.entry(one.instance.clone()).or_default().condition = Condition::Between;
            }
            // Orders of the way forward are void: their late answers are refused by their ids.
            run.orders.clear();
            run.phase = Phase::Returning {
                cause: cause.clone(),
                left,
                back: back.iter().map(|one| (one.instance.clone(), (one.clone(), ReturnStep::Waiting))).collect(),
            };
            return;
        }
        let Phase::Returning { back, .. } = &mut run.phase else { return };
        match event {
            Event::ReturnWithData { instance, snapshot } => {
                if let Some((one, step)) = back.get_mut(instance) {
                    one.with_data = true;
                    one.snapshot = Some(*snapshot);
                    *step = ReturnStep::Waiting;
                }
            }
            Event::Returned { instance } => {
                let stopped = back.get_mut(instance).is_some_and(|(one, step)| {
                    *step = ReturnStep::Returned;
                    one.to.is_none()
                });
                self.settle(&instance.clone());
                if let Some(known) = self.instances.get_mut(instance) {
                    known.forget_undone();
                    if stopped {
                        known.history.clear();
                        known.release = None;
                    }
                }
            }
            Event::ReturnHeld { instance, loss, .. } => {
                let known = self.instances.entry(instance.clone()).or_default();
                known.condition = Condition::LossHeld { loss: *loss };
                known.stuck_since = Some(at);
                if let Some((_, step)) = back.get_mut(instance) {
                    *step = if known.release.is_some() { ReturnStep::Reopening } else { ReturnStep::Held };
                }
            }
            Event::ReturnFailed { instance, failure } => {
                if let Some((_, step)) = back.get_mut(instance) {
                    *step = ReturnStep::Failed;
                }
                let known = self.instances.entry(instance.clone()).or_default();
                known.condition = Condition::Stuck { failure: failure.clone() };
                known.stuck_since = Some(at);
            }
            _ => {}
        }
    }

    fn settle(&mut self, name: &InstanceName) {
        let instance = self.instances.entry(name.clone()).or_default();
        instance.condition = Condition::Settled;
        instance.deaths = 0;
        instance.again_at = None;
        instance.streak = None;
        instance.stuck_since = None;
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

impl MoveStep {
    fn ordered(&mut self, effect: &Effect) {
        *self = match effect {
            Effect::AskBusy { .. } => Self::Asking,
            Effect::Stop { .. } => Self::Stopping,
            Effect::SnapshotStopped { snapshot, .. } => Self::Keeping { snapshot: *snapshot },
            Effect::Start { .. } => Self::Starting,
            Effect::Probe { .. } => match self {
                Self::Starting => Self::Probing,
                Self::Soaking => Self::Reprobing,
                _ => Self::Baselining,
            },
            _ => return,
        };
    }
}

impl ReturnStep {
    fn ordered(&mut self, effect: &Effect) {
        *self = match (effect, &*self) {
            (Effect::Stop { .. }, Self::Stopping { tries }) => Self::Stopping { tries: tries + 1 },
            (Effect::Stop { .. }, _) => Self::Stopping { tries: 1 },
            (Effect::Measure { .. }, _) => Self::Measuring,
            (Effect::Restore { .. }, Self::Restoring { tries }) => Self::Restoring { tries: tries + 1 },
            (Effect::Restore { .. }, _) => Self::Restoring { tries: 1 },
            (Effect::Start { .. }, Self::Reopening) => Self::Reopening,
            (Effect::Start { .. }, Self::Starting { tries }) => Self::Starting { tries: tries + 1 },
            (Effect::Start { .. }, _) => Self::Starting { tries: 1 },
            (Effect::Probe { .. }, Self::Probing { tries }) => Self::Probing { tries: tries + 1 },
            (Effect::Probe { .. }, _) => Self::Probing { tries: 1 },
            _ => return,
        };
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
