//! The promises of DESIGN, checked on the records alone, independently of the code that decides.
//!
//! The machine checks its own promises (data, rows, processes) after every step of an effect; this checks
//! what was decided and recorded. It keeps only what it needs and shares no code with the fold.

mod held;
mod seen;
mod setups;

use crate::{
    machine::Machine,
    shared::checks::{Around, Shifts},
};
use held::Held;
use lastgood_domain::{
    effect::{Answer, Effect, Leg},
    event::{Aim, Back, Cause, End, Event, Record, Settings},
    facts::Busyness,
    terms::{Digest, HoldId, InstanceName, OrderId, RunId, SnapshotId, Span, Timestamp},
    traffic::TrafficEvent,
};
use setups::Setups;
use std::collections::{BTreeMap, BTreeSet};

/// Longest time until whoever drives looks whether a hold still stands.
const AWAKE: Span = Span::seconds(15);

/// What the records say so far.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    holds: BTreeMap<HoldId, Held>,
    holds_ever: BTreeSet<HoldId>,
    rejected: BTreeSet<Digest>,
    last_good: Option<Digest>,
    orders: BTreeMap<OrderId, (Effect, Timestamp)>,
    newest_order: Option<OrderId>,
    run: Option<Seen>,
    /// Instances that were stopped and of which no record says where they ended.
    between: BTreeSet<InstanceName>,
    /// Snapshots that are back, and whether something was started on them since.
    undone: BTreeMap<InstanceName, (SnapshotId, bool)>,
    at: Timestamp,
    /// When a hold was lifted last.
    lifted: Timestamp,
    shifts: Shifts,
    setups: Setups,
}

/// One run as its records show it.
#[derive(Debug)]
struct Seen {
    id: RunId,
    aim: Aim,
    settings: Settings,
    began_held: bool,
    /// The first hold that was set since it began.
    holds_since: HoldId,
    legs: BTreeSet<(Digest, Leg)>,
    has_control: bool,
    proven: Option<Digest>,
    moving: Option<Digest>,
    /// It moves those left behind to what is last-good already.
    is_late: bool,
    back: Option<BTreeMap<InstanceName, Back>>,
    /// Only a pin asks for its way back: who is in use is not stopped for it.
    asks: bool,
    reopening: BTreeSet<InstanceName>,
    over: BTreeMap<InstanceName, &'static str>,
    soak_until: Option<Timestamp>,
    steps: BTreeMap<InstanceName, Steps>,
    left: Option<Digest>,
    /// The hold with which its way back stopped the service, whether or not somebody has lifted it since.
    stopped_by: Option<HoldId>,
}

/// What one instance went through in this run.
#[derive(Debug, Default)]
struct Steps {
    idle: bool,
    stopped: bool,
    kept: bool,
    kept_as: Option<SnapshotId>,
    started: bool,
    /// Its last start or probe said something against the release.
    tried_in_vain: bool,
    probe_ordered_at: Option<Timestamp>,
    probed: bool,
    measured: Option<Answer>,
    restored: bool,
    restored_and_started: bool,
    moved: bool,
}

impl Checker {
    /// Checks the records of one append.
    pub(crate) fn observe(&mut self, records: &[Record], machine: &mut Machine) {
        for (at, record) in records.iter().enumerate() {
            self.at = record.at;
            let mut wrong = Vec::new();
            self.record(record, records.get(at + 1..).unwrap_or_default(), machine, &mut wrong);
            machine.violations.append(&mut wrong);
        }
        self.lives(machine);
    }

    /// A run that is under way waits for an order or for a time, or it would stand still for ever.
    fn lives(&self, machine: &mut Machine) {
        let Some(run) = &self.run else { return };
        let mut works = self.orders.values().map(|(effect, _)| effect);
        let works = works.any(|effect| !effect.is_housekeeping());
        let held = self.held() || self.at.since(self.lifted) < AWAKE || self.expired_just_now();
        let shifts = machine.shared.is_some() && self.shifts.waits(self.at, held);
        if !works && run.soak_until.is_none() && !shifts {
            machine.violated(format!("{} is under way and waits for nothing", run.id));
        }
    }

