//! What scripts rely on: exit codes, one JSON document, errors that name the place, and no secret anywhere.

use crate::{
    kit::{Farm, PASSWORD, Plan, Said, said, secret_file},
    sink::Sink,
};
use lastgood_domain::{
    event::{Event, Record},
    operations::hold::InFlight,
    terms::{Actor, HoldId, Reason, ServiceName, Timestamp},
};
use lastgood_engine::{
    drive::Log as _,
    fold::{Folded, KEEP_RECORDS_MIN},
    log::ServiceLog,
};
use lastgood_store::{EVIDENCE_FILE, Store};
use serde_json::Value;
use std::{fs, path::Path};

/// Commands whose output is a stream of JSON lines.
const STREAMS: [&str; 2] = ["log", "watch"];
/// Commands that tell what happens in JSON lines, and then how it ended in one document.
const STORIES: [&str; 2] = ["run", "rollback"];

#[test]
fn a_line_that_can_not_be_parsed_is_one_problem_document_to_programs_and_plain_words_to_people() {
    let farm = Farm::new(Plan::default());
    for line in [
        &["--json", "incident", "run", "web"][..],
        &["incident", "show", "--json"],
        &["--json", "hold", "set", "--nonsense"],
        &["--json", "no-such-command"],
    ] {
        let said = farm.lastgood(line).ended(2);
        let problem: Value = serde_json::from_str(&said.err).unwrap_or_else(|error| panic!("{error}: {said:?}"));
        assert_eq!((problem["code"].as_str(), problem["exit"].as_u64()), (Some("usage"), Some(2)), "{said:?}");
        assert!(said.out.is_empty() && !problem["title"].as_str().unwrap().is_empty(), "{said:?}");
    }
    farm.lastgood(&["incident", "run", "web"]).ended(2).says("error: invalid value 'web'");
    farm.lastgood(&["--json", "incident", "run", "--help"]).ended(0).says("Usage: lastgood incident run");
}

#[test]
fn every_command_with_json_prints_json_and_nothing_else() {
    let farm = Farm::running(Plan::default());
    farm.publish("1.1.0");
    let export = farm.path("export.jsonl").display().to_string();
    let commands: &[(i32, &[&str])] = &[
        (0, &["config", "check"]),
        (0, &["config", "schema"]),
        (0, &["config", "accept", "notebook", "--reason", "as it is"]),
        (0, &["plan"]),
        (0, &["run", "--dry-run"]),
        (0, &["run"]),
        (0, &["run"]),
        (0, &["plan"]),
        (0, &["status"]),
        (0, &["status", "notebook"]),
        (0, &["watch", "--until", "healthy"]),
        (7, &["watch", "--until", "paused", "--timeout", "1s"]),
        (0, &["why"]),
        (0, &["explain", "0"]),
        (0, &["log"]),
        (0, &["log", "--all", "-n", "3"]),
        (0, &["hold", "set", "--reason", "a fair"]),
        (0, &["hold", "list"]),
        (9, &["run"]),
        (9, &["plan"]),
        (0, &["hold", "lift", "notebook", "h0", "--reason", "it is over"]),
        (0, &["hold", "check"]),
        (0, &["hold", "set", "--all", "--kind", "merge,deploy", "--reason", "an audit"]),
        (9, &["hold", "check", "--kind", "merge"]),
        (0, &["hold", "list"]),
        (2, &["hold", "exempt", "hold-0", "--service", "notebook", "--release", "9.9.9", "--reason", "a fix"]),
        (0, &["hold", "sync"]),
        (0, &["hold", "lift", "hold-0", "--reason", "it is over"]),
        (0, &["pin", "notebook", "1.1.0", "--reason", "we stay"]),
        (0, &["unpin", "--reason", "we go"]),
        (0, &["rollback", "--dry-run"]),
        (3, &["rollback"]),
        (0, &["rollback", "--yes"]),
        (9, &["run"]),
        (0, &["waive", "notebook", "1.1.0", "--reason", "it was good"]),
        (0, &["reject", "notebook", "1.1.0", "--reason", "it was not"]),
        (1, &["waive", "notebook", "9.9.9", "--reason", "it never was"]),
        (0, &["evidence", "verify"]),
        (0, &["evidence", "checkpoint"]),
        (0, &["evidence", "export", "--to", &export]),
        (0, &["notices", "list"]),
        (0, &["notices", "replay"]),
        (0, &["gate", "list"]),
        (0, &["gate", "check"]),
        (2, &["gate", "run", "unit"]),
        (12, &["integrity", "verify"]),
        (2, &["status", "nothing"]),
        (9, &["rollback", "--yes"]),
    ];
    for &(code, arguments) in commands {
        let all: Vec<&str> = ["--json"].iter().chain(arguments).copied().collect();
        let said = farm.lastgood(&all);
        assert_eq!(said.code, code, "{arguments:?}: {said:?}");
        is_json(arguments, &said);
    }
}

