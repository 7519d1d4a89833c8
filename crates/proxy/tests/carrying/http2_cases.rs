//! HTTP/2 as a list of cases: each section of RFC 9113 and RFC 7541 that a server can be asked about, through the real proxy.
//!
//! The list has what h2spec asks, which no package registry has; the frames are our own. The one case left out wants a frame
//! of HTTP/2 where the first bytes are no HTTP/2: here they are HTTP/1.1, and get its 400.
//!
//! An error of a stream may end the connection, and PROTOCOL_ERROR may always stand for a code that says more (RFC 9113, 5.4).
//! Where `h2` says it so, the case names both codes, the one of the section first. INTERNAL_ERROR could stand there as well,
//! and is named nowhere: it is what the proxy says of failures of its own.

use crate::{
    http2::{Client, DATA, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS, block, frame, get},
    http2_list::{
        Case, END, PROTOCOL, REFUSED,
        Want::{self, Answer, Connection, Nothing, Pong},
        case, fields, frames, messages, request, setting, slow, taken, window,
    },
    service::Service,
    stage::Stage,
};

/// Plays one case on a connection of its own; says what is wrong.
fn play(stage: &Stage, case: &Case) -> Result<(), String> {
    let mut client = Client::new(stage);
    let first = client.next().ok_or("it ended at once")?;
    if (first.kind, first.flags) != (SETTINGS, 0) {
        return Err(format!("the first frame is {first:?}"));
    }
    for (awaited, bytes) in &case.sent {
        if let Some(stream) = awaited {
            client.answer(*stream);
        }
        client.send(bytes);
    }
    match case.want {
        Answer(stream) => match client.answer(stream) {
            (_, DATA | HEADERS, _) => Ok(()),
            other => Err(format!("it ended with {other:?}")),
        },
        Want::Known(stream, text, why) => match client.answer(stream) {
            (body, DATA, 1) if body == text => Ok(()),
            other => Err(format!("it ended with {other:?} and was known otherwise: {why}")),
        },
        Pong(bytes) => loop {
            match client.next() {
                Some(frame) if frame.kind == PING && frame.flags & 1 != 0 => {
                    return if frame.payload == bytes { Ok(()) } else { Err(format!("{frame:?}")) };
                }
                Some(frame) if frame.kind != GOAWAY => {}
                other => return Err(format!("{other:?} instead of a ping")),
            }
        },
        Nothing => {
            client.send(&frame(PING, 0, 0, b"the next"));
            loop {
                match client.next() {
                    Some(frame) if frame.kind == PING => {
                        return if frame.payload == b"the next" { Ok(()) } else { Err(format!("{frame:?}")) };
                    }
                    Some(frame) if !matches!(frame.kind, GOAWAY | RST_STREAM) => {}
                    other => return Err(format!("{other:?} instead of a ping")),
                }
            }
        }
        Connection(codes) => refused(&mut client, None, codes),
        Want::Stream(stream, codes) => refused(&mut client, Some(stream), codes),
    }
}

/// Reads until the stream is reset or the connection ends; no request may be answered before, but one that was awaited.
fn refused(client: &mut Client<std::net::TcpStream>, stream: Option<u32>, codes: &[u32]) -> Result<(), String> {
    let code = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
    loop {
        let Some(next) = client.next() else { return ended(client) };
        match next.kind {
            GOAWAY if codes.contains(&code(&next.payload[4..8])) => {
                while client.next().is_some() {}
                return ended(client);
            }
            RST_STREAM if Some(next.stream) == stream && codes.contains(&code(&next.payload)) => {
                // The connection goes on, whatever became of the stream.
                client.send(&request(101));
                return match client.answer(101) {
                    (body, DATA, _) if body == "one" => Ok(()),
                    other => Err(format!("the next request ended with {other:?}")),
                };
            }
            GOAWAY | RST_STREAM => return Err(format!("{next:?}")),
            // The head of an answer may stand before it is known that the rest is broken, its end may not.
            DATA | HEADERS if next.flags & END_STREAM != 0 => return Err(format!("it was answered: {next:?}")),
            _ => {}
        }
    }
}

/// Tells whether nothing more can come, or only nothing came for long.
fn ended(client: &mut Client<std::net::TcpStream>) -> Result<(), String> {
    match std::io::Read::read(&mut client.stream, &mut [0]) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Err("the connection stays open".into()),
        _ => Ok(()),
    }
}

