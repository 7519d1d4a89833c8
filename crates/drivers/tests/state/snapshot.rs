//! What a snapshot is, and that it is whole or not there.

use crate::stage::{Peer, Stage, audit, bank, code, context, listing, names, text};
use lastgood_domain::terms::SnapshotId;
use lastgood_drivers::state::{
    Mode, Novelty, StateError, StatePlace, facts, prune, schema_digest, snapshot, snapshot_facts,
};
use rusqlite::Connection;
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs,
    io::Write as _,
    os::unix::{ffi::OsStrExt as _, fs::symlink, net::UnixListener},
    path::Path,
    thread,
    time::{Duration, Instant},
};

#[test]
fn a_snapshot_says_what_is_in_it() {
    let stage = Stage::new();
    let database = stage.folder("data").join("db.sqlite");
    let open = bank(&database, "wal", 100);
    let place = StatePlace::sqlite([&database]);
    let facts = stage.snap(&place, Mode::Online, 1).unwrap();
    // 100 accounts, 100 filler rows and one row of counts.
    assert_eq!((facts.files, facts.rows, facts.id), (1, 201, SnapshotId(1)));
    let manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(stage.snapshot(1).join("manifest.json")).unwrap()).unwrap();
    let known = &manifest["entries"][0]["what"]["database"][1];
    assert_eq!(known["tables"]["accounts"], 100);
    assert_eq!(
        (&known["user_version"], &known["application_id"], &known["wal"]),
        (&7.into(), &77.into(), &true.into())
    );
    assert_eq!(manifest["sqlite_version"], rusqlite::version());
    drop(open);
}

#[test]
fn rows_that_are_only_in_the_log_are_in_the_snapshot_both_ways() {
    let stage = Stage::new();
    for (id, mode) in [(1, Mode::Online), (2, Mode::Stopped)] {
        let database = stage.folder(&format!("data{id}")).join("db.sqlite");
        let open = bank(&database, "wal", 10);
        open.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
        open.execute_batch("PRAGMA wal_checkpoint(TRUNCATE); INSERT INTO transfers VALUES (1, 1, 2)").unwrap();
        let wal = fs::metadata(database.with_extension("sqlite-wal")).unwrap().len();
        stage.snap(&StatePlace::sqlite([&database]), mode, id).unwrap();
        assert_eq!(audit(&stage.snapshot(id).join("files/0/db.sqlite")).2, 1, "{mode:?}");
        // No checkpoint was forced on the live database, and its log is as it was.
        assert_eq!(fs::metadata(database.with_extension("sqlite-wal")).unwrap().len(), wal);
        drop(open);
    }
}

#[test]
fn a_stopped_copy_leaves_nothing_beside_the_data() {
    let stage = Stage::new();
    let data = stage.folder("data");
    drop(bank(&data.join("db.sqlite"), "wal", 10));
    let before = listing(&data);
    stage.snap(&StatePlace::directory(&data, &[]), Mode::Stopped, 1).unwrap();
    assert_eq!(listing(&data), before);
}

#[test]
fn the_same_snapshot_asked_for_twice_is_taken_once() {
    let stage = Stage::new();
    let database = stage.folder("data").join("db.sqlite");
    let open = bank(&database, "wal", 10);
    let place = StatePlace::sqlite([&database]);
    let first = stage.snap(&place, Mode::Online, 1).unwrap();
    open.execute_batch("DELETE FROM accounts").unwrap();
    assert_eq!(stage.snap(&place, Mode::Online, 1).unwrap(), first);
    let other = StatePlace::sqlite([stage.folder("other").join("db.sqlite")]);
    assert_eq!(code(stage.snap(&other, Mode::Online, 1)), "snapshot-id-taken");
}

#[test]
fn a_snapshot_that_lost_bytes_is_not_taken_for_whole() {
    let stage = Stage::new();
    let database = stage.folder("data").join("db.sqlite");
    drop(bank(&database, "wal", 10));
    let place = StatePlace::sqlite([&database]);
    stage.snap(&place, Mode::Online, 1).unwrap();
    let file = fs::OpenOptions::new().write(true).open(stage.snapshot(1).join("files/0/db.sqlite")).unwrap();
    file.set_len(4096).unwrap();
    assert_eq!(code(stage.snap(&place, Mode::Online, 1)), "snapshot-damaged");
    assert_eq!(code(snapshot_facts(&stage.snapshot(1))), "snapshot-damaged");
    fs::remove_file(stage.snapshot(1).join("manifest.json")).unwrap();
    assert_eq!(code(snapshot_facts(&stage.snapshot(1))), "snapshot-missing");
}

