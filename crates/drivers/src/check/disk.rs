//! Room: bytes and inodes that are free to those who are not root.

use super::{Sight, Wrong};
use lastgood_domain::words;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Room on the disk of a path.
///
/// ```toml
/// [preflight.room]
/// disk = { path = "/var/lib/lastgood", free_mib_min = 2048, free_inodes_min = 10000 }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DiskCheck {
    /// A file or folder on it. A relative path starts at the folder of lastgood.toml.
    pub path: PathBuf,
    /// Free room, in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_mib_min: Option<u64>,
    /// Free inodes: files that can still be made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_inodes_min: Option<u64>,
}

impl DiskCheck {
    /// Tells what no single key shows.
    pub fn problem(&self) -> Option<String> {
        let asks = self.free_mib_min.is_some() || self.free_inodes_min.is_some();
        (!asks).then(|| "it asks for nothing: give free_mib_min or free_inodes_min".into())
    }

    pub(super) fn look(&self, sight: &Sight) -> Result<String, Wrong> {
        let path = sight.folder.join(&self.path);
        let shown = path.display();
        let space = rustix::fs::statvfs(&path).map_err(|error| {
            let what = format!("the disk of {shown} can't be looked at: {error}");
            Wrong::unknown("preflight-disk-unknown", what, format!("ls -ld {shown}; findmnt -T {shown}"))
        })?;
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        if let Some(mib) = self.free_mib_min
            && free < mib.saturating_mul(1 << 20)
        {
            let what = format!(
                "{} free on the disk of {shown}, at least {} wanted",
                words::size(free),
                words::size(mib.saturating_mul(1 << 20))
            );
            return Err(Wrong::fails("preflight-disk-full", what, format!("df -h {shown}; du -xh {shown} | sort -h")));
        }
        // A file system that makes inodes as it needs them says 0 of 0.
        if let Some(wanted) = self.free_inodes_min
            && space.f_files != 0
            && space.f_favail < wanted
        {
            let what = format!("{} inodes free on the disk of {shown}, at least {wanted} wanted", space.f_favail);
            return Err(Wrong::fails("preflight-disk-inodes", what, format!("df -i {shown}; du -x --inodes {shown}")));
        }
        Ok(format!("{} and {} inodes free", words::size(free), space.f_favail))
    }
}
