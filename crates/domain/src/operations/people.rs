//! Who people are and what they may do. Every door writes through one desk, and the desk asks here.
//!
//! While nobody is configured everybody may do everything, as who can write to the state folder could anyway. With people
//! configured, a person who is not among them may look, ask, block and roll back, but open nothing.

use super::{
    Event, Operations, Refused,
    approval::{self, ApprovalEvent, Matter, Policy},
    cap::{self, Caps},
    credential::CredentialEvent,
    escalation::{self, PageEvent},
    hold::HoldEvent,
    incident::{self, IncidentEvent, Role, checklist::ChecklistEvent, plan::PlanEvent},
    overrule,
    rca::AnalysisEvent,
};
use crate::{
    event,
    failure::Coded,
    service::Service,
    switches,
    terms::{Actor, ApprovalId, RoleName, Timestamp},
    traffic::TrafficEvent,
};
use alloc::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    format,
    string::{String, ToString},
    vec::Vec,
};
use serde::{Deserialize, Serialize};

/// The roles of an incident; others may be configured beside them.
pub const INCIDENT_ROLES: [&str; 6] =
    ["incident-commander", "api", "infrastructure", "data-and-evidence", "security", "communications"];

/// What only configured people may do, and of those only who has a role for it where a role names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// Say yes or no to what somebody asks for.
    Approve,
    /// Lift a hold or a pin.
    Lift,
    /// Let something be though it is not as it must: a rejected release, a missing analysis, an open item.
    Waive,
    /// Let one change through a hold.
    Exempt,
    /// Go on although a gate says no.
    Override,
    /// Lead an incident: move it on, hand it over, end it.
    Lead,
    /// Accept an analysis.
    Accept,
    /// Reset a switch that was tripped.
    Reset,
    /// Revoke, prove or replace a credential by hand. Where no role names it, who has the role `security` may.
    Credential,
}

impl Act {
    /// Gives it as people type it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Lift => "lift",
            Self::Waive => "waive",
            Self::Exempt => "exempt",
            Self::Override => "override",
            Self::Lead => "lead",
            Self::Accept => "accept",
            Self::Reset => "reset",
            Self::Credential => "credential",
        }
    }
}

/// One person.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Person {
    /// What the person takes on.
    pub roles: BTreeSet<RoleName>,
    /// Endpoints that reach this person and nobody else, first one first.
    pub notice: Vec<String>,
}

/// Everybody who is configured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct People {
    /// By actor, such as `person:alice`.
    pub all: BTreeMap<Actor, Person>,
    /// What needs one of some roles: an act that no role names is open to everybody in `all`.
    pub may: BTreeMap<Act, BTreeSet<RoleName>>,
    /// Who owns which gate; one without an owner is overridden by nobody.
    pub owners: BTreeMap<String, Actor>,
    /// How often a day each may do what is risky.
    pub caps: Caps,
    /// On what terms others are asked.
    pub asking: Policy,
}

/// Somebody who may not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{by} may not {}: {why}", act.as_str())]
pub struct NotAllowed {
    /// Who.
    pub by: Actor,
    /// What.
    pub act: Act,
    /// What is missing.
    pub why: String,
    /// Who may.
    pub who: BTreeSet<Actor>,
}

impl Coded for NotAllowed {
    fn code(&self) -> &'static str {
        "person-not-allowed"
    }

    fn hint(&self) -> Option<String> {
        let who = self.who.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        Some(match who.is_empty() {
            true => "nobody may: give somebody the role in lastgood.toml".into(),
            false => format!("ask one of them: {who}"),
        })
    }
}

/// Tells whether an actor is lastgood itself, which carries out what people decided or what a clock says.
///
/// Actors are set by us and never by a client, so nobody else can call themselves so.
fn is_ourselves(by: &Actor) -> bool {
    by.as_str().starts_with("lastgood:")
}

impl People {
    /// Gives those with a role.
    pub fn with(&self, role: &RoleName) -> BTreeSet<Actor> {
        let having = self.all.iter().filter(|(_, person)| person.roles.contains(role));
        having.map(|(actor, _)| actor.clone()).collect()
    }

