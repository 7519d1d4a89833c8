//! The loop over a plan's steps: ask, write that it begins, do, write how it ended.

use super::{
    perform::{Asked, Performer},
    plan,
};
use crate::{
    config::Config,
    operations::{Desk, SayError},
};
use lastgood_domain::{
    operations::{
        Event, Operations,
        incident::{
            self, Incident, IncidentEvent, State,
            plan::{Next, Outcome, PlanEvent, Refused, Step, subject},
        },
    },
    terms::{Actor, Digest, IncidentId, Reason, Timestamp},
};
use lastgood_store::StoreError;

/// How a run over a plan ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// Every step is done, or failed where it may.
    Done,
    /// A person must say what becomes of a step.
    Stuck {
        /// Which.
        step: String,
        /// Why.
        why: String,
    },
    /// People must approve the plan first.
    NotApproved {
        /// The plan.
        hash: Digest,
        /// How many must.
        needed: u32,
    },
}

/// Why a plan could not be run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It makes no sense.
    #[error(transparent)]
    Refused(#[from] incident::Refused),
    /// The log refused.
    #[error(transparent)]
    Say(#[from] SayError),
}

impl From<StoreError> for RunError {
    fn from(error: StoreError) -> Self {
        Self::Say(error.into())
    }
}

/// Runs an incident's plan from where it is, up to its end or to where a person is needed.
///
/// `seen` is the plan that was looked at: another one is not run. `tell` hears each step that begins and ends.
/// Errors: there is no such plan, its steps were configured otherwise since, or the log can't be written.
pub fn carry_out(
    desk: &mut Desk,
    performer: &Performer<'_>,
    by: &Actor,
    seen: Option<Digest>,
    now: &dyn Fn() -> Timestamp,
    tell: &mut dyn FnMut(&Step, Option<&Outcome>),
) -> Result<Told, RunError> {
    let id = performer.incident;
    let hash = match allowed(&desk.look()?.state, performer.config, id, seen, now())? {
        Ok(hash) => hash,
        Err(told) => return Ok(told),
    };
    say(desk, by, now(), &|state| executing(state, id))?;
    loop {
        let state = &desk.look()?.state;
        let planned = planned(state, id, hash)?;
        let (step, begun) = match planned.next() {
            Next::Done => break,
            Next::Stuck { step, why } => return Ok(Told::Stuck { step: step.id.clone(), why }),
            Next::Do(step) => (step.clone(), false),
            Next::Ask(step) => (step.clone(), true),
        };
        if plan::spec_of(performer.config, &step.act) != Some(step.spec) {
            let step = step.id.clone();
            return Err(incident::Refused::from(Refused::Stale { incident: id, step }).into());
        }
        let event = |event| Event::Incident { incident: id, event: IncidentEvent::Plan(event) };
        if !begun {
            let begin = event(PlanEvent::Begun { step: step.id.clone() });
            say(desk, by, now(), &|_| Ok(vec![begin.clone()]))?;
        }
        tell(&step, None);
        let outcome = match performer.ask(&step, begun) {
            Asked::Done(evidence) => Outcome::Done { evidence, output: None },
            Asked::CannotTell(why) => Outcome::CannotTell { why },
            Asked::NotDone => performer.perform(&step),
        };
        tell(&step, Some(&outcome));
        let end = event(PlanEvent::Ended { step: step.id, outcome });
        say(desk, by, now(), &|_| Ok(vec![end.clone()]))?;
    }
    say(desk, by, now(), &|state| match find(state, id)?.state {
        State::Executing => Ok(vec![moved(state, id, State::Cleaning, "every step of the plan is done")?]),
        _ => Ok(Vec::new()),
    })?;
    Ok(Told::Done)
}

type Events = Result<Vec<Event>, incident::Refused>;

fn say(desk: &mut Desk, by: &Actor, now: Timestamp, decide: &dyn Fn(&Operations) -> Events) -> Result<(), RunError> {
    desk.say(by, now, &|state| Ok(decide(state)?))?;
    Ok(())
}

fn find(state: &Operations, id: IncidentId) -> Result<&Incident, incident::Refused> {
    incident::find(state, id)
}

fn planned(state: &Operations, id: IncidentId, hash: Digest) -> Result<&incident::plan::Planned, incident::Refused> {
    let planned = find(state, id)?.planned.as_ref().ok_or(Refused::NoPlan { incident: id })?;
    match planned.hash == hash {
        true => Ok(planned),
        // Somebody raised the level or planned anew in between.
        false => {
            let (is, seen) = (planned.hash.short(), hash.short());
            Err(Refused::OtherPlan { incident: id, is, seen }.into())
        }
    }
}

/// Tells whether the plan may be run now.
fn allowed(
    state: &Operations,
    config: &Config,
    id: IncidentId,
    seen: Option<Digest>,
    now: Timestamp,
) -> Result<Result<Digest, Told>, incident::Refused> {
    let incident = find(state, id)?;
    let planned = incident.planned.as_ref().ok_or(Refused::NoPlan { incident: id })?;
    let hash = planned.hash;
    if let Some(seen) = seen {
        self::planned(state, id, seen)?;
    }
    let needed = needed(config, incident);
    if needed > 0 && !incident.drill && !state.approvals.allows(&subject(id), &hash, now) {
        return Ok(Err(Told::NotApproved { hash, needed }));
    }
    Ok(Ok(hash))
}

/// Tells how many must approve an incident's plan.
pub fn needed(config: &Config, incident: &Incident) -> u32 {
    let configured = config.runbook.approvals.get(&incident.level).copied().unwrap_or(0);
    let irreversible = incident.planned.as_ref().is_some_and(|planned| planned.plan.irreversible().next().is_some());
    configured.max(u32::from(irreversible))
}

/// Moves an incident that is planned on to where its plan runs.
fn executing(state: &Operations, id: IncidentId) -> Events {
    match find(state, id)?.state {
        State::Planning => Ok(vec![moved(state, id, State::Executing, "its plan runs")?]),
        // Resumed.
        State::Executing => Ok(Vec::new()),
        from => Err(incident::Refused::Illegal { incident: id, from, to: State::Executing }),
    }
}

fn moved(state: &Operations, id: IncidentId, to: State, why: &str) -> Result<Event, incident::Refused> {
    let reason = Reason::new(why).expect("a fixed valid reason");
    Ok(Event::Incident { incident: id, event: incident::advance(state, id, to, reason)? })
}
