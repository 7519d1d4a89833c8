//! What a restore would drop is counted before it is dropped.

use crate::stage::{Stage, bank, listing};
use lastgood_domain::facts::Loss;
use lastgood_drivers::state::{Mode, StateError, StatePlace, loss, loss_report};
use rusqlite::Connection;
use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Duration,
};

struct Case {
    stage: Stage,
    place: StatePlace,
    data: PathBuf,
    service: Connection,
}

fn case(journal: &str) -> Case {
    let stage = Stage::new();
    let data = stage.folder("data");
    let service = bank(&data.join("db.sqlite"), journal, 900);
    service
        .execute_batch("CREATE TABLE pairs (a TEXT, b TEXT, note TEXT, PRIMARY KEY (a, b)) WITHOUT ROWID; INSERT INTO pairs VALUES ('x', 'y', 'z'); CREATE TABLE loose (rowid TEXT, oid TEXT, _rowid_ TEXT); INSERT INTO loose VALUES ('1', '2', '3')")
        .unwrap();
    fs::write(data.join("file"), "text").unwrap();
    let place = StatePlace::directory(&data, &["*.log"]);
    stage.snap(&place, Mode::Online, 1).unwrap();
    Case { stage, place, data, service }
}

impl Case {
    fn after(self, sql: &str) -> (Stage, StatePlace) {
        self.service.execute_batch(sql).unwrap();
        drop(self.service);
        (self.stage, self.place)
    }
}

fn lost(sql: &str) -> Loss {
    let (stage, place) = case("wal").after(sql);
    loss(&place, &stage.snapshot(1)).unwrap()
}

#[test]
fn nothing_written_is_nothing_lost() {
    assert_eq!(lost(""), Loss { rows: 0, files: 0 });
    let (stage, place) = case("delete").after("");
    assert_eq!(loss(&place, &stage.snapshot(1)).unwrap(), Loss::default());
}

#[test]
fn new_changed_and_vanished_rows_are_counted_once_each() {
    assert_eq!(lost("INSERT INTO transfers VALUES (1, 1, 1), (2, 2, 2)").rows, 2);
    assert_eq!(lost("UPDATE accounts SET balance = 5 WHERE id < 4").rows, 3);
    assert_eq!(lost("DELETE FROM accounts WHERE id = 1").rows, 1);
    assert_eq!(lost("UPDATE pairs SET note = 'Z'; INSERT INTO pairs VALUES ('a', 'b', NULL)").rows, 2);
    assert_eq!(lost("INSERT INTO loose VALUES ('4', '5', '6')").rows, 1);
}

#[test]
fn what_a_migration_adds_counts_as_written_and_what_it_fills_in_does_not() {
    let sql = "ALTER TABLE accounts ADD COLUMN owner TEXT DEFAULT 'nobody'; UPDATE accounts SET owner = 'somebody';
               CREATE INDEX accounts_owner ON accounts (owner); CREATE TABLE audit (id INTEGER PRIMARY KEY);
               INSERT INTO audit VALUES (1), (2); INSERT INTO transfers VALUES (1, 1, 1)";
    let (stage, place) = case("wal").after(sql);
    let report = loss_report(&place, &stage.snapshot(1)).unwrap();
    // Nobody can tell rows that a migration put into a new table from rows that users wrote there.
    assert_eq!(report.loss, Loss { rows: 3, files: 0 });
    assert_eq!(report.tables, [("db.sqlite: transfers".to_owned(), 1)].into());
    assert_eq!(report.appeared, [("db.sqlite: audit".to_owned(), 2)].into());
}

#[test]
fn what_is_written_to_a_renamed_table_is_counted() {
    let rename = "ALTER TABLE accounts RENAME TO people";
    let (stage, place) = case("wal").after(rename);
    let report = loss_report(&place, &stage.snapshot(1)).unwrap();
    assert_eq!((report.loss.rows, report.appeared), (0, [("db.sqlite: people".to_owned(), 100)].into()));
    assert_eq!(report.vanished, [("db.sqlite: accounts".to_owned(), 100)].into());
    let write = "WITH RECURSIVE n(i) AS (SELECT 1001 UNION ALL SELECT i + 1 FROM n WHERE i < 4000)
                 INSERT INTO people SELECT i, 0 FROM n";
    let (stage, place) = case("wal").after(&format!("{rename}; {write}"));
    assert_eq!(loss(&place, &stage.snapshot(1)).unwrap().rows, 3_000);
}

