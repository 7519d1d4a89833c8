//! What is wrong right now, as a state and not as an event: what metrics show and an Alertmanager is told.
//!
//! A notice is sent once, when something happens; an alarm stands until its cause is gone. Both use the kinds
//! of notices, so that a person who reads one finds the other.

use crate::{
    event::{End, Health},
    notice::NoticeKind,
    service::{Condition, Instance, Service, Streak},
    terms::{InstanceName, ServiceName, Timestamp},
    words::lost,
};
use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

/// Every kind of alarm, in the order screens and metrics list them.
pub const KINDS: [NoticeKind; 9] = [
    NoticeKind::Broken,
    NoticeKind::Degraded,
    NoticeKind::RolledBack,
    NoticeKind::RollbackFailed,
    NoticeKind::RollbackHeld,
    NoticeKind::Frozen,
    NoticeKind::Stale,
    NoticeKind::GateBroken,
    NoticeKind::Died,
];

/// Deaths in one streak that make a crash loop: as many as send a release on watch back.
const LOOP_DEATHS: u32 = 3;

/// Something that is wrong now.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alarm {
    /// What kind of thing; one of [`KINDS`].
    pub kind: NoticeKind,
    /// The service it concerns.
    pub service: ServiceName,
    /// Since when.
    pub since: Timestamp,
    /// One line for a pager. It does not change while the cause is the same, so that nobody is paged twice.
    pub summary: String,
}

/// Gives what is wrong with `service` at `now`: at most one alarm of each kind, in the order of [`KINDS`].
pub fn alarms(name: &ServiceName, service: &Service, now: Timestamp) -> Vec<Alarm> {
    let found = |kind| match kind {
        NoticeKind::Broken => verdict(service, Health::Broken).or_else(|| no_way_back(service)),
        NoticeKind::Degraded => verdict(service, Health::Degraded).or_else(|| by_fallback(service)),
        NoticeKind::RolledBack => rolled_back(service, now),
        NoticeKind::RollbackFailed => stuck(service),
        NoticeKind::RollbackHeld => loss_held(service),
        NoticeKind::Frozen => frozen(service, now),
        NoticeKind::Stale => stale(service),
        NoticeKind::GateBroken => gate_broken(service),
        NoticeKind::Died => died(service, now),
        // Told once, when they happen: nothing stands afterwards.
        NoticeKind::Promoted
        | NoticeKind::RehearsalFailed
        | NoticeKind::TagMoved
        | NoticeKind::RunFailed
        | NoticeKind::Waiting
        | NoticeKind::SwitchTripped
        | NoticeKind::SwitchReset
        | NoticeKind::Approval
        | NoticeKind::Incident
        | NoticeKind::Page
        | NoticeKind::SignalFired
        | NoticeKind::SignalSilent
        | NoticeKind::SignalCleared
        | NoticeKind::Drill
        | NoticeKind::HoldUnconfirmed => None,
    };
    KINDS
        .into_iter()
        .filter_map(|kind| {
            let (since, summary) = found(kind)?;
            Some(Alarm { kind, service: name.clone(), since, summary: format!("{name}: {summary}") })
        })
        .collect()
}

fn verdict(service: &Service, wanted: Health) -> Option<(Timestamp, String)> {
    let (health, outcomes) = service.health?;
    if health != wanted {
        return None;
    }
    let release = service.name_of(service.last_good.as_ref());
    let text = format!(
        "users' outcomes on {release}: {} good, {} by a fallback, {} broken",
        outcomes.good, outcomes.degraded, outcomes.broken
    );
    Some((service.health_at.or(service.promoted_at)?, text))
}

/// The numbers are left out: they change while it lasts.
fn no_way_back(service: &Service) -> Option<(Timestamp, String)> {
    let judged = service.fails_without_way_back()?;
    let release = service.name_of(service.last_good.as_ref());
    Some((judged.since, format!("{release} fails under its traffic, and nobody has proven a way back from it")))
}

/// The numbers are those with which it was found.
fn by_fallback(service: &Service) -> Option<(Timestamp, String)> {
    let degraded = service.traffic.degraded.as_ref()?;
    let release = service.name_of(Some(&degraded.release));
    Some((degraded.since, format!("{release} is degraded: {}", degraded.because)))
}

/// A later run that was held changes nothing about it: the alarm ends with the hold by which the service stopped itself.
fn rolled_back(service: &Service, now: Timestamp) -> Option<(Timestamp, String)> {
    let back = service.rolled_back.as_ref()?;
    service
        .standing_holds(now)
        .any(|(hold, _)| *hold == back.hold)
        .then(|| (back.at, format!("rolled back by itself: {}", back.because)))
}

