//! Does one step, or asks whether it was done.

use super::{
    drift::{self, Again},
    plan,
};
use crate::{
    config::{CheckConfig, Config, InstanceConfig, SqlCheck},
    fold, signals,
};
use lastgood_domain::{
    failure::{Failure, REPORT},
    operations::incident::plan::{Act, Outcome, Planned, Precondition, Step, Turn},
    service::Service,
    terms::{Digest, IncidentId, InstanceName, ReleaseTag, ServiceName, Span},
    words,
};
use lastgood_drivers::{
    probe::{self, ProbeConfig, ProbeTarget, Secrets},
    sql::{Database, Limits, Scalar, SqlError, Table},
};
use lastgood_store::Reader;
use std::{
    collections::{BTreeMap, BTreeSet},
    thread,
    time::{Duration, Instant},
};

/// Where requests of a step go that is about no service; commands need no place.
const NOWHERE: &str = "http://127.0.0.1";

/// The code of what nobody answers at.
const UNREACHABLE: &str = "probe-unreachable";
/// How often is asked what can't be reached, and the pause between: what restarts is there within a second or two.
const REACHED_TRIES: u32 = 5;
const REACH_AGAIN: Duration = Duration::from_millis(500);

/// Why nobody but a person can tell of a step that people do.
const BY_HAND: &str = "people do it, and say when it is so";
const BY_HAND_NEXT: &str = "do it, then: lastgood incident step INCIDENT by-hand/N --done --reason …";

/// What a step needs that only the program as a whole can do.
pub trait Hands {
    /// Takes a service back with its data, whoever drives it, and gives what was seen.
    ///
    /// Errors: why it is not back.
    fn roll_back(
        &self,
        service: &ServiceName,
        to: &ReleaseTag,
        risks: &[String],
        reason: &str,
        within: Span,
    ) -> Result<String, Failure>;

    /// Asks whether a service can go back as [`Self::roll_back`] would take it, and gives what was seen; changes nothing but
    /// that a release whose folder was moved away is installed again.
    ///
    /// Errors: what is in the way.
    fn way_back(&self, service: &ServiceName, to: &ReleaseTag, risks: &[String]) -> Result<String, Failure>;

    /// Copies every chain and log into a folder of the incident's own with a list of digests, reads the copies again, and
    /// gives where they are. Repeated, it finds what is there already.
    ///
    /// Errors: what could not be kept, or does not fit its digest.
    fn preserve(&self, incident: IncidentId) -> Result<String, Failure>;

    /// Asks whether there is room for [`Self::preserve`]. Errors: how much is missing.
    fn room(&self) -> Result<String, Failure>;

    /// Writes into the chain of each of these services that it is part of the incident.
    ///
    /// Errors: a chain can't be written.
    fn annotate(&self, incident: IncidentId, services: &[ServiceName]) -> Result<String, Failure>;

    /// Starts an instance again with what its release declares, whoever drives its service: what runs or was left of it is
    /// stopped before. Repeated after a kill it comes to the same.
    ///
    /// Errors: why it does not run.
    fn start_again(&self, service: &ServiceName, instance: &InstanceName, within: Span) -> Result<(), Failure>;

    /// Verifies the whole evidence. Errors: the first bad position.
    fn verify_evidence(&self) -> Result<String, Failure>;

    /// Signs every chain's head and gives the list of positions. Errors: what can't be signed.
    fn cut_over(&self) -> Result<String, Failure>;

    /// Does one turn of replacing a credential for an incident. Errors: why it is not so; never the secret.
    fn credential(&self, incident: IncidentId, name: &str, turn: Turn) -> Result<String, Failure>;

    /// Carries out steps as a probe has them, within a time. Errors: the first that did not pass; never a secret.
    fn probe(&self, config: &Config, steps: &[probe::Step], door: Door, within: Span) -> Result<String, Failure> {
        carried_out(config, steps, door, within)
    }
}

