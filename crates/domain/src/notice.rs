//! Which events people hear about, and in which words.
//!
//! Notices are made from the event and the state after it, and written in the same transaction, so none is
//! sent for an event that was not written.

use crate::{
    event::{Cause, End, Event, Gate, Health, Record},
    operations::rca::{self, AnalysisEvent},
    rollout::PLAN_MOVED,
    service::Service,
    terms::ServiceName,
    traffic::TrafficEvent,
    words::{end_words, one_line},
};
use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use serde::{Deserialize, Serialize};

/// What a notice is about; endpoints choose among these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoticeKind {
    /// A release became last-good.
    Promoted,
    /// A release failed its rehearsal and is rejected.
    RehearsalFailed,
    /// The gate itself is broken; nothing was rejected.
    GateBroken,
    /// Instances went back.
    RolledBack,
    /// At least one instance could not be brought back.
    RollbackFailed,
    /// A restore waits for a person.
    RollbackHeld,
    /// The service stopped itself or a run was held.
    Frozen,
    /// A tag came with other bytes.
    TagMoved,
    /// A run failed before anything moved.
    RunFailed,
    /// No instance could move yet.
    Waiting,
    /// A fallback path is used more than allowed.
    Degraded,
    /// Users' outcomes are broken, or a release fails that nobody can go back from.
    Broken,
    /// No release was accepted for too long.
    Stale,
    /// An instance died by itself.
    Died,
    /// A kill switch was tripped.
    SwitchTripped,
    /// A kill switch was reset, or somebody asks for it.
    SwitchReset,
    /// Somebody must approve something, or could not in time.
    Approval,
    /// Somebody is needed now.
    Page,
    /// An incident was declared or went on.
    Incident,
    /// A signal began to fire.
    SignalFired,
    /// A signal could not be told for long.
    SignalSilent,
    /// A signal is well again.
    SignalCleared,
    /// Anything of a drill; only endpoints that name this kind hear of it.
    Drill,
    /// A hold is not enforced where it should be, as far as anybody can tell.
    HoldUnconfirmed,
}

/// How urgent a notice is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Good to know.
    Info,
    /// Look at it today.
    Warning,
    /// Look at it now.
    Critical,
}

/// One message to people, before it is addressed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// What it is about.
    pub kind: NoticeKind,
    /// How urgent it is.
    pub severity: Severity,
    /// One line for a pager.
    pub summary: String,
    /// What to do now, best of all a command to type.
    pub hint: String,
}

