//! HTTP steps against good, odd and hostile servers.

use crate::world::{LONG, Server, answer, free_port, probe, raw, read_request, target, target_with_secret};
use lastgood_domain::failure::Coded as _;
use lastgood_drivers::probe::{FailureKind, ProbeFailure};
use std::{
    io::{BufReader, Read as _, Write as _},
    time::Duration,
};

const GET: &str = "[[probe]]\nname = \"ask\"\ntimeout = \"300ms\"\nhttp = { path = \"/x\" }\n";

fn failure_of(bytes: Vec<u8>) -> ProbeFailure {
    let port = raw(move |mut stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        read_request(&mut reader);
        let _ = stream.write_all(&bytes);
    });
    probe(GET).run(&target(port), LONG).unwrap_err()
}

#[test]
fn a_log_in_and_what_follows_it_share_token_cookies_and_one_connection() {
    let server = Server::answering(|seen| match seen.line.as_str() {
        "POST /account/login HTTP/1.1" if seen.body == r#"{"account":"café \"o'clock","password":"s3cret!"}"# => {
            answer("200 OK", "Set-Cookie: session=abc123; Path=/\r\n", r#"{"status":"ok","data":{"token":"tok 1/2"}}"#)
        }
        "GET /notes?of=tok%201%2F2 HTTP/1.1"
            if seen.headers["authorization"] == "Bearer tok 1/2" && seen.headers["cookie"] == "session=abc123" =>
        {
            answer("200 OK", "", r#"{"notes":[{"text":"first","n":1}]}"#)
        }
        _ => answer("404 Not Found", "", "no"),
    });
    let mut target = target_with_secret(server.port, "s3cret!\n");
    target.vars.insert("account".into(), "café \"o'clock".into());
    let config = probe(
        r#"
        [[probe]]
        name = "log in"
        http = { method = "POST", path = "/account/login", json = { account = "{account}", password = "{secret:login}" } }
        expect = { status = [200, 201], headers = { "set-cookie" = "^session=.*" }, json = { "$.status" = "ok" } }
        capture = { token = { json = "$.data.token" }, session = { header = "set-cookie", regex = "session=([^;]+)" } }
        [[probe]]
        name = "list"
        http = { path = "/notes?of={token}", headers = { Authorization = "Bearer {token}" } }
        expect = { status = "2xx", body = "first", json = { "$.notes[0].n" = 1.0, "$.notes[0].text" = { matches = "^fir" }, "$.gone" = { exists = false } } }
        "#,
    );
    let facts = config.run(&target, LONG).unwrap();
    assert_eq!((facts.requests, facts.used.len()), (2, 0));
    let connections: Vec<usize> = server.seen().iter().map(|seen| seen.connection).collect();
    assert_eq!(connections, [1, 1]);
}

#[test]
fn the_alternative_that_answered_is_recorded_and_its_captures_go_on() {
    let server = Server::answering(|seen| match seen.line.as_str() {
        "GET /old HTTP/1.1" => answer("200 OK", "", r#"{"id":7}"#),
        "GET /id/7 HTTP/1.1" => answer("200 OK", "", ""),
        _ => answer("404 Not Found", "", "no such page"),
    });
    let text = r#"
        [[probe]]
        name = "list"
        any = [
          { name = "new", http = { path = "/new" }, capture = { id = { json = "$.id" } } },
          { name = "old", http = { path = "/old" }, capture = { id = { json = "$.id" } } },
        ]
        [[probe]]
        name = "one"
        http = { path = "/id/{id}" }
        "#;
    let facts = probe(text).run(&target(server.port), LONG).unwrap();
    assert_eq!(facts.used.into_iter().collect::<Vec<_>>(), [("list".to_owned(), "old".to_owned())]);
    assert_eq!(facts.requests, 3);

    let gone = text.replace("/old", "/older");
    let failure = probe(&gone).run(&target(server.port), LONG).unwrap_err();
    let tried: Vec<_> = failure.attempts.iter().map(|a| (a.alternative.as_str(), a.got.as_str())).collect();
    assert_eq!(tried, [("new", "status 404 and no such page"), ("old", "status 404 and no such page")]);
    assert_eq!((failure.code(), failure.expected()), ("probe-failed", "status 2xx"));
}

#[test]
fn an_answer_that_does_not_fit_says_what_was_expected_and_what_came() {
    let failure = failure_of(answer("500 Internal Server Error", "", "no such column: notes.pinned"));
    assert_eq!(
        failure.to_string(),
        "probe step \"ask\" failed: expected status 2xx, got status 500 and no such column: notes.pinned"
    );
    let cases = [
        ("expect = { headers = { x-a = \"1\" } }", "a header x-a with \"1\"", "none"),
        ("expect = { body = \"^b\" }", "a body with \"^b\"", "status 200 and {\"a\":[1]}"),
        ("expect = { json = { \"$.a[0]\" = 2 } }", "2 at $.a[0]", "1 there in {\"a\":[1]}"),
        ("expect = { json = { \"$.b\" = 2 } }", "2 at $.b", "nothing there in {\"a\":[1]}"),
        ("expect = { json = { \"$.a\" = { exists = false } } }", "no value at $.a", "[1] there in {\"a\":[1]}"),
        ("capture = { t = { json = \"$.t\" } }", "a value for t at $.t", "status 200 and {\"a\":[1]}"),
        ("capture = { t = { header = \"x-t\" } }", "a header x-t for t", "none"),
        ("capture = { t = { body = \"t=(.)\" } }", "\"t=(.)\" for t", "status 200 and {\"a\":[1]}"),
    ];
    let server = Server::answering(|_| answer("200 OK", "", "{\"a\":[1]}"));
    for (keys, expected, got) in cases {
        let failure = probe(&format!("{GET}{keys}")).run(&target(server.port), LONG).unwrap_err();
        assert_eq!((failure.expected(), failure.got()), (expected, got), "{keys}");
    }
}

#[test]
fn cut_wrong_and_endless_answers_are_failures_that_say_so() {
    let cases: [(&str, &str); 12] = [
        ("", "no answer before the connection was closed"),
        ("HTTP/1.1 200 OK\r\nContent-Le", "only the first 27 bytes of an answer before the connection was closed"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
            "status 200 and only 4 of 10 bytes of the body before the connection was closed",
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "a Content-Length that is no length"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "a Content-Length that is no length"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n", "a body of more than 1048576 bytes"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n",
            "status 200 and only the first 4 bytes of the body before the connection was closed",
        ),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "a chunk of size \"zz\""),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabcd\r\n0\r\n\r\n",
            "a chunk that is longer than it said",
        ),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "a transfer encoding that is not chunked"),
        ("SSH-2.0-OpenSSH_9.2\r\n\r\n", "an answer that is not HTTP/1.1: SSH-2.0-OpenSSH_9.2"),
        ("HTTP/1.1 101 Switching\r\n\r\n", "status 101 without being asked to switch protocols"),
    ];
    for (bytes, got) in cases {
        let failure = failure_of(bytes.into());
        assert_eq!((failure.kind, failure.got()), (FailureKind::Failed, got), "{bytes:?}");
    }
}

