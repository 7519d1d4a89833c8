//! Whose failures are one voice: a person who failed and has not been well since.

use serde::{Deserialize, Serialize};

/// Requests in a row that make a person well again: a program that tries again and again never has them, and who fails now
/// and then has them soon.
const WELL_REQUESTS: u8 = 10;
/// How many times as many it takes each next time: a page of which one address always fails has some going well between.
const AGAIN_TIMES: u8 = 4;
/// The most it takes. Who fails less often than this is near the floor below which nothing is called worse.
const WELL_REQUESTS_MAX: u8 = 80;
/// Time without a failure that makes a person well again: longer than programs wait before they try again.
const WELL_SECONDS: u32 = 600;
/// Time after which it stays so for a person who fails again.
const STAYS_SECONDS: u32 = 60;
/// Time after which a person who fails again has not met the same hiccup, as far as bursts go.
const HICCUP_SECONDS: u32 = 3;
/// Time within which a person counts once among those who fail again.
const TOLD_SECONDS: u32 = 60;

/// What requests of people came to who had failed at the same release and had not been well since.
///
/// Zero where the router can't tell people apart: then each request is taken for another person's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Again {
    /// Their requests, and tunnels that ended.
    pub requests: u64,
    /// Of these, how many failed.
    pub failed: u64,
    /// Of these, how many were a person's first failure a minute or more after the one that began it.
    pub stayed: u64,
    /// People who failed three seconds or more after the failure that began it; each counts once a minute.
    pub people: u64,
}

impl Again {
    /// Tells whether there are none.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Adds all that another one counted.
    pub const fn merge(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.failed = self.failed.saturating_add(other.failed);
        self.stayed = self.stayed.saturating_add(other.stayed);
        self.people = self.people.saturating_add(other.people);
    }
}

/// A person who failed at a release: unwell until ten minutes or ten requests in a row went well.
///
/// Who fails again within ten minutes needs forty in a row, and then eighty each time.
/// Times are in seconds of one clock; one that is set back makes nobody well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unwell {
    since: u32,
    last: u32,
    /// When the person was last counted among those who fail again; `since` if never.
    told: u32,
    /// Requests in a row that went well.
    fine: u8,
    /// How many of them it takes.
    needs: u8,
    is_told: bool,
    stayed: bool,
}

impl Unwell {
    /// Begins with a failure.
    pub const fn new(now: u32) -> Self {
        Self { since: now, last: now, told: now, fine: 0, needs: WELL_REQUESTS, is_told: false, stayed: false }
    }

    /// Tells whether what comes next has nothing to do with it any more, whatever it is.
    pub const fn is_over(&self, now: u32) -> bool {
        now.saturating_sub(self.last) >= WELL_SECONDS
    }

    /// Tells whether enough went well in a row, so that the next failure is a voice of its own.
    pub const fn is_well(&self) -> bool {
        self.fine >= self.needs
    }

    /// Takes what another request of the person came to, before it is over.
    pub const fn take(&mut self, failed: bool, now: u32) -> Again {
        let was_well = self.is_well();
        if failed {
            let stays = !was_well && !self.stayed && now.saturating_sub(self.since) >= STAYS_SECONDS;
            (self.last, self.fine, self.stayed) = (now, 0, self.stayed || stays);
            if was_well {
                let needs = self.needs.saturating_mul(AGAIN_TIMES);
                self.needs = if needs < WELL_REQUESTS_MAX { needs } else { WELL_REQUESTS_MAX };
                return Again { requests: 0, failed: 0, stayed: 0, people: 0 };
            }
            let is_new = now.saturating_sub(self.since) >= HICCUP_SECONDS
                && (!self.is_told || now.saturating_sub(self.told) >= TOLD_SECONDS);
            if is_new {
                (self.told, self.is_told) = (now, true);
            }
            return Again { requests: 1, failed: 1, stayed: stays as u64, people: is_new as u64 };
        }
        self.fine = self.fine.saturating_add(1);
        Again { requests: !was_well as u64, failed: 0, stayed: 0, people: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_of_hours_is_one_failure_that_stays_once() {
        let mut person = Unwell::new(1_000);
        let mut all = Again::default();
        for now in 1_001..=8_200 {
            assert!(!person.is_over(now));
            let one = person.take(true, now);
            assert_eq!(one.stayed == 1, now == 1_060, "{now}");
            assert_eq!(one.people == 1, now >= 1_003 && (now - 1_003).is_multiple_of(60), "{now}");
            all.merge(&one);
        }
        assert_eq!(all, Again { requests: 7_200, failed: 7_200, stayed: 1, people: 120 });
        assert!(!person.is_over(8_799));
        assert!(person.is_over(8_800));
    }

    #[test]
    fn ten_requests_in_a_row_make_a_person_well_then_forty_then_eighty() {
        const FINE: Again = Again { requests: 1, failed: 0, stayed: 0, people: 0 };
        let mut person = Unwell::new(10);
        (0..9).for_each(|_| assert_eq!(person.take(false, 11), FINE));
        assert!(!person.is_well());
        // Once more: all of them are asked for anew.
        assert_eq!(person.take(true, 11), Again { requests: 1, failed: 1, stayed: 0, people: 0 });
        for needs in [10, 40, 80, 80] {
            (0..needs).for_each(|_| assert_eq!(person.take(false, 11), FINE));
            assert!(person.is_well(), "{needs}");
            assert!(person.take(false, 11).is_none());
            assert!(person.take(true, 12).is_none(), "a voice of its own");
            assert!(!person.is_well());
        }
    }

    #[test]
    fn a_page_of_which_one_address_always_fails_counts_a_few_times() {
        // One of so many requests fails; for ten minutes, one a second.
        for (each, voices) in [(2, 1), (10, 1), (30, 2), (60, 3)] {
            let mut person = Unwell::new(0);
            let again: u64 = (1..600_u32).map(|now| person.take(now.is_multiple_of(each), now).failed).sum();
            assert_eq!(u64::from(600 / each) - again, voices, "one of {each}");
        }
    }

    #[test]
    fn a_clock_set_back_makes_nobody_well() {
        let mut person = Unwell::new(5_000);
        assert!(!person.is_over(10));
        assert_eq!(person.take(true, 10).stayed, 0);
    }
}
