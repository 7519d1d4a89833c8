//! Reads chains: heads, records, and the cheap question whether anything changed.

use crate::{
    error::{StoreError, during},
    open::Reader,
};
use lastgood_domain::{
    evidence::{Frontier, Head},
    terms::{ChainName, Digest, Timestamp},
};
use rusqlite::{Connection, OptionalExtension, Row};

/// Most records one read gives: with records of a few hundred bytes, some megabytes.
pub const READ_RECORDS_MAX: usize = 10_000;
/// A read ends after this many bytes of payload, so that large records don't fill the memory.
const READ_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A stored record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its number, from 0.
    pub seq: u64,
    /// When it was written.
    pub at: Timestamp,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its link.
    pub link: Digest,
}

/// A chain and its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainInfo {
    /// The chain.
    pub name: ChainName,
    /// Its head.
    pub head: Head,
}

/// Differs from an earlier one if anything was written in between, by us or by another process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangeMark {
    others: i64,
    own: u64,
}

/// A chain's row.
pub(crate) struct ChainRow {
    pub(crate) id: i64,
    pub(crate) head: Head,
    pub(crate) frontier: Vec<u8>,
}

impl ChainRow {
    pub(crate) fn frontier(&self, chain: &ChainName) -> Result<Frontier, StoreError> {
        Frontier::from_bytes(self.head.size, &self.frontier)
            .map_err(|wrong| StoreError::Corrupt { chain: chain.clone(), what: format!("frontier ({wrong})") })
    }
}

pub(crate) fn count(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let number: i64 = row.get(column)?;
    u64::try_from(number).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, number))
}

pub(crate) fn digest(row: &Row<'_>, column: usize) -> rusqlite::Result<Digest> {
    row.get::<_, [u8; 32]>(column).map(Digest)
}

/// SQLite's integers are signed; a chain of 2^63 records does not fit a disk.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(crate) fn chain_row(connection: &Connection, chain: &ChainName) -> rusqlite::Result<Option<ChainRow>> {
    connection
        .prepare_cached("SELECT id, size, link, frontier FROM chain WHERE name = ?1")?
        .query_row([chain.as_str()], |row| {
            let head = Head { size: count(row, 1)?, link: digest(row, 2)? };
            Ok(ChainRow { id: row.get(0)?, head, frontier: row.get(3)? })
        })
        .optional()
}

impl Reader {
    /// Gives the head of `chain`; [`Head::EMPTY`] for one without records.
    pub fn head(&self, chain: &ChainName) -> Result<Head, StoreError> {
        let row = chain_row(&self.connection, chain).map_err(during("read a chain's head"))?;
        Ok(row.map_or(Head::EMPTY, |row| row.head))
    }

    /// Lists all chains by name.
    pub fn chains(&self) -> Result<Vec<ChainInfo>, StoreError> {
        let failed = during("list the chains");
        let mut statement =
            self.connection.prepare_cached("SELECT name, size, link FROM chain ORDER BY name").map_err(&failed)?;
        let rows = statement
            .query_map([], |row| Ok((row.get::<_, String>(0)?, Head { size: count(row, 1)?, link: digest(row, 2)? })))
            .map_err(&failed)?;
        let mut chains = Vec::new();
        for row in rows {
            let (name, head) = row.map_err(&failed)?;
            // A name that we would not write was put there by hand; `verify` tells it.
            if let Ok(name) = ChainName::new(&name) {
                chains.push(ChainInfo { name, head });
            }
        }
        Ok(chains)
    }

    /// Reads records of `chain` from number `from` on, at most `limit` and [`READ_RECORDS_MAX`]; fewer when they are
    /// large. An empty answer means that there are no more.
    pub fn read(&self, chain: &ChainName, from: u64, limit: usize) -> Result<Vec<Record>, StoreError> {
        let failed = during("read records");
        let mut statement = self
            .connection
            .prepare_cached(
                "SELECT seq, at, bytes, record.link FROM record JOIN chain ON chain.id = record.chain
                 WHERE chain.name = ?1 AND seq >= ?2 ORDER BY seq LIMIT ?3",
            )
            .map_err(&failed)?;
        let limit = limit.min(READ_RECORDS_MAX) as i64;
        let mut rows = statement.query((chain.as_str(), signed(from), limit)).map_err(&failed)?;
        let (mut records, mut bytes) = (Vec::new(), 0);
        while let Some(row) = rows.next().map_err(&failed)? {
            let record = (|| {
                Ok(Record {
                    seq: count(row, 0)?,
                    at: Timestamp(row.get(1)?),
                    bytes: row.get(2)?,
                    link: digest(row, 3)?,
                })
            })()
            .map_err(&failed)?;
            bytes += record.bytes.len();
            records.push(record);
            if bytes >= READ_BYTES_MAX {
                break;
            }
        }
        Ok(records)
    }

    /// Tells in microseconds whether anything was written since an earlier mark: compare the two.
    pub fn change_mark(&self) -> Result<ChangeMark, StoreError> {
        let others = self
            .connection
            .prepare_cached("PRAGMA data_version")
            .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
            .map_err(during("ask whether anything changed"))?;
        Ok(ChangeMark { others, own: self.connection.total_changes() })
    }
}
