//! `lastgood incident`: when it is bigger than one bad release.

use super::Ended;
use crate::{app::App, exit::Exit, screen::Trouble};
use clap::{Args, Subcommand, ValueEnum};
use lastgood_domain::{
    operations::{
        Event,
        hold::HoldKind,
        incident::{self, Declaration, Incident as Found, IncidentEvent},
    },
    terms::{Actor, IncidentId, Reason, ServiceName},
};
use lastgood_engine::letter::rfc3339;
use serde_json::{Value, json};

/// Declare an incident and bring it to a controlled end.
#[derive(Debug, Subcommand)]
pub(crate) enum Incident {
    /// Declare it: everything but the way back is held at once.
    Declare(Declare),
    /// List the incidents that are not over.
    List {
        /// Those that are over as well.
        #[arg(long)]
        all: bool,
    },
    /// Show one incident.
    Show {
        /// Which, such as i0.
        incident: IncidentId,
    },
    /// Note something for the timeline.
    Note {
        /// Which, such as i0.
        incident: IncidentId,
        /// What.
        text: Reason,
    },
}

/// Declare it: everything but the way back is held at once.
#[derive(Debug, Args)]
pub(crate) struct Declare {
    /// How deep it goes: L1 code and configuration, L2 schema and data as well, L3 evidence and credentials as well.
    #[arg(long, value_enum, ignore_case = true)]
    level: Level,
    /// What set it off.
    #[arg(long)]
    trigger: Reason,
    /// Which services it is about, separated by commas; without it every service.
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    services: Vec<ServiceName>,
    /// Who leads it; without it who declares it.
    #[arg(long, value_name = "NAME")]
    ic: Option<String>,
    /// Only a drill: nothing is held and nothing outside is touched.
    #[arg(long)]
    drill: bool,
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
            Self::List { all } => list(app, all),
            Self::Show { incident } => show(app, incident),
            Self::Note { incident, text } => note(app, incident, &text),
        }
    }
}

impl Declare {
    fn run(self, app: &App) -> Ended {
        for service in &self.services {
            app.service(Some(service.as_str()))?;
        }
        let commander = match &self.ic {
            None => app.actor.clone(),
            Some(name) => person(name)?,
        };
        let declaration = Declaration {
            level: self.level.into(),
            trigger: self.trigger,
            services: self.services.into_iter().collect(),
            commander,
            drill: self.drill,
        };
        let (records, after) = app.say_operations(&|state| Ok(incident::declare(state, declaration.clone())))?;
        let id = records.iter().find_map(|record| match record.event {
            Event::Incident { incident, .. } => Some(incident),
            _ => None,
        });
        let id = id.expect("a declaration begins with the incident");
        let found = &after.incidents.all[&id];
        let held = match declaration.drill {
            true => "it is a drill: nothing is held".into(),
            false => {
                let kinds = HoldKind::ALL.map(HoldKind::as_str).join(", ");
                format!("held: {kinds} of {}; a way back stays open", services_words(found))
            }
        };
        let text = format!(
            "incident {id} is declared at {}, led by {}\n{held}\nsee what is next: lastgood incident show {id}",
            found.level.as_str(),
            found.commander
        );
        app.screen.show("incident", &data(id, found), &text);
        // After the answer: what enforces the holds outside may be down, and they stand all the same.
        crate::enforce::at_once(app);
        Ok(Exit::Done)
    }
}

/// Makes an actor of a person's name.
pub(super) fn person(name: &str) -> Result<Actor, Trouble> {
    Actor::new(&format!("person:{name}"))
        .map_err(|error| Trouble::say(Exit::Usage, "person-name", error.to_string(), "name a person, such as alice"))
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

fn list(app: &App, all: bool) -> Ended {
    let incidents = app.operations()?.incidents;
    let chosen: Vec<_> = incidents.all.iter().filter(|(_, one)| all || !one.state.is_over()).collect();
    let line = |(id, one): &(&IncidentId, &Found)| {
        let drill = if one.drill { "  drill" } else { "" };
        let (level, state) = (one.level.as_str(), one.state.as_str());
        format!("{id}  {level}  {state}  {}  led by {}{drill}: {}\n", services_words(one), one.commander, one.trigger)
    };
    let mut text: String = chosen.iter().map(line).collect();
    if text.is_empty() {
        text = "no incident is open\n".into();
    }
    let rows: Vec<Value> = chosen.iter().map(|(id, one)| data(**id, one)).collect();
    app.screen.show("incidents", &rows, &text);
    Ok(Exit::Done)
}

fn show(app: &App, id: IncidentId) -> Ended {
    let operations = app.operations()?;
    let found = incident::find(&operations, id).map_err(|error| Trouble::new(Exit::Failed, &error))?;
    let drill = if found.drill { " (a drill)" } else { "" };
    let mut text = format!("incident {id}{drill}: {}\n", found.trigger);
    text += &format!("  level     {}\n", found.level.as_str());
    text += &format!("  state     {} since {}\n", found.state.as_str(), rfc3339(found.since));
    text += &format!("  services  {}\n", services_words(found));
    text += &format!("  led by    {}\n", found.commander);
    text += &format!("  declared  {} by {}\n", rfc3339(found.declared_at), found.declared_by);
    for (hold, _) in operations.holds.all.iter().filter(|(_, hold)| hold.incident == Some(id)) {
        let enforced = super::hold::enforcers_text(&operations.holds, *hold);
        if !enforced.is_empty() {
            text += &format!("  {hold}\n{enforced}");
        }
    }
    app.screen.show("incident", &data(id, found), &text);
    Ok(Exit::Done)
}

fn note(app: &App, incident: IncidentId, text: &Reason) -> Ended {
    app.say_operations(&|state| {
        incident::find(state, incident)?;
        Ok(vec![Event::Incident { incident, event: IncidentEvent::Noted { text: text.clone() } }])
    })?;
    app.screen.show("incident-note", &json!({ "incident": incident, "text": text }), "noted");
    Ok(Exit::Done)
}
