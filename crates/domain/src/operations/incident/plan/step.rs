//! A step: what it makes so, how it is undone, what it needs and what may go wrong.

use super::{Precondition, Risk};
use crate::{
    operations::incident::Level,
    terms::{Digest, Reason, ReleaseTag, ServiceName, Span},
};
use alloc::{string::String, vec::Vec};
use serde::{Deserialize, Serialize};

/// What a step is about; plans do them in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Area {
    /// Code and configuration.
    Application,
    /// What the machine has besides what the release declares.
    Infrastructure,
    /// Data and what is derived of it.
    Data,
    /// The log itself.
    Evidence,
    /// Secrets that may be in other hands.
    Credentials,
}

impl Area {
    /// Gives it as people read it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Application => "application",
            Self::Infrastructure => "infrastructure",
            Self::Data => "data",
            Self::Evidence => "evidence",
            Self::Credentials => "credentials",
        }
    }

    /// Gives the lowest level whose plan has steps of it.
    pub const fn level(self) -> Level {
        match self {
            Self::Application | Self::Infrastructure => Level::L1,
            Self::Data => Level::L2,
            Self::Evidence | Self::Credentials => Level::L3,
        }
    }
}

/// What is done with a credential, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Turn {
    /// The old one is taken back.
    Revoke,
    /// The old one is tried and must be refused.
    ProveRefused,
    /// A new one is made.
    Rotate,
    /// Those who need it work with the new one.
    ProveConsumers,
}

impl Turn {
    /// All of them, in order.
    pub const ALL: [Self; 4] = [Self::Revoke, Self::ProveRefused, Self::Rotate, Self::ProveConsumers];

    /// Gives it as people read it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Revoke => "revoke",
            Self::ProveRefused => "prove-refused",
            Self::Rotate => "rotate",
            Self::ProveConsumers => "prove-consumers",
        }
    }
}

/// What a step makes so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "kebab-case")]
pub enum Act {
    /// A service is at a release, with the data that belongs to it.
    RollBack {
        /// Which.
        service: ServiceName,
        /// The release.
        to: ReleaseTag,
        /// Risks that were accepted by name, as the rollback takes them.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        risks: Vec<String>,
    },
    /// What a service has on this machine is what its release declares.
    PutBack {
        /// Which.
        service: ServiceName,
        /// Risks that were accepted by name: an instance in use is not started again without.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        risks: Vec<String>,
    },
    /// A command of the runbook was carried out.
    Command {
        /// Its name in the runbook.
        name: String,
    },
    /// A question of the runbook is answered with yes.
    Check {
        /// Its name in the runbook.
        name: String,
    },
    /// Chains and logs lie apart, with a list of digests that fits.
    Preserve,
    /// Each service's chain names the incident.
    Annotate,
    /// Every chain is what was signed.
    VerifyEvidence,
    /// The position of every chain is written down and signed: what comes after belongs to the incident.
    CutOver,
    /// One turn of replacing a credential.
    Credential {
        /// Its name in the configuration.
        name: String,
        /// Which turn.
        turn: Turn,
    },
    /// People do it, and say so.
    ByHand {
        /// What.
        what: Reason,
    },
}

/// How a step is undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "undo", rename_all = "kebab-case")]
pub enum Undo {
    /// It changes nothing.
    Nothing,
    /// By this.
    By {
        /// What to type or do.
        how: String,
    },
    /// Not at all: such a plan needs an approval.
    None {
        /// Why.
        why: String,
    },
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Its name in the plan; unique.
    pub id: String,
    /// What it is about.
    pub area: Area,
    /// What it makes so.
    pub act: Act,
    /// The same in one sentence.
    pub says: String,
    /// How it is undone.
    pub undo: Undo,
    /// What must be so right before it is first tried; none where it needs nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precondition: Option<Precondition>,
    /// What may go wrong with it; plans of older versions say nothing of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub risk: Option<Risk>,
    /// How long it may take.
    pub timeout: Span,
    /// How often it is tried before it has failed.
    pub attempts: u32,
    /// Whether the plan goes on where it has failed.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub may_fail: bool,
    /// Digest over what the configuration says of it: a plan is for what was read, and nothing else.
    pub spec: Digest,
}
