//! Folding: what shared traffic changes in a service.

use super::{MoveStep, Phase, Raised, Service, TRIES_MAX};
use crate::{
    effect::{Answer, Effect},
    event::{Record, Verdict},
    terms::{InstanceName, Span, Timestamp},
    traffic::{Brought, Standby, TrafficEvent},
};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Time that closing tunnels takes after their deadline: the router's look, and what it gives clients to answer.
pub(crate) const CLOSING: Span = Span::seconds(15);

/// Required gates of which nobody can tell whether the candidate passes them, while its share stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unproven {
    /// Since when.
    pub since: Timestamp,
    /// When they were asked last.
    pub asked: Timestamp,
}

impl Unproven {
    /// Time from one asking to the next: a check that a person repeats or an override is seen soon, and a load test is
    /// not run without pause.
    pub const EVERY: Span = Span::seconds(30);

    /// Tells whether nobody has asked for so long, as under a hold, that the doubt counts no more. One from the future,
    /// after the clock was set back, doesn't either.
    pub(crate) fn is_over(&self, now: Timestamp) -> bool {
        now < self.asked || now.since(self.asked) > Span(2 * Self::EVERY.0)
    }
}

impl Service {
    pub(super) fn apply_traffic(&mut self, event: &TrafficEvent, record: &Record) {
        self.traffic.apply(event, &record.by, record.at);
        if let TrafficEvent::Returned { .. } = event
            && self.leaves_with_this_run()
        {
            self.stand_by(Span::ZERO, false, record.at);
        }
        let Some(run) = &mut self.run else { return };
        match event {
            TrafficEvent::ShiftBegun { release, instances, .. } => {
                // What older releases brought is everybody's by now.
                let serves = self.last_good;
                self.traffic.brought.retain(|release, _| Some(*release) == serves);
                // Nobody trips today for what was broken long ago.
                self.traffic.tripping.clear();
                run.phase = Phase::Shifting {
                    release: *release,
                    steps: instances.iter().map(|name| (name.clone(), MoveStep::Waiting)).collect(),
                    ordered: 0,
                    until: None,
                    resumed: false,
                    unproven: None,
                };
            }
            TrafficEvent::ShareBegun { until: end, .. } => {
                if let Phase::Shifting { until, .. } = &mut run.phase {
                    *until = Some(*end);
                }
            }
            TrafficEvent::ReturnBegun { cause, left, to, raise } => {
                // What was ordered on the way forward is void: late answers are refused by their ids.
                run.orders.clear();
                run.phase = Phase::Unshifting {
                    cause: cause.clone(),
                    left: *left,
                    to: *to,
                    raise: raise.iter().map(|name| (name.clone(), Raised::Starting { tries: 0 })).collect(),
                    told: 0,
                    since: record.at,
                    returned: false,
                };
            }
            TrafficEvent::Returned { .. } => {
                if let Phase::Unshifting { returned, .. } = &mut run.phase {
                    *returned = true;
                }
            }
            TrafficEvent::Judged { .. }
            | TrafficEvent::Degraded { .. }
            | TrafficEvent::DegradedNoMore { .. }
            | TrafficEvent::Emptied { .. }
            | TrafficEvent::EntriesStopped { .. }
            | TrafficEvent::EntriesResumed { .. } => {}
        }
    }

    /// Tells whether what the way back under way leaves is told to leave; one that was never started is not, and what
    /// stands by from before stays as it is.
    fn leaves_with_this_run(&self) -> bool {
        let Some(Phase::Unshifting { left, .. }) = self.run.as_ref().map(|run| &run.phase) else { return true };
        self.traffic.route.iter().flat_map(|route| &route.leaving).any(|one| one.side.release == *left)
    }

    /// Lets what is left stand by: at least until its tunnels' deadline.
    pub(super) fn stand_by(&mut self, at_least: Span, warm: bool, at: Timestamp) {
        let left = self.traffic.route.as_ref().and_then(|route| route.leaving.first());
        let Some(left) = left else { return };
        // The router closes the last tunnels at the deadline; nobody is stopped while it does.
        let until = at.after(at_least).max(left.deadline.after(CLOSING));
        self.traffic.standby = Some(Standby { side: left.side.clone(), until, warm, empty: false });
    }

    /// Tells whether users depend on an instance: where traffic is shared, on those of last-good's side. The other side is
    /// empty, stands by, or is on trial.
    pub fn serves(&self, name: &InstanceName) -> bool {
        self.traffic.last_good().is_none_or(|side| side.instances.contains(name))
    }

    /// Tells whether an instance that died is to stay down: it gets no traffic, and its release was left for a fault.
    pub fn stays_down(&self, name: &InstanceName) -> bool {
        let Some(release) = self.instances.get(name).and_then(|one| one.release) else { return true };
        // Whatever it was left for, people go back to it now.
        let phase = self.run.as_ref().map(|run| &run.phase);
        if matches!(phase, Some(Phase::Unshifting { to: Some(to), .. }) if *to == release) {
            return false;
        }
        let standby = self.traffic.standby.as_ref().filter(|one| one.side.instances.contains(name));
        let left = standby.is_some_and(|one| !one.warm) || self.rejected.contains_key(&release);
        self.traffic.route.is_some() && left && !self.traffic.carries(name)
    }

