//! `lastgood switch`: kill switches, tripped by one person, reset by one or two.

use super::Ended;
use crate::{app::App, exit::Exit, screen::Trouble};
use clap::Subcommand;
use lastgood_domain::{
    operations::cap::Risky,
    switches::{self, Declared, Event, Refused, Standing, Switches},
    terms::{Actor, Reason, ServiceName, SwitchName},
};
use lastgood_engine::{
    config::SwitchesConfig,
    letter::rfc3339,
    switches::{self as switches_in, Beside, Desk, Folded, SayError, Scope, Tripped},
};
use serde_json::json;

/// Trip and reset kill switches.
#[derive(Debug, Subcommand)]
pub(crate) enum Switch {
    /// Trip a switch: what it covers is blocked at once.
    Trip {
        /// The switch; `all` always exists.
        switch: SwitchName,
        /// Why.
        #[arg(long)]
        reason: Reason,
    },
    /// Reset a switch, or request it where a second person must confirm.
    Reset {
        /// The switch.
        switch: SwitchName,
        /// Why.
        #[arg(long)]
        reason: Reason,
    },
    /// Confirm a reset that somebody else requested.
    Confirm {
        /// The switch.
        switch: SwitchName,
        /// Why.
        #[arg(long)]
        reason: Reason,
    },
    /// List switches and their state.
    List,
}

impl Switch {
    /// Runs the command.
    pub(crate) fn run(self, app: &App) -> Ended {
        match self {
            Self::Trip { switch, reason } => trip(app, &switch, &reason),
            Self::Reset { switch, reason } => reset(app, &switch, &reason),
            Self::Confirm { switch, reason } => confirm(app, &switch, &reason),
            Self::List => list(app),
        }
    }
}

/// Gives the `[switches]` of the configuration.
///
/// Errors: exit 2 where there are none.
pub(super) fn configured(app: &App) -> Result<&SwitchesConfig, Trouble> {
    app.config.switches.as_ref().ok_or_else(|| {
        Trouble::say(
            Exit::Usage,
            "switches-none",
            format!("{} has no [switches]", app.config_path.display()),
            "write: [switches] with subsystems = [\"auth\"]",
        )
    })
}

/// Writes one decision of a person; the daemon is told.
pub(super) fn say(
    app: &App,
    decide: &dyn Fn(&Switches, &Declared, &Actor) -> Result<Event, Refused>,
) -> Result<(Event, Switches), Trouble> {
    let config = configured(app)?;
    let declared = config.declared();
    let scope = Scope::witnessed(config, app.home.root()).for_people(app.config.people());
    let mut desk = Desk::new(app.store()?, scope, app.routes());
    // What the chain did not take is of it before anything is decided on what it says.
    let beside = Beside::of(app.home.root(), &config.environment);
    beside.hand_over(&mut desk, app.now()).map_err(|failure| Trouble { exit: Exit::Failed, failure })?;
    let said = desk.say_one(&app.actor, app.now(), &|state| decide(state, &declared, &app.actor));
    let (record, folded) = said.map_err(|error| trouble(&error))?;
    lastgood_engine::bell::ring(app.home.root());
    // Not left to the daemon: a switch must work when it is gone.
    crate::traffic::assert_switches(app)?;
    Ok((record.event, folded.state.clone()))
}

fn trouble(error: &SayError) -> Trouble {
    let exit = match error {
        SayError::Refused(Refused::OwnConfirmation { .. } | Refused::NotAllowed(_)) => Exit::NotAllowed,
        SayError::Refused(Refused::AlreadyRequested { .. }) => Exit::Pending,
        SayError::Refused(Refused::InDoubt { .. }) => Exit::Refused,
        _ => Exit::Failed,
    };
    Trouble::new(exit, error.coded())
}

/// Gives an environment's state of now.
pub(super) fn look(app: &App) -> Result<Folded, Trouble> {
    let config = configured(app)?;
    match app.reader()? {
        None => {
            let mut folded = Folded::default();
            let added = Beside::of(app.home.root(), &config.environment).add_to(&mut folded.state);
            added.map(|()| folded).map_err(|failure| Trouble { exit: Exit::Failed, failure })
        }
        Some(reader) => switches_in::read(&reader, app.home.root(), &Scope::witnessed(config, app.home.root()))
            .map_err(|failure| Trouble { exit: Exit::Failed, failure }),
    }
}

