//! What is there already: the package's programs, data, units and processes. Each proposal says where it comes from; what is
//! not known is said as well, and never guessed.

use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    io::Read as _,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Command,
};

/// A package registry has answered by then, or somebody fills it in.
const ANSWER_SECONDS: &str = "30";
/// Folders below the configuration's that data is looked for in: `data/alice/db`.
const DEPTH_MAX: usize = 3;
/// Entries looked at, so that a home folder is no reason to wait.
const ENTRIES_MAX: usize = 5_000;
/// How every SQLite file begins.
const SQLITE: &[u8] = b"SQLite format 3\0";

/// The programs that a release brings, and where that is known from.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Programs {
    pub(super) names: Vec<String>,
    /// What they need to run, if the package says so.
    pub(super) needs: Option<String>,
    /// Where it is known from, or why it is not.
    pub(super) because: String,
}

/// A folder with SQLite files in it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Data {
    /// Relative to the configuration.
    pub(super) folder: PathBuf,
    pub(super) databases: Vec<String>,
    pub(super) uid: u32,
}

/// A process that looks like the service and listens.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Listener {
    pub(super) pid: u32,
    /// The word of its command line that names the service; the rest may hold secrets.
    pub(super) program: String,
    pub(super) ports: Vec<u16>,
}

/// Asks the channel which programs its newest release brings.
pub(super) fn programs(kind: &str, what: &str) -> Programs {
    let asked = match kind {
        "npm" => of_npm(what),
        "pypi" => of_pypi(what),
        "dir" => of_folder(Path::new(what)),
        _ => Err("a repository does not say which program it brings".into()),
    };
    asked.unwrap_or_else(|because| Programs { because, ..Programs::default() })
}

fn of_npm(package: &str) -> Result<Programs, String> {
    let text = answer("npm", &["view", package, "name", "bin", "engines", "--json"])?;
    Ok(of_answer(&serde_json::from_str(&text).map_err(|error| format!("npm's answer can't be read: {error}"))?))
}

/// Reads what `npm view` says of a package.
pub(super) fn of_answer(answer: &Value) -> Programs {
    let keys = |of: &Value| of.as_object().map(|of| of.keys().cloned().collect()).unwrap_or_default();
    let engines = answer["engines"].as_object().map(|engines| {
        let each = engines.iter().map(|(name, range)| format!("{name} {}", range.as_str().unwrap_or("?")));
        each.collect::<Vec<_>>().join(", ")
    });
    Programs { names: keys(&answer["bin"]), needs: engines, because: "`bin` of the npm package".into() }
}

