//! The child process that copies.
//!
//! It runs as the data's owner, so that SQLite makes no file of root's beside a live database and a link planted in
//! the data leads nowhere the owner couldn't go; and it is a process of its own, so that closing a file here can't
//! drop a lock that lastgood holds elsewhere. It sends the manifest through a pipe that the owner can't write to.

use super::{
    beneath::Folder,
    copy,
    error::StateError,
    live::Live,
    manifest::{Below, Content, DatabaseFacts, Dress, Entry, FILES, Manifest, RawBytes, Skipped, What},
    place::{Owner, Root, StatePlace},
    scan::{self, Headers, Kind, Mark, Scan, Seen},
    snapshot::{Mode, Novelty},
    space, sqlite,
};
use lastgood_domain::terms::{SnapshotId, Span, Timestamp};
use rustix::process::{Signal, geteuid};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs::File,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Five tries with growing pauses (10, 20, 40, 80 ms): a file that is written more often than that is a log.
const SETTLE_TRIES_MAX: u32 = 5;
/// Four passes over the whole tree; each copies only what changed since the one before.
const PASSES_MAX: u32 = 4;
/// 20 ms: two ticks of the slowest clock that stamps files (100 Hz); a change within a tick leaves no mark.
const CLOCK_TICK: Duration = Duration::from_millis(20);
/// 16 MiB copy in less than 50 ms: all databases can be held at one point in time without a writer noticing.
const HELD_TOGETHER_BYTES_MAX: u64 = 16 << 20;
/// 200 databases with three files each stay below the usual limit of 1024 open files.
const OPEN_TOGETHER_MAX: usize = 200;
/// 1 MiB reads: the disk's read-ahead is used in full.
const WARM_UP_BYTES: usize = 1 << 20;
/// From 64 files on, one flush of the file system is cheaper than one per file.
const SYNC_EACH_MAX: usize = 64;
/// 250 ms: the service's next write merges its log, and needs the disk for that.
const MERGE_PAUSE: Duration = Duration::from_millis(250);
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

/// Copies all databases that have been seen and not yet copied; gives the longest time that writers were held up.
fn copy_databases(order: &Order, parts: &mut [Part]) -> Result<Duration, StateError> {
    let mut todo: Vec<(usize, PathBuf)> = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        todo.extend(
            part.scan
                .databases()
                .filter(|(path, _)| !part.done.contains_key(*path))
                .map(|(path, _)| (index, path.clone())),
        );
    }
    if todo.is_empty() {
        return Ok(Duration::ZERO);
    }
    // Below folders that are still to be made.
    for (index, path) in &todo {
        make_parents(&staged(order, parts[*index].number, path), path)?;
    }
    match order.mode {
        Mode::Stopped => {
            for (index, path) in &todo {
                let what = copy_stopped(order, &parts[*index], path)?;
                finish(&mut parts[*index], path, what)?;
            }
            Ok(Duration::ZERO)
        }
        Mode::Online => {
            let mut held = Duration::ZERO;
            for batch in todo.chunks(OPEN_TOGETHER_MAX) {
                held = held.max(copy_live(order, parts, batch)?);
            }
            Ok(held)
        }
    }
}

fn make_parents(target: &Path, path: &Path) -> Result<(), StateError> {
    let nested = path.parent().is_some_and(|parent| !parent.as_os_str().is_empty());
    match target.parent() {
        Some(parent) if nested => {
            std::fs::create_dir_all(parent).map_err(|error| StateError::io("make", parent, error))
        }
        _ => Ok(()),
    }
}

fn finish(part: &mut Part, path: &Path, facts: DatabaseFacts) -> Result<(), StateError> {
    let Some(seen) = part.scan.seen.get(path) else { return Ok(()) };
    // Attributes are read by path: an open handle on a live database would drop its locks when it is closed.
    let dress = copy::dress_of(&seen.stat, None).map_err(|error| StateError::io("read", path, error))?;
    let content = Content { bytes: 0, digest: facts.schema, sparse: false };
    part.done.insert(path.to_owned(), (seen.mark(), What::Database(content, facts), dress));
    Ok(())
}

