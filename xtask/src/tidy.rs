//! `cargo xtask tidy`: the house rules that a machine can keep.

use crate::{Done, root, run::read};
use std::{collections::BTreeSet, fs, path::Path, process::Command};

/// Which crate of ours may see which; all others are walls.
const ARROWS: [(&str, &[&str]); 11] = [
    ("client", &[]),
    ("domain", &[]),
    ("store", &["domain"]),
    ("drivers", &["domain"]),
    ("engine", &["domain", "drivers", "proxy", "store"]),
    ("proxy", &["domain"]),
    ("server", &["domain", "engine", "store"]),
    ("lastgood", &["domain", "drivers", "engine", "notebook", "proxy", "server", "store"]),
    ("sim", &["domain", "engine"]),
    ("verify", &["domain"]),
    ("notebook", &[]),
];
/// Names that say nothing.
const BANNED_NAMES: [&str; 5] = ["manager", "helper", "utils", "common", "misc"];
/// Lines of a file above which a seam must be found.
const LINES_MAX: usize = 500;
/// Packages in the lock file; a new dependency is a decision.
const PACKAGES_MAX: usize = 330;

/// Checks every rule and lists all that is broken.
pub(crate) fn tidy() -> Done {
    let files = tracked()?;
    let mut wrong = Vec::new();
    arrows(&mut wrong)?;
    for file in &files {
        names(file, &mut wrong);
        if let Ok(text) = fs::read_to_string(root().join(file)) {
            texts(file, &text, &mut wrong);
        }
    }
    codes(&files, &mut wrong)?;
    links(&files, &mut wrong);
    let packages = read("Cargo.lock")?.matches("[[package]]").count();
    if packages > PACKAGES_MAX {
        wrong.push(format!("Cargo.lock has {packages} packages, at most {PACKAGES_MAX} are allowed"));
    }
    if wrong.is_empty() {
        println!("{} files are tidy", files.len());
        return Ok(());
    }
    Err(format!("{} rules are broken:\n  {}", wrong.len(), wrong.join("\n  ")))
}

fn tracked() -> Result<Vec<String>, String> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .map_err(|error| format!("git can't be run: {error}"))?;
    let files = String::from_utf8_lossy(&output.stdout).lines().map(ToOwned::to_owned).collect::<BTreeSet<_>>();
    Ok(files.into_iter().filter(|file| root().join(file).is_file()).collect())
}

fn arrows(wrong: &mut Vec<String>) -> Done {
    for (room, allowed) in ARROWS {
        let path = if room == "notebook" {
            "examples/notebook/service/Cargo.toml".into()
        } else {
            format!("crates/{room}/Cargo.toml")
        };
        let manifest: toml::Table = toml::from_str(&read(&path)?).map_err(|error| format!("{path}: {error}"))?;
        let Some(dependencies) = manifest.get("dependencies").and_then(|table| table.as_table()) else { continue };
        for seen in dependencies.keys().filter_map(|name| name.strip_prefix("lastgood-")) {
            if !allowed.contains(&seen) {
                wrong.push(format!("{room} may not see {seen}: {path}"));
            }
        }
    }
    Ok(())
}

fn names(file: &str, wrong: &mut Vec<String>) {
    let stem = Path::new(file).file_stem().map(|stem| stem.to_string_lossy().to_lowercase()).unwrap_or_default();
    if BANNED_NAMES.contains(&stem.as_str()) {
        wrong.push(format!("{file}: the name says nothing"));
    }
}

fn texts(file: &str, text: &str, wrong: &mut Vec<String>) {
    // The rules themselves name what they forbid.
    if file == "xtask/src/tidy.rs" || file == "Cargo.lock" {
        return;
    }
    let home = root().parent().map(|folder| format!("{}/", folder.display())).unwrap_or_default();
    let hosts = ["registry.npmjs", "pypi.org", "files.pythonhosted", "static.crates", "index.crates"];
    for (number, line) in text.lines().enumerate() {
        let mut say = |what: &str| wrong.push(format!("{file}:{}: {what}", number + 1));
        if home.len() > 2 && line.contains(&home) {
            say("a path of this machine");
        }
        if hosts.iter().any(|host| line.contains(host)) {
            say("the host of a package registry");
        }
        if !file.ends_with(".rs") {
            continue;
        }
        if ["FIXME", "TODO", "XXX", "dbg!("].iter().any(|word| line.contains(word)) {
            say("left over");
        }
        let code = line.trim_start();
        if code.starts_with("#[allow(") || code.starts_with("#![allow(") {
            say("use #[expect(.., reason = \"..\")]");
        }
        if code.starts_with("#[ignore") {
            say("an ignored test proves nothing");
        }
        if code.contains("fn process(") {
            say("the name says nothing");
        }
    }
    let lines = text.lines().count();
    if file.ends_with(".rs") && !file.contains("/tests/") && lines > LINES_MAX {
        wrong.push(format!("{file}: {lines} lines, at most {LINES_MAX}; look for the seam"));
    }
}

/// Every error code has a page, and every page a code.
fn codes(files: &[String], wrong: &mut Vec<String>) -> Done {
    let pages: BTreeSet<String> = files
        .iter()
        .filter_map(|file| file.strip_prefix("docs/errors/")?.strip_suffix(".md"))
        .filter(|page| *page != "README")
        .map(ToOwned::to_owned)
        .collect();
    let mut sources = String::new();
    for file in
        files.iter().filter(|file| file.ends_with(".rs") && file.contains("/src/") && !file.starts_with("crates/sim/"))
    {
        sources += &read(file)?;
    }
    for page in &pages {
        if !sources.contains(&format!("\"{page}\"")) {
            wrong.push(format!("docs/errors/{page}.md: no code is called so"));
        }
    }
    for code in returned_codes(&sources) {
        if !pages.contains(&code) {
            wrong.push(format!("{code} has no page in docs/errors"));
        }
    }
    Ok(())
}

/// Finds the codes that `fn code` bodies and failures made of words give.
fn returned_codes(sources: &str) -> BTreeSet<String> {
    let mut codes = BTreeSet::new();
    let is_code = |text: &str| {
        text.contains('-') && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    };
    for body in sources.split("fn code(&self) -> &'static str {").skip(1) {
        let body = body.split("\n    }").next().unwrap_or_default();
        codes.extend(body.split('"').skip(1).step_by(2).filter(|text| is_code(text)).map(ToOwned::to_owned));
    }
    for start in ["Failure::new(", "Trouble::say("] {
        for call in sources.split(start).skip(1) {
            let first = call.split('"').nth(1).unwrap_or_default();
            if is_code(first) {
                codes.insert(first.to_owned());
            }
        }
    }
    codes
}

/// Every link between our own pages leads somewhere.
fn links(files: &[String], wrong: &mut Vec<String>) {
    for file in files.iter().filter(|file| file.ends_with(".md")) {
        let Ok(text) = fs::read_to_string(root().join(file)) else { continue };
        let folder = Path::new(file).parent().unwrap_or(Path::new(""));
        for part in text.split("](").skip(1) {
            let target = part.split(')').next().unwrap_or_default().split('#').next().unwrap_or_default();
            let ours = !target.is_empty()
                && !target.contains("://")
                && !target.contains(' ')
                && !target.starts_with("mailto:");
            if ours && !root().join(folder).join(target).exists() {
                wrong.push(format!("{file}: the link to {target} leads nowhere"));
            }
        }
    }
}
