//! The seal of an installed tree: what was installed, to the byte, and a fast way to see that it still is.
//!
//! A rollback starts a program that was installed weeks ago. It must be the very same program, and asking must
//! cost milliseconds: so the seal keeps digests, which decide, beside the times and inodes that tell which
//! files can be believed without reading them again. Whoever can forge inode change times is root, and root
//! can replace lastgood itself.

use super::{
    ChannelError,
    tree::{Entry, Kind, Look, Manifest, Walk},
    unpack::Limits,
};
use lastgood_domain::facts::Installation;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
};

/// Name of the tree's folder within a published folder.
pub(crate) const TREE: &str = "tree";
/// Name of the seal beside the tree.
const SEAL: &str = "seal.jsonl";
/// Name of the facts beside the tree.
const FACTS: &str = "installation.json";
/// Longest line of a seal: two paths of 3,000 bytes, escaped, and some numbers.
const SEAL_LINE_BYTES_MAX: u64 = 64 << 10;
/// Largest facts file read: it holds a few short fields.
const FACTS_BYTES_MAX: u64 = 64 << 10;
/// Differences named in an error: enough to see a pattern.
const CHANGES_SHOWN_MAX: usize = 10;
/// One read of the seal.
const CHUNK_BYTES: usize = 256 << 10;

/// What a passed check looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// Files, folders and links compared.
    pub entries: u64,
    /// Files whose content was read again.
    pub read_again: u64,
}

/// Facts of a published folder as they are stored beside the tree.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Facts {
    /// What the engine is told.
    pub(crate) installation: Installation,
    /// The channel's mark at the time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mark: Option<String>,
}

impl Manifest {
    fn write(&self, at: &Path) -> Result<(), ChannelError> {
        let failed = |error| ChannelError::io("write the seal", at, error);
        let mut file = std::io::BufWriter::new(File::create_new(at).map_err(failed)?);
        for line in &self.entries {
            serde_json::to_writer(&mut file, &line).map_err(|error| failed(error.into()))?;
            file.write_all(b"\n").map_err(failed)?;
        }
        file.into_inner().map_err(|error| failed(error.into_error()))?.sync_all().map_err(failed)
    }

    fn read(at: &Path) -> Result<Self, String> {
        let file = File::open(at).map_err(|error| error.to_string())?;
        let mut reader = BufReader::with_capacity(CHUNK_BYTES, file);
        let (mut entries, mut line) = (BTreeMap::new(), Vec::new());
        loop {
            line.clear();
            let count = reader
                .by_ref()
                .take(SEAL_LINE_BYTES_MAX)
                .read_until(b'\n', &mut line)
                .map_err(|error| error.to_string())?;
            if count == 0 {
                return Ok(Self { entries });
            }
            let (path, entry): (String, Entry) = serde_json::from_slice(&line)
                .map_err(|error| format!("line {} of {SEAL}: {error}", entries.len() + 1))?;
            entries.insert(path, entry);
        }
    }
}

/// Writes seal and facts beside the tree in `folder`.
pub(crate) fn seal(folder: &Path, manifest: &Manifest, facts: &Facts) -> Result<(), ChannelError> {
    manifest.write(&folder.join(SEAL))?;
    let at = folder.join(FACTS);
    let failed = |error| ChannelError::io("write", &at, error);
    let text = serde_json::to_vec_pretty(facts).map_err(|error| failed(error.into()))?;
    let mut file = File::create_new(&at).map_err(failed)?;
    file.write_all(&text).and_then(|()| file.sync_all()).map_err(failed)
}

/// Reads the facts of a published folder; the path in them is where the folder is now.
pub(crate) fn facts(folder: &Path) -> Result<Facts, ChannelError> {
    let unsealed = |why: String| ChannelError::Unsealed { path: folder.into(), why };
    let file = File::open(folder.join(FACTS)).map_err(|error| unsealed(format!("{FACTS}: {error}")))?;
    let mut text = Vec::new();
    file.take(FACTS_BYTES_MAX).read_to_end(&mut text).map_err(|error| unsealed(format!("{FACTS}: {error}")))?;
    let mut facts: Facts = serde_json::from_slice(&text).map_err(|error| unsealed(format!("{FACTS}: {error}")))?;
    facts.installation.path = text_of(&folder.join(TREE))?;
    Ok(facts)
}

