//! What watched gates say of what runs: kept in the state folder, one file for each gate, so that commands read what the
//! daemon asked, and a restart forgets nothing. What follows from it stands in the operations chain.

use crate::paths::Home;
use lastgood_domain::terms::{Digest, GateName, ServiceName};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fs, io, path::PathBuf};

/// Why a gate fails about a release that is last-good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failing {
    /// The release that was asked about.
    pub release: Digest,
    /// What the gate says, without secrets.
    pub because: String,
}

/// For which services one gate fails.
pub type Red = BTreeMap<ServiceName, Failing>;

fn file(home: &Home, gate: &GateName) -> PathBuf {
    home.root().join("gates").join(format!("{gate}.json"))
}

/// Reads for which services a gate failed when it was asked last; for none where it never was, or what was kept is no more
/// to be read: then the next look tells.
pub fn read(home: &Home, gate: &GateName) -> Red {
    let kept = fs::read(file(home, gate)).ok();
    kept.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// Keeps for which services a gate fails. Only the thread that asks this gate writes.
///
/// Errors: the state folder can't be written.
pub fn keep(home: &Home, gate: &GateName, red: &Red) -> io::Result<()> {
    let path = file(home, gate);
    let new = path.with_extension("new");
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(&new, serde_json::to_vec(red)?)?;
    fs::rename(new, path)
}
