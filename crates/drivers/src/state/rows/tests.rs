//! What is counted from the pages that differ is what is counted from all rows, whatever happens to a database.

use super::*;
use crate::state::{
    sqlite::{open_still, still_uri, stored_tables},
    stop::Stop,
};
use proptest::prelude::*;
use std::{
    fs,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

/// One thing done to a database; what its schema of the moment refuses is not done.
#[derive(Debug, Clone)]
enum Act {
    /// Rows with so many bytes, most of which may overflow from their page.
    Add {
        rows: u16,
        bytes: u32,
    },
    /// One byte of a row, somewhere in it, without changing its size.
    Touch {
        row: u16,
        permille: u16,
    },
    Resize {
        row: u16,
        bytes: u32,
    },
    Delete {
        from: u16,
        rows: u16,
    },
    Move {
        row: u16,
        by: i32,
    },
    Sql(&'static str),
}

const SCHEMA: &str = "
    CREATE TABLE plain (id INTEGER PRIMARY KEY, a TEXT, b BLOB, r REAL);
    CREATE TABLE keyless (a, b);
    CREATE TABLE keyed (k TEXT COLLATE NOCASE, n INT, v BLOB, PRIMARY KEY (k, n)) WITHOUT ROWID;
    CREATE TABLE computed (id INTEGER PRIMARY KEY, a AS (b || 'x'), b TEXT, c AS (b || 'y') STORED, d TEXT);
    CREATE TABLE taken (rowid, oid, _rowid_);
    CREATE INDEX plain_a ON plain (a);";

const SQL: [&str; 33] = [
    "VACUUM",
    "PRAGMA incremental_vacuum",
    "ALTER TABLE plain ADD COLUMN late TEXT DEFAULT 'late'",
    "ALTER TABLE plain ADD COLUMN late TEXT DEFAULT 'later'",
    "ALTER TABLE plain DROP COLUMN late",
    "ALTER TABLE plain DROP COLUMN r",
    "ALTER TABLE keyless ADD COLUMN c DEFAULT 5",
    "ALTER TABLE keyless ADD COLUMN c DEFAULT 6",
    "ALTER TABLE keyless DROP COLUMN c",
    "ALTER TABLE keyless RENAME COLUMN a TO z",
    "ALTER TABLE keyless RENAME COLUMN b TO a",
    "ALTER TABLE keyless RENAME COLUMN z TO b",
    "ALTER TABLE computed DROP COLUMN d",
    "ALTER TABLE computed ADD COLUMN e TEXT DEFAULT 'e'",
    "UPDATE plain SET late = 'x' WHERE id % 7 = 3",
    "UPDATE computed SET b = b || 'z' WHERE id % 9 = 1",
    "UPDATE keyed SET v = 'changed' WHERE n % 5 = 1",
    "UPDATE keyed SET k = upper(k) WHERE n % 11 = 2",
    "UPDATE keyless SET a = 'changed' WHERE rowid % 13 = 4",
    "UPDATE taken SET oid = 'changed' WHERE oid = 3",
    "CREATE TABLE other (id INTEGER PRIMARY KEY, t TEXT); INSERT INTO other SELECT id, 'other' FROM plain",
    "DROP TABLE other",
    "CREATE INDEX keyless_a ON keyless (a)",
    "DROP INDEX keyless_a",
    "DROP INDEX plain_a",
    "REINDEX",
    "DELETE FROM plain",
    "DELETE FROM keyless",
    "CREATE TABLE built (id INTEGER PRIMARY KEY, b BLOB, a TEXT, r REAL); INSERT INTO built SELECT id, b, a, r FROM plain; DROP TABLE plain; ALTER TABLE built RENAME TO plain",
    "CREATE TABLE built (id INTEGER PRIMARY KEY, a TEXT, b BLOB, r REAL); INSERT INTO built SELECT id, a, b, r FROM plain; DROP TABLE plain; ALTER TABLE built RENAME TO plain",
    "CREATE TABLE built (k TEXT, n INT, v BLOB, PRIMARY KEY (k, n)) WITHOUT ROWID; INSERT INTO built SELECT * FROM keyed; DROP TABLE keyed; ALTER TABLE built RENAME TO keyed; INSERT INTO keyed SELECT upper(k), n, v FROM keyed WHERE n < 3",
    "CREATE TABLE built (k TEXT COLLATE NOCASE, n INT, v BLOB, PRIMARY KEY (k, n)) WITHOUT ROWID; INSERT OR IGNORE INTO built SELECT * FROM keyed; DROP TABLE keyed; ALTER TABLE built RENAME TO keyed",
    "INSERT INTO plain VALUES (-9223372036854775808, 'least', NULL, 1), (9223372036854775807, 'most', NULL, 2)",
];

fn act() -> impl Strategy<Value = Act> {
    let bytes = || prop_oneof![3 => 0..60_u32, 2 => 60..2_000_u32, 1 => 2_000..40_000_u32];
    prop_oneof![
        3 => (1..60_u16, bytes()).prop_map(|(rows, bytes)| Act::Add { rows, bytes }),
        4 => (0..300_u16, 0..1_000_u16).prop_map(|(row, permille)| Act::Touch { row, permille }),
        2 => (0..300_u16, bytes()).prop_map(|(row, bytes)| Act::Resize { row, bytes }),
        1 => (0..300_u16, 1..80_u16).prop_map(|(from, rows)| Act::Delete { from, rows }),
        1 => (0..300_u16, -400..400_i32).prop_map(|(row, by)| Act::Move { row, by }),
        4 => prop::sample::select(SQL.to_vec()).prop_map(Act::Sql),
    ]
}

fn acts(count: usize) -> impl Strategy<Value = Vec<Act>> {
    prop::collection::vec(act(), 0..count)
}

fn apply(connection: &Connection, act: &Act) {
    let sql = match act {
        Act::Add { rows, bytes } => format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
               INSERT INTO plain (a, b, r) SELECT 'row ' || i, randomblob({bytes}), i FROM n;
             INSERT INTO keyless (a, b) SELECT id, zeroblob({bytes}) FROM plain ORDER BY id DESC LIMIT {rows};
             INSERT OR IGNORE INTO keyed SELECT 'key' || (id % 40), id, b FROM plain ORDER BY id DESC LIMIT {rows};
             INSERT INTO computed (b, d) SELECT a, b FROM plain ORDER BY id DESC LIMIT {rows};
             INSERT INTO taken SELECT id, id + 1, id + 2 FROM plain ORDER BY id DESC LIMIT {rows};"
        ),
        Act::Touch { row, permille } => format!(
            "UPDATE plain SET b = CAST(substr(b, 1, length(b) * {permille} / 1000) || x'00' ||
               substr(b, length(b) * {permille} / 1000 + 2) AS BLOB) WHERE id = {row} AND length(b) > 0;
             UPDATE keyless SET b = CAST(substr(b, 1, length(b) * {permille} / 1000) || x'01' ||
               substr(b, length(b) * {permille} / 1000 + 2) AS BLOB) WHERE _rowid_ = {row} AND length(b) > 0;"
        ),
        Act::Resize { row, bytes } => format!(
            "UPDATE plain SET b = randomblob({bytes}) WHERE id = {row};
             UPDATE computed SET d = hex(zeroblob({bytes})) WHERE id = {row};"
        ),
        Act::Delete { from, rows } => format!(
            "DELETE FROM plain WHERE id BETWEEN {from} AND {from} + {rows};
             DELETE FROM keyless WHERE _rowid_ BETWEEN {from} AND {from} + {rows};
             DELETE FROM keyed WHERE n BETWEEN {from} AND {from} + {rows};"
        ),
        Act::Move { row, by } => format!("UPDATE plain SET id = id + {by} WHERE id = {row}"),
        Act::Sql(sql) => (*sql).into(),
    };
    let _ = connection.execute_batch(&sql);
}

