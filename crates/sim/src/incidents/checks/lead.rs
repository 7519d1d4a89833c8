//! Who leads an incident, who does what in it, and how deep it goes.

use super::{
    approvals::Asked,
    life::{Life, Risk},
};
use lastgood_domain::{
    operations::incident::{Role, level::LevelEvent, role::RoleEvent},
    terms::{Actor, IncidentId, Timestamp},
};
use std::collections::BTreeSet;

impl Life {
    fn owner(&self, role: Role) -> Option<&Actor> {
        if role == Role::Commander { Some(&self.commander) } else { self.owners.get(&role) }
    }

    /// A role goes from one to the other only when both want it.
    pub(super) fn role(&mut self, id: IncidentId, by: &Actor, event: &RoleEvent, wrong: &mut Vec<String>) {
        let (role, to) = match event {
            RoleEvent::Assigned { role, to } => {
                let unled = *role == Role::Commander && self.commander.as_str().starts_with("lastgood:");
                if !unled && (*by != self.commander || self.owner(*role).is_some()) {
                    wrong.push(format!("{by} gave {} of {id} to {to}, and it was somebody's", role.as_str()));
                }
                (*role, to)
            }
            RoleEvent::Offered { role, to } => {
                if *by != self.commander && self.owner(*role) != Some(by) {
                    wrong.push(format!("{by} offered {} of {id}, which is not theirs", role.as_str()));
                }
                self.offers.insert(*role, to.clone());
                return;
            }
            RoleEvent::Accepted { role, to } => {
                if to != by || self.offers.get(role) != Some(by) {
                    wrong.push(format!("{by} took {} of {id}, which nobody had offered to them", role.as_str()));
                }
                (*role, to)
            }
            RoleEvent::TakenOver { from, to, .. } => {
                if to != by || *from != self.commander {
                    wrong.push(format!("{by} gave {id} from {from} to {to}"));
                }
                (Role::Commander, to)
            }
        };
        self.offers.remove(&role);
        match role {
            Role::Commander => self.commander = to.clone(),
            role => drop(self.owners.insert(role, to.clone())),
        }
    }

    /// A lower level takes the commander and a second person who agreed to exactly that.
    pub(super) fn level(
        &mut self,
        id: IncidentId,
        at: Timestamp,
        by: &Actor,
        event: &LevelEvent,
        asked: &Asked,
        wrong: &mut Vec<String>,
    ) {
        if *by != self.commander {
            wrong.push(format!("{by} changes the level of {id}, which {} leads", self.commander));
        }
        match event {
            LevelEvent::LowerAsked { level, signature } => {
                let risk = Risk {
                    approval: signature.approval,
                    plan: signature.plan,
                    until: signature.until,
                    by: by.clone(),
                    covers: BTreeSet::new(),
                };
                self.lowering = Some((*level, risk));
            }
            LevelEvent::Lowered { level, .. } => {
                let signed = self.lowering.take().filter(|(to, _)| to == level);
                let signed =
                    signed.is_some_and(|(_, risk)| at < risk.until && asked.said_yes(risk.approval, &risk.plan));
                if !signed || *level >= self.level {
                    wrong.push(format!("{id} was lowered to {} by {by} alone", level.as_str()));
                }
                self.level = *level;
            }
        }
    }
}
