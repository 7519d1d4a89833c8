//! `lastgood preflight`: is everything here that the configuration says must be? Each failure comes with its fix.

use super::Ended;
use crate::{
    app::App,
    exit::Exit,
    page,
    screen::{Screen, Trouble},
};
use clap::{Args, ValueEnum};
use lastgood_domain::{failure::Failure, words};
use lastgood_engine::{
    config::{Config, Occasion, Severity},
    preflight::{self, Asker, Choice, Report, State},
};
use serde_json::{Value, json};
use std::path::Path;

/// Run the checks declared in `[preflight.NAME]`; print a fix for each problem.
#[derive(Debug, Args)]
pub(crate) struct Preflight {
    #[command(flatten)]
    chosen: Chosen,
    /// Run only the checks required for this.
    #[arg(long = "for", value_enum, value_name = "WHAT")]
    before: Option<Before>,
}

/// Which checks run.
#[derive(Debug, Args)]
pub(crate) struct Chosen {
    /// Run only these checks, by name.
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    only: Vec<String>,
    /// Skip these checks, by name.
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    skip: Vec<String>,
    /// Skip checks that use the network.
    #[arg(long)]
    offline: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Before {
    /// A rollout.
    Deploy,
    /// A rollback.
    Rollback,
    /// Lifting a freeze.
    Unfreeze,
    /// The host itself.
    Host,
}

impl From<Before> for Occasion {
    fn from(before: Before) -> Self {
        match before {
            Before::Deploy => Self::Deploy,
            Before::Rollback => Self::Rollback,
            Before::Unfreeze => Self::Unfreeze,
            Before::Host => Self::Host,
        }
    }
}

impl Chosen {
    /// Makes the choice.
    ///
    /// Errors: exit 2 names a check that is unknown, and those there are; one that is misspelt would not be asked.
    pub(crate) fn choice(self, config: &Config, own: &[&str]) -> Result<Choice, Trouble> {
        let known = || config.preflight.keys().map(String::as_str).chain(own.iter().copied());
        if let Some(unknown) = self.only.iter().chain(&self.skip).find(|name| !known().any(|known| known == *name)) {
            let list = known().collect::<Vec<_>>().join(", ");
            let hint = if list.is_empty() { NONE.into() } else { format!("one of: {list}") };
            let what = format!("there is no check {unknown:?}");
            return Err(Trouble::say(Exit::Usage, "preflight-unknown", what, &hint));
        }
        let Self { only, skip, offline } = self;
        Ok(Choice { only: only.into_iter().collect(), skip: skip.into_iter().collect(), offline, before: None })
    }
}

const NONE: &str = "declare one: [preflight.room] with disk = { path = \"/\", free_mib_min = 1024 }";

impl Preflight {
    /// Runs the command.
    pub(crate) fn run(self, screen: Screen, config: Option<&Path>) -> Ended {
        let app = App::open(screen, config)?;
        let choice = Choice { before: self.before.map(Occasion::from), ..self.chosen.choice(&app.config, &[])? };
        let reports = preflight::look(&app.config, &choice, &Asker::default());
        if reports.is_empty() {
            // Nothing that was looked at is nothing that is well.
            let what = match choice.before {
                Some(occasion) => format!("no such check is declared for {occasion}"),
                None => "no such check is declared".into(),
            };
            return Err(Trouble::say(Exit::Usage, "preflight-none", what, NONE));
        }
        let mut text = String::new();
        for report in &reports {
            if let Some(failure) = &report.failure {
                text += &lines(&report.name, failure, report.severity, report.state == State::CannotTell);
            }
        }
        let bad = |severity| move |one: &&Report| one.state != State::Pass && one.severity == severity;
        let of = |state| move |one: &&Report| one.severity == Severity::Required && one.state == state;
        let found = Found {
            failures: reports.iter().filter(of(State::Fail)).count(),
            unknown: reports.iter().filter(of(State::CannotTell)).count(),
            warnings: reports.iter().filter(bad(Severity::Recommended)).count(),
        };
        let all = words::count(reports.len() as u64, "check");
        let (verdict, exit) = verdict(&found, &format!("{all} passed"));
        text += &verdict;
        let data = json!({ "verdict": verdict, "checks": reports.iter().map(row).collect::<Vec<_>>() });
        screen.show("preflight", &data, &text);
        Ok(exit)
    }
}

/// Writes one check that does not pass: what is wrong, what to type, where it is explained.
pub(crate) fn lines(check: &str, failure: &Failure, severity: Severity, is_unknown: bool) -> String {
    let kind = match (severity, is_unknown) {
        (Severity::Required, false) => "error: ",
        (Severity::Required, true) => "cannot tell: ",
        (Severity::Recommended, false) => "warning: ",
        (Severity::Recommended, true) => "warning, cannot tell: ",
    };
    let mut text = format!("{check}: {kind}{failure}\n");
    if let Some(hint) = &failure.hint {
        text += &format!("  fix   {hint}\n");
    }
    text + &format!("  more  {}\n", page::command(&failure.code))
}

/// How many there are of what does not pass.
pub(crate) struct Found {
    /// What is required and not so.
    pub(crate) failures: usize,
    /// What is required and can't be told.
    pub(crate) unknown: usize,
    /// What is only recommended.
    pub(crate) warnings: usize,
}

/// Says how it stands with all, and the exit code for it: that of the gate before a move, which does not pass either.
pub(crate) fn verdict(found: &Found, well: &str) -> (String, Exit) {
    let count = |number: usize, one: &str| (number > 0).then(|| words::count(number as u64, one));
    let unknown = (found.unknown > 0).then(|| format!("{} can't be told", found.unknown));
    let parts: Vec<String> =
        [count(found.failures, "failure"), unknown, count(found.warnings, "warning")].into_iter().flatten().collect();
    match (found.failures, found.unknown) {
        (0, 0) if found.warnings == 0 => (format!("all is well: {well}"), Exit::Done),
        (0, 0) => (format!("{}, nothing fails", parts.join(", ")), Exit::Warnings),
        (0, _) => (parts.join(", "), Exit::CannotTell),
        _ => (parts.join(", "), Exit::Failed),
    }
}

fn row(report: &Report) -> Value {
    json!({
        "name": report.name, "kind": report.kind, "severity": report.severity.word(), "state": report.state.word(),
        "says": report.says, "took_ms": u64::try_from(report.took.as_millis()).unwrap_or(u64::MAX),
        "code": report.failure.as_ref().map(|failure| &failure.code),
        "fix": report.failure.as_ref().and_then(|failure| failure.hint.as_ref()),
        "more": report.failure.as_ref().map(|failure| page::command(&failure.code)),
    })
}
