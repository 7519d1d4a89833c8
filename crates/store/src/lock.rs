//! The driver's lock: one process drives a service at a time, and a dead one never stands in the way.
//!
//! It is the kernel's file lock, so `kill -9` releases it. It saves two drivers from fighting over the same
//! instances; evidence does not depend on it, the chain's head fences that. The file is never deleted: a lock
//! on a deleted file excludes nobody.

use crate::private::open_private;
use lastgood_domain::{
    failure::Coded,
    terms::{Digest, ServiceName, Timestamp},
};
use rustix::{
    fs::{FlockOperation, flock, fstat, major, minor},
    io::Errno,
};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
    time::Duration,
};

/// A look at the lock ([`DriverLock::holder`]) takes it shared for microseconds, and a taker writes its name some
/// microseconds after it took the lock: whoever comes in between tries again.
const TRIES: u32 = 5;
const TRY_PAUSE: Duration = Duration::from_millis(10);
/// What a holder does who could not write its name, as on a full disk.
const UNNAMED: &str = "its name is not written";
/// The holder's note is one short line; more is not ours.
const NOTE_BYTES_MAX: u64 = 4096;

/// Who drives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldBy {
    /// Process id.
    pub pid: u32,
    /// When it took the lock.
    pub started: Timestamp,
    /// What it does, such as `daemon` or `lastgood rollback actual`.
    pub what: String,
    /// Digest of the configuration that it read, where it said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reads: Option<Digest>,
}

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else drives.
    #[error("service {service} is driven by process {} ({})", by.pid, by.what)]
    Held {
        /// The service.
        service: ServiceName,
        /// Who drives it.
        by: HeldBy,
    },
    /// Somebody else drives and has not said who yet.
    #[error("service {service} is driven by another process that has not written its name to {}", path.display())]
    HeldByUnknown {
        /// The service.
        service: ServiceName,
        /// The lock file.
        path: PathBuf,
    },
    /// The lock file can't be used.
    #[error("the lock file {} cannot be used", path.display())]
    File {
        /// The lock file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

impl Coded for LockError {
    fn code(&self) -> &'static str {
        match self {
            Self::Held { .. } | Self::HeldByUnknown { .. } => "driver-lock-held",
            Self::File { .. } => "driver-lock-failed",
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Held { by, .. } => format!("wait for it, or look at it: ps -p {}", by.pid),
            Self::HeldByUnknown { path, .. } => format!("see who has it open: fuser -v {}", path.display()),
            Self::File { path, .. } => format!("check owner, mode and file system: ls -l {}", path.display()),
        })
    }
}

/// Held while it lives; released by its drop or by the kernel when the process ends in any way.
#[derive(Debug)]
pub struct DriverLock {
    _file: File,
}

impl DriverLock {
    /// Takes the lock of `service` in the state folder `dir`, without waiting, and writes down who holds it.
    pub fn take(dir: &Path, service: &ServiceName, what: &str, now: Timestamp) -> Result<Self, LockError> {
        Self::take_reading(dir, service, what, None, now)
    }

    /// Takes the lock as [`DriverLock::take`] does, and writes down which configuration its holder goes by as well.
    pub fn take_reading(
        dir: &Path,
        service: &ServiceName,
        what: &str,
        reads: Option<Digest>,
        now: Timestamp,
    ) -> Result<Self, LockError> {
        let path = path_of(dir, service);
        let failed = |source| LockError::File { path: path.clone(), source };
        let mut file = open_private(&path).map_err(failed)?;
        for attempt in 1.. {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::WOULDBLOCK) if attempt < TRIES => std::thread::sleep(TRY_PAUSE),
                Err(Errno::WOULDBLOCK) => return Err(held(&mut file, service, path)),
                Err(other) => return Err(failed(other.into())),
            }
        }
        let by = HeldBy { pid: std::process::id(), started: now, what: what.into(), reads };
        // The lock is what counts: on a full disk nobody is named, and the way back goes on.
        let _ = write_note(&mut file, &by);
        Ok(Self { _file: file })
    }

    /// Tells who drives `service` now; `None` if nobody does.
    pub fn holder(dir: &Path, service: &ServiceName) -> Result<Option<HeldBy>, LockError> {
        let path = path_of(dir, service);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(LockError::File { path, source }),
        };
        let mut unknown = None;
        // Who held it and was not named may have let go meanwhile.
        for _ in 0..2 {
            match flock(&file, FlockOperation::NonBlockingLockShared) {
                Ok(()) => return Ok(None),
                Err(Errno::WOULDBLOCK) => match held(&mut file, service, path.clone()) {
                    LockError::Held { by, .. } => return Ok(Some(by)),
                    other => unknown = Some(other),
                },
                Err(other) => return Err(LockError::File { path, source: other.into() }),
            }
        }
        unknown.map_or(Ok(None), Err)
    }
}

fn path_of(dir: &Path, service: &ServiceName) -> PathBuf {
    dir.join(format!("driver-{service}.lock"))
}

fn held(file: &mut File, service: &ServiceName, path: PathBuf) -> LockError {
    for _ in 0..TRIES {
        if let Some(by) = read_note(file) {
            return LockError::Held { service: service.clone(), by };
        }
        std::thread::sleep(TRY_PAUSE);
    }
    match locker(file) {
        Some(pid) => {
            let by = HeldBy { pid, started: Timestamp(0), what: UNNAMED.into(), reads: None };
            LockError::Held { service: service.clone(), by }
        }
        None => LockError::HeldByUnknown { service: service.clone(), path },
    }
}

/// Asks the kernel who holds the lock; `None` if nobody does any more, or it is nobody we may see.
fn locker(file: &File) -> Option<u32> {
    let stat = fstat(file).ok()?;
    let wanted = format!("{:02x}:{:02x}:{}", major(stat.st_dev), minor(stat.st_dev), stat.st_ino);
    // One line is `1: FLOCK ADVISORY WRITE 4711 fd:01:393217 0 EOF`; who waits for it has an arrow before the kind.
    fs::read_to_string("/proc/locks").ok()?.lines().find_map(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let &[_, "FLOCK", _, "WRITE", pid, inode, ..] = words.as_slice() else { return None };
        pid.parse().ok().filter(|pid| *pid > 0 && inode == wanted)
    })
}

fn write_note(file: &mut File, by: &HeldBy) -> io::Result<()> {
    let note = serde_json::to_vec(by).map_err(io::Error::other)?;
    // Emptied first: a reader in between sees nobody's name rather than the last holder's.
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(&note)
}

fn read_note(file: &mut File) -> Option<HeldBy> {
    let mut note = Vec::new();
    file.rewind().ok()?;
    file.take(NOTE_BYTES_MAX).read_to_end(&mut note).ok()?;
    serde_json::from_slice(&note).ok()
}
