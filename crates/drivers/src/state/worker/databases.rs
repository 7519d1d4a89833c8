//! Databases: copied as they are at one point in time, then checked in full against what their source had.

use super::{
    super::{
        beneath::Folder,
        copy,
        error::StateError,
        live::Live,
        manifest::{Content, DatabaseFacts, What},
        snapshot::{Mode, Novelty},
        space, sqlite,
    },
    Order, Part,
    files::copy_settled,
    staged,
};
use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

/// 16 MiB copy in less than 50 ms: all databases can be held at one point in time without a writer noticing.
const HELD_TOGETHER_BYTES_MAX: u64 = 16 << 20;
/// 200 databases with three files each stay below the usual limit of 1024 open files.
const OPEN_TOGETHER_MAX: usize = 200;
/// 1 MiB reads: the disk's read-ahead is used in full.
const WARM_UP_BYTES: usize = 1 << 20;
/// 250 ms: the service's next write merges its log, and needs the disk for that.
const MERGE_PAUSE: Duration = Duration::from_millis(250);

/// Copies all databases that have been seen and not yet copied; gives the longest time that writers were held up.
pub(super) fn copy_databases(order: &Order, parts: &mut [Part]) -> Result<Duration, StateError> {
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
        let live = Live::begin_for(&full(item), order.recovery)?;
        open.push((item, (together || live.lets_writers_pass()).then_some(live)));
    }
    let mut held = Duration::ZERO;
    let mut copied = Vec::new();
    for (item, live) in open {
        let live = match live {
            Some(live) => live,
            None => Live::begin_for(&full(item), order.recovery)?,
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

/// Checks each copied database in full, compares it with what its source had, and digests it.
pub(super) fn check_databases(order: &Order, parts: &mut [Part]) -> Result<(), StateError> {
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
