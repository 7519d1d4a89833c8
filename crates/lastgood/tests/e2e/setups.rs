//! A way back starts last-good with what it last ran well with, not with what was edited since.

use crate::kit::{Farm, Plan, until};
use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

/// What 1.0.0 takes, and what 1.1.0 takes.
const OLD: &str = "--colour=blue";
const NEW: &str = "--paint=green";

/// A farm whose releases write down their arguments and end at a flag of another release.
struct Flags(Farm);

impl std::ops::Deref for Flags {
    type Target = Farm;

    fn deref(&self) -> &Farm {
        &self.0
    }
}

impl Flags {
    /// Makes one that runs 1.0.0 with its own flag.
    fn running(plan: Plan) -> Self {
        let farm = Self(Farm::new(plan));
        fs::create_dir(farm.path("seen")).unwrap();
        farm.takes("1.0.0", OLD, "");
        farm.edit("command = [\"{release}/notebook\"]", &format!("command = [\"{{release}}/start\", \"{OLD}\"]"));
        farm.lastgood(&["run"]).ended(0);
        farm
    }

    /// Lets a release take one flag only; `more` is shell.
    fn takes(&self, version: &str, flag: &str, more: &str) {
        let start = self.path("releases").join(version).join("start");
        let seen = self.path("seen").display().to_string();
        let text = format!(
            "#!/bin/sh\n[ \"$1\" = '{flag}' ] || {{ echo \"unknown flag $1\" >&2; exit 64; }}\n\
             echo \"{version} $* $NOTEBOOK_COLOUR\" >> {seen}/$NOTEBOOK_PORT\n{more}\nexec \"${{0%/start}}/notebook\"\n"
        );
        fs::write(&start, text).unwrap();
        fs::set_permissions(&start, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Replaces one thing in lastgood.toml.
    fn edit(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.path("lastgood.toml")).unwrap();
        assert!(text.contains(from), "no {from} in {text}");
        self.configure(&text.replace(from, to));
    }

    /// What was started on the port of an instance, oldest first; rehearsals have ports of their own.
    fn seen(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.path("seen").join(self.port(name).to_string())).unwrap_or_default();
        text.lines().map(|line| line.trim().to_owned()).collect()
    }

    /// The files in which setups are kept.
    fn kept(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(self.path("state/services/notebook/setups")).unwrap();
        files.map(|entry| entry.unwrap().path()).collect()
    }
}

fn one() -> Plan {
    Plan { instances: vec![("alice", "probe")], ..Plan::default() }
}

/// Shell that ends where an instance really runs, and goes on in a rehearsal.
fn dies_on(port: u16) -> String {
    format!("[ \"$NOTEBOOK_PORT\" = {port} ] && exit 3")
}

#[test]
fn after_a_failed_canary_last_good_starts_with_its_own_arguments() {
    let farm = Flags::running(one());
    farm.publish("1.1.0");
    farm.takes("1.1.0", NEW, &dies_on(farm.port("alice")));
    farm.edit(OLD, NEW);
    farm.edit("env = { ", "env = { NOTEBOOK_COLOUR = \"green\", ");
    // What is kept, and what of it a person has changed since, is said before.
    farm.lastgood(&["plan"]).ended(0).says("alice starts as 1.0.0 with the setup of its last good run");
    farm.lastgood(&["status"]).ended(0).says("lastgood.toml differs in command, env.NOTEBOOK_COLOUR");
    farm.lastgood(&["run"]).ended(5);
    assert_eq!(farm.version("alice"), "1.0.0");
    assert_eq!(farm.seen("alice"), [format!("1.0.0 {OLD}"), format!("1.1.0 {NEW} green"), format!("1.0.0 {OLD}")]);
    farm.lastgood(&["evidence", "verify"]).ended(0);
}

