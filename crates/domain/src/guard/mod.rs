//! Guards: does the candidate hold up under the traffic it has, and if not, is it to blame?
//!
//! A [`Guard`] folds one-second slices of one stage. Two ways to fail are asked after each second, both on: limits that
//! were exceeded minute by minute for so long, and a test that may be looked at every second, of whose the failures and the
//! slow requests are. To pass, there must be enough evidence *for* health; silence is none. docs/design/guards.md has the
//! statistics and what they come to.

mod evidence;
mod fallback;
mod judged;
mod settings;
mod verdict;
mod voices;
mod window;

pub use fallback::Fallbacks;
pub use settings::{GuardSettings, GuardSettingsError, Rate};
pub use verdict::{Against, Doubt, GuardRule, GuardVerdict, Numbers, Seen};
pub use window::Tally;

use crate::{
    terms::{Digest, Timestamp},
    traffic::{Counts, Latency, Slice},
};
use alloc::vec::Vec;
use judged::{Judged, SILENCE, Terms};
use serde::{Deserialize, Serialize};
use window::Second;

/// Seconds that a slice may come after newer ones and still be counted in its place.
const LATE: u64 = 10;

/// Judges one candidate at one stage of its rollout.
///
/// What it says depends on which seconds it was given, not on how often or, within ten seconds, in which order. Its
/// size is bounded by the settings: a quarter of a megabyte at one hour, some ten kilobytes by default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Kept", into = "Kept")]
pub struct Guard {
    kept: Kept,
    /// All seconds folded, those that may still get a neighbour too; made of the rest.
    now: Judged,
}

/// What of a guard is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Kept {
    settings: GuardSettings,
    candidate: Digest,
    last_good: Option<Digest>,
    record: Option<Tally>,
    began: Timestamp,
    /// Seconds before this are of another stage, or folded already.
    from: u64,
    /// The seconds that nothing can come before any more.
    settled: Judged,
    /// The others, in order.
    pending: Vec<Pending>,
}

/// A second that may still get a neighbour before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Pending {
    second: Second,
    candidate: Latency,
    last_good: Latency,
}

/// What became of a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It counts.
    Counted,
    /// This second was counted already.
    Repeated,
    /// It is from before the stage, or came more than ten seconds after newer ones.
    TooLate,
}

impl Guard {
    /// Begins to watch `candidate` beside `last_good`; `None` if there is none or it has no traffic.
    pub fn new(settings: GuardSettings, candidate: Digest, last_good: Option<Digest>, began: Timestamp) -> Self {
        let from = second_of(began);
        let settled = Judged::default();
        let now = settled.clone();
        Self {
            kept: Kept { settings, candidate, last_good, record: None, began, from, settled, pending: Vec::new() },
            now,
        }
    }

    /// Goes on to the next stage, such as a larger share or the watch after all of it.
    ///
    /// Evidence for health is asked for anew. What speaks against the candidate stays, so that the chance of a false alarm is
    /// one for all stages. What last-good showed so far is the record that the candidate is held to where last-good has no
    /// traffic any more.
    pub fn next_stage(&self, last_good: Option<Digest>, began: Timestamp) -> Self {
        let seen = self.now.total.last_good;
        let mut next = Self::new(self.kept.settings.clone(), self.kept.candidate, last_good, began);
        next.kept.record = if seen.requests > 0 { Some(seen) } else { self.kept.record };
        next.kept.settled.suspicion = self.now.suspicion.clone();
        next.now = next.kept.settled.clone();
        next
    }

    /// Takes what a router counted within one second.
    pub fn take(&mut self, slice: &Slice) -> Taken {
        let second = slice.second;
        if second < self.kept.from {
            return Taken::TooLate;
        }
        let Err(place) = self.kept.pending.binary_search_by_key(&second, |pending| pending.second.second) else {
            return Taken::Repeated;
        };
        let is_newest = place == self.kept.pending.len();
        self.kept.pending.insert(place, self.kept.pending_of(slice));
        if is_newest {
            let Kept { settings, record, pending, .. } = &self.kept;
            pending[place].fold_into(&mut self.now, Terms { settings, record: record.as_ref() });
        }
        self.kept.settle();
        if !is_newest {
            self.now = self.kept.judged();
        }
        Taken::Counted
    }

