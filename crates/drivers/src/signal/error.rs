//! Why nobody knows a signal's number.

use crate::{metric::MetricError, sql::SqlError};
use lastgood_domain::failure::Coded;

/// Tells why a signal has no number.
#[derive(Debug, thiserror::Error)]
pub enum SignalError {
    /// The database doesn't answer.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// The Prometheus doesn't answer.
    #[error(transparent)]
    Metric(#[from] MetricError),
    /// The answer is no number.
    #[error("the query at {at} gives no number: {why}")]
    NotANumber {
        /// The database or the Prometheus.
        at: String,
        /// What it gives.
        why: String,
    },
    /// Changes may go by unseen.
    #[error("the triggers on {table} that write its change log are not in force")]
    TriggersOff {
        /// The table.
        table: String,
    },
    /// The table is not there, or has no such column.
    #[error("the table {table} is not there or has no column {column}")]
    NoTable {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
}

impl SignalError {
    pub(super) fn not_a_number(at: &str, why: String) -> Self {
        Self::NotANumber { at: at.into(), why }
    }
}

impl Coded for SignalError {
    fn code(&self) -> &'static str {
        match self {
            Self::Sql(inner) => inner.code(),
            Self::Metric(inner) => inner.code(),
            Self::NotANumber { .. } => "signal-not-a-number",
            Self::TriggersOff { .. } => "signal-triggers-off",
            Self::NoTable { .. } => "signal-no-table",
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Sql(inner) => inner.hint(),
            Self::Metric(inner) => inner.hint(),
            Self::NotANumber { .. } => Some("make it one number: SELECT count(*) FROM …".into()),
            Self::TriggersOff { .. } => Some("install them: lastgood signal triggers NAME --install".into()),
            Self::NoTable { .. } => Some("see gaps = { table = \"…\", key = [\"…\"] } in lastgood.toml".into()),
        }
    }
}
