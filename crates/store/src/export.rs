//! Exports: what is handed to an outsider, checked by ourselves before it is given.

use crate::{
    error::{StoreError, during},
    open::Reader,
    read::{READ_RECORDS_MAX, chain_row},
    sign::SignError,
    tree::StoredTree,
};
use lastgood_domain::{
    evidence::{
        Base64Bytes, ChainName, ConsistencyBundle, ExportEnd, ExportHeader, ExportLine, ExportRecord, Head, ProofError,
        RecordBundle, SignedCheckpoint, Subtrees, VerifierKey, consistency_proof, inclusion_proof,
    },
    failure::Coded,
    terms::Digest,
};
use std::{
    io::{self, Write},
    ops::Range,
};

/// Why nothing, or not everything, was exported.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    /// No checkpoint covers what was asked for.
    #[error("chain {chain} is signed up to {signed} records, which does not cover record {wanted}")]
    NotCovered {
        /// The chain.
        chain: ChainName,
        /// Size of the last checkpoint; 0 without one.
        signed: u64,
        /// The record asked for.
        wanted: u64,
    },
    /// The proof made from the store does not hold: the store was edited.
    #[error("a proof made from chain {chain} does not hold: the stored evidence was edited")]
    Broken {
        /// The chain.
        chain: ChainName,
        /// How it fails.
        source: ProofError,
    },
    /// The range is backwards.
    #[error("the range {}..{} is backwards", range.start, range.end)]
    Range {
        /// The range asked for.
        range: Range<u64>,
    },
    /// The output could not be written.
    #[error("the export could not be written")]
    Write(#[source] io::Error),
    /// The checkpoint in the store does not hold, or the store failed.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Coded for ProveError {
    fn code(&self) -> &'static str {
        match self {
            Self::NotCovered { .. } => "evidence-not-signed",
            Self::Broken { .. } => "evidence-broken",
            Self::Range { .. } => "evidence-refused",
            Self::Write(_) => "export-not-written",
            Self::Sign(inner) => inner.code(),
            Self::Store(inner) => inner.code(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NotCovered { .. } => Some("sign the head first: lastgood evidence checkpoint".into()),
            Self::Broken { .. } => Some("find the first bad position: lastgood evidence verify".into()),
            Self::Range { .. } => Some("give the first record's number first: --from 0 --to 100".into()),
            Self::Write(_) => Some("check space and mode of the file you export to".into()),
            Self::Sign(inner) => inner.hint(),
            Self::Store(inner) => inner.hint(),
        }
    }
}

impl Reader {
    /// Writes the records `range` of `chain` as JSON lines that `lastgood-verify` checks; gives how many.
    pub fn export(
        &self,
        chain: &ChainName,
        range: Range<u64>,
        key: &VerifierKey,
        out: &mut dyn Write,
    ) -> Result<u64, ProveError> {
        if range.start > range.end {
            return Err(ProveError::Range { range });
        }
        let _snapshot = self.connection.unchecked_transaction().map_err(during("export records"))?;
        let (signed, tree) = self.covered(chain, key, range.end)?;
        let size = signed.checkpoint().head.size;
        let previous = match range.start.checked_sub(1) {
            None => Head::EMPTY.link,
            Some(before) => tree.link_at(before)?.ok_or_else(|| missing(chain, before))?,
        };
        let header = ExportHeader {
            schema: ExportHeader::SCHEMA.into(),
            chain: chain.clone(),
            from: range.start,
            to: range.end,
            previous,
            frontier: peaks(&tree, range.start)?,
            checkpoint: signed.note().to_owned(),
            consistency: consistency_proof(&tree, range.end, size)?,
            vkey: key.to_string(),
        };
        write_line(out, &ExportLine::Open(header))?;
        let mut next = range.start;
        while next < range.end {
            let limit = usize::try_from(range.end - next).unwrap_or(usize::MAX).min(READ_RECORDS_MAX);
            let records = self.read(chain, next, limit)?;
            if records.is_empty() {
                return Err(missing(chain, next).into());
            }
            for record in records {
                next = record.seq + 1;
                let (seq, at, bytes, link) = (record.seq, record.at, Base64Bytes(record.bytes), record.link);
                write_line(out, &ExportLine::Record(ExportRecord { seq, at, bytes, link }))?;
            }
        }
        let records = range.end - range.start;
        write_line(out, &ExportLine::End(ExportEnd { records }))?;
        out.flush().map_err(ProveError::Write)?;
        Ok(records)
    }

