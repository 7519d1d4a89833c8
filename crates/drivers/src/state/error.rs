//! How an act on data fails.
//!
//! Every error can be written as JSON and read back, because the copying is done by a child process that runs as
//! the data's owner, and its error must arrive whole.

use lastgood_domain::{failure::Coded, terms::SnapshotId};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The text of a cause, kept so that it can cross to another process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{0}")]
pub struct Cause(String);

impl Cause {
    /// Keeps the text of `error` and of what caused it.
    pub fn of(error: &dyn std::error::Error) -> Self {
        let mut text = error.to_string();
        let mut inner = error.source();
        while let Some(cause) = inner {
            text = format!("{text}: {cause}");
            inner = cause.source();
        }
        Self(text)
    }
}

/// A process that still has the data open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    /// The file it holds.
    pub path: PathBuf,
}

/// Tells why an act on data failed; see [`StateError::code`] for the stable codes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the fields are named as in the sentence above each variant")]
pub enum StateError {
    /// The configured data is not there.
    #[error("there is no data at {}", path.display())]
    Missing { path: PathBuf },
    /// The database file has no bytes, or the folder no files.
    #[error("the data at {} is empty", path.display())]
    Empty { path: PathBuf },
    /// A file named as a database is none.
    #[error("{} is not a SQLite database", path.display())]
    NotSqlite { path: PathBuf },
    /// A file named as a database is probably an encrypted one.
    #[error("{} looks like an encrypted database", path.display())]
    EncryptedLooking { path: PathBuf },
    /// The database is damaged.
    #[error("the database {} is corrupt: {finding}", path.display())]
    Corrupt { path: PathBuf, finding: String },
    /// A file can't be read by the data's owner.
    #[error("{} can't be read by uid {uid}", path.display())]
    Unreadable { path: PathBuf, uid: u32, source: Cause },
    /// A symbolic link stands where data should be.
    #[error("{} is or passes a symbolic link that is not followed", path.display())]
    Symlink { path: PathBuf },
    /// What should be a folder is none.
    #[error("{} is not a folder", path.display())]
    NotAFolder { path: PathBuf },
    /// An exclude pattern can't be read.
    #[error("the exclude pattern {pattern:?} is not valid")]
    BadExclude { pattern: String, source: Cause },
    /// A path in the configuration of a state is not absolute, or ends in nothing.
    #[error("the state path {} is not an absolute path of a file or folder", path.display())]
    BadPath { path: PathBuf },
    /// A folder holds more files, or more levels, than we walk.
    #[error("{} has more than {limit} {what}", path.display())]
    TooMany { path: PathBuf, what: String, limit: u64 },
    /// No user of that name or number exists.
    #[error("there is no user {name:?} on this machine")]
    OwnerUnknown { name: String },
    /// Only root can give files to another owner or work as one.
    #[error("uid {ours} may not act for uid {uid}, gid {gid}")]
    OwnerDenied { ours: u32, uid: u32, gid: u32 },
    /// Not enough space.
    #[error("{} has {available_bytes} bytes free, {needed_bytes} are needed", path.display())]
    NoSpace { path: PathBuf, needed_bytes: u64, available_bytes: u64 },
    /// A file changed each time it was copied.
    #[error("{} kept changing while it was copied, {tries} times", path.display())]
    Unsettled { path: PathBuf, tries: u32 },
    /// The database stayed locked by the service.
    #[error("the database {} stayed locked for {waited_seconds} s", path.display())]
    Busy { path: PathBuf, waited_seconds: u64 },
    /// A database can be read only once what was left half-written is finished.
    #[error("the database {} needs recovery first", path.display())]
    NeedsRecovery { path: PathBuf },
    /// A snapshot of this id exists of other data.
    #[error("snapshot {id} in {} was taken of other data", shelf.display())]
    IdTaken { id: SnapshotId, shelf: PathBuf },
    /// The data's owner can't reach the folder that snapshots are kept in.
    #[error("uid {uid} can't pass the folder {}", path.display())]
    ShelfUnreachable { path: PathBuf, uid: u32 },
    /// The copy doesn't have what the source had in the same transaction.
    #[error("the copy of {} differs from its source: {what}", path.display())]
    Differs { path: PathBuf, what: String },
    /// The copying didn't end in time.
    #[error("the snapshot was not finished after {limit_seconds} s")]
    TooSlow { limit_seconds: u64 },
    /// The child process that copies ended without an answer.
    #[error("the process that copies ended without an answer: {how}")]
    WorkerDied { how: String },
    /// There is no whole snapshot in a folder.
    #[error("{} is not a whole snapshot", path.display())]
    NoSnapshot { path: PathBuf, source: Cause },
    /// A snapshot's file isn't what its manifest says.
    #[error("snapshot {} is damaged at {}: {what}", snapshot.display(), path.display())]
    Damaged { snapshot: PathBuf, path: PathBuf, what: String },
    /// The scratch space for a clone is in memory.
    #[error("{} is in memory, not on a disk", path.display())]
    ScratchInMemory { path: PathBuf },
    /// A clone's destination already has something in it.
    #[error("{} is not empty", path.display())]
    TargetTaken { path: PathBuf },
    /// A process still has the data open.
    #[error("process {} still holds {} ({} in all)", holders[0].pid, holders[0].path.display(), holders.len())]
    StillHeld { holders: Vec<Holder> },
    /// The place for abandoned data is on another file system.
    #[error("{} is on another file system than {}", aside.display(), path.display())]
    AsideElsewhere { aside: PathBuf, path: PathBuf },
    /// A file system is mounted inside the data.
    #[error("another file system is mounted at {}, inside the data", path.display())]
    NestedMount { path: PathBuf },
    /// The journal tells of another restore.
    #[error("{} is the journal of another restore", journal.display())]
    JournalOther { journal: PathBuf },
    /// An earlier restore of the data was begun and is not finished.
    #[error("a restore of this data was begun and is not finished: {}", journal.display())]
    RestoreUnfinished { journal: PathBuf },
    /// The snapshot was taken of a state of another kind, or of other databases.
    #[error("the snapshot is of {kept}, the state is now {now}")]
    OtherShape { kept: String, now: String },
    /// The snapshot was taken of another folder, which is still there.
    #[error("the snapshot is of {}, which is still there; the data is now {}", kept.display(), now.display())]
    OtherFolder { kept: PathBuf, now: PathBuf },
    /// The system refused a file operation.
    #[error("could not {act} {}", path.display())]
    Io { act: String, path: PathBuf, source: Cause },
    /// SQLite refused an operation.
    #[error("SQLite could not {act} {}", path.display())]
    Sqlite { act: String, path: PathBuf, source: Cause },
}

