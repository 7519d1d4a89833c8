//! Single decisions, each with the reason it is as it is in its name.

use crate::walk::{Walk, digest, failed, instance, reason, snapshot_facts, tag};
use lastgood_domain::{
    effect::{Answer, Effect, Leg},
    event::{Aim, Cause, End, Event, Gate, Health, WayBack},
    facts::{Busyness, Outcomes},
    operations::hold::InFlight,
    rollout::Input,
    service::Condition,
    terms::{HoldId, Span},
};

pub(crate) fn start_of(effect: &Effect, name: &str, release: &str) -> bool {
    matches!(effect, Effect::Start { instance: who, release: what } if *who == instance(name) && *what == digest(release))
}

/// An instance's name, and the bytes and rows of its snapshot.
type Size = (&'static str, u64, u64);

fn rehearsed_on(walk: &mut Walk, sizes: &[Size]) -> String {
    let special = |effect: &Effect| match effect {
        Effect::Snapshot { instance: who, snapshot } => sizes
            .iter()
            .find(|(name, ..)| *who == instance(name))
            .map(|(_, bytes, rows)| Answer::Snapshotted { facts: snapshot_facts(*snapshot, *bytes, *rows) }),
        _ => None,
    };
    walk.end_with(&special);
    let begun = walk.records.iter().rev().find_map(|record| match &record.event {
        Event::RehearsalBegun { instance, .. } => Some(instance.to_string()),
        _ => None,
    });
    begun.expect("a rehearsal began")
}

#[test]
fn the_most_demanding_data_is_the_largest_then_the_fullest_then_the_first_in_order() {
    let cases: [(&[Size], &str); 3] = [
        (&[("alice", 10, 90), ("bob", 11, 1), ("carol", 9, 900)], "bob"),
        (&[("alice", 10, 90), ("bob", 10, 91), ("carol", 9, 900)], "bob"),
        (&[("alice", 10, 90), ("bob", 10, 90), ("carol", 10, 90)], "alice"),
    ];
    for (sizes, wanted) in cases {
        let mut walk = Walk::promoted(&["alice", "bob", "carol"], &["1.0"]);
        walk.track("2.0");
        assert_eq!(rehearsed_on(&mut walk, sizes), wanted);
    }
}

#[test]
fn a_named_instance_is_rehearsed_on_although_it_is_not_the_largest() {
    let mut walk = Walk::promoted(&["alice", "bob"], &["1.0"]);
    walk.settings.rehearse_on = Some(instance("bob"));
    walk.track("2.0");
    assert_eq!(rehearsed_on(&mut walk, &[("alice", 99, 99), ("bob", 1, 1)]), "bob");
}

/// Bob is busy in the first run and so is left behind.
fn one_left_behind() -> Walk {
    let mut walk = Walk::promoted(&["alice", "bob"], &["1.0"]);
    walk.track("2.0");
    let busy = |effect: &Effect| match effect {
        Effect::AskBusy { instance: who } if *who == instance("bob") => {
            Some(Answer::BusyAsked { busyness: Busyness::Busy("2 sessions".into()) })
        }
        _ => None,
    };
    assert_eq!(walk.end_with(&busy), End::Promoted);
    assert_eq!((walk.runs("alice"), walk.runs("bob")), ("2.0".into(), "1.0".into()));
    walk
}

#[test]
fn who_was_left_behind_is_rehearsed_on_its_own_data_even_if_another_is_named() {
    let mut walk = one_left_behind();
    // Alice runs the candidate already: on her data neither its migration nor its way back would be tried.
    walk.settings.rehearse_on = Some(instance("alice"));
    walk.track("2.0");
    assert_eq!(rehearsed_on(&mut walk, &[]), "bob");
    assert_eq!(walk.runs("bob"), "2.0");
}

#[test]
fn last_good_that_fails_on_who_was_left_behind_stays_last_good_for_the_others() {
    for aim in [Aim::Track, Aim::Drain] {
        let mut walk = one_left_behind();
        walk.begin(aim);
        let down = |effect: &Effect| start_of(effect, "bob", "2.0").then(failed);
        assert!(matches!(walk.end_with(&down), End::RolledBack { cause: Cause::Candidate { .. } }));
        assert_eq!(
            (walk.runs("alice"), walk.runs("bob"), walk.last_good()),
            ("2.0".into(), "1.0".into(), "2.0".into())
        );
        assert!(walk.service.rejected.is_empty());
        assert_eq!(walk.service.holds.len(), 1, "the service stops itself");
    }
}

#[test]
fn those_left_behind_follow_one_by_one_each_asked_and_probed_before_the_next() {
    let mut walk = Walk::promoted(&["alice", "bob", "carol"], &["1.0"]);
    walk.settings.wave_size = 1;
    walk.track("2.0");
    let busy = |effect: &Effect| match effect {
        Effect::AskBusy { instance: who } if *who != instance("alice") => {
            Some(Answer::BusyAsked { busyness: Busyness::CannotTell("no answer".into()) })
        }
        _ => None,
    };
    assert_eq!(walk.end_with(&busy), End::Promoted);
    assert_eq!([walk.runs("bob"), walk.runs("carol")], ["1.0", "1.0"]);
    let before = walk.records.len();
    walk.begin(Aim::Drain);
    assert_eq!(walk.end(), End::Promoted);
    let mut acts = walk.records[before..].iter().filter_map(|record| match &record.event {
        Event::Ordered { effect, .. } => match effect {
            Effect::AskBusy { instance } => Some(("ask", instance.to_string())),
            Effect::Stop { instance, .. } => Some(("stop", instance.to_string())),
            Effect::Start { instance, .. } => Some(("start", instance.to_string())),
            Effect::Probe { instance, release } if *release == digest("2.0") => Some(("probe", instance.to_string())),
            _ => None,
        },
        _ => None,
    });
    for name in ["bob", "carol"] {
        let own: Vec<_> = acts.by_ref().take_while(|(act, _)| *act != "probe").collect();
        assert_eq!(own, ["ask", "stop", "start"].map(|act| (act, name.to_owned())));
    }
    assert_eq!([walk.runs("bob"), walk.runs("carol")], ["2.0", "2.0"]);
}

#[test]
fn a_drain_moves_only_who_is_configured_and_nobody_away_from_a_pin() {
    let mut walk = one_left_behind();
    walk.settings.instances = vec![instance("alice")];
    walk.begin(Aim::Drain);
    assert_eq!(walk.end(), End::UpToDate);
    let mut walk = one_left_behind();
    walk.say(Event::Pinned { tag: tag("1.0"), reason: reason("audit") });
    walk.begin(Aim::Drain);
    assert!(matches!(walk.end(), End::Refused { gate: Gate::Pin, .. }));
    assert_eq!(walk.runs("bob"), "1.0");
}

#[test]
fn an_instance_that_is_no_longer_configured_does_not_keep_a_service_behind() {
    let mut walk = one_left_behind();
    walk.settings.instances = vec![instance("alice")];
    walk.track("2.0");
    assert_eq!(walk.end(), End::UpToDate);
}

#[test]
fn a_dry_run_that_is_refused_does_not_count_as_being_behind() {
    let mut walk = Walk::promoted(&["alice"], &["1.0"]);
    walk.newest = "2.0";
    walk.begin(Aim::DryRun);
    let special = |effect: &Effect| matches!(effect, Effect::Rehearse { leg: Leg::Candidate, .. }).then(failed);
    assert!(matches!(walk.end_with(&special), End::RehearsalFailed { .. }));
    assert_eq!(walk.service.behind, None);
    assert!(walk.service.rejected.is_empty());
}

#[test]
fn a_first_run_that_fails_rejects_nothing_for_the_checks_may_be_wrong() {
    let mut walk = Walk::new(&["alice"]);
    walk.track("1.0");
    let candidate = |effect: &Effect| matches!(effect, Effect::Rehearse { leg: Leg::Candidate, .. }).then(failed);
    assert!(matches!(walk.end_with(&candidate), End::RehearsalFailed { .. }));
    assert!(walk.service.rejected.is_empty());
    // What passed once and fails when it is started again is not the checks' fault.
    walk.track("1.0");
    let restart = |effect: &Effect| matches!(effect, Effect::Rehearse { leg: Leg::Restart, .. }).then(failed);
    assert!(matches!(walk.end_with(&restart), End::RehearsalFailed { .. }));
    assert!(walk.service.rejected.contains_key(&digest("1.0")), "{:?}", walk.service.rejected);
}

#[test]
fn a_release_that_runs_everywhere_but_was_not_promoted_keeps_its_proven_way_back() {
    let mut walk = Walk::promoted(&["alice"], &["1.0"]);
    walk.track("2.0");
    walk.until(|effect| matches!(effect, Effect::Probe { release, .. } if *release == digest("2.0")));
    walk.say(Event::HoldSet {
        hold: HoldId(0),
        reason: reason("wait"),
        until: None,
        origin: None,
        in_flight: InFlight::Pause,
    });
    let end = walk.end();
    assert!(matches!(&end, End::Held { moved, .. } if *moved == [instance("alice")]), "{end:?}");
    assert_eq!(
        lastgood_domain::words::end_words(&end),
        "held: alice has moved, the rest waits: hold h0 by person:test: wait"
    );
    walk.say(Event::HoldLifted { hold: HoldId(0), reason: reason("go on") });
    walk.track("2.0");
    assert_eq!(walk.end(), End::Promoted);
    let known = walk.service.installed.get(&digest("2.0")).and_then(|known| known.way_back);
    assert_eq!(known, Some(WayBack::CodeOnly));
}

fn broken(walk: &mut Walk) {
    let outcomes = Outcomes { good: 50, degraded: 0, broken: 50 };
    let settings = walk.settings.clone();
    walk.put(Input::Counted { outcomes, settings }).expect("a count always has a place");
}

#[test]
fn trouble_that_goes_on_after_a_rollback_does_not_take_the_service_back_further() {
    let mut walk = Walk::promoted(&["alice"], &["1.0", "2.0", "3.0"]);
    broken(&mut walk);
    assert!(matches!(walk.end(), End::RolledBack { cause: Cause::Broken { .. } }));
    assert_eq!(walk.last_good(), "2.0");
    broken(&mut walk);
    assert_eq!(walk.service.run, None);
    assert_eq!((walk.runs("alice"), walk.last_good()), ("2.0".into(), "2.0".into()));
}

#[test]
fn outcomes_are_judged_at_their_limits() {
    let cases = [
        ((8, 0, 1), Health::CannotTell),
        ((10, 0, 0), Health::Good),
        ((80, 0, 20), Health::Good),
        ((79, 0, 21), Health::Broken),
        ((50, 50, 0), Health::Good),
        ((49, 51, 0), Health::Degraded),
        ((0, 79, 21), Health::Broken),
        ((u64::MAX, u64::MAX, 0), Health::Good),
    ];
    for ((good, degraded, broken), wanted) in cases {
        let mut walk = Walk::promoted(&["alice"], &["1.0"]);
        let outcomes = Outcomes { good, degraded, broken };
        let settings = walk.settings.clone();
        walk.put(Input::Counted { outcomes, settings }).expect("a count always has a place");
        assert_eq!(walk.service.health.map(|(health, _)| health), Some(wanted), "{outcomes:?}");
    }
}

#[test]
fn a_service_that_is_behind_for_too_long_raises_one_alarm() {
    let mut walk = Walk::promoted(&["alice"], &["1.0"]);
    walk.track("2.0");
    assert!(matches!(
        walk.end_with(&|effect| matches!(effect, Effect::Install { .. }).then(failed)),
        End::Stopped { .. }
    ));
    let since = walk.service.behind.clone().expect("behind").0;
    let mut review = |at| {
        walk.now = at;
        let settings = walk.settings.clone();
        walk.put(Input::Review { settings }).expect("a review always has a place").len()
    };
    assert_eq!(review(since.after(Span(600 * 60_000 - 1))), 0);
    assert_eq!(review(since.after(Span::minutes(600))), 1);
    assert_eq!(review(since.after(Span::minutes(9_000))), 0, "told once");
    walk.track("2.0");
    assert_eq!(walk.end(), End::Promoted);
    assert!(!walk.service.stale);
    assert_eq!(walk.service.behind, None);
}

#[test]
fn a_hold_that_halts_a_run_does_not_hide_an_instance_that_could_not_be_opened_again() {
    let mut walk = Walk::promoted(&["alice"], &["1.0"]);
    walk.track("2.0");
    walk.until(|effect| matches!(effect, Effect::SnapshotStopped { .. }));
    walk.say(Event::HoldSet {
        hold: HoldId(0),
        reason: reason("wait"),
        until: None,
        origin: None,
        in_flight: InFlight::Pause,
    });
    let end = walk.end_with(&|effect| matches!(effect, Effect::Start { .. }).then(failed));
    assert_eq!(end, End::RollbackFailed { instances: vec![instance("alice")] });
}

#[test]
fn two_holds_set_from_the_same_reading_are_two_holds() {
    let mut walk = Walk::promoted(&["alice"], &["1.0"]);
    for why in ["one terminal", "another terminal"] {
        walk.say(Event::HoldSet {
            hold: HoldId(0),
            reason: reason(why),
            until: None,
            origin: None,
            in_flight: InFlight::Pause,
        });
    }
    assert_eq!(walk.service.holds.len(), 2);
}

#[test]
fn a_late_answer_changes_nothing() {
    let mut walk = Walk::promoted(&["alice"], &["1.0"]);
    walk.track("2.0");
    let order = walk.until(|effect| start_of(effect, "alice", "2.0"));
    walk.begin(walk.back(&[], &[]));
    let before = walk.service.clone();
    let late = walk.put(Input::Answer { order, answer: Answer::Started { pid: 1, setup: None, unit: Vec::new() } });
    assert_eq!(late.map_err(|error| error.to_string()), Err(format!("order {order} is not outstanding")));
    assert_eq!(walk.service, before);
}

#[test]
fn what_waits_for_a_person_is_not_called_deferred_by_a_later_run() {
    let mut walk = Walk::promoted(&["alice", "bob"], &["1.0", "2.0"]);
    walk.begin(walk.back(&["bob"], &[]));
    let stuck =
        |effect: &Effect| matches!(effect, Effect::Start { instance: who, .. } if *who == instance("bob")).then(failed);
    assert!(matches!(walk.end_with(&stuck), End::RollbackFailed { .. }));
    let holds: Vec<_> = walk.service.holds.keys().copied().collect();
    for hold in holds {
        walk.say(Event::HoldLifted { hold, reason: reason("go on") });
    }
    walk.track("3.0");
    let down =
        |effect: &Effect| matches!(effect, Effect::Probe { instance: who, .. } if *who == instance("bob")).then(failed);
    assert_eq!(walk.end_with(&down), End::Promoted);
    assert!(matches!(walk.service.instances[&instance("bob")].condition, Condition::Stuck { .. }));
}

#[test]
fn a_gate_that_cannot_be_answered_is_never_a_yes() {
    let mut walk = Walk::promoted(&["alice"], &["1.0"]);
    walk.track("2.0");
    let offer = walk.offer("2.0");
    let special = |effect: &Effect| {
        matches!(effect, Effect::Check { .. }).then(|| Answer::Offered {
            offer: offer.clone(),
            standing: Some(lastgood_domain::facts::Standing::Unordered),
            foreign: None,
        })
    };
    let end = walk.end_with(&special);
    assert!(matches!(end, End::Refused { gate: Gate::Newer, .. }), "{end:?}");
}

#[test]
fn no_id_of_an_abandoned_log_is_given_away_again() {
    let mut walk = Walk::promoted(&["alice"], &["1.0"]);
    let reason = crate::walk::reason("put back");
    walk.put(Input::Say(Event::RewindAcknowledged { reason: reason.clone(), abandoned: None }))
        .expect("it has a place");
    let next = walk.service.next.clone();
    assert!(next.order < 100 && next.snapshot < 100, "{next:?}");
    walk.put(Input::Say(Event::RewindAcknowledged { reason, abandoned: Some(500) })).expect("it has a place");
    walk.track("2.0");
    let ordered = walk.orders().first().map(|(order, _)| order.0);
    assert_eq!(ordered, Some(1_500));
    let next = &walk.service.next;
    assert!(next.run > 1_500 && next.hold >= 1_500 && next.snapshot >= 1_500, "{next:?}");
}

/// Says of these instances that the candidate can't be started there.
fn unstartable(names: &'static [&'static str]) -> impl Fn(&Effect) -> Option<Answer> {
    move |effect| match effect {
        Effect::Stop { instance } if names.contains(&instance.as_str()) => {
            Some(Answer::NotStopped { failure: crate::walk::failure("state-owner-unknown") })
        }
        _ => None,
    }
}

