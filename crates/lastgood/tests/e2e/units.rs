//! A whole life on real units of a real systemd: a bump that migrates, the way back with its data, a bad release that goes
//! back by itself, and a driver that is killed on the way.

use crate::{
    kit::{Farm, Plan, kept_aside},
    systemd_kit::in_systemd,
};
use std::{collections::BTreeMap, fs, process::Command};

fn systemctl(arguments: &[&str]) {
    assert!(Command::new("systemctl").args(arguments).status().unwrap().success(), "{arguments:?}");
}

fn dumps(farm: &Farm) -> BTreeMap<&'static str, String> {
    farm.names().map(|name| (name, farm.dump(name))).collect()
}

#[track_caller]
fn all_run(farm: &Farm, version: &str) {
    for name in farm.names() {
        assert_eq!(farm.version(name), version, "{name}");
        systemctl(&["is-active", "--quiet", &format!("notebook@{name}.service")]);
    }
}

#[test]
fn units_move_with_their_data_and_go_back_with_it_by_hand_by_themselves_and_after_a_kill() {
    let name = "units::units_move_with_their_data_and_go_back_with_it_by_hand_by_themselves_and_after_a_kill";
    in_systemd(name, || {
        let unit = "[Unit]\nDescription=notebook\n[Service]\nExecStart=/bin/false\nRestart=on-failure\n";
        fs::write("/etc/systemd/system/notebook@.service", unit).unwrap();
        systemctl(&["daemon-reload"]);
        let service =
            "runtime = { systemd = { unit = \"notebook@{instance}.service\" } }\nrehearsal = { on = \"alice\" }";
        let instances = vec![("alice", "probe"), ("carol", "café o'clock")];
        let farm = Farm::running(Plan { instances, service: service.into(), ..Plan::default() });
        all_run(&farm, "1.0.0");
        let before = dumps(&farm);
        farm.publish("2.0.0");
        farm.lastgood(&["run"]).ended(0);
        all_run(&farm, "2.0.0");
        farm.write("alice", "written on 2.0.0");
        farm.lastgood(&["rollback", "--yes"]).ended(0);
        all_run(&farm, "1.0.0");
        assert_eq!(dumps(&farm), before);
        assert_eq!(kept_aside(&farm, "alice").len(), 1);
        // One that breaks carol's login is taken back from both by itself.
        farm.publish("2.3.0");
        farm.lastgood(&["run"]).ended(5).says("carol");
        all_run(&farm, "1.0.0");
        assert_eq!(dumps(&farm), before);
        farm.lastgood(&["hold", "lift", "notebook", "h0", "--reason", "it is known"]).ended(0);
        // A driver that is killed while units are stopped: the next one brings it to its end, or back.
        farm.lastgood(&["waive", "notebook", "2.0.0", "--reason", "once more"]).ended(0);
        let killed = crate::kit::said(farm.command(&["run"]).env("LASTGOOD_CRASH_AFTER", "60"));
        assert_eq!(killed.code, 137, "{killed:?}");
        farm.lastgood(&["rollback", "--yes"]);
        all_run(&farm, "1.0.0");
        assert_eq!(dumps(&farm), before);
        systemctl(&["stop", "notebook@alice.service", "notebook@carol.service"]);
    });
}
