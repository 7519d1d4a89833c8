//! Why an incident did not go on; each says what to type instead.

use super::{Level, Role, State, checklist::EvidenceKind, plan};
use crate::{
    failure::Coded,
    terms::{Actor, FollowUpId, IncidentId, ItemName},
};
use alloc::{format, string::String};

/// Why an incident did not go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no such incident.
    #[error("there is no incident {incident}")]
    Unknown {
        /// Which.
        incident: IncidentId,
    },
    /// From here it can't go there.
    #[error("incident {incident} is {} and can't become {}", from.as_str(), to.as_str())]
    Illegal {
        /// Which.
        incident: IncidentId,
        /// Where it stands.
        from: State,
        /// Where it should go.
        to: State,
    },
    /// The level would not change.
    #[error("incident {incident} is {} already", level.as_str())]
    NotHigher {
        /// Which.
        incident: IncidentId,
        /// The level it has.
        level: Level,
    },
    /// It is over, or nothing of it is held any more.
    #[error("incident {incident} is already {}", state.as_str())]
    Over {
        /// Which.
        incident: IncidentId,
        /// Where it stands.
        state: State,
    },
    /// Only its commander may.
    #[error("{by} does not lead incident {incident}, {commander} does")]
    NotCommander {
        /// Which.
        incident: IncidentId,
        /// Who asked.
        by: Actor,
        /// Who leads it.
        commander: Actor,
    },
    /// Of its plan.
    #[error(transparent)]
    Plan(#[from] plan::Refused),
    /// Something was executed: it ends only by verification.
    #[error("incident {incident} can't be stood down: something of its plan was executed")]
    Executed {
        /// Which.
        incident: IncidentId,
    },
    /// The role has an owner.
    #[error("the role {} of incident {incident} belongs to {owner}", role.as_str())]
    RoleOwned {
        /// Which.
        incident: IncidentId,
        /// The role.
        role: Role,
        /// Who owns it.
        owner: Actor,
    },
    /// Nobody offered the role to who accepts it.
    #[error("the role {} of incident {incident} was not offered to {by}", role.as_str())]
    RoleNotOffered {
        /// Which.
        incident: IncidentId,
        /// The role.
        role: Role,
        /// Who would accept it.
        by: Actor,
    },
    /// Somebody else owns the role.
    #[error("{by} is neither {} nor the commander of incident {incident}", role.as_str())]
    NotOwner {
        /// Which.
        incident: IncidentId,
        /// The role.
        role: Role,
        /// Who asked.
        by: Actor,
    },
    /// There is no such item.
    #[error("incident {incident} has no item {item}")]
    ItemUnknown {
        /// Which.
        incident: IncidentId,
        /// The item.
        item: ItemName,
    },
    /// It is done.
    #[error("{item} of incident {incident} is done")]
    ItemDone {
        /// Which.
        incident: IncidentId,
        /// The item.
        item: ItemName,
    },
    /// Another kind of evidence is required.
    #[error("{item} needs {} as evidence, not {}", needed.words(), given.words())]
    OtherEvidence {
        /// Which.
        incident: IncidentId,
        /// The item.
        item: ItemName,
        /// What it needs.
        needed: EvidenceKind,
        /// What was given.
        given: EvidenceKind,
    },
    /// The command that should prove it did not succeed.
    #[error("{item} is not done: its command ended with {exit}")]
    CommandFailed {
        /// Which.
        incident: IncidentId,
        /// The item.
        item: ItemName,
        /// Its exit status.
        exit: i32,
    },
    /// A risk must end.
    #[error("the accepted risk needs an end time in the future (`--for 1d`)")]
    NoTime {
        /// Which.
        incident: IncidentId,
    },
    /// A stage was lifted, or held again, while it was verified.
    #[error(
        "the freeze of incident {incident} changed while it was verified: what passed is no proof of how it is now"
    )]
    Overtaken {
        /// Which.
        incident: IncidentId,
    },
    /// Rows of the unfreeze are not true.
    #[error("incident {incident} stays frozen: {}", rows.join("; "))]
    Unmet {
        /// Which.
        incident: IncidentId,
        /// What is not true.
        rows: alloc::vec::Vec<String>,
        /// Whether a verification is missing, so that nothing can be told.
        missing: bool,
    },
    /// That row can't be signed off.
    #[error("the row {row} of incident {incident} can't be signed off: {why}")]
    NoRisk {
        /// Which.
        incident: IncidentId,
        /// The row.
        row: String,
        /// Why.
        why: String,
    },
    /// A field of a message is missing, unknown or of another type.
    #[error("the message was not sent: {why}")]
    Field {
        /// Which.
        incident: IncidentId,
        /// What is wrong.
        why: String,
        /// The message as it is typed with all of its fields: ` --message complete --field impact=…`.
        typed: String,
    },
    /// There is no such follow-up.
    #[error("incident {incident} has no follow-up {follow_up} that is open")]
    FollowUpUnknown {
        /// Which.
        incident: IncidentId,
        /// The follow-up.
        follow_up: FollowUpId,
    },
    /// What is owed at the end is not there.
    #[error("incident {incident} can't be closed: {}", owed.join("; "))]
    Owed {
        /// Which.
        incident: IncidentId,
        /// What is missing.
        owed: alloc::vec::Vec<String>,
    },
}