#[test]
fn every_case_of_http_2_is_answered_or_refused_as_the_standard_says() {
    let (stage, service) = (Stage::new(), Service::start("one"));
    stage.all_to(service.address);
    let cases: Vec<Case> = [taken(), fields(), frames(), messages()].into_iter().flatten().collect();
    let mut wrong = Vec::new();
    for case in &cases {
        if let Err(why) = play(&stage, case) {
            wrong.push(format!("{} {}: {why}", case.section, case.what));
        }
        let heads = service.seen.heads.lock().unwrap();
        if heads.iter().any(|head| head.contains("/bad")) {
            wrong.push(format!("{} {}: the service saw it", case.section, case.what));
        }
        drop(heads);
        service.seen.heads.lock().unwrap().clear();
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    // One more, so that what came late from the last case would be seen.
    play(&stage, &case("", "the end", request(1), Answer(1))).unwrap();
    assert!(!service.seen.heads.lock().unwrap().iter().any(|head| head.contains("/bad")), "the service saw the last");
    assert_eq!(cases.len(), 152, "the number of cases stands in docs/design/proxy.md");
}

/// RFC 9113, 6.5.3.
#[test]
fn each_frame_of_settings_is_acknowledged_before_what_came_behind_it() {
    let stage = Stage::new();
    let mut client = Client::new(&stage);
    client.send(&[setting(3, 100), setting(4, 100), frame(PING, 0, 0, b"lastgood")].concat());
    let mut acknowledged = 0;
    loop {
        let next = client.next().expect("it ended");
        acknowledged += u32::from((next.kind, next.flags) == (SETTINGS, 1));
        if next.kind == PING {
            break;
        }
    }
    // The client's first settings, and these two.
    assert_eq!(acknowledged, 3);
}

#[test]
fn no_more_streams_are_open_than_the_settings_say() {
    let stage = Stage::with(|serving| serving["limits"] = serde_json::json!({ "streams": 4 }));
    let service = Service::start("one");
    stage.all_to(service.address);
    let mut client = Client::new(&stage);
    let sent: Vec<u8> = (0..5).flat_map(|number| slow(number * 2 + 1)).collect();
    client.send(&sent);
    let (mut refused, mut answered) = (0, 0);
    while refused + answered < 5 {
        let next = client.next().expect("it ended");
        match next.kind {
            RST_STREAM => {
                assert!([REFUSED, PROTOCOL].contains(&u32::from_be_bytes(next.payload.try_into().unwrap())));
                refused += 1;
            }
            DATA if next.flags & END_STREAM != 0 => answered += 1,
            GOAWAY => panic!("{next:?}"),
            _ => {}
        }
    }
    assert_eq!((refused, answered), (1, 4));
}

/// Reads the bytes of a stream's data until `want` of them came, and gives the size of each frame.
fn sizes(client: &mut Client<std::net::TcpStream>, stream: u32, want: usize) -> Vec<usize> {
    let mut sizes = Vec::new();
    while sizes.iter().sum::<usize>() < want {
        let next = client.next().expect("it ended");
        assert!(!matches!(next.kind, GOAWAY | RST_STREAM), "{next:?}");
        if next.kind == DATA && next.stream == stream && !next.payload.is_empty() {
            sizes.push(next.payload.len());
        }
    }
    sizes
}

#[test]
fn no_more_data_is_sent_than_the_windows_allow_also_when_they_change() {
    let (stage, service) = (Stage::new(), Service::start("one"));
    stage.all_to(service.address);
    // 6.9.1: a window of one byte.
    let mut client = Client::new(&stage);
    client.send(&[setting(4, 1), request(1)].concat());
    assert_eq!(sizes(&mut client, 1, 1), [1]);
    client.send(&frame(PING, 0, 0, &[7; 8]));
    // Nothing more comes before the ping does.
    loop {
        let next = client.next().expect("it ended");
        assert_ne!((next.kind, next.payload.len()), (DATA, 1), "more than the window");
        if next.kind == PING && next.flags == 1 {
            break;
        }
    }
    // 6.9.2: the window of a stream that is open grows with the setting; 6.5.3: of two values the last one counts.
    client.send(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 100, 0, 4, 0, 0, 0, 2]));
    assert_eq!(sizes(&mut client, 1, 1), [1]);
    // 6.9.2: a window below nothing is filled up first.
    let mut client = Client::new(&stage);
    client.send(&[setting(4, 3), frame(HEADERS, END, 1, &block(&get("/big?10")))].concat());
    assert_eq!(sizes(&mut client, 1, 3).iter().sum::<usize>(), 3);
    client.send(&[setting(4, 2), window(1, 2)].concat());
    // Three sent of two, and two more allowed: one is left.
    assert_eq!(sizes(&mut client, 1, 1), [1]);
    client.send(&window(1, 6));
    assert_eq!(sizes(&mut client, 1, 6).iter().sum::<usize>(), 6);
}
