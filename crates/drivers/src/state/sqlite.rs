//! SQLite files: what they are, what is in them, and how a live one is copied.
//!
//! POSIX drops all locks a process has on a file when it closes any handle of that file. So whoever opens a live
//! database here with SQLite must not open it or its -shm in another way until all its connections are closed (SQLite
//! locks no -wal); copying is therefore done in a process of its own (`worker.rs`), which reads headers before it connects.

use super::{
    error::{Cause, StateError},
    live::Live,
    manifest::DatabaseFacts,
};
use lastgood_domain::terms::Digest;
use rusqlite::{Connection, OpenFlags, config::DbConfig};
use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fmt::Write as _,
    os::unix::{ffi::OsStrExt as _, fs::FileExt as _},
    path::{Path, PathBuf},
};

/// What SQLite adds to a database's name for the files beside it.
pub(super) const SIDES: [&str; 3] = ["-wal", "-shm", "-journal"];
/// The smallest database is one page of 512 bytes.
pub(super) const DATABASE_BYTES_MIN: u64 = 512;
/// 64 MiB of cache make the integrity check of a 1 GiB database read each page about once.
const CHECK_CACHE_KIB: i64 = 64 << 10;
/// The first findings tell enough; a wrecked database has thousands.
const FINDINGS_MAX: u32 = 5;

/// What a file's first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Header {
    Database { wal: bool },
    EncryptedLooking,
    Other,
}

/// Reads a file's first bytes (at least 20, best 512).
pub(super) fn header(bytes: &[u8], file_bytes: u64) -> Header {
    if bytes.starts_with(b"SQLite format 3\0") {
        return Header::Database { wal: bytes.get(18) == Some(&2) };
    }
    // An encrypted database is whole pages of bytes without pattern, from its first byte (a salt) on.
    let mut seen = [false; 256];
    bytes.iter().for_each(|&byte| seen[usize::from(byte)] = true);
    let kinds = seen.iter().filter(|seen| **seen).count();
    // Of 512 random bytes about 221 kinds appear; text has fewer than 100, a compressed file has a known beginning.
    if bytes.len() >= 512 && file_bytes.is_multiple_of(512) && kinds > 180 {
        Header::EncryptedLooking
    } else {
        Header::Other
    }
}

/// Gives the path of a file beside a database.
pub(super) fn side(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path.as_os_str());
    name.push(suffix);
    name.into()
}

pub(super) fn sizes(connection: &Connection) -> rusqlite::Result<(i64, i64)> {
    let page_bytes = connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
    let pages = connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
    Ok((page_bytes, pages))
}

/// Opens a database that nobody writes, without locks and without making a file beside it.
pub(super) fn open_still(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW
        | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(still_uri(path), flags)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    Ok(connection)
}

/// Gives the URI that opens `path` as a file that never changes.
pub(super) fn still_uri(path: &Path) -> OsString {
    let mut uri = String::from("file:");
    for &byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'.' | b'-' | b'_') {
            uri.push(char::from(byte));
        } else {
            let _ = write!(uri, "%{byte:02X}");
        }
    }
    uri.push_str("?immutable=1");
    uri.into()
}

/// Lets a copied database with a copied -wal or -journal recover, so that one file has it all.
pub(super) fn recover_copy(copy: &Path) -> Result<(), StateError> {
    let failed = |error: rusqlite::Error| StateError::sqlite("recover", copy, &error);
    let connection = Connection::open(copy).map_err(failed)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false).map_err(failed)?;
    // Alone with the file, SQLite needs no shared memory beside it.
    connection.execute_batch("PRAGMA locking_mode = EXCLUSIVE; SELECT count(*) FROM sqlite_schema").map_err(failed)?;
    let mode: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0)).map_err(failed)?;
    if mode == "wal" {
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(failed)?;
    }
    connection.close().map_err(|(_, error)| failed(error))
}

