//! The plan of an incident: what is begun was approved, in its order, and nothing is begun twice.

use super::{Around, Checks, life::Life};
use lastgood_domain::{
    operations::incident::{
        Level, State,
        plan::{Outcome, PlanEvent, Step, Undo},
    },
    terms::{ApprovalId, Digest, IncidentId, Timestamp},
};
use std::collections::{BTreeMap, BTreeSet};

/// How far one step came.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Came {
    Begun,
    Done,
    Failed,
    /// It was not tried for want of what it needs.
    Unmet,
    Unknown,
    /// A person said: again.
    Again,
}

/// One plan.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) hash: Digest,
    level: Level,
    steps: Vec<Step>,
    came: BTreeMap<String, (Came, u32)>,
    /// Steps that may have been tried, by this plan or an earlier one.
    tried: BTreeSet<String>,
    /// Steps that may be tried: this plan saw what they need.
    met: BTreeSet<String>,
    /// What somebody asked to go on without, by step: the request, what exactly was asked, until when.
    waivers: BTreeMap<String, (ApprovalId, Digest, Timestamp)>,
    /// Steps that should prove something and were settled by people.
    unproven: BTreeSet<String>,
}

/// Tells whether a step should prove something, by its name.
fn is_proof(step: &str) -> bool {
    let proves = ["/prove-refused", "/prove-consumers"].iter().any(|end| step.ends_with(end));
    proves || step.starts_with("check/") || ["evidence/verify", "evidence/cut-over"].contains(&step)
}

impl Plan {
    /// Gives the first step that is not done, settled, or allowed to fail.
    pub(super) fn left(&self) -> Option<&str> {
        let left = self.steps.iter().find(|step| match self.came.get(&step.id) {
            Some((Came::Done, _)) => false,
            Some((Came::Failed, tries)) => !(step.may_fail && *tries >= step.attempts),
            _ => true,
        });
        left.map(|step| step.id.as_str())
    }

    /// Gives the steps that should have proved something and did not, each with what was signed instead.
    pub(super) fn unproven(&self) -> impl Iterator<Item = (&String, Option<&(ApprovalId, Digest, Timestamp)>)> {
        self.unproven.iter().map(|step| (step, self.waivers.get(step)))
    }

    /// How many must approve it, as the configuration says; what can't be undone needs one at least.
    fn needed(&self) -> u32 {
        let configured = match self.level {
            Level::L1 => 0,
            Level::L2 => 1,
            Level::L3 => 2,
        };
        let irreversible = self.steps.iter().any(|step| matches!(step.undo, Undo::None { .. }));
        configured.max(u32::from(irreversible))
    }
}

impl Life {
    /// Puts the plan away, and keeps what was begun in it and has no end that anybody knows.
    pub(super) fn put_away(&mut self) {
        let Some(plan) = self.plan.take() else { return };
        let needs = |id: &String| plan.steps.iter().any(|step| step.id == *id && step.precondition.is_some());
        let was_tried = |id: &String| !needs(id) || plan.tried.contains(id);
        let left = plan.came.iter().filter(|(_, (came, _))| matches!(came, Came::Begun | Came::Unknown));
        let left = left.filter(|(id, _)| was_tried(id));
        self.cut_off.extend(left.map(|(step, (_, tries))| (step.clone(), *tries)));
    }
}

impl Checks {
    /// Gives the steps of an incident of which nobody knows how they ended, right after a plan was made.
    pub(crate) fn cut_off(&self, id: IncidentId) -> BTreeSet<String> {
        let Some(life) = self.lives.get(&id) else { return BTreeSet::new() };
        let taken = life.plan.iter().flat_map(|plan| plan.came.keys());
        taken.chain(life.cut_off.keys()).cloned().collect()
    }

