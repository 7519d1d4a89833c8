//! The journal of a restore: what was begun, kept until it is known to be done.
//!
//! One file, two lines: the intent before anything is moved, the facts after everything is in place. A line counts
//! only with its line end, so that a line cut by a power cut is no line. One instance's journals lie in one folder, one
//! for each order, so that the next order sees what an earlier one has left.

use super::{error::StateError, manifest::Dress, place::Data};
use lastgood_domain::{
    facts::RestoreFacts,
    terms::{Digest, OrderId},
};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// 1 MiB: two lines of paths.
const JOURNAL_BYTES_MAX: u64 = 1 << 20;

/// What a restore is going to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Intent {
    pub(super) snapshot: PathBuf,
    pub(super) manifest: Digest,
    pub(super) data: Data,
    /// Makes the names of this restore's folders its own.
    pub(super) token: String,
    /// The folder for this restore's abandoned data.
    pub(super) aside: PathBuf,
    /// What each root's folder wore before we wrote into it: the abandoned data keeps that too.
    pub(super) wore: Vec<Option<Dress>>,
}

/// How far a restore is.
#[derive(Debug)]
pub(super) enum Progress {
    None,
    Begun(Intent),
    Done(Intent, RestoreFacts),
}

/// How a journal's name begins and ends; the order stands in between.
const NAME: (&str, &str) = ("restore-", ".journal");

/// Names the journal of one order in the folder of its instance's journals.
pub fn restore_journal(folder: &Path, order: OrderId) -> PathBuf {
    folder.join(format!("{}{order}{}", NAME.0, NAME.1))
}

/// Lists the journals in a folder, in the order in which they were ordered; none if there is no folder.
pub(super) fn journals(folder: &Path) -> Result<Vec<(OrderId, PathBuf)>, StateError> {
    let failed = |error: io::Error| StateError::io("list", folder, error);
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let order = name.and_then(|name| name.strip_prefix(NAME.0)?.strip_suffix(NAME.1)?.parse().ok());
        found.extend(order.map(|order| (order, path)));
    }
    found.sort();
    Ok(found)
}

/// Reads how far the restore of `journal` is.
pub(super) fn read(journal: &Path) -> Result<Progress, StateError> {
    let failed = |error: io::Error| StateError::io("read", journal, error);
    let mut text = Vec::new();
    match File::open(journal) {
        Ok(file) => file.take(JOURNAL_BYTES_MAX).read_to_end(&mut text).map_err(failed)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Progress::None),
        Err(error) => return Err(failed(error)),
    };
    let mut lines = text.split_inclusive(|&byte| byte == b'\n').filter(|line| line.ends_with(b"\n"));
    let foreign = |_| StateError::JournalOther { journal: journal.into() };
    // Cut before its first line was whole: nothing had been moved then.
    let Some(first) = lines.next() else { return Ok(Progress::None) };
    let intent = serde_json::from_slice(first).map_err(foreign)?;
    match lines.next() {
        None => Ok(Progress::Begun(intent)),
        Some(second) => Ok(Progress::Done(intent, serde_json::from_slice(second).map_err(foreign)?)),
    }
}

/// Writes the intent, so that it survives a power cut.
pub(super) fn begin(journal: &Path, intent: &Intent) -> Result<(), StateError> {
    let failed = |error: io::Error| StateError::io("write", journal, error);
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(journal).map_err(failed)?;
    append(file, intent).map_err(failed)?;
    sync_folder_of(journal)
}

/// Adds that all is in place, so that it survives a power cut.
pub(super) fn finish(journal: &Path, facts: &RestoreFacts) -> Result<(), StateError> {
    let failed = |error: io::Error| StateError::io("write", journal, error);
    let text = fs::read(journal).map_err(failed)?;
    let whole = text.iter().position(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    let mut file = OpenOptions::new().write(true).open(journal).map_err(failed)?;
    // Behind the first line there may be half a second one.
    file.set_len(whole as u64).map_err(failed)?;
    io::Seek::seek(&mut file, io::SeekFrom::End(0)).map_err(failed)?;
    append(file, facts).map_err(failed)
}

/// Forgets an intent of which nothing was done.
pub(super) fn forget(journal: &Path) -> Result<(), StateError> {
    fs::remove_file(journal).map_err(|error| StateError::io("remove", journal, error))?;
    sync_folder_of(journal)
}

fn append(mut file: File, line: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    file.write_all(&text)?;
    file.sync_data()
}

fn sync_folder_of(journal: &Path) -> Result<(), StateError> {
    let folder = journal.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| StateError::io("sync", folder, error))
}
