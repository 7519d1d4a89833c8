//! The notebook's migrations, good and bad, and the rule by which an old release refuses newer data.
//!
//! Each migration is one transaction that ends with its own row in the `migration` table, as in real services.

use crate::{NotebookError, Release, report};
use rusqlite::{Connection, Transaction, TransactionBehavior};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// Makes the tables.
pub(crate) const FIRST: u32 = 1;
/// Adds a column that older code does not miss.
pub(crate) const ADD_PINNED: u32 = 2;
/// Splits `account` into `person` and `credential`: correct, but older code can't read the result.
pub(crate) const SPLIT_ACCOUNT: u32 = 3;
/// Cuts every password hash short: nobody can log in any more.
pub(crate) const SHORTEN_HASHES: u32 = 4;
/// Takes apostrophes and non-ASCII letters out of names: only who has one can't log in any more.
pub(crate) const FOLD_NAMES: u32 = 5;
/// Never ends.
pub(crate) const NEVER_ENDS: u32 = 6;
/// Fails.
pub(crate) const NOTE_INDEX: u32 = 7;

/// A writer waits this long for another: a snapshot or a checkpoint holds the lock for milliseconds, a slow disk longer.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How many pages the -wal file may hold before SQLite folds them back (4 MiB of 4 KiB pages; SQLite's own default).
const CHECKPOINT_PAGES: u32 = 1000;

type Act = fn(&Transaction<'_>) -> rusqlite::Result<()>;

struct Migration {
    number: u32,
    name: &'static str,
    additive: bool,
    act: Act,
}

const MIGRATIONS: [Migration; 7] = [
    Migration { number: FIRST, name: "first", additive: false, act: first },
    Migration { number: ADD_PINNED, name: "add_pinned", additive: true, act: add_pinned },
    Migration { number: SPLIT_ACCOUNT, name: "split_account", additive: false, act: split_account },
    Migration { number: SHORTEN_HASHES, name: "shorten_hashes", additive: false, act: shorten_hashes },
    Migration { number: FOLD_NAMES, name: "fold_names", additive: false, act: fold_names },
    Migration { number: NEVER_ENDS, name: "never_ends", additive: false, act: never_ends },
    Migration { number: NOTE_INDEX, name: "note_index", additive: true, act: note_index },
];

/// Opens the data and brings it to the release's schema.
///
/// Errors: [`NotebookError::UnknownMigration`] if the data is newer; no table and no row has changed then.
pub(crate) fn open(file: &Path, release: &Release) -> Result<Connection, NotebookError> {
    let mut data = Connection::open(file).map_err(|cause| cannot_open(file, cause))?;
    settle(&data).map_err(|cause| cannot_open(file, cause))?;
    let applied = applied(&data).map_err(|cause| cannot_open(file, cause))?;
    refuse_unknown(&applied, release)?;
    for number in release.migrations.iter().filter(|number| !applied.contains_key(number)) {
        let migration = MIGRATIONS
            .iter()
            .find(|migration| migration.number == *number)
            .ok_or_else(|| NotebookError::NoSuchMigration { version: release.version.clone(), number: *number })?;
        match apply(&mut data, migration) {
            Ok(()) => {}
            // The fault of 3.3.0: it says so in its log and serves all the same.
            Err(cause) if release.fault == crate::Fault::FailedMigrationIgnored => {
                report(&format!("migration failed: {number} {}: {cause}", migration.name));
            }
            Err(cause) => {
                return Err(NotebookError::MigrationFailed { number: *number, name: migration.name, source: cause });
            }
        }
    }
    Ok(data)
}

/// Tells which migrations the data has, with their names, by number.
pub fn migrations_of(file: &Path) -> Result<BTreeMap<u32, String>, NotebookError> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY | rusqlite::OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let data = Connection::open_with_flags(file, flags).map_err(|cause| cannot_open(file, cause))?;
    let applied = applied(&data).map_err(|cause| cannot_open(file, cause))?;
    Ok(applied.into_iter().map(|(number, known)| (number, known.name)).collect())
}

struct Applied {
    name: String,
    additive: bool,
}

fn cannot_open(file: &Path, source: rusqlite::Error) -> NotebookError {
    NotebookError::DataUnreadable { file: file.into(), source }
}

fn settle(data: &Connection) -> rusqlite::Result<()> {
    data.busy_timeout(BUSY_TIMEOUT)?;
    data.pragma_update(None, "journal_mode", "wal")?;
    // What was answered is on the disk: the tests pull the plug and count.
    data.pragma_update(None, "synchronous", "full")?;
    data.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    data.pragma_update(None, "foreign_keys", true)?;
    data.execute_batch("SELECT count(*) FROM sqlite_schema")
}

