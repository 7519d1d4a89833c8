//! What was counted of both releases within the last minutes, second by second.

use super::GuardSettings;
use crate::{
    terms::Span,
    traffic::{Again, Counts, Latency},
};
use alloc::{collections::VecDeque, vec::Vec};
use serde::{Deserialize, Serialize};

/// What is counted of one release. Every request is one trial, and so is every tunnel that ended by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Tally {
    /// Requests and tunnels that came to an end.
    pub requests: u64,
    /// Of these, how many failed by the release's fault.
    pub failed: u64,
    /// Of the failed ones, how many another release answered then.
    pub saved: u64,
    /// Of all requests, how many were lastgood's own.
    pub synthetic: u64,
    /// Of all requests, those of people who had failed and not been well since.
    #[serde(skip_serializing_if = "Again::is_none")]
    pub again: Again,
    /// Requests that were answered, so that their time is known.
    pub answered: u64,
    /// Of these, how many took longer than the p95 may be.
    pub slow: u64,
}

impl Tally {
    /// Counts what a router saw; `p95_max` is what makes a request slow, if times are judged.
    pub(super) fn of(counts: &Counts, p95_max: Option<Span>) -> Self {
        let closes = &counts.closes;
        let status = counts.status.iter().fold(counts.aborted, |all, count| all.saturating_add(*count));
        let ended = closes.clean.saturating_add(closes.cut).saturating_add(closes.errors);
        let requests = status.saturating_add(ended);
        let (answered, slow) = p95_max.map_or((0, 0), |p95_max| {
            let answered = counts.latency.count().saturating_add(counts.timed.answered);
            let longer = counts.latency.longer_than(p95_max.0.saturating_mul(1_000));
            (answered, longer.saturating_add(counts.timed.slow).min(answered))
        });
        let failed = counts.failed().min(requests);
        let again = counts.again.requests.min(requests);
        // Who is well fails with a request of a well one: the first failures are no more than these requests.
        let again_failed = counts.again.failed.min(again).min(failed).max(failed.saturating_sub(requests - again));
        Self {
            requests,
            failed,
            again: Again {
                requests: again,
                failed: again_failed,
                stayed: counts.again.stayed.min(again_failed),
                people: counts.again.people.min(again_failed),
            },
            saved: counts.saved.min(requests),
            synthetic: counts.synthetic.min(requests),
            answered,
            slow,
        }
    }

    /// Adds all that another one counted.
    pub(super) fn merge(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.failed = self.failed.saturating_add(other.failed);
        self.saved = self.saved.saturating_add(other.saved);
        self.synthetic = self.synthetic.saturating_add(other.synthetic);
        self.again.merge(&other.again);
        self.answered = self.answered.saturating_add(other.answered);
        self.slow = self.slow.saturating_add(other.slow);
    }

    /// Gives the requests of people who were well before them: each is a trial of its own.
    pub(super) const fn of_the_well(&self) -> u64 {
        self.requests.saturating_sub(self.again.requests)
    }

    /// Gives how many of these failed: people who failed, each once until well again.
    pub(super) const fn first_failed(&self) -> u64 {
        self.failed.saturating_sub(self.again.failed)
    }

    /// Gives people's failures and all trials as a limit takes them: a person's first, and once more where it stays so
    /// for several people. One alone may be a program that tries again and again.
    pub(super) const fn voices(&self) -> (u64, u64) {
        let voices = self.first_failed().saturating_add(self.again.stayed.saturating_sub(1));
        (voices, self.requests.saturating_sub(self.failed).saturating_add(voices))
    }

    /// Gives the rate of failed requests, 0 to 1; zero of nothing.
    pub(super) fn error_rate(&self) -> f64 {
        rate(self.failed, self.requests)
    }

    /// Gives the rate of slow answers, 0 to 1; zero of nothing.
    pub(super) fn slow_rate(&self) -> f64 {
        rate(self.slow, self.answered)
    }
}

fn rate(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// One second of both releases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Second {
    /// Seconds since 1970.
    pub(super) second: u64,
    pub(super) candidate: Tally,
    pub(super) last_good: Tally,
    /// Bursts that the candidate's failures and its slow requests began; known once the second is folded.
    pub(super) bursts: [u64; 2],
    /// The same of the voices among its failures.
    #[serde(default)]
    pub(super) voice_bursts: u64,
}

