//! What earlier restores of the same data have left: half-exchanged data, and newer data that no record names.
//!
//! A restore that failed or was killed between its first move and its last has taken the data apart. Whoever is asked
//! next finishes it first, or leaves the data alone: a program started on it would make it all anew.

use super::{
    error::StateError,
    intent::{self, Intent, Progress},
    restore::{RestoreContext, Run, go_on},
};
use lastgood_domain::terms::OrderId;
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// What the journals of one folder tell.
#[derive(Debug, Default)]
struct Left {
    /// Begun, not finished, and not followed by one that was: oldest first.
    begun: Vec<(OrderId, PathBuf, Intent)>,
    /// Begun by a version that let the next restore pass, which then put all data in place.
    passed: Vec<Intent>,
    /// The journals that nothing depends on any more.
    over: Vec<(OrderId, PathBuf)>,
    /// Where the finished ones put newer data.
    asides: Vec<String>,
}

fn left(folder: &Path, but: Option<&Path>) -> Result<Left, StateError> {
    let mut left = Left::default();
    for (order, journal) in intent::journals(folder)? {
        if but == Some(journal.as_path()) {
            continue;
        }
        match intent::read(&journal)? {
            Progress::None => {}
            Progress::Begun(intent) => left.begun.push((order, journal, intent)),
            Progress::Done(_, facts) => {
                for (order, journal, intent) in left.begun.drain(..) {
                    left.asides.push(intent.aside.to_string_lossy().into_owned());
                    left.passed.push(intent);
                    left.over.push((order, journal));
                }
                left.asides.extend(facts.earlier);
                left.asides.extend(facts.aside);
                left.over.push((order, journal));
            }
        }
    }
    Ok(left)
}

/// Finishes what other restores than that of `journal` have left; gives all folders that keep newer data of them.
pub(super) fn clear_up(journal: &Path, context: &RestoreContext<'_>) -> Result<Vec<String>, StateError> {
    let folder = journal.parent().unwrap_or(Path::new("."));
    let left = left(folder, Some(journal))?;
    let mut asides = left.asides;
    for intent in left.passed {
        if let Ok(roots) = intent.data.roots() {
            Run::abandon(&intent, &roots);
        }
    }
    for (_, journal, intent) in left.begun {
        asides.extend(go_on(&journal, &intent, Vec::new(), context)?.aside);
    }
    // One that had nothing to put aside, or whose data somebody has taken since.
    asides.retain(|aside| Path::new(aside).exists());
    asides.sort();
    asides.dedup();
    Ok(asides)
}

/// Refuses if a restore whose journal is in `folder` was begun and not finished: nothing may read or start on such data.
pub fn refuse_begun(folder: &Path) -> Result<(), StateError> {
    match left(folder, None)?.begun.pop() {
        Some((_, journal, _)) => Err(StateError::RestoreUnfinished { journal }),
        None => Ok(()),
    }
}

/// Finishes the restores whose journals are in `folder` and that were begun and not finished.
///
/// The instance is stopped. Errors: as [`super::restore()`]; the data stays as it is, and the journal says so.
pub fn finish_begun(folder: &Path, context: &RestoreContext<'_>) -> Result<(), StateError> {
    for (_, journal, intent) in left(folder, None)?.begun {
        go_on(&journal, &intent, Vec::new(), context)?;
    }
    Ok(())
}

/// Forgets the restores of earlier orders than `before` that are finished: their answers were recorded.
pub fn forget_done(folder: &Path, before: OrderId) -> Result<(), StateError> {
    for (order, journal) in left(folder, None)?.over {
        if order < before {
            match fs::remove_file(&journal) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(StateError::io("remove", &journal, error));
                }
                _ => {}
            }
        }
    }
    Ok(())
}
