//! A folder of its own for each test, the peer processes, and a full listing of a tree to compare.

use lastgood_domain::facts::{RestoreFacts, SnapshotFacts};
use lastgood_domain::{failure::Coded as _, terms::SnapshotId};
use lastgood_drivers::state::{
    self, Mode, RestoreContext, SnapshotContext, StateError, StatePlace, snapshot, snapshot_folder,
};
use rusqlite::Connection;
use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Read as _},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{MetadataExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

pub(crate) struct Stage {
    _folder: tempfile::TempDir,
    pub(crate) root: PathBuf,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("state-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        // The data's owner must be able to pass.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).unwrap();
        let root = folder.path().canonicalize().unwrap();
        Self { _folder: folder, root }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    pub(crate) fn shelf(&self) -> PathBuf {
        self.path("shelf")
    }

    pub(crate) fn snap(&self, place: &StatePlace, mode: Mode, id: u64) -> Result<SnapshotFacts, StateError> {
        snapshot(place, mode, SnapshotId(id), &self.shelf(), &context())
    }

    pub(crate) fn snapshot(&self, id: u64) -> PathBuf {
        snapshot_folder(&self.shelf(), SnapshotId(id))
    }

    pub(crate) fn restore(&self, id: u64, place: &StatePlace, journal: &str) -> Result<RestoreFacts, StateError> {
        let (aside, journal) = (self.path("aside"), self.path(journal));
        state::restore(&self.snapshot(id), place, &aside, &journal, &RestoreContext::default())
    }

    /// Names in the shelf: whole snapshots, and half ones if any were left.
    pub(crate) fn shelved(&self) -> Vec<String> {
        names(&self.shelf())
    }
}

pub(crate) fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

pub(crate) fn peer() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let peer = exe.parent().unwrap().parent().unwrap().join("examples/state_peer");
    assert!(peer.exists(), "the peer is an example: build it with cargo build -p lastgood-drivers --examples");
    peer
}

pub(crate) fn context() -> SnapshotContext {
    let mut context = SnapshotContext::new(peer());
    // Some twenty times the longest in these tests: one that never ends fails.
    context.limit = std::time::Duration::from_secs(60);
    context
}

pub(crate) fn code<T: std::fmt::Debug>(result: Result<T, StateError>) -> &'static str {
    result.unwrap_err().code()
}

/// A peer that has said its first line and goes on until its stdin is closed.
pub(crate) struct Peer {
    pub(crate) child: Child,
    out: BufReader<ChildStdout>,
}

impl Peer {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut child =
            Command::new(peer()).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "the peer {arguments:?} said nothing");
        Self { child, out }
    }

    /// Ends it and gives what else it said.
    pub(crate) fn end(mut self) -> String {
        drop(self.child.stdin.take());
        let mut text = String::new();
        self.out.read_to_string(&mut text).unwrap();
        assert!(self.child.wait().unwrap().success());
        text
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A bank of 100 accounts with 1000 each: the sum stays 100,000 and the count stays the number of transfers.
pub(crate) fn bank(path: &Path, mode: &str, filler_rows: u32) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.pragma_update(None, "journal_mode", mode).unwrap();
    connection
        .execute_batch(
            "CREATE TABLE accounts (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL);
             CREATE TABLE transfers (id INTEGER PRIMARY KEY, source INTEGER, target INTEGER);
             CREATE TABLE counts (transfers INTEGER NOT NULL);
             CREATE TABLE filler (id INTEGER PRIMARY KEY, bytes BLOB);
             CREATE INDEX transfers_source ON transfers (source);
             INSERT INTO counts VALUES (0);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100)
               INSERT INTO accounts SELECT i, 1000 FROM n;
             PRAGMA user_version = 7; PRAGMA application_id = 77;",
        )
        .unwrap();
    let fill = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
                INSERT INTO filler SELECT i, randomblob(1000) FROM n";
    if filler_rows > 0 {
        connection.execute(fill, [filler_rows]).unwrap();
    }
    connection
}

/// Gives (sum of balances, transfers by count, transfers by rows, findings of the integrity check).
pub(crate) fn audit(path: &Path) -> (i64, i64, i64, String) {
    let connection = Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get(0)).unwrap();
    let checked = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    (
        number("SELECT sum(balance) FROM accounts"),
        number("SELECT transfers FROM counts"),
        number("SELECT count(*) FROM transfers"),
        checked,
    )
}

/// All of a tree that a restore promises to put back: kind, content or target, owner, mode, time, attributes.
pub(crate) fn listing(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    list(root, root, &mut found);
    found
}

fn list(root: &Path, path: &Path, found: &mut BTreeMap<String, String>) {
    let meta = fs::symlink_metadata(path).unwrap();
    let name = String::from_utf8_lossy(path.strip_prefix(root).unwrap().as_os_str().as_bytes()).into_owned();
    let kind = if meta.is_symlink() {
        format!("link to {}", fs::read_link(path).unwrap().display())
    } else if meta.is_dir() {
        "folder".into()
    } else if meta.is_file() {
        format!("file {}", lastgood_domain::terms::Digest::of(&content(path)))
    } else {
        "special".into()
    };
    let mut attributes = [0_u8; 4096];
    let count = if meta.is_symlink() { 0 } else { rustix::fs::listxattr(path, &mut attributes[..]).unwrap_or(0) };
    let attributes: Vec<String> = attributes[..count]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let name = std::str::from_utf8(name).unwrap();
            let mut value = [0_u8; 4096];
            let count = rustix::fs::getxattr(path, name, &mut value[..]).unwrap();
            format!("{name}={:?}", &value[..count])
        })
        .collect();
    let row = format!(
        "{kind} {}:{} {:o} {}.{} {attributes:?}",
        meta.uid(),
        meta.gid(),
        meta.mode(),
        meta.mtime(),
        meta.mtime_nsec()
    );
    found.insert(name, row);
    if meta.is_dir() {
        for name in fs::read_dir(path).unwrap() {
            list(root, &name.unwrap().path(), found);
        }
    }
}

/// A file's bytes; of a database without the counters in its header that a copy sets anew.
fn content(path: &Path) -> Vec<u8> {
    let mut bytes = fs::read(path).unwrap();
    if bytes.starts_with(b"SQLite format 3\0") {
        for counters in [24..28, 40..44, 92..100] {
            bytes[counters].fill(0);
        }
    }
    bytes
}