/// Makes the notice that `record` causes, given the state after it.
pub fn notice(name: &ServiceName, service: &Service, record: &Record) -> Option<Notice> {
    let make = |kind, severity, summary: String, hint: String| {
        Some(Notice { kind, severity, summary: one_line(&format!("{name}: {summary}")), hint })
    };
    let why = format!("lastgood why {name}");
    match &record.event {
        Event::Promoted { release, behind } => {
            let behind = match behind.len() {
                0 => String::new(),
                n => format!("; {n} still to move"),
            };
            let tag = service.name_of(Some(release));
            make(
                NoticeKind::Promoted,
                Severity::Info,
                format!("{tag} is last-good{behind}"),
                format!("lastgood status {name}"),
            )
        }
        Event::RunEnded { end, .. } => ended(end).and_then(|(kind, severity, summary)| {
            let hint = match kind {
                NoticeKind::RollbackHeld => format!("lastgood rollback {name}"),
                _ => why,
            };
            make(kind, severity, summary, hint)
        }),
        // A hold over several services is told of once, where it was set.
        Event::HoldSet { origin: Some(_), .. } => None,
        Event::HoldSet { hold, reason, .. } => make(
            NoticeKind::Frozen,
            Severity::Warning,
            format!("hold {hold} by {} stands: {reason}", record.by),
            format!("lastgood hold lift {name} {hold} --reason …"),
        ),
        Event::HoldReviewDue { hold, .. } => make(
            NoticeKind::Frozen,
            Severity::Warning,
            service.asked_after(*hold),
            format!("lastgood hold lift {name} {hold} --reason …"),
        ),
        Event::OutcomesCounted { outcomes, health } => {
            let text =
                format!("{} good, {} by a fallback, {} broken", outcomes.good, outcomes.degraded, outcomes.broken);
            match health {
                Health::Broken => make(NoticeKind::Broken, Severity::Critical, text, why),
                Health::Degraded => make(NoticeKind::Degraded, Severity::Warning, text, why),
                Health::Good | Health::CannotTell => None,
            }
        }
        Event::Traffic(TrafficEvent::Judged { because, .. }) => {
            service.fails_without_way_back()?;
            let tag = service.name_of(service.last_good.as_ref());
            let text = format!("{tag} fails, and nobody has proven a way back from it: {because}");
            make(NoticeKind::Broken, Severity::Critical, text, why)
        }
        Event::Traffic(TrafficEvent::Degraded { release, because, .. }) => {
            let tag = service.name_of(Some(release));
            make(NoticeKind::Degraded, Severity::Warning, format!("{tag} is degraded: {because}"), why)
        }
        Event::WentStale { because, .. } => make(
            NoticeKind::Stale,
            Severity::Critical,
            format!("no release was accepted for too long; last time: {because}"),
            why,
        ),
        Event::Analysis(event @ (AnalysisEvent::Owed { .. } | AnalysisEvent::Waived { .. })) => make(
            NoticeKind::Frozen,
            Severity::Warning,
            rca::sentence(&record.by, event),
            format!("lastgood rca list {name}"),
        ),
        Event::Died { instance, why: end, .. } => {
            make(NoticeKind::Died, Severity::Warning, format!("{instance} died: {end}"), format!("lastgood log {name}"))
        }
        // What stands in the way is said once; that it still does shows in the log and as an alarm.
        Event::NotRevived { instance, .. } if service.instances.get(instance).is_some_and(|one| one.hindered > 1) => {
            None
        }
        Event::NotRevived { instance, failure, .. } => make(
            NoticeKind::Died,
            Severity::Warning,
            format!("{instance} can't be started again: {}", failure.about(instance)),
            format!("lastgood log {name}"),
        ),
        _ => None,
    }
}

fn ended(end: &End) -> Option<(NoticeKind, Severity, String)> {
    let names =
        |list: &[crate::terms::InstanceName]| list.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    Some(match end {
        End::UpToDate | End::Rehearsed { .. } | End::Promoted | End::Superseded | End::Cooled => return None,
        End::Held { because, moved, went_back: false } if moved.is_empty() => {
            (NoticeKind::Frozen, Severity::Info, format!("the run did nothing: {because}"))
        }
        End::Held { .. } => (NoticeKind::Frozen, Severity::Info, end_words(end)),
        End::Refused { gate: Gate::Digest, because } => (NoticeKind::TagMoved, Severity::Critical, because.clone()),
        End::Refused { because, .. } => (NoticeKind::RunFailed, Severity::Info, because.clone()),
        // Whoever asked for it is told, and nothing was done.
        End::Stopped { failure } if failure.code == PLAN_MOVED => return None,
        End::Stopped { failure } => (NoticeKind::RunFailed, Severity::Warning, failure.to_string()),
        End::GateBroken { failure } => {
            (NoticeKind::GateBroken, Severity::Critical, format!("the gate is broken, nothing was rejected: {failure}"))
        }
        End::Unproven { .. } => (NoticeKind::GateBroken, Severity::Warning, end_words(end)),
        End::RehearsalFailed { failure } => {
            (NoticeKind::RehearsalFailed, Severity::Warning, format!("a release failed its rehearsal: {failure}"))
        }
        End::Waiting { because } => (NoticeKind::Waiting, Severity::Info, because.clone()),
        End::RolledBack { cause } => {
            let severity = match cause {
                Cause::Asked { .. } | Cause::Pinned { .. } | Cause::Halted { .. } => Severity::Info,
                _ => Severity::Critical,
            };
            (NoticeKind::RolledBack, severity, format!("rolled back: {}", end.because()))
        }
        End::RollbackFailed { instances } => {
            (NoticeKind::RollbackFailed, Severity::Critical, format!("could not be brought back: {}", names(instances)))
        }
        End::RollbackHeld { instances } => (
            NoticeKind::RollbackHeld,
            Severity::Critical,
            format!("a restore would lose too much on {}", names(instances)),
        ),
    })
}
