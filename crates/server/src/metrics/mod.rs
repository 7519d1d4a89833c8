//! The page `/metrics`: every family is always there, so that a rule never waits for a first bad day.
//!
//! docs/reference/metrics.md has the same list; a test compares the two.

mod shared;

use crate::{
    snapshot::{ServiceView, Snapshot},
    text::{Kind::Counter, Kind::Gauge, Page},
};
use lastgood_domain::{
    alarm,
    notice::NoticeKind,
    operations::incident::{Incident, Level, State, checklist},
    service::Condition,
    signal::State as SignalState,
    terms::{InstanceName, ServiceName, Timestamp},
    totals::{RollbackCause, RunEnd},
};
use lastgood_engine::{config::Severity, letter::kind_name, preflight::State as CheckState};

/// Writes `/metrics` in Prometheus' text format.
pub fn metrics(snapshot: &Snapshot) -> String {
    let mut page = Page::default();
    page.family("lastgood_build_info", Gauge, "The version that answers; always 1.")
        .sample(&[("version", env!("CARGO_PKG_VERSION"))], true);
    releases(&mut page, snapshot);
    instances(&mut page, snapshot);
    runs(&mut page, snapshot);
    wrongs(&mut page, snapshot);
    shared::traffic(&mut page, snapshot);
    shared::switches(&mut page, snapshot);
    signals(&mut page, snapshot);
    incidents(&mut page, snapshot);
    people(&mut page, snapshot);
    drivers(&mut page, snapshot);
    readiness(&mut page, snapshot);
    outbox(&mut page, snapshot);
    evidence(&mut page, snapshot);
    page.finish()
}

fn releases(page: &mut Page, snapshot: &Snapshot) {
    let mut family = page.family(
        "lastgood_service_last_good_info",
        Gauge,
        "The release that every rollback goes back to; always 1, absent without one.",
    );
    for (name, view) in &snapshot.services {
        if let Some(release) = &view.state.last_good {
            let release = view.state.name_of(Some(release));
            family.sample(&[("service", name.as_str()), ("release", &release)], true);
        }
    }
    let mut family = page.family("lastgood_hold_standing", Gauge, "Holds that stand now.");
    for (name, view) in &snapshot.services {
        family.sample(&[("service", name.as_str())], view.state.standing_holds(snapshot.at).count() as u64);
    }
    let mut family = page.family("lastgood_holds", Gauge, "Holds over several services that stand now.");
    for (kind, standing) in &snapshot.wide_holds {
        family.sample(&[("kind", kind.as_str())], *standing);
    }
    let mut family = page.family(
        "lastgood_hold_unconfirmed",
        Gauge,
        "Holds over several services that an enforcer does not enforce, or enforces still, as far as anybody can tell.",
    );
    for (enforcer, holds) in &snapshot.holds_unconfirmed {
        family.sample(&[("enforcer", enforcer)], *holds);
    }
    let mut family = page.family(
        "lastgood_rejected_releases",
        Gauge,
        "Releases that are never tried again until someone waives them.",
    );
    for (name, view) in &snapshot.services {
        family.sample(&[("service", name.as_str())], view.state.rejected.len() as u64);
    }
}

fn instances(page: &mut Page, snapshot: &Snapshot) {
    let mut family =
        page.family("lastgood_instance_info", Gauge, "What each instance runs, none before its first start; always 1.");
    for (name, view, instance) in each_instance(snapshot) {
        let release = view.state.instances.get(instance).and_then(|one| one.release);
        let release = view.state.name_of(release.as_ref());
        let labels = [("service", name.as_str()), ("instance", instance.as_str()), ("release", &release)];
        family.sample(&labels, true);
    }
    let mut family = page.family(
        "lastgood_instance_settled",
        Gauge,
        "1 if no run left the instance half-way, for later, stuck or waiting for a person.",
    );
    for (name, view, instance) in each_instance(snapshot) {
        let settled = view.state.instances.get(instance).is_none_or(|one| one.condition == Condition::Settled);
        family.sample(&[("service", name.as_str()), ("instance", instance.as_str())], settled);
    }
    let mut family = page.family(
        "lastgood_instances_behind",
        Gauge,
        "Instances that run something else than last-good; 0 without one.",
    );
    for (name, view) in &snapshot.services {
        let good = view.state.last_good;
        let runs = |instance| view.state.instances.get(instance).and_then(|one| one.release);
        let behind = view.instances.iter().filter(|instance| good.is_some() && runs(instance) != good).count();
        family.sample(&[("service", name.as_str())], behind as u64);
    }
    let mut family =
        page.family("lastgood_deaths_total", Counter, "Ends of an instance's process that nobody asked for.");
    for (name, view, instance) in each_instance(snapshot) {
        let deaths = view.state.totals.deaths.get(instance).copied().unwrap_or(0);
        family.sample(&[("service", name.as_str()), ("instance", instance.as_str())], deaths);
    }
}

