//! Approvals, people and what needs a second one, at a real command line.

use crate::kit::{Daemon, Farm, Plan, Said, program, reserve, said, until};
use serde_json::Value;
use std::{
    fs,
    net::UdpSocket,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// People of whom one may lift and all may approve.
const PEOPLE: &str = "[person.alice]\nroles = [\"incident-commander\"]\n[person.bob]\n[person.carol]\n\
                      [role.incident-commander]\nmay = [\"lift\"]\n";

/// A state folder and people at its command line.
pub(crate) struct World {
    folder: tempfile::TempDir,
    _reserved: UdpSocket,
}

impl World {
    pub(crate) fn new(tail: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("lastgood-approvals-").tempdir().unwrap();
        let (port, reserved) = reserve();
        let text = format!("state_dir = \"state\"\nlisten = \"127.0.0.1:{port}\"\n{tail}");
        fs::write(folder.path().join("lastgood.toml"), text).unwrap();
        fs::write(folder.path().join("plan"), "drop the old tables\n").unwrap();
        Self { folder, _reserved: reserved }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a command as somebody.
    pub(crate) fn by(&self, who: &str, line: &str) -> Said {
        let mut command = Command::new(program());
        command.args(line.split_whitespace()).current_dir(self.folder.path()).stdin(Stdio::null());
        said(command.env_remove("LASTGOOD_CONFIG").env("SUDO_USER", who))
    }

    #[track_caller]
    pub(crate) fn json(&self, who: &str, line: &str) -> Value {
        let said = self.by(who, &format!("--json {line}")).ended(0);
        serde_json::from_str::<Value>(&said.out).unwrap_or_else(|error| panic!("{error}: {said:?}"))["data"].clone()
    }
}

pub(crate) const ASK: &str = "approval ask tidy --what tidy-up --plan plan";

#[test]
fn one_asks_another_approves_and_a_changed_plan_has_to_be_asked_for_anew() {
    let world = World::new(PEOPLE);
    world.by("alice", ASK).ended(8).says("asked as a0").says("approval approve a0 --plan");
    world.by("alice", ASK).ended(8).says("asked as a0");
    world.by("alice", "approval approve a0").ended(4).says("[approval-own]");
    world.by("mallory", "approval approve a0").ended(4).says("person:bob");
    world.by("bob", "approval approve a0 --plan 000000000000").ended(1).says("[approval-other-plan]");
    assert_eq!(world.json("bob", "approval list")[0]["standing"], "pending");
    let plan = world.json("bob", "approval show a0")["plan"].as_str().unwrap().to_owned();
    world.by("bob", &format!("approval approve a0 --plan {plan}")).ended(0).says("approved");
    world.by("alice", ASK).ended(0);
    fs::write(world.path("plan"), "drop all tables\n").unwrap();
    world.by("alice", ASK).ended(8).says("asked as a1");
    assert_eq!(world.json("bob", "approval show a0")["standing"], "void");
    world.by("bob", "approval reject a1 --reason no").ended(0);
    world.by("alice", ASK).ended(3).says("[approval-rejected]");
    assert_eq!(world.json("bob", "approval list"), serde_json::json!([]));
    assert_eq!(world.json("bob", "approval list --all").as_array().unwrap().len(), 2);
}

#[test]
fn two_of_three_are_two_and_more_than_there_are_is_refused_at_once() {
    let world = World::new(PEOPLE);
    world.by("alice", &format!("{ASK} --needed 3")).ended(1).says("[approval-impossible]");
    world.by("alice", &format!("{ASK} --needed 2")).ended(8).says("2 other people");
    world.by("bob", "approval approve a0").ended(0).says("1 of 2");
    world.by("bob", "approval approve a0").ended(1).says("[approval-said-already]");
    world.by("alice", &format!("{ASK} --needed 2")).ended(8);
    world.by("alice", "approval extend a0 --for 48h").ended(0);
    world.by("alice", "approval extend a0 --for 1h").ended(1).says("[approval-no-extension]");
    world.by("carol", "approval approve a0").ended(0).says("approved");
    world.by("alice", &format!("{ASK} --needed 2")).ended(0);
}

#[test]
fn what_fewer_or_others_were_asked_is_no_answer_to_a_stricter_question() {
    let world = World::new(PEOPLE);
    world.by("alice", &format!("{ASK} --of carol")).ended(8).says("asked as a0");
    world.by("carol", "approval approve a0").ended(0).says("approved");
    world.by("alice", &format!("{ASK} --of carol")).ended(0);
    world.by("alice", &format!("{ASK} --needed 2")).ended(8).says("asked as a1");
    assert_eq!(world.json("bob", "approval show a0")["standing"], "void");
    world.by("carol", "approval approve a1").ended(0).says("1 of 2");
    world.by("alice", &format!("{ASK} --of bob")).ended(8).says("asked as a2");
}

#[test]
fn as_many_of_those_are_asked_for_as_long_as_the_file_says_and_an_incident_is_none_by_two_words() {
    let terms = "[approvals.ask]\nneed = 2\nfrom = [\"bob\", \"carol\"]\nexpires = \"8h\"\n\
                 [approvals.exempt]\nneed = 2\n[approvals.stand_down]\n";
    let world = World::new(&format!("{PEOPLE}[person.dave]\n{terms}"));
    world.by("alice", ASK).ended(8).says("2 other people");
    let asked = world.json("bob", "approval show a0");
    let hours = (asked["expires"].as_i64().unwrap() - asked["asked_at"].as_i64().unwrap()) / 3_600_000;
    assert_eq!(hours, 8, "{asked}");
    world.by("dave", "approval approve a0").ended(4).says("[approval-not-asked]");
    world.by("bob", "approval approve a0").ended(0).says("1 of 2");
    world.by("alice", ASK).ended(8);
    world.by("carol", "approval approve a0").ended(0);
    world.by("alice", ASK).ended(0);
    // A lane of a hold on merges.
    world.by("alice", "hold set --all --kind merge --reason doubled").ended(0);
    let commit = "9b".repeat(20);
    world.by("alice", &format!("hold exempt hold-0 --commit {commit} --reason fix")).ended(8);
    world.by("bob", "approval approve a1").ended(0).says("1 of 2");
    world.by("alice", &format!("hold exempt hold-0 --commit {commit} --reason fix")).ended(8);
    world.by("dave", "approval approve a1").ended(0);
    world.by("alice", &format!("hold exempt hold-0 --commit {commit} --reason fix")).ended(0).says("already");
    // An incident that was none.
    world.by("alice", "incident declare --level L1 --trigger doubt").ended(0);
    world.by("bob", "incident stand-down i0 --reason none").ended(4);
    world.by("alice", "incident stand-down i0 --reason none").ended(8).says("asked as a2");
    assert_ne!(world.json("bob", "incident show i0")["state"], "stood-down");
    world.by("bob", "approval approve a2").ended(0);
    world.by("alice", "incident stand-down i0 --reason another").ended(8).says("asked as a3");
    world.by("alice", "incident stand-down i0 --reason none").ended(8).says("asked as a4");
    world.by("carol", "approval approve a4").ended(0);
    world.by("alice", "incident stand-down i0 --reason none").ended(0);
    assert_eq!(world.json("bob", "incident show i0")["state"], "stood-down");
}

#[test]
fn a_no_to_an_end_without_an_incident_holds_whatever_the_words_and_no_drill_counts_to_its_cap() {
    let world = World::new(&format!("{PEOPLE}[approvals.stand_down]\n[caps]\nstand-down = 1\n"));
    world.by("alice", "incident declare --level L1 --trigger practice --drill").ended(0);
    world.by("alice", "incident stand-down i0 --reason over").ended(0);
    world.by("alice", "incident declare --level L1 --trigger doubt").ended(0);
    world.by("alice", "incident stand-down i1 --reason none").ended(8).says("asked as a0");
    world.by("bob", "approval approve a0").ended(0);
    world.by("alice", "incident stand-down i1 --reason none").ended(0);
    // Above the cap nobody is asked for what would be refused.
    world.by("alice", "incident declare --level L1 --trigger doubt").ended(0);
    world.by("alice", "incident stand-down i2 --reason none").ended(9).says("[cap-reached]");
    world.by("alice", "incident handoff i2 --role commander --to carol").ended(8);
    world.by("carol", "incident accept i2 --role commander").ended(0);
    world.by("carol", "incident stand-down i2 --reason none").ended(8).says("asked as a1");
    world.by("bob", "approval reject a1 --reason no").ended(0);
    world.by("carol", "incident stand-down i2 --reason none").ended(3).says("person:bob said no to a1");
    world.by("carol", "incident stand-down i2 --reason surely").ended(3).says("person:bob said no to a1");
    // Nor does it matter that more people are asked; another plan of a script is another question.
    world.by("alice", ASK).ended(8).says("asked as a2");
    world.by("bob", "approval reject a2 --reason no").ended(0);
    world.by("alice", &format!("{ASK} --needed 2")).ended(3).says("person:bob said no to a2");
}

#[test]
fn somebody_without_the_role_is_refused_and_may_still_stop_things() {
    let farm = Farm::running(Plan { tail: format!("\n{PEOPLE}"), ..Plan::default() });
    let by = |who: &str, line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        said(farm.command(&words).env("SUDO_USER", who))
    };
    by("mallory", "hold set --reason stop").ended(0);
    by("mallory", "hold lift notebook h0 --reason go").ended(4).says("[person-not-allowed]").says("person:alice");
    by("bob", "hold lift notebook h0 --reason go").ended(4).says("needs the role incident-commander");
    by("alice", "hold lift notebook h0 --reason go").ended(0);
    farm.publish("1.1.0");
    by("mallory", "run").ended(0);
    by("mallory", "rollback --yes").ended(0);
    by("mallory", "waive notebook 1.1.0 --reason why-not").ended(4);
}

#[test]
fn a_rollback_by_hand_owes_an_analysis_too_and_only_where_one_is_required() {
    for (service, owes) in [("rca = \"required\"\n", true), ("", false)] {
        let farm = Farm::running(Plan { service: service.into(), tail: format!("\n{PEOPLE}"), ..Plan::default() });
        farm.publish("1.1.0");
        farm.lastgood(&["run"]).ended(0);
        farm.lastgood(&["rollback", "--yes"]).ended(0);
        farm.publish("2.0.0");
        let says = if owes { "rolled back" } else { "no analysis is owed" };
        farm.lastgood(&["rca", "list"]).ended(0).says(says);
        let run = farm.lastgood(&["run", "--now"]);
        match owes {
            true => drop(run.ended(9).says("an analysis is owed")),
            false => drop(run.ended(0)),
        }
    }
}

#[test]
fn after_an_automatic_rollback_nothing_moves_forward_before_its_analysis_is_accepted() {
    let plan = Plan {
        service: "rca = \"required\"\nrehearsal = { on = \"alice\" }\n".into(),
        tail: format!("\n{PEOPLE}"),
        ..Plan::default()
    };
    let farm = Farm::new(plan);
    let by = |who: &str, line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        said(farm.command(&words).env("SUDO_USER", who))
    };
    by("alice", "run").ended(0);
    farm.publish("2.0.0");
    by("alice", "run").ended(0);
    farm.publish("2.3.0");
    by("alice", "run").ended(5);
    by("alice", "rca list notebook").ended(0).says("rolled back");
    // The service stopped itself as well; that is lifted first.
    by("alice", "hold lift notebook h0 --reason understood")
        .ended(0)
        .says("a root-cause analysis is owed before any rollout");
    farm.publish("2.5.0");
    by("alice", "plan").ended(9).says("gate rca       hold").says("nothing would move: the rca gate says hold");
    by("alice", "run --now").ended(9).says("an analysis is owed");
    by("alice", "rca waive notebook --reason fair --for 1h --release 9.9.9").ended(8).says("whatever bytes");
    by("bob", "approval reject a0 --reason no").ended(0);
    by("alice", "rca waive notebook --reason please --for 2h --release 9.9.9")
        .ended(3)
        .says("person:bob said no to a0");
    by("alice", "rca waive notebook --reason fair --for 1h").ended(8).says("asked as a1");
    by("bob", "approval approve a1").ended(0);
    fs::write(farm.path("analysis"), "A quote in a name broke the log-in.\n").unwrap();
    let analysis = farm.path("analysis").display().to_string();
    by("alice", &format!("rca submit notebook --file {analysis}")).ended(0);
    by("alice", "rca accept notebook").ended(4).says("[rca-own]");
    by("mallory", "rca accept notebook").ended(4).says("[person-not-allowed]");
    by("alice", "run --now").ended(9).says("nobody else has accepted it");
    // A way back is open all the while.
    by("mallory", "rollback --dry-run").ended(0);
    by("bob", "rca accept notebook").ended(0);
    by("bob", "rca list").ended(0).says("no analysis is owed");
    by("alice", "plan").ended(0).says("would move to 2.5.0");
    by("alice", "run --now").ended(0).says("2.5.0");
    for name in farm.names() {
        assert_eq!(farm.version(name), "2.5.0");
    }
}

