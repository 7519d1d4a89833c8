//! The lines: messages of one endpoint and subject, each behind the one before it, delivered in this order.
//!
//! A message names the message it waits for; only one that waits for none is due. A line's last message stands in a
//! table of its own, so that the next one finds its place. An index over the lines would tell both, but has an end in
//! each line: every commit would change pages all over it.

use lastgood_domain::terms::Timestamp;
use rusqlite::{Connection, OptionalExtension};

/// Where an unsettled message stands.
pub(super) struct Place {
    pub(super) n: i64,
    pub(super) endpoint: String,
    pub(super) subject: String,
    /// The message it waits for; none for the first of a line.
    pub(super) behind: Option<i64>,
}

impl Place {
    /// What was claimed: only the first of a line is ever due.
    pub(super) fn first(n: i64, endpoint: String, subject: String) -> Self {
        Self { n, endpoint, subject, behind: None }
    }
}

/// The last message of a line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Last {
    pub(super) n: i64,
    pub(super) turn: i64,
}

impl Last {
    /// Gives the turn of a message that comes behind `last` when `n` is the next number.
    pub(super) fn turn_behind(last: Option<Self>, n: i64) -> i64 {
        last.map_or(n, |last| n.max(last.turn + 1))
    }
}

/// Gives the next number of a message.
pub(super) fn next_number(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("SELECT 1 + coalesce(max(n), 0) FROM notice")?.query_row([], |row| row.get(0))
}

/// Gives the last message of a line; none if nothing in it waits or is under way.
pub(super) fn last(connection: &Connection, endpoint: &str, subject: &str) -> rusqlite::Result<Option<Last>> {
    connection
        .prepare_cached(
            // One that was settled, as by an older lastgood that still ran, lets nobody behind it go on. The plus signs:
            // SQLite compiles a statement anew for each value that could change its plan, and would look at these.
            "SELECT n, turn FROM line JOIN notice ON n = last
             WHERE line.endpoint = +?1 AND line.subject = +?2 AND settled_at IS NULL",
        )?
        .query_row((endpoint, subject), |row| Ok(Last { n: row.get(0)?, turn: row.get(1)? }))
        .optional()
}

/// Notes that a line ends with message `n` now.
pub(super) fn set_last(connection: &Connection, endpoint: &str, subject: &str, n: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO line (endpoint, subject, last) VALUES (?1, ?2, ?3)
             ON CONFLICT (endpoint, subject) DO UPDATE SET last = excluded.last",
        )?
        .execute((endpoint, subject, n))?;
    Ok(())
}

/// Takes a message that was settled out of its line: who waited for it waits for the one before it, or is due `now`.
pub(super) fn leave(connection: &Connection, left: &Place, now: Timestamp) -> rusqlite::Result<()> {
    let follows = connection
        .prepare_cached(
            "UPDATE notice SET behind = ?2, due = CASE WHEN ?2 IS NULL THEN ?3 ELSE due END WHERE behind = ?1",
        )?
        .execute((left.n, left.behind, now.0))?;
    if follows > 0 {
        return Ok(());
    }
    match left.behind {
        Some(before) => connection
            .prepare_cached("UPDATE line SET last = ?4 WHERE endpoint = ?1 AND subject = ?2 AND last = ?3")?
            .execute((&left.endpoint, &left.subject, left.n, before))?,
        None => connection
            .prepare_cached("DELETE FROM line WHERE endpoint = ?1 AND subject = ?2 AND last = ?3")?
            .execute((&left.endpoint, &left.subject, left.n))?,
    };
    Ok(())
}
