//! A fuzz target for the reader of SQLite's pages: whatever it is given it ends, and no row that differs is passed over.
#![expect(clippy::unwrap_used, reason = "what can't be unwrapped is what the fuzzer looks for")]

use super::{pages::Pages, stop::Stop};
use rusqlite::{Connection, OpenFlags};
use std::{
    collections::BTreeMap,
    fs,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::LazyLock,
};

/// Small pages make deep trees and long chains out of little data.
const SETUP: &str =
    "PRAGMA page_size = 512; PRAGMA journal_mode = delete; CREATE TABLE t (id INTEGER PRIMARY KEY, body);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 80)
INSERT INTO t SELECT i * 3, CASE WHEN i % 9 = 0 THEN zeroblob(i * 40) ELSE hex(zeroblob(i)) END FROM n;";

/// The database that both sides begin with.
static BASE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("base");
    Connection::open(&file).unwrap().execute_batch(SETUP).unwrap();
    fs::read(file).unwrap()
});

/// The rows of a database by rowid, each as its whole content.
type Rows = BTreeMap<i64, (String, Vec<u8>)>;

/// Compares two databases: any two files, or one that was changed by rows and by bytes.
///
/// The first byte chooses. 0: two sides of any bytes, whose length the next byte gives in eighths of all. Else each five
/// bytes are one change, see [`change`].
pub(crate) fn pages(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first() else { return };
    let folder = tempfile::tempdir().unwrap();
    let [now, then] = ["now", "then"].map(|name| folder.path().join(name));
    if *first == 0 {
        let Some((part, rest)) = rest.split_first() else { return };
        let (one, other) = rest.split_at(rest.len() * usize::from(part % 9) / 8);
        fs::write(&now, one).unwrap();
        fs::write(&then, other).unwrap();
        let pages = Pages::compare(&now, &then, &Stop::default()).unwrap();
        assert_eq!(pages.are_equal(), zeroed(one) == zeroed(other));
        (0..4).for_each(|root| pages.ranges(root, root).iter().for_each(|ranges| in_order(ranges)));
        return;
    }
    fs::write(&now, &*BASE).unwrap();
    fs::write(&then, &*BASE).unwrap();
    change(rest, &now, &then);
    let pages = Pages::compare(&now, &then, &Stop::default()).unwrap();
    let ranges = pages.ranges(2, 2);
    ranges.iter().for_each(|ranges| in_order(ranges));
    // Only where SQLite itself finds nothing wrong is there something to compare with.
    let (Some(mine), Some(theirs)) = (rows(&now), rows(&then)) else { return };
    let differs = |id: &i64| mine.get(id) != theirs.get(id);
    let differing: Vec<i64> = mine.keys().chain(theirs.keys()).copied().filter(differs).collect();
    assert!(differing.is_empty() || !pages.are_equal(), "{differing:?} differ, and nothing was written");
    if let Some(ranges) = ranges {
        let is_in = |id: &i64| ranges.iter().any(|range| range.contains(id));
        assert!(differing.iter().all(is_in), "{differing:?} differ, looked at are {ranges:?}");
    }
}

/// Without the counters that a copy sets anew.
fn zeroed(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    // In the words of the format: change counter, schema cookie, version-valid-for and SQLite's version.
    for at in [24..28, 40..44, 92..100] {
        if bytes.len() >= 100 {
            bytes[at].fill(0);
        }
    }
    bytes
}

/// Makes each change: 0 puts a row in, 1 takes one out, both by SQL on the newer side; 2 and 3 write one byte to the
/// newer side or the older one.
fn change(bytes: &[u8], now: &Path, then: &Path) {
    let changes = bytes.chunks_exact(5);
    let data = Connection::open(now).unwrap();
    data.execute_batch("PRAGMA synchronous = off; BEGIN").unwrap();
    for one in changes.clone().filter(|one| one[0] % 4 < 2) {
        let id = i64::from(one[1]);
        let done = match one[0] % 4 {
            0 => {
                data.execute("REPLACE INTO t VALUES (?1, zeroblob(?2))", (id, u16::from_be_bytes([one[2] % 8, one[3]])))
            }
            _ => data.execute("DELETE FROM t WHERE id = ?1", (id,)),
        };
        done.unwrap();
    }
    data.execute_batch("COMMIT").unwrap();
    drop(data);
    for (file, kind) in [(now, 2), (then, 3)] {
        let mut content = fs::read(file).unwrap();
        for one in changes.clone().filter(|one| one[0] % 4 == kind) {
            let at = usize::from(one[1]) * 512 + usize::from(u16::from_be_bytes([one[2] % 2, one[3]]));
            if let Some(byte) = content.get_mut(at) {
                *byte = one[4];
            }
        }
        fs::write(file, content).unwrap();
    }
}

/// Reads all rows, if SQLite takes the file for a whole database that has the table as it was made.
fn rows(file: &PathBuf) -> Option<Rows> {
    let data = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
    let made = "SELECT rootpage = 2 AND sql = 'CREATE TABLE t (id INTEGER PRIMARY KEY, body)' FROM sqlite_schema";
    let is_as_made: Vec<bool> =
        data.prepare(made).ok()?.query_map((), |row| row.get(0)).ok()?.collect::<Result<_, _>>().ok()?;
    let check: String = data.query_row("PRAGMA integrity_check", (), |row| row.get(0)).ok()?;
    if is_as_made != [true] || check != "ok" {
        return None;
    }
    let mut ask = data.prepare("SELECT id, typeof(body), CAST(body AS BLOB) FROM t").ok()?;
    let rows = ask
        .query_map((), |row| Ok((row.get(0)?, (row.get(1)?, row.get::<_, Option<Vec<u8>>>(2)?.unwrap_or_default()))));
    rows.ok()?.collect::<Result<_, _>>().ok()
}

/// Ranges are apart from each other and in order.
fn in_order(ranges: &[RangeInclusive<i64>]) {
    assert!(ranges.iter().all(|range| range.start() <= range.end()), "{ranges:?}");
    assert!(ranges.windows(2).all(|pair| pair[0].end() < pair[1].start()), "{ranges:?}");
}
