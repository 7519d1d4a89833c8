//! What asking a database promises: typed answers, limits that hold, nothing written, no secret shown.

#![expect(clippy::unwrap_used, reason = "a test that can not go on has failed")]

mod file;
#[path = "../postgres_kit/mod.rs"]
mod postgres_kit;
mod server;

use lastgood_domain::terms::Span;
use lastgood_drivers::{
    probe::{SecretSource, Secrets},
    sql::{Database, DatabaseConfig, Limits, Worker},
};
use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

/// A database as lastgood.toml names it, with its password in the file `folder/password-of-it`, if one is given.
pub(crate) fn database(folder: &Path, toml: &str, password: Option<&str>) -> Database {
    let config: DatabaseConfig = toml::from_str(toml).unwrap();
    let mut sources = std::collections::BTreeMap::new();
    if let Some(password) = password {
        let file = folder.join("password-of-it");
        fs::write(&file, password).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        sources.insert("it".to_owned(), SecretSource::File(file));
    }
    let secrets = Secrets::load(&sources, folder).unwrap();
    let worker = Worker::new(env!("CARGO_BIN_EXE_lastgood-driver-test-shim"));
    Database::prepare("app", &config, folder, &worker, &secrets).unwrap()
}

pub(crate) fn limits(seconds: u64, rows: u32) -> Limits {
    Limits { time: Span::seconds(seconds), rows }
}

#[test]
fn a_database_is_one_of_two_kinds_and_holds_no_password() {
    for (toml, wanted) in [
        ("", "give one of"),
        ("sqlite = \"a\"\npostgres = \"host=h user=u\"", "give one of"),
        ("sqlite = \"a\"\nsecret = \"b\"", "secret goes with postgres only"),
        ("postgres = \"postgresql://u:hunter2@h/d\"", "must not hold a password"),
        ("postgres = \"host=h\"", "names no user"),
    ] {
        let error = toml::from_str::<DatabaseConfig>(toml).unwrap_err();
        assert!(error.message().contains(wanted), "{toml}: {}", error.message());
        assert!(!error.message().contains("hunter2"), "{}", error.message());
    }
    let config: DatabaseConfig = toml::from_str("postgres = \"postgresql://u@h:5433/d\"\nsecret = \"s\"").unwrap();
    assert_eq!(config.secret(), Some("s"));
    assert_eq!(toml::from_str::<DatabaseConfig>(&toml::to_string(&config).unwrap()).unwrap(), config);
}
