//! lastgood.toml is edited while things run: what goes by the older file, and what is not in it any more, is said.

use crate::kit::{Farm, Plan};

fn two() -> Plan {
    Plan { instances: vec![("alice", "probe"), ("bob", "probe")], ..Plan::default() }
}

/// Gives the text without the table of an instance.
fn without(text: &str, name: &str) -> String {
    let from = text.find(&format!("\n[[service.notebook.instance]]\nname = \"{name}\"")).unwrap();
    let to = text[from + 1..].find("\n[[").unwrap() + from + 1;
    format!("{}{}", &text[..from], &text[to..])
}

#[test]
fn a_daemon_with_an_older_file_and_an_instance_that_was_taken_out_are_said() {
    let farm = Farm::running(two());
    let text = farm.config();
    let daemon = farm.serve();
    // A remark changes nothing.
    farm.configure(&format!("# a remark\n{text}"));
    assert_eq!(farm.status()["config_changed"], false);
    farm.configure(&without(&text, "bob"));
    assert_eq!(farm.status()["config_changed"], true);
    farm.lastgood(&["status"]).ended(0).says("restart the daemon").says("settled; not in lastgood.toml any more");
    let pid = farm.instance("bob")["name"].as_str().map(|_| farm.pid("bob").unwrap()).unwrap();
    let said = farm.lastgood(&["doctor", "--offline"]);
    said.says("[daemon-outdated]").says("[instance-removed]").says(&format!("kill {pid}"));
    daemon.stop();
    let daemon = farm.serve();
    assert_eq!(farm.status()["config_changed"], false);
    daemon.stop();

    // Renamed, it is in its own way.
    farm.configure(&text.replace("name = \"bob\"", "name = \"bert\""));
    farm.lastgood(&["doctor", "--offline"]).ended(1).says("which is lastgood's own instance notebook/bob");
    farm.lastgood(&["run"]).ended(1).says("notebook/bob");
    farm.configure(&text);
    farm.lastgood(&["run"]).ended(0);
    let status = farm.lastgood(&["status"]).ended(0);
    assert!(!status.out.contains("bert"), "it was named once and never ran: {status:?}");
}

#[test]
fn all_that_is_wrong_with_the_file_is_told_at_once_and_what_no_service_has_is_refused() {
    let farm = Farm::new(two());
    let text = farm.config();
    let wrong = text.replace("{release}/notebook", "{relaese}/notebook");
    farm.configure(&wrong.replace(&format!("port = {}", farm.port("bob")), "port = 0"));
    farm.lastgood(&["config", "check"]).ended(2).says("relaese").says("port 0");
    farm.lastgood(&["run"]).ended(2).says("1 more: lastgood config check");
    let said = farm.lastgood(&["config", "check", "--json"]).ended(2);
    let problem: serde_json::Value = serde_json::from_str(&said.err).unwrap();
    assert_eq!((problem["code"].as_str(), problem["also"].as_array().unwrap().len()), (Some("config-unfit"), 1));

    farm.configure(&text);
    farm.lastgood(&["run"]).ended(0);
    farm.lastgood(&["hold", "set", "--label", "tier=api", "--reason", "x"]).ended(2).says("[hold-label-unknown]");
    farm.lastgood(&["explain", "config-unfitt"]).ended(1).says("config-unfit");
    std::fs::remove_file(farm.path("lastgood.toml")).unwrap();
    farm.lastgood(&["explain", "config-unfitt"]).ended(1).says("did you mean one of: config-unfit");
}

#[test]
fn as_many_lines_of_the_log_are_shown_as_were_asked_for() {
    let farm = Farm::running(two());
    for lines in [1, 2, 5, 10] {
        let said = farm.lastgood(&["log", "-n", &lines.to_string()]).ended(0);
        assert_eq!(said.out.lines().count(), lines, "{said:?}");
    }
}
