//! WebSocket as a list of cases through the real proxy: Autobahn's own, and after each kind of traffic a drain.
//!
//! Autobahn's cases (sections 1 to 7, 9 and 10; 12 and 13 are about compression, which is the ends' matter) are run by
//! `kosoku`, which `cargo xtask test` installs from its registry. They judge an echoing service: through the proxy they must
//! say what they say without it.

use crate::{
    service::Service,
    stage::Stage,
    websockets::{open_bare, switching, unix_ms},
};
use lastgood_domain::traffic::Share;
use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::SocketAddr,
    path::Path,
    process::Command,
    sync::{Barrier, OnceLock},
    thread,
    time::{Duration, Instant},
};

/// Runs every case against an address and prints a verdict for each.
const SUITE: &str = "
import asyncio, sys
from kosoku import FailureError, run_fuzzingclient
async def main():
    try:
        results = await run_fuzzingclient(sys.argv[1], None, ['12.*', '13.*'], concurrency=4)
    except FailureError as failure:
        results = failure.results
    for one in results:
        print(one.case_id, one.behavior.value, one.behavior_close.value)
asyncio.run(main())
";

/// Gives what Autobahn's cases say of an address: of the messages, and of the end.
fn judged(address: SocketAddr) -> BTreeMap<String, (String, String)> {
    let suite = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/suites/kosoku");
    assert!(suite.is_dir(), "the suite is not here; `cargo xtask test` installs it");
    let ran = Command::new("python3")
        .args(["-c", SUITE, &format!("ws://{address}/ws")])
        .env("PYTHONPATH", &suite)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    let verdict = |line: &str| {
        let mut words = line.splitn(3, ' ').map(str::to_owned);
        Some((words.next()?, (words.next()?, words.next()?)))
    };
    let verdicts: BTreeMap<_, _> = said.lines().filter_map(verdict).collect();
    assert!(ran.status.success() && !verdicts.is_empty(), "{}", String::from_utf8_lossy(&ran.stderr));
    verdicts
}

#[test]
fn autobahn_s_cases_say_of_a_service_behind_the_proxy_what_they_say_of_it_alone() {
    let (stage, service) = (Stage::new(), Service::start("one"));
    stage.all_to(service.address);
    let through = judged(stage.address);
    let failed =
        through.iter().filter(|(_, (messages, _))| !["OK", "NON-STRICT", "INFORMATIONAL"].contains(&messages.as_str()));
    let failed: Vec<_> = failed.collect();
    assert!(failed.is_empty(), "{failed:?}");
    assert!(through.len() >= 300, "only {} cases were run", through.len());
    let alone = judged(service.address);
    let other: Vec<_> = through.iter().filter(|(id, verdict)| alone.get(*id) != Some(verdict)).collect();
    assert!(other.is_empty() && alone.len() == through.len(), "otherwise than without the proxy: {other:?}");
}

/// Where the traffic of a case stands at its end.
#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    /// A message has ended.
    Message,
    /// A frame has ended, and its message goes on.
    Frame,
    /// Within a frame.
    Within,
    /// A Close was sent, and came back.
    Closed,
}

struct Case {
    what: String,
    sent: Vec<u8>,
    /// Bytes that are written at once.
    piece: usize,
    end: End,
}

/// Writes a masked frame, its length in the form that `form` bytes have.
fn framed(first: u8, contents: &[u8], form: usize) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let length = contents.len() as u64;
    let mut frame = vec![first];
    match form {
        0 => frame.push(0x80 | length as u8),
        2 => frame.extend([&[0xfe], &(length as u16).to_be_bytes()[..]].concat()),
        _ => frame.extend([&[0xff], &length.to_be_bytes()[..]].concat()),
    }
    frame.extend(MASK);
    frame.extend(contents.iter().enumerate().map(|(at, byte)| byte ^ MASK[at % 4]));
    frame
}

fn one(first: u8, contents: &[u8]) -> Vec<u8> {
    framed(
        first,
        contents,
        match contents.len() {
            0..=125 => 0,
            126..=65_535 => 2,
            _ => 8,
        },
    )
}

