//! An incident: from its declaration to a controlled end.
//!
//! A way back is open in every state; what an incident orders is that everything else waits.

pub mod checklist;
pub mod closing;
pub mod level;
pub mod message;
pub mod plan;
pub mod recommend;
mod refused;
pub mod role;
mod signature;
pub mod standing_down;
mod state;
pub mod unfreeze;
pub mod verify;
mod words;

pub use refused::Refused;
pub use role::Role;
pub(super) use signature::is_same_time;
pub use signature::{Signature, Signed};
pub use standing_down::stand_down;
pub use state::{Level, State};
pub use words::{sentence, severity};

use super::{
    Event, Operations,
    hold::{HoldEvent, HoldKind, InFlight, Selector},
};
use crate::terms::{Actor, IncidentId, ItemName, Reason, ServiceName, Span, Timestamp, WideHoldId};
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
    /// Of its plan.
    Plan(plan::PlanEvent),
    /// Somebody notes something for the timeline.
    Noted {
        /// What.
        text: Reason,
    },
    /// It began before it was declared.
    Began {
        /// When.
        at: Timestamp,
    },
    /// Of its level going down.
    Level(level::LevelEvent),
    /// Of a role.
    Role(role::RoleEvent),
    /// Of its cleanup checklist.
    Checklist(checklist::ChecklistEvent),
    /// Of its verification.
    Verify(verify::VerifyEvent),
    /// Of its unfreeze.
    Unfreeze(unfreeze::UnfreezeEvent),
    /// Of what people outside are told.
    Message(message::MessageEvent),
    /// Of what is owed at its end.
    Closing(closing::ClosingEvent),
}

impl IncidentEvent {
    /// Tells whether anybody may say it who passed the door it has of its own: who was offered a role, who owns an item,
    /// whom a second person must answer, what was seen or became due.
    pub const fn has_its_own_door(&self) -> bool {
        match self {
            Self::Noted { .. } | Self::Began { .. } | Self::Verify(_) | Self::Checklist(_) => true,
            Self::Level(event) => matches!(event, level::LevelEvent::LowerAsked { .. }),
            Self::Role(event) => matches!(event, role::RoleEvent::Accepted { .. }),
            Self::Unfreeze(event) => matches!(event, unfreeze::UnfreezeEvent::RiskAsked { .. }),
            Self::Message(event) => matches!(event, message::MessageEvent::Overdue { .. }),
            Self::Closing(event) => matches!(event, closing::ClosingEvent::FollowUpClosed { .. }),
            Self::Declared { .. } | Self::Moved { .. } | Self::Raised { .. } | Self::Plan(_) => false,
        }
    }

    /// Tells whether a report that was written before it lacks something of what was done.
    const fn is_told_in_a_report(&self) -> bool {
        match self {
            Self::Moved { .. }
            | Self::Raised { .. }
            | Self::Plan(_)
            | Self::Checklist(_)
            | Self::Verify(_)
            | Self::Unfreeze(_) => true,
            // What is owed at the end says so itself.
            Self::Declared { .. }
            | Self::Noted { .. }
            | Self::Began { .. }
            | Self::Level(_)
            | Self::Role(_)
            | Self::Message(_)
            | Self::Closing(_) => false,
        }
    }

