//! Whose failures are one voice: a person who failed and has not been well since.

use serde::{Deserialize, Serialize};

/// Requests in a row that make a person well again: a program that tries again and again never has them, and who fails now
/// and then has them soon.
const WELL_REQUESTS: u8 = 5;
/// Time without a failure that makes a person well again: longer than programs wait before they try again.
const WELL_SECONDS: u32 = 600;
/// Time after which a person who fails again has not met one hiccup.
const STAYS_SECONDS: u32 = 60;

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
    }
}

/// A person who failed at a release: unwell until ten minutes or five requests in a row went well.
///
/// Times are in seconds of one clock; one that is set back makes nobody well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unwell {
    since: u32,
    last: u32,
    /// Requests in a row that went well.
    fine: u8,
    stayed: bool,
}

impl Unwell {
    /// Begins with a failure.
    pub const fn new(now: u32) -> Self {
        Self { since: now, last: now, fine: 0, stayed: false }
    }

    /// Tells whether the person is well again, so that what comes next has nothing to do with it.
    pub const fn is_over(&self, now: u32) -> bool {
        self.fine >= WELL_REQUESTS || now.saturating_sub(self.last) >= WELL_SECONDS
    }

    /// Takes what another request of the person came to.
    pub const fn take(&mut self, failed: bool, now: u32) -> Again {
        if !failed {
            self.fine = self.fine.saturating_add(1);
            return Again { requests: 1, failed: 0, stayed: 0 };
        }
        let stays = !self.stayed && now.saturating_sub(self.since) >= STAYS_SECONDS;
        *self = Self { since: self.since, last: now, fine: 0, stayed: self.stayed || stays };
        Again { requests: 1, failed: 1, stayed: stays as u64 }
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
            all.merge(&one);
        }
        assert_eq!(all, Again { requests: 7_200, failed: 7_200, stayed: 1 });
        assert!(!person.is_over(8_799));
        assert!(person.is_over(8_800));
    }

    #[test]
    fn five_requests_in_a_row_make_a_person_well() {
        let mut person = Unwell::new(10);
        (0..4).for_each(|_| assert_eq!(person.take(false, 11), Again { requests: 1, failed: 0, stayed: 0 }));
        assert!(!person.is_over(11));
        // Once more: all of them are asked for anew.
        assert_eq!(person.take(true, 11), Again { requests: 1, failed: 1, stayed: 0 });
        (0..4).for_each(|_| _ = person.take(false, 11));
        assert!(!person.is_over(11));
        person.take(false, 11);
        assert!(person.is_over(11));
    }

    #[test]
    fn a_clock_set_back_makes_nobody_well() {
        let mut person = Unwell::new(5_000);
        assert!(!person.is_over(10));
        assert_eq!(person.take(true, 10).stayed, 0);
    }
}
