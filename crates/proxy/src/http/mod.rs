//! HTTP/1.1 as it is on the wire, read strictly.
//!
//! Nothing that two readers could understand differently passes: a message is refused rather than repaired, because what
//! is repaired here may be read otherwise behind us.

pub(crate) mod body;
pub(crate) mod chunked;
pub(crate) mod field;
pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod rewrite;

pub(crate) use body::{Framing, Scan};
pub(crate) use field::{Field, Known};
pub(crate) use request::{Refusal, Request};
pub(crate) use response::Response;

/// Finds the end of a head: the bytes up to and with the empty line.
///
/// `scanned` is how much of `bytes` was looked at before; it is moved on, so that a head that arrives byte by byte is
/// looked at once. Errors: a line that ends in a bare line feed.
pub(crate) fn head_end(bytes: &[u8], scanned: &mut usize) -> Result<Option<usize>, BareLineFeed> {
    let mut at = *scanned;
    while let Some(found) = bytes[at..].iter().position(|byte| *byte == b'\n') {
        let feed = at + found;
        if feed == 0 || bytes[feed - 1] != b'\r' {
            return Err(BareLineFeed);
        }
        if feed >= 3 && bytes[feed - 3..=feed] == *b"\r\n\r\n" {
            *scanned = 0;
            return Ok(Some(feed + 1));
        }
        at = feed + 1;
    }
    *scanned = bytes.len();
    Ok(None)
}

/// A line of a head ended without a carriage return.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BareLineFeed;
