//! How an order moves the step of the instance it is about.

use super::{MoveStep, ReturnStep};
use crate::effect::Effect;

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
    pub(super) fn ordered(&mut self, effect: &Effect) {
        *self = match (effect, &*self) {
            (Effect::Stop { .. }, Self::Stopping { tries }) => Self::Stopping { tries: tries + 1 },
            (Effect::Stop { .. }, _) => Self::Stopping { tries: 1 },
            (Effect::Measure { .. }, _) => Self::Measuring,
            (Effect::Restore { .. }, Self::Restoring { tries }) => Self::Restoring { tries: tries + 1 },
            (Effect::Restore { .. }, _) => Self::Restoring { tries: 1 },
            (Effect::Start { .. }, Self::Reopening) => Self::Reopening,
            (Effect::Start { .. }, Self::Starting { tries }) => Self::Starting { tries: tries + 1 },
            (Effect::Start { .. }, _) => Self::Starting { tries: 1 },
            (Effect::Probe { .. }, Self::Probing { tries }) => Self::Probing { tries: tries + 1 },
            (Effect::Probe { .. }, _) => Self::Probing { tries: 1 },
            _ => return,
        };
    }
}