#[test]
fn a_body_and_headers_without_end_are_stopped_at_their_limits() {
    for (start, part, got) in [
        ("HTTP/1.1 200 OK\r\n\r\n", "x".repeat(4096), "a body of more than 1048576 bytes"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            format!("1000\r\n{}\r\n", "x".repeat(4096)),
            "a body of more than 1048576 bytes",
        ),
        ("HTTP/1.1 200 OK\r\n", "x-filler: y\r\n".repeat(100), "headers of more than 65536 bytes"),
        ("", "HTTP/1.1 103 Early\r\n\r\n".into(), "more than 10 interim answers"),
    ] {
        let port = raw(move |mut stream| {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            read_request(&mut reader);
            let _ = stream.write_all(start.as_bytes());
            while stream.write_all(part.as_bytes()).is_ok() {}
        });
        let text = GET.replace("300ms", "10s");
        assert_eq!(probe(&text).run(&target(port), LONG).unwrap_err().got(), got);
    }
}

#[test]
fn every_form_of_a_whole_answer_is_read() {
    for bytes in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        "HTTP/1.0 200 OK\r\n\r\nok",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;x=y\r\no\r\n1\r\nk\r\n0\r\nTrailer: z\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more than it said",
    ] {
        let port = raw(move |mut stream| {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            read_request(&mut reader);
            // One byte at a time, so that every border falls between two reads.
            let _ = stream.set_nodelay(true);
            for byte in bytes.bytes() {
                let _ = stream.write_all(&[byte]);
            }
        });
        let text = format!("{GET}expect = {{ body = \"^ok$\" }}").replace("300ms", "10s");
        assert!(probe(&text).run(&target(port), LONG).is_ok(), "{bytes:?}");
    }
}

