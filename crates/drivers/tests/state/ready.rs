//! A way back that lies ready is moved: the same end, without copying, and without room.

use crate::{
    interrupted::{restore_in_process, wear_on, worn},
    room::Tiny,
    stage::{Stage, audit, bank, code, listing, names},
};
use lastgood_domain::terms::SnapshotId;
use lastgood_drivers::state::{Mode, RestoreContext, StatePlace, discard_ready, lay_ready, restore};
use rusqlite::Connection;
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

fn lay(stage: &Stage, place: &StatePlace) -> u64 {
    lay_ready(&stage.snapshot(1), place, &stage.path("aside")).unwrap()
}

/// What the kill tests' data is without its excluded files.
fn kept(data: &Path) -> BTreeMap<String, String> {
    let mut listing = listing(data);
    for excluded in ["sub/cache/x", "new", "new/cache", "new/cache/y"] {
        listing.remove(excluded);
    }
    listing
}

#[test]
fn what_lies_ready_is_moved_into_place_and_is_the_same() {
    let stage = Stage::new();
    let (data, place) = worn(&stage, "data");
    stage.snap(&place, Mode::Stopped, 1).unwrap();
    let before = kept(&data);
    wear_on(&data);
    assert!(lay(&stage, &place) > 0);
    let laid = fs::metadata(stage.path("aside/.ready-s1/0/db.sqlite")).unwrap().ino();
    let facts = stage.restore(1, &place, "journal").unwrap();
    assert_eq!(kept(&data), before);
    assert_eq!(fs::metadata(data.join("db.sqlite")).unwrap().ino(), laid, "it was copied");
    assert_eq!(audit(&data.join("db.sqlite")), (100_000, 0, 0, "ok".into()));
    let aside = PathBuf::from(facts.aside.unwrap());
    assert_eq!(names(&stage.path("aside")), [aside.file_name().unwrap().to_str().unwrap()]);
    // The snapshot is whole as before: the next restore copies from it.
    wear_on_again(&data);
    stage.restore(1, &place, "journal-2").unwrap();
    assert_eq!(kept(&data), before);
}

fn wear_on_again(data: &Path) {
    fs::write(data.join("sub/file"), "changed again").unwrap();
}

#[test]
fn several_databases_lie_ready_together() {
    let stage = Stage::new();
    let data = stage.folder("data");
    let paths = [data.join("a.db"), data.join("b.db")];
    for path in &paths {
        drop(bank(path, "wal", 5));
    }
    let place = StatePlace::sqlite(&paths);
    stage.snap(&place, Mode::Stopped, 1).unwrap();
    lay(&stage, &place);
    for path in &paths {
        Connection::open(path).unwrap().execute_batch("INSERT INTO transfers VALUES (1, 1, 1)").unwrap();
    }
    stage.restore(1, &place, "journal").unwrap();
    for path in &paths {
        assert_eq!(audit(path), (100_000, 0, 0, "ok".into()));
    }
}

#[test]
fn a_way_back_that_lies_ready_needs_no_room() {
    let stage = Stage::new();
    let tiny = Tiny::new(stage.path("tiny"), 16_384);
    let data = tiny.path().join("data");
    fs::create_dir(&data).unwrap();
    drop(bank(&data.join("db.sqlite"), "delete", 600));
    let place = StatePlace::directory(&data, &[]);
    stage.snap(&place, Mode::Stopped, 1).unwrap();
    let aside = tiny.path().join("aside");
    let put_back =
        |journal: &str| restore(&stage.snapshot(1), &place, &aside, &stage.path(journal), &RestoreContext::default());
    Connection::open(data.join("db.sqlite")).unwrap().execute_batch("INSERT INTO transfers VALUES (1, 1, 1)").unwrap();
    tiny.fill_but(512);
    assert_eq!(code(put_back("journal")), "snapshot-no-space");
    fs::remove_file(tiny.path().join("ballast")).unwrap();
    lay_ready(&stage.snapshot(1), &place, &aside).unwrap();
    tiny.fill_but(512);
    put_back("journal").unwrap();
    assert_eq!(audit(&data.join("db.sqlite")), (100_000, 0, 0, "ok".into()));
}

