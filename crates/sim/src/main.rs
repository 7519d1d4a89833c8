//! Prints one world's log, for looking into a seed that failed.
//!
//! `cargo run -p lastgood-sim -- --seed 12`, or `-- --scenario happy`.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let report = match (arguments.next().as_deref(), arguments.next()) {
        (Some("--seed"), Some(seed)) => seed.parse().ok().map(lastgood_sim::random),
        (Some("--scenario"), Some(name)) => {
            lastgood_sim::scenarios().iter().find(|scenario| scenario.name == name).map(|scenario| scenario.play(None))
        }
        _ => None,
    };
    let Some(report) = report else {
        let names: Vec<&str> = lastgood_sim::scenarios().iter().map(|scenario| scenario.name).collect();
        let usage = format!("usage: lastgood-sim --seed N | --scenario {}\n", names.join("|"));
        // Nothing better can be done when even the usage can't be written.
        drop(io::stderr().write_all(usage.as_bytes()));
        return ExitCode::from(2);
    };
    let mut text = report.text();
    for violation in &report.violations {
        text.push_str("VIOLATED ");
        text.push_str(violation);
        text.push('\n');
    }
    if io::stdout().write_all(text.as_bytes()).is_err() || !report.violations.is_empty() {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
