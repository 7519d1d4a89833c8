//! `lastgood incident plan`, `run` and `step`: what is done, and doing it.

use super::Ended;
use crate::{
    app::{App, exit_of},
    cli::{credential, evidence, rollback},
    exit::Exit,
    screen::Trouble,
};
use clap::Args;
use lastgood_domain::{
    event::{self, End},
    failure::Failure,
    operations::{
        Event, Operations,
        incident::{
            self, Incident, IncidentEvent,
            plan::{self, Act, Next, Outcome, Plan as Steps, Planned, Step, Turn, Undo},
        },
        people::Act as Permission,
    },
    service::Service,
    terms::{Digest, IncidentId, Reason, ReleaseTag, ServiceName, Span},
    words,
};
use lastgood_engine::incident::{
    Hands, Performer, RunError, Told, ask as ask_for, by_hand, carry_out, hash_of, needed, plan as make, take,
};
use rustix::fs::{FlockOperation, flock};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    os::unix::fs::OpenOptionsExt as _,
    time::{Duration, Instant},
};

/// How long what an earlier driver left running is waited for before a person is told.
const LEFT_OVER_WAIT: Duration = Duration::from_secs(30);

/// Make the plan for an incident's level, and show it; an earlier one is void.
#[derive(Debug, Args)]
pub(crate) struct Plan {
    /// Which, such as i0.
    incident: IncidentId,
    /// A release other than last-good to go back to; may be given for several services.
    #[arg(long, value_name = "SERVICE=RELEASE")]
    to: Vec<String>,
    /// Accept a named risk of a rollback: SERVICE/busy-instance:NAME or SERVICE/lost-writes:NAME.
    #[arg(long = "accept-risk", value_name = "RISK")]
    risks: Vec<String>,
    /// Something that people do after all that lastgood does; the plan waits until somebody says that it is so.
    #[arg(long = "by-hand", value_name = "TEXT")]
    by_hand: Vec<Reason>,
}

/// Run the plan from where it is: after a kill it goes on, and does nothing twice.
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Which, such as i0.
    incident: IncidentId,
    /// Run this plan only: the first 12 digits of its digest, as they were shown.
    #[arg(long, value_name = "HASH")]
    plan: Option<String>,
}

