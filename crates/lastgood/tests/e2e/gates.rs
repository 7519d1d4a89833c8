//! Gates that a service requires, and promises bound to tests: nothing moves and nothing ends with 0 without proof.

use crate::kit::{Farm, Plan, Said, program, said, until, until_within};
use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, SystemTime},
};

const GOOD: &str = "1..2\nok 1 - a note is kept\nok 2 - a note has an owner\n";

/// Two pauses of a watched gate and what a slow machine adds.
const LOOKS_MAX: Duration = Duration::from_secs(60);

/// A farm whose releases must have a report in the place of their tag, and a load test that says yes.
fn farm() -> Farm {
    let tail = r#"
[gate.unit]
report = { files = ["ci/{tag}/db.tap"], tests = ["db a note is kept"] }
max_age = "1h"
owner = "team-notes"

[gate.load]
command = { argv = ["sh", "load.sh", "{tag}"] }
timeout = "1s"
"#;
    let plan = Plan {
        instances: vec![("alice", "probe")],
        service: "gates = [\"unit\", \"load\"]".into(),
        tail: tail.into(),
        ..Plan::default()
    };
    let farm = Farm::new(plan);
    load(&farm, "exit 0");
    farm
}

fn load(farm: &Farm, script: &str) {
    fs::write(farm.path("load.sh"), script).unwrap();
}

fn report(farm: &Farm, tag: &str, text: &str) {
    let folder = farm.path("ci").join(tag);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("db.tap"), text).unwrap();
}

fn age(farm: &Farm, tag: &str, hours: u64) {
    let file = fs::File::options().write(true).open(farm.path("ci").join(tag).join("db.tap")).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(hours * 3_600)).unwrap();
}

#[test]
fn nothing_is_copied_or_moved_before_every_required_gate_says_yes() {
    let farm = farm();
    farm.lastgood(&["run"]).ended(12).says("could not evaluate gate unit: ci/1.0.0/db.tap can't be read");
    report(&farm, "1.0.0", GOOD);
    farm.lastgood(&["run"]).ended(0).says("gate required: pass (unit: 1 of 1 named test passed, 2 in all)");
    farm.publish("1.1.0");
    let copies = farm.log().matches("\"snapshots-begun\"").count();
    assert!(copies > 0);
    let why = "a required gate does not say yes: notebook: ";
    farm.lastgood(&["incident", "recommend"]).ended(0).says("no incident is recommended");
    let held = |why: &str| {
        farm.lastgood(&["run"]).ended(12).says(why);
        farm.lastgood(&["run", "--dry-run"]).ended(12).says(why);
    };
    held("unit: ci/1.1.0/db.tap can't be read");
    farm.lastgood(&["incident", "recommend"])
        .ended(20)
        .says("at L1")
        .says(why)
        .says(": nobody can tell: unit: ci/1.1.0/db.tap can't be read")
        .says("--services notebook");
    farm.lastgood(&["incident", "list"]).ended(0).says("no incident is open");
    report(&farm, "1.1.0", "1..1\nok 1 - a note stays\n");
    held("unit: db a note is kept did not run: was it renamed, removed or filtered out?");
    report(&farm, "1.1.0", "1..1\nok 1 - a note is kept # SKIP no database\n");
    held("unit: db a note is kept was skipped");
    report(&farm, "1.1.0", "1..2\nok 1 - a note is kept\n");
    held("its plan says 2 and 1 ran");
    report(&farm, "1.1.0", GOOD);
    age(&farm, "1.1.0", 3);
    held("unit: ci/1.1.0/db.tap is 3 h 0 min old, the limit is 1 h 0 min");
    farm.lastgood(&["why"]).says("no release moves until every required gate has been evaluated");
    report(&farm, "1.1.0", "1..1\nnot ok 1 - a note is kept\n");
    for arguments in [&["run"][..], &["run", "--dry-run"]] {
        farm.lastgood(arguments).ended(9).says("refused by the required gate: unit: 1 test failed");
    }
    farm.lastgood(&["incident", "recommend"]).ended(20).says(why).says(" was refused: unit: 1 test failed");
    farm.lastgood(&["why"]).says("a release must pass every gate that its service requires");
    report(&farm, "1.1.0", GOOD);
    // It hangs, for last-good too.
    load(&farm, "sleep 60");
    held("load: sh load.sh {tag}: no end in time");
    // It fails what serves well today: that is no word about the release.
    load(&farm, "echo no room; exit 1");
    held("it fails last-good too (exit status 1; it wrote: no room), so the gate may be what is broken");
    load(&farm, "test $1 = 1.0.0 || { echo 9 of 10 failed; exit 1; }");
    farm.lastgood(&["run"])
        .ended(9)
        .says("refused by the required gate: load: exit status 1; it wrote: 9 of 10 failed");
    let status = farm.status();
    assert!(status["rejected"].as_array().is_none_or(Vec::is_empty), "{status}");
    assert_eq!(farm.log().matches("\"snapshots-begun\"").count(), copies, "something was copied");
    assert_eq!(farm.version("alice"), "1.0.0");
    load(&farm, "exit 0");
    farm.lastgood(&["plan"]).ended(0).says("ask the gates unit, load");
    farm.lastgood(&["run", "--dry-run"]).ended(0);
    farm.lastgood(&["run"]).ended(0);
    assert_eq!(farm.version("alice"), "1.1.0");
    farm.lastgood(&["incident", "recommend"]).ended(0).says("no incident is recommended");
    // No gate stands in the way of a way back.
    load(&farm, "exit 1");
    fs::remove_dir_all(farm.path("ci")).unwrap();
    farm.lastgood(&["rollback", "--yes"]).ended(0);
    assert_eq!(farm.version("alice"), "1.0.0");
    farm.lastgood(&["evidence", "verify"]).ended(0);
}

