//! What a restore would drop: counted before anybody agrees to it.
//!
//! Rows of tables that both schemas have are compared on the columns that both have; files are new, changed or gone.
//! Rows of tables that only the newer side has count as written, less the rows of tables that only the older side has: so
//! a table that a migration renamed counts what was written to it since. Not seen: columns that only one side has, and
//! virtual tables other than by the tables that carry them. Where a table has no key of its own, rows are matched by their rowid, which a `VACUUM` may have changed: then
//! more rows are counted than were written, never fewer.

use super::{
    beneath::{Folder, unreadable},
    copy,
    error::StateError,
    manifest::{Content, Entry, Manifest, What, root_folder},
    pages::Pages,
    place::{Root, StatePlace},
    rows,
    scan::{self, Headers, Kind, Seen},
    snapshot::token,
    sqlite::{self, stored_tables},
    stop::Stop,
};
use lastgood_domain::facts::Loss;
use rusqlite::Connection;
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

/// What a restore would drop, table by table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LossReport {
    /// The sums.
    pub loss: Loss,
    /// Rows new, changed or gone, by table (`db.sqlite: messages`).
    pub tables: BTreeMap<String, u64>,
    /// Rows of tables that only the newer data has: in the sums as far as they are more than [`LossReport::vanished`].
    pub appeared: BTreeMap<String, u64>,
    /// Rows of tables that only the snapshot has.
    pub vanished: BTreeMap<String, u64>,
}

/// Counts what was written to `place`, whose instance is stopped, since the snapshot in folder `snapshot`.
pub fn loss(place: &StatePlace, snapshot: &Path) -> Result<Loss, StateError> {
    loss_report(place, snapshot).map(|report| report.loss)
}

/// Counts the same table by table.
pub fn loss_report(place: &StatePlace, snapshot: &Path) -> Result<LossReport, StateError> {
    compared(place, snapshot, &Stop::default(), |_, base| base)
}

