//! Why a plan was not made or run; each says what to type instead.

use super::STEPS_MAX;
use crate::{failure::Coded, terms::IncidentId};
use alloc::{format, string::String};

/// Why a plan was not made or run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is none.
    #[error("incident {incident} has no plan for its level")]
    NoPlan {
        /// Which.
        incident: IncidentId,
    },
    /// Nothing would be done.
    #[error("there is nothing to do for incident {incident}")]
    Empty {
        /// Which.
        incident: IncidentId,
    },
    /// More than a person can read.
    #[error("the plan has {steps} steps; the limit is {STEPS_MAX}")]
    TooLong {
        /// How many.
        steps: usize,
    },
    /// What was seen is another plan.
    #[error("the plan of incident {incident} is {is}, not {seen}")]
    OtherPlan {
        /// Which.
        incident: IncidentId,
        /// The plan there is.
        is: String,
        /// The one that was named.
        seen: String,
    },
    /// The configuration of a step is not the one that was planned.
    #[error("the configuration of step {step} changed after the plan was made")]
    Stale {
        /// The incident.
        incident: IncidentId,
        /// Which.
        step: String,
    },
    /// People must say yes first.
    #[error("the plan {plan} of incident {incident} is not approved")]
    NotApproved {
        /// Which.
        incident: IncidentId,
        /// The plan.
        plan: String,
    },
    /// There is no such step.
    #[error("the plan of incident {incident} has no step {step}")]
    UnknownStep {
        /// The incident.
        incident: IncidentId,
        /// The name.
        step: String,
    },
    /// A step that should prove something, which one person's word does not do.
    #[error("step {step} has to prove something: to go on without it needs a second person")]
    Proof {
        /// The incident.
        incident: IncidentId,
        /// Which.
        step: String,
    },
    /// A step that needs no word of a person.
    #[error("step {step} is not stuck")]
    NotStuck {
        /// The incident.
        incident: IncidentId,
        /// Which.
        step: String,
    },
}

impl Coded for Refused {
    fn code(&self) -> &'static str {
        match self {
            Self::NoPlan { .. } => "incident-plan-none",
            Self::Empty { .. } => "incident-plan-empty",
            Self::TooLong { .. } => "incident-plan-long",
            Self::OtherPlan { .. } => "incident-plan-other",
            Self::Stale { .. } => "incident-plan-stale",
            Self::NotApproved { .. } => "incident-plan-not-approved",
            Self::UnknownStep { .. } => "incident-step-unknown",
            Self::NotStuck { .. } => "incident-step-not-stuck",
            Self::Proof { .. } => "incident-step-proof",
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoPlan { incident } | Self::Stale { incident, .. } => {
                format!("make one: lastgood incident plan {incident}")
            }
            Self::Empty { .. } => {
                "name a release to go back to: --to SERVICE=RELEASE, or what people do: --by-hand TEXT".into()
            }
            Self::TooLong { .. } => "declare an incident for fewer services".into(),
            Self::OtherPlan { incident, .. } => format!("look at it again: lastgood incident show {incident}"),
            Self::NotApproved { .. } => "see who is awaited: lastgood approval list".into(),
            Self::Proof { incident, step } => {
                format!("say for how long: lastgood incident step {incident} {step} --done --for 2d --reason …")
            }
            Self::UnknownStep { incident, .. } | Self::NotStuck { incident, .. } => {
                format!("see how far it is: lastgood incident show {incident}")
            }
        })
    }
}