#[test]
fn a_gate_can_be_asked_at_any_time_and_what_it_names_is_looked_for() {
    let farm = farm();
    report(&farm, "1.0.0", GOOD);
    farm.lastgood(&["run"]).ended(0);
    farm.lastgood(&["gate", "list"]).ended(0).says("required by notebook; owner team-notes");
    farm.lastgood(&["gate", "run", "unit"]).ended(0).says("unit about notebook 1.0.0").says("pass");
    farm.publish("1.1.0");
    farm.lastgood(&["gate", "run", "unit"]).ended(12).says("unit about notebook 1.1.0").says("cannot tell");
    report(&farm, "1.1.0", "1..1\nnot ok 1 - a note is kept\n");
    farm.lastgood(&["gate", "run", "unit", "--service", "notebook"]).ended(1).says("fail");
    farm.lastgood(&["gate", "run", "unit", "--commit", "c0ffee"]).ended(12).says("which tag it is to be about");
    farm.lastgood(&["gate", "run", "other"]).ended(2).says("one of: load, unit");
    let asked: serde_json::Value =
        serde_json::from_str(&farm.lastgood(&["--json", "gate", "run", "unit"]).ended(1).out).unwrap();
    assert_eq!((&asked["data"]["verdict"], &asked["data"]["owner"]), (&"fail".into(), &"team-notes".into()));
    // What is named must be there, however old and whatever came of it.
    age(&farm, "1.0.0", 500);
    farm.lastgood(&["gate", "check"]).ended(0).says("every gate can be evaluated");
    report(&farm, "1.0.0", "1..1\nok 1 - a note stays\n");
    farm.lastgood(&["gate", "check"]).ended(12).says("db a note is kept did not run");
    assert_eq!(farm.json(&["gate", "list"])[1]["gate"], "unit");
    assert!(farm.log().lines().all(|line| !line.contains("a note stays")), "asking wrote something");
}