    /// Gives the roles of which an act needs one; `None` is open to everybody in `all`.
    fn roles_for(&self, act: Act) -> Option<Cow<'_, BTreeSet<RoleName>>> {
        let named = self.may.get(&act).map(Cow::Borrowed);
        named.or_else(|| {
            let security = RoleName::new("security").ok().filter(|_| act == Act::Credential)?;
            Some(Cow::Owned([security].into()))
        })
    }

    /// Gives those who may; empty also means everybody while nobody is configured.
    pub fn who_may(&self, act: Act) -> BTreeSet<Actor> {
        let roles = self.roles_for(act);
        let may = |person: &Person| roles.as_ref().is_none_or(|roles| !roles.is_disjoint(&person.roles));
        self.all.iter().filter(|(_, person)| may(person)).map(|(actor, _)| actor.clone()).collect()
    }

    /// Tells whether somebody may.
    ///
    /// Errors: [`NotAllowed`], naming who may.
    pub fn check(&self, by: &Actor, act: Act) -> Result<(), NotAllowed> {
        if self.all.is_empty() || is_ourselves(by) {
            return Ok(());
        }
        let who = self.who_may(act);
        if who.contains(by) {
            return Ok(());
        }
        let why = match (self.all.contains_key(by), self.roles_for(act)) {
            (true, Some(roles)) => {
                let roles = roles.iter().map(RoleName::as_str).collect::<Vec<_>>().join(" or ");
                format!("that needs the role {roles}")
            }
            _ => "no such person is configured".into(),
        };
        Err(NotAllowed { by: by.clone(), act, why, who })
    }

    /// Tells whether somebody may write `event`, decided on `before` at `now`: the role, the cap, and whose gate it is.
    ///
    /// Errors: [`NotAllowed`]; the cap is reached; the gate is another's.
    pub fn permit(&self, before: &Operations, by: &Actor, event: &Event, now: Timestamp) -> Result<(), Refused> {
        if let Some(act) = act_of(before, by, event) {
            self.check(by, act)?;
        }
        // Who can't lead an incident could not end it either.
        if let Some(commander) = commander_of(by, event) {
            self.check(commander, Act::Lead)?;
        }
        if let Event::Approval(ApprovalEvent::Approved { approval, .. } | ApprovalEvent::LinkGiven { approval, .. }) =
            event
            && let Some(act) = opens(before, *approval)
        {
            self.check(by, act)?;
        }
        // Who says to be there keeps everybody else from being paged.
        if let Event::Page { page, event: PageEvent::Acknowledged } = event
            && !self.all.is_empty()
            && !self.all.contains_key(by)
            && !is_ourselves(by)
        {
            return Err(escalation::Refused::Stranger { page: *page, by: by.clone() }.into());
        }
        if let Event::Overruled(overrule) = event {
            overrule::owned(self.owners.get(&overrule.gate), by, &overrule.gate)?;
        }
        incident::standing_down::agreed(&self.asking, before, event, now)?;
        if let Some(act) = cap::risky(before, event) {
            cap::check(&before.caps, &self.caps, by, act, now)?;
        }
        Ok(())
    }

    /// Sets the terms of what is asked, before it is written.
    ///
    /// Errors: fewer may answer than must.
    pub fn on_terms(&self, by: &Actor, events: Vec<Event>, now: Timestamp) -> Result<Vec<Event>, Refused> {
        Ok(approval::on_terms(self, by, events, now)?)
    }

    /// Gives who may agree to something of a kind; empty also means everybody while nobody is configured.
    pub fn who_may_agree(&self, matter: Matter) -> BTreeSet<Actor> {
        let may = self.who_may(Act::Approve);
        match matter {
            Matter::Exempt => may.intersection(&self.who_may(Act::Exempt)).cloned().collect(),
            _ => may,
        }
    }

    /// Gives who may say yes to a request; empty also means everybody while nobody is configured.
    pub fn who_may_answer(&self, before: &Operations, approval: ApprovalId) -> BTreeSet<Actor> {
        let may = self.who_may(Act::Approve);
        match opens(before, approval) {
            Some(act) => may.intersection(&self.who_may(act)).cloned().collect(),
            None => may,
        }
    }

    /// Tells whether somebody may write `event` into an environment's chain of flags and switches.
    ///
    /// Errors: [`NotAllowed`].
    pub fn permit_switches(&self, by: &Actor, event: &switches::Event) -> Result<(), NotAllowed> {
        match event {
            switches::Event::Reset { .. } => self.check(by, Act::Reset),
            // A trip blocks, a request asks, and a flag is what a release is made of.
            switches::Event::Tripped { .. }
            | switches::Event::ResetRequested { .. }
            | switches::Event::FlagSet { .. }
            | switches::Event::FlagTurnedOn { .. }
            | switches::Event::FlagTurnedOff { .. }
            | switches::Event::FlagRemoved { .. }
            | switches::Event::RewindAcknowledged { .. } => Ok(()),
        }
    }

    /// Tells whether somebody may write `event`, decided on `before`, into a service's own chain.
    ///
    /// Errors: [`NotAllowed`].
    pub fn permit_service(&self, before: &Service, by: &Actor, event: &event::Event) -> Result<(), NotAllowed> {
        act_of_service(before, event).map_or(Ok(()), |act| self.check(by, act))
    }
}