impl StateError {
    pub(crate) fn io(act: &str, path: &Path, source: impl Into<std::io::Error>) -> Self {
        let source = source.into();
        Self::Io { act: act.into(), path: path.into(), source: Cause::of(&source) }
    }

    pub(super) fn sqlite(act: &str, path: &Path, source: &rusqlite::Error) -> Self {
        use rusqlite::ErrorCode as Code;
        let path = path.to_path_buf();
        match source.sqlite_error_code() {
            Some(Code::NotADatabase) => Self::NotSqlite { path },
            Some(Code::DatabaseCorrupt) => Self::Corrupt { path, finding: source.to_string() },
            Some(Code::DatabaseBusy | Code::DatabaseLocked) => {
                Self::Busy { path, waited_seconds: super::live::BUSY_WAIT.as_secs() }
            }
            Some(Code::DiskFull) => Self::NoSpace { path, needed_bytes: 0, available_bytes: 0 },
            _ => Self::Sqlite { act: act.into(), path, source: Cause::of(source) },
        }
    }
}

impl Coded for StateError {
    fn code(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "state-missing",
            Self::Empty { .. } => "state-empty",
            Self::NotSqlite { .. } => "state-not-sqlite",
            Self::EncryptedLooking { .. } => "state-encrypted-looking",
            Self::Corrupt { .. } => "state-corrupt",
            Self::Unreadable { .. } => "state-unreadable",
            Self::Symlink { .. } => "state-symlink",
            Self::NotAFolder { .. } => "state-not-a-folder",
            Self::BadExclude { .. } => "state-bad-exclude",
            Self::BadPath { .. } => "state-bad-path",
            Self::TooMany { .. } => "state-too-many-files",
            Self::OwnerUnknown { .. } => "state-owner-unknown",
            Self::OwnerDenied { .. } => "state-owner-denied",
            Self::NoSpace { .. } => "snapshot-no-space",
            Self::Unsettled { .. } => "snapshot-unsettled",
            Self::Busy { .. } => "state-busy",
            Self::NeedsRecovery { .. } => "state-needs-recovery",
            Self::IdTaken { .. } => "snapshot-id-taken",
            Self::ShelfUnreachable { .. } => "snapshot-shelf-unreachable",
            Self::Differs { .. } => "snapshot-differs",
            Self::TooSlow { .. } => "snapshot-too-slow",
            Self::WorkerDied { .. } => "snapshot-worker-died",
            Self::NoSnapshot { .. } => "snapshot-missing",
            Self::Damaged { .. } => "snapshot-damaged",
            Self::ScratchInMemory { .. } => "clone-scratch-in-memory",
            Self::TargetTaken { .. } => "clone-target-taken",
            Self::StillHeld { .. } => "restore-still-held",
            Self::AsideElsewhere { .. } => "restore-aside-elsewhere",
            Self::NestedMount { .. } => "restore-nested-mount",
            Self::JournalOther { .. } => "restore-journal-other",
            Self::RestoreUnfinished { .. } => "restore-unfinished",
            Self::OtherShape { .. } => "restore-other-shape",
            Self::OtherFolder { .. } => "restore-other-folder",
            Self::Io { .. } => "state-io",
            Self::Sqlite { .. } => "state-sqlite",
        }
    }

    fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Missing { path } => format!("check the `state` path in lastgood.toml: ls -la {}", path.display()),
            Self::Empty { .. } => "start the service once so that it makes its data, or add the instance as new".into(),
            Self::NotSqlite { .. } => "name a SQLite file, or use state = { directory = \"…\" } for other files".into(),
            Self::EncryptedLooking { .. } => {
                "stop the service and snapshot its folder: state = { directory = \"…\" }".into()
            }
            Self::Corrupt { path, .. } => {
                format!("no snapshot can be trusted; repair it first: sqlite3 {} .recover", path.display())
            }
            Self::Unreadable { path, uid, .. } => {
                format!("make it readable for uid {uid}, or exclude it: ls -la {}", path.display())
            }
            Self::Symlink { .. } => "write the real path in lastgood.toml: realpath PATH".into(),
            Self::NotAFolder { .. } => "name the folder, or use state = { sqlite = \"…\" } for one file".into(),
            Self::BadExclude { .. } => "write it like \"cache/**\" or \"*.log\", relative to the folder".into(),
            Self::BadPath { .. } => "write an absolute path, or begin with a placeholder such as {data}".into(),
            Self::TooMany { .. } => "exclude what can be made again, such as \"cache/**\"".into(),
            Self::OwnerUnknown { name } => format!("make the user, or name the right owner: getent passwd {name}"),
            Self::OwnerDenied { .. } => "run lastgood as root, or as the owner of the data".into(),
            Self::NoSpace { path, .. } => format!("make room: df -h {}", path.display()),
            Self::Unsettled { .. } => {
                "exclude the file if it can be made again (logs, caches), or stop the service first".into()
            }
            Self::Busy { path, .. } => format!("see who holds it: fuser -v {}", path.display()),
            Self::NeedsRecovery { .. } => {
                "the service itself recovers it at its next start; nothing is in the way of a rollback".into()
            }
            Self::IdTaken { .. } => "two services share one snapshot folder: give each its own".into(),
            Self::ShelfUnreachable { path, .. } => {
                format!("let it pass, without reading: chmod o+x {}", path.display())
            }
            Self::Differs { .. } => "run it again; if it stays, report it with `lastgood doctor --json`".into(),
            Self::TooSlow { .. } => "exclude what can be made again, or raise the limit".into(),
            Self::WorkerDied { .. } => "see whether the system killed it for memory: journalctl -k -g oom".into(),
            Self::NoSnapshot { .. } => "see which snapshots lead back: lastgood status SERVICE --json".into(),
            Self::Damaged { .. } => {
                "nothing was changed; see which snapshots lead back: lastgood status SERVICE --json".into()
            }
            Self::ScratchInMemory { .. } => {
                "name a folder on a disk: state_dir in lastgood.toml, not one of a file system in memory such as /tmp"
                    .into()
            }
            Self::TargetTaken { .. } => "give an empty or new folder".into(),
            Self::StillHeld { holders } => format!("stop it first: ps -fp {}", holders[0].pid),
            Self::AsideElsewhere { path, .. } => {
                format!("put the data one folder below its mount point: findmnt -T {}", path.display())
            }
            Self::NestedMount { .. } => "exclude the mount, or unmount it".into(),
            Self::JournalOther { .. } => "finish that restore first: lastgood rollback SERVICE --instance NAME".into(),
            Self::RestoreUnfinished { .. } => "finish it: lastgood rollback SERVICE --instance NAME".into(),
            Self::OtherFolder { kept, .. } => format!("set it back in lastgood.toml: data = \"{}\"", kept.display()),
            Self::OtherShape { .. } => "the `state` setting changed since the snapshot; set it back to restore".into(),
            Self::Io { .. } | Self::Sqlite { .. } => return None,
        };
        Some(text)
    }
}
