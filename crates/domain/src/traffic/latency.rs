//! How long requests took, in buckets of less than 3.2 % width: 32 for each doubling.

use alloc::vec::Vec;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Buckets for each doubling of time.
const PER_OCTAVE: u64 = 32;
/// The first bucket that no time falls into: 2^31 µs is 36 minutes, and what takes longer counts as that.
const TOP: u64 = (1 << 31) - 1;

/// A histogram of times in microseconds; merging is addition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Latency {
    /// Counts by bucket; shorter than [`Latency::BUCKETS`] when the last ones are empty.
    counts: Vec<u64>,
}

impl Latency {
    /// Number of buckets.
    pub const BUCKETS: usize = 27 * PER_OCTAVE as usize;

    /// Gives the bucket of a time in microseconds.
    pub const fn bucket(micros: u64) -> usize {
        let micros = if micros > TOP { TOP } else { micros };
        if micros < PER_OCTAVE {
            return micros as usize;
        }
        // The five bits after the leading one choose the bucket within the octave.
        let octave = micros.ilog2() as u64 - 5;
        ((octave + 1) * PER_OCTAVE + (micros >> octave) - PER_OCTAVE) as usize
    }

    /// Gives the smallest and the largest time of a bucket, in microseconds.
    pub const fn range(bucket: usize) -> (u64, u64) {
        let bucket = bucket as u64;
        if bucket < PER_OCTAVE {
            return (bucket, bucket);
        }
        let octave = bucket / PER_OCTAVE - 1;
        let low = (bucket % PER_OCTAVE + PER_OCTAVE) << octave;
        (low, low + (1 << octave) - 1)
    }

    /// Makes one of counts by bucket; counts beyond the last bucket are left out.
    pub fn of_counts(mut counts: Vec<u64>) -> Self {
        counts.truncate(Self::BUCKETS);
        let used = counts.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
        counts.truncate(used);
        Self { counts }
    }

    /// Counts one time.
    pub fn add(&mut self, micros: u64) {
        let bucket = Self::bucket(micros);
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
    }

    /// Adds all that another one counted.
    pub fn merge(&mut self, other: &Self) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine = mine.saturating_add(*theirs);
        }
    }

    /// Gives how many times were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Gives how many were longer than `micros`, to the bucket: what shares its bucket is not longer.
    pub fn longer_than(&self, micros: u64) -> u64 {
        self.counts.iter().skip(Self::bucket(micros) + 1).sum()
    }

    /// Gives the time that `percent` of 100 do not exceed, as the middle of its bucket; `None` if nothing was counted.
    pub fn percentile(&self, percent: u8) -> Option<u64> {
        let all = self.count();
        let rank = (u128::from(all) * u128::from(percent.min(100))).div_ceil(100).max(1);
        let mut seen = 0_u128;
        let bucket = self.counts.iter().position(|count| {
            seen += u128::from(*count);
            seen >= rank
        })?;
        let (low, high) = Self::range(bucket);
        Some(low + (high - low) / 2)
    }
}

impl Serialize for Latency {
    /// Writes pairs of bucket and count, for those that counted something.
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.counts.iter().enumerate().filter(|(_, count)| **count > 0))
    }
}

impl<'de> Deserialize<'de> for Latency {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let pairs: Vec<(usize, u64)> = Vec::deserialize(from)?;
        let mut counts = Vec::new();
        for (bucket, count) in pairs {
            if bucket >= Self::BUCKETS {
                return Err(serde::de::Error::custom("there is no such bucket"));
            }
            if counts.len() <= bucket {
                counts.resize(bucket + 1, 0);
            }
            counts[bucket] = count;
        }
        Ok(Self::of_counts(counts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_lies_in_its_bucket_and_buckets_follow_each_other() {
        let mut next = 0;
        for bucket in 0..Latency::BUCKETS {
            let (low, high) = Latency::range(bucket);
            assert_eq!(low, next);
            assert_eq!((Latency::bucket(low), Latency::bucket(high)), (bucket, bucket));
            assert!((high - low) * PER_OCTAVE <= low, "a bucket is wider than a 32nd of its time");
            next = high + 1;
        }
        assert_eq!(next, TOP + 1);
        assert_eq!(Latency::bucket(u64::MAX), Latency::BUCKETS - 1);
    }

    #[test]
    fn a_percentile_is_off_by_less_than_half_a_bucket() {
        let mut latency = Latency::default();
        (1..=100_000).for_each(|micros| latency.add(micros));
        for (percent, exact) in [(50, 50_000_u64), (95, 95_000), (99, 99_000), (100, 100_000)] {
            let said = latency.percentile(percent).unwrap();
            assert!(said.abs_diff(exact) * 60 <= exact, "p{percent} is {said}, not {exact}");
        }
        assert_eq!(Latency::default().percentile(95), None);
    }

    #[test]
    fn it_survives_writing_and_reading_and_refuses_a_bucket_that_is_none() {
        let mut latency = Latency::default();
        [3, 3, 1_500_000, u64::MAX].into_iter().for_each(|micros| latency.add(micros));
        let text = serde_json::to_string(&latency).unwrap();
        assert_eq!(serde_json::from_str::<Latency>(&text).unwrap(), latency);
        assert!(serde_json::from_str::<Latency>("[[864,1]]").is_err());
        assert_eq!(latency.longer_than(1_500_000), 1);
    }
}
