//! Folding: how each record changes the state, and nothing else.

use super::{
    Condition, Exempt, Hold, Instance, MoveStep, Moved, Phase, Pin, Rejection, ReturnStep, RolledBack, Run, Service,
    Streak,
};
use crate::{
    effect::Effect,
    event::{Aim, Cause, End, Event, Gate, Record, Settings, Verdict, WayBack},
    operations::rca,
    terms::{Digest, HoldId, InstanceName, OrderId, RunId, Timestamp},
};
use alloc::{collections::BTreeMap, vec::Vec};

impl Service {
    /// Folds a chain's records, oldest first.
    pub fn fold<'a>(records: impl IntoIterator<Item = &'a Record>) -> Self {
        let mut service = Self::default();
        for record in records {
            service.apply(record);
        }
        service
    }

    /// Folds one more record in.
    pub fn apply(&mut self, record: &Record) {
        self.records += 1;
        self.totals.count(&record.event);
        let at = record.at;
        match &record.event {
            Event::HoldSet { hold, reason, until, origin, in_flight } => {
                self.next.hold = self.next.hold.max(hold.0 + 1);
                let (owner, reason) = (record.by.clone(), reason.clone());
                let (until, origin, in_flight) = (*until, *origin, *in_flight);
                let (review, overdue, exempt) = (None, None, Vec::new());
                let held = Hold { owner, reason, since: at, until, review, overdue, origin, in_flight, exempt };
                self.holds.insert(*hold, held);
            }
            Event::HoldExempted { hold, exemption, asked_by } => {
                if let Some(held) = self.holds.get_mut(hold) {
                    let (asked_by, approved_by) = (asked_by.clone(), record.by.clone());
                    held.exempt.push(Exempt { exemption: exemption.clone(), asked_by, approved_by });
                }
            }
            Event::HoldReviewSet { hold, review } => {
                if let Some(held) = self.holds.get_mut(hold) {
                    (held.review, held.overdue) = (Some(*review), None);
                }
            }
            Event::HoldReviewDue { hold, again } => {
                if let Some(held) = self.holds.get_mut(hold) {
                    held.overdue = held.overdue.or(held.review);
                    held.review = Some(*again);
                }
            }
            Event::HoldLifted { hold, .. } => {
                self.holds.remove(hold);
            }
            Event::Pinned { tag, reason } => {
                self.pin = Some(Pin { tag: tag.clone(), by: record.by.clone(), reason: reason.clone() });
                self.settle_who_is_there();
            }
            Event::Unpinned { .. } => {
                self.pin = None;
                self.settle_who_is_there();
            }
            Event::Annotated { incident } => {
                self.incidents.insert(*incident);
            }
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
                let promoted = self.instances.values_mut().filter(|one| one.release.as_ref() == Some(release));
                promoted.for_each(Instance::ran_well);
                if self.last_good != Some(*release) {
                    self.previous_good = self.last_good;
                    self.promoted_at = Some(at);
                    self.health = None;
                    self.health_at = None;
                }
                self.traffic.degraded = self.traffic.degraded.take().filter(|one| one.release == *release);
                self.last_good = Some(*release);
                self.passed.insert(*release);
                // Who waited to be taken back from it is where it should be.
                let waits =
                    |one: &Instance| matches!(one.condition, Condition::LossHeld { .. } | Condition::Deferred { .. });
                let there = self.instances.iter().filter(|(_, one)| one.release == Some(*release) && waits(one));
                for name in there.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
                    self.settle(&name);
                }
                let warm = self.run.as_ref().and_then(|run| run.settings.traffic.as_ref()).map(|one| one.warm);
                self.stand_by(warm.unwrap_or_default(), true, at);
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
                let instance = self.instances.entry(instance.clone()).or_default();
                (instance.again_at, instance.hindered) = (None, 0);
            }
            Event::NotRevived { instance, again_at, .. } => {
                let instance = self.instances.entry(instance.clone()).or_default();
                instance.hindered += 1;
                instance.again_at = Some(*again_at);
            }
            Event::SetupAccepted { instance, release, setup, .. } => {
                let known = self.instances.entry(instance.clone()).or_default();
                known.setups.insert(*release, *setup);
                if let Some(begun) = known.begun.as_mut().filter(|begun| begun.release == *release) {
                    // Its next start is no order, so nothing else in the log would say what it runs with then.
                    begun.setup = *setup;
                }
            }
            Event::OutcomesCounted { outcomes, health } => {
                if self.health.map(|(known, _)| known) != Some(*health) {
                    self.health_at = Some(at);
                }
                self.health = Some((*health, *outcomes));
            }
            Event::WentStale { .. } => self.stale = true,
            Event::RewindAcknowledged { abandoned, .. } => self.next.pass_over(abandoned.unwrap_or_default()),
            Event::Gated { gate: Gate::Hold, verdict, because } => {
                if let Some(run) = &mut self.run {
                    run.held = (*verdict == Verdict::Hold).then(|| because.clone());
                }
            }
            Event::Gated { .. } | Event::WentOnWithout { .. } => {}
            Event::Traffic(event) => self.apply_traffic(event, record),
            Event::Analysis(event) => rca::apply(&mut self.analysis, at, &record.by, event),
            Event::Ordered { order, effect } => self.order(*order, effect, at),
            Event::Answered { order, answer } => self.answer(*order, answer, at),
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
        let standing = || self.traffic.standby.iter().flat_map(|standby| standby.side.instances.iter().cloned());
        let phase = match aim {
            Aim::Cool => Phase::Cooling { left: standing().collect() },
            _ => Phase::Checking,
        };
        self.run = Some(Run {
            id,
            aim: aim.clone(),
            by: record.by.clone(),
            started: record.at,
            settings: settings.clone(),
            holds_since: HoldId(self.next.hold),
            held: None,
            orders: BTreeMap::new(),
            gates: BTreeMap::new(),
            phase,
        });
    }

    fn end_run(&mut self, id: RunId, at: Timestamp, end: &End) {
        let run = self.run.take();
        let tries_only = run.as_ref().is_some_and(|run| run.aim == Aim::DryRun);
        if !tries_only && !matches!(end, End::Held { .. } | End::Rehearsed { .. } | End::Superseded | End::Cooled) {
            self.last_verdict = Some((id, end.clone()));
        }
        if matches!(end, End::UpToDate | End::RolledBack { .. } | End::RollbackFailed { .. } | End::RollbackHeld { .. })
        {
            self.nobody_waits();
        }
        match end {
            // A dry run changes nothing: neither what is accepted nor since when.
            _ if tries_only => {}
            End::Promoted | End::UpToDate => {
                self.behind = None;
                self.stale = false;
            }
            End::Rehearsed { .. } | End::Superseded | End::Cooled => {}
            _ => {
                let since = self.behind.take().map_or(at, |(since, _)| since);
                self.behind = Some((since, end.because()));
            }
        }
        if let End::RolledBack { cause } = end
            && !matches!(cause, Cause::Asked { .. } | Cause::Pinned { .. } | Cause::Halted { .. })
        {
            // The hold by which a machine stops itself is set in the same step, right before the end.
            let newest = self.holds.iter().next_back().filter(|(_, hold)| hold.since == at);
            self.rolled_back = newest.map(|(hold, _)| RolledBack { at, hold: *hold, because: end.because() });
        }
        self.last_end = Some((id, at, end.clone()));
    }

    fn order(&mut self, order: OrderId, effect: &Effect, at: Timestamp) {
        if matches!(effect, Effect::Start { .. } | Effect::Stop { .. } | Effect::Route { .. }) {
            self.moved_at = Some(at);
        }
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
        if let Effect::Route { route } = effect {
            self.traffic.ordered(route);
        }
        if let Effect::Prune { releases, .. } = effect {
            self.installed.retain(|digest, _| releases.contains(digest));
            for instance in self.instances.values_mut() {
                instance.setups.retain(|digest, _| releases.contains(digest));
            }
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
                        (instance.condition, instance.goes_back_to) = (Condition::Between, None);
                    }
                }
            }
            Phase::Returning { back, .. } => {
                if let Some((one, step)) = effect.instance().and_then(|name| back.get_mut(name)) {
                    step.ordered(effect);
                    if matches!(step, ReturnStep::Stopping { .. }) {
                        let known = self.instances.entry(one.instance.clone()).or_default();
                        (known.condition, known.goes_back_to) = (Condition::Between, one.to);
                    }
                }
            }
            Phase::Checking
            | Phase::Installing { .. }
            | Phase::Snapshotting { .. }
            | Phase::Rehearsing { .. }
            | Phase::Cooling { .. } => {}
            Phase::Shifting { .. } | Phase::Unshifting { .. } => self.traffic_ordered(effect, at),
        }
    }

    /// Records that `release` may touch the data from now on, whether or not the start succeeds.
    fn start_ordered(&mut self, name: &InstanceName, release: &Digest, at: Timestamp) {
        let on_trial = self.is_on_trial(name, release);
        let instance = self.instances.entry(name.clone()).or_default();
        if on_trial {
            // However it ran once: it is tried anew, and what it is tried with counts.
            instance.setups.remove(release);
        }
        if instance.release != Some(*release) {
            // Another release's deaths say nothing of this one.
            (instance.deaths, instance.streak) = (0, None);
        }
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
                    unstartable: None,
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
            Event::Deferred { instance, why, reason } => {
                match &mut run.phase {
                    Phase::Moving { steps, .. } => drop(steps.insert(instance.clone(), MoveStep::Deferred)),
                    Phase::Returning { back, .. } => {
                        if let Some((_, step)) = back.get_mut(instance) {
                            *step = ReturnStep::Deferred;
                        }
                    }
                    _ => {}
                }
                let known = self.instances.entry(instance.clone()).or_default();
                let since = match &known.condition {
                    // What waits for a person goes on waiting.
                    Condition::Stuck { .. } | Condition::LossHeld { .. } => return,
                    Condition::Deferred { since, .. } => *since,
                    Condition::Settled | Condition::Between => at,
                };
                known.condition = Condition::Deferred { why: why.clone(), reason: *reason, since, asked: at };
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
            // Who is asked first is where it was until it is stopped.
            for one in back.iter().filter(|_| !cause.can_wait()) {
                let known = self.instances.entry(one.instance.clone()).or_default();
                (known.condition, known.goes_back_to) = (Condition::Between, one.to);
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
            Event::ReturnFailed { instance, failure, reopens } => {
                if let Some((_, step)) = back.get_mut(instance) {
                    *step = if reopens.is_some() { ReturnStep::FailedReopening } else { ReturnStep::Failed };
                }
                let known = self.instances.entry(instance.clone()).or_default();
                known.condition = Condition::Stuck { failure: failure.clone() };
                known.stuck_since = Some(at);
            }
            _ => {}
        }
    }

    /// Settles who was left for later and runs last-good: what it waited for is not offered any more.
    fn nobody_waits(&mut self) {
        let Some(last_good) = self.last_good else { return };
        let there = self.instances.values_mut().filter(|one| one.release == Some(last_good));
        for one in there.filter(|one| matches!(one.condition, Condition::Deferred { .. })) {
            one.condition = Condition::Settled;
        }
    }

    fn settle(&mut self, name: &InstanceName) {
        let instance = self.instances.entry(name.clone()).or_default();
        instance.condition = Condition::Settled;
        instance.ran_well();
        instance.deaths = 0;
        (instance.again_at, instance.hindered) = (None, 0);
        instance.streak = None;
        (instance.stuck_since, instance.goes_back_to) = (None, None);
    }
}
