//! What the daemon does besides driving: it starts again what died and stops what has stood by long enough.

use crate::machine::Machine;
use lastgood_domain::{
    service::{Phase, Service},
    terms::{InstanceName, Timestamp},
};
use lastgood_engine::drive::Happening;
use std::collections::BTreeMap;

/// Time between two tries to stop the standby release, in milliseconds.
const COOL_EVERY: i64 = 60_000;

/// What one daemon remembers.
#[derive(Debug, Default)]
pub(crate) struct Keeper {
    reviving: BTreeMap<InstanceName, Timestamp>,
    next_cool: i64,
}

/// What is due.
#[derive(Debug, Default)]
pub(crate) struct Due {
    pub(crate) revive: Vec<InstanceName>,
    pub(crate) cool: bool,
}

impl Keeper {
    /// Tells what is due now.
    pub(crate) fn due(&mut self, service: &Service, machine: &Machine) -> Due {
        let mut due = Due::default();
        let now = machine.now();
        if service.run.is_none()
            && service.traffic.cools_at().is_some_and(|at| at <= now)
            && self.next_cool <= machine.elapsed
        {
            self.next_cool = machine.elapsed + COOL_EVERY;
            due.cool = true;
            return due;
        }
        let theirs = match service.run.as_ref().map(|run| &run.phase) {
            None => Vec::new(),
            Some(Phase::Shifting { steps, .. }) => steps.keys().cloned().collect(),
            Some(_) => return due,
        };
        for (name, one) in &service.instances {
            let Some(at) = one.again_at.filter(|at| *at <= now) else { continue };
            if self.reviving.get(name) != Some(&at) && !theirs.contains(name) && !service.stays_down(name) {
                self.reviving.insert(name.clone(), at);
                due.revive.push(name.clone());
            }
        }
        due
    }

    /// Finds who is down and should not be.
    pub(crate) fn down(&self, service: &Service, machine: &Machine) -> Vec<Happening> {
        let should = service
            .instances
            .iter()
            .filter(|(name, one)| one.release.is_some() && one.again_at.is_none() && !service.stays_down(name));
        let down = should.filter(|(name, _)| machine.places.get(*name).is_some_and(|place| place.up.is_none()));
        down.map(|(name, _)| Happening::Died { instance: name.clone(), why: "it is down".into() }).collect()
    }

    /// Tells whether nothing stands by any more.
    pub(crate) fn is_calm(&self, service: &Service) -> bool {
        service.run.is_none() && service.traffic.cools_at().is_none()
    }
}
