//! Credentials that somebody revokes and replaces by hand: what began, and what it came to. What an incident's plan does to
//! them stands in the incident.
//!
//! What began and did not end was killed in its middle: it is repeated, which is the same as doing it once.

use super::incident::plan::Turn;
use crate::{
    failure::Failure,
    terms::{Actor, Timestamp},
};
use alloc::{collections::BTreeMap, format, string::String};
use serde::{Deserialize, Serialize};

/// Something that somebody did to a credential by hand. No secret is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "did", rename_all = "kebab-case")]
pub enum CredentialEvent {
    /// An act begins.
    Begun {
        /// Which.
        turn: Turn,
    },
    /// It is done.
    Done {
        /// Which.
        turn: Turn,
        /// What it came to; of a proof, how the secret was tried.
        what: String,
    },
    /// It failed, or nobody can tell.
    Failed {
        /// Which.
        turn: Turn,
        /// Why.
        failure: Failure,
    },
}

/// An act that began and has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// Which.
    pub turn: Turn,
    /// Who began it.
    pub by: Actor,
    /// When.
    pub since: Timestamp,
}

/// The acts that began and have not ended, by credential.
pub type Credentials = BTreeMap<String, Open>;

pub(super) fn apply(credentials: &mut Credentials, at: Timestamp, by: &Actor, name: &str, event: &CredentialEvent) {
    match event {
        CredentialEvent::Begun { turn } => {
            credentials.insert(name.into(), Open { turn: *turn, by: by.clone(), since: at });
        }
        CredentialEvent::Done { turn, .. } | CredentialEvent::Failed { turn, .. } => {
            if credentials.get(name).is_some_and(|open| open.turn == *turn) {
                credentials.remove(name);
            }
        }
    }
}

/// Says what an event tells.
pub(super) fn sentence(by: &Actor, name: &str, event: &CredentialEvent) -> String {
    let act = |turn: &Turn| turn.as_str();
    match event {
        CredentialEvent::Begun { turn } => format!("{by} begins {} of credential {name}", act(turn)),
        CredentialEvent::Done { turn, what } => format!("{} of credential {name} by {by}: {what}", act(turn)),
        CredentialEvent::Failed { turn, failure } => {
            format!("{} of credential {name} by {by} failed: {failure}", act(turn))
        }
    }
}
