//! What the notebook does with its data, in both forms that the releases know.

use crate::{NotebookError, Release, password};
use rusqlite::{Connection, OptionalExtension, Transaction};

/// Finds the stored hash and the id of an account.
pub(crate) fn credential(data: &Connection, release: &Release, name: &str) -> rusqlite::Result<Option<(i64, String)>> {
    let question = if release.splits_accounts() {
        "SELECT person.id, credential.hash FROM person JOIN credential ON credential.person_id = person.id
         WHERE person.name = ?1"
    } else {
        "SELECT id, hash FROM account WHERE name = ?1"
    };
    data.prepare_cached(question)?.query_row([name], |row| Ok((row.get(0)?, row.get(1)?))).optional()
}

/// Makes an account; gives nothing if the name is taken.
pub(crate) fn create(
    change: &Transaction<'_>,
    release: &Release,
    name: &str,
    hash: &str,
) -> rusqlite::Result<Option<i64>> {
    let table =
        if release.splits_accounts() { "person (name) VALUES (?1)" } else { "account (name, hash) VALUES (?1, ?2)" };
    let insert = format!("INSERT INTO {table} ON CONFLICT (name) DO NOTHING");
    let made = if release.splits_accounts() {
        change.execute(&insert, [name])?
    } else {
        change.execute(&insert, [name, hash])?
    };
    if made == 0 {
        return Ok(None);
    }
    let id = change.last_insert_rowid();
    if release.splits_accounts() {
        change.execute("INSERT INTO credential (person_id, hash) VALUES (?1, ?2)", (id, hash))?;
    }
    Ok(Some(id))
}

/// Remembers a new session and gives its token.
pub(crate) fn open_session(data: &Connection, account: i64) -> Result<String, SessionError> {
    let token = password::token().map_err(SessionError::NoChance)?;
    data.prepare_cached(
        "INSERT INTO session (token_digest, account_id, created_at) VALUES (?1, ?2, strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))",
    )
    .and_then(|mut insert| insert.execute((password::digest(&token), account)))
    .map_err(SessionError::Data)?;
    Ok(token)
}

/// Why a session could not be opened.
#[derive(Debug)]
pub(crate) enum SessionError {
    NoChance(getrandom::Error),
    Data(rusqlite::Error),
}

impl SessionError {
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::NoChance(cause) => NotebookError::NoChance(*cause).to_string(),
            Self::Data(cause) => cause.to_string(),
        }
    }
}

/// Finds whose session a token is.
pub(crate) fn account_of(data: &Connection, token: &str) -> rusqlite::Result<Option<i64>> {
    data.prepare_cached("SELECT account_id FROM session WHERE token_digest = ?1")?
        .query_row([password::digest(token)], |row| row.get(0))
        .optional()
}

/// Writes notes, all or none, and gives the id of the last.
pub(crate) fn write_notes<'a>(
    change: &Transaction<'_>,
    account: i64,
    texts: impl Iterator<Item = &'a str>,
) -> rusqlite::Result<i64> {
    let mut insert = change.prepare_cached(
        "INSERT INTO note (account_id, text, created_at) VALUES (?1, ?2, strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))",
    )?;
    for text in texts {
        insert.execute((account, text))?;
    }
    Ok(change.last_insert_rowid())
}

/// Reads the newest notes of an account, newest first, and how many there are.
pub(crate) fn notes(data: &Connection, account: i64, count_max: u32) -> rusqlite::Result<(i64, Vec<(i64, String)>)> {
    let total = data
        .prepare_cached("SELECT count(*) FROM note WHERE account_id = ?1")?
        .query_row([account], |row| row.get(0))?;
    let mut rows = data.prepare_cached("SELECT id, text FROM note WHERE account_id = ?1 ORDER BY id DESC LIMIT ?2")?;
    let newest =
        rows.query_map((account, count_max), |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
    Ok((total, newest))
}
