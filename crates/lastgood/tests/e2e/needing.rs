//! What a step of an incident's plan needs and what may go wrong with it, and what is kept apart before anything else.

use crate::kit::{Farm, Plan, said};
use lastgood_domain::terms::Digest;
use std::{fs, path::PathBuf, process::Command};

fn declare(farm: &Farm, level: &str) {
    farm.lastgood(&["incident", "declare", "--level", level, "--trigger", "totals are wrong"]).ended(0).says("i0");
}

fn approve(farm: &Farm, approval: &str) {
    said(farm.command(&["approval", "approve", approval]).env("SUDO_USER", "bob")).ended(0);
}

#[test]
fn a_step_is_not_tried_while_what_it_needs_is_not_so_and_what_is_severe_is_named_to_who_approves() {
    let farm = Farm::running(Plan::default());
    let (stopped, did) = (farm.path("writers-stopped"), farm.path("did"));
    let keys = format!(
        "\n[runbook]\napprovals = {{ L2 = 1 }}\n[runbook.step.rebuild]\narea = \"data\"\nundo = \"rebuild it again\"\n\
         do = [{{ command = [\"sh\", \"-c\", \"echo once >> {}\"] }}]\nmay_fail = true\n\
         precondition = {{ ask = [{{ command = [\"test\", \"-e\", \"{}\"] }}] }}\n\
         risk = {{ level = \"severe\", what = \"readers see no totals\" }}\n",
        did.display(),
        stopped.display()
    );
    farm.configure(&(farm.config() + &keys));
    declare(&farm, "L2");
    farm.lastgood(&["incident", "plan", "i0"])
        .ended(0)
        .says("risk severe: readers see no totals")
        .says("needs: what rebuild needs is so")
        .says("risk moderate: each instance that moves is stopped and started once")
        .says("needs: 1.0.0 is whole");
    farm.lastgood(&["incident", "run", "i0"]).ended(8);
    farm.lastgood(&["approval", "list"]).ended(0).says("3 steps; severe: command/rebuild");
    approve(&farm, "a0");
    // Not even where it may fail: nothing is passed over for want of what it needs.
    for _ in 0..2 {
        let run = farm.lastgood(&["incident", "run", "i0"]).ended(9);
        run.says("[incident-step-unmet]").says("probe-failed").says("--again");
    }
    assert!(!did.exists());
    let shown = farm.json(&["incident", "show", "i0"]);
    assert_eq!(shown["plan"]["stuck"], "command/rebuild");
    assert_eq!(shown["plan"]["plan"]["steps"][2]["risk"]["level"], "severe");
    assert_eq!(shown["plan"]["plan"]["steps"][2]["precondition"]["needs"], "asked");
    fs::write(&stopped, "").unwrap();
    farm.lastgood(&["incident", "step", "i0", "command/rebuild", "--again", "--reason", "they are stopped"]).ended(0);
    farm.lastgood(&["incident", "run", "i0"]).ended(0);
    assert_eq!(fs::read_to_string(&did).unwrap(), "once\n");
    let told = farm.lastgood(&["incident", "timeline", "i0"]).ended(0);
    told.says("command/rebuild was not tried, because of what it needs").says("command/rebuild may be done");
}

#[test]
fn a_way_back_whose_snapshot_is_gone_is_said_before_anything_is_stopped() {
    let farm = Farm::running(Plan { instances: vec![("alice", "probe")], ..Plan::default() });
    farm.publish("2.0.0");
    farm.lastgood(&["run"]).ended(0);
    let pid = farm.pid("alice");
    declare(&farm, "L2");
    let plan = farm.lastgood(&["incident", "plan", "i0", "--to", "notebook=1.0.0"]).ended(0);
    plan.says("risk severe: what was written since is no longer there as alice");
    let shelf = farm.path("state/services/notebook/snapshots");
    fs::rename(&shelf, farm.path("elsewhere")).unwrap();
    farm.lastgood(&["incident", "run", "i0"]).ended(9).says("[incident-step-unmet]").says("snapshot-missing");
    assert_eq!((farm.version("alice").as_str(), farm.pid("alice")), ("2.0.0", pid));
    let log = farm.log();
    assert!(!log.contains("return-begun"), "{log}");
    // Opening the service makes the folder anew.
    let _ = fs::remove_dir(&shelf);
    fs::rename(farm.path("elsewhere"), &shelf).unwrap();
    farm.lastgood(&["incident", "step", "i0", "roll-back/notebook", "--again", "--reason", "it is there"]).ended(0);
    farm.lastgood(&["incident", "run", "i0"]).ended(0);
    assert_eq!(farm.version("alice"), "1.0.0");
}

/// The folders that an incident's plan kept, oldest first.
fn kept(farm: &Farm) -> Vec<PathBuf> {
    let all = fs::read_dir(farm.path("state/preserved")).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<PathBuf> =
        all.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("i0-")).collect();
    all.sort();
    all
}

