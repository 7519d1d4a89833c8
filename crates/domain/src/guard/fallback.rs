//! Does a release answer by a fallback more than it may, and more than the release before?
//!
//! It is told and does not move anybody, unless so configured: what a fallback answers is an answer.

use super::{Rate, evidence::surprise};
use crate::{
    event::Health,
    facts::Outcomes,
    terms::{Digest, Span},
    traffic::{Counts, DegradedSettings, Slice},
};
use alloc::{collections::VecDeque, format, string::String};

/// What is looked back on: as long as a limit of the guards must be exceeded by default.
const OVER: u64 = 180;
/// Chance, as -ln, that a release at the limit is called degraded by a window: one in a thousand.
const ENOUGH: f64 = 6.9;

/// Counts what a release on trial and last-good answer by a fallback within the last three minutes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fallbacks {
    settings: DegradedSettings,
    candidate: Digest,
    last_good: Option<Digest>,
    /// What last-good showed before it had no traffic any more.
    record: Outcomes,
    seconds: VecDeque<(u64, [Outcomes; 2])>,
}

impl Fallbacks {
    /// Begins to count `candidate` beside `last_good`; `None` if there is none or it has no traffic.
    pub fn new(settings: DegradedSettings, candidate: Digest, last_good: Option<Digest>) -> Self {
        Self { settings, candidate, last_good, record: Outcomes::default(), seconds: VecDeque::new() }
    }

    /// Goes on to the next stage; what last-good shows now is what counts once it has no traffic any more.
    pub fn next_stage(&self, last_good: Option<Digest>) -> Self {
        let [_, seen] = self.sums();
        let record = if all(seen) >= self.settings.outcomes_min.max(1) { seen } else { self.record };
        let mut next = Self { record, last_good, ..self.clone() };
        next.seconds.iter_mut().for_each(|(_, [_, last_good])| *last_good = Outcomes::default());
        next
    }

    /// Takes what a router counted within one second; one that was taken already, or is too old, changes nothing.
    pub fn take(&mut self, slice: &Slice) {
        let of = |release: &Digest| slice.of(release).map(outcomes).unwrap_or_default();
        let both = [of(&self.candidate), self.last_good.as_ref().map(of).unwrap_or_default()];
        let Err(place) = self.seconds.binary_search_by_key(&slice.second, |(second, _)| *second) else { return };
        self.seconds.insert(place, (slice.second, both));
        let newest = self.seconds.back().map_or(0, |(newest, _)| *newest);
        while self.seconds.front().is_some_and(|(second, _)| second + OVER <= newest) {
            self.seconds.pop_front();
        }
    }

    /// Begins to count anew, because the clock was set back.
    pub fn clock_set_back(&mut self) {
        self.seconds.clear();
    }

    /// Says whether it is degraded. Between "plainly more than allowed" and "no more than allowed" nobody can tell; nor can
    /// anybody where nothing is known of last-good, which may need its fallback as much.
    pub fn health(&self) -> Health {
        let [mine, _] = self.sums();
        let (seen, of) = (mine.degraded, all(mine));
        let allowed = self.allowed();
        if of < self.settings.outcomes_min.max(1) {
            Health::CannotTell
        } else if surprise(seen, of, allowed) >= ENOUGH && all(self.beside()) > 0 {
            Health::Degraded
        } else if seen as f64 <= allowed * of as f64 {
            Health::Good
        } else {
            Health::CannotTell
        }
    }

    /// Says the numbers: `60 of 100 answers came by a fallback (60 %, allowed are 20 %); last-good 1 of 100 (1 %); in 3.0 min`.
    pub fn says(&self) -> String {
        let ([mine, _], theirs) = (self.sums(), self.beside());
        let rate = |one: Outcomes| Rate::of(one.degraded, all(one));
        let beside = match all(theirs) {
            0 => String::new(),
            of => format!("; last-good {} of {of} ({})", theirs.degraded, rate(theirs)),
        };
        let span = self.seconds.front().zip(self.seconds.back()).map_or(0, |((first, _), (last, _))| last + 1 - first);
        format!(
            "{} of {} answers came by a fallback ({}, allowed are {}){beside}; in {}",
            mine.degraded,
            all(mine),
            rate(mine),
            Rate::millionths((self.allowed() * 1e6) as u32),
            Span::seconds(span)
        )
    }

    /// Gives the part that is allowed: the limit, or as much more than last-good as is still not worse.
    fn allowed(&self) -> f64 {
        let limit = f64::from(self.settings.percent) / 100.0;
        let theirs = self.beside();
        let factor = f64::from(self.settings.against_last_good_percent) / 100.0;
        limit.max(theirs.degraded as f64 / all(theirs).max(1) as f64 * factor).min(1.0)
    }

    /// Gives what last-good shows at the same time, or showed before.
    fn beside(&self) -> Outcomes {
        let [_, now] = self.sums();
        if all(now) >= self.settings.outcomes_min.max(1) { now } else { self.record }
    }

    fn sums(&self) -> [Outcomes; 2] {
        let mut sums = [Outcomes::default(); 2];
        for (_, both) in &self.seconds {
            for (sum, one) in sums.iter_mut().zip(both) {
                sum.good += one.good;
                sum.degraded += one.degraded;
                sum.broken += one.broken;
            }
        }
        sums
    }
}

/// Tells apart what users got: each request and tunnel counts once, as broken, else as degraded, else as good.
fn outcomes(counts: &Counts) -> Outcomes {
    let broken = counts.failed();
    let degraded = counts.degraded.min(counts.trials().saturating_sub(broken));
    Outcomes { good: counts.trials().saturating_sub(broken + degraded), degraded, broken }
}

fn all(outcomes: Outcomes) -> u64 {
    outcomes.good + outcomes.degraded + outcomes.broken
}
