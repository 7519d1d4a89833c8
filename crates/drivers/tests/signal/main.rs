//! What reading signals promises: numbers from real databases, and no change that goes past a change log unseen.

#![expect(clippy::unwrap_used, reason = "a test that can not go on has failed")]

mod gaps;
#[path = "../postgres_kit/mod.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod postgres_kit;

use lastgood_domain::{failure::Coded as _, terms::Span};
use lastgood_drivers::{
    probe::{SecretSource, Secrets},
    signal::{Source, Watched},
    sql::{Database, DatabaseConfig, Worker},
};
use postgres_kit::{ADMIN, PASSWORD, Postgres};
use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt as _, path::Path};

pub(crate) const LIMIT: Span = Span::seconds(30);

pub(crate) fn file(folder: &Path) -> Database {
    let worker = Worker::new(env!("CARGO_BIN_EXE_lastgood-driver-test-shim"));
    let config: DatabaseConfig = toml::from_str("sqlite = \"app.db\"").unwrap();
    Database::prepare("app", &config, folder, &worker, &Secrets::default()).unwrap()
}

/// The server's database, asked as its superuser.
pub(crate) fn admin(folder: &Path, server: &Postgres) -> Database {
    let password = folder.join("admin");
    fs::write(&password, PASSWORD).unwrap();
    fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).unwrap();
    let sources = BTreeMap::from([("admin".to_owned(), SecretSource::File(password))]);
    let secrets = Secrets::load(&sources, folder).unwrap();
    let toml = format!("postgres = \"{}\"\nsecret = \"admin\"", server.address(ADMIN, "postgres"));
    let worker = Worker::new("/nowhere");
    Database::prepare("app", &toml::from_str(&toml).unwrap(), folder, &worker, &secrets).unwrap()
}

#[test]
fn a_number_and_a_jobs_runs_are_read_from_both_databases() {
    let (folder, server) = (tempfile::tempdir().unwrap(), Postgres::start());
    rusqlite::Connection::open(folder.path().join("app.db")).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
    for database in [file(folder.path()), admin(folder.path(), &server)] {
        let number = |sql: &str| Source::Number { database: database.clone(), sql: sql.into() }.read(LIMIT);
        assert_eq!(number("SELECT 2.5").unwrap().value, 2.5);
        for (sql, wanted) in [
            ("SELECT 1 WHERE 1 = 2", "it gives no row"),
            ("SELECT 1 UNION ALL SELECT 2", "it gives several rows"),
            ("SELECT 1, 2", "it gives 2 columns"),
            ("SELECT 'many'", "it gives many"),
            ("SELECT NULL", "it gives null"),
        ] {
            let error = number(sql).unwrap_err();
            assert!(error.code() == "signal-not-a-number" && error.to_string().contains(wanted), "{sql}: {error}");
        }
        let runs = |rows: &str| {
            let sql = format!("SELECT ok FROM (VALUES {rows}) AS run (at, ok) ORDER BY at DESC");
            let sql = match database.dialect() {
                lastgood_drivers::sql::Dialect::Postgres => sql,
                // SQLite names no columns of values.
                _ => format!("SELECT column2 FROM (VALUES {rows}) ORDER BY column1 DESC"),
            };
            Source::Runs { database: database.clone(), sql }.read(LIMIT)
        };
        assert_eq!(runs("(1, true), (2, false), (3, false), (4, null)").unwrap().value, 2.0);
        assert_eq!(runs("(1, false), (2, true)").unwrap().value, 0.0);
        let error = runs("(1, 'failed')").unwrap_err();
        assert!(error.to_string().contains("a run is failed; true, false or null are wanted"), "{error}");
    }
}

#[test]
fn a_table_that_is_not_there_and_names_that_can_t_be_are_said() {
    let folder = tempfile::tempdir().unwrap();
    rusqlite::Connection::open(folder.path().join("app.db")).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
    let key = ["id".to_owned()];
    let watched = Watched::new("accounts", &key).unwrap();
    let error = Source::Gaps { database: file(folder.path()), watched }.read(LIMIT).unwrap_err();
    assert_eq!(error.code(), "signal-no-table");
    // The last ones would end the comment, or the body, that they stand in.
    let ends = ["id$$".to_owned()];
    for (table, key) in [
        ("", &key[..]),
        (&"t".repeat(41), &key),
        ("a.b.c", &key),
        ("t", &[]),
        ("a\nDROP TABLE b;--", &key),
        ("bank\n;.accounts", &key),
        ("a$$b", &key),
        ("t", &ends),
    ] {
        assert!(Watched::new(table, key).is_err(), "{table}");
    }
}