/// The time that a message has to end, less a tenth of a second by which alarms are rounded.
const WITHIN_MESSAGE: Duration = Duration::from_millis(2_900);
const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;
const MORE: u8 = 0x00;
const LAST: u8 = 0x80;

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |what: &str, sent: Vec<u8>, piece: usize, end: End| {
        cases.push(Case { what: what.into(), sent, piece, end });
    };
    let all = usize::MAX;
    // 1: messages of every form of length, at once and in pieces.
    for length in [0, 1, 125, 126, 127, 128, 65_535, 65_536] {
        for (first, name) in [(TEXT, "text"), (BINARY, "binary")] {
            add(&format!("1: {name} of {length}"), one(first, &vec![b'*'; length]), all, End::Message);
            add(&format!("1: {name} of {length} in pieces"), one(first, &vec![b'*'; length]), 997, End::Message);
        }
    }
    for form in [2, 8] {
        add(&format!("1: a length of 5 in {form} bytes"), framed(TEXT, b"hello", form), 1, End::Message);
    }
    // 2: pings and pongs.
    for (what, sent) in [
        ("2: ping", one(PING, b"")),
        ("2: ping with text", one(PING, b"hello")),
        ("2: ping of 125 bytes", one(PING, &[0xfe; 125])),
        ("2: ping of 126 bytes", one(PING, &[0xfe; 126])),
        ("2: pong", one(PONG, b"")),
        ("2: pong with text, ping", [one(PONG, b"unasked"), one(PING, b"asked")].concat()),
        ("2: ten pings", (0..10).flat_map(|_| one(PING, b"x")).collect()),
    ] {
        add(what, sent.clone(), all, End::Message);
        add(&format!("{what}, byte by byte"), sent, 1, End::Message);
    }
    // 3 and 4: reserved bits and opcodes, alone and between good messages.
    for first in [0x91, 0xa1, 0xb1, 0xc1, 0xd1, 0xf1, 0xc9, 0xf0] {
        add(&format!("3: {first:#04x}"), [one(TEXT, b"a"), one(first, b"b"), one(PING, b"")].concat(), 3, End::Message);
    }
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        let sent = [one(TEXT, b"hello"), one(0x80 | opcode, b"b"), one(PING, b"")].concat();
        add(&format!("4: opcode {opcode}"), sent, all, End::Message);
    }
    // 5: fragments, whole and not, with and without control frames between.
    let begin = one(0x01, b"part");
    for (what, sent, end) in [
        ("5: ping in two fragments", [one(0x09, b"a"), one(LAST, b"b")].concat(), End::Message),
        ("5: two fragments", [&begin[..], &one(LAST, b"end")].concat(), End::Message),
        ("5: a ping between", [&begin[..], &one(PING, b"x"), &one(LAST, b"end")].concat(), End::Message),
        ("5: a continuation alone", one(LAST, b"x"), End::Message),
        ("5: a continuation that goes on", one(MORE, b"x"), End::Frame),
        ("5: a message within a message", [&begin[..], &one(TEXT, b"x")].concat(), End::Message),
        ("5: unfinished", begin.clone(), End::Frame),
        ("5: unfinished, then a ping", [&begin[..], &one(PING, b"x")].concat(), End::Frame),
        (
            "5: five fragments",
            [&begin[..], &one(MORE, b""), &one(MORE, b"c"), &one(PONG, b""), &one(MORE, b""), &one(LAST, b"")].concat(),
            End::Message,
        ),
        ("5: unfinished within a frame", [&begin[..], &one(LAST, b"end")[..8]].concat(), End::Within),
        ("5: only a head's first byte", [&one(TEXT, b"a")[..], &[TEXT]].concat(), End::Within),
        ("5: a head without its contents", one(BINARY, &[0; 300])[..8].to_vec(), End::Within),
    ] {
        add(what, sent.clone(), all, end);
        add(&format!("{what}, byte by byte"), sent, 1, end);
    }
    // 6: text that is UTF-8, is none, or is cut within a character.
    for (what, text) in [
        ("two bytes", &b"\xce\xba\xe1\xbd\xb9"[..]),
        ("four bytes", b"\xf4\x8f\xbf\xbf"),
        ("above the last", b"\xf4\x90\x80\x80"),
        ("a surrogate", b"\xed\xa0\x80edited"),
        ("overlong", b"\xc0\xaf"),
        ("cut", b"\xce\xba\xe1"),
        ("no start", b"\x80\xbf"),
        ("impossible", b"\xfe\xff"),
    ] {
        add(&format!("6: {what}"), one(TEXT, text), all, End::Message);
        let parts = text.iter().enumerate().map(|(at, byte)| match at {
            0 => one(0x01, &[*byte]),
            _ if at + 1 == text.len() => one(LAST, &[*byte]),
            _ => one(MORE, &[*byte]),
        });
        add(&format!("6: {what}, a byte a fragment"), parts.flatten().collect(), 5, End::Message);
    }
    // 7: every way to close.
    let code = |code: u16, reason: &[u8]| one(CLOSE, &[&code.to_be_bytes()[..], reason].concat());
    add("7: without a code", one(CLOSE, b""), all, End::Closed);
    add("7: with one byte", one(CLOSE, b"x"), all, End::Closed);
    add("7: with a reason", code(1000, b"bye"), 1, End::Closed);
    add("7: with a long reason", code(1000, &[b'*'; 123]), all, End::Closed);
    add("7: with one too long", code(1000, &[b'*'; 124]), all, End::Closed);
    add("7: with a reason that is no UTF-8", code(1000, b"\xce\xba\xe1"), all, End::Closed);
    add("7: within a message", [&begin[..], &code(1001, b"")].concat(), all, End::Closed);
    let codes =
        [0, 999, 1000, 1001, 1002, 1003, 1004, 1005, 1006, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 1015];
    for number in codes.into_iter().chain([1016, 1100, 2000, 2999, 3000, 3999, 4000, 4999, 5000, 65_535]) {
        add(&format!("7: with {number}"), code(number, b""), all, End::Closed);
    }
    // 9 and 10: large ones, whole, in fragments and in small writes.
    for power in [16, 20, 24] {
        add(&format!("9: 2^{power} bytes"), one(BINARY, &vec![7; 1 << power]), all, End::Message);
    }
    let many = |fragment: usize| {
        let mut parts: Vec<u8> = one(0x02, &vec![1; fragment]);
        (0..(1 << 22) / fragment - 2).for_each(|_| parts.extend(one(MORE, &vec![2; fragment])));
        [parts, one(LAST, &vec![3; fragment])].concat()
    };
    for fragment in [256, 4_096, 1 << 18] {
        add(&format!("9: fragments of {fragment}"), many(fragment), all, End::Message);
    }
    add("9: 2^20 bytes in writes of 1,024", one(TEXT, &vec![b'*'; 1 << 20]), 1_024, End::Message);
    add("9: a thousand messages", (0..1_000).flat_map(|_| one(TEXT, b"0123456789abcdef")).collect(), all, End::Message);
    add("10: a message in fragments of 1,300", many(1_300), all, End::Message);
    cases
}