/// Copies live databases as they are at one point in time, as far as that holds up no writer.
fn copy_live(order: &Order, parts: &mut [Part], batch: &[(usize, PathBuf)]) -> Result<Duration, StateError> {
    let size = |(index, path): &(usize, PathBuf)| {
        parts[*index].scan.seen.get(path).map_or(0, |seen| copy::allocated(&seen.stat))
    };
    let together = batch.iter().map(size).sum::<u64>() <= HELD_TOGETHER_BYTES_MAX;
    for (index, path) in batch {
        warm_up(&parts[*index].folder, path);
    }
    let full = |(index, path): &(usize, PathBuf)| parts[*index].folder.path.join(path);
    // One transaction per database, all begun before the first copy: what one has of another's rows, it has.
    let mut open = Vec::new();
    for item in batch {
        let live = Live::begin(&full(item))?;
        open.push((item, (together || live.lets_writers_pass()).then_some(live)));
    }
    let mut held = Duration::ZERO;
    let mut copied = Vec::new();
    for (item, live) in open {
        let live = match live {
            Some(live) => live,
            None => Live::begin(&full(item))?,
        };
        let (index, path) = item;
        let target = staged(order, parts[*index].number, path);
        let unwritten = live.copy_to(&target, space::unwritten_bytes_max())?;
        // Counting reads every page again, so a large database without WAL, whose writers wait for us, is let go first.
        let facts = (together || live.lets_writers_pass()).then(|| live.facts()).transpose()?;
        if !live.lets_writers_pass() {
            held = held.max(live.held());
        }
        copied.push((*index, path, facts, unwritten));
    }
    for (index, path, facts, unwritten) in copied {
        parts[index].unwritten.insert(path.clone(), unwritten);
        let facts = match facts {
            Some(facts) => facts,
            None => sqlite::still_facts(&staged(order, parts[index].number, path))?,
        };
        finish(&mut parts[index], path, facts)?;
    }
    Ok(held)
}

/// Reads a file once from its beginning to its end: a cold one is copied several times faster then.
fn warm_up(folder: &Folder, path: &Path) {
    let Ok(mut file) = folder.file(path) else { return };
    let mut buffer = vec![0; WARM_UP_BYTES];
    while matches!(file.read(&mut buffer), Ok(count) if count > 0) {}
}

/// Copies a database that nobody has open: the file, its log, its journal; the copy is recovered, the source untouched.
fn copy_stopped(order: &Order, part: &Part, path: &Path) -> Result<DatabaseFacts, StateError> {
    let target = staged(order, part.number, path);
    let mut has_log = false;
    for suffix in ["", "-wal", "-journal"] {
        let from = sqlite::side(path, suffix);
        let full = part.folder.path.join(&from);
        match part.folder.stat_if_any(&from).map_err(|error| StateError::io("look at", &full, error))? {
            Some(stat) if suffix.is_empty() || stat.st_size > 0 => {
                copy_settled(&part.folder, &from, &sqlite::side(&target, suffix))?
                    .ok_or(StateError::Missing { path: full })?;
                has_log |= !suffix.is_empty();
            }
            _ => {}
        }
    }
    if has_log {
        sqlite::recover_copy(&target)?;
    }
    sqlite::still_facts(&target)
}

/// Copies one file that didn't change meanwhile; none if it is gone.
fn copy_settled(folder: &Folder, path: &Path, target: &Path) -> Result<Option<(Seen, Content, Dress)>, StateError> {
    let full = folder.path.join(path);
    let failed = |act: &str, error: io::Error| match error.kind() {
        io::ErrorKind::PermissionDenied => super::beneath::unreadable(&full, &error),
        _ => StateError::io(act, &full, error),
    };
    for attempt in 0..SETTLE_TRIES_MAX {
        if attempt > 0 {
            thread::sleep(Duration::from_millis(5 << attempt));
        }
        let from = match folder.file(path) {
            Ok(from) => from,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("open", error)),
        };
        let stat = rustix::fs::fstat(&from).map_err(|error| failed("look at", error.into()))?;
        if is_fresh(&stat) {
            thread::sleep(CLOCK_TICK);
        }
        let stat_of = || rustix::fs::fstat(&from).map_err(|error| failed("look at", error.into()));
        let before = Seen { kind: Kind::File, stat: stat_of()? };
        let to = new_file(target)?;
        let content = copy::copy_digested(&from, Some(&to), copy::is_sparse(&before.stat))
            .map_err(|error| StateError::io("copy", &full, error))?;
        let dress = copy::dress_of(&before.stat, Some(&from)).map_err(|error| failed("read", error))?;
        let after = Seen { kind: Kind::File, stat: stat_of()? };
        if before.mark() == after.mark() {
            return Ok(Some((before, content, dress)));
        }
    }
    Err(StateError::Unsettled { path: full, tries: SETTLE_TRIES_MAX })
}

/// Says whether a file was written so lately that one more write could leave the same time on it.
fn is_fresh(stat: &rustix::fs::Stat) -> bool {
    let nanoseconds = i128::from(stat.st_ctime) * 1_000_000_000 + i128::from(stat.st_ctime_nsec);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i128::try_from(now.as_nanos()).is_ok_and(|now| (now - nanoseconds).abs() < CLOCK_TICK.as_nanos() as i128)
}

