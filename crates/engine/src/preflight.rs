//! Looks at everything at once, and is back in time: what has no answer by then is no pass.
//!
//! Each question has a thread of its own, which nobody waits for longer than its time-out: a file system or a
//! resolver that hangs keeps its own thread only. A question whose thread still hangs is not asked again.

use crate::config::{Config, Occasion, PreflightConfig, Severity};
use crate::{expand, switches};
use jiff::Timestamp;
use lastgood_domain::{
    event::Verdict,
    failure::Failure,
    rollout::Checked,
    terms::{ServiceName, Span},
    words,
};
use lastgood_drivers::{
    check::{Check, Environment, Needs, Sight, Wrong},
    probe::Secrets,
};
use lastgood_store::Reader;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, OnceLock, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

/// Time for all questions together: a command that asks them is back within 5 s.
pub const ALL_MAX: Duration = Duration::from_millis(4_500);
/// What a thread gets beyond its question's time-out, so that its own words for a time-out are heard.
const GRACE: Duration = Duration::from_millis(200);
/// Failures that are written into the evidence of a run; more are only counted.
const NAMED_MAX: usize = 5;

/// What a question came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer<T> {
    /// It was answered.
    Told(T),
    /// There was no answer in time.
    Late {
        /// How long it was waited for.
        waited: Duration,
    },
    /// An earlier question of this name still hangs, so it was not asked again.
    Hangs,
}

/// One question: a name, its time, and what it does until then.
pub struct Question<T> {
    /// Its name; no two that are asked at once have the same.
    pub name: String,
    /// Its time.
    pub timeout: Duration,
    /// What it does; it gets the instant at which nobody waits for it any more.
    pub ask: Box<dyn FnOnce(Instant) -> T + Send>,
}

/// Asks questions beside each other. It remembers whose threads hang, so a daemon keeps one.
#[derive(Debug, Clone, Default)]
pub struct Asker {
    hanging: Arc<Mutex<BTreeSet<String>>>,
}

impl Asker {
    /// Asks all of them and gives the answers in order, with how long each took.
    ///
    /// It takes no longer than the longest time-out, and never longer than `limit`.
    pub fn ask<T: Send + 'static>(&self, questions: Vec<Question<T>>, limit: Duration) -> Vec<(Answer<T>, Duration)> {
        let began = Instant::now();
        let mut answers: Vec<Option<(Answer<T>, Duration)>> = Vec::new();
        let mut until = Vec::new();
        let (tell, told) = mpsc::channel();
        for (at, Question { name, timeout, ask }) in questions.into_iter().enumerate() {
            let timeout = timeout.min(limit.saturating_sub(GRACE));
            until.push((began + timeout + GRACE, timeout));
            if !self.hanging().insert(name.clone()) {
                answers.push(Some((Answer::Hangs, Duration::ZERO)));
                continue;
            }
            answers.push(None);
            let (tell, hanging) = (tell.clone(), Arc::clone(&self.hanging));
            thread::spawn(move || {
                // However it ends, its name is free again, and before anybody hears of it.
                let free = Free { name, hanging };
                let answer = ask(began + timeout);
                drop(free);
                // Nobody may wait any more.
                let _ = tell.send((at, answer, began.elapsed()));
            });
        }
        drop(tell);
        while let Some(next) = (0..answers.len()).filter(|at| answers[*at].is_none()).map(|at| until[at].0).min() {
            match told.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok((at, answer, took)) => answers[at] = Some((Answer::Told(answer), took)),
                Err(_) => {
                    // A thread that panicked has no answer either.
                    let over = Instant::now();
                    let none_come = told.try_recv().is_err_and(|error| error == mpsc::TryRecvError::Disconnected);
                    for (at, answer) in answers.iter_mut().enumerate() {
                        if answer.is_none() && (none_come || until[at].0 <= over) {
                            *answer = Some((Answer::Late { waited: until[at].1 }, began.elapsed()));
                        }
                    }
                }
            }
        }
        answers.into_iter().flatten().collect()
    }

    fn hanging(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.hanging.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Free {
    name: String,
    hanging: Arc<Mutex<BTreeSet<String>>>,
}

impl Drop for Free {
    fn drop(&mut self) {
        self.hanging.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}

/// What one check came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The check.
    pub name: String,
    /// The kind of check, such as `file`.
    pub kind: &'static str,
    /// Whether it fails or warns.
    pub severity: Severity,
    /// How it stands.
    pub state: State,
    /// What was seen, or what is wrong.
    pub says: String,
    /// Of one that doesn't pass: code and fix.
    pub failure: Option<Failure>,
    /// How long it took.
    pub took: Duration,
}

/// How a check stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// As it must be.
    Pass,
    /// Not as it must be.
    Fail,
    /// Nobody knows; never a pass.
    CannotTell,
}

impl State {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Pass, Self::Fail, Self::CannotTell];

    /// Gives the word that is written.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::CannotTell => "cannot-tell",
        }
    }
}