/// Checks a copy in full and gives its facts.
///
/// An empty database passes the integrity check, so the caller compares the facts with those of the source.
pub(super) fn check_copy(copy: &Path, named: &Path) -> Result<DatabaseFacts, StateError> {
    let failed = |error: rusqlite::Error| StateError::sqlite("check the copy of", named, &error);
    let connection = open_still(copy).map_err(failed)?;
    connection
        .execute_batch(&format!("PRAGMA cache_size = -{CHECK_CACHE_KIB}; PRAGMA mmap_size = 1099511627776"))
        .map_err(failed)?;
    let findings = match findings(&connection, "integrity_check") {
        // An index that only the service's own functions can order is checked without its order.
        Err(error) if needs_the_service(&error.to_string()) => findings(&connection, "quick_check"),
        Ok(found) if found.iter().all(|finding| needs_the_service(finding)) && !found.is_empty() => {
            findings_of_quick(&connection)
        }
        other => other,
    }
    .map_err(failed)?;
    if !findings.is_empty() {
        return Err(StateError::Corrupt { path: named.into(), finding: findings.join("; ") });
    }
    facts_of(&connection, named, is_wal(copy)?)
}

fn findings_of_quick(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    findings(connection, "quick_check")
}

fn needs_the_service(finding: &str) -> bool {
    ["no such collation", "no such function", "no such module", "no such tokenizer", "unknown tokenizer"]
        .iter()
        .any(|text| finding.contains(text))
}

fn findings(connection: &Connection, check: &str) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare(&format!("PRAGMA {check}({FINDINGS_MAX})"))?;
    let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
    let found: Vec<String> = rows.collect::<Result<_, _>>()?;
    Ok(found.into_iter().filter(|finding| finding != "ok").collect())
}

/// Gives the facts of the database that `connection` has open.
pub(super) fn facts_of(connection: &Connection, path: &Path, wal: bool) -> Result<DatabaseFacts, StateError> {
    gather(connection, wal).map_err(|error| StateError::sqlite("read", path, &error))
}

/// Reads from a file that nobody writes whether it is in WAL mode.
fn is_wal(still: &Path) -> Result<bool, StateError> {
    let mut bytes = [0; 20];
    let failed = |error| StateError::io("read", still, error);
    let file = std::fs::File::open(still).map_err(failed)?;
    let count = file.read_at(&mut bytes, 0).map_err(failed)?;
    Ok(matches!(header(&bytes[..count], 0), Header::Database { wal: true }))
}

fn gather(connection: &Connection, wal: bool) -> rusqlite::Result<DatabaseFacts> {
    let number = |pragma: &str| connection.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get::<_, i64>(0));
    let (page_bytes, pages) = sizes(connection)?;
    let mut tables = BTreeMap::new();
    for name in stored_tables(connection, "main")?.into_keys() {
        let count = format!("SELECT count(*) FROM main.{}", quoted(&name));
        let rows: i64 = connection.query_row(&count, [], |row| row.get(0))?;
        tables.insert(name, u64::try_from(rows).unwrap_or(0));
    }
    Ok(DatabaseFacts {
        schema: schema_of(connection)?,
        tables,
        wal,
        user_version: number("user_version")?,
        application_id: number("application_id")?,
        page_bytes: u64::try_from(page_bytes).unwrap_or(0),
        pages: u64::try_from(pages).unwrap_or(0),
    })
}

/// Where a table is and how it was made.
#[derive(Debug)]
pub(super) struct Stored {
    /// The number of its first page.
    pub(super) root: u32,
    /// As it is stored: nobody promises that it is text.
    pub(super) sql: Vec<u8>,
}

