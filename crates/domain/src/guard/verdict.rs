//! What a guard answers, with its numbers, and in which words.

use super::Rate;
use crate::terms::Span;
use alloc::{
    format,
    string::{String, ToString},
};
use serde::{Deserialize, Serialize};

/// What a guard says of a candidate. Only healthy moves forward.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum GuardVerdict {
    /// There is enough evidence for health, and nothing against it.
    Healthy {
        /// The numbers behind it.
        numbers: Numbers,
    },
    /// It must go back; it is to blame.
    Failed {
        /// Which rule it broke, with the rule's limits.
        rule: GuardRule,
        /// The numbers when it broke it.
        numbers: Numbers,
    },
    /// The question has no answer; never a yes. At the stage's deadline the release goes back without blame.
    CannotTell {
        /// How many more requests without a failure would be enough evidence for health.
        missing_requests: u64,
        /// What stands in the way.
        why: Doubt,
        /// The numbers so far.
        numbers: Numbers,
    },
    /// There were enough requests, but something speaks against it that is not yet proven.
    Watching {
        /// The numbers so far.
        numbers: Numbers,
    },
}

/// A rule that a candidate can break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "rule", rename_all = "kebab-case")]
pub enum GuardRule {
    /// Error rate above the limit, minute by minute, for so long.
    ErrorRate {
        /// The limit.
        above: Rate,
        /// How long.
        held: Span,
    },
    /// p95 above the limit, minute by minute, for so long.
    P95 {
        /// The limit.
        above: Span,
        /// How long.
        held: Span,
    },
    /// Error rate above last-good's at the same time, minute by minute, for so long.
    WorseThanLastGood {
        /// How many times last-good's rate is allowed, in percent.
        percent: u32,
        /// How long.
        held: Span,
    },
    /// The failures are its own, by a test with this chance of a false alarm.
    EarlyErrors {
        /// The chance, over the whole rollout.
        false_alarm: Rate,
    },
    /// The requests slower than the limit are its own, by a test with this chance of a false alarm.
    EarlySlow {
        /// The limit that makes a request slow.
        above: Span,
        /// The chance, over the whole rollout.
        false_alarm: Rate,
    },
}

/// Why nobody can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Doubt {
    /// Too few requests for the evidence that is asked for.
    TooFew,
    /// The candidate had no request at all.
    NoCandidateTraffic,
    /// No counts came for more than ten seconds: the router or the way to it is down.
    NoCounts,
    /// Counts carry times that are still to come: the clock was set back.
    ClockSetBack,
    /// Last-good is above the limit too and the candidate is no worse: the machine or what both depend on is in trouble.
    BothFail,
}

/// What the candidate is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Against {
    /// Last-good's requests at the same time.
    LastGood,
    /// What last-good showed before it had no traffic any more.
    Record,
    /// The limits alone.
    Limit,
}

/// What was seen of one release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Seen {
    /// Requests and tunnels that came to an end.
    pub requests: u64,
    /// Of these, how many failed.
    pub failed: u64,
    /// Of all requests, how many were lastgood's own and nobody's.
    #[serde(default, skip_serializing_if = "is_none")]
    pub synthetic: u64,
    /// Of the failed ones, how many last-good answered then: their users saw no failure.
    #[serde(default, skip_serializing_if = "is_none")]
    pub saved: u64,
    /// Of the failed ones, how many were of people who had failed and not been well since.
    #[serde(default, skip_serializing_if = "is_none")]
    pub again: u64,
    /// Time that 95 of 100 answered requests did not exceed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p95: Option<Span>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over so")]
const fn is_none(count: &u64) -> bool {
    *count == 0
}

impl Seen {
    /// Gives the rate of failed requests.
    pub fn error_rate(&self) -> Rate {
        Rate::of(self.failed, self.requests)
    }

    /// Says how many requests were no person's.
    fn own(&self) -> String {
        match self.synthetic {
            0 => String::new(),
            count => format!(" ({} synthetic)", grouped(count)),
        }
    }

    /// Says how many of the failed ones cost nobody an answer.
    fn saved(&self) -> String {
        match self.saved {
            0 => String::new(),
            1 => ", 1 of them was saved by a retry on last-good".into(),
            count => format!(", {} of them were saved by a retry on last-good", grouped(count)),
        }
    }

