//! The evidence of somebody else while nobody writes it.
//!
//! SQLite makes two files beside a database in WAL mode before it reads it, and the last to close removes them. Whoever may
//! read the folder and not write it finds them only while somebody else has the database open; else a copy is read, which
//! is whole if nobody began to write meanwhile.

use super::connect;
use crate::error::StoreError;
use rusqlite::{Connection, OpenFlags, ffi::SQLITE_READONLY_DIRECTORY};
use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

/// Copies made by this process; each has a name of its own.
static COPIES: AtomicU64 = AtomicU64::new(0);

/// Tells whether a database could not be read because something would have to be made beside it.
pub(super) fn would_write(error: &StoreError) -> bool {
    let StoreError::Open { source: rusqlite::Error::SqliteFailure(error, _), .. } = error else { return false };
    error.extended_code == SQLITE_READONLY_DIRECTORY
}

/// What shows that nobody has written in between: size, time of the last change, and which file it is.
fn facts(path: &Path) -> io::Result<(u64, i64, i64, u64)> {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    if fs::metadata(&log).is_ok_and(|log| log.len() > 0) {
        return Err(io::Error::other("somebody writes it"));
    }
    let file = fs::metadata(path)?;
    Ok((file.len(), file.mtime(), file.mtime_nsec(), file.ino()))
}

/// Opens a copy of the database at `path`; nothing of it is left under a name.
///
/// Errors, the outer ones: it can't be copied, or somebody began to write it.
pub(super) fn open(path: &Path) -> io::Result<Result<Connection, StoreError>> {
    let copy = copied(path)?;
    let name: String = copy
        .to_string_lossy()
        .chars()
        .map(|one| match one {
            '%' => "%25".into(),
            '?' => "%3f".into(),
            '#' => "%23".into(),
            other => String::from(other),
        })
        .collect();
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let connection = connect(Path::new(&format!("file:{name}?immutable=1")), flags);
    // Read once, so that the file is open before its name goes.
    let opened = connection.and_then(|connection| {
        let read = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()));
        read.map_err(|source| StoreError::Open { path: path.into(), source }).map(|()| connection)
    });
    fs::remove_file(&copy)?;
    Ok(opened)
}

fn copied(path: &Path) -> io::Result<PathBuf> {
    let before = facts(path)?;
    let number = COPIES.fetch_add(1, Ordering::Relaxed);
    let copy = std::env::temp_dir().join(format!("lastgood-look-{}-{number}", std::process::id()));
    // 0600 and new: others who use the folder for temporary files neither read it nor lay one ready.
    let mut to = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&copy)?;
    let done = File::open(path).and_then(|mut from| io::copy(&mut from, &mut to)).and_then(|_| facts(path));
    match done {
        Ok(after) if after == before => Ok(copy),
        other => {
            fs::remove_file(&copy)?;
            Err(other.err().unwrap_or_else(|| io::Error::other("somebody began to write it")))
        }
    }
}
