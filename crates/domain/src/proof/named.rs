//! Named tests against the reports that should prove them.

use super::{Case, Format, Outcome, Report};
use crate::{
    gate::Verdict,
    terms::{Span, Timestamp},
    words::count,
};
use alloc::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    format,
    string::{String, ToString},
    vec::Vec,
};

/// How far a report may lie in the future: clocks of two machines differ by seconds.
const AHEAD_MAX: Span = Span::minutes(5);
/// Fewest hex digits by which a commit is known.
const COMMIT_DIGITS_MIN: usize = 12;

/// One report, as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// What people call it, such as its path.
    pub name: String,
    /// What it says, or why it can't be read.
    pub report: Result<Report, String>,
    /// When it was made; none if nobody knows.
    pub taken: Option<Timestamp>,
    /// The commits and digests that it is about, as it or its place says.
    pub of: BTreeSet<String>,
}

/// What a report must be to prove anything.
#[derive(Debug, Clone, Copy)]
pub struct Demands<'d> {
    /// The commit and digest it must be about, one of them at least; empty asks for none.
    pub of: &'d [String],
    /// The time of now.
    pub now: Timestamp,
    /// How old it may be.
    pub max_age: Span,
}

/// Why a report proves nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unfit {
    Unreadable(String),
    Stale(String),
    Elsewhere(String),
}

impl Unfit {
    pub(super) fn because(&self) -> &str {
        match self {
            Self::Unreadable(why) | Self::Stale(why) | Self::Elsewhere(why) => why,
        }
    }
}

impl Evidence {
    /// Gives the report if it proves anything.
    pub(super) fn fit(&self, demands: &Demands<'_>) -> Result<&Report, Unfit> {
        let name = &self.name;
        let report = self.report.as_ref().map_err(|why| Unfit::Unreadable(format!("{name} can't be read: {why}")))?;
        let Some(taken) = self.taken else {
            return Err(Unfit::Unreadable(format!("nobody knows when {name} was made")));
        };
        if taken.since(demands.now) > AHEAD_MAX {
            return Err(Unfit::Stale(format!("{name} is from the future: its clock or ours is wrong")));
        }
        let age = demands.now.since(taken);
        if age > demands.max_age {
            return Err(Unfit::Stale(format!("{name} is {age} old, the limit is {}", demands.max_age)));
        }
        if demands.of.is_empty() {
            return Ok(report);
        }
        let wanted = demands.of.join(" or ");
        if self.of.is_empty() {
            return Err(Unfit::Elsewhere(format!("{name} says of no commit that it is about it; {wanted} is asked")));
        }
        // All of it: a report about two commits proves neither.
        match self.of.iter().find(|of| !demands.of.iter().any(|wanted| is_same(of, wanted))) {
            Some(other) => Err(Unfit::Elsewhere(format!("{name} is about {other}, and {wanted} is asked"))),
            None => Ok(report),
        }
    }
}

/// Tells whether two texts name the same commit or digest; the start of a commit is enough if it is long.
fn is_same(one: &str, other: &str) -> bool {
    let (one, other) = (one.to_ascii_lowercase(), other.to_ascii_lowercase());
    let (short, long) = if one.len() <= other.len() { (one, other) } else { (other, one) };
    short.len() >= COMMIT_DIGITS_MIN && short.chars().all(|c| c.is_ascii_hexdigit()) && long.starts_with(&short)
        || short == long
}

/// What the reports say of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) outcome: Outcome,
    pub(super) why: String,
    /// Whether it passed only when it was tried again, in one report at least.
    pub(super) again: bool,
}

/// Every test of the reports that prove anything, and what is wrong with the others.
pub(super) struct Proofs {
    cases: BTreeMap<String, Said>,
    /// Tests of pytest that stand once for each parameter, by the name without it.
    parametrised: BTreeMap<String, Said>,
    pub(super) unfit: Vec<Unfit>,
    pub(super) again: Vec<String>,
    pub(super) counts: [u64; 3],
}

impl Proofs {
    pub(super) fn of(evidence: &[Evidence], demands: &Demands<'_>) -> Self {
        let (cases, parametrised) = (BTreeMap::new(), BTreeMap::new());
        let mut proofs = Self { cases, parametrised, unfit: Vec::new(), again: Vec::new(), counts: [0; 3] };
        for one in evidence {
            match one.fit(demands) {
                Ok(report) => report.cases.iter().for_each(|case| proofs.take(case, report.format)),
                Err(unfit) => proofs.unfit.push(unfit),
            }
        }
        proofs
    }

