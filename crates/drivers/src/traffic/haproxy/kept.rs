//! What must be known after a restart of ours: the last table, and the book of counts.

use super::{counts::Book, weights::Weights};
use crate::traffic::RouterError;
use lastgood_domain::{terms::ServiceName, traffic::Table};
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

/// A link that somebody laid in our way is not followed.
const NOFOLLOW: i32 = rustix::fs::OFlags::NOFOLLOW.bits() as i32;

/// A table and how it is carried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Told {
    pub(super) table: Table,
    /// What was chosen for its share; `None` where one side serves alone.
    pub(super) weights: Option<Weights>,
}

/// How long another process may take for its call: each of its questions has 2 s. After that a way back goes on without
/// waiting for one that hangs.
const LOCK_WAIT: Duration = Duration::from_secs(8);
const LOCK_LOOK: Duration = Duration::from_millis(2);

/// Two small files for each service, and one that is held while they are read and written.
#[derive(Debug)]
pub(super) struct Kept {
    table: PathBuf,
    book: PathBuf,
    lock: PathBuf,
}

impl Kept {
    pub(super) fn new(folder: &Path, service: &ServiceName) -> Self {
        Self {
            table: folder.join(format!("{service}.haproxy-table.json")),
            book: folder.join(format!("{service}.haproxy-counts.json")),
            lock: folder.join(format!("{service}.haproxy.lock")),
        }
    }

    /// Keeps other processes, and others of this one, from the files and from HAProxy until it is dropped: the driver, the
    /// daemon's look and commands may come at once, and who read an older table must not put it back.
    pub(super) fn lock(&self) -> Result<File, RouterError> {
        let unusable = |source| RouterError::File { act: "lock", path: self.lock.clone(), source };
        let mut options = File::options();
        options.write(true).create(true).truncate(false).mode(0o600).custom_flags(NOFOLLOW);
        let file = options.open(&self.lock).map_err(unusable)?;
        let until = Instant::now() + LOCK_WAIT;
        while Instant::now() < until {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::WOULDBLOCK | Errno::INTR) => thread::sleep(LOCK_LOOK),
                Err(error) => return Err(unusable(error.into())),
            }
        }
        Ok(file)
    }

    /// Gives the last table that was begun. One that can't be understood is as none: a way back must not fail by it.
    pub(super) fn told(&self) -> Result<Option<Told>, RouterError> {
        read(&self.table)
    }

    /// Keeps a table before the first command of it is sent.
    pub(super) fn keep_told(&self, told: &Told) -> Result<(), RouterError> {
        write(&self.table, told, true)
    }

    /// Gives the book of counts; a new one if it can't be understood.
    pub(super) fn book(&self) -> Result<Book, RouterError> {
        Ok(read(&self.book)?.unwrap_or_default())
    }

    /// Keeps the book. It need not survive a loss of power: HAProxy's counters don't either.
    pub(super) fn keep_book(&self, book: &Book) -> Result<(), RouterError> {
        write(&self.book, book, false)
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, RouterError> {
    match fs::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(RouterError::File { act: "read", path: path.into(), source }),
    }
}

fn write<T: Serialize>(path: &Path, what: &T, for_ever: bool) -> Result<(), RouterError> {
    let written =
        serde_json::to_vec(what).map_err(io::Error::from).and_then(|bytes| replace(path, &bytes, 0o600, for_ever));
    written.map_err(|source| RouterError::File { act: "write", path: path.into(), source })
}

/// Replaces a file so that readers see the old or the new one; `for_ever` also after a loss of power.
pub(super) fn replace(path: &Path, bytes: &[u8], mode: u32, for_ever: bool) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = path.with_file_name(name);
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(mode).custom_flags(NOFOLLOW);
    let mut file = options.open(&beside)?;
    file.write_all(bytes)?;
    if for_ever {
        file.sync_all()?;
    }
    fs::rename(&beside, path)?;
    if for_ever { File::open(folder)?.sync_all() } else { Ok(()) }
}
