//! Approvals, people and what needs a second one, at a real command line.

use crate::kit::{Said, program, reserve, said};
use serde_json::Value;
use std::{
    fs,
    net::UdpSocket,
    path::PathBuf,
    process::{Command, Stdio},
};

/// People of whom one may lift and all may approve.
const PEOPLE: &str = "[person.alice]\nroles = [\"incident-commander\"]\n[person.bob]\n[person.carol]\n\
                      [role.incident-commander]\nmay = [\"lift\"]\n";

/// A state folder and people at its command line.
struct World {
    folder: tempfile::TempDir,
    _reserved: UdpSocket,
}

impl World {
    fn new(tail: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("lastgood-approvals-").tempdir().unwrap();
        let (port, reserved) = reserve();
        let text = format!("state_dir = \"state\"\nlisten = \"127.0.0.1:{port}\"\n{tail}");
        fs::write(folder.path().join("lastgood.toml"), text).unwrap();
        fs::write(folder.path().join("plan"), "drop the old tables\n").unwrap();
        Self { folder, _reserved: reserved }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a command as somebody.
    fn by(&self, who: &str, line: &str) -> Said {
        let mut command = Command::new(program());
        command.args(line.split_whitespace()).current_dir(self.folder.path()).stdin(Stdio::null());
        said(command.env_remove("LASTGOOD_CONFIG").env("SUDO_USER", who))
    }

    #[track_caller]
    fn json(&self, who: &str, line: &str) -> Value {
        let said = self.by(who, &format!("--json {line}")).ended(0);
        serde_json::from_str::<Value>(&said.out).unwrap_or_else(|error| panic!("{error}: {said:?}"))["data"].clone()
    }
}

const ASK: &str = "approval ask tidy --what tidy-up --plan plan";

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
