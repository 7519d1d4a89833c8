//! Exit codes: what a script may rely on. "Cannot tell" is never 0.

use lastgood_domain::{
    event::End,
    failure::Failure,
    operations::{Refused, approval, escalation, hold, incident},
    rollout::PLAN_MOVED,
};
use lastgood_engine::operations;

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
    /// State unknown: who would know, or would have to do it, can't be reached.
    Unknown = 11,
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
            End::Stopped { failure } if failure.code == PLAN_MOVED => Self::Moved,
            End::UpToDate | End::Promoted | End::Rehearsed { .. } | End::Cooled => Self::Done,
            End::Held { .. } | End::Refused { .. } | End::RehearsalFailed { .. } => Self::Refused,
            End::Stopped { .. } | End::RollbackFailed { .. } => Self::Failed,
            End::GateBroken { .. } | End::Unproven { .. } => Self::CannotTell,
            End::Waiting { .. } | End::RollbackHeld { .. } => Self::Pending,
            End::RolledBack { .. } | End::Superseded => Self::RolledBack,
        }
    }

    /// Gives the exit code of something that people did not get done.
    pub(crate) fn of_said(error: &operations::SayError) -> Self {
        use approval::Refused as NotAnswered;
        match error {
            operations::SayError::Refused(Refused::Approval(
                NotAnswered::Own { .. } | NotAnswered::OwnLink { .. } | NotAnswered::NotAsked { .. },
            )) => Self::NotAllowed,
            operations::SayError::Refused(Refused::Approval(NotAnswered::Missing { .. })) => Self::Pending,
            operations::SayError::Refused(Refused::Approval(NotAnswered::Rejected { .. })) => Self::Declined,
            operations::SayError::Refused(
                Refused::NotAllowed(_) | Refused::Overrule(_) | Refused::Page(escalation::Refused::Stranger { .. }),
            ) => Self::NotAllowed,
            operations::SayError::Refused(Refused::Cap(_)) => Self::Refused,
            operations::SayError::Refused(Refused::Hold(hold::Refused::OfIncident { .. })) => Self::Refused,
            operations::SayError::Refused(Refused::Incident(error)) => Self::of_incident(error),
            operations::SayError::Refused(_) | operations::SayError::Append(_) => Self::Failed,
        }
    }

    /// Gives the exit code of a step that an incident did not take.
    pub(crate) fn of_incident(error: &incident::Refused) -> Self {
        use incident::Refused as R;
        match error {
            R::NotCommander { .. } | R::NotOwner { .. } | R::RoleNotOffered { .. } => Self::NotAllowed,
            R::Unmet { missing: true, .. } | R::Overtaken { .. } => Self::CannotTell,
            R::Unmet { .. } | R::Executed { .. } | R::Owed { .. } | R::OtherEvidence { .. } => Self::Refused,
            R::Field { .. } | R::NoTime { .. } | R::NoRisk { .. } => Self::Usage,
            _ => Self::Failed,
        }
    }

    /// Gives the exit code of a router that was not told, by what kept it: what can't be asked may stand either way.
    pub(crate) fn of_router(failure: &Failure) -> Self {
        match failure.code.as_str() {
            "router-unreachable" | "router-silent" | "router-answer-unreadable" | "proxy-not-answering" => {
                Self::Unknown
            }
            _ => Self::Failed,
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
