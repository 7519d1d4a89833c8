//! Reads what signals are judged by: a number of a query, a job's runs, a metric, the gaps of a change log.
//!
//! It reads and does not judge; what can't be read is an error, which the engine takes for "cannot tell".

mod error;
mod gaps;

pub use error::SignalError;
pub use gaps::Watched;

use crate::{
    metric,
    sql::{Database, Limits, Scalar, Table},
};
use lastgood_domain::{signal::leading_failures, terms::Span};

/// Runs of a job that are looked at: more failures in a row than this are said as this many.
const RUNS_MAX: u32 = 200;

/// What a signal is read from.
#[derive(Debug, Clone)]
pub enum Source {
    /// A query that gives one number.
    Number {
        /// The database.
        database: Database,
        /// The query.
        sql: String,
    },
    /// A query that gives a job's runs, the newest first: whether each succeeded, null while it still runs.
    Runs {
        /// The database.
        database: Database,
        /// The query.
        sql: String,
    },
    /// A Prometheus query that gives one number.
    Metric {
        /// Base address of the Prometheus.
        url: String,
        /// The query.
        query: String,
    },
    /// How many changes of a table its change log doesn't know.
    Gaps {
        /// The database.
        database: Database,
        /// The table.
        watched: Watched,
    },
}

/// A number, and what is to be said beside it.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// The number; finite.
    pub value: f64,
    /// Such as the keys of rows; empty if the number says all.
    pub detail: String,
}

impl Source {
    /// Reads it once, within `limit`.
    ///
    /// Errors: [`SignalError`]: nobody knows the number.
    pub fn read(&self, limit: Span) -> Result<Reading, SignalError> {
        let plain = |value| Reading { value, detail: String::new() };
        match self {
            Self::Number { database, sql } => {
                let table = database.query(sql, Limits { time: limit, rows: 2 })?;
                number(&table).map(plain).map_err(|why| SignalError::not_a_number(database.name(), why))
            }
            Self::Runs { database, sql } => {
                let table = database.query(sql, Limits { time: limit, rows: RUNS_MAX })?;
                failures(&table).map(plain).map_err(|why| SignalError::not_a_number(database.name(), why))
            }
            Self::Metric { url, query } => {
                let value = metric::number(url, query, limit)?;
                value.map(plain).ok_or_else(|| SignalError::not_a_number(url, "the query has no data".into()))
            }
            Self::Gaps { database, watched } => watched.count(database, limit),
        }
    }
}

fn number(table: &Table) -> Result<f64, String> {
    let scalar = table.scalar()?;
    scalar
        .as_number()
        .filter(|number| number.is_finite())
        .ok_or_else(|| format!("it gives {scalar}, which is no number"))
}

fn failures(table: &Table) -> Result<f64, String> {
    let succeeded = |row: &Vec<Scalar>| match row.as_slice() {
        [Scalar::Null] => Ok(None),
        [one] => match one.as_number() {
            Some(number) => Ok(Some(number != 0.0)),
            None => Err(format!("a run is {one}; true, false or null are wanted")),
        },
        several => Err(format!("it gives {} columns, one is wanted: whether a run succeeded", several.len())),
    };
    let runs = table.rows.iter().map(succeeded).collect::<Result<Vec<_>, _>>()?;
    leading_failures(runs).map(f64::from)
}
