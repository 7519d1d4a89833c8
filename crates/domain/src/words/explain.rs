//! The rule behind each event, who can change what it led to, and how.

use super::{doing, spoken, traffic};
use crate::{
    event::{DeferReason, Event, Record},
    service::Service,
    terms::ServiceName,
};
use alloc::{format, string::String};

/// What there is to say of one event.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Explained {
    /// What happened, with its names and numbers.
    pub sentence: String,
    /// The rule behind it.
    pub rule: &'static str,
    /// Who can change what it led to.
    pub who: &'static str,
    /// What they would type.
    pub how: String,
}

/// Explains an event, given the state after it.
pub fn explain(name: &ServiceName, service: &Service, record: &Record) -> Explained {
    let (rule, who, how) = rule(name, &record.event);
    let sentence = spoken(service, record).unwrap_or_else(|| order(&record.event));
    Explained { sentence: sentence.replace('\n', " / "), rule, who, how }
}

/// Says what only people who debug want to see.
fn order(event: &Event) -> String {
    match event {
        Event::Ordered { order, effect } => format!("order {order}: {}", doing(effect)),
        Event::Answered { order, .. } => format!("order {order} is done"),
        _ => String::new(),
    }
}

/// Gives the rule, who can change it, and how. A new event without words does not compile.
fn rule(name: &ServiceName, event: &Event) -> (&'static str, &'static str, String) {
    let type_in = |command: &str| format!("lastgood {command}").replace("NAME", name.as_str());
    let (rule, who, command) = match event {
        Event::HoldSet { .. } | Event::HoldLifted { .. } => (
            "Holds stop rollouts only; lifting one leaves the others in place.",
            "anyone, with a reason",
            "hold set NAME --reason …",
        ),
        Event::HoldReviewSet { .. } | Event::HoldReviewDue { .. } => (
            "A hold never ends because nobody looked: its owner is asked until somebody lifts it.",
            "anyone, with a reason",
            "hold list NAME",
        ),
        Event::Annotated { .. } => (
            "An incident's chain and a service's chain refer to each other.",
            "nobody: evidence is append-only",
            "incident list --all",
        ),
        Event::HoldExempted { .. } => (
            "One release passes a hold when a second person agrees; it is bound to the release's bytes.",
            "two people",
            "hold check NAME",
        ),
        Event::Pinned { .. } | Event::Unpinned { .. } => {
            ("A pin is enforced even if it is older than what runs.", "anyone, with a reason", "unpin NAME --reason …")
        }
        Event::Rejected { .. } | Event::Waived { .. } => (
            "A rejected or rolled-back digest is never started again until someone waives it.",
            "anyone, with a reason",
            "waive NAME RELEASE --reason …",
        ),
        Event::RunStarted { .. } | Event::RunEnded { .. } => (
            "A run keeps the settings it began with; only a rollback may take it over.",
            "anyone who may roll back",
            "rollback NAME",
        ),
        Event::Gated { .. } => {
            ("Only a pass lets a release move; cannot-tell counts as no.", "whoever owns the gate's cause", "plan NAME")
        }
        Event::Ordered { .. } | Event::Answered { .. } => (
            "Every order is recorded before it is carried out; an answer to a void order is refused.",
            "nobody; a rollback makes orders void",
            "rollback NAME",
        ),
        Event::CandidateChosen { .. } => (
            "A candidate must come from the channel, be newer and not rejected, and its tag must not have moved.",
            "anyone, with a reason",
            "reject NAME RELEASE --reason …",
        ),
        Event::SnapshotsBegun { .. } => (
            "Every state of every instance is copied and verified first; if one fails, nothing has changed.",
            "whoever owns the data, by `state` in lastgood.toml",
            "doctor",
        ),
        Event::RehearsalBegun { .. } => (
            "The most demanding data is used: the named instance, else the largest that runs last-good.",
            "whoever sets up the service, by `rehearsal` in lastgood.toml",
            "run NAME --dry-run",
        ),
        Event::WayBackProven { .. } => (
            "If last-good works on the migrated data, a rollback keeps every write; otherwise it restores the snapshot.",
            "whoever releases it, by migrations that the release before can read",
            "run NAME --dry-run",
        ),
        Event::MoveBegun { .. } => (
            "A rollout follows this plan: candidate, last-good, instances, way back and settings.",
            "anyone, with a reason",
            "hold set NAME --reason …",
        ),
        Event::WaveBegun { .. } | Event::SoakBegun { .. } | Event::Moved { .. } => (
            "One instance goes first; a wave is watched and probed again before the next one.",
            "whoever sets up the service, by `rollout` in lastgood.toml",
            "rollback NAME",
        ),
        Event::Deferred { reason: DeferReason::Busy, .. } => {
            ("A busy instance is never stopped. The next run asks again.", "its users, by leaving it idle", "run NAME")
        }
        Event::Deferred { reason: DeferReason::CannotTell, .. } => (
            "An instance whose busy check cannot tell counts as busy. The next run asks again.",
            "whoever can mend the busy check",
            "run NAME",
        ),
        Event::Deferred { reason: DeferReason::Unrehearsed, .. } => (
            "No instance moves to a release that was not rehearsed on data like its own. The next run rehearses it.",
            "whoever runs lastgood",
            "run NAME",
        ),
        Event::Deferred { reason: DeferReason::Other, .. } => {
            ("An instance that can't move safely now is left for a later run.", "whoever runs lastgood", "run NAME")
        }
        Event::ReturnBegun { .. } | Event::ReturnWithData { .. } | Event::Returned { .. } => (
            "On the first failure every instance that moved is rolled back, with its data where needed.",
            "anyone who may roll back",
            "status NAME",
        ),
        Event::ReturnHeld { .. } => (
            "A restore that would drop more than the bound waits for a person: restore.rows_max, files_max, age_max.",
            "whoever owns the data",
            "rollback NAME --accept-risk lost-writes:INSTANCE",
        ),
        Event::ReturnFailed { .. } => (
            "Each rollback step is tried three times (for 5 min while a process has the data open), then people are paged.",
            "whoever can fix the cause",
            "rollback NAME --instance INSTANCE",
        ),
        Event::Promoted { .. } | Event::Demoted { .. } => (
            "A release becomes last-good once every instance that could move has passed its probes; a rollback undoes that.",
            "anyone who may roll back",
            "rollback NAME",
        ),
        Event::Died { .. } | Event::Revived { .. } => (
            "A crashed program is restarted after 1 s, doubled each time up to 5 min; three crashes on watch cause a rollback.",
            "whoever can fix the program",
            "rollback NAME",
        ),
        Event::NotRevived { .. } => (
            "A restart that the machine prevents is not a crash; it is retried with growing delays, up to 5 min.",
            "whoever can fix the cause",
            "log NAME",
        ),
        Event::SetupAccepted { .. } => (
            "A start that is no trial takes what the release last ran well with, whatever the configuration says by then.",
            "anyone, with a reason",
            "config accept NAME --reason …",
        ),
        Event::WentOnWithout { .. } => (
            "A rollback does not wait for anything it does not need, such as the anchor or another service's secret.",
            "whoever can fix the cause; no release moves before that",
            "doctor",
        ),
        Event::OutcomesCounted { .. } => (
            "Users' outcomes decide while a release is on watch; too few are cannot-tell.",
            "whoever sets up the service, by `watch` in lastgood.toml",
            "rollback NAME",
        ),
        Event::RewindAcknowledged { .. } => (
            "A log that differs from the signed one continues only after a person acknowledges it by name.",
            "whoever may sign",
            "evidence verify",
        ),
        Event::Traffic(event) => traffic::rule(event),
        Event::Analysis(_) => (
            "While an analysis is owed no release moves; rollbacks stay possible. Its author can't accept it.",
            "whoever owes it, and somebody else who accepts it",
            "rca list",
        ),
        Event::WentStale { .. } => (
            "If no release is accepted for rollout.stale_after, that is an alarm.",
            "whoever releases it, or whoever owns the gate",
            "why NAME",
        ),
    };
    (rule, who, type_in(command))
}
