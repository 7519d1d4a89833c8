//! Leading an incident: its level, who does what, what is noted, standing down.

use super::{Level, find, say, told};
use crate::{
    app::{App, Ask},
    cli::Ended,
    exit::Exit,
    screen::Trouble,
};
use clap::{Args, ValueEnum};
use lastgood_domain::{
    operations::{
        Event, Operations,
        approval::Matter,
        cap::Risky,
        incident::{self, IncidentEvent, State, checklist, level, role, standing_down},
        people::Act,
    },
    terms::{Actor, IncidentId, Reason},
};
use lastgood_engine::operations as engine;
use serde_json::json;
use std::collections::BTreeSet;

/// Makes an actor of a person's name.
pub(in crate::cli) fn person(name: &str) -> Result<Actor, Trouble> {
    Actor::new(&format!("person:{name}"))
        .map_err(|error| Trouble::say(Exit::Usage, "person-name", error.to_string(), "name a person, such as alice"))
}

/// Makes an actor of the name of somebody who is to do something. With people configured it is one of them: a name that
/// was mistyped would wait for nobody.
///
/// Errors: exit 2.
pub(in crate::cli) fn known(app: &App, name: &str) -> Result<Actor, Trouble> {
    let person = person(name)?;
    let all = app.config.people().all;
    match all.is_empty() || all.contains_key(&person) {
        true => Ok(person),
        false => {
            let names = app.config.person.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            let message = format!("there is no [person.{name}]");
            Err(Trouble::say(Exit::Usage, "person-name", message, &format!("one of: {names}")))
        }
    }
}

/// Raise the level, or lower it (needs a second person).
#[derive(Debug, Args)]
pub(crate) struct ChangeLevel {
    /// The incident, such as i0.
    incident: IncidentId,
    /// The new level.
    #[arg(value_enum, ignore_case = true)]
    level: Level,
    /// Why.
    #[arg(long)]
    reason: Reason,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Role {
    Commander,
    Api,
    Infrastructure,
    Data,
    Security,
    Communications,
}

impl From<Role> for incident::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Commander => Self::Commander,
            Role::Api => Self::Api,
            Role::Infrastructure => Self::Infrastructure,
            Role::Data => Self::Data,
            Role::Security => Self::Security,
            Role::Communications => Self::Communications,
        }
    }
}

/// A role and a person.
#[derive(Debug, Args)]
pub(crate) struct Hand {
    /// The incident, such as i0.
    incident: IncidentId,
    /// The role.
    #[arg(long, value_enum)]
    role: Role,
    /// The person, such as bob.
    #[arg(long, value_name = "NAME")]
    to: String,
}

/// Accept a role offered to you.
#[derive(Debug, Args)]
pub(crate) struct Accept {
    /// The incident, such as i0.
    incident: IncidentId,
    /// The role.
    #[arg(long, value_enum)]
    role: Role,
}

impl ChangeLevel {
    /// Runs the command.
    pub(super) fn run(self, app: &App) -> Ended {
        let (id, level, now) = (self.incident, self.level.into(), app.now());
        let items = app.config.incident.items();
        let rises = find(&app.operations()?, id)?.level < level;
        let (_, after) = app.say_operations(&|state: &Operations| {
            if !rises {
                return level::lower(state, id, &app.actor, level, self.reason.clone(), now);
            }
            let mut events = level::raise(state, id, level, self.reason.clone())?;
            let known: Vec<_> = incident::find(state, id)?.checklist.keys().cloned().collect();
            let added = checklist::added(&known, level, &items, now);
            events.extend(added.map(|event| Event::Incident { incident: id, event }));
            Ok(events)
        })?;
        let found = find(&after, id)?;
        if rises {
            // What was lifted is held again.
            crate::enforce::at_once(app);
        }
        if found.level == level {
            let what = if rises { "raised; plan it anew" } else { "lowered" };
            return told(app, id, &after, &format!("incident {id} is {what}: it is {} now", level.as_str()));
        }
        let approval = found.lowering.as_ref().map(|asked| asked.signature.approval);
        let approval = approval.map(|id| id.to_string()).unwrap_or_default();
        let text = format!(
            "incident {id} stays {} until a second person has approved {approval}\n\
             have them run: lastgood approval approve {approval}\n\
             then again: lastgood incident level {id} {} --reason …",
            found.level.as_str(),
            level.as_str()
        );
        told(app, id, &after, &text)?;
        Ok(Exit::Pending)
    }
}