    /// Tells whether it can only block and never open.
    pub const fn only_blocks(&self) -> bool {
        match self {
            Self::Declared { .. } | Self::Raised { .. } => true,
            Self::Unfreeze(event) => event.only_blocks(),
            _ => false,
        }
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
    /// What it does, and how far that is.
    pub planned: Option<plan::Planned>,
    /// Steps of earlier plans that were cut off, until a plan has them again.
    pub cut_off: plan::CutOff,
    /// How long each step took that was done, and when it was done last: of every plan it had.
    pub took: BTreeMap<String, (Timestamp, Span)>,
    /// When it began, if that is known.
    pub began_at: Option<Timestamp>,
    /// Whether something of its plan was ever executed: then it ends only by verification.
    pub executed: bool,
    /// When its plan had been executed last: from then on users were served again.
    pub recovered_at: Option<Timestamp>,
    /// Who has which role besides the commander's, and who is offered one.
    pub roles: role::Roles,
    /// What is to be cleaned up, by name.
    pub checklist: BTreeMap<ItemName, checklist::Entry>,
    /// A lower level that somebody asks for.
    pub lowering: Option<level::Lowering>,
    /// When it was verified last, and what came of it.
    pub verified: Option<(Timestamp, verify::Verification)>,
    /// What of its freeze is lifted, and which unmet rows somebody signed.
    pub unfreeze: unfreeze::Progress,
    /// What people outside were told.
    pub messages: message::Messages,
    /// What is owed at its end.
    pub closing: closing::Owed,
}

impl Incident {
    /// Gives who owns a role; nobody has it before somebody is assigned, but the commander's is always owned.
    pub fn owner(&self, role: Role) -> Option<&Actor> {
        match role {
            Role::Commander => Some(&self.commander),
            role => self.roles.owners.get(&role),
        }
    }
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
                planned: None,
                cut_off: plan::CutOff::default(),
                took: BTreeMap::new(),
                began_at: None,
                executed: false,
                recovered_at: None,
                roles: role::Roles::default(),
                checklist: BTreeMap::new(),
                lowering: None,
                verified: None,
                unfreeze: unfreeze::Progress::default(),
                messages: message::Messages::default(),
                closing: closing::Owed::default(),
            };
            self.all.insert(id, incident);
            return;
        }
        let Some(incident) = self.all.get_mut(&id) else { return };
        if event.is_told_in_a_report() {
            incident.closing.report = None;
        }
        match event {
            IncidentEvent::Declared { .. } | IncidentEvent::Noted { .. } => {}
            IncidentEvent::Moved { to, .. } => {
                incident.executed |= *to == State::Executing;
                if *to == State::Cleaning && incident.state == State::Executing {
                    incident.recovered_at = Some(at);
                }
                (incident.state, incident.since) = (*to, at);
            }
            IncidentEvent::Plan(event) => {
                plan::apply(&mut incident.planned, &mut incident.cut_off, at, event);
                incident.took.extend(plan::took(incident.planned.as_ref(), event));
            }
            IncidentEvent::Raised { level, .. } => {
                incident.level = *level;
                plan::put_away(&mut incident.planned, &mut incident.cut_off);
                incident.lowering = None;
                (incident.state, incident.since) = (State::Planning, at);
            }
            IncidentEvent::Began { at } => incident.began_at = Some(*at),
            IncidentEvent::Level(event) => level::apply(incident, by, event),
            IncidentEvent::Role(event) => role::apply(incident, event),
            IncidentEvent::Checklist(event) => checklist::apply(incident, at, by, event),
            IncidentEvent::Verify(event) => verify::apply(incident, at, event),
            IncidentEvent::Unfreeze(event) => unfreeze::apply(incident, at, by, event),
            IncidentEvent::Message(event) => message::apply(incident, at, event),
            IncidentEvent::Closing(event) => closing::apply(incident, at, event),
        }
    }

    /// Gives the incidents that are not over.
    pub fn open(&self) -> impl Iterator<Item = (&IncidentId, &Incident)> {
        self.all.iter().filter(|(_, incident)| !incident.state.is_over())
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
        events.push(held(WideHoldId(number), kind, incident, services.clone(), trigger.clone()));
    }
    events
}

/// Sets one of an incident's holds.
fn held(hold: WideHoldId, kind: HoldKind, incident: IncidentId, services: BTreeSet<ServiceName>, why: Reason) -> Event {
    Event::Hold(HoldEvent::Set {
        hold,
        kinds: [kind].into(),
        selector: Selector { services, labels: BTreeMap::new() },
        reason: why,
        incident: Some(incident),
        until: None,
        review: None,
        in_flight: InFlight::Pause,
    })
}

