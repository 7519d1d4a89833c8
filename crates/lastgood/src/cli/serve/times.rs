//! When a driver of the daemon does what nobody asks for. What comes again after a while goes by the time since, not by the
//! clock on the wall: a machine that booted with its clock ahead would wait until that time really comes.

use lastgood_domain::{
    quiet::look_every,
    rollout::BACK_OFF_MAX,
    terms::{Span, Timestamp},
};
use std::time::Instant;

/// How often users' outcomes are counted and staleness is looked at.
const REVIEW_EVERY: Span = Span::seconds(10);
/// How often late instances are asked again whether they are idle, and what could not be stopped is tried again.
const DRAIN_EVERY: Span = Span::minutes(1);

/// Something that comes again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Again {
    at: Instant,
    every: Span,
}

impl Again {
    /// Begins with a first time at `at`.
    const fn every(every: Span, at: Instant) -> Self {
        Self { at, every }
    }

    /// Tells whether it is due at `now`; once it is, the next time is set.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let is_due = self.at <= now;
        if is_due {
            self.at = now + self.every.duration();
        }
        is_due
    }

    /// Gives how long it is until then.
    pub(super) fn left(&self, now: Instant) -> Span {
        let left = self.at.saturating_duration_since(now);
        Span(u64::try_from(left.as_millis()).unwrap_or(u64::MAX))
    }
}

/// A driver's times.
#[derive(Debug)]
pub(super) struct Times {
    pub(super) review: Again,
    pub(super) drain: Again,
    pub(super) cool: Again,
    /// When those left for later are looked at, to see a quiet period.
    pub(super) look: Again,
    /// When the next run was computed, and when it is.
    run: (Timestamp, Option<Timestamp>),
}

impl Times {
    /// Begins at `now`; no run is armed yet. A `quiet` period is looked at several times.
    pub(super) fn new(now: Instant, quiet: Option<Span>) -> Self {
        Self {
            review: Again::every(REVIEW_EVERY, now),
            drain: Again::every(DRAIN_EVERY, now + DRAIN_EVERY.duration()),
            cool: Again::every(DRAIN_EVERY, now),
            look: Again::every(quiet.map_or(DRAIN_EVERY, look_every), now),
            run: (Timestamp(i64::MIN), None),
        }
    }

    /// Sets the next run, computed at `now`.
    pub(super) fn arm(&mut self, now: Timestamp, at: Option<Timestamp>) {
        self.run = (now, at);
    }

    /// Gives the next run.
    pub(super) const fn run(&self) -> Option<Timestamp> {
        self.run.1
    }

    /// Tells whether the clock was set back since the next run was computed: it must be computed anew.
    pub(super) fn is_set_back(&self, now: Timestamp) -> bool {
        now < self.run.0
    }
}

/// Tells whether the time to start what died again has come. One further off than any was ever set was set by a clock that
/// has been set back since.
pub(super) fn is_again(at: Timestamp, now: Timestamp) -> bool {
    at <= now || at > now.after(BACK_OFF_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 60;

    #[test]
    fn what_comes_again_comes_whatever_the_clock_on_the_wall_says() {
        let begin = Instant::now();
        let mut times = Times::new(begin, None);
        assert!(times.review.take(begin) && !times.review.take(begin));
        assert_eq!(times.review.left(begin), Span::seconds(10));
        let later = begin + Span::seconds(10).duration();
        assert!(!times.drain.take(later) && times.review.take(later));
        assert!(times.drain.take(begin + Span::minutes(1).duration()));
    }

    #[test]
    fn a_run_is_computed_anew_once_the_clock_was_set_back() {
        let (now, mut times) =
            (Timestamp(1_767_225_600_000).after(Span::minutes(DAY)), Times::new(Instant::now(), None));
        times.arm(now, Some(now.after(Span::minutes(60))));
        assert!(!times.is_set_back(now.after(Span::seconds(5))));
        assert!(times.is_set_back(Timestamp(1_767_225_600_000)));
        times.arm(Timestamp(1_767_225_600_000), None);
        assert!(!times.is_set_back(Timestamp(1_767_225_600_000)));
    }

    #[test]
    fn what_died_under_a_clock_that_was_ahead_is_started_again_at_once() {
        let now = Timestamp(1_767_225_600_000);
        assert!(is_again(now, now) && !is_again(now.after(Span::minutes(5)), now));
        assert!(is_again(now.after(Span::minutes(DAY)), now));
    }
}
