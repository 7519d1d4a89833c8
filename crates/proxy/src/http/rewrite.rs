//! Heads as they are sent on: hop-by-hop fields left out, ours added, all else byte by byte as it came.

use super::{Field, Framing, Known, Request, Response, field, request::Upgrade};
use std::{io::Write as _, net::IpAddr};

/// Who asks, as the service is told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker {
    /// The client's address, or that of the proxy before us.
    pub(crate) address: IpAddr,
    /// It came over TLS.
    pub(crate) secure: bool,
    /// It is a proxy whose X-Forwarded-Proto and X-Forwarded-Host are believed.
    pub(crate) trusted: bool,
}

/// Writes a request's head for the service.
pub(crate) fn request(out: &mut Vec<u8>, head: &[u8], request: &Request, fields: &[Field], asker: Asker) {
    out.extend(&head[request.method.clone()]);
    out.push(b' ');
    out.extend(&head[request.target.clone()]);
    out.extend(b" HTTP/1.1\r\n");
    let named = names(head, fields, request.names_fields);
    let (mut seen, mut has_host) = (Seen::default(), false);
    copy(out, head, fields, |field| match field.known {
        Known::Host => {
            has_host = true;
            true
        }
        Known::ForwardedFor => {
            seen.for_address = true;
            false
        }
        Known::Forwarded => {
            seen.forwarded = true;
            false
        }
        Known::ForwardedProto | Known::ForwardedHost if asker.trusted => {
            seen.proto |= field.known == Known::ForwardedProto;
            seen.host |= field.known == Known::ForwardedHost;
            true
        }
        _ => passes(head, field, &named),
    });
    if !has_host {
        out.extend(b"Host: \r\n");
    }
    forwarded(out, head, fields, &seen, asker);
    match &request.framing {
        Framing::Chunked(_) => out.extend(b"Transfer-Encoding: chunked\r\n"),
        Framing::Length(length) => number(out, b"Content-Length: ", *length),
        // A body of no bytes is told as such where the client did.
        _ if fields.iter().any(|field| field.known == Known::ContentLength) => out.extend(b"Content-Length: 0\r\n"),
        _ => {}
    }
    match (request.upgrade, request.trailers) {
        (Upgrade::WebSocket, _) => out.extend(b"Connection: Upgrade\r\nUpgrade: websocket\r\n"),
        (Upgrade::None, true) => out.extend(b"Connection: TE\r\nTE: trailers\r\n"),
        (Upgrade::None, false) => {}
    }
    out.extend(b"\r\n");
}

/// How an answer is framed to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// As the service framed it; the connection goes on.
    Stays,
    /// As the service framed it; the connection is closed.
    Closes,
}

/// Writes an answer's head for the client; `cookie` is a whole header line or empty.
pub(crate) fn response(
    out: &mut Vec<u8>,
    head: &[u8],
    response: &Response,
    fields: &[Field],
    ending: Ending,
    cookie: &[u8],
) {
    out.extend(b"HTTP/1.1 ");
    number_of_three(out, response.status);
    out.extend(if response.reason.is_empty() { &b" "[..] } else { &head[response.reason.clone()] });
    out.extend(b"\r\n");
    let named = names(head, fields, response.names_fields);
    copy(out, head, fields, |field| field.known == Known::ContentLength || passes(head, field, &named));
    out.extend(cookie);
    if let Framing::Chunked(chunked) = &response.framing
        && !chunked.is_bare()
    {
        out.extend(b"Transfer-Encoding: chunked\r\n");
    }
    if response.to_websocket {
        out.extend(b"Connection: Upgrade\r\nUpgrade: websocket\r\n");
    } else if ending == Ending::Closes && response.status >= 200 {
        out.extend(b"Connection: close\r\n");
    }
    out.extend(b"\r\n");
}

/// Which forwarding headers a request brought.
#[derive(Default)]
struct Seen {
    for_address: bool,
    forwarded: bool,
    proto: bool,
    host: bool,
}

fn forwarded(out: &mut Vec<u8>, head: &[u8], fields: &[Field], seen: &Seen, asker: Asker) {
    // Writing into memory can't fail.
    let before = |out: &mut Vec<u8>, known| {
        for field in fields.iter().filter(|field| field.known == known && !field.value.is_empty()) {
            out.extend(&head[field.value.clone()]);
            out.extend(b", ");
        }
    };
    out.extend(b"X-Forwarded-For: ");
    if seen.for_address {
        before(out, Known::ForwardedFor);
    }
    let _ = write!(out, "{}\r\n", asker.address);
    if !seen.proto {
        out.extend(b"X-Forwarded-Proto: http");
        out.extend(if asker.secure { &b"s\r\n"[..] } else { b"\r\n" });
    }
    if !seen.host
        && let Some(host) = fields.iter().find(|field| field.known == Known::Host)
    {
        out.extend(b"X-Forwarded-Host: ");
        out.extend(&head[host.value.clone()]);
        out.extend(b"\r\n");
    }
    if seen.forwarded {
        out.extend(b"Forwarded: ");
        before(out, Known::Forwarded);
        let scheme = if asker.secure { "https" } else { "http" };
        let _ = match asker.address {
            IpAddr::V4(address) => write!(out, "for={address};proto={scheme}\r\n"),
            IpAddr::V6(address) => write!(out, "for=\"[{address}]\";proto={scheme}\r\n"),
        };
    }
}

/// Lists the fields that a Connection header names.
pub(crate) fn names<'a>(head: &'a [u8], fields: &[Field], any: bool) -> Vec<&'a [u8]> {
    if !any {
        return Vec::new();
    }
    let connection = fields.iter().filter(|field| field.known == Known::Connection);
    connection.flat_map(|field| field::list(&head[field.value.clone()])).collect()
}

/// Tells whether a field is passed on, forwarding headers and lengths apart.
pub(crate) fn passes(head: &[u8], field: &Field, named: &[&[u8]]) -> bool {
    match field.known {
        Known::Other => {
            let name = &head[field.name.clone()];
            !named.iter().any(|named| name.eq_ignore_ascii_case(named))
        }
        Known::Cookie | Known::WebSocketKey | Known::WebSocketVersion | Known::WebSocketAccept | Known::Host => true,
        _ => false,
    }
}

/// Copies the lines of the fields that `wanted` keeps, neighbours at once.
fn copy(out: &mut Vec<u8>, head: &[u8], fields: &[Field], mut wanted: impl FnMut(&Field) -> bool) {
    let mut run = 0..0;
    for field in fields {
        if !wanted(field) {
            out.extend(&head[run.clone()]);
            run = field.line.end..field.line.end;
        } else if run.end == field.line.start {
            run.end = field.line.end;
        } else {
            out.extend(&head[run.clone()]);
            run = field.line.clone();
        }
    }
    out.extend(&head[run]);
}

fn number(out: &mut Vec<u8>, name: &[u8], number: u64) {
    out.extend(name);
    // Writing into memory can't fail.
    let _ = write!(out, "{number}\r\n");
}

fn number_of_three(out: &mut Vec<u8>, status: u16) {
    let digit = |number: u16| b'0' + u8::try_from(number % 10).unwrap_or(0);
    out.extend([digit(status / 100), digit(status / 10), digit(status)]);
}
