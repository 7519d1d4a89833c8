//! Why an act on a credential failed; never with a secret.

use crate::probe::SecretError;
use lastgood_domain::failure::Coded;
use std::{io, path::PathBuf};

/// Tells why an act on a credential failed.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The old one was tried, and let in.
    #[error("the old secret of {name} is still accepted, {how}")]
    StillAccepted {
        /// The credential.
        name: String,
        /// Where it was tried.
        how: String,
    },
    /// The new one was tried, and not let in.
    #[error("the new secret of {name} is refused, {how}")]
    NewRefused {
        /// The credential.
        name: String,
        /// Where it was tried.
        how: String,
    },
    /// Nobody could tell.
    #[error("nobody can tell whether the secret of {name} is accepted: {why}")]
    CannotTell {
        /// The credential.
        name: String,
        /// What came instead.
        why: String,
    },
    /// A command or a server failed at an act.
    #[error("{act} of {name} failed: {why}")]
    ActFailed {
        /// The credential.
        name: String,
        /// Such as `revoke`.
        act: &'static str,
        /// What it said.
        why: String,
    },
    /// Somebody else acts on it.
    #[error("somebody else acts on {name} just now")]
    Busy {
        /// The credential.
        name: String,
    },
    /// It is in use.
    #[error("{name} is not revoked")]
    NotRevoked {
        /// The credential.
        name: String,
    },
    /// It has no new secret yet.
    #[error("{name} is revoked and not rotated")]
    NotRotated {
        /// The credential.
        name: String,
    },
    /// Its secret can't be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A file can't be read or written.
    #[error("{name}: {} can't be {act}", path.display())]
    File {
        /// The credential.
        name: String,
        /// Such as `written`.
        act: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl CredentialError {
    /// Tells whether the answer is that nobody knows.
    pub const fn cannot_tell(&self) -> bool {
        matches!(self, Self::CannotTell { .. })
    }
}

impl Coded for CredentialError {
    fn code(&self) -> &'static str {
        match self {
            Self::StillAccepted { .. } => "credential-still-accepted",
            Self::NewRefused { .. } => "credential-new-refused",
            Self::CannotTell { .. } => "credential-cannot-tell",
            Self::ActFailed { .. } => "credential-act-failed",
            Self::Busy { .. } => "credential-busy",
            Self::NotRevoked { .. } => "credential-not-revoked",
            Self::NotRotated { .. } => "credential-not-rotated",
            Self::Secret(inner) => inner.code(),
            Self::File { .. } => "credential-file",
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::StillAccepted { .. } => {
                "find who lets it in: trust or peer in pg_hba.conf, a cache, a second server".into()
            }
            Self::NewRefused { name, .. } => format!("set it again: lastgood credential rotate {name}"),
            Self::CannotTell { name, .. } => {
                format!("see what stands in the way and type: lastgood credential prove {name}")
            }
            Self::ActFailed { .. } => "remove what it says and type the same again; it may be repeated".into(),
            Self::Busy { .. } => "wait for its end and type the same again; it may be repeated".into(),
            Self::NotRevoked { name } => format!("first: lastgood credential revoke {name}"),
            Self::NotRotated { name } => format!("first: lastgood credential rotate {name}"),
            Self::Secret(inner) => return inner.hint(),
            Self::File { path, .. } => format!("look at it as the user lastgood runs as: ls -l {}", path.display()),
        })
    }
}