    fn record(&mut self, record: &Record, rest: &[Record], machine: &Machine, wrong: &mut Vec<String>) {
        self.start_with(&record.event, wrong);
        if machine.shared.is_some() {
            self.share(&record.event, rest, machine, wrong);
        }
        self.stops_itself(&record.event, rest);
        match &record.event {
            Event::HoldSet { hold, until, in_flight, .. } => {
                if !self.holds_ever.insert(*hold) {
                    wrong.push(format!("{hold} was given twice"));
                }
                self.holds.insert(*hold, Held::new(*until, *in_flight));
            }
            Event::HoldExempted { hold, exemption, asked_by } => {
                self.exempted(*hold, exemption, (asked_by, &record.by), wrong)
            }
            Event::HoldLifted { hold, .. } => {
                self.holds.remove(hold);
                self.lifted = record.at;
                let stops = self.run.as_ref().is_some_and(|run| run.stopped_by == Some(*hold));
                if stops && !record.by.as_str().starts_with("person:") {
                    wrong.push(format!("{} lifted {hold}, with which the service had stopped itself", record.by));
                }
            }
            Event::Rejected { release, .. } => {
                self.rejected.insert(*release);
            }
            Event::Waived { release, .. } => {
                self.rejected.remove(release);
            }
            Event::RunStarted { run, aim, settings } => self.run_started(*run, aim, settings, wrong),
            Event::RunEnded { run, end } => self.run_ended(*run, end, machine, wrong),
            Event::Ordered { order, effect } => self.ordered(*order, effect, machine, wrong),
            Event::Answered { order, answer } => self.answered(*order, answer, wrong),
            Event::Promoted { release, behind } => self.promoted(release, behind, machine, wrong),
            Event::Demoted { release } => self.last_good = *release,
            Event::MoveBegun { release, .. } => {
                let is_late = self.last_good == Some(*release);
                if let Some(run) = &mut self.run {
                    run.is_late = is_late;
                    run.note(&record.event, &mut self.between, wrong);
                }
            }
            Event::ReturnBegun { cause, back, .. } => self.return_begun(cause, back, rest, wrong),
            event => {
                if let Some(run) = &mut self.run {
                    run.note(event, &mut self.between, wrong);
                }
            }
        }
    }

    /// Checks with what instances are started.
    fn start_with(&mut self, event: &Event, wrong: &mut Vec<String>) {
        match event {
            Event::Ordered { effect: Effect::Start { instance, release }, .. } => {
                let moving = self.run.as_ref().filter(|run| run.back.is_none()).and_then(|run| run.moving);
                let candidate = moving.or(self.shifts.candidate());
                self.setups.ordered(instance, *release, candidate == Some(*release));
            }
            Event::Answered { order, answer: Answer::Started { setup: Some(setup), .. } } => {
                if let Some((Effect::Start { instance, release }, _)) = self.orders.get(order) {
                    self.setups.started(instance, *release, *setup, wrong);
                }
            }
            Event::Moved { instance } | Event::Returned { instance } => self.setups.ran_well(instance),
            Event::Promoted { release, .. } => self.setups.promoted(*release),
            _ => {}
        }
    }

