//! How a probe fails: which step, what was expected, what came instead; never with a secret in it.

use lastgood_domain::{failure::Coded, terms::Span};
use std::fmt;

/// What kind of failure it is; the worst that was seen decides: an answer says more than silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FailureKind {
    /// Nothing listens there.
    Unreachable,
    /// There was no whole answer in time.
    Timeout,
    /// There was an answer, and it does not fit.
    Failed,
    /// The step can't be tried: a variable or a secret has no value, or what it gives can't be sent.
    Config,
}

/// One alternative that was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Its name; empty where the step offers no choice.
    pub alternative: String,
    /// Its kind of failure.
    pub kind: FailureKind,
    /// What was expected.
    pub expected: String,
    /// What came instead, cut to 300 characters, without secrets and captured values.
    pub got: String,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.alternative.is_empty() {
            write!(f, "{:?} ", self.alternative)?;
        }
        write!(f, "expected {}, got {}", self.expected, self.got)
    }
}

/// Tells why a probe failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("probe step {step:?} {}{}: {}", verb(.kind), tries_made(.tries), listed(.attempts))]
pub struct ProbeFailure {
    /// The step.
    pub step: String,
    /// The worst kind among the alternatives.
    pub kind: FailureKind,
    /// Every alternative of the last try with its reason.
    pub attempts: Vec<Attempt>,
    /// How often the step was tried.
    pub tries: u32,
}

fn verb(kind: &FailureKind) -> &'static str {
    match kind {
        FailureKind::Unreachable => "reached nothing",
        FailureKind::Timeout => "ran out of time",
        FailureKind::Failed => "failed",
        FailureKind::Config => "can't be tried",
    }
}

fn tries_made(tries: &u32) -> String {
    if *tries > 1 { format!(" {tries} times") } else { String::new() }
}

fn listed(attempts: &[Attempt]) -> String {
    let all: Vec<String> = attempts.iter().map(ToString::to_string).collect();
    all.join("; ")
}

impl ProbeFailure {
    /// Gives what was expected, of the attempt that says most.
    pub fn expected(&self) -> &str {
        self.telling().map_or("", |attempt| &attempt.expected)
    }

    /// Gives what came instead, of the attempt that says most.
    pub fn got(&self) -> &str {
        self.telling().map_or("", |attempt| &attempt.got)
    }

    fn telling(&self) -> Option<&Attempt> {
        self.attempts.iter().rev().find(|attempt| attempt.kind == self.kind)
    }
}

impl Coded for ProbeFailure {
    fn code(&self) -> &'static str {
        match self.kind {
            FailureKind::Unreachable => "probe-unreachable",
            FailureKind::Timeout => "probe-timeout",
            FailureKind::Failed => "probe-failed",
            FailureKind::Config => "probe-config",
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self.kind {
            FailureKind::Unreachable => "look at the instance's log and at who listens: ss -ltnp".into(),
            FailureKind::Timeout => {
                format!(
                    "look at the instance's log; if the service may be this slow, raise timeout of step {:?}",
                    self.step
                )
            }
            FailureKind::Failed => {
                "look at the instance's log; if last-good fails the same way, the probe is wrong, not the release"
                    .into()
            }
            FailureKind::Config => "correct the step in lastgood.toml; more: lastgood explain probe-config".into(),
        })
    }
}

/// Tells why an instance did not become ready.
#[derive(Debug, thiserror::Error)]
pub enum ReadyFailure {
    /// It ended.
    #[error("it ended {after} after its start: {why}")]
    Died {
        /// How it ended.
        why: String,
        /// Since the wait began.
        after: Span,
    },
    /// The time is over.
    #[error("it was not ready within {limit}")]
    TimedOut {
        /// The time it had.
        limit: Span,
        /// What the last try said.
        #[source]
        last: ProbeFailure,
    },
    /// The step can't be tried, however long one waits.
    #[error("the ready step can't be used")]
    Unusable(#[source] ProbeFailure),
}

impl Coded for ReadyFailure {
    fn code(&self) -> &'static str {
        match self {
            Self::Died { .. } => "ready-died",
            Self::TimedOut { .. } => "ready-timeout",
            Self::Unusable(_) => "probe-config",
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Died { .. } => "read its whole log, or start the release by hand on a copy of the data".into(),
            Self::TimedOut { .. } => {
                "look at its log; if migrations take this long, raise ready_timeout of the service".into()
            }
            Self::Unusable(_) => "correct ready in lastgood.toml; more: lastgood explain probe-config".into(),
        })
    }
}
