//! Changes that go past the triggers, in every way a person or a program finds.

use crate::{LIMIT, admin, file, postgres_kit::Postgres};
use lastgood_domain::failure::Coded as _;
use lastgood_drivers::{
    signal::{Reading, SignalError, Source, Watched},
    sql::{Database, Limits},
};
use rusqlite::Connection;

/// A watched table in a database.
struct World {
    database: Database,
    watched: Watched,
}

impl World {
    fn new(database: Database, table: &str, key: &[&str]) -> Self {
        let key: Vec<String> = key.iter().map(ToString::to_string).collect();
        Self { database, watched: Watched::new(table, &key).unwrap() }
    }

    fn install(&self) {
        let limits = Limits { time: LIMIT, rows: 100 };
        let script = self.watched.script(&self.database, limits).unwrap();
        self.database.install(&script, limits).unwrap();
    }

    fn read(&self) -> Result<Reading, SignalError> {
        Source::Gaps { database: self.database.clone(), watched: self.watched.clone() }.read(LIMIT)
    }

    #[track_caller]
    fn has(&self, count: f64, detail: &str) {
        let reading = self.read().unwrap();
        assert_eq!((reading.value, reading.detail.as_str()), (count, detail));
    }

    #[track_caller]
    fn is_whole(&self) {
        self.has(0.0, "");
    }
}

const COLUMNS: &str = "owner text, amount double precision, since timestamptz, data bytea";
const ROWS: &str =
    "(1, 'ann', 1, '2026-01-01 12:00+00', '\\x00ff'), (2, 'bob', 0.1, NULL, NULL), (3, NULL, NULL, NULL, NULL)";

#[test]
fn in_postgresql_every_change_past_the_triggers_is_found_and_no_other() {
    let (folder, server) = (tempfile::tempdir().unwrap(), Postgres::start());
    server.sql(&format!(
        "CREATE SCHEMA bank; CREATE TABLE bank.accounts (id int PRIMARY KEY, {COLUMNS});
         INSERT INTO bank.accounts VALUES {ROWS};
         CREATE ROLE teller LOGIN PASSWORD 'of-the-teller'; GRANT USAGE ON SCHEMA bank TO teller;
         GRANT ALL ON bank.accounts TO teller"
    ));
    let world = World::new(admin(folder.path(), &server), "bank.accounts", &["id"]);
    assert_eq!(world.read().unwrap_err().code(), "database-query-refused");
    world.install();
    world.is_whole();

    // Whoever may change the table needs no rights to the log, and whatever their session's settings.
    let done = server.psql(
        "teller",
        "of-the-teller",
        "SET timezone = 'Asia/Tokyo'; SET datestyle = 'German'; SET extra_float_digits = -5;
         INSERT INTO bank.accounts VALUES (4, 'dan', 1e-7, now(), 'x'); UPDATE bank.accounts SET amount = 0.3 WHERE id < 3;
         UPDATE bank.accounts SET id = 30 WHERE id = 3; DELETE FROM bank.accounts WHERE id = 2;
         INSERT INTO bank.accounts VALUES (2, 'new', 5, NULL, NULL)
           ON CONFLICT (id) DO UPDATE SET owner = 'never'",
    );
    server.sql("BEGIN; DELETE FROM bank.accounts; ROLLBACK");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(server.sql("SELECT count(*) FROM bank.lastgood_changes_accounts WHERE by = 'teller'"), "7");
    world.is_whole();

    let replica = "SET session_replication_role = 'replica'; ";
    server.sql(&format!("{replica}INSERT INTO bank.accounts VALUES (5, 'eve', 1, NULL, NULL)"));
    world.has(1.0, "[5] was written and is not in the log");
    // A change behind it that is logged does not hide it.
    server.sql("UPDATE bank.accounts SET amount = 2 WHERE id = 5");
    world.has(1.0, "[5] was changed between two rows of the log");
    world.install();
    world.is_whole();

    server.sql(
        "ALTER TABLE bank.accounts DISABLE TRIGGER lastgood_changes; UPDATE bank.accounts SET amount = 9 WHERE id = 1;
         ALTER TABLE bank.accounts ENABLE TRIGGER lastgood_changes",
    );
    world.has(1.0, "[1] is not as the log says");
    server.sql("UPDATE bank.accounts SET amount = 0.3 WHERE id = 1");
    world.has(1.0, "[1] was changed between two rows of the log");
    world.install();

    server.sql(&format!("{replica}DELETE FROM bank.accounts WHERE id = 2"));
    world.has(1.0, "[2] is gone and the log does not say so");
    server.sql("INSERT INTO bank.accounts VALUES (2, 'again', 1, NULL, NULL)");
    world.has(1.0, "[2] was changed between two rows of the log");
    world.install();

    server.sql("DROP TRIGGER lastgood_changes ON bank.accounts");
    assert_eq!(world.read().unwrap_err().code(), "signal-triggers-off");
    server.sql("DELETE FROM bank.accounts WHERE id = 4");
    world.has(1.0, "[4] is gone and the log does not say so");
    world.install();
    world.is_whole();

    server.sql("TRUNCATE bank.accounts");
    assert_eq!(world.read().unwrap().value, 4.0);
    world.install();
    world.is_whole();
    server.sql("ALTER TABLE bank.accounts DISABLE TRIGGER ALL");
    assert_eq!(world.read().unwrap_err().code(), "signal-triggers-off");
}

