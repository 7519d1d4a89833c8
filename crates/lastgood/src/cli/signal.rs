//! `lastgood signal`: what is read again and again, what stands, and the triggers of change logs.

use super::Ended;
use crate::{app::App, exit::Exit, screen::Trouble};
use clap::Subcommand;
use lastgood_domain::{
    failure::Failure,
    signal::{Judged, Rule, State},
    terms::{SignalName, Span},
};
use lastgood_drivers::sql::{Dialect, Limits};
use lastgood_engine::{
    letter::rfc3339,
    signals::{Folded, History, SetupError, Signal as Prepared},
};
use serde_json::json;
use std::path::PathBuf;

/// Time for making triggers: the whole table is read once.
const INSTALL_TIME: Span = Span::minutes(10);

/// Evaluate signals: queries with alert rules.
#[derive(Debug, Subcommand)]
pub(crate) enum Signal {
    /// List signals and active alerts.
    List,
    /// Evaluate signals now; changes nothing.
    Check {
        /// The signals [default: all].
        names: Vec<SignalName>,
    },
    /// Print or install the triggers that write a watched table's change log.
    Triggers {
        /// A signal with `gaps`.
        name: SignalName,
        /// Install them in the database. Installing again accepts the table as it is, existing gaps included.
        #[arg(long)]
        install: bool,
    },
}

impl Signal {
    /// Runs the command.
    pub(crate) fn run(self, app: &App) -> Ended {
        match self {
            Self::List => list(app),
            Self::Check { names } => check(app, &names),
            Self::Triggers { name, install } => triggers(app, &name, install),
        }
    }
}

/// Gives this program, which reads SQLite files in a process of its own.
pub(super) fn program() -> Result<PathBuf, Trouble> {
    std::env::current_exe().map_err(|error| {
        let why = format!("can't find lastgood's own program: {error}");
        Trouble::say(Exit::Failed, "internal", why, "start it by its full path")
    })
}

pub(super) fn setup_trouble(error: &SetupError) -> Trouble {
    Trouble::new(Exit::CannotTell, error.coded())
}

fn known(app: &App, name: &SignalName) -> Result<(), Trouble> {
    if app.config.signal.contains_key(name) {
        return Ok(());
    }
    let known: Vec<&str> = app.config.signal.keys().map(SignalName::as_str).collect();
    let hint = match known.as_slice() {
        [] => "write one: [signal.NAME] with database, query and a rule".to_owned(),
        known => format!("one of: {}", known.join(", ")),
    };
    Err(Trouble::say(Exit::Usage, "signal-unknown", format!("there is no signal {name}"), &hint))
}

fn rule_word(rule: Option<&Rule>) -> &'static str {
    match rule {
        Some(Rule::Threshold { .. }) => "threshold",
        Some(Rule::Drain { .. }) => "drain",
        Some(Rule::Failures { .. }) => "failures",
        Some(Rule::Spike { .. }) => "spike",
        Some(Rule::Gaps) => "gaps",
        None => "none",
    }
}

fn look(app: &App) -> Result<Folded, Trouble> {
    match app.reader()? {
        None => Ok(Folded::default()),
        Some(reader) => Folded::read(&reader).map_err(|error| Trouble::new(Exit::Failed, &error)),
    }
}

fn list(app: &App) -> Ended {
    let folded = look(app)?;
    let standing = &folded.signals().standing;
    let width = app.config.signal.keys().map(|name| name.as_str().len()).max().unwrap_or(0);
    let (mut text, mut rows) = (String::new(), Vec::new());
    for (name, config) in &app.config.signal {
        let stands = standing.get(name);
        let firing = stands.and_then(|one| one.firing.as_ref());
        let silent = stands.and_then(|one| one.silent.as_ref());
        let word = rule_word(config.rule().as_ref());
        text += &match (firing, silent) {
            (Some(one), None) => {
                format!("{name:width$}  FIRING  {word}, since {}: {}\n", rfc3339(one.since), one.why)
            }
            (Some(one), Some(other)) => format!(
                "{name:width$}  FIRING  {word}, since {}: {}; can't be told since {}: {}\n",
                rfc3339(one.since),
                one.why,
                rfc3339(other.since),
                other.why
            ),
            (None, Some(one)) => {
                format!("{name:width$}  CAN'T TELL  {word}, since {}: {}\n", rfc3339(one.since), one.why)
            }
            (None, None) => format!("{name:width$}  no alert  {word}\n"),
        };
        let entry = |one: &lastgood_domain::signal::Firing| json!({ "since": one.since, "severity": one.severity, "why": one.why });
        rows.push(json!({
            "signal": name, "rule": word, "every_ms": config.every.0.0,
            "firing": firing.map(entry), "cannot_tell": silent.map(entry),
        }));
    }
    if rows.is_empty() {
        text = format!("{} has no [signal.NAME]\n", app.config_path.display());
    } else {
        text += "read them now: lastgood signal check\n";
    }
    app.screen.show("signals", &json!({ "signals": rows }), &text);
    Ok(Exit::Done)
}