/// Which checks are asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choice {
    /// These only; empty is all.
    pub only: BTreeSet<String>,
    /// Not these.
    pub skip: BTreeSet<String>,
    /// Not those that ask anything beyond this machine.
    pub offline: bool,
    /// Those that are asked before this.
    pub before: Option<Occasion>,
}

impl Choice {
    /// Tells whether something of this name is asked.
    pub fn names(&self, name: &str) -> bool {
        (self.only.is_empty() || self.only.contains(name)) && !self.skip.contains(name)
    }

    fn has(&self, name: &str, check: &PreflightConfig) -> bool {
        self.names(name)
            && !(self.offline && check.check.needs_network())
            && self.before.is_none_or(|occasion| check.before.contains(&occasion))
    }
}

/// Makes a question of each chosen check.
pub fn questions(config: &Config, choice: &Choice) -> Vec<Question<Report>> {
    asked(config, &|name, check| choice.has(name, check))
}

/// Makes the report of a question that was not answered, or gives the one that was.
pub fn report(config: &Config, name: &str, answer: Answer<Report>, took: Duration) -> Report {
    let (what, fix) = match answer {
        Answer::Told(report) => return Report { took, ..report },
        Answer::Late { waited } => {
            let waited = Span(u64::try_from(waited.as_millis()).unwrap_or(u64::MAX));
            (format!("there was no answer within {waited}"), "ask it alone, or give it a longer timeout (at most 4s)")
        }
        Answer::Hangs => ("an earlier look at it still hangs".into(), "look at what it looks at: a mount, a server?"),
    };
    let wrong = Wrong::unknown("preflight-timeout", what, fix);
    match config.preflight.get(name) {
        Some(check) => told(name, check, Err(wrong), took),
        None => Report {
            name: name.into(),
            kind: "doctor",
            severity: Severity::Required,
            state: State::CannotTell,
            says: wrong.what.clone(),
            failure: Some(Failure::new(wrong.code, wrong.what, Some(&wrong.fix))),
            took,
        },
    }
}

/// Looks at every chosen check.
pub fn look(config: &Config, choice: &Choice, asker: &Asker) -> Vec<Report> {
    answered(config, asker, questions(config, choice))
}

/// Looks at what stands before a forward move of a service; none if nothing does.
///
/// A failing check holds, one that can't tell is no yes; recommended ones are only counted.
pub fn before_deploy(config: &Config, service: &ServiceName, asker: &Asker) -> Option<Checked> {
    let began = Instant::now();
    let reports = answered(config, asker, asked(config, &|_, check| check.guards(service)));
    (!reports.is_empty()).then(|| weigh(&reports, began.elapsed()))
}

fn weigh(reports: &[Report], took: Duration) -> Checked {
    let stands = |state| move |one: &&Report| one.severity == Severity::Required && one.state == state;
    let failing: Vec<&Report> = reports.iter().filter(stands(State::Fail)).collect();
    let unknown: Vec<&Report> = reports.iter().filter(stands(State::CannotTell)).collect();
    let passing = reports.iter().filter(|one| one.state == State::Pass).count();
    let count = words::count(reports.len() as u64, "check");
    let mut because = format!("{passing} of {count} pass, in {} ms", took.as_millis());
    let named: Vec<String> = failing
        .iter()
        .chain(&unknown)
        .take(NAMED_MAX)
        .map(|one| {
            let code = one.failure.as_ref().map_or("", |failure| &failure.code);
            format!("{}: {} [{code}]", one.name, words::one_line(&one.says))
        })
        .collect();
    if !named.is_empty() {
        because = format!("{}; {because}", named.join("; "));
    }
    let verdict = match (failing.is_empty(), unknown.is_empty()) {
        (false, _) => Verdict::Hold,
        (true, false) => Verdict::CannotTell,
        (true, true) => Verdict::Pass,
    };
    Checked { verdict, because }
}

fn answered(config: &Config, asker: &Asker, questions: Vec<Question<Report>>) -> Vec<Report> {
    let names: Vec<String> = questions.iter().map(|question| question.name.clone()).collect();
    let answers = asker.ask(questions, ALL_MAX);
    names.iter().zip(answers).map(|(name, (answer, took))| report(config, name, answer, took)).collect()
}

fn asked(config: &Config, choose: &dyn Fn(&str, &PreflightConfig) -> bool) -> Vec<Question<Report>> {
    let chosen: Vec<_> = config.preflight.iter().filter(|(name, check)| choose(name, check)).collect();
    if chosen.is_empty() {
        return Vec::new();
    }
    let shared = Arc::new(Shared { config: config.clone(), secrets: OnceLock::new(), flags: OnceLock::new() });
    chosen
        .into_iter()
        .map(|(name, check)| {
            let (name, check, shared) = (name.clone(), check.clone(), Arc::clone(&shared));
            let question = name.clone();
            let timeout = check.timeout.duration();
            let ask = move |until| {
                let began = Instant::now();
                let seen = check.check.look(&shared.sight(&check.check, until));
                told(&name, &check, seen, began.elapsed())
            };
            Question { name: question, timeout, ask: Box::new(ask) }
        })
        .collect()
}

