//! The finished seconds of one service: three minutes with histograms, an hour without.

use lastgood_domain::traffic::{Latency, Slice};
use std::collections::VecDeque;

/// Seconds kept with their histograms.
const WITH_LATENCY: u64 = 180;
/// Seconds kept in all.
const KEPT: usize = 3_600;

/// Seconds that the clock may go back without a new beginning: what is counted until it is where it was is one long
/// second. By two more than [`EARLIER`], so that who asks has that long to find the new beginning.
const BACK: u64 = EARLIER + 2;
/// Who asks for seconds later than the newest by more than this has its place from before the clock was set back.
pub(crate) const EARLIER: u64 = 10;
/// Seconds after a new beginning for which what it has left is kept.
const LEFT_KEPT: u64 = 60;

/// What the clock shows against the second that is being counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It is not over.
    Same,
    /// It is over.
    Over,
    /// The clock was set back: another second is counted instead.
    Back,
}

/// Compares what the clock shows with the second that is being counted.
pub(crate) const fn turn(counted: u64, shown: u64) -> Turn {
    if shown > counted {
        Turn::Over
    } else if counted > shown + BACK {
        Turn::Back
    } else {
        Turn::Same
    }
}

/// Finished seconds, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    slices: VecDeque<Slice>,
    /// Since when seconds are counted as the clock shows them now.
    began: u64,
    /// Seconds from before the clock was set back that it will show again: for who asks from there.
    left: Vec<Slice>,
}

impl Ring {
    /// Adds a finished second; one that is not later than the last is put in its place.
    pub(crate) fn push(&mut self, slice: Slice) {
        match self.slices.back() {
            Some(last) if last.second >= slice.second => self.merge(slice),
            _ => self.slices.push_back(slice),
        }
        if self.slices.len() > KEPT {
            self.slices.pop_front();
        }
        let newest = self.slices.back().map_or(0, |last| last.second);
        if newest > self.began + LEFT_KEPT {
            self.left = Vec::new();
        }
        // One passes the mark each second; all do when the clock is set forward.
        let passed = self.slices.iter_mut().rev().skip_while(|slice| slice.second + WITH_LATENCY > newest);
        for slice in passed.take(WITH_LATENCY as usize) {
            slice.counts.iter_mut().for_each(|(_, counts)| counts.latency = Latency::default());
        }
    }

    /// Adds what another process of the same router counted.
    pub(crate) fn merge(&mut self, slice: Slice) {
        match self.slices.binary_search_by_key(&slice.second, |mine| mine.second) {
            Ok(at) => self.slices[at].merge(&slice),
            Err(at) => self.slices.insert(at, slice),
        }
    }

    /// Begins anew with `second`, because the clock was set back to it.
    pub(crate) fn set_back(&mut self, second: u64) {
        let later = self.slices.partition_point(|slice| slice.second < second);
        self.left = self.slices.drain(later..).collect();
        self.began = second;
    }

    /// Gives the seconds later than `after` up to `finished`, in the order in which they were counted.
    ///
    /// Who has its place from before the clock was set back gets the rest of that time, then all of the new.
    pub(crate) fn after(&self, after: u64, finished: u64) -> Vec<Slice> {
        let is_earlier = after > finished.saturating_add(EARLIER);
        let from = if is_earlier { self.began } else { after.saturating_add(1) };
        let left = self.left.iter().filter(|slice| is_earlier && slice.second > after);
        let mine = self.slices.iter().rev().take_while(|slice| slice.second >= from);
        let mut mine: Vec<Slice> = mine.filter(|slice| slice.second <= finished).cloned().collect();
        mine.reverse();
        left.cloned().chain(mine).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lastgood_domain::{terms::Digest, traffic::Counts};

    fn slice(second: u64) -> Slice {
        let mut counts = Counts { status: [0, 1, 0, 0, 0], ..Counts::default() };
        counts.latency.add(1_000);
        Slice { second, counts: vec![(Digest::of(b"a"), counts)] }
    }

    #[test]
    fn histograms_are_kept_three_minutes_and_counts_an_hour() {
        let mut ring = Ring::default();
        (1..=4_000).for_each(|second| ring.push(slice(second)));
        let all = ring.after(0, 4_000);
        assert_eq!((all.len(), all[0].second), (3_600, 401));
        let with = all.iter().filter(|slice| slice.counts[0].1.latency.count() == 1).count();
        assert_eq!(with, 180);
        assert!(all.iter().all(|slice| slice.counts[0].1.requests() == 1));
        assert_eq!(ring.after(3_998, 4_000).iter().map(|slice| slice.second).collect::<Vec<_>>(), [3_999, 4_000]);
        assert_eq!(ring.after(3_997, 3_999).iter().map(|slice| slice.second).collect::<Vec<_>>(), [3_998, 3_999]);
    }

    /// A proxy's clock that is looked at ten times a second, one request each time, and a guard that asks twice as often;
    /// gives how many requests the guard has counted, and of how many.
    fn counted(set_back: u64) -> (u64, u64) {
        const WAIT: u64 = 90;
        let (mut ring, mut second, mut finished) = (Ring::default(), 1_000_u64, 999_u64);
        let (mut open, mut pushed, mut total, mut taken) = (0_u64, 0_u64, 0_u64, 999_u64);
        for tick in 0..10 * (WAIT + set_back) {
            let shown = 1_000 + tick / 10 - if tick >= 155 { set_back } else { 0 };
            match turn(second, shown) {
                Turn::Same => {}
                Turn::Over => {
                    let mut slice = slice(second);
                    slice.counts[0].1.status[1] = std::mem::take(&mut open);
                    ring.push(slice);
                    finished = second;
                    second = shown;
                }
                Turn::Back => {
                    ring.set_back(shown);
                    finished = shown - 1;
                    second = shown;
                }
            }
            (open, pushed) = (open + 1, pushed + 1);
            for _ in 0..2 {
                for slice in ring.after(taken, finished) {
                    total += slice.counts[0].1.requests();
                    taken = slice.second;
                }
            }
        }
        (total + open, pushed)
    }

    #[test]
    fn a_guard_counts_each_request_once_however_far_the_clock_is_set_back() {
        for set_back in [0, 1, 5, 9, 10, 11, 12, 13, 14, 15, 60, 600] {
            let (total, pushed) = counted(set_back);
            assert_eq!(total, pushed, "set back by {set_back} s");
        }
    }

    #[test]
    fn a_second_that_comes_late_is_put_in_its_place() {
        let mut ring = Ring::default();
        [1, 2, 4, 3, 4].into_iter().for_each(|second| ring.push(slice(second)));
        let all: Vec<_> = ring.after(0, 4).iter().map(|slice| (slice.second, slice.counts[0].1.requests())).collect();
        assert_eq!(all, [(1, 1), (2, 1), (3, 1), (4, 2)]);
    }
}
