//! What each check promises, against real files, ports, servers, certificates, databases and schedulers.

#![expect(clippy::unwrap_used, reason = "a test that can not go on has failed")]

mod host;
mod jobs;
#[expect(dead_code, reason = "its tests of the connection itself use all of it")]
#[path = "../postgres_kit/mod.rs"]
mod postgres_kit;
mod server;
mod services;
#[path = "../systemd_kit/mod.rs"]
mod systemd_kit;

use jiff::Timestamp;
use lastgood_drivers::{
    check::{Check, Sight, Wrong},
    probe::Secrets,
};
use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

/// What a check may look at: this folder, now, for ten seconds.
pub(crate) fn sight(folder: &Path) -> Sight {
    Sight {
        folder: folder.to_path_buf(),
        secrets: Secrets::default(),
        environments: BTreeMap::new(),
        databases: BTreeMap::new(),
        flags: BTreeMap::new(),
        now: Timestamp::now(),
        until: Instant::now() + Duration::from_secs(10),
    }
}

/// Gives the code, whether nobody can tell, and the words of what is wrong.
pub(crate) fn wrong(seen: Result<String, Wrong>) -> (&'static str, bool, String) {
    let Wrong { code, what, fix, is_unknown } = seen.unwrap_err();
    assert!(!fix.is_empty(), "{code} says nothing to type");
    (code, is_unknown, what)
}

/// Looks with the code only: empty is a pass.
pub(crate) fn code(check: &Check, sight: &Sight) -> &'static str {
    check.look(sight).err().map_or("", |wrong| wrong.code)
}

/// Reads the keys of a check as lastgood.toml has them.
pub(crate) fn keys<T: serde::de::DeserializeOwned>(toml: &str) -> T {
    toml::from_str(toml).unwrap()
}
