//! Opens the evidence file: one writer's handle, and a reader's handle for those who only look.

mod still;

use crate::{
    EVIDENCE_FILE,
    error::{BUSY_WAIT_SECONDS, StoreError},
    private::{close_to_others, make_private},
    schema,
};
use rusqlite::{Connection, OpenFlags};
use std::{
    fs::DirBuilder,
    ops::Deref,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Switching a new file takes milliseconds, or as long as its disk needs for one write: 500 tries are 10 s.
const WAL_TRIES: u32 = 500;
const WAL_PAUSE: Duration = Duration::from_millis(20);
/// Making a new file takes milliseconds, or as long as a busy disk needs for a few writes.
const MAKING_WAIT: Duration = Duration::from_secs(5);

/// Reads the evidence; never writes. Status commands use it while a driver writes.
#[derive(Debug)]
pub struct Reader {
    pub(crate) connection: Connection,
    pub(crate) path: PathBuf,
}

/// Reads and writes the evidence. Take [`crate::DriverLock`] to be the one who drives a service; the store
/// itself is fenced by each chain's head.
#[derive(Debug)]
pub struct Store {
    reader: Reader,
}

impl Deref for Store {
    type Target = Reader;

    fn deref(&self) -> &Reader {
        &self.reader
    }
}

impl Store {
    /// Opens the evidence file in the state folder `dir`; makes both if they are not there, and migrates.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        // 0700: evidence names people, paths and hosts.
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|source| StoreError::Folder { path: dir.to_owned(), source })?;
        let path = dir.join(EVIDENCE_FILE);
        keep_private(&path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = connect(&path, flags)?;
        let opening = |source| StoreError::Open { path: path.clone(), source };
        // Looked at before the first write, so that somebody else's database is left as it was.
        schema::check_snapshot(&connection, &path)?;
        // Measured: FULL in WAL costs one fsync per commit, and only it keeps the last commit over a power cut.
        switch_to_wal(&connection).map_err(opening)?;
        connection.pragma_update(None, "synchronous", "FULL").map_err(opening)?;
        // A step that builds a table anew must not take with it what refers to the old one.
        connection.pragma_update(None, "foreign_keys", false).map_err(opening)?;
        schema::migrate(&mut connection, &path)?;
        connection.pragma_update(None, "foreign_keys", true).map_err(opening)?;
        Ok(Self { reader: Reader { connection, path } })
    }

    pub(crate) fn connection_mut(&mut self) -> &mut Connection {
        &mut self.reader.connection
    }
}

impl Reader {
    /// Opens the evidence file of the state folder `dir` for reading only; it must be there.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join(EVIDENCE_FILE);
        let mut connection = connect(&path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        let begun = Instant::now();
        let first = schema::check_snapshot(&connection, &path);
        let mut found = match first {
            Err(error) if still::would_write(&error) => {
                connection = still::open(&path).unwrap_or_else(|_| Err(error))?;
                schema::check_snapshot(&connection, &path)?
            }
            other => other?,
        };
        // An empty file is one that somebody is just making.
        while found == 0 && begun.elapsed() < MAKING_WAIT {
            std::thread::sleep(WAL_PAUSE);
            found = schema::check_snapshot(&connection, &path)?;
        }
        if found < schema::newest() {
            return Err(StoreError::OlderSchema { path, found, known: schema::newest() });
        }
        Ok(Self { connection, path })
    }

    /// Gives the evidence file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Makes the evidence file, or closes it and what lies beside it to others: SQLite makes those as the file itself is.
fn keep_private(path: &Path) -> Result<(), StoreError> {
    let failed = |source| StoreError::Folder { path: path.to_owned(), source };
    make_private(path).map_err(failed)?;
    for suffix in ["-wal", "-shm", "-journal"] {
        let mut side = path.as_os_str().to_owned();
        side.push(suffix);
        close_to_others(Path::new(&side)).map_err(failed)?;
    }
    Ok(())
}

/// Switches to write-ahead logging, once per file. SQLite gives up at once, whatever the busy time-out says, where two
/// processes switch a new file at the same time; the loser tries again and finds it done.
fn switch_to_wal(connection: &Connection) -> rusqlite::Result<()> {
    for attempt in 1.. {
        match connection.pragma_update(None, "journal_mode", "WAL") {
            Err(error)
                if attempt < WAL_TRIES && error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) =>
            {
                std::thread::sleep(WAL_PAUSE);
            }
            other => return other,
        }
    }
    Ok(())
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, StoreError> {
    let opening = |source| StoreError::Open { path: path.to_owned(), source };
    let connection = Connection::open_with_flags(path, flags).map_err(opening)?;
    connection.busy_timeout(Duration::from_secs(BUSY_WAIT_SECONDS)).map_err(opening)?;
    // A hostile file must not run functions through its schema.
    connection.pragma_update(None, "trusted_schema", false).map_err(opening)?;
    // 64: all our statements, prepared once.
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}
