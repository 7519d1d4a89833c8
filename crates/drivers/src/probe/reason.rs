//! What a program's own output says of why it failed: few lines, chosen, not merely the last ones.
//!
//! Node prints its error before the stack, Python after it, Rust in two lines, and all of them something behind or
//! before it that says nothing. The last lines alone would cut off the reason.

use super::{LogPatterns, text};
use regex::RegexSet;
use std::{
    io::{self, Read as _, Seek as _, SeekFrom},
    path::Path,
    sync::LazyLock,
};

/// How much of a log's end is looked at: the longest stack of a program with some hundred frames.
const END_BYTES_MAX: u64 = 32 << 10;
/// Lines repeated that tell of a failure: the outermost error and the one behind it.
const TELLING_MAX: usize = 2;
/// Lines repeated where none tells of a failure: the last ones.
const LINES_MAX: usize = 4;
/// Last lines repeated beside those that tell of one: what follows an error is mostly its stack.
const LINES_BESIDE_MAX: usize = 1;

/// Lines that look like an error: a name that ends in Error, a level, a panic.
const ERRORS: [&str; 7] = [
    r"^(Uncaught |Unhandled |Caused by: |\[cause\]: )?[\w.$:]*(Error|Exception|Panic)\b(\s?[:(\[]|$)",
    r"^(error|fatal|panic|fatal error|caused by|caught exception)\b.{0,3}:",
    r"[\]:] ?(error|fatal|panic): ",
    r#"^(thread|goroutine) ['"<\w].* panicked at "#,
    r#"^Exception in thread "#,
    r"\b(ERROR|FATAL|CRITICAL|PANIC|SEVERE|EMERG)\b",
    r#"\blevel=(error|fatal|panic)\b|"level": ?("(error|fatal|panic|critical)"|50|60)\b"#,
];
/// Lines that are never the reason: frames, marks below a line of source, farewells.
const NOISE: [&str; 5] = [
    r"^[\s^~|}{\])(,;]*$",
    r"^(at |File |\d+: |\.\.\. \d+ more|goroutine \d+ \[)",
    r"^(Traceback \(most recent call last\):|stack backtrace:|Stack trace:|Call stack:)",
    r"^(Node\.js v\d|note: (run with|Some details))",
    r"^(node:internal/|The above exception was the direct cause|During handling of the above exception)",
];

/// The two sets; none only if a pattern above were wrong, which a test would show.
static SETS: LazyLock<Option<(RegexSet, RegexSet)>> =
    LazyLock::new(|| Some((RegexSet::new(ERRORS).ok()?, RegexSet::new(NOISE).ok()?)));

impl LogPatterns {
    /// Gives the lines of a log after its first `from` bytes that say best why its program failed, in the log's
    /// order, joined by ` / `.
    ///
    /// Those that tell of a failed migration or look like an error are chosen before the last ones; at most four
    /// lines, each cut to 300 characters. `None`: it says nothing, or can't be read.
    pub fn reason(&self, path: &Path, from: u64) -> Option<String> {
        let end = read_end(path, from).ok()?;
        let lines = self.telling_lines(&end);
        (!lines.is_empty()).then(|| lines.join(" / "))
    }

    fn telling_lines(&self, end: &str) -> Vec<String> {
        let Some((errors, noise)) = &*SETS else { return Vec::new() };
        let lines = joined(end);
        // What is indented continues something: a frame, source, the fields of an error.
        let is_own = |line: &&Line<'_>| !line.indented && !noise.is_match(&line.text);
        let mut own: Vec<&Line<'_>> = lines.iter().filter(is_own).collect();
        if own.is_empty() {
            own = lines.iter().filter(|line| !noise.is_match(&line.text)).collect();
        }
        let tells = |line: &&Line<'_>| self.tells(&line.text) || errors.is_match(&line.text);
        let mut telling: Vec<usize> =
            own.iter().enumerate().filter(|(_, line)| tells(line)).map(|(at, _)| at).collect();
        telling.drain(..telling.len().saturating_sub(TELLING_MAX));
        // What comes after an error may go on with it; what came before it is everyday.
        let (after, room) = match telling.last() {
            Some(last) => (last + 1, LINES_BESIDE_MAX),
            None => (0, LINES_MAX),
        };
        let last = after.max(own.len().saturating_sub(room))..own.len();
        telling.into_iter().chain(last).map(|at| text::shown(&own[at].text)).collect()
    }
}

/// One line of output.
struct Line<'a> {
    indented: bool,
    text: std::borrow::Cow<'a, str>,
}

/// Splits into lines without those that are empty; what Rust says of a panic stands in the line after it.
fn joined(end: &str) -> Vec<Line<'_>> {
    let mut lines: Vec<Line<'_>> = Vec::new();
    for whole in end.lines() {
        let text = whole.trim();
        if text.is_empty() {
            continue;
        }
        if let Some(before) = lines.last_mut()
            && before.text.contains(" panicked at ")
            && before.text.ends_with(':')
        {
            before.text = format!("{} {text}", before.text).into();
            continue;
        }
        lines.push(Line { indented: whole.starts_with([' ', '\t']), text: text.into() });
    }
    lines
}

fn read_end(path: &Path, from: u64) -> io::Result<String> {
    let mut file = super::logs::open(path)?;
    let length = file.metadata()?.len();
    let start = from.max(length.saturating_sub(END_BYTES_MAX));
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(END_BYTES_MAX).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    // A line that began before the part that is read is no line.
    Ok(match text.split_once('\n') {
        Some((_, rest)) if start > from => rest.to_owned(),
        _ => text,
    })
}
