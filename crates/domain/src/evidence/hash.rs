//! SHA-256 of short messages without the streaming interface's copying, several at a time.
//!
//! A link and a tree node are two blocks each, and a million-record chain has two million of them. Handing whole
//! blocks to the compression function takes a third off that (measured: 97 instead of 148 ns). One message's blocks
//! wait for one another, two messages' don't: taking turns keeps the processor's SHA unit busy (measured on Zen 4: 38
//! instead of 28 million blocks a second; a third message adds nothing). It is the same SHA-256: a test compares it
//! with the plain interface at every length around the block borders.

use crate::terms::Digest;
use alloc::vec::Vec;
use core::array;
use sha2::block_api::compress256;

/// SHA-256's initial state (FIPS 180-4, 5.3.3).
const INITIAL: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];
const BLOCK: usize = 64;
/// Behind the message come one byte 0x80 and eight bytes of length.
const TRAILER: usize = 9;

/// A message cut into blocks; only its ends are copied.
struct Blocks<'a> {
    /// Empty where the message is shorter than a block.
    first: Option<[u8; BLOCK]>,
    middle: &'a [[u8; BLOCK]],
    last: [[u8; BLOCK]; 2],
    last_count: usize,
}

impl<'a> Blocks<'a> {
    /// Cuts `first` ‖ `rest`.
    fn prefixed(first: u8, rest: &'a [u8]) -> Self {
        let bits = (rest.len() as u64 + 1) * 8;
        if let Some((head, behind)) = rest.split_first_chunk::<{ BLOCK - 1 }>() {
            let mut block = [first; BLOCK];
            block[1..].copy_from_slice(head);
            let (middle, left) = behind.as_chunks::<BLOCK>();
            Self { first: Some(block), middle, ..Self::ending(&[], left, bits) }
        } else {
            Self::ending(&[first], rest, bits)
        }
    }

    /// Cuts a message.
    fn whole(message: &'a [u8]) -> Self {
        match message.split_first() {
            Some((first, rest)) => Self::prefixed(*first, rest),
            None => Self::ending(&[], &[], 0),
        }
    }

    /// Makes the last blocks of a message of `bits`, of which `start` and `end` are left; together at most 119 bytes.
    fn ending(start: &[u8], end: &[u8], bits: u64) -> Self {
        let mut tail = [0u8; 2 * BLOCK];
        let filled = start.len() + end.len();
        tail[..start.len()].copy_from_slice(start);
        tail[start.len()..filled].copy_from_slice(end);
        tail[filled] = 0x80;
        let last_count = if filled + TRAILER <= BLOCK { 1 } else { 2 };
        tail[last_count * BLOCK - 8..last_count * BLOCK].copy_from_slice(&bits.to_be_bytes());
        let mut last = [[0; BLOCK]; 2];
        last.as_flattened_mut().copy_from_slice(&tail);
        Self { first: None, middle: &[], last, last_count }
    }

    /// Gives block `number`, if the message has so many.
    fn block(&self, number: usize) -> Option<&[u8; BLOCK]> {
        let number = match &self.first {
            Some(first) if number == 0 => return Some(first),
            Some(_) => number - 1,
            None => number,
        };
        match number.checked_sub(self.middle.len()) {
            None => self.middle.get(number),
            Some(behind) => self.last[..self.last_count].get(behind),
        }
    }
}

/// Digests each message `first` ‖ `rest`: one byte that tells the kind of message, and the message.
pub(super) fn digest_prefixed<const LANES: usize>(first: u8, rests: [&[u8]; LANES]) -> [Digest; LANES] {
    digest_blocks(&rests.map(|rest| Blocks::prefixed(first, rest)))
}

/// Digests messages of at most 119 bytes, the most that two blocks hold.
pub(super) fn digest_short<const LENGTH: usize, const LANES: usize>(
    messages: [&[u8; LENGTH]; LANES],
) -> [Digest; LANES] {
    const { assert!(LENGTH + TRAILER <= 2 * BLOCK, "longer than two blocks") };
    digest_blocks(&messages.map(|message| Blocks::ending(message, &[], LENGTH as u64 * 8)))
}