impl Hand {
    /// Gives the role to somebody.
    pub(super) fn assign(self, app: &App) -> Ended {
        let (id, role, to) = (self.incident, self.role.into(), known(app, &self.to)?);
        let after = say(app, id, |state| role::assign(state, id, &app.actor, role, to.clone()))?;
        told(app, id, &after, &format!("{to} has {} of incident {id}", role.as_str()))
    }

    /// Offers the role to somebody.
    pub(super) fn offer(self, app: &App) -> Ended {
        let (id, role, to) = (self.incident, self.role.into(), known(app, &self.to)?);
        let after = say(app, id, |state| role::hand_off(state, id, &app.actor, role, to.clone()))?;
        let has = find(&after, id)?.owner(role).map_or_else(|| "nobody".into(), ToString::to_string);
        let role = role.as_str();
        let text = format!(
            "{role} of incident {id} is offered to {to}; {has} has it until they accept\n\
             have them run: lastgood incident accept {id} --role {role}"
        );
        told(app, id, &after, &text)?;
        Ok(Exit::Pending)
    }
}

impl Accept {
    /// Runs the command.
    pub(super) fn run(self, app: &App) -> Ended {
        let (id, role) = (self.incident, self.role.into());
        let after = say(app, id, |state| role::accept(state, id, &app.actor, role))?;
        told(app, id, &after, &format!("you have {} of incident {id}", role.as_str()))
    }
}

/// Takes an incident over from somebody who can't lead it.
pub(super) fn take_over(app: &App, id: IncidentId, reason: &Reason) -> Ended {
    let people = app.config.people();
    let (_, after) =
        app.say_operations(&|state| Ok(role::take_over(state, &people, id, &app.actor, reason.clone())?))?;
    told(app, id, &after, &format!("you lead incident {id}\nsee what is next: lastgood incident show {id}"))
}

/// Notes something.
pub(super) fn note(app: &App, id: IncidentId, text: &Reason) -> Ended {
    say(app, id, |state| incident::find(state, id).map(|_| IncidentEvent::Noted { text: text.clone() }))?;
    app.screen.show("incident-note", &json!({ "incident": id, "text": text }), "noted");
    Ok(Exit::Done)
}

/// Reads the holds back and goes on to the planning.
pub(super) fn freeze(app: &App, id: IncidentId) -> Ended {
    if !find(&app.operations()?, id)?.drill {
        crate::enforce::read_back(app);
    }
    let reader = app.reader()?;
    let now = app.now();
    let seen = app.operations()?;
    let facts = engine::facts(reader.as_ref(), &app.config, &seen, id, find(&seen, id)?, now);
    let (_, after) = app.say_operations(&|state| Ok(incident::freeze(state, id, &facts.unconfirmed)?))?;
    if find(&after, id)?.state == State::Planning {
        let holds = if find(&after, id)?.drill { "drill: nothing is held" } else { "each hold is confirmed" };
        return told(app, id, &after, &format!("incident {id} is frozen, {holds}\nnext: make the plan"));
    }
    let open: String = facts.unconfirmed.iter().map(|one| format!("  {one}\n")).collect();
    let text = format!("incident {id} is not confirmed to be frozen:\n{open}look again: lastgood incident freeze {id}");
    told(app, id, &after, &text)?;
    Ok(Exit::Pending)
}

/// Ends what was no incident, once as many agree as are configured.
pub(super) fn stand_down(app: &App, id: IncidentId, reason: Reason) -> Ended {
    let seen = app.operations()?;
    // Asked before anybody else is: what can't be ended so has nothing to ask for.
    let possible = incident::stand_down(&seen, id, &app.actor, reason.clone());
    possible.map_err(|error| Trouble::new(Exit::of_incident(&error), &error))?;
    let (mut people, is_drill) = (app.config.people(), seen.incidents.all[&id].drill);
    people.check(&app.actor, Act::Lead).map_err(|error| Trouble::new(Exit::NotAllowed, &error))?;
    if !is_drill {
        app.check_cap(Risky::StandDown)?;
    }
    let terms = people.asking.remove(&Matter::StandDown).filter(|_| !is_drill);
    if let Some(terms) = terms {
        let (subject, plan) = standing_down::asked(id, &reason);
        let what = format!("stand incident {id} down: {reason}");
        app.need_approval(&Ask { subject, what, plan, needed: terms.needed, of: BTreeSet::new() })?;
    }
    let (_, after) = app.say_operations(&|state| Ok(incident::stand_down(state, id, &app.actor, reason.clone())?))?;
    told(app, id, &after, &format!("incident {id} is stood down; its holds are lifted"))?;
    crate::enforce::at_once(app);
    Ok(Exit::Done)
}
