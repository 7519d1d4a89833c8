//! Reads reports from files: what they say, when they were made, and which commit they are about.

use globset::GlobBuilder;
use jiff::{civil, tz::TimeZone};
use lastgood_domain::{
    proof::{Evidence, REPORT_BYTES_MAX, Report},
    terms::{Digest, Timestamp},
};
use rustix::fs::OFlags;
use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

/// Files that one pattern may fit, and files of its folder that are looked at.
const FILES_MAX: usize = 10_000;
/// Longest stamp, in bytes: two words and what `sha256sum` adds.
const STAMP_BYTES_MAX: u64 = 1_024;
/// What stands in the place of the commit in a path.
const COMMIT: &str = "{commit}";

/// What a report may be about, for the placeholders of its path.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct About<'a> {
    pub(super) commit: Option<&'a str>,
    pub(super) digest: Option<&'a str>,
    pub(super) tag: Option<&'a str>,
}

/// Reads every report that `written` names: a path, or a pattern of file names within a folder.
///
/// A path with `{commit}`, `{digest}` or `{tag}` says by its place what it is about. What can't be read is given with
/// the reason: it must not be missed.
pub(super) fn read(written: &str, folder: &Path, about: About<'_>) -> Vec<Evidence> {
    let mut path = written.to_owned();
    let mut of = BTreeSet::new();
    let places = [(COMMIT, about.commit), ("{digest}", about.digest), ("{tag}", about.tag)];
    for (place, value) in places {
        if !path.contains(place) {
            continue;
        }
        let Some(value) = value.filter(|value| is_plain(value)) else {
            return vec![unread(
                written,
                format!("nobody knows which {} it is to be about", place.trim_matches(['{', '}'])),
            )];
        };
        path = path.replace(place, value);
        // What lies in the place of this release is about it, whatever else it says.
        of.extend(about.commit.or(about.digest).or(about.tag).map(ToOwned::to_owned));
    }
    let whole = folder.join(&path);
    if !path.contains('*') {
        return vec![one(&path, &whole, &of)];
    }
    match fitting(&whole) {
        Ok(files) if files.is_empty() => vec![unread(&path, "no file fits".into())],
        Ok(files) => files.iter().map(|file| one(&shown(file, folder), file, &of)).collect(),
        Err(why) => vec![unread(&path, why)],
    }
}

/// Tells whether a value may stand in a path: it comes from a channel, and must not lead elsewhere.
fn is_plain(value: &str) -> bool {
    !value.is_empty() && !value.starts_with('.') && !value.contains(['/', '\\', '*', '\0'])
}

fn shown(file: &Path, folder: &Path) -> String {
    file.strip_prefix(folder).unwrap_or(file).display().to_string()
}

fn unread(name: &str, why: String) -> Evidence {
    Evidence { name: name.into(), report: Err(why), taken: None, of: BTreeSet::new() }
}

/// Finds the files whose names fit the last part of a path.
fn fitting(pattern: &Path) -> Result<Vec<PathBuf>, String> {
    let (Some(folder), Some(name)) = (pattern.parent(), pattern.file_name().and_then(|name| name.to_str())) else {
        return Err("it is no pattern of file names".into());
    };
    if folder.to_string_lossy().contains('*') {
        return Err("a pattern may stand in the file's name only".into());
    }
    let glob = GlobBuilder::new(name).literal_separator(true).build().map_err(|error| error.to_string())?;
    let matcher = glob.compile_matcher();
    let items = std::fs::read_dir(folder).map_err(|error| error.to_string())?;
    let mut files = Vec::new();
    for (number, item) in items.enumerate() {
        if number >= FILES_MAX {
            return Err(format!("its folder has more than {FILES_MAX} files"));
        }
        let item = item.map_err(|error| error.to_string())?;
        if matcher.is_match(item.file_name()) {
            files.push(item.path());
        }
    }
    files.sort();
    Ok(files)
}

fn one(name: &str, path: &Path, of: &BTreeSet<String>) -> Evidence {
    match open(path) {
        Err(error) => unread(name, error.to_string()),
        Ok((text, changed)) => {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            let report = Report::read(&text, &stem).map_err(|error| error.to_string());
            let stamped = stamp(path, &text);
            let (report, stamped) = match (report, stamped) {
                (Ok(_), Err(why)) => (Err(why), None),
                (report, stamped) => (report, stamped.unwrap_or_default()),
            };
            let mut of = of.clone();
            of.extend(report.iter().flat_map(|report| report.of.iter().cloned()).chain(stamped));
            let said = report.iter().flat_map(|report| &report.taken).map(|text| parsed(text));
            // The oldest of what it says and of its file: a copy has a new date, and clocks of programs may be wrong.
            let taken = said.chain([changed]).min().flatten();
            Evidence { name: name.into(), report, taken, of }
        }
    }
}

fn open(path: &Path) -> io::Result<(String, Option<Timestamp>)> {
    // Without blocking: a named pipe would wait for its writer.
    let file = File::options().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut bytes = Vec::new();
    (&file).take(REPORT_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > REPORT_BYTES_MAX {
        return Err(io::Error::other("it is longer than 64 MiB"));
    }
    let text = String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8"))?;
    Ok((text, meta.modified().ok().and_then(of_system)))
}

fn of_system(time: SystemTime) -> Option<Timestamp> {
    let since = time.duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(since.as_millis()).ok().map(Timestamp)
}

/// Reads a time as reports write it; one without a zone is taken for UTC, as JUnit's schema says.
fn parsed(text: &str) -> Option<Timestamp> {
    let zoned = text.parse::<jiff::Timestamp>().ok();
    let plain = || text.parse::<civil::DateTime>().ok()?.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp());
    zoned.or_else(plain).map(|at| Timestamp(at.as_millisecond()))
}

/// Reads the stamp beside a report, if there is one: its commit, and the SHA-256 of the very report it was put on.
fn stamp(path: &Path, text: &str) -> Result<Option<String>, String> {
    let mut name = path.as_os_str().to_owned();
    name.push(".commit");
    let file = match File::open(&name) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("its stamp can't be read: {error}")),
    };
    let mut stamp = String::new();
    file.take(STAMP_BYTES_MAX)
        .read_to_string(&mut stamp)
        .map_err(|error| format!("its stamp can't be read: {error}"))?;
    let mut words = stamp.split_whitespace();
    let (Some(commit), Some(digest)) = (words.next(), words.next()) else {
        return Err("its stamp is not a commit and the SHA-256 of the report".into());
    };
    let digest: Digest = format!("sha256:{digest}")
        .parse()
        .map_err(|_| "its stamp is not a commit and the SHA-256 of the report".to_owned())?;
    match digest == Digest::of(text.as_bytes()) {
        true => Ok(Some(commit.to_owned())),
        false => Err("its stamp was put on other bytes: the report was written again since".into()),
    }
}
