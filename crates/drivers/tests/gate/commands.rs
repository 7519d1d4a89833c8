//! Programs and steps: an end in time that says yes, and nothing else.

use crate::{asked, server::Server};
use lastgood_domain::event::Verdict::{CannotTell, Fail, Pass};

fn run(script: &str, more: &str) -> (lastgood_domain::event::Verdict, String) {
    let folder = tempfile::tempdir().unwrap();
    asked(&format!("command = {{ argv = [\"sh\", \"-c\", '''{script}''']{more} }}\ntimeout = \"500ms\""), folder.path())
}

#[test]
fn only_an_end_with_0_in_time_passes() {
    assert_eq!(run("echo well", ""), (Pass, "exit status 0; it wrote: well".into()));
    assert_eq!(run("echo no; exit 1", ""), (Fail, "exit status 1; it wrote: no".into()));
    for no in [100, 101] {
        assert_eq!(run(&format!("exit {no}"), "").0, Fail);
    }
    // nextest, pytest: no test was run; a shell: no such program; a signal.
    for neither in ["exit 4", "exit 5", "no-such-program-here", "kill -9 $$"] {
        assert_eq!(run(neither, "").0, CannotTell, "{neither}");
    }
    let (verdict, because) = run("sleep 30", "");
    assert_eq!(verdict, CannotTell);
    assert!(because.contains("no end in time"), "{because}");
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(asked("command = { argv = [\"./not-there\"] }", folder.path()).0, CannotTell);
    assert_eq!(asked("command = { argv = [\"echo\", \"{release}\"] }", folder.path()).0, CannotTell);
}

#[test]
fn a_filter_that_matches_nothing_is_no_proof() {
    let expect = ", expect = \"[1-9][0-9]* passed\"";
    assert_eq!(run("echo 0 passed", expect).0, CannotTell);
    assert_eq!(run("echo 12 passed", expect).0, Pass);
}

#[test]
fn a_program_is_told_what_it_is_asked_about_and_no_secret_is_shown() {
    let (_, because) = run("echo {tag} $LASTGOOD_COMMIT $LASTGOOD_SERVICE token-of-a-test", "");
    let commit = crate::COMMIT;
    assert!(because.starts_with(&format!("exit status 0; it wrote: 1.2.0 {commit} shop ")), "{because}");
    assert!(!because.contains("token-of-a-test"), "{because}");
}

#[test]
fn steps_pass_fail_or_reach_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::new(|request| match request.target.as_str() {
        "/version" => (200, "{\"version\":\"1.2.0\"}".into()),
        _ => (500, "{}".into()),
    });
    let step = |path: &str, url: &str| {
        format!(
            "timeout = \"2s\"\n[probe]\nurl = \"{url}\"\n[[probe.steps]]\nname = \"version\"\nhttp = {{ path = \"{path}\" }}\n\
             expect = {{ status = 200, json = {{ \"$.version\" = \"{{tag}}\" }} }}\n"
        )
    };
    assert_eq!(asked(&step("/version", &server.url), folder.path()).0, Pass);
    assert_eq!(asked(&step("/other", &server.url), folder.path()).0, Fail);
    assert_eq!(asked(&step("/version", "http://127.0.0.1:1"), folder.path()).0, CannotTell);
}