/// What the questions of one look share. It is read by the first question that needs it, within that question's time: a
/// file system that hangs keeps only those that need what lies there.
struct Shared {
    config: Config,
    /// Those that can be used, and the first trouble with another.
    secrets: OnceLock<(Secrets, Option<String>)>,
    flags: OnceLock<BTreeMap<String, bool>>,
}

impl Shared {
    /// Gives what this check may look at, and reads nothing that it does not need.
    fn sight(&self, check: &Check, until: Instant) -> Sight {
        let Needs { secrets, flags: needs_flags } = check.needs();
        // What can't be read is said by the checks that need it.
        let load = || {
            let (usable, trouble) = Secrets::load_usable(&self.config.secret, &self.config.folder);
            (usable, trouble.map(|error| error.to_string()))
        };
        let (secrets, trouble) = if secrets { self.secrets.get_or_init(load).clone() } else { Default::default() };
        Sight {
            folder: self.config.folder.clone(),
            environments: environments(&self.config, trouble.map_or(Ok(&secrets), Err)),
            secrets,
            databases: self.config.database.clone(),
            flags: if needs_flags { self.flags.get_or_init(|| flags(&self.config)).clone() } else { BTreeMap::new() },
            now: Timestamp::now(),
            until,
        }
    }
}

fn told(name: &str, check: &PreflightConfig, seen: Result<String, Wrong>, took: Duration) -> Report {
    let (state, says, failure) = match seen {
        Ok(says) => (State::Pass, says, None),
        Err(wrong) => {
            let state = if wrong.is_unknown { State::CannotTell } else { State::Fail };
            let fix = check.fix.as_ref().unwrap_or(&wrong.fix);
            let failure = Failure::new(wrong.code, wrong.what.clone(), Some(fix));
            (state, wrong.what, Some(failure))
        }
    };
    Report { name: name.into(), kind: check.check.kind(), severity: check.severity, state, says, failure, took }
}

/// Gives what each instance's program finds in its environment, as its next start would set it.
fn environments(config: &Config, secrets: Result<&Secrets, String>) -> BTreeMap<String, Vec<Environment>> {
    let of = |name: &ServiceName, service: &crate::config::ServiceConfig| {
        let each = service.instance.iter().map(|instance| {
            let mut values = instance.vars.clone();
            values.extend([
                ("data".to_owned(), instance.data.display().to_string()),
                ("port".to_owned(), instance.port.to_string()),
                ("bind".to_owned(), service.bind.clone()),
                ("host".to_owned(), service.bind.clone()),
                ("instance".to_owned(), instance.name.to_string()),
                ("service".to_owned(), name.to_string()),
                // Which one it will be is not known yet.
                ("release".to_owned(), "RELEASE".to_owned()),
            ]);
            let filled = secrets.as_ref().map_err(Clone::clone).and_then(|secrets| {
                let known = config.secret.keys().filter_map(|name| Some((name, secrets.get(name)?)));
                values.extend(known.map(|(name, value)| (format!("secret:{name}"), value.to_owned())));
                let fill = |(name, text): (&String, &String)| Ok((name.clone(), expand::expand(text, &values)?));
                service.env.iter().map(fill).collect::<Result<BTreeMap<_, _>, String>>()
            });
            Environment { instance: instance.name.to_string(), variables: filled }
        });
        each.collect()
    };
    config.service.iter().map(|(name, service)| (name.to_string(), of(name, service))).collect()
}

/// Gives which flags are turned on; one that can't be read counts as on, so that what it needs is asked for.
fn flags(config: &Config) -> BTreeMap<String, bool> {
    let wanted = config.preflight.values().filter_map(|one| match &one.check {
        Check::Env(check) => check.only_if.as_ref()?.flag.clone(),
        _ => None,
    });
    let wanted: BTreeSet<String> = wanted.collect();
    let Some(set) = config.switches.as_ref().filter(|_| !wanted.is_empty()) else { return BTreeMap::new() };
    if !config.state_dir.join(lastgood_store::EVIDENCE_FILE).exists() {
        return BTreeMap::new();
    }
    let read = Reader::open(&config.state_dir);
    match read.and_then(|reader| switches::Folded::read(&reader, &switches::Scope::of(&set.environment))) {
        Ok(folded) => {
            let may_be_on = |flag: &lastgood_domain::switches::Flag| flag.on || flag.doubt.is_some();
            folded.state.flags.iter().map(|(key, flag)| (key.to_string(), may_be_on(flag))).collect()
        }
        Err(_) => wanted.into_iter().map(|flag| (flag, true)).collect(),
    }
}

#[cfg(test)]
mod tests;
