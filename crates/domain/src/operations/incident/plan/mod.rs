//! What an incident does: typed steps in an order, bound by one digest, and how far they came.
//!
//! A step is begun in the log before it is done, and its end is written after. One that was begun and has no end was cut
//! off: it is asked whether it was done before it is done again.

mod need;
mod refused;
mod step;
mod waiver;

pub use need::{Precondition, Risk, RiskLevel};
pub use refused::Refused;
pub use step::{Act, Area, Step, Turn, Undo};
pub use waiver::{unproven, waive};

use crate::{
    operations::incident::{Level, Signature},
    terms::{Digest, IncidentId, Reason, ReleaseTag, ServiceName, Span, Timestamp},
};
use alloc::{
    collections::BTreeMap,
    format,
    string::{String, ToString},
    vec::Vec,
};
use serde::{Deserialize, Serialize};

/// Most steps of one plan: what a person can still read before saying yes to it.
pub const STEPS_MAX: usize = 200;

/// What a service goes back to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The service.
    pub service: ServiceName,
    /// The release: its tag.
    pub tag: ReleaseTag,
    /// Its digest.
    pub release: Digest,
    /// The commit it was made of, if anybody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Digest over the service's configuration.
    pub config: Digest,
    /// What the data of its instances belongs to now, by instance; where it differs it is migrated or restored.
    pub data: BTreeMap<String, String>,
    /// The place in the service's chain at which this was planned.
    pub position: u64,
}

/// What is done, to what end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The level it was made for.
    pub level: Level,
    /// What each service goes back to.
    pub targets: Vec<Target>,
    /// The steps, in order.
    pub steps: Vec<Step>,
}

impl Plan {
    /// Gives the steps that can't be undone.
    pub fn irreversible(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|step| matches!(step.undo, Undo::None { .. }))
    }

    /// Gives the steps whose risk is severe: who approves the plan is told their names.
    pub fn severe(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|step| step.risk.as_ref().is_some_and(|risk| risk.level == RiskLevel::Severe))
    }
}

/// Something that happened to an incident's plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "plan", rename_all = "kebab-case")]
pub enum PlanEvent {
    /// It was made; an earlier one is void.
    Made {
        /// The plan.
        made: Plan,
        /// Digest over its canonical form: what is approved and run.
        hash: Digest,
    },
    /// A step is being done.
    Begun {
        /// Which.
        step: String,
    },
    /// What a step needs was so, right before it was first tried.
    Met {
        /// Which.
        step: String,
        /// What was seen.
        evidence: String,
    },
    /// Somebody asks to go on without what a step should prove; a second person signs.
    WaiverAsked {
        /// Which.
        step: String,
        /// What is signed.
        signature: Signature,
    },
    /// A step came to its end.
    Ended {
        /// Which.
        step: String,
        /// How.
        outcome: Outcome,
    },
}

/// How a step came to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// It is so, on this evidence.
    Done {
        /// What was seen.
        evidence: String,
        /// Digest of the output it was seen in.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        output: Option<Digest>,
    },
    /// It did not get so.
    Failed {
        /// Why.
        why: String,
    },
    /// What it needs was not so, or nobody could tell: it was not tried.
    Unmet {
        /// Why, and what to do.
        why: String,
    },
    /// It was cut off, and nobody can tell whether it was done.
    CannotTell {
        /// Why.
        why: String,
    },
    /// A person says that it is so.
    Settled {
        /// What the person saw.
        reason: Reason,
    },
    /// A person wants it done again.
    Again {
        /// Why.
        reason: Reason,
    },
}

/// How far a step is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// How often it was tried since it was last wanted anew.
    pub tries: u32,
    /// When it was begun last.
    pub begun: Timestamp,
    /// Whether it may have been tried since it was last wanted anew, by this plan or an earlier one.
    pub tried: bool,
    /// Whether it may be tried: this plan saw what it needs, or it needs nothing.
    pub met: bool,
    /// How it ended, and when; `None` while it is being done, or was cut off.
    pub ended: Option<(Outcome, Timestamp)>,
}

/// A plan and how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// The plan.
    pub plan: Plan,
    /// Digest over its canonical form.
    pub hash: Digest,
    /// When it was made.
    pub at: Timestamp,
    /// Steps that were begun, here or in an earlier plan that was cut off there.
    pub steps: BTreeMap<String, Progress>,
    /// What somebody asks or asked to go on without, by step.
    pub waivers: BTreeMap<String, Signature>,
}

/// Steps of earlier plans that were begun and of which nobody knows how they ended, by name.
pub type CutOff = BTreeMap<String, Progress>;

