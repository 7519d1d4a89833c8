//! Offline proofs as one JSON document each: one record of a chain, or that a chain only grew.

use super::{
    chain::leaf,
    checkpoint::{CheckpointError, SignedCheckpoint},
    merkle::{MerkleError, check_consistency, check_inclusion},
    note::VerifierKey,
};
use crate::terms::Digest;
use alloc::{borrow::ToOwned, string::String, vec::Vec};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes that are written as standard base64 in JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base64Bytes(pub Vec<u8>);

impl Serialize for Base64Bytes {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&BASE64_STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64Bytes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        BASE64_STANDARD.decode(text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// Why a proof does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// Another kind of document, or a version that this program does not know.
    #[error("the document's schema is {found}, expected {expected}")]
    OtherSchema {
        /// What this check reads.
        expected: &'static str,
        /// What the document says.
        found: String,
    },
    /// The checkpoint does not hold.
    #[error("the checkpoint does not hold")]
    Checkpoint(#[source] CheckpointError),
    /// The older checkpoint does not hold.
    #[error("the older checkpoint does not hold")]
    OlderCheckpoint(#[source] CheckpointError),
    /// The Merkle proof does not hold.
    #[error("record {seq} is not what the checkpoint covers")]
    Record {
        /// The record.
        seq: u64,
        /// How the proof fails.
        source: MerkleError,
    },
    /// The newer checkpoint is not a continuation of the older.
    #[error("the checkpoint of {new} records does not continue the one of {old} records: history was rewritten")]
    NotContinued {
        /// Size of the older.
        old: u64,
        /// Size of the newer.
        new: u64,
        /// How the proof fails.
        source: MerkleError,
    },
}

/// Proves one record to its owner without showing any other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordBundle {
    /// Kind and version of this document.
    pub schema: String,
    /// The key that the maker says it signed with; the checker brings their own.
    pub vkey: String,
    /// The signed checkpoint.
    pub checkpoint: String,
    /// The record's number in its chain, from 0.
    pub seq: u64,
    /// The record's bytes.
    pub bytes: Base64Bytes,
    /// The Merkle inclusion proof, nearest hash first.
    pub inclusion: Vec<Digest>,
}

impl RecordBundle {
    /// Kind and version that [`RecordBundle::check`] reads.
    pub const SCHEMA: &'static str = "lastgood-record-proof/1";

    /// Checks signature and proof with a key that the caller trusts.
    pub fn check(&self, key: &VerifierKey) -> Result<SignedCheckpoint, ProofError> {
        same_schema(Self::SCHEMA, &self.schema)?;
        let signed = SignedCheckpoint::open(&self.checkpoint, key).map_err(ProofError::Checkpoint)?;
        let tree = signed.checkpoint();
        check_inclusion(&leaf(&self.bytes.0), self.seq, tree.head.size, &self.inclusion, &tree.root)
            .map_err(|source| ProofError::Record { seq: self.seq, source })?;
        Ok(signed)
    }
}

/// Proves that nothing was rewritten between two checkpoints of one chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsistencyBundle {
    /// Kind and version of this document.
    pub schema: String,
    /// The key that the maker says it signed with; the checker brings their own.
    pub vkey: String,
    /// The checkpoint seen earlier.
    pub older: String,
    /// The checkpoint seen later.
    pub newer: String,
    /// The Merkle consistency proof.
    pub consistency: Vec<Digest>,
}

impl ConsistencyBundle {
    /// Kind and version that [`ConsistencyBundle::check`] reads.
    pub const SCHEMA: &'static str = "lastgood-consistency-proof/1";

    /// Checks both signatures and the proof with a key that the caller trusts; gives older and newer.
    pub fn check(&self, key: &VerifierKey) -> Result<(SignedCheckpoint, SignedCheckpoint), ProofError> {
        same_schema(Self::SCHEMA, &self.schema)?;
        let older = SignedCheckpoint::open(&self.older, key).map_err(ProofError::OlderCheckpoint)?;
        let newer = SignedCheckpoint::open(&self.newer, key).map_err(ProofError::Checkpoint)?;
        let (old, new) = (older.checkpoint(), newer.checkpoint());
        let (old_size, new_size) = (old.head.size, new.head.size);
        check_consistency((old_size, &old.root), (new_size, &new.root), &self.consistency)
            .map_err(|source| ProofError::NotContinued { old: old_size, new: new_size, source })?;
        Ok((older, newer))
    }
}

pub(super) fn same_schema(expected: &'static str, found: &str) -> Result<(), ProofError> {
    if found == expected { Ok(()) } else { Err(ProofError::OtherSchema { expected, found: found.to_owned() }) }
}