impl Coded for Refused {
    fn code(&self) -> &'static str {
        match self {
            Self::Unknown { .. } => "incident-unknown",
            Self::Illegal { .. } => "incident-step-illegal",
            Self::NotHigher { .. } => "incident-level-same",
            Self::Plan(inner) => inner.code(),
            Self::Over { .. } => "incident-over",
            Self::NotCommander { .. } => "incident-not-commander",
            Self::Executed { .. } => "incident-executed",
            Self::RoleOwned { .. } => "incident-role-owned",
            Self::RoleNotOffered { .. } => "incident-role-not-offered",
            Self::NotOwner { .. } => "incident-not-owner",
            Self::ItemUnknown { .. } => "checklist-item-unknown",
            Self::ItemDone { .. } => "checklist-item-done",
            Self::OtherEvidence { .. } => "checklist-other-evidence",
            Self::CommandFailed { .. } => "checklist-command-failed",
            Self::NoTime { .. } => "incident-risk-without-end",
            Self::Overtaken { .. } => "incident-verification-overtaken",
            Self::Unmet { missing: true, .. } => "incident-verification-missing",
            Self::Unmet { missing: false, .. } => "incident-frozen",
            Self::NoRisk { .. } => "incident-risk-unknown",
            Self::Field { .. } => "incident-message-field",
            Self::FollowUpUnknown { .. } => "incident-follow-up-unknown",
            Self::Owed { .. } => "incident-owed",
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Plan(inner) => return inner.hint(),
            Self::Unknown { .. } => "see which there are: lastgood incident list".into(),
            Self::Illegal { incident, .. } | Self::NotHigher { incident, .. } | Self::Over { incident, .. } => {
                format!("see what is next: lastgood incident show {incident}")
            }
            Self::NotCommander { incident, .. } => {
                format!(
                    "ask them, or have them hand over: lastgood incident handoff {incident} --role commander --to …; if \
                     they can't lead any more: lastgood incident take-over {incident} --reason …"
                )
            }
            Self::Executed { incident } => format!("verify it: lastgood incident verify {incident}"),
            Self::RoleOwned { incident, role, .. } => {
                let role = role.as_str();
                format!("have it handed over: lastgood incident handoff {incident} --role {role} --to …")
            }
            Self::RoleNotOffered { incident, role, .. } => {
                let role = role.as_str();
                format!("have it offered: lastgood incident handoff {incident} --role {role} --to …")
            }
            Self::NotOwner { incident, role, .. } => {
                format!("become it: lastgood incident assign {incident} --role {} --to …", role.as_str())
            }
            Self::ItemUnknown { incident, .. } | Self::ItemDone { incident, .. } => {
                format!("see all: lastgood checklist list {incident}")
            }
            Self::OtherEvidence { incident, item, needed, .. } => {
                format!("lastgood checklist done {incident} {item} {}", needed.typed())
            }
            Self::CommandFailed { incident, item, .. } => {
                format!("put it right and try again, or: lastgood checklist waive {incident} {item} --risk … --for 2d")
            }
            Self::NoTime { .. } => "say for how long: --for 2d".into(),
            Self::Overtaken { incident } => format!("verify it again: lastgood incident verify {incident}"),
            Self::Unmet { incident, missing: true, .. } => format!("verify it: lastgood incident verify {incident}"),
            Self::Unmet { incident, .. } => format!("see each row: lastgood incident show {incident}"),
            Self::NoRisk { incident, .. } => format!("see the rows: lastgood incident show {incident}"),
            Self::Field { incident, typed, .. } => format!("lastgood incident update {incident}{typed}"),
            Self::FollowUpUnknown { incident, .. } => format!("see which: lastgood incident show {incident}"),
            Self::Owed { incident, .. } => format!("see what is owed: lastgood incident show {incident}"),
        })
    }
}
