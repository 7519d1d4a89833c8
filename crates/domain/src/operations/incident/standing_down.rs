//! The end of what turned out to be no incident.

use super::{IncidentEvent, Refused, State, commanded, find, moved, of, subject, void};
use crate::{
    operations::{
        Event, Operations,
        approval::{self, Policy},
        hold::HoldEvent,
    },
    terms::{Actor, Digest, IncidentId, Reason, Timestamp},
};
use alloc::{format, string::String, vec::Vec};

/// The last part of the subject under which people are asked.
const MATTER: &str = "stand-down";

/// Gives the subject and the plan under which others are asked whether an incident is none.
pub fn asked(incident: IncidentId, reason: &Reason) -> (String, Digest) {
    let plan = Digest::of(format!("lastgood-stand-down 1\n{incident}\n{reason}\n").as_bytes());
    (subject(incident, MATTER), plan)
}

/// Ends what turned out to be no incident: its holds are lifted, and what others agreed to is used. Only before anything was
/// executed.
///
/// Errors: there is none; its commander is somebody else; something was executed or lifted.
pub fn stand_down(
    operations: &Operations,
    incident: IncidentId,
    by: &Actor,
    reason: Reason,
) -> Result<Vec<Event>, Refused> {
    let found = commanded(operations, incident, by)?;
    if found.executed {
        return Err(Refused::Executed { incident });
    }
    let (asked, plan) = asked(incident, &reason);
    let mut events = Vec::from([of(incident, moved(found.state, incident, State::StoodDown, reason.clone())?)]);
    let holds = operations.holds.all.iter().filter(|(_, hold)| hold.incident == Some(incident));
    events.extend(holds.map(|(hold, _)| Event::Hold(HoldEvent::Lifted { hold: *hold, reason: reason.clone() })));
    let used = approval::used(&operations.approvals, &asked, &plan);
    let spent: Vec<_> = used.iter().map(approval::ApprovalEvent::approval).collect();
    events.extend(used.into_iter().map(Event::Approval));
    let void = void(operations, &subject(incident, ""), "the incident was stood down").into_iter();
    events.extend(void.filter(|event| !matches!(event, Event::Approval(one) if spent.contains(&one.approval()))));
    Ok(events)
}

/// Refuses to write that an incident is none before as many agreed as configured. A drill holds nothing, and asks nobody.
///
/// Errors: [`approval::Refused::Missing`].
pub(in crate::operations) fn agreed(
    policy: &Policy,
    before: &Operations,
    event: &Event,
    now: Timestamp,
) -> Result<(), approval::Refused> {
    let Event::Incident { incident, event: IncidentEvent::Moved { to: State::StoodDown, reason } } = event else {
        return Ok(());
    };
    let is_drill = find(before, *incident).is_ok_and(|found| found.drill);
    let terms = policy.get(&approval::Matter::StandDown).filter(|_| !is_drill);
    let (subject, plan) = asked(*incident, reason);
    match terms {
        Some(terms) if !before.approvals.allows(&subject, &plan, terms.needed, now) => {
            Err(approval::Refused::Missing { subject, needed: terms.needed })
        }
        _ => Ok(()),
    }
}
