//! How an order moves the step of the instance it is about.

use super::Phase;
use crate::{
    effect::Effect,
    terms::{SnapshotId, Span, Timestamp},
};
use serde::{Deserialize, Serialize};

/// Where one instance stands on its way forward.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MoveStep {
    /// Not asked yet.
    Waiting,
    /// Probed on what it runs today, so that a broken gate is not taken for a bad release.
    Baselining,
    /// Asked whether it is busy.
    Asking,
    /// Being stopped.
    Stopping,
    /// Its data at the stop is copied.
    Keeping {
        /// The copy.
        snapshot: SnapshotId,
    },
    /// Being started on the candidate; its data belongs to the candidate from here on.
    Starting,
    /// Probed through its front door.
    Probing,
    /// Answers; watched with its wave.
    Soaking,
    /// Probed again after the soak.
    Reprobing,
    /// Done.
    Moved,
    /// Left alone.
    Deferred,
}

/// Where one instance stands on its way back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReturnStep {
    /// Not begun.
    Waiting,
    /// Asked whether it is busy: nothing is wrong with what it runs, so its way back can wait.
    Asking,
    /// Being stopped.
    Stopping {
        /// Tries so far.
        tries: u32,
    },
    /// What a restore would drop is counted.
    Measuring,
    /// Its data is put back.
    Restoring {
        /// Tries so far; those that somebody who had the data open was in the way of are not counted.
        tries: u32,
        /// Since when somebody has been in the way.
        held: Option<Timestamp>,
        /// When it is looked at again, while nothing is ordered.
        again_at: Option<Timestamp>,
    },
    /// Being started.
    Starting {
        /// Tries so far.
        tries: u32,
    },
    /// Probed.
    Probing {
        /// Tries so far.
        tries: u32,
    },
    /// Being started again on what it left, because its restore waits for a person.
    Reopening,
    /// Could not be brought back, and is being started again on its untouched data.
    FailedReopening,
    /// Back.
    Returned,
    /// Waits for a person.
    Held,
    /// Could not be brought back.
    Failed,
    /// Left alone on what it runs: it is busy, and a later run takes it back.
    Deferred,
}

/// Shortest pause before it is looked whether the data is still open elsewhere; most who look at it are done by then.
const HELD_PAUSE_MIN: Span = Span::seconds(1);
/// Longest pause: the pauses grow with the time it has taken, and an instance is down meanwhile.
pub(crate) const HELD_PAUSE_MAX: Span = Span::seconds(15);

impl MoveStep {
    pub(super) fn ordered(&mut self, effect: &Effect) {
        *self = match effect {
            Effect::AskBusy { .. } => Self::Asking,
            Effect::Stop { .. } => Self::Stopping,
            Effect::SnapshotStopped { snapshot, .. } => Self::Keeping { snapshot: *snapshot },
            Effect::Start { .. } => Self::Starting,
            Effect::Probe { .. } => match self {
                Self::Starting => Self::Probing,
                Self::Soaking => Self::Reprobing,
                _ => Self::Baselining,
            },
            _ => return,
        };
    }
}

impl ReturnStep {
    /// Notes that somebody has the data open: the restore is ordered again in a while.
    pub(super) fn held(&mut self, at: Timestamp) {
        if let Self::Restoring { held, again_at, .. } = self {
            let since = *held.get_or_insert(at);
            *again_at = Some(at.after(at.since(since).max(HELD_PAUSE_MIN).min(HELD_PAUSE_MAX)));
        }
    }

    pub(super) fn ordered(&mut self, effect: &Effect) {
        *self = match (effect, &*self) {
            (Effect::AskBusy { .. }, _) => Self::Asking,
            (Effect::Stop { .. }, Self::Stopping { tries }) => Self::Stopping { tries: tries + 1 },
            (Effect::Stop { .. }, _) => Self::Stopping { tries: 1 },
            (Effect::Measure { .. }, _) => Self::Measuring,
            (Effect::Restore { .. }, Self::Restoring { tries, held, again_at }) => {
                let tries = tries + u32::from(again_at.is_none());
                Self::Restoring { tries, held: *held, again_at: None }
            }
            (Effect::Restore { .. }, _) => Self::Restoring { tries: 1, held: None, again_at: None },
            (Effect::Start { .. }, Self::Reopening) => Self::Reopening,
            (Effect::Start { .. }, Self::FailedReopening) => Self::FailedReopening,
            (Effect::Start { .. }, Self::Starting { tries }) => Self::Starting { tries: tries + 1 },
            (Effect::Start { .. }, _) => Self::Starting { tries: 1 },
            (Effect::Probe { .. }, Self::Probing { tries }) => Self::Probing { tries: tries + 1 },
            (Effect::Probe { .. }, _) => Self::Probing { tries: 1 },
            _ => return,
        };
    }
}

impl Phase {
    /// Tells whether instances or people are moved to a candidate.
    pub const fn moves_forward(&self) -> bool {
        matches!(self, Self::Moving { .. } | Self::Shifting { .. })
    }

    /// Tells whether shared traffic is where it was before the run, and the data too: last-good is watched on meanwhile.
    pub const fn leaves_traffic(&self) -> bool {
        match self {
            Self::Checking
            | Self::Installing { .. }
            | Self::Snapshotting { .. }
            | Self::Rehearsing { .. }
            | Self::Cooling { .. } => true,
            Self::Moving { .. } | Self::Returning { .. } | Self::Shifting { .. } | Self::Unshifting { .. } => false,
        }
    }
}

impl ReturnStep {
    /// Tells whether nothing more happens to it in this run.
    pub const fn is_over(&self) -> bool {
        matches!(self, Self::Returned | Self::Held | Self::Failed | Self::Deferred)
    }
}