fn new_file(target: &Path) -> Result<File, StateError> {
    let failed = |error| StateError::io("write", target, error);
    match std::fs::remove_file(target) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    File::create_new(target).map_err(failed)
}

/// Copies folders, links and plain files, again and again until a whole pass finds nothing changed.
fn copy_the_rest(order: &Order, staging: &Folder, parts: &mut [Part]) -> Result<(), StateError> {
    for pass in 1..=PASSES_MAX {
        let mut changed = None;
        for part in parts.iter_mut() {
            if let Some(path) = copy_pass(order, staging, part)? {
                changed = Some(path);
            }
        }
        if pass > 1 && changed.is_none() {
            return Ok(());
        }
        if pass == PASSES_MAX {
            let path = changed.unwrap_or_else(|| order.staging.clone());
            return Err(StateError::Unsettled { path, tries: PASSES_MAX });
        }
        if parts.iter().all(|part| matches!(part.root.scope, super::place::Scope::Only(_))) {
            return Ok(());
        }
        // No connection is open now, so the tree may be walked again.
        for part in parts.iter_mut() {
            part.scan = scan::scan(&part.folder, &part.root, Headers::Read)?;
        }
        copy_databases(order, parts)?;
    }
    Ok(())
}

/// Copies what is new or changed since the last pass, and gives one path that was.
fn copy_pass(order: &Order, staging: &Folder, part: &mut Part) -> Result<Option<PathBuf>, StateError> {
    let mut changed = None;
    let gone: Vec<PathBuf> = part.done.keys().filter(|path| !part.scan.seen.contains_key(*path)).cloned().collect();
    for path in gone.iter().rev() {
        part.done.remove(path);
        remove_staged(staging, &staged(order, part.number, path))?;
        changed = Some(part.folder.path.join(path));
    }
    let seen: Vec<(PathBuf, Seen)> = part.scan.seen.iter().map(|(path, seen)| (path.clone(), seen.clone())).collect();
    for (path, seen) in seen {
        let old = part.done.get(&path);
        let same = match (old, seen.kind) {
            (Some((_, What::Database(..), _)), Kind::Database { .. }) | (_, Kind::Special(_)) => true,
            // What is in a folder is looked at by itself; its own dress is taken from the last look.
            (Some((_, What::Folder, _)), Kind::Folder) => false,
            (Some((mark, ..)), _) => *mark == seen.mark(),
            (None, _) => false,
        };
        if same {
            continue;
        }
        let only_dress = matches!((old, seen.kind), (Some((_, What::Folder, _)), Kind::Folder));
        let target = staged(order, part.number, &path);
        if old.is_some() && !only_dress {
            remove_staged(staging, &target)?;
            part.done.remove(&path);
        }
        if let Some(done) = copy_one(&part.folder, &path, &seen, &target)? {
            part.done.insert(path.clone(), done);
        }
        if !only_dress {
            changed = Some(part.folder.path.join(&path));
        }
    }
    Ok(changed)
}

fn remove_staged(staging: &Folder, target: &Path) -> Result<(), StateError> {
    let below = target.strip_prefix(&staging.path).unwrap_or(target);
    let failed = |error| StateError::io("remove", target, error);
    match staging.stat_if_any(below).map_err(failed)? {
        Some(stat) if super::beneath::is_folder(&stat) => staging.remove_tree(below).map_err(failed),
        Some(_) => std::fs::remove_file(target).map_err(failed),
        None => Ok(()),
    }
}

fn copy_one(
    folder: &Folder,
    path: &Path,
    seen: &Seen,
    target: &Path,
) -> Result<Option<(Mark, What, Dress)>, StateError> {
    let full = folder.path.join(path);
    let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    match seen.kind {
        Kind::Folder => {
            match std::fs::create_dir(target) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(StateError::io("make", target, error));
                }
                _ => {}
            }
            match folder.folder(path) {
                Ok(open) => {
                    let dress = copy::dress_of(&seen.stat, Some(&open))
                        .map_err(|error| StateError::io("read", &full, error))?;
                    Ok(Some((seen.mark(), What::Folder, dress)))
                }
                Err(error) if gone(&error) => Ok(None),
                Err(error) => Err(StateError::io("open", &full, error)),
            }
        }
        Kind::Link => match folder.read_link(path) {
            Ok(link) => {
                let dress = copy::dress_of(&seen.stat, None).map_err(|error| StateError::io("read", &full, error))?;
                Ok(Some((seen.mark(), What::Link(RawBytes(link)), dress)))
            }
            Err(error) if gone(&error) => Ok(None),
            Err(error) => Err(StateError::io("read", &full, error)),
        },
        Kind::File => {
            Ok(copy_settled(folder, path, target)?
                .map(|(seen, content, dress)| (seen.mark(), What::File(content), dress)))
        }
        Kind::Database { .. } | Kind::Special(_) => Ok(None),
    }
}

