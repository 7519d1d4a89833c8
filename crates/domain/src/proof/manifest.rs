//! The manifest: each promise with the tests that prove it, and functions that must not lose their tests.

use super::Outcome;
use super::named::{Demands, Evidence, Proofs, Said, Unfit};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::{String, ToString},
    vec::Vec,
};
use serde::{Deserialize, Serialize};

/// What must hold, by its id, and what proves it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Manifest {
    /// Reports that prove it, when the command names none. A relative path starts at the manifest's folder.
    #[serde(default)]
    pub reports: Vec<String>,
    /// How old a report may be, such as `24h`, which is the default.
    #[serde(default)]
    pub max_age: Option<String>,
    /// Ids that must be bound: a promise whose whole table was removed is no promise kept.
    #[serde(default)]
    pub required: Vec<String>,
    /// What a bound test counts that passed only when it was tried again.
    #[serde(default)]
    pub retried: Retried,
    /// Functions that must exist and be mentioned by a test, by path and name: `app::accounts::transfer`.
    #[serde(default)]
    pub critical: BTreeMap<String, Critical>,
    /// The promises by id; every other table of the file is one.
    #[serde(flatten)]
    pub promises: BTreeMap<String, Promise>,
}

/// What a test counts that passed only when it was tried again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Retried {
    /// It has passed, and is named.
    #[default]
    Accepted,
    /// It proves nothing: the same test failed on the same code.
    Refused,
}

/// One promise.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Promise {
    /// What is promised.
    pub promise: String,
    /// Tests, each as its report names it, suite first: `ledger::story both_sides_change`.
    pub tests: Vec<String>,
    /// What of it is not proven yet.
    #[serde(default)]
    pub missing: Option<String>,
}

/// A function that must not lose its tests.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Critical {
    /// The file that defines it. A relative path starts at the manifest's folder.
    pub source: String,
    /// Files or folders of tests; one file of them at least must mention it.
    pub tests: Vec<String>,
    /// How its definition is written, where no keyword stands before its name: `int transfer(`.
    #[serde(default)]
    pub definition: Option<String>,
}

impl Critical {
    /// Gives the function's own name: the last part of `path`.
    pub fn name(path: &str) -> &str {
        path.rsplit([':', '.', '/', '#']).next().unwrap_or(path)
    }
}

/// What was found in the sources about a critical function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Whether its file defines it; or why that file can't be read.
    pub defined: Result<bool, String>,
    /// The first file of tests that mentions it; or why they can't be read.
    pub mentioned: Result<Option<String>, String>,
}

/// What is wrong with a promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Its test ran and failed.
    Failed,
    /// Its test was skipped.
    Skipped,
    /// Its test passed only when it was tried again, and the manifest refuses that.
    Retried,
    /// Its test is in no report: gone, renamed or filtered out.
    Missing,
    /// It is required and bound to no test.
    Unbound,
    /// A report is too old.
    Stale,
    /// A report is about another commit.
    Elsewhere,
    /// A report can't be read.
    Unreadable,
    /// A critical function is not defined where it should be.
    Gone,
    /// No test mentions a critical function.
    Untested,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The promise, the function, or the report.
    pub of: String,
    /// The test, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<String>,
    /// What kind of thing it is.
    pub kind: Kind,
    /// In words.
    pub because: String,
}

