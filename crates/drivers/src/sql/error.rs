//! Why a question has no answer. No text holds a secret.

use super::postgres::Trouble;
use crate::state::StateError;
use lastgood_domain::{failure::Coded, terms::Span};
use std::{io, path::PathBuf};

/// Tells why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum SqlError {
    /// The secret that is its password is not among the secrets.
    #[error("the database {database} needs the secret {secret}, which does not exist")]
    SecretMissing {
        /// The database.
        database: String,
        /// The secret.
        secret: String,
    },
    /// It can't be reached.
    #[error("the database {database} can't be reached: {why}")]
    Unreachable {
        /// The database.
        database: String,
        /// What came instead.
        why: String,
    },
    /// The server doesn't let us in.
    #[error("the database {database} refuses the log-in: {said}")]
    LogInRefused {
        /// The database.
        database: String,
        /// What the server said.
        said: String,
    },
    /// The question was refused.
    #[error("the database {database} refuses the query: {said}")]
    QueryRefused {
        /// The database.
        database: String,
        /// What the database said.
        said: String,
    },
    /// There is no answer within the limit.
    #[error("the database {database} did not answer within {limit}")]
    TimedOut {
        /// The database.
        database: String,
        /// The limit.
        limit: Span,
    },
    /// The answer has too many bytes.
    #[error("the answer of the database {database} has more than {limit_bytes} bytes")]
    TooLong {
        /// The database.
        database: String,
        /// The limit in bytes.
        limit_bytes: usize,
    },
    /// The file can't be opened, or not as its owner.
    #[error("the database {database} can't be read")]
    File {
        /// The database.
        database: String,
        /// Why.
        source: StateError,
    },
    /// The process that reads the file could not be run.
    #[error("the process that reads {} failed", path.display())]
    Worker {
        /// The database's file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl SqlError {
    pub(super) fn of_postgres(database: &str, limit: Span, trouble: Trouble) -> Self {
        let database = database.to_owned();
        match trouble {
            Trouble::Unreachable(why) => Self::Unreachable { database, why },
            Trouble::LogInRefused(said) => Self::LogInRefused { database, said: said.to_string() },
            Trouble::Refused(said) => Self::QueryRefused { database, said: said.to_string() },
            Trouble::TimedOut => Self::TimedOut { database, limit },
            Trouble::TooLong(limit_bytes) => Self::TooLong { database, limit_bytes },
        }
    }
}

impl Coded for SqlError {
    fn code(&self) -> &'static str {
        match self {
            Self::SecretMissing { .. } => "database-secret-missing",
            Self::Unreachable { .. } => "database-unreachable",
            Self::LogInRefused { .. } => "database-log-in-refused",
            Self::QueryRefused { .. } => "database-query-refused",
            Self::TimedOut { .. } => "database-timed-out",
            Self::TooLong { .. } => "database-answer-too-long",
            Self::File { source, .. } => source.code(),
            Self::Worker { .. } => "database-worker-failed",
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::SecretMissing { secret, .. } => {
                format!("add [secret.{secret}] with file = \"/etc/lastgood/{secret}\" to lastgood.toml")
            }
            Self::Unreachable { .. } => "see whether it runs: pg_isready; and its address in lastgood.toml".into(),
            Self::LogInRefused { .. } => "see the role, its password and pg_hba.conf on the server".into(),
            Self::QueryRefused { .. } => "try it by hand, as the same role and in a read-only transaction".into(),
            Self::TimedOut { .. } => "see what it waits for, or give the query an index".into(),
            Self::TooLong { .. } => "ask for less: count(*) instead of rows".into(),
            Self::File { source, .. } => return source.hint(),
            Self::Worker { .. } => "see whether lastgood's own file may be executed".into(),
        })
    }
}
