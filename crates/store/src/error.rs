//! How the store fails, with what to do next.

use lastgood_domain::{failure::Coded, terms::ChainName};
use std::{io, path::PathBuf};

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The state folder could not be made or read.
    #[error("the state folder {} cannot be used", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The evidence file could not be opened.
    #[error("the evidence file {} cannot be opened", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// SQLite's answer.
        source: rusqlite::Error,
    },
    /// The file was written by a newer lastgood.
    #[error("the evidence file {} has schema {found}; this lastgood knows up to {known}", path.display())]
    NewerSchema {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The newest schema known here.
        known: i64,
    },
    /// The file was written by an older lastgood and nobody has opened it for driving since.
    #[error("the evidence file {} has schema {found}; reading needs {known}", path.display())]
    OlderSchema {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The schema that reading needs.
        known: i64,
    },
    /// The file is a database of something else.
    #[error("{} is a database, but not lastgood's evidence", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// Another process kept the file locked for longer than we wait.
    #[error("could not {act}: another process has kept the evidence file locked for {waited_seconds} s")]
    Busy {
        /// What was tried.
        act: &'static str,
        /// How long it was waited.
        waited_seconds: u64,
    },
    /// No space is left.
    #[error("could not {act}: no space is left for the evidence file")]
    NoSpace {
        /// What was tried.
        act: &'static str,
        /// SQLite's answer.
        source: rusqlite::Error,
    },
    /// SQLite refused something else.
    #[error("could not {act}")]
    Sql {
        /// What was tried.
        act: &'static str,
        /// SQLite's answer.
        source: rusqlite::Error,
    },
    /// A stored value has a form that we never write, or the file's pages are damaged.
    #[error("could not {act}: the evidence file holds what lastgood never writes")]
    Damaged {
        /// What was tried.
        act: &'static str,
        /// SQLite's answer.
        source: rusqlite::Error,
    },
    /// A stored value can't be what we wrote.
    #[error("chain {chain}: the stored {what} is not what lastgood writes")]
    Corrupt {
        /// The chain.
        chain: ChainName,
        /// What is wrong.
        what: String,
    },
}

/// How long a statement waits for another process's lock. An append takes milliseconds, a slow disk seconds.
pub(crate) const BUSY_WAIT_SECONDS: u64 = 10;

/// Turns SQLite's answers into ours, naming the act.
pub(crate) fn during(act: &'static str) -> impl Fn(rusqlite::Error) -> StoreError {
    move |source| match source.sqlite_error_code() {
        _ if is_malformed(&source) => StoreError::Damaged { act, source },
        Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked) => {
            StoreError::Busy { act, waited_seconds: BUSY_WAIT_SECONDS }
        }
        Some(rusqlite::ErrorCode::DiskFull) => StoreError::NoSpace { act, source },
        _ => StoreError::Sql { act, source },
    }
}

fn is_malformed(error: &rusqlite::Error) -> bool {
    use rusqlite::{Error, ErrorCode};
    matches!(
        error,
        Error::FromSqlConversionFailure(..) | Error::InvalidColumnType(..) | Error::IntegralValueOutOfRange(..)
    ) || matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

impl Coded for StoreError {
    fn code(&self) -> &'static str {
        match self {
            Self::Folder { .. } | Self::Open { .. } | Self::Foreign { .. } => "store-cannot-open",
            Self::NewerSchema { .. } => "store-newer-schema",
            Self::OlderSchema { .. } => "store-older-schema",
            Self::Busy { .. } => "store-busy",
            Self::NoSpace { .. } => "store-no-space",
            Self::Sql { .. } => "store-failed",
            Self::Corrupt { .. } | Self::Damaged { .. } => "evidence-broken",
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Folder { path, .. } => format!("check owner and mode: ls -ld {}", path.display()),
            Self::Open { path, .. } | Self::Foreign { path } => {
                format!("check owner, mode and kind of the file: ls -l {0}; file {0}", path.display())
            }
            Self::NewerSchema { .. } => "run the lastgood that wrote it, or a newer one".into(),
            Self::OlderSchema { .. } => "a command that writes brings the file up: lastgood evidence checkpoint".into(),
            Self::Busy { .. } => "see who drives: lastgood status".into(),
            Self::NoSpace { .. } => "free space on the state folder's file system, then run the command again".into(),
            Self::Sql { .. } => "check the disk, then: lastgood evidence verify".into(),
            Self::Corrupt { .. } | Self::Damaged { .. } => {
                "find the first bad position: lastgood evidence verify".into()
            }
        })
    }
}
