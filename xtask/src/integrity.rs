//! `cargo xtask integrity`: holds our own promises against the tests just run, with our own `lastgood integrity verify`.

use crate::{Done, root};
use std::{fs, process::Command};

/// Where nextest writes what ran.
const REPORT: &str = "target/nextest/default/junit.xml";

/// How many tests passed and failed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

/// Says which commit the report is about, if it is about one: the tree must be exactly that commit.
///
/// To be called right after the tests ran.
pub(crate) fn stamp() -> Done {
    let place = root().join(format!("{REPORT}.commit"));
    let _ = fs::remove_file(&place);
    let Some(commit) = commit()? else {
        println!("the tree has changes: its report is about no commit");
        return Ok(());
    };
    let output = Command::new("sha256sum")
        .arg(root().join(REPORT))
        .output()
        .map_err(|error| format!("sha256sum can't be run: {error}"))?;
    let digest = String::from_utf8_lossy(&output.stdout).split_whitespace().next().unwrap_or_default().to_owned();
    fs::write(&place, format!("{commit} {digest}\n")).map_err(|error| format!("{}: {error}", place.display()))
}

/// Checks every bound promise against the report.
pub(crate) fn integrity() -> Done {
    let commit = commit()?;
    let mut arguments = vec!["integrity", "verify"];
    arguments.extend(commit.iter().flat_map(|commit| ["--commit", commit.as_str()]));
    let (passed, text) = lastgood(&arguments)?;
    print!("{text}");
    if passed { Ok(()) } else { Err("not every promise is proven".into()) }
}

/// Counts the tests of the report.
pub(crate) fn counts() -> Result<Counts, String> {
    let (_, text) = lastgood(&["--json", "integrity", "verify"])?;
    let all: serde_json::Value = serde_json::from_str(&text).map_err(|error| format!("no JSON: {error}: {text}"))?;
    let sum =
        |key: &str| all["data"]["reports"].as_array().into_iter().flatten().filter_map(|one| one[key].as_u64()).sum();
    Ok(Counts { passed: sum("passed"), failed: sum("failed") })
}

/// Gives the commit of the tree; none if something in it was changed.
fn commit() -> Result<Option<String>, String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).current_dir(root()).output();
        let output = output.map_err(|error| format!("git can't be run: {error}"))?;
        Ok::<_, String>(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let is_clean = git(&["status", "--porcelain"])?.is_empty();
    Ok(if is_clean { Some(git(&["rev-parse", "HEAD"])?).filter(|commit| !commit.is_empty()) } else { None })
}

fn lastgood(arguments: &[&str]) -> Result<(bool, String), String> {
    let mut all = vec!["run", "--quiet", "--package", "lastgood", "--"];
    all.extend(arguments);
    let output = Command::new("cargo").args(&all).current_dir(root()).output();
    let output = output.map_err(|error| format!("lastgood can't be run: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    match output.status.code() {
        Some(0 | 1 | 12) if !output.stdout.is_empty() => {
            Ok((output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned()))
        }
        _ => Err(format!("lastgood {} failed: {said}", arguments.join(" "))),
    }
}
