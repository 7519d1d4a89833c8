//! Programs as steps.

use crate::world::{LONG, probe, target, target_with_secret, write};
use lastgood_domain::failure::Coded as _;
use lastgood_drivers::probe::FailureKind;
use std::fs;

fn command(argv: &str, keys: &str) -> String {
    format!("[[probe]]\nname = \"run\"\ncommand = {argv}\n{keys}")
}

#[test]
fn a_program_is_told_its_variables_and_what_it_writes_is_compared_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    write(
        &folder.path().join("check"),
        "#!/bin/sh\necho \"$1 $LASTGOOD_ACCOUNT $LASTGOOD_PORT $PASSWORD\"\nenv >&2\n",
        0o755,
    );
    let mut target = target_with_secret(4242, "hidden-value");
    target.folder = folder.path().into();
    target.vars.insert("account".into(), "al ice".into());
    let text = command(
        r#"["./check", "{account}"]"#,
        r#"env = { PASSWORD = "{secret:login}" }
        expect = { stdout = "^al ice al ice 4242 hidden-value\n$" }
        capture = { who = { stdout = "^(al)" } }
        [[probe]]
        name = "use"
        command = ["/bin/sh", "-c", "test \"$LASTGOOD_WHO\" = al && test -z \"$CARGO_MANIFEST_DIR\""]"#,
    );
    probe(&text).run(&target, LONG).unwrap();
    let wrong = text.replace("4242", "4343");
    let failure = probe(&wrong).run(&target, LONG).unwrap_err();
    assert_eq!(failure.got(), "exit status 0 and al ice al ice 4242 [secret login]");
}

#[test]
fn another_exit_status_than_expected_fails_with_what_it_wrote() {
    let failing = command(r#"["/bin/sh", "-c", "echo broken >&2; exit 3"]"#, "");
    let failure = probe(&failing).run(&target(1), LONG).unwrap_err();
    assert_eq!((failure.expected(), failure.got()), ("exit status 0", "exit status 3 and broken"));
    probe(&command(r#"["/bin/sh", "-c", "exit 3"]"#, "expect = { exit = 3 }")).run(&target(1), LONG).unwrap();
    let killed = command(r#"["/bin/sh", "-c", "kill -9 $$"]"#, "");
    assert_eq!(probe(&killed).run(&target(1), LONG).unwrap_err().got(), "exit status 137 and nothing else");
    let missing = command(r#"["/nowhere/program"]"#, "");
    assert_eq!(probe(&missing).run(&target(1), LONG).unwrap_err().code(), "probe-config");
}

fn is_running(pid: &str) -> bool {
    // A zombie has ended; whoever inherited it has only not looked yet.
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn a_program_that_hangs_is_killed_with_all_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let mut target = target(1);
    target.folder = folder.path().into();
    let text =
        command(r#"["/bin/sh", "-c", "sleep 600 & echo $! > child; echo $$ > self; wait"]"#, "timeout = \"500ms\"");
    let failure = probe(&text).run(&target, LONG).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Timeout);
    for file in ["self", "child"] {
        let pid = fs::read_to_string(folder.path().join(file)).unwrap();
        assert!(eventually(|| !is_running(pid.trim())), "{file} still runs");
    }
}

#[test]
fn what_a_program_leaves_in_the_background_neither_holds_it_up_nor_stays() {
    let folder = tempfile::tempdir().unwrap();
    let mut target = target(1);
    target.folder = folder.path().into();
    let text =
        command(r#"["/bin/sh", "-c", "sleep 600 & echo $! > child; echo done"]"#, "expect = { stdout = \"done\" }");
    probe(&text).run(&target, LONG).unwrap();
    let pid = fs::read_to_string(folder.path().join("child")).unwrap();
    assert!(eventually(|| !is_running(pid.trim())));
}

#[test]
fn output_without_end_is_stopped() {
    let failure = probe(&command(r#"["yes"]"#, "timeout = \"10s\"")).run(&target(1), LONG).unwrap_err();
    assert_eq!(failure.got(), "more than 1048576 bytes of output");
}

/// The kernel takes a killed process away a moment later.
fn eventually(holds: impl Fn() -> bool) -> bool {
    (0..2_000).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(1));
        holds()
    })
}