fn each_instance(snapshot: &Snapshot) -> impl Iterator<Item = (&ServiceName, &ServiceView, &InstanceName)> {
    let services = snapshot.services.iter();
    services.flat_map(|(name, view)| view.instances.iter().map(move |instance| (name, view, instance)))
}

fn runs(page: &mut Page, snapshot: &Snapshot) {
    let mut family = page.family("lastgood_run_under_way", Gauge, "1 while a run is under way.");
    for (name, view) in &snapshot.services {
        family.sample(&[("service", name.as_str())], view.state.run.is_some());
    }
    let mut family = page.family(
        "lastgood_last_run_end_timestamp_seconds",
        Gauge,
        "When the last run ended; absent before the first end.",
    );
    for (name, view) in &snapshot.services {
        if let Some((_, at, _)) = &view.state.last_end {
            family.sample(&[("service", name.as_str())], seconds(*at));
        }
    }
    let mut family =
        page.family("lastgood_last_run_outcome", Gauge, "1 for the way the last run ended, 0 for all others.");
    for (name, view) in &snapshot.services {
        let last = view.state.last_end.as_ref().map(|(_, _, end)| RunEnd::from(end));
        for end in RunEnd::ALL {
            family.sample(&[("service", name.as_str()), ("outcome", end.word())], last == Some(*end));
        }
    }
    let mut family = page.family("lastgood_runs_total", Counter, "Runs that ended, by their end.");
    for (name, view) in &snapshot.services {
        for end in RunEnd::ALL {
            let count = view.state.totals.runs.get(end).copied().unwrap_or(0);
            family.sample(&[("service", name.as_str()), ("end", end.word())], count);
        }
    }
    let mut family = page.family("lastgood_rollbacks_total", Counter, "Rollbacks that began, by their cause.");
    for (name, view) in &snapshot.services {
        for cause in RollbackCause::ALL {
            let count = view.state.totals.rollbacks.get(cause).copied().unwrap_or(0);
            family.sample(&[("service", name.as_str()), ("cause", cause.word())], count);
        }
    }
}

fn wrongs(page: &mut Page, snapshot: &Snapshot) {
    let mut family = page.family("lastgood_alarm", Gauge, "1 while this is wrong with the service, else 0.");
    for (name, view) in &snapshot.services {
        for kind in alarm::KINDS {
            let by_file = kind == NoticeKind::Frozen && snapshot.freeze_file;
            let stands = by_file || view.alarms.iter().any(|alarm| alarm.kind == kind);
            family.sample(&[("service", name.as_str()), ("alarm", &kind_name(kind))], stands);
        }
    }
    let mut family = page.family(
        "lastgood_behind_seconds",
        Gauge,
        "For how long the service has not accepted what its channel offers; 0 if it has.",
    );
    for (name, view) in &snapshot.services {
        let since = view.state.behind.as_ref().map(|(since, _)| *since);
        family.sample(&[("service", name.as_str())], since.map_or(0.0, |since| age(snapshot.at, since)));
    }
    let mut family = page.family(
        "lastgood_outcomes",
        Gauge,
        "Users' outcomes since the promotion, as of the last verdict; absent before the first.",
    );
    for (name, view) in &snapshot.services {
        let Some((_, outcomes)) = view.state.health else { continue };
        let all = [("good", outcomes.good), ("degraded", outcomes.degraded), ("broken", outcomes.broken)];
        for (outcome, count) in all {
            family.sample(&[("service", name.as_str()), ("outcome", outcome)], count);
        }
    }
}

fn signals(page: &mut Page, snapshot: &Snapshot) {
    let mut family = page.family(
        "lastgood_signal_state",
        Gauge,
        "1 for what the signal said when it was read last, 0 for the others; absent before the first reading.",
    );
    for (name, said) in &snapshot.signals {
        for state in SignalState::ALL {
            family.sample(&[("signal", name.as_str()), ("state", state.word())], *said == state);
        }
    }
}

fn incidents(page: &mut Page, snapshot: &Snapshot) {
    let all = &snapshot.operations.incidents;
    let is_work = |one: &&Incident| !one.state.is_over() && one.state != State::ClosedPendingRca && !one.drill;
    let mut family =
        page.family("lastgood_incidents", Gauge, "Incidents that are not over, by level; drills are counted apart.");
    for level in [Level::L1, Level::L2, Level::L3] {
        for drill in [false, true] {
            let count = all.open().filter(|(_, one)| one.level == level && one.drill == drill).count();
            let drill = if drill { "true" } else { "false" };
            family.sample(&[("level", level.as_str()), ("drill", drill)], count as u64);
        }
    }
    let is_on = all.all.values().any(|one| is_work(&one));
    page.family("lastgood_incident_mode", Gauge, "1 while an incident that is no drill holds something.")
        .sample(&[], is_on);
    let mut family = page.family(
        "lastgood_comms_next_update_timestamp_seconds",
        Gauge,
        "When the next message to people outside is due, the first of all incidents; absent without one.",
    );
    let due = all.open().filter(|(_, one)| !one.drill).filter_map(|(_, one)| one.messages.next_update_by).min();
    if let Some(due) = due {
        family.sample(&[], seconds(due));
    }
    let open = |one: &Incident| checklist::open(one, &snapshot.operations.approvals, snapshot.at).count();
    let open: usize = all.open().filter(|(_, one)| !one.drill).map(|(_, one)| open(one)).sum();
    page.family("lastgood_checklist_open", Gauge, "Items of cleanup checklists that are not closed.")
        .sample(&[], open as u64);
}

