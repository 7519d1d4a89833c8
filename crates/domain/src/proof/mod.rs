//! Proof by tests: what a report says ran, and which promises that proves.
//!
//! A promise holds only on positive proof: its tests are named, were executed and passed, for this commit, not too long
//! ago. What is missing, skipped or unreadable proves nothing, and is told apart from what failed.

mod junit;
mod manifest;
mod named;
mod source;
mod tap;
mod xml;

pub use manifest::{Critical, Finding, Kind, Manifest, Promise, Retried, Source, retried, verify};
pub use named::{Demands, Evidence, named};
pub use source::{Language, defines, mentions};

use alloc::{
    collections::BTreeSet,
    string::{String, ToString},
    vec::Vec,
};
use core::fmt;
use serde::Serialize;

/// Largest report that is read, in bytes: a hundred thousand tests with their output have some 30 MiB.
pub const REPORT_BYTES_MAX: u64 = 64 << 20;

/// What wrote a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// JUnit XML of any other program.
    Junit,
    /// nextest's JUnit XML.
    Nextest,
    /// pytest's JUnit XML.
    Pytest,
    /// The Test Anything Protocol, as pgTAP under psql or `pg_prove --verbose` writes it.
    Tap,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Junit => "JUnit",
            Self::Nextest => "nextest",
            Self::Pytest => "pytest",
            Self::Tap => "TAP",
        })
    }
}

/// What came of one test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// It ran and passed.
    Passed,
    /// It was not run, or what ran of it proves nothing.
    Skipped,
    /// It ran and failed.
    Failed,
}

/// One test of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// The suite and the test's own name, as they are bound: `ledger::story both_sides_change`.
    pub name: String,
    /// What came of it.
    pub outcome: Outcome,
    /// Why it proves nothing, if it does not.
    pub why: String,
    /// Whether it passed only when it was tried again.
    pub again: bool,
}

/// A report that was read to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// What wrote it.
    pub format: Format,
    /// Every test, in the report's order.
    pub cases: Vec<Case>,
    /// When its suites began, as they say it.
    pub taken: Vec<String>,
    /// The commits or digests that it says it is about.
    pub of: BTreeSet<String>,
}

/// Why a report can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(String);

impl Unreadable {
    fn because(what: impl ToString) -> Self {
        Self(what.to_string())
    }
}

impl Report {
    /// Reads a report of any known format; `stem` is the suite of a TAP report that names none, such as its file's name.
    ///
    /// Errors: it is none of them, is cut short, is too deep or too large, or declares entities.
    pub fn read(text: &str, stem: &str) -> Result<Self, Unreadable> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if text.len() as u64 > REPORT_BYTES_MAX {
            return Err(Unreadable::because("it is longer than 64 MiB"));
        }
        match text.trim_start().starts_with('<') {
            true => junit::read(text),
            false => tap::read(text, stem),
        }
    }

    /// Counts the tests with this outcome.
    pub fn count(&self, outcome: Outcome) -> u64 {
        self.cases.iter().filter(|case| case.outcome == outcome).count() as u64
    }
}
