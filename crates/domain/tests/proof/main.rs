//! Proof by tests, against reports that nextest, pytest and pgTAP really wrote; fixtures/README.md says how.
#![expect(clippy::unwrap_used, reason = "a test that can't go on says where it stopped")]

mod hostile;
mod promises;
mod reports;
mod sources;

use lastgood_domain::{
    proof::{Demands, Evidence, Report},
    terms::{Span, Timestamp},
};

pub(crate) const NEXTEST: &str = include_str!("fixtures/nextest.xml");
pub(crate) const PYTEST: &str = include_str!("fixtures/pytest.xml");
pub(crate) const COMMIT: &str = "3f0c2b9a4d5e6f708192a3b4c5d6e7f801234567";
pub(crate) const NOW: Timestamp = Timestamp(1_000_000_000);

/// A report that was made ten minutes ago.
pub(crate) fn evidence(text: &str) -> Evidence {
    let report = Report::read(text, "stem").map_err(|error| error.to_string());
    let of = report.iter().flat_map(|report| report.of.clone()).collect();
    Evidence { name: "report.xml".into(), report, taken: Some(Timestamp(NOW.0 - 600_000)), of }
}

pub(crate) fn demands(of: &[String]) -> Demands<'_> {
    Demands { of, now: NOW, max_age: Span::minutes(60) }
}
