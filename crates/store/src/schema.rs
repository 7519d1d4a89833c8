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
const STEPS: &[&str] = &[STEP_1, STEP_2, STEP_3];

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

/// Enqueueing was mostly the upkeep of indexes: the one over message ids made nearly each of its pages dirty in each
/// commit, the one over turns only ever told the last, and SQLite builds a list of more than two words anew for each
/// row that a CHECK looks at. A row is copied as it is; foreign keys are off meanwhile, or attempts would go with the old
/// table.
const STEP_2: &str = "
    CREATE TABLE notice_2 (
        n            INTEGER PRIMARY KEY,
        message_id   TEXT    NOT NULL,
        chain        INTEGER NOT NULL,
        seq          INTEGER NOT NULL,
        ordinal      INTEGER NOT NULL,
        endpoint     TEXT    NOT NULL,
        subject      TEXT    NOT NULL,
        kind         TEXT    NOT NULL,
        body         BLOB    NOT NULL,
        at           INTEGER NOT NULL,
        -- Its place in its line: its own number, or a later one if it was put back at the end.
        turn         INTEGER NOT NULL,
        state        TEXT    NOT NULL CHECK (state = 'pending' OR state = 'in-flight' OR state = 'delivered'
                                             OR state = 'failed' OR state = 'parked'),
        attempts     INTEGER NOT NULL DEFAULT 0,
        step         INTEGER NOT NULL DEFAULT 0,
        lost         INTEGER NOT NULL DEFAULT 0,
        due          INTEGER,
        lease_until  INTEGER,
        settled_at   INTEGER,
        why          TEXT
    ) STRICT;
    INSERT INTO notice_2 (n, message_id, chain, seq, ordinal, endpoint, subject, kind, body, at, turn, state, attempts,
                          step, lost, due, lease_until, settled_at, why)
        SELECT n, message_id, chain, seq, ordinal, endpoint, subject, kind, body, at, turn, state, attempts,
               step, lost, due, lease_until, settled_at, why FROM notice ORDER BY n;
    DROP TABLE notice;
    ALTER TABLE notice_2 RENAME TO notice;
    CREATE INDEX notice_line   ON notice (endpoint, subject, turn) WHERE settled_at IS NULL;
    CREATE INDEX notice_due    ON notice (due, turn) WHERE state = 'pending' AND due IS NOT NULL;
    CREATE INDEX notice_lease  ON notice (lease_until) WHERE state = 'in-flight';
    CREATE INDEX notice_aside  ON notice (state, endpoint) WHERE state IN ('failed', 'parked');
    CREATE INDEX notice_return ON notice (turn) WHERE turn > n;
";

