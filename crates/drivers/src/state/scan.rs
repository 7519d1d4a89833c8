//! Walks a root and says what is in it: which files are databases, what lies beside them, what can't be copied.

use super::{
    beneath::{Folder, is_folder, unreadable},
    copy,
    error::StateError,
    place::{Root, Scope},
    sqlite::{self, Header},
};
use rustix::fs::{FileType, Stat};
use std::{
    collections::BTreeMap,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

/// A million: what a manifest of 1 GiB holds; folders with more belong on a file system with snapshots.
const ENTRIES_MAX: u64 = 1_000_000;
/// 128 levels: deeper trees are loops or accidents.
const LEVELS_MAX: u64 = 128;

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Folder,
    File,
    Database {
        wal: bool,
    },
    Link,
    /// Not copied: its name says why.
    Special(&'static str),
}

/// A path and what stood there.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) kind: Kind,
    pub(super) stat: Stat,
}

/// What tells that a file was written: any of these differs then.
pub(super) type Mark = (u64, i64, i64, i64, i64, i64);

impl Seen {
    #[expect(clippy::unnecessary_cast, reason = "the types differ between machines")]
    pub(super) fn mark(&self) -> Mark {
        let stat = &self.stat;
        (
            stat.st_ino as u64,
            stat.st_size as i64,
            stat.st_mtime as i64,
            stat.st_mtime_nsec as i64,
            stat.st_ctime as i64,
            stat.st_ctime_nsec as i64,
        )
    }
}

/// What is in a root, by path below it; the root itself has the empty path.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub(super) seen: BTreeMap<PathBuf, Seen>,
    /// Bytes on disk of the -wal files beside databases.
    pub(super) wal_bytes: u64,
}

impl Scan {
    pub(super) fn databases(&self) -> impl Iterator<Item = (&PathBuf, &Seen)> {
        self.seen.iter().filter(|(_, seen)| matches!(seen.kind, Kind::Database { .. }))
    }
}

/// Whether the files' first bytes are read, to find the databases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Headers {
    Read,
    /// Only sizes are asked for: live files are not opened.
    Ignored,
}

/// Walks `root`, which is open as `folder`.
///
/// With [`Headers::Read`] this opens and closes live files: no connection to any of them may be open in this process.
pub(super) fn scan(folder: &Folder, root: &Root, headers: Headers) -> Result<Scan, StateError> {
    let mut scan = Scan::default();
    match &root.scope {
        Scope::Only(name) => {
            let name = Path::new(name);
            let stat = folder.stat(name).map_err(|error| at_least(folder, name, error))?;
            look_at_database(folder, name, stat, headers, &mut scan)?;
        }
        Scope::AllBut(_) => {
            let stat = folder.stat(Path::new("")).map_err(|error| StateError::io("look at", &folder.path, error))?;
            scan.seen.insert(PathBuf::new(), Seen { kind: Kind::Folder, stat });
            walk(folder, Path::new(""), root, headers, &mut scan, 0)?;
            set_sides_apart(folder, &mut scan)?;
        }
    }
    Ok(scan)
}

fn at_least(folder: &Folder, name: &Path, error: io::Error) -> StateError {
    let path = folder.path.join(name);
    match error.kind() {
        io::ErrorKind::NotFound => StateError::Missing { path },
        io::ErrorKind::PermissionDenied => unreadable(&path, &error),
        _ => StateError::io("look at", &path, error),
    }
}

fn look_at_database(
    folder: &Folder,
    name: &Path,
    stat: Stat,
    headers: Headers,
    scan: &mut Scan,
) -> Result<(), StateError> {
    let path = folder.path.join(name);
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::File,
        FileType::Symlink => return Err(StateError::Symlink { path }),
        _ => return Err(StateError::NotSqlite { path }),
    };
    let kind = match headers {
        Headers::Ignored => kind,
        Headers::Read if stat.st_size == 0 => return Err(StateError::Empty { path }),
        Headers::Read => match header_of(folder, name, &stat)? {
            Header::Database { wal } => Kind::Database { wal },
            Header::EncryptedLooking => return Err(StateError::EncryptedLooking { path }),
            Header::Other => return Err(StateError::NotSqlite { path }),
        },
    };
    scan.seen.insert(name.into(), Seen { kind, stat });
    scan.wal_bytes += wal_bytes(folder, name);
    Ok(())
}

fn wal_bytes(folder: &Folder, name: &Path) -> u64 {
    match folder.stat_if_any(&sqlite::side(name, "-wal")) {
        Ok(Some(stat)) => copy::allocated(&stat),
        _ => 0,
    }
}

