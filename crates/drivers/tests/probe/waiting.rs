//! Becoming ready.

use crate::world::{LONG, Server, answer, free_port, raw, step, target};
use lastgood_domain::failure::{Coded as _, Failure};
use lastgood_drivers::probe::{ProbeTarget, ReadyFailure, wait_ready};
use std::{
    cell::Cell,
    io::Read as _,
    net::TcpListener,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

const HEALTH: &str = "http = { path = \"/health\" }\nexpect = { status = 200 }\ntimeout = \"200ms\"";

#[test]
fn a_port_that_accepts_is_ready_where_no_step_says_more() {
    let port = raw(|_| {});
    wait_ready(None, &target(port), LONG, &|| None).unwrap();
}

#[test]
fn an_instance_that_listens_late_is_waited_for() {
    let port = free_port();
    let (asked, listener) = (Cell::new(0), Cell::new(None));
    // The question whether it died comes after each try: the third try is the first that can find it.
    let died = || {
        asked.set(asked.get() + 1);
        if asked.get() == 2 {
            listener.set(Some(TcpListener::bind(("127.0.0.1", port)).unwrap()));
        }
        None
    };
    wait_ready(None, &target(port), LONG, &died).unwrap();
    assert_eq!(asked.get(), 3);
}

#[test]
fn a_health_page_that_is_not_yet_well_is_asked_again() {
    let count = AtomicU32::new(0);
    let server = Server::answering(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        5.. => answer("200 OK", "", "ok"),
        _ => answer("503 Service Unavailable", "", "migrating"),
    });
    wait_ready(Some(&step(HEALTH)), &target(server.port), LONG, &|| None).unwrap();
    assert_eq!(server.seen().len(), 6);
}

#[test]
fn an_instance_that_ends_is_not_waited_for() {
    let failure = wait_ready(None, &target(free_port()), LONG, &|| Some("exit status 1".into())).unwrap_err();
    assert!(matches!(&failure, ReadyFailure::Died { why, .. } if why == "exit status 1"), "{failure}");
    assert_eq!(failure.code(), "ready-died");
    // Even if something answers in its place.
    let server = Server::answering(|_| answer("200 OK", "", ""));
    let failure = wait_ready(Some(&step(HEALTH)), &target(server.port), LONG, &|| Some("killed".into()));
    assert_eq!(failure.unwrap_err().code(), "ready-died");
}

#[test]
fn time_runs_out_with_the_last_reason() {
    let server = Server::answering(|_| answer("503 Service Unavailable", "", "migrating"));
    let failure =
        wait_ready(Some(&step(HEALTH)), &target(server.port), Duration::from_millis(50), &|| None).unwrap_err();
    let told = Failure::of(&failure);
    assert_eq!(told.code, "ready-timeout");
    assert_eq!(
        told.message,
        "it was not ready within 50 ms: probe step \"step\" failed: expected status 200, got status 503 and migrating"
    );
    // A last try that was cut off by the limit hides nothing: the answers before it are what the program said.
    let slow_at_last = Server::answering({
        let began = std::time::Instant::now();
        move |_| {
            if began.elapsed() > Duration::from_millis(950) {
                std::thread::sleep(Duration::from_millis(200));
            }
            answer("503 Service Unavailable", "", "migrating")
        }
    });
    let failure = wait_ready(Some(&step(HEALTH)), &target(slow_at_last.port), Duration::from_secs(1), &|| None);
    let told = Failure::of(&failure.unwrap_err()).message;
    assert!(told.ends_with("got status 503 and migrating"), "{told}");
    let hanging = raw(|mut stream| drop(stream.read_to_end(&mut Vec::new())));
    let failure = wait_ready(Some(&step(HEALTH)), &target(hanging), Duration::from_millis(50), &|| None);
    assert_eq!(failure.unwrap_err().code(), "ready-timeout");
}

#[test]
fn what_can_never_be_ready_is_not_waited_for() {
    let wrong = ProbeTarget { base: "nonsense:x".into(), ..ProbeTarget::default() };
    assert_eq!(wait_ready(None, &wrong, LONG, &|| None).unwrap_err().code(), "probe-config");
    let unknown = step("http = { path = \"/{nothing}\" }");
    assert_eq!(wait_ready(Some(&unknown), &target(free_port()), LONG, &|| None).unwrap_err().code(), "probe-config");
}
