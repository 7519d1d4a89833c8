//! A restore puts everything back, loses nothing, and ends well whatever kills it.

use crate::stage::{Stage, audit, bank, code, listing, names, text};
use lastgood_domain::terms::SnapshotId;
use lastgood_drivers::state::{
    Holder, Mode, RestoreContext, StatePlace, adopt_aside, can_keep_aside, can_restore, is_where_taken, loss, restore,
};
use rusqlite::Connection;
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

#[test]
fn a_log_left_beside_a_restored_database_does_not_reach_it() {
    let stage = Stage::new();
    let data = stage.folder("data");
    let database = data.join("db.sqlite");
    let service = bank(&database, "wal", 50);
    let place = StatePlace::sqlite([&database]);
    stage.snap(&place, Mode::Online, 1).unwrap();
    // What the newer release does: other pages in the log, and a kill before they are merged.
    service.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
    service.execute_batch("ALTER TABLE accounts RENAME TO people; UPDATE filler SET bytes = randomblob(3000)").unwrap();
    let killed = stage.folder("killed");
    for name in names(&data) {
        fs::copy(data.join(&name), killed.join(&name)).unwrap();
    }
    let place = StatePlace::sqlite([killed.join("db.sqlite")]);
    fs::write(stage.snapshot(1).join("note"), "").unwrap();
    let restored = restore_at(&stage, &place);
    assert_eq!(names(&killed), ["db.sqlite"]);
    assert_eq!(audit(&killed.join("db.sqlite")), (100_000, 0, 0, "ok".into()));
    let aside = PathBuf::from(restored).join("0");
    assert_eq!(names(&aside), ["db.sqlite", "db.sqlite-shm", "db.sqlite-wal"]);
    // The trap: the same file with the newer log beside it is another database.
    fs::copy(aside.join("db.sqlite-wal"), killed.join("db.sqlite-wal")).unwrap();
    let spoiled = Connection::open(killed.join("db.sqlite")).unwrap();
    let clean = spoiled.query_row("SELECT sum(balance) FROM accounts", [], |row| row.get::<_, i64>(0));
    assert!(clean.is_err(), "the trap is gone; this test proves nothing any more");
    drop(service);
}

fn restore_at(stage: &Stage, place: &StatePlace) -> String {
    stage.restore(1, place, "journal").unwrap().aside.unwrap()
}

#[test]
fn a_restore_done_twice_is_done_once() {
    let stage = Stage::new();
    let database = stage.folder("data").join("db.sqlite");
    drop(bank(&database, "delete", 10));
    let place = StatePlace::sqlite([&database]);
    stage.snap(&place, Mode::Online, 1).unwrap();
    let first = stage.restore(1, &place, "journal").unwrap();
    // The instance runs again and writes; the order comes once more.
    Connection::open(&database).unwrap().execute_batch("INSERT INTO transfers VALUES (1, 1, 1)").unwrap();
    assert_eq!(stage.restore(1, &place, "journal").unwrap(), first);
    assert_eq!(audit(&database).2, 1);
    // Even when its snapshot has been pruned since.
    fs::remove_dir_all(stage.snapshot(1)).unwrap();
    assert_eq!(stage.restore(1, &place, "journal").unwrap(), first);
}

#[test]
fn a_journal_of_another_snapshot_under_the_same_id_is_not_taken_for_this_restore() {
    let stage = Stage::new();
    let database = stage.folder("data").join("db.sqlite");
    drop(bank(&database, "delete", 10));
    let place = StatePlace::sqlite([&database]);
    let write = |id: u32| {
        let write = format!("INSERT INTO transfers VALUES ({id}, 1, 1)");
        Connection::open(&database).unwrap().execute_batch(&write).unwrap();
    };
    stage.snap(&place, Mode::Online, 1).unwrap();
    write(1);
    stage.restore(1, &place, "journal").unwrap();
    assert_eq!(audit(&database).2, 0);
    // Evidence was put back: the ids come again, for data that is further on.
    fs::remove_dir_all(stage.snapshot(1)).unwrap();
    write(1);
    stage.snap(&place, Mode::Online, 1).unwrap();
    write(2);
    let facts = stage.restore(1, &place, "journal").unwrap();
    assert_eq!(audit(&database).2, 1);
    // And that one is done once.
    write(3);
    assert_eq!(stage.restore(1, &place, "journal").unwrap(), facts);
    assert_eq!(audit(&database).2, 2);
}

