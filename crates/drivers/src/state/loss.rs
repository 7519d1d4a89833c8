//! What a restore would drop: counted before anybody agrees to it.
//!
//! Seen: rows of tables that both schemas have, compared on the columns that both have; new, changed and vanished
//! files. Not seen: tables that only one side has (a table renamed by a migration is one; its rows are named in
//! [`LossReport::unseen`]), columns that only one side has, and virtual tables other than by the tables that carry
//! them. Where a table has no key of its own, rows are matched by their rowid, which a `VACUUM` may have changed: then
//! more rows are counted than were written, never fewer.

use super::{
    beneath::Folder,
    copy,
    error::StateError,
    manifest::{Content, Entry, Manifest, What, root_folder},
    place::{Root, StatePlace},
    scan::{self, Headers, Kind, Seen},
    snapshot::token,
    sqlite::{self, counted_tables, quoted},
};
use lastgood_domain::facts::Loss;
use rusqlite::Connection;
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::unix::fs::{DirBuilderExt as _, FileExt as _},
    path::{Path, PathBuf},
};

/// What a restore would drop, table by table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LossReport {
    /// The sums.
    pub loss: Loss,
    /// Rows new, changed or gone, by table (`db.sqlite: messages`).
    pub tables: BTreeMap<String, u64>,
    /// Rows of tables that only the newer data has; they are not in the sums.
    pub unseen: BTreeMap<String, u64>,
}

/// Counts what was written to `place`, whose instance is stopped, since the snapshot in folder `snapshot`.
pub fn loss(place: &StatePlace, snapshot: &Path) -> Result<Loss, StateError> {
    loss_report(place, snapshot).map(|report| report.loss)
}

