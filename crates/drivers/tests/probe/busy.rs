//! Whether an instance is in use.

use crate::world::{Server, answer, busy, free_port, raw, target, try_busy};
use lastgood_domain::facts::Busyness;
use std::{
    fs::{self, File},
    io::Read as _,
    time::{Duration, SystemTime},
};

const HTTP: &str =
    r#"busy = { http = { path = "/busy" }, expect = { status = 200, json = { "$.busy" = true } }, timeout = "300ms" }"#;

fn says(status: &'static str, body: &'static str) -> Busyness {
    let server = Server::answering(move |_| answer(status, "", body));
    busy(HTTP).ask(&target(server.port))
}

#[test]
fn only_a_clear_no_is_idle() {
    assert!(matches!(says("200 OK", r#"{"busy":true}"#), Busyness::Busy(_)));
    assert_eq!(says("200 OK", r#"{"busy":false}"#), Busyness::Idle);
    for (status, body) in [
        ("500 Oops", r#"{"busy":false}"#),
        ("404 Not Found", r#"{"busy":false}"#),
        ("302 Found", ""),
        ("200 OK", "<html>"),
        ("200 OK", ""),
        // The field was renamed: nobody knows what that means.
        ("200 OK", r#"{"sessions":3}"#),
    ] {
        assert!(matches!(says(status, body), Busyness::CannotTell(_)), "{status} {body}");
    }
    assert!(matches!(busy(HTTP).ask(&target(free_port())), Busyness::CannotTell(_)));
    let hanging = raw(|mut stream| drop(stream.read_to_end(&mut Vec::new())));
    assert!(matches!(busy(HTTP).ask(&target(hanging)), Busyness::CannotTell(_)));
}

#[test]
fn a_command_says_idle_busy_or_nothing() {
    let ask = |script: &str| {
        busy(&format!("busy = {{ command = [\"/bin/sh\", \"-c\", \"{script}\"], timeout = \"500ms\" }}"))
            .ask(&target(1))
    };
    assert_eq!(ask("exit 0"), Busyness::Idle);
    assert_eq!(ask("echo two editors; echo more; exit 75"), Busyness::Busy("two editors".into()));
    assert!(matches!(ask("exit 1"), Busyness::CannotTell(_)));
    assert!(matches!(ask("kill -9 $$"), Busyness::CannotTell(_)));
    assert!(matches!(ask("sleep 600"), Busyness::CannotTell(_)));
}

#[test]
fn a_log_that_was_written_lately_is_busy_and_a_missing_one_tells_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let mut target = target(1);
    target.vars.insert("data".into(), folder.path().to_str().unwrap().into());
    let any = busy(r#"busy = { log = "{data}/access.log", quiet = "10m" }"#);
    let posts = busy(r#"busy = { log = "{data}/access.log", matching = "POST", quiet = "10m" }"#);
    assert!(matches!(any.ask(&target), Busyness::CannotTell(_)));
    assert!(matches!(posts.ask(&target), Busyness::CannotTell(_)));
    fs::write(&path, "GET /health\n").unwrap();
    assert!(matches!(any.ask(&target), Busyness::Busy(_)));
    assert_eq!(posts.ask(&target), Busyness::Idle);
    fs::write(&path, "POST /notes\nGET /health\n").unwrap();
    assert!(matches!(posts.ask(&target), Busyness::Busy(_)), "a line without a time counts as new");
    fs::write(&path, "2020-01-31T12:00:00Z POST /notes\n[31/Jan/2020:12:00:00 +0000] \"POST /notes\"\n").unwrap();
    assert_eq!(posts.ask(&target), Busyness::Idle);
    let now = jiff::Timestamp::now();
    fs::write(&path, format!("{now} POST /notes\nGET /health\n")).unwrap();
    assert!(matches!(posts.ask(&target), Busyness::Busy(_)));
    let file = File::options().write(true).open(&path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(601)).unwrap();
    assert_eq!(any.ask(&target), Busyness::Idle);
    assert_eq!(posts.ask(&target), Busyness::Idle);
    file.set_modified(SystemTime::now() + Duration::from_secs(3_600)).unwrap();
    assert!(matches!(any.ask(&target), Busyness::CannotTell(_)), "a clock that was set back");
}

#[test]
fn keys_that_nobody_would_heed_are_refused() {
    for (text, says) in [
        (r#"busy = { http = { path = "/b" }, expect = { json = { "$.a" = 1 } }, quiet = "0s" }"#, "longer than 0s"),
        (r#"busy = { command = ["x"], quiet = "0s" }"#, "longer than 0s"),
        (r#"busy = { http = { path = "/b" }, expect = { status = 200 } }"#, "which answer means busy"),
        (r#"busy = { log = "x" }"#, "log needs quiet"),
        (r#"busy = { log = "x", quiet = "1m", timeout = "1s" }"#, "timeout means nothing for log"),
        (r#"busy = { command = ["x"], log = "y" }"#, "busy is one of"),
        (r#"busy = {}"#, "busy is one of"),
    ] {
        let error = try_busy(text).unwrap_err();
        assert!(error.contains(says), "{text}: {error}");
    }
}

#[test]
fn where_idle_is_told_every_other_answer_is_not_idle() {
    let config = r#"busy = { http = { path = "/busy" }, idle = { body = "^idle$" }, timeout = "300ms" }"#;
    let says = |status: &'static str, body: &'static str| {
        let server = Server::answering(move |_| answer(status, "", body));
        busy(config).ask(&target(server.port))
    };
    assert_eq!(says("200 OK", "idle"), Busyness::Idle);
    assert!(matches!(says("200 OK", "two editors"), Busyness::Busy(_)));
    assert!(matches!(says("200 OK", "<html>down for maintenance"), Busyness::Busy(_)));
    assert!(matches!(says("503 Down", "idle"), Busyness::CannotTell(_)));
    let json = r#"busy = { http = { path = "/busy" }, idle = { json = { "$.open" = 0 } }, timeout = "300ms" }"#;
    let server = Server::answering(|_| answer("200 OK", "", r#"{"sessions":0}"#));
    assert!(matches!(busy(json).ask(&target(server.port)), Busyness::CannotTell(_)));
    assert!(
        busy(json).ask(&target(Server::answering(|_| answer("200 OK", "", r#"{"open":0.0}"#)).port)) == Busyness::Idle
    );
}

#[test]
fn a_text_that_means_busy_leaves_open_what_an_error_page_means_and_is_refused() {
    for expect in [r#"body = "busy""#, r#"headers = { x-busy = "yes" }"#] {
        let error = try_busy(&format!("busy = {{ http = {{ path = \"/\" }}, expect = {{ {expect} }} }}")).unwrap_err();
        assert!(error.contains("idle = { body ="), "{error}");
    }
    let both =
        r#"busy = { http = { path = "/" }, expect = { json = { "$.a" = 1 } }, idle = { json = { "$.a" = 0 } } }"#;
    assert!(try_busy(both).is_err());
    assert!(try_busy(r#"busy = { http = { path = "/" }, idle = { status = 200 } }"#).is_err());
}
