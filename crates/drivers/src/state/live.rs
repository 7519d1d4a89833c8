//! A live database: held at one point in time by a read transaction, and copied page by page.
//!
//! What a service feels of this is the length of the transaction. Its log grows until the end of it, and the first write
//! that may merge the log then merges all of it at once. So the copy runs at the speed of memory as far as memory goes,
//! and is written to the disk later, in small parts (`copy::flush_in_parts`).

use super::{
    copy::FLUSH_BYTES,
    error::StateError,
    manifest::DatabaseFacts,
    snapshot::Recovery,
    sqlite::{facts_of, side, sizes},
};
use rusqlite::{
    Connection, OpenFlags,
    backup::{Backup, StepResult},
    config::DbConfig,
};
use rustix::fs::OFlags;
use std::{
    fs::File,
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::mpsc::{self, RecvTimeoutError},
    thread::{self, ScopedJoinHandle},
    time::{Duration, Instant},
};

/// 10 s: twice the five seconds that most services give their own writers to wait.
pub(super) const BUSY_WAIT: Duration = Duration::from_secs(10);
/// 2 MiB: the measured step between two pauses that kept a writer's longest wait at 10 ms.
const STEP_BYTES: i64 = 2 << 20;
/// 2 ms: lets the service's flushes pass between two steps.
const STEP_PAUSE: Duration = Duration::from_millis(2);
/// 100 pauses of 2 ms; a new file that nobody else knows is never locked for long.
const COPY_WAITS_MAX: u32 = 100;
/// 64 pages stay in the processor's cache; SQLite's own 2 MiB are half as fast, and no page is needed twice.
const COPY_CACHE_PAGES: u32 = 64;
/// 100 ms: 4 MiB of log at 1,400 writes a second.
const LOG_FLUSH_EVERY: Duration = Duration::from_millis(100);

/// A live database inside one read transaction.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) connection: Connection,
    path: PathBuf,
    began: Instant,
    wal: bool,
}

impl Live {
    /// Does the same, but changes nothing of a database that only a connection which may write can read.
    pub(super) fn begin_for(path: &Path, recovery: Recovery) -> Result<Self, StateError> {
        match recovery {
            Recovery::Allowed => Self::begin(path),
            Recovery::Refused => match Self::begin_with(path, OpenFlags::SQLITE_OPEN_READ_ONLY) {
                Err(error) if needs_recovery(&error) && has_log(path) => {
                    Err(StateError::NeedsRecovery { path: path.into() })
                }
                // One that nobody has open and that was closed well: nothing is there to be recovered.
                Err(error) if needs_recovery(&error) => Self::begin(path),
                other => other.map_err(|error| StateError::sqlite("read", path, &error)),
            },
        }
    }

    /// Connects without writing, checkpointing or following a link, and begins the read transaction.
    pub(crate) fn begin(path: &Path) -> Result<Self, StateError> {
        match Self::begin_with(path, OpenFlags::SQLITE_OPEN_READ_ONLY) {
            // A journal or log left by a killed service: only a connection that may write can do what the service
            // itself would do at its start.
            Err(error) if needs_recovery(&error) => Self::begin_with(path, OpenFlags::SQLITE_OPEN_READ_WRITE),
            other => other,
        }
        .map_err(|error| StateError::sqlite("read", path, &error))
    }