/// Times of both releases within one minute of the clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Minute {
    minute: u64,
    candidate: Latency,
    last_good: Latency,
}

/// The seconds that rules look back on, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Windows {
    seconds: VecDeque<Second>,
    /// Times by minutes: kept for what people read, decided on are the counts of slow ones.
    minutes: VecDeque<Minute>,
}

/// What a window holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Both {
    pub(super) candidate: Tally,
    pub(super) last_good: Tally,
    pub(super) bursts: [u64; 2],
    pub(super) voice_bursts: u64,
}

impl Windows {
    /// Adds a second newer than all others, and drops what no rule looks back on.
    pub(super) fn push(&mut self, second: Second, times: [&Latency; 2], settings: &GuardSettings) {
        let (now, minute) = (second.second, second.second / 60);
        let back = longest(settings);
        self.seconds.push_back(second);
        while self.seconds.front().is_some_and(|oldest| oldest.second + back <= now) {
            self.seconds.pop_front();
        }
        if self.minutes.back().is_none_or(|last| last.minute != minute) {
            self.minutes.push_back(Minute { minute, candidate: Latency::default(), last_good: Latency::default() });
        }
        if let Some(last) = self.minutes.back_mut() {
            last.candidate.merge(times[0]);
            last.last_good.merge(times[1]);
        }
        while self.minutes.front().is_some_and(|oldest| oldest.minute + back.div_ceil(60) < minute) {
            self.minutes.pop_front();
        }
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Gives the newest second.
    pub(super) fn newest(&self) -> Option<u64> {
        self.seconds.back().map(|second| second.second)
    }

    /// Gives the oldest second kept.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.seconds.front().map(|second| second.second)
    }

    /// Adds up the last `back` seconds.
    pub(super) fn last(&self, back: u64) -> Both {
        let mut both = Both::default();
        let newest = self.newest().unwrap_or_default();
        for second in self.seconds.iter().rev().take_while(|second| second.second + back > newest) {
            both.candidate.merge(&second.candidate);
            both.last_good.merge(&second.last_good);
            for (all, one) in both.bursts.iter_mut().zip(second.bursts) {
                *all = all.saturating_add(one);
            }
            both.voice_bursts = both.voice_bursts.saturating_add(second.voice_bursts);
        }
        both
    }

    /// Gives the p95 of both within the minutes kept.
    pub(super) fn p95(&self) -> [Option<Span>; 2] {
        let mut all = [Latency::default(), Latency::default()];
        for minute in &self.minutes {
            all[0].merge(&minute.candidate);
            all[1].merge(&minute.last_good);
        }
        all.map(|latency| latency.percentile(95).map(|micros| Span(micros.div_ceil(1_000))))
    }
}

/// Gives how many seconds rules look back.
pub(super) fn longest(settings: &GuardSettings) -> u64 {
    seconds(settings.error_for).max(seconds(settings.p95_for)).max(MINUTE)
}

/// Gives a span as whole seconds, at least one.
pub(super) const fn seconds(span: Span) -> u64 {
    let seconds = span.0.div_ceil(1_000);
    if seconds == 0 { 1 } else { seconds }
}

/// What a limit is measured over each time: within "for 3 min", every minute.
pub(super) const MINUTE: u64 = 60;

/// Since when a limit has been exceeded without a break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Streak {
    since: Option<u64>,
}

impl Streak {
    /// Takes what the minute that ends with `second` shows; `first` is the oldest second it can look back on.
    pub(super) fn take(&mut self, above: bool, second: u64, first: u64) {
        if above {
            self.since.get_or_insert((second + 1).saturating_sub(MINUTE).max(first));
        } else {
            self.since = None;
        }
    }

    /// Tells whether every minute within the last `span` up to `second` was above.
    pub(super) fn has_lasted(&self, span: Span, second: u64) -> bool {
        self.since.is_some_and(|since| (second + 1).saturating_sub(since) >= seconds(span))
    }

    /// Begins anew: seconds are missing.
    pub(super) fn reset(&mut self) {
        self.since = None;
    }
}

/// Gives the part of `pending` seconds older than the newest by `late` or more, in order.
pub(super) fn settled<T>(pending: &mut Vec<T>, second: impl Fn(&T) -> u64, late: u64) -> Vec<T> {
    let newest = pending.last().map(&second).unwrap_or_default();
    let count = pending.iter().take_while(|one| second(one) + late <= newest).count();
    pending.drain(..count).collect()
}
