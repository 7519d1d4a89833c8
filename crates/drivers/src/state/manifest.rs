//! What a snapshot says of itself, written last: without a manifest in place there is no snapshot.

use super::{
    error::{Cause, StateError},
    place::StatePlace,
};
use lastgood_domain::{
    facts::SnapshotFacts,
    terms::{Digest, SnapshotId, Span, Timestamp},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt::Write as _,
    fs,
    io::Read as _,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Path, PathBuf},
};

/// The manifest's name in a snapshot's folder.
pub(super) const MANIFEST: &str = "manifest.json";
/// The folder of the data in a snapshot's folder; in it one folder per root, named by its number.
pub(super) const FILES: &str = "files";
/// 1 GiB: a million files with long names and attributes take about half of it.
pub(super) const MANIFEST_BYTES_MAX: u64 = 1 << 30;
/// The form of the manifest; a reader refuses others.
const FORM: u32 = 1;

/// A path below a root; empty for the root itself. It can't leave the root.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(super) struct Below(PathBuf);

impl Below {
    pub(super) fn new(path: PathBuf) -> Option<Self> {
        let plain = path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
        // Rebuilt from its components, so that equal paths are equal text.
        plain.then(|| Self(path.components().collect()))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

/// Writes bytes that are not UTF-8, control characters and `%` as `%XX`: file names may be any bytes.
fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '%' || (c.is_control() && c.is_ascii()) {
                let _ = write!(text, "%{:02X}", c as u32);
            } else {
                text.push(c);
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first == b'%' {
            // A number's reader takes a sign for a digit.
            let digits = tail.get(..2).filter(|two| two.iter().all(u8::is_ascii_hexdigit))?;
            let digits = std::str::from_utf8(digits).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    Some(bytes)
}

impl Serialize for Below {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&escaped(self.0.as_os_str().as_bytes()))
    }
}

impl<'de> Deserialize<'de> for Below {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        unescaped(&text)
            .filter(|bytes| !bytes.contains(&0))
            .and_then(|bytes| Self::new(PathBuf::from(OsString::from_vec(bytes))))
            .ok_or_else(|| serde::de::Error::custom("not a path below the data"))
    }
}

/// Bytes of any kind in JSON: the target of a link, the value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RawBytes(pub(super) Vec<u8>);

impl Serialize for RawBytes {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&escaped(&self.0))
    }
}

impl<'de> Deserialize<'de> for RawBytes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        unescaped(&text).map(Self).ok_or_else(|| serde::de::Error::custom("a '%' without two hex digits"))
    }
}

/// Owner, mode, time and attributes of a file, link or folder as they were.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Dress {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Permission bits, with set-id and sticky.
    pub(super) mode: u32,
    pub(super) mtime_seconds: i64,
    pub(super) mtime_nanoseconds: i64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) xattrs: BTreeMap<String, RawBytes>,
}

/// The contents of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Content {
    pub(super) bytes: u64,
    pub(super) digest: Digest,
    /// With holes: the digest is then over the blocks that are not zero, see `copy.rs`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) sparse: bool,
}

/// What one entry is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum What {
    Folder,
    File(Content),
    Database(Content, DatabaseFacts),
    Link(RawBytes),
}

impl What {
    pub(super) fn content(&self) -> Option<&Content> {
        match self {
            Self::File(content) | Self::Database(content, _) => Some(content),
            Self::Folder | Self::Link(_) => None,
        }
    }
}

/// What is known of one SQLite database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseFacts {
    /// Digest over the normalised schema.
    pub schema: Digest,
    /// Rows of each table; virtual tables are counted by the tables that carry them.
    pub tables: BTreeMap<String, u64>,
    /// Whether the file is in WAL mode.
    pub wal: bool,
    /// The header's `user_version`; it identifies nothing, see `schema`.
    pub user_version: i64,
    /// The header's `application_id`.
    pub application_id: i64,
    /// Bytes of one page.
    pub page_bytes: u64,
    /// Number of pages.
    pub pages: u64,
}

