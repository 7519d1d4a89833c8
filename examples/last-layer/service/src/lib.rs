//! The last layer: a small real chat service over HTTP and WebSocket, in releases good and bad, and its users.
//!
//! It exists so that moving traffic between releases moves something that can really break: messages that must
//! neither be lost nor come twice, sockets that are cut off and come back, and two releases at once on one database.
//! One program plays all releases ([`Release`]); [`load`] plays the users.

mod folder;
pub mod load;
mod place;
mod release;
mod rooms;
mod schema;
mod service;
mod socket;
mod store;

pub use folder::{write_release, write_releases};
pub use place::Place;
pub use release::{Fault, Release, catalogue};
pub use service::serve;

use std::io::Write;
use std::path::PathBuf;

/// Name of the data file in the data folder.
pub const DATA_FILE: &str = "last-layer.sqlite";

/// Why the service could not do something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LastLayerError {
    /// There is no release of that name.
    #[error("there is no release {0}; name one of the catalogue, or a release.json by its path")]
    NoSuchRelease(String),
    /// The behaviour file can't be read.
    #[error("can't read the release file {file}", file = file.display())]
    ReleaseUnreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
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
    /// A file or folder can't be made.
    #[error("can't write {path}", path = path.display())]
    Unwritable {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Nothing can be heard on the address, or the system gives no threads.
    #[error("can't listen on {address}")]
    Deaf {
        /// Address and port.
        address: String,
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

/// Writes one line to the service's log, which is standard error. A log that is gone stops nobody.
fn report(line: &str) {
    let _gone = writeln!(std::io::stderr(), "last-layer: {line}");
}
