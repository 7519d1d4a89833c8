//! How far a credential is, and the secrets that are needed until it is done, in a folder that nobody else reads.

use super::{CredentialError, value, value::Value};
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

/// How often it is tried to become the one who acts.
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// The secret before the revocation: it proves that it is refused.
const OLD: &str = "old";
/// The secret that will be in use.
const NEW: &str = "new";
/// For `file`: the secret that nobody knows, while it is in the file.
const NOBODYS: &str = "nobodys";
/// On whose behalf it is revoked; not there where a person typed it.
const BEHALF: &str = "behalf";
/// There once it is revoked.
const REVOKED: &str = "revoked";
/// There once the new one is in its file.
const ROTATED: &str = "rotated";

/// How far a credential is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// In use; also while its revocation has begun and not ended.
    Clear,
    /// The old one is worthless.
    Revoked,
    /// The new one is in its file; consumers are not proven.
    Rotated,
}

pub(super) struct Shelf {
    name: String,
    folder: PathBuf,
    /// Held by who acts: two acts at once would each make a new secret, and the role would have one's and the file the other's.
    _lock: Option<File>,
}

impl Shelf {
    /// Opens it for one act, which lasts until it is dropped; waits at most `patience` for the end of somebody else's.
    pub(super) fn open(name: &str, folder: &Path, patience: Duration) -> Result<Self, CredentialError> {
        let mut shelf = Self { name: name.into(), folder: folder.into(), _lock: None };
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|source| shelf.failed("made", folder, source))?;
        shelf._lock = Some(shelf.lock(patience)?);
        Ok(shelf)
    }

    fn lock(&self, patience: Duration) -> Result<File, CredentialError> {
        // Beside the folder: what is in there is forgotten at the end.
        let mut path = self.folder.clone().into_os_string();
        path.push(".lock");
        let failed = |source| self.failed("locked", Path::new(&path), source);
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(failed)?;
        let until = Instant::now() + patience;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(file),
                Err(Errno::WOULDBLOCK | Errno::INTR) if Instant::now() < until => thread::sleep(LOCK_PAUSE),
                Err(Errno::WOULDBLOCK) => return Err(CredentialError::Busy { name: self.name.clone() }),
                Err(error) => return Err(failed(error.into())),
            }
        }
    }

    /// Looks without making anything.
    pub(super) fn look(name: &str, folder: &Path) -> Result<Phase, CredentialError> {
        Self { name: name.into(), folder: folder.into(), _lock: None }.phase()
    }

    pub(super) fn phase(&self) -> Result<Phase, CredentialError> {
        Ok(match () {
            () if self.has(ROTATED)? => Phase::Rotated,
            () if self.has(REVOKED)? => Phase::Revoked,
            () => Phase::Clear,
        })
    }

    pub(super) fn reach(&self, phase: Phase) -> Result<(), CredentialError> {
        let mark = match phase {
            Phase::Clear => return self.clear(),
            Phase::Revoked => REVOKED,
            Phase::Rotated => ROTATED,
        };
        self.put(mark, &Value { text: String::new(), line_break: false })
    }

    /// Keeps the secret before the revocation.
    ///
    /// A revocation that had begun may have put one that nobody knows into the file: then what is kept stays. Any other one
    /// is somebody's, and newer than what an attempt of long ago kept.
    pub(super) fn keep_old(&self, present: &Value) -> Result<(), CredentialError> {
        if self.holds(NOBODYS, &present.text)? && self.has(OLD)? { Ok(()) } else { self.put(OLD, present) }
    }

    /// Notes on whose behalf the revocation begins.
    pub(super) fn note_for(&self, on_behalf: Option<&str>) -> Result<(), CredentialError> {
        match on_behalf {
            Some(name) => self.put(BEHALF, &Value { text: name.into(), line_break: true }),
            None => self.remove(BEHALF),
        }
    }

    /// Tells whether it was begun on behalf of the same one; what a person typed is nobody's but that person's.
    pub(super) fn is_for(&self, on_behalf: Option<&str>) -> Result<bool, CredentialError> {
        match on_behalf {
            Some(name) => self.holds(BEHALF, name),
            None => Ok(false),
        }
    }

    /// Tells whether `present` is the new secret.
    pub(super) fn is_rotated_to(&self, present: &Value) -> Result<bool, CredentialError> {
        self.holds(NEW, &present.text)
    }

    /// Tells whether `present` is the old secret, or one that we may have put into the file since.
    pub(super) fn knows(&self, present: &Value) -> Result<bool, CredentialError> {
        for name in [OLD, NOBODYS, NEW] {
            if self.holds(name, &present.text)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn holds(&self, name: &str, text: &str) -> Result<bool, CredentialError> {
        Ok(self.has(name)? && value::read(&self.name, &self.folder.join(name))?.text == text)
    }

    /// Gives the secret that nobody knows; it is made once, and lies here before it is in the file.
    pub(super) fn nobodys(
        &self,
        make: impl FnOnce() -> Result<Value, CredentialError>,
    ) -> Result<Value, CredentialError> {
        self.made_once(NOBODYS, make)
    }

    pub(super) fn old(&self) -> Result<Value, CredentialError> {
        value::read(&self.name, &self.old_file())
    }

    pub(super) fn old_file(&self) -> PathBuf {
        self.folder.join(OLD)
    }

    pub(super) fn staged_file(&self) -> PathBuf {
        self.folder.join(NEW)
    }

    /// Gives the secret that will be in use; it is made once, and lies on the disk before anything accepts it.
    pub(super) fn staged(
        &self,
        make: impl FnOnce() -> Result<Value, CredentialError>,
    ) -> Result<Value, CredentialError> {
        self.made_once(NEW, make)
    }

    fn made_once(
        &self,
        name: &str,
        make: impl FnOnce() -> Result<Value, CredentialError>,
    ) -> Result<Value, CredentialError> {
        if !self.has(name)? {
            self.put(name, &make()?)?;
        }
        value::read(&self.name, &self.folder.join(name))
    }

    /// Forgets it all. The last mark goes last: until then the same act is repeated.
    pub(super) fn clear(&self) -> Result<(), CredentialError> {
        [NEW, OLD, NOBODYS, BEHALF, REVOKED, ROTATED].into_iter().try_for_each(|name| self.remove(name))
    }

    fn remove(&self, name: &str) -> Result<(), CredentialError> {
        let path = self.folder.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.failed("removed", &path, error)),
            _ => Ok(()),
        }
    }

    fn has(&self, name: &str) -> Result<bool, CredentialError> {
        let path = self.folder.join(name);
        path.try_exists().map_err(|source| self.failed("looked at", &path, source))
    }

    fn put(&self, name: &str, value: &Value) -> Result<(), CredentialError> {
        let path = self.folder.join(name);
        value::write(&path, value, 0o600, None).map_err(|source| self.failed("written", &path, source))
    }

    fn failed(&self, act: &'static str, path: &Path, source: io::Error) -> CredentialError {
        CredentialError::File { name: self.name.clone(), act, path: path.into(), source }
    }
}
