//! Scripted checks of real behaviour.
//!
//! A probe is a list of steps: a request or a command, what is expected of its answer, and what is kept of it for
//! the steps after. A health page says little; a log-in and a read of old data say that users can work.

pub(crate) mod answer;
mod body;
mod busy;
mod check;
mod config;
mod failure;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod http;
mod https;
mod jar;
mod logs;
mod pattern;
pub(crate) mod program;
mod ready;
mod reason;
mod resume;
mod run;
mod secrets;
mod tcp;
mod text;
pub(crate) mod variables;
mod websocket;
mod wire;

pub(crate) use answer::Outcome;
pub use busy::{BusyConfig, BusyKeys};
pub use check::{ConfigProblem, Known};
pub use config::{Alternative, CaptureKeys, ExpectKeys, HttpKeys, Step, StepKeys, TcpKeys, Turn, WebSocketKeys};
pub use failure::{Attempt, FailureKind, ProbeFailure, ReadyFailure};
pub use logs::LogPatterns;
pub use pattern::{JsonExpectation, JsonPath, Pattern, StatusSet};
pub(crate) use program::{Call, run as execute};
pub use ready::wait_ready;
pub use resume::{ResumeConfig, ResumeFailure, ResumeKeys, ResumePart};
pub(crate) use secrets::Scrubber;
pub use secrets::{SecretError, SecretKeys, SecretSource, Secrets};

use lastgood_domain::facts::ProbeFacts;
use std::{collections::BTreeMap, path::PathBuf, time::Duration};

/// A whole probe: its steps in order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ProbeConfig {
    /// The steps; each may use what earlier ones captured.
    pub steps: Vec<Step>,
}

impl ProbeConfig {
    /// Makes one of acts that need no names: several without are `step 1`, `step 2`, by their places.
    pub fn of_acts(acts: &[Step]) -> Self {
        let named = |(number, act): (usize, &Step)| {
            let mut act = act.clone();
            if act.keys.name.is_none() && acts.len() > 1 {
                act.name = format!("step {number}");
            }
            act
        };
        Self { steps: (1..).zip(acts).map(named).collect() }
    }
}

/// What a probe talks to.
#[derive(Debug, Clone, Default)]
pub struct ProbeTarget {
    /// Scheme, host and port, and a path if everything lies below one: `http://127.0.0.1:7101`.
    pub base: String,
    /// Values by name for `{name}`, such as `data`, `instance` and the instance's own. `host` and `port` are those
    /// of `base` unless given here.
    pub vars: BTreeMap<String, String>,
    /// Values for `{secret:NAME}`.
    pub secrets: Secrets,
    /// The folder that commands run in: that of lastgood.toml.
    pub folder: PathBuf,
    /// Headers that each request has besides those of its step.
    pub headers: Vec<(String, String)>,
}

impl ProbeConfig {
    /// Tells what no single key shows: names that are there twice, variables that nothing gives.
    pub fn check(&self, known: &Known<'_>) -> Result<(), ConfigProblem> {
        check::probe(&self.steps, known)
    }

    /// Runs every step; the first that fails ends it.
    ///
    /// Takes at most `deadline` for all of it. Errors: the step, what was expected and what came, without secrets.
    pub fn run(&self, target: &ProbeTarget, deadline: Duration) -> Result<ProbeFacts, ProbeFailure> {
        run::all(&self.steps, target, deadline)
    }
}