fn people(page: &mut Page, snapshot: &Snapshot) {
    let people = &snapshot.people;
    page.family("lastgood_approvals_pending", Gauge, "Requests for approval that wait for people.")
        .sample(&[], people.approvals);
    page.family("lastgood_approval_oldest_age_seconds", Gauge, "Age of the oldest one that waits; 0 if none does.")
        .sample(&[], people.oldest.map_or(0.0, |oldest| age(snapshot.at, oldest)));
    page.family("lastgood_pages_open", Gauge, "Pages that nobody has answered.").sample(&[], people.pages);
    page.family("lastgood_overrides_total", Counter, "Gates overridden by their owners.").sample(&[], people.overrides);
    let mut family = page.family("lastgood_rca_owed", Gauge, "1 while the service owes an analysis.");
    for (name, view) in &snapshot.services {
        family.sample(&[("service", name.as_str())], view.state.analysis.is_some());
    }
    let mut family = page.family("lastgood_rca_overdue", Gauge, "1 while that analysis is overdue.");
    for (name, view) in &snapshot.services {
        let overdue = view.state.analysis.as_ref().is_some_and(|owed| owed.is_overdue(snapshot.at));
        family.sample(&[("service", name.as_str())], overdue);
    }
}

fn drivers(page: &mut Page, snapshot: &Snapshot) {
    let mut family =
        page.family("lastgood_driver_alive", Gauge, "1 while the thread that looks after the service runs.");
    for (name, driver) in &snapshot.drivers {
        family.sample(&[("service", name.as_str())], driver.alive);
    }
    let mut family = page.family(
        "lastgood_driver_last_look_timestamp_seconds",
        Gauge,
        "When that thread last looked; absent before the first look.",
    );
    for (name, driver) in &snapshot.drivers {
        if let Some(at) = driver.last_look {
            family.sample(&[("service", name.as_str())], seconds(at));
        }
    }
}

fn readiness(page: &mut Page, snapshot: &Snapshot) {
    let mut family = page.family(
        "lastgood_doctor_checks",
        Gauge,
        "Checks of [preflight] by severity and state, as of the last look; absent before the first.",
    );
    for (severity, state) in Severity::ALL.into_iter().flat_map(|one| CheckState::ALL.map(|state| (one, state))) {
        if let Some(seen) = &snapshot.readiness {
            let count = seen.checks.get(&(severity, state)).copied().unwrap_or(0);
            family.sample(&[("severity", severity.word()), ("state", state.word())], count);
        }
    }
    let mut family = page.family(
        "lastgood_doctor_last_look_timestamp_seconds",
        Gauge,
        "When the checks of [preflight] were looked at last; absent before the first look.",
    );
    if let Some(seen) = &snapshot.readiness {
        family.sample(&[], seconds(seen.at));
    }
}

fn outbox(page: &mut Page, snapshot: &Snapshot) {
    let mut family = page.family("lastgood_notices_waiting", Gauge, "Notices not yet accepted by their receiver.");
    for one in &snapshot.outbox {
        family.sample(&[("endpoint", &one.endpoint)], one.waiting);
    }
    let mut family = page.family(
        "lastgood_notices_oldest_age_seconds",
        Gauge,
        "Age of the oldest notice that waits; 0 if none does.",
    );
    for one in &snapshot.outbox {
        family.sample(&[("endpoint", &one.endpoint)], one.oldest.map_or(0.0, |oldest| age(snapshot.at, oldest)));
    }
    let mut family =
        page.family("lastgood_notices_dead", Gauge, "Notices that were given up; they are kept and can be replayed.");
    for one in &snapshot.outbox {
        family.sample(&[("endpoint", &one.endpoint)], one.dead);
    }
}

fn evidence(page: &mut Page, snapshot: &Snapshot) {
    let mut family = page.family("lastgood_evidence_records", Gauge, "Records in the evidence chain.");
    for chain in &snapshot.chains {
        family.sample(&[("chain", chain.name.as_str())], chain.records);
    }
    let mut family =
        page.family("lastgood_evidence_signed_records", Gauge, "Records under the chain's last signed checkpoint.");
    for chain in &snapshot.chains {
        family.sample(&[("chain", chain.name.as_str())], chain.signed);
    }
}

fn seconds(at: Timestamp) -> f64 {
    at.0 as f64 / 1_000.0
}

fn age(now: Timestamp, since: Timestamp) -> f64 {
    now.since(since).0 as f64 / 1_000.0
}