#[test]
fn a_table_in_postgresql_named_without_its_schema_goes_on_being_written() {
    let (folder, server) = (tempfile::tempdir().unwrap(), Postgres::start());
    server.sql(
        "CREATE TABLE accounts (id int PRIMARY KEY, owner text); INSERT INTO accounts VALUES (1, 'ann');
         CREATE ROLE teller LOGIN PASSWORD 'of-the-teller'; GRANT ALL ON accounts TO teller",
    );
    let world = World::new(admin(folder.path(), &server), "accounts", &["id"]);
    assert_eq!(
        World::new(admin(folder.path(), &server), "nowhere", &["id"]).read().unwrap_err().code(),
        "signal-no-table"
    );
    world.install();
    // A table of one's own that is called like our log takes nothing in.
    let changes = "CREATE TEMP TABLE lastgood_changes_accounts (op text, key text, before text, after text);
                   INSERT INTO accounts VALUES (2, 'bob'); UPDATE accounts SET owner = 'eve' WHERE id = 1;
                   DELETE FROM accounts WHERE id = 2";
    let done = server.psql("teller", "of-the-teller", changes);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    world.is_whole();
    assert_eq!(server.sql("SELECT count(*) FROM public.lastgood_changes_accounts WHERE by = 'teller'"), "3");
    server.sql("SET session_replication_role = 'replica'; UPDATE accounts SET owner = 'mallory' WHERE id = 1");
    world.has(1.0, "[1] is not as the log says");
}

