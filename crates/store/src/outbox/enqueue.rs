//! Enqueues messages within the transaction of the record that causes them.

use super::line::{self, Last};
use crate::{append::NewNotice, read::signed};
use lastgood_domain::{
    evidence::{Head, digest_all},
    terms::Digest,
};
use rusqlite::{Transaction, params};
use std::collections::BTreeMap;

/// Starts the message whose digest is a message's id.
const ID_TAG: &[u8] = b"lastgood notice 1\n";
/// The tag, a link, an ordinal and the digests of endpoint, subject, kind and body.
const ID_MESSAGE_BYTES: usize = 18 + 32 + 4 + 4 * 32;
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
    let first = line::next_number(transaction)?;
    let mut insert = transaction.prepare_cached(
        "INSERT INTO notice (n, message_id, chain, seq, ordinal, endpoint, subject, kind, body, at, turn, state,
                             behind, due)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, 'pending', ?12, ?13)",
    )?;
    // The last message of each line among them.
    let mut lines = BTreeMap::new();
    // Messages of one append have few names among them.
    let mut names = BTreeMap::new();
    let mut named = |name| *names.entry(name).or_insert_with(|| Digest::of(str::as_bytes(name)));
    let bodies: Vec<&[u8]> = notices.iter().map(|notice| notice.body.as_slice()).collect();
    let bodies = digest_all(&bodies).into_iter();
    let messages: Vec<_> = (0u32..)
        .zip(notices.iter().zip(bodies))
        .map(|(ordinal, (notice, body))| {
            let parts = [named(&notice.endpoint), named(&notice.subject), named(&notice.kind), body];
            id_message(&head.link, ordinal, parts)
        })
        .collect();
    let messages: Vec<&[u8]> = messages.iter().map(<[u8; ID_MESSAGE_BYTES]>::as_slice).collect();
    for ((ordinal, notice), id) in (0u32..).zip(notices).zip(digest_all(&messages)) {
        let id = id_text(&id);
        let n = first + i64::from(ordinal);
        let NewNotice { endpoint, subject, kind, body, at } = notice;
        let seq = signed(head.size - 1);
        let before = match lines.get(&(endpoint, subject)) {
            Some(before) => Some(*before),
            None => line::last(transaction, endpoint, subject)?,
        };
        let turn = Last::turn_behind(before, n);
        lines.insert((endpoint, subject), Last { n, turn });
        let (behind, due) = (before.map(|before| before.n), before.is_none().then_some(at.0));
        insert.execute(params![n, id, chain, seq, ordinal, endpoint, subject, kind, body, at.0, turn, behind, due])?;
    }
    for ((endpoint, subject), last) in lines {
        line::set_last(transaction, endpoint, subject, last.n)?;
    }
    Ok(())
}

/// Derives a message's id. The link stands for the chain, the record and all history, so another installation, or
/// this one after a rewind, does not use an id again; the rest lets `verify` see an edited message.
///
/// `parts` are the digests of endpoint, subject, kind and body.
pub(crate) fn message_id(link: &Digest, ordinal: u32, parts: [Digest; 4]) -> String {
    id_text(&Digest::of(&id_message(link, ordinal, parts)))
}

fn id_message(link: &Digest, ordinal: u32, parts: [Digest; 4]) -> [u8; ID_MESSAGE_BYTES] {
    let mut message = [0; ID_MESSAGE_BYTES];
    let (start, rest) = message.split_at_mut(ID_TAG.len() + 32 + 4);
    start[..ID_TAG.len()].copy_from_slice(ID_TAG);
    start[ID_TAG.len()..ID_TAG.len() + 32].copy_from_slice(&link.0);
    start[ID_TAG.len() + 32..].copy_from_slice(&ordinal.to_be_bytes());
    for (place, part) in rest.as_chunks_mut().0.iter_mut().zip(parts) {
        *place = part.0;
    }
    message
}

fn id_text(digest: &Digest) -> String {
    let mut id = String::with_capacity(36);
    id.push_str("msg_");
    for byte in &digest.0[..16] {
        for digit in [byte >> 4, byte & 15] {
            id.push(char::from(HEX_DIGITS[usize::from(digit)]));
        }
    }
    id
}