#[test]
fn too_little_room_lays_nothing_ready() {
    let stage = Stage::new();
    let tiny = Tiny::new(stage.path("tiny"), 8_192);
    let database = stage.folder("data").join("db.sqlite");
    drop(bank(&database, "delete", 600));
    let place = StatePlace::sqlite([&database]);
    stage.snap(&place, Mode::Stopped, 1).unwrap();
    tiny.fill_but(256);
    let aside = tiny.path().join("aside");
    assert_eq!(code(lay_ready(&stage.snapshot(1), &place, &aside)), "snapshot-no-space");
    assert_eq!(names(&aside), Vec::<String>::new());
}

#[test]
fn what_lies_ready_and_was_touched_is_not_believed() {
    let stage = Stage::new();
    let (data, place) = worn(&stage, "data");
    stage.snap(&place, Mode::Stopped, 1).unwrap();
    let before = kept(&data);
    for touched in ["0/sub/file", "0/gone", "seal.json"] {
        wear_on_again(&data);
        lay(&stage, &place);
        let path = stage.path("aside/.ready-s1").join(touched);
        let length = fs::metadata(&path).unwrap().len();
        fs::write(&path, vec![b'x'; length as usize]).unwrap();
        stage.restore(1, &place, &format!("journal-{}", touched.replace('/', "-"))).unwrap();
        assert_eq!(kept(&data), before, "{touched}");
    }
    // A part that is missing is no part either.
    wear_on_again(&data);
    lay(&stage, &place);
    fs::remove_file(stage.path("aside/.ready-s1/0/gone")).unwrap();
    stage.restore(1, &place, "journal-missing").unwrap();
    assert_eq!(kept(&data), before);
}

#[test]
fn only_the_newest_way_back_lies_ready_and_only_as_long_as_it_is_one() {
    let stage = Stage::new();
    let database = stage.folder("data").join("db.sqlite");
    drop(bank(&database, "delete", 10));
    let (place, aside) = (StatePlace::sqlite([&database]), stage.path("aside"));
    stage.snap(&place, Mode::Online, 1).unwrap();
    stage.snap(&place, Mode::Online, 2).unwrap();
    assert!(lay_ready(&stage.snapshot(1), &place, &aside).unwrap() > 0);
    assert_eq!(lay_ready(&stage.snapshot(1), &place, &aside).unwrap(), 0);
    // What a kill left half is swept with the next.
    fs::create_dir(aside.join(".half-ready-s1-killed")).unwrap();
    assert!(lay_ready(&stage.snapshot(2), &place, &aside).unwrap() > 0);
    assert_eq!(names(&aside), [".ready-s2"]);
    fs::create_dir(aside.join("s1-abandoned")).unwrap();
    discard_ready(&aside, &[SnapshotId(2)]).unwrap();
    assert_eq!(names(&aside), [".ready-s2", "s1-abandoned"]);
    discard_ready(&aside, &[]).unwrap();
    assert_eq!(names(&aside), ["s1-abandoned"]);
    discard_ready(&stage.path("nowhere"), &[]).unwrap();
}

#[test]
fn killed_at_any_step_a_restore_of_what_lies_ready_ends_the_same() {
    let mut steps = 0;
    for die_at in 0.. {
        let stage = Stage::new();
        let (data, place) = worn(&stage, "data");
        stage.snap(&place, Mode::Stopped, 1).unwrap();
        let before = kept(&data);
        wear_on(&data);
        lay(&stage, &place);
        let journal = stage.path("journal");
        let lived = restore_in_process(&stage, &place, &journal, die_at);
        stage.restore(1, &place, "journal").unwrap();
        assert_eq!(kept(&data), before, "killed at step {die_at}");
        assert_eq!(audit(&data.join("db.sqlite")), (100_000, 0, 0, "ok".into()));
        if let Some(count) = lived {
            steps = count;
            break;
        }
    }
    assert!(steps >= 14, "only {steps} steps were tried");
}