#[test]
fn an_edit_is_proven_by_the_next_release_and_taken_with_it() {
    let farm = Flags::running(one());
    farm.publish("1.1.0");
    farm.takes("1.1.0", NEW, "");
    farm.edit(OLD, NEW);
    farm.lastgood(&["run"]).ended(0);
    assert_eq!(farm.seen("alice"), [format!("1.0.0 {OLD}"), format!("1.1.0 {NEW}")]);
    // What was edited is what it runs with.
    assert!(!farm.lastgood(&["status"]).ended(0).out.contains("last good run"));
    farm.lastgood(&["rollback", "--dry-run"]).ended(0).says("with the setup of its last good run").says("command");
    farm.lastgood(&["rollback", "--yes"]).ended(0);
    assert_eq!(farm.version("alice"), "1.0.0");
    assert_eq!(farm.seen("alice").last(), Some(&format!("1.0.0 {OLD}")));
}

#[test]
fn what_died_is_started_as_it_ran_until_somebody_accepts_an_edit() {
    let farm = Flags::running(one());
    let daemon = farm.serve();
    // No release takes this; whoever meant 1.1.0 must not find 1.0.0 dead in the morning.
    farm.edit(OLD, NEW);
    daemon.stop();
    let daemon = farm.serve();
    farm.kill("alice");
    until("alice", || farm.seen("alice").len() == 2 && farm.pid("alice").is_some());
    assert_eq!(farm.seen("alice")[1], format!("1.0.0 {OLD}"));
    farm.edit(NEW, OLD);
    farm.edit("env = { ", "env = { NOTEBOOK_COLOUR = \"green\", ");
    daemon.stop();
    farm.lastgood(&["plan"]).ended(0).says("lastgood config accept notebook");
    farm.lastgood(&["config", "accept", "notebook", "--reason", "green at last"]).ended(0).says("env.NOTEBOOK_COLOUR");
    farm.lastgood(&["config", "accept", "notebook", "--reason", "once more"]).ended(0).says("already");
    farm.kill("alice");
    farm.lastgood(&["run"]).ended(0);
    assert_eq!(farm.seen("alice")[2], format!("1.0.0 {OLD} green"));
}

#[test]
fn a_port_that_was_edited_is_taken_by_the_candidate_only() {
    let farm = Flags::running(one());
    let (old, new) = (farm.port("alice"), farm.port("nobody"));
    farm.publish("1.1.0");
    farm.takes("1.1.0", OLD, &dies_on(new));
    farm.edit(&format!("port = {old}"), &format!("port = {new}"));
    // What runs is asked where it listens.
    farm.lastgood(&["run"]).ended(5).says("1.1.0");
    assert_eq!(farm.version("alice"), "1.0.0");
    assert_eq!(farm.seen("nobody"), [format!("1.1.0 {OLD}")]);
}

#[test]
fn without_what_was_kept_nothing_moves_forward_and_a_way_back_goes_on() {
    let farm = Flags::running(one());
    farm.publish("1.1.0");
    farm.takes("1.1.0", OLD, "");
    farm.edit("env = { ", "env = { NOTEBOOK_COLOUR = \"green\", ");
    let kept = farm.kept();
    assert_eq!(kept.len(), 1, "{kept:?}");
    let whole = fs::read(&kept[0]).unwrap();
    let mut flipped = whole.clone();
    flipped[20] ^= 1;
    fs::write(&kept[0], &flipped).unwrap();
    farm.lastgood(&["run"]).ended(9).says("is not what was kept").says("setup-damaged");
    fs::write(&kept[0], &whole).unwrap();
    farm.lastgood(&["run"]).ended(0);
    fs::remove_file(&kept[0]).unwrap();
    farm.lastgood(&["rollback", "--dry-run"]).ended(0).says("with lastgood.toml as it is").says("is gone");
    farm.lastgood(&["rollback", "--yes"]).ended(0);
    assert_eq!(farm.version("alice"), "1.0.0");
    assert_eq!(farm.seen("alice").last(), Some(&format!("1.0.0 {OLD} green")));
    assert!(farm.log().contains("setup-missing"), "{}", farm.log());
    // It runs well with what it was started with, and that is kept.
    farm.publish("2.0.0");
    farm.takes("2.0.0", OLD, "");
    farm.lastgood(&["run"]).ended(0);
}
