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
            "Holds stop forward moves only; lifting one never lifts another's.",
            "anyone, with a reason",
            "hold set NAME --reason …",
        ),
        Event::Annotated { .. } => (
            "What happened to a service during an incident is found from either chain.",
            "nobody: evidence is only added to",
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
            ("Only pass moves forward; cannot-tell is never yes.", "whoever owns the gate's cause", "plan NAME")
        }
        Event::Ordered { .. } | Event::Answered { .. } => (
            "What is intended is written before it is done; an answer to an order that is void is refused.",
            "nobody; a rollback makes orders void",
            "rollback NAME",
        ),
        Event::CandidateChosen { .. } => (
            "A candidate is of the channel, strictly newer, never rejected, under a tag that has not moved.",
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
            "If last-good works on the data the candidate migrated, going back keeps every write; else the snapshot goes back.",
            "whoever releases it, by migrations that the release before can read",
            "run NAME --dry-run",
        ),
        Event::MoveBegun { .. } => (
            "Forward effects belong to this plan: candidate, last-good, instances, way back and settings.",
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
            "On the first failure every instance that moved goes back, with its data where the way back needs it.",
            "anyone who may roll back",
            "status NAME",
        ),
        Event::ReturnHeld { .. } => (
            "A restore that would drop more than the bound waits for a person: restore.rows_max, files_max, age_max.",
            "whoever owns the data",
            "rollback NAME --accept-risk lost-writes:INSTANCE",
        ),
        Event::ReturnFailed { .. } => (
            "Each step of a way back is tried three times, for 5 min where somebody has the data open; then it pages.",
            "whoever can mend the cause",
            "rollback NAME --instance INSTANCE",
        ),
        Event::Promoted { .. } | Event::Demoted { .. } => (
            "Last-good moves only after every instance that could move has passed its probes, and back with a rollback.",
            "anyone who may roll back",
            "rollback NAME",
        ),
        Event::Died { .. } | Event::Revived { .. } => (
            "A program that dies is started again after 1 s, doubled each time up to 5 min; three deaths on watch go back.",
            "whoever can mend the program",
            "rollback NAME",
        ),
        Event::NotRevived { .. } => (
            "A start after a death that the machine hinders is no death: it is tried again, later and later up to 5 min.",
            "whoever can mend the cause",
            "log NAME",
        ),
        Event::SetupAccepted { .. } => (
            "A start that is no trial takes what the release last ran well with, whatever the configuration says by then.",
            "anyone, with a reason",
            "config accept NAME --reason …",
        ),
        Event::WentOnWithout { .. } => (
            "A way back waits for nothing that it doesn't need: neither for the anchor nor for a secret of something else.",
            "whoever can mend the cause; nothing moves forward before that",
            "doctor",
        ),
        Event::OutcomesCounted { .. } => (
            "Users' outcomes decide while a release is on watch; too few are cannot-tell.",
            "whoever sets up the service, by `watch` in lastgood.toml",
            "rollback NAME",
        ),
        Event::RewindAcknowledged { .. } => (
            "A log that is not the one that was signed goes on only after a person says so by name.",
            "whoever may sign",
            "evidence verify",
        ),
        Event::Traffic(event) => traffic::rule(event),
        Event::Analysis(_) => (
            "While an analysis is owed nothing moves forward; a way back is open. Who wrote it can't accept it.",
            "whoever owes it, and somebody else who accepts it",
            "rca list",
        ),
        Event::WentStale { .. } => (
            "A gate that has refused everything for rollout.stale_after is an alarm itself.",
            "whoever releases it, or whoever owns the gate",
            "why NAME",
        ),
    };
    (rule, who, type_in(command))
}
