//! Counts people: ids seen within the last minute, in bounded memory.
//!
//! Exact to 16,384 at once. Beyond, only ids whose hash ends in so many zeros are kept and each counts for the others
//! (Wegman's adaptive sampling): the error is about 1 % with the 8,192 or more that are then kept.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

/// Seconds after which a person who comes again is new.
const MINUTE: u32 = 60;
/// The most ids that are kept; 16 bytes each.
const KEPT_MAX: usize = 16_384;

/// The hash of an id is its hash.
#[derive(Debug, Default)]
pub(crate) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0 << 8 | u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// The people of one release, for all threads.
#[derive(Debug, Default)]
pub(crate) struct People {
    /// Hash of an id, and when it was last seen.
    seen: Mutex<HashMap<u64, u32, BuildHasherDefault<AsItIs>>>,
    /// How many zeros a hash must end in to be kept.
    level: AtomicU32,
}

impl People {
    /// Sees a person; gives how many new ones that stands for.
    pub(crate) fn saw(&self, person: u64, now_seconds: u32) -> u64 {
        let level = self.level.load(Ordering::Relaxed);
        if person.trailing_zeros() < level {
            return 0;
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let before = seen.insert(person, now_seconds);
        if before.is_some_and(|before| before + MINUTE > now_seconds) {
            return 0;
        }
        if seen.len() > KEPT_MAX {
            seen.retain(|_, at| *at + MINUTE > now_seconds);
            let mut next = level;
            while seen.len() > KEPT_MAX {
                next += 1;
                seen.retain(|person, _| person.trailing_zeros() >= next);
            }
            self.level.store(next, Ordering::Relaxed);
        }
        1 << level
    }

    /// Gives how many were seen within the last minute, and forgets the others.
    pub(crate) fn count(&self, now_seconds: u32) -> u64 {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|_, at| *at + MINUTE > now_seconds);
        let level = self.level.load(Ordering::Relaxed);
        let count = (seen.len() as u64) << level;
        // Few again: the next are counted more exactly.
        if level > 0 && seen.len() < KEPT_MAX / 4 {
            self.level.store(level - 1, Ordering::Relaxed);
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::fingerprint;

    #[test]
    fn a_person_counts_once_a_minute() {
        let people = People::default();
        assert_eq!([people.saw(1, 100), people.saw(1, 159), people.saw(2, 159)], [1, 0, 1]);
        assert_eq!(people.count(160), 2);
        // Seen last at 159.
        assert_eq!(people.saw(1, 218), 0);
        assert_eq!(people.count(219), 1);
        assert_eq!(people.saw(2, 219), 1);
    }

    #[test]
    fn a_crowd_is_counted_within_three_percent_in_bounded_memory() {
        let people = People::default();
        let mut new = 0;
        for person in 0..300_000_u32 {
            new += people.saw(fingerprint(&person.to_be_bytes()), 100);
        }
        assert!(people.seen.lock().unwrap().len() <= KEPT_MAX);
        assert!((291_000..=309_000).contains(&people.count(100)), "{}", people.count(100));
        assert!((291_000..=309_000).contains(&new), "{new}");
    }
}
