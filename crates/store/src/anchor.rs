//! The anchor: the last signed checkpoints in a place with another fate than the store.
//!
//! Whoever puts yesterday's evidence file back, or cuts its tail and fixes the head, makes a store that fits
//! itself. Only something outside tells. The anchor is one file at another path (best: another disk or host),
//! replaced whole by compare-and-swap under a lock.

use lastgood_domain::{
    evidence::{CheckpointError, SignedCheckpoint, VerifierKey, chain_of},
    failure::Coded,
    terms::ChainName,
};
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

/// Some 500 bytes per chain: room for thousands of chains.
const ANCHOR_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Another signer holds the lock for some milliseconds: one read and one durable write. 500 tries are 10 s.
const LOCK_TRIES: u32 = 500;
const LOCK_PAUSE: Duration = Duration::from_millis(20);
const SCHEMA: &str = "lastgood-anchor/1";

/// What is wrong between the store and the anchor. Each names both.
#[derive(Debug, thiserror::Error)]
pub enum AnchorError {
    /// The store was signed before, but the anchor knows nothing of it.
    #[error("the anchor {} has no checkpoint of chain {chain}, but the store was signed at {stored} records", path.display())]
    Missing {
        /// The anchor file.
        path: PathBuf,
        /// The chain.
        chain: ChainName,
        /// Size of the checkpoint in the store.
        stored: u64,
    },
    /// The anchor file can't be read or is damaged.
    #[error("the anchor {} cannot be read: {why}", path.display())]
    Unreadable {
        /// The anchor file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The anchor file can't be locked or written.
    #[error("the anchor {} cannot be written", path.display())]
    Unwritable {
        /// The anchor file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Somebody who does not take the lock replaced the file meanwhile.
    #[error("the anchor {} was replaced by somebody else meanwhile", path.display())]
    Raced {
        /// The anchor file.
        path: PathBuf,
    },
    /// The anchor is of another installation or signed with another key.
    #[error("the anchor {} is of installation {found}, this is {ours}", path.display())]
    Foreign {
        /// The anchor file.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Who we are.
        ours: String,
    },
    /// A checkpoint in the anchor does not hold.
    #[error("the anchor {} holds a checkpoint of chain {chain} that was edited", path.display())]
    Edited {
        /// The anchor file.
        path: PathBuf,
        /// The chain.
        chain: String,
        /// How it fails.
        source: CheckpointError,
    },
    /// The anchor is older than the store's own checkpoint: an older anchor file was put back.
    #[error(
        "the anchor {} knows chain {chain} up to {anchored} records, but the store was signed at {stored}: \
         an older anchor was put back",
        path.display()
    )]
    Behind {
        /// The anchor file.
        path: PathBuf,
        /// The chain.
        chain: ChainName,
        /// Size in the anchor.
        anchored: u64,
        /// Size of the checkpoint in the store.
        stored: u64,
    },
    /// The store is smaller than what was signed: an older evidence file was put back, or its tail was cut.
    #[error(
        "chain {chain} has {} in the store, but the anchor {} was signed at {anchored}: \
         an older evidence file was put back or its tail was cut",
        lastgood_domain::words::count(*.stored, "record"), path.display()
    )]
    Rewound {
        /// The anchor file.
        path: PathBuf,
        /// The chain.
        chain: ChainName,
        /// Size in the anchor.
        anchored: u64,
        /// Records in the store.
        stored: u64,
    },
    /// The store has other records than those that were signed.
    #[error(
        "chain {chain} has other records in the store than those that the anchor {} was signed over at {anchored}: \
         history was rewritten",
        path.display()
    )]
    Forked {
        /// The anchor file.
        path: PathBuf,
        /// The chain.
        chain: ChainName,
        /// Size in the anchor.
        anchored: u64,
    },
}

