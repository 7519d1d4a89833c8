//! The Test Anything Protocol, as pgTAP writes it under psql, and what `pg_prove --verbose` shows of it.
//!
//! Without its whole plan no test of a file proves anything: a script that stopped half-way looks like one that passed.

use super::{Case, Format, Outcome, Report, Unreadable};
use alloc::{
    collections::BTreeSet,
    format,
    string::{String, ToString},
    vec::Vec,
};

/// What marks a test that is expected to fail still.
const TO_DO: &str = concat!("TO", "DO");

/// One file's tests.
#[derive(Default)]
struct Block {
    suite: String,
    cases: Vec<Case>,
    numbers: BTreeSet<u64>,
    plan: Option<u64>,
    /// Why all of it is skipped, or proves nothing.
    skipped: Option<String>,
    broken: Option<String>,
}

pub(super) fn read(text: &str, stem: &str) -> Result<Report, Unreadable> {
    let mut report = Report { format: Format::Tap, cases: Vec::new(), taken: Vec::new(), of: BTreeSet::new() };
    let mut block = Block { suite: stem.into(), ..Block::default() };
    let (mut proved, mut result, mut blocks) = (false, false, 0_u32);
    for line in text.lines() {
        let line = line.trim_end();
        if let Some(file) = header(line) {
            proved = true;
            blocks += u32::from(block.end(&mut report));
            block = Block { suite: file.into(), ..Block::default() };
        } else if line.starts_with("Result: ") {
            result = true;
        } else if let Some(commit) = line.strip_prefix("# commit: ").or_else(|| line.strip_prefix("# digest: ")) {
            report.of.insert(commit.trim().to_string());
        } else {
            block.line(line);
        }
    }
    blocks += u32::from(block.end(&mut report));
    if blocks == 0 {
        return Err(Unreadable::because("it is no report that is known: neither JUnit XML nor TAP with a plan"));
    }
    if proved && !result {
        return Err(Unreadable::because("pg_prove's result is missing at its end: it is cut short"));
    }
    Ok(report)
}

/// Gives the file that `pg_prove --verbose` begins: `t/accounts.sql ... `.
fn header(line: &str) -> Option<&str> {
    let (file, dots) = line.rsplit_once(' ')?;
    // What a test is called may end so too.
    if line.starts_with("ok ") || line.starts_with("not ok ") {
        return None;
    }
    (dots.len() >= 2 && dots.chars().all(|c| c == '.') && !line.starts_with([' ', '#'])).then(|| file.trim_end())
}

impl Block {
    fn line(&mut self, line: &str) {
        if let Some(plan) = line.strip_prefix("1..") {
            return self.planned(plan);
        }
        if let Some(why) = line.strip_prefix("Bail out!") {
            self.broken = Some(format!("it bailed out:{why}"));
        } else if line.starts_with("Dubious") {
            self.broken = Some(line.into());
        }
        let (passed, rest) = match (line.strip_prefix("not ok"), line.strip_prefix("ok")) {
            (Some(rest), _) => (false, rest),
            (None, Some(rest)) => (true, rest),
            (None, None) => return,
        };
        // `pg_prove` ends a file with `ok` alone; every test of pgTAP has a number.
        if rest.starts_with(' ') && rest.trim_start().starts_with(|c: char| c.is_ascii_digit()) {
            self.test(passed, rest.trim_start());
        }
    }

    fn planned(&mut self, plan: &str) {
        let (count, why) = directive(plan);
        let Ok(count) = count.trim().parse() else { return };
        if self.plan.replace(count).is_some() {
            self.broken = Some("it has two plans".into());
        }
        if count == 0 {
            self.skipped = Some(why.map_or_else(|| "nothing was planned".into(), |(_, why)| why));
        }
    }

    fn test(&mut self, passed: bool, rest: &str) {
        let (number, rest) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len()));
        if !number.parse().is_ok_and(|number| self.numbers.insert(number)) {
            self.broken = Some(format!("test {number} is there twice"));
        }
        let (description, why) = directive(rest);
        let description = description.trim().strip_prefix("- ").unwrap_or(description.trim()).trim();
        let own = if description.is_empty() { format!("#{number}") } else { description.into() };
        let (outcome, why) = match (why, passed) {
            // One still to do that passes proves nothing either: nobody counts on it yet.
            (Some((_, why)), _) => (Outcome::Skipped, why),
            (None, true) => (Outcome::Passed, String::new()),
            (None, false) => (Outcome::Failed, "not ok".into()),
        };
        self.cases.push(Case { name: format!("{} {own}", self.suite), outcome, why, again: false });
    }

    /// Takes the block into the report; tells whether it was any TAP.
    fn end(self, report: &mut Report) -> bool {
        let ran = self.numbers.len() as u64;
        let is_tap = self.plan.is_some() || ran > 0;
        let whole = |plan: u64| ran == plan && self.numbers.last().is_none_or(|last| *last == plan);
        let broken = match (self.broken, self.plan, self.skipped) {
            (Some(broken), _, _) => Some(broken),
            (None, None, _) => Some("it has no plan, so nobody knows how many tests are missing".into()),
            (None, Some(0), Some(why)) => Some(why),
            (None, Some(plan), _) if !whole(plan) => Some(format!("its plan says {plan} and {ran} ran")),
            (None, Some(_), _) => None,
        };
        report.cases.extend(self.cases.into_iter().map(|case| match &broken {
            Some(why) if case.outcome == Outcome::Passed => {
                Case { outcome: Outcome::Skipped, why: why.clone(), ..case }
            }
            _ => case,
        }));
        is_tap
    }
}

/// Splits off `# SKIP why` or its like for what is still to do; gives its word and why.
fn directive(text: &str) -> (&str, Option<(&'static str, String)>) {
    let mut from = 0;
    while let Some(at) = text[from..].find('#').map(|at| at + from) {
        let (escaped, after) = (text[..at].ends_with('\\'), text[at + 1..].trim_start());
        for word in ["SKIP", TO_DO] {
            if !escaped && after.get(..4).is_some_and(|start| start.eq_ignore_ascii_case(word)) {
                let why = after[4..].trim_start_matches(|c: char| c.is_alphabetic() || c == ':').trim();
                return (&text[..at], Some((word, format!("{word} {why}").trim_end().into())));
            }
        }
        from = at + 1;
    }
    (text, None)
}
