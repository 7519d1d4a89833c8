//! The failures within a limit's window, as evidence: once as requests and once as people.

use super::{
    evidence::surprise,
    judged::SEVERAL,
    window::{Both, MINUTE, Tally},
};

/// Failures of both releases within one window.
///
/// Both as requests and as people must they be surprising: as requests so that a rate is a rate, as people so that one whose
/// program tries again and again is one.
#[derive(Debug)]
pub(super) struct Failures {
    as_requests: Counted,
    as_people: Counted,
}

/// One way to count them.
#[derive(Debug, Clone, Copy)]
struct Counted {
    /// The candidate's: failed, of how many.
    candidate: (u64, u64),
    last_good: (u64, u64),
    /// How much of one failure is another cause than that of the one before, 0 to 1.
    part: f64,
}

impl Failures {
    /// Counts those of a window of so many seconds; where nothing goes well each request is a voice.
    ///
    /// People who came together are as many people if several of them fail again, and one hiccup if not.
    pub(super) fn of(both: &Both, seconds: u64, does_nothing_go_well: bool) -> Self {
        let Both { candidate, last_good, bursts: [bursts, _], voice_bursts } = both;
        let counted = |count: fn(&Tally) -> (u64, u64), bursts: Option<u64>| {
            let candidate = count(candidate);
            let part = bursts.map_or(1.0, |bursts| part(bursts, candidate.0));
            Counted { candidate, last_good: count(last_good), part }
        };
        let as_requests = counted(|one| (one.failed, one.requests), Some(*bursts));
        let goes_on = candidate.again.people >= SEVERAL.saturating_mul(seconds.div_ceil(MINUTE));
        let as_people = if does_nothing_go_well {
            as_requests
        } else {
            counted(Tally::voices, (!goes_on).then_some(*voice_bursts))
        };
        Self { as_requests, as_people }
    }

    /// Gives how surprising they are if each trial fails with `chance`.
    pub(super) fn surprise(&self, chance: f64) -> f64 {
        let one = |Counted { candidate: (failed, of), part, .. }| surprise(failed, of, chance) * part;
        one(self.as_requests).min(one(self.as_people))
    }

    /// Gives how surprising the candidate's part of them is beside last-good, of whose rate `factor` times are allowed.
    pub(super) fn surprise_beside(&self, factor: f64) -> f64 {
        let one = |Counted { candidate: (failed, of), last_good: (others, theirs), part }| {
            let weighted = of as f64 * factor;
            surprise(failed, failed.saturating_add(others), weighted / (weighted + theirs as f64)) * part
        };
        one(self.as_requests).min(one(self.as_people))
    }
}

/// Gives how many of `failed` are by themselves, if they came in so many bursts: 0 to 1.
pub(super) fn part(bursts: u64, failed: u64) -> f64 {
    if failed == 0 { 0.0 } else { bursts.min(failed) as f64 / failed as f64 }
}
