//! On what terms people are asked: how many, who, and for how long. They are set at the one desk that everything is written
//! at, so that no door forgets them.

use super::{ApprovalEvent, EXPIRES_AFTER, Refused, Request};
use crate::{
    operations::{
        Event,
        hold::HoldEvent,
        incident::{
            IncidentEvent, checklist::ChecklistEvent, level::LevelEvent, plan::PlanEvent, unfreeze::UnfreezeEvent,
        },
        people::People,
    },
    terms::{Actor, Span, Timestamp},
};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};
use serde::{Deserialize, Serialize};

/// What a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Matter {
    /// The plan of an incident. How many must agree is said by level, in the runbook.
    Plan,
    /// A release or a commit that may pass a hold.
    Exempt,
    /// An analysis, an item or a proof that is let be.
    Waive,
    /// An unmet row of an unfreeze.
    AcceptRisk,
    /// A lower level.
    Lower,
    /// The end of what turned out to be no incident. Nobody is asked unless it is configured.
    StandDown,
    /// What a script asks.
    Ask,
}

impl Matter {
    /// Gives it as people type it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plan => "plan",
            Self::Exempt => "exempt",
            Self::Waive => "waive",
            Self::AcceptRisk => "accept-risk",
            Self::Lower => "lower",
            Self::StandDown => "stand-down",
            Self::Ask => "ask",
        }
    }

    /// Reads from a request's subject what it is about.
    pub fn of(subject: &str) -> Option<Self> {
        let (place, rest) = subject.split_once('/')?;
        let matter = rest.split_once('/').map_or("", |(_, matter)| matter);
        let is = |begin: &str| matter == begin || matter.strip_prefix(begin).is_some_and(|rest| rest.starts_with('/'));
        match place {
            "asked" => Some(Self::Ask),
            "hold" if is("exempt") || is("merge") => Some(Self::Exempt),
            "rca" if is("waiver") => Some(Self::Waive),
            "incident" if is("waiver") || is("step") => Some(Self::Waive),
            "incident" if is("risk") => Some(Self::AcceptRisk),
            "incident" if is("level") => Some(Self::Lower),
            "incident" if is("stand-down") => Some(Self::StandDown),
            "incident" if is("plan") => Some(Self::Plan),
            _ => None,
        }
    }
}

/// The terms of one matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// How many besides who asks must say yes, at least; at least one.
    pub needed: u32,
    /// Who may; `None` is everybody who may approve.
    pub from: Option<BTreeSet<Actor>>,
    /// How long a request stands. What is asked for may end sooner, and the request with it.
    pub expires: Span,
}

impl Default for Terms {
    fn default() -> Self {
        Self { needed: 1, from: None, expires: EXPIRES_AFTER }
    }
}

/// What is configured, by matter; what is not in it is asked of one person for [`EXPIRES_AFTER`].
pub type Policy = BTreeMap<Matter, Terms>;

/// Sets the terms of one request: never fewer people, others or a time beyond `until` than it says itself.
///
/// Errors: [`Refused::Impossible`] where fewer may answer than must: of those that are named, who may approve and, of what
/// opens a hold, who may exempt; never who asks.
pub fn bound(
    people: &People,
    by: &Actor,
    mut request: Request,
    until: Option<Timestamp>,
    now: Timestamp,
) -> Result<Request, Refused> {
    let matter = Matter::of(&request.subject);
    let Some((matter, terms)) = matter.and_then(|matter| Some((matter, people.asking.get(&matter)?))) else {
        return Ok(request);
    };
    request.needed = request.needed.max(terms.needed);
    if let Some(from) = &terms.from {
        request.of = match request.of.is_empty() {
            true => from.clone(),
            false => request.of.intersection(from).cloned().collect(),
        };
        // An empty list asks everybody; nobody is not everybody.
        if request.of.is_empty() {
            return Err(Refused::Impossible { needed: request.needed, possible: 0 });
        }
    }
    let may = people.who_may_agree(matter);
    let possible = match people.all.is_empty() {
        // Nobody is configured: everybody may, or everybody who is named.
        true => (!request.of.is_empty()).then(|| request.of.iter().filter(|one| *one != by).count()),
        false => {
            let named = |one: &&Actor| request.of.is_empty() || request.of.contains(*one);
            Some(may.iter().filter(named).filter(|one| *one != by).count())
        }
    };
    if let Some(possible) = possible.filter(|possible| *possible < request.needed as usize) {
        return Err(Refused::Impossible { needed: request.needed, possible });
    }
    let expires = now.after(terms.expires);
    request.expires = until.map_or(expires, |until| expires.min(until));
    Ok(request)
}

/// Sets the terms of each request among what is written together.
///
/// Errors: as [`bound`].
pub fn on_terms(people: &People, by: &Actor, events: Vec<Event>, now: Timestamp) -> Result<Vec<Event>, Refused> {
    // One act asks for one thing: its end is the end of what is asked.
    let until = events.iter().find_map(ends);
    let each = events.into_iter().map(|event| match event {
        Event::Approval(ApprovalEvent::Requested { approval, request }) => {
            let request = bound(people, by, request, until, now)?;
            Ok(Event::Approval(ApprovalEvent::Requested { approval, request }))
        }
        other => Ok(other),
    });
    each.collect()
}

/// Gives when what is asked for would end.
fn ends(event: &Event) -> Option<Timestamp> {
    match event {
        Event::Hold(HoldEvent::ExemptionAsked { exemption, .. }) => Some(exemption.until),
        Event::Hold(HoldEvent::MergeExemptionAsked { exemption, .. }) => Some(exemption.until),
        Event::Incident {
            event:
                IncidentEvent::Checklist(ChecklistEvent::WaiverAsked { signature, .. })
                | IncidentEvent::Plan(PlanEvent::WaiverAsked { signature, .. })
                | IncidentEvent::Unfreeze(UnfreezeEvent::RiskAsked { signature, .. })
                | IncidentEvent::Level(LevelEvent::LowerAsked { signature, .. }),
            ..
        } => Some(signature.until),
        _ => None,
    }
}
