//! The Merkle tree of RFC 6962 over a chain's leaves: 640 bytes prove one record of a million to its owner.

use super::hash::digest_short;
use crate::terms::Digest;
use alloc::{vec, vec::Vec};
use sha2::{Digest as _, Sha256};

/// A tree of 2^63 leaves has 63 hashes in a proof; more is not a proof.
const PROOF_HASHES_MAX: usize = 64;

/// Digests two subtrees: SHA-256(0x01 ‖ left ‖ right).
pub fn node(left: &Digest, right: &Digest) -> Digest {
    let [node] = digest_short([&node_message(left, right)]);
    node
}

fn node_message(left: &Digest, right: &Digest) -> [u8; 65] {
    let mut message = [1u8; 65];
    message[1..33].copy_from_slice(&left.0);
    message[33..].copy_from_slice(&right.0);
    message
}

/// Gives the root of a tree without leaves: SHA-256 of nothing.
pub fn empty_root() -> Digest {
    Digest(Sha256::digest([]).into())
}

/// Digests the 2^k hashes of one level into their common ancestor; `None` unless there are 2^k of them.
pub fn fold_subtree(mut hashes: Vec<Digest>) -> Option<Digest> {
    if !hashes.len().is_power_of_two() {
        return None;
    }
    // In place, two nodes at a time: each level's results come before what it still reads.
    let mut count = hashes.len();
    while count > 2 {
        for to in (0..count / 2).step_by(2) {
            let [a, b, c, d] = [0, 1, 2, 3].map(|offset| hashes[2 * to + offset]);
            [hashes[to], hashes[to + 1]] = digest_short([&node_message(&a, &b), &node_message(&c, &d)]);
        }
        count /= 2;
    }
    match hashes[..count] {
        [left, right] => Some(node(&left, &right)),
        _ => hashes.first().copied(),
    }
}

/// Stored peaks that can't be those of a tree of that size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a frontier of {size} leaves has {expected} hashes of 32 bytes, not {bytes} bytes")]
pub struct FrontierError {
    /// The tree's size.
    pub size: u64,
    /// How many hashes that size has.
    pub expected: u32,
    /// The length found.
    pub bytes: usize,
}

/// The right edge of a tree: the roots of its full subtrees, largest first. Enough to append and to give the root.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    peaks: Vec<Digest>,
}

impl Frontier {
    /// Gives the number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Gives the roots of the full subtrees, largest first.
    pub fn peaks(&self) -> &[Digest] {
        &self.peaks
    }

    /// Puts a frontier together from a size and its peaks, largest first.
    pub fn from_peaks(size: u64, peaks: Vec<Digest>) -> Result<Self, FrontierError> {
        if peaks.len() == size.count_ones() as usize {
            Ok(Self { size, peaks })
        } else {
            Err(FrontierError { size, expected: size.count_ones(), bytes: peaks.len() * 32 })
        }
    }

    /// Reads peaks as [`Frontier::to_bytes`] wrote them.
    pub fn from_bytes(size: u64, bytes: &[u8]) -> Result<Self, FrontierError> {
        let (hashes, rest) = bytes.as_chunks::<32>();
        if hashes.len() != size.count_ones() as usize || !rest.is_empty() {
            return Err(FrontierError { size, expected: size.count_ones(), bytes: bytes.len() });
        }
        Ok(Self { size, peaks: hashes.iter().copied().map(Digest).collect() })
    }

