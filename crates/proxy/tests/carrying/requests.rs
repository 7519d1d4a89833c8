//! HTTP/1.1 through the proxy.

use crate::{
    service::Service,
    stage::{Stage, body, person, side, until},
};
use lastgood_domain::traffic::{Fallback, Share};
use std::{
    io::{Read as _, Write as _},
    sync::atomic::Ordering,
    time::Duration,
};

#[test]
fn a_request_goes_through_and_comes_back_as_it_was() {
    let (stage, service) = (Stage::new(), Service::start("one"));
    stage.all_to(service.address);
    let answer = stage.get("/head?x=%20y", "X-Odd: a  b\tc\r\nAccept: */*\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let head = body(&answer);
    assert!(head.starts_with("GET /head?x=%20y HTTP/1.1\r\nHost: chat\r\nX-Odd: a  b\tc\r\nAccept: */*\r\n"), "{head}");
    assert!(
        head.contains("\r\nX-Forwarded-For: 127.0.0.1\r\n") && head.contains("\r\nX-Forwarded-Proto: http\r\n"),
        "{head}"
    );
    assert!(!head.to_lowercase().contains("connection:"), "{head}");
}

#[test]
fn connections_are_kept_on_both_sides_and_requests_may_be_sent_ahead() {
    let (stage, service) = (Stage::new(), Service::start("one"));
    stage.all_to(service.address);
    let mut client = stage.connect();
    let one = "GET /hello HTTP/1.1\r\nHost: chat\r\nCookie: lastgood=0123456789abcdef0123456789abcdef\r\n\r\n";
    client.write_all(one.repeat(3).as_bytes()).unwrap();
    let expected = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none".repeat(3);
    let mut answers = vec![0; expected.len()];
    client.read_exact(&mut answers).unwrap();
    assert_eq!(String::from_utf8(answers).unwrap(), expected);
    assert_eq!(service.seen.connections.load(Ordering::Relaxed), 1);
}

#[test]
fn bodies_go_both_ways_whole_by_length_and_by_chunks() {
    let (stage, service) = (Stage::new(), Service::start("one"));
    stage.all_to(service.address);
    let big: String = (0..200_000).map(|n| char::from(b'a' + (n % 26) as u8)).collect();
    let by_length =
        format!("POST /echo HTTP/1.1\r\nHost: c\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{big}", big.len());
    assert_eq!(body(&stage.say(by_length.as_bytes())), big);
    let chunks: String =
        big.as_bytes().chunks(999).map(|c| format!("{:x}\r\n{}\r\n", c.len(), String::from_utf8_lossy(c))).collect();
    let by_chunks = format!(
        "POST /echo HTTP/1.1\r\nHost: c\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\nX-End: 1\r\n\r\n"
    );
    assert_eq!(body(&stage.say(by_chunks.as_bytes())), format!("{big}[X-End: 1]"));
}

#[test]
fn chunks_trailers_hints_and_bodies_without_an_end_are_passed_on() {
    let (stage, service) = (Stage::new(), Service::start("one"));
    stage.all_to(service.address);
    let chunked = stage.get("/chunked", "TE: trailers\r\n");
    assert!(chunked.contains("Transfer-Encoding: chunked\r\n"), "{chunked}");
    assert!(chunked.ends_with("5\r\nhello\r\n6\r\n world\r\n0\r\nX-Sum: 11\r\n\r\n"), "{chunked}");
    assert!(service.last_head().contains("Connection: TE\r\nTE: trailers\r\n"), "{}", service.last_head());
    assert!(
        stage.get("/hints", "").starts_with("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\n")
    );
    assert!(stage.get("/until-close", "").ends_with("Connection: close\r\n\r\nall there is"));
    let old = stage.say(b"GET /chunked HTTP/1.0\r\n\r\n");
    assert!(old.ends_with("\r\n\r\nhello world") && !old.contains("chunked\r\n"), "{old}");
    let head = stage.say(b"HEAD /hello HTTP/1.1\r\nHost: c\r\nConnection: close\r\n\r\n");
    assert!(head.contains("Content-Length: 3\r\n") && head.ends_with("\r\n\r\n"), "{head}");
}

#[test]
fn a_client_that_waits_for_100_gets_it_and_one_that_is_refused_sends_nothing() {
    let (stage, service) = (Stage::new(), Service::start("one"));
    stage.all_to(service.address);
    let mut client = stage.connect();
    client
        .write_all(
            b"POST /echo HTTP/1.1\r\nHost: c\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
        )
        .unwrap();
    let mut interim = [0; 25];
    client.read_exact(&mut interim).unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"hello").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(body(&answer), "hello");
    let refused = stage.say(b"POST /refuse HTTP/1.1\r\nHost: c\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    assert!(refused.starts_with("HTTP/1.1 403") && refused.contains("Connection: close\r\n"), "{refused}");
}

#[test]
fn what_concerns_two_neighbours_only_is_not_passed_on() {
    let (stage, service) = (Stage::new(), Service::start("one"));
    stage.all_to(service.address);
    let headers = "Connection: X-Secret\r\nX-Secret: 1\r\nKeep-Alive: 5\r\nProxy-Authorization: x\r\nProxy-Connection: x\r\n\
        TE: gzip\r\nProxy: http://evil\r\nX-Forwarded-For: 9.9.9.9\r\nForwarded: for=9.9.9.9\r\nX-Forwarded-Proto: https\r\n";
    let answer = stage.get("/head", headers);
    let head = body(&answer).to_lowercase();
    for gone in ["x-secret", "keep-alive", "proxy", "te:", "connection:", "https"] {
        assert!(!head.contains(gone), "{gone} in {head}");
    }
    assert!(head.contains("x-forwarded-for: 9.9.9.9, 127.0.0.1\r\n"), "{head}");
    assert!(head.contains("forwarded: for=9.9.9.9, for=127.0.0.1;proto=http\r\n"), "{head}");
    let answer = stage.get("/hop", "").to_lowercase();
    assert!(answer.contains("x-theirs: 1") && !answer.contains("x-mine") && !answer.contains("keep-alive"), "{answer}");
}

#[test]
fn people_stay_where_their_seat_is_and_those_without_an_id_get_a_cookie() {
    let stage = Stage::with(|serving| serving["sticky"] = serde_json::json!({ "cookie": "session" }));
    let (old, new) = (Service::start("old"), Service::start("new"));
    let share = Share::percent(20);
    stage.split(old.address, new.address, share);
    let (below, above) = (person(share, true), person(share, false));
    for _ in 0..5 {
        assert_eq!(body(&stage.get("/hello", &format!("Cookie: a=b; session={below}\r\n"))), "new");
        assert_eq!(body(&stage.get("/hello", &format!("Cookie: session={above}\r\n"))), "old");
    }
    let first = stage.get("/hello", "");
    let cookie = first.split("Set-Cookie: ").nth(1).and_then(|rest| rest.split(';').next()).expect("no cookie");
    assert!(first.contains("; HttpOnly; SameSite=Lax\r\n"), "{first}");
    let again = stage.get("/hello", &format!("Cookie: {cookie}\r\n"));
    assert!(body(&first) == body(&again) && !again.contains("Set-Cookie"), "{again}");
    stage.split(old.address, new.address, Share::NONE);
    assert_eq!(body(&stage.get("/hello", &format!("Cookie: session={below}\r\n"))), "old");
    let counts = stage.counted("2", |counts| counts.requests() >= 5);
    // The one whose cookie is the session's, and perhaps the one who was given a cookie.
    assert!((1..=2).contains(&counts.people), "{counts:?}");
    assert!(counts.status[1] >= 5 && counts.latency.count() == counts.requests(), "{counts:?}");
}

#[test]
fn a_candidate_that_fails_before_it_answers_is_counted_and_last_good_saves_the_user() {
    let stage = Stage::with(|serving| serving["sticky"] = serde_json::json!({ "header": "x-user" }));
    let old = Service::start("old");
    let share = Share::ALL;
    // Refuses connections: nothing was sent, so even a POST goes to last-good.
    stage.split(old.address, crate::stage::free_address(), share);
    let post = "POST /echo HTTP/1.1\r\nHost: c\r\nX-User: a\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi";
    assert_eq!(body(&stage.say(post.as_bytes())), "hi");
    let counts = stage.counted("2", |counts| counts.aborted == 1);
    assert_eq!((counts.saved, counts.requests()), (1, 1));
    // Takes the request and breaks off: a GET is repeated, a POST is not.
    let broken = Service::saying(b"");
    stage.split(old.address, broken.address, share);
    assert_eq!(body(&stage.get("/hello", "X-User: a\r\n")), "old");
    assert!(stage.say(post.as_bytes()).starts_with("HTTP/1.1 502"));
    let counts = stage.counted("2", |counts| counts.aborted == 3);
    assert_eq!((counts.saved, counts.requests(), old.requests()), (2, 3, 2));
    assert_eq!(stage.counted("1", |_| true).requests(), 0, "last-good is charged for the candidate's requests");
}

#[test]
fn a_person_whose_client_tries_again_and_again_is_one_who_failed_and_others_are_others() {
    let stage = Stage::with(|serving| serving["sticky"] = serde_json::json!({ "header": "x-user" }));
    let service = Service::start("one");
    stage.all_to(service.address);
    // Over one connection, as such programs do.
    let mut client = stage.connect();
    for _ in 0..30 {
        client.write_all(b"GET /error HTTP/1.1\r\nHost: c\r\nX-User: loop\r\n\r\n").unwrap();
        let mut answer = [0; 38];
        client.read_exact(&mut answer).unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 500 Oh\r\n") && answer.ends_with(b"\r\n\r\n"));
    }
    for other in ["a", "b"] {
        stage.get("/error", &format!("X-User: {other}\r\n"));
    }
    // One well request of each: of who failed, and of who did not.
    stage.get("/hello", "X-User: loop\r\n");
    stage.get("/hello", "X-User: c\r\n");
    let counts = stage.counted("1", |counts| counts.requests() == 34);
    assert_eq!((counts.failed(), counts.again.failed, counts.again.requests), (32, 29, 30), "{counts:?}");
    // Who brings no id can't be told from others: each counts.
    (0..3).for_each(|_| drop(stage.get("/error", "")));
    let counts = stage.counted("1", |counts| counts.requests() == 37);
    assert_eq!((counts.failed(), counts.again.failed), (35, 29), "{counts:?}");
    // At another release they are as well as everybody.
    stage.split(service.address, service.address, Share::ALL);
    stage.get("/error", "X-User: loop\r\n");
    let counts = stage.counted("2", |counts| counts.requests() == 1);
    assert_eq!((counts.failed(), counts.again.is_none()), (1, true), "{counts:?}");
}

#[test]
fn a_request_of_lastgood_s_own_goes_to_the_candidate_and_counts_as_nobody() {
    let stage = Stage::with(|serving| serving["sticky"] = serde_json::json!({ "header": "x-user" }));
    let (old, new) = (Service::start("old"), Service::start("new"));
    let share = Share::of_seats(1);
    stage.split(old.address, new.address, share);
    let id = person(share, false);
    let own = format!("X-User: {id}\r\nX-Lastgood-Synthetic: sesame\r\n");
    assert_eq!(body(&stage.get("/hello", &own)), "old", "the table knows of none");
    let mut table = stage.table(Some(side("1", &[old.address])));
    (table.candidate, table.share) = (Some(side("2", &[new.address])), share);
    table.synthetic = Some("sesame".into());
    stage.control().route(&table).unwrap();
    assert_eq!(body(&stage.get("/hello", &own)), "new");
    let guessed = format!("X-User: {id}\r\nX-Lastgood-Synthetic: guessed\r\n");
    assert_eq!(body(&stage.get("/hello", &guessed)), "old");
    let counts = stage.counted("2", |counts| counts.requests() == 1);
    assert_eq!((counts.synthetic, counts.people), (1, 0));
    assert_eq!(stage.counted("1", |counts| counts.requests() == 2).synthetic, 0);
}

#[test]
fn what_a_fallback_answers_is_counted_by_route_and_by_status_and_never_what_failed() {
    let stage = Stage::new();
    let service = Service::start("one");
    let counted = |fallback: Option<Fallback>, release: &str| {
        let mut table = stage.table(Some(side(release, &[service.address])));
        table.fallback = fallback;
        stage.control().route(&table).unwrap();
        // The table is for each request that comes after it.
        for path in ["/hello", "/POLL/x?since=3", "/error"] {
            stage.get(path, "");
        }
        stage.counted(release, |counts| counts.requests() == 3).degraded
    };
    let routes = |routes: &[&str]| routes.iter().map(|route| route.parse().unwrap()).collect();
    assert_eq!(counted(None, "1"), 0);
    assert_eq!(counted(Some(Fallback { routes: routes(&["GET /poll/*", "/error"]), status: vec![] }), "2"), 1);
    assert_eq!(counted(Some(Fallback { routes: routes(&["POST /poll/*"]), status: vec![203] }), "3"), 0);
    assert_eq!(counted(Some(Fallback { routes: routes(&["/poll/*"]), status: vec![200, 500] }), "4"), 2);
}

#[test]
fn last_good_that_fails_is_never_replaced_by_the_candidate() {
    let stage = Stage::with(|serving| serving["sticky"] = serde_json::json!({ "header": "x-user" }));
    let new = Service::start("new");
    let share = Share::percent(50);
    stage.split(crate::stage::free_address(), new.address, share);
    let id = person(share, false);
    assert!(stage.get("/hello", &format!("X-User: {id}\r\n")).starts_with("HTTP/1.1 502"));
    assert_eq!(new.requests(), 0);
}

#[test]
fn an_instance_that_refuses_is_passed_over_for_another_of_last_good() {
    let (stage, service) = (Stage::new(), Service::start("one"));
    let dead = crate::stage::free_address();
    stage.control().route(&stage.table(Some(side("1", &[dead, service.address, dead])))).unwrap();
    for _ in 0..20 {
        assert_eq!(body(&stage.get("/hello", "")), "one");
    }
}

#[test]
fn an_answer_that_breaks_off_is_not_taken_for_the_whole() {
    let (stage, service) = (Stage::new(), Service::start("one"));
    stage.all_to(service.address);
    let cut = stage.get("/cut", "");
    assert!(cut.contains("Content-Length: 100\r\n") && cut.ends_with("only this"), "{cut}");
    let counts = stage.counted("1", |counts| counts.aborted == 1);
    assert_eq!(counts.requests(), 1);
}

#[test]
fn nonsense_of_a_service_becomes_502_and_never_reaches_the_client() {
    let stage = Stage::new();
    for nonsense in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"[..],
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"HTTP/1.1 200 OK\r\nX: a\r\n folded\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"\x16\x03\x01\x00\xa5",
        b"hello\r\n\r\n",
        b"",
    ] {
        let service = Service::saying(nonsense);
        stage.all_to(service.address);
        let answer = stage.say(b"POST / HTTP/1.1\r\nHost: c\r\nContent-Length: 0\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 502"), "{:?}: {answer}", String::from_utf8_lossy(nonsense));
    }
}

