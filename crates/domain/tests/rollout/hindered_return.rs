//! Ways back whose target can't be started because of the machine: its installation is damaged, or gone.

use crate::walk::{Walk, breaking, digest, failed, hindered, instance, reason, tag};
use lastgood_domain::{
    effect::{Answer, Effect},
    event::{Aim, End, Event},
    facts::Loss,
    rollout::Input,
    service::Condition,
    terms::{ServiceName, Timestamp},
    words,
};

fn starts(effect: &Effect, release: &str) -> bool {
    matches!(effect, Effect::Start { release: started, .. } if *started == digest(release))
}

/// Nothing of 1.0 can be started.
fn damaged(effect: &Effect) -> Option<Answer> {
    starts(effect, "1.0").then(hindered)
}

/// Alice moved from 1.0 to 2.0, from which the code alone leads back.
fn moved() -> Walk {
    Walk::promoted(&["alice"], &["1.0", "2.0"])
}

fn to(walk: &Walk, release: &str) -> Aim {
    let Aim::Back { instances, accept_loss, reason, .. } = walk.back(&["alice"], &[]) else { unreachable!() };
    Aim::Back { to: Some(tag(release)), instances, accept_loss, reason }
}

/// Goes back while 1.0 answers `fails` to each start until its data is back; tells whether that was ordered.
fn goes_back_until_restored(walk: &mut Walk, fails: fn() -> Answer) -> bool {
    walk.begin(walk.back(&[], &[]));
    let mut restored = false;
    while walk.service.run.is_some() {
        restored |= walk.orders().iter().any(|(_, effect)| matches!(effect, Effect::Restore { .. }));
        let special = |effect: &Effect| (starts(effect, "1.0") && !restored).then(fails);
        assert!(walk.answer_one(&special));
    }
    restored
}

fn hint(walk: &Walk) -> String {
    let name = ServiceName::new("notebook").expect("a valid name");
    let why = words::why(&name, &walk.service, None, Timestamp(walk.now.0));
    let stuck = why.into_iter().find(|one| one.because.starts_with("alice"));
    stuck.expect("why says what is with alice").how
}

#[test]
fn a_start_that_the_machine_hinders_drops_nobodys_writes() {
    let mut walk = moved();
    let from = walk.records.len();
    walk.begin(walk.back(&[], &[]));
    assert!(matches!(walk.end_with(&damaged), End::RollbackFailed { .. }));
    let orders = walk.ordered_since(from);
    assert!(!orders.iter().any(|one| matches!(one, Effect::Restore { .. } | Effect::Measure { .. })), "{orders:?}");
    assert!(!walk.records[from..].iter().any(|one| matches!(one.event, Event::ReturnWithData { .. })));
    // It was up before, and is again.
    assert_eq!(walk.runs("alice"), "2.0");
    assert!(matches!(walk.service.instances[&instance("alice")].condition, Condition::Stuck { .. }));
}

#[test]
fn a_probe_that_the_machine_hinders_drops_nobodys_writes_either() {
    let mut walk = moved();
    let from = walk.records.len();
    walk.begin(walk.back(&[], &[]));
    let probe = |effect: &Effect| matches!(effect, Effect::Probe { .. }).then(hindered);
    assert!(matches!(walk.end_with(&probe), End::RollbackFailed { .. }));
    assert!(!walk.ordered_since(from).iter().any(|one| matches!(one, Effect::Restore { .. })));
    assert_eq!(walk.runs("alice"), "1.0");
}

#[test]
fn a_release_that_was_started_and_failed_still_gets_its_own_data() {
    let mut walk = moved();
    assert!(goes_back_until_restored(&mut walk, failed));
    assert_eq!(walk.runs("alice"), "1.0");
}

#[test]
fn a_restore_that_was_broken_off_is_finished_although_nothing_could_be_started_on_it() {
    let mut walk = moved();
    let unfinished = || Answer::Hindered { failure: crate::walk::failure("restore-unfinished") };
    assert!(goes_back_until_restored(&mut walk, unfinished));
    assert_eq!(walk.runs("alice"), "1.0");
}

#[test]
fn what_is_refused_before_the_stop_leaves_the_instance_up_where_it_was() {
    let mut walk = moved();
    let from = walk.records.len();
    walk.begin(walk.back(&[], &[]));
    let stop = |effect: &Effect| matches!(effect, Effect::Stop { .. }).then(hindered);
    assert!(matches!(walk.end_with(&stop), End::RollbackFailed { .. }));
    let last = walk.ordered_since(from).into_iter().rfind(|one| one.instance() == Some(&instance("alice")));
    assert!(last.is_some_and(|last| starts(&last, "2.0")), "what had died is started again");
    assert_eq!(walk.runs("alice"), "2.0");
}

