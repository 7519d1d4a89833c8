//! What is not as it was left: an installation, a data folder, who has it open. It is seen before anything is stopped.

use crate::kit::{Farm, Plan, request, until};
use lastgood_notebook::DATA_FILE;
use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

fn one() -> Plan {
    Plan { instances: vec![("alice", "probe")], ..Plan::default() }
}

fn two() -> Plan {
    Plan { instances: vec![("alice", "probe"), ("bob", "probe")], ..Plan::default() }
}

/// A farm on `release`, which came after 1.0.0.
fn moved(plan: Plan, release: &str) -> Farm {
    let farm = Farm::running(plan);
    farm.publish(release);
    farm.lastgood(&["run"]).ended(0);
    assert_eq!(farm.version("alice"), release);
    farm
}

fn tree(farm: &Farm, release: &str) -> PathBuf {
    let all = fs::read_dir(farm.path("state/services/notebook/installations")).unwrap();
    let start = format!("{release}-");
    let mut found = all.map(|entry| entry.unwrap().path());
    let is_it = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with(&start);
    found.find(is_it).expect("the release is installed").join("tree")
}

#[test]
fn a_rollback_to_a_damaged_installation_is_refused_while_all_runs_and_goes_once_it_was_moved_away() {
    let farm = moved(one(), "1.1.0");
    farm.write("alice", "precious");
    let pid = farm.pid("alice");
    fs::create_dir(tree(&farm, "1.0.0").join("__pycache__")).unwrap();
    farm.lastgood(&["doctor", "--offline"]).says("[installation-damaged]").says("__pycache__");
    farm.lastgood(&["plan"]).says("note ").says("__pycache__");
    for arguments in [["rollback", "--dry-run"], ["rollback", "--yes"]] {
        let said = farm.lastgood(&arguments);
        assert_ne!(said.code, 0, "{said:?}");
        let said = said.says("[installation-damaged]").says("nothing was stopped");
        assert_eq!(farm.pid("alice"), pid, "{said:?}");
    }
    assert_eq!(farm.version("alice"), "1.1.0");
    // As the hint says.
    let damaged = tree(&farm, "1.0.0").parent().unwrap().to_path_buf();
    fs::create_dir(farm.path("state/services/notebook/damaged")).unwrap();
    fs::rename(&damaged, farm.path("state/services/notebook/damaged/it")).unwrap();
    farm.lastgood(&["rollback", "--dry-run"]).ended(0);
    assert!(!damaged.exists(), "a dry run has installed something");
    farm.lastgood(&["rollback", "--yes"]).ended(0);
    assert_eq!(farm.version("alice"), "1.0.0");
    assert!(farm.notes("alice").iter().any(|note| note == "precious"));
}

#[test]
fn a_way_back_of_its_own_to_a_damaged_installation_drops_nobodys_writes_and_leaves_nobody_down() {
    let farm = moved(one(), "1.1.0");
    farm.write("alice", "precious");
    fs::remove_file(tree(&farm, "1.0.0").join("notebook")).unwrap();
    let daemon = farm.serve();
    let answers = || request(farm.port("alice"), "GET", "/health", "", "").is_ok_and(|(status, _)| status == 200);
    // Three deaths of a young release go back by themselves.
    for _ in 0..3 {
        until("alice", answers);
        farm.kill("alice");
    }
    until("a way back that failed", || farm.log().contains("\"return-failed\""));
    until("alice", answers);
    daemon.stop();
    let log = farm.log();
    assert!(log.contains("installation-damaged"), "{log}");
    assert!(!log.contains("\"return-with-data\"") && !log.contains("\"restore\""), "{log}");
    assert_eq!(farm.version("alice"), "1.1.0");
    assert!(farm.notes("alice").iter().any(|note| note == "precious"));
    farm.lastgood(&["why"]).says("lastgood rollback notebook --to 1.0.0 --instance alice");
}

#[test]
fn installations_are_found_where_the_state_folder_was_moved_to() {
    let farm = moved(one(), "1.1.0");
    farm.kill("alice");
    fs::create_dir(farm.path("big")).unwrap();
    for entry in fs::read_dir(farm.path("")).unwrap().map(|entry| entry.unwrap()) {
        if entry.file_name().to_string_lossy().starts_with("state") {
            fs::rename(entry.path(), farm.path("big").join(entry.file_name())).unwrap();
        }
    }
    farm.configure(&farm.config().replace("state_dir = \"state\"", "state_dir = \"big/state\""));
    farm.lastgood(&["run"]).ended(0);
    assert_eq!(farm.version("alice"), "1.1.0");
    farm.lastgood(&["rollback", "--yes"]).ended(0);
    assert_eq!(farm.version("alice"), "1.0.0");
}