#[test]
fn who_could_not_be_started_is_not_stopped_and_follows_later() {
    let mut walk = Walk::promoted(&["alice", "bob"], &["1.0"]);
    walk.track("2.0");
    assert_eq!(walk.end_with(&unstartable(&["alice"])), End::Promoted);
    assert_eq!((walk.runs("alice"), walk.runs("bob")), ("1.0".into(), "2.0".into()));
    let condition = &walk.service.instances[&instance("alice")].condition;
    let said = format!("{condition:?}");
    assert!(said.contains("it can't be started on it: ") && said.contains("state-owner-unknown"), "{said}");
    walk.begin(Aim::Drain);
    assert_eq!(walk.end(), End::Promoted);
    assert_eq!(walk.runs("alice"), "2.0");
}

#[test]
fn where_nobody_could_be_started_the_run_stops_and_nothing_goes_back() {
    let mut walk = Walk::promoted(&["alice", "bob"], &["1.0"]);
    let from = walk.records.len();
    walk.track("2.0");
    let end = walk.end_with(&unstartable(&["alice", "bob"]));
    assert_eq!(end, End::Stopped { failure: crate::walk::failure("state-owner-unknown") });
    assert!(!walk.ordered_since(from).iter().any(|effect| matches!(effect, Effect::Start { .. })));
    assert!(walk.service.holds.is_empty(), "nothing is frozen");
}
