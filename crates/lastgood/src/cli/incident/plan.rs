//! `lastgood incident plan`, `run` and `step`: what is done, and doing it.

use super::{
    Ended,
    driving::{OurHands, alone},
};
use crate::{app::App, cli::rollback, exit::Exit, screen::Trouble};
use clap::Args;
use lastgood_domain::{
    operations::{
        Event, Operations,
        incident::{
            self, Incident, IncidentEvent,
            plan::{self, Act, Next, Outcome, Plan as Steps, Planned, Step, Undo},
        },
        people::Act as Permission,
    },
    service::Service,
    terms::{Digest, IncidentId, Reason, ReleaseTag, ServiceName, Span, Timestamp},
    words,
};
use lastgood_engine::incident::{
    Performer, RunError, Told, ask as ask_for, by_hand, carry_out, hash_of, needed, plan as make, take,
};
use lastgood_engine::letter::rfc3339;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Create and show the plan for its level; replaces an earlier plan.
#[derive(Debug, Args)]
pub(crate) struct Plan {
    /// The incident, such as i0.
    incident: IncidentId,
    /// A release other than last-good to roll back to. Repeatable, one per service.
    #[arg(long, value_name = "SERVICE=RELEASE")]
    to: Vec<String>,
    /// Accept a named risk of a rollback: SERVICE/busy-instance:NAME or SERVICE/lost-writes:NAME.
    #[arg(long = "accept-risk", value_name = "RISK")]
    risks: Vec<String>,
    /// A manual step at the end of the plan; the plan waits until somebody marks it done. Repeatable.
    #[arg(long = "by-hand", value_name = "TEXT")]
    by_hand: Vec<Reason>,
}

/// Run the plan, or resume it where it stopped; no step is done twice.
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The incident, such as i0.
    incident: IncidentId,
    /// Run only this plan: the first 12 digits of its digest, as shown.
    #[arg(long, value_name = "HASH")]
    plan: Option<String>,
}

/// Resolve a stuck step: mark it done or retry it.
#[derive(Debug, Args)]
pub(crate) struct Settle {
    /// The incident, such as i0.
    incident: IncidentId,
    /// The step, such as command/rebuild-totals.
    step: String,
    /// The step is done: you have checked it.
    #[arg(long, conflicts_with = "again", required_unless_present = "again")]
    done: bool,
    /// Run the step again.
    #[arg(long)]
    again: bool,
    /// With --done, of a step that has to prove something: for how long you take the risk, such as 2d; needs a second
    /// person's approval.
    #[arg(long = "for", value_name = "TIME", requires = "done")]
    span: Option<Span>,
    /// What you saw, or why.
    #[arg(long)]
    reason: Reason,
}

fn trouble(error: impl Into<incident::Refused>) -> Trouble {
    Trouble::new(Exit::Failed, &error.into())
}

impl Plan {
    pub(super) fn run(self, app: &App) -> Ended {
        let id = self.incident;
        let operations = app.operations()?;
        let found = incident::find(&operations, id).map_err(trouble)?;
        let (services, unread) = services(app, found);
        let to = self.releases(app, &services)?;
        let risks = self.accepted(&services)?;
        let mut made = make(&app.config, found, &services, &to, &risks);
        // An incident about evidence must have its plan, damaged as it may be: somebody looks after such a service.
        let unread = unread.iter().map(|(name, trouble)| {
            app.screen.trouble(trouble);
            let text = format!("say what becomes of {name}: its log can't be read");
            Reason::new(&text).expect("a name fits into a reason")
        });
        let people: Vec<Reason> = unread.chain(self.by_hand.iter().cloned()).collect();
        made.steps.extend(by_hand(&people));
        let hash = hash_of(&made);
        let now = app.now();
        let (_, after) = app.say_operations(&|state| take(state, id, (&made, hash), &app.actor, now))?;
        let found = &after.incidents.all[&id];
        let needed = needed(&app.config, found);
        let reach = made.targets.iter().filter_map(|target| {
            let reaches = rollback::reaches(app, &target.service, services.get(&target.service)?, &target.tag);
            Some((target.service.clone(), reaches))
        });
        let reach: BTreeMap<ServiceName, String> = reach.collect();
        let mut text = said(&made, &durations(&after), &reach);
        text += &match needed {
            _ if found.drill => {
                format!("plan {}; a drill: nothing is done\nrun it: lastgood incident run {id}\n", hash.short())
            }
            0 => format!("plan {}\nrun it: lastgood incident run {id}\n", hash.short()),
            _ => {
                format!("plan {}, to be approved by {needed}\nask and run: lastgood incident run {id}\n", hash.short())
            }
        };
        let data = json!({ "incident": id, "plan": made, "hash": hash, "approvals": needed, "reach": reach });
        app.screen.show("incident-plan", &data, &text);
        Ok(Exit::Done)
    }

