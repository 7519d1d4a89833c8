//! Enqueues messages within the transaction of the record that causes them.

use super::{advance_line, next_number};
use crate::{append::NewNotice, read::signed};
use lastgood_domain::{evidence::Head, terms::Digest};
use rusqlite::Transaction;
use std::collections::BTreeMap;

/// Starts the message whose digest is a message's id.
const ID_TAG: &[u8] = b"lastgood notice 1\n";
const HEX_DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Writes the rows of `notices`, which the record before `head` causes.
pub(crate) fn enqueue(
    transaction: &Transaction<'_>,
    chain: i64,
    head: &Head,
    notices: &[NewNotice],
) -> rusqlite::Result<()> {
    if notices.is_empty() {
        return Ok(());
    }
    let first = next_number(transaction)?;
    let mut insert = transaction.prepare_cached(
        "INSERT INTO notice (n, message_id, chain, seq, ordinal, endpoint, subject, kind, body, at, turn, state)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?1, 'pending')",
    )?;
    // When the first of each line among them was caused.
    let mut lines = BTreeMap::new();
    // Messages of one append have few names among them.
    let mut names = BTreeMap::new();
    let mut named = |name| *names.entry(name).or_insert_with(|| Digest::of(str::as_bytes(name)));
    for (ordinal, notice) in (0u32..).zip(notices) {
        let n = first + i64::from(ordinal);
        let NewNotice { endpoint, subject, kind, body, at } = notice;
        let parts = [named(endpoint), named(subject), named(kind), Digest::of(body)];
        let id = message_id(&head.link, ordinal, parts);
        let seq = signed(head.size - 1);
        insert.execute((n, id, chain, seq, ordinal, endpoint, subject, kind, body, at.0))?;
        lines.entry((endpoint, subject)).or_insert(*at);
    }
    for ((endpoint, subject), at) in lines {
        advance_line(transaction, endpoint, subject, at)?;
    }
    Ok(())
}

/// Derives a message's id. The link stands for the chain, the record and all history, so another installation, or
/// this one after a rewind, does not use an id again; the rest lets `verify` see an edited message.
///
/// `parts` are the digests of endpoint, subject, kind and body.
pub(crate) fn message_id(link: &Digest, ordinal: u32, parts: [Digest; 4]) -> String {
    let mut message = Vec::with_capacity(ID_TAG.len() + 32 + 4 + 4 * 32);
    message.extend_from_slice(ID_TAG);
    message.extend_from_slice(&link.0);
    message.extend_from_slice(&ordinal.to_be_bytes());
    for part in parts {
        message.extend_from_slice(&part.0);
    }
    let digest = Digest::of(&message);
    let mut id = String::with_capacity(36);
    id.push_str("msg_");
    for byte in &digest.0[..16] {
        for digit in [byte >> 4, byte & 15] {
            id.push(char::from(HEX_DIGITS[usize::from(digit)]));
        }
    }
    id
}
