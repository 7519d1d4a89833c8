//! The export: a stretch of a chain as JSON lines that an outsider checks with nothing but our public key.
//!
//! The first line opens it, one line per record follows, the last closes it, so a cut file is noticed. The
//! checkpoint's root covers every payload in it. Its link covers numbers and times too, if the stretch reaches
//! the checkpoint's end.

use super::{
    chain::{ChainBreak, ChainCheck, Head, RecordView},
    checkpoint::{CheckpointError, SignedCheckpoint, chain_of},
    merkle::{Frontier, FrontierError, MerkleError, check_consistency},
    note::VerifierKey,
    proof::Base64Bytes,
};
use crate::terms::{ChainName, Digest, Timestamp};
use alloc::{string::String, vec::Vec};
use serde::{Deserialize, Serialize};

/// Opens an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportHeader {
    /// Kind and version of the file.
    pub schema: String,
    /// The chain.
    pub chain: ChainName,
    /// The first record's number.
    pub from: u64,
    /// The number behind the last record.
    pub to: u64,
    /// The link before the first record.
    pub previous: Digest,
    /// The Merkle peaks over the records before the first.
    pub frontier: Vec<Digest>,
    /// The signed checkpoint that covers it.
    pub checkpoint: String,
    /// Leads from the records up to `to` to the checkpoint's root.
    pub consistency: Vec<Digest>,
    /// The key that the maker says it signed with; the checker brings their own.
    pub vkey: String,
}

impl ExportHeader {
    /// Kind and version that [`ExportCheck`] reads.
    pub const SCHEMA: &'static str = "lastgood-evidence-export/1";
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportRecord {
    /// Its number.
    pub seq: u64,
    /// When it was written, in milliseconds since 1970.
    pub at: Timestamp,
    /// Its bytes.
    pub bytes: Base64Bytes,
    /// Its link.
    pub link: Digest,
}

/// Closes an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportEnd {
    /// Number of records written.
    pub records: u64,
}

/// One line of an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExportLine {
    /// The first line.
    Open(ExportHeader),
    /// Each line between.
    Record(ExportRecord),
    /// The last line.
    End(ExportEnd),
}

/// Why an export does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    /// The file's kind or version is another.
    #[error("the file's schema is {found}, expected {}", ExportHeader::SCHEMA)]
    OtherSchema {
        /// What the file says.
        found: String,
    },
    /// The lines are not open, records, end.
    #[error("the lines of the export are out of order: {0}")]
    Shape(&'static str),
    /// The header can't be true.
    #[error("the header's range {from}..{to} does not fit a checkpoint of {size} records")]
    Range {
        /// First record.
        from: u64,
        /// Behind the last record.
        to: u64,
        /// The checkpoint's size.
        size: u64,
    },
    /// The checkpoint does not hold.
    #[error("the checkpoint does not hold")]
    Checkpoint(#[source] CheckpointError),
    /// The key and checkpoint are of another chain.
    #[error("the checkpoint is of {origin}, which is not chain {chain}")]
    OtherChain {
        /// The chain of the header.
        chain: ChainName,
        /// The checkpoint's origin.
        origin: String,
    },
    /// The frontier does not fit the first record's number.
    #[error("the header's frontier does not hold")]
    Frontier(#[from] FrontierError),
    /// A record does not follow.
    #[error(transparent)]
    Chain(#[from] ChainBreak),
    /// Fewer or more records than the header says.
    #[error("the export ends at record {at}, its header says {to}: the tail was cut or added")]
    Cut {
        /// Where it ended.
        at: u64,
        /// Where it should.
        to: u64,
    },
    /// The records are not those that were signed.
    #[error("the records {from}..{to} follow from one another but are not those that were signed")]
    Root {
        /// First record.
        from: u64,
        /// Behind the last record.
        to: u64,
        /// How the proof fails.
        source: MerkleError,
    },
    /// Payloads are as signed, numbers or times are not.
    #[error("the payloads are those that were signed, but a time or a link before record {to} is not")]
    Link {
        /// Behind the last record.
        to: u64,
    },
}

impl ExportError {
    /// Gives the first bad position, where there is one.
    pub fn seq(&self) -> Option<u64> {
        match self {
            Self::Chain(broken) => Some(broken.seq()),
            Self::Cut { at, .. } => Some(*at),
            Self::Root { from, .. } => Some(*from),
            _ => None,
        }
    }
}

/// What a whole export that holds has shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExportVerdict {
    /// The chain.
    pub chain: ChainName,
    /// First record.
    pub from: u64,
    /// Behind the last record.
    pub to: u64,
    /// Size of the signed checkpoint.
    pub checkpoint_size: u64,
    /// Whether the signature covers the records' times as well: only if the export reaches the checkpoint's end.
    pub times_are_signed: bool,
}

/// Checks an export line by line.
#[derive(Debug)]
pub struct ExportCheck {
    header: ExportHeader,
    signed: SignedCheckpoint,
    chain: ChainCheck,
    frontier: Frontier,
}

impl ExportCheck {
    /// Starts with the first line and a key that the caller trusts.
    pub fn open(first: ExportLine, key: &VerifierKey) -> Result<Self, ExportError> {
        let ExportLine::Open(header) = first else {
            return Err(ExportError::Shape("the first line does not open the export"));
        };
        if header.schema != ExportHeader::SCHEMA {
            return Err(ExportError::OtherSchema { found: header.schema });
        }
        let signed = SignedCheckpoint::open(&header.checkpoint, key).map_err(ExportError::Checkpoint)?;
        let checkpoint = signed.checkpoint();
        if chain_of(&checkpoint.origin).as_ref() != Some(&header.chain) {
            return Err(ExportError::OtherChain { chain: header.chain, origin: checkpoint.origin.clone() });
        }
        let (from, to, size) = (header.from, header.to, checkpoint.head.size);
        if from > to || to > size {
            return Err(ExportError::Range { from, to, size });
        }
        let frontier = Frontier::from_peaks(from, header.frontier.clone())?;
        let chain = ChainCheck::from(&header.chain, Head { size: from, link: header.previous });
        Ok(Self { header, signed, chain, frontier })
    }

    /// Checks one record line.
    pub fn record(&mut self, record: &ExportRecord) -> Result<(), ExportError> {
        if record.seq >= self.header.to && self.chain.head().size >= self.header.to {
            return Err(ExportError::Cut { at: record.seq, to: self.header.to });
        }
        let view = RecordView { seq: record.seq, at: record.at, bytes: &record.bytes.0, leaf: None, link: record.link };
        let leaf = self.chain.next(&view)?;
        self.frontier.append(leaf);
        Ok(())
    }

    /// Checks the last line and, with it, everything against the signature.
    pub fn end(self, end: &ExportEnd) -> Result<ExportVerdict, ExportError> {
        let ExportHeader { chain, from, to, consistency, .. } = self.header;
        let at = self.chain.head().size;
        if at != to || end.records != to - from {
            return Err(ExportError::Cut { at, to });
        }
        let checkpoint = self.signed.checkpoint();
        let size = checkpoint.head.size;
        check_consistency((to, &self.frontier.root()), (size, &checkpoint.root), &consistency)
            .map_err(|source| ExportError::Root { from, to, source })?;
        let reaches_end = to == size;
        if reaches_end && *self.chain.head() != checkpoint.head {
            return Err(ExportError::Link { to });
        }
        Ok(ExportVerdict { chain, from, to, checkpoint_size: size, times_are_signed: reaches_end })
    }
}
