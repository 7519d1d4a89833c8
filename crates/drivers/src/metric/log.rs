//! Counts lines of a log from a place on: over rotation and truncation, never half a line, never one twice.

use super::{MetricError, config::Patterns};
use lastgood_domain::{facts::Outcomes, terms::Digest};
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Read as _, Seek as _, SeekFrom},
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

/// A longer line is judged by its beginning.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// Read in one count; a busy log is caught up with over several.
const COUNT_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Bytes before the cursor by which a rewritten file is known.
const MARK_BYTES: u64 = 256;
/// Files of the log's folder that are looked at for the rotated one.
const SIBLINGS_MAX: usize = 10_000;

/// How far a log was read. Kept by the caller; a restart goes on from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    device: u64,
    inode: u64,
    offset: u64,
    /// Digest of the bytes before the offset.
    mark: Digest,
}

/// Gives the present end of the log; none if it is not there yet, so that it will be read from its beginning.
pub(super) fn end(path: &Path) -> Result<Option<Cursor>, MetricError> {
    let Some(file) = open(path)? else { return Ok(None) };
    let at = |source| MetricError::LogUnreadable { path: path.into(), source };
    let meta = file.metadata().map_err(at)?;
    // A line that is being written is counted when it is whole, not its second half alone.
    let begin = meta.len().saturating_sub(LINE_BYTES_MAX as u64);
    let mut tail = Vec::new();
    (&file).seek(SeekFrom::Start(begin)).map_err(at)?;
    (&file).take(meta.len() - begin).read_to_end(&mut tail).map_err(at)?;
    let half = tail.iter().rev().take_while(|byte| **byte != b'\n').count() as u64;
    cursor(&file, &meta, begin + tail.len() as u64 - half).map(Some).map_err(at)
}

/// Counts what came after `from`, and gives where it got to.
pub(super) fn count(
    path: &Path,
    from: Option<&Cursor>,
    patterns: &Patterns,
    into: &mut Outcomes,
) -> Result<Option<Cursor>, MetricError> {
    let at = |source| MetricError::LogUnreadable { path: path.into(), source };
    let present = open(path)?;
    let goes_on = |cursor: &Cursor| match &present {
        Some(file) => Ok(is_it(file, cursor) && holds(file, cursor)?),
        None => Ok(false),
    };
    if let Some(cursor) = from
        && !goes_on(cursor).map_err(at)?
        && let Some(mut rotated) = rotated(path, cursor).map_err(at)?
    {
        let reached = read(&mut rotated, cursor.offset, patterns, into).map_err(at)?;
        let meta = rotated.metadata().map_err(at)?;
        if reached.limited || present.is_none() {
            return self::cursor(&rotated, &meta, reached.offset).map(Some).map_err(at);
        }
        // Nobody writes to it any more that matters: on with the new one.
    }
    let Some(mut file) = present else { return Ok(from.cloned()) };
    let meta = file.metadata().map_err(at)?;
    let offset = match from {
        Some(cursor) if is_it(&file, cursor) && holds(&file, cursor).map_err(at)? => cursor.offset,
        // Another file, or cut and written anew.
        _ => 0,
    };
    let reached = read(&mut file, offset, patterns, into).map_err(at)?;
    cursor(&file, &meta, reached.offset).map(Some).map_err(at)
}

fn open(path: &Path) -> Result<Option<File>, MetricError> {
    // Without blocking: a named pipe would wait for its writer.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    match File::options().read(true).custom_flags(flags).open(path) {
        Ok(file) => match file.metadata() {
            Ok(meta) if meta.is_file() => Ok(Some(file)),
            Ok(_) => Err(MetricError::LogNotAFile { path: path.into() }),
            Err(source) => Err(MetricError::LogUnreadable { path: path.into(), source }),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(MetricError::LogUnreadable { path: path.into(), source }),
    }
}

fn is_it(file: &File, cursor: &Cursor) -> bool {
    file.metadata().is_ok_and(|meta| (meta.dev(), meta.ino()) == (cursor.device, cursor.inode))
}