#[test]
fn silence_and_dripping_bytes_end_at_the_time_out() {
    let silent = raw(|mut stream| drop(stream.read_to_end(&mut Vec::new())));
    let failure = probe(GET).run(&target(silent), LONG).unwrap_err();
    assert_eq!((failure.code(), failure.got()), ("probe-timeout", "no answer in time"));

    let dripping = raw(|mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
        while stream.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    let failure = probe(GET).run(&target(dripping), LONG).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Timeout);
    assert!(failure.got().starts_with("status 200 and only"), "{failure}");

    // The time of the whole probe counts as much as that of a step, retries included.
    let text = GET.replace("300ms", "1h").replace("name", "tries = 100\nname");
    let failure = probe(&text).run(&target(silent), Duration::from_millis(100)).unwrap_err();
    assert_eq!((failure.kind, failure.tries), (FailureKind::Timeout, 1));
}

#[test]
fn nobody_listening_is_unreachable_and_a_wrong_address_is_a_mistake() {
    let failure = probe(GET).run(&target(free_port()), LONG).unwrap_err();
    assert_eq!(failure.code(), "probe-unreachable");
    let mut wrong = target(1);
    wrong.base = "gopher://x".into();
    assert_eq!(probe(GET).run(&wrong, LONG).unwrap_err().code(), "probe-config");
}

#[test]
fn a_step_is_tried_as_often_as_it_says() {
    let count = std::sync::atomic::AtomicU32::new(0);
    let server = Server::answering(move |_| match count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
        2.. => answer("200 OK", "", ""),
        _ => answer("503 Service Unavailable", "", "starting"),
    });
    let text = GET.replace("name", "tries = 3\npause = \"1ms\"\nname");
    assert_eq!(probe(&text).run(&target(server.port), LONG).unwrap().requests, 3);
    let down = Server::answering(|_| answer("503 Service Unavailable", "", "starting"));
    let failure = probe(&text).run(&target(down.port), LONG).unwrap_err();
    assert_eq!((failure.tries, down.seen().len()), (3, 3));
}

#[test]
fn a_server_that_closes_after_each_answer_is_asked_on_a_new_connection() {
    let server = Server::answering(|_| answer("200 OK", "Connection: close\r\n", "x"));
    let twice = format!("{GET}{}", GET.replace("\"ask\"", "\"again\"").replace("path =", "method = \"POST\", path ="));
    assert_eq!(probe(&twice).run(&target(server.port), LONG).unwrap().requests, 2);

    // Says nothing of closing, and closes: a POST is sent once, on a connection that lives.
    let port = raw(|mut stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        read_request(&mut reader);
        let _ = stream.write_all(&answer("200 OK", "", "x"));
    });
    let config = probe(&twice.replace("name = \"again\"", "name = \"again\"\ntries = 2\npause = \"1ms\""));
    config.run(&target(port), LONG).unwrap();
}

