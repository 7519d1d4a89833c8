//! The analysis that a service owes after a rollback or an incident, in the service's own chain.
//!
//! A state, never a text that is searched: while one is owed the next forward run is refused. It never stands in a way back.

use super::incident::Level;
use crate::{
    event::{Cause, End, Event},
    failure::Coded,
    service::Service,
    terms::{Actor, Digest, IncidentId, Reason, ReleaseTag, Span, Timestamp},
};
use alloc::{
    format,
    string::{String, ToString},
};
use serde::{Deserialize, Serialize};

/// Whether a rollback owes an analysis, be it automatic or by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rca {
    /// Only an incident does.
    #[default]
    Off,
    /// It does.
    Required,
}

impl Rca {
    /// Tells whether nothing is owed.
    pub fn is_off(&self) -> bool {
        *self == Self::Off
    }
}

/// Time for an analysis of a rollback, and of incidents by how deep they go: what went deeper is understood sooner.
pub const fn time_for(level: Option<Level>) -> Span {
    let days = match level {
        None | Some(Level::L1) => 7,
        Some(Level::L2) => 5,
        Some(Level::L3) => 3,
    };
    Span::minutes(days * 24 * 60)
}

/// Longest waiver: who needs longer asks a second person again.
pub const WAIVED_MAX: Span = Span::minutes(14 * 24 * 60);

/// Something that happened to the analysis that a service owes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum AnalysisEvent {
    /// It is owed.
    Owed {
        /// What it is about.
        because: String,
        /// When it should be there.
        due: Timestamp,
        /// The incident, if there was one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        incident: Option<IncidentId>,
        /// Who owes it; without anybody it is whoever takes it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        owner: Option<Actor>,
    },
    /// It is there, and somebody else must accept it.
    Submitted {
        /// The document's digest; it lies in the state folder.
        document: Digest,
    },
    /// It is accepted: nothing is owed.
    Accepted {
        /// The document that was read.
        document: Digest,
    },
    /// Runs may go on without it for a time.
    Waived {
        /// Why.
        reason: Reason,
        /// Until when.
        until: Timestamp,
        /// The only release that may: a hotfix. `None` is any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        release: Option<ReleaseTag>,
    },
}

/// An analysis that was handed in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submitted {
    /// Its digest.
    pub document: Digest,
    /// By whom.
    pub by: Actor,
    /// When.
    pub at: Timestamp,
}

/// Leave to go on without one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiver {
    /// By whom.
    pub by: Actor,
    /// Why.
    pub reason: Reason,
    /// Until when.
    pub until: Timestamp,
    /// For which release only.
    pub release: Option<ReleaseTag>,
}

/// The analysis that a service owes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owed {
    /// Since when: of what happened first, if more happened since.
    pub since: Timestamp,
    /// When what it is about happened: the last of it.
    pub last: Timestamp,
    /// What it is about.
    pub because: String,
    /// When it should be there.
    pub due: Timestamp,
    /// The incident, if there was one.
    pub incident: Option<IncidentId>,
    /// Who owes it.
    pub owner: Option<Actor>,
    /// What was handed in and waits for somebody else.
    pub submitted: Option<Submitted>,
    /// Leave to go on without it.
    pub waiver: Option<Waiver>,
}

impl Owed {
    /// Says why `tag` may not be moved forward to at `now`; `None` if a waiver stands.
    pub fn blocks(&self, tag: &ReleaseTag, now: Timestamp) -> Option<String> {
        let lets = |waiver: &Waiver| now < waiver.until && waiver.release.as_ref().is_none_or(|only| only == tag);
        if self.waiver.as_ref().is_some_and(lets) {
            return None;
        }
        let who = match (&self.submitted, &self.owner) {
            (Some(submitted), _) => format!("handed in by {}, and nobody else has accepted it yet", submitted.by),
            (None, Some(owner)) => format!("{owner} owes it"),
            (None, None) => "nobody has handed one in".to_string(),
        };
        Some(format!("an analysis is owed for {}, of: {}; {who}", now.since(self.since), self.because))
    }

