//! The migrations, and the rule by which an old release refuses newer data.
//!
//! Several processes open the same file, also at the same instant, so whether a migration is due is looked at again
//! under the write lock that applies it.

use crate::{DATA_FILE, LastLayerError, Release};
use rusqlite::{Connection, ErrorCode, OptionalExtension, Transaction, TransactionBehavior};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Makes the tables.
pub(crate) const FIRST: u32 = 1;
/// Adds a column that older code does not miss.
pub(crate) const ADD_STORED_AT: u32 = 2;
/// Renames the column of the text: correct, but no older code can read the result.
pub(crate) const SEAL_TEXT: u32 = 3;

/// A writer waits this long for another process.
const BUSY_MAX: Duration = Duration::from_secs(5);
/// Time between two tries to get the lock: a commit takes less than this, and nobody's turn is lost by long naps.
const BUSY_PAUSE: Duration = Duration::from_millis(1);

struct Migration {
    number: u32,
    name: &'static str,
    additive: bool,
    act: fn(&Transaction<'_>) -> rusqlite::Result<()>,
}

const MIGRATIONS: [Migration; 3] = [
    Migration { number: FIRST, name: "first", additive: false, act: first },
    Migration { number: ADD_STORED_AT, name: "add_stored_at", additive: true, act: add_stored_at },
    Migration { number: SEAL_TEXT, name: "seal_text", additive: false, act: seal_text },
];

/// Brings the data in the folder to the release's schema; gives the file.
///
/// Errors: [`LastLayerError::UnknownMigration`] if the data is newer; nothing has changed then.
pub(crate) fn migrate(folder: &Path, release: &Release) -> Result<PathBuf, LastLayerError> {
    std::fs::create_dir_all(folder).map_err(|source| LastLayerError::Unwritable { path: folder.into(), source })?;
    let file = folder.join(DATA_FILE);
    let unreadable = |source| LastLayerError::DataUnreadable { file: file.clone(), source };
    let mut data = open(&file).map_err(unreadable)?;
    refuse_unknown(&data, release, &file)?;
    for number in &release.migrations {
        let migration = MIGRATIONS
            .iter()
            .find(|migration| migration.number == *number)
            .ok_or_else(|| LastLayerError::NoSuchMigration { version: release.version.clone(), number: *number })?;
        apply(&mut data, migration).map_err(|source| LastLayerError::MigrationFailed {
            number: *number,
            name: migration.name,
            source,
        })?;
    }
    Ok(file)
}

/// Opens one connection as every process of every release does.
pub(crate) fn open(file: &Path) -> rusqlite::Result<Connection> {
    let mut data = Connection::open(file)?;
    data.busy_handler(Some(|tries: i32| {
        std::thread::sleep(BUSY_PAUSE);
        Duration::from_millis(tries.unsigned_abs().into()) < BUSY_MAX
    }))?;
    let until = Instant::now() + BUSY_MAX;
    // Two processes that make the file at once: turning it to WAL asks no busy handler.
    while let Err(cause) = data.pragma_update(None, "journal_mode", "wal") {
        let is_busy = matches!(cause.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked));
        if !is_busy || Instant::now() > until {
            return Err(cause);
        }
        std::thread::sleep(BUSY_PAUSE);
    }
    // What a process has committed outlives it; only a power cut could take the last moments.
    data.pragma_update(None, "synchronous", "normal")?;
    data.execute_batch("SELECT count(*) FROM sqlite_schema")?;
    Ok(data)
}

fn refuse_unknown(data: &Connection, release: &Release, file: &Path) -> Result<(), LastLayerError> {
    let unreadable = |source| LastLayerError::DataUnreadable { file: file.into(), source };
    if !was_migrated(data).map_err(unreadable)? {
        return Ok(());
    }
    let mut rows = data.prepare("SELECT number, name, additive FROM migration ORDER BY number").map_err(unreadable)?;
    let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).map_err(unreadable)?;
    for row in rows {
        let (number, name, additive): (u32, String, bool) = row.map_err(unreadable)?;
        if !additive && !release.migrations.contains(&number) {
            return Err(LastLayerError::UnknownMigration { number, name, version: release.version.clone() });
        }
    }
    Ok(())
}

/// Tells whether any migration was applied, by whichever process.
///
/// A statement: `table_exists` gives what this connection has read of the schema, and another may have made it since.
fn was_migrated(data: &Connection) -> rusqlite::Result<bool> {
    let query = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'migration'";
    data.query_row(query, [], |row| row.get::<_, u32>(0)).map(|count| count > 0)
}

fn apply(data: &mut Connection, migration: &Migration) -> rusqlite::Result<()> {
    let change = data.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let done = was_migrated(&change)?
        && change
            .query_row("SELECT 1 FROM migration WHERE number = ?1", [migration.number], |_| Ok(()))
            .optional()?
            .is_some();
    if done {
        return Ok(());
    }
    (migration.act)(&change)?;
    change.execute(
        "INSERT INTO migration (number, name, additive) VALUES (?1, ?2, ?3)",
        (migration.number, migration.name, migration.additive),
    )?;
    change.commit()
}

fn first(change: &Transaction<'_>) -> rusqlite::Result<()> {
    // `number` runs through all rooms in the order of commits: by it a process finds what others have added.
    change.execute_batch(
        "CREATE TABLE migration (number INTEGER PRIMARY KEY, name TEXT NOT NULL, additive INTEGER NOT NULL);
         CREATE TABLE message (number INTEGER PRIMARY KEY, room TEXT NOT NULL, seq INTEGER NOT NULL, id TEXT NOT NULL,
                               text TEXT NOT NULL, UNIQUE (room, seq), UNIQUE (room, id));
         CREATE TABLE beat (release TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID;",
    )
}

fn add_stored_at(change: &Transaction<'_>) -> rusqlite::Result<()> {
    change.execute_batch("ALTER TABLE message ADD COLUMN stored_at TEXT")
}

fn seal_text(change: &Transaction<'_>) -> rusqlite::Result<()> {
    change.execute_batch("ALTER TABLE message RENAME COLUMN text TO sealed")
}