#[test]
fn redirects_are_answers_and_a_captured_location_can_be_followed() {
    let server = Server::answering(|seen| match seen.line.as_str() {
        "GET /x HTTP/1.1" => answer("302 Found", "Location: /next?a=b%20c\r\n", ""),
        "GET /next?a=b%20c HTTP/1.1" => answer("204 No Content", "", ""),
        _ => answer("404 Not Found", "", ""),
    });
    assert_eq!(probe(GET).run(&target(server.port), LONG).unwrap_err().got(), "status 302 and nothing else");
    let text = format!(
        "{GET}expect = {{ status = \"3xx\" }}\ncapture = {{ to = {{ header = \"Location\" }} }}\n[[probe]]\nname = \"follow\"\nhttp = {{ path = \"{{to}}\" }}"
    );
    probe(&text).run(&target(server.port), LONG).unwrap();
}

#[test]
fn no_secret_token_or_cookie_that_a_server_echoes_gets_into_a_failure() {
    let secret = "p\"ä/ss wörd+9";
    let server = Server::answering(|seen| {
        let echo = format!(
            "{} {:?} {} cGFzczpwIsOkL3NzIHfDtnJkKzk= cCLDpC9zcyB3w7ZyZCs5 p%22%C3%A4%2Fss%20w%C3%B6rd%2B9 p%22%c3%a4%2fss+w%c3%b6rd%2b9 \
             p\\\"\\u00e4/ss w\\u00f6rd+9 p&quot;ä/ss wörd+9",
            seen.line,
            seen.headers.get("cookie"),
            seen.body
        );
        match seen.line.as_str() {
            "POST /login HTTP/1.1" => {
                answer("200 OK", "Set-Cookie: sid=cookie-value-1\r\n", r#"{"token":"token-value-1"}"#)
            }
            "GET /fresh HTTP/1.1" => answer("500 Oops", "", r#"{"token":"token-value-2"}"#),
            _ => answer("500 Oops", "", &format!("{echo} token-value-1")),
        }
    });
    let login = r#"
        [[probe]]
        name = "log in"
        http = { method = "POST", path = "/login", json = { password = "{secret:login}" } }
        capture = { token = { json = "$.token" } }
        "#;
    let echo = format!(
        "{login}[[probe]]\nname = \"echo\"\nhttp = {{ method = \"POST\", path = \"/echo?p={{secret:login}}\", body = \"{{secret:login}}\" }}"
    );
    let fresh = format!(
        "{login}[[probe]]\nname = \"fresh\"\nhttp = {{ path = \"/fresh\" }}\ncapture = {{ second = {{ json = \"$.token\" }} }}"
    );
    let target = target_with_secret(server.port, secret);
    for text in [echo, fresh] {
        let failure = probe(&text).run(&target, LONG).unwrap_err();
        let shown = format!("{failure} {failure:?}");
        for leak in
            [secret, "ss w", "wörd", "w%C3", "w%c3", "u00f6", "HfDtnJkK", "w7ZyZC", "cookie-value-1", "token-value"]
        {
            assert!(!shown.contains(leak), "{leak} in {shown}");
        }
    }
}

#[test]
fn a_captured_line_break_never_writes_a_header() {
    let server = Server::answering(|_| answer("200 OK", "", r#"{"t":"a\r\nX-Evil: 1"}"#));
    let text = format!(
        "{GET}capture = {{ t = {{ json = \"$.t\" }} }}\n[[probe]]\nname = \"use\"\nhttp = {{ path = \"/\", headers = {{ X = \"{{t}}\" }} }}"
    );
    let failure = probe(&text).run(&target(server.port), LONG).unwrap_err();
    assert_eq!((failure.code(), failure.step.as_str(), server.seen().len()), ("probe-config", "use", 1));
    let path = format!(
        "{GET}capture = {{ t = {{ json = \"$.t\" }} }}\n[[probe]]\nname = \"use\"\nhttp = {{ path = \"/{{t}}\" }}"
    );
    probe(&path).run(&target(server.port), LONG).unwrap();
    assert_eq!(server.seen()[2].line, "GET /a%0D%0AX-Evil%3A%201 HTTP/1.1");
}