fn stuck(service: &Service) -> Option<(Timestamp, String)> {
    let stuck = |(name, one): (&InstanceName, &Instance)| match &one.condition {
        Condition::Stuck { failure } => Some((one.stuck_since?, format!("{name}: {}", failure.about(name)))),
        _ => None,
    };
    joined(service.instances.iter().filter_map(stuck), "could not be brought back")
}

fn loss_held(service: &Service) -> Option<(Timestamp, String)> {
    let held = |(name, one): (&InstanceName, &Instance)| match &one.condition {
        Condition::LossHeld { loss } => Some((one.stuck_since?, format!("{name}: {}", lost(loss)))),
        _ => None,
    };
    joined(service.instances.iter().filter_map(held), "a restore would lose too much and waits for a person")
}

fn frozen(service: &Service, now: Timestamp) -> Option<(Timestamp, String)> {
    let holds =
        service.standing_holds(now).map(|(id, hold)| (hold.since, format!("{id} by {}: {}", hold.owner, hold.reason)));
    joined(holds, "held")
}

fn stale(service: &Service) -> Option<(Timestamp, String)> {
    let (since, because) = service.behind.as_ref()?;
    service.stale.then(|| (*since, format!("no release was accepted for too long; last time: {because}")))
}

fn gate_broken(service: &Service) -> Option<(Timestamp, String)> {
    match service.last_end.as_ref()? {
        (_, at, End::GateBroken { failure }) => {
            Some((*at, format!("the gate is broken, nothing was rejected: {failure}")))
        }
        _ => None,
    }
}

/// A crash loop, or a program that died and was not started again.
fn died(service: &Service, now: Timestamp) -> Option<(Timestamp, String)> {
    let dying = |(name, one): (&InstanceName, &Instance)| {
        let streak = one.streak?;
        let looping =
            streak.deaths >= LOOP_DEATHS && (one.again_at.is_some() || now.since(streak.last) <= Streak::GAP_MAX);
        let down = one.again_at.is_some_and(|due| now.since(due) > Streak::GAP_MAX);
        if one.hindered >= LOOP_DEATHS {
            return Some((streak.since, format!("{name} died and can't be started again")));
        }
        match (looping, down) {
            (_, true) => Some((streak.since, format!("{name} died and was not started again"))),
            (true, false) => Some((streak.since, format!("{name} dies again and again"))),
            (false, false) => None,
        }
    };
    joined(service.instances.iter().filter_map(dying), "instances die")
}

