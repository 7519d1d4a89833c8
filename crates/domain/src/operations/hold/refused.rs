//! Why a hold was not set, lifted or opened.

use crate::{
    failure::Coded,
    terms::{IncidentId, ServiceName, WideHoldId},
};
use alloc::{format, string::String};

/// Why nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no such hold.
    #[error("there is no {hold}")]
    Unknown {
        /// Which.
        hold: WideHoldId,
    },
    /// It stops nothing.
    #[error("the hold names no kind of change to stop")]
    NoKind,
    /// Nothing would end it, and nobody would be asked after it.
    #[error("the hold has neither an end nor a review time")]
    NoReview,
    /// It belongs to an incident, whose own end lifts it.
    #[error("{hold} belongs to incident {incident}; its unfreeze lifts it")]
    OfIncident {
        /// Which.
        hold: WideHoldId,
        /// The incident.
        incident: IncidentId,
    },
    /// Nothing of the service waits for it.
    #[error("{hold} does not stop {service}")]
    NotStopped {
        /// Which.
        hold: WideHoldId,
        /// The service.
        service: ServiceName,
    },
    /// No merge waits for it.
    #[error("{hold} does not stop merges")]
    NoMerges {
        /// Which.
        hold: WideHoldId,
    },
    /// The exemption would be over before anybody could use it.
    #[error("the exemption would end before it begins")]
    Ended,
}

impl Coded for Refused {
    fn code(&self) -> &'static str {
        match self {
            Self::Unknown { .. } => "hold-unknown",
            Self::NoKind => "hold-kinds-none",
            Self::NoReview => "hold-review-none",
            Self::OfIncident { .. } => "hold-of-incident",
            Self::NotStopped { .. } | Self::NoMerges { .. } => "hold-not-in-the-way",
            Self::Ended => "hold-exemption-ended",
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unknown { .. } => "list them: lastgood hold list".into(),
            Self::NoKind => "name what it stops: --kind deploy".into(),
            Self::NoReview => "say when it ends, or when you are asked: --for 2h, or --review 7d".into(),
            Self::OfIncident { incident, .. } => format!("see what is missing: lastgood incident unfreeze {incident}"),
            Self::NotStopped { service, .. } => format!("see what does: lastgood hold check {service}"),
            Self::NoMerges { .. } => "see which does: lastgood hold list".into(),
            Self::Ended => "give it more time: --for 4h".into(),
        })
    }
}
