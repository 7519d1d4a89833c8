//! A gate's owner lets one release past the gate, named, reasoned and for a time.

use super::Operations;
use crate::{
    failure::Coded,
    terms::{Actor, Digest, Reason, ReleaseTag, ServiceName, Span, Timestamp},
};
use alloc::{format, string::String, vec::Vec};
use serde::{Deserialize, Serialize};

/// How long an override stands if nothing else is said.
pub const STANDS_FOR: Span = Span::minutes(24 * 60);
/// Longest time an override may stand: what is needed for longer is another gate.
pub const STANDS_MAX: Span = Span::minutes(7 * 24 * 60);

/// One gate overridden for one release of one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overrule {
    /// The gate, such as `unit` or `preflight`.
    pub gate: String,
    /// The service.
    pub service: ServiceName,
    /// The release by its tag.
    pub tag: ReleaseTag,
    /// Its digest, where it was known: the same tag with other bytes is another release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Why.
    pub reason: Reason,
    /// Until when.
    pub until: Timestamp,
}

/// An override as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// What.
    pub overrule: Overrule,
    /// Who.
    pub by: Actor,
    /// When.
    pub at: Timestamp,
}

/// All overrides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrules {
    /// Oldest first.
    pub all: Vec<Given>,
}

/// Why a gate was not overridden.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is not theirs.
    #[error("{by} does not own the gate {gate}: {owner} does")]
    NotOwner {
        /// Who.
        by: Actor,
        /// The gate.
        gate: String,
        /// Its owner.
        owner: Actor,
    },
    /// Nobody may.
    #[error("the gate {gate} has no owner, so nobody can override it")]
    NoOwner {
        /// The gate.
        gate: String,
    },
    /// For too long.
    #[error("an override lasts at most 7 d, not {asked}")]
    TooLong {
        /// What was asked.
        asked: Span,
    },
}

impl Coded for Refused {
    fn code(&self) -> &'static str {
        match self {
            Self::NotOwner { .. } => "override-not-owner",
            Self::NoOwner { .. } => "override-no-owner",
            Self::TooLong { .. } => "override-too-long",
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NotOwner { owner, .. } => format!("ask {owner}"),
            Self::NoOwner { gate } => format!("name one in lastgood.toml: [overrides] with {gate} = \"alice\""),
            Self::TooLong { .. } => "say a shorter time: --for 24h".into(),
        })
    }
}

/// Tells whether somebody owns a gate.
///
/// Errors: somebody else does, or nobody.
pub fn owned(owner: Option<&Actor>, by: &Actor, gate: &str) -> Result<(), Refused> {
    match owner {
        Some(owner) if owner == by => Ok(()),
        Some(owner) => Err(Refused::NotOwner { by: by.clone(), gate: gate.into(), owner: owner.clone() }),
        None => Err(Refused::NoOwner { gate: gate.into() }),
    }
}

/// Gives the override by which a release passes a gate at `now`, if one stands: what a rollout asks.
///
/// With a digest the bytes must be those that were overridden for, where they were known then.
pub fn stands<'a>(
    operations: &'a Operations,
    gate: &str,
    service: &ServiceName,
    tag: &ReleaseTag,
    digest: Option<&Digest>,
    now: Timestamp,
) -> Option<&'a Given> {
    let fits = |given: &&Given| {
        let one = &given.overrule;
        let same_bytes = one.digest.as_ref().zip(digest).is_none_or(|(known, now)| known == now);
        one.gate == gate && one.service == *service && one.tag == *tag && same_bytes && now < one.until
    };
    operations.overrules.all.iter().rev().find(fits)
}
