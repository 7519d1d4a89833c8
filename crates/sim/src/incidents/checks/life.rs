//! The life of one incident as its records show it.

use super::{Around, Checks, plan::Plan, unfreeze::Told};
use lastgood_domain::{
    operations::{
        Event,
        incident::{
            IncidentEvent, Level, Role, State,
            checklist::{ChecklistEvent, Evidence, Item},
            closing::ClosingEvent,
            level::LevelEvent,
            message::{MessageEvent, MessageKind},
            unfreeze::{Row, UnfreezeEvent},
            verify::{Verification, VerifyEvent},
        },
    },
    terms::{Actor, ApprovalId, Digest, IncidentId, ItemName, ServiceName, Timestamp},
};
use std::collections::{BTreeMap, BTreeSet};

/// A risk that somebody asked a second person to sign.
#[derive(Debug, Clone)]
pub(crate) struct Risk {
    pub(crate) approval: ApprovalId,
    pub(crate) plan: Digest,
    pub(crate) until: Timestamp,
    pub(crate) by: Actor,
    /// What was unmet when it was asked for; nothing else is signed.
    pub(crate) covers: BTreeSet<String>,
}

/// One incident.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) level: Level,
    pub(crate) services: BTreeSet<ServiceName>,
    pub(crate) commander: Actor,
    pub(crate) owners: BTreeMap<Role, Actor>,
    pub(crate) offers: BTreeMap<Role, Actor>,
    pub(crate) drill: bool,
    pub(crate) state: State,
    pub(crate) executed: bool,
    pub(crate) plan: Option<Plan>,
    /// Steps of earlier plans of which nobody knows how they ended, and how often each was tried.
    pub(crate) cut_off: BTreeMap<String, u32>,
    /// Counts what makes a verification old: stages, holding again, plans that ended.
    pub(crate) epoch: u64,
    /// The last verification, when it was written, and the epoch in which it was begun.
    pub(crate) verified: Option<(Timestamp, Verification, u64)>,
    /// Who verifies just now, and the epoch in which that was begun.
    pub(crate) verifying: BTreeMap<Actor, u64>,
    pub(crate) items: BTreeMap<ItemName, (Item, bool)>,
    pub(crate) waivers: BTreeMap<ItemName, Risk>,
    pub(crate) risks: BTreeMap<&'static str, Risk>,
    pub(crate) lowering: Option<(Level, Risk)>,
    pub(crate) lifted: BTreeSet<&'static str>,
    pub(crate) lifted_at: Option<Timestamp>,
    pub(crate) told: Told,
    pub(crate) next_owner: bool,
    pub(crate) owed: BTreeSet<&'static str>,
}

impl Life {
    pub(crate) const fn is_over(&self) -> bool {
        matches!(self.state, State::Done | State::StoodDown)
    }

    /// After a look whoever waits for word of it was told that it is overdue.
    pub(super) fn nothing_due(&self, id: IncidentId, now: Timestamp, checks: &Checks, wrong: &mut Vec<String>) {
        if self.is_over() {
            return;
        }
        // Once everything is open again there is nothing to be kept informed of.
        let waits = self.state != State::ClosedPendingRca;
        if let Some(by) = self.told.next_by.filter(|by| waits && now >= *by && !self.told.overdue_told) {
            wrong.push(format!("{id}: the update was due for {} and nobody was told", now.since(by)));
        }
        let paged = checks.pages.about(&format!("incident/{id}/update"));
        if self.told.overdue_told && !self.drill && !paged {
            wrong.push(format!("{id}: the update is overdue and nobody was paged"));
        }
        for (item, risk) in &self.waivers {
            if now >= risk.until {
                wrong.push(format!("{id}: the waiver of {item} is over and nobody was told"));
            }
        }
    }
}

/// Tells whether an event raises the level of an incident.
pub(super) fn raises(event: &Event, id: IncidentId) -> bool {
    matches!(event, Event::Incident { incident, event: IncidentEvent::Raised { .. } } if *incident == id)
}

/// Tells whether an event lowers the level of an incident.
pub(super) fn lowers(event: &Event, id: IncidentId) -> bool {
    let lowered = |event: &IncidentEvent| matches!(event, IncidentEvent::Level(LevelEvent::Lowered { .. }));
    matches!(event, Event::Incident { incident, event } if *incident == id && lowered(event))
}

/// The arrows between states, as the requirements draw them. Whatever is planned anew starts at planning.
const fn follows(from: State, to: State) -> bool {
    match to {
        State::Declared => false,
        State::Freezing => matches!(from, State::Declared),
        State::Planning => !matches!(from, State::Declared | State::ClosedPendingRca | State::Done | State::StoodDown),
        State::Executing => matches!(from, State::Planning),
        State::Cleaning => matches!(from, State::Executing | State::Verifying),
        State::Verifying => matches!(from, State::Cleaning | State::UnfreezeReady | State::Monitoring),
        State::UnfreezeReady => matches!(from, State::Verifying),
        State::Monitoring => matches!(from, State::UnfreezeReady),
        State::ClosedPendingRca => matches!(from, State::Monitoring),
        State::Done => matches!(from, State::ClosedPendingRca),
        State::StoodDown => matches!(from, State::Declared | State::Freezing | State::Planning),
    }
}

