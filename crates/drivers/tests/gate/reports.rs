//! Reports as files: which commit they are about, how old they are, and what may not be read.

use crate::{COMMIT, asked, asked_of, subject};
use lastgood_domain::{
    event::Verdict::{self, CannotTell, Fail, Pass},
    terms::Digest,
};
use lastgood_drivers::gate::Subject;
use std::{
    fs::{self, File},
    path::Path,
    time::{Duration, SystemTime},
};

const PYTEST: &str = include_str!("../../../domain/tests/proof/fixtures/pytest.xml");
const KEPT: &str = "tests/test_accounts.py::test_a_balance_is_kept";
const TAP: &str = "1..2\nok 1 - a balance is kept\nok 2 - a transfer is dated # SKIP no clock\n";

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// What pytest really wrote, begun now and without what failed in it.
fn pytest(commit: &str) -> String {
    let now = jiff::Timestamp::now().to_string();
    let text = PYTEST.replace(COMMIT, commit).replace("2026-11-26T21:12:30", "X");
    let at = text.find("timestamp=\"").unwrap() + "timestamp=\"".len();
    let end = at + text[at..].find('"').unwrap();
    let text = format!("{}{now}{}", &text[..at], &text[end..]);
    let nothing = |text: String, count: &str| {
        let at = text.find(count).unwrap() + count.len();
        let end = at + text[at..].find('"').unwrap();
        format!("{}0{}", &text[..at], &text[end..])
    };
    nothing(nothing(text, " failures=\""), " errors=\"")
        .replace("<failure", "<ignored")
        .replace("</failure>", "</ignored>")
        .replace("<error", "<ignored")
        .replace("</error>", "</ignored>")
}

fn gate(file: &str, test: &str) -> String {
    format!("report = {{ files = [\"{file}\"], tests = [\"{test}\"] }}\nmax_age = \"1h\"")
}

fn about(folder: &Path, file: &str, test: &str) -> (Verdict, String) {
    asked(&gate(file, test), folder)
}

#[test]
fn a_report_of_this_commit_passes_and_of_another_or_of_none_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write(at, "junit.xml", &pytest(COMMIT));
    assert_eq!(about(at, "junit.xml", KEPT).0, Pass, "{:?}", about(at, "junit.xml", KEPT));
    write(at, "junit.xml", &pytest("00000000000000000000000000000000000000aa"));
    let (verdict, because) = about(at, "junit.xml", KEPT);
    assert_eq!(verdict, CannotTell);
    assert!(because.contains("is about 00000000000000000000000000000000000000aa"), "{because}");
    write(at, "plain.tap", TAP);
    assert_eq!(about(at, "plain.tap", "plain a balance is kept").0, CannotTell);
    assert_eq!(asked_of(&gate("junit.xml", KEPT), at, &Subject::default()).0, CannotTell);
}

#[test]
fn a_report_that_lies_in_the_place_of_a_release_is_about_it() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    for place in [COMMIT, "1.2.0", &Digest::of(b"1.2.0").to_string()] {
        write(at, &format!("ci/{place}/db.tap"), TAP);
    }
    for name in ["commit", "tag", "digest"] {
        let (verdict, because) = about(at, &format!("ci/{{{name}}}/db.tap"), "db a balance is kept");
        assert_eq!(verdict, Pass, "{name}: {because}");
    }
    // Who has no commit is not looked for under another name.
    let without = Subject { commit: None, ..subject() };
    assert_eq!(asked_of(&gate("ci/{commit}/db.tap", "db a balance is kept"), at, &without).0, CannotTell);
    assert_eq!(asked_of(&gate("ci/{tag}/db.tap", "db a balance is kept"), at, &without).0, Pass);
    // A tag leads nowhere else.
    let mut away = subject();
    away.tag = Some(lastgood_domain::terms::ReleaseTag::new("../ci/1.2.0").unwrap());
    assert_eq!(asked_of(&gate("ci/{tag}/db.tap", "db a balance is kept"), at, &away).0, CannotTell);
}

