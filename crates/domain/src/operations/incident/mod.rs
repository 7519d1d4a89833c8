//! An incident: from its declaration to a controlled end.
//!
//! A way back is open in every state; what an incident orders is that everything else waits.

mod state;

pub use state::{Level, State};

use super::{
    Event, Operations,
    hold::{HoldEvent, HoldKind, InFlight, Selector},
};
use crate::{
    failure::Coded,
    notice::Severity,
    terms::{Actor, IncidentId, Reason, ServiceName, Timestamp, WideHoldId},
};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::String,
    vec::Vec,
};
use serde::{Deserialize, Serialize};

/// Something that happened in an incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum IncidentEvent {
    /// It was declared.
    Declared {
        /// How deep it goes.
        level: Level,
        /// What set it off, in the words of who declared it.
        trigger: Reason,
        /// Which services it is about.
        services: BTreeSet<ServiceName>,
        /// Who leads it.
        commander: Actor,
        /// Whether nothing outside is touched: a drill.
        #[serde(default, skip_serializing_if = "core::ops::Not::not")]
        drill: bool,
    },
    /// It went on to another state.
    Moved {
        /// Which.
        to: State,
        /// Why.
        reason: Reason,
    },
    /// Its level was raised; what was planned and approved for the old one is void.
    Raised {
        /// To which.
        level: Level,
        /// Why.
        reason: Reason,
    },
    /// Somebody notes something for the timeline.
    Noted {
        /// What.
        text: Reason,
    },
}

impl IncidentEvent {
    /// Tells whether it can only block and never open.
    pub const fn only_blocks(&self) -> bool {
        matches!(self, Self::Declared { .. } | Self::Raised { .. })
    }
}

/// One incident.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incident {
    /// How deep it goes.
    pub level: Level,
    /// What set it off.
    pub trigger: Reason,
    /// Which services it is about.
    pub services: BTreeSet<ServiceName>,
    /// Who declared it.
    pub declared_by: Actor,
    /// When.
    pub declared_at: Timestamp,
    /// Who leads it.
    pub commander: Actor,
    /// Whether nothing outside is touched.
    pub drill: bool,
    /// Where it stands.
    pub state: State,
    /// Since when.
    pub since: Timestamp,
}

/// All incidents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Incidents {
    /// By id.
    pub all: BTreeMap<IncidentId, Incident>,
    /// The number that the next one takes.
    pub next: u64,
}

impl Incidents {
    pub(super) fn apply(&mut self, at: Timestamp, by: &Actor, id: IncidentId, event: &IncidentEvent) {
        if let IncidentEvent::Declared { level, trigger, services, commander, drill } = event {
            self.next = self.next.max(id.0 + 1);
            let incident = Incident {
                level: *level,
                trigger: trigger.clone(),
                services: services.clone(),
                declared_by: by.clone(),
                declared_at: at,
                commander: commander.clone(),
                drill: *drill,
                state: State::Declared,
                since: at,
            };
            self.all.insert(id, incident);
            return;
        }
        let Some(incident) = self.all.get_mut(&id) else { return };
        match event {
            IncidentEvent::Declared { .. } | IncidentEvent::Noted { .. } => {}
            IncidentEvent::Moved { to, .. } => (incident.state, incident.since) = (*to, at),
            IncidentEvent::Raised { level, .. } => {
                incident.level = *level;
                (incident.state, incident.since) = (State::Planning, at);
            }
        }
    }

    /// Gives the incidents that are not over.
    pub fn open(&self) -> impl Iterator<Item = (&IncidentId, &Incident)> {
        self.all.iter().filter(|(_, incident)| !incident.state.is_over())
    }
}

/// Why an incident did not go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no such incident.
    #[error("there is no incident {incident}")]
    Unknown {
        /// Which.
        incident: IncidentId,
    },
    /// From here it can't go there.
    #[error("incident {incident} is {} and can't become {}", from.as_str(), to.as_str())]
    Illegal {
        /// Which.
        incident: IncidentId,
        /// Where it stands.
        from: State,
        /// Where it should go.
        to: State,
    },
    /// The level would not rise.
    #[error("incident {incident} is {} already", level.as_str())]
    NotHigher {
        /// Which.
        incident: IncidentId,
        /// The level it has.
        level: Level,
    },
}