    /// Checks what a record says of shared traffic.
    fn share(&mut self, event: &Event, rest: &[Record], machine: &Machine, wrong: &mut Vec<String>) {
        let around = Around { at: self.at, held: self.held(), rejected: &self.rejected, machine };
        match event {
            Event::RunStarted { aim, settings, .. } => self.shifts.run_started(aim, settings),
            Event::Ordered { effect, .. } => self.shifts.ordered(effect, &around, wrong),
            Event::Answered { order, answer } => {
                if let Some((effect, _)) = self.orders.get(order) {
                    self.shifts.answered(effect, answer);
                }
            }
            event => self.shifts.note(event, &around, wrong),
        }
        let Event::Traffic(TrafficEvent::ReturnBegun { left, .. }) = event else { return };
        // What was ordered on the way forward is void.
        self.orders.clear();
        let begins = |record: &Record| {
            matches!(
                &record.event,
                Event::Ordered { effect: Effect::Route { .. } | Effect::Start { .. } | Effect::Stop { .. }, .. }
            )
        };
        if !rest.iter().any(begins) {
            wrong.push("a way back did not begin at once".into());
        }
        match &mut self.run {
            Some(run) => (run.left, run.back) = (Some(*left), Some(BTreeMap::new())),
            None => wrong.push("a return outside a run".into()),
        }
    }

    fn run_started(&mut self, id: RunId, aim: &Aim, settings: &Settings, wrong: &mut Vec<String>) {
        if let Some(run) = &self.run {
            wrong.push(format!("{id} began while {} was under way", run.id));
        }
        self.orders.clear();
        self.run = Some(Seen {
            id,
            aim: aim.clone(),
            settings: settings.clone(),
            began_held: self.closed() && matches!(aim, Aim::Track | Aim::Drain),
            holds_since: self.next_hold(),
            legs: BTreeSet::new(),
            has_control: false,
            proven: None,
            moving: None,
            is_late: false,
            back: None,
            asks: false,
            reopening: BTreeSet::new(),
            over: BTreeMap::new(),
            soak_until: None,
            steps: BTreeMap::new(),
            left: None,
            stopped_by: None,
        });
    }

    fn ordered(&mut self, order: OrderId, effect: &Effect, machine: &Machine, wrong: &mut Vec<String>) {
        if self.newest_order.is_some_and(|newest| newest >= order) {
            wrong.push(format!("{order} is not newer than the orders before it"));
        }
        self.newest_order = Some(order);
        match effect {
            Effect::Restore { instance, snapshot } if self.undone.get(instance) == Some(&(*snapshot, true)) => {
                wrong.push(format!("{instance}: {snapshot} goes back over what was written since it came back"));
            }
            Effect::Start { instance, .. } => {
                if let Some((_, started)) = self.undone.get_mut(instance) {
                    *started = true;
                }
            }
            _ => {}
        }
        self.orders.insert(order, (effect.clone(), self.at));
        let release = match effect {
            Effect::Start { release, .. } => Some(*release),
            _ => self.run.as_ref().and_then(|run| run.moving),
        };
        let held = self.stops(release) || machine.weather.frozen;
        let rejected = matches!(effect, Effect::Start { release, .. } if self.rejected.contains(release));
        let Some(run) = &mut self.run else {
            return wrong.push(format!("{order} was given outside a run"));
        };
        let moves = matches!(
            effect,
            Effect::Stop { .. } | Effect::Start { .. } | Effect::Restore { .. } | Effect::SnapshotStopped { .. }
        );
        if let Effect::Prune { snapshots, releases } = effect {
            let gone = |step: &&Steps| step.moved && step.kept_as.is_some_and(|id| !snapshots.contains(&id));
            if run.back.is_none() && run.steps.values().any(|step| gone(&step)) {
                wrong.push(format!("{} prunes a snapshot that its own way back needs", run.id));
            }
            if self.last_good.is_some_and(|release| !releases.contains(&release)) {
                wrong.push(format!("{} prunes last-good", run.id));
            }
        }
        if run.began_held && run.back.is_none() {
            wrong.push(format!("{} began under a hold and ordered {effect:?}", run.id));
        }
        if moves && run.aim == Aim::DryRun {
            wrong.push(format!("dry {} ordered {effect:?}", run.id));
        }
        if machine.shared.is_some() {
            // Checked apart: instances are not moved here, people are.
        } else if run.back.is_some() {
            if let (true, Effect::Stop { instance }) = (run.asks, effect)
                && self.between.insert(instance.clone())
                && !run.steps.get(instance).is_some_and(|step| step.idle)
            {
                wrong.push(format!("{instance} was stopped for a pin without a busy check that says idle"));
            }
            run.ordered_back(effect, self.at, machine, wrong);
        } else if moves || matches!(effect, Effect::Probe { .. } | Effect::AskBusy { .. }) {
            let changes = matches!(effect, Effect::Stop { .. } | Effect::Start { .. });
            if held && changes {
                wrong.push(format!("a hold stands and {effect:?} was ordered"));
            }
            if rejected {
                wrong.push(format!("rejected, but {effect:?} was ordered"));
            }
            run.ordered_forward(effect, self.at, wrong);
            if let Effect::Stop { instance } = effect {
                self.between.insert(instance.clone());
            }
        }
    }