#[test]
fn a_client_that_leaves_is_noticed_and_its_request_is_given_up() {
    let (stage, service) = (Stage::new(), Service::start("one"));
    stage.all_to(service.address);
    for path in ["/silent", "/drip"] {
        let before = service.seen.left.load(Ordering::Relaxed);
        let mut client = stage.connect();
        client.write_all(format!("GET {path} HTTP/1.1\r\nHost: c\r\n\r\n").as_bytes()).unwrap();
        until("it is in flight", || stage.live("1").0 == 1);
        if path == "/drip" {
            client.read_exact(&mut [0; 10]).unwrap();
        }
        drop(client);
        until("the service is left", || service.seen.left.load(Ordering::Relaxed) == before + 1);
        until("nothing is in flight", || stage.live("1").0 == 0);
    }
    let counts = stage.counted("1", |counts| counts.left == 1 && counts.status[1] == 1);
    assert_eq!(counts.aborted, 0);
}

#[test]
fn a_service_that_does_not_answer_is_given_up_in_time() {
    let stage = Stage::with(|serving| serving["limits"] = serde_json::json!({ "answer_seconds": 1 }));
    let service = Service::start("one");
    stage.all_to(service.address);
    assert!(stage.get("/silent", "").starts_with("HTTP/1.1 504"));
    assert_eq!(stage.counted("1", |counts| counts.aborted == 1).requests(), 1);
    assert_eq!(body(&stage.get("/hello", "")), "one");
}

#[test]
fn a_slow_reader_holds_back_the_service_and_nobody_else() {
    let (stage, service) = (Stage::new(), Service::start("one"));
    stage.all_to(service.address);
    let size: u64 = 200 << 20;
    let mut slow = stage.connect();
    write!(slow, "GET /big?{size} HTTP/1.1\r\nHost: c\r\nConnection: close\r\n\r\n").unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(body(&stage.get("/hello", "")), "one");
    let status = std::fs::read_to_string(format!("/proc/{}/status", stage.child.id())).unwrap();
    let rss: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    assert!(rss < 60_000, "it holds {rss} KiB for a client that does not read");
    let mut sink = vec![0; 1 << 20];
    let mut got = 0;
    loop {
        match slow.read(&mut sink).unwrap() {
            0 => break,
            count => got += count as u64,
        }
    }
    assert!(got > size);
}
