//! Scripted checks of real behaviour: steps with expectations and captures, over HTTP, WebSocket, TCP or a command.

mod busy;
mod command;
mod expand;
mod expect;
mod http;
mod log_scan;
mod ready;
mod secret;
mod step;
mod tcp;
mod websocket;

pub use busy::BusyConfig;
pub use expect::{Capture, Expect};
pub use http::HttpRequest;
pub use log_scan::{LogPatterns, PatternError};
pub use ready::{ReadyFailure, wait_ready};
pub use secret::{Secret, SecretError, SecretSource, Secrets};
pub use step::{Alternative, ConfigProblem, ProbeConfig, Step};

use lastgood_domain::failure::Coded;
use std::collections::BTreeMap;

/// What a probe talks to.
#[derive(Debug, Clone)]
pub struct ProbeTarget {
    /// Where it is: `http://127.0.0.1:7101`, without a path.
    pub base: String,
    /// Values for `{…}`.
    pub vars: BTreeMap<String, String>,
    /// Values for `{secret:…}`.
    pub secrets: Secrets,
}

/// A probe that did not pass. It holds no secret and no captured value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("probe step {step:?}: {what}")]
pub struct ProbeFailure {
    /// The step.
    pub step: String,
    /// What was expected and what came instead, for each alternative.
    pub what: String,
}

impl Coded for ProbeFailure {
    fn code(&self) -> &'static str {
        "probe-failed"
    }

    fn hint(&self) -> Option<String> {
        Some("try the step by hand against the instance; see docs/guide/probes.md".into())
    }
}
