//! `kill -9` of a real process that delivers.

use crate::{
    Sink, World, hook, lines,
    world::{SECRET, deliverer},
};
use lastgood_domain::terms::Timestamp;
use lastgood_store::{NoticeState, Reader};
use std::{
    collections::BTreeSet,
    env,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

const STATE_DIR: &str = "LASTGOOD_TEST_STATE_DIR";
const URL: &str = "LASTGOOD_TEST_URL";

/// The child: the same test binary, told by its environment what to do. Without that it has nothing to do.
#[test]
fn the_process_that_is_killed() {
    let (Ok(dir), Ok(url)) = (env::var(STATE_DIR), env::var(URL)) else { return };
    let mut deliverer = deliverer(dir.as_ref(), &hook("ops", &url), Box::new(|_| Some(SECRET.into())));
    deliverer.deliver_due(Timestamp(1)).unwrap();
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
    let mut kills = 0;
    for after in [30, 120, 250] {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "kill::the_process_that_is_killed"])
            .envs([(STATE_DIR, world.state_dir().as_os_str()), (URL, sink.url.as_ref())])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        sink.wait_for(after);
        child.kill().unwrap();
        assert!(!child.wait().unwrap().success(), "it had ended before the kill");
        kills += 1;
    }
    let in_flight_max = 8 + 512;
    let unsettled: BTreeSet<_> = Reader::open(&world.state_dir())
        .unwrap()
        .notices(NoticeState::InFlight, 1_000)
        .unwrap()
        .into_iter()
        .map(|row| row.id.to_string())
        .collect();
    assert!(unsettled.len() <= in_flight_max);
    let before_last = sink.taken();
    SLOW.store(false, Ordering::Relaxed);
    let report = world.deliverer(&hook("ops", &sink.url)).deliver_due(Timestamp(2)).unwrap();
    assert_eq!((report.dead.len(), report.retried, world.count(NoticeState::Delivered)), (0, 0, 400));
    let taken = sink.taken();
    let ids: BTreeSet<_> = taken.iter().map(|(id, _)| id).collect();
    assert_eq!(ids.len(), 400, "something was lost");
    let seen: BTreeSet<_> = before_last.iter().map(|(id, _)| id.clone()).collect();
    let repeated = taken[before_last.len()..].iter().map(|(id, _)| id).filter(|id| seen.contains(*id));
    for id in repeated {
        assert!(unsettled.contains(id), "{id} was settled and sent again");
    }
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
