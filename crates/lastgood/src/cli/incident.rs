//! `lastgood incident`: when it is bigger than one bad release.

mod closing;
mod declare;
mod driving;
mod lead;
mod message;
mod plan;
pub(super) mod room;
mod unfreeze;
mod verify;

pub(super) use declare::{recommendation, recommended, recommended_words};
pub(super) use lead::{known, person};

use super::Ended;
use crate::{
    app::{App, exit_of_incident},
    exit::Exit,
    screen::Trouble,
};
use clap::{Subcommand, ValueEnum};
use lastgood_domain::{
    operations::{
        Event, Operations,
        incident::{self, Incident as Found, IncidentEvent},
    },
    terms::{IncidentId, Reason},
};
use serde_json::{Value, json};

/// Declare an incident and bring it to a controlled end.
#[derive(Debug, Subcommand)]
pub(crate) enum Incident {
    /// Declare it: everything but the way back is held at once.
    Declare(declare::Declare),
    /// Say whether to declare one, and why.
    Recommend,
    /// List the incidents that are not over.
    List {
        /// Those that are over as well.
        #[arg(long)]
        all: bool,
    },
    /// Show one incident: where it stands, what keeps it frozen, what to type next.
    Show {
        /// Which, such as i0.
        incident: IncidentId,
    },
    /// Make the plan for its level, and show it; an earlier one is void.
    Plan(plan::Plan),
    /// Run the plan from where it is; after a kill it goes on, and does nothing twice.
    Run(plan::Run),
    /// Say what becomes of a step that is stuck.
    Step(plan::Settle),
    /// Read back whether everything is held, and go on to the planning.
    Freeze {
        /// Which, such as i0.
        incident: IncidentId,
    },
    /// Raise the level, or lower it with a second person.
    Level(lead::ChangeLevel),
    /// Give a role that nobody has to somebody.
    Assign(lead::Hand),
    /// Offer a role to somebody; until they accept it, it stays where it is.
    Handoff(lead::Hand),
    /// Accept a role that is offered to you.
    Accept(lead::Accept),
    /// Lead it instead of somebody who can't: no longer configured, without a role for it, or lastgood itself.
    TakeOver {
        /// Which, such as i0.
        incident: IncidentId,
        /// Why.
        #[arg(long)]
        reason: Reason,
    },
    /// Note something for the timeline.
    Note {
        /// Which, such as i0.
        incident: IncidentId,
        /// What.
        text: Reason,
    },
    /// Show everything that happened in it.
    Timeline {
        /// Which, such as i0.
        incident: IncidentId,
    },
    /// Tell people outside how it goes.
    Update(message::Update),
    /// Prove that all is well: what runs, health, real use, the evidence, the freeze.
    Verify {
        /// Which, such as i0.
        incident: IncidentId,
    },
    /// Show what keeps it frozen; if nothing does, lift the next kind of hold.
    Unfreeze(unfreeze::Unfreeze),
    /// Say who owns the next delivery cycle.
    NextOwner(closing::NextOwner),
    /// Say what caused it.
    Rca(closing::Say),
    /// Say what now stands in the way of the same happening again.
    Safeguard(closing::Say),
    /// Things to do later.
    #[command(subcommand)]
    FollowUp(closing::FollowUp),
    /// Write the report from the evidence.
    Report(closing::Report),
    /// End it, once nothing is held or owed.
    Close {
        /// Which, such as i0.
        incident: IncidentId,
        /// Why it is over.
        #[arg(long)]
        reason: Reason,
    },
    /// End what turned out to be no incident, before anything was executed.
    StandDown {
        /// Which, such as i0.
        incident: IncidentId,
        /// Why.
        #[arg(long)]
        reason: Reason,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Level {
    #[value(name = "L1")]
    L1,
    #[value(name = "L2")]
    L2,
    #[value(name = "L3")]
    L3,
}

impl From<Level> for incident::Level {
    fn from(level: Level) -> Self {
        match level {
            Level::L1 => Self::L1,
            Level::L2 => Self::L2,
            Level::L3 => Self::L3,
        }
    }
}

impl Incident {
    /// Runs the command.
    pub(crate) fn run(self, app: &App) -> Ended {
        match self {
            Self::Declare(declare) => declare.run(app),
            Self::Recommend => declare::recommend(app),
            Self::List { all } => room::list(app, all),
            Self::Show { incident } => room::show(app, incident),
            Self::Freeze { incident } => lead::freeze(app, incident),
            Self::Plan(plan) => plan.run(app),
            Self::Run(run) => run.run(app),
            Self::Step(settle) => settle.run(app),
            Self::Level(level) => level.run(app),
            Self::Assign(hand) => hand.assign(app),
            Self::Handoff(hand) => hand.offer(app),
            Self::Accept(accept) => accept.run(app),
            Self::TakeOver { incident, reason } => lead::take_over(app, incident, &reason),
            Self::Note { incident, text } => lead::note(app, incident, &text),
            Self::Timeline { incident } => room::timeline(app, incident),
            Self::Update(update) => update.run(app),
            Self::Verify { incident } => verify::run(app, incident),
            Self::Unfreeze(unfreeze) => unfreeze.run(app),
            Self::NextOwner(owner) => owner.run(app),
            Self::Rca(say) => say.root_cause(app),
            Self::Safeguard(say) => say.safeguard(app),
            Self::FollowUp(follow_up) => follow_up.run(app),
            Self::Report(report) => report.run(app),
            Self::Close { incident, reason } => closing::close(app, incident, reason),
            Self::StandDown { incident, reason } => lead::stand_down(app, incident, reason),
        }
    }
}

/// Finds an incident in what is folded.
fn find(operations: &Operations, id: IncidentId) -> Result<&Found, Trouble> {
    incident::find(operations, id).map_err(|error| Trouble::new(exit_of_incident(&error), &error))
}

/// Says one thing about an incident.
fn say(
    app: &App,
    id: IncidentId,
    decide: impl Fn(&Operations) -> Result<IncidentEvent, incident::Refused>,
) -> Result<Operations, Trouble> {
    let decide = |state: &Operations| Ok(vec![Event::Incident { incident: id, event: decide(state)? }]);
    app.say_operations(&decide).map(|(_, after)| after)
}

fn services_words(incident: &Found) -> String {
    let names = incident.services.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if names.is_empty() { "every service".into() } else { names }
}

fn data(id: IncidentId, incident: &Found) -> Value {
    json!({
        "incident": id, "level": incident.level, "state": incident.state, "since": incident.since,
        "trigger": incident.trigger, "services": incident.services, "commander": incident.commander,
        "declared_by": incident.declared_by, "declared_at": incident.declared_at, "drill": incident.drill,
    })
}

/// Shows what one step came to.
fn told(app: &App, id: IncidentId, after: &Operations, text: &str) -> Ended {
    app.screen.show("incident", &data(id, find(after, id)?), text);
    Ok(Exit::Done)
}
