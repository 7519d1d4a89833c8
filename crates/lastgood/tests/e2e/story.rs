//! What a user lives through: good bumps, bad releases, and every way back.

use crate::kit::{DESK, Farm, Plan, dump, kept_aside, until};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

const FIVE: [(&str, &str); 5] =
    [("alice", "probe"), ("bob", "probe"), ("carol", "café o'clock"), ("dave", "probe"), ("erin", "probe")];

#[test]
fn a_good_release_reaches_every_instance() {
    let farm = Farm::running(Plan::default());
    farm.publish("1.1.0");
    farm.lastgood(&["run"]).ended(0).says("1.1.0");
    for name in farm.names() {
        assert_eq!(farm.version(name), "1.1.0");
        assert_eq!(farm.notes(name).len(), 5);
    }
    assert_eq!(farm.status()["last_good"], "1.1.0");
    farm.lastgood(&["run"]).ended(0).says("up to date");
    farm.lastgood(&["evidence", "verify"]).ended(0);
}

#[test]
fn the_record_says_which_alternative_of_a_probe_answered() {
    let farm = Farm::running(Plan::default());
    let answered = |way: &str| farm.log().matches(&format!("\"log in\":\"{way}\"")).count();
    let old = answered("v1");
    assert!(old > 0 && answered("v2") == 0, "{}", farm.log());
    farm.publish("2.0.0");
    farm.lastgood(&["run"]).ended(0);
    // Of the new release the new place answers, of last-good beside it the old one.
    assert!(answered("v2") >= 3 && answered("v1") > old, "{}", farm.log());
}

#[test]
fn a_way_back_by_code_alone_keeps_what_was_written_after_the_bump() {
    let farm = Farm::running(Plan::default());
    farm.publish("1.1.0");
    farm.lastgood(&["run"]).ended(0);
    for name in farm.names() {
        farm.write(name, "written on 1.1.0");
    }
    farm.lastgood(&["rollback", "--yes"]).ended(0);
    for name in farm.names() {
        assert_eq!(farm.version(name), "1.0.0");
        assert!(farm.notes(name).contains(&"written on 1.1.0".to_owned()));
    }
    assert_eq!(farm.status()["last_good"], "1.0.0");
}

#[test]
fn a_way_back_by_restore_gives_the_data_exactly_as_it_was_and_keeps_the_newer_aside() {
    let farm = Farm::running(Plan::default());
    for name in farm.names() {
        farm.write(name, "written on 1.0.0");
    }
    let before: BTreeMap<_, _> = farm.names().map(|name| (name, (farm.dump(name), owners(&farm, name)))).collect();
    farm.publish("2.0.0");
    farm.lastgood(&["run"]).ended(0);
    for name in farm.names() {
        assert_eq!(farm.version(name), "2.0.0");
        farm.write(name, "written on 2.0.0");
        assert_ne!(farm.dump(name), before[name].0);
    }
    let laid: BTreeMap<_, _> = farm.names().map(|name| (name, laid_ready(&farm, name))).collect();
    farm.lastgood(&["rollback", "--yes"]).ended(0);
    let log = farm.log();
    for name in farm.names() {
        assert_eq!(farm.version(name), "1.0.0");
        assert_eq!(farm.dump(name), before[name].0, "{name}");
        let inode = fs::metadata(farm.data(name).join("notebook.sqlite")).unwrap().ino();
        assert_eq!(inode, laid[name], "{name}: what lay ready was not moved but copied");
        assert_eq!(owners(&farm, name), before[name].1, "{name}");
        assert!(farm.notes(name).contains(&"written on 1.0.0".to_owned()));
        let aside = kept_aside(&farm, name);
        assert_eq!(aside.len(), 1, "{name}: {aside:?}");
        assert!(dump(&aside[0].join("notebook.sqlite")).contains("written on 2.0.0"), "{name}");
        assert!(named_in(&log, &aside[0]), "{} is not named in {log}", aside[0].display());
    }
    farm.lastgood(&["evidence", "verify"]).ended(0);
}

/// Gives the inode of the database that lies ready to go back.
fn laid_ready(farm: &Farm, name: &str) -> u64 {
    let mut aside = farm.data(name).into_os_string();
    aside.push(".lastgood-aside");
    let ready = fs::read_dir(aside).unwrap().map(|entry| entry.unwrap());
    let ready = ready.filter(|entry| entry.file_name().to_string_lossy().starts_with(".ready-"));
    let all: Vec<PathBuf> = ready.map(|entry| entry.path().join("0/notebook.sqlite")).collect();
    assert_eq!(all.len(), 1, "{name}: {all:?}");
    fs::metadata(&all[0]).unwrap().ino()
}