/// Finds the tables of a schema that hold rows themselves: no views, no virtual tables, none of SQLite's own.
pub(super) fn stored_tables(connection: &Connection, schema: &str) -> rusqlite::Result<BTreeMap<String, Stored>> {
    let text = format!(
        "SELECT name, rootpage, CAST(sql AS BLOB) FROM {schema}.sqlite_schema WHERE type = 'table' AND rootpage > 0 \
         AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    );
    let mut statement = connection.prepare(&text)?;
    let rows = statement.query_map([], |row| {
        let root = u32::try_from(row.get::<_, i64>(1)?).unwrap_or(0);
        Ok((row.get(0)?, Stored { root, sql: row.get(2)? }))
    })?;
    rows.collect()
}

/// Quotes an SQL name.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn schema_of(connection: &Connection) -> rusqlite::Result<Digest> {
    let mut statement = connection.prepare(
        "SELECT type, name, tbl_name, sql FROM main.sqlite_schema \
         WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY type, name",
    )?;
    let mut rows = statement.query([])?;
    let mut text = String::new();
    while let Some(row) = rows.next()? {
        let (kind, name, table): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let sql: Option<String> = row.get(3)?;
        let sql = normalised(sql.as_deref().unwrap_or(""));
        for part in [&kind, &name, &table, &sql] {
            let _ = writeln!(text, "{}:{part}", part.len());
        }
    }
    Ok(Digest::of(text.as_bytes()))
}

/// Takes out of a schema's text what has no meaning: comments, and how it is spaced outside quotes.
fn normalised(sql: &str) -> String {
    let mut out = String::with_capacity(sql.len());
    let mut rest = sql;
    let mut gap = false;
    while let Some(c) = rest.chars().next() {
        let (length, kept) = match c {
            '-' if rest.starts_with("--") => (rest.find('\n').unwrap_or(rest.len()), false),
            '/' if rest.starts_with("/*") => (rest.find("*/").map_or(rest.len(), |at| at + 2), false),
            '\'' | '"' | '`' => (1 + rest[1..].find(c).map_or(rest.len() - 1, |at| at + 1), true),
            '[' => (rest.find(']').map_or(rest.len(), |at| at + 1), true),
            c => (c.len_utf8(), !c.is_whitespace()),
        };
        if kept {
            let tight = |c: char| matches!(c, '(' | ')' | ',' | '=' | ';');
            // A space means something only between two words.
            if gap && !out.is_empty() && !tight(c) && !out.ends_with(tight) {
                out.push(' ');
            }
            out.push_str(&rest[..length]);
        }
        gap = !kept;
        rest = &rest[length..];
    }
    out
}

/// Digests the normalised schema of a database that nobody writes.
///
/// `user_version` has no part in it: services change tables without raising it, and raise it without changing any.
pub fn schema_digest(database: &Path) -> Result<Digest, StateError> {
    let failed = |error: rusqlite::Error| StateError::sqlite("read", database, &error);
    if has_unmerged_log(database)? {
        let live = Live::begin(database)?;
        return schema_of(&live.connection).map_err(failed);
    }
    schema_of(&open_still(database).map_err(failed)?).map_err(failed)
}

/// Gives the facts of a database that nobody writes.
pub(super) fn still_facts(database: &Path) -> Result<DatabaseFacts, StateError> {
    if has_unmerged_log(database)? {
        return Live::begin(database)?.facts();
    }
    let connection = open_still(database).map_err(|error| StateError::sqlite("open", database, &error))?;
    facts_of(&connection, database, is_wal(database)?)
}

/// Says whether a -wal or -journal with something in it lies beside a database.
pub(super) fn has_unmerged_log(database: &Path) -> Result<bool, StateError> {
    for suffix in ["-wal", "-journal"] {
        let path = side(database, suffix);
        match std::fs::symlink_metadata(&path) {
            Ok(meta) if meta.len() > 0 => return Ok(true),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(StateError::Unreadable { path, uid: 0, source: Cause::of(&error) }),
        }
    }
    Ok(false)
}

/// Digests the schemas of several databases, each with the name it has in the state.
pub(super) fn digest_of_schemas<'a>(databases: impl Iterator<Item = (usize, &'a OsStr, Digest)>) -> Digest {
    let mut text = Vec::new();
    for (root, name, schema) in databases {
        text.extend_from_slice(format!("{root}:{}:", name.len()).as_bytes());
        text.extend_from_slice(name.as_bytes());
        text.extend_from_slice(&schema.0);
    }
    Digest::of(&text)
}
