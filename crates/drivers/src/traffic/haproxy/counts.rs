//! HAProxy's counters, which only grow while a process lives, made into what each second brought.
//!
//! A reading's difference to the one before is the slice of the second in which it was made. The book is kept in a file,
//! so that a driver that was killed goes on where it was and gives again what nobody has taken.

use super::runtime::{Process, Seen};
use lastgood_domain::{
    terms::Digest,
    traffic::{Counts, Slice},
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// Slices kept for one who does not take them: ten minutes, as many as a wave's contract looks back on at most.
const SLICES_MAX: usize = 600;
/// Seconds that the clock must have gone back before counting begins again.
const CLOCK_BACK: u64 = 10;
/// Older processes that are remembered; each reload can leave one.
const OLDER_MAX: usize = 16;

/// Counters of one server, since its process began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Counters {
    /// `hrsp_1xx` to `hrsp_5xx`: answers of the server; those that HAProxy gives by itself are not in it.
    pub(super) status: [u64; 5],
    /// `eresp`: no whole answer. Those that broke off after their head are in `status` and in `cut` too.
    pub(super) failed_answers: u64,
    /// `econ`: no connection, and nobody else was tried.
    pub(super) failed_connections: u64,
    /// `srv_abrt`: broken off by the server after the answer's head, a body or a tunnel.
    pub(super) cut: u64,
    /// `wredis`: no connection, and another server was tried.
    pub(super) redispatched: u64,
}

impl Counters {
    const fn all(&self) -> [u64; 9] {
        let [a, b, c, d, e] = self.status;
        [a, b, c, d, e, self.failed_answers, self.failed_connections, self.cut, self.redispatched]
    }

    /// Gives what came since `before`; if any went back they were set to none in between, and all is since then.
    fn since(&self, before: &Self) -> Counts {
        let back = self.all().iter().zip(before.all()).any(|(now, before)| *now < before);
        let none = Self::default();
        let before = if back { &none } else { before };
        let mut status = [0, 1, 2, 3, 4].map(|class| self.status[class] - before.status[class]);
        // One that broke off counts once, as aborted. Most often its head said 200.
        let cut = self.cut - before.cut;
        status[1] = status[1].saturating_sub(cut);
        let saved = self.redispatched - before.redispatched;
        let lost = self.failed_answers - before.failed_answers + self.failed_connections - before.failed_connections;
        Counts { status, aborted: lost + saved, retried: saved, saved, opened: status[0], ..Counts::default() }
    }
}

/// What was read and not yet taken.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Book {
    process: Option<Process>,
    readings: BTreeMap<String, Counters>,
    /// Read in passing, by a `route`: belongs to the next slice.
    pending: Vec<(Digest, Counts)>,
    slices: VecDeque<Slice>,
    /// Second of the last slice.
    second: u64,
    /// Processes that answered before this one and may still finish what they have.
    older: Vec<u32>,
}

impl Book {
    /// Takes in a reading; `releases` tells whose each server is, by the table it worked under.
    ///
    /// The first one only begins the count. Where a new process answers, all of its counts are new; what the older one
    /// counted after the last reading is not known.
    pub(super) fn take_in(&mut self, seen: &Seen, releases: &BTreeMap<String, Digest>) {
        let first = self.process.is_none();
        if let Some(process) = self.process.filter(|process| *process != seen.process) {
            self.readings.clear();
            self.older.push(process.pid);
            let surplus = self.older.len().saturating_sub(OLDER_MAX);
            self.older.drain(..surplus);
        }
        self.process = Some(seen.process);
        for (name, server) in &seen.servers {
            let before = self.readings.insert(name.clone(), server.counters).unwrap_or_default();
            if let Some(release) = releases.get(name).filter(|_| !first) {
                add(&mut self.pending, *release, &server.counters.since(&before));
            }
        }
    }

    /// Tells whether a reading made in `second` would have a slice of its own: not before the clock is again where it was,
    /// unless it was set far back.
    pub(super) const fn wants(&self, second: u64) -> bool {
        second > self.second || self.is_set_back(second)
    }

    const fn is_set_back(&self, second: u64) -> bool {
        self.second > second.saturating_add(CLOCK_BACK)
    }

    /// Makes what was taken in the slice of `second`, and forgets what is kept elsewhere: all up to `after`.
    pub(super) fn close(&mut self, second: u64, after: u64) {
        if self.is_set_back(second) {
            // What nobody has taken goes on in the time as it is now: nobody will ask for later seconds.
            for slice in std::mem::take(&mut self.slices).iter().filter(|slice| slice.second > after) {
                slice.counts.iter().for_each(|(release, counts)| add(&mut self.pending, *release, counts));
            }
        }
        self.second = second;
        if !self.is_earlier(after) {
            self.slices.retain(|slice| slice.second > after);
        }
        self.slices.push_back(Slice { second, counts: std::mem::take(&mut self.pending) });
        let surplus = self.slices.len().saturating_sub(SLICES_MAX);
        self.slices.drain(..surplus);
    }

    /// Tells whether whoever asks so has its place from before the clock was set back.
    const fn is_earlier(&self, after: u64) -> bool {
        after > self.second.saturating_add(CLOCK_BACK)
    }

    /// Gives the slices after a second; all, where that is of before the clock was set back.
    pub(super) fn after(&self, after: u64) -> Vec<Slice> {
        let all = self.is_earlier(after);
        self.slices.iter().filter(|slice| all || slice.second > after).cloned().collect()
    }