#[test]
fn a_watched_gate_that_turns_red_recommends_an_incident_until_it_passes_and_declares_none() {
    let farm = farm();
    farm.configure(&farm.config().replace("timeout = \"1s\"", "timeout = \"1s\"\nwatch = \"10s\""));
    report(&farm, "1.0.0", GOOD);
    farm.lastgood(&["run"]).ended(0);
    load(&farm, "touch green; exit 0");
    let daemon = farm.serve();
    until("the first look", || farm.path("green").exists());
    farm.lastgood(&["incident", "recommend"]).ended(0).says("no incident is recommended");
    let is_red = || farm.json(&["status"])["recommendation"].is_object();
    // Nobody can tell: that is no failure.
    load(&farm, "[ -e unsure ] && touch twice; touch unsure; exit 7");
    until_within(LOOKS_MAX, "two unsure looks", || farm.path("twice").exists());
    assert!(!is_red());
    load(&farm, "echo no room; exit 1");
    until_within(LOOKS_MAX, "a look at a red gate", is_red);
    daemon.stop();
    let why = "a required gate does not say yes: notebook: load fails about 1.0.0, which is last-good: exit status 1; it \
               wrote: no room";
    farm.lastgood(&["incident", "recommend"]).ended(20).says("at L1").says(why);
    farm.lastgood(&["incident", "list"]).ended(0).says("no incident is open");
    // What it said outlives the daemon, and what it says now is found by the next.
    load(&farm, "exit 0");
    let daemon = farm.serve();
    until_within(LOOKS_MAX, "a look at a green gate", || !is_red());
    daemon.stop();
    farm.lastgood(&["incident", "recommend"]).ended(0).says("no incident is recommended");
    let config = farm.config().replace("timeout = \"1s\"", "watch = \"5s\"");
    farm.configure(&config);
    farm.lastgood(&["config", "check"]).ended(2).says("it is asked every 10 s at most");
}

#[test]
fn a_gate_that_is_required_and_not_there_is_refused_with_the_configuration() {
    let farm = farm();
    let config = farm.config();
    farm.configure(&config.replace("gates = [\"unit\", \"load\"]", "gates = [\"unit\", \"smoke\"]"));
    farm.lastgood(&["config", "check"]).ended(2).says("there is no gate smoke");
    farm.configure(&config.replace("gates = [\"unit\", \"load\"]", "gates = [\"unit\", \"unit\"]"));
    farm.lastgood(&["config", "check"]).ended(2).says("unit is there twice");
    farm.configure(&config.replace("command = { argv = [\"sh\", \"load.sh\", \"{tag}\"] }", ""));
    farm.lastgood(&["config", "check"]).ended(2).says("a gate asks exactly one thing");
}

fn verify(folder: &Path, arguments: &[&str]) -> Said {
    let mut command = Command::new(program());
    said(command.args(["integrity", "verify"]).args(arguments).current_dir(folder))
}

