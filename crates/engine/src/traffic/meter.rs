//! What the built-in proxy has counted and carries now, for whoever shows numbers; nothing is decided from it.

use super::newest::{Place, place};
use lastgood_domain::{
    terms::{Digest, ServiceName, Timestamp},
    traffic::Slice,
};
use lastgood_drivers::traffic::{Builtin, Router as _};
use std::{collections::BTreeMap, path::Path};

/// Releases of one service that are kept: a watcher must not get a series for each release that ever was.
const RELEASES_MAX: usize = 8;

/// Counts of one release since the meter began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Total {
    /// Requests that came to an end.
    pub requests: u64,
    /// Failures: 5xx, no whole answer, tunnels cut or closed with an error.
    pub failed: u64,
    /// Requests that failed here and were sent to another release.
    pub retried: u64,
    /// Of these, how many were answered there.
    pub saved: u64,
    /// Requests that were answered by a fallback.
    pub degraded: u64,
    /// Requests under way now.
    pub in_flight: u64,
    /// Open tunnels now.
    pub tunnels: u64,
    /// People seen within the last minute.
    pub people: u64,
    /// The last second in which it was heard of, since 1970.
    pub heard: u64,
}

/// One service's traffic as its proxy tells it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metered {
    /// Whether the proxy answers.
    pub up: bool,
    /// The epoch of the table it carries; `None` without one, or while it doesn't answer.
    pub epoch: Option<u64>,
    /// By release; at most eight, those heard of last.
    pub releases: BTreeMap<Digest, Total>,
}

/// Adds up what the proxy counts, for some services.
#[derive(Debug)]
pub struct Meter {
    router: Builtin,
    services: BTreeMap<ServiceName, (u64, Metered)>,
}

impl Meter {
    /// Begins to count at `now`; `folder` is the proxy's.
    pub fn new(folder: &Path, services: impl IntoIterator<Item = ServiceName>, now: Timestamp) -> Self {
        let services = services.into_iter().map(|name| (name, (second_of(now), Metered::default())));
        Self { router: Builtin::new(folder), services: services.collect() }
    }

    /// Asks the proxy. Counts stay while it doesn't answer; what goes on now is nothing then.
    pub fn read(&mut self, now: Timestamp) -> BTreeMap<ServiceName, Metered> {
        let now = second_of(now);
        for (name, (taken, metered)) in &mut self.services {
            metered.forget_present();
            let Ok(carries) = self.router.carries(name) else { continue };
            (metered.up, metered.epoch) = (true, carries.epoch);
            for load in carries.loads {
                let total = metered.releases.entry(load.release).or_default();
                (total.in_flight, total.tunnels) = (load.in_flight, load.tunnels.unwrap_or(0));
                total.people = load.people.unwrap_or(0);
                if total.in_flight + total.tunnels + total.people > 0 {
                    total.heard = now;
                }
            }
            for slice in self.router.slices(name, *taken).unwrap_or_default() {
                if place(taken, slice.second, now) != Place::Taken {
                    metered.take(&slice);
                }
            }
            metered.bound();
        }
        self.services.iter().map(|(name, (_, metered))| (name.clone(), metered.clone())).collect()
    }
}

impl Metered {
    fn forget_present(&mut self) {
        (self.up, self.epoch) = (false, None);
        for total in self.releases.values_mut() {
            (total.in_flight, total.tunnels, total.people) = (0, 0, 0);
        }
    }

    fn take(&mut self, slice: &Slice) {
        for (release, counts) in &slice.counts {
            let total = self.releases.entry(*release).or_default();
            total.requests += counts.requests();
            total.failed += counts.failed();
            total.retried += counts.retried;
            total.saved += counts.saved;
            total.degraded += counts.degraded;
            total.heard = total.heard.max(slice.second);
        }
    }

    /// Forgets the releases that were not heard of for longest.
    fn bound(&mut self) {
        while self.releases.len() > RELEASES_MAX {
            let oldest = self.releases.iter().min_by_key(|(_, total)| total.heard).map(|(release, _)| *release);
            let Some(oldest) = oldest else { return };
            self.releases.remove(&oldest);
        }
    }
}

fn second_of(now: Timestamp) -> u64 {
    u64::try_from(now.0 / 1_000).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lastgood_domain::traffic::Counts;

    #[test]
    fn a_hundred_releases_leave_the_eight_that_were_heard_of_last() {
        let mut metered = Metered::default();
        for second in 0..100_u64 {
            let counts = Counts { status: [0, 3, 0, 0, 1], retried: 1, saved: 1, aborted: 1, ..Counts::default() };
            let release = Digest::of(&second.to_be_bytes());
            metered.take(&Slice { second, counts: vec![(release, counts)] });
            metered.bound();
        }
        let newest = Digest::of(&99_u64.to_be_bytes());
        assert_eq!((metered.releases.len(), metered.releases.contains_key(&newest)), (8, true));
        let total = metered.releases[&newest];
        assert_eq!([total.requests, total.failed, total.retried, total.saved], [5, 2, 1, 1]);
    }
}