/// Says which switches count as tripped because a record can't be read; nothing where none does.
pub(super) fn doubt(app: &App) -> Result<Option<String>, Trouble> {
    let Some(config) = &app.config.switches else { return Ok(None) };
    let (folded, known) = (look(app)?, config.declared().switches());
    Ok(lastgood_engine::switches::doubt(&folded.state, &known))
}

/// What a tripped switch closes of a service.
#[derive(Debug, serde::Serialize)]
pub(super) struct Closed {
    pub(super) switch: SwitchName,
    pub(super) routes: Vec<String>,
    pub(super) status: u16,
}

/// Gives what tripped switches close of a service now.
pub(super) fn closed(app: &App, service: &ServiceName) -> Result<Vec<Closed>, Trouble> {
    let traffic = app.config.service.get(service).and_then(|service| service.traffic.as_ref());
    let Some(closes) = traffic.map(|traffic| &traffic.closes).filter(|closes| !closes.is_empty()) else {
        return Ok(Vec::new());
    };
    let folded = look(app)?;
    let tripped = closes.iter().filter(|one| folded.state.is_tripped(one.switch.as_str()));
    let closed = tripped.map(|one| Closed {
        switch: one.switch.clone(),
        routes: one.routes.iter().map(ToString::to_string).collect(),
        status: one.status,
    });
    Ok(closed.collect())
}

fn trip(app: &App, switch: &SwitchName, reason: &Reason) -> Ended {
    let config = configured(app)?;
    let (environment, declared) = (&config.environment, config.declared());
    let beside = Beside::of(app.home.root(), environment);
    let scope = Scope::witnessed(config, app.home.root()).for_people(app.config.people());
    let mut desk = match app.store() {
        Ok(store) => Ok(Desk::new(store, scope, app.routes())),
        Err(trouble) if trouble.exit == Exit::NotAllowed => return Err(trouble),
        Err(trouble) => Err(trouble.failure),
    };
    let by = (&app.actor, app.now());
    let tripped =
        switches_in::trip(desk.as_mut().map_err(|failure| failure.clone()), &beside, &declared, by, (switch, reason))
            .map_err(|failure| Trouble { exit: Exit::Failed, failure })?;
    lastgood_engine::bell::ring(app.home.root());
    let (epoch, kept) = match tripped {
        Tripped::Written(after) => (Some(after.epoch), ""),
        Tripped::Kept { because } => {
            app.screen.trouble(&Trouble { exit: Exit::Failed, failure: because });
            (None, "its chain took no record, so it is kept in a file beside it and stays until somebody resets it\n")
        }
    };
    // Not left to the daemon: a switch must work when it is gone.
    crate::traffic::assert_switches(app)?;
    app.count_risky(Risky::Trip);
    app.screen.show(
        "switch-tripped",
        &json!({ "environment": environment, "switch": switch, "reason": reason, "epoch": epoch }),
        &format!("{switch} is tripped in {environment}\n{kept}undo it: lastgood switch reset {switch} --reason …"),
    );
    Ok(Exit::Done)
}

fn reset(app: &App, switch: &SwitchName, reason: &Reason) -> Ended {
    let (event, after) = say(app, &|state, declared, by| switches::reset(state, declared, by, switch, reason))?;
    if !matches!(event, Event::ResetRequested { .. }) {
        return opened(app, switch, &after);
    }
    let environment = &configured(app)?.environment;
    let by = &app.actor;
    app.screen.show(
        "switch-reset-requested",
        &json!({ "environment": environment, "switch": switch, "by": by, "reason": reason, "epoch": after.epoch }),
        &format!(
            "{by} asks to reset {switch}; it stays tripped until somebody else confirms\n\
             have another person run: lastgood switch confirm {switch} --reason …"
        ),
    );
    Ok(Exit::Pending)
}

fn confirm(app: &App, switch: &SwitchName, reason: &Reason) -> Ended {
    let (_, after) = say(app, &|state, declared, by| switches::confirm(state, declared, by, switch, reason))?;
    opened(app, switch, &after)
}

