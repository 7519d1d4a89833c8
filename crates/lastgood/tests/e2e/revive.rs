//! What died is started again, whatever it left behind and whoever else has that in mind; only its own deaths count.

use crate::{
    kit::{Daemon, Farm, Plan, request, until},
    systemd_kit::in_systemd,
};
use std::{fs, process::Command};

/// A master that is killed leaves this worker; its line names the farm's folder, so that it ends with the farm.
const LEAVES_A_WORKER: &str = r#"command = ["/bin/sh", "-c", "sh -c 'while :; do sleep 1; done' {data}/worker & exec \"$0\"", "{release}/notebook"]"#;

/// A farm whose last-good is young, so that three deaths of it would go back, and its daemon.
fn young(plan: Plan, change: impl Fn(String) -> String) -> Farm {
    let farm = Farm::new(plan);
    farm.configure(&change(farm.config()));
    farm.lastgood(&["run"]).ended(0);
    farm.publish("1.1.0");
    farm.lastgood(&["run"]).ended(0);
    assert_eq!(farm.version("alice"), "1.1.0");
    farm
}

fn one() -> Plan {
    Plan { instances: vec![("alice", "probe")], ..Plan::default() }
}

fn answers(farm: &Farm) -> bool {
    request(farm.port("alice"), "GET", "/health", "", "").is_ok_and(|(status, _)| status == 200)
}

fn deaths(farm: &Farm) -> usize {
    farm.log().lines().filter(|line| line.contains("\"died\"")).count()
}

/// It runs what it ran, and the log says one thing: that it died once and runs again.
#[track_caller]
fn is_back_after_one_death(farm: &Farm, daemon: Daemon) {
    until("alice", || answers(farm));
    until("her revival in the log", || farm.log().contains("\"revived\""));
    daemon.stop();
    assert_eq!(farm.version("alice"), "1.1.0");
    assert_eq!(farm.status()["last_good"], "1.1.0");
    assert_eq!(deaths(farm), 1, "{}", farm.log());
}

#[test]
fn what_a_killed_master_left_is_ended_and_it_starts_again() {
    let farm = young(one(), |text| text.replace("command = [\"{release}/notebook\"]", LEAVES_A_WORKER));
    let workers = || {
        let line = format!("{}/worker", farm.data("alice").display());
        let found = Command::new("pgrep").args(["-f", &line]).output().unwrap();
        String::from_utf8(found.stdout).unwrap().lines().map(ToOwned::to_owned).collect::<Vec<_>>()
    };
    let old = workers();
    assert_eq!(old.len(), 1, "{old:?}");
    let daemon = farm.serve();
    farm.kill("alice");
    is_back_after_one_death(&farm, daemon);
    let new = workers();
    assert!(new.len() == 1 && new != old, "{new:?}, before {old:?}");
    // Without a daemon a run does the same.
    farm.kill("alice");
    farm.lastgood(&["run"]).ended(0);
    assert_eq!(farm.version("alice"), "1.1.0");
    assert_eq!(deaths(&farm), 2);
}

#[test]
fn a_start_that_the_machine_hinders_is_no_death_and_is_tried_again_until_it_works() {
    let farm = young(one(), |text| text);
    let daemon = farm.serve();
    // What is not what was installed is not started, and no fault of its program.
    let installed = fs::read_dir(farm.path("state/services/notebook/installations")).unwrap();
    let mut installed = installed.map(|entry| entry.unwrap().path());
    let installed = installed.find(|path| path.file_name().unwrap().to_string_lossy().starts_with("1.1.0")).unwrap();
    fs::rename(&installed, farm.path("moved")).unwrap();
    farm.kill("alice");
    // More often than a release on watch may die.
    until("four tries", || farm.log().matches("\"not-revived\"").count() >= 4);
    farm.lastgood(&["why"]).says("alice can't be started again after");
    farm.lastgood(&["log"]).says("alice can't be started again: ");
    fs::rename(farm.path("moved"), &installed).unwrap();
    is_back_after_one_death(&farm, daemon);
}

#[test]
fn one_crash_of_a_unit_that_systemd_would_restart_later_is_one_death() {
    in_systemd("revive::one_crash_of_a_unit_that_systemd_would_restart_later_is_one_death", || {
        let unit = "[Unit]\nDescription=notebook\n[Service]\nExecStart=/bin/false\nRestart=on-failure\nRestartSec=5\n";
        fs::write("/etc/systemd/system/notebook@.service", unit).unwrap();
        assert!(Command::new("systemctl").arg("daemon-reload").status().unwrap().success());
        let service = "runtime = { systemd = { unit = \"notebook@{instance}.service\" } }".to_owned();
        let farm = young(Plan { service, ..one() }, |text| text);
        let daemon = farm.serve();
        farm.kill("alice");
        is_back_after_one_death(&farm, daemon);
        assert!(Command::new("systemctl").args(["stop", "notebook@alice.service"]).status().unwrap().success());
    });
}
