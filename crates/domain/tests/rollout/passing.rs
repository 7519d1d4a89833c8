//! A rejected newest release does not hide an older good one behind it.

use crate::walk::{Walk, digest, failed, reason, tag};
use lastgood_domain::{
    effect::{Answer, Effect, Leg},
    event::{Aim, End, Event, Gate, Verdict},
    operations::hold::InFlight,
    terms::{HoldId, ServiceName},
    words,
};

/// 1.1.0 is last-good; the channel offers 1.2.0, which is rejected, and these besides.
fn rejected_newest(older: &[&'static str]) -> Walk {
    let mut walk = Walk::promoted(&["alice", "bob"], &["1.1.0"]);
    walk.say(Event::Rejected { release: digest("1.2.0"), tag: tag("1.2.0"), reason: "slow".into() });
    walk.newest = "1.2.0";
    walk.older = older.to_vec();
    walk
}

fn passed_over(walk: &Walk) -> Vec<String> {
    let gated = walk.records.iter().filter_map(|record| match &record.event {
        Event::Gated { gate: Gate::Rejected, verdict: Verdict::Fail, because } => Some(because.clone()),
        _ => None,
    });
    gated.collect()
}

fn checks(walk: &Walk) -> usize {
    walk.ordered_since(0).iter().filter(|effect| matches!(effect, Effect::Check { .. })).count()
}

#[test]
fn the_next_newest_is_tried_in_the_place_of_a_rejected_one() {
    let mut walk = rejected_newest(&["1.1.9", "1.1.5", "1.1.0"]);
    walk.begin(Aim::Track);
    assert_eq!(walk.end(), End::Promoted);
    assert_eq!(
        (walk.runs("alice"), walk.runs("bob"), walk.last_good()),
        ("1.1.9".into(), "1.1.9".into(), "1.1.9".into())
    );
    assert_eq!(passed_over(&walk), ["1.2.0 was rejected by person:test: slow"]);
    let name = ServiceName::new("notes").expect("a valid name");
    let why = words::why(&name, &walk.service, None, walk.now);
    assert!(
        why.iter().any(|one| one.because
            == "1.2.0 by person:test: slow; passed over at the last check, 1.1.9 was taken in its place")
    );
}

#[test]
fn one_rejected_release_after_another_is_passed_over() {
    let mut walk = rejected_newest(&["1.1.9", "1.1.5", "1.1.0"]);
    walk.begin(Aim::Track);
    let fails = |effect: &Effect| match effect {
        Effect::Rehearse { leg: Leg::Candidate, release, .. } if *release == digest("1.1.9") => Some(failed()),
        _ => None,
    };
    assert!(matches!(walk.end_with(&fails), End::RehearsalFailed { .. }));
    walk.begin(Aim::Track);
    assert_eq!(walk.end(), End::Promoted);
    assert_eq!(walk.last_good(), "1.1.5");
}

#[test]
fn nothing_newer_than_last_good_is_refused_with_the_rejection() {
    for (older, next) in [
        (&["1.1.0", "1.0.0"][..], "the next, 1.1.0, is not newer than last-good 1.1.0"),
        (&["1.0.0"], "the next, 1.0.0, is not newer than last-good 1.1.0"),
        (&[], "the channel offers nothing else"),
    ] {
        for aim in [Aim::Track, Aim::DryRun] {
            let mut walk = rejected_newest(older);
            walk.begin(aim);
            let because = format!("1.2.0 was rejected by person:test: slow; {next}");
            assert_eq!(walk.end(), End::Refused { gate: Gate::Rejected, because });
            assert_eq!((walk.runs("alice"), walk.last_good()), ("1.1.0".into(), "1.1.0".into()));
        }
    }
}

#[test]
fn who_was_left_behind_follows_last_good_behind_a_rejected_newest() {
    let mut walk = rejected_newest(&["1.1.0"]);
    walk.settings = crate::walk::settings(&["alice", "bob", "carol"]);
    walk.begin(Aim::Track);
    assert_eq!(walk.end(), End::Promoted);
    assert_eq!(walk.runs("carol"), "1.1.0");
}

#[test]
fn the_same_bytes_under_another_tag_are_passed_over_too() {
    let mut walk = rejected_newest(&["1.1.9", "1.1.5"]);
    walk.say(Event::Rejected { release: digest("1.1.9"), tag: tag("1.1.9-again"), reason: "slow".into() });
    walk.begin(Aim::Track);
    // Its bytes are only known once they are here.
    assert!(matches!(walk.end(), End::Refused { gate: Gate::Rejected, .. }));
    walk.begin(Aim::Track);
    assert_eq!(walk.end(), End::Promoted);
    assert_eq!(walk.last_good(), "1.1.5");
}

#[test]
fn a_hold_a_pin_and_a_first_start_pass_nothing_over() {
    let mut held = rejected_newest(&["1.1.9"]);
    held.say(Event::HoldSet {
        hold: HoldId(0),
        reason: reason("rolled back"),
        until: None,
        origin: None,
        in_flight: InFlight::Pause,
    });
    let before = checks(&held);
    held.begin(Aim::Track);
    assert!(matches!(held.end(), End::Held { .. }));
    assert_eq!(checks(&held), before);

    let mut pinned = rejected_newest(&["1.1.9"]);
    pinned.say(Event::Pinned { tag: tag("1.2.0"), reason: reason("audit") });
    pinned.begin(Aim::Track);
    assert!(matches!(pinned.end(), End::Refused { gate: Gate::Rejected, .. }));

    // Nothing says yet how old is too old.
    let mut first = Walk::new(&["alice"]);
    first.say(Event::Rejected { release: digest("1.2.0"), tag: tag("1.2.0"), reason: "slow".into() });
    (first.newest, first.older) = ("1.2.0", vec!["1.1.9"]);
    first.begin(Aim::Track);
    assert!(matches!(first.end(), End::Refused { gate: Gate::Rejected, .. }));
}

#[test]
fn no_more_than_twenty_are_passed_over_in_one_run() {
    let mut walk = rejected_newest(&[]);
    // A channel that never ends, and one that does not listen.
    let tags: Vec<String> = (0..60).map(|minor| format!("1.1.9{minor:02}")).collect();
    for one in &tags {
        walk.say(Event::Rejected { release: digest(one), tag: tag(one), reason: "slow".into() });
    }
    let before = checks(&walk);
    walk.begin(Aim::Track);
    let endless = |effect: &Effect| match effect {
        Effect::Check { except, .. } if !except.is_empty() => Some(offered(&walk_offer(&tags[60 - except.len()]))),
        _ => None,
    };
    assert!(matches!(walk.end_with(&endless), End::Refused { gate: Gate::Rejected, .. }));
    assert_eq!(checks(&walk) - before, 21);

    let mut deaf = rejected_newest(&[]);
    let before = checks(&deaf);
    deaf.begin(Aim::Track);
    let again = |effect: &Effect| matches!(effect, Effect::Check { .. }).then(|| offered(&walk_offer("1.2.0")));
    assert!(matches!(deaf.end_with(&again), End::Refused { gate: Gate::Rejected, .. }));
    assert_eq!(checks(&deaf) - before, 2);
}

fn walk_offer(release: &str) -> lastgood_domain::facts::Offer {
    Walk::new(&[]).offer(release)
}

fn offered(offer: &lastgood_domain::facts::Offer) -> Answer {
    Answer::Offered { offer: offer.clone(), standing: Some(lastgood_domain::facts::Standing::Newer), foreign: None }
}