/// What requests of a step go to, and what its templates may name.
pub type Door = (String, BTreeMap<String, String>);

/// The services' logs, to look at.
pub trait Logs {
    /// Gives the state of a service. Errors: its log can't be read.
    fn service(&self, name: &ServiceName) -> Result<Service, Failure>;
}

impl Logs for Reader {
    fn service(&self, name: &ServiceName) -> Result<Service, Failure> {
        let folded = fold::Folded::read(self, name);
        folded.map(|folded| folded.service).map_err(|error| error.failure())
    }
}

/// What was found when it was asked whether a step was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// It is so, on this evidence.
    Done(String),
    /// It is not so, or doing it again is the same as once.
    NotDone,
    /// Nobody can tell.
    CannotTell(String),
}

/// What became of a step before it is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// Nothing: it was never tried, or somebody said that it is to be done again.
    Never,
    /// It said that it failed, which it may have done after it was done.
    Failed,
    /// It was begun, and nobody wrote how it ended.
    CutOff,
}

/// Does steps of one incident.
pub struct Performer<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// The evidence, to look at.
    pub reader: &'a dyn Logs,
    /// The incident.
    pub incident: IncidentId,
    /// Whether nothing outside is touched.
    pub drill: bool,
    /// The services it is about.
    pub services: Vec<ServiceName>,
    /// What only the program as a whole can do.
    pub hands: &'a dyn Hands,
}