/// Two databases: as it was, and after more was done to it.
struct Pair {
    _folder: TempDir,
    now: PathBuf,
    then: PathBuf,
}

impl Pair {
    fn new(settings: &str, before: &[Act], after: &[Act]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (now, then) = (folder.path().join("now"), folder.path().join("then"));
        let open = |path: &Path| {
            let connection = Connection::open(path).unwrap();
            connection.execute_batch("PRAGMA synchronous = OFF; PRAGMA journal_mode = MEMORY").unwrap();
            connection
        };
        let made = open(&now);
        made.execute_batch(settings).unwrap();
        made.execute_batch(SCHEMA).unwrap();
        before.iter().for_each(|act| apply(&made, act));
        drop(made);
        fs::copy(&now, &then).unwrap();
        let changed = open(&now);
        after.iter().for_each(|act| apply(&changed, act));
        drop(changed);
        Self { _folder: folder, now, then }
    }

    fn open(&self) -> Connection {
        let connection = open_still(&self.now).unwrap();
        let uri = still_uri(&self.then);
        connection.execute("ATTACH ?1 AS kept", [uri.to_string_lossy()]).unwrap();
        connection
    }

    /// Gives the rows counted from differing pages, from all rows, and row by row, of each table of both sides.
    fn counts(&self) -> Vec<(String, u64, u64, Option<u64>)> {
        let (pages, connection) = (Pages::compare(&self.now, &self.then, &Stop::default()).unwrap(), self.open());
        let kept = stored_tables(&connection, "kept").unwrap();
        let tables = stored_tables(&connection, "main").unwrap();
        tables
            .into_iter()
            .filter_map(|(name, now)| {
                let then = kept.get(&name)?;
                let fast = changed(&connection, &pages, &name, &now, then).unwrap();
                let table = Table::of(&connection, &name, &now, then).unwrap();
                let full = table.changed(&connection, &[ALL_ROWS]).unwrap();
                let slow = one_by_one(&connection, &table);
                Some((name, fast, full, slow))
            })
            .collect()
    }

