//! How the gate fails: which part, and which messages are missing, came twice or out of order.

use lastgood_domain::{failure::Coded, terms::Span};
use std::fmt;

/// Most ids that are named: enough to look for in a log.
const NAMED_MAX: usize = 5;

/// A part of the gate, in the order in which they are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ResumePart {
    /// What last-good does alone; if it fails, nothing is known of the candidate.
    LastGood,
    /// The candidate accepts a WebSocket.
    Handshake,
    /// A client of last-good comes back to the candidate.
    Forward,
    /// A client of the candidate comes back to last-good.
    Backward,
    /// Several clients on both, moved again and again.
    Conservation,
}

impl fmt::Display for ResumePart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LastGood => "last-good alone, so nothing is known of the candidate",
            Self::Handshake => "handshake with the candidate",
            Self::Forward => "forward resume (from last-good to the candidate)",
            Self::Backward => "backward resume (from the candidate to last-good)",
            Self::Conservation => "conservation (several clients, moved between last-good and the candidate)",
        })
    }
}

/// Tells why the gate failed; without secrets and captured values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{part}: {}", said(self))]
pub struct ResumeFailure {
    /// The part that failed.
    pub part: ResumePart,
    /// How many messages a client had to get.
    pub expected: usize,
    /// How long it was waited for them.
    pub waited: Span,
    /// Ids that did not come, in order.
    pub missing: Vec<String>,
    /// Ids that came more than once.
    pub doubled: Vec<String>,
    /// Ids that came behind a later one of the same sender.
    pub disordered: Vec<String>,
    /// What else went wrong, such as a connection that was refused.
    pub trouble: Option<String>,
    /// The last thing the service said that was no delivery, where messages are missing.
    pub besides: Option<String>,
}

impl ResumeFailure {
    /// Makes the failure of a part that could not be done at all.
    pub(super) fn trouble(part: ResumePart, words: String) -> Self {
        Self {
            part,
            expected: 0,
            waited: Span::default(),
            missing: Vec::new(),
            doubled: Vec::new(),
            disordered: Vec::new(),
            trouble: Some(words),
            besides: None,
        }
    }
}

fn said(failure: &ResumeFailure) -> String {
    let mut parts: Vec<String> = failure.trouble.iter().cloned().collect();
    let mut list = |what: String, ids: &[String]| {
        if !ids.is_empty() {
            let named = ids.iter().take(NAMED_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
            let more = ids.len().saturating_sub(NAMED_MAX);
            let more = if more > 0 { format!(", … ({more} more)") } else { String::new() };
            parts.push(format!("{what}: {named}{more}"));
        }
    };
    list(
        format!("missing {} of {} within {}", failure.missing.len(), failure.expected, failure.waited),
        &failure.missing,
    );
    list(format!("doubled {}", failure.doubled.len()), &failure.doubled);
    list(format!("out of order {}", failure.disordered.len()), &failure.disordered);
    if let Some(besides) = &failure.besides {
        parts.push(format!("besides, the service said {besides}"));
    }
    parts.join("; ")
}

impl Coded for ResumeFailure {
    fn code(&self) -> &'static str {
        match self.part {
            ResumePart::LastGood => "resume-cannot-tell",
            ResumePart::Handshake => "resume-handshake",
            ResumePart::Forward => "resume-forward",
            ResumePart::Backward => "resume-backward",
            ResumePart::Conservation => "resume-conservation",
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self.part {
            ResumePart::LastGood => {
                "correct [service.NAME.traffic.resume] until it passes with last-good; more: lastgood explain resume-cannot-tell"
                    .into()
            }
            ResumePart::Handshake => "look at the candidate's log for the refused upgrade".into(),
            ResumePart::Forward | ResumePart::Backward | ResumePart::Conservation => {
                "look for the ids in the logs of both releases".into()
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_its_part_and_names_the_first_messages() {
        let ids = |count: u32| (1..=count).map(|number| format!("r-1-{number}")).collect::<Vec<_>>();
        let failure = ResumeFailure {
            expected: 36,
            waited: Span::seconds(5),
            missing: ids(7),
            doubled: ids(1),
            disordered: ids(2),
            trouble: None,
            besides: Some("\"no\"".into()),
            ..ResumeFailure::trouble(ResumePart::Forward, String::new())
        };
        assert_eq!(
            failure.to_string(),
            "forward resume (from last-good to the candidate): missing 7 of 36 within 5.0 s: r-1-1, r-1-2, r-1-3, r-1-4, \
             r-1-5, … (2 more); doubled 1: r-1-1; out of order 2: r-1-1, r-1-2; besides, the service said \"no\""
        );
    }
}
