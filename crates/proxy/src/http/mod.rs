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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::rewrite::{Asker, Ending};
    use proptest::prelude::*;

    /// Pieces of which heads are made, good and bad, and single bytes between them.
    fn pieces(first: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
        let lines = [
            "Host: c\r\n",
            "Host: c\r\n",
            "X: y\r\n",
            "Content-Length: 5\r\n",
            "Content-Length: 0\r\n",
            "content-length:7\r\n",
            "Transfer-Encoding: chunked\r\n",
            "Connection: close, X\r\n",
            "Connection: keep-alive\r\n",
            "Cookie: a=b\r\n",
            "X-Forwarded-For: 1.2.3.4\r\n",
            "Forwarded: for=x\r\n",
            "TE: trailers\r\n",
            "Upgrade: websocket\r\n",
            "Connection: upgrade\r\n",
            "Sec-WebSocket-Version: 13\r\n",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            "Keep-Alive: 5\r\n",
            "X:\t y \t\r\n",
            " folded\r\n",
            "X: \u{e9}\r\n",
            "\r\n",
            "\n",
            "\r",
            ":",
            " ",
        ];
        let line = prop_oneof![
            20 => prop::sample::select(lines.to_vec()).prop_map(|line| line.as_bytes().to_vec()),
            1 => prop::collection::vec(any::<u8>(), 1..4),
        ];
        let first = prop_oneof![
            9 => prop::sample::select(first.to_vec()).prop_map(|first| first.as_bytes().to_vec()),
            1 => prop::collection::vec(any::<u8>(), 0..30),
        ];
        (first, prop::collection::vec(line, 0..8))
            .prop_map(|(first, lines)| [first, lines.concat(), b"\r\n".to_vec()].concat())
    }

    const ASKER: Asker =
        Asker { address: std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), secure: false, trusted: false };
    const REQUESTS: &[&str] =
        &["GET / HTTP/1.1\r\n", "POST /a?b HTTP/1.1\r\n", "GET /x HTTP/1.0\r\n", "GET http://c/y HTTP/1.1\r\n"];
    const ANSWERS: &[&str] =
        &["HTTP/1.1 200 OK\r\n", "HTTP/1.0 404 \r\n", "HTTP/1.1 101 Switching\r\n", "HTTP/1.1 204\r\n"];

    /// Finds a whole head at the start of `bytes`.
    fn head(bytes: &[u8]) -> Option<&[u8]> {
        let length = head_end(bytes, &mut 0).ok()??;
        Some(&bytes[..length])
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_096))]

        /// What is accepted is what another reader sees too, and what is sent on is accepted again with the same framing.
        #[test]
        fn requests_that_pass_are_read_alike_by_others(bytes in pieces(REQUESTS)) {
            let mut fields = Vec::new();
            let Some(head) = head(&bytes) else { return Ok(()) };
            let Ok(request) = Request::read(head, 100, &mut fields) else { return Ok(()) };
            let mut headers = [httparse::EMPTY_HEADER; 100];
            let mut other = httparse::Request::new(&mut headers);
            prop_assert_eq!(other.parse(head), Ok(httparse::Status::Complete(head.len())));
            prop_assert_eq!(other.headers.len(), fields.len());
            prop_assert_eq!(other.method.unwrap().as_bytes(), &head[request.method.clone()]);
            for (mine, theirs) in fields.iter().zip(other.headers.iter()) {
                prop_assert_eq!(&head[mine.name.clone()], theirs.name.as_bytes());
                prop_assert_eq!(&head[mine.value.clone()], theirs.value.trim_ascii());
            }
            let mut sent = Vec::new();
            rewrite::request(&mut sent, head, &request, &fields, ASKER);
            let again = Request::read(&sent, 200, &mut Vec::new());
            prop_assert_eq!(again.map(|again| (again.framing, again.upgrade)), Ok((request.framing, request.upgrade)), "{}", String::from_utf8_lossy(&sent));
        }

        /// The same for answers.
        #[test]
        fn answers_that_pass_are_read_alike_by_others(bytes in pieces(ANSWERS), to_head in any::<bool>()) {
            let mut fields = Vec::new();
            let Some(head) = head(&bytes) else { return Ok(()) };
            let Ok(response) = Response::read(head, to_head, 100, &mut fields) else { return Ok(()) };
            let mut headers = [httparse::EMPTY_HEADER; 100];
            let mut other = httparse::Response::new(&mut headers);
            prop_assert_eq!(other.parse(head), Ok(httparse::Status::Complete(head.len())));
            prop_assert_eq!((other.headers.len(), other.code), (fields.len(), Some(response.status)));
            let mut sent = Vec::new();
            rewrite::response(&mut sent, head, &response, &fields, Ending::Stays, b"");
            let again = Response::read(&sent, to_head, 200, &mut Vec::new());
            prop_assert_eq!(again.map(|again| (again.framing, again.status)), Ok((response.framing, response.status)), "{}", String::from_utf8_lossy(&sent));
        }
    }
}
