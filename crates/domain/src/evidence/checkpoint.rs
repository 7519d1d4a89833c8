//! Checkpoints (C2SP tlog-checkpoint v1.0.0): size, Merkle root and last link of a chain, signed.

use super::{
    chain::Head,
    note::{Note, NoteError, NoteKey, VerifierKey, base64_of_digest, digest_of_base64},
};
use crate::terms::{ChainName, Digest};
use alloc::{borrow::ToOwned, format, string::String};

/// Names our extension line. It carries the last link, since the root covers payloads but not their times.
const LINK_LINE: &str = "lastgood-link ";
/// Opens every origin, so that installations of other programs can't share a name with ours.
const PRODUCT: &str = "lastgood";

/// Writes the origin of a chain's checkpoints: `lastgood/INSTALLATION/CHAIN`.
pub fn origin_of(installation: &str, chain: &ChainName) -> String {
    format!("{installation}/{chain}")
}

/// Gives the chain that an origin names, if it is one of ours.
pub fn chain_of(origin: &str) -> Option<ChainName> {
    let (product, rest) = origin.split_once('/')?;
    let (installation, chain) = rest.split_once('/')?;
    if product != PRODUCT || installation.is_empty() { None } else { ChainName::new(chain).ok() }
}

/// Why a checkpoint can't be read or does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The note around it does not hold.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The note is fine, its text is no checkpoint.
    #[error("not a checkpoint: {0}")]
    Malformed(&'static str),
    /// The key's name is not the origin.
    #[error("the checkpoint is of {found}, the key is for {expected}")]
    OtherOrigin {
        /// The key's name.
        expected: String,
        /// The checkpoint's origin.
        found: String,
    },
}

/// What a checkpoint states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Installation and chain, such as `lastgood/4be1d06f93a7c521/service/actual`.
    pub origin: String,
    /// The chain's head: size and last link.
    pub head: Head,
    /// The Merkle root over the leaves.
    pub root: Digest,
}

impl Checkpoint {
    /// Writes the text that is signed.
    pub fn to_text(&self) -> String {
        format!(
            "{}\n{}\n{}\n{LINK_LINE}{}\n",
            self.origin,
            self.head.size,
            base64_of_digest(&self.root),
            base64_of_digest(&self.head.link)
        )
    }

    /// Reads the text of a checkpoint of ours; other extension lines are passed over.
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let wrong = CheckpointError::Malformed;
        let body = text.strip_suffix('\n').ok_or(wrong("the text does not end in a newline"))?;
        let mut lines = body.split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(wrong("it has at least three lines: origin, size, root"));
        };
        if origin.is_empty() {
            return Err(wrong("the origin is empty"));
        }
        let plain = size == "0" || (size.bytes().all(|b| b.is_ascii_digit()) && !size.starts_with('0'));
        let size = size.parse().ok().filter(|_| plain).ok_or(wrong("the size is a plain decimal number"))?;
        let root = digest_of_base64(root).ok_or(wrong("the root is 32 bytes in base64"))?;
        let mut link = None;
        for line in lines {
            if line.is_empty() {
                return Err(wrong("an extension line is empty"));
            }
            if let Some(encoded) = line.strip_prefix(LINK_LINE) {
                let found = digest_of_base64(encoded).ok_or(wrong("the link is 32 bytes in base64"))?;
                if link.replace(found).is_some() {
                    return Err(wrong("it has two link lines"));
                }
            }
        }
        let link = link.ok_or(wrong("it has no lastgood-link line"))?;
        Ok(Self { origin: origin.to_owned(), head: Head { size, link }, root })
    }

    /// Signs it under its own origin.
    pub fn sign(self, key: &NoteKey) -> Result<SignedCheckpoint, CheckpointError> {
        let note = key.named(&self.origin)?.sign(&self.to_text())?;
        Ok(SignedCheckpoint { checkpoint: self, note })
    }
}

/// A checkpoint whose signature was made or checked here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    checkpoint: Checkpoint,
    note: String,
}

impl SignedCheckpoint {
    /// Reads a note and checks that `key` signed it for this origin: `key` is of the chain or of its installation.
    pub fn open(note: &str, key: &VerifierKey) -> Result<Self, CheckpointError> {
        let parsed = Note::parse(note)?;
        let checkpoint = Checkpoint::parse(parsed.text())?;
        let origin = &checkpoint.origin;
        let Some(key) = key.under(origin) else {
            return Err(CheckpointError::OtherOrigin { expected: key.name().to_owned(), found: origin.clone() });
        };
        key.verify(&parsed)?;
        Ok(Self { checkpoint, note: note.to_owned() })
    }

    /// Gives what it states.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Gives the note as it is kept and handed out.
    pub fn note(&self) -> &str {
        &self.note
    }
}
