//! What a restore would drop if it came now, counted while the instance still runs.
//!
//! Live data is never compared where it lies: it changes under whoever reads it. A copy of it is taken as for any snapshot,
//! compared, and thrown away.

use super::{
    beneath::Folder,
    error::StateError,
    loss::compared,
    manifest::root_folder,
    place::StatePlace,
    snapshot::{HALF, Mode, Recovery, SnapshotContext, snapshot, snapshot_folder, sweep, token},
    stop::Stop,
};
use lastgood_domain::{facts::Loss, terms::SnapshotId};
use rustix::fs::FlockOperation;
use std::{
    fs::{self, File},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{RecvTimeoutError, channel},
    },
    thread,
    time::{Duration, Instant},
};

/// Follows [`HALF`] in the names of the folders that are counted in.
const COUNT: &str = "count-";
/// How often a count that takes too long is told to end: a query that begins in between is reached by the next.
const STOP_EVERY: Duration = Duration::from_millis(10);

/// Counts what was written to `place` since the snapshot in folder `kept`, up to now.
///
/// It takes the room of one more snapshot on `shelf` for as long as it counts, beside `context.extra_bytes`, and at most
/// `context.limit`; nothing of it is left or goes on after it. The data is only read: a database that a killed program left
/// half-written is not counted.
/// Errors: as [`snapshot`]; [`StateError::TooSlow`] after the limit; [`StateError::NeedsRecovery`].
pub fn loss_so_far(
    place: &StatePlace,
    kept: &Path,
    shelf: &Path,
    mut context: SnapshotContext,
) -> Result<Loss, StateError> {
    let (began, limit) = (Instant::now(), context.limit);
    context.recovery = Recovery::Refused;
    let stop = Stop::when(Arc::clone(&context.cancelled));
    let (sender, receiver) = channel();
    thread::scope(|scope| {
        let counting = thread::Builder::new().name("count".into()).spawn_scoped(scope, || {
            let counted = count(place, kept, shelf, &context, &stop);
            // Nobody waits for it any more after the limit.
            let _ = sender.send(counted);
        });
        let counting =
            counting.map_err(|error| StateError::WorkerDied { how: format!("no thread to count in: {error}") })?;
        match receiver.recv_timeout(limit.saturating_sub(began.elapsed())) {
            Ok(counted) => counted,
            Err(RecvTimeoutError::Timeout) => {
                // A way back may begin now: nothing reads the data or takes room beside it.
                while !counting.is_finished() {
                    stop.now();
                    thread::sleep(STOP_EVERY);
                }
                Err(StateError::TooSlow { limit_seconds: limit.as_secs() })
            }
            Err(RecvTimeoutError::Disconnected) => {
                Err(StateError::WorkerDied { how: "what counted it ended without an answer".into() })
            }
        }
    })
}

/// Removes the copies of counts that were killed.
///
/// Errors: the shelf can't be read, or a copy not be removed.
pub fn sweep_counts(shelf: &Path) -> Result<(), StateError> {
    let open = match Folder::open(shelf) {
        Ok(open) => open,
        Err(StateError::Missing { .. }) => return Ok(()),
        Err(error) => return Err(error),
    };
    sweep(&open, &format!("{HALF}{COUNT}")).map_err(|error| StateError::io("sweep", shelf, error))
}

fn count(
    place: &StatePlace,
    kept: &Path,
    shelf: &Path,
    context: &SnapshotContext,
    stop: &Stop,
) -> Result<Loss, StateError> {
    let scratch = Scratch::on(shelf)?;
    let id = SnapshotId(0);
    snapshot(place, Mode::Online, id, &scratch.path, context)?;
    let copy = snapshot_folder(&scratch.path, id);
    compared(place, kept, stop, |number, _| root_folder(&copy, number)).map(|report| report.loss)
}

/// A nameless shelf on the shelf for a copy that nobody keeps; swept if we are killed.
struct Scratch {
    path: PathBuf,
    /// Open and locked, so that nobody sweeps it away.
    _lock: File,
}

impl Scratch {
    fn on(shelf: &Path) -> Result<Self, StateError> {
        let path = shelf.join(format!("{HALF}{COUNT}{}", token()?));
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
        // What stays is nameless, and swept by the next command.
        let _ = fs::remove_dir_all(&self.path);
    }
}
