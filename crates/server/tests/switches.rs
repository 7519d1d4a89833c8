//! How the switchboard behaves towards those who ask, follow and trip, and towards those who only pretend to.
#![expect(clippy::unwrap_used, reason = "a test that cannot set up its world has failed")]

use lastgood_domain::{
    switches::{self, Declared, Definition, Switches},
    terms::{Actor, FlagKey, Reason, SwitchName, Timestamp},
};
use lastgood_engine::{
    config::SwitchesConfig,
    switches::{Beside, Desk, Scope},
};
use lastgood_server::{
    ServeError, bind,
    switches::{Setting, SwitchServer, SwitchesError, serve_switches},
};
use lastgood_store::Store;
use serde_json::{Value, json};
use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

/// Longer than anything here takes: only a server that hangs meets it.
const PATIENCE: Duration = Duration::from_secs(60);

fn here() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// A server, and a desk of somebody else on the same chain.
struct Board {
    server: SwitchServer,
    desk: Desk,
    declared: Declared,
    _folder: tempfile::TempDir,
}

fn board(token: Option<&str>) -> Board {
    board_of(token, &["auth", "crypto"])
}

fn board_of(token: Option<&str>, subsystems: &[&str]) -> Board {
    let folder = tempfile::tempdir().unwrap();
    // No beat comes in an hour's lease, so what is heard was said once.
    let config: SwitchesConfig = serde_json::from_value(json!({ "subsystems": subsystems, "lease": "1h" })).unwrap();
    let desk = || Desk::new(Store::open(folder.path()).unwrap(), Scope::of(&config.environment), Vec::new());
    let declared = config.declared();
    let setting = Setting {
        config: config.clone(),
        token: token.map(Into::into),
        desk: desk(),
        now: || Timestamp(1_767_225_600_000),
        tell: Box::new(|_| ()),
        written: Box::new(|| ()),
        beside: Beside::of(folder.path(), &config.environment),
        routers: None,
    };
    let server = serve_switches(bind(here()).unwrap(), setting).unwrap();
    Board { server, desk: desk(), declared, _folder: folder }
}

impl Board {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.server.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Says something as another process would, and rings.
    fn say(&mut self, decide: &dyn Fn(&Switches, &Declared) -> Result<switches::Event, switches::Refused>) -> u64 {
        let by = Actor::new("person:alice").unwrap();
        let declared = self.declared.clone();
        let (_, folded) = self.desk.say_one(&by, Timestamp(1), &|state| decide(state, &declared)).unwrap();
        let epoch = folded.state.epoch;
        self.server.bell().ring();
        epoch
    }

    fn trip(&mut self, name: &str) -> u64 {
        self.say(&|_, declared| switches::trip(declared, &SwitchName::new(name).unwrap(), &reason()))
    }

    fn flag(&mut self, key: &str, definition: &Definition) {
        let key = FlagKey::new(key).unwrap();
        self.say(&|state, declared| switches::set(state, declared, &key, definition.clone(), &reason()));
        let epoch = self.say(&|state, declared| switches::turn_on(state, declared, &key, &reason()));
        self.wait_for(epoch);
    }

    /// Waits until the server gives what was said up to here.
    fn wait_for(&self, epoch: u64) {
        let mut followed = self.follow("/v1/switches/stream");
        while followed.next()["epoch"].as_u64().unwrap() < epoch {}
    }

    fn follow(&self, path: &str) -> Followed {
        let mut stream = self.connect();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        Followed(BufReader::new(stream))
    }

    /// Sends a request on a connection of its own.
    fn ask(&self, head: &str, body: &str) -> (u16, String, Value) {
        let mut stream = self.connect();
        send(&mut stream, head, body);
        receive(&mut BufReader::new(stream))
    }

    fn evaluate(&self, path: &str, body: &str) -> (u16, Value) {
        let (status, _, answer) = self.ask(&format!("POST {path} HTTP/1.1\r\n"), body);
        (status, answer)
    }
}

fn reason() -> Reason {
    Reason::new("drill").unwrap()
}

