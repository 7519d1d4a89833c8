//! Room on a file system, asked for before anything is written.

use super::error::StateError;
use rustix::fs::StatVfs;
use std::{os::fd::AsFd, path::Path};

/// 1 MiB: folders, the manifest and the journal of a restore.
const SMALL_CHANGE_BYTES: u64 = 1 << 20;
/// Three quarters of what the kernel lets lie unwritten before it writes by itself; the rest is for others.
const UNWRITTEN_SHARE: (i64, i64) = (3, 4);

/// Gives the bytes that we may write now and leave in memory for a while; the kernel starts to write them by itself, and
/// to hold up whoever writes, only above that.
pub(super) fn unwritten_bytes_max() -> i64 {
    let text = std::fs::read_to_string("/proc/vmstat").unwrap_or_default();
    let pages = |name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse::<i64>().ok()).unwrap_or(0)
    };
    let free = pages("nr_dirty_background_threshold") - pages("nr_dirty") - pages("nr_writeback");
    let page_bytes = i64::try_from(rustix::param::page_size()).unwrap_or(4096);
    free.max(0) * page_bytes / UNWRITTEN_SHARE.1 * UNWRITTEN_SHARE.0
}

/// Refuses if the file system that `folder` is on has less than `bytes` free for us.
pub(super) fn demand_room(folder: impl AsFd, path: &Path, bytes: u64) -> Result<(), StateError> {
    let stat = rustix::fs::fstatvfs(folder).map_err(|error| StateError::io("ask for room at", path, error))?;
    let (needed_bytes, available_bytes) = (bytes.saturating_add(SMALL_CHANGE_BYTES), free(&stat));
    if available_bytes < needed_bytes {
        return Err(StateError::NoSpace { path: path.into(), needed_bytes, available_bytes });
    }
    Ok(())
}

/// Tells an error of a full disk from others, after the act failed.
pub(super) fn or_full(error: StateError, path: &Path, needed_bytes: u64) -> StateError {
    let full = match &error {
        StateError::NoSpace { needed_bytes: 0, .. } => true,
        StateError::Io { source, .. } | StateError::Sqlite { source, .. } => {
            let text = source.to_string();
            ["No space left", "quota exceeded", "database or disk is full"].iter().any(|part| text.contains(part))
        }
        _ => false,
    };
    if !full {
        return error;
    }
    let available_bytes = rustix::fs::statvfs(path).map_or(0, |stat| free(&stat));
    StateError::NoSpace { path: path.into(), needed_bytes, available_bytes }
}

fn free(stat: &StatVfs) -> u64 {
    stat.f_bavail.saturating_mul(stat.f_frsize)
}
