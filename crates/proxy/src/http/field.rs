//! The header fields of a head, and those that a proxy must know.

use std::ops::Range;

/// A header field that the proxy treats in its own way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// Passed on as it is.
    Other,
    Host,
    Connection,
    ContentLength,
    TransferEncoding,
    Te,
    Upgrade,
    /// Between two neighbours only, or meant for no proxy of today: never passed on.
    HopByHop,
    Cookie,
    Forwarded,
    ForwardedFor,
    ForwardedProto,
    ForwardedHost,
    WebSocketKey,
    WebSocketVersion,
    WebSocketAccept,
}

/// One field: where it stands in the head's bytes.
#[derive(Debug, Clone)]
pub(crate) struct Field {
    /// From the name's first byte to behind the line's end.
    pub(crate) line: Range<usize>,
    /// The name.
    pub(crate) name: Range<usize>,
    /// The value without the white space around it.
    pub(crate) value: Range<usize>,
    /// Which one it is.
    pub(crate) known: Known,
}

/// Why a field can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bad {
    /// Not as the grammar says.
    Malformed(&'static str),
    /// More than allowed.
    TooMany,
}

/// Classes of bytes: 1 may stand in a token, 2 in a value.
const CLASS: [u8; 256] = {
    let mut class = [0_u8; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        let token = b.is_ascii_alphanumeric()
            || matches!(
                b,
                b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
            );
        let value = b == b'\t' || (b >= b' ' && b != 0x7f);
        class[byte] = token as u8 | (value as u8) << 1;
        byte += 1;
    }
    class
};

/// Tells whether all of `bytes` may stand in a token, and there is one.
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| CLASS[usize::from(*byte)] & 1 != 0)
}

/// Reads the fields of `head` from `at` (behind the first line) to the empty line that ends it.
///
/// `head` ends in an empty line, and each of its line feeds has a carriage return before it.
pub(crate) fn read(head: &[u8], mut at: usize, most: usize, fields: &mut Vec<Field>) -> Result<(), Bad> {
    fields.clear();
    while head.get(at..at + 2) != Some(b"\r\n") {
        if fields.len() == most {
            return Err(Bad::TooMany);
        }
        let name = at;
        while head.get(at).is_some_and(|byte| CLASS[usize::from(*byte)] & 1 != 0) {
            at += 1;
        }
        if at == name || head.get(at) != Some(&b':') {
            return Err(Bad::Malformed(match head.get(name) {
                Some(b' ' | b'\t') => "a header is folded over two lines",
                _ => "a header's name is no token with a colon right behind it",
            }));
        }
        let name = name..at;
        at += 1;
        let value = at;
        while head.get(at).is_some_and(|byte| CLASS[usize::from(*byte)] & 2 != 0) {
            at += 1;
        }
        if head.get(at..at + 2) != Some(b"\r\n") {
            return Err(Bad::Malformed("a header's value has a control character"));
        }
        let value = trim(head, value..at);
        at += 2;
        let known = known(&head[name.clone()]);
        fields.push(Field { line: name.start..at, name, value, known });
    }
    Ok(())
}

/// Shortens a range by the white space at both of its ends.
fn trim(bytes: &[u8], mut range: Range<usize>) -> Range<usize> {
    let blank = |at: usize| matches!(bytes[at], b' ' | b'\t');
    while range.start < range.end && blank(range.start) {
        range.start += 1;
    }
    while range.start < range.end && blank(range.end - 1) {
        range.end -= 1;
    }
    range
}

/// Tells which field a name means, in any case.
pub(crate) fn known(name: &[u8]) -> Known {
    let is = |wanted: &str| name.eq_ignore_ascii_case(wanted.as_bytes());
    match name.len() {
        2 if is("te") => Known::Te,
        4 if is("host") => Known::Host,
        5 if is("proxy") => Known::HopByHop,
        6 if is("cookie") => Known::Cookie,
        7 if is("upgrade") => Known::Upgrade,
        9 if is("forwarded") => Known::Forwarded,
        10 if is("connection") => Known::Connection,
        10 if is("keep-alive") => Known::HopByHop,
        14 if is("content-length") => Known::ContentLength,
        14 if is("http2-settings") => Known::HopByHop,
        15 if is("x-forwarded-for") => Known::ForwardedFor,
        16 if is("x-forwarded-host") => Known::ForwardedHost,
        16 if is("proxy-connection") => Known::HopByHop,
        17 if is("transfer-encoding") => Known::TransferEncoding,
        17 if is("x-forwarded-proto") => Known::ForwardedProto,
        17 if is("sec-websocket-key") => Known::WebSocketKey,
        18 if is("proxy-authenticate") => Known::HopByHop,
        19 if is("proxy-authorization") => Known::HopByHop,
        20 if is("sec-websocket-accept") => Known::WebSocketAccept,
        21 if is("sec-websocket-version") => Known::WebSocketVersion,
        _ => Known::Other,
    }
}

/// Lists the parts of a comma-separated value, without empty ones.
pub(crate) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|part| !part.is_empty())
}

/// Reads a Content-Length: digits only, at most 18 of them.
pub(crate) fn length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(value.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}
