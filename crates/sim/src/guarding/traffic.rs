//! The traffic of two releases, second by second, as a router would count it.

use super::crowd::Crowd;
use crate::chance::Chance;
use lastgood_domain::{
    terms::Digest,
    traffic::{Again, Counts, Latency, Slice},
};

/// Requests slower than this many milliseconds are slow; the default of the setting.
const LIMIT_MS: f64 = 1_500.0;
/// Largest mean that is drawn exactly; above, the normal distribution is near enough.
const EXACT_MAX: f64 = 60.0;

/// How one release behaves.
#[derive(Debug, Clone, Copy)]
pub(super) struct Behaviour {
    /// Chance that a request fails.
    pub(super) errors: f64,
    /// Median of the log-normal times, in milliseconds.
    pub(super) median_ms: f64,
}

impl Behaviour {
    /// Half a percent of errors; 95 of 100 requests within 0.52 s, 3.4 of 1,000 slower than the limit.
    pub(super) const HEALTHY: Self = Self { errors: 0.005, median_ms: 100.0 };

    pub(super) const fn failing(errors: f64) -> Self {
        Self { errors, ..Self::HEALTHY }
    }

    /// The chance that a request is slow: the normal tail, with a spread of 1 in the logarithm.
    fn slow(&self) -> f64 {
        const STEPS: u32 = 2_000;
        let from = (LIMIT_MS / self.median_ms).ln();
        let width = 12.0 / f64::from(STEPS);
        let density = |at: f64| (-at * at / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
        (0..STEPS).map(|step| density(from + (f64::from(step) + 0.5) * width) * width).sum()
    }
}

/// How failures come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Failing {
    /// Each by itself.
    Alone,
    /// Several together at one release within two seconds: 1 and more, 4 on average.
    Bursts,
    /// A person who tries again every second, 6 times on average.
    Retries,
    /// Each by itself, and some people on the candidate, and none beside, whose programs try again all the time, so many times
    /// a second.
    Loops { people: usize, tries: u64 },
    /// As `Bursts`, and beside them one such person who tries again every second.
    LoopAndBursts,
    /// Each by itself, and one person's page on the candidate, and none beside, that asks each second; one of so many fails.
    Polls(u64),
    /// Each by itself, of one of so many people that the candidate has, last-good's in proportion.
    Crowd(usize),
    /// The same, and all of them come at once: in the first 15 seconds of each minute, and nobody else.
    Rush(usize),
    /// Of so many people the same ones with each request.
    Same(usize),
    /// Each by itself, and for 20 seconds in every ten minutes a fifth of all requests at both releases.
    Hiccups,
}

/// What happens in one cell.
#[derive(Debug, Clone, Copy)]
pub(super) struct World {
    /// The candidate's requests a second.
    pub(super) rate: f64,
    /// The candidate's share of all requests, in percent; at 100 there is no last-good.
    pub(super) share: f64,
    pub(super) candidate: Behaviour,
    pub(super) last_good: Behaviour,
    pub(super) failing: Failing,
    /// The second from which the candidate behaves so; healthy before.
    pub(super) from: u64,
    /// The limit of the error rate, in percent.
    pub(super) limit: u8,
}

/// Draws slices.
#[derive(Debug)]
pub(super) struct Traffic {
    chance: Chance,
    world: World,
    slow: [f64; 3],
    /// Failures still to come of bursts that began, by seconds from now.
    coming: [[u64; 16]; 2],
    crowds: [Crowd; 2],
}

/// The release that is judged.
pub(super) fn candidate() -> Digest {
    Digest::of(b"candidate")
}

/// The release it is judged against.
pub(super) fn last_good() -> Digest {
    Digest::of(b"last-good")
}

impl Traffic {
    pub(super) fn new(world: World, seed: u64) -> Self {
        let slow = [world.candidate.slow(), world.last_good.slow(), Behaviour::HEALTHY.slow()];
        Self {
            chance: Chance::new(seed),
            world,
            slow,
            coming: [[0; 16]; 2],
            crowds: [Crowd::default(), Crowd::default()],
        }
    }

    /// Gives second number `second` of the stage; slices carry `start` + `second`.
    pub(super) fn slice(&mut self, start: u64, second: u64) -> Slice {
        let World { rate, share, candidate: mine, last_good: theirs, failing, from, .. } = self.world;
        let (mine, slow) = if second < from { (Behaviour::HEALTHY, self.slow[2]) } else { (mine, self.slow[0]) };
        let hiccup = failing == Failing::Hiccups && second % 600 < 20;
        let errors = |one: Behaviour| if hiccup { one.errors.max(0.2) } else { one.errors };
        let others = rate * (100.0 - share) / share;
        let counts = vec![
            (candidate(), self.counts(0, second, rate, errors(mine), slow)),
            (last_good(), self.counts(1, second, others, errors(theirs), self.slow[1])),
        ];
        Slice { second: start + second, counts }
    }

