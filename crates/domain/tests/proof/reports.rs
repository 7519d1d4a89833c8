//! What each format says, as its own program wrote it.

use crate::{COMMIT, NEXTEST, PYTEST};
use lastgood_domain::proof::{Format, Outcome, Report};

fn outcomes(text: &str, stem: &str) -> (Report, Vec<(String, Outcome)>) {
    let report = Report::read(text, stem).unwrap();
    let all = report.cases.iter().map(|case| (case.name.clone(), case.outcome)).collect();
    (report, all)
}

fn is(list: &[(&str, Outcome)]) -> Vec<(String, Outcome)> {
    list.iter().map(|(name, outcome)| ((*name).to_owned(), *outcome)).collect()
}

use Outcome::{Failed, Passed, Skipped};

#[test]
fn nextest_says_what_ran_and_an_ignored_test_is_not_there() {
    let (report, all) = outcomes(NEXTEST, "");
    assert_eq!(report.format, Format::Nextest);
    assert_eq!(report.taken, ["2026-11-26T21:12:25.104+00:00"]);
    let expected = is(&[
        ("ledger tests::a_balance_is_kept", Passed),
        ("ledger tests::a_balance_is_wrong", Failed),
        ("ledger tests::passes_when_tried_again", Passed),
        ("ledger::story both_sides_change", Passed),
        ("ledger::story hangs_for_ever", Failed),
    ]);
    let mut sorted = all;
    sorted.sort();
    assert_eq!(sorted, expected);
    let again: Vec<&str> = report.cases.iter().filter(|case| case.again).map(|case| case.name.as_str()).collect();
    assert_eq!(again, ["ledger tests::passes_when_tried_again"]);
}

#[test]
fn pytest_says_its_commit_and_skipped_expected_and_broken_tests_are_no_passes() {
    let (report, all) = outcomes(PYTEST, "");
    assert_eq!(report.format, Format::Pytest);
    assert_eq!(report.of.iter().map(String::as_str).collect::<Vec<_>>(), [COMMIT]);
    let expected = is(&[
        ("tests.test_accounts test_a_balance_is_kept", Passed),
        ("tests.test_accounts test_a_balance_is_wrong", Failed),
        ("tests.test_accounts test_is_skipped", Skipped),
        ("tests.test_accounts test_is_expected_to_fail", Skipped),
        ("tests.test_accounts test_of_each_amount[0]", Passed),
        ("tests.test_accounts test_of_each_amount[5]", Passed),
        ("tests.test_accounts.TestTransfers test_both_sides_change", Passed),
        ("tests.test_accounts test_whose_setup_breaks", Failed),
        ("tests.test_accounts test_whose_teardown_breaks", Failed),
    ]);
    assert_eq!(all, expected);
    let older = outcomes(include_str!("fixtures/pytest-xunit1.xml"), "");
    assert_eq!((older.0.format, older.1), (Format::Pytest, expected));
    assert!(older.0.of.is_empty());
}

#[test]
fn a_filter_that_matches_nothing_leaves_an_empty_report() {
    let (report, all) = outcomes(include_str!("fixtures/pytest-none.xml"), "");
    assert_eq!((report.format, all), (Format::Pytest, Vec::new()));
}

#[test]
fn pgtap_says_what_passed_and_a_test_to_do_or_skipped_is_no_pass() {
    let (report, all) = outcomes(include_str!("fixtures/accounts.tap"), "accounts");
    assert_eq!(report.format, Format::Tap);
    let expected = is(&[
        ("accounts Table account should exist", Passed),
        ("accounts an account has one id", Passed),
        ("accounts a balance never goes below zero", Passed),
        ("accounts there is an account", Failed),
        ("accounts #5", Skipped),
    ]);
    assert_eq!(all, expected);
    let expected = is(&[
        ("transfers both sides change", Passed),
        ("transfers a transfer has a fee", Skipped),
        ("transfers a transfer is dated", Passed),
    ]);
    assert_eq!(outcomes(include_str!("fixtures/transfers.tap"), "transfers").1, expected);
    let unplanned = outcomes(include_str!("fixtures/unplanned.tap"), "u").1;
    assert_eq!(unplanned, is(&[("u of no plan", Passed)]));
}

#[test]
fn a_script_that_stopped_half_way_proves_nothing() {
    for (text, why) in [
        (include_str!("fixtures/short.tap"), "its plan says 3 and 2 ran"),
        (include_str!("fixtures/broken.tap"), "its plan says 2 and 1 ran"),
        ("1..2\nok 1 - a\nok 2 - b\nBail out! no database\n", "it bailed out: no database"),
        ("ok 1 - a\nok 2 - b\n", "it has no plan, so nobody knows how many tests are missing"),
        ("1..2\nok 1 - a\nok 1 - a\n", "test 1 is there twice"),
        ("1..2\nok 1 - a\nok 3 - c\n", "its plan says 2 and 2 ran"),
        ("1..1\nok 1 - a\n1..1\n", "it has two plans"),
    ] {
        let report = Report::read(text, "s").unwrap();
        assert!(!report.cases.is_empty());
        for case in &report.cases {
            assert_eq!((case.outcome, case.why.as_str()), (Skipped, why), "{text}");
        }
    }
    // What failed failed, whatever came of the rest.
    let report = Report::read("1..3\nnot ok 1 - a\n", "s").unwrap();
    assert_eq!(report.cases[0].outcome, Failed);
    assert!(Report::read("1..0 # SKIP no such extension here\n", "s").unwrap().cases.is_empty());
}

#[test]
fn pg_prove_names_the_files_and_cut_short_it_proves_nothing() {
    let text = include_str!("fixtures/pg_prove.txt");
    let (_, all) = outcomes(text, "");
    assert_eq!(all.len(), 8);
    assert_eq!(all[2], ("t/accounts.sql a balance never goes below zero".to_owned(), Passed));
    assert_eq!(all[6], ("t/transfers.sql a transfer has a fee".to_owned(), Skipped));
    let cut = &text[..text.find("Result:").unwrap()];
    assert!(Report::read(cut, "").unwrap_err().to_string().contains("cut short"));
}

#[test]
fn what_a_test_prints_is_never_taken_for_what_it_proves() {
    let tap = "1..2\nok 1 - a \\# SKIP no\n    not ok 1 - inner\n# not ok 7\nok 2 - b\nokay 3\n";
    assert_eq!(outcomes(tap, "s").1, is(&[("s a \\# SKIP no", Passed), ("s b", Passed)]));
    let dots = "1..3\nok 1 - a\nok 2 - retries ...\nnot ok 3 - waits ..\n";
    assert_eq!(outcomes(dots, "s").1, is(&[("s a", Passed), ("s retries ...", Passed), ("s waits ..", Failed)]));
    let xml = "<testsuite name='s' tests='1'><testcase name='a'><system-out><![CDATA[<failure/>]]></system-out>\
               <properties><property name='commit' value='x'/></properties></testcase></testsuite>";
    let (report, all) = outcomes(xml, "");
    assert_eq!((report.of.len(), all), (0, is(&[("s a", Passed)])));
}

#[test]
fn tests_that_are_listed_and_were_not_run_are_no_passes() {
    let xml = "<testsuites><testsuite name='s' tests='3'>\
        <testcase name='a' classname='c' status='notrun' result='suppressed'/>\
        <testcase name='b' classname='c' status='run' result='completed'/>\
        <testcase name='c' classname='c'><skipped/></testcase></testsuite></testsuites>";
    assert_eq!(outcomes(xml, "").1, is(&[("c a", Skipped), ("c b", Passed), ("c c", Skipped)]));
}
