//! Proves that no process holds an instance's data open, with one look at all processes for many instances.

use lastgood_drivers::runtime::{
    holders::{self, Holder, Holders},
    shared_look::SharedLook,
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Oldest look that proves anything: what was found must still be so. A look itself takes some milliseconds, and
/// twenty instances stop within half of this.
const AGE_MAX: Duration = Duration::from_millis(250);

/// Looks at all processes, once for all who ask at the same time.
pub(super) struct SoleHolder {
    /// The data of all instances; each look covers all of it, so that any later look is good for everyone.
    paths: Vec<PathBuf>,
    looks: SharedLook<Result<Holders, String>>,
    /// When each instance had stopped; a look that began before says nothing about it.
    stopped: Mutex<BTreeMap<PathBuf, Instant>>,
}

impl SoleHolder {
    /// Names everything that is ever asked about.
    pub(super) fn of(paths: Vec<PathBuf>) -> Self {
        Self { paths, looks: SharedLook::kept(), stopped: Mutex::default() }
    }

    /// Notes that the instance whose data is at `path` has stopped just now.
    pub(super) fn has_stopped(&self, path: &Path) {
        self.stopped.lock().unwrap_or_else(PoisonError::into_inner).insert(path.into(), Instant::now());
    }

    /// Gives the processes that have something at or below `path` open, by a look that began after the instance had
    /// stopped.
    ///
    /// Errors: why nobody can tell, which must be taken for a yes.
    pub(super) fn holders_of(&self, path: &Path) -> Result<Vec<Holder>, String> {
        let stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner).get(path).copied();
        let now = Instant::now();
        let earliest = stopped.filter(|stopped| now.duration_since(*stopped) <= AGE_MAX).unwrap_or(now);
        let found = self.look(earliest);
        match &*found {
            // Process 1 is the machine's own; some hide it even from root, and it runs no instance.
            Ok(found) if found.unseen.iter().all(|pid| *pid == 1) => {
                // We ourselves read at most, and while an instance is restored not even that.
                let ours = std::process::id();
                let here = |holder: &&Holder| {
                    holder.pid != ours && self.paths.get(holder.below).is_some_and(|below| below == path)
                };
                Ok(found.holders.iter().filter(here).cloned().collect())
            }
            Ok(found) => Err(format!("processes {:?} may not be looked into; run lastgood as root", found.unseen)),
            Err(error) => Err(error.clone()),
        }
    }

    /// Begins a look, if none has begun since the instance whose data is at `path` stopped: a restore will ask for it.
    pub(super) fn look_ahead(&self, path: &Path) {
        let stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner).get(path).copied();
        self.look(stopped.unwrap_or_else(Instant::now));
    }

    fn look(&self, earliest: Instant) -> Arc<Result<Holders, String>> {
        self.looks.since(earliest, || {
            let paths: Vec<&Path> = self.paths.iter().map(PathBuf::as_path).collect();
            holders::holders(&paths).map_err(|error| error.to_string())
        })
    }
}
