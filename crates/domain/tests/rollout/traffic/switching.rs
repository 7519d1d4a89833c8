//! What a release switches on with its share, a way back switches off, and what a guard trips stays tripped.

use super::*;
use lastgood_domain::{
    effect::Answer,
    terms::{FlagKey, RunId, SwitchName},
    traffic::BroughtFlag,
};

fn flag(key: &str) -> FlagKey {
    FlagKey::new(key).expect("a valid key")
}

/// A service of which each release brings `early` with a quarter of the people and `late` with all, and whose guards trip
/// `auth`.
fn switching(percent: u8) -> Walk {
    let mut walk = serving();
    let traffic = walk.settings.traffic.as_mut().expect("shared");
    traffic.flags = [("early", 25), ("late", 100)]
        .map(|(key, percent)| BroughtFlag { flag: flag(key), share: Share::percent(percent) })
        .into();
    traffic.trips = vec![SwitchName::new("auth").expect("a valid name")];
    walk.track("2.0");
    settle(&mut walk);
    while walk.service.traffic.share() < Share::percent(percent) {
        pass(&mut walk);
    }
    walk
}

fn switched(walk: &Walk, from: usize) -> Vec<Effect> {
    let is_switch =
        |effect: &Effect| matches!(effect, Effect::TurnOn { .. } | Effect::TurnOff { .. } | Effect::Trip { .. });
    walk.ordered_since(from).into_iter().filter(is_switch).collect()
}

/// Gives the flags that were ordered off.
fn off(walk: &Walk, from: usize) -> Vec<(RunId, Vec<FlagKey>)> {
    let off = switched(walk, from).into_iter().filter_map(|effect| match effect {
        Effect::TurnOff { run, flags } => Some((run, flags)),
        _ => None,
    });
    off.collect()
}

#[test]
fn flags_are_turned_on_with_their_share_once_and_a_way_back_turns_off_exactly_those() {
    let expected: [(u8, &[&str]); 3] = [(5, &[]), (25, &["early"]), (100, &["early", "late"])];
    for (percent, flags) in expected {
        let mut walk = switching(percent);
        let run = walk.service.run.as_ref().unwrap().id;
        let flags: Vec<FlagKey> = flags.iter().map(|key| flag(key)).collect();
        let ordered = switched(&walk, 0).into_iter().flat_map(|effect| match effect {
            Effect::TurnOn { flags, .. } => flags,
            other => panic!("{other:?}"),
        });
        assert_eq!(ordered.collect::<Vec<_>>(), flags, "at {percent} %");
        let from = walk.records.len();
        judge(&mut walk, Verdict::Fail);
        assert!(is_route(&walk.ordered_since(from)[0]), "traffic goes first");
        assert!(matches!(walk.end(), End::RolledBack { .. }));
        let expected = if flags.is_empty() { Vec::new() } else { vec![(run, flags)] };
        assert_eq!(off(&walk, from), expected, "at {percent} %");
        assert!(walk.service.traffic.brought.is_empty());
    }
}

#[test]
fn what_was_on_before_is_never_turned_off() {
    let mut walk = switching(5);
    judge(&mut walk, Verdict::Pass);
    let Some(Phase::Shifting { until: Some(until), .. }) = walk.service.run.as_ref().map(|run| run.phase.clone())
    else {
        panic!("it bakes");
    };
    tick_at(&mut walk, until);
    walk.until(|effect| matches!(effect, Effect::TurnOn { .. }));
    let were_on = |effect: &Effect| match effect {
        Effect::TurnOn { flags, .. } => Some(Answer::FlagsOn { on: Vec::new(), were_on: flags.clone() }),
        _ => None,
    };
    walk.answer_one(&were_on);
    let from = walk.records.len();
    walk.begin(walk.back(&[], &[]));
    assert!(matches!(walk.end(), End::RolledBack { .. }));
    assert!(off(&walk, from).is_empty());
}

#[test]
fn a_promoted_release_keeps_its_flags_until_it_is_left_or_the_next_one_comes() {
    let mut walk = switching(100);
    pass(&mut walk);
    assert_eq!(walk.last_good(), "2.0");
    let from = walk.records.len();
    walk.begin(walk.back(&[], &[]));
    walk.end();
    assert_eq!(off(&walk, from).len(), 1, "a person goes back long after the promotion");

    let mut walk = switching(100);
    pass(&mut walk);
    walk.now = walk.now.after(Span(WARM.0 + DRAIN.0));
    walk.begin(Aim::Cool);
    walk.end();
    walk.track("3.0");
    settle(&mut walk);
    while walk.service.traffic.share() < Share::percent(25) {
        pass(&mut walk);
    }
    let (run, from) = (walk.service.run.as_ref().unwrap().id, walk.records.len());
    judge(&mut walk, Verdict::Fail);
    walk.end();
    assert_eq!(off(&walk, from), [(run, vec![flag("early")])], "those of 2.0 belong to 2.0");
    assert!(walk.service.traffic.brought.contains_key(&digest("2.0")));
}