    fn releases(
        &self,
        app: &App,
        services: &BTreeMap<ServiceName, Service>,
    ) -> Result<BTreeMap<ServiceName, ReleaseTag>, Trouble> {
        let mut to = BTreeMap::new();
        for one in &self.to {
            let wrong = |why: String| Trouble::say(Exit::Usage, "incident-to", why, "write --to SERVICE=RELEASE");
            let (name, tag) = one.split_once('=').ok_or_else(|| wrong(format!("{one:?} names no release")))?;
            let name = app.service(Some(name))?;
            let tag = ReleaseTag::new(tag).map_err(|error| wrong(error.to_string()))?;
            let service = services.get(&name).ok_or_else(|| wrong(format!("the incident is not about {name}")))?;
            if !service.tags.get(&tag).is_some_and(|digest| service.passed.contains(digest)) {
                let what = format!("{tag} never passed as a release of {name}");
                return Err(Trouble::say(Exit::Refused, "release-unproven", what, "see which did: lastgood log --all"));
            }
            to.insert(name, tag);
        }
        Ok(to)
    }

    fn accepted(
        &self,
        services: &BTreeMap<ServiceName, Service>,
    ) -> Result<BTreeMap<ServiceName, Vec<String>>, Trouble> {
        let mut risks: BTreeMap<ServiceName, Vec<String>> = BTreeMap::new();
        for one in &self.risks {
            let known = one.split_once('/').and_then(|(name, risk)| {
                let name = ServiceName::new(name).ok().filter(|name| services.contains_key(name))?;
                Some((name, risk))
            });
            let (name, risk) = known.ok_or_else(|| {
                let hint = "write SERVICE/busy-instance:NAME or SERVICE/lost-writes:NAME";
                Trouble::say(Exit::Usage, "risk-unknown", format!("{one:?} is no risk of this plan"), hint)
            })?;
            risks.entry(name).or_default().push(risk.into());
        }
        Ok(risks)
    }
}

/// Names the services that an incident is about.
pub(super) fn about<'a>(app: &'a App, incident: &'a Incident) -> impl Iterator<Item = &'a ServiceName> {
    let known = app.config.service.keys();
    known.filter(|name| incident.services.is_empty() || incident.services.contains(*name))
}

/// Gives the states of the services that an incident is about, and those whose logs can't be read.
fn services(app: &App, incident: &Incident) -> (BTreeMap<ServiceName, Service>, BTreeMap<ServiceName, Trouble>) {
    let (mut read, mut unread) = (BTreeMap::new(), BTreeMap::new());
    for name in about(app, incident) {
        match app.look(name) {
            Ok(seen) => drop(read.insert(name.clone(), seen.service)),
            Err(trouble) => drop(unread.insert(name.clone(), trouble)),
        }
    }
    (read, unread)
}