#[test]
fn a_release_that_fails_its_rehearsal_touches_nobody_and_is_not_tried_again_until_it_is_waived() {
    let farm = Farm::running(Plan::default());
    let pids = farm.pids();
    farm.publish("2.1.0");
    farm.lastgood(&["run"]).ended(9).says("2.1.0");
    assert_eq!(farm.pids(), pids);
    let tried = rehearsals(&farm);
    assert!(tried > 0);
    farm.lastgood(&["run"]).ended(9).says("reject");
    assert_eq!(rehearsals(&farm), tried);
    farm.lastgood(&["waive", "notebook", "2.1.0", "--reason", "look once more"]).ended(0);
    farm.lastgood(&["run"]).ended(9);
    assert!(rehearsals(&farm) > tried);
    assert_eq!(farm.pids(), pids);
    farm.lastgood(&["why"]).ended(0).says("2.1.0");
}

#[test]
fn an_older_good_release_is_tried_in_the_place_of_a_rejected_newest() {
    let farm = Farm::running(Plan::default());
    farm.publish("2.1.0");
    farm.lastgood(&["run"]).ended(9).says("2.1.0");
    // Nothing else is newer than 1.0.0 yet.
    farm.lastgood(&["plan"]).ended(9).says("gate rejected  fail");
    farm.lastgood(&["run"]).ended(9).says("the next, 1.0.0, is not newer than last-good 1.0.0");
    farm.lastgood(&["why"]).says("passed over at the last check, and nothing else is newer than last-good 1.0.0");
    farm.publish("2.0.0");
    farm.lastgood(&["plan"]).ended(0).says("passed over    2.1.0 was rejected by").says("would move to 2.0.0");
    assert_eq!(farm.json(&["plan"])[0]["passed_over"][0]["tag"], "2.1.0");
    farm.lastgood(&["run"]).ended(0).says("gate rejected: fail: 2.1.0 was rejected").says("2.0.0");
    for name in farm.names() {
        assert_eq!(farm.version(name), "2.0.0");
    }
    farm.lastgood(&["why"]).says("passed over at the last check, 2.0.0 was taken in its place");
}

#[test]
fn a_release_that_breaks_one_instance_is_taken_back_from_all_and_the_untouched_stay_untouched() {
    let service = "rehearsal = { on = \"alice\" }".into();
    let farm = Farm::new(Plan { instances: FIVE.into(), service, tail: DESK.into(), ..Plan::default() });
    farm.publish("2.0.0");
    farm.lastgood(&["run"]).ended(0);
    let before: BTreeMap<_, _> = farm.names().map(|name| (name, farm.dump(name))).collect();
    let pids = farm.pids();
    farm.publish("2.3.0");
    farm.lastgood(&["run"]).ended(5).says("carol");
    for name in farm.names() {
        assert_eq!(farm.version(name), "2.0.0", "{name}");
        assert_eq!(farm.dump(name), before[name], "{name}");
        farm.log_in(name);
    }
    for name in ["dave", "erin"] {
        assert_eq!(farm.pid(name), pids[name], "{name} was touched");
    }
    for name in ["alice", "carol"] {
        assert_ne!(farm.pid(name), pids[name], "{name} never moved");
    }
    assert!(farm.json(&["hold", "list"]).as_array().is_some_and(|holds| holds.len() == 1));
    // Somebody hears of the way back, of whose failure it was, and that the service stopped itself.
    let (severity, summary) = farm.noticed("rolled-back");
    assert!(severity == "critical" && summary.contains("carol"), "{severity}: {summary}");
    let (_, summary) = farm.noticed("frozen");
    assert!(summary.contains("hold h0"), "{summary}");
    farm.lastgood(&["run"]).ended(9).says("hold");
}

#[test]
fn the_same_tag_with_other_bytes_is_refused() {
    let farm = Farm::running(Plan::default());
    let pids = farm.pids();
    farm.republish("1.0.0");
    farm.lastgood(&["run"]).ended(9).says("1.0.0");
    assert_eq!(farm.pids(), pids);
}

