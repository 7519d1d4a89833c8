//! Lifting the freeze: the whole table, and one stage after the other.

use super::{find, verify};
use crate::{app::App, cli::Ended, exit::Exit, screen::Trouble};
use clap::Args;
use lastgood_domain::{
    operations::{
        Operations,
        incident::{
            self, Refused, Signed, State,
            unfreeze::{self, Facts, Line, Row},
        },
    },
    terms::{IncidentId, Reason, Span},
};
use lastgood_engine::{letter::rfc3339, operations as engine};
use serde_json::{Value, json};
use std::{thread, time::Duration};

/// How often it is looked at while a stage is watched.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Show what keeps it frozen; if nothing does, lift the next kind of hold.
#[derive(Debug, Args)]
pub(crate) struct Unfreeze {
    /// The incident, such as i0.
    incident: IncidentId,
    /// Take the risk of a row that is not met; a second person must approve it.
    #[arg(long, value_name = "ROW", requires = "reason", requires = "span")]
    accept_risk: Option<String>,
    /// Why that risk is taken.
    #[arg(long)]
    reason: Option<Reason>,
    /// For how long that risk is taken, such as 2d.
    #[arg(long = "for", value_name = "TIME")]
    span: Option<Span>,
    /// Lift every stage, watching and verifying in between.
    #[arg(long)]
    wait: bool,
}

impl Unfreeze {
    /// Runs the command.
    pub(super) fn run(self, app: &App) -> Ended {
        if let (Some(row), Some(reason), Some(span)) = (&self.accept_risk, &self.reason, self.span) {
            return accept_risk(app, self.incident, row, reason, span);
        }
        loop {
            let stage = stage(app, self.incident)?;
            if !self.wait || stage.exit != Exit::Done || stage.state == State::ClosedPendingRca {
                app.screen.show("incident-unfreeze", &stage.data, &stage.text);
                return Ok(stage.exit);
            }
            app.screen.tell(&stage.text);
            self.watch(app)?;
        }
    }

    /// Waits until the stage was watched long enough, then verifies anew.
    fn watch(&self, app: &App) -> Result<(), Trouble> {
        let operations = app.operations()?;
        let found = find(&operations, self.incident)?;
        let until = found.unfreeze.lifted_at.map(|at| at.after(app.config.incident.watch.0));
        if let Some(until) = until {
            app.screen.tell(&format!("watching until {}", rfc3339(until)));
            while app.now() < until {
                thread::sleep(LOOK_EVERY);
            }
        }
        verify::verification(app, self.incident).map(drop)
    }
}

fn refused(error: &Refused) -> Trouble {
    Trouble::new(crate::exit::Exit::of_incident(error), error)
}

/// Gives the table as data and as text.
pub(super) fn table(
    app: &App,
    operations: &Operations,
    id: IncidentId,
    facts: &Facts,
) -> Result<(Vec<Line>, Value, String), Trouble> {
    let terms = app.config.incident.terms();
    let mut table = unfreeze::table(operations, id, facts, &terms, app.now()).map_err(|error| refused(&error))?;
    // What is missing is read first, by people under stress.
    table.sort_by_key(Line::is_open);
    let mut text = String::new();
    for line in &table {
        let (mark, signed) = match (&line.signed, line.is_met) {
            (_, true) => ("yes", String::new()),
            (Some((by, until)), _) => ("risk", format!(" (risk taken by {by} until {})", rfc3339(*until))),
            (None, false) => ("NO", String::new()),
        };
        text += &format!("  {mark:<5}{:<11}{}{signed}\n", line.row.as_str(), line.detail);
    }
    let rows = table.iter().map(|line| {
        json!({
            "row": line.row, "met": line.is_met, "detail": line.detail, "may_be_signed": line.may_be_signed,
            "missing": line.is_missing, "signed_by": line.signed.as_ref().map(|(by, _)| by),
            "signed_until": line.signed.as_ref().map(|(_, until)| until),
        })
    });
    let rows = rows.collect();
    Ok((table, rows, text))
}