    fn answered(&mut self, order: OrderId, answer: &Answer, wrong: &mut Vec<String>) {
        let Some((effect, _)) = self.orders.remove(&order) else {
            return wrong.push(format!("{order} was answered, but it is not outstanding"));
        };
        if let (Effect::Restore { instance, snapshot }, Answer::Restored { .. }) = (&effect, answer) {
            self.undone.insert(instance.clone(), (*snapshot, false));
        }
        let Some(run) = &mut self.run else { return };
        if let (Effect::Rehearse { release, leg, .. }, Answer::RehearsalPassed { .. }) = (&effect, answer) {
            run.legs.insert((*release, *leg));
        }
        if let Effect::Rehearse { leg: Leg::Control, .. } = effect {
            run.has_control = true;
        }
        let Some(name) = effect.instance() else { return };
        let step = run.steps.entry(name.clone()).or_default();
        if matches!(effect, Effect::Start { .. } | Effect::Probe { .. }) {
            step.tried_in_vain = matches!(answer, Answer::Failed { .. }) || answer.is_half_restored();
        }
        match (&effect, answer) {
            (Effect::AskBusy { .. }, Answer::BusyAsked { busyness }) => {
                step.idle = *busyness == Busyness::Idle;
            }
            (Effect::Stop { .. }, Answer::Stopped) => step.stopped = true,
            (Effect::SnapshotStopped { snapshot, .. }, Answer::Snapshotted { .. }) => {
                step.kept = step.stopped;
                step.kept_as = Some(*snapshot);
            }
            (Effect::Start { .. }, Answer::Started { .. }) => step.started = true,
            (Effect::Probe { .. }, Answer::ProbePassed { .. }) => step.probed = step.started,
            (Effect::Probe { .. }, _) => step.probed = false,
            (Effect::Measure { .. }, answer) => step.measured = Some(answer.clone()),
            (Effect::Restore { .. }, Answer::Restored { .. }) => step.restored = true,
            _ => {}
        }
    }

    fn promoted(&mut self, release: &Digest, behind: &[InstanceName], machine: &Machine, wrong: &mut Vec<String>) {
        self.last_good = Some(*release);
        // Where people are moved by an order, no hold may stand when that is given.
        let held = (self.stops(Some(*release)) || machine.weather.frozen) && machine.shared.is_none();
        let rejected = self.rejected.contains(release);
        let Some(run) = &self.run else { return wrong.push("promoted outside a run".into()) };
        if held {
            wrong.push("promoted while a hold stands".into());
        }
        if rejected {
            wrong.push("a rejected release was promoted".into());
        }
        if run.back.is_some() || run.moving != Some(*release) || !matches!(run.aim, Aim::Track | Aim::Drain) {
            wrong.push("promoted without a plan for it".into());
        }
        for (name, step) in &run.steps {
            if step.started && !step.moved && machine.shared.is_none() && !behind.contains(name) {
                wrong.push(format!("promoted, but {name} has not passed"));
            }
        }
    }

