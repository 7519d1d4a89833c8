//! Ways back and passes that something they don't need stands in the way of: a lock, a driver that hangs, an anchor
//! on a disk that is gone, a secret of something else.

use crate::{
    kit::{Farm, PATIENCE, Plan, request, until},
    sink::Sink,
};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs::{self, File},
    path::Path,
    process::{Child, Command as Process, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// Longer than a look at who drives, shorter than anybody's patience.
const SLOW: Duration = Duration::from_secs(4);

fn one() -> Plan {
    Plan { instances: vec![("alice", "probe")], ..Plan::default() }
}

/// A farm that has moved to 2.0.0, from which the way back needs the data too.
fn moved(plan: Plan, before: &str) -> Farm {
    let farm = Farm::new(plan);
    farm.configure(&format!("{before}{}", farm.config()));
    crate::kit::secret_file(&farm.path("hook"), crate::daemon::SIGNING);
    farm.lastgood(&["run"]).ended(0);
    farm.publish("2.0.0");
    farm
}

fn hook(port: u16, kinds: &str) -> String {
    format!(
        "\n[secret.hook]\nfile = \"hook\"\n[notice.ops]\nwebhook = \"http://127.0.0.1:{port}/hook\"\n\
         secret = \"hook\"\nallow_private = true\nkinds = [{kinds}]\n"
    )
}

/// Types a rollback whose words go to a file.
fn typed(farm: &Farm) -> Child {
    let words = File::create(farm.path("words")).unwrap();
    let mut command = farm.command(&["rollback", "--yes"]);
    command.stdout(words.try_clone().unwrap()).stderr(words).stdin(Stdio::null()).spawn().unwrap()
}

#[track_caller]
fn is_back(farm: &Farm) {
    assert_eq!(farm.version("alice"), "1.0.0");
    assert_eq!(farm.notes("alice").len(), 5);
    assert_eq!(farm.status()["last_good"], "1.0.0");
}

#[test]
fn a_rollback_typed_while_an_ended_run_still_delivers_is_carried_out_by_who_typed_it() {
    let asked = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&asked);
    let sink = Sink::new(move |_| {
        seen.store(true, Ordering::SeqCst);
        thread::sleep(SLOW);
        ("204 No Content", String::new())
    });
    let farm = moved(Plan { tail: hook(sink.port, "\"promoted\""), ..one() }, "");
    asked.store(false, Ordering::SeqCst);
    let mut run = farm.command(&["run"]).spawn().unwrap();
    until("the webhook", || asked.load(Ordering::SeqCst));
    farm.lastgood(&["rollback", "--yes"]).ended(0);
    is_back(&farm);
    assert_eq!(run.wait().unwrap().code(), Some(0));
}

#[test]
fn a_rollback_beside_a_driver_that_hangs_says_who_it_is_and_goes_on_once_that_has_ended() {
    let farm = moved(one(), "");
    farm.lastgood(&["run"]).ended(0);
    let daemon = farm.serve();
    let pid = daemon.pid();
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::STOP).unwrap();
    let mut rollback = typed(&farm);
    let said = || fs::read_to_string(farm.path("words")).unwrap();
    until("who does not react", || said().contains(&format!("process {pid} (lastgood serve)")));
    assert_eq!(rollback.try_wait().unwrap(), None, "{}", said());
    daemon.kill();
    assert_eq!(rollback.wait().unwrap().code(), Some(0), "{}", said());
    is_back(&farm);
}

#[test]
fn a_rollback_needs_no_anchor_and_says_that_it_went_unchecked() {
    let farm = Farm::new(one());
    fs::create_dir(farm.path("elsewhere")).unwrap();
    farm.configure(&format!("anchor = \"elsewhere/checkpoints\"\n{}", farm.config()));
    farm.lastgood(&["run"]).ended(0);
    farm.publish("2.0.0");
    farm.lastgood(&["run"]).ended(0);
    // The disk is not mounted.
    fs::rename(farm.path("elsewhere"), farm.path("unmounted")).unwrap();
    farm.lastgood(&["rollback", "--yes"]).ended(0).says("elsewhere/checkpoints");
    is_back(&farm);
    assert!(farm.log().contains("\"went-on-without\""), "{}", farm.log());
    farm.lastgood(&["log"]).ended(0).says("elsewhere/checkpoints");
    // Forward nothing moves unchecked.
    farm.lastgood(&["waive", "notebook", "2.0.0", "--reason", "once more"]);
    farm.lastgood(&["run"]).ended(1).says("anchor-missing");
    is_back(&farm);
    fs::rename(farm.path("unmounted"), farm.path("elsewhere")).unwrap();
    farm.lastgood(&["evidence", "checkpoint"]).ended(0);
    farm.lastgood(&["evidence", "verify"]).ended(0);
}

#[test]
fn a_log_that_was_put_back_still_stops_a_rollback() {
    let farm = moved(one(), "");
    let keep = |from: &str, to: &str| {
        let files = fs::read_dir(farm.path(from)).unwrap().map(|entry| entry.unwrap().file_name());
        for name in files.filter(|name| name.to_string_lossy().starts_with("evidence.db")) {
            fs::create_dir_all(farm.path(to)).unwrap();
            fs::copy(farm.path(from).join(&name), farm.path(to).join(&name)).unwrap();
        }
    };
    keep("state", "backup");
    farm.lastgood(&["run"]).ended(0);
    for name in fs::read_dir(farm.path("state")).unwrap().map(|entry| entry.unwrap()) {
        if name.file_name().to_string_lossy().starts_with("evidence.db") {
            fs::remove_file(name.path()).unwrap();
        }
    }
    keep("backup", "state");
    let said = farm.lastgood(&["rollback", "--yes"]);
    assert_ne!(said.code, 0, "{said:?}");
    assert_eq!(farm.version("alice"), "2.0.0");
}