    pub(super) fn plan(
        &mut self,
        at: Timestamp,
        (id, event): (IncidentId, &PlanEvent),
        around: &Around<'_>,
        wrong: &mut Vec<String>,
    ) {
        let Some(life) = self.lives.get_mut(&id) else { return wrong.push(format!("{id} was never declared")) };
        match event {
            PlanEvent::Made { made, hash } => {
                if life.state != State::Planning {
                    wrong.push(format!("{id} is planned while it is {}", life.state.as_str()));
                }
                if made.level != life.level {
                    wrong.push(format!("{id} is {} and its plan is for {}", life.level.as_str(), made.level.as_str()));
                }
                for step in &made.steps {
                    if step.area.level() > life.level {
                        wrong.push(format!("{} of {id} goes deeper than {}", step.id, life.level.as_str()));
                    }
                }
                // What was approved was to be done once.
                if life.plan.as_ref().is_some_and(|plan| !plan.came.is_empty()) {
                    self.asked.spend(&super::approvals::subject(id, "plan"));
                }
                life.put_away();
                let (level, steps) = (made.level, made.steps.clone());
                // What was cut off is not begun anew: it is asked what became of it.
                let taken = steps.iter().filter_map(|step| Some((step.id.clone(), life.cut_off.remove(&step.id)?)));
                let came: BTreeMap<_, _> = taken.map(|(step, tries)| (step, (Came::Begun, tries))).collect();
                self.begun.extend(came.keys().map(|step| (id, *hash, step.clone())));
                // They may have been tried when they were cut off; what they need is asked for anew.
                let (tried, met) = (came.keys().cloned().collect(), BTreeSet::new());
                let (waivers, unproven) = (BTreeMap::new(), BTreeSet::new());
                life.plan = Some(Plan { hash: *hash, level, steps, came, tried, met, waivers, unproven });
            }
            PlanEvent::Begun { step } => {
                if life.state != State::Executing {
                    wrong.push(format!("{step} of {id} is begun while it is {}", life.state.as_str()));
                }
                let Some(plan) = &mut life.plan else {
                    return wrong.push(format!("{step} of {id} is begun without a plan"));
                };
                let (drill, needed) = (life.drill, plan.needed());
                let subject = super::approvals::subject(id, "plan");
                if !drill && needed > 0 && !self.asked.allows(&subject, &plan.hash, needed, at) {
                    wrong.push(format!("{step} of {id} is begun and {needed} have not approved it"));
                }
                if needed > 0 && !drill {
                    self.reached.insert("an approved plan ran");
                }
                if plan.left() != Some(step) {
                    wrong.push(format!("{step} of {id} is begun before {:?}", plan.left()));
                }
                let attempts = plan.steps.iter().find(|one| one.id == *step).map_or(1, |one| one.attempts);
                let (came, tries) = plan.came.get(step).cloned().unwrap_or((Came::Again, 0));
                let tries = match came {
                    Came::Again => 0,
                    Came::Failed if tries < attempts => tries,
                    came => {
                        wrong.push(format!("{step} of {id} was {came:?} and is begun again without anybody's word"));
                        tries
                    }
                };
                plan.came.insert(step.clone(), (Came::Begun, tries + 1));
                self.begun.insert((id, plan.hash, step.clone()));
            }
            PlanEvent::Met { step, .. } => {
                let Some(plan) = &mut life.plan else { return };
                if plan.came.get(step).map(|(came, _)| came) != Some(&Came::Begun) {
                    wrong.push(format!("what {step} of {id} needs was seen while it was not begun"));
                }
                plan.tried.insert(step.clone());
                plan.met.insert(step.clone());
                self.met.insert((id, plan.hash, step.clone()));
            }
            PlanEvent::WaiverAsked { step, signature } => {
                let Some(plan) = &mut life.plan else { return };
                let asked = (signature.approval, signature.plan, signature.until);
                plan.waivers.insert(step.clone(), asked);
            }
            PlanEvent::Ended { step, outcome } => {
                let Some(plan) = &mut life.plan else { return };
                let Some((came, tries)) = plan.came.get_mut(step) else { return };
                let word = matches!(outcome, Outcome::Settled { .. } | Outcome::Again { .. });
                if word && !matches!(came, Came::Failed | Came::Unmet | Came::Unknown) {
                    wrong.push(format!("{step} of {id} was {came:?}, and somebody says what becomes of it"));
                }
                if !word && *came != Came::Begun {
                    wrong.push(format!("{step} of {id} ends and was {came:?}"));
                }
                if matches!(outcome, Outcome::Settled { .. }) && is_proof(step) {
                    let signed = plan.waivers.get(step);
                    if !signed.is_some_and(|(asked, of, until)| at < *until && self.asked.said_yes(*asked, of)) {
                        wrong.push(format!("{step} of {id} proved nothing and counts by one person's word"));
                    }
                    plan.unproven.insert(step.clone());
                }
                self.begun.remove(&(id, plan.hash, step.clone()));
                let needs = plan.steps.iter().any(|one| one.id == *step && one.precondition.is_some());
                match outcome {
                    Outcome::Failed { .. } if needs && !plan.tried.contains(step) => {
                        wrong.push(format!("{step} of {id} failed, and what it needs was never seen"));
                    }
                    Outcome::Unmet { .. } if !needs || plan.met.contains(step) => {
                        wrong.push(format!("{step} of {id} is said to lack what it does not need, or has"));
                    }
                    Outcome::Again { .. } => {
                        plan.tried.remove(step);
                        plan.met.remove(step);
                        self.met.remove(&(id, plan.hash, step.clone()));
                    }
                    _ => {}
                }
                *came = match outcome {
                    Outcome::Done { .. } | Outcome::Settled { .. } => Came::Done,
                    Outcome::Failed { .. } => Came::Failed,
                    Outcome::Unmet { .. } => Came::Unmet,
                    Outcome::CannotTell { .. } => Came::Unknown,
                    Outcome::Again { .. } => {
                        *tries = 0;
                        Came::Again
                    }
                };
            }
        }
        let _ = around;
    }
}
