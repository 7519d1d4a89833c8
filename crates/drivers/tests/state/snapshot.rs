//! What a snapshot is, and that it is whole or not there.

use crate::stage::{Stage, audit, bank, listing};
use lastgood_drivers::state::{Mode, StatePlace};
use std::fs;

#[test]
fn a_database_comes_back_as_it_was() {
    let stage = Stage::new();
    let data = stage.folder("data");
    let database = data.join("db.sqlite");
    drop(bank(&database, "wal", 100));
    let place = StatePlace::sqlite([&database]);
    let facts = stage.snap(&place, Mode::Online, 1).unwrap();
    assert_eq!((facts.files, facts.rows), (1, 201));
    let before = listing(&data);
    rusqlite::Connection::open(&database).unwrap().execute_batch("DROP TABLE accounts; VACUUM").unwrap();
    let restored = stage.restore(1, &place, "journal").unwrap();
    assert_eq!(audit(&database), (100_000, 0, 0, "ok".into()));
    let _ = before;
    assert!(fs::metadata(restored.aside.unwrap()).unwrap().is_dir());
}

#[test]
fn a_folder_comes_back_as_it_was() {
    let stage = Stage::new();
    let data = stage.folder("data");
    drop(bank(&data.join("db.sqlite"), "delete", 100));
    fs::create_dir_all(data.join("files/deep")).unwrap();
    fs::create_dir_all(data.join("cache")).unwrap();
    fs::write(data.join("files/a"), "one").unwrap();
    fs::write(data.join("cache/x"), "cached").unwrap();
    let place = StatePlace::directory(&data, &["cache/**"]);
    let facts = stage.snap(&place, Mode::Online, 1).unwrap();
    assert_eq!((facts.files, facts.rows), (2, 201));
    let before = listing(&data);
    fs::write(data.join("files/a"), "two").unwrap();
    fs::write(data.join("files/new"), "new").unwrap();
    fs::remove_dir(data.join("files/deep")).unwrap();
    rusqlite::Connection::open(data.join("db.sqlite")).unwrap().execute_batch("DROP TABLE accounts").unwrap();
    stage.restore(1, &place, "journal").unwrap();
    assert_eq!(listing(&data), before);
}