#[test]
fn a_pin_to_the_release_before_turns_off_what_the_pinned_away_one_has_turned_on() {
    let mut walk = switching(100);
    pass(&mut walk);
    let from = walk.records.len();
    walk.say(Event::Pinned { tag: crate::walk::tag("1.0"), reason: reason("stay") });
    walk.track("1.0");
    walk.end();
    assert_eq!((walk.last_good(), off(&walk, from).len()), ("1.0".into(), 1));
    assert!(walk.service.traffic.brought.is_empty());
}

#[test]
fn an_order_to_turn_on_that_was_never_answered_is_taken_back_as_well() {
    let mut walk = switching(5);
    judge(&mut walk, Verdict::Pass);
    let Some(Phase::Shifting { until: Some(until), .. }) = walk.service.run.as_ref().map(|run| run.phase.clone())
    else {
        panic!("it bakes");
    };
    tick_at(&mut walk, until);
    walk.until(|effect| matches!(effect, Effect::TurnOn { .. }));
    let from = walk.records.len();
    walk.begin(walk.back(&[], &[]));
    assert!(matches!(walk.end(), End::RolledBack { .. }));
    assert_eq!(off(&walk, from).len(), 1);
}

#[test]
fn flags_that_can_t_be_turned_on_take_the_traffic_back_and_blame_nobody() {
    let mut walk = switching(5);
    judge(&mut walk, Verdict::Pass);
    let Some(Phase::Shifting { until: Some(until), .. }) = walk.service.run.as_ref().map(|run| run.phase.clone())
    else {
        panic!("it bakes");
    };
    tick_at(&mut walk, until);
    let end = walk.end_with(&|effect| matches!(effect, Effect::TurnOn { .. }).then(hindered));
    assert!(matches!(&end, End::Held { because, .. } if because.contains("can't be turned on")), "{end:?}");
    assert!(walk.service.rejected.is_empty());
}

#[test]
fn flags_that_can_t_be_turned_off_keep_nobody_from_last_good_and_are_not_forgotten() {
    let mut walk = switching(25);
    judge(&mut walk, Verdict::Fail);
    let end = walk.end_with(&|effect| matches!(effect, Effect::TurnOff { .. }).then(hindered));
    assert!(matches!(end, End::RolledBack { .. }), "{end:?}");
    assert_eq!(walk.service.traffic.last_good().unwrap().release, digest("1.0"));
    assert!(walk.service.traffic.brought.contains_key(&digest("2.0")));
}

#[test]
fn a_guard_trips_its_switches_with_its_numbers_and_a_person_s_rollback_trips_none() {
    let mut walk = switching(5);
    let from = walk.records.len();
    judge(&mut walk, Verdict::Fail);
    let orders = switched(&walk, from);
    let because = "at 5 % of the traffic: 3 of 100 requests failed";
    assert!(matches!(&orders[..], [Effect::Trip { because: said, .. }] if said == because), "{orders:?}");
    assert!(matches!(walk.end(), End::RolledBack { .. }));
    assert!(walk.service.traffic.tripping.is_empty());

    let mut walk = switching(5);
    let from = walk.records.len();
    walk.begin(walk.back(&[], &[]));
    walk.end();
    assert!(switched(&walk, from).is_empty());
}

/// The order of a driver that was killed is void once another one goes back; what it was to trip is tripped all the same.
#[test]
fn a_way_back_that_another_driver_takes_over_still_trips_and_turns_off() {
    let mut walk = switching(25);
    judge(&mut walk, Verdict::Fail);
    let from = walk.records.len();
    walk.begin(walk.back(&[], &[]));
    let orders = switched(&walk, from);
    assert!(orders.iter().any(|effect| matches!(effect, Effect::Trip { .. })), "{orders:?}");
    assert_eq!(off(&walk, from).len(), 1);
    assert!(matches!(walk.end(), End::RolledBack { .. }));
    assert!(walk.service.traffic.tripping.is_empty() && walk.service.traffic.brought.is_empty());
}
