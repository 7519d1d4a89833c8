//! The child process that copies.
//!
//! It runs as the data's owner, so that SQLite makes no file of root's beside a live database and a link planted in
//! the data leads nowhere the owner couldn't go; and it is a process of its own, so that closing a file here can't
//! drop a lock that lastgood holds elsewhere. It sends the manifest through a pipe that the owner can't write to.

mod databases;
mod files;

use self::{
    databases::{check_databases, copy_databases},
    files::copy_the_rest,
};
use super::{
    beneath::Folder,
    copy,
    error::StateError,
    manifest::{Below, Dress, Entry, FILES, Manifest, Skipped, What},
    place::{Owner, Root, StatePlace},
    scan::{self, Headers, Kind, Mark, Scan},
    snapshot::{Mode, Novelty, Recovery},
    space, sqlite,
};
use lastgood_domain::terms::{SnapshotId, Span, Timestamp};
use rustix::process::{Signal, geteuid};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

/// From 64 files on, one flush of the file system is cheaper than one per file.
const SYNC_EACH_MAX: usize = 64;
/// 16 MiB of orders: paths, patterns and notes, never data.
const ORDER_BYTES_MAX: u64 = 16 << 20;
/// Lower priority than the service by 10: the copy is not urgent, the service is.
const NICE: i32 = 10;

/// What the child is asked to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Order {
    /// Where the data is read.
    pub(super) read: StatePlace,
    /// The place that the manifest names; differs from `read` when abandoned data is adopted.
    pub(super) place: StatePlace,
    pub(super) mode: Mode,
    pub(super) novelty: Novelty,
    pub(super) recovery: Recovery,
    pub(super) id: SnapshotId,
    /// The empty folder to write to; the child's own by then.
    pub(super) staging: PathBuf,
    pub(super) extra_bytes: u64,
    pub(super) about: BTreeMap<String, String>,
    pub(super) parent: i32,
}

/// Runs as the child: reads an order from stdin, copies, writes the answer to stdout.
///
/// For `lastgood internal snapshot`. Gives the exit status: 0 if an answer was written, be it an error.
pub fn worker_main() -> u8 {
    let mut text = Vec::new();
    let order: Order = match io::stdin().take(ORDER_BYTES_MAX).read_to_end(&mut text) {
        Ok(_) => match serde_json::from_slice(&text) {
            Ok(order) => order,
            Err(_) => return 2,
        },
        Err(_) => return 2,
    };
    let answer = become_owner(&order).and_then(|()| take(&order));
    let mut out = io::BufWriter::new(io::stdout().lock());
    match serde_json::to_writer(&mut out, &answer).map_err(io::Error::from).and_then(|()| out.flush()) {
        Ok(()) => 0,
        Err(_) => 3,
    }
}

fn become_owner(order: &Order) -> Result<(), StateError> {
    if let Some(owner) = &order.read.owner {
        drop_to(owner)?;
    }
    // After the change of owner, which clears it. A child without its parent would fill a disk for nobody.
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    let parent = rustix::process::getppid().map_or(0, rustix::process::Pid::as_raw_pid);
    if parent != order.parent {
        return Err(StateError::WorkerDied { how: "its parent was gone before it began".into() });
    }
    let _ = rustix::thread::set_no_new_privs(true);
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    if order.mode == Mode::Online {
        let _ = rustix::process::nice(NICE);
    }
    Ok(())
}

pub(crate) fn drop_to(owner: &Owner) -> Result<(), StateError> {
    let (ours, gid) = (geteuid().as_raw(), rustix::process::getegid().as_raw());
    if (ours, gid) == (owner.uid, owner.gid) {
        return Ok(());
    }
    let denied = |_| StateError::OwnerDenied { ours, uid: owner.uid, gid: owner.gid };
    let groups: Vec<_> = owner.groups.iter().map(|&gid| rustix::fs::Gid::from_raw(gid)).collect();
    let (uid, gid) = (rustix::fs::Uid::from_raw(owner.uid), rustix::fs::Gid::from_raw(owner.gid));
    // This process has one thread yet: what is set for it holds for all it starts.
    rustix::thread::set_thread_groups(&groups).map_err(denied)?;
    rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(denied)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(denied)
}

/// One root of the data while it is copied.
struct Part {
    number: usize,
    root: Root,
    folder: Folder,
    scan: Scan,
    /// What is copied so far, with the mark it had.
    done: BTreeMap<PathBuf, (Mark, What, Dress)>,
    /// Copies of live databases, with the byte from which on they may not be on the disk yet.
    unwritten: BTreeMap<PathBuf, u64>,
}