#[test]
fn a_failed_way_back_is_taken_up_again_towards_the_same_release_and_never_towards_nothing() {
    for (with_data, hinders) in [(false, damaged as fn(&Effect) -> Option<Answer>), (true, damaged)] {
        let mut walk = Walk::promoted(&["alice"], &["1.0"]);
        walk.track("2.0");
        assert_eq!(walk.end_with(&|effect| breaking(effect).filter(|_| with_data)), End::Promoted);
        walk.begin(walk.back(&[], &[]));
        assert!(matches!(walk.end_with(&hinders), End::RollbackFailed { .. }));
        // The data is back, or nothing was touched.
        assert_eq!(walk.runs("alice"), if with_data { "1.0" } else { "2.0" });
        assert_eq!(hint(&walk), "lastgood rollback notebook --to 1.0 --instance alice");
        for aim in [to(&walk, "1.0"), walk.back(&["alice"], &[]), walk.back(&[], &[])] {
            let mut again = walk.clone();
            again.begin(aim);
            assert!(matches!(again.end(), End::RolledBack { .. }));
            assert_eq!((again.runs("alice"), again.last_good()), ("1.0".into(), "1.0".into()));
            assert!(!again.service.rejected.contains_key(&digest("1.0")));
            assert!(again.service.instances[&instance("alice")].is_settled());
        }
    }
}

#[test]
fn a_way_back_over_two_releases_that_failed_goes_both_ways_again() {
    let mut walk = Walk::promoted(&["alice"], &["1.0", "2.0", "3.0"]);
    walk.begin(to(&walk, "1.0"));
    assert!(matches!(walk.end_with(&damaged), End::RollbackFailed { .. }));
    walk.begin(walk.back(&["alice"], &[]));
    assert!(matches!(walk.end(), End::RolledBack { .. }));
    assert_eq!(walk.runs("alice"), "1.0");
}

#[test]
fn a_move_forward_forgets_where_an_earlier_way_back_was_to_lead() {
    let mut walk = moved();
    walk.begin(walk.back(&[], &[]));
    assert!(matches!(walk.end_with(&damaged), End::RollbackFailed { .. }));
    walk.track("3.0");
    walk.until(|effect| matches!(effect, Effect::Probe { release, .. } if *release == digest("3.0")));
    walk.begin(walk.back(&[], &[]));
    assert!(matches!(walk.end(), End::RolledBack { .. }));
    assert_eq!(walk.runs("alice"), "2.0");
}

#[test]
fn the_hint_about_a_program_that_dies_never_leads_to_nothing() {
    let mut walk = Walk::promoted(&["alice"], &["1.0"]);
    let settings = walk.settings.clone();
    walk.put(Input::Died { instance: instance("alice"), why: "exit status 1".into(), settings }).unwrap();
    assert_eq!(hint(&walk), "lastgood log notebook");
    let mut walk = moved();
    let settings = walk.settings.clone();
    walk.put(Input::Died { instance: instance("alice"), why: "exit status 1".into(), settings }).unwrap();
    assert_eq!(hint(&walk), "lastgood rollback notebook --to 1.0 --instance alice");
}

/// What a restore would drop is far above the bound.
fn much(effect: &Effect) -> Option<Answer> {
    let loss = Loss { rows: 1_501, files: 0 };
    breaking(effect).or_else(|| matches!(effect, Effect::Measure { .. }).then_some(Answer::Measured { loss }))
}

fn pinned_back_above_the_bound() -> Walk {
    let mut walk = Walk::promoted(&["alice"], &["1.0"]);
    walk.track("2.0");
    assert_eq!(walk.end_with(&much), End::Promoted);
    walk.say(Event::Pinned { tag: tag("1.0"), reason: reason("audit") });
    walk.begin(Aim::Track);
    assert!(matches!(walk.end_with(&much), End::RollbackHeld { .. }));
    walk
}

#[test]
fn a_pin_whose_way_back_waits_for_a_person_stops_nobody_once_more() {
    let mut walk = pinned_back_above_the_bound();
    let from = walk.records.len();
    walk.begin(Aim::Track);
    let because = "the way back to the pinned 1.0 waits for a person on alice".into();
    assert_eq!(walk.end_with(&much), End::Waiting { because });
    let orders = walk.ordered_since(from);
    assert!(!orders.iter().any(|one| matches!(one, Effect::Stop { .. } | Effect::Start { .. })), "{orders:?}");
    // A person's word is enough, and so is a wider bound.
    let mut asked = walk.clone();
    asked.begin(walk.back(&[], &["alice"]));
    assert!(matches!(asked.end_with(&much), End::RolledBack { .. }));
    assert_eq!(asked.runs("alice"), "1.0");
    walk.settings.loss_rows_max = 2_000;
    walk.begin(Aim::Track);
    assert!(matches!(walk.end_with(&much), End::RolledBack { .. }));
    assert_eq!(walk.runs("alice"), "1.0");
}

#[test]
fn what_waited_to_be_taken_back_waits_no_longer_once_its_release_is_promoted() {
    let mut walk = pinned_back_above_the_bound();
    walk.say(Event::Unpinned { reason: reason("audit done") });
    assert!(matches!(walk.service.instances[&instance("alice")].condition, Condition::LossHeld { .. }));
    walk.newest = "2.0";
    walk.begin(Aim::Track);
    assert_eq!(walk.end_with(&much), End::Promoted);
    assert_eq!(walk.last_good(), "2.0");
    let alice = &walk.service.instances[&instance("alice")];
    assert_eq!((&alice.condition, alice.stuck_since), (&Condition::Settled, None));
}
