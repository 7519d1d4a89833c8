//! What a restore would drop if it came now, counted while the instance still runs.
//!
//! Live data is never compared where it lies: it changes under whoever reads it. A copy of it is taken as for any snapshot,
//! compared, and thrown away.

use super::{
    error::StateError,
    loss::compared,
    manifest::root_folder,
    place::StatePlace,
    snapshot::{HALF, Mode, SnapshotContext, snapshot, snapshot_folder, token},
};
use lastgood_domain::{facts::Loss, terms::SnapshotId};
use rustix::fs::FlockOperation;
use std::{
    fs::{self, File},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::mpsc::{RecvTimeoutError, channel},
    thread,
    time::Instant,
};

/// Counts what was written to `place` since the snapshot in folder `kept`, up to now.
///
/// It takes the room of one more snapshot on `shelf` for as long as it counts, and at most `context.limit`.
/// Errors: as [`snapshot`]; [`StateError::TooSlow`] after the limit.
pub fn loss_so_far(
    place: &StatePlace,
    kept: &Path,
    shelf: &Path,
    context: SnapshotContext,
) -> Result<Loss, StateError> {
    let (began, limit) = (Instant::now(), context.limit);
    let (place, kept, shelf) = (place.clone(), kept.to_path_buf(), shelf.to_path_buf());
    let (sender, receiver) = channel();
    let counting = thread::Builder::new().name("count".into()).spawn(move || {
        let counted = count(&place, &kept, &shelf, &context);
        // Nobody waits for it any more after the limit.
        let _ = sender.send(counted);
    });
    counting.map_err(|error| StateError::WorkerDied { how: format!("no thread to count in: {error}") })?;
    match receiver.recv_timeout(limit.saturating_sub(began.elapsed())) {
        Ok(counted) => counted,
        Err(RecvTimeoutError::Timeout) => Err(StateError::TooSlow { limit_seconds: limit.as_secs() }),
        Err(RecvTimeoutError::Disconnected) => {
            Err(StateError::WorkerDied { how: "what counted it ended without an answer".into() })
        }
    }
}

fn count(place: &StatePlace, kept: &Path, shelf: &Path, context: &SnapshotContext) -> Result<Loss, StateError> {
    let scratch = Scratch::on(shelf)?;
    let id = SnapshotId(0);
    snapshot(place, Mode::Online, id, &scratch.path, context)?;
    let copy = snapshot_folder(&scratch.path, id);
    compared(place, kept, |number, _| root_folder(&copy, number)).map(|report| report.loss)
}

/// A nameless shelf on the shelf for a copy that nobody keeps; swept with the shelf if we are killed.
struct Scratch {
    path: PathBuf,
    /// Open and locked, so that nobody sweeps it away.
    _lock: File,
}

impl Scratch {
    fn on(shelf: &Path) -> Result<Self, StateError> {
        let path = shelf.join(format!("{HALF}count-{}", token()?));
        let failed = |error| StateError::io("make", &path, error);
        // The data's owner passes through it, as through the shelf.
        fs::DirBuilder::new().mode(0o711).create(&path).map_err(failed)?;
        let lock = File::open(&path).map_err(failed)?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|error| failed(error.into()))?;
        Ok(Self { path, _lock: lock })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays is nameless, and swept with the shelf.
        let _ = fs::remove_dir_all(&self.path);
    }
}