#[test]
fn a_broken_gate_is_no_bad_release() {
    let farm = Farm::running(Plan::default());
    let pids = farm.pids();
    let config = farm.config();
    // Users' door is shut: whatever the release is, no probe passes, before the move or after it.
    let shut = farm.names().fold(config.clone(), |text, name| {
        let data = format!("data = \"data/{name}\"");
        text.replace(&data, &format!("{data}\nfront_door = \"http://127.0.0.1:{}\"", farm.port("nobody")))
    });
    farm.configure(&shut);
    farm.publish("1.1.0");
    farm.lastgood(&["run"]).ended(12).says("alice");
    assert_eq!(farm.pids(), pids);
    assert!(farm.status()["rejected"].as_array().is_none_or(Vec::is_empty), "{}", farm.status());
    farm.configure(&config);
    farm.lastgood(&["run"]).ended(0);
    assert_eq!(farm.version("alice"), "1.1.0");
}

#[test]
fn a_rehearsal_that_last_good_fails_too_rejects_nothing_and_is_noticed_as_a_broken_gate() {
    let farm = Farm::running(Plan { tail: DESK.into(), ..Plan::default() });
    let (pids, config) = (farm.pids(), farm.config());
    // A check that no release passes, and that the running instances were never asked.
    let wrong = "\n[[service.notebook.probe]]\nname = \"no such page\"\nhttp = { path = \"/no/such/page\" }\n\
                 expect = { status = 200 }\n";
    farm.configure(&(config.clone() + wrong));
    farm.publish("1.1.0");
    farm.lastgood(&["run"]).ended(12).says("the gate is broken, nothing was rejected");
    let log = farm.log();
    let legs = |leg: &str| log.lines().filter(|line| line.contains("\"rehearse\"") && line.contains(leg)).count();
    // The rehearsal with last-good was the last one: its answer said enough.
    assert_eq!((legs("\"control\""), legs("\"way-back\"")), (1, 0), "{log}");
    assert_eq!(farm.pids(), pids);
    assert!(farm.status()["rejected"].as_array().is_none_or(Vec::is_empty), "{}", farm.status());
    let (severity, summary) = farm.noticed("gate-broken");
    assert!(severity == "critical" && summary.contains("no such page"), "{severity}: {summary}");
    assert_eq!(farm.notices("rehearsal-failed"), []);
    farm.configure(&config);
    farm.lastgood(&["run"]).ended(0);
    assert_eq!(farm.version("alice"), "1.1.0");
}

#[test]
fn when_all_are_busy_the_run_waits_and_when_one_is_it_moves_later() {
    let farm = Farm::running(Plan::default());
    let pids = farm.pids();
    for name in farm.names() {
        farm.post(name, "/session/open", "", &serde_json::Value::Null);
    }
    farm.publish("1.1.0");
    farm.lastgood(&["run"]).ended(8);
    assert_eq!(farm.pids(), pids);
    let asked = farm.instance("bob")["asked"].as_i64().unwrap();
    for name in ["alice", "carol"] {
        farm.post(name, "/session/close", "", &serde_json::Value::Null);
    }
    farm.lastgood(&["run"]).ended(0);
    assert_eq!(farm.version("alice"), "1.1.0");
    assert_eq!(farm.version("bob"), "1.0.0");
    assert_eq!(farm.pid("bob"), pids["bob"]);
    assert_eq!(farm.instance("bob")["condition"], "deferred");
    assert!(farm.instance("bob")["asked"].as_i64().unwrap() > asked, "{}", farm.status());
    farm.lastgood(&["status"]).ended(0).says("(when last asked, ");
    farm.post("bob", "/session/close", "", &serde_json::Value::Null);
    farm.lastgood(&["run"]).ended(0);
    assert_eq!(farm.version("bob"), "1.1.0");
    assert_eq!(farm.instance("bob")["condition"], "settled");
}