fn header_of(folder: &Folder, path: &Path, stat: &Stat) -> Result<Header, StateError> {
    let full = || folder.path.join(path);
    let mut bytes = [0; 512];
    let count = folder.file(path).and_then(|file| file.read_at(&mut bytes, 0)).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => unreadable(&full(), &error),
        _ => StateError::io("read", &full(), error),
    })?;
    Ok(sqlite::header(&bytes[..count], u64::try_from(stat.st_size).unwrap_or(0)))
}

fn walk(
    folder: &Folder,
    at: &Path,
    root: &Root,
    headers: Headers,
    scan: &mut Scan,
    level: u64,
) -> Result<(), StateError> {
    let too_many = |what: &str, limit| StateError::TooMany { path: folder.path.clone(), what: what.into(), limit };
    if level > LEVELS_MAX {
        return Err(too_many("levels of folders", LEVELS_MAX));
    }
    let full = |path: &Path| folder.path.join(path);
    let failed = |path: &Path, error: io::Error| match error.kind() {
        io::ErrorKind::PermissionDenied => unreadable(&full(path), &error),
        _ => StateError::io("list", &full(path), error),
    };
    let inner = match folder.folder(at) {
        Ok(inner) => inner,
        // Gone since its name was read.
        Err(error) if error.kind() == io::ErrorKind::NotFound && level > 0 => return Ok(()),
        Err(error) => return Err(failed(at, error)),
    };
    for (name, _) in inner.names().map_err(|error| failed(at, error))? {
        let path = at.join(&name);
        if root.scope.leaves_out(&path) {
            continue;
        }
        let Some(stat) = inner.stat_if_any(Path::new(&name)).map_err(|error| failed(&path, error))? else {
            continue;
        };
        if scan.seen.len() as u64 >= ENTRIES_MAX {
            return Err(too_many("files", ENTRIES_MAX));
        }
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Kind::Folder,
            FileType::Symlink => Kind::Link,
            FileType::Fifo => Kind::Special("a FIFO"),
            FileType::Socket => Kind::Special("a socket"),
            FileType::RegularFile => match file_kind(folder, &path, &stat, headers)? {
                Some(kind) => kind,
                None => continue,
            },
            _ => Kind::Special("a device"),
        };
        scan.seen.insert(path.clone(), Seen { kind, stat });
        if is_folder(&stat) {
            walk(folder, &path, root, headers, scan, level + 1)?;
        }
    }
    Ok(())
}

/// Gives none if the file is gone meanwhile.
fn file_kind(folder: &Folder, path: &Path, stat: &Stat, headers: Headers) -> Result<Option<Kind>, StateError> {
    let smaller = u64::try_from(stat.st_size).unwrap_or(0) < sqlite::DATABASE_BYTES_MIN;
    if headers == Headers::Ignored || smaller {
        return Ok(Some(Kind::File));
    }
    match header_of(folder, path, stat) {
        Ok(Header::Database { wal }) => Ok(Some(Kind::Database { wal })),
        Ok(_) => Ok(Some(Kind::File)),
        Err(error) => match folder.stat_if_any(path) {
            Ok(None) => Ok(None),
            _ => Err(error),
        },
    }
}

/// Takes the files beside databases out of what is copied as files.
fn set_sides_apart(folder: &Folder, scan: &mut Scan) -> Result<(), StateError> {
    let databases: Vec<PathBuf> = scan.databases().map(|(path, _)| path.clone()).collect();
    for path in &databases {
        scan.wal_bytes += wal_bytes(folder, path);
        for suffix in sqlite::SIDES {
            scan.seen.remove(&sqlite::side(path, suffix));
        }
    }
    Ok(())
}

/// Finds a log of SQLite beside a file that doesn't begin like a database: an encrypted one, which only the service
/// can copy while it runs.
pub(super) fn encrypted_live(folder: &Folder, scan: &Scan) -> Option<PathBuf> {
    scan.seen
        .iter()
        .filter(|(path, seen)| seen.kind == Kind::File && path.as_os_str().as_encoded_bytes().ends_with(b"-wal"))
        .filter(|(path, _)| {
            let mut magic = [0; 4];
            let read = folder.file(path).and_then(|file| file.read_at(&mut magic, 0));
            matches!(read, Ok(4)) && matches!(magic, [0x37, 0x7f, 0x06, 0x82 | 0x83])
        })
        .map(|(path, _)| folder.path.join(path))
        .next()
}