    fn rows_of(&self, table: &str) -> (u64, u64, Option<u64>) {
        let found = self.counts().into_iter().find(|(name, ..)| name == table).unwrap();
        (found.1, found.2, found.3)
    }

    fn ranges(&self, table: &str) -> Option<Vec<RangeInclusive<i64>>> {
        let connection = self.open();
        let root = |schema| stored_tables(&connection, schema).unwrap()[table].root;
        Pages::compare(&self.now, &self.then, &Stop::default()).unwrap().ranges(root("main"), root("kept"))
    }
}

/// Counts with three joins what is changed, new and gone: a row is gone if no row is the same by either side's collation,
/// which is that of what stands at the left.
fn one_by_one(connection: &Connection, table: &Table) -> Option<u64> {
    let name = &table.name;
    let keys = match &table.matched {
        Matched::Rowid(rowid) => vec![(*rowid).to_owned()],
        Matched::Key { columns, .. } => columns.clone(),
        Matched::Nothing => return None,
    };
    let same = |one: &str, other: &str| {
        keys.iter().map(|key| format!("{one}.{key} IS {other}.{key}")).collect::<Vec<_>>().join(" AND ")
    };
    let on = same("a", "b");
    let differ = table.common.iter().map(|name| format!(" OR a.{name} IS NOT b.{name} COLLATE BINARY"));
    let differ = differ.collect::<String>();
    let missing = |of: &str, not_in: &str, alike: &[String]| {
        let alike = alike
            .iter()
            .map(|on| format!("AND NOT EXISTS (SELECT 1 FROM {not_in}.{name} b WHERE {on})"))
            .collect::<String>();
        counted(connection, &format!("SELECT count(*) FROM {of}.{name} a WHERE 1 {alike}")).unwrap()
    };
    let both = format!("SELECT count(*) FROM main.{name} a JOIN kept.{name} b ON {on} WHERE 0 {differ}");
    let new = missing("main", "kept", &[same("a", "b")]);
    let gone = missing("kept", "main", &[same("a", "b"), same("b", "a")]);
    Some(counted(connection, &both).unwrap() + new + gone)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn rows_counted_from_differing_pages_are_all_rows_that_differ(
        page_bytes in prop::sample::select(vec![512, 1_024, 4_096, 65_536]),
        vacuum in 0..3,
        encoding in prop::sample::select(vec!["UTF-8", "UTF-16le"]),
        before in acts(14),
        after in acts(8),
    ) {
        let settings =
            format!("PRAGMA page_size = {page_bytes}; PRAGMA auto_vacuum = {vacuum}; PRAGMA encoding = '{encoding}';");
        // Some hundred rows that nothing touches yet, short and long ones.
        let filled = [Act::Add { rows: 150, bytes: 30 }, Act::Add { rows: 40, bytes: 3_000 }];
        let pair = Pair::new(&settings, &[&filled[..], &before].concat(), &after);
        for (table, fast, full, slow) in pair.counts() {
            prop_assert_eq!(fast, full, "{}", table);
            if let Some(slow) = slow {
                prop_assert_eq!(full, slow, "{}", table);
            }
        }
    }

    #[test]
    fn damaged_pages_are_read_without_a_panic(
        page_bytes in prop::sample::select(vec![512, 4_096]),
        after in acts(4),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..60),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let before = [Act::Add { rows: 200, bytes: 20 }, Act::Add { rows: 30, bytes: 5_000 }];
        let pair = Pair::new(&format!("PRAGMA page_size = {page_bytes};"), &before, &after);
        let connection = pair.open();
        let tables = stored_tables(&connection, "main").unwrap();
        let roots: Vec<u32> = tables.values().map(|table| table.root).collect();
        drop(connection);
        let mut bytes = fs::read(&pair.now).unwrap();
        let mut kept = fs::read(&pair.then).unwrap();
        for (at, byte, on_both) in damage {
            // Where a page begins is what tells most.
            let at = at.index(bytes.len());
            let at = if byte % 2 == 0 { at - at % page_bytes + usize::from(byte / 2 % 16) } else { at };
            bytes[at] = byte;
            if on_both && at < kept.len() {
                kept[at] = byte;
            }
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        fs::write(&pair.now, bytes).unwrap();
        fs::write(&pair.then, kept).unwrap();
        let pages = Pages::compare(&pair.now, &pair.then, &Stop::default()).unwrap();
        for root in roots.iter().copied().chain([0, 1, 2, u32::MAX]) {
            let _ = pages.ranges(root, root);
        }
    }
}

