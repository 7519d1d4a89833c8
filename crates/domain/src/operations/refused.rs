//! Why something was not done; each says what to type instead.

use super::{approval, cap, escalation, hold, incident, overrule, people};
use crate::failure::Coded;
use alloc::string::String;

/// Why nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Of a hold.
    #[error(transparent)]
    Hold(#[from] hold::Refused),
    /// Of an approval.
    #[error(transparent)]
    Approval(#[from] approval::Refused),
    /// Of an incident.
    #[error(transparent)]
    Incident(#[from] incident::Refused),
    /// Of a page.
    #[error(transparent)]
    Page(#[from] escalation::Refused),
    /// Of a cap.
    #[error(transparent)]
    Cap(#[from] cap::Reached),
    /// Of an override.
    #[error(transparent)]
    Overrule(#[from] overrule::Refused),
    /// Of a person.
    #[error(transparent)]
    NotAllowed(#[from] people::NotAllowed),
}

impl Refused {
    fn inner(&self) -> &dyn Coded {
        match self {
            Self::Hold(inner) => inner,
            Self::Approval(inner) => inner,
            Self::Incident(inner) => inner,
            Self::Page(inner) => inner,
            Self::Cap(inner) => inner,
            Self::Overrule(inner) => inner,
            Self::NotAllowed(inner) => inner,
        }
    }
}

impl Coded for Refused {
    fn code(&self) -> &'static str {
        self.inner().code()
    }

    fn hint(&self) -> Option<String> {
        self.inner().hint()
    }
}