#[test]
fn a_copy_killed_half_way_is_never_published() {
    let stage = Stage::new();
    let database = stage.folder("data").join("db.sqlite");
    drop(bank(&database, "wal", 120_000));
    let (place, pid_file) = (StatePlace::sqlite([&database]), stage.path("pid"));
    let mut deadly = context();
    deadly.arguments = vec!["worker".into(), text(&pid_file).into()];
    let shelf = stage.shelf();
    let taking = thread::spawn({
        let (place, shelf) = (place.clone(), shelf.clone());
        move || snapshot(&place, Mode::Online, SnapshotId(1), &shelf, &deadly)
    });
    // Until the copy has begun to grow.
    until(|| {
        let half = names(&shelf).into_iter().find(|name| name.starts_with(".half-s1-"))?;
        let copy = fs::metadata(shelf.join(half).join("files/0/db.sqlite")).ok()?;
        (copy.len() > 4 << 20).then_some(())
    });
    let pid: i32 = fs::read_to_string(&pid_file).unwrap().parse().unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    let error = taking.join().unwrap().unwrap_err();
    assert!(matches!(&error, StateError::WorkerDied { how } if how == "killed by signal 9"), "{error}");
    assert_eq!(stage.shelved(), Vec::<String>::new());
    // The way that fooled others: such a half copy opens as an empty database that passes every check.
    assert!(stage.snap(&place, Mode::Online, 1).is_ok());
    assert_eq!(stage.shelved(), ["s1"]);
}

fn until<T>(mut reached: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(value) = reached() {
            return value;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "it never came to that");
        thread::yield_now();
    }
}

#[test]
fn what_a_killed_parent_left_is_swept_by_the_next_snapshot() {
    let stage = Stage::new();
    let database = stage.folder("data").join("db.sqlite");
    drop(bank(&database, "wal", 10));
    fs::create_dir_all(stage.shelf().join(".half-s1-0badcafe/files/0")).unwrap();
    fs::write(stage.shelf().join(".half-s1-0badcafe/files/0/db.sqlite"), "half").unwrap();
    stage.snap(&StatePlace::sqlite([&database]), Mode::Online, 1).unwrap();
    assert_eq!(stage.shelved(), ["s1"]);
}

#[test]
fn a_worker_that_hangs_is_killed_at_its_limit() {
    let stage = Stage::new();
    let database = stage.folder("data").join("db.sqlite");
    drop(bank(&database, "wal", 10));
    let mut slow = context();
    slow.arguments = vec!["hang".into()];
    slow.limit = Duration::from_millis(50);
    let place = StatePlace::sqlite([&database]);
    assert_eq!(code(snapshot(&place, Mode::Online, SnapshotId(1), &stage.shelf(), &slow)), "snapshot-too-slow");
    slow.program = "/nowhere/lastgood".into();
    assert_eq!(code(snapshot(&place, Mode::Online, SnapshotId(1), &stage.shelf(), &slow)), "state-io");
    slow.program = "/bin/true".into();
    assert_eq!(code(snapshot(&place, Mode::Online, SnapshotId(1), &stage.shelf(), &slow)), "snapshot-worker-died");
    assert_eq!(stage.shelved(), Vec::<String>::new());
}

#[test]
fn data_that_is_no_database_is_refused_by_what_it_is() {
    let stage = Stage::new();
    let data = stage.folder("data");
    let noise = |seed: u64| {
        // Numbers without pattern, as an encrypted page is.
        let mut state = seed;
        (0..8192)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) as u8
            })
            .collect::<Vec<u8>>()
    };
    let file = |name: &str, bytes: &[u8]| {
        fs::write(data.join(name), bytes).unwrap();
        StatePlace::sqlite([data.join(name)])
    };
    let take = |place: &StatePlace| code(stage.snap(place, Mode::Online, 1));
    assert_eq!(take(&StatePlace::sqlite([data.join("nothing")])), "state-missing");
    assert_eq!(take(&file("empty", b"")), "state-empty");
    assert_eq!(take(&file("text", "hello, world\n".repeat(100).as_bytes())), "state-not-sqlite");
    assert_eq!(take(&file("secret", &noise(7))), "state-encrypted-looking");
    assert_eq!(take(&StatePlace::sqlite([data.clone()])), "state-not-sqlite");
    symlink("text", data.join("link")).unwrap();
    assert_eq!(take(&StatePlace::sqlite([data.join("link")])), "state-symlink");
    assert_eq!(take(&StatePlace::directory(data.join("text"), &[])), "state-not-a-folder");
    assert_eq!(take(&StatePlace::directory(stage.folder("bare"), &[])), "state-empty");
    assert_eq!(take(&StatePlace::directory("relative", &[])), "state-bad-path");
    assert_eq!(take(&StatePlace::directory(&data, &["a{"])), "state-bad-exclude");
    let broken = data.join("broken");
    drop(bank(&broken, "delete", 200));
    let mut bytes = fs::read(&broken).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 9000].fill(0xff);
    assert_eq!(take(&file("broken", &bytes)), "state-corrupt");
    assert_eq!(take(&file("cut", &bytes[..5000])), "state-corrupt");
    assert_eq!(stage.shelved(), Vec::<String>::new());
}

