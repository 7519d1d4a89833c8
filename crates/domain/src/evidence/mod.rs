//! Evidence: the formats of the hash chain, the Merkle tree, the signed checkpoint and the offline proofs.
//!
//! An outsider must be able to check what we kept without our store, in ten years, from these few pages.
//! So everything here is pure, small and byte-exact: record bytes are hashed as they were written and never
//! parsed to be verified. docs/design/evidence.md has the layouts and what they do not prove.

mod chain;
mod checkpoint;
mod corrective;
mod export;
mod hash;
mod merkle;
mod note;
mod proof;

pub use crate::terms::ChainName;
pub use chain::{ChainBreak, ChainCheck, ChainId, Head, RecordView, leaf, leaves, link};
pub use checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint, chain_of, origin_of};
pub use corrective::RewindAcknowledged;
pub use export::{ExportCheck, ExportEnd, ExportError, ExportHeader, ExportLine, ExportRecord, ExportVerdict};
pub use hash::digest_all;
pub use merkle::{
    Frontier, FrontierError, MerkleError, Subtrees, check_consistency, check_inclusion, consistency_proof, empty_root,
    fold_subtree, inclusion_proof, node, root_at,
};
pub use note::{Note, NoteError, NoteKey, VerifierKey};
pub use proof::{Base64Bytes, ConsistencyBundle, ProofError, RecordBundle};
