//! One run of a service that moves instance by instance: what each record of it must have before it.

use super::{Seen, Steps};
use crate::{act, machine::Machine};
use lastgood_domain::{
    effect::{Answer, Effect, Leg},
    event::{Aim, Event},
    terms::{InstanceName, Timestamp},
    traffic::TrafficEvent,
};
use std::collections::BTreeSet;

impl Seen {
    pub(super) fn note(&mut self, event: &Event, between: &mut BTreeSet<InstanceName>, wrong: &mut Vec<String>) {
        match event {
            Event::WayBackProven { release, .. } => {
                let passed = |leg| self.legs.contains(&(*release, leg));
                if !passed(Leg::Candidate) || !passed(Leg::Restart) {
                    wrong.push("a way back is called proven without its rehearsal".into());
                }
                self.proven = Some(*release);
            }
            Event::MoveBegun { release, .. } | Event::Traffic(TrafficEvent::ShiftBegun { release, .. }) => {
                if self.proven != Some(*release) {
                    wrong.push("a move began without a proven way back".into());
                }
                self.moving = Some(*release);
            }
            Event::SoakBegun { until } => self.soak_until = Some(*until),
            Event::WaveBegun { .. } => self.soak_until = None,
            Event::Deferred { instance, .. } if self.steps.get(instance).is_some_and(|step| step.stopped) => {
                wrong.push(format!("{instance} was stopped and then left alone"));
            }
            Event::Deferred { instance, .. } => {
                between.remove(instance);
                if let Some(back) = self.back.as_mut()
                    && (!self.asks || back.remove(instance).is_none())
                {
                    wrong.push(format!("{instance} was left alone on its way back"));
                }
            }
            Event::Moved { instance } => self.moved(instance, between, wrong),
            Event::Returned { instance } => {
                let step = self.steps.entry(instance.clone()).or_default();
                let to = self.back.as_ref().and_then(|back| back.get(instance)).map(|one| one.to);
                match to {
                    None => wrong.push(format!("{instance} returned, but was not on its way")),
                    Some(Some(_)) if !step.probed => {
                        wrong.push(format!("{instance} is called back without a probe"));
                    }
                    Some(None) if !step.stopped => wrong.push(format!("{instance} was not stopped")),
                    Some(_) => {}
                }
                self.finish(instance, "returned", between);
            }
            Event::ReturnHeld { instance, .. } => {
                self.reopening.insert(instance.clone());
                self.finish(instance, "held", between);
            }
            Event::ReturnFailed { instance, reopens, .. } => {
                if reopens.is_some() {
                    self.reopening.insert(instance.clone());
                }
                self.finish(instance, "failed", between);
            }
            Event::ReturnWithData { instance, .. } => {
                if !self.steps.get(instance).is_some_and(|step| step.tried_in_vain) {
                    wrong.push(format!("{instance} gives its data up although nothing was tried on it"));
                }
                self.steps.insert(instance.clone(), Steps::default());
                if let Some(one) = self.back.as_mut().and_then(|back| back.get_mut(instance)) {
                    one.with_data = true;
                }
            }
            _ => {}
        }
    }

    pub(super) fn finish(&mut self, instance: &InstanceName, how: &'static str, between: &mut BTreeSet<InstanceName>) {
        between.remove(instance);
        self.over.insert(instance.clone(), how);
    }

    pub(super) fn moved(
        &mut self,
        instance: &InstanceName,
        between: &mut BTreeSet<InstanceName>,
        wrong: &mut Vec<String>,
    ) {
        between.remove(instance);
        let step = self.steps.entry(instance.clone()).or_default();
        if !step.probed {
            wrong.push(format!("{instance} moved without a probe"));
        }
        if self.settings.soak.0 > 0 {
            match (self.soak_until, step.probe_ordered_at) {
                (Some(until), Some(at)) if at >= until => {}
                _ => wrong.push(format!("{instance} moved without a probe after its soak")),
            }
        }
        step.moved = true;
    }

    pub(super) fn ordered_forward(&mut self, effect: &Effect, at: Timestamp, wrong: &mut Vec<String>) {
        let Some(name) = effect.instance() else { return };
        let Some(moving) = self.moving else {
            return wrong.push(format!("{effect:?} was ordered without a sealed plan"));
        };
        let step = self.steps.entry(name.clone()).or_default();
        match effect {
            Effect::Stop { .. } => {
                if !step.idle {
                    wrong.push(format!("{name} was stopped without a busy check that says idle"));
                }
                step.idle = false;
            }
            Effect::SnapshotStopped { .. } if !step.stopped => {
                wrong.push(format!("{name} was copied as stopped while it runs"));
            }
            Effect::Start { release, .. } => {
                if !step.kept {
                    wrong.push(format!("{name} was started without a snapshot at its stop"));
                }
                let leg = |leg| self.legs.contains(&(*release, leg));
                if *release != moving || !leg(Leg::Candidate) || !leg(Leg::Restart) {
                    wrong.push(format!("{name} was started on what was not rehearsed"));
                }
                if !self.settings.instances.contains(name) {
                    wrong.push(format!("{name} is not an instance of this run"));
                }
            }
            Effect::Probe { .. } => step.probe_ordered_at = Some(at),
            Effect::Restore { .. } | Effect::Measure { .. } => {
                wrong.push(format!("{effect:?} was ordered on the way forward"));
            }
            _ => {}
        }
    }

    pub(super) fn ordered_back(&mut self, effect: &Effect, at: Timestamp, machine: &Machine, wrong: &mut Vec<String>) {
        let Some(name) = effect.instance() else { return };
        let Some(one) = self.back.as_ref().and_then(|back| back.get(name)) else {
            return wrong.push(format!("{name} does not go back, but {effect:?} was ordered"));
        };
        let step = self.steps.entry(name.clone()).or_default();
        match effect {
            Effect::Stop { .. } => (step.stopped, step.started) = (false, false),
            Effect::Restore { snapshot, .. } => {
                if !step.stopped {
                    wrong.push(format!("{name} was restored while it runs"));
                }
                if step.restored_and_started {
                    wrong.push(format!("{name} was restored again after it was started on its own data"));
                }
                if one.snapshot != Some(*snapshot) {
                    wrong.push(format!("{name} gets another snapshot than its own"));
                }
                let bound = self.settings.loss_rows_max;
                let accepted = matches!(&self.aim, Aim::Back { accept_loss, .. } if accept_loss.contains(name));
                let lost = act::loss(machine, name, *snapshot).map_or(0, |loss| loss.rows);
                let age = one.since.map_or(0, |since| at.since(since).0);
                let exceeds = match &step.measured {
                    Some(Answer::Measured { .. }) => lost > bound || (lost > 0 && age > self.settings.loss_age_max.0),
                    Some(_) => age > self.settings.loss_age_max.0,
                    None => true,
                };
                if exceeds && !accepted {
                    wrong.push(format!("{name}: a restore drops {lost} rows, {age} ms old, unasked"));
                }
            }
            Effect::Start { release, .. } => {
                if self.reopening.contains(name) {
                    return;
                }
                if one.to != Some(*release) {
                    wrong.push(format!("{name} goes back to something else than planned"));
                }
                if one.with_data && one.snapshot.is_some() && !step.restored {
                    wrong.push(format!("{name} was started on its way back without its data"));
                }
                step.restored_and_started = step.restored;
            }
            _ => {}
        }
    }
}