#[test]
fn only_a_new_instance_may_be_without_data() {
    let stage = Stage::new();
    let mut new = context();
    new.novelty = Novelty::New;
    let data = stage.folder("data");
    fs::write(data.join("empty"), "").unwrap();
    for (id, name) in [(1, "empty"), (2, "missing")] {
        let place = StatePlace::sqlite([data.join(name)]);
        let facts = snapshot(&place, Mode::Online, SnapshotId(id), &stage.shelf(), &new).unwrap();
        assert_eq!((facts.files, facts.rows), (0, 0));
    }
}

#[test]
fn tables_changed_under_the_same_user_version_are_another_schema() {
    let stage = Stage::new();
    let database = stage.path("db.sqlite");
    let open = bank(&database, "delete", 0);
    let digest = || schema_digest(&database).unwrap();
    let first = digest();
    open.execute_batch("PRAGMA user_version = 8; INSERT INTO counts VALUES (1); ANALYZE; VACUUM").unwrap();
    assert_eq!(digest(), first, "neither the version nor rows nor statistics are the schema");
    open.execute_batch("ALTER TABLE accounts ADD COLUMN owner TEXT; PRAGMA user_version = 7").unwrap();
    assert_ne!(digest(), first);
}

#[test]
fn a_snapshot_after_a_migration_says_another_schema() {
    let stage = Stage::new();
    let database = stage.folder("data").join("db.sqlite");
    let open = bank(&database, "wal", 10);
    let place = StatePlace::sqlite([&database]);
    let schema = |id| stage.snap(&place, Mode::Online, id).unwrap().schema;
    let first = schema(1);
    open.execute_batch("PRAGMA user_version = 8; DELETE FROM filler").unwrap();
    assert_eq!(schema(2), first);
    open.execute_batch("ALTER TABLE accounts ADD COLUMN owner TEXT").unwrap();
    assert_ne!(schema(3), first);
}

#[test]
fn the_log_of_a_killed_service_is_neither_merged_nor_removed_by_an_online_snapshot() {
    let stage = Stage::new();
    let data = stage.folder("data");
    let open = bank(&data.join("db.sqlite"), "wal", 10);
    open.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
    open.execute_batch("INSERT INTO transfers VALUES (1, 1, 2)").unwrap();
    let killed = stage.folder("killed");
    for name in ["db.sqlite", "db.sqlite-wal"] {
        fs::copy(data.join(name), killed.join(name)).unwrap();
    }
    let bytes = |name: &str| fs::read(killed.join(name)).unwrap();
    let before = (bytes("db.sqlite"), bytes("db.sqlite-wal"));
    stage.snap(&StatePlace::sqlite([killed.join("db.sqlite")]), Mode::Online, 1).unwrap();
    assert!((bytes("db.sqlite"), bytes("db.sqlite-wal")) == before);
    assert_eq!(audit(&stage.snapshot(1).join("files/0/db.sqlite")).2, 1);
}

#[test]
fn the_same_schema_written_otherwise_is_the_same_schema() {
    let stage = Stage::new();
    let schema = |name: &str, sql: &str| {
        let path = stage.path(name);
        Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        schema_digest(&path).unwrap()
    };
    let plain = schema("a", "CREATE TABLE t (a INTEGER, b TEXT DEFAULT 'x  y')");
    assert_eq!(plain, schema("b", "CREATE TABLE t(a INTEGER,\n  b TEXT -- the b\n DEFAULT /* yes */ 'x  y' )"));
    assert_ne!(plain, schema("c", "CREATE TABLE t (a INTEGER, b TEXT DEFAULT 'x y')"));
    assert_ne!(plain, schema("d", "CREATE TABLE t (a INTEGER, b TEXTDEFAULT 'x  y')"));
}

