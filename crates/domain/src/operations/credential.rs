//! Credentials that somebody revokes and replaces by hand: what began, and what it came to. What an incident's plan does to
//! them stands in the incident.
//!
//! What began and did not end was killed in its middle: it is repeated, which is the same as doing it once.

use super::incident::plan::Turn;
use crate::{
    failure::Failure,
    terms::{Actor, Timestamp},
};
use alloc::{collections::BTreeMap, format, string::String, vec::Vec};
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

/// The acts that began and have not ended, by credential, at most one of each kind.
pub type Credentials = BTreeMap<String, Vec<Open>>;

pub(super) fn apply(credentials: &mut Credentials, at: Timestamp, by: &Actor, name: &str, event: &CredentialEvent) {
    let (CredentialEvent::Begun { turn } | CredentialEvent::Done { turn, .. } | CredentialEvent::Failed { turn, .. }) =
        event;
    let open = credentials.entry(name.into()).or_default();
    // Consumers that work with the new secret show that it was put in place.
    let proves_rotation = matches!(event, CredentialEvent::Done { turn: Turn::ProveConsumers, .. });
    open.retain(|one| one.turn != *turn && !(proves_rotation && one.turn == Turn::Rotate));
    if let CredentialEvent::Begun { turn } = event {
        open.push(Open { turn: *turn, by: by.clone(), since: at });
    }
    if open.is_empty() {
        credentials.remove(name);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_act_that_began_stays_open_until_that_act_ends() {
        let (mut all, by) = (Credentials::new(), Actor::new("person:sam").unwrap());
        let mut say = |event| {
            apply(&mut all, Timestamp(0), &by, "token", &event);
            all.get("token").into_iter().flatten().map(|one| one.turn).collect::<Vec<_>>()
        };
        let done = |turn| CredentialEvent::Done { turn, what: "done".into() };
        say(CredentialEvent::Begun { turn: Turn::Revoke });
        assert_eq!(say(CredentialEvent::Begun { turn: Turn::Rotate }), [Turn::Revoke, Turn::Rotate]);
        assert_eq!(say(CredentialEvent::Begun { turn: Turn::Revoke }), [Turn::Rotate, Turn::Revoke]);
        assert_eq!(say(done(Turn::ProveRefused)), [Turn::Rotate, Turn::Revoke]);
        assert_eq!(say(done(Turn::ProveConsumers)), [Turn::Revoke], "no proof says that something was revoked");
        assert_eq!(say(done(Turn::Revoke)), []);
    }
}