/// Say what becomes of a step that is stuck.
#[derive(Debug, Args)]
pub(crate) struct Settle {
    /// Which, such as i0.
    incident: IncidentId,
    /// The step, such as command/rebuild-totals.
    step: String,
    /// It is so: you have seen it.
    #[arg(long, conflicts_with = "again", required_unless_present = "again")]
    done: bool,
    /// Do it again.
    #[arg(long)]
    again: bool,
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
        let services = services(app, found)?;
        let to = self.releases(app, &services)?;
        let risks = self.accepted(&services)?;
        let mut made = make(&app.config, found, &services, &to, &risks);
        made.steps.extend(by_hand(&self.by_hand));
        let hash = hash_of(&made);
        let now = app.now();
        let (_, after) = app.say_operations(&|state| take(state, id, (&made, hash), &app.actor, now))?;
        let found = &after.incidents.all[&id];
        let needed = needed(&app.config, found);
        let mut text = said(&made, &durations(&after));
        text += &match needed {
            _ if found.drill => {
                format!("plan {}; a drill: nothing is done\nrun it: lastgood incident run {id}\n", hash.short())
            }
            0 => format!("plan {}\nrun it: lastgood incident run {id}\n", hash.short()),
            _ => {
                format!("plan {}, to be approved by {needed}\nask and run: lastgood incident run {id}\n", hash.short())
            }
        };
        let data = json!({ "incident": id, "plan": made, "hash": hash, "approvals": needed });
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

/// Gives the states of the services that an incident is about.
fn services(app: &App, incident: &Incident) -> Result<BTreeMap<ServiceName, Service>, Trouble> {
    let known = app.config.service.keys();
    let about = known.filter(|name| incident.services.is_empty() || incident.services.contains(*name));
    about.map(|name| Ok((name.clone(), app.look(name)?.service))).collect()
}

/// Gives how long each step took in earlier incidents, by its name.
fn durations(operations: &Operations) -> BTreeMap<String, Span> {
    let plans = operations.incidents.all.values().filter(|one| !one.drill).filter_map(|one| one.planned.as_ref());
    let steps = plans.flat_map(|planned| &planned.steps);
    let took = steps.filter_map(|(id, progress)| match &progress.ended {
        Some((Outcome::Done { .. }, at)) => Some((id.clone(), at.since(progress.begun))),
        _ => None,
    });
    took.collect()
}

fn said(plan: &Steps, took: &BTreeMap<String, Span>) -> String {
    let mut text = format!("plan of {} for {}\n", words::count(plan.steps.len() as u64, "step"), plan.level.as_str());
    for target in &plan.targets {
        let commit = target.commit.as_ref().map_or_else(String::new, |commit| format!(", commit {commit}"));
        text += &format!("  {} goes to {} ({}{commit})\n", target.service, target.tag, target.release.short());
    }
    for (number, step) in (1..).zip(&plan.steps) {
        let took = took.get(&step.id).map_or_else(String::new, |took| format!(", took {took} last time"));
        text += &format!("{number:>3}. {}: {}{took}\n", step.area.as_str(), step.says);
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
        let _lock = lock(app, id)?;
        let reader = app.reader()?.ok_or_else(|| trouble(incident::Refused::Unknown { incident: id }))?;
        let names = services(app, found)?.into_keys().collect();
        let hands = OurHands { app };
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
            Told::Stuck { step, why } => Err(Trouble::say(
                Exit::Failed,
                "incident-step-failed",
                format!("{step}: {why}"),
                &format!("lastgood incident step {id} {step} --again --reason …, or --done if you see that it is so"),
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

/// Asks for the approval that a plan needs, unless it is asked for already.
fn ask(app: &App, id: IncidentId, hash: Digest, needed: u32) -> Ended {
    let subject = plan::subject(id);
    let now = app.now();
    let (_, after) = app.say_operations(&|state| ask_for(state, id, (hash, needed), &app.actor, now))?;
    let asked = after.approvals.of(&subject).filter(|(_, one)| one.request.plan == hash).last();
    let approval = asked.map(|(approval, _)| approval.to_string()).unwrap_or_default();
    let text = format!(
        "the plan needs {needed} besides you; it is asked for as {approval}\n\
         have another person type: lastgood approval approve {approval}\nthen: lastgood incident run {id}"
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
        Some(Outcome::CannotTell { why }) => format!("{} CANNOT TELL whether it was done: {why}", step.id),
        Some(Outcome::Settled { reason } | Outcome::Again { reason }) => format!("{}: {reason}", step.id),
    }
}

fn run_trouble(error: &RunError) -> Trouble {
    match error {
        RunError::Refused(refused) => Trouble::new(Exit::Refused, refused),
        RunError::Say(said) => Trouble::new(exit_of(said), said.coded()),
    }
}

/// Held while a plan runs; commands of its steps hold it as well, so that none of them is begun again while it lives.
struct RunLock {
    _file: File,
}

/// Takes the plan's lock. What a driver that was killed left running is waited for.
fn lock(app: &App, id: IncidentId) -> Result<RunLock, Trouble> {
    let path = app.home.root().join(format!("incident-{id}.lock"));
    let failed = |error: std::io::Error| {
        let what = format!("{} can't be used: {error}", path.display());
        Trouble::say(Exit::Failed, "incident-lock", what, "check owner and space of the state folder")
    };
    app.store()?;
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.map_err(failed)?;
    let begun = Instant::now();
    while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        if begun.elapsed() >= LEFT_OVER_WAIT {
            return Err(Trouble::say(
                Exit::Driven,
                "incident-driven",
                format!("somebody runs the plan of incident {id}, or a command of it is still running"),
                &format!("see who: fuser -v {}", path.display()),
            ));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    // Inherited on purpose: a command that outlives us must keep the next driver from beginning it again.
    rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).map_err(|error| failed(error.into()))?;
    Ok(RunLock { _file: file })
}

/// What steps need of the program as a whole.
struct OurHands<'a> {
    app: &'a App,
}

impl Hands for OurHands<'_> {
    fn roll_back(
        &self,
        service: &ServiceName,
        to: &ReleaseTag,
        risks: &[String],
        reason: &str,
        within: Span,
    ) -> Result<String, Failure> {
        let until = self.app.now().after(within);
        let end = rollback::take_back(self.app, service, to, risks, reason).map_err(|trouble| trouble.failure)?;
        // Whoever drives it goes on; the log tells.
        while end.is_none() && self.app.now() < until {
            let now = self.app.look(service).map_err(|trouble| trouble.failure)?.service;
            if now.run.is_none() {
                return Ok(now.last_end.map_or_else(String::new, |(_, _, end)| words::end_words(&end)));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        match end {
            Some(end @ (End::RolledBack { .. } | End::UpToDate)) => Ok(words::end_words(&end)),
            Some(end) => Err(Failure::new(
                "rollback-not-done",
                format!("{service}: {}", words::end_words(&end)),
                Some(&format!("look why: lastgood why {service}")),
            )),
            None => Err(Failure::new("rollback-timeout", format!("{service} is not back after {within}"), None)),
        }
    }

    fn annotate(&self, incident: IncidentId, services: &[ServiceName]) -> Result<String, Failure> {
        for service in services {
            let said = self.app.say(service, |folded| {
                Ok(match folded.incidents.contains(&incident) {
                    true => Vec::new(),
                    false => vec![event::Event::Annotated { incident }],
                })
            });
            said.map_err(|trouble| trouble.failure)?;
        }
        Ok(format!("{} named the incident", words::count(services.len() as u64, "chain")))
    }

    fn verify_evidence(&self) -> Result<String, Failure> {
        let run = evidence::verified(self.app).map_err(|trouble| trouble.failure)?;
        match run.findings.first() {
            None => Ok(format!("{} verified", words::count(run.records, "record"))),
            Some(finding) => {
                let hint = Some("see all: lastgood evidence verify");
                Err(Failure::new("evidence-broken", evidence::says(finding), hint))
            }
        }
    }

    fn cut_over(&self) -> Result<String, Failure> {
        let sign = || {
            let (signer, anchor) = evidence::signer(self.app)?;
            evidence::sign_all(&mut self.app.store()?, &signer, &anchor, self.app)
        };
        let signed = sign().map_err(|trouble: Trouble| trouble.failure)?;
        let positions: Vec<String> = signed.iter().map(|(chain, size)| format!("{chain} {size}")).collect();
        Ok(format!("signed at {}", positions.join(", ")))
    }

    fn credential(&self, name: &str, turn: Turn) -> Result<String, Failure> {
        let credential = credential::prepared(self.app, name).map_err(|trouble| trouble.failure)?;
        let done = match turn {
            Turn::Revoke => credential.revoke(),
            Turn::ProveRefused => credential.prove_refused(),
            Turn::Rotate => credential.rotate(),
            Turn::ProveConsumers => credential.prove_consumers(),
        };
        done.map(|done| done.what).map_err(|error| Failure::of(&error))
    }
}

impl Settle {
    pub(super) fn run(self, app: &App) -> Ended {
        let id = self.incident;
        let reason = self.reason.clone();
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
