//! The questions asked before a step may run, and what they answer. Both are part of the log's format.

use crate::{
    effect::Answer,
    failure::{Failure, REPORT},
    terms::Span,
};
use alloc::{
    format,
    string::{String, ToString as _},
};
use serde::{Deserialize, Serialize};

/// A question asked before a step may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gate {
    /// Does a hold or a freeze file stand?
    Hold,
    /// Is it what the pin asks for?
    Pin,
    /// Is it of this channel?
    Channel,
    /// Was it rejected before?
    Rejected,
    /// Is it strictly newer than last-good?
    Newer,
    /// Are the bytes under this tag those seen before?
    Digest,
    /// Is the installed version the one asked for?
    Version,
    /// Is last-good's installation whole?
    WayBack,
    /// Does it come from where the service's policy says?
    Provenance,
    /// What does a gate of the configuration say that the service requires?
    Required,
    /// Is all that is declared to stand before a move as it must be?
    Preflight,
    /// Is an analysis owed that nobody has accepted?
    Rca,
}

impl Gate {
    /// Gives the gate of what ended as unproven before preflight could.
    pub(crate) const fn required() -> Self {
        Self::Required
    }

    /// Tells whether it is that one, which is not written.
    pub(crate) const fn is_required(&self) -> bool {
        matches!(self, Self::Required)
    }
}

/// What a gate answers. Only pass moves forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Go on.
    Pass,
    /// Never this candidate.
    Fail,
    /// Not now.
    Hold,
    /// The question has no answer; never a yes.
    CannotTell,
}

/// What a gate of the configuration said of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateFacts {
    /// What it answers for the candidate.
    pub verdict: Verdict,
    /// The numbers and names behind it.
    pub because: String,
    /// What it answers for last-good, if it was asked: it is, once it does not pass the candidate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<GateControl>,
    /// How long it took, the control included.
    pub took: Span,
}

/// What a gate said of last-good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateControl {
    /// What it answers.
    pub verdict: Verdict,
    /// The numbers and names behind it.
    pub because: String,
}

impl GateFacts {
    /// Makes what an order comes to that could not be carried out: nobody can tell.
    pub fn hindered(failure: &Failure) -> Self {
        Self { verdict: Verdict::CannotTell, because: failure.to_string(), control: None, took: Span::ZERO }
    }

    /// Makes what an order to ask a gate comes to; an answer of another kind is none.
    pub fn of(answer: &Answer) -> Self {
        match answer {
            Answer::GateAsked { facts } => facts.clone(),
            Answer::Failed { failure } | Answer::Hindered { failure } => Self::hindered(failure),
            _ => Self::hindered(&Failure::new(
                "answer-unexpected",
                "the answer to gate is of another kind",
                Some(REPORT),
            )),
        }
    }

    /// Weighs what was said of the candidate against what was said of last-good.
    ///
    /// A gate that fails what serves well today may be broken itself: that is no word about the candidate.
    pub fn weigh(&self) -> (Verdict, String) {
        let because = &self.because;
        match (self.verdict, &self.control) {
            (Verdict::Fail, Some(GateControl { verdict: Verdict::Fail, because: control })) => {
                let because =
                    format!("{because}; it fails last-good too ({control}), so the gate may be what is broken");
                (Verdict::CannotTell, because)
            }
            (Verdict::Fail, Some(GateControl { verdict: Verdict::CannotTell, because: control })) => {
                (Verdict::Fail, format!("{because}; of last-good it can't tell ({control})"))
            }
            (Verdict::CannotTell, Some(GateControl { verdict: Verdict::CannotTell | Verdict::Fail, .. })) => {
                (Verdict::CannotTell, format!("{because}; last-good does not pass it either"))
            }
            // It is for holds to hold; a gate of the configuration says yes, no, or nothing.
            (Verdict::Hold, _) => (Verdict::CannotTell, because.clone()),
            (verdict, _) => (verdict, because.clone()),
        }
    }
}
