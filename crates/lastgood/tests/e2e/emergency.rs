//! `lastgood emergency`: everything is stopped at once, and what it leaves behind is kept.

use crate::kit::{Farm, Plan};
use std::{fs, process::Command};

#[test]
fn an_emergency_holds_everything_keeps_the_logs_and_says_what_failed() {
    let farm = Farm::running(Plan::default());
    let stop = format!(
        "\n[runbook.emergency.runners]\ndo = [{{ command = [\"touch\", \"{0}\"] }}]\nverify = [{{ command = [\"test\", \"-e\", \"{0}\"] }}]\n\
         [runbook.emergency.agents]\ndo = [{{ command = [\"false\"] }}]\n",
        farm.path("stopped").display()
    );
    farm.configure(&(farm.config() + &stop));
    let asked = ["emergency", "--reason", "a key leaked"];
    farm.lastgood(&asked).ended(3).says("--confirm everything");
    assert!(!farm.path("stopped").exists());
    let all = ["emergency", "--reason", "a key leaked", "--confirm", "everything"];
    // What fails is said, and keeps nothing after it from being done.
    farm.lastgood(&all)
        .ended(1)
        .says("FAILED  run agents")
        .says("done    run runners")
        .says("keep chains and logs apart");
    assert!(farm.path("stopped").exists());
    farm.publish("1.1.0");
    farm.lastgood(&["run"]).ended(9).says("a key leaked");
    let kept = fs::read_dir(farm.path("state/preserved")).unwrap().next().unwrap().unwrap().path();
    let digests = fs::read_to_string(kept.join("DIGESTS")).unwrap();
    let check: String = digests.lines().map(|line| line.trim_start_matches("sha256:").to_owned() + "\n").collect();
    fs::write(kept.join("check"), check).unwrap();
    let sums = Command::new("sha256sum").args(["-c", "--strict", "check"]).current_dir(&kept).output().unwrap();
    assert!(sums.status.success(), "{sums:?}");
    for name in ["service-notebook.jsonl", "logs/notebook/alice.log"] {
        assert!(digests.contains(name), "{name} is not in {digests}");
    }
}

#[test]
fn an_emergency_keeps_every_log_and_every_other_chain_where_one_was_rewound() {
    let farm = Farm::running(Plan::default());
    let mut config = farm.config();
    for (service, instance, port) in [("a-b", "c", 1), ("a", "b-c", 2)] {
        config += &format!(
            "\n[service.{service}]\nchannel = {{ directory = \"elsewhere\", version_file = \"VERSION\" }}\n\
             command = [\"{{release}}/other\"]\nready = {{ http = {{ path = \"/health\" }}, expect = {{ status = 200 }} }}\n\
             state = {{ directory = \"{{data}}\" }}\n[[service.{service}.probe]]\nname = \"page\"\n\
             http = {{ path = \"/health\" }}\nexpect = {{ status = 200 }}\n[[service.{service}.instance]]\n\
             name = \"{instance}\"\nport = {port}\ndata = \"data/{service}\"\n"
        );
        farm.configure(&config);
        let folder = farm.path(&format!("state/services/{service}/instances/{instance}"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("output.log"), format!("said by {service}/{instance}\n")).unwrap();
        farm.lastgood(&["hold", "set", service, "--reason", "something to sign"]).ended(0);
    }
    farm.lastgood(&["evidence", "checkpoint"]).ended(0);
    let database = rusqlite::Connection::open(farm.path("state/evidence.db")).unwrap();
    assert_eq!(database.execute("UPDATE chain SET size = size - 1 WHERE name = 'service/a'", []).unwrap(), 1);
    drop(database);
    let all = ["emergency", "--reason", "a key leaked", "--confirm", "everything"];
    farm.lastgood(&all).ended(1).says("1 thing could not be kept, the first is service-a.jsonl");
    let kept = fs::read_dir(farm.path("state/preserved")).unwrap().next().unwrap().unwrap().path();
    let digests = fs::read_to_string(kept.join("DIGESTS")).unwrap();
    assert!(digests.contains("# missing: service-a.jsonl: "), "{digests}");
    let there = ["service-notebook.jsonl", "service-a-b.jsonl", "evidence.db", "logs/notebook/alice.log"];
    for name in there {
        assert!(digests.contains(&format!("  {name}\n")) && kept.join(name).exists(), "{name} is not in {digests}");
    }
    let said = |name: &str| fs::read_to_string(kept.join("logs").join(name)).unwrap();
    assert_eq!((said("a-b/c.log"), said("a/b-c.log")), ("said by a-b/c\n".into(), "said by a/b-c\n".into()));
}

#[test]
fn an_emergency_trips_the_switch_above_all_and_says_whether_the_evidence_holds() {
    let switches = "\n[switches]\nsubsystems = [\"auth\"]\nlisten = \"127.0.0.1:0\"\n";
    let farm = Farm::running(Plan { tail: switches.into(), ..Plan::default() });
    farm.lastgood(&["switch", "list"]).ended(0).says("auth  open");
    let all = ["emergency", "--reason", "a key leaked", "--confirm", "everything"];
    let said = farm.lastgood(&all).ended(0).says("all of it is done");
    // What keeps harm from going on comes first.
    let acts: Vec<&str> =
        said.err.lines().chain(said.out.lines()).filter(|line| line.starts_with("done    ")).collect();
    let begins = ["trip the switch above all: ", "hold ", "verify the evidence: ", "keep chains and logs apart: "];
    assert_eq!(acts.len(), begins.len(), "{acts:?}");
    for (act, begin) in acts.iter().zip(begins) {
        assert!(act.strip_prefix("done    ").unwrap().starts_with(begin), "{acts:?}");
    }
    farm.lastgood(&["switch", "list"]).ended(0).says("all   TRIPPED").says("auth  blocked by all");
    let database = rusqlite::Connection::open(farm.path("state/evidence.db")).unwrap();
    let of = "chain = (SELECT id FROM chain WHERE name = 'service/notebook')";
    let edit = format!("UPDATE record SET bytes = CAST(bytes || ' ' AS BLOB) WHERE seq = 2 AND {of}");
    assert_eq!(database.execute(&edit, []).unwrap(), 1);
    farm.lastgood(&all)
        .ended(1)
        .says("done    trip the switch above all: ")
        .says("FAILED  verify the evidence: ")
        .says("service/notebook record 2: ");
}
