//! Would this be allowed, then and there? One pure answer, for the past, now, and any time to come.

use super::{HoldKind, Holds, Subject};
use crate::{
    service::Service,
    terms::{Actor, Digest, IncidentId, Reason, ServiceName, Timestamp},
};
use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use serde::Serialize;

/// What is asked about.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The service.
    pub name: &'a ServiceName,
    /// What of its configuration holds look at.
    pub subject: &'a Subject,
    /// Its state: holds of its own, and releases that may pass.
    pub service: &'a Service,
    /// What would be done.
    pub kind: HoldKind,
    /// With which release, if that is known.
    pub release: Option<Digest>,
}

/// A hold that stops it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stop {
    /// The hold's id.
    pub hold: String,
    /// Who set it.
    pub owner: Actor,
    /// Why.
    pub reason: Reason,
    /// When it ends by itself.
    pub until: Option<Timestamp>,
    /// The incident it belongs to.
    pub incident: Option<IncidentId>,
    /// Who can lift it.
    pub who: String,
    /// What they type.
    pub how: String,
}

/// Gives every hold that would stop it at `now`; none is allowed.
pub fn effective(holds: &Holds, question: Question<'_>, now: Timestamp) -> Vec<Stop> {
    let Question { name, subject, service, kind, release } = question;
    let passes = |hold: &crate::service::Hold| release.is_some_and(|release| hold.lets_pass(&release, now));
    // A service's own hold stops its forward moves, whichever way their release came.
    let own = service.standing_holds(now).filter(|(_, hold)| hold.origin.is_none() && hold.since <= now);
    let own = own.filter(|_| matches!(kind, HoldKind::Promote | HoldKind::Deploy));
    let mut stops: Vec<Stop> = own
        .map(|(id, hold)| Stop {
            hold: id.to_string(),
            owner: hold.owner.clone(),
            reason: hold.reason.clone(),
            until: hold.until,
            incident: None,
            who: "anyone, with a reason".into(),
            how: format!("lastgood hold lift {name} {id} --reason …"),
        })
        .collect();
    let wide = holds.standing(now).filter(|(_, hold)| hold.since <= now && hold.selector.matches(name, subject));
    // Each move of a service whose releases come from another environment is both.
    let both = |hold: &super::WideHold| kind == HoldKind::Deploy && hold.stops(name, subject);
    let wide = wide.filter(|(_, hold)| hold.kinds.contains(&kind) || both(hold));
    let let_through = |id| service.holds.values().any(|part| part.origin == Some(id) && passes(part));
    stops.extend(wide.filter(|(id, _)| !let_through(**id)).map(|(id, hold)| Stop {
        hold: id.to_string(),
        owner: hold.owner.clone(),
        reason: hold.reason.clone(),
        until: hold.until,
        incident: hold.incident,
        who: match hold.incident {
            None => "anyone, with a reason".into(),
            Some(incident) => format!("incident {incident}, when it may"),
        },
        how: match hold.incident {
            None => format!("lastgood hold lift {id} --reason …"),
            Some(incident) => format!("lastgood incident unfreeze {incident}"),
        },
    }));
    stops
}
