//! `kill -9` of a real process that delivers.

use crate::{Sink, World, hook, lines, world::SECRET};
use lastgood_domain::terms::Timestamp;
use lastgood_store::{NoticeState, Reader};
use std::{
    collections::BTreeSet,
    env,
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

/// From one kill to the next sender, by their clocks: far below the half minute of a lease.
const RESTART_MS: usize = 2_000;

/// Gives the process that delivers: Cargo builds examples beside the tests, in target/debug/examples.
fn sender() -> PathBuf {
    let test = env::current_exe().unwrap();
    test.parent().unwrap().parent().unwrap().join("examples/sender")
}

#[test]
fn a_kill_loses_nothing_and_repeats_only_what_was_in_flight_in_order() {
    static SLOW: AtomicBool = AtomicBool::new(true);
    let mut world = World::new();
    world.enqueue(&lines("ops", 40, 10));
    let sink = Sink::new(|_, _| {
        if SLOW.load(Ordering::Relaxed) {
            // The receiver's own work, so that the kill comes in the middle of much.
            thread::sleep(Duration::from_millis(2));
        }
        "204 No Content"
    });
    let (mut kills, mut leased) = (0, BTreeSet::new());
    // The first kills come while the sender has hardly begun, the last when little is left.
    for after in [1, 3, 30, 75, 120, 190, 250, 310, 370] {
        let before = sink.taken();
        let mut child = Command::new(sender())
            .arg(world.state_dir())
            .args([hook("ops", &sink.url), SECRET.into(), (kills * RESTART_MS).to_string()])
            .spawn()
            .unwrap();
        // Each sender goes on at once: by its clock no lease has ended.
        sink.wait_for(after.max(before.len() + 1));
        child.kill().unwrap();
        assert!(!child.wait().unwrap().success(), "it had ended before the kill");
        kills += 1;
        only_leased_ones_came_again(&before, &sink.taken(), &leased);
        leased = leased_in(&world);
    }
    let before_last = sink.taken();
    SLOW.store(false, Ordering::Relaxed);
    // A sender that waited for the leases to end would end empty-handed.
    let now = Timestamp(i64::try_from(kills * RESTART_MS).unwrap());
    let report = world.deliverer(&hook("ops", &sink.url)).deliver_due(now).unwrap();
    assert_eq!((report.dead.len(), report.retried, world.count(NoticeState::Delivered)), (0, 0, 400));
    let taken = sink.taken();
    let ids: BTreeSet<_> = taken.iter().map(|(id, _)| id).collect();
    assert_eq!(ids.len(), 400, "something was lost");
    only_leased_ones_came_again(&before_last, &taken, &leased);
    let repeats = taken.len() - 400;
    // One message of each line is in flight at most.
    assert!(repeats <= kills * 40, "{repeats} repeats");
    for subject in 0..40 {
        let prefix = format!("s{subject}/");
        let mut line: Vec<_> = taken.iter().filter_map(|(_, body)| body.strip_prefix(&prefix)).collect();
        line.dedup();
        assert_eq!(line.len(), 10, "line {subject}: {line:?}");
        assert!(line.is_sorted(), "line {subject} was out of order: {line:?}");
    }
}

/// Gives the messages that the killed sender had in flight.
fn leased_in(world: &World) -> BTreeSet<String> {
    let rows = Reader::open(&world.state_dir()).unwrap().notices(NoticeState::InFlight, 1_000).unwrap();
    rows.into_iter().map(|row| row.id.to_string()).collect()
}

#[track_caller]
fn only_leased_ones_came_again(before: &[(String, String)], after: &[(String, String)], leased: &BTreeSet<String>) {
    let seen: BTreeSet<_> = before.iter().map(|(id, _)| id).collect();
    for (id, _) in after[before.len()..].iter().filter(|(id, _)| seen.contains(id)) {
        assert!(leased.contains(id), "{id} was settled and sent again");
    }
}
