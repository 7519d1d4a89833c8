//! Environment, files, ports and room.

use crate::{code, keys, sight, wrong};
use lastgood_drivers::check::{Check, Environment};
use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt as _, process::Command};

fn env(toml: &str) -> Check {
    Check::Env(keys(toml))
}

#[test]
fn a_variable_is_looked_at_where_it_is_used_and_its_value_is_never_said() {
    let folder = tempfile::tempdir().unwrap();
    let mut sight = sight(folder.path());
    let given = |pairs: &[(&str, &str)]| {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        vec![Environment { instance: "alice".into(), variables: Ok(pairs.collect()) }]
    };
    let wants = env("variables = ['API_KEY']\nservice = 'notes'\nmatches = '^sk-[0-9]+$'");
    // What lastgood's own environment has is nothing to the service: PATH is surely set here.
    sight.environments.insert("notes".into(), given(&[]));
    assert_eq!(wrong(env("variables = ['PATH']\nservice = 'notes'").look(&sight)).0, "preflight-env-missing");
    assert_eq!(code(&env("variables = ['PATH']"), &sight), "");

    assert_eq!(wrong(wants.look(&sight)), ("preflight-env-missing", false, "notes/alice has no API_KEY".into()));
    sight.environments.insert("notes".into(), given(&[("API_KEY", "")]));
    assert_eq!(wrong(wants.look(&sight)).0, "preflight-env-empty");
    sight.environments.insert("notes".into(), given(&[("API_KEY", "hunter2-very-secret")]));
    let (found, _, what) = wrong(wants.look(&sight));
    assert_eq!(found, "preflight-env-mismatch");
    assert!(!what.contains("hunter2"), "{what}");
    sight.environments.insert("notes".into(), given(&[("API_KEY", "sk-123")]));
    let seen = wants.look(&sight).unwrap();
    assert!(!seen.contains("123"), "{seen}");

    let absent = env("variables = ['API_KEY']\nservice = 'notes'\nrule = 'absent'");
    assert_eq!(wrong(absent.look(&sight)).0, "preflight-env-forbidden");
    let broken = Environment { instance: "alice".into(), variables: Err("there is no [secret.x]".into()) };
    sight.environments.insert("notes".into(), vec![broken]);
    assert!(wrong(absent.look(&sight)).1, "what can't be told is no pass, even for what must be absent");
}

#[test]
fn a_variable_of_a_feature_is_needed_only_while_the_feature_is_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut sight = sight(folder.path());
    let by_variable =
        env("variables = ['STRIPE']\nservice = 'notes'\nonly_if = { variable = 'PAYMENTS', equals = 'on' }");
    let by_flag = env("variables = ['STRIPE']\nservice = 'notes'\nonly_if = { flag = 'payments' }");
    for (value, needed) in [("off", ""), ("on", "preflight-env-missing")] {
        let variables = Ok([("PAYMENTS".to_owned(), value.to_owned())].into());
        sight.environments.insert("notes".into(), vec![Environment { instance: "a".into(), variables }]);
        assert_eq!(code(&by_variable, &sight), needed, "{value}");
    }
    assert_eq!(code(&by_flag, &sight), "");
    sight.flags.insert("payments".into(), true);
    assert_eq!(code(&by_flag, &sight), "preflight-env-missing");
}

#[test]
fn a_file_must_be_there_whose_how_open_not_empty_young_and_with_these_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("settings");
    let file = |more: &str| Check::File(keys(&format!("path = 'settings'\n{more}")));
    let at = || sight(folder.path());
    assert_eq!(wrong(file("").look(&at())).0, "preflight-file-missing");
    fs::write(&path, "").unwrap();
    assert_eq!(wrong(file("").look(&at())).0, "preflight-file-empty");
    assert_eq!(code(&file("bytes_min = 0"), &at()), "");
    fs::write(&path, "a = 1\n").unwrap();
    assert_eq!(code(&file(""), &at()), "");
    assert_eq!(wrong(file("kind = 'folder'").look(&at())).0, "preflight-file-kind");

    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(code(&file("mode = '0644'"), &at()), "");
    let (found, _, what) = wrong(file("mode = '0640'").look(&at()));
    assert_eq!((found, what.contains("0644")), ("preflight-file-mode", true), "{what}");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
    assert_eq!(code(&file("mode = '0640'"), &at()), "", "narrower is allowed");

    let user = if rustix::process::getuid().is_root() { "root" } else { "nobody" };
    let expected = if user == "root" { "" } else { "preflight-file-owner" };
    assert_eq!(code(&file(&format!("owner = '{user}'")), &at()), expected);
    assert_eq!(code(&file("owner = 'daemon'"), &at()), "preflight-file-owner");
    assert!(wrong(file("owner = 'no-such-user'").look(&at())).1);

    let sum = Command::new("sha256sum").arg(&path).output().unwrap().stdout;
    let sum = String::from_utf8(sum).unwrap()[..64].to_owned();
    assert_eq!(code(&file(&format!("sha256 = '{sum}'")), &at()), "");
    assert_eq!(code(&file(&format!("sha256 = '{}'", "0".repeat(64))), &at()), "preflight-file-digest");

    let old = Command::new("touch").args(["-d", "2 hours ago"]).arg(&path).status().unwrap();
    assert!(old.success());
    assert_eq!(code(&file("age_max = '3h'"), &at()), "");
    assert_eq!(code(&file("age_max = '1h'"), &at()), "preflight-file-old");
    // What comes from the future says nothing of its age.
    assert!(Command::new("touch").args(["-d", "2 hours"]).arg(&path).status().unwrap().success());
    assert_eq!(code(&file("age_max = '3h'"), &at()), "preflight-file-old");
}

#[test]
fn a_port_is_free_or_answers_and_looking_takes_it_from_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let port = |rule: &str| Check::Port(keys(&format!("address = '{address}'\nrule = '{rule}'")));
    let at = || sight(folder.path());
    assert_eq!(code(&port("answers"), &at()), "");
    assert_eq!(wrong(port("free").look(&at())).0, "preflight-port-taken");
    drop(listener);
    assert_eq!(wrong(port("answers").look(&at())).0, "preflight-port-silent");
    assert_eq!(code(&port("free"), &at()), "");
    // It can be listened on right after it was looked at.
    TcpListener::bind(address).unwrap();
    let elsewhere = Check::Port(keys("address = '192.0.2.1:80'\nrule = 'free'"));
    assert_eq!(wrong(elsewhere.look(&at())).0, "preflight-port-unusable");
    let nowhere = Check::Port(keys("address = 'no.such.host.invalid:80'"));
    assert_eq!(wrong(nowhere.look(&at())).0, "preflight-host-unknown");
}

#[test]
fn room_is_bytes_and_inodes() {
    let folder = tempfile::tempdir().unwrap();
    let disk = |keys_of: &str| Check::Disk(keys(&format!("path = '.'\n{keys_of}")));
    let at = || sight(folder.path());
    assert_eq!(code(&disk("free_mib_min = 1\nfree_inodes_min = 1"), &at()), "");
    let (found, _, what) = wrong(disk("free_mib_min = 1000000000").look(&at()));
    assert_eq!((found, what.contains("at least 953.6 TiB")), ("preflight-disk-full", true), "{what}");
    assert_eq!(wrong(Check::Disk(keys("path = 'gone'\nfree_mib_min = 1")).look(&at())).0, "preflight-disk-unknown");
}
