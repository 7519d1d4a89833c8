//! How strongly counts speak for "worse" or for "well", so that looking every second costs nothing.
//!
//! Each number here is a likelihood ratio whose expectation is at most 1 while the null hypothesis holds, whenever it is
//! looked at. So it ever reaches `1 / chance` with at most that chance (Ville), however often one looks. See
//! docs/design/guards.md.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Alternatives of one test: the odds of failing are 2, 4, … 4096 times those of the null.
const RUNGS: usize = 12;
/// Weight of "bad from the first second on"; the rest belongs to "turned bad later".
const FIRST: f64 = 0.75;
/// Half of the rest is spent in the first so many seconds.
const LATER_SECONDS: f64 = 60.0;
/// Evidence kept at most: what is beyond decides nothing and must not overflow.
const EVIDENCE_MAX: f64 = 1e100;
/// Failures that may have one cause: a page's parallel requests, one person's retries.
const BURST: u64 = 8;
/// Seconds within which they may have it, where there is time to wait.
const BURST_SECONDS: u64 = 3;

/// Counts bursts: failures that follow each other within three seconds, up to eight, may have one cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Bursts {
    /// The first second that the last burst does not reach.
    until: u64,
    /// How many more failures it may have.
    left: u64,
}

impl Bursts {
    /// Takes the failures of a second; gives how many bursts began with them.
    pub(super) fn take(&mut self, second: u64, failed: u64) -> u64 {
        if second >= self.until {
            self.left = 0;
        }
        let others = failed.saturating_sub(self.left);
        self.left = self.left.saturating_sub(failed);
        let bursts = others.div_ceil(BURST);
        if bursts > 0 {
            self.until = second.saturating_add(BURST_SECONDS);
            self.left = bursts.saturating_mul(BURST).saturating_sub(others);
        }
        bursts
    }
}

/// Odds of a chance; finite for every chance below 1.
pub(super) fn odds(chance: f64) -> f64 {
    let chance = chance.clamp(0.0, 0.999_999);
    chance / (1.0 - chance)
}

/// Evidence that failures are more frequent than the null allows, since the beginning or since any later second.
///
/// A mixture over how much worse (the rungs) and since when: a rung's evidence for each beginning is multiplied by the
/// same factor, so one number a rung holds them all.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ladder {
    rungs: [f64; RUNGS],
    seconds: u32,
}

impl Default for Ladder {
    fn default() -> Self {
        Self { rungs: [0.0; RUNGS], seconds: 0 }
    }
}

impl Ladder {
    /// Takes one second: `failed` of `trials` failed, and the null gives each trial at most the odds `null`.
    ///
    /// Eight failures of one second count as one, in proportion to the second's trials, and never as more than they are.
    pub(super) fn take(&mut self, null: f64, failed: u64, trials: u64) {
        let independent = if failed > 0 { failed.div_ceil(BURST) as f64 / failed as f64 } else { 0.0 };
        self.weigh(null, failed, trials, independent);
    }

    /// Takes one second like [`Self::take`], but each failure counts: they are of as many people.
    pub(super) fn take_each(&mut self, null: f64, failed: u64, trials: u64) {
        self.weigh(null, failed, trials, 1.0);
    }

    fn weigh(&mut self, null: f64, failed: u64, trials: u64, independent: f64) {
        let begun = self.beginning();
        self.seconds = self.seconds.saturating_add(1);
        let (failed, trials) = (failed as f64, trials as f64);
        let bare = libm::log1p(null);
        let mut times = 1.0;
        for (number, rung) in self.rungs.iter_mut().enumerate() {
            *rung += begun / RUNGS as f64;
            times *= 2.0;
            if trials > 0.0 {
                let for_it = failed * (number as f64 + 1.0) * core::f64::consts::LN_2;
                let against = trials * (libm::log1p(null * times) - bare);
                let weight = for_it - against;
                let weight = if weight > 0.0 { weight * independent } else { weight };
                *rung = (*rung * libm::exp(weight.clamp(-700.0, 230.0))).min(EVIDENCE_MAX);
            }
        }
    }

