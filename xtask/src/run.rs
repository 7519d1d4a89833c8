//! `cargo xtask test` and the other tasks that run programs, each step named with its time.

use crate::{Done, docs, integrity, packages, root, tidy};
use std::{fs, process::Command, time::Instant};

/// Does everything CI does, in the order in which a failure is cheapest.
pub(crate) fn test() -> Done {
    step("packages", packages::install)?;
    step("format", || cargo(&["fmt", "--all", "--check"]))?;
    step("lints", || cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    step("tidy", tidy::tidy)?;
    // Built first, so that the minutes of building are not counted as a test's.
    step("build", || cargo(&["nextest", "run", "--workspace", "--no-run", "--cargo-quiet"]))?;
    let tested = step("tests", || cargo(&["nextest", "run", "--workspace", "--no-fail-fast", "--cargo-quiet"]));
    let integrity = step("integrity", || integrity::stamp().and_then(|()| integrity::integrity()));
    let docs = step("docs", || docs::docs(true));
    tested.and(integrity).and(docs)?;
    let counts = integrity::counts()?;
    println!("{} passed, {} failed", counts.passed, counts.failed);
    Ok(())
}

/// Runs one seed of the simulator, or a batch of worlds.
pub(crate) fn simulate(arguments: &[&str]) -> Done {
    let mut all = vec!["run", "--quiet", "--release", "--package", "lastgood-sim", "--"];
    all.extend(arguments);
    cargo(&all)
}

/// Runs the benchmarks and prints ratios against their floors.
pub(crate) fn bench(arguments: &[&str]) -> Done {
    let package = root().join("bench/Cargo.toml");
    if !package.exists() {
        return Err("there is no bench folder in this tree".into());
    }
    let programs = ["lastgood", "lastgood-notebook", "last-layer"];
    cargo(&[&["build", "--quiet", "--release"][..], &programs.map(|name| ["--package", name]).concat()].concat())?;
    let mut all = vec!["run", "--quiet", "--release", "--package", "lastgood-bench", "--"];
    all.extend(arguments);
    cargo(&all)
}

fn step(name: &str, act: impl FnOnce() -> Done) -> Done {
    println!("== {name}");
    let began = Instant::now();
    let done = act();
    let verdict = if done.is_ok() { "ok" } else { "FAILED" };
    println!("== {name}: {verdict} in {} s", began.elapsed().as_secs());
    done.map_err(|why| format!("{name}: {why}"))
}

fn cargo(arguments: &[&str]) -> Done {
    let status = Command::new("cargo").args(arguments).current_dir(root()).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("cargo {} ended with {status}", arguments.join(" "))),
        Err(error) => Err(format!("cargo can't be run: {error}")),
    }
}

/// Reads a file of the workspace as text.
pub(crate) fn read(path: &str) -> Result<String, String> {
    fs::read_to_string(root().join(path)).map_err(|error| format!("{path} can't be read: {error}"))
}