#[test]
fn a_trip_above_its_cap_is_done_pages_one_after_the_other_and_stops_when_somebody_is_there() {
    let tail = "[switches]\nsubsystems = [\"auth\"]\nlisten = \"127.0.0.1:0\"\n[caps]\ntrip = 1\n\
                [notice.pager-bob]\ncommand = [\"/bin/sh\", \"-c\", \"cat >> bob\"]\nkinds = [\"page\"]\n\
                [person.alice]\n[person.bob]\nnotice = [\"pager-bob\"]\n\
                [escalation.default]\n\
                steps = [{ to = [\"alice\"], within = \"1s\" }, { to = [\"bob\"], within = \"1h\" }]\n";
    let world = World::new(tail);
    world.by("alice", "switch trip auth --reason stop").ended(0);
    world.by("alice", "switch trip auth --reason stop").ended(0).says("the cap is 1");
    assert_eq!(world.json("alice", "page list")[0]["about"].as_str().unwrap().split('/').nth(1), Some("trip"));
    let log = fs::File::create(world.path("serve.log")).unwrap();
    let mut serve = Command::new(program());
    serve.arg("serve").current_dir(world.folder.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let daemon = Daemon(serve.env_remove("LASTGOOD_CONFIG").spawn().unwrap());
    let pages = || fs::read_to_string(world.path("bob")).unwrap_or_default();
    until("bob's pager", || pages().contains("p0 pages person:bob as step 2"));
    world.by("bob", "page ack p0").ended(0).says("acknowledged by person:bob");
    world.by("alice", "page ack p0").ended(1).says("[page-over]");
    assert_eq!(world.json("bob", "page list"), serde_json::json!([]));
    daemon.stop();
}