/// Gives what an event of a service takes; `None` is open to everybody.
fn act_of_service(before: &Service, event: &event::Event) -> Option<Act> {
    match event {
        event::Event::HoldLifted { .. } | event::Event::Unpinned { .. } => Some(Act::Lift),
        // Another pin takes the first one away.
        event::Event::Pinned { tag, .. } if before.pin.as_ref().is_some_and(|pin| pin.tag != *tag) => Some(Act::Lift),
        event::Event::Traffic(TrafficEvent::EntriesResumed { .. }) => Some(Act::Lift),
        event::Event::Analysis(AnalysisEvent::Accepted { .. }) => Some(Act::Accept),
        event::Event::Analysis(AnalysisEvent::Waived { .. }) | event::Event::Waived { .. } => Some(Act::Waive),
        // Everything else blocks, asks, or is what a run finds out by itself.
        _ => None,
    }
}

/// Tells whether an event of a service takes away what stands in the way of its releases.
pub fn opens_service(before: &Service, event: &event::Event) -> bool {
    act_of_service(before, event).is_some()
}

/// Tells whether an event takes away what stands in the way of releases.
pub fn opens_wide(before: &Operations, by: &Actor, event: &Event) -> bool {
    matches!(act_of(before, by, event), Some(Act::Lift | Act::Waive | Act::Exempt | Act::Override))
}

/// Gives who would lead an incident by an event. Who declares one may lead it until somebody takes it over: everybody may
/// pull the cord.
fn commander_of<'a>(by: &Actor, event: &'a Event) -> Option<&'a Actor> {
    let Event::Incident { event, .. } = event else { return None };
    match event {
        IncidentEvent::Declared { commander, .. } => Some(commander).filter(|commander| *commander != by),
        IncidentEvent::Role(event) => event.commander(),
        _ => None,
    }
}

/// Gives what else a yes to a request takes: who lets a release or a commit pass a hold by it must be one who may.
fn opens(before: &Operations, approval: ApprovalId) -> Option<Act> {
    let opens_a_lane = before.holds.asked.contains_key(&approval) || before.holds.merges.contains_key(&approval);
    opens_a_lane.then_some(Act::Exempt)
}

/// Gives what an event takes; `None` is open to everybody: it blocks, asks, or says what became due.
fn act_of(before: &Operations, by: &Actor, event: &Event) -> Option<Act> {
    match event {
        // What an incident holds is lifted by its own unfreeze or end only, which is to lead it.
        Event::Hold(HoldEvent::Lifted { hold, .. }) => {
            let of_incident = before.holds.all.get(hold).is_some_and(|one| one.incident.is_some());
            Some(if of_incident { Act::Lead } else { Act::Lift })
        }
        // It blocks, asks, or says what was seen or became due; who opens a lane is asked when it is approved.
        Event::Hold(
            HoldEvent::Set { .. }
            | HoldEvent::ReviewDue { .. }
            | HoldEvent::ExemptionAsked { .. }
            | HoldEvent::MergeExemptionAsked { .. }
            | HoldEvent::Enforced { .. }
            | HoldEvent::StillUnconfirmed { .. },
        ) => None,
        Event::Approval(event) => match event {
            ApprovalEvent::Approved { .. } | ApprovalEvent::LinkGiven { .. } => Some(Act::Approve),
            // Who asked may take it back or ask for more time.
            ApprovalEvent::Rejected { approval, .. } | ApprovalEvent::Extended { approval, .. } => {
                let asked_by_them = before.approvals.all.get(approval).is_some_and(|one| one.by == *by);
                (!asked_by_them).then_some(Act::Approve)
            }
            ApprovalEvent::Requested { .. }
            | ApprovalEvent::Reminded { .. }
            | ApprovalEvent::Used { .. }
            | ApprovalEvent::Expired { .. }
            | ApprovalEvent::Voided { .. } => None,
        },
        Event::Incident {
            event:
                IncidentEvent::Checklist(ChecklistEvent::WaiverAsked { .. })
                | IncidentEvent::Plan(PlanEvent::WaiverAsked { .. }),
            ..
        } => Some(Act::Waive),
        Event::Incident { event, .. } if event.has_its_own_door() => None,
        // Who was given the word speaks, without leading.
        Event::Incident { incident, event: IncidentEvent::Message(_) } => {
            // Whoever pulls the cord says so: the first message belongs to the declaration.
            let found = before.incidents.all.get(incident);
            let has_the_word = found.is_none_or(|found| found.owner(Role::Communications) == Some(by));
            (!has_the_word).then_some(Act::Lead)
        }
        Event::Incident { event, .. } => (!event.only_blocks()).then_some(Act::Lead),
        Event::Overruled(_) => Some(Act::Override),
        // Revoking cuts everybody off who uses it, and a new one is known to whoever made it. What it came to is only told.
        Event::Credential { event: CredentialEvent::Begun { .. }, .. } => Some(Act::Credential),
        // It only blocks, or says what became due: everybody may pull the cord.
        Event::Emergency(_)
        | Event::Recommended { .. }
        | Event::Seen { .. }
        | Event::Page { .. }
        | Event::Risk { .. }
        | Event::Credential { .. }
        | Event::RewindAcknowledged { .. } => None,
    }
}