/// Folds what happened to a plan; `planned` is the incident's.
///
/// A new plan takes over what was cut off in earlier ones: it is asked whether it was done before it is done again.
pub(super) fn apply(planned: &mut Option<Planned>, cut_off: &mut CutOff, at: Timestamp, event: &PlanEvent) {
    if let PlanEvent::Made { made, hash } = event {
        put_away(planned, cut_off);
        let taken = made.steps.iter().filter_map(|step| {
            // What an earlier plan saw may be otherwise by now: before it is tried again it is asked for anew.
            let met = step.precondition.is_none();
            Some((step.id.clone(), Progress { met, ..cut_off.remove(&step.id)? }))
        });
        let (steps, waivers) = (taken.collect(), BTreeMap::new());
        *planned = Some(Planned { plan: made.clone(), hash: *hash, at, steps, waivers });
        return;
    }
    let Some(planned) = planned else { return };
    match event {
        PlanEvent::Made { .. } => {}
        PlanEvent::Begun { step } => {
            let met = planned.plan.steps.iter().all(|one| one.id != *step || one.precondition.is_none());
            let fresh = Progress { tries: 0, begun: at, tried: met, met, ended: None };
            let progress = planned.steps.entry(step.clone()).or_insert(fresh);
            progress.tries += 1;
            progress.tried |= progress.met;
            (progress.begun, progress.ended) = (at, None);
        }
        PlanEvent::Met { step, .. } => {
            let Some(progress) = planned.steps.get_mut(step) else { return };
            (progress.tried, progress.met) = (true, true);
        }
        PlanEvent::WaiverAsked { step, signature } => drop(planned.waivers.insert(step.clone(), signature.clone())),
        PlanEvent::Ended { step, outcome } => {
            let Some(progress) = planned.steps.get_mut(step) else { return };
            if matches!(outcome, Outcome::Again { .. }) {
                let needs_nothing = |one: &Step| one.id != *step || one.precondition.is_none();
                let met = planned.plan.steps.iter().all(needs_nothing);
                (progress.tries, progress.tried, progress.met) = (0, met, met);
            }
            progress.ended = Some((outcome.clone(), at));
        }
    }
}

/// Gives how long a step took that an event says is done, and when it was.
pub(super) fn took(planned: Option<&Planned>, event: &PlanEvent) -> Option<(String, (Timestamp, Span))> {
    let PlanEvent::Ended { step, outcome: Outcome::Done { .. } } = event else { return None };
    let progress = planned?.steps.get(step)?;
    let (_, at) = progress.ended.as_ref()?;
    Some((step.clone(), (*at, at.since(progress.begun))))
}

/// Puts a plan away that is void, and keeps what was cut off in it.
pub(super) fn put_away(planned: &mut Option<Planned>, cut_off: &mut CutOff) {
    let Some(Planned { plan, mut steps, .. }) = planned.take() else { return };
    // What people do is asked of them whenever it comes.
    for step in plan.steps.into_iter().filter(|step| !matches!(step.act, Act::ByHand { .. })) {
        // One whose precondition was not seen was not tried.
        let is_cut_off =
            |one: &Progress| one.tried && matches!(one.ended, None | Some((Outcome::CannotTell { .. }, _)));
        let left = steps.remove(&step.id).filter(is_cut_off);
        if let Some(left) = left {
            cut_off.insert(step.id, Progress { ended: None, ..left });
        }
    }
}

