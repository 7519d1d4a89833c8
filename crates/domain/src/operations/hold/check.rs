//! Would this be allowed, then and there? One pure answer, for the past, now, and any time to come.

use super::{HoldKind, Holds, Subject};
use crate::{
    operations::people::{Act, People},
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
    /// Who there is, and what they may.
    pub people: &'a People,
}

/// What stops it: a hold, a pin, an analysis that is owed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stop {
    /// The hold's id, `pin` or `analysis`.
    pub hold: String,
    /// Who set it, or owes it.
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

/// Says who may take away what is nobody's incident.
fn who(people: &People) -> String {
    let may = people.who_may(Act::Lift).iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match (people.all.is_empty(), may.is_empty()) {
        (true, _) => "anyone, with a reason".into(),
        (false, true) => "nobody: give somebody the role in lastgood.toml".into(),
        (false, false) => may,
    }
}

/// Makes a reason of our own words, cut to what one may have.
fn short(text: &str) -> Reason {
    let line: String = text.chars().filter(|one| !one.is_control()).take(120).collect();
    Reason::new(&line).or_else(|_| Reason::new("see its log")).expect("a fixed valid reason")
}

/// Gives what of a service's own, besides holds, would stop it at `now`: a pin, and an analysis that it owes.
pub fn owned(question: &Question<'_>, now: Timestamp) -> Vec<Stop> {
    let Question { name, service, kind, people, .. } = question;
    if !matches!(kind, HoldKind::Promote | HoldKind::Deploy) {
        return Vec::new();
    }
    let pin = service.pin.as_ref().map(|pin| Stop {
        hold: "pin".into(),
        owner: pin.by.clone(),
        reason: short(&format!("only {} may be: {}", pin.tag, pin.reason)),
        until: None,
        incident: None,
        who: who(people),
        how: format!("lastgood unpin {name} --reason …"),
    });
    let owed = service.analysis.as_ref().filter(|owed| owed.blocks_all(now)).map(|owed| Stop {
        hold: "analysis".into(),
        // Without anybody it is whoever takes it: a rollback owes it, which is ours.
        owner: owed.owner.clone().unwrap_or_else(|| Actor::new("lastgood:run").expect("a fixed valid name")),
        reason: short(&format!("an analysis is owed, of: {}", owed.because)),
        until: None,
        incident: owed.incident,
        who: "whoever accepts what another person handed in".into(),
        how: match owed.submitted {
            None => format!("lastgood rca submit {name} --file analysis.md"),
            Some(_) => format!("lastgood rca accept {name}"),
        },
    });
    pin.into_iter().chain(owed).collect()
}

/// Gives every hold that would stop it at `now`; none is allowed.
pub fn effective(holds: &Holds, question: Question<'_>, now: Timestamp) -> Vec<Stop> {
    let Question { name, subject, service, kind, release, people } = question;
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
            who: who(people),
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
            None => who(people),
            Some(incident) => format!("incident {incident}, when it may"),
        },
        how: match hold.incident {
            None => format!("lastgood hold lift {id} --reason …"),
            Some(incident) => format!("lastgood incident unfreeze {incident}"),
        },
    }));
    stops
}