#[test]
fn a_renamed_bound_test_gives_12_a_failed_one_1_and_json_says_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let write = |name: &str, text: &str| fs::write(at.join(name), text).unwrap();
    write(
        "integrity.toml",
        "reports = [\"db.tap\"]\n[B-1]\npromise = \"notes are kept\"\ntests = [\"db a note is kept\"]\n",
    );
    verify(at, &[]).ended(12).says("report db.tap: can't be read").says("NOT proven, cannot tell");
    write("db.tap", GOOD);
    verify(at, &[]).ended(0).says("all proven (no commit was asked for): 1 promise, 1 bound test");
    verify(at, &["--commit", "3f0c2b9a4d5e"]).ended(12).says("says of no commit that it is about it");
    write("db.tap", &format!("# commit: 3f0c2b9a4d5e6f708192a3b4c5d6e7f801234567\n{GOOD}"));
    verify(at, &["--commit", "3f0c2b9a4d5e"]).ended(0).says("all proven (at 3f0c2b9a4d5e)");
    verify(at, &["--commit", "00000000000000000000000000000000000000aa"]).ended(12).says("is about 3f0c2b9a4d5e");
    fs::create_dir(at.join("ci")).unwrap();
    write("ci/db.tap", "1..1\nnot ok 1 - a note is kept\n");
    verify(at, &["--report", "ci/db.tap"]).ended(1).says("report ci/db.tap: 0 passed, 0 skipped, 1 failed");
    write("db.tap", "1..1\nok 1 - a note stays\n");
    verify(at, &[]).ended(12).says("db a note is kept did not run: was it renamed, removed or filtered out?");
    write("db.tap", "1..1\nnot ok 1 - a note is kept\n");
    verify(at, &[]).ended(1).says("db a note is kept failed");
    let json = verify(at, &["--json"]).ended(1).out;
    let document: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(document["data"]["findings"][0]["kind"], "failed");
    // What passes only when it is tried again is named with what it should prove, or is no proof.
    let manifest =
        "reports = [\"nextest.xml\"]\n[B-1]\npromise = \"notes are kept\"\ntests = [\"ledger a_note_is_kept\"]\n";
    write("integrity.toml", manifest);
    write(
        "nextest.xml",
        "<testsuites name=\"nextest-run\"><testsuite name=\"ledger\">\
         <testcase name=\"a_note_is_kept\" classname=\"ledger\"><flakyFailure type=\"test failure\">it broke</flakyFailure>\
         </testcase></testsuite></testsuites>",
    );
    let said = verify(at, &[]).ended(0).says("warning: B-1 only when tried again: ledger a_note_is_kept");
    said.says("all proven (no commit was asked for), but 1 bound test only when tried again: 1 promise");
    let document: serde_json::Value = serde_json::from_str(&verify(at, &["--json"]).ended(0).out).unwrap();
    let retried = serde_json::json!([{ "test": "ledger a_note_is_kept", "of": ["B-1"] }]);
    assert_eq!(document["data"]["retried"], retried, "{document}");
    write("integrity.toml", &format!("retried = \"refused\"\n{manifest}"));
    verify(at, &[])
        .ended(12)
        .says("B-1: ledger a_note_is_kept passed only when it was tried again, and that is no proof");
    write("integrity.toml", "required = [\"B-2\"]\n");
    verify(at, &[]).ended(12).says("B-2 is required and stands nowhere in the manifest");
    write("integrity.toml", "requird = [\"B-2\"]\n");
    verify(at, &[]).ended(12).says("[manifest-wrong]");
}

#[test]
fn a_gates_owner_lets_one_release_pass_and_nobody_else_does() {
    let farm = farm();
    report(&farm, "1.0.0", GOOD);
    farm.lastgood(&["run"]).ended(0);
    let people = "\n[person.alice]\n\n[person.bob]\n\n[overrides]\nunit = \"alice\"\n";
    farm.configure(&(farm.config() + people));
    farm.publish("1.1.0");
    report(&farm, "1.1.0", "1..1\nnot ok 1 - a note is kept\n");
    farm.lastgood(&["run"]).ended(9);
    let give = ["override", "give", "unit", "--service", "notebook", "--release", "1.1.0", "--reason", "it is flaky"];
    said(farm.command(&give).env("SUDO_USER", "bob")).ended(4);
    farm.lastgood(&["run"]).ended(9);
    said(farm.command(&give).env("SUDO_USER", "alice")).ended(0);
    farm.lastgood(&["run"]).ended(0).says("overridden by person:alice: it is flaky; it says");
    assert_eq!(farm.version("alice"), "1.1.0");
    // The next release has to pass it again; what last-good fails too is not blamed on it.
    farm.publish("2.0.0");
    report(&farm, "2.0.0", "1..1\nnot ok 1 - a note is kept\n");
    farm.lastgood(&["run"]).ended(12).says("it fails last-good too");
    report(&farm, "1.1.0", GOOD);
    farm.lastgood(&["run"]).ended(9);
    assert_eq!(farm.version("alice"), "1.1.0");
    // The gate's own table says whose it is, where [overrides] says nothing else.
    let own = farm.config().replace("owner = \"team-notes\"", "owner = \"bob\"").replace("unit = \"alice\"", "");
    farm.configure(&(own + "\n[person.alice]\n\n[person.bob]\n"));
    let give = give.map(|word| if word == "1.1.0" { "2.0.0" } else { word });
    said(farm.command(&give).env("SUDO_USER", "alice")).ended(4);
    said(farm.command(&give).env("SUDO_USER", "bob")).ended(0);
    farm.lastgood(&["run"]).ended(0).says("overridden by person:bob");
    assert_eq!(farm.version("alice"), "2.0.0");
}
