//! JUnit XML: the common form, and what nextest and pytest make of it.

use super::{
    Case, Format, Outcome, Report, Unreadable,
    xml::{Token, Xml},
};
use alloc::{
    collections::BTreeSet,
    format,
    string::{String, ToString},
    vec::Vec,
};

/// A suite that was begun.
struct Suite {
    name: String,
    /// How many tests it says it has.
    says: Option<u64>,
    /// How many of them it says have failed, or could not be run.
    says_bad: u64,
    /// Tests of the report before it began.
    before: usize,
    /// Failures and errors of the report before it began.
    bad_before: u64,
}

/// What an open element is to us.
enum Open {
    Suite(Suite),
    Case(Case),
    /// Within a case, or of no meaning.
    Other,
}

pub(super) fn read(text: &str) -> Result<Report, Unreadable> {
    let mut report = Report { format: Format::Junit, cases: Vec::new(), taken: Vec::new(), of: BTreeSet::new() };
    let (mut xml, mut open, mut seen, mut bad) = (Xml::new(text), Vec::new(), false, 0);
    while let Some(token) = xml.next()? {
        match token {
            Token::Start { name, attributes } => {
                let of =
                    |key: &str| attributes.iter().find(|(known, _)| *known == key).map(|(_, value)| value.as_str());
                let next = begin(&mut report, &mut open, &mut bad, name, &of)?;
                seen |= matches!(next, Open::Suite(_));
                open.push(next);
            }
            Token::End => match open.pop() {
                Some(Open::Suite(suite)) => end_suite(&report, bad, &suite)?,
                Some(Open::Case(case)) => report.cases.push(case),
                Some(Open::Other) | None => {}
            },
        }
    }
    if !seen {
        return Err(Unreadable::because("it is XML, but no JUnit report: it has no test suite"));
    }
    Ok(report)
}

fn begin<'a>(
    report: &mut Report,
    open: &mut [Open],
    bad: &mut u64,
    name: &str,
    of: &impl Fn(&str) -> Option<&'a str>,
) -> Result<Open, Unreadable> {
    if let Some(Open::Case(case)) = open.last_mut() {
        *bad += u64::from(matches!(name, "failure" | "error"));
        child(case, name, of);
        return Ok(Open::Other);
    }
    if open.iter().any(|one| matches!(one, Open::Case(_))) {
        return Ok(Open::Other);
    }
    Ok(match name {
        "testsuites" | "testsuite" => {
            let suite = of("name").unwrap_or_default();
            report.format = match (name, suite, report.format) {
                ("testsuites", "nextest-run", _) => Format::Nextest,
                ("testsuite", "pytest", Format::Junit) => Format::Pytest,
                (_, _, known) => known,
            };
            report.taken.extend(of("timestamp").map(ToString::to_string));
            let counts = |key: &str| of(key).and_then(|count| count.parse::<u64>().ok());
            let says_bad = counts("failures").unwrap_or(0).saturating_add(counts("errors").unwrap_or(0));
            let (says, before, bad_before) = (counts("tests"), report.cases.len(), *bad);
            Open::Suite(Suite { name: suite.into(), says, says_bad, before, bad_before })
        }
        "testcase" => {
            let suite = open.iter().rev().find_map(|one| match one {
                Open::Suite(suite) => Some(suite.name.as_str()),
                _ => None,
            });
            let suite = suite.ok_or_else(|| Unreadable::because("a test is in no suite"))?;
            let own = of("name").ok_or_else(|| Unreadable::because("a test has no name"))?;
            let class = of("classname").filter(|class| !class.is_empty()).unwrap_or(suite);
            let name = match class {
                "" => own.to_string(),
                class => format!("{class} {own}"),
            };
            // GoogleTest and others list what they did not run without any element inside.
            let not_run = ["status", "result"].into_iter().filter_map(of).find(|word| {
                ["notrun", "disabled", "skipped", "suppressed", "ignored"].contains(&word.to_ascii_lowercase().as_str())
            });
            let outcome = if not_run.is_some() { Outcome::Skipped } else { Outcome::Passed };
            let why = not_run.map(ToString::to_string).unwrap_or_default();
            Open::Case(Case { name, outcome, why, again: false })
        }
        // Not those of single tests: what a test says of itself is no word of who ran it.
        "property" if of("name").is_some_and(|name| matches!(name, "commit" | "digest")) => {
            report.of.extend(of("value").map(|value| value.trim().to_string()));
            Open::Other
        }
        _ => Open::Other,
    })
}

/// Takes in what stands directly within a test; its output stands deeper, and as text.
fn child<'a>(case: &mut Case, name: &str, of: &impl Fn(&str) -> Option<&'a str>) {
    let outcome = match name {
        "failure" | "error" => Outcome::Failed,
        "skipped" => Outcome::Skipped,
        "flakyFailure" | "flakyError" => {
            case.again = true;
            return;
        }
        _ => return,
    };
    if outcome > case.outcome {
        let why = of("message").or_else(|| of("type")).unwrap_or_default();
        (case.outcome, case.why) = (outcome, why.lines().next().unwrap_or_default().chars().take(200).collect());
    }
}

fn end_suite(report: &Report, bad: u64, suite: &Suite) -> Result<(), Unreadable> {
    let found = (report.cases.len() - suite.before) as u64;
    let listed = bad - suite.bad_before;
    // A suite that could not be set up says so of itself only.
    if suite.says_bad > listed {
        return Err(Unreadable::because(format!(
            "the suite {:?} says that {} failed and lists {listed}: it was cut or edited, or something besides its tests failed",
            suite.name, suite.says_bad
        )));
    }
    match suite.says {
        Some(says) if says > found => Err(Unreadable::because(format!(
            "the suite {:?} says that it has {says} tests and lists {found}: it was cut or edited",
            suite.name
        ))),
        _ => Ok(()),
    }
}
