//! Counts the rows of one table that differ between two databases: `main`, the newer one, and `kept`, both open in one
//! connection.

use super::{
    pages::{ALL_ROWS, Pages},
    sqlite::{Stored, quoted},
};
use rusqlite::Connection;
use std::ops::RangeInclusive;

/// Counts the rows that are new, changed or gone, where the pages say that they can differ.
pub(super) fn changed(
    connection: &Connection,
    pages: &Pages,
    table: &str,
    now: &Stored,
    then: &Stored,
) -> rusqlite::Result<u64> {
    let ranges = pages.ranges(now.root, then.root);
    if now.sql == then.sql && ranges.as_ref().is_some_and(Vec::is_empty) {
        return Ok(0);
    }
    let table = Table::of(connection, table, now, then)?;
    match ranges {
        Some(ranges) if table.stores_alike => table.changed(connection, &ranges),
        _ => table.changed(connection, &[ALL_ROWS]),
    }
}

/// Counts all rows of a table.
pub(super) fn count(connection: &Connection, schema: &str, table: &str) -> rusqlite::Result<u64> {
    counted(connection, &format!("SELECT count(*) FROM {schema}.{}", quoted(table)))
}

/// Tells whether a table carries a virtual one.
pub(super) fn is_shadow(connection: &Connection, schema: &str, table: &str) -> rusqlite::Result<bool> {
    let sql = "SELECT count(*) FROM pragma_table_list WHERE schema = ?1 AND name = ?2 AND type = 'shadow'";
    connection.prepare_cached(sql)?.query_row([schema, table], |row| row.get(0))
}

fn counted(connection: &Connection, sql: &str) -> rusqlite::Result<u64> {
    let rows: i64 = connection.query_row(sql, [], |row| row.get(0))?;
    Ok(u64::try_from(rows).unwrap_or(0))
}

/// A table that both sides have.
struct Table {
    name: String,
    /// The columns that both have, quoted.
    common: Vec<String>,
    matched: Matched,
    /// Equal bytes of a row are equal values of the common columns.
    stores_alike: bool,
}

/// What tells a row from the others on both sides.
enum Matched {
    Rowid(&'static str),
    Key { columns: Vec<String>, same: bool },
    Nothing,
}

/// A column that can be selected.
struct Column {
    /// Its place among all.
    at: i64,
    name: String,
    kind: Vec<u8>,
    default: Option<Vec<u8>>,
    /// Its place in the key, from 1.
    in_key: i64,
}

impl Column {
    fn is_stored_like(&self, other: &Self) -> bool {
        let in_key = (self.in_key > 0) == (other.in_key > 0);
        in_key && (self.at, &self.kind, &self.default) == (other.at, &other.kind, &other.default)
    }
}

/// One side of a table.
struct Shape {
    columns: Vec<Column>,
    without_rowid: bool,
    /// Its key is the rowid itself, which is then not stored a second time.
    key_is_rowid: bool,
    /// Has columns computed from others, or hidden ones.
    computes: bool,
}

impl Shape {
    fn of(connection: &Connection, schema: &str, table: &str) -> rusqlite::Result<Self> {
        // Hidden 1 is a hidden column of a virtual table; 2 and 3 are computed from others.
        let mut statement = connection.prepare_cached(
            "SELECT cid, name, CAST(upper(type) AS BLOB), CAST(dflt_value AS BLOB), pk, hidden
             FROM pragma_table_xinfo(?1, ?2) ORDER BY cid",
        )?;
        let (mut columns, mut computes) = (Vec::new(), false);
        let mut rows = statement.query([table, schema])?;
        while let Some(row) = rows.next()? {
            if row.get::<_, i64>(5)? == 0 {
                let (at, name, kind) = (row.get(0)?, row.get(1)?, row.get(2)?);
                columns.push(Column { at, name, kind, default: row.get(3)?, in_key: row.get(4)? });
            } else {
                computes = true;
            }
        }
        // A key that is not the rowid has an index.
        let (without_rowid, key_is_rowid) = connection
            .prepare_cached(
                "SELECT wr, NOT EXISTS (SELECT 1 FROM pragma_index_list(?2, ?1) WHERE origin = 'pk')
                 FROM pragma_table_list WHERE schema = ?1 AND name = ?2",
            )?
            .query_row([schema, table], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(Self { columns, without_rowid, key_is_rowid, computes })
    }

    fn key(&self) -> Vec<String> {
        let mut key: Vec<&Column> = self.columns.iter().filter(|column| column.in_key > 0).collect();
        key.sort_by_key(|column| column.in_key);
        key.into_iter().map(|column| quoted(&column.name)).collect()
    }

    fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name))
    }
}