    /// Writes the peaks one after another, 32 bytes each.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.peaks.iter().flat_map(|peak| peak.0).collect()
    }

    /// Appends a leaf.
    pub fn append(&mut self, leaf: Digest) {
        self.append_telling(leaf, |_, _, _| {});
    }

    /// Appends a leaf and tells each subtree that this completes: its level, its index in that level, its root.
    pub fn append_telling(&mut self, leaf: Digest, completed: impl FnMut(u32, u64, Digest)) {
        self.push(0, leaf, completed);
    }

    /// Appends a full subtree of 2^`level` leaves by its root, and tells it and each larger one that this completes.
    /// Gives `false`, and does nothing, where the size is no multiple of 2^`level`.
    #[must_use]
    pub fn append_subtree(&mut self, level: u32, root: Digest, mut completed: impl FnMut(u32, u64, Digest)) -> bool {
        let fits = level < u64::BITS && self.size.trailing_zeros() >= level;
        if fits {
            completed(level, self.size >> level, root);
            self.push(level, root, completed);
        }
        fits
    }

    fn push(&mut self, level: u32, root: Digest, mut completed: impl FnMut(u32, u64, Digest)) {
        let (mut hash, index) = (root, self.size >> level);
        // Each trailing one bit of the index is a full subtree as large as the one that just became full.
        for up in 1..=index.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                hash = node(&left, &hash);
                completed(level + up, index >> up, hash);
            }
        }
        self.peaks.push(hash);
        self.size += 1 << level;
    }

    /// Gives the root of the whole tree.
    pub fn root(&self) -> Digest {
        let mut peaks = self.peaks.iter().rev();
        match peaks.next() {
            None => empty_root(),
            Some(smallest) => peaks.fold(*smallest, |right, left| node(left, &right)),
        }
    }
}

/// Where full subtrees come from when a proof is made: `level` 0 are the leaves.
pub trait Subtrees {
    /// Why a subtree could not be had.
    type Error;

    /// Gives the root over the 2^`level` leaves from `index` × 2^`level` on.
    fn subtree(&self, level: u32, index: u64) -> Result<Digest, Self::Error>;
}

impl Subtrees for [Digest] {
    type Error = MerkleError;

    fn subtree(&self, level: u32, index: u64) -> Result<Digest, MerkleError> {
        let wrong = MerkleError::OutOfRange { index, size: self.len() as u64 };
        let width = 1usize.checked_shl(level).ok_or_else(|| wrong.clone())?;
        let from =
            usize::try_from(index).ok().and_then(|index| index.checked_mul(width)).ok_or_else(|| wrong.clone())?;
        let hashes = from.checked_add(width).and_then(|to| self.get(from..to)).ok_or_else(|| wrong.clone())?;
        fold_subtree(hashes.to_vec()).ok_or(wrong)
    }
}

/// Why a Merkle proof can't be made or does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MerkleError {
    /// The leaf is not in a tree of that size, or the older tree is larger than the newer.
    #[error("position {index} is not within a tree of {size} leaves")]
    OutOfRange {
        /// The position.
        index: u64,
        /// The tree's size.
        size: u64,
    },
    /// The proof has too few or too many hashes.
    #[error("the proof has {hashes} hashes, which is not the number for these sizes")]
    WrongLength {
        /// How many hashes it has.
        hashes: usize,
    },
    /// The proof leads to another root.
    #[error("the proof leads to root {computed}, not to {expected}")]
    OtherRoot {
        /// What the proof gives.
        computed: Digest,
        /// What was signed.
        expected: Digest,
    },
}

/// Gives the root over the first `size` leaves.
pub fn root_at<S: Subtrees + ?Sized>(tree: &S, size: u64) -> Result<Digest, S::Error> {
    if size == 0 { Ok(empty_root()) } else { range_root(tree, 0, size) }
}

/// Gives the root over the leaves `from..to`, a range that RFC 6962 cuts; `from < to`.
fn range_root<S: Subtrees + ?Sized>(tree: &S, from: u64, to: u64) -> Result<Digest, S::Error> {
    let count = to - from;
    if count.is_power_of_two() {
        let level = count.trailing_zeros();
        return tree.subtree(level, from >> level);
    }
    let cut = from + left_width(count);
    Ok(node(&range_root(tree, from, cut)?, &range_root(tree, cut, to)?))
}

/// Gives the largest power of two below `count`, for `count` of 2 or more.
fn left_width(count: u64) -> u64 {
    1 << (count - 1).ilog2()
}