    /// Notes what a required gate came to while the share of its release stood.
    pub(super) fn gate_answered(&mut self, at: Timestamp) {
        let Some(run) = &mut self.run else { return };
        let Phase::Shifting { unproven, .. } = &mut run.phase else { return };
        if run.orders.values().any(|effect| matches!(effect, Effect::AskGate { .. })) {
            return;
        }
        // What fails it takes it back; only what nobody can tell leaves it where it is.
        let doubts = run.gates.values().any(|facts| facts.weigh().0 == Verdict::CannotTell);
        let since = unproven.map_or(at, |unproven| unproven.since);
        *unproven = doubts.then_some(Unproven { since, asked: at });
    }

    /// Notes an order of a phase in which traffic moves.
    pub(super) fn traffic_ordered(&mut self, effect: &Effect, at: Timestamp) {
        if matches!(effect, Effect::Trip { .. }) && !self.traffic.tripping.contains(effect) {
            self.traffic.tripping.push(effect.clone());
        }
        let Some(run) = &mut self.run else { return };
        match (&mut run.phase, effect) {
            // A hold lay between: what nobody could tell before it does not count.
            (Phase::Shifting { unproven, .. }, Effect::AskGate { .. }) => {
                *unproven = unproven.filter(|unproven| !unproven.is_over(at));
            }
            // From now on they may be on, whatever becomes of the order.
            (Phase::Shifting { release, .. }, Effect::TurnOn { run, flags }) => {
                let brought = self.traffic.brought.entry(*release);
                let brought = brought.or_insert_with(|| Brought { run: *run, flags: Vec::new() });
                brought.flags.extend(flags.iter().cloned());
            }
            (Phase::Shifting { steps, .. }, Effect::Stop { instance }) => {
                steps.insert(instance.clone(), MoveStep::Stopping);
            }
            (Phase::Shifting { steps, .. }, Effect::Start { instance, release }) => {
                steps.insert(instance.clone(), MoveStep::Starting);
                if self.traffic.data.replace(*release) != Some(*release) {
                    self.traffic.touched.clear();
                }
                self.traffic.touched.insert(instance.clone());
                // Its instances are the candidate's now.
                self.traffic.standby = None;
            }
            (Phase::Shifting { steps, .. }, Effect::Probe { instance, .. }) => {
                steps.insert(instance.clone(), MoveStep::Probing);
            }
            (Phase::Shifting { ordered, until, unproven, .. }, Effect::Route { .. }) => {
                *ordered += 1;
                *until = None;
                *unproven = None;
            }
            (Phase::Unshifting { raise, .. }, Effect::Start { instance, .. }) => {
                // One that died on the way is raised too.
                match raise.get_mut(instance) {
                    Some(Raised::Starting { tries }) => *tries += 1,
                    _ => drop(raise.insert(instance.clone(), Raised::Starting { tries: 1 })),
                }
            }
            (Phase::Unshifting { told, .. }, Effect::Route { .. }) => *told += 1,
            _ => {}
        }
    }

    /// Notes what such an order came to.
    pub(super) fn traffic_answered(&mut self, effect: &Effect, answer: &Answer) {
        if let (Effect::Route { .. }, Answer::Routed { .. }) = (effect, answer) {
            self.traffic.confirmed = true;
        }
        if let (Effect::Trip { .. }, Answer::Tripped { .. }) = (effect, answer) {
            self.traffic.tripping.retain(|one| one != effect);
        }
        if let (Effect::Start { instance, .. }, Answer::Started { .. }) = (effect, answer)
            && let Some(known) = self.instances.get_mut(instance)
        {
            // It may have been found down before; it is not any more, and its next death is news again.
            known.again_at = None;
        }
        let Some(run) = &mut self.run else { return };
        match (&mut run.phase, effect, answer) {
            (Phase::Shifting { release, .. }, Effect::TurnOn { .. }, Answer::FlagsOn { were_on, .. }) => {
                if let Some(brought) = self.traffic.brought.get_mut(release) {
                    brought.flags.retain(|flag| !were_on.contains(flag));
                    if brought.flags.is_empty() {
                        self.traffic.brought.remove(release);
                    }
                }
            }
            (Phase::Unshifting { .. }, Effect::TurnOff { run, .. }, Answer::FlagsOff { .. }) => {
                self.traffic.brought.retain(|_, brought| brought.run != *run);
            }
            (Phase::Shifting { resumed, .. }, Effect::TryResume { .. }, Answer::ResumePassed { .. }) => *resumed = true,
            (Phase::Shifting { steps, .. }, Effect::Stop { instance }, Answer::Stopped) => {
                steps.insert(instance.clone(), MoveStep::Waiting);
                self.stopped(instance);
            }
            (Phase::Shifting { steps, .. }, Effect::Probe { instance, .. }, Answer::ProbePassed { .. }) => {
                steps.insert(instance.clone(), MoveStep::Moved);
            }
            (Phase::Cooling { left }, Effect::Stop { instance }, Answer::Stopped) => {
                left.remove(instance);
                if left.is_empty() {
                    self.traffic.standby = None;
                }
                self.stopped(instance);
            }
            (Phase::Unshifting { .. }, Effect::Stop { instance }, Answer::Stopped) => self.stopped(instance),
            (Phase::Unshifting { raise, .. }, Effect::Start { instance, .. }, Answer::Started { .. }) => {
                raise.insert(instance.clone(), Raised::Up);
            }
            (Phase::Unshifting { raise, .. }, Effect::Start { instance, .. }, _) => {
                if let Some(one @ Raised::Starting { tries: TRIES_MAX }) = raise.get_mut(instance) {
                    *one = Raised::Failed;
                }
            }
            _ => {}
        }
    }

    fn stopped(&mut self, instance: &InstanceName) {
        if let Some(known) = self.instances.get_mut(instance) {
            (known.release, known.again_at) = (None, None);
        }
    }
}