/// Counts the same table by table.
pub fn loss_report(place: &StatePlace, snapshot: &Path) -> Result<LossReport, StateError> {
    let (manifest, _) = Manifest::read(snapshot)?;
    let roots = place.roots()?;
    if roots.len() != manifest.roots {
        return Err(StateError::OtherShape { snapshot_roots: manifest.roots, place_roots: roots.len() });
    }
    let mut report = LossReport::default();
    for (number, root) in roots.iter().enumerate() {
        let entries: BTreeMap<&Path, &Entry> =
            manifest.of_root(number).map(|entry| (entry.path.path(), entry)).collect();
        let found = Folder::open(&root.base).and_then(|folder| {
            let scan = scan::scan(&folder, root, Headers::Read)?;
            Ok((folder, scan))
        });
        match found {
            Ok((folder, scan)) => {
                let side = Sides { snapshot, number, root, folder: &folder };
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
}

impl Sides<'_> {
    fn compare(
        &self,
        entries: &BTreeMap<&Path, &Entry>,
        seen: &BTreeMap<PathBuf, Seen>,
        report: &mut LossReport,
    ) -> Result<(), StateError> {
        for (path, now) in seen {
            let was = entries.get(path.as_path()).map(|entry| &entry.what);
            match (now.kind, was) {
                (Kind::Folder | Kind::Special(_), _) => {}
                (Kind::Database { .. }, Some(What::Database(content, _))) => self.database(path, content, report)?,
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

    fn database(&self, path: &Path, content: &Content, report: &mut LossReport) -> Result<(), StateError> {
        let (now, then) = (self.root.base.join(path), root_folder(self.snapshot, self.number).join(path));
        let logged = sqlite::has_unmerged_log(&now)?;
        if !logged && same_pages(&now, &then, content)? {
            return Ok(());
        }
        let scratch;
        let merged;
        let now = if logged {
            // Its log belongs to it, but is not ours to merge: a copy of both is merged and read.
            scratch = Scratch::beside(self.snapshot)?;
            merged = scratch.merge(&now)?;
            &merged
        } else {
            &now
        };
        let failed = |error: rusqlite::Error| StateError::sqlite("compare", now, &error);
        let connection = sqlite::open_still(now).map_err(failed)?;
        let uri = sqlite::still_uri(&then);
        connection.execute("ATTACH ?1 AS kept", [uri.to_string_lossy()]).map_err(failed)?;
        compare_tables(&connection, &path.to_string_lossy(), report).map_err(failed)
    }
}

/// Compares two databases byte by byte, but for the counters in their headers, which a copy sets anew.
fn same_pages(now: &Path, then: &Path, content: &Content) -> Result<bool, StateError> {
    let open = |path: &Path| File::open(path).map_err(|error| StateError::io("open", path, error));
    let (now_file, then_file) = (open(now)?, open(then)?);
    let read = |error: io::Error| StateError::io("read", now, error);
    if now_file.metadata().map_err(read)?.len() != content.bytes {
        return Ok(false);
    }
    let (mut a, mut b) = (vec![0; 256 << 10], vec![0; 256 << 10]);
    let mut at = 0;
    while at < content.bytes {
        let count = usize::try_from(content.bytes - at).unwrap_or(usize::MAX).min(a.len());
        now_file.read_exact_at(&mut a[..count], at).map_err(read)?;
        then_file.read_exact_at(&mut b[..count], at).map_err(read)?;
        if at == 0 && count >= 100 {
            // Change counter, schema cookie, version-valid-for and SQLite's version.
            for counters in [24..28, 40..44, 92..100] {
                a[counters.clone()].fill(0);
                b[counters].fill(0);
            }
        }
        if a[..count] != b[..count] {
            return Ok(false);
        }
        at += count as u64;
    }
    Ok(true)
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

    fn merge(&self, database: &Path) -> Result<PathBuf, StateError> {
        let copy = self.0.join("merged.sqlite");
        for suffix in ["", "-wal", "-journal"] {
            let (from, to) = (sqlite::side(database, suffix), sqlite::side(&copy, suffix));
            match File::open(&from) {
                Ok(from_file) => {
                    let cloned = File::create_new(&to).and_then(|to| copy::clone_file(&from_file, &to, false));
                    cloned.map_err(|error| StateError::io("copy", &from, error))?;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound && !suffix.is_empty() => {}
                Err(error) => return Err(StateError::io("open", &from, error)),
            }
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

fn compare_tables(connection: &Connection, database: &str, report: &mut LossReport) -> rusqlite::Result<()> {
    let kept = counted_tables(connection, "kept")?;
    for table in counted_tables(connection, "main")? {
        let name = format!("{database}: {table}");
        if kept.contains(&table) {
            let rows = changed_rows(connection, &table)?;
            if rows > 0 {
                report.loss.rows += rows;
                report.tables.insert(name, rows);
            }
        } else {
            let count = format!("SELECT count(*) FROM main.{}", quoted(&table));
            report.unseen.insert(name, counted(connection, &count)?);
        }
    }
    Ok(())
}

fn counted(connection: &Connection, sql: &str) -> rusqlite::Result<u64> {
    let rows: i64 = connection.query_row(sql, [], |row| row.get(0))?;
    Ok(u64::try_from(rows).unwrap_or(0))
}

/// The columns of a table that can be selected, in order, and which of them make its key.
fn columns(connection: &Connection, schema: &str, table: &str) -> rusqlite::Result<Vec<(String, i64)>> {
    // Hidden 1 is a hidden column of a virtual table; 2 and 3 are computed from others.
    let mut statement = connection.prepare("SELECT name, pk FROM pragma_table_xinfo(?1, ?2) WHERE hidden = 0")?;
    statement.query_map([table, schema], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

fn changed_rows(connection: &Connection, table: &str) -> rusqlite::Result<u64> {
    let (now, then) = (columns(connection, "main", table)?, columns(connection, "kept", table)?);
    let common: Vec<&str> = now
        .iter()
        .filter(|(name, _)| then.iter().any(|(other, _)| other.eq_ignore_ascii_case(name)))
        .map(|(name, _)| name.as_str())
        .collect();
    let quoted_table = quoted(table);
    let Some(keys) = keys(connection, table, &now, &then)? else {
        return set_difference(connection, &quoted_table, &common);
    };
    let on: Vec<String> = keys.iter().map(|key| format!("a.{key} IS b.{key}")).collect();
    // Compared also by collation BINARY: a change of case is a change.
    let differ: Vec<String> =
        common.iter().map(|name| quoted(name)).map(|name| format!("a.{name} IS NOT b.{name} COLLATE BINARY")).collect();
    let (on, first) = (on.join(" AND "), &keys[0]);
    let differ = if differ.is_empty() { "0".into() } else { differ.join(" OR ") };
    let changed =
        format!("SELECT count(*) FROM main.{quoted_table} a JOIN kept.{quoted_table} b ON {on} WHERE {differ}");
    let gone = |of: &str, not_in: &str| {
        format!(
            "SELECT count(*) FROM {of}.{quoted_table} a WHERE NOT EXISTS \
             (SELECT {first} FROM {not_in}.{quoted_table} b WHERE {on})"
        )
    };
    Ok(counted(connection, &changed)?
        + counted(connection, &gone("main", "kept"))?
        + counted(connection, &gone("kept", "main"))?)
}

/// Gives what tells a row from the others on both sides: its rowid, or the key of a table without one.
fn keys(
    connection: &Connection,
    table: &str,
    now: &[(String, i64)],
    then: &[(String, i64)],
) -> rusqlite::Result<Option<Vec<String>>> {
    let without = |schema: &str| {
        let sql = "SELECT wr FROM pragma_table_list WHERE schema = ?1 AND name = ?2";
        connection.query_row(sql, [schema, table], |row| row.get::<_, bool>(0))
    };
    let key_of = |columns: &[(String, i64)]| {
        let mut key: Vec<(i64, String)> =
            columns.iter().filter(|(_, at)| *at > 0).map(|(name, at)| (*at, name.clone())).collect();
        key.sort();
        key.into_iter().map(|(_, name)| quoted(&name)).collect::<Vec<_>>()
    };
    match (without("main")?, without("kept")?) {
        (false, false) => {
            let taken = |alias: &str| now.iter().chain(then).any(|(name, _)| name.eq_ignore_ascii_case(alias));
            Ok(["rowid", "_rowid_", "oid"].iter().find(|alias| !taken(alias)).map(|alias| vec![(*alias).to_owned()]))
        }
        (true, true) if key_of(now) == key_of(then) => Ok(Some(key_of(now))),
        _ => Ok(None),
    }
}

fn set_difference(connection: &Connection, table: &str, common: &[&str]) -> rusqlite::Result<u64> {
    if common.is_empty() {
        return counted(connection, &format!("SELECT count(*) FROM main.{table}"));
    }
    let list = common.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
    let one_way = |a: &str, b: &str| {
        format!("SELECT count(*) FROM (SELECT {list} FROM {a}.{table} EXCEPT SELECT {list} FROM {b}.{table})")
    };
    // A changed row counts on both sides.
    Ok(counted(connection, &one_way("main", "kept"))?.max(counted(connection, &one_way("kept", "main"))?))
}