/// Counts the same on the data that lies where `lies` says, given the number of each root and where it lives; until `stop`.
pub(super) fn compared(
    place: &StatePlace,
    snapshot: &Path,
    stop: &Stop,
    lies: impl Fn(usize, PathBuf) -> PathBuf,
) -> Result<LossReport, StateError> {
    let (manifest, _) = Manifest::read(snapshot)?;
    let roots = place.data.as_kept(&manifest.place.data)?.roots()?;
    let mut report = LossReport::default();
    for (number, root) in roots.into_iter().enumerate() {
        let root = &Root { base: lies(number, root.base), scope: root.scope };
        let entries: BTreeMap<&Path, &Entry> =
            manifest.of_root(number).map(|entry| (entry.path.path(), entry)).collect();
        let found = Folder::open(&root.base).and_then(|folder| {
            let scan = scan::scan(&folder, root, Headers::Read)?;
            Ok((folder, scan))
        });
        match found {
            Ok((folder, scan)) => {
                let side = Sides { snapshot, number, root, folder: &folder, stop };
                side.compare(&entries, &scan.seen, &mut report)?;
            }
            // All data is gone: a restore drops nothing but what is missing.
            Err(StateError::Missing { .. } | StateError::Empty { .. }) => {
                report.loss.files += entries.values().filter(|entry| entry.what != What::Folder).count() as u64;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(report)
}

struct Sides<'a> {
    snapshot: &'a Path,
    number: usize,
    root: &'a Root,
    folder: &'a Folder,
    stop: &'a Stop,
}

impl Sides<'_> {
    fn compare(
        &self,
        entries: &BTreeMap<&Path, &Entry>,
        seen: &BTreeMap<PathBuf, Seen>,
        report: &mut LossReport,
    ) -> Result<(), StateError> {
        for (path, now) in seen {
            self.stop.check()?;
            let was = entries.get(path.as_path()).map(|entry| &entry.what);
            match (now.kind, was) {
                (Kind::Folder | Kind::Special(_), _) => {}
                (Kind::Database { .. }, Some(What::Database(..))) => self.database(path, report)?,
                (Kind::File, Some(What::File(content))) => {
                    let entry = entries.get(path.as_path()).map(|entry| &entry.dress);
                    let untouched = entry.is_some_and(|dress| {
                        let dress_now = copy::dress_of(&now.stat, None);
                        dress_now.is_ok_and(|now| {
                            (now.mtime_seconds, now.mtime_nanoseconds) == (dress.mtime_seconds, dress.mtime_nanoseconds)
                        })
                    });
                    report.loss.files += u64::from(!self.same_file(path, now, content, untouched)?);
                }
                (Kind::Link, Some(What::Link(target))) => {
                    let link = self.folder.read_link(path);
                    report.loss.files += u64::from(!link.is_ok_and(|link| link == target.0));
                }
                _ => report.loss.files += 1,
            }
        }
        let gone = entries.iter().filter(|(path, entry)| entry.what != What::Folder && !seen.contains_key(**path));
        report.loss.files += gone.count() as u64;
        Ok(())
    }

    fn same_file(&self, path: &Path, now: &Seen, content: &Content, untouched: bool) -> Result<bool, StateError> {
        if u64::try_from(now.stat.st_size) != Ok(content.bytes) {
            return Ok(false);
        }
        if untouched {
            return Ok(true);
        }
        let read = |error: io::Error| StateError::io("read", &self.folder.path.join(path), error);
        let file = self.folder.file(path).map_err(read)?;
        Ok(copy::copy_digested(&file, None, content.sparse).map_err(read)?.digest == content.digest)
    }

    fn database(&self, path: &Path, report: &mut LossReport) -> Result<(), StateError> {
        let (now, then) = (self.root.base.join(path), root_folder(self.snapshot, self.number).join(path));
        let logs = self.logs(path)?;
        let scratch;
        let merged;
        let now = if logs.is_empty() {
            &now
        } else {
            // Its log belongs to it, but is not ours to merge: a copy of both is merged and read.
            scratch = Scratch::beside(self.snapshot)?;
            merged = scratch.merge(&self.regular(path)?, &logs, &now)?;
            &merged
        };
        let pages = Pages::compare(now, &then, self.stop)?;
        if pages.are_equal() {
            return Ok(());
        }
        let failed = |error: rusqlite::Error| StateError::sqlite("compare", now, &error);
        let connection = sqlite::open_still(now).map_err(failed)?;
        self.stop.reaches(&connection);
        let uri = sqlite::still_uri(&then);
        connection.execute("ATTACH ?1 AS kept", [uri.to_string_lossy()]).map_err(failed)?;
        compare_tables(&connection, &pages, &path.to_string_lossy(), self.stop, report).map_err(failed)?;
        // A query that was ended gives an error, or less than there is.
        self.stop.check()
    }

    /// Opens the logs with something in them that lie beside a database.
    fn logs(&self, path: &Path) -> Result<Vec<(&'static str, File)>, StateError> {
        let mut logs = Vec::new();
        for suffix in ["-wal", "-journal"] {
            let path = sqlite::side(path, suffix);
            let there =
                self.folder.stat_if_any(&path).map_err(|error| unreadable(&self.folder.path.join(&path), &error))?;
            if there.is_none() {
                continue;
            }
            let file = self.regular(&path)?;
            let bytes = file.metadata().map_err(|error| StateError::io("look at", &path, error))?.len();
            if bytes > 0 {
                logs.push((suffix, file));
            }
        }
        Ok(logs)
    }

    /// Opens a regular file of the data, and nothing else: its owner may have put a link or a pipe there for us to follow or
    /// to wait at.
    fn regular(&self, path: &Path) -> Result<File, StateError> {
        let whole = self.folder.path.join(path);
        let file = self.folder.file(path).map_err(|error| match error.raw_os_error() {
            Some(code) if code == rustix::io::Errno::LOOP.raw_os_error() => StateError::Symlink { path: whole.clone() },
            _ => unreadable(&whole, &error),
        })?;
        match file.metadata() {
            Ok(meta) if meta.is_file() => Ok(file),
            Ok(_) => Err(unreadable(&whole, &io::Error::other("it is no regular file"))),
            Err(error) => Err(unreadable(&whole, &error)),
        }
    }
}

/// A folder beside the snapshot for a merged copy; removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn beside(snapshot: &Path) -> Result<Self, StateError> {
        let shelf = snapshot.parent().unwrap_or(Path::new("."));
        let path = shelf.join(format!(".half-loss-{}", token()?));
        fs::DirBuilder::new().mode(0o700).create(&path).map_err(|error| StateError::io("make", &path, error))?;
        Ok(Self(path))
    }

    /// Merges a copy of an open database and its logs; `path` is for messages.
    fn merge(&self, database: &File, logs: &[(&'static str, File)], path: &Path) -> Result<PathBuf, StateError> {
        let copy = self.0.join("merged.sqlite");
        for (suffix, from) in [("", database)].into_iter().chain(logs.iter().map(|(suffix, log)| (*suffix, log))) {
            let cloned =
                File::create_new(sqlite::side(&copy, suffix)).and_then(|to| copy::clone_file(from, &to, false));
            cloned.map_err(|error| StateError::io("copy", &sqlite::side(path, suffix), error))?;
        }
        sqlite::recover_copy(&copy)?;
        Ok(copy)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays is nameless, and swept with the shelf.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn compare_tables(
    connection: &Connection,
    pages: &Pages,
    database: &str,
    stop: &Stop,
    report: &mut LossReport,
) -> rusqlite::Result<()> {
    let named = |table: &str| format!("{database}: {table}");
    let mut kept = stored_tables(connection, "kept")?;
    let (mut appeared, mut vanished) = (0, 0);
    for (table, now) in stored_tables(connection, "main")? {
        if stop.check().is_err() {
            return Ok(());
        }
        let name = named(&table);
        let Some(then) = kept.remove(&table) else {
            // What carries a search index is made from other tables' rows.
            if !rows::is_shadow(connection, "main", &table)? {
                let rows = rows::count(connection, "main", &table)?;
                appeared += rows;
                report.appeared.insert(name, rows);
            }
            continue;
        };
        let rows = rows::changed(connection, pages, &table, &now, &then)?;
        if rows > 0 {
            report.loss.rows += rows;
            report.tables.insert(name, rows);
        }
    }
    for table in kept.keys() {
        if !rows::is_shadow(connection, "kept", table)? {
            let rows = rows::count(connection, "kept", table)?;
            vanished += rows;
            report.vanished.insert(named(table), rows);
        }
    }
    // A migration that renames or splits a table makes rows appear where as many vanish; more were written by someone.
    report.loss.rows += appeared.saturating_sub(vanished);
    Ok(())
}
