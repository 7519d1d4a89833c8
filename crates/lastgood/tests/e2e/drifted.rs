//! What runs otherwise than declared is started again by an incident's plan, whoever drives the service.

use crate::kit::{Farm, Plan, until};
use serde_json::Value;
use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

/// A farm whose program is a script that stays, so that its arguments can be seen.
fn farm() -> Farm {
    let farm = Farm::new(Plan { instances: vec![("alice", "probe")], ..Plan::default() });
    fs::write(farm.path("start.sh"), "\"$2\"\nexit 1\n").unwrap();
    farm.configure(&declared(&farm, "blue", "quiet"));
    farm.lastgood(&["run"]).ended(0);
    farm
}

/// The configuration with this argument and this variable.
fn declared(farm: &Farm, paint: &str, mode: &str) -> String {
    let command = format!("command = [\"/bin/sh\", \"{}\", \"--paint={paint}\", ", farm.path("start.sh").display());
    farm.config().replace("command = [", &command).replace("env = { ", &format!("env = {{ MODE = \"{mode}\", "))
}

/// Declares something else than what runs, without a start.
fn drift(farm: &Farm, paint: &str, mode: &str) {
    farm.configure(&declared(farm, paint, mode));
    farm.lastgood(&["config", "accept", "notebook", "--reason", "as it should be"]).ended(0);
}

fn plan(farm: &Farm) {
    farm.lastgood(&["incident", "declare", "--level", "L1", "--trigger", "it is odd"]).ended(0).says("i0");
    farm.lastgood(&["incident", "plan", "i0"]).ended(0);
}

/// What really runs: argument and variable.
#[track_caller]
fn runs_with(farm: &Farm, paint: &str, mode: &str) {
    let pid = farm.pid("alice").unwrap();
    let environment = fs::read_to_string(format!("/proc/{pid}/environ")).unwrap();
    assert!(environment.split('\0').any(|one| one == format!("MODE={mode}")), "{environment}");
    let found = Command::new("pgrep").args(["-af", &farm.path("start.sh").display().to_string()]).output().unwrap();
    let lines = String::from_utf8(found.stdout).unwrap();
    assert!(lines.contains(&format!("--paint={paint}")) && lines.matches("--paint").count() == 1, "{lines}");
}

#[test]
fn a_program_with_another_environment_or_other_arguments_is_started_again_as_declared() {
    let farm = farm();
    farm.lastgood(&["incident", "declare", "--level", "L1", "--trigger", "it is odd"]).ended(0).says("i0");
    for (paint, mode, what) in
        [("blue", "loud", "MODE"), ("green", "loud", "arguments"), ("red", "low", "MODE, arguments")]
    {
        drift(&farm, paint, mode);
        farm.lastgood(&["incident", "plan", "i0"]).ended(0);
        farm.lastgood(&["incident", "run", "i0"])
            .ended(0)
            .says(&format!("alice ran with another {what} than declared, and was started again"))
            .says("environment and arguments of 0 instances as declared");
        runs_with(&farm, paint, mode);
    }
    // What is as declared is left alone.
    let pid = farm.pid("alice");
    farm.lastgood(&["incident", "plan", "i0"]).ended(0);
    farm.lastgood(&["incident", "run", "i0"]).ended(0).says("environment and arguments of 1 instance as declared");
    assert_eq!(farm.pid("alice"), pid);
    farm.lastgood(&["evidence", "verify"]).ended(0);
}

#[test]
fn where_a_daemon_drives_it_starts_again_what_the_plan_stops() {
    let farm = farm();
    let daemon = farm.serve();
    drift(&farm, "green", "loud");
    plan(&farm);
    farm.lastgood(&["incident", "run", "i0"])
        .ended(0)
        .says("alice ran with another MODE, arguments than declared, and was started again");
    runs_with(&farm, "green", "loud");
    assert!(farm.log().contains("\"revived\""));
    assert!(farm.status()["driver"].is_object());
    daemon.stop();
}

#[test]
fn an_instance_in_use_is_started_again_only_if_that_is_accepted_by_its_name() {
    let farm = farm();
    drift(&farm, "blue", "loud");
    farm.post("alice", "/session/open", "", &Value::Null);
    plan(&farm);
    let pid = farm.pid("alice");
    farm.lastgood(&["incident", "run", "i0"])
        .ended(1)
        .says("and is in use")
        .says("--accept-risk notebook/busy-instance:alice");
    assert_eq!(farm.pid("alice"), pid);
    farm.lastgood(&["incident", "plan", "i0", "--accept-risk", "notebook/busy-instance:alice"]).ended(0);
    farm.lastgood(&["incident", "run", "i0"]).ended(0).says("was started again");
    runs_with(&farm, "blue", "loud");
}

#[test]
fn a_start_that_was_cut_off_in_its_middle_is_done_to_its_end() {
    let farm = farm();
    // Long enough to be killed between its stop and its end.
    fs::write(farm.path("start.sh"), "sleep 2\n\"$2\"\nexit 1\n").unwrap();
    drift(&farm, "green", "loud");
    plan(&farm);
    let pid = farm.pid("alice").unwrap();
    let command = farm.command(&["incident", "run", "i0"]);
    // Not through `timeout`: exactly this process is killed.
    let arguments: Vec<_> = command.get_args().skip(3).map(ToOwned::to_owned).collect();
    let mut direct = Command::new(&arguments[0]);
    direct.args(&arguments[1..]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut running = direct.spawn().unwrap();
    until("its stop", || !Path::new(&format!("/proc/{pid}")).exists());
    running.kill().unwrap();
    running.wait().unwrap();
    farm.lastgood(&["incident", "run", "i0"]).ended(0).says("alice ").says("and was started again");
    runs_with(&farm, "green", "loud");
    farm.lastgood(&["evidence", "verify"]).ended(0);
}
