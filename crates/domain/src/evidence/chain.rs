//! The hash chain: what makes an edited, lost, added or moved record visible, and names the place.

use super::hash::{digest_all_prefixed, digest_prefixed, digest_short};
use crate::terms::{ChainName, Digest, Timestamp};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Starts every link's message. Its first byte differs from 0x00 and 0x01, the prefixes of RFC 6962, so a link
/// can never be taken for a leaf or a node.
const LINK_TAG: &[u8; 7] = b"lglink1";
/// Starts the message whose digest stands for a chain's name in its links.
const CHAIN_TAG: &[u8] = b"lastgood evidence chain 1\n";
/// 7 tag + 32 chain + 8 seq + 8 time + 32 previous + 32 leaf: the longest message that SHA-256 takes in two blocks.
const LINK_BYTES: usize = 119;

/// Digests one record's bytes as an RFC 6962 leaf: SHA-256(0x00 ‖ bytes).
pub fn leaf(bytes: &[u8]) -> Digest {
    let [leaf] = digest_prefixed(0, [bytes]);
    leaf
}

/// Digests the bytes of many records as [`leaf`] does, in less time.
pub fn leaves(records: &[&[u8]]) -> Vec<Digest> {
    digest_all_prefixed(0, records)
}

/// Stands for a chain's name in its links: fixed in size, hashed once per chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainId(Digest);

impl ChainId {
    /// Digests a chain's name.
    pub fn of(name: &ChainName) -> Self {
        Self(Digest(Sha256::new().chain_update(CHAIN_TAG).chain_update(name.as_str()).finalize().into()))
    }
}

/// Links one record to all before it: SHA-256(tag ‖ chain ‖ seq ‖ time ‖ previous link ‖ leaf), numbers big-endian.
pub fn link(chain: &ChainId, seq: u64, at: Timestamp, previous: &Digest, leaf: &Digest) -> Digest {
    let [link] = digest_short([&link_message(chain, seq, at, previous, leaf)]);
    link
}

fn link_message(chain: &ChainId, seq: u64, at: Timestamp, previous: &Digest, leaf: &Digest) -> [u8; LINK_BYTES] {
    let mut message = [0u8; LINK_BYTES];
    let (tag, rest) = message.split_at_mut(7);
    tag.copy_from_slice(LINK_TAG);
    rest[..32].copy_from_slice(&chain.0.0);
    rest[32..40].copy_from_slice(&seq.to_be_bytes());
    rest[40..48].copy_from_slice(&at.0.to_be_bytes());
    rest[48..80].copy_from_slice(&previous.0);
    rest[80..].copy_from_slice(&leaf.0);
    message
}

/// The end of a chain: how many records it has and the last link. An append names the head it saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// Number of records; also the number (seq) of the next one, since the first is 0.
    pub size: u64,
    /// Link of the last record; zeroes for an empty chain.
    pub link: Digest,
}

impl Head {
    /// The head of a chain without records.
    pub const EMPTY: Self = Self { size: 0, link: Digest([0; 32]) };

    /// Gives the head after one more record.
    #[must_use]
    pub fn then(&self, chain: &ChainId, at: Timestamp, leaf: &Digest) -> Self {
        Self { size: self.size + 1, link: link(chain, self.size, at, &self.link, leaf) }
    }
}

/// A record as it was found: what it says of itself, still to be believed.
#[derive(Debug, Clone, Copy)]
pub struct RecordView<'a> {
    /// Its number in the chain, from 0.
    pub seq: u64,
    /// When it was written, by the writer's clock.
    pub at: Timestamp,
    /// Its bytes.
    pub bytes: &'a [u8],
    /// The leaf stored beside it, where one is.
    pub leaf: Option<Digest>,
    /// The link stored beside it.
    pub link: Digest,
}

/// What is wrong at the first bad position of a chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "snake_case")]
pub enum ChainBreak {
    /// A number is skipped.
    #[error("record {expected} is missing: record {found} comes in its place")]
    Missing {
        /// The number that should have come.
        expected: u64,
        /// The number that came.
        found: u64,
    },
    /// A number comes again or comes late.
    #[error("record {found} is out of order: record {expected} should come here")]
    OutOfOrder {
        /// The number that should have come.
        expected: u64,
        /// The number that came.
        found: u64,
    },
    /// The bytes are not those that were linked.
    #[error("the payload of record {seq} was edited: it no longer has the digest that its link covers")]
    PayloadEdited {
        /// The record.
        seq: u64,
    },
    /// The stored leaf is not the payload's.
    #[error("the leaf of record {seq} was edited: it is not the digest of the payload, which its link still covers")]
    LeafEdited {
        /// The record.
        seq: u64,
    },
    /// The link is not what predecessor, number, time and payload give.
    #[error(
        "the link of record {seq} does not follow from the record before it, its number, its time and its payload: \
         one of these or the link was edited, or records were added, removed or moved here"
    )]
    LinkBroken {
        /// The record.
        seq: u64,
    },
}

