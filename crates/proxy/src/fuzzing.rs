//! Fuzz targets for the proxy's own readers; see `cargo xtask fuzz`. Not a part of what is shipped.
//!
//! Each takes any bytes and panics if what it promises does not hold.
#![expect(clippy::unwrap_used, reason = "what can't be unwrapped is what the fuzzer looks for")]

use crate::{
    Settings,
    http::{
        Request, Response,
        chunked::Chunked,
        head_end,
        rewrite::{self, Asker, Ending},
    },
    route::identity::{Identity, cookie},
    settings::{Network, Sticky},
    websocket::frames::{self, Frames},
};
use lastgood_domain::traffic::{
    Table,
    wire::{Ask, Told},
};
use std::net::{IpAddr, Ipv4Addr};

/// A target: its name, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// Every target of this crate.
pub const TARGETS: &[Target] = &[
    ("request_head", request_head),
    ("response_head", response_head),
    ("chunked", chunked),
    ("websocket_frames", websocket_frames),
    ("cookies", cookies),
    ("control_line", control_line),
    ("traffic_table", traffic_table),
    ("proxy_settings", proxy_settings),
    ("network", network),
];

const ASKER: Asker = Asker { address: IpAddr::V4(Ipv4Addr::LOCALHOST), secure: false, trusted: false };

/// Finds the head at the start of `bytes`, and makes sure that it is found alike however the bytes arrive.
fn head(bytes: &[u8]) -> Option<&[u8]> {
    let whole = head_end(bytes, &mut 0);
    let mut scanned = 0;
    let pieces = (1..=bytes.len()).find_map(|end| head_end(&bytes[..end], &mut scanned).transpose());
    assert_eq!(pieces.transpose(), whole, "the end of the head depends on how its bytes arrive");
    whole.ok()?.map(|end| &bytes[..end])
}

/// A request that passes is read alike by another reader, and what is sent on is framed once and as it was.
pub fn request_head(bytes: &[u8]) {
    let Some(head) = head(bytes) else { return };
    let mut fields = Vec::new();
    let Ok(request) = Request::read(head, 100, &mut fields) else { return };
    let mut headers = [httparse::EMPTY_HEADER; 100];
    let mut other = httparse::Request::new(&mut headers);
    assert_eq!(other.parse(head), Ok(httparse::Status::Complete(head.len())));
    assert_eq!(other.method.unwrap().as_bytes(), &head[request.method.clone()]);
    assert!(other.path.unwrap().as_bytes().ends_with(&head[request.target.clone()]));
    assert_eq!(other.version, Some(request.minor));
    assert_eq!(other.headers.len(), fields.len());
    for (mine, theirs) in fields.iter().zip(other.headers.iter()) {
        assert_eq!(&head[mine.name.clone()], theirs.name.as_bytes());
        assert_eq!(&head[mine.value.clone()], theirs.value.trim_ascii());
    }
    let mut sent = Vec::new();
    rewrite::request(&mut sent, head, &request, &fields, ASKER);
    let mut again_fields = Vec::new();
    let again = Request::read(&sent, 200, &mut again_fields).unwrap();
    assert_eq!((&again.framing, again.upgrade), (&request.framing, request.upgrade));
    assert_eq!(head_end(&sent, &mut 0), Ok(Some(sent.len())), "what is sent on is more than one head");
    let mut headers = [httparse::EMPTY_HEADER; 200];
    let mut other = httparse::Request::new(&mut headers);
    assert_eq!(other.parse(&sent), Ok(httparse::Status::Complete(sent.len())));
    let framing = |one: &&httparse::Header<'_>| {
        ["content-length", "transfer-encoding"].iter().any(|name| one.name.replace('_', "-").eq_ignore_ascii_case(name))
    };
    assert!(other.headers.iter().filter(framing).count() <= 1, "what is sent on is framed twice");
}

