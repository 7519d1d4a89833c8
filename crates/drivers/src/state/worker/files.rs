//! Folders, links and plain files: copied until a whole pass finds nothing changed.

use super::{
    super::{
        beneath::{self, Folder},
        copy,
        error::StateError,
        manifest::{Content, Dress, RawBytes, What},
        place::Scope,
        scan::{self, Headers, Kind, Mark, Seen},
    },
    Order, Part,
    databases::copy_databases,
    staged,
};
use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Five tries with growing pauses (10, 20, 40, 80 ms): a file that is written more often than that is a log.
const SETTLE_TRIES_MAX: u32 = 5;
/// Four passes over the whole tree; each copies only what changed since the one before.
const PASSES_MAX: u32 = 4;
/// 20 ms: two ticks of the slowest clock that stamps files (100 Hz); a change within a tick leaves no mark.
const CLOCK_TICK: Duration = Duration::from_millis(20);

/// Copies folders, links and plain files, again and again until a whole pass finds nothing changed.
pub(super) fn copy_the_rest(order: &Order, staging: &Folder, parts: &mut [Part]) -> Result<(), StateError> {
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
        if parts.iter().all(|part| matches!(part.root.scope, Scope::Only(_))) {
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
        Some(stat) if beneath::is_folder(&stat) => staging.remove_tree(below).map_err(failed),
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

/// Copies one file that didn't change meanwhile; none if it is gone.
pub(super) fn copy_settled(
    folder: &Folder,
    path: &Path,
    target: &Path,
) -> Result<Option<(Seen, Content, Dress)>, StateError> {
    let full = folder.path.join(path);
    let failed = |act: &str, error: io::Error| match error.kind() {
        io::ErrorKind::PermissionDenied => beneath::unreadable(&full, &error),
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
