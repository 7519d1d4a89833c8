//! Looks through an instance's log for a migration that failed.

use super::text;
use regex::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};
use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom},
    path::Path,
};

/// Most bytes looked through: a start that logs more than this says it in the first part.
const SCAN_BYTES_MAX: u64 = 64 << 20;
/// Longest line looked at as one; the rest of a longer one is looked at as the next.
const LINE_BYTES_MAX: u64 = 64 << 10;
/// How much of a log's end is looked at for a line that counts as use.
const TAIL_BYTES_MAX: u64 = 256 << 10;
/// What databases and migration tools write when a migration fails. Case does not matter. Each names a failure, not
/// a migration: "0 migrations failed" and "migrating" must not fit.
const BUILT_IN: [&str; 14] = [
    r"\bmigrations? (has |have |was |were )?(failed|aborted|interrupted)\b",
    r#"\b(failed|unable|cannot|could not|couldn't) (to )?(run|apply|execute|perform|complete) [\w\s.'"-]{0,40}migrat"#,
    r"\b(failed|unable|cannot|could not|couldn't) (to )?migrate\b",
    r#"\berror (while |when |during |in |running |applying |executing )+[\w\s.'"-]{0,40}migrat"#,
    r"\bmigrat\w* (error|exception|failure)\b",
    r"\bMigrationError\b|\bMigrationFailed\w*\b|\bMigration\w*Exception\b",
    r"\bSQLITE_(ERROR|CORRUPT|CONSTRAINT|MISMATCH|SCHEMA|READONLY|NOTADB)\b",
    r"\bno such (table|column|index)\b",
    r"\bduplicate column name\b",
    r"\bdatabase disk image is malformed\b",
    r#"\b(relation|column|table|type) ["'`][\w.]+["'`] (does not exist|already exists)\b"#,
    r"\bunknown column '[^']+' in\b",
    r"\b(alembic\.util\.exc|django\.db\.utils|sqlalchemy\.exc)\.\w*Error\b",
    r"\b(schema|database) version\b.{0,60}\b(too new|newer than|not supported|unsupported|unknown)\b",
];
/// What undoes a built-in pattern: a line that counts no failures.
const HARMLESS: &str = r"\b(0|no|zero) (failed )?migrations? (has |have |was |were )?(failed|errors?)\b|\bmigrations? failed[:=] ?(0|no|false)\b";

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
    /// A log that is not there says nothing; one that can't be read is told as if it were such a line, because
    /// nobody can say that it shows no failure.
    pub fn scan(&self, path: &Path, from: u64) -> Option<String> {
        match self.first_line(path, from) {
            Ok(found) => found.map(|line| text::shown(&line)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => Some(format!("the log {} can't be read: {error}", path.display())),
        }
    }

    fn first_line(&self, path: &Path, from: u64) -> io::Result<Option<String>> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(from))?;
        let mut lines = BufReader::new(file.take(SCAN_BYTES_MAX));
        let mut line = Vec::new();
        loop {
            line.clear();
            if lines.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? == 0 {
                return Ok(None);
            }
            let text = String::from_utf8_lossy(&line);
            if self.tells(&text) {
                return Ok(Some(text.trim().to_owned()));
            }
        }
    }

    fn tells(&self, line: &str) -> bool {
        self.extra.is_match(line) || self.built_in.is_match(line) && !self.harmless.is_match(line)
    }
}

/// Tells whether a pattern is found in a line near a log's end.
pub(crate) fn tail_matches(path: &Path, regex: &Regex) -> io::Result<bool> {
    let mut file = File::open(path)?;
    let start = file.metadata()?.len().saturating_sub(TAIL_BYTES_MAX);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).lines().any(|line| regex.is_match(line)))
}
