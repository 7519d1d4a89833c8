//! The notebook: a small real service with accounts, notes and SQLite data, in a dozen releases good and bad.
//!
//! It exists so that the demo, the crash tests and the benchmarks roll out something that can really break:
//! every release is a folder, every fault happens in a real process with real data, and nothing is pretended.
//! One program plays all releases ([`Release`]), so the `lastgood` binary can carry it ([`run`]).

mod access_log;
mod accounts;
mod folder;
mod http;
mod password;
mod release;
mod schema;
mod seed;
mod service;

pub use folder::{republish, write_release, write_releases};
pub use release::{FIRST_LOGIN_PATH, Fault, Release, SECOND_LOGIN_PATH, catalogue};
pub use schema::migrations_of;
pub use seed::{Seed, seed};
pub use service::serve;

use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Name of the data file in the data folder.
pub const DATA_FILE: &str = "notebook.sqlite";

/// Where an instance of the notebook lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Folder of the data.
    pub data: PathBuf,
    /// Address to listen on.
    pub bind: IpAddr,
    /// Port to listen on; 0 takes a free one, which the first line of the log names.
    pub port: u16,
}

impl Place {
    /// Reads `NOTEBOOK_DATA`, `NOTEBOOK_PORT` and `NOTEBOOK_BIND` (default: `127.0.0.1`).
    pub fn of_environment() -> Result<Self, NotebookError> {
        let read = |name: &'static str| {
            std::env::var(name).map_err(|cause| NotebookError::Environment { name, reason: cause.to_string() })
        };
        let port = read("NOTEBOOK_PORT")?;
        let bind = read("NOTEBOOK_BIND").unwrap_or_else(|_| "127.0.0.1".to_owned());
        Ok(Self {
            data: read("NOTEBOOK_DATA")?.into(),
            bind: bind.parse().map_err(|_| wrong("NOTEBOOK_BIND", &bind, "an IP address"))?,
            port: port.parse().map_err(|_| wrong("NOTEBOOK_PORT", &port, "a port"))?,
        })
    }

    /// Gives the path of the data file.
    pub fn data_file(&self) -> PathBuf {
        self.data.join(DATA_FILE)
    }
}

/// Runs the release of the behaviour file in the place that the environment names, until it is told to stop.
///
/// `arguments` are those after the program's name: `--release FILE`.
pub fn run(arguments: &[String]) -> Result<(), NotebookError> {
    match arguments {
        [flag, file] if flag == "--release" => {
            let release = Release::read(Path::new(file))?;
            serve(&release, &Place::of_environment()?)
        }
        _ => Err(NotebookError::Usage),
    }
}

/// Why the notebook could not do something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotebookError {
    /// The arguments make no sense.
    #[error("usage: notebook --release FILE")]
    Usage,
    /// An environment variable is missing or wrong.
    #[error("{name}: {reason}")]
    Environment {
        /// Name of the variable.
        name: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The behaviour file can't be read.
    #[error("can't read the release file {file}", file = file.display())]
    ReleaseUnreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The behaviour file is far too long to be one.
    #[error("the release file {file} has {bytes} bytes; at most {bytes_max} are read", file = file.display())]
    ReleaseTooLong {
        /// The file.
        file: PathBuf,
        /// Its length.
        bytes: u64,
        /// The most that is read.
        bytes_max: u64,
    },
    /// The behaviour file doesn't say what a release is.
    #[error("the release file {file} makes no sense", file = file.display())]
    ReleaseMeaningless {
        /// The file.
        file: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The release lists a migration that this program doesn't have.
    #[error("release {version} lists migration {number}, which doesn't exist")]
    NoSuchMigration {
        /// The release.
        version: String,
        /// The number.
        number: u32,
    },
    /// The data is newer than the release.
    #[error("unknown migration {number} ({name}): the data is newer than release {version}")]
    UnknownMigration {
        /// The first migration that the release doesn't know.
        number: u32,
        /// Its name.
        name: String,
        /// The release.
        version: String,
    },
    /// A migration failed; the data is as it was before it.
    #[error("migration failed: {number} {name}")]
    MigrationFailed {
        /// The migration.
        number: u32,
        /// Its name.
        name: &'static str,
        /// Why.
        source: rusqlite::Error,
    },
    /// The data file can't be opened or read.
    #[error("can't use the data in {file}", file = file.display())]
    DataUnreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    NoChance(#[from] getrandom::Error),
    /// A file or folder can't be made.
    #[error("can't write {path}", path = path.display())]
    Unwritable {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Nothing can be heard on the address.
    #[error("can't listen on {bind}:{port}")]
    Deaf {
        /// The address.
        bind: IpAddr,
        /// The port.
        port: u16,
        /// Why.
        source: std::io::Error,
    },
}

/// Gives an error with all its causes, in one line.
pub fn whole_story(error: &(dyn std::error::Error + 'static)) -> String {
    // No error of ours has more than three causes; the limit is for those of others.
    const CAUSES_MAX: usize = 10;
    std::iter::successors(Some(error), |error| error.source())
        .take(CAUSES_MAX)
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

fn wrong(name: &'static str, value: &str, wanted: &str) -> NotebookError {
    NotebookError::Environment { name, reason: format!("{value} is not {wanted}") }
}

/// Writes one line to the service's log, which is standard error. A log that is gone stops nobody.
fn report(line: &str) {
    let _gone = writeln!(std::io::stderr(), "notebook: {line}");
}