impl DatabaseFacts {
    /// Gives the bytes of all pages.
    pub(super) fn bytes(&self) -> u64 {
        self.pages.saturating_mul(self.page_bytes)
    }

    /// Gives the rows of all tables.
    pub fn rows(&self) -> u64 {
        self.tables.values().sum()
    }
}

/// One file, link or folder of a root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) root: usize,
    pub(super) path: Below,
    pub(super) dress: Dress,
    pub(super) what: What,
}

/// Something in the data that is not in the snapshot, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Skipped {
    pub(super) root: usize,
    pub(super) path: Below,
    pub(super) why: String,
}

/// What a snapshot says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) form: u32,
    pub(super) id: SnapshotId,
    pub(super) place: StatePlace,
    pub(super) roots: usize,
    pub(super) taken: Timestamp,
    pub(super) took: Span,
    /// SQLite that copied and checked.
    pub(super) sqlite_version: String,
    /// What the caller adds: the release's digest, the unit, the environment's digest.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) about: BTreeMap<String, String>,
    pub(super) schema: Digest,
    /// Sorted by root and path, so that a folder comes before what is in it.
    pub(super) entries: Vec<Entry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) skipped: Vec<Skipped>,
    /// Longest time in milliseconds that a writer of a database without WAL may have been kept waiting.
    #[serde(default)]
    pub(super) held_ms: u64,
}

impl Manifest {
    pub(super) const FORM: u32 = FORM;

    /// Reads the manifest of the snapshot in `folder` and gives it with its digest.
    pub(super) fn read(folder: &Path) -> Result<(Self, Digest), StateError> {
        let path = folder.join(MANIFEST);
        let missing =
            |error: &dyn std::error::Error| StateError::NoSnapshot { path: folder.into(), source: Cause::of(error) };
        let file = fs::File::open(&path).map_err(|error| missing(&error))?;
        let mut bytes = Vec::new();
        file.take(MANIFEST_BYTES_MAX).read_to_end(&mut bytes).map_err(|error| missing(&error))?;
        let manifest: Self = serde_json::from_slice(&bytes).map_err(|error| missing(&error))?;
        let damaged =
            |what: &str| StateError::Damaged { snapshot: folder.into(), path: MANIFEST.into(), what: what.into() };
        if manifest.form != FORM {
            return Err(damaged(&format!("its form is {}, this program reads {FORM}", manifest.form)));
        }
        if manifest.entries.iter().any(|entry| entry.root >= manifest.roots) {
            return Err(damaged("an entry names a part that there is not"));
        }
        if !manifest.entries.is_sorted_by(|a, b| (a.root, &a.path) < (b.root, &b.path)) {
            return Err(damaged("its entries are not in order"));
        }
        Ok((manifest, Digest::of(&bytes)))
    }

    pub(super) fn facts(&self, digest: Digest) -> SnapshotFacts {
        let contents = || self.entries.iter().filter_map(|entry| entry.what.content());
        SnapshotFacts {
            id: self.id,
            taken: self.taken,
            bytes: contents().map(|content| content.bytes).sum(),
            files: contents().count() as u64,
            rows: self.databases().map(|(_, facts)| facts.rows()).sum(),
            schema: self.schema,
            manifest: digest,
            took: self.took,
        }
    }

    pub(super) fn databases(&self) -> impl Iterator<Item = (&Entry, &DatabaseFacts)> {
        self.entries.iter().filter_map(|entry| match &entry.what {
            What::Database(_, facts) => Some((entry, facts)),
            _ => None,
        })
    }

    pub(super) fn of_root(&self, root: usize) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| entry.root == root)
    }
}

/// Gives the folder of a root's data in a snapshot's folder.
pub(super) fn root_folder(snapshot: &Path, root: usize) -> PathBuf {
    snapshot.join(FILES).join(root.to_string())
}