impl Table {
    fn of(connection: &Connection, name: &str, now: &Stored, then: &Stored) -> rusqlite::Result<Self> {
        let same_sql = now.sql == then.sql;
        let (now, then) = (Shape::of(connection, "main", name)?, Shape::of(connection, "kept", name)?);
        let common: Vec<(&Column, &Column)> =
            now.columns.iter().filter_map(|column| Some((column, then.column(&column.name)?))).collect();
        // A default stands for what was never stored in a row.
        let stores_alike = same_sql
            || (!now.computes
                && !then.computes
                && now.key_is_rowid == then.key_is_rowid
                && common.iter().all(|(now, then)| now.is_stored_like(then)));
        let matched = match (now.without_rowid, then.without_rowid) {
            (false, false) => {
                let taken = |alias: &str| now.column(alias).or(then.column(alias)).is_some();
                let free = ["rowid", "_rowid_", "oid"].into_iter().find(|alias| !taken(alias));
                free.map_or(Matched::Nothing, Matched::Rowid)
            }
            (true, true) if now.key() == then.key() => Matched::Key { columns: now.key(), same: same_sql },
            _ => Matched::Nothing,
        };
        let common = common.into_iter().map(|(column, _)| quoted(&column.name)).collect();
        Ok(Self { name: quoted(name), common, matched, stores_alike })
    }

    /// Counts the changed rows in ranges of rowids that are apart from each other.
    ///
    /// A table whose rows aren't told by their rowids has no ranges: all of it is looked at.
    fn changed(&self, connection: &Connection, ranges: &[RangeInclusive<i64>]) -> rusqlite::Result<u64> {
        let name = &self.name;
        // Compared also by collation BINARY: a change of case is a change.
        let differ: Vec<String> =
            self.common.iter().map(|name| format!("a.{name} IS NOT b.{name} COLLATE BINARY")).collect();
        let differ = if differ.is_empty() { "0".into() } else { differ.join(" OR ") };
        let sides = |on: &str, within: &dyn Fn(&str) -> String| {
            let (main, kept, both) = (within(""), within(""), within("a."));
            format!(
                "SELECT (SELECT count(*) FROM main.{name} {main}) + (SELECT count(*) FROM kept.{name} {kept}) \
                 - 2 * count(*) + coalesce(sum({differ}), 0) FROM main.{name} a JOIN kept.{name} b ON {on} {both}"
            )
        };
        match &self.matched {
            Matched::Rowid(rowid) => {
                let on = format!("a.{rowid} = b.{rowid}");
                if ranges == [ALL_ROWS] {
                    return counted(connection, &sides(&on, &|_| String::new()));
                }
                let within = |of: &str| format!("WHERE {of}{rowid} BETWEEN ?1 AND ?2");
                let mut statement = connection.prepare(&sides(&on, &within))?;
                let mut sum = 0;
                for range in ranges {
                    let rows: i64 = statement.query_row([range.start(), range.end()], |row| row.get(0))?;
                    sum += u64::try_from(rows).unwrap_or(0);
                }
                Ok(sum)
            }
            Matched::Key { columns, same } => {
                let on: Vec<String> = columns.iter().map(|key| format!("a.{key} IS b.{key}")).collect();
                let on = on.join(" AND ");
                if *same {
                    return counted(connection, &sides(&on, &|_| String::new()));
                }
                // Keys that one side takes for equal may be two on the other: SQLite compares by the collation of what
                // stands at the left. A kept row is gone if nothing is its row by either; no part of a key is NULL.
                let back: Vec<String> = columns.iter().map(|key| format!("b.{key} IS c.{key}")).collect();
                let (back, first) = (back.join(" AND "), &columns[0]);
                counted(
                    connection,
                    &format!(
                        "SELECT (SELECT count(*) FROM main.{name} a LEFT JOIN kept.{name} b ON {on} \
                                 WHERE b.{first} IS NULL OR {differ}) \
                              + (SELECT count(*) FROM kept.{name} b LEFT JOIN main.{name} a ON {on} \
                                 LEFT JOIN main.{name} c ON {back} WHERE a.{first} IS NULL AND c.{first} IS NULL)"
                    ),
                )
            }
            Matched::Nothing => self.set_difference(connection),
        }
    }

    fn set_difference(&self, connection: &Connection) -> rusqlite::Result<u64> {
        let name = &self.name;
        if self.common.is_empty() {
            return counted(connection, &format!("SELECT count(*) FROM main.{name}"));
        }
        let list = self.common.join(", ");
        let one_way = |a: &str, b: &str| {
            format!("SELECT count(*) FROM (SELECT {list} FROM {a}.{name} EXCEPT SELECT {list} FROM {b}.{name})")
        };
        // A changed row counts on both sides.
        Ok(counted(connection, &one_way("main", "kept"))?.max(counted(connection, &one_way("kept", "main"))?))
    }
}

#[cfg(test)]
mod tests;
