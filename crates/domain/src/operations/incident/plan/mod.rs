//! What an incident does: typed steps in an order, bound by one digest, and how far they came.
//!
//! A step is begun in the log before it is done, and its end is written after. One that was begun and has no end was cut
//! off: it is asked whether it was done before it is done again.

mod refused;
mod waiver;

pub use refused::Refused;
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

/// What a step is about; plans do them in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Area {
    /// Code and configuration.
    Application,
    /// What the machine has besides what the release declares.
    Infrastructure,
    /// Data and what is derived of it.
    Data,
    /// The log itself.
    Evidence,
    /// Secrets that may be in other hands.
    Credentials,
}

impl Area {
    /// Gives it as people read it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Application => "application",
            Self::Infrastructure => "infrastructure",
            Self::Data => "data",
            Self::Evidence => "evidence",
            Self::Credentials => "credentials",
        }
    }

    /// Gives the lowest level whose plan has steps of it.
    pub const fn level(self) -> Level {
        match self {
            Self::Application | Self::Infrastructure => Level::L1,
            Self::Data => Level::L2,
            Self::Evidence | Self::Credentials => Level::L3,
        }
    }
}

/// What is done with a credential, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Turn {
    /// The old one is taken back.
    Revoke,
    /// The old one is tried and must be refused.
    ProveRefused,
    /// A new one is made.
    Rotate,
    /// Those who need it work with the new one.
    ProveConsumers,
}

impl Turn {
    /// All of them, in order.
    pub const ALL: [Self; 4] = [Self::Revoke, Self::ProveRefused, Self::Rotate, Self::ProveConsumers];

    /// Gives it as people read it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Revoke => "revoke",
            Self::ProveRefused => "prove-refused",
            Self::Rotate => "rotate",
            Self::ProveConsumers => "prove-consumers",
        }
    }
}

/// What a step makes so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "kebab-case")]
pub enum Act {
    /// A service is at a release, with the data that belongs to it.
    RollBack {
        /// Which.
        service: ServiceName,
        /// The release.
        to: ReleaseTag,
        /// Risks that were accepted by name, as the rollback takes them.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        risks: Vec<String>,
    },
    /// What a service has on this machine is what its release declares.
    PutBack {
        /// Which.
        service: ServiceName,
    },
    /// A command of the runbook was carried out.
    Command {
        /// Its name in the runbook.
        name: String,
    },
    /// A question of the runbook is answered with yes.
    Check {
        /// Its name in the runbook.
        name: String,
    },
    /// Each service's chain names the incident.
    Annotate,
    /// Every chain is what was signed.
    VerifyEvidence,
    /// The position of every chain is written down and signed: what comes after belongs to the incident.
    CutOver,
    /// One turn of replacing a credential.
    Credential {
        /// Its name in the configuration.
        name: String,
        /// Which turn.
        turn: Turn,
    },
    /// People do it, and say so.
    ByHand {
        /// What.
        what: Reason,
    },
}

/// How a step is undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "undo", rename_all = "kebab-case")]
pub enum Undo {
    /// It changes nothing.
    Nothing,
    /// By this.
    By {
        /// What to type or do.
        how: String,
    },
    /// Not at all: such a plan needs an approval.
    None {
        /// Why.
        why: String,
    },
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Its name in the plan; unique.
    pub id: String,
    /// What it is about.
    pub area: Area,
    /// What it makes so.
    pub act: Act,
    /// The same in one sentence.
    pub says: String,
    /// How it is undone.
    pub undo: Undo,
    /// How long it may take.
    pub timeout: Span,
    /// How often it is tried before it has failed.
    pub attempts: u32,
    /// Whether the plan goes on where it has failed.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub may_fail: bool,
    /// Digest over what the configuration says of it: a plan is for what was read, and nothing else.
    pub spec: Digest,
}

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
        let taken = made.steps.iter().filter_map(|step| Some((step.id.clone(), cut_off.remove(&step.id)?)));
        let (steps, waivers) = (taken.collect(), BTreeMap::new());
        *planned = Some(Planned { plan: made.clone(), hash: *hash, at, steps, waivers });
        return;
    }
    let Some(planned) = planned else { return };
    match event {
        PlanEvent::Made { .. } => {}
        PlanEvent::Begun { step } => {
            let fresh = Progress { tries: 0, begun: at, ended: None };
            let progress = planned.steps.entry(step.clone()).or_insert(fresh);
            progress.tries += 1;
            (progress.begun, progress.ended) = (at, None);
        }
        PlanEvent::WaiverAsked { step, signature } => drop(planned.waivers.insert(step.clone(), signature.clone())),
        PlanEvent::Ended { step, outcome } => {
            let Some(progress) = planned.steps.get_mut(step) else { return };
            if matches!(outcome, Outcome::Again { .. }) {
                progress.tries = 0;
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
        let left =
            steps.remove(&step.id).filter(|one| matches!(one.ended, None | Some((Outcome::CannotTell { .. }, _))));
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
                Some((Outcome::Failed { why } | Outcome::CannotTell { why }, _)) => {
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

    /// Gives the steps that failed and were passed over.
    pub fn failed(&self) -> impl Iterator<Item = &Step> {
        self.plan.steps.iter().filter(|step| {
            let ended = self.steps.get(&step.id).and_then(|progress| progress.ended.as_ref());
            matches!(ended, Some((Outcome::Failed { .. } | Outcome::CannotTell { .. }, _)))
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
        PlanEvent::WaiverAsked { step, signature } => {
            format!("to go on without what {step} should prove is asked as {}: {}", signature.approval, signature.risk)
        }
        PlanEvent::Ended { step, outcome } => match outcome {
            Outcome::Done { evidence, .. } => format!("{step} is done: {evidence}"),
            Outcome::Failed { why } => format!("{step} failed: {why}"),
            Outcome::CannotTell { why } if step.starts_with("by-hand/") => format!("{step} waits: {why}"),
            Outcome::CannotTell { why } => {
                format!("{step} was cut off, and nobody can tell whether it was done: {why}")
            }
            Outcome::Settled { reason } => format!("{step} is settled by a person: {reason}"),
            Outcome::Again { reason } => format!("{step} is to be done again: {reason}"),
        },
    }
}
