//! What a tree holds, file by file, and the digest that stands for all of it.

use super::{
    ChannelError, Refusal,
    deadline::Deadline,
    inside::{PATH_BYTES_MAX, stays_inside},
    unpack::Limits,
};
use lastgood_domain::terms::Digest;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use std::{
    collections::BTreeMap,
    fs::{self, File, Metadata},
    io::Read as _,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::Path,
};

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

/// How a tree is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look<'a> {
    /// Reads every file.
    Full,
    /// Reads only files whose size, times or inode differ from the seal's.
    Fast(&'a Manifest),
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
}

/// Reads the tree at `path` in full and tells what it holds.
///
/// Refuses what could not be proved the same later: devices, sockets, names that are not UTF-8.
pub(crate) fn read_tree(path: &Path, limits: Limits, deadline: &Deadline<'_>) -> Result<Manifest, ChannelError> {
    Ok(Manifest { entries: Walk::new(path, limits, Look::Full, Some(deadline)).run()? })
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

/// One look at all of a tree.
pub(crate) struct Walk<'a> {
    root: &'a Path,
    limits: Limits,
    look: Look<'a>,
    read_again: u64,
    bytes: u64,
    deadline: Option<&'a Deadline<'a>>,
}

impl<'a> Walk<'a> {
    /// Prepares a look; without a deadline where a rollback must not be stopped by one.
    pub(crate) fn new(root: &'a Path, limits: Limits, look: Look<'a>, deadline: Option<&'a Deadline<'a>>) -> Self {
        Self { root, limits, look, read_again: 0, bytes: 0, deadline }
    }

    /// Tells how many files were read.
    pub(crate) fn read_again(&self) -> u64 {
        self.read_again
    }

    /// Looks, and gives what is there by path.
    pub(crate) fn run(&mut self) -> Result<BTreeMap<String, Entry>, ChannelError> {
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
                if path.len() > PATH_BYTES_MAX || depth >= DEPTH_MAX {
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
