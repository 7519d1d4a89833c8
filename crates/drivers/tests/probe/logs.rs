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

#[test]
fn a_log_too_long_to_be_judged_is_no_pass() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    fs::File::create(&path).unwrap().set_len(65 << 20).unwrap();
    let said = LogPatterns::new(&[]).unwrap().scan(&path, 0).expect("nobody looked at its end");
    assert!(said.contains("too long"), "{said}");
}

#[test]
fn a_pipe_in_the_place_of_a_log_holds_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("log");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    assert!(LogPatterns::new(&[]).unwrap().scan(&pipe, 0).unwrap().contains("can't be read"));
}

#[test]
fn the_words_of_more_programs_are_known() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let patterns = LogPatterns::new(&[]).unwrap();
    for line in [
        "[ERROR] error while migrating database",
        "Unable to run migrations: syntax error",
        "could not migrate schema to version 12",
        "goose: MIGRATION ABORTED",
        "sqlite3.IntegrityError: NOT NULL constraint failed: notes.owner",
        "sqlite3.DatabaseError: file is not a database",
        "Migration 0007_pinned failed",
        "Migration failed with 0 errors",
        "migration: 0 migrations failed before, migration failed now",
    ] {
        fs::write(&path, line).unwrap();
        assert_eq!(patterns.scan(&path, 0).as_deref(), Some(line));
    }
    for line in [
        "Running 3 migrations",
        "migrations done: 0 failed, 3 applied",
        "migrations 0 failed 3 applied",
        "Migration finished with no errors",
        "GET /errors/migrations 200",
        "failed login for user alice",
        "immigration form error",
    ] {
        fs::write(&path, line).unwrap();
        assert_eq!(patterns.scan(&path, 0), None, "{line}");
    }
}
