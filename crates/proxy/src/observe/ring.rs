//! The finished seconds of one service: three minutes with histograms, an hour without.

use lastgood_domain::traffic::{Latency, Slice};
use std::collections::VecDeque;

/// Seconds kept with their histograms.
const WITH_LATENCY: u64 = 180;
/// Seconds kept in all.
const KEPT: usize = 3_600;

/// Finished seconds, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    slices: VecDeque<Slice>,
}

impl Ring {
    /// Adds a finished second; one that is not later than the last is added to the last.
    pub(crate) fn push(&mut self, slice: Slice) {
        match self.slices.back_mut() {
            Some(last) if last.second >= slice.second => last.merge(&slice),
            _ => self.slices.push_back(slice),
        }
        if self.slices.len() > KEPT {
            self.slices.pop_front();
        }
        let newest = self.slices.back().map_or(0, |last| last.second);
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

    /// Gives the seconds later than `after`.
    pub(crate) fn after(&self, after: u64) -> Vec<Slice> {
        let later = self.slices.iter().rev().take_while(|slice| slice.second > after);
        let mut later: Vec<Slice> = later.cloned().collect();
        later.reverse();
        later
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
        let all = ring.after(0);
        assert_eq!((all.len(), all[0].second), (3_600, 401));
        let with = all.iter().filter(|slice| slice.counts[0].1.latency.count() == 1).count();
        assert_eq!(with, 180);
        assert!(all.iter().all(|slice| slice.counts[0].1.requests() == 1));
        assert_eq!(ring.after(3_998).iter().map(|slice| slice.second).collect::<Vec<_>>(), [3_999, 4_000]);
        // The clock was set back: nothing is lost.
        ring.push(slice(3_000));
        assert_eq!(ring.after(3_999)[0].counts[0].1.requests(), 2);
    }
}
