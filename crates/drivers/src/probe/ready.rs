//! Waits until an instance is ready, noticing both the answer and the death of its process early.

use super::{ProbeConfig, ProbeTarget, Step, http::connect};
use lastgood_domain::{failure::Coded, terms::Span};
use std::{
    thread,
    time::{Duration, Instant},
};

/// First pause between two looks: a small service answers within some milliseconds.
const PAUSE_FIRST: Duration = Duration::from_millis(1);
/// Longest pause: what takes long need not be known to the millisecond.
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// Why an instance did not become ready.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadyFailure {
    /// Its process ended.
    #[error("it ended before it was ready: {why}")]
    Died {
        /// What is known of its end.
        why: String,
    },
    /// Its time is over.
    #[error("it was not ready within {limit}: {last}")]
    TooLate {
        /// The time it had.
        limit: Span,
        /// What the last look saw.
        last: String,
    },
}

impl Coded for ReadyFailure {
    fn code(&self) -> &'static str {
        match self {
            Self::Died { .. } => "start-died",
            Self::TooLate { .. } => "start-too-late",
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Died { .. } => "read the instance's output.log in the state folder".into(),
            Self::TooLate { .. } => "raise ready_timeout if a migration needs longer".into(),
        })
    }
}

/// Waits for `ready` (default: the port accepts), at most for `limit`; `died` tells why the process is gone.
pub fn wait_ready(
    ready: Option<&Step>,
    target: &ProbeTarget,
    limit: Duration,
    died: &dyn Fn() -> Option<String>,
) -> Result<Span, ReadyFailure> {
    let began = Instant::now();
    let until = began + limit;
    let probe = ready.map(|step| ProbeConfig { steps: vec![step.clone()] });
    let mut pause = PAUSE_FIRST;
    loop {
        let last = match look(probe.as_ref(), target, until) {
            Ok(()) => return Ok(span(began.elapsed())),
            Err(why) => why,
        };
        if let Some(why) = died() {
            return Err(ReadyFailure::Died { why });
        }
        if Instant::now() + pause >= until {
            return Err(ReadyFailure::TooLate { limit: span(limit), last });
        }
        thread::sleep(pause);
        pause = (pause * 3 / 2).min(PAUSE_MAX);
    }
}

fn look(probe: Option<&ProbeConfig>, target: &ProbeTarget, until: Instant) -> Result<(), String> {
    match probe {
        Some(probe) => {
            let left = until.saturating_duration_since(Instant::now());
            probe.run(target, left).map(drop).map_err(|failure| failure.to_string())
        }
        None => {
            let host = target.base.split_once("://").map_or(target.base.as_str(), |(_, host)| host);
            connect(host, until).map(drop).map_err(|error| format!("{host} does not accept: {error}"))
        }
    }
}

fn span(duration: Duration) -> Span {
    Span(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
