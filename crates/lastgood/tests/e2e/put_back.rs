//! Evidence put back from a backup and acknowledged: nothing that the lost records ordered is taken for done.

use crate::kit::{DESK, Farm, Plan, until};
use std::fs;

const TWO: [(&str, &str); 2] = [("alice", "probe"), ("carol", "café o'clock")];

/// The rehearsal passes on alice's data; carol's account breaks, and she goes first.
fn farm() -> Farm {
    let farm = Farm::new(Plan {
        instances: TWO.into(),
        service: "rehearsal = { on = \"alice\" }".into(),
        rollout: r#"{ soak = "200ms", wave_size = 2, canary = "carol" }"#,
        ..Plan::default()
    });
    farm.publish("2.0.0");
    farm.lastgood(&["run"]).ended(0);
    farm
}

fn evidence(farm: &Farm) -> Vec<std::path::PathBuf> {
    let files = fs::read_dir(farm.path("state")).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("evidence.db")).collect()
}

fn back_up(farm: &Farm) {
    fs::create_dir(farm.path("backup")).unwrap();
    for file in evidence(farm) {
        fs::copy(&file, farm.path("backup").join(file.file_name().unwrap())).unwrap();
    }
}

fn put_back(farm: &Farm) {
    put_back_unseen(farm);
    farm.lastgood(&["evidence", "verify"]).ended(1);
    farm.lastgood(&["evidence", "acknowledge", "notebook", "--reason", "the disk was put back"]).ended(0);
}

fn put_back_unseen(farm: &Farm) {
    for file in evidence(farm) {
        fs::remove_file(file).unwrap();
    }
    for file in fs::read_dir(farm.path("backup")).unwrap().map(|entry| entry.unwrap()) {
        fs::copy(file.path(), farm.path("state").join(file.file_name())).unwrap();
    }
}

#[test]
fn no_hold_is_lifted_by_evidence_that_was_put_back_and_doctor_and_status_say_so() {
    let farm = Farm::running(Plan { instances: vec![("alice", "probe")], ..Plan::default() });
    farm.lastgood(&["hold", "set", "notebook", "--reason", "a fair"]).ended(0);
    farm.lastgood(&["hold", "set", "--all", "--reason", "an audit"]).ended(0);
    assert!(!farm.lastgood(&["status"]).ended(0).out.contains("no run goes on"));
    back_up(&farm);
    farm.lastgood(&["hold", "set", "notebook", "--reason", "a leak"]).ended(0);
    farm.lastgood(&["hold", "set", "--all", "--reason", "a second audit"]).ended(0);
    farm.lastgood(&["evidence", "checkpoint"]).ended(0);
    put_back_unseen(&farm);
    let doctor = farm.lastgood(&["doctor", "--offline"]).ended(1).says("evidence-rewound");
    doctor.says("service/notebook").says("operations");
    farm.lastgood(&["status"]).ended(0).says("no run goes on: chain operations has").says("chain service/notebook has");
    let lift: [&[&str]; 2] = [&["hold", "lift", "notebook", "h0"], &["hold", "lift", "hold-0"]];
    for lift in lift {
        farm.lastgood(&[lift, &["--reason", "it is over"]].concat()).ended(9).says("evidence-in-doubt");
    }
    // What blocks is taken.
    farm.lastgood(&["hold", "set", "notebook", "--reason", "who knows"]).ended(0);
    for chain in ["notebook", "operations"] {
        farm.lastgood(&["evidence", "acknowledge", chain, "--reason", "the disk was put back"]).ended(0);
    }
    for lift in lift {
        farm.lastgood(&[lift, &["--reason", "it is over"]].concat()).ended(0);
    }
    assert!(!farm.lastgood(&["status"]).ended(0).out.contains("no run goes on"));
}