impl Performer<'_> {
    /// Asks whether a step is so already: before it is done, after it failed, and after it was cut off.
    pub fn ask(&self, step: &Step, before: Before) -> Asked {
        match &step.act {
            Act::RollBack { service, to, .. } => match self.is_at(service, to) {
                Some(seen) => Asked::Done(seen),
                None => Asked::NotDone,
            },
            Act::Command { name } => self.ask_command(step, name, before),
            // Each of these is the same when it is done twice.
            Act::PutBack { .. }
            | Act::Check { .. }
            | Act::Preserve
            | Act::Annotate
            | Act::VerifyEvidence
            | Act::CutOver => Asked::NotDone,
            // Its drivers ask themselves, because a turn is more than one act.
            Act::Credential { .. } => Asked::NotDone,
            Act::ByHand { .. } if self.drill => Asked::NotDone,
            Act::ByHand { .. } => Asked::CannotTell(BY_HAND.into()),
        }
    }

    fn ask_command(&self, step: &Step, name: &str, before: Before) -> Asked {
        let Some(config) = self.config.runbook.step.get(name) else {
            return Asked::CannotTell(format!("there is no [runbook.step.{name}] any more"));
        };
        if !config.verify.is_empty() {
            // Before it is done nobody is there who could be waited for.
            let asked = match before {
                Before::Never => self.probe(&config.verify, &config.services, step.timeout),
                Before::Failed | Before::CutOff => self.reached(&config.verify, &config.services, step.timeout),
            };
            return match asked {
                Ok(seen) => Asked::Done(format!("it is so already: {seen}")),
                // What can't be asked may be so: doing it may harm, and is for a person to say.
                Err(failure) if before != Before::Never && cannot_ask(&failure) => Asked::CannotTell(failure.message),
                Err(_) => Asked::NotDone,
            };
        }
        match before == Before::CutOff && !config.repeatable {
            true => Asked::CannotTell("it has no verify, and is not said to be repeatable".into()),
            false => Asked::NotDone,
        }
    }

    /// Asks for what a step needs right before it is first tried, and gives what was seen. A drill asks nothing outside.
    ///
    /// Errors: it is not so, or nobody can tell.
    pub fn precondition(&self, step: &Step, planned: &Planned) -> Result<String, Failure> {
        let Some(needs) = &step.precondition else { return Ok("it needs nothing".into()) };
        if self.drill {
            return Ok(format!("a drill: nothing was asked; else {}", needs.says()));
        }
        match needs {
            Precondition::WayBack { service, to } => {
                let risks: &[String] = if let Act::RollBack { risks, .. } = &step.act { risks } else { &[] };
                self.hands.way_back(service, to, risks)
            }
            Precondition::AtRest { service, at } => self.at_rest(service, at),
            Precondition::Asked { name } => {
                let gone = || gone(&format!("runbook.step.{name}.precondition"));
                let config = self.config.runbook.step.get(name).ok_or_else(gone)?;
                let asked = config.precondition.as_ref().ok_or_else(gone)?;
                match &asked.sql {
                    Some(sql) => rows(self.config, sql, step.timeout),
                    None => self.probe(&asked.ask, &config.services, step.timeout),
                }
            }
            Precondition::OldRefused { name } if planned.is_waived(&format!("credential/{name}/prove-refused")) => {
                Ok("two people's word stands for it".into())
            }
            Precondition::OldRefused { name } => self.hands.credential(self.incident, name, Turn::ProveRefused),
            Precondition::Room => self.hands.room(),
        }
    }

    fn at_rest(&self, service: &ServiceName, at: &ReleaseTag) -> Result<String, Failure> {
        let folded = self.fold(service)?;
        let last_good = folded.name_of(folded.last_good.as_ref());
        let (what, hint) = match &folded.run {
            Some(run) => {
                (format!("{} of {service} is under way", run.id), format!("wait for it: lastgood watch {service}"))
            }
            None if folded.last_good.is_some() && folded.last_good.as_ref() == folded.tags.get(at) => {
                return Ok(format!("{at} is last-good of {service}, and nothing is on its way"));
            }
            None => (
                format!("last-good of {service} is {last_good}, not {at}"),
                format!("take it back: lastgood rollback {service} --to {at}, or plan again"),
            ),
        };
        Err(Failure::new("incident-step-unmet", what, Some(&hint)))
    }

    /// Does a step and says how it ended. A drill says only what would be done.
    pub fn perform(&self, step: &Step) -> Outcome {
        if self.drill {
            return Outcome::Done { evidence: format!("a drill: nothing was done; else {}", step.says), output: None };
        }
        let done = match &step.act {
            Act::RollBack { service, to, risks } => {
                let reason = format!("incident {}", self.incident);
                let done = self.hands.roll_back(service, to, risks, &reason, step.timeout);
                // The success message is not evidence; the log is.
                done.and_then(|said| self.is_at(service, to).ok_or_else(|| not_at(service, to, &said)))
            }
            Act::PutBack { service, risks } => self.put_back(service, risks, step.timeout),
            Act::Command { name } => self.command(step, name),
            Act::Check { name } => match self.config.runbook.check.get(name) {
                Some(CheckConfig { sql: Some(sql), .. }) => rows(self.config, sql, step.timeout),
                Some(check) => self.probe(&check.ask, &check.services, step.timeout),
                None => Err(gone(&format!("runbook.check.{name}"))),
            },
            Act::Preserve => self.hands.preserve(self.incident),
            Act::Annotate => self.hands.annotate(self.incident, &self.services),
            Act::VerifyEvidence => self.hands.verify_evidence(),
            Act::CutOver => self.hands.cut_over(),
            Act::Credential { name, turn } => self.hands.credential(self.incident, name, *turn),
            Act::ByHand { .. } => Err(Failure::new("by-hand", BY_HAND, Some(BY_HAND_NEXT))),
        };
        match done {
            Ok(evidence) => {
                let output = Some(Digest::of(evidence.as_bytes()));
                Outcome::Done { evidence: words::brief(&evidence), output }
            }
            Err(failure) => Outcome::Failed { why: failure.to_string() },
        }
    }

    fn command(&self, step: &Step, name: &str) -> Result<String, Failure> {
        let config = self.config.runbook.step.get(name).ok_or_else(|| gone(&format!("runbook.step.{name}")))?;
        let seen = self.probe(&config.act, &config.services, step.timeout)?;
        match config.verify.is_empty() {
            true => Ok(seen),
            // What was done may have started what is asked only now.
            false => self.reached(&config.verify, &config.services, step.timeout),
        }
    }

    /// Asks what may not be reached yet, several times.
    fn reached(&self, steps: &[probe::Step], about: &BTreeSet<ServiceName>, within: Span) -> Result<String, Failure> {
        let begun = Instant::now();
        let mut asked = 1;
        loop {
            match self.probe(steps, about, within) {
                Err(failure)
                    if failure.code == UNREACHABLE && asked < REACHED_TRIES && begun.elapsed() < within.duration() => {}
                answer => return answer,
            }
            asked += 1;
            thread::sleep(REACH_AGAIN);
        }
    }

    fn put_back(&self, service: &ServiceName, risks: &[String], within: Span) -> Result<String, Failure> {
        let folded = self.fold(service)?;
        let files = plan::files(self.config, service);
        let again = |instance: &InstanceName| self.hands.start_again(service, instance, within);
        let again = Again { incident: self.incident, risks, start: &again };
        drift::put_back(self.config, service, &folded, &files, &again)
    }

    fn probe(&self, steps: &[probe::Step], about: &BTreeSet<ServiceName>, within: Span) -> Result<String, Failure> {
        self.hands.probe(self.config, steps, self.door(about), within)
    }

    /// Gives what requests of a step go to: the first instance that serves, of the first service that the step is about.
    fn door(&self, about: &BTreeSet<ServiceName>) -> Door {
        let mut services = self.services.iter().filter(|name| about.is_empty() || about.contains(*name));
        let found = services.find_map(|name| Some((name, self.config.service.get(name)?)));
        let found = found.and_then(|(name, service)| {
            let folded = self.fold(name).ok();
            let serves = |one: &&InstanceConfig| folded.as_ref().is_none_or(|folded| folded.serves(&one.name));
            let instance = service.instance.iter().find(serves).or(service.instance.first())?;
            Some((name, service, instance))
        });
        // Commands need none; a request without a service to go to fails and says where it went.
        let Some((name, service, instance)) = found else { return (NOWHERE.into(), BTreeMap::new()) };
        let direct = || format!("http://{}:{}", service.bind, instance.port);
        let mut vars = instance.vars.clone();
        vars.extend([
            ("data".to_owned(), instance.data.display().to_string()),
            ("instance".to_owned(), instance.name.to_string()),
            ("service".to_owned(), name.to_string()),
        ]);
        (instance.front_door.clone().unwrap_or_else(direct), vars)
    }

    fn fold(&self, service: &ServiceName) -> Result<Service, Failure> {
        self.reader.service(service)
    }

    /// Says that every instance that serves runs the release and nothing is on its way.
    fn is_at(&self, service: &ServiceName, to: &ReleaseTag) -> Option<String> {
        let folded = self.fold(service).ok()?;
        let release = folded.tags.get(to)?;
        let running = folded.instances.iter().filter(|(name, one)| one.release.is_some() && folded.serves(name));
        let mut running = running.peekable();
        running.peek()?;
        let all = running.all(|(_, one)| one.release == Some(*release)) && folded.last_good == Some(*release);
        let data = plan::kept(&folded, release).map_or_else(String::new, |kept| format!("; {kept}"));
        (all && folded.run.is_none()).then(|| format!("{service} is at {to}, by its log at {}{data}", folded.records))
    }
}