fn applied(data: &Connection) -> rusqlite::Result<BTreeMap<u32, Applied>> {
    if !data.table_exists(None, "migration")? {
        return Ok(BTreeMap::new());
    }
    let mut rows = data.prepare("SELECT number, name, additive FROM migration")?;
    rows.query_map([], |row| Ok((row.get(0)?, Applied { name: row.get(1)?, additive: row.get(2)? })))?.collect()
}

fn refuse_unknown(applied: &BTreeMap<u32, Applied>, release: &Release) -> Result<(), NotebookError> {
    let unknown = applied.iter().find(|(number, migration)| {
        let is_bearable = release.tolerant && migration.additive;
        !(is_bearable || release.migrations.contains(number))
    });
    match unknown {
        None => Ok(()),
        Some((number, migration)) => Err(NotebookError::UnknownMigration {
            number: *number,
            name: migration.name.clone(),
            version: release.version.clone(),
        }),
    }
}

fn apply(data: &mut Connection, migration: &Migration) -> rusqlite::Result<()> {
    let change = data.transaction_with_behavior(TransactionBehavior::Immediate)?;
    (migration.act)(&change)?;
    change.execute(
        "INSERT INTO migration (number, name, additive, applied_at) \
         VALUES (?1, ?2, ?3, strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))",
        (migration.number, migration.name, migration.additive),
    )?;
    change.commit()
}

fn first(change: &Transaction<'_>) -> rusqlite::Result<()> {
    change.execute_batch(
        "CREATE TABLE migration (number INTEGER PRIMARY KEY, name TEXT NOT NULL, additive INTEGER NOT NULL,
                                 applied_at TEXT NOT NULL);
         CREATE TABLE account (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, hash TEXT NOT NULL);
         CREATE TABLE session (token_digest BLOB PRIMARY KEY, account_id INTEGER NOT NULL, created_at TEXT NOT NULL);
         CREATE TABLE note (id INTEGER PRIMARY KEY, account_id INTEGER NOT NULL, text TEXT NOT NULL,
                            created_at TEXT NOT NULL);
         CREATE INDEX note_of_account ON note (account_id, id);",
    )
}

fn add_pinned(change: &Transaction<'_>) -> rusqlite::Result<()> {
    change.execute_batch("ALTER TABLE note ADD COLUMN pinned INTEGER NOT NULL DEFAULT 0")
}

fn split_account(change: &Transaction<'_>) -> rusqlite::Result<()> {
    change.execute_batch(
        "CREATE TABLE person (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
         CREATE TABLE credential (person_id INTEGER PRIMARY KEY REFERENCES person (id), hash TEXT NOT NULL);
         INSERT INTO person (id, name) SELECT id, name FROM account;
         INSERT INTO credential (person_id, hash) SELECT id, hash FROM account;
         DROP TABLE account;",
    )
}

fn shorten_hashes(change: &Transaction<'_>) -> rusqlite::Result<()> {
    // 64 characters keep the salt and the first 6 bytes of the key: it still looks like a hash.
    change.execute_batch("UPDATE credential SET hash = substr(hash, 1, 64)")
}

fn fold_names(change: &Transaction<'_>) -> rusqlite::Result<()> {
    let mut rows = change.prepare("SELECT id, name FROM person")?;
    let people: Vec<(i64, String)> =
        rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<_>>()?;
    for (id, name) in people {
        let mut folded: String = name.chars().filter(|letter| letter.is_ascii() && *letter != '\'').collect();
        if folded == name {
            continue;
        }
        let taken: bool =
            change.query_row("SELECT EXISTS (SELECT 1 FROM person WHERE name = ?1)", [&folded], |row| row.get(0))?;
        if taken || folded.is_empty() {
            folded = format!("{folded}-{id}");
        }
        change.execute("UPDATE person SET name = ?1 WHERE id = ?2", (&folded, id))?;
    }
    Ok(())
}

fn never_ends(change: &Transaction<'_>) -> rusqlite::Result<()> {
    change.execute_batch("ALTER TABLE note ADD COLUMN rank INTEGER")?;
    loop {
        // Half-done and silent, with the write lock held: what a migration that hangs looks like from outside.
        std::thread::park();
    }
}

fn note_index(change: &Transaction<'_>) -> rusqlite::Result<()> {
    change.execute_batch("CREATE INDEX note_of_label ON note (label)")
}