#[test]
fn a_stamp_says_the_commit_of_the_very_bytes_it_was_put_on() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write(at, "db.tap", TAP);
    let digest = Digest::of(TAP.as_bytes()).to_string();
    let digest = digest.strip_prefix("sha256:").unwrap();
    let with = |stamp: &str| {
        write(at, "db.tap.commit", stamp);
        about(at, "db.tap", "db a balance is kept")
    };
    assert_eq!(with(&format!("{COMMIT} {digest}  -\n")).0, Pass);
    for (stamp, why) in [
        (format!("{COMMIT}\n"), "not a commit and the SHA-256"),
        (format!("{COMMIT} {}\n", digest.replace(|_| true, "0")), "put on other bytes"),
        (format!("00000000000000000000000000000000000000aa {digest}\n"), "is about 0000"),
    ] {
        let (verdict, because) = with(&stamp);
        assert_eq!(verdict, CannotTell, "{stamp}");
        assert!(because.contains(why), "{because}");
    }
}

#[test]
fn a_skipped_a_renamed_and_a_failed_test_and_an_old_report_are_no_passes() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write(at, "ci/1.2.0/db.tap", TAP);
    let test = |name: &str| about(at, "ci/{tag}/db.tap", name);
    assert_eq!(test("db a transfer is dated").0, CannotTell);
    assert_eq!(test("db a balance stays").0, CannotTell);
    File::options()
        .write(true)
        .open(at.join("ci/1.2.0/db.tap"))
        .unwrap()
        .set_modified(SystemTime::now() - Duration::from_secs(3 * 3_600))
        .unwrap();
    let (verdict, because) = test("db a balance is kept");
    assert_eq!(verdict, CannotTell);
    assert!(because.contains("3 h 0 min old, the limit is 1 h 0 min"), "{because}");
    write(at, "ci/1.2.0/db.tap", "1..2\nok 1 - a balance is kept\nnot ok 2 - other\n");
    assert_eq!(test("db a balance is kept"), (Fail, "1 test failed, the first is db other".into()));
}

#[test]
fn a_copy_of_an_old_report_is_as_old_as_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let old = pytest(COMMIT).replace(&jiff::Timestamp::now().strftime("%Y-%m-%d").to_string(), "2020-01-01");
    write(at, "junit.xml", &old);
    let (verdict, because) = about(at, "junit.xml", KEPT);
    assert_eq!(verdict, CannotTell);
    assert!(because.contains(" d old, the limit is 1 h 0 min"), "{because}");
}

#[test]
fn several_files_fit_a_pattern_and_none_is_no_yes() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write(at, "ci/1.2.0/one.tap", "1..1\nok 1 - a\n");
    write(at, "ci/1.2.0/two.tap", "1..1\nok 1 - b\n");
    assert_eq!(about(at, "ci/{tag}/*.tap", "two b").0, Pass);
    assert_eq!(about(at, "ci/{tag}/*.xml", "two b").0, CannotTell);
    assert_eq!(about(at, "ci/*/one.tap", "one a").0, CannotTell);
    assert_eq!(about(at, "nothing/{tag}/one.tap", "one a").0, CannotTell);
}

#[test]
fn what_is_no_report_is_never_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::create_dir_all(at.join("ci/1.2.0")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(at.join("ci/1.2.0/pipe.tap")).status().unwrap().success());
    fs::create_dir(at.join("ci/1.2.0/folder.tap")).unwrap();
    fs::write(at.join("ci/1.2.0/bytes.tap"), [0xff, 0xfe, 0x00]).unwrap();
    let huge = File::create(at.join("ci/1.2.0/huge.tap")).unwrap();
    huge.set_len(65 << 20).unwrap();
    for (name, why) in
        [("pipe", "no file"), ("folder", "no file"), ("bytes", "not UTF-8"), ("huge", "longer than 64 MiB")]
    {
        let (verdict, because) = about(at, &format!("ci/{{tag}}/{name}.tap"), "x a");
        assert_eq!(verdict, CannotTell);
        assert!(because.contains(why), "{name}: {because}");
    }
}
