//! Tables, what is refused, and what is left after a crash.

use crate::client::BuiltinError;
use crate::{
    service::Service,
    stage::{Stage, body, chat, free_address, side, until},
};
use lastgood_domain::{
    terms::Span,
    traffic::{Answering, Closed, Lease, Share, Table},
};
use std::{fs, os::unix::fs::PermissionsExt as _};

#[test]
fn an_older_table_never_wins_and_the_same_again_is_no_error() {
    let (stage, one, two) = (Stage::new(), Service::start("one"), Service::start("two"));
    let older = stage.table(Some(side("1", &[one.address])));
    let newer = stage.table(Some(side("2", &[two.address])));
    assert_eq!(stage.control().route(&newer).unwrap(), 2);
    assert_eq!(stage.control().route(&newer).unwrap(), 2);
    for stale in [older.clone(), {
        let mut same = older;
        same.epoch = 2;
        same
    }] {
        match stage.control().route(&stale) {
            Err(BuiltinError::Refused { epoch: Some(2), .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(body(&stage.get("/hello", "")), "two");
}

#[test]
fn a_share_that_can_t_be_stored_does_not_begin_and_a_way_back_that_can_t_be_is_used_all_the_same() {
    let (stage, one, two) = (Stage::new(), Service::start("one"), Service::start("two"));
    stage.split(one.address, two.address, Share::percent(1));
    let served = |name: &str| (0..60).filter(|_| body(&stage.get("/hello", "")) == name).count();
    // Nothing can be written where a folder is in the way.
    let in_the_way = stage.folder.path().join("state/tables/chat.new");
    fs::create_dir(&in_the_way).unwrap();
    let share = |share| {
        let mut table = stage.table(Some(side("1", &[one.address])));
        (table.candidate, table.share) = (Some(side("2", &[two.address])), share);
        stage.control().route(&table)
    };
    match share(Share::ALL) {
        Err(BuiltinError::Refused { epoch: Some(1), why, .. }) => assert!(why.contains("is not used"), "{why}"),
        other => panic!("{other:?}"),
    }
    assert!(served("one") > 30, "a share that nobody watches has begun");
    fs::remove_dir(&in_the_way).unwrap();
    share(Share::ALL).unwrap();
    assert_eq!(served("two"), 60);
    fs::create_dir(&in_the_way).unwrap();
    assert!(share(Share::NONE).is_err());
    assert_eq!(served("one"), 60);
}

#[test]
fn what_can_t_be_used_is_refused_and_the_table_before_stays() {
    let (stage, one) = (Stage::new(), Service::start("one"));
    stage.all_to(one.address);
    let mut broken = stage.table(Some(side("1", &[])));
    assert!(matches!(stage.control().route(&broken), Err(BuiltinError::Refused { epoch: Some(1), .. })));
    broken.service = lastgood_domain::terms::ServiceName::new("other").unwrap();
    assert!(stage.control().route(&broken).is_err());
    assert_eq!(body(&stage.get("/hello", "")), "one");
}

#[test]
fn after_a_crash_it_serves_by_the_last_table_and_a_damaged_one_is_told() {
    let (mut stage, one) = (Stage::new(), Service::start("one"));
    stage.all_to(one.address);
    stage.child.kill().unwrap();
    stage.child.wait().unwrap();
    drop(stage.start_again());
    assert_eq!(body(&stage.get("/hello", "")), "one");
    stage.child.kill().unwrap();
    stage.child.wait().unwrap();
    let path = stage.folder.path().join("state/tables/chat.json");
    let text = fs::read(&path).unwrap();
    fs::write(&path, &text[..text.len() - 5]).unwrap();
    drop(stage.start_again());
    assert!(stage.get("/hello", "").starts_with("HTTP/1.1 503"));
    let look = stage.control().look(&chat()).unwrap();
    assert!(look.troubles[0].contains("chat.json") && stage.said().contains("chat.json"), "{look:?}");
}

#[test]
fn a_closed_route_is_answered_exactly_in_every_spelling_and_the_others_go_on() {
    let (stage, one) = (Stage::new(), Service::start("one"));
    let mut table = stage.table(Some(side("1", &[one.address])));
    let answer = Answering { status: 503, retry_after: Some(120), body: "closed by a switch".into() };
    table.closed =
        vec![Closed { by: "switch auth".into(), routes: vec!["POST /account/login".parse().unwrap()], answer }];
    stage.control().route(&table).unwrap();
    for path in
        ["/account/login", "/account//login?x", "/x/../account/%6Cogin", "/ACCOUNT/login/", "http://c/account/login"]
    {
        let answer = stage.say(
            format!("POST {path} HTTP/1.1\r\nHost: c\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").as_bytes(),
        );
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\r\nRetry-After: 120\r\n"), "{path}: {answer}");
        assert_eq!(body(&answer), "closed by a switch", "{path}");
    }
    assert_eq!(one.requests(), 0);
    assert_eq!(body(&stage.get("/account/login", "")), "one");
}

/// A table whose `POST /login` closes after `length` without a word.
fn leased(stage: &Stage, to: &Service, length: Span) -> Table {
    let answer = Answering { status: 403, retry_after: None, body: "in doubt".into() };
    let closed = Closed { by: "switch auth".into(), routes: vec!["POST /login".parse().unwrap()], answer };
    let lease = Some(Lease { length, closed: vec![closed] });
    Table { lease, ..stage.table(Some(side("1", &[to.address]))) }
}

fn is_open(stage: &Stage) -> bool {
    let answer = stage.say(b"POST /login HTTP/1.1\r\nHost: c\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 ") || body(&answer) == "in doubt", "{answer}");
    answer.starts_with("HTTP/1.1 200 ")
}

#[test]
fn what_is_tripped_when_in_doubt_is_closed_when_nobody_was_heard_for_the_lease_and_the_rest_goes_on() {
    let (stage, one) = (Stage::new(), Service::start("one"));
    let table = leased(&stage, &one, Span(300));
    stage.control().route(&table).unwrap();
    until("the end of the lease", || !is_open(&stage));
    assert_eq!(body(&stage.get("/login", "")), "one");
    until("contact", || {
        stage.control().route(&table).unwrap();
        is_open(&stage)
    });
}

#[test]
fn one_that_begins_with_a_table_it_only_read_is_out_of_contact_until_it_is_told_and_no_older_one_tells_it() {
    let (mut stage, one) = (Stage::new(), Service::start("one"));
    let (older, table) = (stage.table(None), leased(&stage, &one, Span::minutes(60)));
    stage.control().route(&table).unwrap();
    assert!(is_open(&stage));
    stage.child.kill().unwrap();
    stage.child.wait().unwrap();
    drop(stage.start_again());
    assert!(!is_open(&stage), "nobody knows how old its table is");
    assert!(stage.control().route(&older).is_err());
    assert!(!is_open(&stage), "an older table has renewed the lease");
    stage.control().route(&table).unwrap();
    assert!(is_open(&stage));
}

#[test]
fn one_that_takes_over_goes_on_with_the_lease_of_the_one_before() {
    let (mut stage, one) = (Stage::new(), Service::start("one"));
    stage.control().route(&leased(&stage, &one, Span::minutes(60))).unwrap();
    let mut before = stage.start_again();
    assert!(is_open(&stage), "an upgrade has closed a route");
    let _ = before.kill();
    before.wait().unwrap();
    assert!(is_open(&stage));
    // And what it inherits is the age, not a new lease.
    let table = leased(&stage, &one, Span(1));
    stage.control().route(&table).unwrap();
    let mut before = stage.start_again();
    assert!(!is_open(&stage), "it began a lease of its own");
    let _ = before.kill();
    before.wait().unwrap();
}

#[test]
fn a_table_that_can_t_be_read_closes_its_own_service_and_the_others_serve() {
    let (mut stage, one) = (Stage::new(), Service::start("one"));
    stage.all_to(one.address);
    stage.child.kill().unwrap();
    stage.child.wait().unwrap();
    let beside = free_address();
    stage.settings["services"]["video"] = serde_json::json!({ "listen": [beside] });
    fs::write(stage.folder.path().join("state/tables/video.json"), b"{\"v\":1,").unwrap();
    drop(stage.start_again());
    assert_eq!(body(&stage.get("/hello", "")), "one");
    let mut stream = std::net::TcpStream::connect(beside).unwrap();
    std::io::Write::write_all(&mut stream, b"GET / HTTP/1.1\r\nHost: c\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    let look = stage.control().look(&chat()).unwrap();
    assert!(look.troubles[0].contains("video.json"), "{look:?}");
}

#[test]
fn the_socket_is_for_its_owner_alone_and_nonsense_there_harms_nothing() {
    use std::io::{Read as _, Write as _};
    let (stage, one) = (Stage::new(), Service::start("one"));
    stage.all_to(one.address);
    let path = stage.folder.path().join("state/control.sock");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    for nonsense in
        ["\n", "{}\n", "{\"do\":\"ready\"}\n", "\u{0}\u{1}\n", "{\"do\":\"route\",\"table\":{}}\n", "[[[[[[[[\n"]
    {
        let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
        stream.write_all(nonsense.as_bytes()).unwrap();
        let mut answer = [0; 512];
        let count = stream.read(&mut answer).unwrap();
        assert!(String::from_utf8_lossy(&answer[..count]).contains("refused"), "{nonsense:?}");
    }
    assert_eq!(body(&stage.get("/hello", "")), "one");
}