#[test]
fn a_rollback_needs_no_secret_of_something_else() {
    let farm = moved(Plan { tail: hook(9, "\"died\""), ..one() }, "");
    farm.lastgood(&["run"]).ended(0);
    fs::remove_file(farm.path("hook")).unwrap();
    farm.lastgood(&["rollback", "--yes"]).ended(0).says("the secret hook can't be read");
    is_back(&farm);
    assert!(farm.log().contains("\"went-on-without\""), "{}", farm.log());
    farm.lastgood(&["run"]).ended(1).says("secret-unreadable");
}

#[test]
fn a_rollback_beside_a_daemon_that_cannot_begin_is_carried_out_by_who_typed_it() {
    let farm = moved(Plan { tail: hook(9, "\"died\""), ..one() }, "");
    farm.lastgood(&["run"]).ended(0);
    fs::remove_file(farm.path("hook")).unwrap();
    let _daemon = farm.begin_serving();
    let said = || fs::read_to_string(farm.path("serve.log")).unwrap_or_default();
    until("its trouble", || said().contains("the secret hook"));
    farm.lastgood(&["rollback", "--yes"]).ended(0);
    is_back(&farm);
    // Mended, the daemon drives.
    crate::kit::secret_file(&farm.path("hook"), crate::daemon::SIGNING);
    until("the daemon", || farm.status()["driver"].is_object());
}

/// Adds a second service, a notebook of its own on the port of nobody.
fn with_a_zoo(farm: &Farm) {
    let text = farm.config();
    let (_, service) = text.split_once("[service.notebook]").unwrap();
    let zoo = format!("[service.notebook]{service}").replace("service.notebook", "service.zoo");
    let zoo = zoo
        .replace("data/alice", "data/zoo")
        .replace(&format!("port = {}", farm.port("alice")), &format!("port = {}", farm.port("nobody")));
    fs::create_dir(farm.path("data/zoo")).unwrap();
    for file in fs::read_dir(farm.data("alice")).unwrap().map(Result::unwrap) {
        fs::copy(file.path(), farm.path("data/zoo").join(file.file_name())).unwrap();
    }
    farm.configure(&format!("{text}\n{zoo}"));
}

fn zoo_answers(farm: &Farm) -> bool {
    request(farm.port("nobody"), "GET", "/version", "", "").is_ok_and(|(_, answer)| answer["version"] == "1.0.0")
}

/// Holds a service's lock as another process does.
fn hold_lock(farm: &Farm) -> File {
    let lock = File::options().create(true).append(true).open(farm.path("state/driver-notebook.lock")).unwrap();
    lock.lock().unwrap();
    lock
}

#[test]
fn a_pass_over_all_services_goes_on_behind_one_that_somebody_else_drives() {
    let farm = Farm::new(one());
    farm.lastgood(&["status"]);
    farm.lastgood(&["run"]).ended(0);
    with_a_zoo(&farm);
    let lock = hold_lock(&farm);
    farm.lastgood(&["run"]).ended(10).says("driver-lock-held").says("zoo: ");
    assert!(zoo_answers(&farm));
    drop(lock);
    farm.lastgood(&["run"]).ended(0);
}

#[test]
fn a_daemon_drives_the_others_while_somebody_else_has_one_service_and_that_one_afterwards() {
    let farm = Farm::new(one());
    farm.lastgood(&["run"]).ended(0);
    with_a_zoo(&farm);
    let lock = hold_lock(&farm);
    let daemon = farm.begin_serving();
    let drives = |at: usize| farm.json(&["status"])["services"][at]["driver"]["pid"] == daemon.pid();
    until("the zoo's driver", || drives(1));
    assert!(!drives(0));
    drop(lock);
    crate::kit::until_within(PATIENCE, "the notebook's driver", || drives(0));
    farm.lastgood(&["serve"]).ended(10);
    daemon.stop();
}

#[test]
fn what_a_killed_dry_run_left_goes_with_the_next_pass_and_not_before_it_is_dead() {
    let farm = Farm::running(one());
    // Its migration never ends.
    farm.publish("3.0.0");
    let mut dry = Process::new(crate::kit::program());
    dry.arg("--config").arg(farm.path("lastgood.toml")).args(["run", "--dry-run"]);
    let mut dry = dry.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let folders = || {
        let entries = fs::read_dir(farm.path("state")).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.display().to_string().contains("dry-run-")).collect::<Vec<_>>()
    };
    let copy = |folder: &Path| folder.join("services/notebook/scratch/candidate/data");
    until("a copy of the data", || folders().iter().any(|folder| copy(folder).exists()));
    farm.lastgood(&["hold", "set", "--reason", "wait"]).ended(0);
    farm.lastgood(&["run"]).ended(9);
    assert_eq!(folders().len(), 1, "it still lives");
    dry.kill().unwrap();
    dry.wait().unwrap();
    assert_eq!(folders().len(), 1);
    // Nobody's but by its name.
    fs::create_dir(farm.path("state/dry-run-of-mine")).unwrap();
    // What it rehearsed dies with it, which takes a moment.
    until("the copies to be gone", || {
        farm.lastgood(&["run"]).ended(9);
        folders() == [farm.path("state/dry-run-of-mine")]
    });
    // The daemon sweeps as well.
    let killed = farm.path("state/dry-run-killed");
    fs::create_dir(&killed).unwrap();
    fs::write(killed.join("alive"), "lastgood\n").unwrap();
    let daemon = farm.serve();
    until("the daemon's sweep", || !killed.exists());
    daemon.stop();
}
