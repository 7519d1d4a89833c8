//! The seal of an installed tree: what was installed, to the byte, and a fast way to see that it still is.
//!
//! A rollback starts a program that was installed weeks ago. It must be the very same program, and asking must
//! cost milliseconds: so the seal keeps digests, which decide, beside the times and inodes that tell which
//! files can be believed without reading them again. Whoever can forge inode change times is root, and root
//! can replace lastgood itself.

use super::{
    ChannelError,
    deadline::Deadline,
    unpack::{Limits, Refusal, stays_inside},
};
use lastgood_domain::{facts::Installation, terms::Digest};
use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use std::{
    collections::BTreeMap,
    fs::{self, File, Metadata},
    io::{BufRead, BufReader, Read, Write},
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
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
/// Deepest folder walked: a path of 3,000 bytes has at most 1,500 parts, real ones under 100.
const DEPTH_MAX: usize = 256;
/// One read of a file that is digested.
const CHUNK_BYTES: usize = 256 << 10;

/// What an installed tree holds, path by path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Every file, folder and link, ordered by path.
    pub entries: BTreeMap<String, Entry>,
}

/// One file, folder or link of a sealed tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What it is, with what decides whether it is the same.
    #[serde(flatten)]
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// When it was last written, in nanoseconds since 1970; only for the fast check.
    pub mtime_ns: i64,
    /// When its inode last changed, likewise.
    pub ctime_ns: i64,
    /// Its inode, likewise.
    pub ino: u64,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Kind {
    /// A folder.
    Folder,
    /// A file.
    File {
        /// Its length in bytes.
        size: u64,
        /// SHA-256 of its content.
        sha256: Digest,
    },
    /// A symbolic link.
    Link {
        /// Where it points, as written.
        target: String,
    },
}

/// What a passed check looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// Files, folders and links compared.
    pub entries: u64,
    /// Files whose content was read again.
    pub read_again: u64,
}

/// How a tree is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look<'a> {
    /// Reads every file.
    Full,
    /// Reads only files whose size, times or inode differ from the seal's.
    Fast(&'a Manifest),
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
    /// Digests names, modes and contents; times and inodes have no part in it.
    pub fn tree(&self) -> Digest {
        let mut hash = sha2::Sha256::new();
        hash.update(b"lastgood tree v1\0");
        for (path, entry) in &self.entries {
            // No part can hold a NUL, so no two trees give the same bytes.
            match &entry.kind {
                Kind::Folder => hash.update(format!("d {:o} {path}\0", entry.mode)),
                Kind::File { sha256, .. } => hash.update(format!("f {:o} {path}\0{sha256}\0", entry.mode)),
                Kind::Link { target } => hash.update(format!("l {path}\0{target}\0")),
            }
        }
        Digest(hash.finalize().into())
    }

    /// Sums up the bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.entries.values().map(|entry| if let Kind::File { size, .. } = entry.kind { size } else { 0 }).sum()
    }

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

/// Reads the tree at `path` in full and tells what it holds.
///
/// Refuses what could not be proved the same later: devices, sockets, names that are not UTF-8.
pub(crate) fn read_tree(path: &Path, limits: Limits, deadline: &Deadline<'_>) -> Result<Manifest, ChannelError> {
    let mut walk = Walk { root: path, limits, look: Look::Full, read_again: 0, bytes: 0, deadline: Some(deadline) };
    Ok(Manifest { entries: walk.run()? })
}