/// Gives how long each step took when it was done last, by its name: in every plan of every incident that was no drill.
fn durations(operations: &Operations) -> BTreeMap<String, Span> {
    let all = operations.incidents.all.values().filter(|one| !one.drill).flat_map(|one| &one.took);
    let mut newest: BTreeMap<String, (Timestamp, Span)> = BTreeMap::new();
    for (step, (at, took)) in all {
        let known = newest.entry(step.clone()).or_insert((*at, *took));
        if known.0 <= *at {
            *known = (*at, *took);
        }
    }
    newest.into_iter().map(|(step, (_, took))| (step, took)).collect()
}

fn said(plan: &Steps, took: &BTreeMap<String, Span>, reach: &BTreeMap<ServiceName, String>) -> String {
    let mut text = format!("plan of {} for {}\n", words::count(plan.steps.len() as u64, "step"), plan.level.as_str());
    for target in &plan.targets {
        let commit = target.commit.as_ref().map_or_else(String::new, |commit| format!(", commit {commit}"));
        text += &format!("  {} goes to {} ({}{commit})\n", target.service, target.tag, target.release.short());
        text += &reach.get(&target.service).map_or_else(String::new, |reach| format!("    {reach}\n"));
        let data =
            target.data.iter().map(|(instance, of)| format!("{instance} of {of}")).collect::<Vec<_>>().join(", ");
        let data = if data.is_empty() { "none".to_owned() } else { data };
        let (config, position) = (target.config.short(), target.position);
        text += &format!("    data now: {data}; configuration {config} of today; planned at record {position}\n");
    }
    for (number, step) in (1..).zip(&plan.steps) {
        let took = took.get(&step.id).map_or_else(String::new, |took| format!(", took {took} last time"));
        text += &format!("{number:>3}. {}: {}{took}\n", step.area.as_str(), step.says);
        let risk = step.risk.as_ref().map(|risk| format!("     risk {}\n", risk.says()));
        text += &risk.unwrap_or_default();
        let needs = step.precondition.as_ref().map(|needs| format!("     needs: {}\n", needs.says()));
        text += &needs.unwrap_or_default();
        text += &match &step.undo {
            Undo::Nothing => String::new(),
            Undo::By { how } => format!("     undone by: {how}\n"),
            Undo::None { why } => format!("     IRREVERSIBLE: {why}\n"),
        };
    }
    text
}

impl Run {
    pub(super) fn run(self, app: &App) -> Ended {
        let id = self.incident;
        let operations = app.operations()?;
        let found = incident::find(&operations, id).map_err(trouble)?;
        let planned = found.planned.as_ref().ok_or(plan::Refused::NoPlan { incident: id }).map_err(trouble)?;
        if let Some(seen) = self.plan.filter(|seen| *seen != planned.hash.short()) {
            let other = plan::Refused::OtherPlan { incident: id, is: planned.hash.short(), seen };
            return Err(Trouble::new(Exit::Moved, &incident::Refused::from(other)));
        }
        let hash = planned.hash;
        // A step that was cut off is done before anything is written of it: who may not lead must not come so far.
        app.config
            .people()
            .check(&app.actor, Permission::Lead)
            .map_err(|error| Trouble::new(Exit::NotAllowed, &error))?;
        let _lock = alone(app, id)?;
        let reader = app.reader()?.ok_or_else(|| trouble(incident::Refused::Unknown { incident: id }))?;
        let names = about(app, found).cloned().collect();
        let hands = OurHands { app, incident: id };
        let performer = Performer {
            config: &app.config,
            reader: &reader,
            incident: id,
            drill: found.drill,
            services: names,
            hands: &hands,
        };
        let mut desk = app.desk()?;
        let mut tell = |step: &Step, outcome: Option<&Outcome>| app.screen.tell(&told(step, outcome));
        let ended = carry_out(&mut desk, &performer, &app.actor, Some(hash), &|| app.now(), &mut tell);
        match ended.map_err(|error| run_trouble(&error))? {
            Told::Done => {
                let text = format!("every step is done\nsee what is next: lastgood incident show {id}");
                app.screen.show("incident-run", &json!({ "incident": id, "hash": hash, "done": true }), &text);
                Ok(Exit::Done)
            }
            Told::Stuck { step, .. } if let Some(what) = by_people(planned, &step) => {
                let text = format!(
                    "{step} is yours: {what}\n\
                     when you have seen that it is so: lastgood incident step {id} {step} --done --reason …"
                );
                let data = json!({ "incident": id, "hash": hash, "done": false, "step": step, "by_hand": what });
                app.screen.show("incident-run", &data, &text);
                Ok(Exit::Pending)
            }
            Told::Stuck { step, why } if is_unmet(&app.operations()?, id, &step) => Err(Trouble::say(
                Exit::Refused,
                "incident-step-unmet",
                format!("{step} was not tried, because of what it needs: {why}"),
                &format!("make it so, then: lastgood incident step {id} {step} --again --reason …"),
            )),
            Told::Stuck { step, why } => Err(Trouble::say(
                Exit::Failed,
                "incident-step-failed",
                format!("{step}: {why}"),
                &match proves(planned, &step) {
                    false => {
                        format!(
                            "lastgood incident step {id} {step} --again --reason …, or --done if you see that it is so"
                        )
                    }
                    true => format!(
                        "lastgood incident step {id} {step} --again --reason …, or with a second person --done --for 2d"
                    ),
                },
            )),
            Told::NotApproved { hash, needed } => ask(app, id, hash, needed),
        }
    }
}

