//! The first hour with a service of one's own: ports that are taken, configurations that are not finished, instances
//! that died while nobody looked. None of it may cost a good release its name.

use crate::kit::{Farm, Plan, Said, program, said};
use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt as _, process::Command};

/// Nothing was decided against the release, and nothing stands in the way of the next run.
fn nothing_is_held(farm: &Farm) {
    let said = farm.lastgood(&["log", "--all"]).ended(0);
    assert!(!said.out.contains("is rejected"), "{}", said.out);
    farm.lastgood(&["hold", "list"]).ended(0).says("no hold");
}

#[test]
fn a_port_that_a_stranger_has_stops_the_first_run_before_anything_moves() {
    let farm = Farm::new(Plan::default());
    let stranger = TcpListener::bind(("127.0.0.1", farm.port("alice"))).unwrap();
    let us = format!("(process {})", std::process::id());
    farm.lastgood(&["doctor", "--offline"]).ended(1).says("instance-port-in-use").says(&us);
    farm.lastgood(&["plan"]).ended(9).says(&us);
    let run =
        farm.lastgood(&["run"]).ended(1).says("instance-port-in-use").says(&us).says("fix: see who it is: ss -ltnp");
    assert!(!run.out.contains("snapshot"), "{}", run.out);
    nothing_is_held(&farm);
    for name in farm.names() {
        assert_eq!(farm.pid(name), None, "{name} was started");
    }
    farm.lastgood(&["run", "--dry-run"]).ended(0);
    drop(stranger);
    farm.lastgood(&["run"]).ended(0);
    assert_eq!(farm.version("alice"), "1.0.0");
    let said = farm.lastgood(&["doctor", "--offline"]);
    assert!(!said.out.contains("instance-port-in-use"), "{}", said.out);
}

#[test]
fn an_instance_that_died_unseen_is_found_by_doctor_and_started_by_a_run() {
    let farm = Farm::running(Plan::default());
    farm.write("alice", "before the end");
    farm.kill("alice");
    farm.lastgood(&["doctor", "--offline"]).ended(1).says("notebook/alice is down").says("lastgood run notebook");

    // A stranger came to its port meanwhile: that is not its release's fault either.
    let stranger = TcpListener::bind(("127.0.0.1", farm.port("alice"))).unwrap();
    farm.lastgood(&["run"]).ended(1).says("instance-port-in-use").says("notebook/alice is down");
    nothing_is_held(&farm);
    drop(stranger);

    farm.lastgood(&["run"]).ended(0).says("alice runs again");
    assert!(farm.notes("alice").iter().any(|note| note == "before the end"));
    let said = farm.lastgood(&["doctor", "--offline"]);
    assert!(!said.out.contains("is down"), "{}", said.out);
}

#[test]
fn a_command_that_names_nothing_is_the_configurations_fault_and_a_missing_program_the_releases() {
    let farm = Farm::new(Plan::default());
    let good = farm.config();
    farm.configure(&good.replace("{release}/notebook", "{release}/notebok"));
    farm.lastgood(&["run"]).ended(1).says("instance-program-missing").says("correct `command`");
    nothing_is_held(&farm);
    farm.configure(&good);
    farm.lastgood(&["run"]).ended(0);

    farm.configure(&good.replace("{release}/notebook", "{release}/notebok"));
    farm.publish("1.1.0");
    let said = farm.lastgood(&["run"]);
    assert_ne!(said.code, 0, "{said:?}");
    nothing_is_held(&farm);
    farm.configure(&good);
    farm.lastgood(&["run"]).ended(0);
    assert_eq!(farm.version("alice"), "1.1.0");

    farm.publish("2.0.0");
    fs::remove_file(farm.path("releases/2.0.0/notebook")).unwrap();
    farm.lastgood(&["run"]).ended(9).says("start-refused");
    farm.lastgood(&["log"]).ended(0).says("is rejected");
}

#[test]
fn what_init_left_to_be_filled_in_is_refused_by_file_and_line() {
    let farm = Farm::new(Plan::default());
    let good = farm.config();
    let refused = |text: &str, line: &str| -> Said {
        let place = text.lines().position(|one| one.contains(line)).unwrap() + 1;
        farm.configure(text);
        farm.lastgood(&["run"]).ended(2);
        farm.lastgood(&["config", "check"]).ended(2).says(&format!("lastgood.toml:{place}: "))
    };
    refused(&good.replace("{release}/notebook", "{release}/bin/CHANGE"), "CHANGE").says("{release}/bin/server");
    refused(&good.replace("read the notes", "CHANGE: what users do first"), "CHANGE").says("what users do first");
    refused(&good.replace("\"state\"", "\"data/alice/state\""), "state_dir").says("alice");
    refused(&good.replace("\"data/bob\"", "\"state/bob\""), "state/bob").says("state_dir");
    refused(&good.replace("\"data/bob\"", "\"data/../data/alice/bob\""), "alice/bob").says("alice");
    farm.configure(&good.replace(&format!("port = {}", farm.port("bob")), "port = 0"));
    farm.lastgood(&["config", "check"]).ended(2).says("bob").says("port = 7101");

    farm.configure(&good.replace("\"state\"", "\"releases/1.0.0/VERSION\""));
    for arguments in [&["doctor", "--offline"][..], &["run"]] {
        farm.lastgood(arguments).ended(1).says("state-dir-unusable").says("is a file");
    }
}