/// Refuses links that lead out of the tree.
pub(crate) fn refuse_leaving_links(what: &str, manifest: &Manifest) -> Result<(), ChannelError> {
    let links: BTreeMap<&str, &str> = manifest
        .entries
        .iter()
        .filter_map(|(path, entry)| match &entry.kind {
            Kind::Link { target } => Some((path.as_str(), target.as_str())),
            _ => None,
        })
        .collect();
    match links.iter().find(|(path, target)| !stays_inside(path, target, &links)) {
        None => Ok(()),
        Some((path, target)) => {
            let source = Refusal::LinkLeaves { path: (*path).into(), target: (*target).into() };
            Err(ChannelError::Refused { what: what.into(), source })
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
    let mut walk = Walk { root, limits, look, read_again: 0, bytes: 0, deadline: None };
    let found = walk.run()?;
    let changes = differences(sealed, &found);
    if changes.is_empty() {
        return Ok(Verified { entries: found.len() as u64, read_again: walk.read_again });
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

struct Walk<'a> {
    root: &'a Path,
    limits: Limits,
    look: Look<'a>,
    read_again: u64,
    bytes: u64,
    deadline: Option<&'a Deadline<'a>>,
}

impl Walk<'_> {
    fn run(&mut self) -> Result<BTreeMap<String, Entry>, ChannelError> {
        let mut found = BTreeMap::new();
        let mut ahead = vec![(String::new(), 0)];
        while let Some((folder, depth)) = ahead.pop() {
            let at = self.root.join(&folder);
            let failed = |error| ChannelError::io("read the folder", &at, error);
            for item in fs::read_dir(&at).map_err(failed)? {
                let item = item.map_err(failed)?;
                let name = item.file_name();
                let refused = |source| ChannelError::Refused { what: self.root.display().to_string(), source };
                let shown = || name.to_string_lossy().into_owned();
                let name_text = name.to_str().ok_or_else(|| refused(Refusal::BadName(shown())))?;
                let path = if folder.is_empty() { name_text.into() } else { format!("{folder}/{name_text}") };
                if path.len() > super::unpack::PATH_BYTES_MAX || depth >= DEPTH_MAX {
                    return Err(refused(Refusal::BadName(path)));
                }
                if found.len() as u64 >= self.limits.files_max {
                    return Err(refused(Refusal::TooManyFiles { files_max: self.limits.files_max }));
                }
                let entry = self.entry(&path)?;
                if entry.kind == Kind::Folder {
                    ahead.push((path.clone(), depth + 1));
                }
                found.insert(path, entry);
            }
        }
        Ok(found)
    }

    fn entry(&mut self, path: &str) -> Result<Entry, ChannelError> {
        if let Some(deadline) = self.deadline {
            deadline.check()?;
        }
        let at = self.root.join(path);
        let facts = fs::symlink_metadata(&at).map_err(|error| ChannelError::io("look at", &at, error))?;
        let refused = |source| ChannelError::Refused { what: self.root.display().to_string(), source };
        let kind = facts.file_type();
        let kind = if kind.is_dir() {
            Kind::Folder
        } else if kind.is_symlink() {
            let target = fs::read_link(&at).map_err(|error| ChannelError::io("read the link", &at, error))?;
            let target = target.to_str().ok_or_else(|| refused(Refusal::BadName(path.into())))?;
            Kind::Link { target: target.into() }
        } else if kind.is_file() {
            if facts.mode() & 0o6000 != 0 {
                return Err(refused(Refusal::SetUserId(path.into())));
            }
            self.bytes = self.bytes.saturating_add(facts.len());
            if self.bytes > self.limits.bytes_max {
                return Err(refused(Refusal::TooManyBytes { bytes_max: self.limits.bytes_max }));
            }
            self.file(path, &at, &facts)?
        } else {
            let kind = if kind.is_fifo() {
                "FIFO"
            } else if kind.is_socket() {
                "socket"
            } else {
                "device"
            };
            return Err(refused(Refusal::SpecialFile { path: path.into(), kind }));
        };
        Ok(Entry {
            kind,
            mode: facts.mode() & 0o7777,
            mtime_ns: nanoseconds(facts.mtime(), facts.mtime_nsec()),
            ctime_ns: nanoseconds(facts.ctime(), facts.ctime_nsec()),
            ino: facts.ino(),
        })
    }

    /// Digests a file, or believes the seal where size, times and inode are unchanged.
    fn file(&mut self, path: &str, at: &Path, facts: &Metadata) -> Result<Kind, ChannelError> {
        if let Look::Fast(sealed) = self.look
            && let Some(known) = sealed.entries.get(path)
            && let Kind::File { size, sha256 } = known.kind
            && size == facts.len()
            && known.ino == facts.ino()
            && known.mtime_ns == nanoseconds(facts.mtime(), facts.mtime_nsec())
            && known.ctime_ns == nanoseconds(facts.ctime(), facts.ctime_nsec())
        {
            return Ok(Kind::File { size, sha256 });
        }
        self.read_again += 1;
        let (size, sha256) = digest_file(at, self.limits.bytes_max, self.deadline)?;
        Ok(Kind::File { size, sha256 })
    }
}

/// Digests a file's bytes, at most `bytes_max` of them, and counts them.
pub(crate) fn digest_file(
    at: &Path,
    bytes_max: u64,
    deadline: Option<&Deadline<'_>>,
) -> Result<(u64, Digest), ChannelError> {
    let failed = |error| ChannelError::io("read", at, error);
    let mut file = File::open(at).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let mut chunk = vec![0; usize::try_from(length).unwrap_or(CHUNK_BYTES).clamp(1, CHUNK_BYTES)];
    let (mut hash, mut size) = (sha2::Sha256::new(), 0);
    loop {
        if let Some(deadline) = deadline {
            deadline.check()?;
        }
        let count = file.read(&mut chunk).map_err(failed)?;
        if count == 0 {
            return Ok((size, Digest(hash.finalize().into())));
        }
        size += count as u64;
        if size > bytes_max {
            let what = at.display().to_string();
            return Err(ChannelError::Refused { what, source: Refusal::TooManyBytes { bytes_max } });
        }
        hash.update(&chunk[..count]);
    }
}

fn nanoseconds(seconds: i64, rest: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}
