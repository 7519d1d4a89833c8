//! File operations that can't leave a folder.
//!
//! Data belongs to its owner, who may put a symbolic link anywhere in it at any time, while restore runs as root.
//! So nothing in a data folder is reached by a path from `/`: a folder is opened once, and everything else is asked
//! of that open folder, with links never followed.

use super::error::StateError;
use rustix::{
    fs::{AtFlags, Mode, OFlags, ResolveFlags, Stat},
    io::Errno,
};
use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Component, Path, PathBuf},
};

/// 40 links, as the kernel allows in one path.
const LINKS_MAX: u32 = 40;

/// An open folder, and its path for messages.
#[derive(Debug)]
pub(super) struct Folder {
    fd: OwnedFd,
    pub(super) path: PathBuf,
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Folder {
    /// Opens the folder at an absolute path.
    ///
    /// A symbolic link on the way is followed only if root or we ourselves made it: anyone else could lead us
    /// anywhere.
    pub(super) fn open(path: &Path) -> Result<Self, StateError> {
        let fd = walk_from_root(path).map_err(|error| match error {
            Errno::NOENT => StateError::Missing { path: path.into() },
            Errno::NOTDIR => StateError::NotAFolder { path: path.into() },
            Errno::ACCESS => unreadable(path, &error.into()),
            Errno::LOOP => StateError::Symlink { path: path.into() },
            _ => StateError::io("open", path, error),
        })?;
        Ok(Self { fd, path: path.into() })
    }

    /// Opens a folder below this one.
    pub(super) fn folder(&self, path: &Path) -> io::Result<Self> {
        let fd = if path.as_os_str().is_empty() {
            rustix::fs::openat(&self.fd, ".", OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?
        } else {
            self.open_at(path, OFlags::DIRECTORY)?
        };
        Ok(Self { fd, path: self.path.join(path) })
    }

    /// Opens a file below this folder for reading; a FIFO doesn't block.
    pub(super) fn file(&self, path: &Path) -> io::Result<File> {
        self.open_at(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW).map(File::from)
    }

    /// Makes a new file below this folder.
    pub(super) fn make_file(&self, path: &Path) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        Ok(File::from(rustix::fs::openat2(&self.fd, path, flags, mode, within())?))
    }

    /// Makes a new folder below this one, only for us.
    pub(super) fn make_folder(&self, path: &Path) -> io::Result<()> {
        let (parent, name) = self.parent_of(path)?;
        Ok(rustix::fs::mkdirat(parent.as_fd(), name, Mode::RWXU)?)
    }

    pub(super) fn make_link(&self, path: &Path, target: &[u8]) -> io::Result<()> {
        let (parent, name) = self.parent_of(path)?;
        Ok(rustix::fs::symlinkat(OsStr::from_bytes(target), parent.as_fd(), name)?)
    }

    pub(super) fn read_link(&self, path: &Path) -> io::Result<Vec<u8>> {
        let (parent, name) = self.parent_of(path)?;
        Ok(rustix::fs::readlinkat(parent.as_fd(), name, Vec::new())?.into_bytes())
    }

    /// Tells what is at `path`, not following a link there.
    pub(super) fn stat(&self, path: &Path) -> io::Result<Stat> {
        if path.as_os_str().is_empty() {
            return Ok(rustix::fs::fstat(&self.fd)?);
        }
        let (parent, name) = self.parent_of(path)?;
        Ok(rustix::fs::statat(parent.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Tells what is at `path`, or that nothing is.
    pub(super) fn stat_if_any(&self, path: &Path) -> io::Result<Option<Stat>> {
        match self.stat(path) {
            Ok(stat) => Ok(Some(stat)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Moves `path` to `to_path` of another folder on the same file system; never over something.
    pub(super) fn move_to(&self, path: &Path, to: &Self, to_path: &Path) -> io::Result<()> {
        let (from_parent, from_name) = self.parent_of(path)?;
        let (to_parent, to_name) = to.parent_of(to_path)?;
        let flags = rustix::fs::RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(from_parent.as_fd(), from_name, to_parent.as_fd(), to_name, flags) {
            // Some network file systems have no such flag.
            Err(Errno::INVAL) => {
                if to.stat_if_any(to_path)?.is_some() {
                    return Err(io::ErrorKind::AlreadyExists.into());
                }
                Ok(rustix::fs::renameat(from_parent.as_fd(), from_name, to_parent.as_fd(), to_name)?)
            }
            other => Ok(other?),
        }
    }

    /// Removes an empty folder; it is no error if there is none.
    pub(super) fn remove_empty(&self, path: &Path) -> io::Result<()> {
        let (parent, name) = self.parent_of(path)?;
        match rustix::fs::unlinkat(parent.as_fd(), name, AtFlags::REMOVEDIR) {
            Err(Errno::NOENT) => Ok(()),
            other => Ok(other?),
        }
    }

    /// Removes a folder of ours with all in it; it is no error if there is none.
    pub(super) fn remove_tree(&self, path: &Path) -> io::Result<()> {
        let inner = match self.folder(path) {
            Ok(inner) => inner,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for (name, is_folder) in inner.names()? {
            if is_folder {
                inner.remove_tree(Path::new(&name))?;
            } else {
                rustix::fs::unlinkat(&inner.fd, name.as_os_str(), AtFlags::empty())?;
            }
        }
        self.remove_empty(path)
    }

    /// Gives the names in this folder, sorted, and which are folders.
    pub(super) fn names(&self) -> io::Result<Vec<(OsString, bool)>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.fd)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            let is_folder = match entry.file_type() {
                rustix::fs::FileType::Unknown => is_folder(&self.stat(Path::new(name))?),
                kind => kind == rustix::fs::FileType::Directory,
            };
            names.push((name.to_owned(), is_folder));
        }
        names.sort();
        Ok(names)
    }

    /// Makes this folder's names survive a power cut.
    pub(super) fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.fd)?)
    }

    fn open_at(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        Ok(rustix::fs::openat2(&self.fd, path, flags | OFlags::CLOEXEC, Mode::empty(), within())?)
    }

    fn parent_of<'a>(&self, path: &'a Path) -> io::Result<(Parent<'_>, &'a OsStr)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => {
                Ok((Parent::Opened(self.open_at(parent, OFlags::DIRECTORY | OFlags::PATH)?), name))
            }
            _ => Ok((Parent::This(self.fd.as_fd()), name)),
        }
    }
}