#[test]
fn init_wants_a_name_and_proposes_ports_that_no_connection_draws() {
    let folder = tempfile::tempdir().unwrap();
    let init = |arguments: &[&str]| said(Command::new(program()).args(arguments).current_dir(folder.path()));
    init(&["init", "npm:"]).ended(2).says("has no name after the colon");
    assert!(!folder.path().join("lastgood.toml").exists());
    init(&["init", "dir:releases", "--instance", "alice", "--instance", "bob"]).ended(0);
    let text = fs::read_to_string(folder.path().join("lastgood.toml")).unwrap();
    let ports: Vec<u16> =
        text.lines().filter_map(|line| line.strip_prefix("port = ")).map(|port| port.parse().unwrap()).collect();
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let drawn_from: u16 = range.split_whitespace().next().unwrap().parse().unwrap();
    assert!(ports.len() == 2 && ports[0] != ports[1], "{ports:?}");
    assert!(ports.iter().all(|port| *port > 7_100 && *port < drawn_from), "{ports:?}, drawn from {drawn_from}");
    init(&["config", "check"]).ended(2).says("CHANGE");

    let again = init(&["init", "dir:releases"]).ended(1);
    again.says("lastgood.toml exists already [config-exists]");
    init(&["--config", "nowhere/lastgood.toml", "init", "dir:releases"]).ended(1).says("[config-unwritable]");
}

#[test]
fn doctor_lists_every_placeholder_and_goes_on_with_its_other_checks() {
    let folder = tempfile::tempdir().unwrap();
    let program = |arguments: &[&str]| said(Command::new(program()).args(arguments).current_dir(folder.path()));
    program(&["init", "dir:releases", "--instance", "alice"]).ended(0).says("lastgood doctor");
    let said = program(&["doctor", "--offline"]).ended(1);
    assert_eq!(said.out.matches("the placeholder CHANGE has not been filled in [config-unfit]").count(), 2, "{said:?}");
    assert!(said.out.starts_with("config: error: "), "{said:?}");
    said.says("releases: error: alice has no data folder").says("  more  lastgood explain data-missing");
    let only = program(&["doctor", "--offline", "--skip", "config"]).ended(1);
    assert!(!only.out.contains("CHANGE"), "{only:?}");
    program(&["status"]).ended(2).says("CHANGE");
}

#[test]
fn an_error_code_is_explained_without_a_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let explain = |what: &str| said(Command::new(program()).args(["explain", what]).current_dir(folder.path()));
    let page = explain("busy-none").ended(0);
    assert!(page.out.starts_with("# busy-none\n"), "{page:?}");
    explain("[busy-none]").ended(0).says("# busy-none");
    explain("no-such-code").ended(1).says("[event-unknown]").says("no-instances");
    explain("12").ended(2).says("[config-unreadable]");
}

#[test]
fn init_proposes_what_is_there_already_and_says_where_it_saw_it() {
    let farm = Farm::running(Plan::default());
    let init = ["--config", "proposed.toml", "init", "dir:releases", "--name", "notebook"];
    let all = [&init[..], &["--instance", "alice", "--instance", "dave"]].concat();
    let said = said(Command::new(program()).args(all).current_dir(farm.path("")))
        .ended(0)
        .says("command  notebook: the only program");
    let text = fs::read_to_string(farm.path("proposed.toml")).unwrap();
    for line in [
        "command = [\"{release}/notebook\"]",
        "data = \"data/alice\"     # has notebook.sqlite",
        "data = \"data/dave\"     # CHANGE: its data folder; SQLite files are in data/alice, data/bob, data/carol",
    ] {
        assert!(text.lines().any(|one| one == line), "{line}: {text}");
    }
    let listens = format!("process {} listens on {}", farm.pid("bob").unwrap(), farm.port("bob"));
    assert!(text.contains(&format!("# {listens}")) && said.out.contains(&listens), "{text}");
    // The rest of a command line may hold secrets.
    assert!(!text.contains("release.json"), "{text}");
}

#[test]
fn init_leaves_open_what_it_does_not_know_and_says_what_there_is_to_choose_from() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir_all(path("releases/1.0.0")).unwrap();
    fs::create_dir_all(path("store/db")).unwrap();
    for name in ["server", "tool"] {
        let program = path("releases/1.0.0").join(name);
        fs::write(&program, "#!/bin/sh\n").unwrap();
        fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
    }
    rusqlite::Connection::open(path("store/db/app.db")).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
    std::os::unix::fs::chown(path("store/db/app.db"), Some(65_534), Some(65_534)).unwrap();
    said(Command::new(program()).args(["init", "dir:releases"]).current_dir(folder.path())).ended(0);
    let text = fs::read_to_string(path("lastgood.toml")).unwrap();
    assert!(text.contains("# One of server, tool: what can be executed in "), "{text}");
    assert!(text.contains("command = [\"{release}/CHANGE\"]"), "{text}");
    assert!(text.contains("data = \"store/db\"     # has app.db"), "{text}");
    assert!(text.contains("# nobody owns store/db.\nuser = \"nobody\""), "{text}");
    let command = Command::new(program()).args(["config", "check"]).current_dir(folder.path()).output().unwrap();
    assert!(String::from_utf8_lossy(&command.stderr).contains("CHANGE"), "{command:?}");
}
