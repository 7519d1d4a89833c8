//! What enforces holds outside: real git, real programs, and a server that speaks as forges do.
#![expect(clippy::unwrap_used, reason = "a test that cannot set up its world has failed")]

mod checks;
mod command;
mod forge;
mod git;

use lastgood_drivers::enforcer::{Enforcer, EnforcerConfig, Held};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

fn enforcer(folder: &Path, keys: &str) -> Enforcer {
    let config: EnforcerConfig = toml::from_str(keys).unwrap_or_else(|error| panic!("{error}: {keys}"));
    let secrets = |name: &str| (name == "forge").then(|| "not-a-real-token".to_owned());
    Enforcer::prepare("test", &config.place, folder, &secrets).unwrap()
}

fn held(id: &str) -> Held {
    Held {
        id: id.into(),
        kinds: "merge".into(),
        services: "every service".into(),
        owner: "person:alice".into(),
        reason: "orders are doubled".into(),
        until_seconds: None,
        passes: BTreeMap::new(),
        ended: BTreeSet::new(),
    }
}

fn found(enforcer: &Enforcer) -> Vec<String> {
    enforcer.read(&[]).unwrap().holds.into_iter().collect()
}

#[test]
fn keys_that_would_be_ignored_or_are_missing_are_refused() {
    let wrong = [
        "",
        "git = \"/a\"\ngithub = \"a/b\"",
        "git = \"/a\"\ntoken = \"x\"",
        "git = \"/a\"\nbranches = [\"refs/heads/main\"]",
        "git = \"/a\"\nbranches = [\"main'; rm\"]",
        "git = \"/a\"\ntimeout = \"2m\"",
        "github = \"a/b\"",
        "github = \"a\"\ntoken = \"x\"",
        "gitea = \"a/b\"\ntoken = \"x\"",
        "github = \"a/b\"\ntoken = \"x\"\ncheck = \"a b\"",
        "git = \"/a\"\ncheck = \"lastgood\"",
        "gitea = \"a/b\"\ntoken = \"x\"\nurl = \"http://git.example.com\"",
        "command = { set = [\"a\"], lift = [\"a\"], read = [\"a\"] }",
        "command = { set = [\"a\"], lift = [\"a\"], read = [] }\nkinds = [\"claim\"]",
        "command = { set = [\"a\"], lift = [\"a\"], read = [\"a\"] }\nkinds = [\"claim\"]\nbranches = [\"main\"]",
    ];
    for keys in wrong {
        assert!(toml::from_str::<EnforcerConfig>(keys).is_err(), "{keys}");
    }
}
