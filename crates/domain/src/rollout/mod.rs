//! The step function of a service: what happens next, and nothing else.
//!
//! [`step`] takes the folded state and one input and returns the events to append. It reads no clock, store
//! or network, so the log can replay it and the simulator can crash it anywhere. An answer and everything
//! decided from it are one list, appended in one transaction: a live run therefore always has either an
//! outstanding order or a time it waits for.

mod concluding;
mod foresee;
mod forward;
mod gates;
mod lanes;
mod passing;
mod plan;
mod rehearsal;
mod required;
mod returning;
mod traffic;
mod watch;

pub use foresee::{Begin, Foreseen, Next, foresee};
pub use gates::PLAN_MOVED;
pub use returning::keeps_data;
pub(crate) use traffic::returning::proven_back;

use crate::{
    effect::{Answer, Effect},
    event::{Aim, End, Event, Health, Record, Settings, Verdict, WayBack},
    facts::Outcomes,
    failure::Failure,
    operations::{hold::InFlight, rca},
    service::{MoveStep, Phase, Service},
    terms::{Actor, Digest, HoldId, InstanceName, OrderId, RunId, SnapshotId, Span, Timestamp},
    traffic::{Share, TrafficEvent},
};
use alloc::{string::String, vec::Vec};

/// Something a service must react to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Begin a run.
    Begin {
        /// What for.
        aim: Aim,
        /// From the configuration.
        settings: Settings,
        /// Why a freeze file holds everything, if one exists.
        frozen: Option<String>,
        /// What was seen of what must stand before a forward move; none where nothing is declared. A way back
        /// never asks.
        preflight: Option<Checked>,
    },
    /// An order came to an end.
    Answer {
        /// Which.
        order: OrderId,
        /// How.
        answer: Answer,
    },
    /// It was looked at what holds forward moves and stands nowhere in the log: a freeze file, or a hold over several
    /// services that has not reached this one.
    Held {
        /// What, if anything does.
        because: Option<String>,
    },
    /// Time passed.
    Tick,
    /// An instance's process ended without being told to.
    Died {
        /// Which.
        instance: InstanceName,
        /// What is known.
        why: String,
        /// From the configuration.
        settings: Settings,
    },
    /// Users' outcomes since the last promotion were counted.
    Counted {
        /// What was counted.
        outcomes: Outcomes,
        /// From the configuration.
        settings: Settings,
    },
    /// Look whether waiting has become an alarm.
    Review {
        /// From the configuration.
        settings: Settings,
    },
    /// The guards were asked about a release on trial.
    Judged {
        /// Which, and at which share: an answer that comes late is about nothing.
        on: Judging,
        /// What they say.
        verdict: Verdict,
        /// The numbers.
        because: String,
        /// From the configuration.
        settings: Settings,
    },
    /// It was looked how much a release on trial answers by a fallback.
    Degrading {
        /// Which, and at which share: an answer that comes late is about nothing.
        on: Judging,
        /// Degraded or good; what nobody can tell changes nothing.
        health: Health,
        /// The numbers.
        because: String,
        /// From the configuration.
        settings: Settings,
    },
    /// A release that was left has no request and no tunnel any more.
    Emptied {
        /// Which.
        release: Digest,
    },
    /// An instance that died was started again.
    Revived {
        /// Which.
        instance: InstanceName,
    },
    /// The machine kept an instance that died from being started again.
    NotRevived {
        /// Which.
        instance: InstanceName,
        /// What stood in the way.
        failure: Failure,
    },
    /// A person's decision or an observation that needs no further thought; a hold gets its id here.
    Say(Event),
}

/// What checks outside came to, just before a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// The worst of them.
    pub verdict: Verdict,
    /// The numbers.
    pub because: String,
}

/// What the guards were asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judging {
    /// The release on trial.
    pub release: Digest,
    /// Its share; all after a promotion.
    pub share: Share,
}

/// Why an input does not fit; nothing has changed then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IllegalStep {
    /// A run is under way already.
    #[error("run {0} is under way")]
    RunUnderWay(RunId),
    /// The order is not outstanding: it was superseded or answered before.
    #[error("order {0} is not outstanding")]
    LateAnswer(OrderId),
    /// What only a run decides is nothing that can be stated.
    #[error("only a run decides this")]
    NotAStatement,
    /// There is nowhere to go back to.
    #[error("{0}")]
    NoWayBack(String),
}

