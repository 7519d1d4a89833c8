//! Programs as receivers.

use crate::{BODY, deliver, endpoint};
use lastgood_drivers::notice::{Delivery, Endpoint};
use std::{fs, path::Path, time::Duration};

fn program(dir: &Path, script: &str, timeout: &str) -> Endpoint {
    let path = dir.join("tell.sh");
    fs::write(&path, script).unwrap();
    endpoint(&format!("command = [\"/bin/sh\", {:?}, {dir:?}]\ntimeout = {timeout:?}", path), &[])
}

#[test]
fn a_program_gets_the_body_and_the_names_and_nothing_else_of_ours() {
    let dir = tempfile::tempdir().unwrap();
    let script = "cat > $1/body; env > $1/env";
    assert_eq!(deliver(&program(dir.path(), script, "10s")), Delivery::Delivered { code: Some(0) });
    assert_eq!(fs::read(dir.path().join("body")).unwrap(), BODY);
    let env = fs::read_to_string(dir.path().join("env")).unwrap();
    for line in
        ["LASTGOOD_NOTICE_KIND=rolled-back", "LASTGOOD_NOTICE_ID=msg_0123", "LASTGOOD_NOTICE_SUBJECT=service/app"]
    {
        assert!(env.contains(line), "{env}");
    }
    assert!(!env.contains("CARGO"), "{env}");
}

#[test]
fn a_program_that_fails_is_asked_again_for_it_may_have_had_no_network() {
    let dir = tempfile::tempdir().unwrap();
    let end = |script| deliver(&program(dir.path(), script, "10s"));
    assert!(matches!(end("exit 75"), Delivery::Retry { code: Some(75), .. }));
    let Delivery::Retry { code: Some(3), class, why, .. } = end("echo no such list >&2; exit 3") else { panic!() };
    assert_eq!((class.as_str(), why.as_str()), ("exit-3", "ended with status 3: no such list"));
    assert!(matches!(end("kill -9 $$"), Delivery::Retry { code: None, .. }));
    let missing = endpoint("command = [\"/nonexistent/tell\"]", &[]);
    assert!(matches!(deliver(&missing), Delivery::Retry { class, .. } if class == "not-started"));
}

#[test]
fn a_time_out_ends_the_program_and_all_it_started() {
    let dir = tempfile::tempdir().unwrap();
    // The pipe is closed when the last holder of its writing end has died.
    let pipe = dir.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (tell, told) = std::sync::mpsc::channel();
    let reading = pipe.clone();
    std::thread::spawn(move || tell.send(fs::read_to_string(reading).unwrap()));
    let script = "exec 3> $1/pipe; echo started >&3; sleep 1000 & wait";
    let Delivery::Retry { class, why, .. } = deliver(&program(dir.path(), script, "1s")) else { panic!() };
    assert_eq!(class, "timeout");
    assert!(why.contains("did not end within 1.0 s"), "{why}");
    assert_eq!(told.recv_timeout(Duration::from_secs(20)).expect("something still runs"), "started\n");
}

#[test]
fn a_program_that_reads_nothing_or_complains_without_end_holds_nobody() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(deliver(&program(dir.path(), "exit 0", "10s")), Delivery::Delivered { code: Some(0) });
    let Delivery::Retry { why, .. } = deliver(&program(dir.path(), "head -c 3000000 /dev/zero >&2; exit 1", "10s"))
    else {
        panic!()
    };
    assert!(why.len() < 300, "{} bytes were kept", why.len());
}
