//! A request's head, read and judged.

use super::{
    Field, Framing, Known,
    field::{self, Bad},
};
use std::ops::Range;

/// Why a request is refused, with the answer it gets; the connection is closed after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The answer's status.
    pub(crate) status: u16,
    /// What is wrong, in the answer's body.
    pub(crate) why: &'static str,
}

const fn bad(why: &'static str) -> Refusal {
    Refusal { status: 400, why }
}

/// The longest target; longer ones get 414.
const TARGET_MAX: usize = 8 << 10;

/// What a client wants its connection to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Upgrade {
    None,
    WebSocket,
}

/// A request's head: ranges into its bytes, and what follows from them.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: Range<usize>,
    /// In origin form: `/path?query`, or `*`.
    pub(crate) target: Range<usize>,
    /// 0 or 1, of HTTP/1.
    pub(crate) minor: u8,
    pub(crate) framing: Framing,
    pub(crate) upgrade: Upgrade,
    /// The client closes the connection after the answer, or must see it closed.
    pub(crate) last: bool,
    /// The client understands trailers.
    pub(crate) trailers: bool,
    /// A Connection header names fields beyond the usual.
    pub(crate) names_fields: bool,
}

impl Request {
    /// Reads `head`, which ends in an empty line; the fields go to `fields`, at most `most`.
    ///
    /// Errors: [`Refusal`] for whatever is wrong or could be read in two ways.
    pub(crate) fn read(head: &[u8], most: usize, fields: &mut Vec<Field>) -> Result<Self, Refusal> {
        let (method, target, minor, behind) = first_line(head)?;
        field::read(head, behind, most, fields).map_err(|bad_field| match bad_field {
            Bad::Malformed(why) => bad(why),
            Bad::TooMany => Refusal { status: 431, why: "there are too many headers" },
        })?;
        let mut request = Self {
            method,
            target,
            minor,
            framing: Framing::None,
            upgrade: Upgrade::None,
            last: minor == 0,
            trailers: false,
            names_fields: false,
        };
        request.judge(head, fields)?;
        Ok(request)
    }

    fn judge(&mut self, head: &[u8], fields: &[Field]) -> Result<(), Refusal> {
        let (mut host, mut length, mut coding, mut upgrade, mut key, mut version) =
            (None, None, None, None, None, None);
        let mut asks_upgrade = false;
        for field in fields {
            let value = &head[field.value.clone()];
            let once = |slot: &mut Option<Range<usize>>, why| match slot.replace(field.value.clone()) {
                Some(_) => Err(bad(why)),
                None => Ok(()),
            };
            match field.known {
                Known::Host => once(&mut host, "there are two Host headers")?,
                Known::ContentLength => once(&mut length, "there are two Content-Length headers")?,
                Known::TransferEncoding => once(&mut coding, "there are two Transfer-Encoding headers")?,
                Known::Upgrade => once(&mut upgrade, "there are two Upgrade headers")?,
                Known::WebSocketKey => once(&mut key, "there are two Sec-WebSocket-Key headers")?,
                Known::WebSocketVersion => once(&mut version, "there are two Sec-WebSocket-Version headers")?,
                Known::Connection => asks_upgrade |= self.connection(value)?,
                Known::Te => self.trailers |= field::list(value).any(|part| part.eq_ignore_ascii_case(b"trailers")),
                Known::Other if head[field.name.clone()].contains(&b'_') => look_alike(&head[field.name.clone()])?,
                _ => {}
            }
        }
        self.host(head, host)?;
        self.framing = framing(head, length, coding, self.minor)?;
        self.upgrade = self.upgrade(head, upgrade, asks_upgrade, key, version)?;
        Ok(())
    }