/// Digests each message as [`Digest::of`] does, in less time: two are hashed side by side.
pub fn digest_all(messages: &[&[u8]]) -> Vec<Digest> {
    in_twos(messages, Blocks::whole)
}

/// Digests each message `first` ‖ `rest`, two side by side.
pub(super) fn digest_all_prefixed(first: u8, rests: &[&[u8]]) -> Vec<Digest> {
    in_twos(rests, |rest| Blocks::prefixed(first, rest))
}

fn in_twos<'a>(messages: &[&'a [u8]], cut: impl Fn(&'a [u8]) -> Blocks<'a>) -> Vec<Digest> {
    let mut digests = Vec::with_capacity(messages.len());
    let (twos, rest) = messages.as_chunks::<2>();
    for two in twos {
        digests.extend(digest_blocks(&two.map(&cut)));
    }
    for one in rest {
        digests.extend(digest_blocks(&[cut(one)]));
    }
    digests
}

/// Takes a block of each message in turn until all are done.
fn digest_blocks<const LANES: usize>(messages: &[Blocks<'_>; LANES]) -> [Digest; LANES] {
    let mut states = [INITIAL; LANES];
    let mut number = 0;
    loop {
        let mut done = true;
        for (state, message) in states.iter_mut().zip(messages) {
            if let Some(block) = message.block(number) {
                compress256(state, array::from_ref(block));
                done = false;
            }
        }
        if done {
            break;
        }
        number += 1;
    }
    states.map(|state| {
        let mut digest = [0u8; 32];
        for (bytes, word) in digest.as_chunks_mut::<4>().0.iter_mut().zip(state) {
            *bytes = word.to_be_bytes();
        }
        Digest(digest)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn it_is_plain_sha_256_at_every_length() {
        let bytes: Vec<u8> = (0..700u32).map(|number| (number * 7) as u8).collect();
        for length in 1..bytes.len() {
            assert_eq!(
                digest_prefixed(bytes[0], [&bytes[1..length]]),
                [Digest::of(&bytes[..length])],
                "{length} bytes"
            );
        }
        let mut short = [0u8; 119];
        short.copy_from_slice(&bytes[..119]);
        assert_eq!(digest_short([&short]), [Digest::of(&short)]);
        let mut short = [0u8; 65];
        short.copy_from_slice(&bytes[..65]);
        assert_eq!(digest_short([&short]), [Digest::of(&short)]);
        assert_eq!(digest_short([b"abc"]), [Digest::of(b"abc")]);
        assert_eq!(digest_short([&[0; 55]]), [Digest::of(&[0; 55])]);
        assert_eq!(digest_short([&[0; 56]]), [Digest::of(&[0; 56])]);
    }

    #[test]
    fn messages_of_all_lengths_side_by_side_do_not_mix() {
        let bytes: Vec<u8> = (0..400u32).map(|number| (number * 11) as u8).collect();
        let plain: Vec<Digest> = (0..=300).map(|length| Digest::of(&bytes[..=length])).collect();
        for left in 0..=300 {
            for right in [0, 1, 54, 55, 62, 63, 64, 118, 119, 126, 127, 191, 256, 299, left] {
                let both = digest_prefixed(bytes[0], [&bytes[1..=left], &bytes[1..=right]]);
                assert_eq!(both, [plain[left], plain[right]], "{left} and {right} bytes");
            }
        }
        assert_eq!(digest_short([b"abc", b"xyz"]), [Digest::of(b"abc"), Digest::of(b"xyz")]);
        // Even and odd counts; nothing is a message too.
        let all: Vec<&[u8]> = (0..=300).map(|length| &bytes[..length]).collect();
        for count in [0, 1, 2, 300, 301] {
            let expected: Vec<Digest> = all[..count].iter().map(|message| Digest::of(message)).collect();
            assert_eq!(digest_all(&all[..count]), expected, "{count} messages");
            let rests: Vec<&[u8]> = all[1..].iter().map(|message| &message[1..]).take(count).collect();
            assert_eq!(digest_all_prefixed(bytes[0], &rests), plain[..rests.len()], "{count} messages");
        }
    }
}