fn send(stream: &mut TcpStream, head: &str, body: &str) {
    write!(stream, "{head}Host: localhost\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
}

/// Reads one answer: status, head in small letters, body as JSON.
fn receive(reader: &mut BufReader<TcpStream>) -> (u16, String, Value) {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut head).unwrap(), 0, "it hung up after {head:?}");
    }
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let head = head.to_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))
        .map_or(0, |length| length.trim().parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    (status, head, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

/// A stream of events.
struct Followed(BufReader<TcpStream>);

impl Followed {
    /// Gives the data of the next event.
    fn next(&mut self) -> Value {
        loop {
            let mut line = String::new();
            assert_ne!(self.0.read_line(&mut line).unwrap(), 0, "the stream ended");
            if let Some(data) = line.strip_prefix("data: ") {
                return serde_json::from_str(data).unwrap();
            }
        }
    }
}

const FLAGS: &str = "/ofrep/v1/evaluate/flags";

#[test]
fn an_address_that_others_can_reach_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let config = SwitchesConfig::default();
    let setting = Setting {
        desk: Desk::new(Store::open(folder.path()).unwrap(), Scope::of(&config.environment), Vec::new()),
        config: config.clone(),
        token: None,
        now: || Timestamp(0),
        tell: Box::new(|_| ()),
        written: Box::new(|| ()),
        beside: Beside::of(folder.path(), &config.environment),
        routers: None,
    };
    let open = TcpListener::bind("0.0.0.0:0").unwrap();
    let refused = serve_switches(open, setting).err().unwrap();
    assert!(matches!(refused, SwitchesError::Serve(ServeError::NotLoopback { .. })));
}

#[test]
fn the_tag_is_of_the_flags_and_of_the_context_and_never_of_one_alone() {
    let mut board = board(None);
    let share = Definition {
        rules: vec![switches::Rule {
            when: vec![switches::Condition {
                attribute: "plan".into(),
                test: switches::Test::Equals { value: "pro".into() },
            }],
            serve: Definition::boolean().serve,
        }],
        serve: switches::Serve::Variant("off".parse().unwrap()),
        ..Definition::boolean()
    };
    board.flag("new", &share);
    let ask = |board: &Board, context: &str, tag: &str| {
        let head = format!("POST {FLAGS} HTTP/1.1\r\nIf-None-Match: {tag}\r\n");
        let (status, head, answer) = board.ask(&head, &format!("{{\"context\":{context}}}"));
        let tag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().to_owned();
        (status, tag, answer["flags"][0]["value"].clone())
    };
    let (pro, free) = (r#"{"targetingKey":"a","plan":"pro"}"#, r#"{"targetingKey":"a","plan":"free"}"#);
    let (status, first, value) = ask(&board, pro, "\"none\"");
    assert_eq!((status, value), (200, json!(true)));
    assert_eq!(ask(&board, pro, &first), (304, first.clone(), Value::Null));
    assert_eq!(ask(&board, pro, &format!("\"x\", W/{first}")).0, 304);
    // Another context under the same targeting key is another answer.
    let (status, other, value) = ask(&board, free, &first);
    assert_eq!((status, value), (200, json!(false)));
    assert_ne!(other, first);
    // And so are other flags, and a switch that turns them off.
    let epoch = board.say(&|state, declared| switches::turn_off(state, declared, &"new".parse().unwrap(), &reason()));
    board.wait_for(epoch);
    let (status, third, value) = ask(&board, pro, &first);
    assert_eq!((status, value), (200, json!(false)));
    // As they were, they have the tag that they had.
    let epoch = board.say(&|state, declared| switches::turn_on(state, declared, &"new".parse().unwrap(), &reason()));
    board.wait_for(epoch);
    assert_eq!(ask(&board, pro, &first).0, 304);
    assert_ne!(third, first);
}

#[test]
fn what_cannot_be_told_is_an_error_with_openfeatures_code_and_never_a_value() {
    let mut board = board(None);
    let part = switches::Part { variant: "on".parse().unwrap(), seats: 10_000 };
    board.flag("all", &Definition { serve: switches::Serve::Split(vec![part]), ..Definition::boolean() });
    board.flag("plain", &Definition::boolean());
    let one = |body: &str| board.evaluate(&format!("{FLAGS}/all"), body);
    assert_eq!(one(r#"{"context":{"targetingKey":"a"}}"#).1["value"], json!(true));
    for (body, code) in [
        ("{}", "TARGETING_KEY_MISSING"),
        ("", "TARGETING_KEY_MISSING"),
        ("{\"context\":7}", "INVALID_CONTEXT"),
        ("{\"context\":{\"targetingKey\":7}}", "INVALID_CONTEXT"),
        ("{", "PARSE_ERROR"),
    ] {
        let (status, answer) = one(body);
        assert_eq!((status, answer["errorCode"].clone(), answer["key"].clone()), (400, json!(code), json!("all")));
        assert!(answer["errorDetails"].is_string() && answer.get("value").is_none(), "{answer}");
    }
    let (status, answer) = board.evaluate(&format!("{FLAGS}/none"), "{}");
    assert_eq!((status, answer["errorCode"].clone()), (404, json!("FLAG_NOT_FOUND")));
    assert_eq!(board.evaluate(&format!("{FLAGS}/%70lain"), "{}").1["value"], json!(true));
    // Of many each fails alone; what is no question fails as a whole.
    let (status, answer) = board.evaluate(FLAGS, "{}");
    let flags = &answer["flags"];
    assert_eq!((status, flags[0]["errorCode"].clone()), (200, json!("TARGETING_KEY_MISSING")));
    assert_eq!((flags[1]["key"].clone(), flags[1]["value"].clone()), (json!("plain"), json!(true)));
    let stream =
        json!([{ "type": "sse", "endpoint": { "requestUri": "/ofrep/v1/events" }, "inactivityDelaySec": 120 }]);
    assert_eq!(answer["eventStreams"], stream);
    assert_eq!(board.evaluate(FLAGS, "{").1["errorCode"], json!("PARSE_ERROR"));
}

#[test]
fn whoever_follows_flags_is_told_to_evaluate_again_when_they_change() {
    let mut board = board(None);
    let mut events = board.follow("/ofrep/v1/events");
    let first = events.next();
    assert_eq!(first["type"], json!("refetchEvaluation"));
    board.flag("plain", &Definition::boolean());
    let second = events.next();
    assert_ne!(second["etag"], first["etag"]);
}

#[test]
fn every_subscriber_hears_every_switch_at_once_and_each_change_in_order() {
    let mut board = board(None);
    let mut all: Vec<Followed> = (0..200).map(|_| board.follow("/v1/switches/stream")).collect();
    for followed in &mut all {
        assert_eq!(followed.next()["epoch"], json!(0));
    }
    for name in ["auth", "crypto", "all"] {
        let epoch = board.trip(name);
        for followed in &mut all {
            let told = followed.next();
            assert_eq!(told["epoch"], json!(epoch));
            let tripped = |one: &&Value| one["tripped"] == json!(true);
            assert_eq!(told["switches"].as_array().unwrap().iter().filter(tripped).count() as u64, epoch);
        }
    }
}

#[test]
fn a_subscriber_that_does_not_read_holds_up_nobody_and_gets_the_newest_in_the_end() {
    let names: Vec<String> = (0..600).map(|number| format!("a-subsystem-with-a-long-name-{number}")).collect();
    let mut board = board_of(None, &names.iter().map(String::as_str).collect::<Vec<_>>());
    let mut lazy = board.follow("/v1/switches/stream");
    let mut keen = board.follow("/v1/switches/stream");
    keen.next();
    // 45 KiB each, some 20 MiB in all: more than its socket takes.
    let mut last = 0;
    for _ in 0..450 {
        last = board.trip(&names[0]);
    }
    while keen.next()["epoch"].as_u64().unwrap() < last {}
    let (mut before, mut heard) = (None, 0);
    loop {
        let epoch = lazy.next()["epoch"].as_u64().unwrap();
        assert!(before.is_none_or(|before| before <= epoch), "{epoch} after {before:?}");
        before = Some(epoch);
        heard += 1;
        if epoch == last {
            break;
        }
    }
    assert!(heard < 450, "its socket took everything, so nothing was left out");
}

#[test]
fn a_trip_over_http_needs_its_token_a_reason_and_no_browser() {
    let board = board(Some("open sesame"));
    let trip = |name: &str, headers: &str, body: &str| {
        let (status, _, answer) = board.ask(&format!("POST /v1/switches/{name}/trip HTTP/1.1\r\n{headers}"), body);
        (status, answer["code"].as_str().unwrap_or_default().to_owned())
    };
    let refused = |status, code: &str| (status, code.to_owned());
    const JSON: &str = "Content-Type: application/json; charset=utf-8\r\n";
    let token = format!("{JSON}Authorization: Bearer open sesame\r\n");
    let good = r#"{"reason":"tokens leak"}"#;
    assert_eq!(trip("auth", JSON, good), refused(401, "api-token-wrong"));
    for wrong in ["open sesam", "open sesame ", "Open sesame", ""] {
        let headers = format!("{JSON}Authorization: Bearer {wrong}x\r\n");
        assert_eq!(trip("auth", &headers, good), refused(401, "api-token-wrong"), "{wrong}");
    }
    assert_eq!(
        trip("auth", &format!("{token}Origin: http://localhost:9465\r\n"), good),
        refused(403, "api-browser-refused")
    );
    assert_eq!(trip("auth", "Authorization: Bearer open sesame\r\n", good), refused(415, "api-body-wrong"));
    for body in ["", "{}", "{\"reason\":\"\"}", "{\"reason\":7}", "{\"reason\":\"a\",\"force\":true}"] {
        assert_eq!(trip("auth", &token, body), refused(400, "api-body-wrong"), "{body}");
    }
    assert_eq!(trip("autth", &token, good), refused(404, "switch-unknown"));
    assert_eq!(trip("AUTH", &token, good), refused(404, "switch-unknown"));
    assert_eq!(trip("auth", &token, good), refused(200, ""));
    let (_, _, state) = board.ask("GET /v1/switches HTTP/1.1\r\n", "");
    assert_eq!((state["epoch"].clone(), state["switches"][1]["tripped"].clone()), (json!(1), json!(true)));
}

#[test]
fn requests_on_one_connection_are_answered_in_order_a_trip_among_them() {
    let board = board(None);
    let mut stream = board.connect();
    let mut all = Vec::new();
    for _ in 0..3 {
        write!(all, "POST {FLAGS}/none HTTP/1.1\r\nContent-Length: 2\r\n\r\n{{}}").unwrap();
        let body = "{\"reason\":\"drill\"}";
        let length = body.len();
        write!(all, "POST /v1/switches/auth/trip HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
        write!(all, "GET /v1/switches HTTP/1.1\r\n\r\n").unwrap();
    }
    stream.write_all(&all).unwrap();
    // Who has said everything may close that half, and is answered all the same.
    stream.shutdown(Shutdown::Write).unwrap();
    let mut reader = BufReader::new(stream);
    for epoch in 1..=3 {
        assert_eq!(receive(&mut reader).0, 404);
        assert_eq!(receive(&mut reader).2["epoch"], json!(epoch));
        assert_eq!(receive(&mut reader).2["epoch"], json!(epoch));
    }
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty());
}

#[test]
fn noise_and_what_could_be_read_in_two_ways_is_refused_and_harms_nobody() {
    let board = board(None);
    for (noise, status) in [
        (&b"\x16\x03\x01\x00\xff\r\n\r\n"[..], "400"),
        (b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "400"),
        (b"POST /v1/switches HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "411"),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", "413"),
    ] {
        let mut stream = board.connect();
        stream.write_all(noise).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
    }
    // Others sit there and say nothing, or half of something.
    let idle: Vec<TcpStream> = (0..200).map(|_| board.connect()).collect();
    (&idle[0]).write_all(b"POST /ofrep").unwrap();
    assert_eq!(board.ask("GET /nothing HTTP/1.1\r\n", "").0, 404);
    assert_eq!(board.ask("PUT /v1/switches HTTP/1.1\r\n", "").0, 405);
    assert_eq!(board.ask("GET /v1/switches HTTP/1.1\r\n", "").0, 200);
    assert_eq!(board.ask("GET /v1/switches HTTP/1.0\r\n", "").0, 200);
}

#[test]
fn a_client_that_waits_to_be_told_to_go_on_is_told() {
    let board = board(None);
    let mut stream = board.connect();
    write!(stream, "POST {FLAGS} HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n").unwrap();
    let mut reader = BufReader::new(stream);
    assert_eq!(receive(&mut reader).0, 100);
    reader.get_mut().write_all(b"{}").unwrap();
    assert_eq!(receive(&mut reader).0, 200);
}

#[test]
fn a_dropped_server_lets_everybody_go_and_frees_its_address() {
    let board = board(None);
    let address = board.server.address();
    let mut followed = board.follow("/v1/switches/stream");
    followed.next();
    drop(board);
    let mut rest = Vec::new();
    followed.0.read_to_end(&mut rest).unwrap();
    assert!(TcpListener::bind(address).is_ok());
}

/// A number on a screen that only grows would hide that programs have lost their connection.
#[test]
fn those_who_follow_are_counted_until_they_leave() {
    let board = board(None);
    let followers = board.server.followers();
    let mut all: Vec<Followed> = (0..5).map(|_| board.follow("/v1/switches/stream")).collect();
    all.iter_mut().for_each(|one| drop(one.next()));
    let mut flags = board.follow("/ofrep/v1/events");
    flags.0.read_line(&mut String::new()).unwrap();
    assert_eq!(followers.count(), [5, 1]);
    all.truncate(2);
    drop(flags);
    let until = std::time::Instant::now() + PATIENCE;
    while followers.count() != [2, 0] {
        assert!(std::time::Instant::now() < until, "{:?}", followers.count());
        std::thread::sleep(Duration::from_millis(5));
    }
}