    /// Gives the weight of "since this second"; over all seconds they add up to 1 at most.
    fn beginning(&self) -> f64 {
        if self.seconds == 0 {
            return FIRST;
        }
        let spent = |seconds: f64| seconds / (seconds + LATER_SECONDS);
        let now = f64::from(self.seconds);
        (1.0 - FIRST) * (spent(now) - spent(now - 1.0))
    }

    /// Gives the evidence: how many times likelier the counts are if it is worse than if it is not.
    pub(super) fn evidence(&self) -> f64 {
        self.rungs.iter().sum()
    }
}

/// Writes the bits, because a decimal that is read back may differ in the last one, and with it a decision.
impl Serialize for Ladder {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        (self.rungs.map(f64::to_bits), self.seconds).serialize(to)
    }
}

impl<'de> Deserialize<'de> for Ladder {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let (bits, seconds) = <([u64; RUNGS], u32)>::deserialize(from)?;
        let rungs = bits.map(f64::from_bits);
        if rungs.iter().all(|rung| (0.0..=EVIDENCE_MAX).contains(rung)) {
            Ok(Self { rungs, seconds })
        } else {
            Err(serde::de::Error::custom("evidence must be a number"))
        }
    }
}

/// Alternatives of the test for health: their odds of failing as parts of the limit's, and how much each weighs.
///
/// Most weight has a quarter, because there the fewest requests are enough; the others let a release pass that is always
/// somewhat below the limit and has the traffic to show it.
const HEALTHIER: [(f64, f64); 3] = [(0.25, 0.7), (0.5, 0.2), (0.75, 0.1)];

/// Evidence that failures are *less* frequent than a limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Health {
    odds: f64,
    /// Logarithm of 1 / the chance that a candidate at the limit passes.
    enough: f64,
}

impl Health {
    pub(super) fn new(limit: f64, doubt: f64) -> Self {
        Self { odds: odds(limit), enough: -libm::log(doubt.clamp(1e-6, 0.5)) }
    }

    /// Tells whether `failed` of `trials` are enough evidence.
    fn is_enough(&self, failed: u64, trials: u64) -> bool {
        let bare = libm::log1p(self.odds);
        let evidence: f64 = HEALTHIER
            .iter()
            .map(|(part, weight)| {
                let each = bare - libm::log1p(self.odds * part);
                let log = each * trials as f64 + libm::log(*part) * failed as f64 - self.enough;
                weight * libm::exp(log.clamp(-700.0, 700.0))
            })
            .sum();
        evidence >= 1.0
    }

    /// Gives how many more trials without a failure make the evidence enough; 0 when it is.
    pub(super) fn missing(&self, failed: u64, trials: u64) -> u64 {
        let more = |missing: u64| self.is_enough(failed, trials.saturating_add(missing));
        if more(0) {
            return 0;
        }
        // Doubled until it is enough, then halved to the first that is.
        let mut high = 1_u64;
        while !more(high) {
            match high.checked_mul(2) {
                Some(twice) => high = twice,
                None => return u64::MAX,
            }
        }
        let mut low = high / 2;
        while low + 1 < high {
            let middle = low + (high - low) / 2;
            if more(middle) { high = middle } else { low = middle }
        }
        high
    }
}