/// Finds what the log was, beside it: the file under its new name, or a copy made before it was cut (logrotate's
/// `copytruncate`). A compressed or removed one is gone.
fn rotated(path: &Path, cursor: &Cursor) -> io::Result<Option<File>> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Ok(None) };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let items = match fs::read_dir(folder) {
        Ok(items) => items,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let stem = Path::new(name).file_stem().unwrap_or(name).as_encoded_bytes();
    let mut copy = None;
    for item in items.take(SIBLINGS_MAX) {
        let item = item?;
        if item.file_name() == name || !item.file_name().as_encoded_bytes().starts_with(stem) {
            continue;
        }
        let Some(file) = open(&item.path()).ok().flatten() else { continue };
        if !holds(&file, cursor)? {
            continue;
        }
        if is_it(&file, cursor) {
            return Ok(Some(file));
        }
        // Before the first byte every file holds what was read; only the file itself will do then.
        if cursor.offset > 0 {
            copy = Some(file);
        }
    }
    Ok(copy)
}

/// Tells whether the bytes before the cursor are still the ones that were read.
fn holds(file: &File, cursor: &Cursor) -> io::Result<bool> {
    Ok(file.metadata()?.len() >= cursor.offset && mark(file, cursor.offset)? == cursor.mark)
}

fn mark(file: &File, offset: u64) -> io::Result<Digest> {
    let begin = offset.saturating_sub(MARK_BYTES);
    let mut bytes = vec![0; usize::try_from(offset - begin).unwrap_or_default()];
    match file.read_exact_at(&mut bytes, begin) {
        // It was cut under our eyes: any other mark will do, the next count starts anew.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Digest::of(b"cut")),
        read => read.map(|()| Digest::of(&bytes)),
    }
}

fn cursor(file: &File, meta: &fs::Metadata, offset: u64) -> io::Result<Cursor> {
    Ok(Cursor { device: meta.dev(), inode: meta.ino(), offset, mark: mark(file, offset)? })
}

struct Reached {
    offset: u64,
    limited: bool,
}

/// Counts whole lines from `offset`; half a line at the end is left for the next time.
fn read(file: &mut File, offset: u64, patterns: &Patterns, into: &mut Outcomes) -> io::Result<Reached> {
    file.seek(SeekFrom::Start(offset))?;
    let mut reader = BufReader::with_capacity(LINE_BYTES_MAX, &*file);
    let (mut offset, begin) = (offset, offset);
    let mut line = Vec::new();
    loop {
        if offset - begin >= COUNT_BYTES_MAX {
            return Ok(Reached { offset, limited: true });
        }
        line.clear();
        let kept = reader.by_ref().take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut line)?;
        let mut length = kept as u64;
        if line.last() != Some(&b'\n') {
            if kept < LINE_BYTES_MAX {
                return Ok(Reached { offset, limited: false });
            }
            match skip_line(&mut reader)? {
                Some(rest) => length += rest,
                None => return Ok(Reached { offset, limited: false }),
            }
        }
        offset += length;
        tally(line.strip_suffix(b"\n").unwrap_or(&line), patterns, into);
    }
}

/// Reads over the rest of a long line; none if it has no end yet.
fn skip_line(reader: &mut impl BufRead) -> io::Result<Option<u64>> {
    let mut skipped = 0;
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() || skipped > COUNT_BYTES_MAX {
            return Ok(None);
        }
        let (length, found) = match buffer.iter().position(|byte| *byte == b'\n') {
            Some(at) => (at + 1, true),
            None => (buffer.len(), false),
        };
        reader.consume(length);
        skipped += length as u64;
        if found {
            return Ok(Some(skipped));
        }
    }
}

/// The worst that matches counts.
fn tally(line: &[u8], patterns: &Patterns, into: &mut Outcomes) {
    let counter = if patterns.broken.is_match(line) {
        &mut into.broken
    } else if patterns.degraded.as_ref().is_some_and(|pattern| pattern.is_match(line)) {
        &mut into.degraded
    } else if patterns.good.is_match(line) {
        &mut into.good
    } else {
        return;
    };
    *counter = counter.saturating_add(1);
}
