//! Forges, by a server that answers in the form that GitHub and Gitea document; no real one can be had here.

use crate::{COMMIT, asked, asked_of, server::Server, subject};
use lastgood_domain::event::Verdict::{self, CannotTell, Fail, Pass};
use lastgood_drivers::gate::Subject;
use serde_json::{Value, json};

fn ago(hours: i64) -> String {
    (jiff::Timestamp::now() - jiff::SignedDuration::from_hours(hours)).to_string()
}

fn run(name: &str, status: &str, conclusion: Option<&str>, hours: i64) -> Value {
    json!({
        "id": 7, "head_sha": COMMIT, "name": name, "status": status, "conclusion": conclusion,
        "started_at": ago(hours), "completed_at": conclusion.map(|_| ago(hours)), "app": { "slug": "github-actions" },
    })
}

fn github(runs: Vec<Value>) -> Server {
    Server::new(move |request| {
        let page: usize = request.target.rsplit("&page=").next().unwrap().parse().unwrap();
        let some: Vec<&Value> = runs.iter().skip((page - 1) * 50).take(50).collect();
        (200, json!({ "total_count": runs.len(), "check_runs": some }).to_string())
    })
}

fn toml(kind: &str, url: &str, checks: &str) -> String {
    format!(
        "max_age = \"24h\"\ntimeout = \"1s\"\n{kind} = {{ url = \"{url}\", repository = \"acme/shop\", checks = [{checks}], token = \"forge\" }}"
    )
}

fn says(kind: &str, server: &Server, checks: &str) -> (Verdict, String) {
    let folder = tempfile::tempdir().unwrap();
    asked(&toml(kind, &server.url, checks), folder.path())
}

#[test]
fn named_check_runs_of_this_commit_that_succeeded_pass() {
    let server =
        github(vec![run("build", "completed", Some("success"), 1), run("test", "completed", Some("success"), 2)]);
    let (verdict, because) = says("github", &server, "\"build\", \"test\"");
    assert_eq!((verdict, because.as_str()), (Pass, "2 checks succeeded at 3f0c2b9a4d5e: build, test"));
    let asked = &server.asked()[0];
    assert_eq!(asked.target, format!("/repos/acme/shop/commits/{COMMIT}/check-runs?filter=latest&per_page=50&page=1"));
    assert_eq!(asked.headers["authorization"], "Bearer token-of-a-test");
}

#[test]
fn a_skipped_neutral_cancelled_running_missing_or_old_check_is_no_pass() {
    for (status, conclusion, hours, verdict) in [
        ("completed", Some("skipped"), 1, CannotTell),
        ("completed", Some("neutral"), 1, CannotTell),
        ("completed", Some("cancelled"), 1, CannotTell),
        ("completed", Some("stale"), 1, CannotTell),
        ("completed", Some("action_required"), 1, CannotTell),
        ("in_progress", None, 1, CannotTell),
        ("queued", None, 1, CannotTell),
        ("completed", Some("success"), 30, CannotTell),
        ("completed", Some("success"), -2, CannotTell),
        ("completed", Some("failure"), 1, Fail),
        ("completed", Some("timed_out"), 1, Fail),
    ] {
        let server =
            github(vec![run("build", "completed", Some("success"), 1), run("test", status, conclusion, hours)]);
        let (said, because) = says("github", &server, "\"build\", \"test\"");
        assert_eq!(said, verdict, "{status} {conclusion:?}: {because}");
        // Another check's end is nobody's business.
        assert_eq!(says("github", &server, "\"build\"").0, Pass);
    }
    let renamed = github(vec![run("unit tests", "completed", Some("success"), 1)]);
    assert_eq!(says("github", &renamed, "\"test\""), (CannotTell, "test did not run at 3f0c2b9a4d5e".into()));
    // Two apps with one name: both must have succeeded.
    let twice =
        github(vec![run("test", "completed", Some("success"), 1), run("test", "completed", Some("failure"), 1)]);
    assert_eq!(says("github", &twice, "\"test\"").0, Fail);
}

#[test]
fn every_page_is_read() {
    let mut runs: Vec<Value> = (0..120).map(|n| run(&format!("job {n}"), "completed", Some("success"), 1)).collect();
    runs.push(run("last", "completed", Some("success"), 1));
    let server = github(runs);
    assert_eq!(says("github", &server, "\"last\", \"job 0\"").0, Pass);
    assert_eq!(server.asked().len(), 3);
}

#[test]
fn a_forge_that_answers_about_another_commit_not_at_all_or_nonsense_is_no_yes() {
    let mut other = run("test", "completed", Some("success"), 1);
    other["head_sha"] = "00000000000000000000000000000000000000aa".into();
    assert_eq!(says("github", &github(vec![other]), "\"test\"").0, CannotTell);
    for (status, body) in
        [(401, "{\"message\":\"Bad credentials\"}"), (404, "{}"), (200, "hello"), (200, "{}"), (0, "")]
    {
        let server = Server::new(move |_| (status, body.to_owned()));
        for kind in ["github", "gitea"] {
            let (verdict, because) = says(kind, &server, "\"test\"");
            assert_eq!(verdict, CannotTell, "{status} {body}");
            assert!(!because.contains("token-of-a-test"));
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let server = github(vec![run("test", "completed", Some("success"), 1)]);
    let without = Subject { commit: None, ..subject() };
    assert_eq!(asked_of(&toml("github", &server.url, "\"test\""), folder.path(), &without).0, CannotTell);
    let strange = Subject { commit: Some("main/../x".into()), ..subject() };
    assert_eq!(asked_of(&toml("github", &server.url, "\"test\""), folder.path(), &strange).0, CannotTell);
    assert!(server.asked().is_empty());
}

fn status(context: &str, status: &str, hours: i64) -> Value {
    json!({ "id": 1, "status": status, "context": context, "created_at": ago(hours), "updated_at": ago(hours) })
}

fn gitea(statuses: Vec<Value>) -> Server {
    Server::new(move |request| {
        let page: usize = request.target.rsplit("&page=").next().unwrap().parse().unwrap();
        let some: Vec<&Value> = statuses.iter().skip((page - 1) * 50).take(50).collect();
        (200, json!(some).to_string())
    })
}

#[test]
fn of_giteas_statuses_the_newest_of_each_name_counts() {
    let server =
        gitea(vec![status("ci/test", "success", 1), status("ci/test", "failure", 3), status("ci/lint", "pending", 1)]);
    assert_eq!(says("gitea", &server, "\"ci/test\"").0, Pass);
    assert_eq!(
        server.asked()[0].target,
        format!("/api/v1/repos/acme/shop/commits/{COMMIT}/statuses?sort=recentupdate&limit=50&page=1")
    );
    assert_eq!(says("gitea", &server, "\"ci/lint\"").0, CannotTell);
    assert_eq!(says("gitea", &server, "\"ci/other\"").0, CannotTell);
    let server = gitea(vec![status("ci/test", "success", 3), status("ci/test", "failure", 1)]);
    assert_eq!(says("gitea", &server, "\"ci/test\"").0, Fail);
    for word in ["warning", "skipped", "pending", ""] {
        assert_eq!(says("gitea", &gitea(vec![status("t", word, 1)]), "\"t\"").0, CannotTell, "{word}");
    }
    assert_eq!(says("gitea", &gitea(vec![status("t", "error", 1)]), "\"t\"").0, Fail);
    assert_eq!(says("gitea", &gitea(vec![status("t", "success", 25)]), "\"t\"").0, CannotTell);
}