#[test]
fn a_search_index_that_a_migration_makes_is_nothing_that_users_wrote() {
    let sql = "CREATE VIRTUAL TABLE found USING fts5(text); INSERT INTO found SELECT 'text ' || id FROM accounts";
    assert_eq!(lost(sql), Loss::default());
}

#[test]
fn a_table_rebuilt_by_a_migration_is_compared_with_what_it_was() {
    let sql = "CREATE TABLE built (id INTEGER PRIMARY KEY, balance INTEGER, kind TEXT);
               INSERT INTO built SELECT id, balance, 'plain' FROM accounts; DROP TABLE accounts;
               ALTER TABLE built RENAME TO accounts; UPDATE accounts SET balance = 1 WHERE id = 9";
    assert_eq!(lost(sql).rows, 1);
}

#[test]
fn rows_only_in_the_log_of_a_killed_service_are_counted_and_the_log_is_left_alone() {
    let Case { stage, data, service, .. } = case("wal");
    service.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
    service.execute_batch("INSERT INTO transfers VALUES (1, 1, 1)").unwrap();
    let killed = stage.folder("killed");
    for name in ["db.sqlite", "db.sqlite-wal", "file"] {
        fs::copy(data.join(name), killed.join(name)).unwrap();
    }
    let before = listing(&killed);
    let place = StatePlace::directory(&killed, &[]);
    assert_eq!(loss(&place, &stage.snapshot(1)).unwrap(), Loss { rows: 1, files: 0 });
    assert_eq!(listing(&killed), before);
    assert_eq!(stage.shelved(), ["s1"]);
}

#[test]
fn files_outside_databases_are_counted() {
    let Case { stage, place, data, service } = case("wal");
    drop(service);
    fs::write(data.join("file"), "tex!").unwrap();
    fs::write(data.join("new"), "new").unwrap();
    fs::write(data.join("new.log"), "excluded").unwrap();
    assert_eq!(loss(&place, &stage.snapshot(1)).unwrap(), Loss { rows: 0, files: 2 });
    fs::remove_file(data.join("file")).unwrap();
    fs::remove_file(data.join("new")).unwrap();
    assert_eq!(loss(&place, &stage.snapshot(1)).unwrap(), Loss { rows: 0, files: 1 });
    fs::remove_dir_all(&data).unwrap();
    assert_eq!(loss(&place, &stage.snapshot(1)).unwrap(), Loss { rows: 0, files: 2 });
}

/// Counts in a thread of its own, as what waits at a pipe never comes back.
fn lost_within_a_while(stage: Stage, place: StatePlace) -> Result<Loss, StateError> {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || tell.send((loss(&place, &stage.snapshot(1)), stage.shelved())));
    let (loss, shelved) =
        told.recv_timeout(Duration::from_secs(20)).expect("it waits for what the data's owner planted");
    assert_eq!(shelved, ["s1"], "something was copied");
    loss
}

#[test]
fn links_and_pipes_beside_a_database_are_neither_followed_nor_waited_for() {
    let pipe = |path: &Path| {
        assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    };
    for suffix in ["-wal", "-journal"] {
        for planted in ["link to a pipe", "pipe", "link to a file", "link to itself", "folder"] {
            let Case { stage, place, data, service } = case("delete");
            drop(service);
            let (side, elsewhere) = (data.join(format!("db.sqlite{suffix}")), stage.folder("elsewhere").join("it"));
            match planted {
                "pipe" => pipe(&side),
                "folder" => fs::create_dir(&side).unwrap(),
                "link to itself" => symlink(&side, &side).unwrap(),
                _ if planted.ends_with("pipe") => pipe(&elsewhere),
                _ => fs::write(&elsewhere, "somebody else's").unwrap(),
            }
            if planted.starts_with("link to a") {
                symlink(&elsewhere, &side).unwrap();
            }
            let error = lost_within_a_while(stage, place).expect_err(planted);
            let refused = matches!(error, StateError::Symlink { .. } | StateError::Unreadable { .. });
            assert!(refused, "{planted} as {suffix}: {error}");
        }
    }
    // Nobody needs the third one to count.
    let Case { stage, place, data, service } = case("delete");
    drop(service);
    pipe(&data.join("db.sqlite-shm"));
    assert_eq!(lost_within_a_while(stage, place).unwrap(), Loss::default());
}