    fn begin_with(path: &Path, access: OpenFlags) -> rusqlite::Result<Self> {
        let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY_WAIT)?;
        // When the service stops while we read, our connection is the last one: it must leave the log alone.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
        connection.execute_batch("PRAGMA query_only = 1; BEGIN")?;
        let began = Instant::now();
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        let mode: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
        Ok(Self { connection, path: path.into(), began, wal: mode == "wal" })
    }

    /// Says whether writers go on while the transaction is open.
    pub(super) fn lets_writers_pass(&self) -> bool {
        self.wal
    }

    /// Gives how long the transaction has been open.
    pub(super) fn held(&self) -> Duration {
        self.began.elapsed()
    }

    /// Gives the facts as they are inside the transaction.
    pub(super) fn facts(&self) -> Result<DatabaseFacts, StateError> {
        facts_of(&self.connection, &self.path, self.wal)
    }

    /// Copies the database page by page, as it was when the transaction began, to a new file.
    ///
    /// The transaction is what makes it end: without it, each write of the service starts the copy anew. All but the last
    /// `unwritten_bytes_max` are written to the disk meanwhile; gives the byte from which on they may not be.
    pub(super) fn copy_to(&self, copy: &Path, unwritten_bytes_max: i64) -> Result<u64, StateError> {
        let ours = |error: rusqlite::Error| StateError::sqlite("write", copy, &error);
        let mut to = Connection::open(copy).map_err(ours)?;
        // The copy has no name yet and is synced by us before it gets one: a journal would only cost.
        to.execute_batch(&format!(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE;
             PRAGMA cache_size = {COPY_CACHE_PAGES}"
        ))
        .map_err(ours)?;
        // Opened once for syncing, and closed after the connection: nobody else locks this file.
        let file = File::open(copy).map_err(|error| StateError::io("open", copy, error))?;
        // SQLite locks no -wal, so closing it drops nothing.
        let plain = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
        let log = File::options().read(true).custom_flags(plain).open(side(&self.path, "-wal")).ok();
        let unwritten = thread::scope(|scope| {
            let (_copied, copying) = mpsc::channel::<()>();
            if let Some(log) = &log {
                scope.spawn(move || flush_log(log, &copying));
            }
            self.copy_pages(&mut to, &file, copy, unwritten_bytes_max)
        })?;
        to.close().map_err(|(_, error)| ours(error))?;
        Ok(unwritten)
    }

    fn copy_pages(
        &self,
        to: &mut Connection,
        file: &File,
        copy: &Path,
        unwritten_bytes_max: i64,
    ) -> Result<u64, StateError> {
        let theirs = |error: rusqlite::Error| StateError::sqlite("copy", &self.path, &error);
        let (page_bytes, pages) = sizes(&self.connection).map_err(theirs)?;
        if self.wal {
            // Reading through the kernel costs as much as the copy itself. Nobody cuts a file that a reader is in.
            self.connection.execute_batch("PRAGMA mmap_size = 1099511627776").map_err(theirs)?;
        }
        // The last part of the copy is left in memory; all of it if writers wait for us.
        let tail_bytes = if self.lets_writers_pass() { unwritten_bytes_max } else { i64::MAX };
        let tail_pages = tail_bytes.max(FLUSH_BYTES as i64) / page_bytes;
        let backup = Backup::new(&self.connection, to).map_err(|error| StateError::sqlite("write", copy, &error))?;
        let step = i32::try_from((STEP_BYTES / page_bytes).max(1)).unwrap_or(i32::MAX);
        thread::scope(|scope| {
            let (mut unsynced, mut waits, mut flush) = (0, 0, None);
            let flushed = |flush: ScopedJoinHandle<'_, io::Result<()>>| {
                let done = flush.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()));
                done.map_err(|error| StateError::io("sync", copy, error))
            };
            loop {
                match backup.step(step).map_err(theirs)? {
                    StepResult::Done => break,
                    // Only a lock on the copy itself could do this, and nobody else has its name.
                    StepResult::Busy | StepResult::Locked if waits > COPY_WAITS_MAX => {
                        return Err(StateError::Busy { path: self.path.clone(), waited_seconds: 1 });
                    }
                    StepResult::Busy | StepResult::Locked => {
                        waits += 1;
                        thread::sleep(STEP_PAUSE);
                        continue;
                    }
                    _ => unsynced += STEP_BYTES,
                }
                if i64::from(backup.progress().remaining) < tail_pages {
                    continue;
                }
                if unsynced >= FLUSH_BYTES as i64 {
                    // The disk writes one part while the next is read.
                    if let Some(before) = flush.replace(scope.spawn(|| file.sync_data())) {
                        flushed(before)?;
                    }
                    unsynced = 0;
                }
                thread::sleep(STEP_PAUSE);
            }
            flush.map_or(Ok(()), flushed)
        })?;
        // What SQLite still kept in its cache was written last.
        let tail = tail_pages.saturating_add(i64::from(COPY_CACHE_PAGES)).saturating_mul(page_bytes);
        Ok(u64::try_from((pages * page_bytes).saturating_sub(tail)).unwrap_or(0))
    }
}

/// Has the service's log written to the disk while we keep the service from merging it.
///
/// Otherwise all of it would be written within the one write that merges it. It changes nothing in the log; a failure
/// only makes that write wait longer.
fn flush_log(log: &File, copying: &mpsc::Receiver<()>) {
    while copying.recv_timeout(LOG_FLUSH_EVERY) == Err(RecvTimeoutError::Timeout) {
        let _ = log.sync_data();
    }
}

fn needs_recovery(error: &rusqlite::Error) -> bool {
    // SQLITE_READONLY and its kinds (recovery, rollback, cannot init), and CANTOPEN for a missing -shm.
    matches!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::ReadOnly | rusqlite::ErrorCode::CannotOpen))
}

/// Tells whether something stands in a journal or log beside a database.
fn has_log(path: &Path) -> bool {
    ["-wal", "-journal"].iter().any(|suffix| side(path, suffix).metadata().is_ok_and(|facts| facts.len() > 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::sqlite::check_copy;

    #[test]
    fn a_copy_larger_than_what_may_lie_unwritten_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let (source, copy) = (folder.path().join("source"), folder.path().join("copy"));
        let made = Connection::open(&source).unwrap();
        made.execute_batch(
            "PRAGMA journal_mode = WAL; CREATE TABLE t (a);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 24000)
               INSERT INTO t SELECT randomblob(1000) FROM n;
             PRAGMA wal_checkpoint(TRUNCATE)",
        )
        .unwrap();
        let live = Live::begin(&source).unwrap();
        made.execute_batch("UPDATE t SET a = 'later'").unwrap();
        let unwritten = live.copy_to(&copy, 8 << 20).unwrap();
        let facts = check_copy(&copy, &source).unwrap();
        assert_eq!(facts, live.facts().unwrap());
        let file = std::fs::read(&copy).unwrap();
        assert_eq!(unwritten, file.len() as u64 - (8 << 20) - 64 * 4096);
        // Readers see what the log has; the file itself is as it was when the transaction began. Page 1 has a counter.
        assert!(file[4096..] == std::fs::read(&source).unwrap()[4096..file.len()]);
    }
}
