//! A running proxy's clock: deadlines, and what is counted in each second.

use super::{LOOK, Proxy};
use crate::{
    carry::{Stopping, now_ms, site::locked, unix_ms},
    observe::{EARLIER, Turn, turn},
};
use lastgood_domain::{terms::ServiceName, traffic::Slice};
use std::{
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

/// How many looks lie between two questions to the proxy before for what it has counted.
const INHERIT_TICKS: u64 = 2;
/// How long a proxy that has ended its work waits for its successor to take its last counts.
const LAST_COUNTS: Duration = Duration::from_millis(600);
/// How long a connection may wait for its next request when the proxy stops and nobody takes over.
const STOP_IDLE_MS: u64 = 500;
/// How often certificates are looked at for a change, in seconds.
const KEYS_SECONDS: u64 = 2;

impl Proxy {
    /// Gives the last second of which the proxy before counts nothing more either; `None` if there is none, or if it
    /// hangs or goes by another time.
    pub(super) fn finished_before(&self, service: &ServiceName, finished: u64) -> Option<u64> {
        let before = locked(&self.before).as_ref()?.finished(service)?;
        (finished.saturating_sub(before) <= EARLIER).then_some(before)
    }

    /// Looks at deadlines ten times a second, and finishes a slice each second; never ends.
    pub(super) fn clock(&self) {
        let mut second = unix_ms() / 1_000;
        let mut ticks = 0_u64;
        loop {
            thread::sleep(LOOK);
            let (now, unix) = (now_ms(), unix_ms());
            let stopping = self.stopping.load(Ordering::Relaxed).then(|| {
                let until = self.tunnels_until.load(Ordering::Relaxed);
                // Over a take-over none is closed sooner than without: a request may be on its way already.
                let is_end = until != 0;
                Stopping { idle_ms: is_end.then_some(STOP_IDLE_MS), tunnels: is_end && until <= now }
            });
            for lane in &self.lanes {
                lane.alarms.look(now, unix, stopping);
            }
            ticks += 1;
            if ticks.is_multiple_of(INHERIT_TICKS) {
                self.inherit();
            }
            let turn = turn(second, unix / 1_000);
            if turn == Turn::Back {
                // What was counted of the second goes on into the one that the clock shows.
                second = unix / 1_000;
                self.set_back(second);
            }
            if turn == Turn::Over {
                self.finish_second(second);
                second = unix / 1_000;
                self.lanes.iter().flat_map(|lane| &lane.sites).for_each(|site| site.tidy(now));
                if second.is_multiple_of(KEYS_SECONDS) {
                    let mut troubles = Vec::new();
                    let keys = self.lanes.first().map(|lane| &lane.keys[..]).unwrap_or_default();
                    keys.iter().flatten().for_each(|keys| keys.read_changed(&mut troubles));
                    troubles.into_iter().for_each(|trouble| self.trouble(trouble));
                }
            }
        }
    }

    /// Begins to count anew with a second that the clock was set back to.
    pub(super) fn set_back(&self, second: u64) {
        self.doors.iter().for_each(|door| locked(&door.ring).set_back(second));
        // Last: until now nobody asks as from before.
        self.finished.store(second.saturating_sub(1), Ordering::Release);
    }

    pub(super) fn finish_second(&self, second: u64) {
        for (at, door) in self.doors.iter().enumerate() {
            let mut slice = Slice { second, counts: Vec::new() };
            for lane in &self.lanes {
                for (release, ledger) in lane.sites[at].ledgers() {
                    let counts = ledger.take();
                    if counts != Default::default() {
                        slice.merge(&Slice { second, counts: vec![(release, counts)] });
                    }
                }
            }
            locked(&door.ring).push(slice);
        }
        // A process that ends finishes its second before the clock does, which then comes late.
        self.finished.fetch_max(second, Ordering::AcqRel);
    }

    /// Gives the finished seconds of a service, and the last of them; `None` if it is not served here.
    pub(crate) fn slices(&self, service: &ServiceName, after: u64) -> Option<(Vec<Slice>, u64)> {
        let door = self.doors.iter().find(|door| door.service == *service)?;
        self.inherit();
        self.were_read.fetch_add(1, Ordering::Relaxed);
        // What the one before still counts of a second must not come after it was given out.
        let own = self.finished.load(Ordering::Acquire);
        let before = self.finished_before(service, own);
        let ring = locked(&door.ring);
        // Read anew: the clock may have been set back.
        let finished = self.finished.load(Ordering::Acquire).min(before.unwrap_or(own));
        Some((ring.after(after, finished), finished))
    }

    /// Finishes the second that has begun, and lets a successor take it.
    pub(super) fn leave_counts(&self) {
        // Not one that was given out already, should the clock be behind it.
        let second = (unix_ms() / 1_000).max(self.finished.load(Ordering::Acquire) + 1);
        self.finish_second(second);
        if !self.is_handing_over.load(Ordering::Acquire) {
            return;
        }
        // Each service is asked for; after as many questions as there are services all of them were.
        let enough = self.were_read.load(Ordering::Relaxed) + self.doors.len() as u64;
        let until = Instant::now() + LAST_COUNTS;
        while self.were_read.load(Ordering::Relaxed) < enough && Instant::now() < until {
            thread::sleep(LOOK / 10);
        }
        // The last answer is being written.
        thread::sleep(LOOK / 10);
    }
}