/// Checks that each line of both sides is JSON, and that what is no stream is one document.
fn is_json(arguments: &[&str], said: &Said) {
    let lines = |text: &str| -> Vec<Value> {
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {line}"));
        text.lines().map(parse).collect()
    };
    let (out, err) = (lines(&said.out), lines(&said.err));
    if STORIES.contains(&arguments[0]) {
        let is_document = |line: &&Value| line["schema"] == "lastgood/1";
        assert_eq!(out.iter().filter(is_document).count() + err.len(), 1, "{arguments:?}: {said:?}");
        assert!(out.last().is_none_or(|last| is_document(&last)), "{arguments:?}: {said:?}");
        let is_entry = |line: &Value| line["seq"].is_u64() && line["time"].is_string() && line["kind"].is_string();
        assert!(out.iter().rev().skip(1).all(is_entry), "{arguments:?}: {said:?}");
    } else if !STREAMS.contains(&arguments[0]) {
        assert_eq!(out.len() + err.len(), 1, "{arguments:?}: {said:?}");
        for document in &out {
            assert_eq!(document["schema"], "lastgood/1", "{arguments:?}");
            assert!(document["kind"].is_string() && document.get("data").is_some(), "{arguments:?}");
        }
    }
    for problem in &err {
        assert!(problem["code"].is_string() && problem["title"].is_string(), "{arguments:?}: {problem}");
        assert_eq!(problem["exit"], said.code, "{arguments:?}: {problem}");
    }
}

#[test]
fn what_was_asked_for_goes_to_stdout_and_all_else_to_stderr() {
    let farm = Farm::running(Plan::default());
    for line in [&["status"][..], &["log"], &["why"], &["explain", "0"], &["config", "check"]] {
        let said = farm.lastgood(line).ended(0);
        assert!(!said.out.is_empty() && said.err.is_empty(), "{line:?}: {said:?}");
    }
    // What is waited for is told beside it as well.
    let said = farm.lastgood(&["plan"]).ended(0);
    assert_eq!(said.err, "notebook: asking directory:releases …\n");
    assert!(said.out.starts_with("notebook  last-good 1.0.0") && !said.out.contains("asking"), "{said:?}");
    farm.publish("1.1.0");
    // What a run came to is what was asked for; what happens on its way is told beside it.
    let said = farm.lastgood(&["run"]).ended(0);
    assert!(said.out.contains("promoted") && !said.out.contains("rehears"), "{said:?}");
    assert!(said.err.contains("rehears") && said.err.lines().count() > said.out.lines().count(), "{said:?}");
    let said = farm.lastgood(&["explain", "999999"]);
    assert!(said.code != 0 && said.out.is_empty(), "{said:?}");
    assert!(said.err.starts_with("error: ") && said.err.contains("\n hint: "), "{said:?}");
}

#[test]
fn doctor_and_init_speak_json_too() {
    let farm = Farm::new(Plan::default());
    let said = farm.lastgood(&["--json", "doctor"]);
    assert!([0, 1, 20].contains(&said.code), "{said:?}");
    is_json(&["doctor"], &said);
    let other = farm.path("other.toml").display().to_string();
    let said = farm.lastgood(&["--json", "--config", &other, "init", "dir:releases"]);
    // The option may be given once: the kit gives it already.
    assert_eq!(said.code, 2, "{said:?}");
    let mut command = std::process::Command::new(crate::kit::program());
    let said = crate::kit::said(command.args(["--json", "--config", &other, "init", "dir:releases"])).ended(0);
    is_json(&["init"], &said);
    let again = std::process::Command::new(crate::kit::program())
        .args(["--json", "--config", &other, "init", "dir:releases"])
        .output()
        .unwrap();
    assert_eq!(again.status.code(), Some(1), "a file that is there is not written over");
}