/// Makes one alarm of several causes: since the first of them, naming all up to a limit.
fn joined(causes: impl Iterator<Item = (Timestamp, String)>, what: &str) -> Option<(Timestamp, String)> {
    /// Most causes named in one line: a pager shows little more.
    const NAMED_MAX: usize = 5;
    let causes: Vec<(Timestamp, String)> = causes.collect();
    let since = causes.iter().map(|(since, _)| *since).min()?;
    let mut named: Vec<String> = causes.iter().take(NAMED_MAX).map(|(_, text)| text.to_string()).collect();
    if causes.len() > NAMED_MAX {
        named.push(format!("and {} more", causes.len() - NAMED_MAX));
    }
    Some((since, format!("{what}: {}", named.join("; "))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::{Aim, Back, Cause, Event, Record, Settings},
        facts::{Loss, Outcomes},
        failure::Failure,
        terms::{Actor, Digest, HoldId, Reason, RunId, Span},
    };
    use alloc::vec;

    const MINUTE: i64 = 60_000;

    fn name() -> ServiceName {
        ServiceName::new("web").unwrap()
    }

    fn one() -> InstanceName {
        InstanceName::new("one").unwrap()
    }

    fn failure() -> Failure {
        Failure::new("probe-failed", "GET / answered 500", None)
    }

    fn settings() -> Settings {
        Settings {
            instances: vec![one()],
            canary: None,
            rehearse_on: None,
            wave_size: 1,
            soak: Span::ZERO,
            loss_rows_max: 0,
            loss_files_max: 0,
            loss_age_max: Span::ZERO,
            watch: Span::minutes(60),
            stale_after: Span::minutes(60),
            back_when_broken: true,
            broken_percent: 5,
            degraded_percent: 20,
            outcomes_min: 10,
            traffic: None,
            policy: crate::provenance::Policy::default(),
            gates: Vec::new(),
            rca: crate::operations::rca::Rca::Off,
            expects: None,
        }
    }

    fn folded(events: impl IntoIterator<Item = (i64, Event)>) -> Service {
        let by = Actor::new("lastgood:run").unwrap();
        let record = |(minute, event)| Record { v: 1, at: Timestamp(minute * MINUTE), by: by.clone(), event };
        Service::fold(&events.into_iter().map(record).collect::<Vec<_>>())
    }

    /// Says what is wrong at a minute, as `kind since-minute`.
    fn wrong(service: &Service, minute: i64) -> Vec<(NoticeKind, i64)> {
        let all = alarms(&name(), service, Timestamp(minute * MINUTE));
        all.into_iter().map(|alarm| (alarm.kind, alarm.since.0 / MINUTE)).collect()
    }

    fn started(minute: i64, run: u64) -> (i64, Event) {
        (minute, Event::RunStarted { run: RunId(run), aim: Aim::Track, settings: settings() })
    }

    fn ended(minute: i64, run: u64, end: End) -> (i64, Event) {
        (minute, Event::RunEnded { run: RunId(run), end })
    }

    fn hold(minute: i64, hold: u64, until: Option<i64>) -> (i64, Event) {
        let until = until.map(|minute| Timestamp(minute * MINUTE));
        (
            minute,
            Event::HoldSet {
                hold: HoldId(hold),
                reason: Reason::new("an audit").unwrap(),
                until,
                origin: None,
                in_flight: crate::operations::hold::InFlight::Pause,
            },
        )
    }

    fn lifted(minute: i64, hold: u64) -> (i64, Event) {
        (minute, Event::HoldLifted { hold: HoldId(hold), reason: Reason::new("done").unwrap() })
    }

    fn died(minute: i64) -> (i64, Event) {
        let again_at = Timestamp(minute * MINUTE + 1_000);
        (minute, Event::Died { instance: one(), why: "exit status 1".into(), again_at })
    }

    fn counted(minute: i64, health: Health) -> (i64, Event) {
        (minute, Event::OutcomesCounted { outcomes: Outcomes { good: 5, degraded: 1, broken: 9 }, health })
    }

    fn returning(minute: i64) -> (i64, Event) {
        let back = Back { instance: one(), to: None, snapshot: None, with_data: false, since: None };
        let cause = Cause::Candidate { instance: one(), failure: failure() };
        (minute, Event::ReturnBegun { cause, back: vec![back], left: None })
    }

    fn by_itself() -> End {
        End::RolledBack { cause: Cause::Candidate { instance: one(), failure: failure() } }
    }

    #[test]
    fn a_service_without_history_or_with_a_good_one_has_no_alarm() {
        assert_eq!(wrong(&Service::default(), 0), []);
        assert_eq!(wrong(&folded([started(1, 0), ended(2, 0, End::UpToDate)]), 3), []);
    }

    #[test]
    fn a_bad_verdict_stands_since_it_was_first_given_until_another_one() {
        let service = folded([counted(1, Health::Good), counted(5, Health::Broken), counted(7, Health::Broken)]);
        assert_eq!(wrong(&service, 9), [(NoticeKind::Broken, 5)]);
        let service = folded([counted(5, Health::Broken), counted(8, Health::Degraded)]);
        assert_eq!(wrong(&service, 9), [(NoticeKind::Degraded, 8)]);
        let service = folded([counted(5, Health::Broken), counted(8, Health::CannotTell)]);
        assert_eq!(wrong(&service, 9), []);
    }

    #[test]
    fn a_verdict_ends_with_the_release_it_was_about() {
        let promoted = Event::Promoted { release: Digest::of(b"next"), behind: vec![] };
        assert_eq!(wrong(&folded([counted(5, Health::Broken), (6, promoted)]), 9), []);
        assert_eq!(wrong(&folded([counted(5, Health::Broken), (6, Event::Demoted { release: None })]), 9), []);
    }

    #[test]
    fn rolled_back_stands_until_its_own_hold_is_lifted_even_through_later_held_runs() {
        let mut events = vec![started(1, 0), returning(2), hold(3, 0, None), ended(3, 0, by_itself())];
        assert_eq!(wrong(&folded(events.clone()), 4), [(NoticeKind::RolledBack, 3), (NoticeKind::Frozen, 3)]);
        events.extend([
            started(60, 1),
            ended(60, 1, End::Held { because: "h0".into(), moved: Vec::new(), went_back: false }),
            hold(61, 1, None),
        ]);
        assert_eq!(wrong(&folded(events.clone()), 62), [(NoticeKind::RolledBack, 3), (NoticeKind::Frozen, 3)]);
        events.push(lifted(63, 0));
        assert_eq!(wrong(&folded(events), 64), [(NoticeKind::Frozen, 61)]);
    }

    #[test]
    fn a_rollback_that_a_person_asked_for_is_no_alarm() {
        let asked = End::RolledBack { cause: Cause::Asked { reason: "slow".into() } };
        assert_eq!(wrong(&folded([started(1, 0), returning(2), ended(3, 0, asked)]), 4), []);
        // Nor is a person's hold of before taken for the hold of a rollback that set none.
        let pinned = End::RolledBack { cause: Cause::Machine { instance: one(), failure: failure() } };
        let service = folded([hold(0, 0, None), started(1, 0), ended(3, 0, pinned)]);
        assert_eq!(wrong(&service, 4), [(NoticeKind::Frozen, 0)]);
    }

    #[test]
    fn a_stuck_instance_is_an_alarm_while_the_next_try_runs_and_until_it_is_back() {
        let failed = Event::ReturnFailed { instance: one(), failure: failure(), reopens: None };
        let end = End::RollbackFailed { instances: vec![one()] };
        let mut events = vec![started(1, 0), returning(2), (4, failed), ended(4, 0, end)];
        let service = folded(events.clone());
        assert_eq!(wrong(&service, 5), [(NoticeKind::RollbackFailed, 4)]);
        assert_eq!(
            alarms(&name(), &service, Timestamp(0))[0].summary,
            "web: could not be brought back: one: GET / answered 500 [probe-failed]"
        );
        events.push(started(6, 1));
        assert_eq!(wrong(&folded(events.clone()), 6), [(NoticeKind::RollbackFailed, 4)]);
        events.extend([returning(7), (8, Event::Returned { instance: one() })]);
        assert_eq!(wrong(&folded(events), 9), []);
    }

    #[test]
    fn a_restore_that_would_lose_too_much_waits_in_the_open() {
        let loss = Loss { rows: 12, files: 3 };
        let held = Event::ReturnHeld { instance: one(), loss, age: Span::ZERO };
        let service = folded([started(1, 0), returning(2), (4, held)]);
        assert_eq!(wrong(&service, 5), [(NoticeKind::RollbackHeld, 4)]);
        let summary = &alarms(&name(), &service, Timestamp(0))[0].summary;
        assert_eq!(summary, "web: a restore would lose too much and waits for a person: one: 12 rows and 3 files");
    }

    #[test]
    fn frozen_lasts_as_long_as_any_hold_and_begins_with_the_oldest() {
        let service = folded([hold(1, 0, Some(10)), hold(5, 1, None)]);
        assert_eq!(wrong(&service, 9), [(NoticeKind::Frozen, 1)]);
        assert_eq!(wrong(&service, 10), [(NoticeKind::Frozen, 5)]);
        assert_eq!(wrong(&folded([hold(1, 0, Some(10))]), 10), []);
    }

    #[test]
    fn stale_stands_since_the_service_is_behind_until_something_is_accepted() {
        let stopped = ended(2, 0, End::Stopped { failure: failure() });
        let stale = Event::WentStale { since: Timestamp(2 * MINUTE), because: "refused".into() };
        let mut events = vec![started(1, 0), stopped, (100, stale)];
        assert_eq!(wrong(&folded(events.clone()), 101), [(NoticeKind::Stale, 2)]);
        events.extend([started(102, 1), ended(103, 1, End::Promoted)]);
        assert_eq!(wrong(&folded(events), 104), []);
    }

    #[test]
    fn a_broken_gate_is_an_alarm_until_a_run_ends_otherwise() {
        let mut events = vec![started(1, 0), ended(2, 0, End::GateBroken { failure: failure() })];
        assert_eq!(wrong(&folded(events.clone()), 3), [(NoticeKind::GateBroken, 2)]);
        events.extend([started(4, 1), ended(5, 1, End::UpToDate)]);
        assert_eq!(wrong(&folded(events), 6), []);
    }

    #[test]
    fn three_deaths_close_together_are_a_crash_loop_and_three_in_a_day_are_not() {
        let revived = |minute| (minute, Event::Revived { instance: one() });
        let service = folded([died(1), revived(2), died(3), revived(4)]);
        assert_eq!(wrong(&service, 4), []);
        let looping = folded([died(1), revived(2), died(3), revived(4), died(5), revived(6)]);
        assert_eq!(wrong(&looping, 6), [(NoticeKind::Died, 1)]);
        assert_eq!(wrong(&looping, 20), [(NoticeKind::Died, 1)]);
        assert_eq!(wrong(&looping, 21), []);
        let rare = folded([died(0), revived(1), died(480), revived(481), died(960), revived(961)]);
        assert_eq!(wrong(&rare, 961), []);
    }

    #[test]
    fn a_program_that_died_and_is_not_started_again_is_an_alarm_even_after_one_death() {
        let service = folded([died(1)]);
        assert_eq!(wrong(&service, 2), []);
        assert_eq!(wrong(&service, 17), [(NoticeKind::Died, 1)]);
    }

    #[test]
    fn many_causes_make_one_line_of_bounded_length() {
        let service = folded((0..20).map(|id| hold(1, id, None)));
        let all = alarms(&name(), &service, Timestamp(2 * MINUTE));
        assert_eq!(all.len(), 1);
        assert!(all[0].summary.ends_with("; and 15 more"), "{}", all[0].summary);
    }
}