    /// Proves record `seq` of `chain` to its owner, without showing any other.
    pub fn prove_record(&self, chain: &ChainName, seq: u64, key: &VerifierKey) -> Result<RecordBundle, ProveError> {
        let _snapshot = self.connection.unchecked_transaction().map_err(during("prove a record"))?;
        let (signed, tree) = self.covered(chain, key, seq.saturating_add(1))?;
        let record = self.read(chain, seq, 1)?.pop().filter(|record| record.seq == seq);
        let record = record.ok_or_else(|| missing(chain, seq))?;
        let bundle = RecordBundle {
            schema: RecordBundle::SCHEMA.into(),
            vkey: key.to_string(),
            checkpoint: signed.note().to_owned(),
            seq,
            bytes: Base64Bytes(record.bytes),
            inclusion: inclusion_proof(&tree, seq, signed.checkpoint().head.size)?,
        };
        bundle.check(key).map_err(|source| ProveError::Broken { chain: chain.clone(), source })?;
        Ok(bundle)
    }

    /// Proves that the last checkpoint of `chain` continues `older`, which somebody kept.
    pub fn prove_consistency(
        &self,
        chain: &ChainName,
        older: &SignedCheckpoint,
        key: &VerifierKey,
    ) -> Result<ConsistencyBundle, ProveError> {
        let _snapshot = self.connection.unchecked_transaction().map_err(during("prove consistency"))?;
        let old = older.checkpoint().head.size;
        let (newer, tree) = self.covered(chain, key, old)?;
        let bundle = ConsistencyBundle {
            schema: ConsistencyBundle::SCHEMA.into(),
            vkey: key.to_string(),
            older: older.note().to_owned(),
            newer: newer.note().to_owned(),
            consistency: consistency_proof(&tree, old, newer.checkpoint().head.size)?,
        };
        bundle.check(key).map_err(|source| ProveError::Broken { chain: chain.clone(), source })?;
        Ok(bundle)
    }

    /// Gives the last checkpoint if it covers `size` records, and the tree under it.
    fn covered<'a>(
        &'a self,
        chain: &'a ChainName,
        key: &VerifierKey,
        size: u64,
    ) -> Result<(SignedCheckpoint, StoredTree<'a>), ProveError> {
        let not_covered =
            |signed| ProveError::NotCovered { chain: chain.clone(), signed, wanted: size.saturating_sub(1) };
        let signed = self.stored_checkpoint(chain, key)?.ok_or_else(|| not_covered(0))?;
        let covers = signed.checkpoint().head.size;
        if covers < size {
            return Err(not_covered(covers));
        }
        let row = chain_row(&self.connection, chain).map_err(during("read a chain's head"))?;
        let id = row.map_or(0, |row| row.id);
        Ok((signed, StoredTree { connection: &self.connection, chain, id }))
    }
}

/// Gives the Merkle peaks over the first `size` leaves.
fn peaks(tree: &StoredTree<'_>, size: u64) -> Result<Vec<Digest>, StoreError> {
    let mut from = 0;
    let mut peaks = Vec::new();
    for level in (0..u64::BITS).rev().filter(|level| size >> level & 1 == 1) {
        peaks.push(tree.subtree(level, from >> level)?);
        from += 1 << level;
    }
    Ok(peaks)
}

fn missing(chain: &ChainName, seq: u64) -> StoreError {
    StoreError::Corrupt { chain: chain.clone(), what: format!("record {seq} (it is missing)") }
}

fn write_line(out: &mut dyn Write, line: &ExportLine) -> Result<(), ProveError> {
    let mut bytes = serde_json::to_vec(line).map_err(|error| ProveError::Write(error.into()))?;
    bytes.push(b'\n');
    out.write_all(&bytes).map_err(ProveError::Write)
}
