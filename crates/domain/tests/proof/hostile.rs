//! Reports that somebody made to be misread, or that were cut.

use crate::{NEXTEST, PYTEST};
use lastgood_domain::proof::Report;

fn refused(text: &str) -> String {
    Report::read(text, "s").expect_err(&text.chars().take(80).collect::<String>()).to_string()
}

#[test]
fn entities_are_never_expanded_and_nothing_is_read_from_elsewhere() {
    let bomb = "<?xml version='1.0'?><!DOCTYPE t [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;&a;'>]><testsuite name='&b;'/>";
    assert!(refused(bomb).contains("document type"));
    let file = "<!DOCTYPE t SYSTEM 'file:///etc/passwd'><testsuite/>";
    assert!(refused(file).contains("document type"));
    assert!(refused("<testsuite name='&secret;'/>").contains("no entity of XML"));
    assert!(refused("<testsuite name='&#xD800;'/>").contains("no entity of XML"));
}

#[test]
fn a_report_that_was_cut_anywhere_is_refused() {
    for text in [NEXTEST, PYTEST] {
        let text = text.trim_end();
        for at in (1..text.len()).filter(|at| text.is_char_boundary(*at)).step_by(7) {
            assert!(Report::read(&text[..at], "s").is_err(), "cut at {at}");
        }
    }
}

#[test]
fn a_test_that_was_taken_out_is_noticed_by_the_count() {
    let from = PYTEST.find("<testcase classname=\"tests.test_accounts\" name=\"test_is_skipped\"").unwrap();
    let to = PYTEST[from..].find("</testcase>").unwrap() + from + "</testcase>".len();
    let edited = format!("{}{}", &PYTEST[..from], &PYTEST[to..]);
    assert!(refused(&edited).contains("says that it has 9 tests and lists 8"));
}

#[test]
fn a_failure_that_was_taken_out_and_one_of_the_suite_itself_are_noticed_by_the_count() {
    let suite = |bad: &str, inner: &str| {
        format!("<testsuite name='s' tests='1' {bad}><testcase name='a'>{inner}</testcase></testsuite>")
    };
    assert!(refused(&suite("failures='1'", "")).contains("says that 1 failed and lists 0"));
    assert!(refused(&suite("failures='1' errors='2'", "<failure/>")).contains("says that 3 failed and lists 1"));
    for (bad, inner) in [("failures='1'", "<failure/>"), ("errors='1' failures='0'", "<error/>"), ("failures='0'", "")]
    {
        assert!(Report::read(&suite(bad, inner), "s").is_ok(), "{bad}");
    }
    let outer = format!("<testsuites failures='1'>{}</testsuites>", suite("failures='1'", "<failure/>"));
    assert!(Report::read(&outer, "s").is_ok());
}

#[test]
fn depth_width_and_number_have_limits() {
    let deep = format!("{}{}", "<a>".repeat(100), "</a>".repeat(100));
    assert!(refused(&deep).contains("too deep"));
    let wide = (0..100).map(|n| format!(" a{n}='1'")).collect::<String>();
    assert!(refused(&format!("<testsuite{wide}/>")).contains("too many attributes"));
    let many = format!("<testsuite name='s'>{}</testsuite>", "<t/>".repeat(2_000_001));
    assert!(refused(&many).contains("too many elements"));
}

#[test]
fn what_is_no_report_is_refused() {
    for text in [
        "",
        " ",
        "hello",
        "{\"testcase\": 1}",
        "<html><body/></html>",
        "<testsuite/><testsuite/>",
        "<testsuite></testsuites>",
        "x<testsuite/>",
        "<testsuite/>x",
        "<testsuite a='1' a='2'/>",
        "<testsuite a=1/>",
        "< testsuite/>",
        "<testcase name='a'/>",
        "<testsuite><testcase/></testsuite>",
        "</testsuite>",
    ] {
        assert!(Report::read(text, "s").is_err(), "{text:?} was read");
    }
}