#[test]
fn a_hold_and_a_freeze_file_stop_forward_moves_and_no_way_back() {
    let farm = Farm::running(Plan { tail: DESK.into(), ..Plan::default() });
    farm.publish("1.1.0");
    farm.lastgood(&["run"]).ended(0);
    farm.publish("2.0.0");
    // A held run does nothing: the same processes of the same release, the same data, nothing rehearsed.
    let all = || {
        let data: Vec<String> = farm.names().map(|name| farm.dump(name)).collect();
        let releases: Vec<_> = farm.names().map(|name| farm.instance(name)["release"].clone()).collect();
        (farm.pids(), data, releases, rehearsals(&farm), farm.status()["last_good"].clone())
    };
    let before = all();
    assert!(before.2.iter().all(|release| release == "1.1.0"), "{before:?}");
    farm.lastgood(&["hold", "set", "--reason", "the fair is on"]).ended(0);
    farm.lastgood(&["run"]).ended(9).says("the fair is on");
    assert_eq!(all(), before);
    // The hold itself is told of, and then that a run did nothing because of it.
    until("both notices", || farm.notices("frozen").len() >= 2);
    let frozen = farm.notices("frozen");
    assert!(frozen[1].1.contains("did nothing") && frozen[1].1.contains("the fair is on"), "{frozen:?}");
    farm.lastgood(&["hold", "lift", "notebook", "h0", "--reason", "it is over"]).ended(0);
    fs::write(farm.path("state/FREEZE"), "").unwrap();
    farm.lastgood(&["run"]).ended(9).says("FREEZE");
    assert_eq!(all(), before);
    until("the notice of the freeze file", || farm.notices("frozen").len() >= 3);
    assert!(farm.notices("frozen")[2].1.contains("FREEZE"), "{:?}", farm.notices("frozen"));
    assert_eq!(farm.version("alice"), "1.1.0");
    farm.lastgood(&["hold", "set", "--reason", "once more"]).ended(0);
    farm.lastgood(&["rollback", "--yes"]).ended(0);
    assert_eq!(farm.version("alice"), "1.0.0");
}

#[test]
fn a_pin_on_an_older_release_is_enforced_and_unpinning_goes_on() {
    let farm = Farm::running(Plan::default());
    farm.publish("1.1.0");
    farm.lastgood(&["run"]).ended(0);
    farm.lastgood(&["pin", "notebook", "1.0.0", "--reason", "the new colour"]).ended(0);
    // What is shown before is what happens: all at once, nothing rehearsed.
    let (pids, way) = (farm.pids(), "alice: 1.1.0 -> 1.0.0");
    farm.lastgood(&["plan"]).ended(0).says(way).says("back to 1.0.0, all at once").says("lastgood unpin notebook");
    farm.lastgood(&["run", "--dry-run"]).ended(0).says(way).says("nothing is rehearsed");
    assert_eq!(farm.pids(), pids);
    farm.lastgood(&["run"]).ended(5).says("pinned to 1.0.0");
    for name in farm.names() {
        assert_eq!(farm.version(name), "1.0.0");
    }
    farm.lastgood(&["run"]).ended(0);
    assert_eq!(farm.version("alice"), "1.0.0");
    farm.lastgood(&["unpin", "--reason", "they like it"]).ended(0);
    farm.lastgood(&["run"]).ended(0);
    for name in farm.names() {
        assert_eq!(farm.version(name), "1.1.0");
    }
}