fn opened(app: &App, switch: &SwitchName, after: &Switches) -> Ended {
    let environment = &configured(app)?.environment;
    let blocked = after.is_tripped(switch.as_str());
    let text = match blocked {
        true => format!("{switch} is reset in {environment}, and blocked by all\nsee which are: lastgood switch list"),
        false => format!("{switch} is open again in {environment}"),
    };
    let data = json!({ "environment": environment, "switch": switch, "blocked": blocked, "epoch": after.epoch });
    app.screen.show("switch-reset", &data, &text);
    Ok(Exit::Done)
}

fn list(app: &App) -> Ended {
    let config = configured(app)?;
    let folded = look(app)?;
    let kept = Beside::of(app.home.root(), &config.environment).read();
    let kept = kept.map_err(|failure| Trouble { exit: Exit::Failed, failure })?;
    let state = &folded.state;
    let mut names = config.declared().switches();
    let forgotten: Vec<SwitchName> = state.tripped.keys().filter(|name| !names.contains(name)).cloned().collect();
    names.extend(forgotten);
    let width = names.iter().map(|name| name.as_str().len()).max().unwrap_or(0);
    let mut text = String::new();
    let mut rows = Vec::new();
    for name in &names {
        let standing = state.standing(name);
        let (trip, request) = (standing.trip(), standing.request());
        let blocked = state.is_tripped(name.as_str());
        text += &match standing {
            Standing::Tripped(trip) => {
                let again = if trip.times > 1 { format!(", {} times", trip.times) } else { String::new() };
                let since = rfc3339(trip.since);
                format!("{name:width$}  TRIPPED  since {since} by {}: {}{again}\n", trip.by, trip.reason)
            }
            Standing::Doubtful { seq, .. } => format!(
                "{name:width$}  TRIPPED  in doubt: record {seq} can't be read and may have tripped it; if it may be open: \
                 lastgood switch reset {name} --reason …\n"
            ),
            Standing::Open if state.rewound.is_some() => {
                format!("{name:width$}  counts as tripped: the records are in doubt\n")
            }
            Standing::Open if blocked => format!("{name:width$}  blocked by all\n"),
            Standing::Open => format!("{name:width$}  open\n"),
        };
        let is_kept = kept.iter().any(|kept| kept.switch == *name);
        if is_kept {
            text += &format!("{:width$}  kept in a file beside the evidence, which took no record\n", "");
        }
        if let Some(request) = request {
            text += &format!("{:width$}  {} asks to reset it: {}\n", "", request.by, request.reason);
        }
        rows.push(json!({
            "switch": name, "tripped": standing.blocks(), "blocked": blocked, "safe": config.safe_of(name),
            "beside": is_kept,
            "doubt": match standing {
                Standing::Doubtful { seq, .. } => Some(seq),
                _ => None,
            },
            "since": trip.map(|trip| trip.since), "by": trip.map(|trip| &trip.by),
            "reason": trip.map(|trip| &trip.reason), "times": trip.map_or(0, |trip| trip.times),
            "request": request.map(|request| json!({
                "by": request.by, "at": request.at, "reason": request.reason,
            })),
        }));
    }
    text += &damage(&folded);
    if let Some(why) = &state.rewound {
        text += &format!("IN DOUBT: {why}; see more: lastgood evidence verify\n");
    }
    let data = json!({
        "environment": config.environment, "epoch": state.epoch, "switches": rows, "damaged": damaged(&folded),
        "doubt": state.rewound,
    });
    app.screen.show("switches", &data, &text);
    Ok(Exit::Done)
}

/// Says which records could not be taken as they stand.
pub(super) fn damage(folded: &Folded) -> String {
    let Some(first) = folded.damaged.first() else { return String::new() };
    let more = folded.damaged.len() - 1;
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("DAMAGED: record {}{more}: {}; see all: lastgood evidence verify\n", first.seq, first.what)
}

fn damaged(folded: &Folded) -> Vec<serde_json::Value> {
    folded.damaged.iter().map(|one| json!({ "seq": one.seq, "what": one.what })).collect()
}
