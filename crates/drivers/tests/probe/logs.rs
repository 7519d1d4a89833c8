//! Logs that show a failed migration, and logs that do not.

use lastgood_drivers::probe::LogPatterns;
use std::fs;

const FAILED: [&str; 12] = [
    "ERROR Migration failed: 0007_pinned",
    "Error while running migration 0007",
    "failed to apply migration 12: near \"COLUM\": syntax error",
    "Could not migrate database",
    "SqliteError: SQLITE_ERROR: no such column: pinned",
    "sqlite3.OperationalError: no such table: notes",
    "sqlite3.OperationalError: duplicate column name: pinned",
    "alembic.util.exc.CommandError: Can't locate revision identified by 'ab12'",
    "django.db.utils.ProgrammingError: oops",
    "ERROR: relation \"notes\" does not exist at character 15",
    "MigrationError: locked",
    "fatal: database schema version 12 is newer than this program's",
];

const WELL: [&str; 7] = [
    "Running migrations: 7 to apply",
    "migration 0007_pinned applied",
    "0 migrations failed",
    "no migrations have failed",
    "migrations failed: 0",
    "listening on 127.0.0.1:7101",
    "error: user bob typed a wrong password",
];

#[test]
fn a_failed_migration_is_found_and_a_good_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let patterns = LogPatterns::new(&[]).unwrap();
    fs::write(&path, WELL.join("\n")).unwrap();
    assert_eq!(patterns.scan(&path, 0), None);
    for line in FAILED {
        fs::write(&path, format!("{}\n{line}\nafter\n", WELL.join("\n"))).unwrap();
        assert_eq!(patterns.scan(&path, 0).as_deref(), Some(line));
    }
}

#[test]
fn only_what_came_after_the_start_counts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    fs::write(&path, "Migration failed\nlistening\n").unwrap();
    let patterns = LogPatterns::new(&[]).unwrap();
    assert_eq!(patterns.scan(&path, 17), None);
    assert_eq!(patterns.scan(&path, 0).as_deref(), Some("Migration failed"));
    assert_eq!(patterns.scan(&folder.path().join("none"), 0), None);
    assert!(patterns.scan(folder.path(), 0).unwrap().contains("can't be read"));
}

#[test]
fn own_patterns_count_and_a_wrong_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let patterns = LogPatterns::new(&["E42".into()]).unwrap();
    fs::write(&path, format!("{}\nE42 {}\n", "x".repeat(1 << 20), "é".repeat(400))).unwrap();
    let line = patterns.scan(&path, 0).unwrap();
    assert!(line.starts_with("E42 é") && line.chars().count() == 301, "{line}");
    assert!(LogPatterns::new(&["(".into()]).is_err());
}
