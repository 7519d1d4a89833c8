//! The level of an incident: raising it plans anew, lowering it takes a second person.

use super::{
    Incident, IncidentEvent, Level, Refused, Signature, Signed, State, commanded, find, of,
    signature::{self, Wanted},
    subject, unfreeze, void,
};
use crate::{
    operations::{self, Event, Operations, approval},
    terms::{Actor, IncidentId, Reason, Span, Timestamp},
};
use alloc::{format, string::String, vec::Vec};
use serde::{Deserialize, Serialize};

/// Something that happened on the way to a lower level.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "did", rename_all = "kebab-case")]
pub enum LevelEvent {
    /// Its commander asks for a lower one.
    LowerAsked {
        /// To which.
        level: Level,
        /// What a second person signs.
        signature: Signature,
    },
    /// It is lower.
    Lowered {
        /// To which.
        level: Level,
        /// Why.
        reason: Reason,
    },
}

/// A lower level that somebody asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lowering {
    /// To which.
    pub level: Level,
    /// Who asks.
    pub by: Actor,
    /// What a second person signs.
    pub signature: Signature,
}

/// How long a lowering that was signed may be carried out.
const LOWER_WITHIN: Span = Span::minutes(24 * 60);

/// Gives what a lowering is asked as: a no to one level is none to another.
fn matter(level: Level) -> String {
    format!("level/{}", level.as_str())
}

pub(super) fn apply(incident: &mut Incident, by: &Actor, event: &LevelEvent) {
    match event {
        LevelEvent::LowerAsked { level, signature } => {
            incident.lowering = Some(Lowering { level: *level, by: by.clone(), signature: signature.clone() });
        }
        LevelEvent::Lowered { level, .. } => {
            incident.level = *level;
            incident.lowering = None;
        }
    }
}

/// Raises the level: what was planned, approved and signed for the old one is void, what was lifted is held again.
///
/// Errors: there is no such incident; its work is over; it has that level or a higher one.
pub fn raise(
    operations: &Operations,
    incident: IncidentId,
    level: Level,
    reason: Reason,
) -> Result<Vec<Event>, Refused> {
    let found = find(operations, incident)?;
    if found.state.is_over() || found.state == State::ClosedPendingRca {
        return Err(Refused::Over { incident, state: found.state });
    }
    if level <= found.level {
        return Err(Refused::NotHigher { incident, level: found.level });
    }
    let mut events = unfreeze::frozen_again(operations, incident, found, &reason);
    events.extend(void(operations, &format!("incident/{incident}/"), "the incident was raised"));
    events.push(of(incident, IncidentEvent::Raised { level, reason }));
    Ok(events)
}

/// Lowers the level: asks a second person, and once that one has signed, does it.
///
/// Errors: there is no such incident; somebody else leads it; its work is over; it has that level.
pub fn lower(
    operations: &Operations,
    incident: IncidentId,
    by: &Actor,
    level: Level,
    reason: Reason,
    now: Timestamp,
) -> Result<Vec<Event>, operations::Refused> {
    let found = commanded(operations, incident, by)?;
    if found.state.is_over() || found.state == State::ClosedPendingRca {
        return Err(Refused::Over { incident, state: found.state }.into());
    }
    if level >= found.level {
        return Err(Refused::NotHigher { incident, level: found.level }.into());
    }
    if let Some(asked) = found.lowering.as_ref().filter(|asked| asked.level == level) {
        match asked.signature.standing(&operations.approvals, now) {
            Signed::Given => {
                let reason = asked.signature.risk.clone();
                let mut events = void(operations, &format!("incident/{incident}/plan"), "the incident was lowered");
                events.push(of(incident, IncidentEvent::Level(LevelEvent::Lowered { level, reason })));
                return Ok(events);
            }
            Signed::Awaited => return Ok(Vec::new()),
            Signed::Gone => {}
        }
    }
    let wanted = Wanted {
        incident,
        matter: matter(level),
        what: format!("lower incident {incident} from {} to {}: {reason}", found.level.as_str(), level.as_str()),
        basis: level.as_str(),
        risk: reason,
        until: now.after(LOWER_WITHIN),
    };
    let (signature, asked) = signature::ask(operations, by, now, wanted)?;
    // Only what was asked last is carried out.
    let others = [Level::L1, Level::L2, Level::L3].into_iter().filter(|other| *other != level);
    let others = others.map(|other| subject(incident, &matter(other))).chain([subject(incident, "level")]);
    let voided = others.flat_map(|subject| approval::voided(&operations.approvals, &subject, "it was asked anew"));
    let mut events: Vec<Event> = voided.map(Event::Approval).chain(asked).collect();
    events.push(of(incident, IncidentEvent::Level(LevelEvent::LowerAsked { level, signature })));
    Ok(events)
}