#[test]
fn in_sqlite_every_change_past_the_triggers_is_found_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let service = Connection::open(folder.path().join("app.db")).unwrap();
    let run = |sql: &str| service.execute_batch(sql).unwrap();
    run("PRAGMA journal_mode = WAL;
         CREATE TABLE \"the accounts\" (bank TEXT, id INTEGER, amount REAL, data BLOB, PRIMARY KEY (bank, id));
         INSERT INTO \"the accounts\" VALUES ('it''s', 1, 1, x'00ff'), ('b', 2, 0.1, NULL), ('b', 3, NULL, 'text')");
    let world = World::new(file(folder.path()), "the accounts", &["bank", "id"]);
    world.install();
    world.is_whole();
    run("INSERT INTO \"the accounts\" VALUES ('b', 4, 7, x''); UPDATE \"the accounts\" SET amount = 2 WHERE id < 3;
         UPDATE \"the accounts\" SET id = 30 WHERE id = 3; DELETE FROM \"the accounts\" WHERE id = 2;
         INSERT INTO \"the accounts\" VALUES ('b', 4, 8, NULL) ON CONFLICT DO UPDATE SET amount = 9;
         INSERT OR IGNORE INTO \"the accounts\" VALUES ('b', 4, 8, NULL);
         BEGIN; DELETE FROM \"the accounts\"; ROLLBACK; PRAGMA recursive_triggers = ON;
         INSERT OR REPLACE INTO \"the accounts\" VALUES ('b', 4, 10, NULL); PRAGMA recursive_triggers = OFF");
    world.is_whole();

    // What REPLACE takes away fires no trigger unless the program asks for it.
    run("INSERT OR REPLACE INTO \"the accounts\" VALUES ('b', 4, 11, NULL)");
    world.has(1.0, "'b',4 was changed between two rows of the log");
    world.install();
    world.is_whole();

    let without = |sql: &str| {
        run("DROP TRIGGER \"lastgood_changes_the accounts_insert\"; DROP TRIGGER \"lastgood_changes_the accounts_update\";
             DROP TRIGGER \"lastgood_changes_the accounts_delete\"");
        assert!(matches!(world.read(), Err(SignalError::TriggersOff { .. })));
        run(sql);
    };
    without("INSERT INTO \"the accounts\" VALUES ('c', 5, 1, NULL)");
    world.has(1.0, "'c',5 was written and is not in the log");
    world.install();
    without("UPDATE \"the accounts\" SET amount = 12 WHERE id = 4");
    world.has(1.0, "'b',4 is not as the log says");
    world.install();
    without("DELETE FROM \"the accounts\" WHERE id = 5");
    world.has(1.0, "'c',5 is gone and the log does not say so");
    world.install();
    world.is_whole();
    // One of the four is enough to be missed.
    run("DROP TRIGGER \"lastgood_changes_the accounts_rekey\"");
    assert!(matches!(world.read(), Err(SignalError::TriggersOff { .. })));
}

#[test]
fn rows_that_sqlite_takes_with_the_same_key_because_a_part_of_it_is_null_are_no_gap() {
    let folder = tempfile::tempdir().unwrap();
    let service = Connection::open(folder.path().join("app.db")).unwrap();
    let run = |sql: &str| service.execute_batch(sql).unwrap();
    run("CREATE TABLE note (room TEXT, id INTEGER, text TEXT, PRIMARY KEY (room, id));
         INSERT INTO note VALUES ('a', NULL, 'one'), ('a', NULL, 'two'), ('a', 1, 'three')");
    // In whatever case its names are written.
    let world = World::new(file(folder.path()), "NOTE", &["Room", "ID"]);
    world.install();
    world.is_whole();
    run("INSERT INTO note VALUES ('a', NULL, 'four'); UPDATE note SET text = 'five' WHERE text = 'two';
         UPDATE note SET id = 2 WHERE text = 'one'; UPDATE note SET id = NULL WHERE id = 1;
         DELETE FROM note WHERE text = 'four'");
    world.is_whole();
    run("DROP TRIGGER lastgood_changes_NOTE_insert; INSERT INTO note VALUES ('a', 7, 'past it')");
    world.has(1.0, "'a',7 was written and is not in the log");
}

#[test]
fn a_script_that_fails_half_way_changes_nothing() {
    let (folder, server) = (tempfile::tempdir().unwrap(), Postgres::start());
    let service = Connection::open(folder.path().join("app.db")).unwrap();
    service.execute_batch("CREATE TABLE t (a)").unwrap();
    server.sql("CREATE TABLE t (a int)");
    let limits = Limits { time: LIMIT, rows: 1 };
    for database in [file(folder.path()), admin(folder.path(), &server)] {
        let error = database.install("INSERT INTO t VALUES (1); INSERT INTO nowhere VALUES (1);", limits).unwrap_err();
        assert_eq!(error.code(), "database-query-refused", "{error}");
        let count = database.query("SELECT count(*) FROM t", limits).unwrap();
        assert_eq!(count.scalar().unwrap().as_number(), Some(0.0));
    }
}
