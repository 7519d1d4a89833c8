//! Looks for failed migrations in a program's output: a service may serve and have failed to migrate.

use lastgood_domain::failure::Coded;
use regex::RegexSet;
use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom},
    path::Path,
};

/// What failed migrations look like in the output of common tools.
const BUILT_IN: [&str; 5] = [
    r"(?i)migrat\w*\b.{0,80}\b(failed|failure|error|aborted)\b",
    r"(?i)\b(failed|error|unable|could not)\b.{0,80}\bmigrat",
    r"(?i)missing migration",
    r"(?i)database (disk image is malformed|schema is (newer|corrupt))",
    r"(?i)no such (table|column):",
];
/// Most output looked at, and longest line of it.
const SCAN_BYTES_MAX: u64 = 16 << 20;
const LINE_CHARS_MAX: usize = 300;

/// Patterns of lines that fail a rehearsal.
#[derive(Debug, Clone)]
pub struct LogPatterns {
    set: RegexSet,
}

/// A pattern is no regular expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a pattern of fail_on_log is no regular expression: {why}")]
pub struct PatternError {
    /// Why.
    pub why: String,
}

impl Coded for PatternError {
    fn code(&self) -> &'static str {
        "config-unfit"
    }

    fn hint(&self) -> Option<String> {
        Some("fail_on_log = [\"(?i)panic\"]".into())
    }
}

impl LogPatterns {
    /// Adds `more` to the built-in patterns.
    pub fn with(more: &[String]) -> Result<Self, PatternError> {
        let all = BUILT_IN.iter().copied().chain(more.iter().map(String::as_str));
        let set = RegexSet::new(all).map_err(|error| PatternError { why: error.to_string().replace('\n', " ") })?;
        Ok(Self { set })
    }

    /// Gives the first line of the file at or after byte `from` that matches; a missing file has none.
    pub fn scan(&self, path: &Path, from: u64) -> Option<String> {
        let mut file = File::open(path).ok()?;
        file.seek(SeekFrom::Start(from)).ok()?;
        let lines = BufReader::new(file.take(SCAN_BYTES_MAX)).split(b'\n');
        lines.map_while(Result::ok).find_map(|line| {
            let line = String::from_utf8_lossy(&line);
            self.set.is_match(&line).then(|| line.trim().chars().take(LINE_CHARS_MAX).collect())
        })
    }
}
