//! Required gates are asked again before each share: what was proven before the first says nothing of today.

use super::*;
use crate::walk::{gate, gate_facts, tag};
use lastgood_domain::{
    effect::Answer,
    operations::hold::InFlight,
    service::Unproven,
    terms::{HoldId, OrderId},
};

fn is_gate(effect: &Effect) -> bool {
    matches!(effect, Effect::AskGate { .. })
}

/// A rollout of 2.0 that requires two gates, at a share of 5 %.
fn at_five() -> Walk {
    let mut walk = serving();
    walk.settings.gates = vec![gate("load"), gate("unit")];
    walk.track("2.0");
    settle(&mut walk);
    assert_eq!(walk.service.traffic.share(), Share::percent(5));
    walk
}

/// Lets the bake time pass with a healthy verdict, up to the gates.
fn bake(walk: &mut Walk) {
    judge(walk, Verdict::Pass);
    tick_after(walk, BAKE);
    let orders = walk.orders();
    assert!(!orders.is_empty() && orders.iter().all(|(_, effect)| is_gate(effect)), "{orders:?}");
}

fn says(walk: &mut Walk, name: &str, answer: Answer) {
    walk.answer_one(&|effect| match effect {
        Effect::AskGate { gate, .. } if gate.as_str() == name => Some(answer.clone()),
        _ => None,
    });
}

fn facts(verdict: Verdict, control: Option<Verdict>) -> Answer {
    Answer::GateAsked { facts: gate_facts(verdict, control) }
}

fn all_say(walk: &mut Walk, answer: &Answer) {
    for name in ["load", "unit"] {
        says(walk, name, answer.clone());
    }
}

fn asked_since(walk: &Walk, from: usize) -> usize {
    walk.ordered_since(from).iter().filter(|effect| is_gate(effect)).count()
}

#[test]
fn every_gate_is_asked_again_before_each_share_and_before_the_promotion() {
    let mut walk = serving();
    walk.settings.gates = vec![gate("load"), gate("unit")];
    let from = walk.records.len();
    walk.track("2.0");
    settle(&mut walk);
    for _ in 0..3 {
        pass(&mut walk);
    }
    assert_eq!(walk.last_good(), "2.0");
    let orders = walk.ordered_since(from);
    let told: Vec<usize> = (0..orders.len()).filter(|at| is_route(&orders[*at])).collect();
    assert_eq!(told.len(), 4, "5, 25 and 100 %, and the promotion");
    let asked = |name| Effect::AskGate { gate: gate(name), release: digest("2.0"), control: Some(digest("1.0")) };
    for at in told {
        // Nothing lies between their yes and the share.
        assert_eq!(orders[at - 2..at], [asked("load"), asked("unit")], "{orders:?}");
    }
    assert_eq!(asked_since(&walk, from), 2 + 4 * 2, "once before anything was copied");
}

#[test]
fn a_gate_that_turns_bad_between_two_shares_takes_the_release_back_and_rejects_it() {
    let mut walk = at_five();
    bake(&mut walk);
    let from = walk.records.len();
    says(&mut walk, "load", facts(Verdict::Fail, Some(Verdict::Pass)));
    // All of them are heard, so that one look shows all that is missing.
    assert!(walk.orders().iter().all(|(_, effect)| is_gate(effect)), "{:?}", walk.orders());
    says(&mut walk, "unit", facts(Verdict::CannotTell, None));
    let end = walk.end();
    let because = "load: it says Fail".to_owned();
    assert_eq!(end, End::RolledBack { cause: Cause::Gate { share: Share::percent(5), because } });
    assert_eq!(end.because(), "at 5 % of the traffic a required gate failed: load: it says Fail");
    assert!(walk.service.rejected.contains_key(&digest("2.0")));
    assert_eq!((walk.service.holds.len(), walk.last_good()), (1, "1.0".into()));
    let told = routes(&walk, from);
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].last_good.as_ref().unwrap().release, told[0].share), (digest("1.0"), Share::NONE));
    // The way back asks none.
    assert_eq!(asked_since(&walk, from), 0);
}