#[test]
fn at_l3_chains_and_logs_are_kept_apart_first_and_what_is_kept_fits_its_digests() {
    let farm = Farm::running(Plan { instances: vec![("alice", "probe")], ..Plan::default() });
    declare(&farm, "L3");
    farm.lastgood(&["incident", "plan", "i0"]).ended(0).says("chains and logs are copied apart");
    farm.lastgood(&["incident", "run", "i0"]).ended(8);
    approve(&farm, "a0");
    let run = farm.lastgood(&["incident", "run", "i0"]).ended(0).says("evidence/preserve done: ");
    let at = |what: &str| run.err.find(what).or_else(|| run.out.find(what)).unwrap();
    assert!(at("evidence/preserve done") < at("evidence/verify done"));
    let folders = kept(&farm);
    assert_eq!(folders.len(), 1);
    let digests = fs::read_to_string(folders[0].join("DIGESTS")).unwrap();
    for name in ["service-notebook.jsonl", "operations.jsonl", "logs/notebook/alice.log"] {
        assert!(digests.contains(name), "{name} is not in {digests}");
    }
    let check: String = digests.lines().map(|line| line.trim_start_matches("sha256:").to_owned() + "\n").collect();
    fs::write(farm.path("check"), check).unwrap();
    let mut sums = Command::new("sha256sum");
    sums.args(["-c", "--strict"]).arg(farm.path("check")).current_dir(&folders[0]);
    let sums = sums.output().unwrap();
    assert!(sums.status.success(), "{sums:?}");

    // What is whole is not copied twice; what was touched since is kept anew, and the old one stays to be looked at.
    let once_more = |approval: &str| {
        farm.lastgood(&["incident", "plan", "i0"]).ended(0);
        farm.lastgood(&["incident", "run", "i0"]).ended(8);
        approve(&farm, approval);
        farm.lastgood(&["incident", "run", "i0"]).ended(0)
    };
    once_more("a1").says("kept already");
    assert_eq!(kept(&farm).len(), 1);
    let log = folders[0].join("logs/notebook/alice.log");
    let text = fs::read_to_string(&log).unwrap();
    fs::write(&log, text + "one more line\n").unwrap();
    let said = once_more("a2");
    assert!(!said.err.contains("kept already") && !said.out.contains("kept already"), "{said:?}");
    assert_eq!(kept(&farm).len(), 2);
}

#[test]
fn what_a_kill_left_of_a_copy_is_made_anew_and_no_list_that_names_nothing_is_believed() {
    let farm = Farm::running(Plan { instances: vec![("alice", "probe")], ..Plan::default() });
    declare(&farm, "L3");
    let run = |approval: &str| {
        farm.lastgood(&["incident", "plan", "i0"]).ended(0);
        farm.lastgood(&["incident", "run", "i0"]).ended(8);
        approve(&farm, approval);
        farm.lastgood(&["incident", "run", "i0"]).ended(0)
    };
    run("a0");
    let whole = kept(&farm).remove(0);
    assert!(!whole.join("UNFINISHED").exists());
    // Killed before the list, and a list that was created and not written.
    fs::remove_file(whole.join("DIGESTS")).unwrap();
    fs::write(whole.join("UNFINISHED"), "").unwrap();
    let named = |end: &str| {
        let name = whole.file_name().unwrap().to_str().unwrap();
        farm.path("state/preserved").join(format!("{}{end}", &name[..name.len() - 4]))
    };
    let empty = named("998Z");
    fs::create_dir(&empty).unwrap();
    fs::write(empty.join("DIGESTS"), "").unwrap();
    // Of somebody's, and of an incident of the same number in a state folder that is no more.
    let theirs = named("999Z");
    fs::create_dir(&theirs).unwrap();
    fs::write(theirs.join("notes"), "mine").unwrap();
    let earlier = farm.path("state/preserved/i0-2020-01-01T00-00-00-000Z-2020-01-01T00-00-01-000Z");
    fs::create_dir(&earlier).unwrap();
    fs::write(earlier.join("log"), "of then").unwrap();
    fs::write(earlier.join("DIGESTS"), format!("{}  log\n", Digest::of(b"of then"))).unwrap();
    let said = run("a1");
    assert!(!said.err.contains("kept already") && !said.out.contains("kept already"), "{said:?}");
    assert!(!whole.exists(), "it was never whole, and is ours");
    assert!(theirs.join("notes").exists() && earlier.exists());
    let left: Vec<PathBuf> =
        kept(&farm).into_iter().filter(|one| ![&empty, &theirs, &earlier].contains(&one)).collect();
    assert_eq!(left.len(), 1);
    assert!(fs::read_to_string(left[0].join("DIGESTS")).unwrap().contains("operations.jsonl"));
}
