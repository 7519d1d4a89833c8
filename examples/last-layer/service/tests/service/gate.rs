//! The resume gate of the drivers against this service: a good release passes, each bad one fails with the right words.

use crate::instance::Instance;
use last_layer::{Fault, Release};
use lastgood_drivers::probe::{ProbeTarget, ResumeConfig, ResumeFailure, ResumePart};
use rustix::process::Signal;
use std::path::Path;
use std::time::Duration;

/// As in docs/guide/sessions-and-resume.md.
const GATE: &str = r#"
    path = "/rooms/lastgood-{run}/socket"
    resume_path = "/rooms/lastgood-{run}/socket?after={last}"
    send_json = { type = "post", id = "{id}", text = "{n}" }
    when = { "$.type" = "message" }
    id = "$.id"
    position = "$.seq"
    "#;

/// No test waits for it; a loaded machine gets time.
const DEADLINE: Duration = Duration::from_secs(120);

fn gate(timeout: &str) -> ResumeConfig {
    toml::from_str(&format!("{GATE}\ntimeout = \"{timeout}\"")).unwrap()
}

fn target(service: &Instance) -> ProbeTarget {
    ProbeTarget { base: format!("http://{}", service.address()), ..ProbeTarget::default() }
}

/// Runs the gate between 1.0.0 and a release on the same data. What is missing is awaited for a second only.
fn failure_of(release: &Release, world: &Path) -> ResumeFailure {
    let (last_good, candidate) = (Instance::start("1.0.0", world), Instance::start_release(release, world));
    gate("1s").run(&target(&last_good), &target(&candidate), DEADLINE).unwrap_err()
}

fn release(version: &str) -> Release {
    Release::of_catalogue(version).unwrap()
}

/// 1.3.2 with a seam so wide that a machine with much to do falls into it too.
fn wide_seam() -> Release {
    Release { fault: Fault::LosesAtSeam { open_ms: 200 }, ..release("1.3.2") }
}

