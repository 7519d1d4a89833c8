//! What keeps an instance where it is: somebody uses it, a file says stop, the machine is not ready for the release, its
//! data is damaged. Nothing is stopped for nothing.

use crate::kit::{Farm, Plan, until};
use lastgood_notebook::DATA_FILE;
use serde_json::Value;
use std::{
    fs::{self, OpenOptions},
    net::TcpListener,
    os::unix::fs::FileExt as _,
};

fn open_session(farm: &Farm, name: &str) {
    farm.post(name, "/session/open", "", &Value::Null);
}

fn is_busy(farm: &Farm, name: &str) -> bool {
    farm.get(name, "/busy", "").1["busy"] == true
}

/// Everything that a run which moves nothing leaves as it was.
fn standing(farm: &Farm) -> (impl PartialEq + std::fmt::Debug + use<>, Vec<String>) {
    let status = farm.status();
    let releases = farm.names().map(|name| farm.version(name)).collect();
    ((farm.pids(), status["last_good"].clone(), status["holds"].clone(), status["rejected"].clone()), releases)
}

/// Counts what was ordered that tries something on a copy or stops an instance.
fn touched(farm: &Farm) -> usize {
    let log = farm.log();
    ["\"do\":\"rehearse\"", "\"do\":\"stop\""].iter().map(|order| log.matches(order).count()).sum()
}

/// Tells whether 2.0.0 answers at a port.
fn is_new(farm: &Farm, port: &str) -> bool {
    let (status, answer) = crate::kit::request(farm.port(port), "GET", "/version", "", "").unwrap_or_default();
    status == 200 && answer["version"] == "2.0.0"
}

#[test]
fn a_pin_to_an_older_release_stops_nobody_who_is_in_use() {
    let farm = Farm::running(Plan::default());
    farm.publish("2.0.0");
    farm.lastgood(&["run"]).ended(0);
    let pids = farm.pids();
    open_session(&farm, "alice");
    farm.lastgood(&["pin", "notebook", "1.0.0", "--reason", "the fair"]).ended(0);
    farm.lastgood(&["run"]).ended(5).says("alice is deferred: busy").says("pinned to 1.0.0");
    assert_eq!((farm.version("alice"), farm.pid("alice")), ("2.0.0".into(), pids["alice"]));
    assert!(is_busy(&farm, "alice"), "her session is gone");
    for name in ["bob", "carol"] {
        assert_eq!(farm.version(name), "1.0.0", "{name}");
    }
    assert_eq!(
        (&farm.instance("alice")["condition"], &farm.status()["last_good"]),
        (&"deferred".into(), &"1.0.0".into())
    );
    // Once more, and she is still in use: it waits, and says for what.
    farm.lastgood(&["run"]).ended(8).says("pinned to 1.0.0; nobody could go back");
    assert_eq!(farm.pid("alice"), pids["alice"]);
    farm.post("alice", "/session/close", "", &Value::Null);
    farm.lastgood(&["run"]).ended(5);
    assert_eq!(farm.version("alice"), "1.0.0");
    assert_eq!(farm.instance("alice")["condition"], "settled");
    farm.lastgood(&["run"]).ended(0);
}

#[test]
fn a_pin_is_enforced_from_what_is_installed_when_the_channel_has_it_no_more() {
    let farm = Farm::running(Plan::default());
    farm.publish("2.0.0");
    farm.lastgood(&["run"]).ended(0);
    farm.lastgood(&["pin", "notebook", "1.0.0", "--reason", "the fair"]).ended(0);
    // Neither the release nor a channel that answers.
    fs::remove_dir_all(farm.path("releases")).unwrap();
    farm.lastgood(&["plan"]).ended(0).says("alice: 2.0.0 -> 1.0.0").says("back to 1.0.0");
    farm.lastgood(&["run"]).ended(5).says("pinned to 1.0.0");
    for name in farm.names() {
        assert_eq!(farm.version(name), "1.0.0");
    }
}