/// Does a command of an emergency disablement, and sees that it is so.
///
/// Errors: there is none of this name, or it is not so.
pub fn emergency_step(config: &Config, name: &str) -> Result<String, Failure> {
    let step = config.runbook.emergency.get(name).ok_or_else(|| gone(&format!("runbook.emergency.{name}")))?;
    let run = |steps| carried_out(config, steps, (NOWHERE.into(), BTreeMap::new()), step.timeout.0);
    let seen = run(&step.act)?;
    if step.verify.is_empty() { Ok(seen) } else { run(&step.verify) }
}

/// Carries out steps as a probe has them, within a time. Errors: the first that did not pass; never a secret.
pub fn carried_out(
    config: &Config,
    steps: &[probe::Step],
    (base, vars): Door,
    within: Span,
) -> Result<String, Failure> {
    let secrets = Secrets::load(&config.secret, &config.folder).map_err(|error| Failure::of(&error))?;
    let (secrets_of, folder) = (secrets.clone(), config.folder.clone());
    let target = ProbeTarget { base, vars, secrets: secrets_of, folder, ..ProbeTarget::default() };
    match ProbeConfig::of_acts(steps).run(&target, within.duration()) {
        Ok(facts) => Ok(format!("{} passed in {}", words::count(steps.len() as u64, "step"), facts.took)),
        Err(error) => {
            let mut failure = Failure::of(&error);
            failure.message = secrets.scrub(&failure.message);
            Err(failure)
        }
    }
}