#[test]
fn a_gate_that_fails_before_the_first_share_leaves_nobody_on_the_candidate() {
    let mut walk = serving();
    walk.settings.gates = vec![gate("load")];
    walk.track("2.0");
    // Once before anything is copied; the second time it runs already.
    let first: OrderId = walk.until(is_gate);
    walk.put(Input::Answer { order: first, answer: facts(Verdict::Pass, None) }).unwrap();
    walk.until(is_gate);
    let from = walk.records.len();
    says(&mut walk, "load", facts(Verdict::Fail, Some(Verdict::Pass)));
    let end = walk.end();
    assert_eq!(end.because(), "before its first share a required gate failed: load: it says Fail");
    assert!(routes(&walk, from).iter().all(|route| route.candidate.is_none()));
    assert!(walk.service.rejected.contains_key(&digest("2.0")));
}

#[test]
fn what_nobody_can_tell_lets_the_share_stand_and_is_asked_again_until_it_says_yes() {
    for answer in [facts(Verdict::CannotTell, None), hindered(), Answer::Verified] {
        let mut walk = at_five();
        bake(&mut walk);
        let from = walk.records.len();
        says(&mut walk, "load", facts(Verdict::Pass, None));
        says(&mut walk, "unit", answer.clone());
        for asked in 1..5 {
            assert_eq!((walk.service.traffic.share(), walk.orders().len()), (Share::percent(5), 0), "{answer:?}");
            // Neither a tick nor a verdict asks before its time.
            tick_after(&mut walk, Span(Unproven::EVERY.0 - 10_000));
            judge(&mut walk, Verdict::Pass);
            assert_eq!(asked_since(&walk, from), 2 * (asked - 1));
            let wakes = rollout::wakes_at(&walk.service, walk.now).expect("it waits for the time to ask");
            tick_at(&mut walk, wakes);
            assert_eq!(asked_since(&walk, from), 2 * asked);
            if asked < 4 {
                all_say(&mut walk, &answer);
            }
        }
        settle(&mut walk);
        assert_eq!(walk.service.traffic.share(), Share::percent(25), "the owner's override, or a proof that came");
        assert!(walk.service.rejected.is_empty() && walk.service.holds.is_empty());
    }
}

#[test]
fn a_gate_that_fails_last_good_too_is_a_doubt_and_takes_nobody_back_at_once() {
    let mut walk = at_five();
    bake(&mut walk);
    says(&mut walk, "load", facts(Verdict::Fail, Some(Verdict::Fail)));
    says(&mut walk, "unit", facts(Verdict::Pass, None));
    assert_eq!((walk.service.traffic.share(), walk.orders().len()), (Share::percent(5), 0));
    assert!(matches!(walk.service.run.as_ref().unwrap().phase, Phase::Shifting { unproven: Some(_), .. }));
}

#[test]
fn what_nobody_can_tell_up_to_the_deadline_goes_back_without_blame() {
    let mut walk = at_five();
    bake(&mut walk);
    let began = walk.now;
    let no_answer = facts(Verdict::CannotTell, None);
    all_say(&mut walk, &no_answer);
    while walk.service.traffic.share() > Share::NONE {
        let wakes = rollout::wakes_at(&walk.service, walk.now).expect("it waits");
        judge(&mut walk, Verdict::Pass);
        tick_at(&mut walk, wakes);
        while walk.orders().iter().any(|(_, effect)| is_gate(effect)) {
            walk.answer_one(&|effect| is_gate(effect).then(|| no_answer.clone()));
        }
    }
    let stood = walk.now.since(began);
    assert!((CANNOT_TELL..CANNOT_TELL.max(Span(CANNOT_TELL.0 + 30_000))).contains(&stood), "{stood}");
    let end = walk.end();
    let because = "cannot tell at 5 % of the traffic whether it passes, for 30 min too long: \
                   load: it says CannotTell; unit: it says CannotTell";
    assert_eq!(end, End::Held { because: because.into(), moved: Vec::new(), went_back: true });
    assert!(walk.service.rejected.is_empty() && walk.service.holds.is_empty());
}