    /// Says how many of the failed ones are no further person's.
    fn again(&self) -> String {
        match self.again {
            0 => String::new(),
            1 => ", 1 of them was of a person who had failed before".into(),
            count => format!(", {} of them were of people who had failed before", grouped(count)),
        }
    }
}

/// The numbers behind a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbers {
    /// Over how long: the longer of the two "for", or the whole stage if that is shorter.
    pub over: Span,
    /// The candidate's.
    pub candidate: Seen,
    /// Last-good's at the same time.
    pub last_good: Seen,
    /// What it was compared with.
    pub against: Against,
    /// How many times likelier the failures (or the slow requests) are if the candidate is worse; 1 is neither.
    pub evidence: u64,
}

impl GuardVerdict {
    /// Gives the numbers behind it.
    pub fn numbers(&self) -> &Numbers {
        match self {
            Self::Healthy { numbers }
            | Self::Failed { numbers, .. }
            | Self::CannotTell { numbers, .. }
            | Self::Watching { numbers } => numbers,
        }
    }

    /// Says it in one sentence.
    pub fn says(&self) -> String {
        match self {
            Self::Healthy { numbers } => format!("healthy: {}", numbers.says()),
            Self::Failed { rule, numbers } => format!("{}: {}", rule.says(numbers), numbers.says()),
            Self::CannotTell { missing_requests, why, numbers } => match why {
                Doubt::TooFew => format!(
                    "cannot tell yet: {} without a failure {} still needed; {}",
                    requests(*missing_requests),
                    if *missing_requests == 1 { "is" } else { "are" },
                    numbers.says()
                ),
                Doubt::NoCandidateTraffic => {
                    format!("cannot tell: the candidate had no request; {} are needed", requests(*missing_requests))
                }
                Doubt::NoCounts => "cannot tell: the counts do not come".into(),
                Doubt::ClockSetBack => "cannot tell: the clock was set back, counting begins again".into(),
                Doubt::BothFail => {
                    format!("cannot tell: last-good fails too, so it is not the candidate's fault; {}", numbers.says())
                }
            },
            Self::Watching { numbers } => {
                format!("watching: something speaks against it, not yet enough; {}", numbers.says())
            }
        }
    }
}

impl GuardRule {
    /// Says which rule it is and how it was broken.
    fn says(&self, numbers: &Numbers) -> String {
        let whose = |what: &str, chance: &Rate| match numbers.against {
            Against::LastGood => format!("{what} are the candidate's own"),
            Against::Record => format!("{what} are more than last-good had"),
            Against::Limit => format!("{what} are more than the limit allows"),
        } + &format!(", {} to 1 (false alarms: {chance})", grouped(numbers.evidence));
        match self {
            Self::ErrorRate { above, held } => format!("error rate above {above} for {held}"),
            Self::P95 { above, held } => format!("p95 above {above} for {held}"),
            Self::WorseThanLastGood { percent, held } => {
                format!("error rate above {percent} % of last-good's for {held}")
            }
            Self::EarlyErrors { false_alarm } => whose("the failures", false_alarm),
            Self::EarlySlow { above, false_alarm } => whose(&format!("the requests slower than {above}"), false_alarm),
        }
    }
}

impl Numbers {
    /// Says the numbers: `12 of 50 requests failed (24 %), p95 40 ms; last-good 3 of 950 (0.32 %), p95 38 ms; in 1 min`.
    fn says(&self) -> String {
        let Self { candidate, last_good, .. } = self;
        let p95 = |seen: &Seen| seen.p95.map_or_else(String::new, |p95| format!(", p95 {p95}"));
        let mut text = format!(
            "{} of {}{} failed ({}){}{}{}",
            grouped(candidate.failed),
            requests(candidate.requests),
            candidate.own(),
            candidate.error_rate(),
            candidate.again(),
            candidate.saved(),
            p95(candidate)
        );
        if last_good.requests > 0 {
            text += &format!(
                "; last-good {} of {} ({}){}",
                grouped(last_good.failed),
                grouped(last_good.requests),
                last_good.error_rate(),
                p95(last_good)
            );
        }
        text + &format!("; in {}", self.over)
    }
}

fn requests(count: u64) -> String {
    if count == 1 { "1 request".into() } else { format!("{} requests", grouped(count)) }
}

/// Writes a count with commas: `12,400`.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