impl AnchorError {
    /// Tells whether somebody tampered with the store or the anchor: then not even a way back goes on. An anchor that is
    /// away, or is older than the store, says nothing against the store.
    pub const fn speaks_against_the_store(&self) -> bool {
        match self {
            Self::Rewound { .. } | Self::Forked { .. } | Self::Edited { .. } => true,
            Self::Missing { .. }
            | Self::Unreadable { .. }
            | Self::Unwritable { .. }
            | Self::Raced { .. }
            | Self::Foreign { .. }
            | Self::Behind { .. } => false,
        }
    }
}

impl Coded for AnchorError {
    fn code(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "anchor-missing",
            Self::Unreadable { .. } | Self::Edited { .. } => "anchor-unreadable",
            Self::Unwritable { .. } | Self::Raced { .. } => "anchor-unwritable",
            Self::Foreign { .. } => "anchor-foreign",
            Self::Behind { .. } => "anchor-behind",
            Self::Rewound { .. } => "evidence-rewound",
            Self::Forked { .. } => "evidence-forked",
        }
    }

    fn hint(&self) -> Option<String> {
        let acknowledge = |chain: &dyn std::fmt::Display| {
            let chain = chain.to_string();
            let service = chain.strip_prefix("service/").unwrap_or(&chain);
            format!("if you know why: lastgood evidence acknowledge {service} --reason TEXT")
        };
        Some(match self {
            Self::Missing { chain, .. } | Self::Behind { chain, .. } | Self::Forked { chain, .. } => acknowledge(chain),
            Self::Rewound { chain, .. } => {
                format!("put the newer evidence file back; {}", acknowledge(chain))
            }
            Self::Edited { chain, .. } => acknowledge(chain),
            Self::Unreadable { path, .. } | Self::Unwritable { path, .. } | Self::Raced { path } => {
                format!("check owner, mode and mount: ls -l {}", path.display())
            }
            Self::Foreign { path, .. } => {
                format!("give each installation an anchor path of its own; look at it: cat {}", path.display())
            }
        })
    }
}

/// Where the anchor is kept.
#[derive(Debug, Clone)]
pub struct Anchor {
    path: PathBuf,
}

/// What the anchor file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AnchorFile {
    schema: String,
    installation: String,
    checkpoints: BTreeMap<String, String>,
}

/// The lock on an anchor, and the file as it was when the lock was taken.
#[derive(Debug)]
pub(crate) struct AnchorGuard<'a> {
    anchor: &'a Anchor,
    before: io::Result<Option<Vec<u8>>>,
    _lock: File,
}

