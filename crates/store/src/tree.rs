//! The Merkle tree as it is stored: leaves beside the records, and the roots of subtrees 256 wide per level.

use crate::{
    append::NODE_LEVELS,
    error::{StoreError, during},
    read::{digest, signed},
};
use lastgood_domain::{
    evidence::{Subtrees, fold_subtree},
    terms::{ChainName, Digest},
};
use rusqlite::Connection;

/// Reads subtrees of one chain. It believes stored leaves: `verify` is what hashes payloads again.
pub(crate) struct StoredTree<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) chain: &'a ChainName,
    pub(crate) id: i64,
}

impl StoredTree<'_> {
    /// Gives the link of record `seq`, if it is there.
    pub(crate) fn link_at(&self, seq: u64) -> Result<Option<Digest>, StoreError> {
        use rusqlite::OptionalExtension;
        self.connection
            .prepare_cached("SELECT link FROM record WHERE chain = ?1 AND seq = ?2")
            .and_then(|mut select| select.query_row((self.id, signed(seq)), |row| digest(row, 0)).optional())
            .map_err(during("read a record's link"))
    }
}

impl Subtrees for StoredTree<'_> {
    type Error = StoreError;

    fn subtree(&self, level: u32, index: u64) -> Result<Digest, StoreError> {
        // Fold at most 2^7 hashes of the stored level below; levels 0, 8, 16, … are stored.
        let above = level % NODE_LEVELS;
        let stored = level - above;
        let (from, count) = (index << above, 1u64 << above);
        let rows = if stored == 0 {
            hashes(
                self.connection,
                "SELECT leaf FROM record WHERE chain = ?1 AND ?2 = 0 AND seq >= ?3 AND seq < ?4 ORDER BY seq",
                (self.id, stored, signed(from), signed(from + count)),
            )
        } else {
            hashes(
                self.connection,
                "SELECT hash FROM node WHERE chain = ?1 AND level = ?2 AND number >= ?3 AND number < ?4 ORDER BY number",
                (self.id, stored, signed(from), signed(from + count)),
            )
        };
        let rows = rows.map_err(during("read the Merkle tree"))?;
        let found = rows.len() as u64;
        fold_subtree(rows).filter(|_| found == count).ok_or_else(|| StoreError::Corrupt {
            chain: self.chain.clone(),
            what: format!("Merkle tree (level {stored} has {found} of {count} hashes from {from} on)"),
        })
    }
}

fn hashes(connection: &Connection, sql: &str, place: (i64, u32, i64, i64)) -> rusqlite::Result<Vec<Digest>> {
    connection.prepare_cached(sql)?.query_map(place, |row| digest(row, 0))?.collect()
}