#[test]
fn a_byte_changed_deep_in_an_overflowing_row_is_seen_where_its_leaf_is_equal() {
    let before =
        [Act::Add { rows: 3, bytes: 100 }, Act::Add { rows: 1, bytes: 39_000 }, Act::Add { rows: 3, bytes: 9 }];
    let touch = "UPDATE keyless SET b = CAST(substr(b, 1, 30000) || x'01' || substr(b, 30002) AS BLOB)
                 WHERE _rowid_ = 4";
    let pair = Pair::new("PRAGMA page_size = 4096;", &before, &[Act::Sql(touch)]);
    assert_eq!(pair.rows_of("keyless"), (1, 1, Some(1)));
    // Written in place: one overflow page differs, which begins with the number of the next.
    let (now, then) = (fs::read(&pair.now).unwrap(), fs::read(&pair.then).unwrap());
    let pages = now.chunks(4096).zip(then.chunks(4096)).skip(1);
    let differing: Vec<_> = pages.filter(|(now, then)| now != then).map(|(now, _)| now[0]).collect();
    assert_eq!((now.len(), differing), (then.len(), vec![0]));
}

#[test]
fn only_rows_in_differing_leaves_are_looked_at() {
    let before = [Act::Add { rows: 30_000, bytes: 40 }];
    let after = [Act::Sql("UPDATE plain SET a = 'changed' WHERE id IN (5, 15000)"), Act::Delete { from: 700, rows: 1 }];
    let pair = Pair::new("PRAGMA page_size = 4096;", &before, &after);
    assert_eq!(pair.rows_of("plain"), (4, 4, Some(4)));
    let ranges = pair.ranges("plain").unwrap();
    assert!(ranges.iter().any(|range| range.contains(&15_000)));
    // Four rows are in four leaves at most, some sixty rows in each.
    assert!((1..=4).contains(&ranges.len()), "{ranges:?}");
    let looked_at = |id: &i64| ranges.iter().any(|range| range.contains(id));
    assert!((1..=30_000).filter(looked_at).count() < 400, "{ranges:?}");
    assert_eq!(pair.ranges("computed"), Some(Vec::new()));
    assert_eq!(pair.ranges("keyed"), None);
}

