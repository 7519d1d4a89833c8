//! Telling people outside how an incident goes.

use super::find;
use crate::{app::App, cli::Ended, exit::Exit, screen::Trouble};
use clap::{Args, ValueEnum};
use lastgood_domain::{
    operations::incident::{
        Refused,
        message::{self, MessageKind},
    },
    terms::{IncidentId, Span},
};
use lastgood_engine::{letter::rfc3339, operations as engine};
use serde_json::json;
use std::collections::BTreeMap;

/// Publish a status message.
#[derive(Debug, Args)]
pub(crate) struct Update {
    /// The incident, such as i0.
    incident: IncidentId,
    /// A message field, such as impact="logins fail". Repeatable.
    #[arg(long, value_name = "NAME=TEXT")]
    field: Vec<String>,
    /// The message template.
    #[arg(long, value_enum, default_value = "update")]
    message: Kind,
    /// Time until the next update, such as 30m [default: as configured].
    #[arg(long, value_name = "TIME")]
    next: Option<Span>,
    /// Show the message without sending it.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    Declared,
    Update,
    Complete,
}

impl Update {
    /// Runs the command.
    pub(super) fn run(self, app: &App) -> Ended {
        let kind = match self.message {
            Kind::Declared => MessageKind::Declared,
            Kind::Update => MessageKind::Update,
            Kind::Complete => MessageKind::Complete,
        };
        let mut fields = BTreeMap::new();
        for field in &self.field {
            let Some((name, value)) = field.split_once('=') else {
                let hint = "write it like impact=\"logins fail\"";
                return Err(Trouble::say(Exit::Usage, "incident-field-form", format!("{field:?} is no field"), hint));
            };
            fields.insert(name.to_owned(), value.to_owned());
        }
        let id = self.incident;
        let more = app.config.incident.message.get(&kind).map(|one| one.fields.clone()).unwrap_or_default();
        let refused = |error: Refused| Trouble::new(crate::exit::Exit::of_incident(&error), &error);
        message::filled(id, kind, &more, &fields).map_err(refused)?;
        let now = app.now();
        let next = now.after(self.next.unwrap_or(app.config.incident.update_every.0));
        let operations = app.operations()?;
        let text = engine::message::write(&app.config, kind, id, find(&operations, id)?, &fields, Some(next))
            .map_err(|error| Trouble::new(Exit::Usage, &error))?;
        let mut data = json!({
            "incident": id, "message": kind, "fields": fields, "text": text, "next_update_by": next, "sent": false,
        });
        if self.dry_run {
            app.screen.show("incident-message", &data, &text);
            return Ok(Exit::Done);
        }
        app.say_operations(&|state| Ok(vec![message::send(state, id, kind, fields.clone(), &text, Some(next))?]))?;
        data["sent"] = json!(true);
        let says =
            format!("{text}\n\nsent; the next one is due by {}\nsee who got it: lastgood notices list", rfc3339(next));
        app.screen.show("incident-message", &data, &says);
        Ok(Exit::Done)
    }
}
