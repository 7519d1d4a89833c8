//! Rollbacks with nowhere to go back to, for the service as a whole or for one instance beside others.

use crate::walk::{Walk, breaking, digest, failure, instance, reason, settings};
use lastgood_domain::{
    effect::{Answer, Effect},
    event::{Aim, End, Event},
    facts::Busyness,
    operations::hold::InFlight,
    rollout::{self, Input},
    service::Condition,
    terms::{HoldId, ReleaseTag, Span},
};

/// What a run is doing when the rollback comes.
const BEFORE_ANYTHING_MOVES: [fn(&Effect) -> bool; 5] = [
    |effect| matches!(effect, Effect::Check { .. }),
    |effect| matches!(effect, Effect::Install { .. }),
    |effect| matches!(effect, Effect::Verify { .. }),
    |effect| matches!(effect, Effect::Snapshot { .. }),
    |effect| matches!(effect, Effect::Rehearse { .. }),
];

fn touches(effect: &Effect) -> bool {
    matches!(effect, Effect::Stop { .. } | Effect::Start { .. } | Effect::Restore { .. })
}

#[test]
fn a_rollback_with_nowhere_to_go_ends_a_run_that_has_touched_nobody() {
    for wanted in BEFORE_ANYTHING_MOVES {
        let mut walk = Walk::promoted(&["alice", "bob"], &["1.0"]);
        walk.track("2.0");
        walk.until(wanted);
        let from = walk.records.len();
        walk.begin(walk.back(&[], &[]));
        assert!(matches!(walk.end(), End::RolledBack { .. }));
        assert!(!walk.ordered_since(from).iter().any(touches));
        assert_eq!(
            (walk.runs("alice"), walk.runs("bob"), walk.last_good()),
            ("1.0".into(), "1.0".into(), "1.0".into())
        );
        assert!(walk.service.rejected.is_empty() && walk.service.holds.is_empty());
        // The next run is free to try it.
        walk.track("2.0");
        assert_eq!(walk.end(), End::Promoted);
    }
}

#[test]
fn after_a_rollback_nobody_waits_who_runs_last_good() {
    let mut walk = Walk::promoted(&["alice", "bob"], &["1.0"]);
    walk.track("2.0");
    let bob = instance("bob");
    let end = walk.end_with(&|effect| match effect {
        Effect::AskBusy { instance } if *instance == bob => {
            Some(Answer::BusyAsked { busyness: Busyness::Busy("a session".into()) })
        }
        _ => None,
    });
    assert_eq!(end, End::Promoted);
    assert!(matches!(walk.service.instances[&bob].condition, Condition::Deferred { .. }), "2.0 is still to come to it");
    walk.begin(walk.back(&[], &[]));
    assert!(matches!(walk.end(), End::RolledBack { .. }));
    assert_eq!(walk.service.instances[&bob].condition, Condition::Settled);
}

#[test]
fn a_first_run_is_ended_too_and_one_asked_for_by_name_or_release_is_not() {
    let mut first = Walk::new(&["alice"]);
    first.begin(Aim::Track);
    first.until(|effect| matches!(effect, Effect::Install { .. }));
    first.begin(first.back(&[], &[]));
    assert!(matches!(first.end(), End::RolledBack { .. }));
    assert_eq!(first.runs("alice"), "none");

    let mut named = Walk::promoted(&["alice", "bob"], &["1.0"]);
    named.track("2.0");
    named.until(|effect| matches!(effect, Effect::Install { .. }));
    let (aim, settings) = (named.back(&["bob"], &[]), named.settings.clone());
    assert!(named.put(Input::Begin { aim, settings, frozen: None, preflight: None }).is_err());
    assert_eq!(named.end(), End::Promoted);
}

#[test]
fn what_came_later_than_the_others_stays_as_it_is_named_or_not() {
    for only in [&[][..], &["alice", "bob", "carol"]] {
        let mut walk = Walk::promoted(&["alice", "bob"], &["1.0", "2.0"]);
        walk.settings = settings(&["alice", "bob", "carol"]);
        walk.track("2.0");
        assert_eq!(walk.end(), End::Promoted);
        assert_eq!(walk.runs("carol"), "2.0");
        let from = walk.records.len();
        walk.begin(walk.back(only, &[]));
        assert!(matches!(walk.end(), End::RolledBack { .. }));
        assert_eq!(
            (walk.runs("alice"), walk.runs("bob"), walk.runs("carol")),
            ("1.0".into(), "1.0".into(), "2.0".into())
        );
        let carols =
            walk.ordered_since(from).into_iter().filter(|effect| effect.instance() == Some(&instance("carol")));
        assert!(!carols.into_iter().any(|effect| touches(&effect)));
        // Nothing more is to be gone back to, and nobody is stopped by asking once more.
        let (aim, settings) = (walk.back(&["carol"], &[]), walk.settings.clone());
        assert!(walk.put(Input::Begin { aim, settings, frozen: None, preflight: None }).is_err());
        assert!(walk.service.instances[&instance("carol")].release == Some(digest("2.0")));
    }
}

#[test]
fn a_move_that_is_taken_over_takes_back_the_first_starts_it_made() {
    let mut walk = Walk::new(&["alice", "bob"]);
    walk.begin(Aim::Track);
    walk.until(|effect| matches!(effect, Effect::Probe { instance: who, .. } if *who == instance("bob")));
    assert_eq!(walk.runs("alice"), "1.0");
    walk.begin(walk.back(&[], &[]));
    assert!(matches!(walk.end(), End::RolledBack { .. }));
    assert_eq!((walk.runs("alice"), walk.runs("bob")), ("none".into(), "none".into()));
}

