//! Promises against reports: only a named test that ran and passed, for this commit and not long ago, proves anything.

use crate::{COMMIT, NEXTEST, NOW, PYTEST, demands, evidence};
use lastgood_domain::{
    event::Verdict,
    proof::{Critical, Evidence, Kind, Manifest, Promise, Retried, Source, named, retried, verify},
    terms::Timestamp,
};
use std::collections::BTreeMap;

fn manifest(tests: &[&str]) -> Manifest {
    let tests = tests.iter().map(|test| (*test).to_owned()).collect();
    let promise = Promise { promise: "balances are kept".into(), tests, missing: None };
    Manifest {
        reports: Vec::new(),
        max_age: None,
        required: vec!["B-1".into()],
        retried: Retried::Accepted,
        critical: BTreeMap::new(),
        promises: [("B-1".to_owned(), promise)].into(),
    }
}

fn kinds(manifest: &Manifest, evidence: &[Evidence], of: &[String]) -> Vec<Kind> {
    verify(manifest, evidence, &BTreeMap::new(), &demands(of)).into_iter().map(|one| one.kind).collect()
}

const KEPT: &str = "ledger tests::a_balance_is_kept";

#[test]
fn only_a_test_that_ran_and_passed_proves_a_promise() {
    let found = |test: &str, text: &str| kinds(&manifest(&[test]), &[evidence(text)], &[]);
    assert_eq!(found(KEPT, NEXTEST), []);
    assert_eq!(found("ledger tests::passes_when_tried_again", NEXTEST), []);
    assert_eq!(found("ledger tests::a_balance_is_wrong", NEXTEST), [Kind::Failed]);
    assert_eq!(found("ledger::story hangs_for_ever", NEXTEST), [Kind::Failed]);
    // Ignored tests are in no report of nextest.
    assert_eq!(found("ledger tests::is_ignored", NEXTEST), [Kind::Missing]);
    assert_eq!(found("tests/test_accounts.py::test_a_balance_is_kept", PYTEST), []);
    assert_eq!(found("tests/test_accounts.py::TestTransfers::test_both_sides_change", PYTEST), []);
    assert_eq!(found("tests/test_accounts.py::test_of_each_amount", PYTEST), []);
    assert_eq!(found("tests/test_accounts.py::test_of_each_amount[5]", PYTEST), []);
    assert_eq!(found("tests/test_accounts.py::test_of_each_amount[6]", PYTEST), [Kind::Missing]);
    assert_eq!(found("tests.test_accounts test_is_skipped", PYTEST), [Kind::Skipped]);
    assert_eq!(found("tests.test_accounts test_is_expected_to_fail", PYTEST), [Kind::Skipped]);
    assert_eq!(found("tests.test_accounts test_whose_teardown_breaks", PYTEST), [Kind::Failed]);
}

#[test]
fn a_bound_test_that_passed_only_when_tried_again_is_named_and_proves_nothing_where_that_is_refused() {
    let again = "ledger tests::passes_when_tried_again";
    let mut manifest = manifest(&[again, KEPT]);
    let named = |manifest: &Manifest| retried(manifest, &[evidence(NEXTEST)], &demands(&[]));
    assert_eq!(named(&manifest), [(again.to_owned(), vec!["B-1".to_owned()])].into());
    assert_eq!(kinds(&manifest, &[evidence(NEXTEST)], &[]), []);
    manifest.retried = Retried::Refused;
    assert_eq!(kinds(&manifest, &[evidence(NEXTEST)], &[]), [Kind::Retried]);
    // In two reports: once at once, once only when tried again.
    let at_once = NEXTEST.replace("flakyFailure", "note");
    let both = [evidence(&at_once), evidence(NEXTEST)];
    assert_eq!(kinds(&manifest, &both[..1], &[]), []);
    assert_eq!(kinds(&manifest, &both, &[]), [Kind::Retried]);
    assert_eq!(kinds(&manifest, &[both[1].clone(), both[0].clone()], &[]), [Kind::Retried]);
    // What is not bound is nobody's proof.
    manifest.promises.get_mut("B-1").unwrap().tests = vec![KEPT.into()];
    assert_eq!((named(&manifest), kinds(&manifest, &[evidence(NEXTEST)], &[])), (BTreeMap::new(), vec![]));
}

#[test]
fn a_renamed_test_is_missing_and_the_one_with_its_name_is_shown() {
    let moved = "ledger::accounts a_balance_is_kept";
    let found = verify(&manifest(&[moved]), &[evidence(NEXTEST)], &BTreeMap::new(), &demands(&[]));
    assert_eq!(
        found[0].because,
        "B-1: ledger::accounts a_balance_is_kept did not run: was it renamed, removed or filtered out? \
         There is ledger tests::a_balance_is_kept."
    );
}

#[test]
fn a_promise_without_tests_and_a_required_one_that_is_gone_are_found() {
    assert_eq!(kinds(&manifest(&[]), &[evidence(NEXTEST)], &[]), [Kind::Unbound]);
    let mut gone = manifest(&[KEPT]);
    gone.required.push("B-2".into());
    assert_eq!(kinds(&gone, &[evidence(NEXTEST)], &[]), [Kind::Unbound]);
    assert_eq!(kinds(&manifest(&[KEPT]), &[], &[]), [Kind::Missing]);
}