    fn take(&mut self, case: &Case, format: Format) {
        self.counts[case.outcome as usize] += 1;
        if case.again && case.outcome == Outcome::Passed {
            self.again.push(case.name.clone());
        }
        if let (Format::Pytest, Some((bare, _))) = (format, case.name.split_once('[')) {
            worst(&mut self.parametrised, bare, case);
        }
        worst(&mut self.cases, &case.name, case);
    }

    /// Gives what is said of a bound test; none if it did not run.
    pub(super) fn said(&self, test: &str) -> Option<&Said> {
        let name = canonical(test);
        self.cases.get(name.as_ref()).or_else(|| self.parametrised.get(name.as_ref()))
    }

    /// Gives the first test that failed.
    fn failed(&self) -> Option<&String> {
        self.cases.iter().find(|(_, said)| said.outcome == Outcome::Failed).map(|(name, _)| name)
    }

    /// Finds a test that has the same last name, which a missing one may have been given.
    pub(super) fn alike(&self, test: &str) -> Option<&String> {
        let last = |name: &str| name.rsplit([':', ' ', '.']).next().unwrap_or_default().to_string();
        let name = canonical(test);
        // The last word of a sentence, as pgTAP has, is no name.
        let wanted = Some(last(&name)).filter(|last| last.contains('_'))?;
        self.cases.keys().find(|known| last(known) == wanted && **known != name)
    }
}

/// A test that is there twice, as in two jobs, has passed only if it passed in both.
fn worst(into: &mut BTreeMap<String, Said>, name: &str, case: &Case) {
    let mut said = Said { outcome: case.outcome, why: case.why.clone(), again: case.again };
    match into.get_mut(name) {
        Some(known) if known.outcome >= said.outcome => known.again |= said.again,
        Some(known) => {
            said.again |= known.again;
            *known = said;
        }
        None => drop(into.insert(name.to_string(), said)),
    }
}

/// Gives a pytest node id the form that its report has: `tests/test_a.py::TestB::test_c` is `tests.test_a.TestB test_c`.
fn canonical(test: &str) -> Cow<'_, str> {
    let Some((file, rest)) = test.split_once(".py::") else { return Cow::Borrowed(test) };
    let (own, parameters) = rest.split_at(rest.find('[').unwrap_or(rest.len()));
    let (classes, own) = own.rsplit_once("::").map_or((None, own), |(classes, own)| (Some(classes), own));
    let mut class = file.replace('/', ".");
    if let Some(classes) = classes {
        class += ".";
        class += &classes.replace("::", ".");
    }
    Cow::Owned(format!("{class} {own}{parameters}"))
}

/// Weighs named tests for a gate: each must have run and passed, and no other test of the reports may have failed.
pub fn named(tests: &[String], evidence: &[Evidence], demands: &Demands<'_>) -> (Verdict, String) {
    let proofs = Proofs::of(evidence, demands);
    if let Some(failed) = proofs.failed() {
        let of = count(proofs.counts[Outcome::Failed as usize], "test");
        return (Verdict::Fail, format!("{of} failed, the first is {failed}"));
    }
    if let Some(unfit) = proofs.unfit.first() {
        return (Verdict::CannotTell, unfit.because().to_string());
    }
    for test in tests {
        match proofs.said(test) {
            Some(Said { outcome: Outcome::Passed, .. }) => {}
            Some(Said { why, .. }) => {
                return (Verdict::CannotTell, format!("{test} was skipped ({why}), and that is no pass"));
            }
            None => {
                return (Verdict::CannotTell, format!("{test} did not run: was it renamed, removed or filtered out?"));
            }
        }
    }
    let [passed, skipped, _] = proofs.counts;
    let mut because = format!("{} of {} passed", tests.len(), count(tests.len() as u64, "named test"));
    because += &format!(", {passed} in all");
    if skipped > 0 {
        because += &format!(", {skipped} skipped");
    }
    if !proofs.again.is_empty() {
        because += &format!(", {} only when tried again", proofs.again.len());
    }
    (Verdict::Pass, because)
}