/// Returns the events that `input` causes at `now`, in the order they must be appended.
///
/// Errors: [`IllegalStep`] if the input has no place in this state.
pub fn step(service: &Service, input: Input, by: &Actor, now: Timestamp) -> Result<Vec<Record>, IllegalStep> {
    let mut deciding = Deciding { service: service.clone(), said: Vec::new(), by: by.clone(), now };
    match input {
        Input::Begin { aim, settings, frozen, preflight } => {
            gates::begin(&mut deciding, aim, settings, frozen, preflight)?;
        }
        Input::Answer { order, answer } => answered(&mut deciding, order, answer)?,
        Input::Held { because } => gates::looked(&mut deciding, because),
        Input::Tick => {
            forward::tick(&mut deciding);
            returning::tick(&mut deciding);
            traffic::shifting::go_on(&mut deciding);
            traffic::returning::tick(&mut deciding);
        }
        Input::Died { instance, why, settings } => forward::died(&mut deciding, instance, why, settings),
        Input::Counted { outcomes, settings } => watch::counted(&mut deciding, outcomes, settings),
        Input::Judged { on, verdict, because, settings } => {
            traffic::judged(&mut deciding, on, verdict, because, settings)
        }
        Input::Degrading { on, health, because, settings } => {
            traffic::degrading(&mut deciding, on, health, because, settings)
        }
        Input::Emptied { release } => traffic::emptied(&mut deciding, release),
        Input::Review { settings } => watch::review(&mut deciding, &settings),
        Input::Revived { instance } => deciding.say(Event::Revived { instance }),
        Input::NotRevived { instance, failure } => forward::not_revived(&mut deciding, instance, failure),
        // The id is given here: two people who read the same log must not set the same hold.
        Input::Say(Event::HoldSet { reason, until, origin, in_flight, .. }) => {
            let hold = HoldId(deciding.service.next.hold);
            deciding.say(Event::HoldSet { hold, reason, until, origin, in_flight });
            if in_flight == InFlight::Abort {
                lanes::abort(&mut deciding, hold);
            }
        }
        Input::Say(event) if is_statement(&event) => deciding.say(event),
        Input::Say(_) => return Err(IllegalStep::NotAStatement),
    }
    Ok(deciding.said)
}

/// Tells whether an event is a person's decision or an observation: what a run decides comes from its decisions alone.
fn is_statement(event: &Event) -> bool {
    match event {
        Event::HoldSet { .. }
        | Event::HoldLifted { .. }
        | Event::HoldReviewSet { .. }
        | Event::HoldReviewDue { .. }
        | Event::HoldExempted { .. }
        | Event::Pinned { .. }
        | Event::Unpinned { .. }
        | Event::Rejected { .. }
        | Event::Waived { .. }
        | Event::Annotated { .. }
        | Event::WentOnWithout { .. }
        | Event::SetupAccepted { .. }
        | Event::RewindAcknowledged { .. }
        | Event::Analysis(_) => true,
        Event::Traffic(event) => {
            matches!(event, TrafficEvent::EntriesStopped { .. } | TrafficEvent::EntriesResumed { .. })
        }
        _ => false,
    }
}

/// Gives the time at which a tick will change something, if the run waits for one.
pub fn wakes_at(service: &Service, now: Timestamp) -> Option<Timestamp> {
    match service.run.as_ref().map(|run| &run.phase) {
        Some(Phase::Moving { soak_until, steps, .. }) if steps.values().any(|step| *step == MoveStep::Soaking) => {
            *soak_until
        }
        Some(Phase::Returning { back, .. }) => {
            [returning::wakes_at(back), traffic::wakes_at(service, now)].into_iter().flatten().min()
        }
        _ => traffic::wakes_at(service, now),
    }
}

/// Longest wait before a program that died is started again.
pub const BACK_OFF_MAX: Span = Span::minutes(5);

/// Gives how long to wait before a program that died is started again.
///
/// 1 s, doubled with each death up to 5 min: a crash loop must not starve the machine, and a restart that
/// helps must not wait long.
pub fn back_off(deaths: u32) -> Span {
    Span::seconds(1_u64 << deaths.min(9)).min(BACK_OFF_MAX)
}

/// Moves kept for going back further than one release: enough for two bad promotions in a row.
const HISTORY_KEPT: usize = 3;

/// The state as it becomes while events are said, so that each decision sees the ones before it.
struct Deciding {
    service: Service,
    said: Vec<Record>,
    by: Actor,
    now: Timestamp,
}

