//! `cargo xtask fuzz`: lets a fuzzer look for inputs that break a parser of our own; see fuzz/README.md.

use crate::{Done, root, run::read};
use std::{fs, path::Path, process::Command, process::Stdio};

const USAGE: &str = "usage: cargo xtask fuzz [TARGET | all] [--seconds N]";
/// Time for each target, where none is given.
const SECONDS: u32 = 30;

/// Runs one target, or each of them; without a name it lists them.
pub(crate) fn fuzz(arguments: &[&str]) -> Done {
    let (name, seconds) = match arguments {
        [] => (None, SECONDS),
        [name] => (Some(*name), SECONDS),
        [name, "--seconds", seconds] | ["--seconds", seconds, name] => {
            (Some(*name), seconds.parse().map_err(|_| format!("{seconds:?} is no number of seconds; {USAGE}"))?)
        }
        _ => return Err(USAGE.into()),
    };
    let manifest: toml::Table = toml::from_str(&read("fuzz/Cargo.toml")?).map_err(|error| error.to_string())?;
    let bins = manifest.get("bin").and_then(|bins| bins.as_array()).map(Vec::as_slice).unwrap_or_default();
    let targets: Vec<&str> = bins.iter().filter_map(|bin| bin.get("name")?.as_str()).collect();
    let Some(name) = name else {
        println!("{} targets: {}\n{USAGE}", targets.len(), targets.join(", "));
        return Ok(());
    };
    let chosen: Vec<&str> = targets.iter().copied().filter(|target| name == "all" || *target == name).collect();
    if chosen.is_empty() {
        return Err(format!("there is no target {name:?}; there are: {}", targets.join(", ")));
    }
    tools()?;
    let broken: Vec<&str> = chosen.into_iter().filter(|target| !run(target, seconds)).collect();
    match broken.is_empty() {
        true => Ok(()),
        false => Err(format!("broke: {}; the inputs are in fuzz/artifacts", broken.join(", "))),
    }
}

/// Makes sure that the two things that an ordinary build has not are there.
fn tools() -> Done {
    let answers = |arguments: &[&str]| {
        let asked = Command::new("cargo").args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
        asked.is_ok_and(|status| status.success())
    };
    if !answers(&["+nightly", "--version"]) {
        return Err("fuzzing needs the nightly compiler; type: rustup toolchain install nightly".into());
    }
    if !answers(&["+nightly", "fuzz", "--version"]) {
        return Err("fuzzing needs cargo-fuzz and a compiler of C++; type: cargo install cargo-fuzz --locked".into());
    }
    Ok(())
}

fn run(target: &str, seconds: u32) -> bool {
    println!("== {target}");
    let fuzz = root().join("fuzz");
    let corpus = fuzz.join("corpus").join(target);
    let seeds = Path::new("seeds").join(target);
    if let Err(error) = fs::create_dir_all(&corpus) {
        println!("{} can't be made: {error}", corpus.display());
        return false;
    }
    // What is found new goes to the first folder, which is not kept. None of our code is unsafe: a sanitizer would only
    // make it slow.
    let status = Command::new("cargo")
        .args(["+nightly", "fuzz", "run", "--sanitizer", "none", "--fuzz-dir", ".", target])
        .arg(&corpus)
        .arg(&seeds)
        .args(["--", &format!("-max_total_time={seconds}"), "-print_final_stats=1", "-timeout=20"])
        .current_dir(&fuzz)
        .status();
    status.is_ok_and(|status| status.success())
}