/// The index over the lines had an end in each of them, so that a commit changed pages all over it: a third of its pages.
/// Now a message names the one it waits for, which is a number near its own, and a line's last message stands in a small
/// table. A pending message that is not due and waits for none would wait for ever, so the file takes none. Every index
/// costs each new row something, also where it has no place in it: what is under way and what is set aside share one.
const STEP_3: &str = "
    CREATE TABLE notice_3 (
        n            INTEGER PRIMARY KEY,
        message_id   TEXT    NOT NULL,
        chain        INTEGER NOT NULL,
        seq          INTEGER NOT NULL,
        ordinal      INTEGER NOT NULL,
        endpoint     TEXT    NOT NULL,
        subject      TEXT    NOT NULL,
        kind         TEXT    NOT NULL,
        body         BLOB    NOT NULL,
        at           INTEGER NOT NULL,
        -- Its place: its own number, or a later one if it was put back at the end of its line or came behind such a one.
        turn         INTEGER NOT NULL,
        -- The message before it in its line, while that is unsettled.
        behind       INTEGER,
        state        TEXT    NOT NULL CHECK (state = 'pending' OR state = 'in-flight' OR state = 'delivered'
                                             OR state = 'failed' OR state = 'parked'),
        attempts     INTEGER NOT NULL DEFAULT 0,
        step         INTEGER NOT NULL DEFAULT 0,
        lost         INTEGER NOT NULL DEFAULT 0,
        due          INTEGER,
        lease_until  INTEGER,
        settled_at   INTEGER,
        why          TEXT,
        CHECK (state <> 'pending' OR due IS NOT NULL OR behind IS NOT NULL)
    ) STRICT;
    INSERT INTO notice_3 (n, message_id, chain, seq, ordinal, endpoint, subject, kind, body, at, turn, behind, state,
                          attempts, step, lost, due, lease_until, settled_at, why)
        SELECT n, message_id, chain, seq, ordinal, endpoint, subject, kind, body, at, turn, before, state,
               attempts, step, lost,
               CASE WHEN state = 'pending' AND before IS NULL THEN coalesce(due, at) ELSE due END,
               lease_until, settled_at, why
        FROM (SELECT *, CASE WHEN settled_at IS NULL THEN
                  lag(n) OVER (PARTITION BY endpoint, subject, settled_at IS NULL ORDER BY turn, n) END AS before FROM notice)
        ORDER BY n;
    DROP TABLE notice;
    ALTER TABLE notice_3 RENAME TO notice;
    CREATE INDEX notice_behind ON notice (behind) WHERE behind IS NOT NULL;
    CREATE INDEX notice_due    ON notice (due, turn) WHERE state = 'pending' AND due IS NOT NULL;
    CREATE INDEX notice_aside  ON notice (state, lease_until)
        WHERE state = 'in-flight' OR state = 'failed' OR state = 'parked';

    -- The lines in which something waits or is under way, and the last message of each.
    CREATE TABLE IF NOT EXISTS line (
        endpoint  TEXT    NOT NULL,
        subject   TEXT    NOT NULL,
        last      INTEGER NOT NULL,
        PRIMARY KEY (endpoint, subject)
    ) STRICT, WITHOUT ROWID;
    DELETE FROM line;
    INSERT INTO line (endpoint, subject, last)
        SELECT endpoint, subject, n FROM notice AS final
        WHERE settled_at IS NULL AND NOT EXISTS (SELECT 1 FROM notice WHERE behind = final.n);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EVIDENCE_FILE, NewNotice, NewRecord, Outcome, Settlement, Store};
    use lastgood_domain::{
        evidence::Head,
        terms::{ChainName, Span, Timestamp},
    };

    const ALL: &str =
        "SELECT n, message_id, chain, seq, ordinal, endpoint, subject, kind, body, at, turn, state, attempts,
                              step, lost, due, lease_until, settled_at, why FROM notice ORDER BY n";
    const LINES: &str = "SELECT n, behind, line.last FROM notice LEFT JOIN line USING (endpoint, subject) ORDER BY n";
    const ATTEMPTS: &str = "SELECT * FROM attempt ORDER BY notice, number";

    fn rows(connection: &Connection, sql: &str) -> Vec<Vec<rusqlite::types::Value>> {
        let mut select = connection.prepare(sql).unwrap();
        let columns = select.column_count();
        let rows = select.query_map([], |row| (0..columns).map(|column| row.get(column)).collect()).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    }

    fn append(store: &mut Store, head: Head, bodies: &[&str]) -> Head {
        let notice = |body: &&str| NewNotice {
            endpoint: "ops".into(),
            subject: body[..1].into(),
            kind: "test".into(),
            body: body.as_bytes().to_vec(),
            at: Timestamp(0),
        };
        let notices: Vec<_> = bodies.iter().map(notice).collect();
        let record = NewRecord { at: Timestamp(0), bytes: b"record".to_vec() };
        store.append(&ChainName::new("service/actual").unwrap(), &head, &[record], &notices).unwrap()
    }

    /// Claims what is due and answers each message with what `answer` says to its body; `None` leaves it in flight.
    fn deliver(store: &mut Store, at: i64, answer: impl Fn(&str) -> Option<Outcome>) -> Vec<String> {
        let claimed = store.claim(Timestamp(at), Timestamp(at + 1_000_000), 100).unwrap();
        let bodies: Vec<_> = claimed.iter().map(|message| String::from_utf8(message.body.clone()).unwrap()).collect();
        let settlements: Vec<_> = claimed
            .into_iter()
            .zip(&bodies)
            .filter_map(|(message, body)| {
                let (id, attempt, at) = (message.id, message.attempt, Timestamp(at));
                Some(Settlement { id, attempt, at, code: None, took: Span(3), outcome: answer(body)?, jitter: 0 })
            })
            .collect();
        store.settle(&settlements).unwrap();
        bodies
    }

    fn refused(_: &str) -> Option<Outcome> {
        Some(Outcome::Failed { class: "http-400".into(), text: "no".into() })
    }

    /// Makes of a store's file what the given version would have written.
    fn turn_back(connection: &Connection, version: usize) {
        connection.pragma_update(None, "foreign_keys", false).unwrap();
        let indexes = rows(
            connection,
            "SELECT name FROM sqlite_schema WHERE type = 'index' AND name LIKE 'notice!_%' ESCAPE '!'",
        );
        for index in indexes {
            let rusqlite::types::Value::Text(name) = &index[0] else { panic!("an index without a name") };
            connection.execute_batch(&format!("DROP INDEX {name}")).unwrap();
        }
        let kept = format!("CREATE TEMP TABLE kept AS {ALL}; DROP TABLE notice; DROP TABLE line");
        connection.execute_batch(&kept).unwrap();
        connection.execute_batch(STEP_1).unwrap();
        connection.execute_batch("INSERT INTO notice SELECT * FROM kept; DROP TABLE kept").unwrap();
        for step in &STEPS[1..version] {
            connection.execute_batch(step).unwrap();
        }
        connection.pragma_update(None, "user_version", version as i64).unwrap();
        let copy =
            "INSERT INTO notice SELECT n + 1000, message_id, chain, seq, ordinal, endpoint, subject, kind, body, at,
                        turn + 1000, state, 0, 0, 0, NULL, NULL, NULL, NULL FROM notice LIMIT 1";
        if version == 1 {
            assert!(connection.execute(copy, []).is_err(), "the first version kept ids unique by an index");
        }
    }

    #[test]
    fn messages_of_the_first_version_keep_their_attempts_and_their_order() {
        messages_of_an_old_version_keep_their_attempts_and_their_order(1);
    }

    #[test]
    fn messages_of_the_second_version_keep_their_attempts_and_their_order() {
        messages_of_an_old_version_keep_their_attempts_and_their_order(2);
    }

    fn messages_of_an_old_version_keep_their_attempts_and_their_order(old: usize) {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path()).unwrap();
        // One dead and replayed, one delivered, one waiting for its retry, one in flight, and those behind them.
        let head = append(&mut store, Head::EMPTY, &["a1", "a2", "b1", "b2", "c1", "d1", "d2", "c2", "d3"]);
        deliver(&mut store, 1, |body| match body {
            "a1" => refused(body),
            "b1" => Some(Outcome::Delivered),
            "c1" => Some(Outcome::Retry { class: "timeout".into(), text: String::new(), retry_after: None }),
            _ => None,
        });
        let dead = store.notices(crate::NoticeState::Failed, 9).unwrap()[0].id.clone();
        store.replay(&dead, Timestamp(2)).unwrap();
        drop(store);

        let file = Connection::open(dir.path().join(EVIDENCE_FILE)).unwrap();
        let (messages, lines, attempts) = (rows(&file, ALL), rows(&file, LINES), rows(&file, ATTEMPTS));
        assert_eq!((messages.len(), attempts.len()), (9, 4));
        turn_back(&file, old);
        assert_eq!((rows(&file, ALL), rows(&file, ATTEMPTS)), (messages.clone(), attempts.clone()));
        // Once from the old version, once more from a file that lost its number, and once with nothing to do.
        for version in [old as i64, 0, newest()] {
            file.pragma_update(None, "user_version", version).unwrap();
            let store = Store::open(dir.path()).unwrap();
            assert!(store.verify(None, None).unwrap().is_ok());
            assert_eq!(rows(&file, ALL), messages);
            assert_eq!(rows(&file, LINES), lines);
            assert_eq!(rows(&file, ATTEMPTS), attempts);
            assert!(rows(&file, "PRAGMA foreign_key_check").is_empty());
            let indexes = "SELECT name FROM sqlite_schema WHERE type = 'index' AND tbl_name = 'notice' ORDER BY name";
            let names: Vec<_> = rows(&file, indexes).into_iter().flatten().collect();
            let expected = ["aside", "behind", "due"].map(|name| format!("notice_{name}").into());
            assert_eq!(names, expected);
        }

        let mut store = Store::open(dir.path()).unwrap();
        // a1 was put back behind a2; what is new comes behind both.
        append(&mut store, head, &["a3"]);
        let sent: Vec<_> = (10..14).flat_map(|at| deliver(&mut store, at, |_| Some(Outcome::Delivered))).collect();
        assert_eq!(sent, ["a2", "b2", "a1", "a3"]);
        // Attempts still go with their messages.
        assert_eq!(store.clear_delivered(Timestamp(100)).unwrap(), 5);
        assert_eq!(rows(&file, ATTEMPTS).len(), 2);
        // Nor has anybody overtaken c1, which waits for its retry, and d1, which is in flight.
        store.reclaim_all(Timestamp(10_000)).unwrap();
        let sent: Vec<_> =
            (0..4).flat_map(|at| deliver(&mut store, 10_000 + at, |_| Some(Outcome::Delivered))).collect();
        assert_eq!(sent, ["c1", "d1", "d2", "c2", "d3"]);
        assert!(rows(&file, "SELECT * FROM line").is_empty());
    }
}
