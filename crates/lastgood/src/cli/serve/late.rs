//! Instances that were left for later: when they may move.

use super::Driving;
use jiff::tz::TimeZone;
use lastgood_domain::{
    facts::Busyness,
    terms::{InstanceName, Timestamp},
};
use lastgood_engine::schedule;
use std::time::Instant;

impl Driving<'_> {
    /// Looks at those left for later, where a quiet period must be seen before they move.
    pub(super) fn look_for_quiet(&mut self, steady: Instant) {
        let world = &self.driver.world;
        if world.site().quiet().is_none() || !self.times.look.take(steady) {
            return;
        }
        let late: Vec<InstanceName> = self.driver.service().late().cloned().collect();
        if !late.is_empty() {
            world.look_for_quiet(&late);
        }
    }

    /// Tells whether an instance that was left for later can move now: in the window, quiet, nothing held.
    pub(super) fn somebody_late_is_idle(&self, now: Timestamp) -> bool {
        let service = self.driver.service();
        let held = self.app.stopped(self.name, service).is_some() || service.standing_holds(now).next().is_some();
        if held || !schedule::in_window(&self.config.rollout.drain, now, &TimeZone::system()) {
            return false;
        }
        let site = self.driver.world.site();
        // What could not be started there is not looked at each minute: a person mends that.
        let mut late = service.late().filter(|name| service.pin.is_some() || site.cannot_start(name).is_none());
        if site.quiet().is_some() {
            return late.any(|name| site.was_quiet(name));
        }
        late.map(|name| site.busyness(name)).any(|busyness| matches!(busyness, None | Some(Busyness::Idle)))
    }
}