#[test]
fn a_freeze_file_made_in_the_middle_of_a_run_stops_what_has_not_moved() {
    let farm = Farm::running(Plan { rollout: r#"{ soak = "5s", wave_size = 2 }"#, ..Plan::default() });
    let pids = farm.pids();
    farm.publish("2.0.0");
    let run = farm.command(&["run"]).stderr(std::process::Stdio::piped()).spawn().unwrap();
    until("the first instance on the new release", || is_new(&farm, "alice"));
    fs::write(farm.path("state/FREEZE"), "").unwrap();
    let said = run.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    assert_eq!(said.status.code(), Some(9), "{text}");
    assert!(text.contains("alice has moved, the rest waits: the freeze file"), "{text}");
    for name in ["bob", "carol"] {
        assert_eq!((farm.version(name), farm.pid(name)), ("1.0.0".into(), pids[name]), "{name}");
    }
    assert_eq!((farm.version("alice"), &farm.status()["last_good"]), ("2.0.0".into(), &"1.0.0".into()));
    // It stops no way back, and is gone once it is removed.
    farm.lastgood(&["run"]).ended(9).says("FREEZE");
    fs::remove_file(farm.path("state/FREEZE")).unwrap();
    farm.lastgood(&["run"]).ended(0);
    for name in farm.names() {
        assert_eq!(farm.version(name), "2.0.0");
    }
}

#[test]
fn a_user_who_does_not_exist_is_seen_before_anything_is_rehearsed_or_stopped() {
    let farm = Farm::running(Plan::default());
    let (before, orders, config) = (standing(&farm), touched(&farm), farm.config());
    farm.configure(&config.replace("data = \"data/alice\"", "data = \"data/alice\"\nuser = \"no-such-user\""));
    farm.publish("2.0.0");
    farm.lastgood(&["plan"]).ended(9).says("gate user").says("no-such-user").says("nothing would move");
    farm.lastgood(&["run"]).ended(1).says("[state-owner-unknown]").says("alice").says("before anything moved");
    assert_eq!((standing(&farm), touched(&farm)), (before, orders));
    farm.configure(&config);
    farm.lastgood(&["run"]).ended(0);
    assert_eq!(farm.version("alice"), "2.0.0");
}

#[test]
fn a_port_that_a_stranger_has_is_seen_before_the_instance_leaves_its_own() {
    let farm = Farm::running(Plan::default());
    let (before, config) = (standing(&farm), farm.config());
    let stranger = TcpListener::bind(("127.0.0.1", farm.port("nobody"))).unwrap();
    let [own, taken] = ["alice", "nobody"].map(|name| format!("port = {}", farm.port(name)));
    farm.configure(&config.replace(&own, &taken));
    farm.publish("2.0.0");
    farm.lastgood(&["plan"]).ended(9).says("gate port").says("nothing would move");
    let us = format!("(process {})", std::process::id());
    farm.lastgood(&["run"]).ended(1).says("[instance-port-in-use]").says(&us).says("before anything moved");
    assert_eq!(standing(&farm), before);
    drop(stranger);
    farm.lastgood(&["run"]).ended(0);
    assert_eq!(farm.version("bob"), "2.0.0");
    assert!(is_new(&farm, "nobody"), "alice listens where she is to");
}

#[test]
fn who_loses_the_port_in_the_middle_of_a_run_is_not_stopped_and_follows_when_it_is_free() {
    let farm = Farm::running(Plan { rollout: r#"{ soak = "5s", wave_size = 2 }"#, ..Plan::default() });
    let pid = farm.pid("bob");
    let [own, other] = ["bob", "nobody"].map(|name| format!("port = {}", farm.port(name)));
    farm.configure(&farm.config().replace(&own, &other));
    farm.publish("2.0.0");
    let run = farm.command(&["run"]).stderr(std::process::Stdio::piped()).spawn().unwrap();
    until("the first instance on the new release", || is_new(&farm, "alice"));
    let stranger = TcpListener::bind(("127.0.0.1", farm.port("nobody"))).unwrap();
    let said = run.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(text.contains("[instance-port-in-use]"), "{text}");
    assert_eq!((farm.version("bob"), farm.pid("bob")), ("1.0.0".into(), pid), "{text}");
    assert_eq!(farm.version("carol"), "2.0.0", "{text}");
    assert_eq!(farm.status()["holds"], serde_json::json!([]), "nothing is frozen");
    drop(stranger);
    farm.lastgood(&["run"]).ended(0);
    assert!(is_new(&farm, "nobody"), "bob listens where he is to");
}

#[test]
fn one_damaged_database_stops_the_run_before_anything_has_changed() {
    let farm = Farm::running(Plan::default());
    let (before, orders) = (standing(&farm), touched(&farm));
    let file = OpenOptions::new().write(true).open(farm.data("bob").join(DATA_FILE)).unwrap();
    let pages = file.metadata().unwrap().len();
    assert!(pages > 8_192, "{pages}");
    file.write_all_at(&vec![0xA5; usize::try_from(pages - 4_096).unwrap()], 4_096).unwrap();
    farm.publish("2.0.0");
    let said = farm.lastgood(&["run"]).ended(1);
    said.says("bob").says("before anything moved").says("[state-corrupt]");
    assert_eq!((standing(&farm), touched(&farm)), (before, orders));
}
