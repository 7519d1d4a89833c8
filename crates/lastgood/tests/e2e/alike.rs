//! A rehearsal is as production: same user, same groups, same environment but for the port and the data.

use crate::{
    kit::{Farm, Plan},
    systemd_kit::in_systemd,
};
use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    process::Command,
};

/// `www-data` of every Debian.
const WEB: u32 = 33;

/// A farm as `www-data`, whose program first writes down what it is into a folder outside of its data.
fn farm(service: &str) -> Farm {
    let farm = Farm::new(Plan { instances: vec![("alice", "probe")], service: service.into(), ..Plan::default() });
    let folder = farm.path("lastgood.toml").parent().unwrap().to_path_buf();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    let seen = farm.path("seen");
    fs::create_dir(&seen).unwrap();
    fs::set_permissions(&seen, fs::Permissions::from_mode(0o777)).unwrap();
    let data = farm.data("alice");
    let files = fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path());
    for path in files.chain([data.clone()]) {
        chown(path, Some(WEB), Some(WEB)).unwrap();
    }
    // A subshell, for braces are placeholders.
    let command = r#"command = ["/bin/sh", "-c", "(id -u; id -G; umask; env | grep -Ev 'DIFFERS' | sort) > SEEN/$$; exec \"$0\"", "{release}/notebook"]"#;
    let command = command.replace("DIFFERS", "^NOTEBOOK_|^LASTGOOD_INSTANCE=|^PWD=|^_=");
    let command = command.replace("SEEN", &seen.display().to_string());
    farm.configure(&farm.config().replace("command = [\"{release}/notebook\"]", &command));
    farm
}

/// What the program saw each time it was started.
fn seen(farm: &Farm) -> Vec<String> {
    let files = fs::read_dir(farm.path("seen")).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| fs::read_to_string(path).unwrap()).collect()
}

/// Runs a farm of instances of a template unit; gives it, and what the program saw each time it was started.
fn seen_under(unit: &str) -> (Farm, Vec<String>) {
    fs::write("/etc/systemd/system/notebook@.service", unit).unwrap();
    assert!(Command::new("systemctl").arg("daemon-reload").status().unwrap().success());
    let farm =
        farm("runtime = { systemd = { unit = \"notebook@{instance}.service\" } }\nrehearsal = { network = true }");
    farm.lastgood(&["run"]).ended(0);
    let seen = seen(&farm);
    assert!(seen.len() >= 3, "{seen:#?}");
    (farm, seen)
}

#[test]
fn a_rehearsed_program_has_the_groups_and_the_environment_of_production() {
    in_systemd("alike::a_rehearsed_program_has_the_groups_and_the_environment_of_production", || {
        let groups = fs::read_to_string("/etc/group").unwrap();
        fs::write("/etc/group", format!("{groups}lastgood-extra:x:4242:www-data\n")).unwrap();
        let farm = farm("user = \"www-data\"\nrehearsal = { network = true }");
        farm.lastgood(&["run"]).ended(0);
        let seen = seen(&farm);
        // The candidate, the candidate again, and the instance itself.
        assert!(seen.len() >= 3, "{seen:#?}");
        assert!(seen.iter().all(|one| *one == seen[0]), "{seen:#?}");
        for what in ["33\n33 4242\n", "\nHOME=/var/www\n", "\nUSER=www-data\n", "\nPATH=/usr/local/sbin:"] {
            assert!(seen[0].contains(what), "no {what:?} in {}", seen[0]);
        }
    });
}

#[test]
fn a_user_that_only_the_unit_names_is_the_rehearsals_too() {
    in_systemd("alike::a_user_that_only_the_unit_names_is_the_rehearsals_too", || {
        let unit = "[Unit]\nDescription=notebook\n[Service]\nUser=www-data\nExecStart=/bin/false\n";
        let (_farm, seen) = seen_under(unit);
        assert!(seen.iter().all(|one| one.starts_with("33\n33")), "{seen:#?}");
        assert!(Command::new("systemctl").args(["stop", "notebook@alice.service"]).status().unwrap().success());
    });
}

#[test]
fn groups_that_only_the_unit_names_are_the_rehearsals_too() {
    in_systemd("alike::groups_that_only_the_unit_names_are_the_rehearsals_too", || {
        let unit = "[Unit]\nDescription=notebook\n[Service]\nUser=www-data\nGroup=games\n\
                    SupplementaryGroups=audio\nExecStart=/bin/false\n";
        let (_farm, seen) = seen_under(unit);
        // `games` is 60 and `audio` 29 on every Debian.
        let groups = |text: &str| text.lines().nth(1).unwrap().split(' ').map(ToOwned::to_owned).collect::<Vec<_>>();
        assert!(seen.iter().all(|one| groups(one) == groups(&seen[0])), "{seen:#?}");
        assert_eq!(groups(&seen[0]), ["60", "29"]);
        assert!(Command::new("systemctl").args(["stop", "notebook@alice.service"]).status().unwrap().success());
    });
}
