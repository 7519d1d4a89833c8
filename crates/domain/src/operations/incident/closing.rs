//! What is owed at the end: who owns the next cycle, root cause, follow-ups, safeguards, the report.

use super::{Incident, IncidentEvent, Refused, State, commanded, find, moved};
use crate::{
    operations::Operations,
    terms::{Actor, Digest, FollowUpId, IncidentId, Reason, ServiceName, Timestamp},
};
use alloc::{collections::BTreeMap, format, string::String, vec::Vec};
use serde::{Deserialize, Serialize};

/// Something of what is owed was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "did", rename_all = "kebab-case")]
pub enum ClosingEvent {
    /// Somebody owns the next delivery cycle.
    NextOwner {
        /// Who.
        to: Actor,
    },
    /// What caused it.
    RootCause {
        /// In one sentence or two.
        text: Reason,
    },
    /// Something must be done later.
    FollowUpAdded {
        /// Its id.
        follow_up: FollowUpId,
        /// What.
        text: Reason,
        /// Whose it is.
        owner: Actor,
        /// When it is due.
        due: Timestamp,
    },
    /// It is done.
    FollowUpClosed {
        /// Which.
        follow_up: FollowUpId,
        /// How.
        reason: Reason,
    },
    /// Something now stands in the way of the same happening again.
    Safeguard {
        /// What.
        text: Reason,
    },
    /// The report was written.
    Reported {
        /// Digest of its bytes.
        digest: Digest,
    },
}

/// A thing to do later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FollowUp {
    /// What.
    pub text: Reason,
    /// Whose it is.
    pub owner: Actor,
    /// When it is due.
    pub due: Timestamp,
    /// How and when it was done.
    pub closed: Option<(Reason, Timestamp)>,
}

/// What is owed, as far as it is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owed {
    /// Who owns the next delivery cycle.
    pub next_owner: Option<Actor>,
    /// What caused it.
    pub root_cause: Option<Reason>,
    /// Things to do later.
    pub follow_ups: BTreeMap<FollowUpId, FollowUp>,
    /// What stands in the way now.
    pub safeguards: Vec<Reason>,
    /// The report's digest; none if something of the above was given after it, or something was done.
    pub report: Option<Digest>,
}

pub(super) fn apply(incident: &mut Incident, at: Timestamp, event: &ClosingEvent) {
    let owed = &mut incident.closing;
    // A report that lacks what was said after it is none.
    owed.report = None;
    match event {
        ClosingEvent::NextOwner { to } => owed.next_owner = Some(to.clone()),
        ClosingEvent::RootCause { text } => owed.root_cause = Some(text.clone()),
        ClosingEvent::FollowUpAdded { follow_up, text, owner, due } => {
            let one = FollowUp { text: text.clone(), owner: owner.clone(), due: *due, closed: None };
            owed.follow_ups.insert(*follow_up, one);
        }
        ClosingEvent::FollowUpClosed { follow_up, reason } => {
            if let Some(one) = owed.follow_ups.get_mut(follow_up) {
                one.closed = Some((reason.clone(), at));
            }
        }
        ClosingEvent::Safeguard { text } => owed.safeguards.push(text.clone()),
        ClosingEvent::Reported { digest } => owed.report = Some(*digest),
    }
}

/// Says one of the things that are owed.
///
/// Errors: there is no such incident. Follow-ups may be closed after its end, nothing else is said then.
pub fn say(operations: &Operations, incident: IncidentId, event: ClosingEvent) -> Result<IncidentEvent, Refused> {
    let found = find(operations, incident)?;
    if let ClosingEvent::FollowUpClosed { follow_up, .. } = event {
        let open = found.closing.follow_ups.get(&follow_up).is_some_and(|one| one.closed.is_none());
        return match open {
            true => Ok(IncidentEvent::Closing(event)),
            false => Err(Refused::FollowUpUnknown { incident, follow_up }),
        };
    }
    match found.state.is_over() {
        true => Err(Refused::Over { incident, state: found.state }),
        false => Ok(IncidentEvent::Closing(event)),
    }
}

/// Gives the number that the next follow-up takes.
pub fn next_follow_up(incident: &Incident) -> FollowUpId {
    FollowUpId(incident.closing.follow_ups.last_key_value().map_or(0, |(last, _)| last.0 + 1))
}

/// Gives the analysis that lets an incident end, if there is one.
fn analysis(incident: &Incident) -> Option<&Reason> {
    incident.closing.root_cause.as_ref()
}

/// Says what is still owed before the incident can end.
pub fn owed(incident: &Incident) -> Vec<String> {
    let closing = &incident.closing;
    let rows = [
        (analysis(incident).is_some(), "its root cause is not known: lastgood incident rca"),
        (!closing.follow_ups.is_empty(), "it has no follow-up: lastgood incident follow-up add"),
        (!closing.safeguards.is_empty(), "no safeguard is named: lastgood incident safeguard"),
        (closing.report.is_some(), "its report is not written: lastgood incident report"),
    ];
    rows.into_iter().filter(|(is_there, _)| !is_there).map(|(_, text)| text.into()).collect()
}

/// Ends an incident: the only way from the end of the freeze to done.
///
/// `unaccepted` are the services that owe the analysis of this incident: none was handed in, or nobody else accepted it.
/// Errors: there is no such incident; somebody else leads it; something is held or owed.
pub fn close(
    operations: &Operations,
    incident: IncidentId,
    by: &Actor,
    reason: Reason,
    unaccepted: &[ServiceName],
) -> Result<IncidentEvent, Refused> {
    let found = commanded(operations, incident, by)?;
    let event = moved(found.state, incident, State::Done, reason)?;
    let analyses = unaccepted.iter().map(|name| format!("the analysis of {name} is not accepted: lastgood rca list"));
    let owed: Vec<String> = owed(found).into_iter().chain(analyses).collect();
    match owed.is_empty() {
        true => Ok(event),
        false => Err(Refused::Owed { incident, owed }),
    }
}