#[test]
fn a_good_release_passes_and_the_numbers_say_what_was_tried() {
    let world = tempfile::tempdir().unwrap();
    let (last_good, candidate) = (Instance::start("1.0.0", world.path()), Instance::start("1.1.0", world.path()));
    let facts = gate("20s").run(&target(&last_good), &target(&candidate), DEADLINE).unwrap();
    assert_eq!(facts.sent, facts.delivered);
    assert!(facts.sent >= 160 && facts.replayed >= 20, "{facts:?}");
    // In its own room, all of it and nothing else.
    let data = rusqlite::Connection::open(world.path().join("data/last-layer.sqlite")).unwrap();
    let (rooms, messages): (u32, u32) = data
        .query_row("SELECT count(DISTINCT room), count(*) FROM message", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    assert_eq!((rooms, messages), (1, facts.sent));
}

#[test]
fn last_good_against_itself_is_the_control() {
    let world = tempfile::tempdir().unwrap();
    let (one, two) = (Instance::start("1.0.0", world.path()), Instance::start("1.0.0", world.path()));
    gate("20s").run(&target(&one), &target(&one), DEADLINE).unwrap();
    gate("20s").run(&target(&one), &target(&two), DEADLINE).unwrap();
    // The fault is last-good's own: the control shows it.
    let bad = Instance::start("1.3.1", world.path());
    assert!(gate("1s").run(&target(&bad), &target(&bad), DEADLINE).is_err());
}

#[test]
fn a_release_that_forgets_resume_misses_what_was_sent_meanwhile() {
    let world = tempfile::tempdir().unwrap();
    let failure = failure_of(&release("1.3.0"), world.path());
    assert_eq!(failure.part, ResumePart::Forward);
    assert!(failure.missing.len() >= 10 && failure.doubled.is_empty(), "{failure}");
    let said = failure.to_string();
    assert!(said.starts_with("forward resume (from last-good to the candidate): missing "), "{said}");
}

#[test]
fn a_release_that_doubles_on_replay_is_told_by_what_came_twice() {
    let world = tempfile::tempdir().unwrap();
    let failure = failure_of(&release("1.3.1"), world.path());
    assert_eq!((failure.part, failure.missing.len(), failure.doubled.len()), (ResumePart::Forward, 0, 1), "{failure}");
    assert!(failure.to_string().contains("(from last-good to the candidate): doubled 1: "), "{failure}");
}

#[test]
fn a_message_lost_between_replay_and_live_is_missed() {
    let world = tempfile::tempdir().unwrap();
    let failure = failure_of(&wide_seam(), world.path());
    assert_eq!(failure.part, ResumePart::Forward);
    assert!(!failure.missing.is_empty() && failure.doubled.is_empty(), "{failure}");
}

#[test]
fn the_same_faults_of_the_older_release_are_found_on_the_way_back() {
    for (bad, missing) in [(release("1.3.0"), true), (release("1.3.1"), false), (wide_seam(), true)] {
        let (world, version) = (tempfile::tempdir().unwrap(), &bad.version);
        // What last-good does wrong shows when clients come back to it.
        let (last_good, candidate) =
            (Instance::start_release(&bad, world.path()), Instance::start("1.1.0", world.path()));
        let failure = gate("1s").run(&target(&last_good), &target(&candidate), DEADLINE).unwrap_err();
        assert_eq!(failure.part, ResumePart::Backward, "{version}: {failure}");
        assert_eq!(
            (!failure.missing.is_empty(), failure.doubled.is_empty()),
            (missing, missing),
            "{version}: {failure}"
        );
    }
}

#[test]
fn a_release_that_refuses_sockets_fails_at_the_handshake() {
    let world = tempfile::tempdir().unwrap();
    let failure = failure_of(&release("1.3.3"), world.path());
    assert_eq!(failure.part, ResumePart::Handshake);
    let said = failure.to_string();
    assert!(said.starts_with("handshake with the candidate: the candidate gave status 503 instead of 101"), "{said}");
    let failure = failure_of(&release("1.2.3"), world.path());
    assert!(failure.to_string().contains("status 500 instead of 101"), "{failure}");
}

#[test]
fn a_release_that_acknowledges_and_forgets_is_found_by_counting() {
    let world = tempfile::tempdir().unwrap();
    // More than the release's one in ten: that few could all be others' messages.
    let often = Release { fault: Fault::ForgetsToStore { percent: 40 }, ..release("1.3.4") };
    let failure = failure_of(&often, world.path());
    assert!(failure.part >= ResumePart::Forward && !failure.missing.is_empty(), "{failure}");
    assert!(failure.doubled.is_empty() && failure.disordered.is_empty(), "{failure}");
}

#[test]
fn a_release_that_dies_under_the_gate_is_named() {
    let world = tempfile::tempdir().unwrap();
    let soon = Release { fault: Fault::Crash { after_ms: 400 }, ..release("1.4.0") };
    let failure = failure_of(&soon, world.path());
    assert!(failure.trouble.is_some() || !failure.missing.is_empty(), "{failure}");
    assert_ne!(failure.part, ResumePart::LastGood, "{failure}");
}

#[test]
fn a_migration_that_last_good_can_not_live_with_is_found_before_anybody_is_moved() {
    let world = tempfile::tempdir().unwrap();
    let failure = failure_of(&release("2.0.0"), world.path());
    // The candidate's migration has broken last-good itself: the gate can't tell, and cannot-tell never promotes.
    assert_eq!(failure.part, ResumePart::LastGood, "{failure}");
}

#[test]
fn a_service_that_hangs_is_cut_at_the_time_out() {
    let world = tempfile::tempdir().unwrap();
    let (last_good, candidate) = (Instance::start("1.0.0", world.path()), Instance::start("1.1.0", world.path()));
    candidate.signal(Signal::STOP);
    let failure = gate("300ms").run(&target(&last_good), &target(&candidate), Duration::MAX).unwrap_err();
    assert_eq!(failure.to_string(), "handshake with the candidate: the candidate gave no WebSocket in time");
    last_good.signal(Signal::STOP);
    let failure = gate("300ms").run(&target(&last_good), &target(&candidate), Duration::MAX).unwrap_err();
    assert_eq!(failure.part, ResumePart::LastGood, "{failure}");
}
