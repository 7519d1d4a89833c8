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

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        fs::{self, File},
        process::{Child, Command, Stdio},
    };

    /// A process that has a file of ours open until it is dropped.
    struct Stranger(Child);

    impl Stranger {
        fn holding(file: &Path) -> Self {
            let held = File::open(file).unwrap();
            Self(Command::new("sleep").arg("60").stdin(Stdio::from(held)).spawn().unwrap())
        }
    }

    impl Drop for Stranger {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn who_opens_the_data_is_found_but_by_no_look_from_before_the_stop() {
        let folder = tempfile::tempdir().unwrap();
        let paths = [folder.path().join("a"), folder.path().join("b")];
        for path in &paths {
            fs::create_dir(path).unwrap();
            fs::write(path.join("file"), "").unwrap();
        }
        let sole = SoleHolder::of(paths.to_vec());
        sole.has_stopped(&paths[0]);
        assert_eq!(sole.holders_of(&paths[0]).unwrap(), []);
        let stranger = Stranger::holding(&paths[0].join("file"));
        // Stopped once more: what was seen before says nothing now.
        sole.has_stopped(&paths[0]);
        let found = sole.holders_of(&paths[0]).unwrap();
        assert_eq!(found.iter().map(|holder| holder.pid).collect::<Vec<_>>(), [stranger.0.id()]);
        // It is not in the way of the other instance, of which nothing is known yet: that asks for a look of its own.
        assert_eq!(sole.holders_of(&paths[1]).unwrap(), []);
        drop(stranger);
        std::thread::sleep(AGE_MAX);
        assert_eq!(sole.holders_of(&paths[0]).unwrap(), [], "an old look was believed");
    }

    #[test]
    fn we_ourselves_are_no_holder() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        let _open = File::open(folder.path().join("file")).unwrap();
        let sole = SoleHolder::of(vec![folder.path().into()]);
        assert_eq!(sole.holders_of(folder.path()).unwrap(), []);
    }
}