#[test]
fn what_is_wrong_with_the_configuration_is_said_with_file_line_and_nearest_key() {
    let farm = Farm::new(Plan::default());
    let good = farm.config();
    let cases = [
        ("unknown key", good.replace("ready_timeout", "redy_timeout")),
        ("unknown key of a step", good.replacen("expect", "expct", 1)),
        ("bad length of time", good.replace("\"20s\"", "\"twenty\"")),
        ("bad value", good.replace("wave_size = 2", "wave_size = \"all\"")),
        ("unknown secret", good.replace("{secret:login}", "{secret:logn}")),
        ("two on one port", good.replace(&farm.port("bob").to_string(), &farm.port("alice").to_string())),
        ("two on one folder", good.replace("data/bob", "data/alice")),
        ("no TOML", good.replacen("state_dir =", "state_dir", 1)),
    ];
    let mut all = String::new();
    for (what, text) in cases {
        assert_ne!(text, good, "{what} changes nothing");
        farm.configure(&text);
        let said = farm.lastgood(&["status"]);
        let plain = said.err.replace(&farm.path("").display().to_string(), "DIR/");
        let plain = farm.names().fold(plain, |text, name| text.replace(&farm.port(name).to_string(), "PORT"));
        all += &format!("## {what}\nexit {}\n{plain}\n", said.code);
    }
    insta::assert_snapshot!(all);
}

#[test]
fn usage_ends_with_2_and_what_is_awaited_or_missing_is_never_0() {
    let farm = Farm::new(Plan::default());
    farm.lastgood(&["stauts"]).ended(2).says("status");
    farm.lastgood(&["hold", "set"]).ended(2).says("--reason");
    farm.lastgood(&["hold", "set", "--reason", ""]).ended(2);
    farm.lastgood(&["--config", "nowhere.toml"]).ended(2);
    farm.lastgood(&["evidence", "verify"]).ended(12);
    farm.lastgood(&["rollback", "--yes"]).ended(9);
    farm.lastgood(&["run", "nothing"]).ended(2).says("notebook");
    fs::remove_dir_all(farm.path("releases")).unwrap();
    let said = farm.lastgood(&["run"]);
    assert!([1, 12].contains(&said.code), "{said:?}");
}

/// In a secret file, given to the program by its environment.
const KEY: &str = "sk-7d1f-planted-in-the-environment";

#[test]
fn no_secret_is_written_or_shown_even_if_the_service_says_it_aloud() {
    let plan = Plan {
        tail: "\n[secret.key]\nfile = \"api-key\"\n\
               [notice.page]\ncommand = [\"/bin/sh\", \"-c\", \"cat >> pages\"]\n"
            .into(),
        ..Plan::default()
    };
    let farm = Farm::new(plan);
    secret_file(&farm.path("api-key"), KEY);
    let config = farm.config().replace("env = { ", "env = { API_KEY = \"{secret:key}\", ");
    farm.configure(&config);
    let mut said = vec![farm.lastgood(&["run"]).ended(0)];

    // A release that tells its key and dies: its last words are quoted as the reason.
    farm.publish("1.1.0");
    let launcher = farm.path("releases/1.1.0/notebook");
    fs::write(&launcher, "#!/bin/sh\necho \"migration failed: key $API_KEY is wrong\" >&2\nexit 1\n").unwrap();
    said.push(farm.lastgood(&["run"]).ended(9).says("is wrong"));

    // A front door that answers with what it was asked, the password among it.
    let echo = Sink::new(|request| ("500 Oops", String::from_utf8_lossy(&request.body).into_owned()));
    let shut = farm.names().fold(config, |text, name| {
        let data = format!("data = \"data/{name}\"");
        text.replace(&data, &format!("{data}\nfront_door = \"http://127.0.0.1:{}\"", echo.port))
    });
    farm.configure(&shut);
    farm.publish("2.0.0");
    said.push(farm.lastgood(&["run"]).ended(12));
    assert!(echo.taken().iter().any(|one| String::from_utf8_lossy(&one.body).contains(PASSWORD)), "nothing echoed");

    for arguments in [&["status"][..], &["why"], &["log", "--all"], &["--json", "log", "--all"], &["notices", "list"]] {
        said.push(farm.lastgood(arguments));
    }
    for secret in [KEY, PASSWORD] {
        for one in &said {
            assert!(!one.out.contains(secret) && !one.err.contains(secret), "{secret:?} is shown: {one:?}");
        }
        for path in [farm.path("state"), farm.path("pages")] {
            let found = holding(&path, secret.as_bytes());
            assert!(found.is_empty(), "{secret:?} is written in {found:?}");
        }
    }
}