    /// Tells whether it stands in the way of every release at `now`.
    pub fn blocks_all(&self, now: Timestamp) -> bool {
        self.waiver.as_ref().is_none_or(|waiver| now >= waiver.until)
    }

    /// Tells whether it should be there by now.
    pub fn is_overdue(&self, now: Timestamp) -> bool {
        now >= self.due
    }
}

/// Folds what happened.
pub fn apply(owed: &mut Option<Owed>, at: Timestamp, by: &Actor, event: &AnalysisEvent) {
    match event {
        AnalysisEvent::Owed { because, due, incident, owner } => {
            let before = owed.take();
            let since = before.as_ref().map_or(at, |before| before.since);
            let soonest = before.as_ref().map_or(*due, |before| before.due.min(*due));
            let (of, owes) = before.map_or((None, None), |before| (before.incident, before.owner));
            *owed = Some(Owed {
                since,
                last: at,
                because: because.clone(),
                due: soonest,
                // A rollback unties nothing that an incident owes.
                incident: incident.or(of),
                owner: owner.clone().or(owes),
                // What was written and waived before this happened says nothing of it.
                submitted: None,
                waiver: None,
            });
        }
        AnalysisEvent::Submitted { document } => {
            if let Some(owed) = owed {
                owed.submitted = Some(Submitted { document: *document, by: by.clone(), at });
            }
        }
        AnalysisEvent::Accepted { document } => {
            let read = |owed: &Owed| owed.submitted.as_ref().is_some_and(|one| one.document == *document);
            if owed.as_ref().is_some_and(read) {
                *owed = None;
            }
        }
        AnalysisEvent::Waived { reason, until, release } => {
            if let Some(owed) = owed {
                let (by, reason, release) = (by.clone(), reason.clone(), release.clone());
                owed.waiver = Some(Waiver { by, reason, until: *until, release });
            }
        }
    }
}

/// Gives what a service owes from now on, after an incident or because a person says so.
pub fn owe(
    because: String,
    level: Option<Level>,
    incident: Option<IncidentId>,
    owner: Option<Actor>,
    now: Timestamp,
) -> Event {
    Event::Analysis(AnalysisEvent::Owed { because, due: now.after(time_for(level)), incident, owner })
}

/// Gives what a run's end makes the service owe: a rollback does, also one that a person asked for, who knew why. A pin is
/// asked for with its reason, and a hold that stops a move in its middle found nothing wrong with the release.
pub(crate) fn owed_for(end: &End, rca: Rca, now: Timestamp) -> Option<Event> {
    let End::RolledBack { cause } = end else { return None };
    let is_no_fault = matches!(cause, Cause::Pinned { .. } | Cause::Halted { .. });
    (rca == Rca::Required && !is_no_fault)
        .then(|| owe(format!("rolled back: {}", end.because()), None, None, None, now))
}

/// Why an analysis was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// None is owed.
    #[error("no analysis is owed")]
    NotOwed,
    /// None was handed in.
    #[error("no analysis was submitted yet")]
    NotSubmitted,
    /// Who wrote it can't accept it.
    #[error("{by} submitted it and can't accept it")]
    Own {
        /// Who.
        by: Actor,
    },
    /// What is owed is another one than what was agreed to.
    #[error("another analysis is owed by now, of: {because}")]
    Another {
        /// What it is about.
        because: String,
    },
    /// For too long.
    #[error("an analysis is waived for at most 14 d, not {asked}")]
    TooLong {
        /// What was asked.
        asked: Span,
    },
}