/// What one stage came to.
struct Stage {
    exit: Exit,
    state: State,
    data: Value,
    text: String,
}

/// Makes the table; lifts one stage if every row is met or signed and the person says yes.
fn stage(app: &App, id: IncidentId) -> Result<Stage, Trouble> {
    if !find(&app.operations()?, id)?.drill {
        crate::enforce::read_back(app);
    }
    let operations = app.operations()?;
    let found = find(&operations, id)?;
    let facts = verify::facts(app, &operations, id, found)?;
    let (table, rows, text) = table(app, &operations, id, &facts)?;
    let ended = |exit: Exit, state: State, last: &str| {
        let data = json!({ "incident": id, "state": state, "rows": rows, "lifted": exit == Exit::Done });
        Ok(Stage { exit, state, data, text: format!("{text}{last}") })
    };
    let unmet: Vec<&Line> = table.iter().filter(|line| !line.is_open()).collect();
    if let Some(first) = unmet.first() {
        let exit = match unmet.iter().any(|line| line.is_missing) {
            true => Exit::CannotTell,
            false => Exit::Refused,
        };
        let next = super::room::remedy(id, first.row);
        return ended(exit, found.state, &format!("incident {id} stays frozen\n{next}"));
    }
    let question = format!("Every row is met or signed. Lift the next stage of incident {id}?");
    if !app.screen.confirm(&question) {
        let last = format!("nothing was lifted\nlift the next stage: lastgood incident unfreeze {id} --yes");
        return ended(Exit::Declined, found.state, &last);
    }
    let terms = app.config.incident.terms();
    let reader = app.reader()?;
    let (_, after) = app.say_operations(&|state| {
        // Looked at again: between the table and the yes of a person anything may have changed.
        let found = incident::find(state, id)?;
        let facts = engine::facts(reader.as_ref(), &app.config, state, id, found, app.now());
        Ok(unfreeze::lift_next(state, id, &app.actor, (&facts, &terms), app.now())?)
    })?;
    crate::enforce::at_once(app);
    let now = find(&after, id)?;
    let last = match now.state {
        State::ClosedPendingRca => {
            format!("nothing is held any more\nsee what is owed: lastgood incident show {id}")
        }
        _ => {
            let lifted = now.unfreeze.lifted.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ");
            let watch = app.config.incident.watch.0;
            format!("lifted: {lifted}; watch it for {watch}\nthen verify it: lastgood incident verify {id}")
        }
    };
    ended(Exit::Done, now.state, &last)
}

fn accept_risk(app: &App, id: IncidentId, row: &str, reason: &Reason, span: Span) -> Ended {
    let Some(row) = Row::ALL.into_iter().find(|one| one.as_str() == row) else {
        let rows = Row::ALL.map(Row::as_str).join(", ");
        let error = Refused::NoRisk { incident: id, row: row.into(), why: format!("it is none of {rows}") };
        return Err(refused(&error));
    };
    let operations = app.operations()?;
    let facts = verify::facts(app, &operations, id, find(&operations, id)?)?;
    let terms = app.config.incident.terms();
    let now = app.now();
    let until = now.after(span);
    let (_, after) = app.say_operations(&|state| {
        unfreeze::accept_risk(state, id, &app.actor, row, reason.clone(), until, (&facts, &terms), now)
    })?;
    let (signature, _) = find(&after, id)?.unfreeze.risks.get(&row).expect("a risk is asked for or taken");
    let (approval, until) = (signature.approval, signature.until);
    let is_taken = signature.standing(&after.approvals, now) == Signed::Given;
    let text = match is_taken {
        true => format!("this risk is taken already, by {approval}, until {}", rfc3339(until)),
        false => format!(
            "a second person must accept this risk too, until {}\nhave them run: lastgood approval approve {approval}",
            rfc3339(until)
        ),
    };
    let data = json!({ "incident": id, "row": row, "approval": approval, "until": until });
    app.screen.show("incident-risk", &data, &text);
    Ok(if is_taken { Exit::Done } else { Exit::Pending })
}
