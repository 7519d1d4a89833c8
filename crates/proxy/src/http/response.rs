//! The head of a service's answer, read and judged.

use super::{
    Field, Framing, Known,
    field::{self, Bad},
};
use std::ops::Range;

/// Why an answer can't be passed on; the client gets 502 and the connection to the service is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadAnswer(pub(crate) &'static str);

/// An answer's head: ranges into its bytes, and what follows from them.
#[derive(Debug)]
pub(crate) struct Response {
    /// 100 to 999.
    pub(crate) status: u16,
    /// The reason phrase, with the space before it.
    pub(crate) reason: Range<usize>,
    pub(crate) framing: Framing,
    /// The service closes the connection after it.
    pub(crate) last: bool,
    /// A Connection header names fields beyond the usual.
    pub(crate) names_fields: bool,
    /// It switches to WebSocket.
    pub(crate) to_websocket: bool,
}

impl Response {
    /// Reads `head`, the answer to a request that was (not) HEAD; the fields go to `fields`, at most `most`.
    pub(crate) fn read(head: &[u8], to_head: bool, most: usize, fields: &mut Vec<Field>) -> Result<Self, BadAnswer> {
        let end = head.iter().position(|byte| *byte == b'\r').ok_or(BadAnswer("there is no status line"))?;
        let line = &head[..end];
        let minor = match line.get(..9) {
            Some(b"HTTP/1.1 ") => 1,
            Some(b"HTTP/1.0 ") => 0,
            _ => return Err(BadAnswer("it does not start with HTTP/1")),
        };
        let digits = line.get(9..12).filter(|digits| digits.iter().all(u8::is_ascii_digit));
        let digits = digits.ok_or(BadAnswer("its status is no number"))?;
        let status = digits.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
        let plain = |byte: &u8| *byte == b'\t' || *byte >= b' ' && *byte != 0x7f;
        let reason = 12..end;
        let rest = &line[reason.clone()];
        if status < 100 || !(rest.is_empty() || rest[0] == b' ') || !rest.iter().all(plain) {
            return Err(BadAnswer("its status line is malformed"));
        }
        if head.get(end + 1) != Some(&b'\n') {
            return Err(BadAnswer("a carriage return stands alone"));
        }
        field::read(head, end + 2, most, fields).map_err(|bad| match bad {
            Bad::Malformed(why) => BadAnswer(why),
            Bad::TooMany => BadAnswer("it has too many headers"),
        })?;
        Self::judge(head, status, reason, minor, to_head, fields)
    }

    fn judge(
        head: &[u8],
        status: u16,
        reason: Range<usize>,
        minor: u8,
        to_head: bool,
        fields: &[Field],
    ) -> Result<Self, BadAnswer> {
        let (mut length, mut coding) = (None, None);
        let (mut last, mut keeps, mut names_fields, mut upgrades, mut websocket) = (false, false, false, false, false);
        for field in fields {
            let value = &head[field.value.clone()];
            match field.known {
                Known::ContentLength => {
                    let read = field::length(value).ok_or(BadAnswer("its Content-Length is no number"))?;
                    if length.replace(read).is_some() {
                        return Err(BadAnswer("it has two Content-Length headers"));
                    }
                }
                Known::TransferEncoding if !value.eq_ignore_ascii_case(b"chunked") || coding.is_some() => {
                    return Err(BadAnswer("its Transfer-Encoding is not chunked"));
                }
                Known::TransferEncoding => coding = Some(()),
                Known::Connection => {
                    for name in field::list(value) {
                        match name {
                            _ if name.eq_ignore_ascii_case(b"close") => last = true,
                            _ if name.eq_ignore_ascii_case(b"keep-alive") => keeps = true,
                            _ if name.eq_ignore_ascii_case(b"upgrade") => upgrades = true,
                            _ => names_fields |= field::known(name) == Known::Other,
                        }
                    }
                }
                Known::Upgrade => websocket |= value.eq_ignore_ascii_case(b"websocket"),
                _ => {}
            }
        }
        if length.is_some() && coding.is_some() {
            return Err(BadAnswer("it has both a Content-Length and a Transfer-Encoding"));
        }
        let has_none = to_head || status < 200 || status == 204 || status == 304;
        let framing = match (length, coding) {
            _ if has_none => Framing::None,
            (_, Some(())) => Framing::chunked(),
            (Some(length), _) => Framing::Length(length),
            (None, None) => Framing::Close,
        };
        let last = last || minor == 0 && !keeps || framing == Framing::Close;
        let to_websocket = status == 101 && upgrades && websocket;
        Ok(Self { status, reason, framing, last, names_fields, to_websocket })
    }
}