#[test]
fn who_interrupts_a_run_is_told_what_stands_still_and_the_next_run_goes_on() {
    let farm = Farm::running(Plan::default());
    farm.publish("2.0.0");
    let mut command = std::process::Command::new(crate::kit::program());
    command.arg("--config").arg(farm.path("lastgood.toml")).arg("run").current_dir(farm.path(""));
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
    let run = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
    until("a run", || farm.json(&["status"])["services"][0]["run"].is_object());
    let interrupted = std::process::Command::new("kill").args(["-INT", &run.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    let said = run.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    assert_eq!(said.status.code(), Some(130), "{text}");
    assert!(text.contains("stands still") && text.contains("[interrupted]") && text.contains("lastgood run"), "{text}");
    farm.lastgood(&["run"]).ended(0);
    for name in farm.names() {
        assert_eq!(farm.version(name), "2.0.0");
    }
}

#[test]
fn a_dry_run_changes_nothing() {
    let farm = Farm::running(Plan::default());
    let look = |farm: &Farm| {
        let shelves = ["installations", "snapshots", "instances"]
            .map(|folder| tree(&farm.path("state/services/notebook").join(folder)));
        let records = farm.log();
        (shelves, records, farm.pids(), farm.names().map(|name| farm.dump(name)).collect::<Vec<_>>())
    };
    let before = look(&farm);
    farm.publish("2.0.0");
    farm.lastgood(&["run", "--dry-run"]).ended(0).says("2.0.0");
    assert_eq!(look(&farm), before);
    farm.publish("2.1.0");
    farm.lastgood(&["run", "--dry-run"]).ended(9);
    assert_eq!(look(&farm), before);
    let left: Vec<_> = tree(&farm.path("state")).into_iter().filter(|path| path.contains("dry-run")).collect();
    assert_eq!(left, Vec::<String>::new());
}

#[test]
fn a_second_rollback_finds_nothing_to_go_back_to_and_stops_nobody() {
    let farm = Farm::running(Plan::default());
    let pids = farm.pids();
    farm.lastgood(&["rollback", "--yes"]).ended(9);
    assert_eq!(farm.pids(), pids);
    farm.publish("2.0.0");
    farm.lastgood(&["run"]).ended(0);
    farm.lastgood(&["rollback", "--yes"]).ended(0);
    let pids = farm.pids();
    farm.lastgood(&["rollback", "--yes"]).ended(9);
    assert_eq!(farm.pids(), pids);
    for name in farm.names() {
        assert_eq!(farm.version(name), "1.0.0");
    }
}

#[test]
fn a_rollback_of_one_instance_leaves_the_others() {
    let farm = Farm::running(Plan::default());
    farm.publish("2.0.0");
    farm.lastgood(&["run"]).ended(0);
    let pids = farm.pids();
    farm.lastgood(&["rollback", "--yes", "--instance", "bob"]).ended(0);
    assert_eq!(farm.version("bob"), "1.0.0");
    assert_eq!(farm.notes("bob").len(), 5);
    for name in ["alice", "carol"] {
        assert_eq!(farm.version(name), "2.0.0");
        assert_eq!(farm.pid(name), pids[name]);
    }
    farm.lastgood(&["rollback", "--yes", "--instance", "zoe"]).ended(2).says("zoe");
}

#[test]
fn a_rollback_that_would_drop_too_much_is_held_and_pages_and_goes_on_when_the_loss_is_accepted() {
    let plan = Plan {
        service: "restore = { rows_max = 8 }".into(),
        tail: "\n[notice.page]\ncommand = [\"/bin/sh\", \"-c\", \"echo $LASTGOOD_NOTICE_KIND >> pages; cat > /dev/null\"]\n".into(),
        ..Plan::default()
    };
    let farm = Farm::running(plan);
    farm.publish("2.0.0");
    farm.lastgood(&["run"]).ended(0);
    farm.write_many("bob", 20);
    farm.lastgood(&["rollback", "--yes"]).ended(8).says("bob");
    assert_eq!(farm.instance("bob")["condition"], "loss-held");
    // Nothing was dropped, and the newer program goes on with the newer data.
    assert!(farm.dump("bob").contains("note_of_account"));
    assert_eq!(farm.version("bob"), "2.0.0");
    assert_eq!(farm.notes("bob").len(), 25);
    farm.lastgood(&["why"]).ended(0).says("lost-writes:bob");
    let pages = fs::read_to_string(farm.path("pages")).unwrap_or_default();
    assert!(pages.contains("rollback-held"), "paged: {pages:?}");
    farm.lastgood(&["rollback", "--yes", "--accept-risk", "lost-writes:bob"]).ended(0);
    for name in farm.names() {
        assert_eq!(farm.version(name), "1.0.0");
    }
    assert_eq!(farm.notes("bob").len(), 5);
}

#[test]
fn a_damaged_last_good_refuses_the_bump_before_anything_moves() {
    let farm = Farm::running(Plan::default());
    let pids = farm.pids();
    let installations = farm.path("state/services/notebook/installations");
    let licence = tree(&installations).into_iter().find(|path| path.ends_with("LICENSE")).unwrap();
    let licence = installations.join(licence);
    let mut text = fs::read(&licence).unwrap();
    text[0] ^= 1;
    fs::remove_file(&licence).unwrap();
    fs::write(&licence, text).unwrap();
    farm.publish("1.1.0");
    let said = farm.lastgood(&["run"]).says("1.0.0");
    assert!(![0, 5].contains(&said.code), "{said:?}");
    assert_eq!(farm.pids(), pids);
    for name in farm.names() {
        assert_eq!(farm.version(name), "1.0.0");
    }
}

/// Counts the rehearsals that were ordered.
fn rehearsals(farm: &Farm) -> usize {
    farm.log().lines().filter(|line| line.contains("rehearse")).count()
}

/// Gives the data's owners and modes, without SQLite's passing files.
fn owners(farm: &Farm, name: &str) -> Vec<String> {
    let passing = |file: &String| file.contains("-wal ") || file.contains("-shm ");
    farm.files(name).into_iter().filter(|file| !passing(file)).collect()
}

fn named_in(log: &str, folder: &Path) -> bool {
    folder.ancestors().take(2).any(|path| log.contains(&path.display().to_string()))
}

/// Lists all files below a folder, by their path from it.
fn tree(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if entry.file_type().unwrap().is_dir() {
                open.push(path.clone());
            }
            found.push(path.strip_prefix(folder).unwrap().display().to_string());
        }
    }
    found.sort();
    found
}
