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

const TEMPLATE: &str = "/etc/systemd/system/notebook@.service";

/// Gives what the kept files of this name hold.
fn kept(folder: &str, name: &str) -> Vec<String> {
    let all = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let kept = all.filter(|entry| entry.file_name().to_string_lossy().starts_with(&format!("{name}.before-r")));
    kept.map(|entry| fs::read_to_string(entry.path()).unwrap()).collect()
}

#[test]
fn a_way_back_starts_on_the_unit_as_it_is_and_only_one_that_breaks_the_start_is_put_back() {
    let name = "units::a_way_back_starts_on_the_unit_as_it_is_and_only_one_that_breaks_the_start_is_put_back";
    in_systemd(name, || {
        let unit = "[Unit]\nDescription=notebook\n[Service]\nExecStart=/bin/false\nRestart=on-failure\n";
        fs::write(TEMPLATE, unit).unwrap();
        systemctl(&["daemon-reload"]);
        let service =
            "runtime = { systemd = { unit = \"notebook@{instance}.service\" } }\nrehearsal = { on = \"alice\" }";
        let instances = vec![("alice", "probe"), ("carol", "café o'clock")];
        let farm = Farm::running(Plan { instances, service: service.into(), ..Plan::default() });
        let mut init = Command::new(crate::kit::program());
        init.args(["--config", "proposed.toml", "init", "dir:releases", "--name", "notebook"]);
        crate::kit::said(init.current_dir(farm.path(""))).ended(0);
        let proposed = fs::read_to_string(farm.path("proposed.toml")).unwrap();
        assert!(proposed.contains("runtime = { systemd = { unit = \"notebook@{instance}.service\" } }"), "{proposed}");
        farm.publish("1.1.0");
        farm.lastgood(&["run"]).ended(0);
        all_run(&farm, "1.1.0");
        // Somebody's edits, which 1.0.0 never ran with and can run with: of the template, and for alice alone.
        let edited = unit.replace("Description=notebook", "Description=edited");
        let own = "/etc/systemd/system/notebook@alice.service.d";
        fs::write(TEMPLATE, &edited).unwrap();
        fs::write(format!("{own}/nice.conf"), "[Service]\nNice=7\n").unwrap();
        systemctl(&["daemon-reload"]);
        let said = farm.lastgood(&["rollback", "--yes"]).ended(0);
        said.says("[unit-changed]").says("changed /etc/systemd/system/notebook@.service").says("nice.conf");
        all_run(&farm, "1.0.0");
        assert_eq!(fs::read_to_string(TEMPLATE).unwrap(), edited);
        assert_eq!(fs::read_to_string(format!("{own}/nice.conf")).unwrap(), "[Service]\nNice=7\n");
        assert!(kept(own, "nice.conf").is_empty() && kept("/etc/systemd/system", "notebook@.service").is_empty());
        // With an edit that breaks every start both go back at once, to what 1.0.0 ran well with last: not first.
        farm.lastgood(&["waive", "notebook", "1.1.0", "--reason", "once more"]).ended(0);
        farm.lastgood(&["run"]).ended(0);
        all_run(&farm, "1.1.0");
        let broken = edited.replace("[Service]", "[Service]\nExecStartPre=/bin/false");
        fs::write(TEMPLATE, &broken).unwrap();
        systemctl(&["daemon-reload"]);
        farm.lastgood(&["rollback", "--yes"]).ended(0).says("its unit is again as it was with that release");
        all_run(&farm, "1.0.0");
        assert_eq!(fs::read_to_string(TEMPLATE).unwrap(), edited);
        assert_eq!(kept("/etc/systemd/system", "notebook@.service"), std::slice::from_ref(&broken));
        assert_eq!(fs::read_to_string(format!("{own}/nice.conf")).unwrap(), "[Service]\nNice=7\n");
        let mut show = Command::new("systemctl");
        show.args(["show", "-P", "Description", "-P", "NeedDaemonReload", "notebook@carol.service"]);
        let shown = show.output().unwrap();
        assert_eq!(String::from_utf8_lossy(&shown.stdout).split_whitespace().collect::<Vec<_>>(), ["edited", "no"]);
        let log = farm.log();
        assert!(log.contains("notebook@.service.before-r"), "{log}");
        // Where carol stays on a newer release the template is hers too.
        farm.lastgood(&["waive", "notebook", "1.1.0", "--reason", "once more"]).ended(0);
        farm.lastgood(&["run"]).ended(0);
        fs::write(TEMPLATE, &broken).unwrap();
        systemctl(&["daemon-reload"]);
        farm.lastgood(&["rollback", "--instance", "alice", "--yes"]).says("[unit-shared]");
        assert_eq!(fs::read_to_string(TEMPLATE).unwrap(), broken);
        // All together they get it.
        farm.lastgood(&["rollback", "--yes"]).ended(0).says("its unit is again as it was with that release");
        all_run(&farm, "1.0.0");
        farm.lastgood(&["evidence", "verify"]).ended(0);
        systemctl(&["stop", "notebook@alice.service", "notebook@carol.service"]);
    });
}
