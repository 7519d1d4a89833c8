//! The folded state's cache: saves folding a long chain at start, and is never believed over the chain.

use crate::{
    error::{StoreError, during},
    open::{Reader, Store},
    read::{count, digest, signed},
};
use lastgood_domain::{
    evidence::Head,
    terms::{ChainName, Digest},
};
use rusqlite::{Connection, OptionalExtension};

impl Store {
    /// Keeps the state folded from the records up to `head` of `chain`. `version_tag` names the fold's code and
    /// format: change it whenever either changes. A chain that does not have `head` is passed over.
    pub fn cache_put(
        &mut self,
        chain: &ChainName,
        version_tag: &str,
        head: &Head,
        bytes: &[u8],
    ) -> Result<(), StoreError> {
        let failed = during("keep the folded state");
        let transaction = self.connection_mut().transaction().map_err(&failed)?;
        let here = position(&transaction, chain, head.size).map_err(&failed)?;
        let Some((id, link)) = here.filter(|(_, link)| *link == head.link) else {
            return Ok(());
        };
        transaction
            .prepare_cached("INSERT OR REPLACE INTO cache (chain, tag, seq, digest, bytes) VALUES (?1, ?2, ?3, ?4, ?5)")
            .and_then(|mut put| {
                put.execute((id, version_tag, signed(head.size), seal(version_tag, &link, bytes).0, bytes))
            })
            .map_err(&failed)?;
        transaction.commit().map_err(&failed)
    }
}

impl Reader {
    /// Gives the kept state and the head up to which it is folded; `None` if there is none, its tag is another, or the
    /// chain no longer has that position with the same link.
    pub fn cache_get(&self, chain: &ChainName, version_tag: &str) -> Result<Option<(Head, Vec<u8>)>, StoreError> {
        let failed = during("read the folded state");
        let kept = self
            .connection
            .prepare_cached(
                "SELECT seq, digest, bytes FROM cache JOIN chain ON chain.id = cache.chain
                 WHERE chain.name = ?1 AND tag = ?2",
            )
            .and_then(|mut get| {
                get.query_row((chain.as_str(), version_tag), |row| {
                    Ok((count(row, 0)?, digest(row, 1)?, row.get::<_, Vec<u8>>(2)?))
                })
                .optional()
            })
            .map_err(&failed)?;
        let Some((seq, sealed, bytes)) = kept else { return Ok(None) };
        let here = position(&self.connection, chain, seq).map_err(&failed)?;
        let holds = here.filter(|(_, link)| seal(version_tag, link, &bytes) == sealed);
        Ok(holds.map(|(_, link)| (Head { size: seq, link }, bytes)))
    }
}

/// Gives the chain's id and the link before `seq`, if the chain reaches it.
fn position(connection: &Connection, chain: &ChainName, seq: u64) -> rusqlite::Result<Option<(i64, Digest)>> {
    if seq == 0 {
        return Ok(None);
    }
    connection
        .prepare_cached(
            "SELECT chain.id, record.link FROM chain JOIN record ON record.chain = chain.id
             WHERE name = ?1 AND seq = ?2 AND seq < size",
        )?
        .query_row((chain.as_str(), signed(seq - 1)), |row| Ok((row.get(0)?, digest(row, 1)?)))
        .optional()
}

/// Binds a state to its tag and place. It finds damage and mix-ups; it does not stop an attacker with the file.
fn seal(version_tag: &str, link: &Digest, bytes: &[u8]) -> Digest {
    let mut message = Digest::of(version_tag.as_bytes()).0.to_vec();
    message.extend_from_slice(&link.0);
    message.extend_from_slice(&Digest::of(bytes).0);
    Digest::of(&message)
}
