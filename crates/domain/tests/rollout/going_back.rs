//! How far a rollback goes back, with whose data, and what it leaves alone.

use crate::deciding::start_of;
use crate::walk::{Walk, breaking, digest, failed, hindered, instance, tag};
use lastgood_domain::{
    effect::{Answer, Effect},
    event::{Aim, End},
    facts::Loss,
    rollout::Input,
    service::Condition,
    terms::Span,
};

#[test]
fn a_restore_within_the_bound_is_done_and_one_beyond_it_waits_for_a_person() {
    let cases = [
        (Some(Loss { rows: 100, files: 10 }), 60, true),
        (Some(Loss { rows: 101, files: 0 }), 0, false),
        (Some(Loss { rows: 0, files: 11 }), 0, false),
        (Some(Loss { rows: 1, files: 0 }), 61, false),
        // Nothing is lost, so it does not matter how old it is.
        (Some(Loss::default()), 6_000, true),
        // It can't be measured: judged by its age alone.
        (None, 59, true),
        (None, 61, false),
    ];
    for (loss, minutes, restores) in cases {
        let mut walk = Walk::promoted(&["alice"], &["1.0"]);
        walk.track("2.0");
        walk.end_with(&breaking);
        let moved_at = walk.service.instances[&instance("alice")].history.last().expect("moved").at;
        walk.begin(walk.back(&[], &[]));
        let order = walk.until(|effect| matches!(effect, Effect::Measure { .. }));
        walk.now = moved_at.after(Span::minutes(minutes));
        let answer = loss.map_or_else(hindered, |loss| Answer::Measured { loss });
        walk.put(Input::Answer { order, answer }).expect("outstanding");
        let end = walk.end();
        let what = format!("{loss:?} after {minutes} min: {end:?}");
        assert_eq!(matches!(end, End::RolledBack { .. }), restores, "{what}");
        assert_eq!(matches!(end, End::RollbackHeld { .. }), !restores, "{what}");
        assert_eq!(walk.runs("alice"), if restores { "1.0" } else { "2.0" }, "{what}");
    }
}

#[test]
fn a_restore_held_for_its_loss_can_be_accepted_after_last_good_has_moved_back() {
    let mut walk = Walk::promoted(&["alice", "bob"], &["1.0"]);
    walk.track("2.0");
    assert_eq!(walk.end_with(&breaking), End::Promoted);
    walk.begin(walk.back(&[], &[]));
    let much = |effect: &Effect| match effect {
        Effect::Measure { instance: who, .. } if *who == instance("alice") => {
            Some(Answer::Measured { loss: Loss { rows: 999, files: 0 } })
        }
        _ => None,
    };
    assert!(matches!(walk.end_with(&much), End::RollbackHeld { .. }));
    assert_eq!((walk.runs("alice"), walk.runs("bob"), walk.last_good()), ("2.0".into(), "1.0".into(), "1.0".into()));
    walk.begin(walk.back(&["alice"], &["alice"]));
    assert!(matches!(walk.end_with(&much), End::RolledBack { .. }));
    assert_eq!((walk.runs("alice"), walk.runs("bob")), ("1.0".into(), "1.0".into()));
}

#[test]
fn a_rollback_typed_again_goes_no_further_back_than_the_first() {
    let mut walk = Walk::promoted(&["alice"], &["1.0", "2.0"]);
    walk.track("3.0");
    assert_eq!(walk.end_with(&breaking), End::Promoted);
    walk.begin(walk.back(&[], &[]));
    walk.until(|effect| start_of(effect, "alice", "2.0"));
    walk.begin(walk.back(&[], &[]));
    assert!(matches!(walk.end(), End::RolledBack { .. }));
    assert_eq!((walk.runs("alice"), walk.last_good()), ("2.0".into(), "2.0".into()));
    let rejected: Vec<_> = walk.service.rejected.values().map(|one| one.tag.clone()).collect();
    assert_eq!(rejected, [tag("3.0")]);
}

#[test]
fn a_rollback_in_the_middle_of_a_move_leaves_what_moves_and_not_last_good() {
    let mut walk = Walk::promoted(&["alice", "bob"], &["1.0", "2.0"]);
    walk.track("3.0");
    walk.until(|effect| matches!(effect, Effect::SnapshotStopped { .. }));
    walk.begin(walk.back(&[], &[]));
    walk.end();
    assert_eq!((walk.runs("alice"), walk.runs("bob"), walk.last_good()), ("2.0".into(), "2.0".into(), "2.0".into()));
}

#[test]
fn after_a_way_back_by_code_the_next_one_leads_further_with_its_data() {
    let mut walk = Walk::promoted(&["alice"], &["1.0", "2.0", "3.0"]);
    walk.begin(walk.back(&[], &[]));
    assert!(matches!(walk.end(), End::RolledBack { .. }));
    let from = walk.records.len();
    walk.begin(walk.back(&[], &[]));
    assert!(matches!(walk.end(), End::RolledBack { .. }));
    assert_eq!(walk.runs("alice"), "1.0");
    // The data is still 3.0's.
    assert!(walk.ordered_since(from).iter().any(|effect| matches!(effect, Effect::Restore { .. })));
}

