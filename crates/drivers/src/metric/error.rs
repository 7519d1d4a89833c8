//! Why outcomes can't be told: never a verdict about the release.

use lastgood_domain::failure::Coded;
use std::{io, path::PathBuf};

/// Tells why outcomes could not be counted.
#[derive(Debug, thiserror::Error)]
pub enum MetricError {
    /// The log can't be read.
    #[error("the log {} can't be read", path.display())]
    LogUnreadable {
        /// The log.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// There is something else than a file at the log's path.
    #[error("the log {} is not a regular file", path.display())]
    LogNotAFile {
        /// The path.
        path: PathBuf,
    },
    /// Prometheus gave no answer or refused the query.
    #[error("the query `{key}` failed at {url}: {why}")]
    QueryFailed {
        /// Which of the three queries.
        key: &'static str,
        /// The Prometheus asked.
        url: String,
        /// What came instead.
        why: String,
    },
    /// The answer is not one number.
    #[error("the query `{key}` does not give one count: {why}")]
    NotACount {
        /// Which of the three queries.
        key: &'static str,
        /// What it gives.
        why: String,
    },
    /// A counter of a release is not there, or has no fresh sample.
    #[error("the query `{key}` has no fresh sample of {release} at {url}")]
    NoSample {
        /// Which query.
        key: &'static str,
        /// Whose counter.
        release: String,
        /// The Prometheus asked.
        url: String,
    },
    /// No query knows anything.
    #[error("none of the queries at {url} has any data")]
    NoData {
        /// The Prometheus asked.
        url: String,
    },
}

impl Coded for MetricError {
    fn code(&self) -> &'static str {
        match self {
            Self::LogUnreadable { .. } | Self::LogNotAFile { .. } => "metric-log-unreadable",
            Self::QueryFailed { .. } => "metric-query-failed",
            Self::NotACount { .. } => "metric-not-a-count",
            Self::NoData { .. } | Self::NoSample { .. } => "metric-no-data",
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::LogUnreadable { path, .. } | Self::LogNotAFile { path } => {
                format!("check the path and who may read it: ls -l {}", path.display())
            }
            Self::QueryFailed { url, .. } | Self::NoData { url } => format!("try the query by hand: {url}/graph"),
            Self::NoSample { url, .. } => {
                format!("see whether it is scraped: {url}/targets; where a counter begins late, add: or vector(0)")
            }
            Self::NotACount { .. } => "wrap it: sum(increase(…[5m]))".into(),
        })
    }
}
