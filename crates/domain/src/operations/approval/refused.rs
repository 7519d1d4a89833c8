//! Why an approval was not asked for or given.

use crate::{
    failure::Coded,
    terms::{Actor, ApprovalId, Reason, Span},
};
use alloc::{format, string::String};

/// Why nothing was asked or answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no such request.
    #[error("there is no request {approval}")]
    Unknown {
        /// Which.
        approval: ApprovalId,
    },
    /// It is over.
    #[error("request {approval} is {standing}")]
    Over {
        /// Which.
        approval: ApprovalId,
        /// Where it stands.
        standing: String,
    },
    /// Who asked can't say yes.
    #[error("{by} asked for {approval} and can't approve it")]
    Own {
        /// Which.
        approval: ApprovalId,
        /// Who.
        by: Actor,
    },
    /// Who asked wants the link of somebody who may say yes.
    #[error("{by} asked for {approval} and gets no link to answer it by")]
    OwnLink {
        /// Which.
        approval: ApprovalId,
        /// Who.
        by: Actor,
    },
    /// Somebody who is not among those asked.
    #[error("{by} is not among those who may approve {approval}: {of}")]
    NotAsked {
        /// Which.
        approval: ApprovalId,
        /// Who.
        by: Actor,
        /// Who may.
        of: String,
    },
    /// The same person said yes before: it counts once.
    #[error("{by} approved {approval} already")]
    SaidAlready {
        /// Which.
        approval: ApprovalId,
        /// Who.
        by: Actor,
    },
    /// Somebody had another person's link printed: that was their word.
    #[error("{by} printed another person's link for {approval} and may not vote on it as well")]
    GaveLink {
        /// Which.
        approval: ApprovalId,
        /// Who.
        by: Actor,
    },
    /// Somebody said no to exactly this plan.
    #[error("{by} said no to {approval}: {reason}")]
    Rejected {
        /// Which.
        approval: ApprovalId,
        /// Who.
        by: Actor,
        /// Why.
        reason: Reason,
    },
    /// What was seen is not what is asked for.
    #[error("request {approval} is for plan {asked}, not {seen}")]
    OtherPlan {
        /// Which.
        approval: ApprovalId,
        /// The plan that is asked for.
        asked: String,
        /// The plan that was seen.
        seen: String,
    },
    /// It would not have more time, or too much.
    #[error("request {approval} has {expires} left; extend it to at most 7 d from now")]
    NoExtension {
        /// Which.
        approval: ApprovalId,
        /// How long it still has.
        expires: Span,
    },
    /// Nobody asked, or not enough people have agreed.
    #[error("{needed} other people must agree to {subject} first")]
    Missing {
        /// What for.
        subject: String,
        /// How many are needed.
        needed: u32,
    },
    /// More are needed than may say yes.
    #[error("{needed} approvals are needed, but only {possible} people may approve")]
    Impossible {
        /// How many are needed.
        needed: u32,
        /// How many may.
        possible: usize,
    },
}

impl Coded for Refused {
    fn code(&self) -> &'static str {
        match self {
            Self::Unknown { .. } => "approval-unknown",
            Self::Over { .. } => "approval-over",
            Self::Own { .. } | Self::OwnLink { .. } => "approval-own",
            Self::NotAsked { .. } => "approval-not-asked",
            Self::SaidAlready { .. } | Self::GaveLink { .. } => "approval-said-already",
            Self::Rejected { .. } => "approval-rejected",
            Self::OtherPlan { .. } => "approval-other-plan",
            Self::NoExtension { .. } => "approval-no-extension",
            Self::Missing { .. } => "approval-missing",
            Self::Impossible { .. } => "approval-impossible",
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unknown { .. } | Self::Over { .. } | Self::Missing { .. } => {
                "see what is awaited: lastgood approval list".into()
            }
            Self::Own { approval, .. } => format!("have another person run: lastgood approval approve {approval}"),
            Self::OwnLink { approval, .. } => {
                format!("have another person type it: lastgood approval link {approval} --person NAME")
            }
            Self::NotAsked { of, .. } => format!("ask one of them: {of}"),
            Self::Rejected { approval, .. } => format!("see it: lastgood approval show {approval}"),
            Self::SaidAlready { approval, .. } | Self::GaveLink { approval, .. } => {
                format!("see who is still missing: lastgood approval show {approval}")
            }
            Self::OtherPlan { approval, .. } => format!("look at it again: lastgood approval show {approval}"),
            Self::NoExtension { approval, .. } => {
                format!("say for how long from now: lastgood approval extend {approval} --for 24h")
            }
            Self::Impossible { .. } => "name more people, or ask for fewer".into(),
        })
    }
}