impl ChainBreak {
    /// Gives the first bad position.
    pub fn seq(&self) -> u64 {
        match self {
            Self::Missing { expected, .. } | Self::OutOfOrder { expected, .. } => *expected,
            Self::PayloadEdited { seq } | Self::LeafEdited { seq } | Self::LinkBroken { seq } => *seq,
        }
    }
}

/// Walks a chain record by record and stops at the first that does not follow.
#[derive(Debug, Clone)]
pub struct ChainCheck {
    chain: ChainId,
    head: Head,
}

impl ChainCheck {
    /// Starts at the beginning of `chain`.
    pub fn new(chain: &ChainName) -> Self {
        Self::from(chain, Head::EMPTY)
    }

    /// Starts behind `head`, which the caller already trusts.
    pub fn from(chain: &ChainName, head: Head) -> Self {
        Self { chain: ChainId::of(chain), head }
    }

    /// Gives the head after the records checked so far.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Checks the next records as [`ChainCheck::next`] does one after another, in less time: two are hashed side by
    /// side. Appends their leaves to `leaves`; at the first that does not follow, those before it are there.
    pub fn next_all<'a>(
        &mut self,
        records: impl IntoIterator<Item = RecordView<'a>>,
        leaves: &mut Vec<Digest>,
    ) -> Result<(), ChainBreak> {
        let mut records = records.into_iter();
        while let Some(first) = records.next() {
            let Some(second) = records.next() else {
                leaves.push(self.next(&first)?);
                break;
            };
            if let Some(both) = self.next_two(&first, &second) {
                leaves.extend(both);
            } else {
                // One of them is bad: which, and how, the plain way tells.
                leaves.push(self.next(&first)?);
                leaves.push(self.next(&second)?);
            }
        }
        Ok(())
    }

    /// Checks two records; `None`, and nothing changed, unless both follow.
    fn next_two(&mut self, first: &RecordView<'_>, second: &RecordView<'_>) -> Option<[Digest; 2]> {
        let leaves = digest_prefixed(0, [first.bytes, second.bytes]);
        // The second is checked against the first's stored link, which holds if the first does.
        let links = digest_short([
            &link_message(&self.chain, self.head.size, first.at, &self.head.link, &leaves[0]),
            &link_message(&self.chain, self.head.size + 1, second.at, &first.link, &leaves[1]),
        ]);
        let holds = |record: &RecordView<'_>, place: usize| {
            record.seq == self.head.size + place as u64
                && record.leaf.is_none_or(|stored| stored == leaves[place])
                && record.link == links[place]
        };
        if !holds(first, 0) || !holds(second, 1) {
            return None;
        }
        self.head = Head { size: self.head.size + 2, link: second.link };
        Some(leaves)
    }

    /// Checks the next record by hashing its bytes again; gives its leaf.
    pub fn next(&mut self, record: &RecordView<'_>) -> Result<Digest, ChainBreak> {
        let computed = leaf(record.bytes);
        let expected = self.head.size;
        if record.seq > expected {
            return Err(ChainBreak::Missing { expected, found: record.seq });
        }
        if record.seq < expected {
            return Err(ChainBreak::OutOfOrder { expected, found: record.seq });
        }
        let next = self.head.then(&self.chain, record.at, &computed);
        let leaf_holds = record.leaf.is_none_or(|stored| stored == computed);
        if leaf_holds && next.link == record.link {
            self.head = next;
            return Ok(computed);
        }
        Err(self.diagnose(record, next.link == record.link))
    }

    /// Tells an edited payload from an edited leaf and a broken link; only reached when something is wrong.
    fn diagnose(&self, record: &RecordView<'_>, link_covers_payload: bool) -> ChainBreak {
        let seq = record.seq;
        if link_covers_payload {
            return ChainBreak::LeafEdited { seq };
        }
        let covered_by_link = |stored: Digest| self.head.then(&self.chain, record.at, &stored).link == record.link;
        match record.leaf {
            Some(stored) if covered_by_link(stored) => ChainBreak::PayloadEdited { seq },
            _ => ChainBreak::LinkBroken { seq },
        }
    }
}
