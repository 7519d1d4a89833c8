//! Clones for rehearsals: the same data elsewhere, for another owner, never in memory.

use crate::stage::{Stage, audit, bank, code, names};
use lastgood_drivers::state::{Mode, Owner, StatePlace, clone, clone_to, facts};
use std::{fs, os::unix::fs::MetadataExt as _};

#[test]
fn a_clone_is_the_data_for_its_new_owner() {
    let stage = Stage::new();
    let data = stage.folder("data");
    drop(bank(&data.join("db.sqlite"), "wal", 10));
    fs::create_dir(data.join("sub")).unwrap();
    fs::write(data.join("sub/file"), "text").unwrap();
    let taken = stage.snap(&StatePlace::directory(&data, &["cache"]), Mode::Online, 1).unwrap();
    let scratch = stage.path("scratch/deep");
    let bytes = clone(&stage.snapshot(1), &scratch, Some(&Owner::new(4242, 4243))).unwrap();
    assert_eq!(bytes, taken.bytes);
    for path in ["", "db.sqlite", "sub", "sub/file"] {
        let meta = fs::metadata(scratch.join(path)).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (4242, 4243), "{path}");
    }
    assert_eq!(facts(&StatePlace::directory(&scratch, &[])).unwrap().schema, taken.schema);
    assert_eq!(audit(&scratch.join("db.sqlite")), (100_000, 0, 0, "ok".into()));
}

#[test]
fn a_change_to_a_clone_does_not_reach_the_snapshot() {
    let stage = Stage::new();
    let database = stage.folder("data").join("db.sqlite");
    drop(bank(&database, "wal", 10));
    stage.snap(&StatePlace::sqlite([&database]), Mode::Online, 1).unwrap();
    clone(&stage.snapshot(1), &stage.path("scratch"), None).unwrap();
    let migrated = rusqlite::Connection::open(stage.path("scratch/db.sqlite")).unwrap();
    migrated.execute_batch("DROP TABLE accounts").unwrap();
    drop(migrated);
    assert_eq!(audit(&stage.snapshot(1).join("files/0/db.sqlite")).0, 100_000);
}

#[test]
fn databases_keep_their_places_relative_to_each_other() {
    let stage = Stage::new();
    let data = stage.folder("data");
    stage.folder("data/users");
    let paths = [data.join("main.db"), data.join("users/a.db")];
    paths.iter().for_each(|path| drop(bank(path, "delete", 0)));
    stage.snap(&StatePlace::sqlite(&paths), Mode::Online, 1).unwrap();
    clone(&stage.snapshot(1), &stage.path("scratch"), None).unwrap();
    assert_eq!(names(&stage.path("scratch")), ["main.db", "users"]);
    assert_eq!(names(&stage.path("scratch/users")), ["a.db"]);
    let exact = StatePlace::sqlite([stage.path("exact/x.db"), stage.path("exact/y/z.db")]);
    clone_to(&stage.snapshot(1), &exact).unwrap();
    assert_eq!(audit(&stage.path("exact/y/z.db")).0, 100_000);
}

#[test]
fn a_clone_never_goes_over_something_nor_into_memory() {
    let stage = Stage::new();
    let data = stage.folder("data");
    fs::write(data.join("file"), "text").unwrap();
    stage.snap(&StatePlace::directory(&data, &[]), Mode::Online, 1).unwrap();
    fs::write(stage.folder("taken").join("other"), "mine").unwrap();
    assert_eq!(code(clone(&stage.snapshot(1), &stage.path("taken"), None)), "clone-target-taken");
    assert_eq!(names(&stage.path("taken")), ["other"]);
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    assert_eq!(code(clone(&stage.snapshot(1), memory.path(), None)), "clone-scratch-in-memory");
    assert_eq!(code(clone(&stage.path("nothing"), &stage.path("scratch"), None)), "snapshot-missing");
}