#[test]
fn tables_that_grew_or_went_past_the_other_sides_end_are_walked_too() {
    let before = [Act::Add { rows: 100, bytes: 100 }];
    let after = [Act::Add { rows: 5_000, bytes: 100 }];
    let pair = Pair::new("PRAGMA page_size = 1024;", &before, &after);
    assert_eq!(pair.rows_of("plain"), (5_000, 5_000, Some(5_000)));
    assert!(pair.ranges("plain").unwrap().iter().all(|range| *range.start() > 1));
    let shrunk = Pair::new(
        "PRAGMA page_size = 1024; PRAGMA auto_vacuum = 1;",
        &[before[0].clone(), after[0].clone()],
        &[Act::Sql("DELETE FROM plain WHERE id > 90")],
    );
    assert_eq!(shrunk.rows_of("plain"), (5_010, 5_010, Some(5_010)));
}

#[test]
fn a_column_that_came_back_with_another_default_is_changed_in_every_row() {
    let before = [Act::Add { rows: 500, bytes: 9 }, Act::Sql("ALTER TABLE keyless ADD COLUMN c DEFAULT 5")];
    let after = "ALTER TABLE keyless DROP COLUMN c; ALTER TABLE keyless ADD COLUMN c DEFAULT 6";
    let pair = Pair::new("PRAGMA page_size = 1024;", &before, &[Act::Sql(after)]);
    // No row has it stored: almost all pages are equal.
    assert!(pair.ranges("keyless").unwrap().iter().all(|range| *range.start() > 400));
    assert_eq!(pair.rows_of("keyless"), (500, 500, Some(500)));
}

#[test]
fn rows_whose_pages_are_gone_are_counted() {
    let pair = Pair::new(
        "PRAGMA page_size = 1024;",
        &[Act::Add { rows: 20_000, bytes: 9 }],
        &[Act::Delete { from: 5_000, rows: 9_999 }],
    );
    assert_eq!(pair.rows_of("plain"), (10_000, 10_000, Some(10_000)));
}

#[test]
fn a_row_of_a_text_key_whose_case_changed_is_one_row_whichever_side_takes_it_for_equal() {
    let [loose, strict] = ["k TEXT COLLATE NOCASE", "k TEXT"];
    let built = |key: &str, rows: &str| {
        let made = format!("CREATE TABLE keyed ({key}, n INT, PRIMARY KEY (k, n)) WITHOUT ROWID");
        format!("DROP TABLE keyed; {made}; INSERT INTO keyed VALUES {rows};")
    };
    for (then, kept, now, rows, wanted) in [
        // As it is, and with another case.
        (loose, "('a', 1), ('b', 1)", strict, "('a', 1), ('B', 1)", 1),
        (strict, "('a', 1), ('b', 1)", loose, "('a', 1), ('B', 1)", 1),
        // One that stayed, and one more that only the strict side tells from it.
        (loose, "('a', 1)", strict, "('a', 1), ('A', 1)", 1),
        (strict, "('a', 1), ('A', 1)", loose, "('a', 1)", 1),
        // One that changed, and one more.
        (loose, "('abc', 1)", strict, "('ABC', 1), ('Abc', 1)", 2),
        (strict, "('abc', 1), ('ABC', 1)", loose, "('Abc', 1)", 2),
        // One that is gone, and one that is new.
        (loose, "('a', 1)", strict, "('b', 1)", 2),
        (strict, "('a', 1)", loose, "('A', 2)", 2),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let pair = Pair { now: folder.path().join("now"), then: folder.path().join("then"), _folder: folder };
        for (path, key, rows) in [(&pair.now, now, rows), (&pair.then, then, kept)] {
            let made = Connection::open(path).unwrap();
            made.execute_batch(SCHEMA).unwrap();
            made.execute_batch(&built(key, rows)).unwrap();
        }
        assert_eq!(pair.rows_of("keyed"), (wanted, wanted, Some(wanted)), "{kept} {then} -> {rows} {now}");
    }
}