impl Anchor {
    /// Names the anchor file; its folder must be there.
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Gives the anchor file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn lock(&self) -> Result<AnchorGuard<'_>, AnchorError> {
        let failed = |source| AnchorError::Unwritable { path: self.path.clone(), source };
        let mut name = self.path.clone().into_os_string();
        name.push(".lock");
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(PathBuf::from(name))
            .map_err(failed)?;
        for attempt in 1.. {
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::WOULDBLOCK | Errno::INTR) if attempt < LOCK_TRIES => std::thread::sleep(LOCK_PAUSE),
                Err(other) => return Err(failed(other.into())),
            }
        }
        Ok(AnchorGuard { anchor: self, before: self.read_bytes(), _lock: lock })
    }

    fn read_bytes(&self) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(other) => return Err(other),
        };
        let mut bytes = Vec::new();
        file.take(ANCHOR_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > ANCHOR_BYTES_MAX {
            return Err(io::Error::other("it is longer than 8 MiB"));
        }
        Ok(Some(bytes))
    }

    /// Reads the file without the lock: replacing is atomic, so a reader sees one whole state.
    pub(crate) fn read(&self, key: &VerifierKey) -> Result<BTreeMap<ChainName, SignedCheckpoint>, AnchorError> {
        self.open(&self.read_bytes(), key, |_| true)
    }

    /// Reads what it says of one chain, as [`Anchor::read`] does, and checks no other's signature.
    pub(crate) fn read_of(
        &self,
        key: &VerifierKey,
        chain: &ChainName,
    ) -> Result<BTreeMap<ChainName, SignedCheckpoint>, AnchorError> {
        self.open(&self.read_bytes(), key, |name| name == chain.as_str())
    }

    /// Checks every checkpoint of the chains that are wanted; a missing file is one without checkpoints.
    fn open(
        &self,
        bytes: &io::Result<Option<Vec<u8>>>,
        key: &VerifierKey,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<BTreeMap<ChainName, SignedCheckpoint>, AnchorError> {
        let path = || self.path.clone();
        let unreadable = |why: String| AnchorError::Unreadable { path: path(), why };
        let bytes = match bytes {
            Err(error) => return Err(unreadable(error.to_string())),
            Ok(None) => return Ok(BTreeMap::new()),
            Ok(Some(bytes)) => bytes,
        };
        let file: AnchorFile = serde_json::from_slice(bytes).map_err(|error| unreadable(error.to_string()))?;
        if file.schema != SCHEMA {
            return Err(unreadable(format!("its schema is {}", file.schema)));
        }
        let public = key.to_string();
        if file.installation != public {
            return Err(AnchorError::Foreign { path: path(), found: file.installation, ours: public });
        }
        let mut checkpoints = BTreeMap::new();
        for (name, note) in file.checkpoints.into_iter().filter(|(name, _)| wanted(name)) {
            let signed = SignedCheckpoint::open(&note, key).map_err(|source| AnchorError::Edited {
                path: path(),
                chain: name.clone(),
                source,
            })?;
            match chain_of(&signed.checkpoint().origin) {
                Some(chain) if chain.as_str() == name => checkpoints.insert(chain, signed),
                _ => return Err(unreadable(format!("its entry {name} is of {}", signed.checkpoint().origin))),
            };
        }
        Ok(checkpoints)
    }
}

impl AnchorGuard<'_> {
    /// Gives the checkpoints as they were when the lock was taken.
    pub(crate) fn checkpoints(&self, key: &VerifierKey) -> Result<BTreeMap<ChainName, SignedCheckpoint>, AnchorError> {
        self.anchor.open(&self.before, key, |_| true)
    }

    /// Replaces the file if it is still what was read under the lock.
    pub(crate) fn replace(
        self,
        key: &VerifierKey,
        checkpoints: &BTreeMap<ChainName, SignedCheckpoint>,
    ) -> Result<(), AnchorError> {
        let path = &self.anchor.path;
        let failed = |source| AnchorError::Unwritable { path: path.clone(), source };
        let notes = checkpoints.iter().map(|(chain, signed)| (chain.to_string(), signed.note().to_owned()));
        let file = AnchorFile { schema: SCHEMA.into(), installation: key.to_string(), checkpoints: notes.collect() };
        let mut bytes = serde_json::to_vec_pretty(&file).map_err(|error| failed(error.into()))?;
        bytes.push(b'\n');
        if self.anchor.read_bytes().ok() != self.before.as_ref().ok().cloned() {
            return Err(AnchorError::Raced { path: path.clone() });
        }
        replace_whole(path, &bytes).map_err(failed)
    }

    /// Keeps an anchor that can't be used beside the new one: it may be the only witness.
    pub(crate) fn put_aside(&mut self, at_ms: i64) -> Result<(), AnchorError> {
        let path = &self.anchor.path;
        let mut aside = path.clone().into_os_string();
        aside.push(format!(".abandoned-{at_ms}"));
        match fs::rename(path, PathBuf::from(aside)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(AnchorError::Unwritable { path: path.clone(), source: error })
            }
            _ => {
                self.before = Ok(None);
                Ok(())
            }
        }
    }
}

/// Writes beside, flushes, renames, flushes the folder: a kill leaves the old file or the new one.
fn replace_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut draft = path.to_owned().into_os_string();
    // One name: the lock keeps others out, and a killed writer's draft is overwritten.
    draft.push(".new");
    let draft = PathBuf::from(draft);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}