#[test]
fn a_folder_is_taken_with_all_that_can_be_and_the_rest_is_named() {
    let stage = Stage::new();
    let data = stage.folder("data");
    drop(bank(&data.join("db.sqlite"), "wal", 10));
    fs::write(data.join("plain"), "text").unwrap();
    fs::write(data.join("empty"), "").unwrap();
    fs::write(data.join(std::ffi::OsStr::from_bytes(b"not utf-8 \xff %41")), "odd name").unwrap();
    symlink("/etc/shadow", data.join("link")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, data.join("fifo"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let _socket = UnixListener::bind(data.join("socket")).unwrap();
    let place = StatePlace::directory(&data, &[]);
    assert_eq!(stage.snap(&place, Mode::Online, 1).unwrap().files, 4);
    let manifest = fs::read_to_string(stage.snapshot(1).join("manifest.json")).unwrap();
    assert!(manifest.contains(r#"{"root":0,"path":"fifo","why":"a FIFO"}"#), "{manifest}");
    assert!(manifest.contains(r#"{"root":0,"path":"socket","why":"a socket"}"#), "{manifest}");
    assert!(manifest.contains(r#""path":"link""#) && manifest.contains(r#"{"link":"/etc/shadow"}"#), "{manifest}");
    assert!(!stage.snapshot(1).join("files/0/link").exists());
    assert!(!names(&stage.snapshot(1).join("files/0")).iter().any(|name| name.starts_with("db.sqlite-")));
}

#[test]
fn side_files_are_never_copied_as_files() {
    let stage = Stage::new();
    let data = stage.folder("data/deep");
    let open = bank(&data.join("app.db"), "wal", 10);
    assert!(data.join("app.db-wal").exists() && data.join("app.db-shm").exists());
    stage.snap(&StatePlace::directory(stage.path("data"), &[]), Mode::Online, 1).unwrap();
    assert_eq!(names(&stage.snapshot(1).join("files/0/deep")), ["app.db"]);
    drop(open);
}

#[test]
fn an_encrypted_database_that_may_be_written_is_not_copied_as_a_file() {
    let stage = Stage::new();
    let data = stage.folder("data");
    fs::write(data.join("vault.db"), vec![0x5a; 4096]).unwrap();
    fs::write(data.join("vault.db-wal"), [&[0x37, 0x7f, 0x06, 0x82][..], &[0; 60]].concat()).unwrap();
    let place = StatePlace::directory(&data, &[]);
    assert_eq!(code(stage.snap(&place, Mode::Online, 1)), "state-encrypted-looking");
    assert_eq!(stage.snap(&place, Mode::Stopped, 1).unwrap().files, 2);
}

#[test]
fn a_file_that_never_settles_stops_the_snapshot() {
    let stage = Stage::new();
    let data = stage.folder("data");
    fs::write(data.join("calm"), "calm").unwrap();
    let churning = Peer::start(&["churn", text(&data.join("busy.log"))]);
    let place = StatePlace::directory(&data, &[]);
    assert_eq!(code(stage.snap(&place, Mode::Online, 1)), "snapshot-unsettled");
    assert_eq!(stage.shelved(), Vec::<String>::new());
    // Said to be left out, it is in nobody's way.
    let place = StatePlace::directory(&data, &["*.log"]);
    assert_eq!(stage.snap(&place, Mode::Online, 1).unwrap().files, 1);
    churning.end();
}

#[test]
fn files_that_come_and_go_while_they_are_copied_do_no_harm() {
    let stage = Stage::new();
    let data = stage.folder("data");
    for number in 0..200 {
        fs::write(data.join(format!("stays-{number}")), vec![1; 50_000]).unwrap();
        fs::write(data.join(format!("goes-{number}")), vec![2; 50_000]).unwrap();
    }
    let place = StatePlace::directory(&data, &[]);
    let going = thread::spawn({
        let data = data.clone();
        move || (0..200).for_each(|number| fs::remove_file(data.join(format!("goes-{number}"))).unwrap())
    });
    let facts = stage.snap(&place, Mode::Online, 1).unwrap();
    going.join().unwrap();
    assert!((200..=400).contains(&facts.files), "{}", facts.files);
    for number in 0..200 {
        assert_eq!(fs::read(stage.snapshot(1).join(format!("files/0/stays-{number}"))).unwrap(), vec![1; 50_000]);
    }
}

#[test]
fn a_file_its_owner_cannot_read_stops_the_snapshot() {
    let stage = Stage::new();
    let data = stage.folder("data");
    fs::write(data.join("secret"), "secret").unwrap();
    rustix::fs::chmod(data.join("secret"), 0o000.into()).unwrap();
    crate::hostile::give(&data, 12345);
    rustix::fs::chown(data.join("secret"), Some(rustix::fs::Uid::ROOT), None).unwrap();
    let place = crate::hostile::owned(StatePlace::directory(&data, &[]), 12345);
    assert_eq!(code(stage.snap(&place, Mode::Online, 1)), "state-unreadable");
    assert_eq!(stage.shelved(), Vec::<String>::new());
}

#[test]
fn a_huge_hole_costs_nothing() {
    let stage = Stage::new();
    let data = stage.folder("data");
    let mut file = fs::File::create(data.join("sparse")).unwrap();
    file.set_len(1 << 40).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"in the middle", 1 << 39).unwrap();
    file.flush().unwrap();
    drop(file);
    let place = StatePlace::directory(&data, &[]);
    let before = fs::metadata(data.join("sparse")).unwrap();
    stage.snap(&place, Mode::Online, 1).unwrap();
    fs::write(data.join("sparse"), "overwritten").unwrap();
    stage.restore(1, &place, "journal").unwrap();
    let file = fs::File::open(data.join("sparse")).unwrap();
    let mut read = [0; 13];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut read, 1 << 39).unwrap();
    assert_eq!((&read, file.metadata().unwrap().len()), (b"in the middle", 1 << 40));
    use std::os::unix::fs::MetadataExt as _;
    assert!(file.metadata().unwrap().blocks() <= before.blocks() + 128);
}

#[test]
fn ten_thousand_small_files_come_back() {
    let stage = Stage::new();
    let data = stage.folder("data");
    for folder in 0..100 {
        let folder_path = data.join(folder.to_string());
        fs::create_dir(&folder_path).unwrap();
        for number in 0..100 {
            fs::write(folder_path.join(number.to_string()), format!("{folder}/{number}")).unwrap();
        }
    }
    let place = StatePlace::directory(&data, &[]);
    assert_eq!(stage.snap(&place, Mode::Online, 1).unwrap().files, 10_000);
    let before = listing(&data);
    fs::remove_dir_all(data.join("7")).unwrap();
    fs::write(data.join("8/8"), "changed").unwrap();
    stage.restore(1, &place, "journal").unwrap();
    assert_eq!(listing(&data), before);
}

#[test]
fn facts_of_a_place_are_those_of_its_snapshot() {
    let stage = Stage::new();
    let data = stage.folder("data");
    drop(bank(&data.join("a.db"), "wal", 10));
    drop(bank(&data.join("b.db"), "delete", 20));
    fs::write(data.join("file"), "12345").unwrap();
    let place = StatePlace::directory(&data, &[]);
    let (there, taken) = (facts(&place).unwrap(), stage.snap(&place, Mode::Online, 1).unwrap());
    assert_eq!((there.files, there.rows, there.bytes), (taken.files, taken.rows, taken.bytes));
    assert_eq!(there.schema, taken.schema);
    assert_eq!((there.files, there.rows), (3, 232));
}

#[test]
fn pruning_keeps_what_it_is_told_to_keep() {
    let stage = Stage::new();
    let database = stage.folder("data").join("db.sqlite");
    drop(bank(&database, "wal", 10));
    let place = StatePlace::sqlite([&database]);
    for id in 1..=4 {
        stage.snap(&place, Mode::Online, id).unwrap();
    }
    fs::create_dir_all(stage.shelf().join(".half-s9-00000000/files")).unwrap();
    fs::create_dir_all(stage.shelf().join("s007")).unwrap();
    fs::create_dir_all(stage.shelf().join("mine")).unwrap();
    assert_eq!(prune(&stage.shelf(), &[SnapshotId(2), SnapshotId(4)]).unwrap(), 2);
    assert_eq!(stage.shelved(), ["mine", "s007", "s2", "s4"]);
    assert_eq!(prune(Path::new("/nowhere/at/all"), &[]).unwrap(), 0);
}

#[test]
fn a_snapshot_that_nobody_wants_any_more_ends_its_child_and_leaves_nothing() {
    let stage = Stage::new();
    let database = stage.folder("data").join("db.sqlite");
    drop(bank(&database, "wal", 10));
    let mut context = crate::stage::context();
    context.arguments = vec!["hang".into()];
    let cancelled = std::sync::Arc::clone(&context.cancelled);
    std::thread::scope(|scope| {
        let taken = scope.spawn(|| {
            let place = StatePlace::sqlite([&database]);
            lastgood_drivers::state::snapshot(&place, Mode::Online, SnapshotId(1), &stage.shelf(), &context)
        });
        cancelled.store(true, std::sync::atomic::Ordering::SeqCst);
        assert_eq!(code(taken.join().unwrap()), "snapshot-worker-died");
    });
    assert_eq!(stage.shelved(), Vec::<String>::new());
}