    /// Reads one Connection header; tells whether it names `upgrade`.
    fn connection(&mut self, value: &[u8]) -> Result<bool, Refusal> {
        let mut asks_upgrade = false;
        for name in field::list(value) {
            if name.eq_ignore_ascii_case(b"close") {
                self.last = true;
            } else if name.eq_ignore_ascii_case(b"upgrade") {
                asks_upgrade = true;
            } else if !name.eq_ignore_ascii_case(b"keep-alive") {
                match field::known(name) {
                    Known::HopByHop | Known::Te => {}
                    // Leaving these out would change what the request means to the service.
                    Known::Other if !protected(name) => {
                        if !field::is_token(name) {
                            return Err(bad("a Connection header names no token"));
                        }
                        self.names_fields = true;
                    }
                    _ => return Err(bad("a Connection header names a field that must reach the service")),
                }
            }
        }
        Ok(asks_upgrade)
    }

    /// Checks the Host, and brings a target in absolute form into origin form.
    fn host(&mut self, head: &[u8], host: Option<Range<usize>>) -> Result<(), Refusal> {
        let host = host.map(|range| &head[range]);
        if host.is_none() && self.minor == 1 {
            return Err(bad("there is no Host header"));
        }
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~:[]%!$&'()*+,;=".contains(byte);
        if host.is_some_and(|host| !host.iter().all(plain)) {
            return Err(bad("the Host header is no host"));
        }
        let target = &head[self.target.clone()];
        if target[0] == b'/' || (target == b"*" && head[self.method.clone()] == *b"OPTIONS") {
            return Ok(());
        }
        let scheme = [&b"http://"[..], b"https://"]
            .into_iter()
            .find(|scheme| target.len() > scheme.len() && target[..scheme.len()].eq_ignore_ascii_case(scheme))
            .ok_or(bad("the target is neither a path nor an absolute http address"))?;
        let rest = &target[scheme.len()..];
        let slash = rest.iter().position(|byte| *byte == b'/').ok_or(bad("an absolute target needs a path"))?;
        if !host.is_some_and(|host| host.eq_ignore_ascii_case(&rest[..slash])) {
            return Err(bad("the target and the Host header name different hosts"));
        }
        self.target.start += scheme.len() + slash;
        Ok(())
    }

    fn upgrade(
        &self,
        head: &[u8],
        upgrade: Option<Range<usize>>,
        asked: bool,
        key: Option<Range<usize>>,
        version: Option<Range<usize>>,
    ) -> Result<Upgrade, Refusal> {
        let Some(upgrade) = upgrade else { return Ok(Upgrade::None) };
        if !asked {
            return Err(bad("an Upgrade header needs Connection: upgrade"));
        }
        let wants =
            |protocol: &[u8]| field::list(&head[upgrade.clone()]).any(|part| part.eq_ignore_ascii_case(protocol));
        if wants(b"h2c") {
            return Err(bad("an upgrade to h2c is not offered; speak HTTP/2 from the first byte"));
        }
        if !head[upgrade.clone()].eq_ignore_ascii_case(b"websocket") {
            // A server may ignore a wish for another protocol; the headers that wish it are not passed on.
            return Ok(Upgrade::None);
        }
        if head[self.method.clone()] != *b"GET" || self.minor == 0 || self.framing != Framing::None {
            return Err(bad("a WebSocket starts with GET, HTTP/1.1 and no body"));
        }
        if version.is_none_or(|version| head[version] != *b"13") {
            return Err(Refusal { status: 426, why: "the WebSocket version is not 13" });
        }
        let key = key.ok_or(bad("a WebSocket needs a Sec-WebSocket-Key"))?;
        if !crate::websocket::is_key(&head[key]) {
            return Err(bad("the Sec-WebSocket-Key is not 16 bytes in base64"));
        }
        Ok(Upgrade::WebSocket)
    }

    /// Gives the key that a WebSocket's answer must fit.
    pub(crate) fn websocket_key<'a>(head: &'a [u8], fields: &[Field]) -> &'a [u8] {
        let key = fields.iter().find(|field| field.known == Known::WebSocketKey);
        key.map(|field| &head[field.value.clone()]).unwrap_or_default()
    }
}

