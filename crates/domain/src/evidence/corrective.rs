//! The corrective entry: the only way on after the store was found smaller than, or unlike, what was signed.

use super::{
    chain::Head,
    note::{Note, NoteError, NoteKey, VerifierKey},
};
use crate::terms::{Actor, Reason, Timestamp};
use alloc::{format, string::String};
use serde::{Deserialize, Serialize};

/// A record that admits a rewind in the chain it happened to. The state's fold passes over it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewindAcknowledged {
    /// Kind and version, always [`RewindAcknowledged::SCHEMA`].
    pub schema: String,
    /// Who goes on.
    pub actor: Actor,
    /// Why the store is not what was signed.
    pub reason: Reason,
    /// When it was acknowledged.
    pub at: Timestamp,
    /// The chain as it was found, which this record continues.
    pub found: Head,
    /// The checkpoint that the store no longer fits, as it was signed; none if the anchor could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abandoned: Option<String>,
    /// The statement as a note signed by the installation's key.
    pub statement: String,
}

impl RewindAcknowledged {
    /// Kind and version of the record; readers of a chain tell it from events by this.
    pub const SCHEMA: &'static str = "lastgood-rewind-acknowledged/1";

    /// Makes and signs the entry with the key under the chain's origin.
    pub fn sign(
        key: &NoteKey,
        (actor, reason, at): (Actor, Reason, Timestamp),
        found: Head,
        abandoned: Option<String>,
    ) -> Result<Self, NoteError> {
        let text = text_of(key.name(), &actor, &reason, at, &found, abandoned.as_deref());
        let statement = key.sign(&text)?;
        Ok(Self { schema: Self::SCHEMA.into(), actor, reason, at, found, abandoned, statement })
    }

    /// Gives how many records the abandoned checkpoint was signed over; none where it was not kept.
    pub fn abandoned_size(&self) -> Option<u64> {
        // The second line of a checkpoint. What the entry says of it was signed; nothing but a bound is made of it.
        self.abandoned.as_deref()?.lines().nth(1)?.parse().ok()
    }

    /// Checks that `key` signed exactly what the fields say.
    pub fn check(&self, key: &VerifierKey) -> Result<(), NoteError> {
        let note = Note::parse(&self.statement)?;
        key.verify(&note)?;
        let said = text_of(key.name(), &self.actor, &self.reason, self.at, &self.found, self.abandoned.as_deref());
        if note.text() == said { Ok(()) } else { Err(NoteError::Malformed("the statement says something else")) }
    }
}

fn text_of(
    origin: &str,
    actor: &Actor,
    reason: &Reason,
    at: Timestamp,
    found: &Head,
    abandoned: Option<&str>,
) -> String {
    use crate::terms::Digest;
    let abandoned = abandoned.map_or_else(|| "unreadable".into(), |note| format!("{}", Digest::of(note.as_bytes())));
    format!(
        "{}\n{origin}\nactor {actor}\nreason {reason}\nat {}\nfound {} {}\nabandoned {abandoned}\n",
        RewindAcknowledged::SCHEMA,
        at.0,
        found.size,
        found.link
    )
}
