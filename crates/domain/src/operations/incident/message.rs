//! What people outside are told: three kinds of message with typed fields, and a clock for the next one.

use super::{Incident, IncidentEvent, Refused, State, find, of};
use crate::{
    operations::{Event, Operations},
    terms::{IncidentId, Timestamp},
};
use alloc::{
    collections::BTreeMap,
    format,
    string::{String, ToString},
    vec::Vec,
};
use serde::{Deserialize, Serialize};

/// Which message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MessageKind {
    /// Something is wrong.
    Declared,
    /// How it goes.
    Update,
    /// It is over.
    Complete,
}

impl MessageKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Declared, Self::Update, Self::Complete];

    /// Gives the word that is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Declared => "declared",
            Self::Update => "update",
            Self::Complete => "complete",
        }
    }

    /// Gives the fields that people fill in besides those of the configuration.
    pub const fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Declared => &["impact"],
            Self::Update => &["impact", "status"],
            Self::Complete => &["impact", "resolution"],
        }
    }
}

/// What may stand in a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FieldType {
    /// One line that is not empty.
    Text,
    /// A whole number.
    Number,
}

impl FieldType {
    fn wrong(self, value: &str) -> Option<&'static str> {
        match self {
            Self::Text if value.trim().is_empty() || value.chars().any(char::is_control) => Some("one line of text"),
            Self::Number if value.parse::<i64>().is_err() => Some("a whole number"),
            Self::Text | Self::Number => None,
        }
    }
}

/// Something that happened about messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "did", rename_all = "kebab-case")]
pub enum MessageEvent {
    /// One was sent.
    Sent {
        /// Which.
        message: MessageKind,
        /// What was filled in.
        fields: BTreeMap<String, String>,
        /// The whole text.
        text: String,
        /// When the next one must come.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next_update_by: Option<Timestamp>,
    },
    /// The next one did not come in time.
    Overdue {
        /// When it had to come.
        since: Timestamp,
    },
}

/// What people were told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Messages {
    /// How many were sent.
    pub sent: u64,
    /// What the last one said of the impact.
    pub impact: Option<String>,
    /// When the next one must come.
    pub next_update_by: Option<Timestamp>,
    /// Whether the commander was paged for that.
    pub is_told: bool,
    /// When people were told last that it is over.
    pub completed_at: Option<Timestamp>,
}

pub(super) fn apply(incident: &mut Incident, at: Timestamp, event: &MessageEvent) {
    let messages = &mut incident.messages;
    match event {
        MessageEvent::Sent { message, fields, next_update_by, .. } => {
            messages.sent += 1;
            messages.impact = fields.get("impact").cloned();
            messages.next_update_by = *next_update_by;
            messages.is_told = false;
            if *message == MessageKind::Complete {
                messages.completed_at = Some(at);
            }
        }
        MessageEvent::Overdue { .. } => messages.is_told = true,
    }
}

/// Tells whether the next message is overdue at `now`.
pub fn is_overdue(incident: &Incident, now: Timestamp) -> bool {
    // Once everything is open again people know that it is over.
    let waits = !incident.state.is_over() && incident.state != State::ClosedPendingRca;
    waits && incident.messages.next_update_by.is_some_and(|by| now >= by)
}

pub(super) fn due(incident: &Incident, now: Timestamp) -> Option<MessageEvent> {
    let since = incident.messages.next_update_by?;
    (is_overdue(incident, now) && !incident.messages.is_told).then_some(MessageEvent::Overdue { since })
}

/// Checks what was filled in: every field of the kind and of the configuration, and no other.
///
/// Errors: the first one that is missing, unknown or of another type.
pub fn filled(
    incident: IncidentId,
    kind: MessageKind,
    more: &BTreeMap<String, FieldType>,
    given: &BTreeMap<String, String>,
) -> Result<(), Refused> {
    let mut types: BTreeMap<&str, FieldType> = kind.fields().iter().map(|name| (*name, FieldType::Text)).collect();
    types.extend(more.iter().map(|(name, one)| (name.as_str(), *one)));
    let fields = types.keys().map(|name| format!(" --field {name}=…")).collect::<String>();
    let typed = match kind {
        MessageKind::Update => fields,
        _ => format!(" --message {}{fields}", kind.as_str()),
    };
    let wrong = |why: String| Err(Refused::Field { incident, why, typed: typed.clone() });
    if let Some(name) = given.keys().find(|name| !types.contains_key(name.as_str())) {
        let known = types.keys().copied().collect::<Vec<_>>().join(", ");
        return wrong(format!("it has no field {name}, only {known}"));
    }
    for (name, one) in types {
        let Some(value) = given.get(name) else { return wrong(format!("its field {name} is missing")) };
        if let Some(what) = one.wrong(value) {
            return wrong(format!("its field {name} must be {what}, not {value:?}"));
        }
    }
    Ok(())
}

/// Sends a message: its notices are written with it.
///
/// Errors: there is no such incident, or it is over; a text is missing.
pub fn send(
    operations: &Operations,
    incident: IncidentId,
    message: MessageKind,
    fields: BTreeMap<String, String>,
    text: &str,
    next_update_by: Option<Timestamp>,
) -> Result<Event, Refused> {
    let found = find(operations, incident)?;
    if found.state.is_over() {
        return Err(Refused::Over { incident, state: found.state });
    }
    if text.trim().is_empty() {
        return Err(Refused::Field { incident, why: "its template gives no text".into(), typed: " --dry-run".into() });
    }
    let text = text.to_string();
    Ok(of(incident, IncidentEvent::Message(MessageEvent::Sent { message, fields, text, next_update_by })))
}