/// Finds the files below `path` that hold `secret`; what a program itself writes is its own.
fn holding(path: &Path, secret: &[u8]) -> Vec<String> {
    if path.is_dir() {
        return fs::read_dir(path).unwrap().flat_map(|entry| holding(&entry.unwrap().path(), secret)).collect();
    }
    let is_own = path.ends_with("output.log") || !path.is_file();
    let found = !is_own && fs::read(path).unwrap().windows(secret.len()).any(|window| window == secret);
    if found { vec![path.display().to_string()] } else { Vec::new() }
}

#[test]
fn after_a_long_log_only_what_is_new_is_read_until_what_was_kept_is_gone() {
    let farm = Farm::running(Plan::default());
    for _ in 0..2 {
        lengthen(&farm);
        // Its end keeps the state.
        farm.lastgood(&["run"]).ended(0);
    }
    let edit = |sql: &str| {
        let edit = rusqlite::Connection::open(farm.path("state").join(EVIDENCE_FILE)).unwrap();
        assert_eq!(edit.execute(sql, []).unwrap(), 1, "{sql}");
    };
    edit("UPDATE record SET bytes = x'00' WHERE seq = 0");
    let last = farm.lastgood(&["log", "-n", "1"]).ended(0).out;
    let last = last.split(' ').nth(1).unwrap();
    assert!(last.starts_with("notebook#"), "{last}");
    for arguments in [
        &["status"][..],
        &["why"],
        &["plan"],
        &["hold", "list"],
        &["watch", "--until", "healthy"],
        &["log", "-n", "20"],
        &["explain", last],
        &["run", "--dry-run"],
        &["run"],
    ] {
        farm.lastgood(arguments).ended(0);
    }
    farm.lastgood(&["evidence", "verify"]).ended(1).says("record 0");
    edit("DELETE FROM cache");
    farm.lastgood(&["status"]).ended(1).says("record 0 of service/notebook can't be understood");
}

/// Appends as many records as a state is kept after: holds that come and go.
fn lengthen(farm: &Farm) {
    let name = ServiceName::new("notebook").unwrap();
    let store = Store::open(&farm.path("state")).unwrap();
    let folded = Folded::read(&store, &name).unwrap();
    let reason = Reason::new("a fair").unwrap();
    let by = Actor::new("person:carol").unwrap();
    let record = |event| Record { v: Record::VERSION, at: Timestamp(0), by: by.clone(), event };
    let first = folded.service.next.hold;
    let records: Vec<Record> = (first..first + KEEP_RECORDS_MIN)
        .map(HoldId)
        .flat_map(|hold| {
            let set =
                Event::HoldSet { hold, reason: reason.clone(), until: None, origin: None, in_flight: InFlight::Pause };
            [record(set), record(Event::HoldLifted { hold, reason: reason.clone() })]
        })
        .collect();
    ServiceLog::new(store, name, Vec::new(), &folded).append(&folded.service, &records).unwrap();
}