impl Coded for Refused {
    fn code(&self) -> &'static str {
        match self {
            Self::Unknown { .. } => "incident-unknown",
            Self::Illegal { .. } => "incident-step-illegal",
            Self::NotHigher { .. } => "incident-level-same",
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unknown { .. } => "see which there are: lastgood incident list".into(),
            Self::Illegal { incident, .. } | Self::NotHigher { incident, .. } => {
                format!("see what is next: lastgood incident show {incident}")
            }
        })
    }
}

/// What somebody declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declaration {
    /// How deep it goes.
    pub level: Level,
    /// What set it off.
    pub trigger: Reason,
    /// Which services it is about; empty is every service.
    pub services: BTreeSet<ServiceName>,
    /// Who leads it.
    pub commander: Actor,
    /// Whether it is a drill.
    pub drill: bool,
}

/// Declares an incident and sets its holds: one event each, all in one transaction. A drill holds nothing.
pub fn declare(operations: &Operations, declaration: Declaration) -> Vec<Event> {
    let Declaration { level, trigger, services, commander, drill } = declaration;
    let incident = IncidentId(operations.incidents.next);
    let declared =
        IncidentEvent::Declared { level, trigger: trigger.clone(), services: services.clone(), commander, drill };
    let mut events = Vec::from([Event::Incident { incident, event: declared }]);
    if drill {
        return events;
    }
    // One hold a kind: an unfreeze lifts them one after the other.
    for (number, kind) in (operations.holds.next..).zip(HoldKind::ALL) {
        events.push(Event::Hold(HoldEvent::Set {
            hold: WideHoldId(number),
            kinds: [kind].into(),
            selector: Selector { services: services.clone(), labels: BTreeMap::new() },
            reason: trigger.clone(),
            incident: Some(incident),
            until: None,
            review: None,
            in_flight: InFlight::Pause,
        }));
    }
    events
}

/// Finds an incident. Errors: there is none.
pub fn find(operations: &Operations, incident: IncidentId) -> Result<&Incident, Refused> {
    operations.incidents.all.get(&incident).ok_or(Refused::Unknown { incident })
}

/// Moves an incident on.
///
/// Errors: there is none, or the state has no such arrow.
pub fn advance(
    operations: &Operations,
    incident: IncidentId,
    to: State,
    reason: Reason,
) -> Result<IncidentEvent, Refused> {
    let from = find(operations, incident)?.state;
    match from.may_become(to) {
        true => Ok(IncidentEvent::Moved { to, reason }),
        false => Err(Refused::Illegal { incident, from, to }),
    }
}

/// Says what an event tells.
pub fn sentence(incident: IncidentId, by: &Actor, event: &IncidentEvent) -> String {
    match event {
        IncidentEvent::Declared { level, trigger, commander, drill, .. } => {
            let drill = if *drill { "drill " } else { "" };
            format!("{drill}incident {incident} declared at {} by {by}, led by {commander}: {trigger}", level.as_str())
        }
        IncidentEvent::Moved { to, reason } => format!("incident {incident} is {}, by {by}: {reason}", to.as_str()),
        IncidentEvent::Raised { level, reason } => {
            format!("incident {incident} raised to {} by {by}: {reason}", level.as_str())
        }
        IncidentEvent::Noted { text } => format!("{by} notes on {incident}: {text}"),
    }
}

/// Tells how urgent an event is for those who hear of it; `None` is told to nobody.
pub const fn severity(event: &IncidentEvent) -> Option<Severity> {
    match event {
        IncidentEvent::Declared { .. } | IncidentEvent::Raised { .. } => Some(Severity::Critical),
        IncidentEvent::Moved { .. } => Some(Severity::Info),
        IncidentEvent::Noted { .. } => None,
    }
}