    fn counts(&mut self, side: usize, second: u64, rate: f64, errors: f64, slow: f64) -> Counts {
        let (failed, again, fine) = self.failures(side, second, rate, errors);
        let (fine, late) = match fine {
            Some(fine) => {
                let late = self.poisson(fine as f64 * slow).min(fine);
                (fine - late, late)
            }
            None => (self.poisson(rate * (1.0 - errors) * (1.0 - slow)), self.poisson(rate * (1.0 - errors) * slow)),
        };
        let mut times = vec![0; Latency::bucket(4_000_000) + 1];
        times[Latency::bucket(200_000)] = fine;
        times[Latency::bucket(4_000_000)] = late;
        let status = [0, fine + late, 0, 0, failed];
        Counts { status, again, latency: Latency::of_counts(times), ..Counts::default() }
    }

    /// Draws the failures of a second, what of them is no further person's, and what went well if that is drawn with them.
    fn failures(&mut self, side: usize, second: u64, rate: f64, errors: f64) -> (u64, Again, Option<u64>) {
        let (mean, none) = (rate * errors, Again::default());
        match self.world.failing {
            Failing::Loops { people, tries } if side == 0 => {
                let mut again = none;
                for person in 0..people {
                    (0..tries).for_each(|_| again.merge(&self.crowds[0].ended(person, true, second)));
                }
                (self.poisson(mean) + people as u64 * tries, again, None)
            }
            Failing::Polls(each) if side == 0 => {
                let fails = second.is_multiple_of(each);
                let again = self.crowds[0].ended(0, fails, second);
                let fine = self.poisson(rate * (1.0 - errors));
                (self.poisson(mean) + u64::from(fails), again, Some(fine + u64::from(!fails)))
            }
            Failing::Crowd(people) => self.of_people(side, second, people, [rate, errors]),
            Failing::Rush(_) if second % 60 >= 15 => (0, none, Some(0)),
            Failing::Rush(people) => self.of_people(side, second, people, [rate, errors]),
            Failing::Same(people) if side == 0 => self.of_people(side, second, people, [rate, errors]),
            Failing::Alone | Failing::Hiccups | Failing::Loops { .. } | Failing::Polls(_) | Failing::Same(_) => {
                (self.poisson(mean), none, None)
            }
            Failing::Bursts => (self.bursts(side, mean), none, None),
            Failing::LoopAndBursts => {
                let again = if side == 0 { self.crowds[0].ended(0, true, second) } else { none };
                (self.bursts(side, mean) + u64::from(side == 0), again, None)
            }
            Failing::Retries => {
                let begun = self.poisson(mean / 6.0);
                for _ in 0..begun {
                    let times = self.several(6).min(16);
                    self.coming[side].iter_mut().take(times).for_each(|second| *second += 1);
                }
                let failed = self.now(side);
                let others = failed.saturating_sub(begun);
                (failed, Again { requests: others, failed: others, stayed: 0, people: others }, None)
            }
        }
    }

    /// Draws a second's requests of so many people of the candidate, or of as many more as last-good has.
    fn of_people(
        &mut self,
        side: usize,
        second: u64,
        people: usize,
        [rate, errors]: [f64; 2],
    ) -> (u64, Again, Option<u64>) {
        let World { share, failing, from, .. } = self.world;
        let times = if side == 0 { 1.0 } else { (100.0 - share) / share };
        let people = ((people as f64 * times).round() as u64).max(1);
        let (requests, bad) = (self.poisson(rate), (people as f64 * errors).round() as usize);
        // Healthy at first: then each by itself.
        let is_same = matches!(failing, Failing::Same(_)) && second >= from;
        let (mut failed, mut again) = (0, Again::default());
        for _ in 0..requests {
            let person = usize::try_from(self.chance.below(people)).unwrap_or(0);
            let fails = if is_same { person < bad } else { self.chance.unit() < errors };
            again.merge(&self.crowds[side].ended(person, fails, second));
            failed += u64::from(fails);
        }
        (failed, again, Some(requests - failed))
    }

    fn bursts(&mut self, side: usize, mean: f64) -> u64 {
        for _ in 0..self.poisson(mean / 4.0) {
            for _ in 0..self.several(4) {
                let next = usize::from(self.chance.permille(300));
                self.coming[side][next] += 1;
            }
        }
        self.now(side)
    }

    /// Gives this second's part of what is to come.
    fn now(&mut self, side: usize) -> u64 {
        let now = self.coming[side][0];
        self.coming[side].rotate_left(1);
        self.coming[side][15] = 0;
        now
    }

    /// Draws 1 and more, `mean` on average, each more as likely as the one before.
    fn several(&mut self, mean: u64) -> usize {
        let mut count = 1;
        while count < 100 && self.chance.below(mean) > 0 {
            count += 1;
        }
        count
    }

    fn poisson(&mut self, mean: f64) -> u64 {
        if mean > EXACT_MAX {
            let normal = (-2.0 * (1.0 - self.chance.unit()).ln()).sqrt()
                * (2.0 * std::f64::consts::PI * self.chance.unit()).cos();
            return (mean + mean.sqrt() * normal).round().max(0.0) as u64;
        }
        let (end, mut product, mut count) = ((-mean).exp(), self.chance.unit(), 0);
        while product > end {
            product *= self.chance.unit();
            count += 1;
        }
        count
    }
}