#[test]
fn a_report_of_another_commit_or_of_none_proves_nothing() {
    let kept = manifest(&["tests.test_accounts test_a_balance_is_kept"]);
    let of = |commit: &str| [commit.to_owned()];
    assert_eq!(kinds(&kept, &[evidence(PYTEST)], &of(COMMIT)), []);
    assert_eq!(kinds(&kept, &[evidence(PYTEST)], &of(&COMMIT[..12])), []);
    assert_eq!(kinds(&kept, &[evidence(PYTEST)], &of(&COMMIT[..7])), [Kind::Elsewhere, Kind::Missing]);
    let other = of("00000000000000000000000000000000000000aa");
    assert_eq!(kinds(&kept, &[evidence(PYTEST)], &other), [Kind::Elsewhere, Kind::Missing]);
    let silent = [evidence(include_str!("fixtures/pytest-xunit1.xml"))];
    assert_eq!(kinds(&kept, &silent, &of(COMMIT)), [Kind::Elsewhere, Kind::Missing]);
    let mut both = evidence(PYTEST);
    both.of.insert("00000000000000000000000000000000000000aa".into());
    assert_eq!(kinds(&kept, &[both], &of(COMMIT)), [Kind::Elsewhere, Kind::Missing]);
}

#[test]
fn an_old_report_one_from_the_future_and_one_of_no_time_prove_nothing() {
    let kept = manifest(&[KEPT]);
    let at = |taken: Option<i64>| {
        let one = Evidence { taken: taken.map(|ago| Timestamp(NOW.0 - ago * 60_000)), ..evidence(NEXTEST) };
        kinds(&kept, &[one], &[])
    };
    assert_eq!(at(Some(60)), []);
    assert_eq!(at(Some(61)), [Kind::Stale, Kind::Missing]);
    assert_eq!(at(Some(-4)), []);
    assert_eq!(at(Some(-6)), [Kind::Stale, Kind::Missing]);
    assert_eq!(at(None), [Kind::Unreadable, Kind::Missing]);
}

#[test]
fn of_two_jobs_both_must_have_passed() {
    let twice = manifest(&["ledger tests::a_balance_is_kept"]);
    assert_eq!(kinds(&twice, &[evidence(NEXTEST), evidence(NEXTEST)], &[]), []);
    let failing = NEXTEST.replace("tests::a_balance_is_wrong\" classname", "tests::a_balance_is_kept\" classname");
    assert_eq!(kinds(&twice, &[evidence(NEXTEST), evidence(&failing)], &[]), [Kind::Failed]);
    assert_eq!(kinds(&twice, &[evidence(&failing), evidence(NEXTEST)], &[]), [Kind::Failed]);
}

#[test]
fn a_critical_function_must_be_there_and_be_mentioned_by_a_test() {
    let mut manifest = manifest(&[KEPT]);
    let critical = Critical { source: "src/bank.rs".into(), tests: vec!["tests".into()], definition: None };
    manifest.critical.insert("bank::transfer".into(), critical);
    let with = |source: Option<Source>| {
        let sources = source.map(|source| ("bank::transfer".to_owned(), source)).into_iter().collect();
        let found = verify(&manifest, &[evidence(NEXTEST)], &sources, &demands(&[]));
        found.into_iter().map(|one| one.kind).collect::<Vec<_>>()
    };
    let source = |defined, mentioned| Some(Source { defined, mentioned });
    assert_eq!(with(source(Ok(true), Ok(Some("tests/a.rs".into())))), []);
    assert_eq!(with(source(Ok(false), Ok(Some("tests/a.rs".into())))), [Kind::Gone]);
    assert_eq!(with(source(Ok(true), Ok(None))), [Kind::Untested]);
    assert_eq!(with(source(Err("gone".into()), Ok(None))), [Kind::Unreadable]);
    assert_eq!(with(source(Ok(true), Err("gone".into()))), [Kind::Unreadable]);
    assert_eq!(with(None), [Kind::Unreadable]);
}

#[test]
fn a_gate_passes_on_its_named_tests_and_fails_on_any_failed_one() {
    let good = include_str!("fixtures/transfers.tap");
    let weigh = |test: &str, text: &str| named(&[test.to_owned()], &[evidence(text)], &demands(&[]));
    assert_eq!(
        weigh("stem both sides change", good),
        (Verdict::Pass, "1 of 1 named test passed, 2 in all, 1 skipped".to_owned())
    );
    assert_eq!(weigh("stem a transfer has a fee", good).0, Verdict::CannotTell);
    assert_eq!(weigh("stem no such test", good).0, Verdict::CannotTell);
    assert_eq!(
        weigh(KEPT, NEXTEST),
        (Verdict::Fail, "2 tests failed, the first is ledger tests::a_balance_is_wrong".into())
    );
    let empty = include_str!("fixtures/pytest-none.xml");
    assert_eq!(weigh("tests.test_accounts test_a_balance_is_kept", empty).0, Verdict::CannotTell);
    assert_eq!(named(&["a".into()], &[], &demands(&[])).0, Verdict::CannotTell);
}