/// Makes an event of an incident.
pub(super) const fn of(incident: IncidentId, event: IncidentEvent) -> Event {
    Event::Incident { incident, event }
}

/// Finds an incident. Errors: there is none.
pub fn find(operations: &Operations, incident: IncidentId) -> Result<&Incident, Refused> {
    operations.incidents.all.get(&incident).ok_or(Refused::Unknown { incident })
}

/// Gives an incident to its commander.
///
/// Errors: there is none; somebody else asks.
fn commanded<'a>(operations: &'a Operations, incident: IncidentId, by: &Actor) -> Result<&'a Incident, Refused> {
    let found = find(operations, incident)?;
    match found.commander == *by {
        true => Ok(found),
        false => Err(Refused::NotCommander { incident, by: by.clone(), commander: found.commander.clone() }),
    }
}

fn moved(from: State, incident: IncidentId, to: State, reason: Reason) -> Result<IncidentEvent, Refused> {
    match from.may_become(to) {
        true => Ok(IncidentEvent::Moved { to, reason }),
        false => Err(Refused::Illegal { incident, from, to }),
    }
}

/// Moves an incident on while work is under way: up to its verification. What opens something has a function of its
/// own: [`unfreeze::lift_next`], [`closing::close`], [`stand_down`].
///
/// Errors: there is none, or the state has no such arrow.
pub fn advance(
    operations: &Operations,
    incident: IncidentId,
    to: State,
    reason: Reason,
) -> Result<IncidentEvent, Refused> {
    let from = find(operations, incident)?.state;
    match to {
        State::Declared | State::Freezing | State::Planning | State::Executing | State::Cleaning | State::Verifying => {
            moved(from, incident, to, reason)
        }
        State::UnfreezeReady | State::Monitoring | State::ClosedPendingRca | State::Done | State::StoodDown => {
            Err(Refused::Illegal { incident, from, to })
        }
    }
}

/// Freezes: holds are looked at where they are enforced, and once all are confirmed the planning begins.
///
/// Errors: there is none; it is planned already.
pub fn freeze(operations: &Operations, incident: IncidentId, unconfirmed: &[String]) -> Result<Vec<Event>, Refused> {
    let found = find(operations, incident)?;
    let mut events = Vec::new();
    let mut from = found.state;
    if from == State::Declared {
        events.push(of(incident, moved(from, incident, State::Freezing, words::reason("holds are being confirmed"))?));
        from = State::Freezing;
    }
    match (from, unconfirmed) {
        (State::Freezing, []) => {
            let reason = words::reason(if found.drill { "drill: nothing is held" } else { "every hold is confirmed" });
            events.push(of(incident, moved(from, incident, State::Planning, reason)?));
            Ok(events)
        }
        (State::Freezing, _) => Ok(events),
        (from, _) => Err(Refused::Illegal { incident, from, to: State::Freezing }),
    }
}

/// Gives what every request for approval of an incident's matters begins with.
pub fn subject(incident: IncidentId, matter: &str) -> String {
    format!("incident/{incident}/{matter}")
}

/// Voids what is asked or allowed for every subject that begins so.
fn void(operations: &Operations, begin: &str, because: &str) -> Vec<Event> {
    let subjects: BTreeSet<&str> = operations.approvals.all.values().map(|one| one.request.subject.as_str()).collect();
    let ours = subjects.into_iter().filter(|subject| subject.starts_with(begin));
    let voided = ours.flat_map(|subject| super::approval::voided(&operations.approvals, subject, because));
    voided.map(Event::Approval).collect()
}

/// Gives what has become due by `now`: messages that are overdue, waivers that ran out.
pub fn due(operations: &Operations, now: Timestamp) -> Vec<Event> {
    let mut events = Vec::new();
    for (id, incident) in operations.incidents.open() {
        events.extend(message::due(incident, now).map(|event| of(*id, IncidentEvent::Message(event))));
        let over = checklist::due(incident, &operations.approvals, now);
        events.extend(over.into_iter().map(|event| of(*id, IncidentEvent::Checklist(event))));
    }
    events
}