#[test]
fn the_restore_of_a_restore_brings_the_abandoned_data_back() {
    let stage = Stage::new();
    let data = stage.folder("data");
    let database = data.join("db.sqlite");
    let open = bank(&database, "wal", 10);
    fs::write(data.join("file"), "old").unwrap();
    let place = StatePlace::directory(&data, &["cache/**"]);
    stage.snap(&place, Mode::Online, 1).unwrap();
    open.execute_batch("INSERT INTO transfers VALUES (1, 1, 1)").unwrap();
    drop(open);
    fs::write(data.join("file"), "new").unwrap();
    fs::write(data.join("added"), "added").unwrap();
    let newer = listing(&data);
    let aside = stage.restore(1, &place, "journal-1").unwrap().aside.unwrap();
    assert_eq!(audit(&database).2, 0);
    let shelf = stage.shelf();
    adopt_aside(Path::new(&aside), &place, SnapshotId(2), &shelf, &crate::stage::context()).unwrap();
    stage.restore(2, &place, "journal-2").unwrap();
    assert_eq!(listing(&data), newer);
    assert_eq!(audit(&database).2, 1);
}

#[test]
fn abandoned_databases_with_their_logs_can_be_adopted() {
    let stage = Stage::new();
    let data = stage.folder("data");
    let place = StatePlace::sqlite([data.join("a.db"), data.join("b.db")]);
    let open = [bank(&data.join("a.db"), "wal", 10), bank(&data.join("b.db"), "wal", 10)];
    stage.snap(&place, Mode::Online, 1).unwrap();
    for database in &open {
        database.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
        database.execute_batch("INSERT INTO transfers VALUES (1, 1, 1)").unwrap();
    }
    let killed = stage.folder("killed");
    for name in names(&data) {
        fs::copy(data.join(&name), killed.join(&name)).unwrap();
    }
    let place = StatePlace::sqlite([killed.join("a.db"), killed.join("b.db")]);
    let aside = stage.restore(1, &place, "journal").unwrap().aside.unwrap();
    assert_eq!((audit(&killed.join("a.db")).2, audit(&killed.join("b.db")).2), (0, 0));
    let shelf = stage.shelf();
    adopt_aside(Path::new(&aside), &place, SnapshotId(2), &shelf, &crate::stage::context()).unwrap();
    stage.restore(2, &place, "journal-2").unwrap();
    assert_eq!((audit(&killed.join("a.db")).2, audit(&killed.join("b.db")).2), (1, 1));
    drop(open);
}

#[test]
fn excluded_files_stay_where_they_are() {
    let stage = Stage::new();
    let data = stage.folder("data");
    for path in ["keep/cache/a", "keep/file", "cache/b", "deep/er/cache/c"] {
        fs::create_dir_all(data.join(path).parent().unwrap()).unwrap();
        fs::write(data.join(path), path).unwrap();
    }
    let place = StatePlace::directory(&data, &["**/cache/**", "*.log"]);
    stage.snap(&place, Mode::Online, 1).unwrap();
    let without_excluded = |listing: BTreeMap<String, String>| -> BTreeMap<String, String> {
        listing.into_iter().filter(|(path, _)| !path.contains("cache/") && !path.ends_with(".log")).collect()
    };
    let before = without_excluded(listing(&data));
    fs::write(data.join("keep/cache/a"), "warmer").unwrap();
    fs::write(data.join("keep/file"), "changed").unwrap();
    fs::write(data.join("run.log"), "a line").unwrap();
    fs::create_dir_all(data.join("new/cache")).unwrap();
    fs::write(data.join("new/cache/d"), "d").unwrap();
    fs::write(data.join("new/file"), "new").unwrap();
    let aside = PathBuf::from(stage.restore(1, &place, "journal").unwrap().aside.unwrap());
    let mut after = without_excluded(listing(&data));
    // A folder that is new stays as long as an excluded file is in it.
    assert!(after.remove("new").is_some() && after.remove("new/cache").is_some());
    assert_eq!(after, before);
    assert_eq!(fs::read_to_string(data.join("keep/cache/a")).unwrap(), "warmer");
    assert_eq!(fs::read_to_string(data.join("run.log")).unwrap(), "a line");
    assert_eq!(fs::read_to_string(data.join("new/cache/d")).unwrap(), "d");
    assert_eq!(fs::read_to_string(aside.join("0/new/file")).unwrap(), "new");
    assert_eq!(fs::read_to_string(aside.join("0/keep/file")).unwrap(), "changed");
    assert!(!aside.join("0/run.log").exists());
}

