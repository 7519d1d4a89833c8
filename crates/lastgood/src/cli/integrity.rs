//! `lastgood integrity`: promises hold only as long as their tests prove them.

use super::Ended;
use crate::{
    exit::Exit,
    screen::{Screen, Trouble},
};
use clap::{Args, Subcommand};
use lastgood_domain::{proof::Kind, words};
use lastgood_drivers::gate::{self, Verified};
use lastgood_engine::world;
use serde_json::json;
use std::path::PathBuf;

/// Check that every promise is proven by passing tests.
#[derive(Debug, Subcommand)]
pub(crate) enum Integrity {
    /// Check that every bound test exists, ran and passed; needs no lastgood.toml.
    Verify(Verify),
}

/// Check that every bound test exists, ran and passed; needs no lastgood.toml.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The manifest.
    #[arg(long, value_name = "FILE", default_value = "integrity.toml")]
    manifest: PathBuf,
    /// A report in place of those that the manifest names; may be repeated.
    #[arg(long, value_name = "FILE")]
    report: Vec<PathBuf>,
    /// The commit that every report must be about. Without it nobody asks.
    #[arg(long, value_name = "SHA")]
    commit: Option<String>,
}

impl Integrity {
    /// Runs the command.
    pub(crate) fn run(self, screen: Screen) -> Ended {
        let Self::Verify(verify) = self;
        verify.run(screen)
    }
}

impl Verify {
    fn run(self, screen: Screen) -> Ended {
        let of: Vec<String> = self.commit.iter().cloned().collect();
        let verified = gate::verify(&self.manifest, &self.report, &of, world::now())
            .map_err(|error| Trouble::new(Exit::CannotTell, &error))?;
        let exit = exit_of(&verified);
        let data = json!({
            "manifest": self.manifest, "commit": self.commit, "promises": verified.promises, "tests": verified.tests,
            "critical": verified.critical, "findings": verified.findings, "proven": exit == Exit::Done,
            "reports": verified.reports.iter().map(|(name, counts)| json!({
                "report": name, "passed": counts.map(|counts| counts[0]), "skipped": counts.map(|counts| counts[1]),
                "failed": counts.map(|counts| counts[2]),
            })).collect::<Vec<_>>(),
            "missing": verified.missing.iter().map(|(of, what)| json!({ "of": of, "what": what })).collect::<Vec<_>>(),
            "again": verified.again,
            "retried": verified.retried.iter().map(|(test, of)| json!({ "test": test, "of": of })).collect::<Vec<_>>(),
        });
        screen.show("integrity", &data, &text(&verified, self.commit.as_deref(), exit));
        Ok(exit)
    }
}

/// A failed test is 1; what is missing, skipped, old or unreadable is 12: nobody can tell.
fn exit_of(verified: &Verified) -> Exit {
    match verified.findings.as_slice() {
        [] => Exit::Done,
        found if found.iter().any(|one| one.kind == Kind::Failed) => Exit::Failed,
        _ => Exit::CannotTell,
    }
}

fn text(verified: &Verified, commit: Option<&str>, exit: Exit) -> String {
    let mut text = String::new();
    for (name, counts) in &verified.reports {
        let counts = counts.map_or_else(
            || "can't be read".to_owned(),
            |[passed, skipped, failed]| format!("{passed} passed, {skipped} skipped, {failed} failed"),
        );
        text += &format!("report {name}: {counts}\n");
    }
    for name in verified.again.iter().filter(|name| !verified.retried.contains_key(*name)) {
        text += &format!("only when tried again: {name}\n");
    }
    for (test, of) in &verified.retried {
        text += &format!("warning: {} only when tried again: {test}\n", of.join(", "));
    }
    for (of, what) in &verified.missing {
        text += &format!("{of}: not proven yet: {what}\n");
    }
    for finding in &verified.findings {
        text += &format!("{}\n", words::one_line(&finding.because));
    }
    let of = commit.map_or_else(|| "no commit was asked for".to_owned(), |commit| format!("at {commit}"));
    let all = format!(
        "{}, {}, {}",
        words::count(verified.promises, "promise"),
        words::count(verified.tests, "bound test"),
        words::count(verified.critical, "critical function")
    );
    text += &match exit {
        Exit::Done if !verified.retried.is_empty() => {
            let again = words::count(verified.retried.len() as u64, "bound test");
            format!("all proven ({of}), but {again} only when tried again: {all}")
        }
        Exit::Done => format!("all proven ({of}): {all}"),
        Exit::Failed => format!("NOT proven, a bound test failed ({of}): {all}"),
        _ => format!("NOT proven, cannot tell ({of}): {all}"),
    };
    text
}
