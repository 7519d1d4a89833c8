//! Counts people: ids seen within the last minute, in bounded memory.
//!
//! Exact to 16,384 at once. Beyond, only ids whose hash ends in so many zeros are kept and each counts for the others
//! (Wegman's adaptive sampling): the error is about 1 % with the 8,192 or more that are then kept.
//!
//! Beside them those who failed within the last ten minutes, 16,384 at most.

use lastgood_domain::traffic::{Again, Unwell};
use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
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
    /// Those who failed within ten minutes; 32 bytes each with the room that the map keeps.
    unwell: Mutex<HashMap<u64, Unwell, BuildHasherDefault<AsItIs>>>,
    /// Whether there are any, so that nobody waits for the lock where all goes well.
    is_one_unwell: AtomicBool,
    /// The last second in which those who were well again were looked for to make room.
    made_room: AtomicU32,
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

    /// Takes what a person's request came to; tells what of it is no further person's.
    ///
    /// Where so many fail that they can't all be kept, each failure of the others counts in full.
    pub(crate) fn ended(&self, person: u64, failed: bool, now_seconds: u32) -> Again {
        if !failed && !self.is_one_unwell.load(Ordering::Relaxed) {
            return Again::default();
        }
        let mut unwell = self.unwell.lock().unwrap_or_else(PoisonError::into_inner);
        match unwell.get_mut(&person) {
            Some(one) if !one.is_over(now_seconds) => return one.take(failed, now_seconds),
            Some(_) => _ = unwell.remove(&person),
            None => {}
        }
        // Once a second: where everybody fails, nobody waits while all are looked through.
        if failed && unwell.len() >= KEPT_MAX && self.made_room.swap(now_seconds, Ordering::Relaxed) != now_seconds {
            unwell.retain(|_, one| !one.is_over(now_seconds) && !one.is_well());
        }
        if failed && unwell.len() < KEPT_MAX {
            unwell.insert(person, Unwell::new(now_seconds));
        }
        self.is_one_unwell.store(!unwell.is_empty(), Ordering::Relaxed);
        Again::default()
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
    fn a_persons_loop_is_one_failure_and_others_are_others() {
        let people = People::default();
        assert_eq!(people.ended(7, false, 100), Again::default());
        assert_eq!(people.ended(7, true, 100), Again::default(), "the first is a voice");
        assert_eq!(people.ended(7, true, 101), Again { requests: 1, failed: 1, stayed: 0, people: 0 });
        assert_eq!(people.ended(7, false, 102), Again { requests: 1, failed: 0, stayed: 0, people: 0 });
        assert_eq!(people.ended(8, false, 102), Again::default());
        assert_eq!(people.ended(8, true, 102), Again::default(), "another person's is another one");
        assert_eq!(people.ended(7, true, 161), Again { requests: 1, failed: 1, stayed: 1, people: 1 });
        // Ten minutes without a failure: it begins anew.
        assert_eq!(people.ended(7, true, 761), Again::default());
        assert_eq!(people.ended(7, true, 762), Again { requests: 1, failed: 1, stayed: 0, people: 0 });
    }

    #[test]
    fn where_more_people_fail_than_are_kept_each_counts_in_full_and_memory_is_bounded() {
        let people = People::default();
        let crowd = || (0..40_000_u32).map(|person| fingerprint(&person.to_be_bytes()));
        assert!(crowd().all(|person| people.ended(person, true, 100).is_none()));
        assert_eq!(people.unwell.lock().unwrap().len(), KEPT_MAX);
        assert_eq!(crowd().filter(|person| !people.ended(*person, true, 101).is_none()).count(), KEPT_MAX);
        // Who is well makes room, looked for once a second.
        let tries_twice = |person, now| [people.ended(person, true, now), people.ended(person, true, now)];
        assert!(tries_twice(1, 102)[1].is_none());
        let kept = *people.unwell.lock().unwrap().keys().next().unwrap();
        (0..10).for_each(|_| _ = people.ended(kept, false, 102));
        assert_eq!(tries_twice(2, 103)[1].failed, 1);
        assert!(people.ended(3, true, 10_000).is_none());
        assert_eq!(people.unwell.lock().unwrap().len(), 1);
        assert!(people.ended(3, false, 20_000).is_none());
        assert!(!people.is_one_unwell.load(Ordering::Relaxed));
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