enum Parent<'a> {
    This(BorrowedFd<'a>),
    Opened(OwnedFd),
}

impl AsFd for Parent<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::This(fd) => *fd,
            Self::Opened(fd) => fd.as_fd(),
        }
    }
}

pub(super) fn is_folder(stat: &Stat) -> bool {
    rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory
}

pub(super) fn unreadable(path: &Path, error: &io::Error) -> StateError {
    StateError::Unreadable {
        path: path.into(),
        uid: rustix::process::geteuid().as_raw(),
        source: super::error::Cause::of(error),
    }
}

fn within() -> ResolveFlags {
    ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS
}

fn walk_from_root(path: &Path) -> rustix::io::Result<OwnedFd> {
    let on_the_way = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let us = rustix::process::geteuid().as_raw();
    let mut at = rustix::fs::open("/", on_the_way | OFlags::DIRECTORY, Mode::empty())?;
    // The parts still to walk, the next one last.
    let mut rest: Vec<OsString> = Vec::new();
    let push = |rest: &mut Vec<OsString>, path: &Path| {
        rest.extend(
            path.components().rev().filter(|part| *part != Component::RootDir).map(|part| part.as_os_str().to_owned()),
        );
    };
    push(&mut rest, path);
    let mut links = 0;
    while let Some(name) = rest.pop() {
        let next = rustix::fs::openat(&at, name.as_os_str(), on_the_way, Mode::empty())?;
        let stat = rustix::fs::fstat(&next)?;
        if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::Symlink {
            at = next;
            continue;
        }
        links += 1;
        let trusted = stat.st_uid == 0 || stat.st_uid == us;
        // The last part may be no link at all: restore would replace what it points to.
        if !trusted || rest.is_empty() || links > LINKS_MAX {
            return Err(Errno::LOOP);
        }
        let target = rustix::fs::readlinkat(&next, "", Vec::new())?.into_bytes();
        let target = Path::new(OsStr::from_bytes(&target));
        if target.is_absolute() {
            at = rustix::fs::open("/", on_the_way | OFlags::DIRECTORY, Mode::empty())?;
        }
        push(&mut rest, target);
    }
    // A path handle can't be listed; reopen the same folder for reading.
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    rustix::fs::openat(&at, ".", flags, Mode::empty())
}