#[test]
fn a_declined_rollback_names_the_same_order_again_and_typed_as_it_stands_it_goes_no_further() {
    let farm = Farm::running(Plan::default());
    farm.publish("1.1.0");
    farm.lastgood(&["run"]).ended(0);
    let order = ["rollback", "notebook", "--instance", "alice", "--to", "1.0.0", "--reason", "it's slow"];
    let said = farm.lastgood(&order).ended(3);
    let line = said.err.lines().find_map(|line| line.split_once("confirm: ")).unwrap().1;
    let line = line.split(", or").next().unwrap();
    let config = farm.path("lastgood.toml").display().to_string();
    assert_eq!(
        line,
        format!(
            "lastgood --config {config} rollback notebook --to 1.0.0 --instance alice --reason 'it'\\''s slow' --yes"
        )
    );
    let program = crate::kit::program();
    let typed = line.replacen("lastgood", program, 1);
    crate::kit::said(std::process::Command::new("sh").args(["-c", &typed])).ended(0);
    let versions: Vec<String> = farm.names().map(|name| farm.version(name)).collect();
    assert_eq!(versions, ["1.0.0", "1.1.0", "1.1.0"]);
    assert!(farm.log().contains("it's slow"));
}

#[test]
fn who_may_not_write_the_evidence_is_told_so_on_what_and_as_whom_to_run_it() {
    use std::os::unix::{fs::PermissionsExt as _, process::CommandExt as _};
    assert!(rustix::process::getuid().is_root(), "only root can be somebody else");
    let farm = Farm::running(Plan::default());
    fs::set_permissions(farm.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    let as_nobody = |arguments: &[&str]| {
        let mut command = std::process::Command::new(crate::kit::program());
        command.arg("--config").arg(farm.path("lastgood.toml")).args(arguments).uid(65_534).gid(65_534);
        crate::kit::said(&mut command)
    };
    let before = farm.log();
    let said = as_nobody(&["hold", "set", "--reason", "a fair"]).ended(4).says("permission denied");
    let config = farm.path("lastgood.toml").display().to_string();
    said.says("state")
        .says("it belongs to root")
        .says("[state-dir-denied]")
        .says(&format!(" hint: run it as root: sudo -u root lastgood --config {config} hold set --reason 'a fair'"));
    assert_eq!(farm.log(), before);
    // It is its owner's: who can read it can lock it, and a release's own user must not hold a rollback up.
    farm.lastgood(&["hold", "set", "--reason", "a fair"]).ended(0);
    as_nobody(&["status"]).ended(4).says("can't be read as user nobody");
    // Where its owner lets somebody read it, that one may look, though nobody has it open and nothing can be made beside it.
    for file in ["evidence.db", "driver-notebook.lock"] {
        fs::set_permissions(farm.path("state").join(file), fs::Permissions::from_mode(0o644)).unwrap();
    }
    assert!(!farm.path("state/evidence.db-wal").exists());
    as_nobody(&["status"]).ended(0).says("last-good 1.0.0");
    as_nobody(&["why"]).ended(0);
    fs::set_permissions(farm.path("state"), fs::Permissions::from_mode(0o700)).unwrap();
    as_nobody(&["status"]).ended(4).says("permission denied");
}

#[test]
fn a_secret_comes_from_a_credential_of_the_unit_that_lastgood_runs_in() {
    let farm = Farm::new(Plan::default());
    farm.configure(&farm.config().replace("file = \"probe-password\"", "credential = \"login\""));
    // As systemd lays them down: one file each, in a folder that it names.
    let folder = farm.path("credentials");
    fs::create_dir(&folder).unwrap();
    secret_file(&folder.join("login"), PASSWORD);
    let run = || said(farm.command(&["run"]).env("CREDENTIALS_DIRECTORY", &folder));
    said(farm.command(&["run"]).env_remove("CREDENTIALS_DIRECTORY")).ended(1).says("[secret-no-credentials]");
    run().ended(0);
    assert_eq!(farm.version("alice"), "1.0.0");
    // The probe logs in with it, in the rehearsal as well.
    farm.publish("2.0.0");
    run().ended(0);
    assert_eq!(farm.version("alice"), "2.0.0");
    fs::remove_file(folder.join("login")).unwrap();
    run().ended(1).says("[secret-unreadable]");
}