impl Checks {
    pub(super) fn incident(
        &mut self,
        at: Timestamp,
        by: &Actor,
        (id, event): (IncidentId, &IncidentEvent),
        around: &Around<'_>,
        wrong: &mut Vec<String>,
    ) {
        if let IncidentEvent::Declared { level, services, commander, drill, .. } = event {
            let life = Life {
                level: *level,
                services: services.clone(),
                commander: commander.clone(),
                owners: BTreeMap::new(),
                offers: BTreeMap::new(),
                drill: *drill,
                state: State::Declared,
                executed: false,
                plan: None,
                cut_off: BTreeMap::new(),
                epoch: 0,
                verified: None,
                verifying: BTreeMap::new(),
                items: BTreeMap::new(),
                waivers: BTreeMap::new(),
                risks: BTreeMap::new(),
                lowering: None,
                lifted: BTreeSet::new(),
                lifted_at: None,
                told: Told::default(),
                next_owner: false,
                owed: ["cause", "follow-up", "safeguard", "report"].into(),
            };
            if self.lives.insert(id, life).is_some() {
                wrong.push(format!("{id} was given twice"));
            }
            return;
        }
        // Looked at before anything of it is taken: it is decided on what was.
        if let IncidentEvent::Moved { to, .. } = event {
            self.moves(at, by, (id, *to), around, wrong);
        }
        if let (true, Some(life)) = (is_told_in_a_report(event), self.lives.get_mut(&id)) {
            life.owed.insert("report");
        }
        if let IncidentEvent::Unfreeze(UnfreezeEvent::Lifted { hold }) = event {
            self.stage(at, by, (id, hold.as_str()), around, wrong);
        }
        if let IncidentEvent::Plan(event) = event {
            return self.plan(at, (id, event), around, wrong);
        }
        let covers = match event {
            IncidentEvent::Unfreeze(UnfreezeEvent::RiskAsked { row, .. }) => self.unmet(at, (id, row.as_str()), around),
            _ => BTreeSet::new(),
        };
        let asked = &self.asked;
        let Some(life) = self.lives.get_mut(&id) else { return wrong.push(format!("{id} was never declared")) };
        match event {
            IncidentEvent::Declared { .. } | IncidentEvent::Noted { .. } | IncidentEvent::Began { .. } => {}
            IncidentEvent::Moved { to, .. } => {
                life.executed |= *to == State::Executing;
                life.epoch += u64::from(*to == State::Cleaning);
                life.state = *to;
            }
            IncidentEvent::Plan(_) => {}
            IncidentEvent::Raised { level, .. } => {
                if *level <= life.level
                    || matches!(life.state, State::ClosedPendingRca | State::Done | State::StoodDown)
                {
                    wrong.push(format!("{id} was raised to {} from {}", level.as_str(), life.level.as_str()));
                }
                if !life.lifted.is_empty() {
                    wrong.push(format!("{id} was raised and {:?} stays lifted", life.lifted));
                }
                life.put_away();
                (life.level, life.lowering, life.state) = (*level, None, State::Planning);
            }
            IncidentEvent::Level(event) => life.level(id, at, by, event, asked, wrong),
            IncidentEvent::Role(event) => life.role(id, by, event, wrong),
            IncidentEvent::Checklist(event) => life.checklist(id, at, by, event, wrong),
            IncidentEvent::Verify(VerifyEvent::Marked { .. }) => {}
            IncidentEvent::Verify(VerifyEvent::Verified { verification }) => {
                let begun = life.verifying.remove(by).unwrap_or(life.epoch);
                life.verified = Some((at, verification.clone(), begun));
                let bad =
                    verification.checks.is_empty() || verification.checks.iter().any(|check| !check.proof.counts());
                let opening = matches!(life.state, State::UnfreezeReady | State::Monitoring);
                if bad && opening && !life.lifted.is_empty() && !around.says(|event| holds_again(event, id)) {
                    wrong.push(format!("{id} failed its verification and {:?} stays lifted", life.lifted));
                }
            }
            IncidentEvent::Unfreeze(event) => match event {
                UnfreezeEvent::RiskAsked { row, signature } => {
                    let risk = Risk {
                        approval: signature.approval,
                        plan: signature.plan,
                        until: signature.until,
                        by: by.clone(),
                        covers,
                    };
                    // Of messages that were given up the records say nothing.
                    let unmet = !risk.covers.is_empty() || *row == Row::Messages;
                    if !unmet || signature.until <= at {
                        wrong.push(format!("{by} takes the risk of {} in {id}, which is none", row.as_str()));
                    }
                    life.risks.insert(row.as_str(), risk);
                }
                UnfreezeEvent::Lifted { hold } => {
                    life.lifted.insert(hold.as_str());
                    life.lifted_at = Some(at);
                    life.epoch += 1;
                }
                UnfreezeEvent::HeldAgain { .. } => {
                    life.lifted.clear();
                    life.risks.clear();
                    life.lifted_at = None;
                    life.told.complete = None;
                    life.epoch += 1;
                }
            },
            IncidentEvent::Message(event) => match event {
                MessageEvent::Sent { message, next_update_by, .. } => {
                    life.told.next_by = *next_update_by;
                    life.told.overdue_told = false;
                    if *message == MessageKind::Complete {
                        life.told.complete = Some(at);
                    }
                }
                MessageEvent::Overdue { .. } => {
                    if life.told.next_by.is_none_or(|by| at < by) {
                        wrong.push(format!("{id}: an update is called overdue before it is"));
                    }
                    life.told.overdue_told = true;
                }
            },
            IncidentEvent::Closing(event) => {
                life.owed.insert("report");
                match event {
                    ClosingEvent::NextOwner { .. } => life.next_owner = true,
                    ClosingEvent::RootCause { .. } => drop(life.owed.remove("cause")),
                    ClosingEvent::FollowUpAdded { .. } => drop(life.owed.remove("follow-up")),
                    ClosingEvent::FollowUpClosed { .. } => {}
                    ClosingEvent::Safeguard { .. } => drop(life.owed.remove("safeguard")),
                    ClosingEvent::Reported { .. } => drop(life.owed.remove("report")),
                }
            }
        }
    }