impl Coded for Refused {
    fn code(&self) -> &'static str {
        match self {
            Self::NotOwed => "rca-not-owed",
            Self::NotSubmitted => "rca-not-submitted",
            Self::Own { .. } => "rca-own",
            Self::Another { .. } => "rca-another",
            Self::TooLong { .. } => "rca-waiver-too-long",
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NotOwed => "see what is owed: lastgood rca list".into(),
            Self::NotSubmitted => "hand one in: lastgood rca submit SERVICE --file analysis.md".into(),
            Self::Own { .. } => "have another person run: lastgood rca accept SERVICE".into(),
            Self::Another { .. } => "look at it, and ask again: lastgood rca waive SERVICE --reason …".into(),
            Self::TooLong { .. } => "say a shorter time: --for 7d".into(),
        })
    }
}

/// Hands an analysis in.
///
/// Errors: [`Refused::NotOwed`].
pub fn submit(service: &Service, document: Digest) -> Result<Event, Refused> {
    match &service.analysis {
        Some(_) => Ok(Event::Analysis(AnalysisEvent::Submitted { document })),
        None => Err(Refused::NotOwed),
    }
}

/// Accepts the analysis that was handed in by somebody else.
///
/// Errors: none is owed or handed in; one's own.
pub fn accept(service: &Service, by: &Actor) -> Result<Event, Refused> {
    let owed = service.analysis.as_ref().ok_or(Refused::NotOwed)?;
    let submitted = owed.submitted.as_ref().ok_or(Refused::NotSubmitted)?;
    match submitted.by == *by {
        true => Err(Refused::Own { by: by.clone() }),
        false => Ok(Event::Analysis(AnalysisEvent::Accepted { document: submitted.document })),
    }
}

/// Lets runs go on without it for a time. That a second person agreed is asked before, to `agreed`.
///
/// Errors: none is owed, or another by now; longer than [`WAIVED_MAX`].
pub fn waive(
    service: &Service,
    agreed: &Owed,
    reason: Reason,
    span: Span,
    release: Option<ReleaseTag>,
    now: Timestamp,
) -> Result<Event, Refused> {
    let owed = service.analysis.as_ref().ok_or(Refused::NotOwed)?;
    if (owed.last, &owed.because) != (agreed.last, &agreed.because) {
        return Err(Refused::Another { because: owed.because.clone() });
    }
    match span <= WAIVED_MAX {
        true => Ok(Event::Analysis(AnalysisEvent::Waived { reason, until: now.after(span), release })),
        false => Err(Refused::TooLong { asked: span }),
    }
}

/// Says what an event tells.
pub fn sentence(by: &Actor, event: &AnalysisEvent) -> String {
    match event {
        AnalysisEvent::Owed { because, .. } => format!("an analysis is owed, of: {because}"),
        AnalysisEvent::Submitted { document } => format!("{by} hands in the analysis {}", document.short()),
        AnalysisEvent::Accepted { document } => format!("{by} accepts the analysis {}", document.short()),
        AnalysisEvent::Waived { reason, release, .. } => {
            let only = release.as_ref().map_or_else(String::new, |tag| format!(" for {tag} only"));
            format!("{by} goes on without the analysis{only} for a time: {reason}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollback_after_an_incident_unties_nothing_that_the_incident_owes() {
        let (mut owed, by) = (None, Actor::new("person:alice").unwrap());
        let mut say = |event: &AnalysisEvent, at: i64| {
            apply(&mut owed, Timestamp(at), &by, event);
            owed.clone().map(|owed| (owed.incident, owed.owner, owed.last))
        };
        let of = |incident: Option<IncidentId>, owner: Option<&Actor>| AnalysisEvent::Owed {
            because: "totals are wrong".into(),
            due: Timestamp(100),
            incident,
            owner: owner.cloned(),
        };
        say(&of(Some(IncidentId(3)), Some(&by)), 1);
        let after = say(&of(None, None), 2).unwrap();
        assert_eq!(after, (Some(IncidentId(3)), Some(by.clone()), Timestamp(2)));
        let bob = Actor::new("person:bob").unwrap();
        let after = say(&of(Some(IncidentId(4)), Some(&bob)), 3).unwrap();
        assert_eq!(after, (Some(IncidentId(4)), Some(bob), Timestamp(3)), "another incident owes its own");
    }
}