    /// Gives an older process that `lives` says is there, and forgets the others.
    pub(super) fn older(&mut self, lives: impl Fn(u32) -> bool) -> Option<u32> {
        let now = self.process.map(|process| process.pid);
        self.older.retain(|pid| Some(*pid) != now && lives(*pid));
        self.older.first().copied()
    }
}

fn add(to: &mut Vec<(Digest, Counts)>, release: Digest, counts: &Counts) {
    match to.iter_mut().find(|(digest, _)| *digest == release) {
        Some((_, sum)) => sum.merge(counts),
        None if *counts == Counts::default() => {}
        None => to.push((release, counts.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::haproxy::runtime::Server;

    fn seen(pid: u32, ok: u64, aborted: u64) -> Seen {
        let counters = Counters { status: [0, ok, 0, 0, 0], failed_connections: aborted, ..Counters::default() };
        let mut seen = Seen { process: Process { pid, start: 1 }, ..Seen::default() };
        seen.servers.insert("a".into(), Server { counters, ..Server::default() });
        seen
    }

    fn release() -> Digest {
        Digest::of(b"1.0.0")
    }

    fn whose() -> BTreeMap<String, Digest> {
        BTreeMap::from([("a".into(), release())])
    }

    /// Good answers and aborted requests of each slice after a second.
    fn told(book: &Book, after: u64) -> Vec<(u64, u64, u64)> {
        let counts = |slice: &Slice| slice.of(&release()).cloned().unwrap_or_default();
        book.after(after).iter().map(|s| (s.second, counts(s).status[1], counts(s).aborted)).collect()
    }

    #[test]
    fn counters_that_go_back_and_processes_that_are_replaced_lose_and_double_nothing() {
        let mut book = Book::default();
        for (second, reading) in [
            (10, seen(1, 500, 9)),
            (11, seen(1, 520, 10)),
            (12, seen(1, 7, 0)),
            (13, seen(2, 8, 1)),
            (14, seen(2, 8, 1)),
        ] {
            book.take_in(&reading, &whose());
            book.close(second, 0);
        }
        assert_eq!(told(&book, 0), [(10, 0, 0), (11, 20, 1), (12, 7, 0), (13, 8, 1), (14, 0, 0)]);
        assert_eq!(book.older(|_| true), Some(1));
        assert_eq!(book.older(|_| false), None);
    }

    #[test]
    fn what_was_not_taken_is_given_again_also_after_a_kill_and_what_was_taken_is_forgotten() {
        let mut book = Book::default();
        book.take_in(&seen(1, 0, 0), &whose());
        book.close(10, 0);
        book.take_in(&seen(1, 5, 0), &whose());
        book.close(11, 10);
        assert_eq!(told(&book, 10), [(11, 5, 0)]);
        let mut book: Book = serde_json::from_slice(&serde_json::to_vec(&book).unwrap()).unwrap();
        assert_eq!(told(&book, 10), [(11, 5, 0)]);
        assert_eq!(told(&book, 0), [(11, 5, 0)]);
        book.take_in(&seen(1, 6, 0), &whose());
        book.close(12, 11);
        assert_eq!(told(&book, 0), [(12, 1, 0)]);
    }

    /// Asked 20 times a second, with one answer each time; the clock is set back after three seconds and a half.
    fn counted(set_back: u64) -> (Vec<u64>, u64, u64) {
        let (mut book, mut after, mut total, mut ok) = (Book::default(), 0, 0, 0);
        let mut seconds = Vec::new();
        for call in 0..20 * (12 + set_back.min(10)) {
            let second = 1_000 + call / 20 - if call >= 70 { set_back } else { 0 };
            if book.wants(second) {
                book.take_in(&seen(1, ok, 0), &whose());
                book.close(second, after);
            }
            for slice in book.after(after) {
                seconds.push(slice.second);
                total += slice.of(&release()).map_or(0, |counts| counts.status[1]);
                after = slice.second;
            }
            ok += 1;
        }
        // What came after the last reading is not known yet.
        book.take_in(&seen(1, ok, 0), &whose());
        let open = book.pending.iter().map(|(_, counts)| counts.status[1]).sum::<u64>();
        (seconds, total + open, ok)
    }

    #[test]
    fn a_clock_that_goes_back_neither_stops_the_count_nor_makes_twenty_slices_a_second() {
        for set_back in [0, 1, 3, 10, 11, 60, 600] {
            let (seconds, total, ok) = counted(set_back);
            assert_eq!(total, ok, "set back by {set_back} s");
            // The second in which it was set back is shown in part twice.
            assert!(seconds.len() as u64 <= 13 + set_back.min(10), "set back by {set_back} s: {seconds:?}");
            let back = seconds.windows(2).filter(|two| two[1] <= two[0]).count();
            assert_eq!(back, usize::from(set_back > 10), "set back by {set_back} s: {seconds:?}");
        }
    }

    #[test]
    fn what_nobody_has_taken_before_the_clock_was_set_back_is_given_after_it() {
        let mut book = Book::default();
        for (second, ok, after) in [(100, 0, 0), (101, 3, 100), (40, 5, 100)] {
            book.take_in(&seen(1, ok, 0), &whose());
            book.close(second, after);
        }
        assert_eq!(told(&book, 101), [(40, 5, 0)]);
        book.take_in(&seen(1, 6, 0), &whose());
        book.close(41, 101);
        assert_eq!(told(&book, 101), [(40, 5, 0), (41, 1, 0)]);
        assert_eq!(told(&book, 40), [(41, 1, 0)]);
    }
}