#[test]
fn when_something_moved_last_is_remembered_whatever_ends_come_after() {
    let mut walk = Walk::promoted(&["a", "b"], &["1.0"]);
    let first = walk.service.moved_at.expect("1.0 was started");
    walk.now = walk.now.after(Span::minutes(60));
    walk.track("2.0");
    walk.end_with(&breaking);
    let moved = walk.service.moved_at.expect("it was moved to 2.0");
    assert!(moved > first);
    walk.say(Event::HoldSet {
        hold: HoldId(9),
        reason: reason("looking at it"),
        until: None,
        origin: None,
        in_flight: InFlight::Pause,
    });
    walk.now = walk.now.after(Span::minutes(60));
    walk.track("3.0");
    assert!(matches!(walk.end(), End::Held { .. }));
    assert_eq!(walk.service.moved_at, Some(moved));
}

#[test]
fn a_rollback_to_what_runs_everywhere_ends_a_run_that_has_touched_nobody() {
    for wanted in BEFORE_ANYTHING_MOVES {
        let mut walk = Walk::promoted(&["alice", "bob"], &["1.0"]);
        walk.track("2.0");
        walk.until(wanted);
        let from = walk.records.len();
        let Aim::Back { instances, accept_loss, reason, .. } = walk.back(&[], &[]) else { unreachable!() };
        let to = Some(ReleaseTag::new("1.0").unwrap());
        walk.begin(Aim::Back { to, instances, accept_loss, reason });
        assert!(matches!(walk.end(), End::RolledBack { .. }));
        assert!(!walk.ordered_since(from).iter().any(touches));
        assert_eq!((walk.runs("alice"), walk.runs("bob")), ("1.0".into(), "1.0".into()));
        assert!(walk.service.rejected.is_empty() && walk.service.holds.is_empty());
    }
    // With no run under way there is nothing to end.
    let walk = Walk::promoted(&["alice"], &["1.0"]);
    let Aim::Back { instances, accept_loss, reason, .. } = walk.back(&[], &[]) else { unreachable!() };
    let aim = Aim::Back { to: Some(ReleaseTag::new("1.0").unwrap()), instances, accept_loss, reason };
    let settings = walk.settings.clone();
    let mut walk = walk;
    assert!(walk.put(Input::Begin { aim, settings, frozen: None, preflight: None }).is_err());
}

/// Somebody has alice's data open when it is to be put back.
fn held(effect: &Effect) -> Option<Answer> {
    let is_hers = effect.instance() == Some(&instance("alice"));
    let held = || Answer::Hindered { failure: failure("restore-still-held") };
    (is_hers && matches!(effect, Effect::Restore { .. })).then(held)
}

fn moved_to_a_breaking_release() -> Walk {
    let mut walk = Walk::promoted(&["alice", "bob"], &["1.0"]);
    walk.track("2.0");
    assert_eq!(walk.end_with(&breaking), End::Promoted);
    walk
}

#[test]
fn a_restore_waits_for_whoever_has_the_data_open_and_the_others_do_not() {
    let mut walk = moved_to_a_breaking_release();
    let (from, begun) = (walk.records.len(), walk.now);
    walk.begin(walk.back(&[], &[]));
    let restores = |walk: &Walk| {
        let all = walk.ordered_since(from).into_iter();
        all.filter(|effect| matches!(effect, Effect::Restore { instance: name, .. } if *name == instance("alice")))
            .count()
    };
    while walk.now.since(begun) < Span::minutes(4) {
        assert!(walk.answer_one(&held), "nothing is awaited while somebody has the data open");
    }
    assert_eq!(walk.runs("bob"), "1.0");
    // Many more than three, and few enough that nobody notices.
    assert!((10..40).contains(&restores(&walk)), "{} tries in 4 min", restores(&walk));
    assert!(matches!(walk.end(), End::RolledBack { .. }));
    assert_eq!(walk.runs("alice"), "1.0");
}

#[test]
fn an_instance_whose_data_stays_open_elsewhere_opens_again_on_what_can_read_it_and_waits_for_a_person() {
    let mut walk = moved_to_a_breaking_release();
    let from = walk.records.len();
    walk.begin(walk.back(&[], &[]));
    let begun = walk.now;
    let end = walk.end_with(&held);
    assert_eq!(end, End::RollbackFailed { instances: vec![instance("alice")] });
    assert!(walk.now.since(begun) >= Span::minutes(5), "it gave up after {}", walk.now.since(begun));
    assert_eq!((walk.runs("alice"), walk.runs("bob")), ("2.0".into(), "1.0".into()));
    let last = walk.ordered_since(from).into_iter().rfind(|effect| effect.instance() == Some(&instance("alice")));
    assert_eq!(last, Some(Effect::Start { instance: instance("alice"), release: digest("2.0") }));
    assert!(matches!(walk.service.instances[&instance("alice")].condition, Condition::Stuck { .. }));
    // Once nobody has it open, a person's word is enough.
    walk.begin(walk.back(&[], &[]));
    assert!(matches!(walk.end(), End::RolledBack { .. }));
    assert_eq!(walk.runs("alice"), "1.0");
}

#[test]
fn a_clock_that_is_set_back_lets_no_instance_wait_for_long() {
    let mut walk = moved_to_a_breaking_release();
    walk.begin(walk.back(&[], &[]));
    let held_once = walk.until(|effect| held(effect).is_some());
    walk.put(Input::Answer { order: held_once, answer: Answer::Hindered { failure: failure("restore-still-held") } })
        .unwrap();
    walk.now = lastgood_domain::terms::Timestamp(walk.now.0 - 3_600_000);
    walk.put(Input::Tick).unwrap();
    assert!(walk.orders().iter().any(|(_, effect)| held(effect).is_some()));
    assert_eq!(rollout::wakes_at(&walk.service, walk.now), None);
}
