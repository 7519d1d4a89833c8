//! What somebody looked at and what is done are the same, or nothing is done; and a look says what there is to know.

use crate::kit::{Farm, Plan, Said};
use std::{
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    process::Stdio,
    time::{Duration, Instant},
};

/// Gives the digest that a plan shows to programs, and checks that it shows people the beginning of the same.
fn digest(farm: &Farm, look: &[&str]) -> String {
    let shown = farm.json(look);
    let digest = shown[0]["digest"].as_str().or(shown["digest"].as_str()).unwrap().to_owned();
    farm.lastgood(look).ended(0).says(&format!("--expect {}", short(&digest)));
    digest
}

fn short(digest: &str) -> &str {
    &digest.strip_prefix("sha256:").unwrap()[..12]
}

#[track_caller]
fn moved(said: Said, seen: &str, is: &str) {
    let said = said.ended(6).says("[plan-moved]").says("nothing was done");
    assert!(said.err.contains(&format!("plan {seen} was looked at")), "{said:?}");
    assert!(said.err.contains(&format!("it is {} now", short(is))), "{said:?}");
}

#[test]
fn a_run_does_what_was_looked_at_or_nothing() {
    let farm = Farm::running(Plan::default());
    farm.publish("1.1.0");
    let seen = digest(&farm, &["plan"]);
    assert_eq!(seen, digest(&farm, &["plan"]), "the same plan looked at twice");
    for change in ["2.0.0", "a hold"] {
        match change {
            "a hold" => drop(farm.lastgood(&["hold", "set", "--reason", "a fair"]).ended(0)),
            release => farm.publish(release),
        }
        let (before, log) = (farm.pids(), farm.log());
        // Under a hold it ends with 9, and says what would come after it all the same.
        let shown: serde_json::Value = serde_json::from_str(&farm.lastgood(&["--json", "plan"]).out).unwrap();
        let is = shown["data"][0]["digest"].as_str().unwrap().to_owned();
        assert_ne!(seen, is, "{change}");
        moved(farm.lastgood(&["run", "--expect", &seen]), &seen, &is);
        assert_eq!((farm.pids(), farm.log()), (before, log), "{change}");
    }
    farm.lastgood(&["hold", "lift", "notebook", "h0", "--reason", "over"]).ended(0);
    let seen = digest(&farm, &["plan"]);
    farm.lastgood(&["run", "--expect", short(&seen)]).ended(0);
    assert_eq!(farm.version("alice"), "2.0.0");

    let daemon = farm.serve();
    farm.publish("2.5.0");
    moved(farm.lastgood(&["run", "--now", "--expect", &seen]), &seen, &digest(&farm, &["plan"]));
    assert_eq!(farm.version("alice"), "2.0.0");
    farm.lastgood(&["run", "--now", "--expect", &digest(&farm, &["plan"])]).ended(0);
    assert_eq!(farm.version("alice"), "2.5.0");
    daemon.stop();
}

#[test]
fn a_rollback_does_what_was_looked_at_or_nothing() {
    let farm = Farm::running(Plan::default());
    farm.publish("1.1.0");
    farm.lastgood(&["run"]).ended(0);
    let look = &["rollback", "--dry-run"];
    let seen = digest(&farm, look);
    assert_eq!(seen, digest(&farm, look), "the same way back looked at twice");
    farm.lastgood(&["rollback", "--instance", "alice", "--yes"]).ended(0);
    let log = farm.log();
    let is = digest(&farm, look);
    moved(farm.lastgood(&["rollback", "--yes", "--expect", &seen]), &seen, &is);
    assert_eq!((farm.version("bob"), farm.log()), ("1.1.0".into(), log));
    farm.lastgood(&["rollback", "--yes", "--expect", &is]).ended(0);
    assert_eq!(farm.version("bob"), "1.0.0");
}

#[test]
fn a_rollback_that_left_its_session_and_ended_before_it_began_keeps_nobody_waiting() {
    let farm = Farm::running(Plan::default());
    farm.publish("1.1.0");
    farm.lastgood(&["run"]).ended(0);
    let (log, began) = (farm.log(), Instant::now());
    let mut inside = farm.command(&["rollback", "--yes"]);
    // As in a terminal that alice hosts; what goes on without it is killed before it writes anything.
    inside.env("LASTGOOD_INSTANCE", "notebook/alice@0").env("LASTGOOD_CRASH_AFTER", "1");
    let said = crate::kit::said(&mut inside).ended(1).says("[run-undriven]").says("ended before its time");
    assert!(said.err.contains("this session runs inside notebook/alice"), "{said:?}");
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert_eq!(farm.log(), log);
    farm.lastgood(&["rollback", "--yes"]).ended(0);
}