    fn moves(
        &mut self,
        at: Timestamp,
        by: &Actor,
        (id, to): (IncidentId, State),
        around: &Around<'_>,
        wrong: &mut Vec<String>,
    ) {
        let Some(life) = self.lives.get(&id) else { return };
        if !follows(life.state, to) {
            wrong.push(format!("{id} went from {} to {}", life.state.as_str(), to.as_str()));
        }
        if matches!(to, State::StoodDown | State::Done) && *by != life.commander {
            wrong.push(format!("{by} ended {id}, which {} leads", life.commander));
        }
        match to {
            State::StoodDown if life.executed => wrong.push(format!("{id} was stood down after its plan had run")),
            State::Cleaning if life.state == State::Executing => {
                if let Some(step) = life.plan.as_ref().and_then(Plan::left) {
                    wrong.push(format!("{id} is to be cleaned up and {step} is not done"));
                }
            }
            State::UnfreezeReady | State::ClosedPendingRca => self.opens(at, (id, to.as_str()), around, wrong),
            State::Done if !life.owed.is_empty() => wrong.push(format!("{id} is done and owes {:?}", life.owed)),
            _ => {}
        }
        if to == State::ClosedPendingRca && self.lives.get(&id).is_some_and(|life| life.lifted.len() < 4) {
            wrong.push(format!("{id} is closed and something is held"));
        }
    }
}

/// A report that was written before one of these lacks it.
const fn is_told_in_a_report(event: &IncidentEvent) -> bool {
    matches!(
        event,
        IncidentEvent::Moved { .. }
            | IncidentEvent::Raised { .. }
            | IncidentEvent::Plan(_)
            | IncidentEvent::Checklist(_)
            | IncidentEvent::Verify(_)
            | IncidentEvent::Unfreeze(_)
    )
}

fn holds_again(event: &Event, id: IncidentId) -> bool {
    let again = |event: &IncidentEvent| matches!(event, IncidentEvent::Unfreeze(UnfreezeEvent::HeldAgain { .. }));
    matches!(event, Event::Incident { incident, event } if *incident == id && again(event))
}

impl Life {
    fn checklist(
        &mut self,
        id: IncidentId,
        at: Timestamp,
        by: &Actor,
        event: &ChecklistEvent,
        wrong: &mut Vec<String>,
    ) {
        match event {
            ChecklistEvent::Added { items } => {
                for item in items {
                    self.items.entry(item.item.clone()).or_insert((item.clone(), false));
                }
            }
            ChecklistEvent::Done { item, evidence } => {
                let Some((known, done)) = self.items.get_mut(item) else {
                    return wrong.push(format!("{id} has no {item}"));
                };
                let owner = self.owners.get(&known.role);
                if *by != self.commander && owner != Some(by) {
                    wrong.push(format!("{by} closed {item} of {id}, which is {}'s", known.role.as_str()));
                }
                if known.evidence != evidence.kind() || matches!(evidence, Evidence::Command { exit, .. } if *exit != 0)
                {
                    wrong.push(format!("{item} of {id} is closed by {}", evidence.words()));
                }
                *done = true;
                self.waivers.remove(item);
            }
            ChecklistEvent::WaiverAsked { item, signature } => {
                let risk = Risk {
                    approval: signature.approval,
                    plan: signature.plan,
                    until: signature.until,
                    by: by.clone(),
                    covers: BTreeSet::new(),
                };
                if signature.until <= at {
                    wrong.push(format!("{item} of {id} is waived for no time"));
                }
                self.waivers.insert(item.clone(), risk);
            }
            ChecklistEvent::WaiverOver { item } => {
                self.waivers.remove(item);
            }
        }
    }
}