#[test]
fn what_died_is_not_started_again_on_an_empty_folder_where_it_had_data() {
    let farm = moved(one(), "1.1.0");
    farm.kill("alice");
    fs::rename(farm.data("alice"), farm.path("data/disk")).unwrap();
    fs::create_dir(farm.data("alice")).unwrap();
    farm.lastgood(&["run"]).says("data-empty");
    assert_eq!(farm.pid("alice"), None);
    assert_eq!(fs::read_dir(farm.data("alice")).unwrap().count(), 0, "it began anew");
    fs::remove_dir(farm.data("alice")).unwrap();
    fs::rename(farm.path("data/disk"), farm.data("alice")).unwrap();
    farm.lastgood(&["run"]).ended(0);
    assert_eq!((farm.version("alice"), farm.notes("alice").len()), ("1.1.0".into(), 5));
}

#[test]
fn a_snapshot_goes_back_into_no_other_folder_than_its_own_while_that_is_there() {
    let farm = moved(two(), "2.0.0");
    let (before, dumps) = (farm.pids(), ["alice", "bob"].map(|name| farm.dump(name)));
    let swapped = farm.config().replace("\"data/alice\"", "\"data/-\"");
    let swapped = swapped.replace("\"data/bob\"", "\"data/alice\"").replace("\"data/-\"", "\"data/bob\"");
    farm.configure(&swapped);
    farm.lastgood(&["doctor", "--offline"]).says("[restore-other-folder]");
    farm.lastgood(&["plan"]).says("which is still there");
    let said = farm.lastgood(&["rollback", "--yes"]);
    assert_ne!(said.code, 0, "{said:?}");
    assert!(farm.log().contains("restore-other-folder"), "{said:?}");
    assert_eq!(farm.pids(), before);
    assert_eq!(["alice", "bob"].map(|name| farm.dump(name)), dumps);
    farm.configure(&farm.config());
    farm.lastgood(&["rollback", "--yes"]).ended(0);
    assert_eq!(farm.version("alice"), "1.0.0");
}

/// Somebody who has a file open; ends with the test.
struct Stranger(Child);

impl Stranger {
    fn with(file: fs::File) -> Self {
        Self(Command::new("sleep").arg("120").stdin(Stdio::from(file)).spawn().unwrap())
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[test]
fn nothing_is_adopted_while_somebody_else_writes_its_data_and_who_lives_beside_it_stays_beside_it() {
    let farm = Farm::new(one());
    let (before, data) = (farm.dump("alice"), farm.data("alice").join(DATA_FILE));
    let writing = || Stranger::with(fs::File::options().append(true).open(&data).unwrap());
    let writer = writing();
    farm.lastgood(&["doctor", "--offline"]).says("[data-open-elsewhere]");
    let said = farm.lastgood(&["run"]).says("data-open-elsewhere").says("sleep");
    assert_ne!(said.code, 0, "{said:?}");
    assert_eq!((farm.pid("alice"), farm.dump("alice")), (None, before));
    farm.lastgood(&["doctor", "--offline"]).says("[data-open-elsewhere]");
    drop(writer);
    // Who only reads is no hindrance.
    let reader = Stranger::with(fs::File::open(&data).unwrap());
    farm.lastgood(&["run"]).ended(0);
    assert_eq!(farm.version("alice"), "1.0.0");
    drop(reader);
    // What ships the database elsewhere has it open to write for as long as the instance runs.
    let _beside = writing();
    farm.publish("2.0.0");
    farm.lastgood(&["run"]).ended(0);
    assert_eq!(farm.version("alice"), "2.0.0");
}

#[test]
fn an_instance_under_another_name_is_not_started_on_the_data_that_the_old_one_has_open() {
    let farm = Farm::running(one());
    farm.publish("2.0.0");
    let pid = farm.pid("alice").unwrap();
    let ports = [farm.port("alice"), farm.port("nobody")].map(|port| format!("port = {port}"));
    farm.configure(&farm.config().replace("name = \"alice\"", "name = \"uno\"").replace(&ports[0], &ports[1]));
    let said = farm.lastgood(&["run"]).says("data-open-elsewhere").says("notebook/alice");
    assert_ne!(said.code, 0, "{said:?}");
    assert_eq!(farm.pid("alice"), Some(pid));
    assert_eq!(farm.version("alice"), "1.0.0");
}
