//! What users see of a release: counts from a log or a query.
//!
//! It counts and does not judge; what can't be counted is an error, which the engine takes for "cannot tell".

mod config;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod log;
mod prometheus;
mod releases;

pub use config::{WatchConfig, WatchKeys};
pub use error::MetricError;
pub use log::Cursor;
pub(crate) use prometheus::number as query_number;
pub use releases::{CountersConfig, ReleaseCounters};

use crate::notice::{Reach, agent};
use config::Source;
use lastgood_domain::{facts::Outcomes, terms::Span};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};
use ureq::Agent;

/// What was counted, and how far. Kept by the caller over restarts; a new one for each bump.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Count {
    /// Outcomes since the beginning.
    pub outcomes: Outcomes,
    cursors: BTreeMap<PathBuf, Option<Cursor>>,
}

/// Counts users' outcomes of one service.
#[derive(Debug, Clone)]
pub struct Watch {
    source: Source,
    logs: Vec<PathBuf>,
    agent: Agent,
}

impl Watch {
    /// Makes it ready. `logs` are the paths of [`WatchConfig::log`] for each instance; empty with Prometheus.
    pub fn new(config: &WatchConfig, logs: Vec<PathBuf>) -> Self {
        Self { source: config.source.clone(), logs, agent: agent(Reach::Private, 1) }
    }

    /// Begins a count: what is logged from now on.
    ///
    /// Errors: a log that is there and can't be read. One that is not there yet is read from its beginning.
    pub fn begin(&self) -> Result<Count, MetricError> {
        let mut count = Count::default();
        for path in &self.logs {
            count.cursors.insert(path.clone(), log::end(path)?);
        }
        Ok(count)
    }

    /// Brings `count` up to now. With a log it is all since the beginning; with Prometheus what its queries say.
    ///
    /// Errors: [`MetricError`]; `count` is as before then, so the next call goes on from there.
    pub fn count(&self, count: &mut Count) -> Result<Outcomes, MetricError> {
        let mut next = count.clone();
        match &self.source {
            Source::Log { patterns, .. } => {
                for path in &self.logs {
                    next.take_in(path, patterns)?;
                }
            }
            Source::Prometheus { url, good, degraded, broken } => {
                next.outcomes = prometheus::ask(&self.agent, url, good, degraded.as_deref(), broken)?;
            }
        }
        *count = next;
        Ok(count.outcomes)
    }
}

/// Asks a Prometheus for one number; none if the query has no data.
///
/// Errors: [`MetricError`], also when `limit` is over.
pub fn number(url: &str, query: &str, limit: Span) -> Result<Option<f64>, MetricError> {
    prometheus::number_of(&agent(Reach::Private, 1), url, query, limit)
}

impl Count {
    fn take_in(&mut self, path: &Path, patterns: &config::Patterns) -> Result<(), MetricError> {
        let from = self.cursors.get(path).cloned().flatten();
        let reached = log::count(path, from.as_ref(), patterns, &mut self.outcomes)?;
        self.cursors.insert(path.to_path_buf(), reached);
        Ok(())
    }
}