#[test]
fn a_rollback_called_back_to_what_it_was_leaving_does_not_reject_that() {
    let mut walk = Walk::promoted(&["alice"], &["1.0", "2.0"]);
    walk.begin(walk.back(&[], &[]));
    walk.until(|effect| matches!(effect, Effect::Stop { .. }));
    let aim = Aim::Back {
        to: Some(tag("2.0")),
        instances: Vec::new(),
        accept_loss: Vec::new(),
        reason: "it was the network".into(),
    };
    walk.begin(aim);
    walk.end();
    assert_eq!((walk.runs("alice"), walk.last_good()), ("2.0".into(), "2.0".into()));
    assert!(walk.service.rejected.is_empty());
}

#[test]
fn a_rollback_before_the_first_stop_ends_the_move_and_touches_nobody() {
    let mut walk = Walk::promoted(&["alice", "bob"], &["1.0", "2.0"]);
    walk.track("3.0");
    walk.until(|effect| matches!(effect, Effect::AskBusy { .. }));
    let from = walk.records.len();
    walk.begin(walk.back(&[], &[]));
    assert!(matches!(walk.end(), End::RolledBack { .. }));
    assert!(!walk.ordered_since(from).iter().any(|effect| matches!(effect, Effect::Stop { .. })));
    assert_eq!((walk.runs("alice"), walk.last_good()), ("2.0".into(), "2.0".into()));
    assert!(walk.service.rejected.contains_key(&digest("3.0")));
}

#[test]
fn a_rollback_of_one_brings_back_what_the_run_it_takes_over_left_stopped() {
    let mut walk = Walk::promoted(&["alice", "bob", "carol"], &["1.0"]);
    walk.track("2.0");
    walk.until(|effect| matches!(effect, Effect::Stop { instance: who } if *who == instance("bob")));
    walk.begin(walk.back(&["alice"], &[]));
    walk.end();
    for name in ["alice", "bob", "carol"] {
        assert_eq!(walk.runs(name), "1.0", "{name}");
        assert_eq!(walk.service.instances[&instance(name)].condition, Condition::Settled, "{name}");
    }
}

#[test]
fn two_releases_back_takes_the_data_although_each_step_alone_would_not() {
    let mut walk = Walk::promoted(&["alice"], &["1.0", "2.0", "3.0"]);
    let from = walk.records.len();
    let aim =
        Aim::Back { to: Some(tag("1.0")), instances: Vec::new(), accept_loss: Vec::new(), reason: "asked".into() };
    walk.begin(aim);
    assert!(matches!(walk.end(), End::RolledBack { .. }));
    // Nobody has tried 1.0 on what 3.0 wrote.
    assert!(walk.ordered_since(from).iter().any(|effect| matches!(effect, Effect::Restore { .. })));
    assert_eq!(walk.runs("alice"), "1.0");
}

#[test]
fn a_way_back_by_code_alone_can_still_take_the_data_when_it_does_not_work() {
    let mut walk = Walk::promoted(&["alice"], &["1.0", "2.0"]);
    walk.begin(walk.back(&[], &[]));
    walk.until(|effect| start_of(effect, "alice", "1.0"));
    // Taken over in the middle: the snapshot must not be forgotten.
    walk.begin(walk.back(&[], &[]));
    let from = walk.records.len();
    let tries = std::cell::Cell::new(0);
    let special = |effect: &Effect| {
        let fails = start_of(effect, "alice", "1.0") && tries.replace(tries.get() + 1) < 2;
        fails.then(failed)
    };
    assert!(matches!(walk.end_with(&special), End::RolledBack { .. }));
    assert!(walk.ordered_since(from).iter().any(|effect| matches!(effect, Effect::Restore { .. })));
    assert_eq!(walk.runs("alice"), "1.0");
}

#[test]
fn only_moves_whose_snapshot_is_kept_are_ways_back() {
    let mut walk = Walk::promoted(&["alice"], &["1.0", "2.0", "3.0", "4.0", "5.0"]);
    let history: Vec<String> = walk.service.instances[&instance("alice")]
        .history
        .iter()
        .map(|moved| walk.service.name_of(moved.from.as_ref()))
        .collect();
    assert_eq!(history, ["2.0", "3.0", "4.0"]);
    let aim =
        Aim::Back { to: Some(tag("1.0")), instances: Vec::new(), accept_loss: Vec::new(), reason: "asked".into() };
    let settings = walk.settings.clone();
    assert!(walk.put(Input::Begin { aim, settings, frozen: None, preflight: None }).is_err());
}
