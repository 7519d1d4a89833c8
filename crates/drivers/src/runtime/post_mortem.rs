//! Why an instance ended: its status and the last lines it wrote, made into a coded reason.

use super::RuntimeError;
use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::Path,
};

/// Log lines repeated, and how far from the end they are looked for: a screenful, and no megabyte line.
pub(crate) const LAST_LINES_MAX: usize = 20;
pub(crate) const LAST_BYTES_MAX: u64 = 8 * 1024;

/// What programs print when their address is taken.
const PORT_WORDS: [&str; 4] = ["eaddrinuse", "address already in use", "address in use", "addr already in use"];

/// Makes the reason from what the parent saw (`why`) and the program's last lines.
pub(crate) fn reason(instance: String, why: String, last_lines: String) -> RuntimeError {
    let lower = last_lines.to_lowercase();
    if PORT_WORDS.iter().any(|words| lower.contains(words)) {
        RuntimeError::PortInUse { instance, why, last_lines }
    } else {
        RuntimeError::Exited { instance, why, last_lines }
    }
}

/// Reads the last lines written since `from`, at most [`LAST_LINES_MAX`].
pub(crate) fn last_lines(log: &Path, from: u64) -> Result<String, RuntimeError> {
    read_end(log, from).map(|text| cut(&text)).map_err(|source| RuntimeError::io("read the log", log, source))
}

/// Cuts a text to its last lines.
pub(crate) fn cut(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LAST_LINES_MAX)..].join("\n")
}

fn read_end(log: &Path, from: u64) -> io::Result<String> {
    let mut file = match File::open(log) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        opened => opened?,
    };
    let length = file.metadata()?.len();
    // A log that is shorter than before was rotated: all of it is new.
    let from = if length < from { 0 } else { from };
    file.seek(SeekFrom::Start(from.max(length.saturating_sub(LAST_BYTES_MAX))))?;
    let mut bytes = Vec::new();
    file.take(LAST_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_of_what_was_written_since_the_start_is_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        std::fs::write(&log, "old\nnew\n").unwrap();
        assert_eq!(last_lines(&log, 4).unwrap(), "new");
        // Rotated since: the file is shorter than it was at the start.
        assert_eq!(last_lines(&log, 400).unwrap(), "old\nnew");
        assert_eq!(last_lines(&folder.path().join("none"), 0).unwrap(), "");
        std::fs::write(&log, "x".repeat(100_000)).unwrap();
        assert_eq!(last_lines(&log, 0).unwrap().len(), 8 * 1024);
        let many: String = (0..100).map(|line| format!("{line}\n")).collect();
        std::fs::write(&log, many).unwrap();
        assert!(last_lines(&log, 0).unwrap().starts_with("80\n81\n"));
    }
}
