//! What dies in the middle: the daemon, the proxy, an instance. Nobody loses a message by the first two.

use crate::kit::{Chat, nobody_lost_anything, until};
use std::{process::Command, time::Duration};

fn kill(pid: u32) {
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
}

#[test]
fn a_daemon_killed_in_the_middle_of_a_share_costs_nobody_anything_and_the_next_one_goes_on() {
    let chat = Chat::running("");
    let mut daemon = chat.begin(&["serve"]);
    until("the daemon", || chat.status()["driver"]["what"] == "lastgood serve");
    chat.publish("1.1.0");
    let people = chat.people(60, Duration::from_secs(15));
    let mut run = chat.begin(&["run", "--now"]);
    until("a share", || chat.share() > 0.0);
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    run.kill().unwrap();
    run.wait().unwrap();
    let mut daemon = chat.begin(&["serve"]);
    until("the end of the rollout", || chat.status()["last_good"] == "1.1.0");
    assert_eq!(chat.version(), "1.1.0");
    nobody_lost_anything(&people.join().unwrap());
    // That nobody has asked the promoted release yet is no news.
    let log = chat.lastgood(&["log"]).ended(0).out;
    let (_, after) = log.split_once("ended: promoted").unwrap();
    let (_, after) = after.split_once("ended: promoted").unwrap();
    assert!(!after.contains("cannot tell"), "{log}");
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}

#[test]
fn a_proxy_that_dies_is_started_again_with_the_table_it_had() {
    let chat = Chat::running("");
    let mut daemon = chat.begin(&["serve"]);
    until("the daemon", || chat.status()["driver"]["what"] == "lastgood serve");
    let [first] = chat.processes("proxy --settings")[..] else { panic!("not one proxy") };
    kill(first);
    until("another proxy", || chat.processes("proxy --settings").iter().any(|pid| *pid != first));
    until("an answer", || std::net::TcpStream::connect(("127.0.0.1", chat.front)).is_ok());
    assert_eq!(chat.version(), "1.0.0");
    // Without the daemon it goes on by itself.
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    assert_eq!(chat.version(), "1.0.0");
}

#[test]
fn a_candidate_that_dies_with_a_share_is_left() {
    let chat = Chat::running("");
    chat.publish("1.1.0");
    let mut run = chat.begin(&["run"]);
    until("a share", || chat.share() > 0.0);
    for pid in chat.processes("1.1.0") {
        kill(pid);
    }
    run.wait().unwrap();
    let status = chat.status();
    assert_eq!(status["last_end"]["end"]["end"], "rolled-back", "{status}");
    assert_eq!(chat.version(), "1.0.0");
}

/// A disk of its own, as small as that; it goes with this.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(at: std::path::PathBuf, size: &str) -> Self {
        std::fs::create_dir_all(&at).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size},mode=0700"), "lastgood-test"]).arg(&at);
        assert!(mount.status().unwrap().success(), "this test needs root, as the machine that runs all tests has");
        Self(at)
    }

    /// Leaves no byte.
    fn fill(&self) {
        use std::io::Write as _;
        let mut file = std::fs::File::create(self.0.join("filled")).unwrap();
        while file.write_all(&[0; 512]).is_ok() {}
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_under_the_proxy_s_tables_lets_no_share_begin_and_costs_nobody_anything() {
    let chat = Chat::new("");
    let disk = SmallDisk::mount(chat.path("state/proxy"), "256k");
    chat.lastgood(&["run"]).ended(0);
    chat.publish("1.1.0");
    let people = chat.people(20, Duration::from_secs(10));
    disk.fill();
    // What the proxy can't keep it doesn't confirm: the share never begins, and the way back needs no table of its own.
    let said = chat.lastgood(&["run"]);
    assert_ne!(said.code, 0, "{said:?}");
    assert_eq!((chat.version().as_str(), chat.share()), ("1.0.0", 0.0), "{said:?}");
    let report = people.join().unwrap();
    nobody_lost_anything(&report);
    assert!(!report.releases.contains_key("1.1.0"), "a share that nobody watches has begun: {report:#?}");
    std::fs::remove_file(disk.0.join("filled")).unwrap();
    chat.lastgood(&["--yes", "rollback"]);
    chat.lastgood(&["waive", "chat", "1.1.0", "--reason", "the disk was full"]);
    for hold in chat.status()["holds"].as_array().unwrap() {
        let hold = hold["hold"].as_str().or(hold["id"].as_str()).unwrap_or_else(|| panic!("{hold}")).to_owned();
        chat.lastgood(&["hold", "lift", "chat", &hold, "--reason", "there is room again"]).ended(0);
    }
    let people = chat.people(60, Duration::from_secs(25));
    chat.lastgood(&["run"]).ended(0);
    assert_eq!(chat.version(), "1.1.0");
    nobody_lost_anything(&people.join().unwrap());
}