/// Plays one case: it must come back byte for byte, and the drain behind it must find the right place.
fn play(stage: &Stage, case: &Case, sent: &Barrier, left: &OnceLock<Instant>) -> Result<(), String> {
    let mut stream = open_bare(stage);
    let mut writer = stream.try_clone().unwrap();
    let came = thread::scope(|scope| {
        scope.spawn(move || {
            // One whose Close was answered already may be closed.
            case.sent.chunks(case.piece.min(case.sent.len())).all(|piece| writer.write_all(piece).is_ok())
        });
        let mut came = vec![0; case.sent.len()];
        stream.read_exact(&mut came).map(|()| came == case.sent)
    });
    sent.wait();
    match came {
        Ok(true) => {}
        Ok(false) => return Err("it came back otherwise".into()),
        Err(error) => return Err(format!("it did not come back: {error}")),
    }
    if matches!(case.end, End::Message | End::Frame) {
        let mut close = [0; 4];
        stream.read_exact(&mut close).map_err(|error| format!("there is no Close: {error}"))?;
        if close[0] != CLOSE || close[2..] != 1012_u16.to_be_bytes() {
            return Err(format!("instead of a Close came {close:?}"));
        }
        if case.end == End::Frame && left.get().is_none_or(|left| left.elapsed() < WITHIN_MESSAGE) {
            return Err("the Close came within a message that still had time to end".into());
        }
        let mut reason = vec![0; usize::from(close[1]) - 2];
        stream.read_exact(&mut reason).map_err(|error| error.to_string())?;
        stream.write_all(&one(CLOSE, &1012_u16.to_be_bytes())).map_err(|error| error.to_string())?;
    }
    let mut rest = Vec::new();
    // The end may be a reset where a frame was cut.
    let _ = stream.read_to_end(&mut rest);
    if rest.is_empty() { Ok(()) } else { Err(format!("{} bytes came behind the end", rest.len())) }
}

#[test]
fn every_case_comes_back_byte_for_byte_and_a_drain_behind_it_finds_where_a_message_ends() {
    let stage = Stage::new();
    let old = Service::start("old");
    let new = switching(|stream| {
        let (mut from, mut to) = (stream.try_clone().unwrap(), stream);
        let _ = std::io::copy(&mut from, &mut to);
    });
    stage.split(old.address, new.address, Share::ALL);
    let cases = cases();
    let (sent, left) = (Barrier::new(cases.len() + 1), OnceLock::new());
    let wrong: Vec<String> = thread::scope(|scope| {
        let playing: Vec<_> =
            cases.iter().map(|case| (case, scope.spawn(|| play(&stage, case, &sent, &left)))).collect();
        sent.wait();
        left.set(Instant::now()).unwrap();
        stage.leave(old.address, new.address, Some(unix_ms()));
        let ended = playing.into_iter().map(|(case, played)| (case, played.join().unwrap()));
        ended.filter_map(|(case, played)| Some(format!("{} ({:?}): {}", case.what, case.end, played.err()?))).collect()
    });
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert_eq!(cases.len(), 150, "the number of cases stands in docs/design/proxy.md");
}