fn cannot_ask(failure: &Failure) -> bool {
    // A program that can't be started, one that doesn't end, and a door at which nobody is, say nothing about what is asked.
    matches!(failure.code.as_str(), "probe-config" | "probe-timeout" | UNREACHABLE)
}

fn gone(place: &str) -> Failure {
    Failure::new("config-unfit", format!("there is no [{place}] any more"), Some("plan again: lastgood incident plan"))
}

fn not_at(service: &ServiceName, to: &ReleaseTag, said: &str) -> Failure {
    let what = format!("{service} is not at {to} by its log, though the rollback ended with: {said}");
    Failure::new("rollback-unproven", what, Some("see why: lastgood why SERVICE"))
}

/// Asks a database for rows that must not be there, and first whether there are any to look at.
fn rows(config: &Config, asked: &SqlCheck, within: Span) -> Result<String, Failure> {
    let program = std::env::current_exe().map_err(|error| Failure::new("internal", error.to_string(), Some(REPORT)))?;
    let database = signals::database(config, &asked.database, &program).map_err(|error| Failure::of(error.coded()))?;
    let database = database.ok_or_else(|| gone(&format!("database.{}", asked.database)))?;
    let of = asked.of.as_ref().map(|of| looked_at(&database, of, within)).transpose()?;
    let Table { columns, rows, more } = query(&database, &asked.query, within)?;
    let name = &asked.database;
    if columns.is_empty() {
        let what = format!("the query to {name} gives no columns, so it asks for nothing");
        return Err(Failure::new(
            "check-asks-nothing",
            what,
            Some("let it be one SELECT of rows that must not be there"),
        ));
    }
    if !rows.is_empty() {
        let found = words::count(rows.len() as u64, "row");
        let found = if more { format!("{found} and more") } else { found };
        let hint = "look at them with the same query, as somebody who may see them";
        return Err(Failure::new("check-rows-found", format!("{found} in {name} that must not be there"), Some(hint)));
    }
    Ok(match of {
        Some(of) => format!("none of {of} in {name} is wrong"),
        None => format!("no row in {name} that must not be there"),
    })
}

/// Gives how much there is to look at, if there is anything.
fn looked_at(database: &Database, of: &str, within: Span) -> Result<f64, Failure> {
    let answer = query(database, of, within)?;
    let number = answer.scalar().ok().and_then(Scalar::as_number);
    number.filter(|number| *number > 0.0).ok_or_else(|| {
        let what = format!("there is nothing in {} to look at", database.name());
        Failure::new("check-asks-nothing", what, Some("look at its `of`: it gives one number, above 0"))
    })
}

fn query(database: &Database, sql: &str, within: Span) -> Result<Table, Failure> {
    let limits = Limits { time: within, ..Limits::default() };
    database.query(sql, limits).map_err(|error| match error {
        // What a database says names what is in it, and this is written into the log.
        SqlError::QueryRefused { database, .. } => {
            let what = format!("the database {database} refuses the query");
            Failure::new("database-query-refused", what, Some("see why: try it by hand, as the same role"))
        }
        error => Failure::of(&error),
    })
}
