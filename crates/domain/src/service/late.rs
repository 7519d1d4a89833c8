//! Who was left for later, and where to.

use super::{Condition, Instance, Service};
use crate::terms::{Digest, InstanceName};

impl Service {
    /// Gives the release that every instance should run: what the service is pinned to, else last-good; none if that is
    /// not known here.
    pub(crate) fn wanted(&self) -> Option<Digest> {
        match &self.pin {
            Some(pin) => self.tags.get(&pin.tag).copied(),
            None => self.last_good,
        }
    }

    /// Lists the instances that were left for later, and are to follow as soon as they can: to what the service is pinned
    /// to, else to last-good.
    ///
    /// Without the pin nobody follows it back any more: the next release takes all of them.
    pub fn late(&self) -> impl Iterator<Item = &InstanceName> {
        let wanted = self.wanted();
        let came_from = move |one: &Instance| {
            self.pin.is_none()
                && one.history.last().is_some_and(|moved| Some(moved.to) == one.release && moved.from == wanted)
        };
        let late = self.instances.iter().filter(move |(_, one)| {
            let waits = one.release.is_some() && matches!(one.condition, Condition::Deferred { .. });
            waits && wanted.is_some() && one.release != wanted && !came_from(one)
        });
        late.map(|(name, _)| name)
    }

    /// Who was left for later and runs by now what it should waits for nothing.
    pub(super) fn settle_who_is_there(&mut self) {
        let wanted = self.wanted();
        let there = |one: &&mut Instance| one.release == wanted && matches!(one.condition, Condition::Deferred { .. });
        self.instances.values_mut().filter(there).for_each(|one| one.condition = Condition::Settled);
    }
}