/// Holds every promise against the reports; nothing found means that all is proven.
///
/// Tests that failed come first, then what is missing, in the manifest's order.
pub fn verify(
    manifest: &Manifest,
    evidence: &[Evidence],
    sources: &BTreeMap<String, Source>,
    demands: &Demands<'_>,
) -> Vec<Finding> {
    let proofs = Proofs::of(evidence, demands);
    let mut found: Vec<Finding> = proofs.unfit.iter().map(report).collect();
    if manifest.promises.is_empty() && manifest.critical.is_empty() {
        let because = "the manifest promises nothing: was it emptied? Then nothing is proven".to_string();
        found.push(finding("manifest", None, Kind::Unbound, because));
    }
    for id in manifest.required.iter().collect::<BTreeSet<_>>() {
        if !manifest.promises.contains_key(id) {
            found.push(finding(
                id,
                None,
                Kind::Unbound,
                format!("{id} is required and stands nowhere in the manifest"),
            ));
        }
    }
    for (id, promise) in &manifest.promises {
        if promise.tests.is_empty() {
            let because = format!("{id} ({}) is bound to no test", promise.promise);
            found.push(finding(id, None, Kind::Unbound, because));
        }
        found.extend(promise.tests.iter().filter_map(|test| bound(&proofs, manifest.retried, id, test)));
    }
    for (path, critical) in &manifest.critical {
        found.extend(function(path, critical, sources.get(path)));
    }
    found.sort_by_key(|finding| finding.kind != Kind::Failed);
    found
}

fn finding(of: &str, test: Option<&str>, kind: Kind, because: String) -> Finding {
    Finding { of: of.into(), test: test.map(Into::into), kind, because }
}

fn report(unfit: &Unfit) -> Finding {
    let kind = match unfit {
        Unfit::Unreadable(_) => Kind::Unreadable,
        Unfit::Stale(_) => Kind::Stale,
        Unfit::Elsewhere(_) => Kind::Elsewhere,
    };
    finding("report", None, kind, unfit.because().to_string())
}

/// Gives the bound tests that passed only when they were tried again, each with the promises that it should prove.
pub fn retried(manifest: &Manifest, evidence: &[Evidence], demands: &Demands<'_>) -> BTreeMap<String, Vec<String>> {
    let proofs = Proofs::of(evidence, demands);
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (id, promise) in &manifest.promises {
        for test in &promise.tests {
            if matches!(proofs.said(test), Some(Said { outcome: Outcome::Passed, again: true, .. })) {
                found.entry(test.clone()).or_default().push(id.clone());
            }
        }
    }
    found
}

fn bound(proofs: &Proofs, retried: Retried, id: &str, test: &str) -> Option<Finding> {
    let (kind, because) = match proofs.said(test) {
        Some(Said { outcome: Outcome::Passed, again: true, .. }) if retried == Retried::Refused => {
            (Kind::Retried, format!("{id}: {test} passed only when it was tried again, and that is no proof here"))
        }
        Some(Said { outcome: Outcome::Passed, .. }) => return None,
        Some(Said { outcome: Outcome::Failed, why, .. }) => (Kind::Failed, format!("{id}: {test} failed: {why}")),
        Some(Said { outcome: Outcome::Skipped, why, .. }) => {
            (Kind::Skipped, format!("{id}: {test} was skipped ({why}), and that is no pass"))
        }
        None => {
            let alike = proofs.alike(test).map(|name| format!(" There is {name}.")).unwrap_or_default();
            let because = format!("{id}: {test} did not run: was it renamed, removed or filtered out?{alike}");
            (Kind::Missing, because)
        }
    };
    Some(finding(id, Some(test), kind, because))
}

fn function(path: &str, critical: &Critical, source: Option<&Source>) -> Option<Finding> {
    let name = Critical::name(path);
    let Some(source) = source else {
        return Some(finding(path, None, Kind::Unreadable, format!("nobody looked for {path}")));
    };
    match (&source.defined, &source.mentioned) {
        (Err(why), _) | (Ok(true), Err(why)) => Some(finding(path, None, Kind::Unreadable, format!("{path}: {why}"))),
        (Ok(false), _) => {
            let because = format!("{path}: {} defines no {name}: was it renamed or moved?", critical.source);
            Some(finding(path, None, Kind::Gone, because))
        }
        (Ok(true), Ok(None)) => {
            let because = format!("{path}: no test mentions {name} any more, in {}", critical.tests.join(", "));
            Some(finding(path, None, Kind::Untested, because))
        }
        (Ok(true), Ok(Some(_))) => None,
    }
}
