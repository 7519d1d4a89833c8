//! What CI runs and people run: `cargo xtask test`, `tidy`, `integrity`, `docs`, `simulate`, `fuzz`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a task tells people what it does")]

mod docs;
mod fuzz;
mod integrity;
mod packages;
mod run;
mod tidy;

use std::{env, path::PathBuf, process::ExitCode};

/// What a task comes to: the error is a sentence for people.
pub(crate) type Done = Result<(), String>;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["test"] => run::test(),
        ["tidy"] => tidy::tidy(),
        ["integrity"] => integrity::integrity(),
        ["docs", rest @ ..] => docs::docs(rest.contains(&"--check")),
        ["simulate", rest @ ..] => run::simulate(rest),
        ["bench", rest @ ..] => run::bench(rest),
        ["fuzz", rest @ ..] => fuzz::fuzz(rest),
        _ => Err(
            "usage: cargo xtask test | tidy | integrity | docs [--check] | simulate [--seed N | --incidents N|FIRST..END | guards [RUNS]] | bench | fuzz [TARGET] [--seconds N]"
                .into(),
        ),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Gives the workspace's folder.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().map(PathBuf::from).unwrap_or_default()
}
