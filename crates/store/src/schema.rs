//! The schema of the evidence file and its migrations: one step per version, each safe to repeat.
//!
//! A step runs in the transaction that also writes its number, so a kill leaves the old version whole. The
//! statements still say IF NOT EXISTS: a file whose number was lost is brought up again without harm.

use crate::error::StoreError;
use rusqlite::{Connection, TransactionBehavior};
use std::path::Path;

/// Marks the file as ours in SQLite's header: "lgev".
const APPLICATION_ID: i64 = 0x6c67_6576;

/// The steps; the version is how many were done. Never edit one that was released: add one.
const STEPS: &[&str] = &[STEP_1];

const STEP_1: &str = "
    -- One row per chain: its head, and the Merkle peaks that the next append needs.
    CREATE TABLE IF NOT EXISTS chain (
        id        INTEGER PRIMARY KEY,
        name      TEXT    NOT NULL UNIQUE,
        size      INTEGER NOT NULL,
        link      BLOB    NOT NULL,
        frontier  BLOB    NOT NULL
    ) STRICT;

    -- The evidence. Rows are only ever inserted.
    CREATE TABLE IF NOT EXISTS record (
        chain  INTEGER NOT NULL REFERENCES chain (id),
        seq    INTEGER NOT NULL,
        at     INTEGER NOT NULL,
        leaf   BLOB    NOT NULL,
        link   BLOB    NOT NULL,
        bytes  BLOB    NOT NULL,
        PRIMARY KEY (chain, seq)
    ) STRICT, WITHOUT ROWID;

    -- Roots of full subtrees of 256, 65 536, ... leaves: proofs read hundreds of rows, not millions.
    CREATE TABLE IF NOT EXISTS node (
        chain   INTEGER NOT NULL REFERENCES chain (id),
        level   INTEGER NOT NULL,
        number  INTEGER NOT NULL,
        hash    BLOB    NOT NULL,
        PRIMARY KEY (chain, level, number)
    ) STRICT, WITHOUT ROWID;

    -- The last signed checkpoint of each chain.
    CREATE TABLE IF NOT EXISTS checkpoint (
        chain  INTEGER PRIMARY KEY REFERENCES chain (id),
        size   INTEGER NOT NULL,
        at     INTEGER NOT NULL,
        note   TEXT    NOT NULL
    ) STRICT;

    -- Folded state: a cache, never the truth.
    CREATE TABLE IF NOT EXISTS cache (
        chain   INTEGER PRIMARY KEY REFERENCES chain (id),
        tag     TEXT    NOT NULL,
        seq     INTEGER NOT NULL,
        digest  BLOB    NOT NULL,
        bytes   BLOB    NOT NULL
    ) STRICT;

    -- The outbox. settled_at is NULL while the message is pending or in flight. due is NULL while an earlier
    -- message of the same (endpoint, subject) is unsettled: only the first of a line is ever due.
    CREATE TABLE IF NOT EXISTS notice (
        n            INTEGER PRIMARY KEY,
        message_id   TEXT    NOT NULL UNIQUE,
        chain        INTEGER NOT NULL,
        seq          INTEGER NOT NULL,
        ordinal      INTEGER NOT NULL,
        endpoint     TEXT    NOT NULL,
        subject      TEXT    NOT NULL,
        kind         TEXT    NOT NULL,
        body         BLOB    NOT NULL,
        at           INTEGER NOT NULL,
        turn         INTEGER NOT NULL UNIQUE,
        state        TEXT    NOT NULL CHECK (state IN ('pending', 'in-flight', 'delivered', 'failed', 'parked')),
        attempts     INTEGER NOT NULL DEFAULT 0,
        step         INTEGER NOT NULL DEFAULT 0,
        lost         INTEGER NOT NULL DEFAULT 0,
        due          INTEGER,
        lease_until  INTEGER,
        settled_at   INTEGER,
        why          TEXT
    ) STRICT;
    CREATE INDEX IF NOT EXISTS notice_line  ON notice (endpoint, subject, turn) WHERE settled_at IS NULL;
    CREATE INDEX IF NOT EXISTS notice_due   ON notice (due, turn) WHERE state = 'pending' AND due IS NOT NULL;
    CREATE INDEX IF NOT EXISTS notice_lease ON notice (lease_until) WHERE state = 'in-flight';
    CREATE INDEX IF NOT EXISTS notice_aside ON notice (state, endpoint) WHERE state IN ('failed', 'parked');

    -- Every attempt, those that a kill ended included.
    CREATE TABLE IF NOT EXISTS attempt (
        notice   INTEGER NOT NULL REFERENCES notice (n) ON DELETE CASCADE,
        number   INTEGER NOT NULL,
        at       INTEGER NOT NULL,
        code     INTEGER,
        took_ms  INTEGER,
        class    TEXT,
        text     TEXT,
        PRIMARY KEY (notice, number)
    ) STRICT, WITHOUT ROWID;

    -- Endpoints that nothing is sent to until they are resumed; their messages wait.
    CREATE TABLE IF NOT EXISTS paused (
        endpoint  TEXT PRIMARY KEY,
        at        INTEGER NOT NULL,
        why       TEXT    NOT NULL
    ) STRICT, WITHOUT ROWID;
";

/// The newest schema this program knows.
pub(crate) fn newest() -> i64 {
    STEPS.len() as i64
}

/// Brings the file to the newest schema; refuses one from the future or of another program.
pub(crate) fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let opening = |source| StoreError::Open { path: path.to_owned(), source };
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(opening)?;
    let found = check(&transaction, path)?;
    if found == newest() {
        return Ok(());
    }
    for step in STEPS.iter().skip(usize::try_from(found).unwrap_or(0)) {
        transaction.execute_batch(step).map_err(opening)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(opening)?;
    transaction.pragma_update(None, "user_version", newest()).map_err(opening)?;
    transaction.commit().map_err(opening)
}

/// Gives the file's schema as [`check`] does, of one moment: a file is looked at while another process makes it.
pub(crate) fn check_snapshot(connection: &Connection, path: &Path) -> Result<i64, StoreError> {
    let snapshot =
        connection.unchecked_transaction().map_err(|source| StoreError::Open { path: path.to_owned(), source })?;
    check(&snapshot, path)
}

/// Gives the file's schema; 0 for a file that is still empty. The caller has a transaction open.
fn check(connection: &Connection, path: &Path) -> Result<i64, StoreError> {
    let opening = |source| StoreError::Open { path: path.to_owned(), source };
    let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).map_err(opening);
    let (owner, found) = (number("application_id")?, number("user_version")?);
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(opening)?;
    if owner != APPLICATION_ID && (tables > 0 || owner != 0) {
        return Err(StoreError::Foreign { path: path.to_owned() });
    }
    if found > newest() || found < 0 {
        return Err(StoreError::NewerSchema { path: path.to_owned(), found, known: newest() });
    }
    Ok(found)
}