/// Gives what people have to do in a step, if it is theirs.
fn by_people<'p>(planned: &'p Planned, id: &str) -> Option<&'p Reason> {
    planned.plan.steps.iter().find_map(|step| match &step.act {
        Act::ByHand { what } if step.id == id => Some(what),
        _ => None,
    })
}

/// Tells whether a step was not tried for want of what it needs.
fn is_unmet(operations: &Operations, id: IncidentId, step: &str) -> bool {
    let planned = operations.incidents.all.get(&id).and_then(|incident| incident.planned.as_ref());
    let progress = planned.and_then(|planned| planned.steps.get(step));
    matches!(progress.and_then(|progress| progress.ended.as_ref()), Some((Outcome::Unmet { .. }, _)))
}

/// Tells whether a step has to prove something.
fn proves(planned: &Planned, id: &str) -> bool {
    planned.plan.steps.iter().any(|step| step.id == id && step.act.proves())
}

/// Asks for the approval that a plan needs, unless it is asked for already.
fn ask(app: &App, id: IncidentId, hash: Digest, needed: u32) -> Ended {
    let subject = plan::subject(id);
    let now = app.now();
    let (_, after) = app.say_operations(&|state| ask_for(state, id, (hash, needed), &app.actor, now))?;
    let asked = after.approvals.of(&subject).filter(|(_, one)| one.request.plan == hash).last();
    let approval = asked.map(|(approval, _)| approval.to_string()).unwrap_or_default();
    let text = format!(
        "the plan needs {needed} besides you; it is asked for as {approval}\n\
         have another person run: lastgood approval approve {approval}\nthen: lastgood incident run {id}"
    );
    let data = json!({ "incident": id, "hash": hash, "done": false, "approval": approval, "needed": needed });
    app.screen.show("incident-run", &data, &text);
    Ok(Exit::Pending)
}

fn told(step: &Step, outcome: Option<&Outcome>) -> String {
    match outcome {
        Some(Outcome::CannotTell { .. }) if matches!(step.act, Act::ByHand { .. }) => format!("{} waits", step.id),
        None => format!("{} …", step.id),
        Some(Outcome::Done { evidence, .. }) => format!("{} done: {evidence}", step.id),
        Some(Outcome::Failed { why }) => format!("{} FAILED: {why}", step.id),
        Some(Outcome::Unmet { why }) => format!("{} NOT TRIED, it needs what is not so: {why}", step.id),
        Some(Outcome::CannotTell { why }) => format!("{} CANNOT TELL whether it was done: {why}", step.id),
        Some(Outcome::Settled { reason } | Outcome::Again { reason }) => format!("{}: {reason}", step.id),
    }
}

