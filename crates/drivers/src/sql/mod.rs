//! One read-only question to a database: SQLite files and PostgreSQL servers.
//!
//! It reads and does not judge. A question has a limit of time and of rows; its answer is typed. Nothing here can write:
//! SQLite is opened read-only by a child process that runs as the file's owner, PostgreSQL asked inside a read-only
//! transaction.

mod config;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
pub(crate) mod postgres;
mod sqlite;
mod table;

pub use config::{DatabaseConfig, DatabaseKeys};
pub use error::SqlError;
pub use postgres::Address;
pub use sqlite::worker_main;
pub use table::{Scalar, Table};

use crate::probe::Secrets;
use lastgood_domain::terms::Span;
use std::{
    fmt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// How long an answer may take and how long it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Time for all of it: connecting, asking, reading.
    pub time: Span,
    /// Rows that are read; what comes behind is left out, and [`Table::more`] says so.
    pub rows: u32,
}

impl Default for Limits {
    /// 5 s, 1000 rows.
    fn default() -> Self {
        Self { time: Span::seconds(5), rows: 1_000 }
    }
}

/// The program that reads SQLite files in a process of its own: lastgood itself.
#[derive(Debug, Clone)]
pub struct Worker {
    /// The program that runs [`worker_main`].
    pub program: PathBuf,
    /// Its arguments, such as `internal query`.
    pub arguments: Vec<String>,
}

impl Worker {
    /// Makes a worker that is `program internal query`.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), arguments: vec!["internal".into(), "query".into()] }
    }
}

/// The language of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// SQLite's.
    Sqlite,
    /// PostgreSQL's.
    Postgres,
}

/// A database with its secret read, ready to be asked. Its `Debug` shows no secret.
#[derive(Clone)]
pub struct Database {
    name: String,
    place: Place,
}

#[derive(Clone)]
enum Place {
    Sqlite { path: PathBuf, worker: Worker },
    Postgres { address: Address, password: Option<String> },
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Database {
    /// Makes the database `name` ready: a relative path starts at `folder`. Nothing is opened yet.
    ///
    /// Errors: its secret is not there.
    pub fn prepare(
        name: &str,
        config: &DatabaseConfig,
        folder: &Path,
        worker: &Worker,
        secrets: &Secrets,
    ) -> Result<Self, SqlError> {
        let place = match config {
            DatabaseConfig::Sqlite { path } => Place::Sqlite { path: folder.join(path), worker: worker.clone() },
            DatabaseConfig::Postgres { address, secret } => {
                let value = |secret: &String| {
                    let missing = || SqlError::SecretMissing { database: name.into(), secret: secret.clone() };
                    secrets.get(secret).map(str::to_owned).ok_or_else(missing)
                };
                Place::Postgres { address: address.clone(), password: secret.as_ref().map(value).transpose()? }
            }
        };
        Ok(Self { name: name.into(), place })
    }

    /// Gives the name it has in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Gives the language it speaks.
    pub fn dialect(&self) -> Dialect {
        match self.place {
            Place::Sqlite { .. } => Dialect::Sqlite,
            Place::Postgres { .. } => Dialect::Postgres,
        }
    }

    /// Runs statements in one transaction that writes; for the triggers of change logs, and nothing else.
    ///
    /// Errors: as [`Database::query`]; nothing has changed then.
    pub fn install(&self, script: &str, limits: Limits) -> Result<(), SqlError> {
        let deadline = Instant::now() + limits.time.duration();
        match &self.place {
            Place::Sqlite { path, worker } => sqlite::install(&self.name, path, worker, script, limits, deadline),
            Place::Postgres { address, password } => {
                let done = postgres::install(address, password.as_deref(), script, limits, deadline);
                done.map_err(|trouble| SqlError::of_postgres(&self.name, limits.time, trouble))
            }
        }
    }

    /// Gives where a server is and the password for it; none for a file.
    pub(crate) fn server(&self) -> Option<(&Address, Option<&str>)> {
        match &self.place {
            Place::Postgres { address, password } => Some((address, password.as_deref())),
            Place::Sqlite { .. } => None,
        }
    }

    /// Asks one question, which is one statement without parameters.
    ///
    /// Errors: [`SqlError`]; it names the database and never a secret.
    pub fn query(&self, sql: &str, limits: Limits) -> Result<Table, SqlError> {
        let deadline = Instant::now() + limits.time.duration();
        match &self.place {
            Place::Sqlite { path, worker } => sqlite::query(&self.name, path, worker, sql, limits, deadline),
            Place::Postgres { address, password } => {
                let asked = postgres::query(address, password.as_deref(), sql, limits, deadline);
                asked.map_err(|trouble| SqlError::of_postgres(&self.name, limits.time, trouble))
            }
        }
    }
}

/// Gives the time that is left, at least 1 ms: 0 would mean no limit.
fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
}