impl Deciding {
    fn say(&mut self, event: Event) {
        let record = Record { v: Record::VERSION, at: self.now, by: self.by.clone(), event };
        self.service.apply(&record);
        self.said.push(record);
    }

    fn order(&mut self, effect: Effect) {
        let order = OrderId(self.service.next.order);
        self.say(Event::Ordered { order, effect });
    }

    fn next_snapshot(&self) -> SnapshotId {
        SnapshotId(self.service.next.snapshot)
    }

    fn end(&mut self, end: End) {
        let Some(run) = &self.service.run else { return };
        let (run, took_copies) = (run.id, !matches!(run.phase, Phase::Checking | Phase::Installing { .. }));
        // What is neither here nor there keeps every copy there is.
        let unfinished = matches!(end, End::RollbackFailed { .. } | End::RollbackHeld { .. });
        if took_copies && !unfinished {
            self.prune();
        }
        if end == End::Promoted {
            self.lay_ready();
        }
        let owed = self.settings().and_then(|settings| rca::owed_for(&end, settings.rca, self.now));
        owed.into_iter().for_each(|event| self.say(event));
        self.say(Event::RunEnded { run, end });
    }

    /// Orders that the way back of each instance that needs its data lies beside it.
    ///
    /// Not before the release has passed: until then each move is young, and the disk is busy with the next one.
    fn lay_ready(&mut self) {
        let newest = self.service.instances.iter().filter_map(|(name, instance)| {
            let moved = instance.history.last()?;
            (moved.way_back == WayBack::Restore).then(|| (name.clone(), moved.snapshot))
        });
        for (instance, snapshot) in newest.collect::<Vec<_>>() {
            self.order(Effect::LayReady { instance, snapshot });
        }
    }

    /// Orders that only what some way back needs is kept.
    fn prune(&mut self) {
        let mut snapshots = Vec::new();
        let mut releases = Vec::new();
        for instance in self.service.instances.values() {
            releases.extend(instance.release);
            for moved in instance.history.iter().rev().take(HISTORY_KEPT) {
                snapshots.push(moved.snapshot);
                releases.extend(moved.from);
            }
        }
        releases.extend(self.service.last_good);
        releases.extend(self.service.previous_good);
        snapshots.sort();
        releases.sort();
        releases.dedup();
        self.order(Effect::Prune { snapshots, releases });
    }

    /// Ends a run in which nothing was moved.
    fn stop(&mut self, failure: Failure) {
        self.end(End::Stopped { failure });
    }

    /// Tells whether something is under way on an instance.
    fn is_ordered(&self, instance: &InstanceName) -> bool {
        let orders = self.service.run.iter().flat_map(|run| run.orders.values());
        orders.into_iter().any(|effect| effect.instance() == Some(instance))
    }

    fn settings(&self) -> Option<&Settings> {
        self.service.run.as_ref().map(|run| &run.settings)
    }

    fn phase(&self) -> Option<&Phase> {
        self.service.run.as_ref().map(|run| &run.phase)
    }

    fn is_dry(&self) -> bool {
        matches!(self.service.run.as_ref().map(|run| &run.aim), Some(Aim::DryRun))
    }
}

fn answered(deciding: &mut Deciding, order: OrderId, answer: Answer) -> Result<(), IllegalStep> {
    let late = IllegalStep::LateAnswer(order);
    let run = deciding.service.run.as_ref().ok_or_else(|| late.clone())?;
    let effect = run.orders.get(&order).cloned().ok_or(late)?;
    deciding.say(Event::Answered { order, answer: answer.clone() });
    if effect.is_housekeeping() {
        return Ok(());
    }
    match deciding.phase() {
        Some(Phase::Checking) => gates::checked(deciding, effect, answer),
        Some(Phase::Installing { .. }) => gates::installed(deciding, effect, answer),
        Some(Phase::Snapshotting { .. }) => rehearsal::snapshotted(deciding, answer),
        Some(Phase::Rehearsing { .. }) => rehearsal::rehearsed(deciding, effect, answer),
        Some(Phase::Moving { .. }) => forward::answered(deciding, effect, answer),
        Some(Phase::Returning { .. }) => returning::answered(deciding, effect, answer),
        Some(Phase::Shifting { .. }) => traffic::shifting::answered(deciding, effect, answer),
        Some(Phase::Unshifting { .. }) => traffic::returning::answered(deciding, effect, answer),
        Some(Phase::Cooling { .. }) => traffic::cooled(deciding, answer),
        None => {}
    }
    Ok(())
}