fn of_pypi(project: &str) -> Result<Programs, String> {
    // The standard library reads the wheel that pip fetches: what it declares stands in no index.
    const NAMES: &str = "import glob, sys, zipfile, configparser\n\
        for wheel in glob.glob(sys.argv[1] + '/*.whl'):\n\
        \x20 archive = zipfile.ZipFile(wheel)\n\
        \x20 for name in archive.namelist():\n\
        \x20\x20 if name.endswith('.dist-info/entry_points.txt'):\n\
        \x20\x20\x20 parser = configparser.ConfigParser(delimiters=['='])\n\
        \x20\x20\x20 parser.optionxform = str\n\
        \x20\x20\x20 parser.read_string(archive.read(name).decode())\n\
        \x20\x20\x20 if parser.has_section('console_scripts'): print('\\n'.join(parser['console_scripts']))\n";
    let folder = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    let into = folder.path().display().to_string();
    answer("python3", &["-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "-q", "-d", &into, project])?;
    let names = answer("python3", &["-c", NAMES, &into])?.lines().map(ToOwned::to_owned).collect();
    Ok(Programs { names, needs: None, because: "entry points of the wheel".into() })
}

/// Finds the programs in the newest release's folder.
fn of_folder(folder: &Path) -> Result<Programs, String> {
    let unreadable = |error: std::io::Error| format!("{} can't be read: {error}", folder.display());
    let releases = fs::read_dir(folder).map_err(unreadable)?.flatten().filter(|one| one.path().is_dir());
    let newest = releases.max_by_key(|one| one.metadata().and_then(|facts| facts.modified()).ok());
    let newest = newest.ok_or_else(|| format!("{} has no release yet", folder.display()))?.path();
    let mut names: Vec<String> = fs::read_dir(&newest)
        .map_err(unreadable)?
        .flatten()
        .filter(|one| one.metadata().is_ok_and(|facts| facts.is_file() && facts.permissions().mode() & 0o111 != 0))
        .filter_map(|one| one.file_name().into_string().ok())
        .collect();
    names.sort();
    Ok(Programs { names, needs: None, because: format!("what can be executed in {}", newest.display()) })
}

/// Runs a registry's own client to its end.
fn answer(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("timeout").args(["-k", "5", ANSWER_SECONDS, program]).args(arguments).output();
    let output = output.map_err(|error| format!("{program} can't be started: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let why = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program} does not say: {}", why.lines().next().unwrap_or("no answer in time").trim()))
}

/// Finds folders with SQLite files below `root`, but not in `except`.
pub(super) fn data(root: &Path, except: &[PathBuf]) -> Vec<Data> {
    let mut found: BTreeMap<PathBuf, Data> = BTreeMap::new();
    let (mut left, mut folders) = (ENTRIES_MAX, vec![(root.to_path_buf(), 0)]);
    while let Some((folder, depth)) = folders.pop() {
        if folder.join(lastgood_store::EVIDENCE_FILE).exists() {
            // It is our own.
            continue;
        }
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            left = left.saturating_sub(1);
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            let is_ours = name.ends_with(".lastgood-aside");
            let is_skipped = is_ours || name.starts_with('.') || name == "node_modules" || except.contains(&path);
            let Ok(kind) = entry.file_type() else { continue };
            if left == 0 || is_skipped {
                continue;
            }
            if kind.is_dir() && depth < DEPTH_MAX {
                folders.push((path, depth + 1));
            } else if kind.is_file() && is_sqlite(&path) {
                let relative = folder.strip_prefix(root).unwrap_or(&folder).to_path_buf();
                let uid = entry.metadata().map_or(0, |facts| facts.uid());
                let data = found.entry(relative.clone());
                let data = data.or_insert_with(|| Data { folder: relative, databases: Vec::new(), uid });
                data.databases.push(name);
            }
        }
    }
    found.into_values().collect()
}

fn is_sqlite(path: &Path) -> bool {
    let mut begin = [0; SQLITE.len()];
    fs::File::open(path).and_then(|mut file| file.read_exact(&mut begin)).is_ok() && begin == SQLITE
}

/// Gives the template unit of this name, if there is one.
pub(super) fn template(name: &str) -> Option<PathBuf> {
    let folders = ["/etc/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system"];
    folders.iter().map(|folder| Path::new(folder).join(format!("{name}@.service"))).find(|path| path.is_file())
}

/// Finds processes that listen and whose command line names one of these words.
pub(super) fn listeners(words: &[&str]) -> Vec<Listener> {
    let sockets = listening();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if pid == std::process::id() {
            continue;
        }
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command: Vec<String> =
            line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
        let is_named = |word: &&&str| command.iter().take(3).any(|part| part.rsplit('/').next() == Some(**word));
        let Some(program) = words.iter().find(is_named) else { continue };
        let links = fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten();
        let mut ports: Vec<u16> = links
            .filter_map(|link| fs::read_link(link.path()).ok())
            .filter_map(|link| sockets.get(link.to_str()?).copied())
            .collect();
        ports.sort_unstable();
        ports.dedup();
        if !ports.is_empty() {
            found.push(Listener { pid, program: (*program).to_owned(), ports });
        }
    }
    found
}

/// Gives the port of each listening socket, by the name that a process's descriptor has.
fn listening() -> BTreeMap<String, u16> {
    /// The kernel's number for a socket that listens.
    const LISTENS: &str = "0A";
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let rows = tables.iter().flat_map(|table| table.lines().skip(1)).filter_map(|row| {
        let columns: Vec<&str> = row.split_whitespace().collect();
        let (local, state, inode) = (columns.get(1)?, columns.get(3)?, columns.get(9)?);
        let port = u16::from_str_radix(local.rsplit(':').next()?, 16).ok()?;
        (*state == LISTENS).then(|| (format!("socket:[{inode}]"), port))
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_npm_says_of_a_package_is_its_programs_and_what_they_need() {
        let said =
            json!({ "name": "x", "bin": { "server": "./a.js", "tool": "./b.js" }, "engines": { "node": ">=20" } });
        let programs = of_answer(&said);
        assert_eq!(programs.names, ["server", "tool"]);
        assert_eq!(programs.needs.as_deref(), Some("node >=20"));
        assert_eq!(of_answer(&json!("x")).names, [""; 0]);
    }
}