/// The same for an answer, to HEAD and to another method.
pub fn response_head(bytes: &[u8]) {
    let Some(head) = head(bytes) else { return };
    for to_head in [false, true] {
        let mut fields = Vec::new();
        let Ok(response) = Response::read(head, to_head, 100, &mut fields) else { return };
        let mut headers = [httparse::EMPTY_HEADER; 100];
        let mut other = httparse::Response::new(&mut headers);
        assert_eq!(other.parse(head), Ok(httparse::Status::Complete(head.len())));
        assert_eq!((other.headers.len(), other.code), (fields.len(), Some(response.status)));
        for ending in [Ending::Stays, Ending::Closes] {
            let mut sent = Vec::new();
            rewrite::response(&mut sent, head, &response, &fields, ending, b"Set-Cookie: lastgood=1\r\n");
            assert_eq!(head_end(&sent, &mut 0), Ok(Some(sent.len())), "what is sent on is more than one head");
            let again = Response::read(&sent, to_head, 200, &mut Vec::new()).unwrap();
            assert_eq!((again.framing, again.status), (response.framing.clone(), response.status));
        }
    }
}

/// Follows a body in pieces of `cut` bytes; gives what was passed on, how much was read, and whether it has ended.
fn follow(mut chunked: Chunked, bytes: &[u8], cut: usize) -> Result<(Vec<u8>, usize, bool), &'static str> {
    let (mut passed, mut at) = (Vec::new(), 0);
    for piece in bytes.chunks(cut) {
        let mut rest = piece;
        while !rest.is_empty() && !chunked.is_over() {
            let scan = chunked.scan(rest)?;
            assert!(scan.pass + scan.skip > 0, "it stands still");
            passed.extend(&rest[..scan.pass]);
            at += scan.pass + scan.skip;
            rest = &rest[scan.pass + scan.skip..];
        }
    }
    Ok((passed, at, chunked.is_over()))
}

/// Reads a whole chunked body as plainly as can be; `None` for anything but the standard's form without extensions.
fn plainly(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut contents = Vec::new();
    loop {
        let line = rest.windows(2).position(|pair| pair == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).ok()?, 16).ok()?;
        rest = &rest[line + 2..];
        if size == 0 {
            return Some(contents);
        }
        contents.extend(rest.get(..size)?);
        rest = rest.get(size..)?.strip_prefix(b"\r\n")?;
    }
}

/// A chunked body is judged alike however it arrives; what is passed on is a plain one with the same contents.
pub fn chunked(bytes: &[u8]) {
    let whole = follow(Chunked::new(), bytes, bytes.len().max(1));
    for cut in [1, 2, 3, 7] {
        assert_eq!(follow(Chunked::new(), bytes, cut), whole, "in pieces of {cut}");
    }
    let bare = follow(Chunked::bare(), bytes, bytes.len().max(1));
    assert_eq!(follow(Chunked::bare(), bytes, 1), bare);
    assert_eq!(bare.as_ref().map(|(_, at, over)| (*at, *over)), whole.as_ref().map(|(_, at, over)| (*at, *over)));
    if let (Ok((passed, _, true)), Ok((contents, _, _))) = (&whole, &bare) {
        assert_eq!(plainly(passed).as_ref(), Some(contents), "others read what is passed on otherwise");
        assert_eq!(follow(Chunked::new(), passed, 5), Ok((passed.clone(), passed.len(), true)));
    }
}

/// Gives the ends of the frames in `bytes` as another reader sees them, up to the first Close.
fn ends(bytes: &[u8]) -> Vec<usize> {
    let mut cursor = std::io::Cursor::new(bytes);
    let mut ends = Vec::new();
    while let Ok(Some((header, length))) = tungstenite::protocol::frame::FrameHeader::parse(&mut cursor) {
        let end = cursor.position().saturating_add(length);
        if end > bytes.len() as u64 {
            break;
        }
        cursor.set_position(end);
        ends.push(end as usize);
        use tungstenite::protocol::frame::coding::{Control, OpCode};
        if header.opcode == OpCode::Control(Control::Close) {
            break;
        }
    }
    ends
}

/// Frames end where another reader sees them end, however they arrive, and a Close put there is read as one.
pub fn websocket_frames(bytes: &[u8]) {
    let mut found = Vec::new();
    for cut in [bytes.len().max(1), 1, 3] {
        let (mut frames, mut at, mut here) = (Frames::default(), 0, Vec::new());
        for piece in bytes.chunks(cut) {
            let mut rest = piece;
            while !rest.is_empty() && frames.close_code().is_none() {
                let run = frames.follow_until(rest, |_| true);
                assert!(run > 0, "it stands still");
                at += run;
                rest = &rest[run..];
                if frames.is_between() {
                    here.push((at, frames.is_between_messages(), frames.close_code()));
                    if frames.close_code().is_none() {
                        let (mut then, close) = (frames.clone(), frames::close(1012, "moving"));
                        assert_eq!(then.follow_until(&close, |_| false), close.len());
                        assert_eq!(then.close_code(), Some(1012));
                    }
                }
            }
        }
        match found.is_empty() {
            true => found = here,
            false => assert_eq!(here, found, "in pieces of {cut}"),
        }
    }
    let mine: Vec<usize> = found.iter().map(|(at, _, _)| *at).collect();
    let theirs = ends(bytes);
    // The other reader stops where a frame has a reserved opcode; up to there both must agree.
    assert!(mine.starts_with(&theirs), "{mine:?} and {theirs:?}");
}