/// What comes next of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next<'a> {
    /// This step is to be done.
    Do(&'a Step),
    /// This step was begun and cut off: whether it was done must be asked first.
    Ask(&'a Step),
    /// This step has failed, or nobody can tell; a person must say what now.
    Stuck {
        /// Which.
        step: &'a Step,
        /// Why.
        why: String,
    },
    /// All is done.
    Done,
}

impl Planned {
    /// Gives what comes next. Steps are done one after the other, in the order of the plan.
    pub fn next(&self) -> Next<'_> {
        for step in &self.plan.steps {
            let Some(progress) = self.steps.get(&step.id) else { return Next::Do(step) };
            match &progress.ended {
                None => return Next::Ask(step),
                Some((Outcome::Done { .. } | Outcome::Settled { .. }, _)) => {}
                Some((Outcome::Again { .. }, _)) => return Next::Do(step),
                Some((Outcome::Failed { .. }, _)) if progress.tries < step.attempts => return Next::Do(step),
                Some((Outcome::Failed { .. }, _)) if step.may_fail => {}
                // A step that needs something is never passed over for want of it, may it fail or not.
                Some((Outcome::Failed { why } | Outcome::Unmet { why } | Outcome::CannotTell { why }, _)) => {
                    return Next::Stuck { step, why: why.clone() };
                }
            }
        }
        Next::Done
    }

    /// Tells whether the plan saw a credential's old secret refused and those who need it work with the new one.
    pub fn proved(&self, credential: &str) -> bool {
        let is_proved = |wanted: Turn| {
            self.plan.steps.iter().any(|step| {
                let of = matches!(&step.act, Act::Credential { name, turn } if name == credential && *turn == wanted);
                let ended = self.steps.get(&step.id).and_then(|progress| progress.ended.as_ref());
                of && matches!(ended, Some((Outcome::Done { .. }, _)))
            })
        };
        is_proved(Turn::ProveRefused) && is_proved(Turn::ProveConsumers)
    }

    /// Tells whether people's word stands for a step, which two of them gave where it has to prove something.
    pub fn is_waived(&self, step: &str) -> bool {
        let ended = self.steps.get(step).and_then(|progress| progress.ended.as_ref());
        matches!(ended, Some((Outcome::Settled { .. }, _)))
    }

    /// Gives the steps that failed and were passed over.
    pub fn failed(&self) -> impl Iterator<Item = &Step> {
        self.plan.steps.iter().filter(|step| {
            let ended = self.steps.get(&step.id).and_then(|progress| progress.ended.as_ref());
            matches!(ended, Some((Outcome::Failed { .. } | Outcome::Unmet { .. } | Outcome::CannotTell { .. }, _)))
        })
    }
}

/// Names what an approval of an incident's plan is for.
pub fn subject(incident: IncidentId) -> String {
    format!("incident/{incident}/plan")
}

/// Takes a plan: its digest is what people approve and what is run.
///
/// `hash` is over the plan's canonical bytes. Errors: there is nothing to do, or too much to read.
pub fn made(incident: IncidentId, plan: Plan, hash: Digest) -> Result<PlanEvent, Refused> {
    match plan.steps.len() {
        0 => Err(Refused::Empty { incident }),
        steps if steps > STEPS_MAX => Err(Refused::TooLong { steps }),
        _ => Ok(PlanEvent::Made { made: plan, hash }),
    }
}

/// Says on behalf of a person what became of a step that is stuck.
///
/// Errors: there is no such step, or it needs nobody's word, or a second person's: see [`waive`].
pub fn settled(
    incident: IncidentId,
    planned: Option<&Planned>,
    id: &str,
    outcome: Outcome,
) -> Result<PlanEvent, Refused> {
    let planned = planned.ok_or(Refused::NoPlan { incident })?;
    let step = id.to_string();
    if !planned.plan.steps.iter().any(|one| one.id == id) {
        return Err(Refused::UnknownStep { incident, step });
    }
    match planned.next() {
        Next::Stuck { step: stuck, .. }
            if stuck.id == id && stuck.act.proves() && matches!(outcome, Outcome::Settled { .. }) =>
        {
            Err(Refused::Proof { incident, step })
        }
        Next::Stuck { step: stuck, .. } if stuck.id == id => Ok(PlanEvent::Ended { step, outcome }),
        _ => Err(Refused::NotStuck { incident, step }),
    }
}

/// Says what an event tells.
pub(super) fn sentence(event: &PlanEvent) -> String {
    match event {
        PlanEvent::Made { made, hash } => format!("plan {} of {} steps", hash.short(), made.steps.len()),
        PlanEvent::Begun { step } => format!("{step} is begun"),
        PlanEvent::Met { step, evidence } => format!("{step} may be done: {evidence}"),
        PlanEvent::WaiverAsked { step, signature } => {
            format!("to go on without what {step} should prove is asked as {}: {}", signature.approval, signature.risk)
        }
        PlanEvent::Ended { step, outcome } => match outcome {
            Outcome::Done { evidence, .. } => format!("{step} is done: {evidence}"),
            Outcome::Failed { why } => format!("{step} failed: {why}"),
            Outcome::Unmet { why } => format!("{step} was not tried, because of what it needs: {why}"),
            Outcome::CannotTell { why } if step.starts_with("by-hand/") => format!("{step} waits: {why}"),
            Outcome::CannotTell { why } => {
                format!("{step} was cut off, and nobody can tell whether it was done: {why}")
            }
            Outcome::Settled { reason } => format!("{step} is settled by a person: {reason}"),
            Outcome::Again { reason } => format!("{step} is to be done again: {reason}"),
        },
    }
}