type FirstLine = (Range<usize>, Range<usize>, u8, usize);

fn first_line(head: &[u8]) -> Result<FirstLine, Refusal> {
    let end = head.iter().position(|byte| *byte == b'\r').ok_or(bad("there is no request line"))?;
    if head.get(end + 1) != Some(&b'\n') {
        return Err(bad("a carriage return stands alone"));
    }
    let line = &head[..end];
    let method = line.iter().position(|byte| *byte == b' ').ok_or(bad("the request line has no target"))?;
    if !field::is_token(&line[..method]) || method > 32 {
        return Err(bad("the method is no token"));
    }
    let rest = &line[method + 1..];
    let target = rest.iter().position(|byte| *byte == b' ').ok_or(bad("the request line has no version"))?;
    let version = &rest[target + 1..];
    let minor = match version {
        b"HTTP/1.1" => 1,
        b"HTTP/1.0" => 0,
        _ if version.len() == 8 && version.starts_with(b"HTTP/") => {
            return Err(Refusal { status: 505, why: "the version is neither HTTP/1.1 nor HTTP/1.0" });
        }
        _ => return Err(bad("the request line does not end in a version")),
    };
    if target == 0 || !rest[..target].iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#') {
        return Err(bad("the target is empty or has characters that must be encoded"));
    }
    if target > TARGET_MAX {
        return Err(Refusal { status: 414, why: "the target is longer than 8 KiB" });
    }
    if line[..method] == *b"CONNECT" {
        return Err(Refusal { status: 405, why: "this is no forward proxy" });
    }
    let start = method + 1;
    Ok((0..method, start..start + target, minor, end + 2))
}

fn framing(
    head: &[u8],
    length: Option<Range<usize>>,
    coding: Option<Range<usize>>,
    minor: u8,
) -> Result<Framing, Refusal> {
    match (length, coding) {
        (None, None) => Ok(Framing::None),
        (Some(_), Some(_)) => Err(bad("there are both a Content-Length and a Transfer-Encoding")),
        (Some(length), None) => match field::length(&head[length]) {
            Some(0) => Ok(Framing::None),
            Some(length) => Ok(Framing::Length(length)),
            None => Err(bad("the Content-Length is no number")),
        },
        (None, Some(_)) if minor == 0 => Err(bad("HTTP/1.0 has no Transfer-Encoding")),
        (None, Some(coding)) if head[coding.clone()].eq_ignore_ascii_case(b"chunked") => Ok(Framing::chunked()),
        (None, Some(coding)) => {
            let last = field::list(&head[coding]).last();
            match last.is_some_and(|last| last.eq_ignore_ascii_case(b"chunked")) {
                true => Err(Refusal { status: 501, why: "no Transfer-Encoding but chunked is known" }),
                false => Err(bad("the Transfer-Encoding is not chunked at last")),
            }
        }
    }
}

/// Refuses names that some services read as a framing or forwarding header, because `_` and `-` are the same to them.
fn look_alike(name: &[u8]) -> Result<(), Refusal> {
    let mut dashed = [0_u8; 32];
    let Some(dashed) = dashed.get_mut(..name.len()) else { return Ok(()) };
    dashed.copy_from_slice(name);
    dashed.iter_mut().filter(|byte| **byte == b'_').for_each(|byte| *byte = b'-');
    match field::known(dashed) {
        Known::Other => Ok(()),
        _ => Err(bad("a header's name has _ where its namesake has -")),
    }
}

/// Fields that a client must not have removed by naming them in Connection.
fn protected(name: &[u8]) -> bool {
    let names: [&[u8]; 5] = [b"authorization", b"content-type", b"content-encoding", b"origin", b"trailer"];
    names.iter().any(|protected| name.eq_ignore_ascii_case(protected))
}
