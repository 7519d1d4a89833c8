//! Looks through an instance's log for a migration that failed.

use super::text;
use jiff::Timestamp;
use regex::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};
use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::LazyLock,
    time::SystemTime,
};

/// Most bytes looked through. A start that logs more than this has lost its way, and nobody knows what its end says.
const SCAN_BYTES_MAX: u64 = 64 << 20;
/// Longest line looked at as one; the rest of a longer one is looked at as the next.
const LINE_BYTES_MAX: u64 = 64 << 10;
/// How much of a log's end is looked at for a line that counts as use.
const TAIL_BYTES_MAX: u64 = 256 << 10;
/// What databases and migration tools write when a migration fails. Case does not matter. Each names a failure, not
/// a migration: "0 migrations failed" and "migrating" must not fit.
const BUILT_IN: [&str; 16] = [
    r"\bmigrations? ([\w.:/-]{1,80} )?(has |have |was |were )?(failed|aborted|interrupted)\b",
    r#"\b(failed|unable|cannot|could not|couldn't) (to )?(run|apply|execute|perform|complete) [\w\s.'"-]{0,40}migrat"#,
    r"\b(failed|unable|cannot|could not|couldn't) (to )?migrate\b",
    r#"\berror (while |when |during |in |running |applying |executing )+[\w\s.'"-]{0,40}migrat"#,
    r"\bmigrat\w* (error|exception|failure)\b",
    r"\bMigrationError\b|\bMigrationFailed\w*\b|\bMigration\w*Exception\b",
    r"\bSQLITE_(ERROR|CORRUPT|CONSTRAINT|MISMATCH|SCHEMA|READONLY|NOTADB)\b",
    r"\bno such (table|column|index)\b",
    r"\bduplicate column name\b",
    r"\bdatabase disk image is malformed\b|\bfile is not a database\b",
    r"\b(NOT NULL|UNIQUE|FOREIGN KEY|CHECK) constraint failed\b",
    r"\bviolates (not-null|unique|foreign key|check) constraint\b",
    r#"\b(relation|column|table|type) ["'`][\w.]+["'`] (does not exist|already exists)\b"#,
    r"\bunknown column '[^']+' in\b",
    r"\b(alembic\.util\.exc|django\.db\.utils|sqlalchemy\.exc)\.\w*Error\b",
    r"\b(schema|database) version\b.{0,60}\b(too new|newer than|not supported|unsupported|unknown)\b",
];
/// What is taken out before a built-in pattern is tried: words that count no failures. The rest of the line counts.
const HARMLESS: &str = r"\b(0|no|zero) failed\b|\b(0|no|zero) (failed )?migrations? (has |have |was |were )?(failed|errors?)\b|\bmigrations? failed[:=] ?(0|no|false)\b";

/// Patterns of failed migrations.
#[derive(Debug, Clone)]
pub struct LogPatterns {
    built_in: RegexSet,
    harmless: Regex,
    extra: RegexSet,
}

impl LogPatterns {
    /// Takes the built-in patterns and `extra` ones.
    ///
    /// Errors: an extra one that is no pattern.
    pub fn new(extra: &[String]) -> Result<Self, String> {
        let set = |patterns: &[&str]| RegexSetBuilder::new(patterns).case_insensitive(true).build();
        let broken = |error: regex::Error| error.to_string();
        for text in extra {
            super::Pattern::new(text)?;
        }
        Ok(Self {
            built_in: set(&BUILT_IN).map_err(broken)?,
            harmless: RegexBuilder::new(HARMLESS).case_insensitive(true).build().map_err(broken)?,
            extra: RegexSet::new(extra).map_err(broken)?,
        })
    }

    /// Gives the first fitting line of a log after its first `from` bytes, cut to 300 characters.
    ///
    /// A log that is not there says nothing; one that can't be read or is too long is told as if it were such a
    /// line, because nobody can say that it shows no failure.
    pub fn scan(&self, path: &Path, from: u64) -> Option<String> {
        match self.first_line(path, from) {
            Ok(found) => found.map(|line| text::shown(&line)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => Some(format!("the log {} can't be read: {error}", path.display())),
        }
    }

    fn first_line(&self, path: &Path, from: u64) -> io::Result<Option<String>> {
        let mut file = open(path)?;
        let is_too_long = file.metadata()?.len().saturating_sub(from) > SCAN_BYTES_MAX;
        file.seek(SeekFrom::Start(from))?;
        let mut lines = BufReader::new(file.take(SCAN_BYTES_MAX));
        let mut line = Vec::new();
        loop {
            line.clear();
            if lines.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? == 0 {
                let said = || format!("the log {} is too long: more than {} MiB", path.display(), SCAN_BYTES_MAX >> 20);
                return Ok(is_too_long.then(said));
            }
            let text = String::from_utf8_lossy(&line);
            if self.tells(&text) {
                return Ok(Some(text.trim().to_owned()));
            }
        }
    }

    /// Tells whether a line tells of a failed migration.
    pub(super) fn tells(&self, line: &str) -> bool {
        self.extra.is_match(line)
            || self.built_in.is_match(line) && self.built_in.is_match(&self.harmless.replace_all(line, " "))
    }
}

/// Opens a log that is a plain file, without waiting: a FIFO in its place must not hold up everything.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options().read(true).custom_flags(nonblocking).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    Ok(file)
}

/// Tells whether a line near a log's end counts as use since `since`: it fits, and the time in it, if it has one that
/// can be read, is not earlier.
pub(crate) fn has_fitting_line(path: &Path, regex: &Regex, since: SystemTime) -> io::Result<bool> {
    let mut file = File::open(path)?;
    let start = file.metadata()?.len().saturating_sub(TAIL_BYTES_MAX);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES_MAX).read_to_end(&mut bytes)?;
    let since = Timestamp::try_from(since).unwrap_or(Timestamp::MIN);
    let text = String::from_utf8_lossy(&bytes);
    // From the end: what is new stands there.
    Ok(text.lines().rev().any(|line| regex.is_match(line) && time_of(line).is_none_or(|time| time >= since)))
}

/// Reads the first time with a zone in a line: `2026-01-31T12:00:00Z`, `2026-01-31 12:00:00.5+01:00`, or that of web
/// servers, `31/Jan/2026:12:00:00 +0100`.
fn time_of(line: &str) -> Option<Timestamp> {
    static FORMS: LazyLock<Option<Regex>> = LazyLock::new(|| {
        let iso = r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:?\d\d))";
        Regex::new(&format!(r"{iso}|(\d\d/[A-Z][a-z][a-z]/\d{{4}}:\d\d:\d\d:\d\d [+-]\d{{4}})")).ok()
    });
    let found = FORMS.as_ref()?.captures(line)?;
    match (found.get(1), found.get(2)) {
        (Some(iso), _) => iso.as_str().parse().ok(),
        (None, Some(web)) => Timestamp::strptime("%d/%b/%Y:%H:%M:%S %z", web.as_str()).ok(),
        (None, None) => None,
    }
}
