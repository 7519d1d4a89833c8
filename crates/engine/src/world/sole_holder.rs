//! Proves that no process holds an instance's data open, with one look at all processes for many instances.
//!
//! A look costs milliseconds, and twenty restores ask at the same moment. A look that began after an
//! instance had stopped is as good for it as one of its own, so those who come while one is under way share
//! the next.

use lastgood_drivers::runtime::holders::{self, Holder};
use std::{
    path::{Path, PathBuf},
    sync::{Condvar, Mutex, PoisonError},
};

/// Looks at all processes, once for all who ask at the same time.
pub(super) struct SoleHolder {
    /// The data of all instances; each look covers all of it, so that any later look is good for everyone.
    paths: Vec<PathBuf>,
    state: Mutex<State>,
    done: Condvar,
}

#[derive(Default)]
struct State {
    /// Looks begun so far.
    begun: u64,
    /// Looks ended so far.
    ended: u64,
    /// What the newest look found.
    found: Vec<Holder>,
    /// Why the newest look failed.
    failed: Option<String>,
}

impl SoleHolder {
    /// Names everything that is ever asked about.
    pub(super) fn of(paths: Vec<PathBuf>) -> Self {
        Self { paths, state: Mutex::default(), done: Condvar::new() }
    }

    /// Gives the processes that have something at or below `path` open, by a look that began after this call.
    ///
    /// Errors: why nobody can tell, which must be taken for a yes.
    pub(super) fn holders_of(&self, path: &Path) -> Result<Vec<Holder>, String> {
        let lock = || self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = lock();
        let mine = state.begun + 1;
        while state.ended < mine {
            if state.begun > state.ended {
                state = self.done.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.begun += 1;
            drop(state);
            let paths: Vec<&Path> = self.paths.iter().map(PathBuf::as_path).collect();
            let looked = holders::holders(&paths);
            state = lock();
            (state.found, state.failed) = match looked {
                // Process 1 is the machine's own; some hide it even from root, and it runs no instance.
                Ok(found) if found.unseen.iter().all(|pid| *pid == 1) => (found.holders, None),
                Ok(found) => (
                    Vec::new(),
                    Some(format!("processes {:?} may not be looked into; run lastgood as root", found.unseen)),
                ),
                Err(error) => (Vec::new(), Some(error.to_string())),
            };
            state.ended = state.begun;
            self.done.notify_all();
        }
        match &state.failed {
            Some(why) => Err(why.clone()),
            None => Ok(state
                .found
                .iter()
                .filter(|holder| self.paths.get(holder.below).is_some_and(|below| below == path))
                .cloned()
                .collect()),
        }
    }
}
