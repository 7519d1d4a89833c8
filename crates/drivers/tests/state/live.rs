//! Snapshots of databases that a service keeps writing.

use crate::stage::{Peer, Stage, audit, bank, context, peer, text};
use lastgood_domain::terms::SnapshotId;
use lastgood_drivers::state::{Mode, StatePlace, demand, snapshot};
use rusqlite::Connection;
use std::{fs, process::Command};

/// Snapshots that are taken in search of one in whose middle the peer wrote.
const TRIES_MAX: u64 = 100;

/// Gives how many transfers the peer has written to a live database.
fn written_to(database: &Connection) -> i64 {
    database.query_row("SELECT transfers FROM counts", [], |row| row.get(0)).unwrap()
}

/// Takes three snapshots at least while a peer writes `rate` transactions a second, and audits each, until the peer was
/// seen to write while one was taken. With one a second that would be a matter of luck.
fn audited_while_written(journal: &str, rate: &str, rows: u32) {
    let stage = Stage::new();
    let database = stage.folder("data").join("db.sqlite");
    drop(bank(&database, journal, rows));
    let place = StatePlace::sqlite([&database]);
    let writer = Peer::start(&["write", text(&database), rate]);
    // It looks between snapshots, and holds nothing meanwhile.
    let live = Connection::open(&database).unwrap();
    live.busy_timeout(std::time::Duration::from_secs(20)).unwrap();
    let (mut last, mut in_the_middle) = (-1, 0);
    for id in 1..=TRIES_MAX {
        let before = written_to(&live);
        stage.snap(&place, Mode::Online, id).unwrap();
        let after = written_to(&live);
        let (sum, counted, listed, check) = audit(&stage.snapshot(id).join("files/0/db.sqlite"));
        assert_eq!((sum, check.as_str()), (100_000, "ok"));
        assert_eq!(counted, listed);
        assert!(counted >= last, "a later snapshot has what an earlier one has");
        assert!((before..=after).contains(&counted), "{counted} is not of its time, {before} to {after}");
        last = counted;
        in_the_middle += u32::from(after > before);
        if id >= 3 && (in_the_middle > 0 || rate == "1") {
            break;
        }
        fs::remove_dir_all(stage.snapshot(id)).unwrap();
    }
    assert!(in_the_middle > 0 || rate == "1", "nobody wrote while {TRIES_MAX} snapshots were taken");
    drop(live);
    let said = writer.end();
    let written: i64 = said.split(' ').next().unwrap().parse().unwrap();
    assert!(written > 0 && written >= last, "{written} were written, and {last} were copied");
}

#[test]
fn one_write_a_second_does_not_keep_a_snapshot_from_ending() {
    audited_while_written("wal", "1", 60_000);
}

#[test]
fn two_hundred_writes_a_second_leave_a_snapshot_consistent() {
    audited_while_written("wal", "200", 60_000);
}

#[test]
fn fourteen_hundred_writes_a_second_leave_a_snapshot_consistent() {
    audited_while_written("wal", "1400", 60_000);
}

#[test]
fn writing_as_fast_as_it_goes_leaves_a_snapshot_consistent() {
    audited_while_written("wal", "0", 60_000);
}

#[test]
fn a_database_without_wal_is_consistent_too() {
    audited_while_written("delete", "0", 2_000);
    audited_while_written("truncate", "200", 30_000);
}

#[test]
fn two_databases_are_taken_at_one_point_in_time() {
    let stage = Stage::new();
    let data = stage.folder("data");
    let (first, second) = (data.join("first.db"), data.join("second.db"));
    drop(bank(&first, "wal", 3_000));
    drop(bank(&second, "wal", 3_000));
    let place = StatePlace::directory(&data, &[]);
    let writers = [Peer::start(&["write", text(&first), "500"]), Peer::start(&["write", text(&second), "500"])];
    stage.snap(&place, Mode::Online, 1).unwrap();
    for name in ["first.db", "second.db"] {
        let (sum, counted, listed, check) = audit(&stage.snapshot(1).join("files/0").join(name));
        assert_eq!((sum, counted, check.as_str()), (100_000, listed, "ok"));
    }
    writers.into_iter().for_each(|writer| drop(writer.end()));
}

/// POSIX drops a process's locks on a file when it closes any handle of it. We stand in for a process that has one.
#[test]
fn a_lock_that_this_process_holds_survives_all_we_do() {
    let stage = Stage::new();
    let data = stage.folder("data");
    let database = data.join("db.sqlite");
    let ours = bank(&database, "delete", 10);
    let place = StatePlace::directory(&data, &[]);
    ours.execute_batch("BEGIN IMMEDIATE; UPDATE counts SET transfers = 5").unwrap();
    let locked_out = || Command::new(peer()).args(["try", text(&database)]).status().unwrap().code() == Some(7);
    assert!(locked_out());
    demand(&place).unwrap();
    assert!(locked_out(), "asking for the size dropped the lock");
    stage.snap(&place, Mode::Online, 1).unwrap();
    assert!(locked_out(), "the snapshot dropped the lock");
    // That the trap is real: this is what a copy in the same process does.
    drop(fs::File::open(&database).unwrap());
    assert!(!locked_out(), "the trap is gone; this test proves nothing any more");
}

#[test]
fn a_writer_in_the_middle_of_a_transaction_is_neither_waited_for_nor_seen() {
    let stage = Stage::new();
    let database = stage.folder("data").join("db.sqlite");
    drop(bank(&database, "wal", 10));
    let holder = Peer::start(&["hold", text(&database)]);
    stage.snap(&StatePlace::sqlite([&database]), Mode::Online, 1).unwrap();
    assert_eq!(audit(&stage.snapshot(1).join("files/0/db.sqlite")), (100_000, 0, 0, "ok".into()));
    holder.end();
}

#[test]
fn a_service_killed_with_a_hot_journal_is_taken_as_it_would_start() {
    let stage = Stage::new();
    for (id, mode) in [(1, Mode::Stopped), (2, Mode::Online)] {
        let database = stage.folder(&format!("data{id}")).join("db.sqlite");
        drop(bank(&database, "delete", 500));
        // A cache of a few pages forces changed pages into the file before the commit that never comes.
        let crashed = Connection::open(&database).unwrap();
        crashed.execute_batch("PRAGMA cache_size = 5; BEGIN; UPDATE accounts SET balance = 0; UPDATE filler SET bytes = randomblob(1000)").unwrap();
        let copy = stage.folder(&format!("crashed{id}"));
        for name in ["db.sqlite", "db.sqlite-journal"] {
            fs::copy(database.with_file_name(name), copy.join(name)).unwrap();
        }
        let place = StatePlace::sqlite([copy.join("db.sqlite")]);
        snapshot(&place, mode, SnapshotId(id), &stage.shelf(), &context()).unwrap();
        assert_eq!(audit(&stage.snapshot(id).join("files/0/db.sqlite")), (100_000, 0, 0, "ok".into()), "{mode:?}");
        drop(crashed);
    }
}
