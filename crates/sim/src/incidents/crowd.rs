//! Who is there: people go home, are ill, and have weekends.

use super::{setting, world::World};
use lastgood_domain::terms::Actor;
use std::collections::BTreeMap;

/// One hour in milliseconds.
const HOUR: i64 = 3_600_000;

/// Who is away until when, in milliseconds since the world began.
#[derive(Debug, Default)]
pub(crate) struct Crowd {
    away: BTreeMap<&'static str, i64>,
    /// Until when no daemon runs.
    pub(crate) daemon_down: i64,
}

impl World {
    /// Gives somebody who is there; mallory is always there.
    pub(crate) fn somebody(&self) -> Option<Actor> {
        let here: Vec<&str> = {
            let crowd = self.crowd.borrow();
            let now = self.elapsed();
            let is_here = |name: &&&str| crowd.away.get(**name).is_none_or(|until| *until <= now);
            setting::PEOPLE.iter().filter(|name| **name != "mallory").filter(is_here).copied().collect()
        };
        let name = if self.often(40) { Some("mallory") } else { self.pick(&here) };
        setting::actor(name?)
    }

    /// Tells whether somebody is there.
    pub(crate) fn is_here(&self, who: &Actor) -> bool {
        let name = who.as_str().strip_prefix("person:").unwrap_or_default();
        self.crowd.borrow().away.get(name).is_none_or(|until| *until <= self.elapsed())
    }

    /// Lets people come and go.
    pub(crate) fn people_come_and_go(&self) {
        if self.often(80)
            && let Some(name) = self.pick(&setting::PEOPLE)
        {
            let hours = [1, 8, 62, 24 * 7].get(usize::try_from(self.below(4)).unwrap_or(0)).copied().unwrap_or(1);
            self.crowd.borrow_mut().away.insert(name, self.elapsed() + hours * HOUR);
            self.tell(format!("    {name} is away for {hours} h"));
        }
        if self.often(20) {
            let hours = 1 + i64::try_from(self.below(30)).unwrap_or(0);
            self.crowd.borrow_mut().daemon_down = self.elapsed() + hours * HOUR;
            self.tell(format!("    the daemon is down for {hours} h"));
        }
    }

    /// Everybody is back, and the daemon runs.
    pub(crate) fn everybody_is_back(&self) {
        *self.crowd.borrow_mut() = Crowd::default();
    }

    pub(crate) fn daemon_runs(&self) -> bool {
        self.crowd.borrow().daemon_down <= self.elapsed()
    }
}
