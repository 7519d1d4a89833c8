//! Who does what in an incident. Handing a role over takes both: until it is accepted the old owner still has it.

use super::{Incident, IncidentEvent, Refused, commanded, find, of};
use crate::{
    operations::{
        Event, Operations, escalation,
        people::{Act, People},
    },
    terms::{Actor, IncidentId, Reason},
};
use alloc::{collections::BTreeMap, format, vec::Vec};
use serde::{Deserialize, Serialize};

/// What somebody is responsible for in an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Leads.
    Commander,
    /// The programs and what they offer.
    Api,
    /// Machines, units, networks.
    Infrastructure,
    /// Data and evidence.
    Data,
    /// Credentials and trust.
    Security,
    /// What people outside are told.
    Communications,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 6] =
        [Self::Commander, Self::Api, Self::Infrastructure, Self::Data, Self::Security, Self::Communications];

    /// Gives it as people type it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Commander => "commander",
            Self::Api => "api",
            Self::Infrastructure => "infrastructure",
            Self::Data => "data",
            Self::Security => "security",
            Self::Communications => "communications",
        }
    }
}

/// Something that happened to a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "did", rename_all = "kebab-case")]
pub enum RoleEvent {
    /// Somebody got a role that nobody had.
    Assigned {
        /// The role.
        role: Role,
        /// Who.
        to: Actor,
    },
    /// It is offered to somebody else.
    Offered {
        /// The role.
        role: Role,
        /// To whom.
        to: Actor,
    },
    /// Who it was offered to has it now.
    Accepted {
        /// The role.
        role: Role,
        /// Who.
        to: Actor,
    },
    /// Somebody leads now instead of a commander who can't.
    TakenOver {
        /// Who led.
        from: Actor,
        /// Who leads.
        to: Actor,
        /// Why.
        reason: Reason,
    },
}

impl RoleEvent {
    /// Gives who would lead by it.
    pub fn commander(&self) -> Option<&Actor> {
        match self {
            Self::TakenOver { to, .. }
            | Self::Assigned { role: Role::Commander, to }
            | Self::Offered { role: Role::Commander, to }
            | Self::Accepted { role: Role::Commander, to } => Some(to),
            Self::Assigned { .. } | Self::Offered { .. } | Self::Accepted { .. } => None,
        }
    }
}

/// Who has which role.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roles {
    /// The owners, without the commander.
    pub owners: BTreeMap<Role, Actor>,
    /// Who is offered a role and has not accepted it.
    pub offers: BTreeMap<Role, Actor>,
}

pub(super) fn apply(incident: &mut Incident, event: &RoleEvent) {
    match event {
        RoleEvent::Offered { role, to } => {
            incident.roles.offers.insert(*role, to.clone());
        }
        RoleEvent::TakenOver { to, .. } => {
            incident.roles.offers.remove(&Role::Commander);
            incident.commander = to.clone();
        }
        RoleEvent::Assigned { role, to } | RoleEvent::Accepted { role, to } => {
            incident.roles.offers.remove(role);
            match role {
                Role::Commander => incident.commander = to.clone(),
                role => drop(incident.roles.owners.insert(*role, to.clone())),
            }
        }
    }
}

/// Gives a role that nobody has to somebody.
///
/// Errors: there is no such incident; the commander is somebody else; the role has an owner.
pub fn assign(
    operations: &Operations,
    incident: IncidentId,
    by: &Actor,
    role: Role,
    to: Actor,
) -> Result<IncidentEvent, Refused> {
    let found = find(operations, incident)?;
    open(found, incident)?;
    // What lastgood declared by itself nobody leads: whoever may lead takes it.
    if role == Role::Commander && found.commander.as_str().starts_with("lastgood:") {
        return Ok(IncidentEvent::Role(RoleEvent::Assigned { role, to }));
    }
    commanded(operations, incident, by)?;
    match found.owner(role) {
        Some(owner) => Err(Refused::RoleOwned { incident, role, owner: owner.clone() }),
        None => Ok(IncidentEvent::Role(RoleEvent::Assigned { role, to })),
    }
}

/// Offers a role to somebody, by its owner or the commander.
///
/// Errors: there is no such incident; who offers is neither.
pub fn hand_off(
    operations: &Operations,
    incident: IncidentId,
    by: &Actor,
    role: Role,
    to: Actor,
) -> Result<IncidentEvent, Refused> {
    let found = find(operations, incident)?;
    open(found, incident)?;
    match may_act(found, role, by) {
        true => Ok(IncidentEvent::Role(RoleEvent::Offered { role, to })),
        false => Err(Refused::NotOwner { incident, role, by: by.clone() }),
    }
}

/// Accepts a role.
///
/// Errors: there is no such incident; it is not offered to `by`.
pub fn accept(operations: &Operations, incident: IncidentId, by: &Actor, role: Role) -> Result<IncidentEvent, Refused> {
    let found = find(operations, incident)?;
    open(found, incident)?;
    match found.roles.offers.get(&role) == Some(by) {
        true => Ok(IncidentEvent::Role(RoleEvent::Accepted { role, to: by.clone() })),
        false => Err(Refused::RoleNotOffered { incident, role, by: by.clone() }),
    }
}

/// Takes an incident over from a commander who can't lead it: nobody who is configured, somebody without a role for it, or
/// lastgood itself. People are paged, because whoever led may not know.
///
/// Errors: there is no such incident; it is over; its commander leads it.
pub fn take_over(
    operations: &Operations,
    people: &People,
    incident: IncidentId,
    by: &Actor,
    reason: Reason,
) -> Result<Vec<Event>, Refused> {
    let found = find(operations, incident)?;
    open(found, incident)?;
    let from = found.commander.clone();
    if !is_leaderless(found, people) {
        return Err(Refused::RoleOwned { incident, role: Role::Commander, owner: from });
    }
    let text = format!("incident {incident} is led by {by} now and not by {from}: {reason}");
    let taken = RoleEvent::TakenOver { from, to: by.clone(), reason };
    let mut events = Vec::from([of(incident, IncidentEvent::Role(taken))]);
    if !found.drill {
        // One page for each time.
        let about = format!("incident/{incident}/commander/{}", operations.records);
        let raised = escalation::raise(&operations.pages, &about, text, escalation::DEFAULT);
        events.extend(raised.map(|(page, event)| Event::Page { page, event }));
    }
    Ok(events)
}

/// Tells whether the commander of an incident can't lead it.
pub fn is_leaderless(found: &Incident, people: &People) -> bool {
    found.commander.as_str().starts_with("lastgood:") || people.check(&found.commander, Act::Lead).is_err()
}

/// Tells whether somebody may act in a role: its owner, or the commander, who also stands in where nobody owns it.
pub fn may_act(incident: &Incident, role: Role, by: &Actor) -> bool {
    incident.commander == *by || incident.owner(role) == Some(by)
}

fn open(found: &Incident, incident: IncidentId) -> Result<(), Refused> {
    match found.state.is_over() {
        true => Err(Refused::Over { incident, state: found.state }),
        false => Ok(()),
    }
}
