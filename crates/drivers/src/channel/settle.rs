//! Makes a tree that a client or a command wrote into one that can be sealed and moved.

use super::{
    ChannelError, Refusal,
    deadline::Deadline,
    inside::{FOLDER_MODE, file_mode, stays_inside},
    unpack::Limits,
};
use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
};

/// Who may read what was installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readers {
    /// Whoever could before; for trees that a command of the user wrote.
    AsGiven,
    /// Everyone: registry packages are public, and the service may run as another user than we do.
    Everyone,
}

/// Sets modes, gives each file an inode of its own, and refuses links that the move would break.
///
/// Links to absolute paths outside stay (a virtual environment's python is one); the seal keeps their targets.
pub(crate) fn settle(
    tree: &Path,
    staging: &Path,
    readers: Readers,
    limits: Limits,
    deadline: &Deadline<'_>,
) -> Result<(), ChannelError> {
    let mut links = BTreeMap::new();
    let mut ahead = vec![String::new()];
    let mut count = 0;
    while let Some(folder) = ahead.pop() {
        let at = tree.join(&folder);
        let failed = |error| ChannelError::io("read the folder", &at, error);
        set_mode(&at, FOLDER_MODE)?;
        for item in fs::read_dir(&at).map_err(failed)? {
            deadline.check()?;
            let name = item.map_err(failed)?.file_name();
            let refused = |source| ChannelError::Refused { what: "what was installed".into(), source };
            let bad = || refused(Refusal::BadName(name.to_string_lossy().into_owned()));
            let name_text = name.to_str().ok_or_else(bad)?;
            let path = if folder.is_empty() { name_text.into() } else { format!("{folder}/{name_text}") };
            count += 1;
            if count > limits.files_max {
                return Err(refused(Refusal::TooManyFiles { files_max: limits.files_max }));
            }
            let at = tree.join(&path);
            let facts = fs::symlink_metadata(&at).map_err(|error| ChannelError::io("look at", &at, error))?;
            if facts.is_dir() {
                ahead.push(path);
            } else if facts.is_symlink() {
                let target = fs::read_link(&at).map_err(|error| ChannelError::io("read the link", &at, error))?;
                links.insert(path, target.to_str().ok_or_else(bad)?.to_owned());
            } else if facts.is_file() {
                settle_file(&at, facts.nlink(), facts.mode(), readers)?;
            }
            // What is neither is refused, by name, when the tree is read for its seal.
        }
    }
    refuse_breaking_links(&links, staging)
}

fn settle_file(at: &Path, links: u64, mode: u32, readers: Readers) -> Result<(), ChannelError> {
    if links > 1 {
        // Its other name may lie outside, and a write there would change the release.
        let copy = at.with_extension("lastgood-copy");
        fs::copy(at, &copy).and_then(|_| fs::rename(&copy, at)).map_err(|error| ChannelError::io("copy", at, error))?;
    }
    let everyone = if mode & 0o100 == 0 { 0o444 } else { 0o555 };
    set_mode(at, if readers == Readers::Everyone { everyone } else { file_mode(mode) })
}

fn set_mode(at: &Path, mode: u32) -> Result<(), ChannelError> {
    fs::set_permissions(at, Permissions::from_mode(mode))
        .map_err(|error| ChannelError::io("set the mode of", at, error))
}

fn refuse_breaking_links(links: &BTreeMap<String, String>, staging: &Path) -> Result<(), ChannelError> {
    let relative: BTreeMap<&str, &str> = links
        .iter()
        .filter(|(_, target)| !target.starts_with('/'))
        .map(|(path, target)| (path.as_str(), target.as_str()))
        .collect();
    let breaks = |path: &str, target: &str| {
        if target.starts_with('/') {
            // It would point to nothing after the move.
            Path::new(target).starts_with(staging)
        } else {
            !stays_inside(path, target, &relative)
        }
    };
    match links.iter().find(|(path, target)| breaks(path, target)) {
        None => Ok(()),
        Some((path, target)) => {
            let source = Refusal::LinkLeaves { path: path.clone(), target: target.clone() };
            Err(ChannelError::Refused { what: "what was installed".into(), source })
        }
    }
}