    fn return_begun(&mut self, cause: &Cause, back: &[Back], rest: &[Record], wrong: &mut Vec<String>) {
        let asks = matches!(cause, Cause::Pinned { .. });
        for one in back {
            let begins = rest.iter().any(|record| match &record.event {
                Event::Ordered { effect: Effect::Stop { instance }, .. } => !asks && *instance == one.instance,
                Event::Ordered { effect: Effect::AskBusy { instance }, .. } => asks && *instance == one.instance,
                _ => false,
            });
            if !begins {
                wrong.push(format!("{}: its way back did not begin at once", one.instance));
            }
            if !asks {
                self.between.insert(one.instance.clone());
            }
        }
        self.orders.clear();
        let last_good = self.last_good;
        let Some(run) = &mut self.run else { return wrong.push("a return outside a run".into()) };
        let all = !matches!(cause, Cause::Halted { .. });
        for (name, step) in &run.steps {
            let touched = step.stopped && run.moving.is_some() && (all || !step.moved);
            if touched && !back.iter().any(|one| one.instance == *name) {
                wrong.push(format!("{name} was stopped by this run and does not go back"));
            }
        }
        run.left = run.moving.or(last_good);
        run.back = Some(back.iter().map(|one| (one.instance.clone(), one.clone())).collect());
        run.asks = asks;
        run.soak_until = None;
        run.steps.clear();
    }

    fn run_ended(&mut self, id: RunId, end: &End, machine: &Machine, wrong: &mut Vec<String>) {
        self.orders.clear();
        let Some(run) = self.run.take() else { return wrong.push(format!("{id} ended without beginning")) };
        if run.id != id {
            wrong.push(format!("{id} ended instead of {}", run.id));
        }
        self.shifts.run_ended();
        if *end == End::Superseded {
            return;
        }
        for name in &self.between {
            wrong.push(format!("{id} ended and left {name} between two releases"));
        }
        let failed = run.over.values().any(|how| *how == "failed");
        let held = run.over.values().any(|how| *how == "held");
        match end {
            End::RollbackFailed { .. } if failed => {}
            End::RollbackHeld { .. } if held && !failed => {}
            End::RollbackFailed { .. } | End::RollbackHeld { .. } => {
                wrong.push(format!("{id} tells of a return that did not fail"));
            }
            _ if failed || held => wrong.push(format!("{id} hides a return that did not succeed")),
            _ => {}
        }
        if let End::RolledBack { cause } = end {
            self.rolled_back(&run, cause, machine, wrong);
        }
    }

    fn rolled_back(&self, run: &Seen, cause: &Cause, machine: &Machine, wrong: &mut Vec<String>) {
        let blames =
            matches!(cause, Cause::Candidate { .. } | Cause::Broken { .. } | Cause::Guard { .. } | Cause::Gate { .. });
        if let Some(left) = run.left.filter(|_| blames) {
            if !self.rejected.contains(&left) && !run.is_late {
                wrong.push("a release that failed was not rejected".into());
            }
            if run.stopped_by.is_none() {
                wrong.push("the service did not stop itself after a failure".into());
            }
            if self.last_good == Some(left) && !run.is_late {
                wrong.push("a release that failed is still last-good".into());
            }
        }
        for (name, one) in run.back.iter().flatten() {
            if run.over.get(name) != Some(&"returned") {
                wrong.push(format!("{name} is said to be back and is not"));
            }
            let up = machine.places.get(name).and_then(|place| place.up);
            let wanted = one.to.and_then(|to| machine.recipe(&to));
            if up.is_some() && up != wanted {
                wrong.push(format!("{name} is said to be back and runs something else"));
            }
        }
    }

    /// Checks what must hold when nothing is under way any more.
    pub(crate) fn calm(&self, machine: &mut Machine) {
        if let Some(run) = &self.run {
            machine.violated(format!("{} does not end without a person", run.id));
        }
        for name in &self.between {
            machine.violated(format!("{name} was left between two releases"));
        }
    }
}
