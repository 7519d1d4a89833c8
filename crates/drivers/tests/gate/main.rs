//! Gates against real files, programs and a server that answers as forges do: only positive proof passes.
#![expect(clippy::unwrap_used, reason = "a test that can't go on says where it stopped")]

mod commands;
mod forges;
mod integrity;
mod numbers;
mod reports;
mod server;

use lastgood_domain::{
    event::Verdict,
    terms::{Digest, ReleaseTag, ServiceName, Timestamp},
};
use lastgood_drivers::{
    gate::{Asked, GateConfig, Subject, ask},
    probe::{SecretSource, Secrets},
};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

pub(crate) const COMMIT: &str = "3f0c2b9a4d5e6f708192a3b4c5d6e7f801234567";

pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp(i64::try_from(since.as_millis()).unwrap())
}

pub(crate) fn subject() -> Subject {
    Subject {
        service: Some(ServiceName::new("shop").unwrap()),
        tag: Some(ReleaseTag::new("1.2.0").unwrap()),
        digest: Some(Digest::of(b"1.2.0")),
        commit: Some(COMMIT.into()),
        installation: None,
    }
}

pub(crate) fn gate(toml: &str) -> GateConfig {
    let gate: GateConfig = toml::from_str(toml).unwrap();
    assert_eq!(gate.problem(), None, "{toml}");
    gate
}

pub(crate) fn asked_of(toml: &str, folder: &Path, subject: &Subject) -> (Verdict, String) {
    let secrets = secrets(folder);
    ask(&gate(toml), subject, &Asked { folder, secrets: &secrets, now: now(), any_age: false })
}

pub(crate) fn asked(toml: &str, folder: &Path) -> (Verdict, String) {
    asked_of(toml, folder, &subject())
}

/// One secret, the forge's token.
pub(crate) fn secrets(folder: &Path) -> Secrets {
    let file = folder.join("token");
    fs::write(&file, "token-of-a-test\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    Secrets::load(&BTreeMap::from([("forge".to_owned(), SecretSource::File("token".into()))]), folder).unwrap()
}

#[test]
fn a_gate_that_could_not_say_no_is_refused_with_the_configuration() {
    for (toml, wanted) in [
        ("", "exactly one thing"),
        ("command = { argv = [\"x\"] }\nmanifest = { file = \"x\" }", "exactly one thing"),
        ("command = { argv = [] }", "no program"),
        ("probe = { url = \"http://a\", steps = [] }", "no step"),
        ("prometheus = { url = \"http://a\", query = \"up\" }", "any number would do"),
        ("prometheus = { url = \"a\", query = \"up\", min = 1 }", "must be an http://"),
        ("report = { files = [\"a\"], tests = [] }", "nothing is proven"),
        ("report = { files = [], tests = [\"a\"] }", "nothing is proven"),
        ("github = { repository = \"a/b\", checks = [] }", "nothing is proven"),
        ("github = { repository = \"a\", checks = [\"c\"] }", "not owner/name"),
        ("github = { repository = \"a/../b\", checks = [\"c\"] }", "not owner/name"),
        ("gitea = { repository = \"a/b\", checks = [\"c\"] }", "no address"),
    ] {
        let problem = toml::from_str::<GateConfig>(toml).unwrap().problem();
        let (_, what, _) = problem.unwrap_or_else(|| panic!("{toml} was taken"));
        assert!(what.contains(wanted), "{toml}: {what}");
    }
    assert!(toml::from_str::<GateConfig>("comand = { argv = [\"x\"] }").is_err());
}