fn check(app: &App, names: &[SignalName]) -> Ended {
    names.iter().try_for_each(|name| known(app, name))?;
    let program = program()?;
    let chosen: Vec<&SignalName> = match names {
        [] => app.config.signal.keys().collect(),
        names => names.iter().collect(),
    };
    let width = chosen.iter().map(|name| name.as_str().len()).max().unwrap_or(0);
    let (mut text, mut rows, mut worst) = (String::new(), Vec::new(), Exit::Done);
    for name in chosen {
        // What the daemon read before is taken into account, and left to it.
        let mut history = History::read(app.home.root(), name);
        let judged = match Prepared::prepare(&app.config, name, &program) {
            Ok(Some(signal)) => signal.check(&mut history, app.now()),
            Ok(None) => Judged::unknown("it is not configured"),
            Err(error) => Judged::unknown(Failure::of(error.coded()).to_string()),
        };
        worst = match (judged.state, worst) {
            (State::Firing, _) | (_, Exit::Failed) => Exit::Failed,
            (State::CannotTell, _) | (_, Exit::CannotTell) => Exit::CannotTell,
            (State::Ok, _) => Exit::Done,
        };
        let word = match judged.state {
            State::Ok => "ok",
            State::Firing => "FIRING",
            State::CannotTell => "can't tell",
        };
        text += &format!("{name:width$}  {word:10}  {}\n", judged.why);
        rows.push(json!({ "signal": name, "state": judged.state, "why": judged.why }));
    }
    app.screen.show("signal-check", &json!({ "signals": rows }), &text);
    Ok(worst)
}

fn triggers(app: &App, name: &SignalName, install: bool) -> Ended {
    known(app, name)?;
    let prepared = Prepared::prepare(&app.config, name, &program()?).map_err(|error| setup_trouble(&error))?;
    let Some((database, watched)) = prepared.as_ref().and_then(Prepared::watched) else {
        return Err(Trouble::say(
            Exit::Usage,
            "signal-without-gaps",
            format!("signal {name} watches no table"),
            "give it gaps = { table = \"accounts\", key = [\"id\"] }",
        ));
    };
    let limits = Limits { time: INSTALL_TIME, rows: 1_000 };
    let script = watched.script(database, limits).map_err(|error| Trouble::new(Exit::Failed, &error))?;
    let dialect = match database.dialect() {
        Dialect::Sqlite => "sqlite",
        Dialect::Postgres => "postgres",
    };
    let data = json!({ "signal": name, "dialect": dialect, "installed": install, "script": script });
    if !install {
        app.screen.show("signal-triggers", &data, &script);
        app.screen.tell(&format!("install them: lastgood signal triggers {name} --install"));
        return Ok(Exit::Done);
    }
    let question = format!("Install the triggers of {name} in {}, and take its table as it is now?", database.name());
    if !app.screen.confirm(&question) {
        let hint = format!("confirm: lastgood --yes signal triggers {name} --install");
        return Err(Trouble::say(Exit::Declined, "declined", "nothing was installed", &hint));
    }
    database.install(&script, limits).map_err(|error| Trouble::new(Exit::Failed, &error))?;
    let text = format!("the triggers of {name} are installed\nsee that they hold: lastgood signal check {name}");
    app.screen.show("signal-triggers", &data, &text);
    Ok(Exit::Done)
}