#[test]
fn data_that_is_all_gone_comes_back() {
    let stage = Stage::new();
    let data = stage.folder("data");
    drop(bank(&data.join("db.sqlite"), "wal", 10));
    let place = StatePlace::directory(&data, &[]);
    stage.snap(&place, Mode::Stopped, 1).unwrap();
    let before = listing(&data);
    fs::remove_dir_all(&data).unwrap();
    assert_eq!(stage.restore(1, &place, "journal").unwrap().aside, None);
    assert_eq!(listing(&data), before);
}

#[test]
fn a_file_and_a_folder_may_have_changed_places() {
    let stage = Stage::new();
    let data = stage.folder("data");
    fs::write(data.join("was-file"), "file").unwrap();
    fs::create_dir(data.join("was-folder")).unwrap();
    fs::write(data.join("was-folder/in"), "in").unwrap();
    symlink("nowhere", data.join("was-link")).unwrap();
    let place = StatePlace::directory(&data, &[]);
    stage.snap(&place, Mode::Online, 1).unwrap();
    let before = listing(&data);
    fs::remove_file(data.join("was-file")).unwrap();
    fs::create_dir_all(data.join("was-file/deep")).unwrap();
    fs::remove_dir_all(data.join("was-folder")).unwrap();
    fs::write(data.join("was-folder"), "now a file").unwrap();
    fs::remove_file(data.join("was-link")).unwrap();
    stage.restore(1, &place, "journal").unwrap();
    assert_eq!(listing(&data), before);
}

#[test]
fn data_that_somebody_holds_is_not_touched() {
    let stage = Stage::new();
    let database = stage.folder("data").join("db.sqlite");
    drop(bank(&database, "delete", 10));
    let place = StatePlace::sqlite([&database]);
    stage.snap(&place, Mode::Online, 1).unwrap();
    let before = listing(&stage.root);
    let context =
        RestoreContext { still_held: vec![Holder { pid: 4711, path: database.clone() }], ..RestoreContext::default() };
    let done = restore(&stage.snapshot(1), &place, &stage.path("aside"), &stage.path("journal"), &context);
    assert_eq!(code(done), "restore-still-held");
    assert_eq!(listing(&stage.root), before);
}

#[test]
fn a_damaged_snapshot_leaves_the_data_as_it_is() {
    let stage = Stage::new();
    let data = stage.folder("data");
    drop(bank(&data.join("db.sqlite"), "delete", 10));
    let place = StatePlace::directory(&data, &[]);
    stage.snap(&place, Mode::Online, 1).unwrap();
    let copy = stage.snapshot(1).join("files/0/db.sqlite");
    let mut bytes = fs::read(&copy).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&copy, bytes).unwrap();
    let before = fs::read(data.join("db.sqlite")).unwrap();
    assert_eq!(code(stage.restore(1, &place, "journal")), "snapshot-damaged");
    assert_eq!(names(&data), ["db.sqlite"]);
    assert_eq!(fs::read(data.join("db.sqlite")).unwrap(), before);
    // And nothing stands in the way of the next try, with another snapshot and the same journal.
    assert!(!stage.path("journal").exists());
    stage.snap(&place, Mode::Online, 2).unwrap();
    stage.restore(2, &place, "journal").unwrap();
}

