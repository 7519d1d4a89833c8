//! Why an enforcer could not be asked, or refused.

use lastgood_domain::failure::Coded;

/// Tells why nobody knows whether a hold is enforced.
#[derive(Debug, thiserror::Error)]
pub enum EnforcerError {
    /// A secret it needs has no value.
    #[error("enforcer {enforcer} needs the secret {secret}, which does not exist")]
    SecretMissing {
        /// The enforcer.
        enforcer: String,
        /// The secret's name.
        secret: String,
    },
    /// The repository or its hook can't be used.
    #[error("{what}")]
    Repository {
        /// What, and why.
        what: String,
    },
    /// A program did not do it.
    #[error("{what}")]
    Program {
        /// Which, and what it said.
        what: String,
    },
    /// The forge did not do it.
    #[error("{what}")]
    Forge {
        /// What was asked, and what it answered.
        what: String,
    },
}

impl EnforcerError {
    pub(super) fn repository(what: impl Into<String>) -> Self {
        Self::Repository { what: what.into() }
    }

    pub(super) fn program(what: impl Into<String>) -> Self {
        Self::Program { what: what.into() }
    }

    pub(super) fn forge(what: impl Into<String>) -> Self {
        Self::Forge { what: what.into() }
    }
}

impl Coded for EnforcerError {
    fn code(&self) -> &'static str {
        match self {
            Self::SecretMissing { .. } => "enforcer-secret-missing",
            Self::Repository { .. } => "enforcer-repository",
            Self::Program { .. } => "enforcer-program",
            Self::Forge { .. } => "enforcer-forge",
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::SecretMissing { secret, .. } => {
                format!("write it: [secret.{secret}] with file = \"/etc/lastgood/{secret}\"")
            }
            Self::Repository { .. } | Self::Program { .. } | Self::Forge { .. } => {
                "mend it, then: lastgood hold sync".into()
            }
        })
    }
}
