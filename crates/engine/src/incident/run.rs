//! The loop over a plan's steps: ask, write that it begins, do, write how it ended.

use super::{
    perform::{Asked, Before, Performer},
    plan,
};
use crate::{
    config::Config,
    operations::{Desk, SayError},
};
use lastgood_domain::{
    failure::Failure,
    operations::{
        self, Event, Operations,
        incident::{
            self, Incident, IncidentEvent, State,
            plan::{Next, Outcome, PlanEvent, Planned, Refused, Step, subject},
        },
    },
    terms::{Actor, Digest, IncidentId, Reason, Timestamp},
};

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
pub enum RunError<E: std::error::Error = SayError> {
    /// It makes no sense.
    #[error(transparent)]
    Refused(#[from] incident::Refused),
    /// The log refused.
    #[error(transparent)]
    Say(E),
}

/// The operations chain as a run needs it.
pub trait Book {
    /// Why nothing was read or written.
    type Error: std::error::Error;

    /// Gives the state of now.
    ///
    /// Errors: the log can't be read.
    fn look(&mut self) -> Result<&Operations, Self::Error>;

    /// Appends what `decide` decides on the state of now.
    ///
    /// Errors: what `decide` refuses; the log can't be written.
    fn say(&mut self, by: &Actor, now: Timestamp, decide: Decide<'_>) -> Result<(), Self::Error>;
}

/// What a decision comes to: events to write, or why not.
pub type Decide<'a> = &'a dyn Fn(&Operations) -> Result<Vec<Event>, operations::Refused>;

impl Book for Desk {
    type Error = SayError;

    fn look(&mut self) -> Result<&Operations, SayError> {
        Ok(&Self::look(self)?.state)
    }

    fn say(&mut self, by: &Actor, now: Timestamp, decide: Decide<'_>) -> Result<(), SayError> {
        Self::say(self, by, now, decide).map(drop)
    }
}

/// What does the steps of one incident's plan.
pub trait Doer {
    /// The configuration that the steps come from.
    fn config(&self) -> &Config;

    /// Whose plan it is.
    fn incident(&self) -> IncidentId;

    /// Asks whether a step was done; see [`Performer::ask`].
    fn ask(&self, step: &Step, before: Before) -> Asked;

    /// Asks for what a step needs; see [`Performer::precondition`].
    fn precondition(&self, step: &Step, planned: &Planned) -> Result<String, Failure>;

    /// Does a step; see [`Performer::perform`].
    fn perform(&self, step: &Step) -> Outcome;
}

impl Doer for Performer<'_> {
    fn config(&self) -> &Config {
        self.config
    }

    fn incident(&self) -> IncidentId {
        self.incident
    }

    fn ask(&self, step: &Step, before: Before) -> Asked {
        self.ask(step, before)
    }

    fn precondition(&self, step: &Step, planned: &Planned) -> Result<String, Failure> {
        self.precondition(step, planned)
    }