/// A person's id is one of the cookies that were sent, short, and only then taken when it could be ours.
pub fn cookies(bytes: &[u8]) {
    let sticky =
        Sticky { header: Some("x-user".into()), cookie: Some("session".into()), own_cookie: "lastgood".into() };
    let values = || bytes.split(|byte| *byte == b'\n');
    match Identity::find(&sticky, None, values()) {
        Identity::Brought(id) => {
            assert!(!id.is_empty() && id.len() <= 256);
            let named = |name: &[u8]| values().find_map(|value| cookie(value, name));
            let service = named(b"session");
            assert!(service.is_some_and(|value| value.starts_with(id)) || named(b"lastgood") == Some(id));
            assert!(!id.contains(&b';'));
        }
        given @ Identity::Given(_) => {
            assert!(values().all(|value| cookie(value, b"session").is_none()));
            // Sent back by a browser it is the same person.
            let line = given.set_cookie(&sticky, true);
            let value = line.strip_prefix(b"Set-Cookie: ").unwrap();
            let back = Identity::find(&sticky, None, [value].into_iter());
            assert_eq!(back.bytes(), given.bytes());
        }
    }
}

/// What is said at the control socket means the same when it is said again.
pub fn control_line(bytes: &[u8]) {
    if let Ok(ask) = serde_json::from_slice::<Ask>(bytes) {
        let line = serde_json::to_vec(&ask).unwrap();
        assert!(!line.contains(&b'\n'), "a document has more than one line");
        assert_eq!(serde_json::from_slice::<Ask>(&line).unwrap(), ask);
    }
    if let Ok(told) = serde_json::from_slice::<Told>(bytes) {
        let line = serde_json::to_vec(&told).unwrap();
        assert!(!line.contains(&b'\n'), "a document has more than one line");
        assert_eq!(serde_json::from_slice::<Told>(&line).unwrap(), told);
    }
}

/// A table that is used has a side for each seat or none for all, comes back from the disk, and is still one then.
pub fn traffic_table(bytes: &[u8]) {
    let Ok(table) = serde_json::from_slice::<Table>(bytes) else { return };
    if table.check().is_err() {
        return;
    }
    let back: Table = serde_json::from_slice(&serde_json::to_vec(&table).unwrap()).unwrap();
    assert_eq!(back, table);
    assert_eq!(back.check(), Ok(()));
    let served = (0..10_000).filter(|seat| table.side_of(*seat).is_some()).count();
    assert!(served == 0 || table.last_good.is_none() || served == 10_000, "{served} of 10,000 seats are served");
}

/// Settings that pass the check come back as they were.
pub fn proxy_settings(bytes: &[u8]) {
    let Ok(settings) = serde_json::from_slice::<Settings>(bytes) else { return };
    if settings.check().is_ok() {
        let back: Settings = serde_json::from_slice(&serde_json::to_vec(&settings).unwrap()).unwrap();
        assert_eq!(back, settings);
    }
}

/// A network has its own address, and is written as it is read.
pub fn network(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(network) = text.parse::<Network>() else { return };
    let written: String = serde_json::from_str(&serde_json::to_string(&network).unwrap()).unwrap();
    assert_eq!(written.parse(), Ok(network));
    // An IPv4 address within IPv6 is that IPv4 address, which no network of IPv6 has.
    let address: IpAddr = text.split('/').next().unwrap().parse().unwrap();
    assert!(network.has(address) || address.to_canonical() != address, "{text} does not have its own address");
    let bits = written.split_once('/').unwrap().1;
    assert!(text.split_once('/').is_none_or(|(_, given)| given == bits), "{text} is written {written}");
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_reader_of_the_proxy_stands_its_seeds_and_what_is_made_of_them() {
        lastgood_seeds::stand(super::TARGETS);
    }
}
