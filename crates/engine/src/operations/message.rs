//! Messages to people outside, rendered from templates: ours, or files of the configuration.

use crate::{config::Config, letter::rfc3339};
use lastgood_domain::{
    failure::{Coded, Failure},
    operations::{
        hold::HoldKind,
        incident::{Incident, message::MessageKind},
    },
    terms::{IncidentId, Timestamp},
};
use minijinja::{Environment, UndefinedBehavior};
use std::{collections::BTreeMap, path::PathBuf};

/// Why a message could not be written.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// The template's file can't be read.
    #[error("the template {} can't be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The template names what there is not, or is no template.
    #[error("the template of the {kind} message can't be filled in: {why}")]
    Unfit {
        /// Which message.
        kind: &'static str,
        /// Why.
        why: String,
    },
}

impl Coded for MessageError {
    fn code(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "message-template-unreadable",
            Self::Unfit { .. } => "message-template-unfit",
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unreadable { .. } => "put the file there, or take template out of lastgood.toml".into(),
            Self::Unfit { .. } => {
                "declare its fields in lastgood.toml: [incident.message.update] fields = { … }".into()
            }
        })
    }
}

/// Gives our own template.
const fn shipped(kind: MessageKind) -> &'static str {
    match kind {
        MessageKind::Declared => include_str!("templates/declared.txt"),
        MessageKind::Update => include_str!("templates/update.txt"),
        MessageKind::Complete => include_str!("templates/complete.txt"),
    }
}

/// Writes a message. Every name in the template must have a value.
///
/// Errors: the file can't be read; a name has no value.
pub fn write(
    config: &Config,
    kind: MessageKind,
    id: IncidentId,
    incident: &Incident,
    fields: &BTreeMap<String, String>,
    next_update_by: Option<Timestamp>,
) -> Result<String, MessageError> {
    let template = match config.incident.message.get(&kind).and_then(|one| one.template.as_ref()) {
        None => return render(kind, shipped(kind), id, incident, fields, next_update_by),
        Some(file) => config.folder.join(file),
    };
    let text = std::fs::read_to_string(&template)
        .map_err(|source| MessageError::Unreadable { path: template.clone(), source })?;
    render(kind, &text, id, incident, fields, next_update_by)
}

/// Finds the templates that can't be read: their messages would not be sent when they are needed.
pub fn unreadable(config: &Config) -> Vec<Failure> {
    let files = config.incident.message.values().filter_map(|message| message.template.as_ref());
    let unreadable = files.filter_map(|file| {
        let path = config.folder.join(file);
        let source = std::fs::read_to_string(&path).err()?;
        Some(Failure::of(&MessageError::Unreadable { path, source }))
    });
    unreadable.collect()
}

/// Writes a message from our own template, which needs nothing but its fields.
pub fn write_shipped(
    kind: MessageKind,
    id: IncidentId,
    incident: &Incident,
    fields: &BTreeMap<String, String>,
    next_update_by: Option<Timestamp>,
) -> Result<String, MessageError> {
    render(kind, shipped(kind), id, incident, fields, next_update_by)
}

fn render(
    kind: MessageKind,
    template: &str,
    id: IncidentId,
    incident: &Incident,
    fields: &BTreeMap<String, String>,
    next_update_by: Option<Timestamp>,
) -> Result<String, MessageError> {
    let mut values = values(id, incident, next_update_by);
    values.extend(fields.iter().map(|(name, value)| (name.clone(), value.clone())));
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let text = environment.render_str(template, &values).map_err(|error| {
        let line = error.line().map_or_else(String::new, |line| format!(" (line {line})"));
        MessageError::Unfit { kind: kind.as_str(), why: format!("{error}{line}") }
    })?;
    let text = text.trim().to_owned();
    Ok(if incident.drill { format!("DRILL: {text}") } else { text })
}

/// Gives what every template may name.
fn values(id: IncidentId, incident: &Incident, next_update_by: Option<Timestamp>) -> BTreeMap<String, String> {
    let services = incident.services.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let held = HoldKind::ALL.iter().filter(|kind| !incident.unfreeze.lifted.contains(kind));
    let held = held.map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ");
    let frozen = if incident.drill || held.is_empty() { "nothing".into() } else { held };
    let next = next_update_by.map_or_else(|| "none is planned".into(), rfc3339);
    let pairs = [
        ("incident", id.to_string()),
        ("level", incident.level.as_str().into()),
        ("state", incident.state.as_str().into()),
        ("trigger", incident.trigger.to_string()),
        ("services", if services.is_empty() { "every service".into() } else { services }),
        ("commander", incident.commander.to_string()),
        ("declared_at", rfc3339(incident.declared_at)),
        ("frozen", frozen),
        ("next_update_by", next),
    ];
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