/// Gives how surprising `failed` of `trials` or more are, if each fails with `chance`: a lower bound of -ln of the
/// probability (Chernoff). 0 if that many are to be expected.
pub(super) fn surprise(failed: u64, trials: u64, chance: f64) -> f64 {
    if failed == 0 || trials == 0 {
        return 0.0;
    }
    let (trials, seen) = (trials as f64, failed.min(trials) as f64 / trials as f64);
    let chance = chance.clamp(1e-9, 1.0);
    if seen <= chance {
        return 0.0;
    }
    let rest = if seen < 1.0 { (1.0 - seen) * libm::log((1.0 - seen) / (1.0 - chance)) } else { 0.0 };
    trials * (seen * libm::log(seen / chance) + rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A test of "fails no more often than it may" whose evidence is expected to grow would trip by itself.
    #[test]
    fn under_the_null_a_seconds_evidence_is_expected_not_to_grow() {
        // Summed over all outcomes with the very chance of the null, weighted by their probability.
        let expected = |chance: f64, trials: u64| {
            let (mut expected, mut probability) = (0.0, (1.0 - chance).powf(trials as f64));
            for failed in 0..=trials {
                let mut ladder = Ladder::default();
                ladder.take(odds(chance), failed, trials);
                expected += probability * ladder.evidence() / FIRST;
                probability *= (trials - failed) as f64 / (failed + 1) as f64 * chance / (1.0 - chance);
            }
            expected
        };
        for chance in [0.005, 0.02, 0.1, 0.5] {
            assert!((expected(chance, 1) - 1.0).abs() < 1e-9, "{chance}: {}", expected(chance, 1));
            // What came together counts for less, so there is less than could be had.
            assert!(expected(chance, 20) < 1.0, "{chance}: {}", expected(chance, 20));
        }
    }

    #[test]
    fn all_beginnings_together_weigh_one_at_most() {
        let mut ladder = Ladder::default();
        (0..100_000).for_each(|_| ladder.take(0.01, 0, 0));
        assert!((0.99..=1.0).contains(&ladder.evidence()), "{}", ladder.evidence());
    }

    #[test]
    fn what_comes_within_three_seconds_is_one_burst_up_to_eight() {
        let mut bursts = Bursts::default();
        let counted = [(10, 3), (11, 2), (12, 3), (12, 1), (13, 0), (14, 1), (15, 1), (18, 17)]
            .map(|(second, failed)| bursts.take(second, failed));
        assert_eq!(counted, [1, 0, 0, 1, 0, 0, 1, 3]);
    }

    /// 215 requests without a failure are enough for 2 % and one in twenty; each failure costs some ninety more.
    #[test]
    fn health_asks_for_as_many_requests_as_the_limit_needs() {
        let health = Health::new(0.02, 0.05);
        assert_eq!([0, 1, 2, 5].map(|failed| health.missing(failed, 0)), [215, 305, 395, 660]);
        assert_eq!(health.missing(0, 214), 1);
        assert_eq!(health.missing(0, 215), 0);
        assert_eq!(Health::new(0.05, 0.05).missing(0, 0), 85);
        assert_eq!(health.missing(u64::MAX, 10), u64::MAX);
    }

    #[test]
    fn surprise_never_says_more_than_the_exact_tail() {
        // P(3 or more of 36 at 1 %) is 0.0058, P(5 or more) is 0.000035.
        let exact: [(u64, f64); 2] = [(3, 0.0058), (5, 0.000_035)];
        for (failed, tail) in exact {
            let said = (-surprise(failed, 36, 0.01)).exp();
            assert!(said >= tail && said < tail * 20.0, "{failed}: {said}");
        }
        assert_eq!(surprise(0, 10, 0.1), 0.0);
        assert_eq!(surprise(1, 10, 0.1), 0.0);
        assert!(surprise(10, 10, 0.0).is_finite());
    }

    proptest! {
        #[test]
        fn no_count_makes_the_evidence_anything_but_a_number(
            seconds in prop::collection::vec((0.0_f64..1e12, any::<u64>(), any::<u64>()), 1..40),
        ) {
            let mut ladder = Ladder::default();
            for (null, failed, trials) in seconds {
                ladder.take(null, failed.min(trials), trials);
                prop_assert!((0.0..=EVIDENCE_MAX * 13.0).contains(&ladder.evidence()));
                let text = serde_json::to_string(&ladder).unwrap();
                prop_assert_eq!(&serde_json::from_str::<Ladder>(&text).unwrap(), &ladder);
            }
        }

        #[test]
        fn one_failure_more_is_never_less_evidence(null in 1e-4_f64..2.0, trials in 1_u64..2_000, failed in 0_u64..2_000) {
            let failed = failed.min(trials - 1);
            let evidence = |failed| {
                let mut ladder = Ladder::default();
                ladder.take(null, failed, trials);
                ladder.evidence()
            };
            prop_assert!(evidence(failed + 1) >= evidence(failed) * (1.0 - 1e-9));
        }
    }
}
