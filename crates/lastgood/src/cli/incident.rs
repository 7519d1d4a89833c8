//! `lastgood incident`: when it is bigger than one bad release.

mod closing;
mod declare;
mod driving;
mod lead;
mod message;
mod plan;
pub(super) mod room;
mod starting;
mod unfreeze;
mod verify;

pub(super) use declare::{recommendation, recommended, recommended_words};
pub(super) use lead::{known, person};

use super::Ended;
use crate::{app::App, exit::Exit, screen::Trouble};
use clap::{Subcommand, ValueEnum};
use lastgood_domain::{
    operations::{
        Event, Operations,
        incident::{self, Incident as Found, IncidentEvent},
    },
    terms::{IncidentId, Reason},
};
use serde_json::{Value, json};

/// Declare and manage incidents.
#[derive(Debug, Subcommand)]
pub(crate) enum Incident {
    /// Declare an incident: all changes except rollbacks are held at once.
    Declare(declare::Declare),
    /// Recommend whether to declare one, and why.
    Recommend,
    /// List open incidents.
    List {
        /// Include closed ones.
        #[arg(long)]
        all: bool,
    },
    /// Show an incident: state, what keeps it frozen, the next command.
    Show {
        /// The incident, such as i0.
        incident: IncidentId,
    },
    /// Create and show the plan for its level; replaces an earlier plan.
    Plan(plan::Plan),
    /// Run the plan, or resume it where it stopped; no step is done twice.
    Run(plan::Run),
    /// Resolve a stuck step: mark it done or retry it.
    Step(plan::Settle),
    /// Verify that all holds are enforced, and move on to planning.
    Freeze {
        /// The incident, such as i0.
        incident: IncidentId,
    },
    /// Raise the level, or lower it (needs a second person).
    Level(lead::ChangeLevel),
    /// Assign a vacant role.
    Assign(lead::Hand),
    /// Offer a role to somebody; it moves when they accept.
    Handoff(lead::Hand),
    /// Accept a role offered to you.
    Accept(lead::Accept),
    /// Take command from a commander who can't lead (not configured, no role, or lastgood itself).
    TakeOver {
        /// The incident, such as i0.
        incident: IncidentId,
        /// Why.
        #[arg(long)]
        reason: Reason,
    },
    /// Add a note to the timeline.
    Note {
        /// The incident, such as i0.
        incident: IncidentId,
        /// The text.
        text: Reason,
    },
    /// Show the timeline.
    Timeline {
        /// The incident, such as i0.
        incident: IncidentId,
    },
    /// Publish a status message.
    Update(message::Update),
    /// Verify recovery: running releases, health, real use, evidence, freeze.
    Verify {
        /// The incident, such as i0.
        incident: IncidentId,
    },
    /// Show what keeps it frozen; if nothing does, lift the next kind of hold.
    Unfreeze(unfreeze::Unfreeze),
    /// Name the owner of the next delivery cycle.
    NextOwner(closing::NextOwner),
    /// Record the root cause.
    Rca(closing::Say),
    /// Record what now prevents a recurrence.
    Safeguard(closing::Say),
    /// Manage follow-ups.
    #[command(subcommand)]
    FollowUp(closing::FollowUp),
    /// Write the report from the evidence.
    Report(closing::Report),
    /// Close it, once nothing is held or owed.
    Close {
        /// The incident, such as i0.
        incident: IncidentId,
        /// Why it is closed.
        #[arg(long)]
        reason: Reason,
    },
    /// End a false alarm, before anything was executed.
    StandDown {
        /// The incident, such as i0.
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
    incident::find(operations, id).map_err(|error| Trouble::new(Exit::of_incident(&error), &error))
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