/// Checks each copied database in full, compares it with what its source had, and digests it.
fn check_databases(order: &Order, parts: &mut [Part]) -> Result<(), StateError> {
    for part in parts {
        for (path, (_, what, dress)) in &mut part.done {
            let What::Database(content, at_source) = what else { continue };
            let (copy, named) = (staged(order, part.number, path), part.folder.path.join(path));
            let unwritten = part.unwritten.get(path).copied().filter(|_| at_source.bytes() > copy::FLUSH_BYTES as u64);
            // All read the whole copy, from memory mostly: together they take as long as the slowest.
            let (facts, digested, flushed) = thread::scope(|scope| {
                let digested =
                    scope.spawn(|| File::open(&copy).and_then(|file| copy::copy_digested(&file, None, false)));
                let flushed = scope.spawn(|| unwritten.map_or(Ok(()), |from| flush(&copy, from)));
                (sqlite::check_copy(&copy, &named), digested.join(), flushed.join())
            });
            let flushed = flushed.unwrap_or_else(|_| Err(io::ErrorKind::Other.into()));
            flushed.map_err(|error| StateError::io("sync", &copy, error))?;
            let facts = facts?;
            demand_equal(&named, at_source, &facts)?;
            if facts.pages == 0 && order.novelty == Novelty::Existing {
                return Err(StateError::Empty { path: named });
            }
            let digested = digested.unwrap_or_else(|_| Err(io::ErrorKind::Other.into()));
            *content = digested.map_err(|error| StateError::io("read", &copy, error))?;
            // Nothing is connected any more: the live file may be opened for its attributes.
            if let Ok(live) = part.folder.file(path)
                && let Ok(stat) = rustix::fs::fstat(&live)
                && let Ok(read) = copy::dress_of(&stat, Some(&live))
            {
                dress.xattrs = read.xattrs;
            }
        }
    }
    Ok(())
}

/// Writes the copy of a live database to the disk while it is checked.
fn flush(copy: &Path, from: u64) -> io::Result<()> {
    thread::sleep(MERGE_PAUSE);
    copy::flush_in_parts(&File::options().read(true).write(true).open(copy)?, from)
}

fn demand_equal(named: &Path, source: &DatabaseFacts, copy: &DatabaseFacts) -> Result<(), StateError> {
    if source == copy {
        return Ok(());
    }
    Err(StateError::Differs { path: named.into(), what: difference(source, copy) })
}

fn difference(source: &DatabaseFacts, copy: &DatabaseFacts) -> String {
    let tables: BTreeSet<&String> = source.tables.keys().chain(copy.tables.keys()).collect();
    tables
        .into_iter()
        .find(|table| source.tables.get(*table) != copy.tables.get(*table))
        .map(|table| {
            format!("table {table:?} had {:?} rows and has {:?}", source.tables.get(table), copy.tables.get(table))
        })
        .unwrap_or_else(|| format!("it had {} pages and has {}", source.pages, copy.pages))
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

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::Connection;

    #[test]
    fn an_empty_copy_that_passes_every_check_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (source, copy) = (folder.path().join("source"), folder.path().join("copy"));
        let made = Connection::open(&source).unwrap();
        made.execute_batch("CREATE TABLE t (a); INSERT INTO t VALUES (1), (2)").unwrap();
        drop(made);
        // What a copy killed half-way opens as.
        File::create(&copy).unwrap();
        let of_source = sqlite::still_facts(&source).unwrap();
        let of_copy = sqlite::check_copy(&copy, &copy).unwrap();
        let error = demand_equal(&source, &of_source, &of_copy).unwrap_err();
        assert_eq!(
            error,
            StateError::Differs { path: source, what: "table \"t\" had Some(2) rows and has None".into() }
        );
    }

    #[test]
    fn a_copy_that_lost_one_row_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let open = Connection::open(&path).unwrap();
        open.execute_batch("CREATE TABLE t (a); INSERT INTO t VALUES (1), (2)").unwrap();
        let before = sqlite::still_facts(&path).unwrap();
        open.execute_batch("DELETE FROM t WHERE a = 2").unwrap();
        let after = sqlite::still_facts(&path).unwrap();
        assert!(demand_equal(&path, &before, &after).is_err());
        assert!(demand_equal(&path, &after, &after).is_ok());
    }
}
