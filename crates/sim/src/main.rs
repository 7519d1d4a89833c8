//! Prints one world's log, for looking into a seed that failed.
//!
//! `cargo run -p lastgood-sim -- --seed 12`, `-- --shared 12` where traffic is shared, `-- --incidents 12` for whole incidents,
//! or `-- --scenario happy`. `-- --incidents 0..2000` plays many and prints what is wrong and how often what came up.
//! `-- guards 400` prints how often guards are wrong.

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    ops::Range,
    process::ExitCode,
};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    if std::env::args().nth(1).as_deref() == Some("guards") {
        return guards(arguments.nth(1), arguments.next());
    }
    if let (Some("--incidents"), Some(which)) = (std::env::args().nth(1).as_deref(), std::env::args().nth(2)) {
        if let Ok(seed) = which.parse() {
            return incidents(seed);
        }
        if let Some((first, end)) = which.split_once("..")
            && let (Ok(first), Ok(end)) = (first.parse(), end.parse())
        {
            return many_incidents(first..end).unwrap_or(ExitCode::FAILURE);
        }
    }
    let report = match (arguments.next().as_deref(), arguments.next()) {
        (Some("--seed"), Some(seed)) => seed.parse().ok().map(lastgood_sim::random),
        (Some("--shared"), Some(seed)) => seed.parse().ok().map(lastgood_sim::random_shared),
        (Some("--scenario"), Some(name)) => {
            lastgood_sim::scenarios().iter().find(|scenario| scenario.name == name).map(|scenario| scenario.play(None))
        }
        _ => None,
    };
    let Some(report) = report else {
        let names: Vec<&str> = lastgood_sim::scenarios().iter().map(|scenario| scenario.name).collect();
        let usage = format!(
            "usage: lastgood-sim --seed N | --shared N | --incidents N | --incidents FIRST..END | --scenario {} | guards [RUNS [SEED]]\n",
            names.join("|")
        );
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

/// Prints the story of one world of incidents, with what was wrong in it where that was seen.
fn incidents(seed: u64) -> ExitCode {
    let played = lastgood_sim::random_incidents(seed);
    let written = io::stdout().write_all(played.text().as_bytes());
    if written.is_err() || !played.violations.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Plays worlds of incidents one after the other: a line for each in which something was wrong, and at the end in how many
/// worlds each thing came up.
fn many_incidents(seeds: Range<u64>) -> io::Result<ExitCode> {
    let mut out = io::stdout();
    let mut reached: BTreeMap<&str, u64> = BTreeMap::new();
    let (mut wrong, mut records, mut crashes, mut races) = (0_u64, 0, 0_u64, 0_u64);
    let count = seeds.end.saturating_sub(seeds.start);
    for seed in seeds {
        let played = lastgood_sim::random_incidents(seed);
        if let Some(first) = played.violations.first() {
            wrong += 1;
            writeln!(out, "seed {seed}: {first} (and {} more)", played.violations.len() - 1)?;
        }
        played.reached.iter().for_each(|what| *reached.entry(what).or_default() += 1);
        records += played.records;
        crashes += u64::from(played.crashes);
        races += u64::from(played.races);
    }
    for (what, worlds) in reached {
        writeln!(out, "{worlds:>7} {what}")?;
    }
    writeln!(out, "{count} worlds, {wrong} wrong; {records} records, {crashes} kills, {races} races")?;
    Ok(if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints the figures of guards; four hundred runs a cell tell 1 % from 2 %.
fn guards(runs: Option<String>, seed: Option<String>) -> ExitCode {
    let number = |text: Option<String>, without| text.map_or(Ok(without), |text| text.parse::<u32>());
    let (Ok(runs), Ok(seed)) = (number(runs, 400), number(seed, 1)) else {
        return ExitCode::from(2);
    };
    match io::stdout().write_all(lastgood_sim::guarding::figures(runs, u64::from(seed)).as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
