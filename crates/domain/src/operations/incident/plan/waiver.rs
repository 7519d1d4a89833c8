//! Going on without what a step should prove: one person takes the risk, a second one signs it, and it ends by a time.

use super::{Act, Next, Outcome, PlanEvent, Refused, Step, Turn};
use crate::{
    operations::{
        self, Event, Operations,
        approval::Approvals,
        incident::{
            self, Incident, IncidentEvent, Signed, commanded, of,
            signature::{self, Wanted},
        },
    },
    terms::{Actor, IncidentId, Reason, Timestamp},
};
use alloc::{format, string::ToString, vec::Vec};

impl Act {
    /// Tells whether it only proves something: then one person's word is no end of it.
    pub const fn proves(&self) -> bool {
        match self {
            Self::Check { .. } | Self::VerifyEvidence | Self::CutOver => true,
            Self::Credential { turn, .. } => matches!(turn, Turn::ProveRefused | Turn::ProveConsumers),
            Self::RollBack { .. }
            | Self::PutBack { .. }
            | Self::Command { .. }
            | Self::Preserve
            | Self::Annotate
            | Self::ByHand { .. } => false,
        }
    }
}

/// Goes on without what a step should prove: asks a second person, and once that one has signed, does it. Nothing where that
/// one is asked already.
///
/// Errors: there is no such incident, plan or step; somebody else leads it; the step proves nothing or is not stuck; no time is
/// given; somebody said no to it.
pub fn waive(
    operations: &Operations,
    incident: IncidentId,
    by: &Actor,
    id: &str,
    (risk, until): (Reason, Timestamp),
    now: Timestamp,
) -> Result<Vec<Event>, operations::Refused> {
    let found = commanded(operations, incident, by)?;
    let planned = found.planned.as_ref().ok_or(Refused::NoPlan { incident }).map_err(incident::Refused::from)?;
    let step = id.to_string();
    let why = match planned.next() {
        Next::Stuck { step, why } if step.id == id && step.act.proves() => why,
        _ => return Err(incident::Refused::from(Refused::NotStuck { incident, step }).into()),
    };
    if until <= now {
        return Err(incident::Refused::NoTime { incident }.into());
    }
    if let Some(signature) = planned.waivers.get(id) {
        match signature.standing(&operations.approvals, now) {
            Signed::Given => {
                let outcome = Outcome::Settled { reason: signature.risk.clone() };
                let ended = PlanEvent::Ended { step, outcome };
                return Ok(Vec::from([of(incident, IncidentEvent::Plan(ended))]));
            }
            Signed::Awaited if signature.is_wanted_again(&operations.approvals, (&risk, until), now) => {
                return Ok(Vec::new());
            }
            Signed::Awaited | Signed::Gone => {}
        }
    }
    let wanted = Wanted {
        incident,
        matter: format!("step/{id}"),
        what: format!("go on with incident {incident} without what {id} should prove ({why}): {risk}"),
        basis: &format!("{} {id}", planned.hash),
        risk,
        until,
    };
    let (signature, mut events) = signature::ask(operations, by, now, wanted)?;
    events.push(of(incident, IncidentEvent::Plan(PlanEvent::WaiverAsked { step, signature })));
    Ok(events)
}

/// Gives the steps of an incident's plan that should prove something, did not, and nobody's word for it stands at `now`.
pub fn unproven<'a>(
    incident: &'a Incident,
    approvals: &'a Approvals,
    now: Timestamp,
) -> impl Iterator<Item = &'a Step> + 'a {
    incident.planned.iter().flat_map(move |planned| {
        planned.plan.steps.iter().filter(move |step| {
            let ended = planned.steps.get(&step.id).and_then(|progress| progress.ended.as_ref());
            let is_settled = matches!(ended, Some((Outcome::Settled { .. }, _)));
            let stands = planned
                .waivers
                .get(&step.id)
                .is_some_and(|signature| signature.standing(approvals, now) == Signed::Given);
            step.act.proves() && is_settled && !stands
        })
    })
}
