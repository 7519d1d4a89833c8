//! The load counts what really happened.

use crate::instance::Instance;
use last_layer::load::Report;
use last_layer::{Fault, Release};
use rustix::process::Signal;
use std::process::{Child, Command, Stdio};

fn load(service: &Instance, arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_last-layer-load"));
    command.arg("--address").arg(service.address().to_string()).args(arguments);
    command.stdout(Stdio::piped()).spawn().unwrap()
}

fn report(child: Child) -> (bool, Report) {
    let output = child.wait_with_output().unwrap();
    (output.status.success(), serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn on_a_good_release_everything_sent_reaches_everybody_once() {
    let world = tempfile::tempdir().unwrap();
    let service = Instance::start("1.1.0", world.path());
    let run = load(&service, &["--clients", "8", "--rooms", "2", "--messages", "15", "--for", "60s", "--pause", "1ms"]);
    let (well, report) = report(run);
    assert!(well, "{report:?}");
    assert_eq!((report.sent, report.acknowledged, report.delivered), (120, 120, 480));
    assert_eq!((report.missing, report.doubled, report.out_of_order, report.failed_requests), (0, 0, 0, 0));
    assert_eq!((report.reconnects, report.releases.len()), (0, 1), "{report:?}");
}

#[test]
fn a_kill_is_seen_as_cuts_and_failures_and_loses_nothing() {
    let world = tempfile::tempdir().unwrap();
    let service = Instance::start("1.1.0", world.path());
    let run = load(&service, &["--clients", "6", "--messages", "200", "--for", "60s", "--pause", "5ms"]);
    crate::instance::await_true(|| stored(world.path()) > 100);
    let port = service.port.to_string();
    service.kill();
    // The same address again, as whoever restarts a service gives it.
    let mut again = Command::new(env!("CARGO_BIN_EXE_last-layer"));
    again.args(["--release", "1.5.0", "--port", &port, "--data"]).arg(world.path().join("data"));
    let mut again = again.stderr(Stdio::null()).spawn().unwrap();
    let (well, report) = report(run);
    again.kill().unwrap();
    again.wait().unwrap();
    assert!(well, "{report:?}");
    assert_eq!(report.sent, 1_200);
    assert!(report.cuts >= 6 && report.failed_requests > 0, "{report:?}");
}

#[test]
fn a_stop_with_a_farewell_is_a_close_and_no_cut() {
    let world = tempfile::tempdir().unwrap();
    let mut service = Instance::start("1.1.0", world.path());
    let run = load(&service, &["--clients", "4", "--messages", "100", "--for", "60s", "--pause", "5ms"]);
    crate::instance::await_true(|| stored(world.path()) > 50);
    let port = service.port.to_string();
    service.signal(Signal::TERM);
    assert!(service.end().success());
    let mut again = Command::new(env!("CARGO_BIN_EXE_last-layer"));
    again.args(["--release", "1.1.0", "--port", &port, "--data"]).arg(world.path().join("data"));
    let mut again = again.stderr(Stdio::null()).spawn().unwrap();
    let (well, report) = report(run);
    again.kill().unwrap();
    again.wait().unwrap();
    assert!(well, "{report:?}");
    assert_eq!((report.closes.get("1001"), report.cuts), (Some(&4), 0), "{report:?}");
}

#[test]
fn a_release_that_forgets_messages_is_counted_and_ends_badly() {
    let world = tempfile::tempdir().unwrap();
    let service = Instance::start("1.3.4", world.path());
    let (well, report) =
        report(load(&service, &["--clients", "4", "--messages", "60", "--for", "2s", "--pause", "1ms"]));
    assert!(!well, "{report:?}");
    assert!(report.missing > 0 && !report.holds, "{report:?}");
    assert_eq!(report.doubled, 0);
}

#[test]
fn errors_are_counted_before_they_are_repeated_away() {
    let world = tempfile::tempdir().unwrap();
    let bad = Release { fault: Fault::Errors { percent: 20 }, ..Release::of_catalogue("1.2.0").unwrap() };
    let service = Instance::start_release(&bad, world.path());
    let (well, report) =
        report(load(&service, &["--clients", "4", "--messages", "40", "--for", "60s", "--pause", "1ms"]));
    assert!(well, "{report:?}");
    assert_eq!((report.sent, report.acknowledged), (160, 160));
    assert!(report.failed_requests > 5, "{report:?}");
    assert!(report.failures.contains_key("post: status 500"), "{report:?}");
}

fn stored(world: &std::path::Path) -> i64 {
    let data = rusqlite::Connection::open(world.join("data/last-layer.sqlite")).unwrap();
    data.busy_timeout(crate::instance::PATIENCE).unwrap();
    data.query_row("SELECT count(*) FROM message", [], |row| row.get(0)).unwrap()
}