#[test]
fn a_rollback_says_the_rows_it_would_drop_before_anybody_agrees() {
    let farm = Farm::running(Plan::default());
    farm.publish("2.0.0");
    farm.lastgood(&["run"]).ended(0);
    farm.lastgood(&["rollback", "--dry-run"]).ended(0).says("alice: 2.0.0 -> 1.0.0, with its data of");
    let dropped = |name: &str| {
        let said = farm.lastgood(&["rollback", "--dry-run"]).ended(0);
        let line = said.out.lines().find(|line| line.starts_with(&format!("{name}: "))).unwrap().to_owned();
        let rows = line.split("which drops ").nth(1).unwrap_or_else(|| panic!("{line}"));
        assert!(rows.contains("written so far"), "{line}");
        rows.split(' ').next().unwrap().parse::<u64>().unwrap()
    };
    let before = dropped("bob");
    let pids = farm.pids();
    farm.write_many("bob", 40);
    // The notes, and the session of who wrote them.
    assert_eq!(dropped("bob"), before + 41);
    assert_eq!(dropped("alice"), dropped("alice"), "looking writes nothing");
    assert_eq!(farm.pids(), pids, "everybody still runs");
    // Nobody is asked where there is no terminal, or with --yes: then no way back waits for a count.
    for (arguments, code) in [(&["rollback"][..], 3), (&["rollback", "--yes"], 0)] {
        let said = farm.lastgood(arguments).ended(code);
        assert!(!said.err.contains("counting what"), "{said:?}");
    }
    assert!(farm.log().contains(&format!("\"rows\":{}", before + 41)), "what was counted after the stop");
    let left: Vec<_> = std::fs::read_dir(farm.path("state/services/notebook/snapshots"))
        .map(|all| all.map(|one| one.unwrap().file_name()).collect())
        .unwrap_or_default();
    assert!(!left.iter().any(|name: &std::ffi::OsString| name.to_string_lossy().contains("count")), "{left:?}");
}

#[test]
fn a_service_that_was_renamed_is_read_by_its_old_name_and_a_rollback_says_how_to_go_back() {
    let farm = Farm::running(Plan::default());
    let was = farm.config();
    farm.configure(&was.replace("service.notebook", "service.journal"));
    farm.lastgood(&["log", "notebook"]).ended(0).says("notebook#0");
    let export = farm.path("export.jsonl").display().to_string();
    farm.lastgood(&["evidence", "export", "notebook", "--to", &export]).ended(0).says("records written");
    farm.lastgood(&["evidence", "verify"]).ended(0).says("service/notebook");
    for line in [&["rollback", "notebook", "--yes"][..], &["rollback", "--yes"], &["status", "notebook"]] {
        let said = farm.lastgood(line).ended(2).says("[service-removed]").says("alice, bob, carol still belong to it");
        assert!(said.err.contains("write [service.notebook] again"), "{said:?}");
    }
    farm.lastgood(&["log", "nonsense"]).ended(2).says("[service-unknown]");
    // A service of other instances is none of that name.
    let strange = was.replace("service.notebook", "service.journal").replace("name = \"alice\"", "name = \"zoe\"");
    let strange = strange.replace("name = \"bob\"", "name = \"yan\"").replace("name = \"carol\"", "name = \"xenia\"");
    farm.configure(&strange);
    let said = farm.lastgood(&["rollback", "--yes"]);
    assert!(said.code != 0 && !said.err.contains("[service-removed]"), "{said:?}");
    farm.configure(&was);
    farm.publish("1.1.0");
    farm.lastgood(&["run"]).ended(0);
    farm.lastgood(&["rollback", "notebook", "--yes"]).ended(0);
}

#[test]
fn who_waits_is_told_at_once_what_for() {
    const SLOW: Duration = Duration::from_secs(3);
    let farm = Farm::running(Plan::default());
    let newest = farm.path("newest");
    std::fs::write(&newest, "#!/bin/sh\nsleep 3\necho 1.0.0\n").unwrap();
    std::fs::set_permissions(&newest, std::fs::Permissions::from_mode(0o755)).unwrap();
    let channel = r#"channel = { directory = "releases", version_file = "VERSION" }"#;
    let slow =
        r#"channel = { command = ["./newest"], fetch = ["./newest", "{tag}", "{into}"], version_file = "VERSION" }"#;
    farm.configure(&farm.config().replace(channel, slow));
    for (line, says) in
        [("plan", "notebook: asking command:./newest"), ("doctor", "checking this machine and 1 service")]
    {
        let mut command = farm.command(&[line]);
        let began = Instant::now();
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let first = BufReader::new(child.stderr.take().unwrap()).lines().next().unwrap().unwrap();
        let waited = began.elapsed();
        child.wait().unwrap();
        assert!(first.starts_with(says), "{line}: {first}");
        assert!(waited < SLOW, "{line}: after {waited:?}");
        assert!(line == "doctor" || began.elapsed() >= SLOW, "{line}: the channel was not slow");
    }
}