/// Makes the proof that leaf `index` is in the tree of the first `size` leaves; empty if it is not within them.
pub fn inclusion_proof<S: Subtrees + ?Sized>(tree: &S, index: u64, size: u64) -> Result<Vec<Digest>, S::Error> {
    let (mut from, mut to) = (0, size);
    let mut proof = Vec::new();
    while index < to && to - from > 1 {
        let cut = from + left_width(to - from);
        if index < cut {
            proof.push(range_root(tree, cut, to)?);
            to = cut;
        } else {
            proof.push(range_root(tree, from, cut)?);
            from = cut;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// Makes the proof that the first `old` leaves are a prefix of the first `new`; empty for `old` of 0 or `old == new`.
pub fn consistency_proof<S: Subtrees + ?Sized>(tree: &S, old: u64, new: u64) -> Result<Vec<Digest>, S::Error> {
    if old == 0 || old >= new {
        return Ok(Vec::new());
    }
    let (mut from, mut to) = (0, new);
    let mut proof = Vec::new();
    // Walks to the end of the old tree, leaving beside the way what the old tree did not have or has whole.
    while old != to {
        let cut = from + left_width(to - from);
        if old <= cut {
            proof.push(range_root(tree, cut, to)?);
            to = cut;
        } else {
            proof.push(range_root(tree, from, cut)?);
            from = cut;
        }
    }
    if from > 0 {
        proof.push(range_root(tree, from, to)?);
    }
    proof.reverse();
    Ok(proof)
}

/// Checks that `leaf` is at `index` in the tree of `size` leaves with that `root` (RFC 9162, 2.1.3.2).
pub fn check_inclusion(
    leaf: &Digest,
    index: u64,
    size: u64,
    proof: &[Digest],
    root: &Digest,
) -> Result<(), MerkleError> {
    if index >= size {
        return Err(MerkleError::OutOfRange { index, size });
    }
    let wrong_length = MerkleError::WrongLength { hashes: proof.len() };
    if proof.len() > PROOF_HASHES_MAX {
        return Err(wrong_length);
    }
    let (mut position, mut last) = (index, size - 1);
    let mut hash = *leaf;
    for beside in proof {
        if last == 0 {
            return Err(wrong_length);
        }
        if position & 1 == 1 || position == last {
            hash = node(beside, &hash);
            while position & 1 == 0 && position != 0 {
                (position, last) = (position >> 1, last >> 1);
            }
        } else {
            hash = node(&hash, beside);
        }
        (position, last) = (position >> 1, last >> 1);
    }
    if last != 0 {
        return Err(wrong_length);
    }
    same_root(hash, root)
}

/// Checks that the tree of `old` leaves is a prefix of the tree of `new` leaves (RFC 9162, 2.1.4.2).
pub fn check_consistency(
    (old, old_root): (u64, &Digest),
    (new, new_root): (u64, &Digest),
    proof: &[Digest],
) -> Result<(), MerkleError> {
    if old > new {
        return Err(MerkleError::OutOfRange { index: old, size: new });
    }
    let wrong_length = MerkleError::WrongLength { hashes: proof.len() };
    if old == 0 || old == new {
        if !proof.is_empty() {
            return Err(wrong_length);
        }
        return same_root(*old_root, if old == 0 { &EMPTY_ROOT } else { new_root });
    }
    if proof.is_empty() || proof.len() > PROOF_HASHES_MAX {
        return Err(wrong_length);
    }
    let mut path = if old.is_power_of_two() { vec![*old_root] } else { Vec::new() };
    path.extend_from_slice(proof);
    let (mut position, mut last) = (old - 1, new - 1);
    while position & 1 == 1 {
        (position, last) = (position >> 1, last >> 1);
    }
    let (mut old_hash, mut new_hash) = (path[0], path[0]);
    for beside in &path[1..] {
        if last == 0 {
            return Err(wrong_length);
        }
        if position & 1 == 1 || position == last {
            old_hash = node(beside, &old_hash);
            new_hash = node(beside, &new_hash);
            while position & 1 == 0 && position != 0 {
                (position, last) = (position >> 1, last >> 1);
            }
        } else {
            new_hash = node(&new_hash, beside);
        }
        (position, last) = (position >> 1, last >> 1);
    }
    if last != 0 {
        return Err(wrong_length);
    }
    same_root(old_hash, old_root)?;
    same_root(new_hash, new_root)
}

/// SHA-256 of nothing, as RFC 6962 gives it.
const EMPTY_ROOT: Digest = Digest([
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27, 0xae, 0x41,
    0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
]);

fn same_root(computed: Digest, expected: &Digest) -> Result<(), MerkleError> {
    if computed == *expected { Ok(()) } else { Err(MerkleError::OtherRoot { computed, expected: *expected }) }
}