#[test]
fn a_hold_and_a_doubt_that_come_while_gates_are_asked_keep_the_share_and_they_are_asked_anew() {
    for held in [true, false] {
        let mut walk = at_five();
        bake(&mut walk);
        if held {
            let (hold, in_flight) = (HoldId(0), InFlight::Pause);
            walk.say(Event::HoldSet { hold, reason: reason("audit"), until: None, origin: None, in_flight });
        } else {
            judge(&mut walk, Verdict::CannotTell);
        }
        all_say(&mut walk, &facts(Verdict::Pass, None));
        assert_eq!((walk.service.traffic.share(), walk.orders().len()), (Share::percent(5), 0), "held: {held}");
        tick_after(&mut walk, Span::minutes(5));
        let from = walk.records.len();
        if held {
            let hold = *walk.service.holds.keys().next().unwrap();
            walk.say(Event::HoldLifted { hold, reason: reason("done") });
            walk.put(Input::Tick).unwrap();
        } else {
            judge(&mut walk, Verdict::Pass);
        }
        assert_eq!(asked_since(&walk, from), 2, "a yes of before is none");
        settle(&mut walk);
        assert_eq!(walk.service.traffic.share(), Share::percent(25));
    }
}

#[test]
fn a_doubt_from_before_a_long_hold_or_a_clock_set_back_does_not_count() {
    for back in [false, true] {
        let mut walk = at_five();
        bake(&mut walk);
        all_say(&mut walk, &facts(Verdict::CannotTell, None));
        if back {
            // The share is watched anew, and the gates are asked at its end.
            let yesterday = Timestamp(walk.now.0 - 86_400_000);
            tick_at(&mut walk, yesterday);
            bake(&mut walk);
        } else {
            let (hold, in_flight) = (HoldId(0), InFlight::Pause);
            walk.say(Event::HoldSet { hold, reason: reason("weekend"), until: None, origin: None, in_flight });
            tick_after(&mut walk, Span::minutes(3_000));
            judge(&mut walk, Verdict::Pass);
            assert_eq!(walk.service.traffic.share(), Share::percent(5), "a hold keeps it");
            let hold = *walk.service.holds.keys().next().unwrap();
            walk.say(Event::HoldLifted { hold, reason: reason("done") });
            walk.put(Input::Tick).unwrap();
        }
        all_say(&mut walk, &facts(Verdict::CannotTell, None));
        tick_after(&mut walk, Span::minutes(1));
        assert_eq!(walk.service.traffic.share(), Share::percent(5), "a minute's doubt took it back");
    }
}

#[test]
fn a_rejection_and_a_bad_verdict_while_gates_are_asked_take_it_back_and_their_late_yes_is_refused() {
    for rejected in [true, false] {
        let mut walk = at_five();
        bake(&mut walk);
        let late = walk.orders()[0].0;
        if rejected {
            let (release, tag) = (digest("2.0"), tag("2.0"));
            walk.say(Event::Rejected { release, tag, reason: "slow".into() });
            walk.put(Input::Tick).unwrap();
        } else {
            judge(&mut walk, Verdict::Fail);
        }
        assert!(walk.put(Input::Answer { order: late, answer: facts(Verdict::Pass, None) }).is_err());
        settle(&mut walk);
        assert_eq!(walk.service.traffic.share(), Share::NONE);
    }
}

#[test]
fn gates_are_asked_after_the_proof_of_sessions_and_a_first_release_is_asked_too() {
    let mut walk = at_share(25);
    walk.settings.gates = vec![gate("unit")];
    assert!(walk.service.run.as_ref().unwrap().settings.gates.is_empty(), "the run keeps what it began with");
    let mut walk = Walk::new(&[]);
    walk.settings = shared();
    walk.settings.gates = vec![gate("unit")];
    walk.track("1.0");
    let first: OrderId = walk.until(is_gate);
    walk.put(Input::Answer { order: first, answer: facts(Verdict::Pass, None) }).unwrap();
    walk.until(is_gate);
    assert!(routes(&walk, 0).is_empty());
    settle(&mut walk);
    assert_eq!(walk.last_good(), "1.0");
    walk.track("2.0");
    settle(&mut walk);
    pass(&mut walk);
    let from = walk.records.len();
    pass(&mut walk);
    let orders: Vec<Effect> = walk.ordered_since(from).into_iter().filter(|one| !one.is_housekeeping()).collect();
    assert!(matches!(orders[..], [Effect::TryResume { .. }, Effect::AskGate { .. }, Effect::Route { .. }]));
}