    fn perform(&self, step: &Step) -> Outcome {
        self.perform(step)
    }
}

/// Runs an incident's plan from where it is, up to its end or to where a person is needed.
///
/// `seen` is the plan that was looked at: another one is not run. `tell` hears each step that begins and ends.
/// Errors: there is no such plan, its steps were configured otherwise since, or the log can't be written.
pub fn carry_out<B: Book>(
    book: &mut B,
    doer: &dyn Doer,
    by: &Actor,
    seen: Option<Digest>,
    now: &dyn Fn() -> Timestamp,
    tell: &mut dyn FnMut(&Step, Option<&Outcome>),
) -> Result<Told, RunError<B::Error>> {
    let id = doer.incident();
    let hash = match allowed(book.look().map_err(RunError::Say)?, doer.config(), id, seen, now())? {
        Ok(hash) => hash,
        // What was begun may have nothing left to do that needs a yes.
        Err(Told::NotApproved { hash, .. }) if is_executing(book, id)? => hash,
        Err(told) => return Ok(told),
    };
    say(book, by, now(), &|state| executing(state, id))?;
    loop {
        let state = book.look().map_err(RunError::Say)?;
        let planned = planned(state, id, hash)?;
        let (step, begun) = match planned.next() {
            Next::Done => break,
            Next::Stuck { step, why } => return Ok(Told::Stuck { step: step.id.clone(), why }),
            Next::Do(step) => (step.clone(), false),
            Next::Ask(step) => (step.clone(), true),
        };
        // An approval may run out or be void while steps are done.
        if let Err(told) = allowed(state, doer.config(), id, Some(hash), now())? {
            return Ok(told);
        }
        let tried = planned.steps.get(&step.id).is_some_and(|progress| progress.tries > 0);
        let before = match tried {
            _ if begun => Before::CutOff,
            true => Before::Failed,
            false => Before::Never,
        };
        if plan::spec_of(doer.config(), &step.act) != Some(step.spec) {
            let step = step.id.clone();
            return Err(incident::Refused::from(Refused::Stale { incident: id, step }).into());
        }
        let event = |event| Event::Incident { incident: id, event: IncidentEvent::Plan(event) };
        if !begun {
            let begin = event(PlanEvent::Begun { step: step.id.clone() });
            let config = doer.config();
            say(book, by, now(), &|state| match is_next(state, config, id, hash, &step, now())? {
                true => Ok(vec![begin.clone()]),
                false => Ok(Vec::new()),
            })?;
            let planned = self::planned(book.look().map_err(RunError::Say)?, id, hash)?;
            if !matches!(planned.next(), Next::Ask(asked) if asked.id == step.id) {
                continue;
            }
        }
        tell(&step, None);
        let progress = self::planned(book.look().map_err(RunError::Say)?, id, hash)?.steps.get(&step.id);
        let (was_tried, is_met) = progress.map_or((true, true), |progress| (progress.tried, progress.met));
        // What was begun, and what it needs was not seen yet, was not tried.
        let outcome = match doer.ask(&step, if was_tried { before } else { Before::Never }) {
            Asked::Done(evidence) => Outcome::Done { evidence, output: None },
            Asked::CannotTell(why) => Outcome::CannotTell { why },
            Asked::NotDone if is_met => doer.perform(&step),
            Asked::NotDone => match meet(book, doer, (by, now), hash, &step)? {
                None => doer.perform(&step),
                Some(outcome) => outcome,
            },
        };
        tell(&step, Some(&outcome));
        let end = event(PlanEvent::Ended { step: step.id.clone(), outcome });
        // Where somebody planned anew meanwhile, the new plan asks by itself what became of its step of this name.
        say(book, by, now(), &|state| match is_begun(state, id, hash, &step)? {
            true => Ok(vec![end.clone()]),
            false => Ok(Vec::new()),
        })?;
    }
    say(book, by, now(), &|state| match find(state, id)?.state {
        State::Executing => Ok(vec![moved(state, id, State::Cleaning, "every step of the plan is done")?]),
        _ => Ok(Vec::new()),
    })?;
    Ok(Told::Done)
}

/// Asks for what a step needs, and writes that it was seen; `Some` is the end of a step that must not be tried.
fn meet<B: Book>(
    book: &mut B,
    doer: &dyn Doer,
    (by, now): (&Actor, &dyn Fn() -> Timestamp),
    hash: Digest,
    step: &Step,
) -> Result<Option<Outcome>, RunError<B::Error>> {
    let id = doer.incident();
    let asked = doer.precondition(step, planned(book.look().map_err(RunError::Say)?, id, hash)?);
    let evidence = match asked {
        Ok(evidence) => evidence,
        // Nobody can tell: that is no yes either.
        Err(failure) => return Ok(Some(Outcome::Unmet { why: unmet(&failure) })),
    };
    let met = PlanEvent::Met { step: step.id.clone(), evidence };
    let met = Event::Incident { incident: id, event: IncidentEvent::Plan(met) };
    // Asking takes time: what somebody planned anew or settled meanwhile is not done any more, nor what nobody agrees to any
    // longer.
    let agreed = |state: &Operations| {
        let planned = find(state, id)?.planned.as_ref().filter(|planned| planned.hash == hash);
        let agreed = planned.is_some() && allowed(state, doer.config(), id, Some(hash), now())?.is_ok();
        Ok::<bool, incident::Refused>(agreed)
    };
    say(book, by, now(), &|state| match is_begun(state, id, hash, step)? && agreed(state)? {
        true => Ok(vec![met.clone()]),
        false => Ok(Vec::new()),
    })?;
    let state = book.look().map_err(RunError::Say)?;
    Ok(if !is_begun(state, id, hash, step)? {
        Some(Outcome::Unmet { why: "the plan was changed while it was asked".into() })
    } else if planned(state, id, hash)?.steps.get(&step.id).is_some_and(|progress| progress.met) {
        None
    } else {
        Some(Outcome::Unmet { why: "the approval of the plan ended while it was asked".into() })
    })
}

/// Says what was not as a step needs it, and what to do.
fn unmet(failure: &Failure) -> String {
    let hint = failure.hint.as_ref().map_or_else(String::new, |hint| format!("; {hint}"));
    format!("{failure}{hint}")
}

/// Tells whether a step may be begun now: somebody may have planned anew, raised the level or settled it in between.
///
/// Errors: the plan is another, or no longer approved, or the incident no longer executes it.
fn is_next(
    state: &Operations,
    config: &Config,
    id: IncidentId,
    hash: Digest,
    step: &Step,
    now: Timestamp,
) -> Result<bool, incident::Refused> {
    let found = find(state, id)?;
    if found.state != State::Executing {
        return Err(incident::Refused::Illegal { incident: id, from: found.state, to: State::Executing });
    }
    if allowed(state, config, id, Some(hash), now)?.is_err() {
        return Err(Refused::NotApproved { incident: id, plan: hash.short() }.into());
    }
    Ok(matches!(planned(state, id, hash)?.next(), Next::Do(next) if next.id == step.id))
}

/// Tells whether a step is being done, by the plan that was looked at: a step of another plan may bear the same name and
/// lead elsewhere.
///
/// Errors: there is no such incident.
fn is_begun(state: &Operations, id: IncidentId, hash: Digest, step: &Step) -> Result<bool, incident::Refused> {
    let planned = find(state, id)?.planned.as_ref().filter(|planned| planned.hash == hash);
    let progress = planned.and_then(|planned| planned.steps.get(&step.id));
    Ok(progress.is_some_and(|progress| progress.ended.is_none()))
}

type Events = Result<Vec<Event>, incident::Refused>;

fn say<B: Book>(
    book: &mut B,
    by: &Actor,
    now: Timestamp,
    decide: &dyn Fn(&Operations) -> Events,
) -> Result<(), RunError<B::Error>> {
    book.say(by, now, &|state| Ok(decide(state)?)).map_err(RunError::Say)
}

fn find(state: &Operations, id: IncidentId) -> Result<&Incident, incident::Refused> {
    incident::find(state, id)
}

fn planned(state: &Operations, id: IncidentId, hash: Digest) -> Result<&Planned, incident::Refused> {
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
    if needed > 0 && !incident.drill && !state.approvals.allows(&subject(id), &hash, needed, now) {
        return Ok(Err(Told::NotApproved { hash, needed }));
    }
    Ok(Ok(hash))
}

fn is_executing<B: Book>(book: &mut B, id: IncidentId) -> Result<bool, RunError<B::Error>> {
    Ok(find(book.look().map_err(RunError::Say)?, id)?.state == State::Executing)
}

/// Tells how many must approve an incident's plan: by the level it was made for, also after that was lowered.
pub fn needed(config: &Config, incident: &Incident) -> u32 {
    let level = incident.planned.as_ref().map_or(incident.level, |planned| planned.plan.level.max(incident.level));
    let configured = config.runbook.approvals.get(&level).copied().unwrap_or(0);
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