#[test]
fn a_restore_ordered_again_after_evidence_was_put_back_gives_the_data_of_now() {
    let farm = farm();
    back_up(&farm);
    let good = farm.dump("carol");
    farm.publish("2.3.0");
    farm.lastgood(&["run"]).ended(5).says("carol");
    assert_eq!(farm.dump("carol"), good);
    farm.write("carol", "written in the morning");
    let morning = farm.dump("carol");
    // The log knows nothing of the night: the same release is tried again, and fails again.
    put_back(&farm);
    farm.lastgood(&["run"]).ended(5).says("carol");
    assert_eq!(farm.version("carol"), "2.0.0");
    assert_eq!(farm.dump("carol"), morning, "2.0.0 runs on what 2.3.0 made of the data, or on older data");
    farm.lastgood(&["evidence", "verify"]).ended(0);
}

#[test]
fn an_instance_that_runs_something_else_than_the_log_says_is_held_and_not_touched() {
    let farm = Farm::running(Plan { instances: vec![("alice", "probe")], ..Plan::default() });
    back_up(&farm);
    farm.publish("2.0.0");
    farm.lastgood(&["run"]).ended(0);
    let pid = farm.pid("alice");
    put_back(&farm);
    farm.lastgood(&["run"]).ended(9).says("instance-runs-other-release").says("2.0.0");
    assert_eq!(farm.pid("alice"), pid);
    let daemon = farm.serve();
    farm.kill("alice");
    farm.lastgood(&["run", "--now"]).ended(9);
    daemon.stop();
    // 1.0.0 would be started on the data of 2.0.0.
    assert_eq!(farm.pid("alice"), None);
}

#[test]
fn yesterdays_state_folder_as_a_whole_ends_nothing_that_runs_something_newer() {
    let farm = Farm::running(Plan { instances: vec![("alice", "probe")], ..Plan::default() });
    let copy = |from: &str, to: &str| {
        let done = std::process::Command::new("cp").arg("-a").args([farm.path(from), farm.path(to)]).status().unwrap();
        assert!(done.success());
    };
    copy("state", "yesterday");
    farm.publish("2.0.0");
    farm.lastgood(&["run"]).ended(0);
    let pid = farm.pid("alice");
    assert!(pid.is_some());
    fs::rename(farm.path("state"), farm.path("newer")).unwrap();
    copy("yesterday", "state");
    farm.lastgood(&["evidence", "acknowledge", "notebook", "--reason", "the disk was put back"]).ended(0);
    farm.lastgood(&["run"]).ended(9).says("instance-runs-other-release").says("2.0.0");
    assert_eq!((farm.pid("alice"), farm.version("alice")), (pid, "2.0.0".into()));
}

#[test]
fn evidence_that_was_put_back_recommends_an_incident_and_declares_none_by_itself() {
    let plan = Plan { instances: vec![("alice", "probe")], tail: DESK.into(), ..Plan::default() };
    let farm = Farm::running(plan);
    back_up(&farm);
    farm.lastgood(&["hold", "set", "notebook", "--reason", "a leak"]).ended(0);
    farm.lastgood(&["evidence", "checkpoint"]).ended(0);
    farm.lastgood(&["incident", "recommend"]).ended(0).says("no incident is recommended");
    put_back_unseen(&farm);
    let said = farm.lastgood(&["incident", "recommend"]).ended(20).says("at L3");
    said.says("the evidence is uncertain: notebook: chain service/notebook has");
    let daemon = farm.begin_serving();
    let told = || fs::read_to_string(farm.path("notices")).unwrap_or_default();
    until("its word", || told().contains("the evidence is uncertain: notebook: chain service/notebook has"));
    daemon.stop();
    farm.lastgood(&["incident", "list"]).ended(0).says("no incident is open");
    farm.lastgood(&["evidence", "acknowledge", "notebook", "--reason", "the disk was put back"]).ended(0);
    farm.lastgood(&["incident", "recommend"]).ended(0).says("no incident is recommended");
}
