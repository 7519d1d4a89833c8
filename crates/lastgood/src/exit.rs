//! Exit codes: what a script may rely on. "Cannot tell" is never 0.

use lastgood_domain::event::End;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done; for a wait: reached.
    Done = 0,
    /// Failed.
    Failed = 1,
    /// Usage or configuration.
    Usage = 2,
    /// Cancelled or declined.
    Declined = 3,
    /// Not allowed: the system refuses this user, a role is missing, or it is one's own request.
    NotAllowed = 4,
    /// Ended in a rollback or an abort.
    RolledBack = 5,
    /// What you expected has moved.
    Moved = 6,
    /// The wait timed out; work goes on.
    TimedOut = 7,
    /// A person or a time is awaited.
    Pending = 8,
    /// Refused by policy: hold, pin, gate.
    Refused = 9,
    /// Someone else drives.
    Driven = 10,
    /// A gate can't be evaluated.
    CannotTell = 12,
    /// Warnings only.
    Warnings = 20,
    /// Interrupted by the person who started it.
    Interrupted = 130,
}

impl Exit {
    /// Gives the exit code of a run's end.
    pub(crate) fn of(end: &End) -> Self {
        match end {
            End::UpToDate | End::Promoted | End::Rehearsed { .. } | End::Cooled => Self::Done,
            End::Held { .. } | End::Refused { .. } | End::RehearsalFailed { .. } => Self::Refused,
            End::Stopped { .. } | End::RollbackFailed { .. } => Self::Failed,
            End::GateBroken { .. } | End::Unproven { .. } => Self::CannotTell,
            End::Waiting { .. } | End::RollbackHeld { .. } => Self::Pending,
            End::RolledBack { .. } | End::Superseded => Self::RolledBack,
        }
    }

    /// Gives the exit code of a rollback's end: for it, being back is success.
    pub(crate) fn of_rollback(end: &End) -> Self {
        match end {
            End::RolledBack { .. } => Self::Done,
            other => Self::of(other),
        }
    }
}