    /// Says how the candidate stands at `now`.
    pub fn verdict(&self, now: Timestamp) -> GuardVerdict {
        let terms = self.terms();
        if let Some((rule, numbers)) = self.now.broken {
            return GuardVerdict::Failed { rule, numbers };
        }
        let (numbers, missing_requests) = (self.now.numbers(terms), self.now.missing(terms));
        let cannot_tell = |why| GuardVerdict::CannotTell { missing_requests, why, numbers };
        let (newest, now) = (self.now.newest().unwrap_or(self.kept.from), second_of(now));
        if newest > now.saturating_add(SILENCE) {
            return cannot_tell(Doubt::ClockSetBack);
        }
        if now > newest.saturating_add(SILENCE) {
            return cannot_tell(Doubt::NoCounts);
        }
        if self.now.total.candidate.requests == 0 {
            return cannot_tell(Doubt::NoCandidateTraffic);
        }
        if self.now.is_both_failing(terms) {
            return cannot_tell(Doubt::BothFail);
        }
        if missing_requests > 0 {
            return cannot_tell(Doubt::TooFew);
        }
        if self.now.is_suspect(terms) {
            return GuardVerdict::Watching { numbers };
        }
        GuardVerdict::Healthy { numbers }
    }

    /// Begins to count from `now` on, after [`Doubt::ClockSetBack`]: seconds that come again are new ones.
    ///
    /// All that was counted stays; windows begin anew.
    pub fn clock_set_back(&mut self, now: Timestamp) {
        let mut settled = self.kept.judged();
        settled.forget_times();
        self.kept.pending.clear();
        self.kept.from = second_of(now);
        self.kept.settled = settled.clone();
        self.now = settled;
    }

    fn terms(&self) -> Terms<'_> {
        Terms { settings: &self.kept.settings, record: self.kept.record.as_ref() }
    }
}

impl Kept {
    fn pending_of(&self, slice: &Slice) -> Pending {
        let nothing = Counts::default();
        let candidate = slice.of(&self.candidate).unwrap_or(&nothing);
        let last_good = self.last_good.as_ref().and_then(|digest| slice.of(digest)).unwrap_or(&nothing);
        let tally = |counts| Tally::of(counts, self.settings.p95.then_some(self.settings.p95_max));
        Pending {
            second: Second {
                second: slice.second,
                candidate: tally(candidate),
                last_good: tally(last_good),
                bursts: [0; 2],
                voice_bursts: 0,
            },
            candidate: candidate.latency.clone(),
            last_good: last_good.latency.clone(),
        }
    }

    /// Folds for good what is too old to get a neighbour.
    fn settle(&mut self) {
        let old = window::settled(&mut self.pending, |pending| pending.second.second, LATE);
        for pending in &old {
            self.from = pending.second.second + 1;
            pending.fold_into(&mut self.settled, Terms { settings: &self.settings, record: self.record.as_ref() });
        }
    }

    /// Folds the others on top.
    fn judged(&self) -> Judged {
        let mut judged = self.settled.clone();
        for pending in &self.pending {
            pending.fold_into(&mut judged, Terms { settings: &self.settings, record: self.record.as_ref() });
        }
        judged
    }
}

impl Pending {
    fn fold_into(&self, judged: &mut Judged, terms: Terms<'_>) {
        judged.take(self.second.clone(), [&self.candidate, &self.last_good], terms);
    }
}

impl From<Kept> for Guard {
    fn from(kept: Kept) -> Self {
        let now = kept.judged();
        Self { kept, now }
    }
}

impl From<Guard> for Kept {
    fn from(guard: Guard) -> Self {
        guard.kept
    }
}

/// Gives the second that a time lies in; 0 before 1970.
fn second_of(time: Timestamp) -> u64 {
    u64::try_from(time.0 / 1_000).unwrap_or(0)
}