fn take(order: &Order) -> Result<Manifest, StateError> {
    let began = Instant::now();
    let taken = now();
    let staging = Folder::open(&order.staging)?;
    let wrote = |error| StateError::io("write", &order.staging, error);
    staging.make_folder(Path::new(FILES)).map_err(wrote)?;
    let (mut parts, roots) = look(order)?;
    let needed = room_needed(order, &parts);
    space::demand_room(&staging, &order.staging, needed)?;
    let full = |error| space::or_full(error, &order.staging, needed);
    let held = copy_databases(order, &mut parts).map_err(full)?;
    copy_the_rest(order, &staging, &mut parts).map_err(full)?;
    check_databases(order, &mut parts).map_err(full)?;
    let (entries, skipped) = collect(parts);
    sync(&staging, &entries).map_err(full)?;
    let databases = || {
        entries.iter().filter_map(|entry| match &entry.what {
            What::Database(_, facts) => Some((entry.root, entry.path.path().as_os_str(), facts.schema)),
            _ => None,
        })
    };
    Ok(Manifest {
        form: Manifest::FORM,
        id: order.id,
        place: order.place.clone(),
        roots,
        taken,
        took: Span(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)),
        sqlite_version: rusqlite::version().into(),
        about: order.about.clone(),
        schema: sqlite::digest_of_schemas(databases()),
        skipped,
        held_ms: u64::try_from(held.as_millis()).unwrap_or(u64::MAX),
        entries,
    })
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Opens and walks all roots. All live files are opened and closed here, before any connection is made.
fn look(order: &Order) -> Result<(Vec<Part>, usize), StateError> {
    let mut parts = Vec::new();
    let roots = order.read.roots()?;
    let count = roots.len();
    for (number, root) in roots.into_iter().enumerate() {
        let found = Folder::open(&root.base).and_then(|folder| {
            let scan = scan::scan(&folder, &root, Headers::Read)?;
            Ok((folder, scan))
        });
        let (folder, scan) = match found {
            Ok(found) => found,
            // A new instance has no data yet, or a file that SQLite made but never wrote.
            Err(StateError::Missing { .. } | StateError::Empty { .. }) if order.novelty == Novelty::New => continue,
            Err(error) => return Err(error),
        };
        if order.mode == Mode::Online
            && let Some(path) = scan::encrypted_live(&folder, &scan)
        {
            return Err(StateError::EncryptedLooking { path });
        }
        if order.novelty == Novelty::Existing && !scan.seen.values().any(|seen| seen.kind != Kind::Folder) {
            return Err(StateError::Empty { path: folder.path });
        }
        let target = order.staging.join(FILES).join(number.to_string());
        std::fs::create_dir(&target).map_err(|error| StateError::io("make", &target, error))?;
        parts.push(Part { number, root, folder, scan, done: BTreeMap::new(), unwritten: BTreeMap::new() });
    }
    Ok((parts, count))
}

/// Copy, plus the growth of logs that can't be merged while we read (measured up to 0.83 of the database under
/// 1,400 writes a second), plus what the caller needs.
fn room_needed(order: &Order, parts: &[Part]) -> u64 {
    let of = |part: &Part| {
        let all: u64 = part
            .scan
            .seen
            .values()
            .filter(|seen| seen.kind != Kind::Folder)
            .map(|seen| copy::allocated(&seen.stat))
            .sum();
        let logged: u64 = part
            .scan
            .databases()
            .filter(|(_, seen)| seen.kind == Kind::Database { wal: true })
            .map(|(_, seen)| copy::allocated(&seen.stat))
            .sum();
        all + part.scan.wal_bytes + if order.mode == Mode::Online { logged } else { 0 }
    };
    parts.iter().map(of).sum::<u64>().saturating_add(order.extra_bytes)
}

fn staged(order: &Order, number: usize, path: &Path) -> PathBuf {
    order.staging.join(FILES).join(number.to_string()).join(path)
}

fn collect(parts: Vec<Part>) -> (Vec<Entry>, Vec<Skipped>) {
    let (mut entries, mut skipped) = (Vec::new(), Vec::new());
    for part in parts {
        for (path, (_, what, dress)) in part.done {
            if let Some(path) = Below::new(path) {
                entries.push(Entry { root: part.number, path, dress, what });
            }
        }
        for (path, seen) in part.scan.seen {
            if let (Kind::Special(why), Some(path)) = (seen.kind, Below::new(path)) {
                skipped.push(Skipped { root: part.number, path, why: why.into() });
            }
        }
    }
    (entries, skipped)
}

/// Makes all that was written survive a power cut.
fn sync(staging: &Folder, entries: &[Entry]) -> Result<(), StateError> {
    let failed = |error: io::Error| StateError::io("sync", &staging.path, error);
    let place = |entry: &Entry| Path::new(FILES).join(entry.root.to_string()).join(entry.path.path());
    if entries.len() > SYNC_EACH_MAX {
        return rustix::fs::syncfs(staging).map_err(|error| failed(error.into()));
    }
    for entry in entries {
        match &entry.what {
            What::Folder => staging.folder(&place(entry)).and_then(|folder| folder.sync()).map_err(failed)?,
            What::File(_) | What::Database(..) => {
                staging.file(&place(entry)).and_then(|file| file.sync_all()).map_err(failed)?;
            }
            What::Link(_) => {}
        }
    }
    // Folders above them, down to the staging folder itself, which the parent syncs.
    let roots: BTreeSet<usize> = entries.iter().map(|entry| entry.root).collect();
    for root in roots {
        let path = Path::new(FILES).join(root.to_string());
        staging.folder(&path).and_then(|folder| folder.sync()).map_err(failed)?;
    }
    staging.folder(Path::new(OsStr::new(FILES))).and_then(|folder| folder.sync()).map_err(failed)
}
