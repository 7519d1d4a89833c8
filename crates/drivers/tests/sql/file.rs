//! With real SQLite files.

use super::{database, limits};
use lastgood_domain::failure::Coded as _;
use lastgood_drivers::sql::{
    Database,
    Scalar::{Integer, Null, Number, Text},
};
use rusqlite::Connection;
use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::Path,
};

const NOBODY: u32 = 65534;

fn made(folder: &Path, mode: &str) -> Connection {
    let connection = Connection::open(folder.join("app.db")).unwrap();
    connection
        .execute_batch(&format!(
            "PRAGMA journal_mode = {mode}; CREATE TABLE t (a); INSERT INTO t VALUES (1), (2.5), ('ä'), (x'00ff'), (NULL)"
        ))
        .unwrap();
    connection
}

fn app(folder: &Path) -> Database {
    database(folder, "sqlite = \"app.db\"", None)
}

#[test]
fn values_come_typed_from_a_live_file_and_nothing_is_written() {
    for mode in ["wal", "delete"] {
        let folder = tempfile::tempdir().unwrap();
        let service = made(folder.path(), mode);
        let app = app(folder.path());
        let table = app.query("SELECT a FROM t ORDER BY rowid", limits(20, 10)).unwrap();
        let rows: Vec<_> = table.rows.into_iter().flatten().collect();
        assert_eq!(rows, [Integer(1), Number(2.5), Text("ä".into()), Text("\\x00ff".into()), Null]);
        for write in [
            "INSERT INTO t VALUES (4)",
            "DELETE FROM t RETURNING a",
            "PRAGMA user_version = 7",
            "ATTACH 'other.db' AS other",
            "SELECT 1; DELETE FROM t",
            "VACUUM INTO 'copy.db'",
        ] {
            let error = app.query(write, limits(20, 10)).unwrap_err();
            assert_eq!(error.code(), "database-query-refused", "{write}: {error}");
        }
        // The service goes on, and sees its own.
        service.execute_batch("INSERT INTO t VALUES (6)").unwrap();
        let table = app.query("SELECT count(*) FROM t", limits(20, 1)).unwrap();
        assert_eq!(table.scalar(), Ok(&Integer(6)));
        let table = app.query("SELECT a FROM t", limits(20, 6)).unwrap();
        assert_eq!((table.rows.len(), table.more), (6, false));
        let table = app.query("SELECT a FROM t", limits(20, 5)).unwrap();
        assert_eq!((table.rows.len(), table.more), (5, true));
    }
}

#[test]
fn a_question_without_end_is_ended_and_a_long_answer_refused() {
    let folder = tempfile::tempdir().unwrap();
    let _service = made(folder.path(), "wal");
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
    assert_eq!(app(folder.path()).query(endless, limits(1, 1)).unwrap_err().code(), "database-timed-out");
    let long = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50) \
                SELECT hex(zeroblob(500000)) FROM n";
    assert_eq!(app(folder.path()).query(long, limits(60, 100)).unwrap_err().code(), "database-answer-too-long");
}

#[test]
fn a_file_of_another_user_is_read_as_that_user() {
    assert!(rustix::process::getuid().is_root(), "this test becomes another user and must run as root");
    let folder = tempfile::tempdir().unwrap();
    drop(made(folder.path(), "wal"));
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
    for path in [folder.path().to_owned(), folder.path().join("app.db")] {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    // The last connection has gone, so this one makes the files beside it: they must be the owner's.
    let table = app(folder.path()).query("SELECT count(*) FROM t", limits(20, 1)).unwrap();
    assert_eq!(table.scalar(), Ok(&Integer(5)));
    for item in fs::read_dir(folder.path()).unwrap() {
        let item = item.unwrap();
        assert_eq!(item.metadata().unwrap().uid(), NOBODY, "{}", item.path().display());
    }
    // And it is that user who reads: where only root may pass, nobody gets through.
    chown(folder.path(), Some(0), Some(0)).unwrap();
    let error = app(folder.path()).query("SELECT count(*) FROM t", limits(20, 1)).unwrap_err();
    assert!(error.code().starts_with("state-"), "{error}");
}

#[test]
fn what_is_no_database_says_so() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(app(folder.path()).query("SELECT 1", limits(20, 1)).unwrap_err().code(), "state-missing");
    fs::create_dir(folder.path().join("app.db")).unwrap();
    assert_eq!(app(folder.path()).query("SELECT 1", limits(20, 1)).unwrap_err().code(), "state-not-sqlite");
    fs::remove_dir(folder.path().join("app.db")).unwrap();
    fs::write(folder.path().join("app.db"), "not a database, but long enough to be read as one").unwrap();
    let error = app(folder.path()).query("SELECT 1", limits(20, 1)).unwrap_err();
    assert!(error.code().starts_with("state-"), "{error}");
}
