//! A pin to a release that ran here before: who is idle goes back, from what is installed; who is in use follows later.

use crate::walk::{Walk, instance, reason, tag};
use lastgood_domain::{
    effect::{Answer, Effect},
    event::{Aim, Cause, DeferReason, End, Event, Gate},
    facts::Busyness,
    rollout::{self, Begin, Next},
    service::Condition,
    terms::Actor,
};

/// Two instances on 1.1, pinned to 1.0 before.
fn pinned_back() -> Walk {
    let mut walk = Walk::promoted(&["alice", "bob"], &["1.0", "1.1"]);
    walk.say(Event::Pinned { tag: tag("1.0"), reason: reason("audit") });
    walk
}

fn busy(names: &'static [&'static str]) -> impl Fn(&Effect) -> Option<Answer> {
    move |effect| match effect {
        Effect::AskBusy { instance } if names.contains(&instance.as_str()) => {
            Some(Answer::BusyAsked { busyness: Busyness::Busy("one session".into()) })
        }
        _ => None,
    }
}

fn stopped_since(walk: &Walk, from: usize) -> Vec<String> {
    let stops = walk.ordered_since(from).into_iter().filter(|effect| matches!(effect, Effect::Stop { .. }));
    stops.filter_map(|effect| effect.instance().map(ToString::to_string)).collect()
}

fn late(walk: &Walk) -> Vec<String> {
    walk.service.late().map(ToString::to_string).collect()
}

fn back_to_1_0() -> End {
    End::RolledBack { cause: Cause::Pinned { tag: tag("1.0") } }
}

#[test]
fn who_is_in_use_is_not_stopped_for_a_pin_and_follows_when_it_is_idle() {
    let mut walk = pinned_back();
    let from = walk.records.len();
    walk.begin(Aim::Track);
    assert_eq!(walk.end_with(&busy(&["alice"])), back_to_1_0());
    assert_eq!(stopped_since(&walk, from), ["bob"]);
    assert_eq!((walk.runs("alice"), walk.runs("bob"), walk.last_good()), ("1.1".into(), "1.0".into(), "1.0".into()));
    let condition = &walk.service.instances[&instance("alice")].condition;
    assert!(matches!(condition, Condition::Deferred { reason: DeferReason::Busy, .. }), "{condition:?}");
    assert_eq!(late(&walk), ["alice"]);
    // A drain takes it back, and does not move it forward to what is older.
    let from = walk.records.len();
    walk.begin(Aim::Drain);
    assert_eq!(walk.end(), back_to_1_0());
    assert_eq!(stopped_since(&walk, from), ["alice"]);
    assert!(!walk.ordered_since(from).iter().any(|effect| matches!(effect, Effect::Install { .. })));
    assert_eq!((walk.runs("alice"), late(&walk)), ("1.0".into(), Vec::new()));
}

#[test]
fn where_everybody_is_in_use_a_pin_waits_and_nothing_is_left() {
    let mut walk = pinned_back();
    let from = walk.records.len();
    walk.begin(Aim::Track);
    let because = "pinned to 1.0; nobody could go back: each is busy or can't be asked".into();
    assert_eq!(walk.end_with(&busy(&["alice", "bob"])), End::Waiting { because });
    assert_eq!(stopped_since(&walk, from), Vec::<String>::new());
    assert_eq!((walk.last_good(), late(&walk)), ("1.1".into(), vec!["alice".to_owned(), "bob".to_owned()]));
    // Without the pin they are where they should be.
    walk.say(Event::Unpinned { reason: reason("audit done") });
    assert_eq!(late(&walk), Vec::<String>::new());
    assert!(walk.service.instances.values().all(|one| one.condition == Condition::Settled));
}

#[test]
fn who_stayed_behind_a_pin_is_not_drained_to_the_older_release_when_the_pin_is_gone() {
    let mut walk = pinned_back();
    walk.begin(Aim::Track);
    walk.end_with(&busy(&["alice"]));
    walk.say(Event::Unpinned { reason: reason("audit done") });
    assert_eq!(late(&walk), Vec::<String>::new());
    walk.begin(Aim::Track);
    assert_eq!(walk.end(), End::Promoted);
    assert_eq!((walk.runs("alice"), walk.runs("bob")), ("1.1".into(), "1.1".into()));
    assert!(walk.service.instances.values().all(|one| one.condition == Condition::Settled));
}

#[test]
fn a_busy_check_without_an_answer_counts_as_busy() {
    let mut walk = pinned_back();
    let from = walk.records.len();
    walk.begin(Aim::Track);
    let end = walk.end_with(&|effect| matches!(effect, Effect::AskBusy { .. }).then(crate::walk::hindered));
    assert!(matches!(end, End::Waiting { .. }), "{end:?}");
    assert_eq!(stopped_since(&walk, from), Vec::<String>::new());
}

#[test]
fn a_pin_back_asks_no_channel() {
    let mut walk = pinned_back();
    let from = walk.records.len();
    walk.begin(Aim::Track);
    assert_eq!(walk.end(), back_to_1_0());
    assert!(!walk.ordered_since(from).iter().any(|effect| matches!(effect, Effect::Check { .. })));
    // Nor does what foresees it.
    let walk = pinned_back();
    let begin = Begin { aim: Aim::Track, settings: walk.settings.clone(), frozen: None, preflight: None };
    let by = Actor::new("person:test").expect("a valid actor");
    let foreseen =
        rollout::foresee(&walk.service, begin, &by, walk.now, |tag, _| panic!("the channel is asked for {tag:?}"));
    assert_eq!(foreseen.next, Next::GoesBack);
}

#[test]
fn a_pin_to_a_rejected_release_takes_nobody_back() {
    let mut walk = pinned_back();
    let (release, reason) = (crate::walk::digest("1.0"), "it loses notes".into());
    walk.say(Event::Rejected { release, tag: tag("1.0"), reason });
    walk.begin(Aim::Track);
    assert!(matches!(walk.end(), End::Refused { gate: Gate::Rejected, .. }));
    assert_eq!(walk.runs("alice"), "1.1");
}
