//! From samples to a verdict. Pure; every verdict says the numbers it rests on.

use crate::{
    terms::{Span, Timestamp},
    words::count,
};
use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::fmt;
use serde::{Deserialize, Serialize};

/// Samples of the first and of the last third of a window that a trend needs: of fewer, one outlier decides.
const TREND_SAMPLES_MIN: usize = 2;
/// Earlier samples that a baseline needs.
const BASELINE_SAMPLES_MIN: usize = 10;

/// When a signal fires.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// While the number is above or below a limit.
    Threshold {
        /// Fires above this.
        above: Option<f64>,
        /// Fires below this.
        below: Option<f64>,
    },
    /// A backlog must get smaller within a window, or be empty once in it.
    Drain {
        /// The window.
        within: Span,
        /// What counts as empty.
        empty: f64,
    },
    /// A job's last runs failed one after another; the number is how many.
    Failures {
        /// From so many on.
        in_row: u32,
    },
    /// The number is many times the median of earlier ones.
    Spike {
        /// So many times.
        times: f64,
        /// How far back earlier samples count.
        over: Span,
        /// Never below this number.
        at_least: f64,
    },
    /// A table has changes that its change log doesn't know; the number is how many.
    Gaps,
}

/// One number, and when it was read.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// When.
    pub at: Timestamp,
    /// What; finite.
    pub value: f64,
}

/// What a signal says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// All is well.
    Ok,
    /// Something is wrong.
    Firing,
    /// Nobody knows.
    CannotTell,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Ok, Self::Firing, Self::CannotTell];

    /// Gives the word that is written.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Firing => "firing",
            Self::CannotTell => "cannot-tell",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// A verdict with the numbers it rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// What is said.
    pub state: State,
    /// Why, with the numbers; one sentence without its end.
    pub why: String,
}

impl Judged {
    fn new(state: State, why: String) -> Self {
        Self { state, why }
    }

    /// Says that nobody knows.
    pub fn unknown(why: impl Into<String>) -> Self {
        Self::new(State::CannotTell, why.into())
    }
}

impl Rule {
    /// Gives how far back samples count; zero if only the newest does.
    pub const fn window(&self) -> Span {
        match self {
            Self::Drain { within, .. } => *within,
            Self::Spike { over, .. } => *over,
            Self::Threshold { .. } | Self::Failures { .. } | Self::Gaps => Span::ZERO,
        }
    }
}

/// Judges the newest of `samples`, which are in order of their times. What is older than the window or not finite is
/// left out.
pub fn judge(rule: &Rule, samples: &[Sample], now: Timestamp) -> Judged {
    let fresh = |sample: &&Sample| sample.value.is_finite() && now.since(sample.at) <= rule.window();
    let window: Vec<Sample> = samples.iter().filter(fresh).copied().collect();
    let newest = match rule.window() {
        Span::ZERO => samples.last(),
        _ => window.last(),
    };
    let Some(newest) = newest.filter(|newest| newest.value.is_finite()) else {
        return Judged::unknown("there is no number yet");
    };
    let value = newest.value;
    match rule {
        Rule::Threshold { above, below } => threshold(value, *above, *below),
        Rule::Drain { within, empty } => drain(&window, *within, *empty, now),
        Rule::Failures { in_row } => {
            let state = if value >= f64::from(*in_row) { State::Firing } else { State::Ok };
            Judged::new(state, format!("the last {} failed, the limit is {in_row} in a row", runs(value)))
        }
        Rule::Spike { times, over, at_least } => {
            let earlier = &window[..window.len().saturating_sub(1)];
            spike(value, earlier, *times, *over, *at_least)
        }
        Rule::Gaps => match value > 0.0 {
            true => {
                Judged::new(State::Firing, format!("{} without a row in the change log", count(value as u64, "change")))
            }
            false => Judged::new(State::Ok, "every change has its row in the change log".into()),
        },
    }
}

fn runs(count: f64) -> String {
    if count == 1.0 { "run".into() } else { format!("{count} runs") }
}

fn threshold(value: f64, above: Option<f64>, below: Option<f64>) -> Judged {
    if let Some(limit) = above.filter(|limit| value > *limit) {
        return Judged::new(State::Firing, format!("{value} is above {limit}"));
    }
    if let Some(limit) = below.filter(|limit| value < *limit) {
        return Judged::new(State::Firing, format!("{value} is below {limit}"));
    }
    let limits = [above.map(|limit| format!("not above {limit}")), below.map(|limit| format!("not below {limit}"))];
    let limits: Vec<String> = limits.into_iter().flatten().collect();
    Judged::new(State::Ok, format!("{value} is {}", limits.join(" and ")))
}

/// Compares medians of the window's first and last third: one sample that jumps is no trend.
fn drain(window: &[Sample], within: Span, empty: f64, now: Timestamp) -> Judged {
    if let Some(low) = window.iter().rev().find(|sample| sample.value <= empty) {
        let ago = now.since(low.at);
        return Judged::new(State::Ok, format!("it was down to {} {ago} ago (limit {within})", low.value));
    }
    let third = Span(within.0 / 3);
    let in_part = |from: Span, to: Span| {
        let part = window.iter().filter(|one| (from..=to).contains(&now.since(one.at)));
        part.map(|one| one.value).collect::<Vec<_>>()
    };
    let (first, last) = (in_part(Span(within.0 - third.0), within), in_part(Span::ZERO, third));
    if first.len() < TREND_SAMPLES_MIN || last.len() < TREND_SAMPLES_MIN {
        let (count, newest) = (window.len(), window.last().map_or(0.0, |one| one.value));
        return Judged::unknown(format!("it is {newest}, and {count} samples don't show a trend over {within} yet"));
    }
    let (first, last) = (median(first), median(last));
    let numbers = format!("around {first} at the beginning of the last {within}, around {last} at their end");
    match last < first {
        true => Judged::new(State::Ok, format!("it drains: {numbers}")),
        false => Judged::new(State::Firing, format!("it does not drain: {numbers}")),
    }
}

fn spike(value: f64, earlier: &[Sample], times: f64, over: Span, at_least: f64) -> Judged {
    if value < at_least {
        return Judged::new(State::Ok, format!("{value} is below {at_least}, from which on it counts"));
    }
    if earlier.len() < BASELINE_SAMPLES_MIN {
        let count = earlier.len();
        return Judged::unknown(format!(
            "it is {value}, and a baseline needs {BASELINE_SAMPLES_MIN} samples, not {count}"
        ));
    }
    let base = median(earlier.iter().map(|one| one.value).collect());
    let numbers = format!("the median of the last {over} is {base}, the limit {times} times that");
    match value > base * times {
        true => Judged::new(State::Firing, format!("{value} is a spike: {numbers}")),
        false => Judged::new(State::Ok, format!("{value} is no spike: {numbers}")),
    }
}

/// Gives the middle one; of two the lower. `values` has at least one.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get((values.len().max(1) - 1) / 2).copied().unwrap_or(0.0)
}

/// Counts failures before the first success; `None` stands for a run without an end yet, which is passed over.
///
/// Errors: no run has ended, so nobody knows.
pub fn leading_failures(runs: impl IntoIterator<Item = Option<bool>>) -> Result<u32, String> {
    let mut ended = runs.into_iter().flatten().peekable();
    if ended.peek().is_none() {
        return Err("the job has no run that ended".to_string());
    }
    Ok(ended.take_while(|succeeded| !succeeded).fold(0, |count, _| count + 1))
}