fn run_trouble(error: &RunError) -> Trouble {
    match error {
        RunError::Refused(refused) => Trouble::new(Exit::Refused, refused),
        RunError::Say(said) => Trouble::new(Exit::of_said(said), said.coded()),
    }
}

impl Settle {
    pub(super) fn run(self, app: &App) -> Ended {
        let id = self.incident;
        let reason = self.reason.clone();
        if let Some(span) = self.span {
            return self.waive(app, span);
        }
        let outcome = if self.done { Outcome::Settled { reason } } else { Outcome::Again { reason } };
        app.say_operations(&|state| {
            let found = incident::find(state, id)?;
            let event = plan::settled(id, found.planned.as_ref(), &self.step, outcome.clone());
            let event = IncidentEvent::Plan(event.map_err(incident::Refused::from)?);
            Ok(vec![Event::Incident { incident: id, event }])
        })?;
        let text = format!("go on: lastgood incident run {id}");
        app.screen.show("incident-step", &json!({ "incident": id, "step": self.step, "outcome": outcome }), &text);
        Ok(Exit::Done)
    }
}

impl Settle {
    /// Goes on without a proof, or asks the second person that this takes.
    fn waive(self, app: &App, span: Span) -> Ended {
        let Self { incident: id, step, reason, .. } = self;
        let now = app.now();
        let until = now.after(span);
        let (records, after) =
            app.say_operations(&|state| plan::waive(state, id, &app.actor, &step, (reason.clone(), until), now))?;
        let planned = incident::find(&after, id).map_err(trouble)?.planned.as_ref();
        let signature =
            planned.and_then(|planned| planned.waivers.get(&step)).expect("a waiver is asked for or stands");
        let approval = signature.approval;
        let is_settled = records.iter().any(|record| {
            let Event::Incident { event: IncidentEvent::Plan(event), .. } = &record.event else { return false };
            matches!(event, plan::PlanEvent::Ended { .. })
        });
        let text = match is_settled {
            true => {
                format!("signed by {approval} until {}; go on: lastgood incident run {id}", rfc3339(signature.until))
            }
            false => format!(
                "{step} stays stuck until a second person has approved {approval}\n\
                 have them run: lastgood approval approve {approval}\n\
                 then again: lastgood incident step {id} {step} --done --for {span} --reason …"
            ),
        };
        let data = json!({
            "incident": id, "step": step, "approval": approval, "until": signature.until, "done": is_settled,
        });
        app.screen.show("incident-step", &data, &text);
        Ok(if is_settled { Exit::Done } else { Exit::Pending })
    }
}

/// Says how far a plan is, for the incident's screen.
pub(super) fn progress(planned: &Planned) -> (Value, String) {
    let mut text =
        format!("plan {} of {}\n", planned.hash.short(), words::count(planned.plan.steps.len() as u64, "step"));
    let mut rows = Vec::new();
    for step in &planned.plan.steps {
        let at = planned.steps.get(&step.id);
        let state = match at.map(|at| &at.ended) {
            None => "waits".to_owned(),
            Some(None) => "begun".into(),
            Some(Some((outcome, _))) => match outcome {
                Outcome::Done { evidence, .. } => format!("done: {evidence}"),
                Outcome::Failed { why } => format!("FAILED: {why}"),
                Outcome::Unmet { why } => format!("NOT TRIED: {why}"),
                Outcome::CannotTell { why } => format!("CANNOT TELL: {why}"),
                Outcome::Settled { reason } => format!("settled by a person: {reason}"),
                Outcome::Again { reason } => format!("to be done again: {reason}"),
            },
        };
        text += &format!("  {}  {state}\n", step.id);
        rows.push(json!({ "step": step.id, "tries": at.map_or(0, |at| at.tries), "state": state }));
    }
    let stuck = match planned.next() {
        Next::Stuck { step, .. } => Some(step.id.clone()),
        _ => None,
    };
    (json!({ "hash": planned.hash, "plan": planned.plan, "steps": rows, "stuck": stuck }), text)
}
