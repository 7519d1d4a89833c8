//! How an order moves the step of the instance it is about.

use super::{MoveStep, ReturnStep};
use crate::{
    effect::Effect,
    terms::{Span, Timestamp},
};

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