/// Gives a path as text, which is what evidence holds.
pub(crate) fn text_of(path: &Path) -> Result<String, ChannelError> {
    path.to_str().map(Into::into).ok_or_else(|| ChannelError::Unsealed {
        path: path.into(),
        why: "its path is not UTF-8; use another folder for installations".into(),
    })
}

/// Checks every byte of an installation against its seal, and the seal against the recorded digest.
pub fn verify_full(installation: &Installation) -> Result<Verified, ChannelError> {
    let sealed = sealed(installation)?;
    verify(installation, &sealed, Look::Full)
}

/// Checks an installation by looking at every file, but reads only those that may have changed.
///
/// Takes milliseconds for thousands of files. Extra, missing and changed files are named.
pub fn verify_fast(installation: &Installation) -> Result<Verified, ChannelError> {
    let sealed = sealed(installation)?;
    verify(installation, &sealed, Look::Fast(&sealed))
}

/// Reads the seal and proves that it is the one the evidence names.
fn sealed(installation: &Installation) -> Result<Manifest, ChannelError> {
    let folder = folder_of(installation)?;
    let manifest =
        Manifest::read(&folder.join(SEAL)).map_err(|why| ChannelError::Unsealed { path: folder.clone(), why })?;
    let tree = manifest.tree();
    if tree != installation.tree {
        let why = format!("its seal gives {tree}, the record says {}", installation.tree);
        return Err(ChannelError::Unsealed { path: folder, why });
    }
    Ok(manifest)
}

fn folder_of(installation: &Installation) -> Result<PathBuf, ChannelError> {
    let tree = Path::new(&installation.path);
    match tree.parent() {
        Some(folder) if tree.file_name().is_some_and(|name| name == TREE) => Ok(folder.into()),
        _ => Err(ChannelError::Unsealed { path: tree.into(), why: format!("it is not a folder called {TREE}") }),
    }
}

fn verify(installation: &Installation, sealed: &Manifest, look: Look<'_>) -> Result<Verified, ChannelError> {
    let root = Path::new(&installation.path);
    // The tree may only have grown by what is not in the seal, so one more than sealed is already wrong; a
    // little room lets the error name more than one extra file.
    let files_max = (sealed.entries.len() as u64).saturating_add(1_000);
    let limits = Limits { files_max, bytes_max: u64::MAX };
    let mut walk = Walk::new(root, limits, look, None);
    let found = walk.run()?;
    let changes = differences(sealed, &found);
    if changes.is_empty() {
        return Ok(Verified { entries: found.len() as u64, read_again: walk.read_again() });
    }
    let count = changes.len();
    Err(ChannelError::Damaged {
        path: root.into(),
        changes: changes.into_iter().take(CHANGES_SHOWN_MAX).collect(),
        count,
    })
}

fn differences(sealed: &Manifest, found: &BTreeMap<String, Entry>) -> Vec<String> {
    let mut changes = Vec::new();
    for (path, entry) in &sealed.entries {
        match found.get(path) {
            None => changes.push(format!("missing: {path}")),
            Some(now) if now.kind != entry.kind => changes.push(format!("changed: {path}")),
            // Modes of links mean nothing.
            Some(now) if now.mode != entry.mode && !matches!(entry.kind, Kind::Link { .. }) => {
                changes.push(format!("mode {:o} was {:o}: {path}", now.mode, entry.mode));
            }
            Some(_) => {}
        }
    }
    changes
        .extend(found.keys().filter(|path| !sealed.entries.contains_key(*path)).map(|path| format!("extra: {path}")));
    changes
}

/// Removes an installation; doing it again, or after a kill half-way, is the same as once.
///
/// Only a folder with our own facts for this very tree is touched.
pub fn discard(installation: &Installation) -> Result<(), ChannelError> {
    let folder = folder_of(installation)?;
    if !folder.try_exists().map_err(|error| ChannelError::io("look at", &folder, error))? {
        return Ok(());
    }
    let stored = facts(&folder)?.installation;
    if stored.tree != installation.tree || stored.release != installation.release {
        return Err(ChannelError::Unsealed { path: folder, why: "it holds another release than the one named".into() });
    }
    super::staging::remove_published(&folder)
}
