//! `cargo xtask integrity`: a promise holds only on positive proof that its named tests exist, ran and passed.
//!
//! The proof is nextest's JUnit report of the run just done. A test that was removed, renamed, skipped or that
//! failed breaks every promise bound to it.

use crate::{Done, run::read};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// Where nextest writes what ran.
const REPORT: &str = "target/nextest/default/junit.xml";
/// Rows that must be bound: those of the gated tracker and of shared traffic.
const ROWS: [&str; 37] = [
    "T-1", "T-2", "T-3", "T-4", "T-5", "T-6", "T-7", "T-8", "T-9", "T-10", "T-11", "T-12", "T-13", "T-14", "T-15",
    "T-16", "T-17", "X-1", "X-3", "X-4", "G-3", "D-9", "L-1", "L-2", "L-3", "L-4", "L-5", "L-6", "L-7", "L-11", "L-13",
    "G-6", "G-4", "G-7", "G-8", "G-10", "L-12",
];

/// One bound promise.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Promise {
    /// What is promised, in the requirement's words.
    promise: String,
    /// Tests, each `binary test::name` as nextest prints it.
    tests: Vec<String>,
    /// What of the row is not proven yet.
    #[serde(default)]
    missing: Option<String>,
}

/// How many tests passed and failed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
}

/// Checks every bound promise against the report.
pub(crate) fn integrity(strict: bool) -> Done {
    let manifest: BTreeMap<String, Promise> =
        toml::from_str(&read("integrity.toml")?).map_err(|error| format!("integrity.toml: {error}"))?;
    let results = results(&read(REPORT)?);
    let problems = problems(&manifest, &results, strict);
    for (row, promise) in &manifest {
        if let Some(missing) = &promise.missing {
            println!("{row}: not proven yet: {missing}");
        }
    }
    if problems.is_empty() {
        let tests: BTreeSet<&String> = manifest.values().flat_map(|promise| &promise.tests).collect();
        println!("{} promises hold, on {} tests", manifest.len(), tests.len());
        return Ok(());
    }
    Err(problems.join("\n"))
}

/// Counts the tests of the report.
pub(crate) fn counts() -> Result<Counts, String> {
    let results = results(&read(REPORT)?);
    let passed = results.values().filter(|passed| **passed).count();
    Ok(Counts { passed, failed: results.len() - passed })
}

fn problems(manifest: &BTreeMap<String, Promise>, results: &BTreeMap<String, bool>, strict: bool) -> Vec<String> {
    let mut problems = Vec::new();
    for row in ROWS {
        if !manifest.contains_key(row) {
            problems.push(format!("{row} is not bound to any test"));
        }
    }
    for (row, promise) in manifest {
        if promise.tests.is_empty() && strict {
            problems.push(format!("{row} ({}) is bound to no test", promise.promise));
        }
        for test in &promise.tests {
            match results.get(test) {
                Some(true) => {}
                Some(false) => problems.push(format!("{row}: {test} failed")),
                None => problems.push(format!("{row}: {test} did not run; was it renamed, removed or skipped?")),
            }
        }
    }
    problems
}

/// Reads `binary test` and whether it passed from a JUnit report.
///
/// The report is written by nextest alone, one `testcase` element after the other, so looking for its elements
/// is enough; a report that changes its form yields no results, and then every promise fails.
fn results(report: &str) -> BTreeMap<String, bool> {
    let mut results = BTreeMap::new();
    for case in report.split("<testcase ").skip(1) {
        let head = case.split('>').next().unwrap_or_default();
        let (Some(name), Some(binary)) = (attribute(head, "name"), attribute(head, "classname")) else { continue };
        let body = case.split("</testcase>").next().unwrap_or_default();
        let alone = head.ends_with('/');
        let bad = !alone && ["<failure", "<error", "<skipped"].iter().any(|element| body.contains(element));
        results.insert(format!("{binary} {name}"), !bad);
    }
    results
}

fn attribute<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let from = head
        .find(&format!(" {name}=\""))
        .map(|at| at + name.len() + 3)
        .or_else(|| head.starts_with(&format!("{name}=\"")).then_some(name.len() + 2))?;
    head[from..].split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = r#"<testsuite><testcase name="a::good" classname="lastgood-x" time="0.1"/>
        <testcase name="a::bad" classname="lastgood-x"><failure message="no"/></testcase>
        <testcase name="a::skipped" classname="lastgood-x"><skipped/></testcase>
        <testcase name="fine" classname="lastgood-x::story"><system-out>text</system-out></testcase></testsuite>"#;

    fn bound(tests: &[&str]) -> BTreeMap<String, Promise> {
        let promise = |tests: &[&str]| Promise {
            promise: "p".into(),
            tests: tests.iter().map(|test| (*test).to_owned()).collect(),
            missing: None,
        };
        let mut all: BTreeMap<String, Promise> =
            ROWS.iter().map(|row| ((*row).to_owned(), promise(&["lastgood-x a::good"]))).collect();
        all.insert("T-5".into(), promise(tests));
        all
    }

    fn found(tests: &[&str]) -> Vec<String> {
        problems(&bound(tests), &results(REPORT), true)
    }

    #[test]
    fn only_a_test_that_ran_and_passed_proves_anything() {
        assert!(found(&["lastgood-x a::good", "lastgood-x::story fine"]).is_empty());
        assert_eq!(found(&["lastgood-x a::bad"]), ["T-5: lastgood-x a::bad failed"]);
        assert_eq!(found(&["lastgood-x a::skipped"]), ["T-5: lastgood-x a::skipped failed"]);
        assert_eq!(
            found(&["lastgood-x a::renamed"]),
            ["T-5: lastgood-x a::renamed did not run; was it renamed, removed or skipped?"]
        );
        assert_eq!(found(&[]), ["T-5 (p) is bound to no test"]);
    }

    #[test]
    fn a_row_that_nobody_bound_is_a_problem() {
        let mut manifest = bound(&["lastgood-x a::good"]);
        manifest.remove("T-17");
        assert_eq!(problems(&manifest, &results(REPORT), true), ["T-17 is not bound to any test"]);
    }

    #[test]
    fn a_report_in_another_form_proves_nothing() {
        assert!(results("{\"testcase\": 1}").is_empty());
        assert_eq!(problems(&bound(&["lastgood-x a::good"]), &BTreeMap::new(), true).len(), ROWS.len());
    }
}