#[test]
fn one_journal_is_for_one_restore() {
    let stage = Stage::new();
    let database = stage.folder("data").join("db.sqlite");
    drop(bank(&database, "delete", 10));
    let place = StatePlace::sqlite([&database]);
    stage.snap(&place, Mode::Online, 1).unwrap();
    stage.snap(&place, Mode::Online, 2).unwrap();
    stage.restore(1, &place, "journal").unwrap();
    assert_eq!(code(stage.restore(2, &place, "journal")), "restore-journal-other");
    fs::write(stage.path("noise"), "not a journal\n").unwrap();
    assert_eq!(code(stage.restore(2, &place, "noise")), "restore-journal-other");
    // Cut by a power cut before its first line was whole: nothing had been moved.
    fs::write(stage.path("cut"), r#"{"snapshot":"#).unwrap();
    stage.restore(2, &place, "cut").unwrap();
    let two = StatePlace::sqlite([database.clone(), database.with_extension("two")]);
    assert_eq!(code(stage.restore(1, &two, "other")), "restore-other-shape");
}

#[test]
fn what_is_left_out_only_since_the_snapshot_goes_back_and_what_the_snapshot_left_out_stays() {
    let stage = Stage::new();
    let data = stage.folder("data");
    for path in ["cache/a", "db", "logs/b", "zone"] {
        fs::create_dir_all(data.join(path).parent().unwrap()).unwrap();
        fs::write(data.join(path), path).unwrap();
    }
    let then = StatePlace::directory(&data, &["logs"]);
    stage.snap(&then, Mode::Online, 1).unwrap();
    for path in ["cache/a", "db", "logs/b", "zone"] {
        fs::write(data.join(path), "newer").unwrap();
    }
    let now = StatePlace::directory(&data, &["cache"]);
    assert_eq!(loss(&now, &stage.snapshot(1)).unwrap().files, 3);
    let aside = PathBuf::from(stage.restore(1, &now, "journal").unwrap().aside.unwrap());
    let read = |path: &str| fs::read_to_string(data.join(path)).unwrap();
    assert_eq!(["cache/a", "db", "logs/b", "zone"].map(read), ["cache/a", "db", "newer", "zone"]);
    assert_eq!(names(&aside.join("0")), ["cache", "db", "zone"]);
    assert_eq!(names(&data), ["cache", "db", "logs", "zone"]);
}

#[test]
fn a_snapshot_of_another_kind_of_state_or_of_other_databases_is_refused_before_anything_changes() {
    let stage = Stage::new();
    let data = stage.folder("data");
    for name in ["a.db", "b.db"] {
        drop(bank(&data.join(name), "delete", 10));
    }
    fs::write(data.join("photo"), "kept").unwrap();
    let one = |name: &str| StatePlace::sqlite([data.join(name)]);
    stage.snap(&one("a.db"), Mode::Online, 1).unwrap();
    stage.snap(&StatePlace::directory(&data, &[]), Mode::Online, 2).unwrap();
    let before = listing(&data);
    for (id, place) in [(1, StatePlace::directory(&data, &[])), (1, one("b.db")), (2, one("a.db"))] {
        assert_eq!(code(stage.restore(id, &place, "journal")), "restore-other-shape");
        assert_eq!(code(loss(&place, &stage.snapshot(id))), "restore-other-shape");
        assert_eq!(listing(&data), before);
        assert!(!stage.path("journal").exists());
    }
}

#[test]
fn databases_that_are_listed_in_another_order_today_keep_their_own_content() {
    let stage = Stage::new();
    let data = stage.folder("data");
    let (a, b) = (data.join("a.db"), data.join("b.db"));
    drop(bank(&a, "delete", 10));
    drop(bank(&b, "delete", 10));
    Connection::open(&b).unwrap().execute_batch("INSERT INTO transfers VALUES (1, 1, 1)").unwrap();
    stage.snap(&StatePlace::sqlite([&a, &b]), Mode::Online, 1).unwrap();
    stage.restore(1, &StatePlace::sqlite([&b, &a]), "journal").unwrap();
    assert_eq!((audit(&a).2, audit(&b).2), (0, 1));
}

#[test]
fn what_a_restore_would_refuse_is_known_while_the_service_runs_and_nothing_is_written_for_it() {
    let stage = Stage::new();
    let data = stage.folder("data");
    drop(bank(&data.join("db.sqlite"), "delete", 10));
    let place = StatePlace::directory(&data, &[]);
    stage.snap(&place, Mode::Online, 1).unwrap();
    let before = listing(&stage.root);
    can_restore(&stage.snapshot(1), &place, &stage.path("aside")).unwrap();
    can_keep_aside(&data, &stage.path("aside")).unwrap();
    let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
    assert_eq!(code(can_restore(&stage.snapshot(1), &place, elsewhere.path())), "restore-aside-elsewhere");
    assert_eq!(code(can_keep_aside(&data, elsewhere.path())), "restore-aside-elsewhere");
    let other = StatePlace::sqlite([data.join("db.sqlite")]);
    assert_eq!(code(can_restore(&stage.snapshot(1), &other, &stage.path("aside"))), "restore-other-shape");
    assert_eq!(listing(&stage.root), before);
}

#[test]
fn data_on_a_mount_of_its_own_is_known_to_have_no_way_back_even_on_the_same_disk() {
    let stage = Stage::new();
    let data = stage.folder("data");
    fs::write(data.join("file"), "").unwrap();
    let place = StatePlace::directory(&data, &[]);
    stage.snap(&place, Mode::Online, 1).unwrap();
    let mount =
        |arguments: &[&str]| assert!(Command::new(arguments[0]).args(&arguments[1..]).status().unwrap().success());
    mount(&["mount", "--bind", text(&data), text(&data)]);
    let can = can_restore(&stage.snapshot(1), &place, &stage.path("aside"));
    let done = stage.restore(1, &place, "journal");
    mount(&["umount", text(&data)]);
    assert_eq!(code(can), "restore-aside-elsewhere");
    assert_eq!(code(done), "restore-aside-elsewhere");
    can_restore(&stage.snapshot(1), &place, &stage.path("aside")).unwrap();
}

#[test]
fn what_goes_aside_must_stay_on_its_file_system() {
    let stage = Stage::new();
    let database = stage.folder("data").join("db.sqlite");
    drop(bank(&database, "delete", 10));
    let place = StatePlace::sqlite([&database]);
    stage.snap(&place, Mode::Online, 1).unwrap();
    let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
    let context = RestoreContext::default();
    let done = restore(&stage.snapshot(1), &place, elsewhere.path(), &stage.path("journal"), &context);
    assert_eq!(code(done), "restore-aside-elsewhere");
    assert!(!stage.path("journal").exists());
}

#[test]
fn twenty_instances_are_restored_at_once() {
    let stage = Stage::new();
    let places: Vec<StatePlace> = (0..20)
        .map(|number| {
            let database = stage.folder(&format!("i{number}")).join("db.sqlite");
            drop(bank(&database, "wal", 900));
            StatePlace::sqlite([database])
        })
        .collect();
    for (id, place) in places.iter().enumerate() {
        stage.snap(place, Mode::Stopped, id as u64).unwrap();
    }
    // What is written since is what goes back.
    for place in 0..20 {
        let database = Connection::open(stage.path(&format!("i{place}")).join("db.sqlite")).unwrap();
        database.execute("UPDATE accounts SET balance = 0", []).unwrap();
    }
    std::thread::scope(|scope| {
        for (id, place) in places.iter().enumerate() {
            let stage = &stage;
            scope.spawn(move || stage.restore(id as u64, place, &format!("journal{id}")).unwrap());
        }
    });
    for number in 0..20 {
        assert_eq!(audit(&stage.path(&format!("i{number}")).join("db.sqlite")).0, 100_000);
    }
}

#[test]
fn a_snapshot_goes_back_into_the_folder_it_was_taken_of_wherever_that_was_moved_to_and_into_no_other() {
    let stage = Stage::new();
    let (own, other) = (stage.folder("own"), stage.folder("other"));
    for folder in [&own, &other] {
        drop(bank(&folder.join("db.sqlite"), "delete", 10));
    }
    for (id, place) in [
        (1, (|folder: &Path| StatePlace::directory(folder, &[])) as fn(&Path) -> StatePlace),
        (2, |folder| StatePlace::sqlite([folder.join("db.sqlite")])),
    ] {
        stage.snap(&place(&own), Mode::Online, id).unwrap();
        let can = |folder: &Path| can_restore(&stage.snapshot(id), &place(folder), &stage.path("aside"));
        can(&own).unwrap();
        assert_eq!(code(can(&other)), "restore-other-folder");
        assert_eq!(code(is_where_taken(&stage.snapshot(id), &place(&other))), "restore-other-folder");
        let moved = stage.path("moved");
        fs::rename(&own, &moved).unwrap();
        can(&moved).unwrap();
        // Both names lead to the same folder.
        symlink(&moved, &own).unwrap();
        can(&moved).unwrap();
        fs::remove_file(&own).unwrap();
        fs::rename(&moved, &own).unwrap();
    }
}
