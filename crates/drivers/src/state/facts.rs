//! What is in a place: cheap sizes of a live one, full facts of a still one.

use super::{
    beneath::Folder,
    copy,
    error::StateError,
    place::StatePlace,
    scan::{self, Headers, Kind},
    sqlite,
};
use lastgood_domain::terms::Digest;

/// What is in a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaceFacts {
    /// Bytes of all files.
    pub bytes: u64,
    /// Number of files.
    pub files: u64,
    /// Rows over all tables of all SQLite files.
    pub rows: u64,
    /// Digest over the normalised schemas of all SQLite files; comparable with a snapshot's.
    pub schema: Digest,
}

/// Gives the bytes on disk of the data, to find the most demanding instance; opens no file, so it may be live.
pub fn demand(place: &StatePlace) -> Result<u64, StateError> {
    let mut bytes = 0;
    for root in place.roots()? {
        let folder = Folder::open(&root.base)?;
        let scan = scan::scan(&folder, &root, Headers::Ignored)?;
        let files = scan.seen.values().filter(|seen| seen.kind == Kind::File);
        bytes += files.map(|seen| copy::allocated(&seen.stat)).sum::<u64>();
        // Walking a folder without headers has counted the logs as files.
        if matches!(root.scope, super::place::Scope::Only(_)) {
            bytes += scan.wal_bytes;
        }
    }
    Ok(bytes)
}

/// Gives the facts of data that nobody writes: a rehearsal's copy, a stopped instance.
///
/// It opens files and databases in this process, so for a live place it could drop SQLite's locks: never call it then.
pub fn facts(place: &StatePlace) -> Result<PlaceFacts, StateError> {
    let (mut bytes, mut files, mut rows) = (0, 0, 0);
    let mut schemas = Vec::new();
    for (number, root) in place.roots()?.iter().enumerate() {
        let folder = Folder::open(&root.base)?;
        for (path, seen) in scan::scan(&folder, root, Headers::Read)?.seen {
            match seen.kind {
                Kind::File | Kind::Database { .. } => {
                    files += 1;
                    bytes += u64::try_from(seen.stat.st_size).unwrap_or(0);
                }
                Kind::Folder | Kind::Link | Kind::Special(_) => {}
            }
            if matches!(seen.kind, Kind::Database { .. }) {
                let known = sqlite::still_facts(&root.base.join(&path))?;
                rows += known.rows();
                schemas.push((number, path, known.schema));
            }
        }
    }
    let named = schemas.iter().map(|(number, path, schema)| (*number, path.as_os_str(), *schema));
    Ok(PlaceFacts { bytes, files, rows, schema: sqlite::digest_of_schemas(named) })
}
