//! What drivers report back: plain facts, kept in evidence, never opinions.
//!
//! Events carry these types, so a field is only ever added (with a default), never renamed or removed.

use crate::terms::{Actor, Digest, FlagKey, Release, ReleaseTag, SnapshotId, Span, Timestamp};
use alloc::{collections::BTreeMap, string::String, vec::Vec};
use serde::{Deserialize, Serialize};

/// How a channel's offer stands to a release we know, by the channel's own version order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Strictly newer.
    Newer,
    /// The same tag.
    Same,
    /// Older.
    Older,
    /// The channel has no order for these two; cannot-tell is never newer.
    Unordered,
}

/// What a channel offers now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The channel's name for the release.
    pub tag: ReleaseTag,
    /// Where it comes from, without credentials.
    pub origin: String,
    /// The channel's own identity of the bytes (an npm integrity, a wheel's hash, a commit), if it tells one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<String>,
    /// When it was published, if the channel tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<Timestamp>,
}

/// A release unpacked side by side with the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installation {
    /// What is installed.
    pub release: Release,
    /// The version the installed program itself states, checked against the tag.
    pub version: String,
    /// Absolute path of the folder.
    pub path: String,
    /// Digest over the installed tree: names, modes and contents, dependencies included.
    pub tree: Digest,
    /// Size on disk in bytes.
    pub bytes: u64,
}

/// A verified, consistent copy of one instance's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotFacts {
    /// Its id, which is also its folder's name.
    pub id: SnapshotId,
    /// When the copy was consistent.
    pub taken: Timestamp,
    /// Bytes of all files in it.
    pub bytes: u64,
    /// Number of files in it.
    pub files: u64,
    /// Rows over all tables of all SQLite files in it.
    pub rows: u64,
    /// Digest over the normalised schemas of all SQLite files; nothing else identifies a schema.
    pub schema: Digest,
    /// Digest over its manifest, which names every file's digest.
    pub manifest: Digest,
    /// How long it took.
    pub took: Span,
}

/// What a restore would drop: data written since a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Loss {
    /// Rows new, changed or gone since, on the columns that both schemas have.
    pub rows: u64,
    /// Files other than SQLite databases that are new, changed or gone since.
    pub files: u64,
}

/// A restore that put a snapshot back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreFacts {
    /// The snapshot put back.
    pub snapshot: SnapshotId,
    /// Absolute path where the abandoned data is kept; none if there was no data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aside: Option<String>,
    /// Bytes written.
    pub bytes: u64,
    /// How long it took.
    pub took: Span,
    /// Absolute paths where earlier restores of the same data, which nobody heard the end of, keep what they put aside.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<String>,
}

/// A probe whose whole handshake passed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ProbeFacts {
    /// For each step that offered alternatives: the step's name and the alternative that answered.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub used: BTreeMap<String, String>,
    /// Requests made, retries included.
    pub requests: u32,
    /// How long it took.
    pub took: Span,
}

/// Clients that were cut off on one release and came back on the other, without loss or repetition.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ResumeFacts {
    /// Messages sent through both releases.
    pub sent: u32,
    /// Of those, messages that reached every client that listened, once.
    pub delivered: u32,
    /// Messages that were sent while a client was away, and that it got when it was back.
    pub replayed: u32,
    /// How long it took.
    pub took: Span,
}

/// One leg of a rehearsal that passed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RehearsalFacts {
    /// The probe's report.
    pub probe: ProbeFacts,
    /// Schema digest of the copy after this leg.
    pub schema: Digest,
    /// Time from start to ready.
    pub ready_after: Span,
    /// The whole leg.
    pub took: Span,
    /// Disk the leg used at its end, in bytes.
    pub bytes: u64,
    /// How it was fenced from live data and the network: `namespaces`, or `paths` where the system offers none.
    pub fence: String,
}

/// What a busy check says; cannot-tell counts as busy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Busyness {
    /// Nothing runs in it, and nothing has for the quiet period.
    Idle,
    /// In use: why.
    Busy(String),
    /// The check could not answer: why.
    CannotTell(String),
}

/// Users' outcomes counted since a time, from the front door's log or a metrics query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Outcomes {
    /// Requests or sessions that went well.
    pub good: u64,
    /// Went well only by a fallback path.
    pub degraded: u64,
    /// Failed.
    pub broken: u64,
}

/// Whether an instance runs, as its runtime sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Liveness {
    /// Runs: its main process and what it runs.
    Up {
        /// Main process id.
        pid: u32,
        /// Digest of the release it was started from, if its runtime recorded one.
        release: Option<Digest>,
    },
    /// Does not run: what is known of its end.
    Down {
        /// Such as `exit status 1`, `killed`, `never started`.
        why: String,
    },
}

/// What users' outcomes say of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// Good enough.
    Good,
    /// A fallback path is used more than allowed.
    Degraded,
    /// Too many failures.
    Broken,
    /// Too few outcomes to say.
    CannotTell,
}

/// A flag that a run turned on and somebody else has turned since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptFlag {
    /// Which.
    pub flag: FlagKey,
    /// Whether it is on; it stays so.
    pub on: bool,
    /// Who turned it last.
    pub by: Actor,
}
