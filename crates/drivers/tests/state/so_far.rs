//! What a restore would drop now is counted beside a running service, and leaves no trace.

use crate::stage::{Stage, bank, code, context};
use lastgood_domain::facts::Loss;
use lastgood_drivers::state::{Mode, SnapshotContext, StateError, StatePlace, loss_so_far, sweep_counts};
use rusqlite::Connection;
use std::{fs, fs::File, time::Duration};

fn case(journal: &str, rows: u32) -> (Stage, StatePlace, Connection) {
    let stage = Stage::new();
    let data = stage.folder("data");
    let service = bank(&data.join("db.sqlite"), journal, rows);
    let place = StatePlace::directory(&data, &[]);
    stage.snap(&place, Mode::Online, 1).unwrap();
    (stage, place, service)
}

fn counted(stage: &Stage, place: &StatePlace, context: SnapshotContext) -> Result<Loss, StateError> {
    loss_so_far(place, &stage.snapshot(1), &stage.shelf(), context)
}

#[test]
fn what_was_written_is_counted_and_nothing_is_left() {
    let (stage, place, service) = case("wal", 900);
    service.execute_batch("INSERT INTO transfers VALUES (1, 1, 1), (2, 2, 2)").unwrap();
    assert_eq!(counted(&stage, &place, context()).unwrap(), Loss { rows: 2, files: 0 });
    // Closed well, there is neither log nor lock, and nothing to recover.
    drop(service);
    assert_eq!(counted(&stage, &place, context()).unwrap().rows, 2);
    assert_eq!(stage.shelved(), ["s1"]);
}

#[test]
fn a_count_that_takes_too_long_has_ended_when_it_says_so() {
    let (stage, place, service) = case("wal", 20_000);
    // Each row, so that there is something to compare.
    service.execute_batch("UPDATE filler SET bytes = randomblob(length(bytes))").unwrap();
    let mut ended_late = 0;
    for limit in [1, 5, 20, 40, 60, 80, 100, 150] {
        let context = SnapshotContext { limit: Duration::from_millis(limit), ..context() };
        match counted(&stage, &place, context) {
            Err(error) => {
                assert!(matches!(error, StateError::TooSlow { .. }), "{limit} ms: {error}");
                ended_late += 1;
            }
            Ok(loss) => assert_eq!(loss.rows, 20_000, "half a count is none"),
        }
        assert_eq!(stage.shelved(), ["s1"], "{limit} ms");
    }
    assert!(ended_late > 0);
}

#[test]
fn a_count_leaves_the_room_that_a_way_back_needs() {
    let (stage, place, _service) = case("wal", 900);
    let context = SnapshotContext { extra_bytes: u64::MAX / 4, ..context() };
    assert_eq!(code(counted(&stage, &place, context)), "snapshot-no-space");
    assert_eq!(stage.shelved(), ["s1"]);
}

#[test]
fn the_copy_of_a_count_that_was_killed_is_swept_and_one_that_is_counted_in_is_not() {
    let (stage, _, _service) = case("wal", 10);
    let (left, at_work) = (stage.folder("shelf/.half-count-0a0a0a0a"), stage.folder("shelf/.half-count-0b0b0b0b"));
    fs::create_dir(left.join("s0")).unwrap();
    fs::write(left.join("s0/file"), "somebody's data").unwrap();
    let lock = File::open(&at_work).unwrap();
    lock.lock().unwrap();
    sweep_counts(&stage.shelf()).unwrap();
    assert_eq!(stage.shelved(), [".half-count-0b0b0b0b", "s1"]);
    drop(lock);
    sweep_counts(&stage.shelf()).unwrap();
    assert_eq!(stage.shelved(), ["s1"]);
    sweep_counts(&stage.path("no shelf yet")).unwrap();
}
