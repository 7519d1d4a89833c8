//! What was seen, counted.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, HashSet};

/// What the clients saw.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Messages that clients wanted to send.
    pub sent: u64,
    /// Of those, stored ones by the service's own word.
    pub acknowledged: u64,
    /// Deliveries to all clients, repetitions left out.
    pub delivered: u64,
    /// Acknowledged messages that did not reach a client of their room, for each client.
    pub missing: u64,
    /// Deliveries of a message that the client had already.
    pub doubled: u64,
    /// Deliveries with a number that is not above the one before.
    pub out_of_order: u64,
    /// Statuses of 500 and above, refusals, and connections that failed under a request, before any repetition.
    pub failed_requests: u64,
    /// What failed, by its words.
    pub failures: BTreeMap<String, u64>,
    /// Sockets that ended and were opened again.
    pub reconnects: u64,
    /// Of those, without a Close.
    pub cuts: u64,
    /// Of those, with a Close, by its code.
    pub closes: BTreeMap<String, u64>,
    /// Answers by the release that gave them.
    pub releases: BTreeMap<String, u64>,
    /// From the first try of a message to its acknowledgement, in milliseconds.
    pub acknowledge_ms: Percentiles,
    /// From a message's making to each delivery, in milliseconds.
    pub deliver_ms: Percentiles,
    /// Everything sent was acknowledged, and reached every client of its room once and in order.
    pub holds: bool,
}

/// Three percentiles of a time, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Half of all take at most this.
    pub p50: f64,
    /// 95 of 100 do.
    pub p95: f64,
    /// 99 of 100 do.
    pub p99: f64,
}

impl Percentiles {
    fn of(micros: &mut [u32]) -> Self {
        micros.sort_unstable();
        let at = |share: usize| {
            let place = (micros.len() * share).div_ceil(100).saturating_sub(1);
            micros.get(place).map_or(0.0, |micros| f64::from(*micros) / 1_000.0)
        };
        Self { p50: at(50), p95: at(95), p99: at(99) }
    }
}

/// What one client heard in its room.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) room: String,
    ids: HashSet<String>,
    /// The last number.
    pub(super) last: i64,
    doubled: u64,
    out_of_order: u64,
}

impl Heard {
    /// Begins to listen to a room.
    pub(super) fn of(room: &str) -> Self {
        Self { room: room.to_owned(), ..Self::default() }
    }

    /// Counts a delivery; tells whether it is new.
    pub(super) fn note(&mut self, seq: i64, id: String) -> bool {
        let is_new = self.ids.insert(id);
        if !is_new {
            self.doubled += 1;
        } else if seq <= self.last {
            self.out_of_order += 1;
        }
        self.last = self.last.max(seq);
        is_new
    }
}

/// What all clients count together.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) sent: u64,
    /// Acknowledged messages of each room, by id, with their numbers.
    acknowledged: HashMap<String, HashMap<String, i64>>,
    pub(super) failures: BTreeMap<String, u64>,
    pub(super) cuts: u64,
    pub(super) closes: BTreeMap<String, u64>,
    pub(super) releases: BTreeMap<String, u64>,
    pub(super) acknowledge_micros: Vec<u32>,
    pub(super) deliver_micros: Vec<u32>,
}

impl Tally {
    pub(super) fn fail(&mut self, words: &str) {
        *self.failures.entry(words.to_owned()).or_default() += 1;
    }

    pub(super) fn acknowledge(&mut self, room: &str, id: &str, seq: i64) {
        self.acknowledged.entry(room.to_owned()).or_default().insert(id.to_owned(), seq);
    }

    /// Gives the highest number that was acknowledged in a room.
    pub(super) fn highest(&self, room: &str) -> i64 {
        self.acknowledged.get(room).and_then(|ids| ids.values().max()).copied().unwrap_or(0)
    }

    /// Sums up; a client whose task panicked has heard nothing.
    pub(super) fn report(&mut self, heard: &[Option<Heard>]) -> Report {
        let mut report = Report {
            sent: self.sent,
            acknowledged: self.acknowledged.values().map(|ids| ids.len() as u64).sum(),
            failed_requests: self.failures.values().sum(),
            failures: self.failures.clone(),
            reconnects: self.cuts + self.closes.values().sum::<u64>(),
            cuts: self.cuts,
            closes: self.closes.clone(),
            releases: self.releases.clone(),
            acknowledge_ms: Percentiles::of(&mut self.acknowledge_micros),
            deliver_ms: Percentiles::of(&mut self.deliver_micros),
            ..Report::default()
        };
        for heard in heard.iter().flatten() {
            report.delivered += heard.ids.len() as u64;
            report.doubled += heard.doubled;
            report.out_of_order += heard.out_of_order;
            let owed = self.acknowledged.get(&heard.room).into_iter().flat_map(HashMap::keys);
            report.missing += owed.filter(|id| !heard.ids.contains(*id)).count() as u64;
        }
        report.holds = heard.iter().all(Option::is_some)
            && report.sent == report.acknowledged
            && (report.missing, report.doubled, report.out_of_order) == (0, 0, 0);
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_lost_doubled_or_late_breaks_conservation_and_is_counted_as_what_it_is() {
        let told = |deliveries: &[(i64, &str)]| {
            let mut tally = Tally { sent: 3, ..Tally::default() };
            for (id, seq) in [("a", 1), ("b", 2), ("c", 3)] {
                tally.acknowledge("room", id, seq);
            }
            let mut heard = Heard { room: "room".into(), ..Heard::default() };
            for (seq, id) in deliveries {
                heard.note(*seq, (*id).to_owned());
            }
            let report = tally.report(&[Some(heard)]);
            (report.missing, report.doubled, report.out_of_order, report.holds)
        };
        assert_eq!(told(&[(1, "a"), (2, "b"), (3, "c")]), (0, 0, 0, true));
        assert_eq!(told(&[(1, "a"), (3, "c")]), (1, 0, 0, false));
        assert_eq!(told(&[(1, "a"), (2, "b"), (2, "b"), (3, "c")]), (0, 1, 0, false));
        assert_eq!(told(&[(1, "a"), (3, "c"), (2, "b")]), (0, 0, 1, false));
        // Stored under two numbers: twice for the one who reads it.
        assert_eq!(told(&[(1, "a"), (2, "b"), (3, "c"), (4, "c")]), (0, 1, 0, false));
    }

    #[test]
    fn what_was_sent_and_never_acknowledged_breaks_conservation() {
        let mut tally = Tally { sent: 1, ..Tally::default() };
        assert!(!tally.report(&[Some(Heard::default())]).holds);
        assert!(!Tally::default().report(&[None]).holds, "a client that broke has seen nothing");
    }

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let mut micros: Vec<u32> = (1..=100).map(|ms| ms * 1_000).rev().collect();
        assert_eq!(Percentiles::of(&mut micros), Percentiles { p50: 50.0, p95: 95.0, p99: 99.0 });
        assert_eq!(Percentiles::of(&mut []), Percentiles::default());
    }
}
