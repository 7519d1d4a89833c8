//! Ways back from every state, and what they never do.

use super::*;
use crate::walk::{gate, gate_facts};
use lastgood_domain::{
    notice::{NoticeKind, notice},
    terms::ServiceName,
};

/// Gives the kind of the notice that the end of the walk's run causes.
fn told_at_the_end(walk: &Walk) -> Option<NoticeKind> {
    let ended = walk.records.iter().rev().find(|record| matches!(record.event, Event::RunEnded { .. }))?;
    notice(&ServiceName::new("web").expect("a fixed valid name"), &walk.service, ended).map(|notice| notice.kind)
}

#[test]
fn people_hear_of_every_way_back_that_nobody_asked_for() {
    let guarded = {
        let mut walk = at_share(25);
        judge(&mut walk, Verdict::Fail);
        walk.end();
        walk
    };
    let dead = {
        let mut walk = at_share(5);
        let settings = walk.settings.clone();
        walk.put(Input::Died { instance: instance("a.green"), why: "exit status 1".into(), settings }).unwrap();
        walk.end();
        walk
    };
    let unresumed = {
        let mut walk = at_share(25);
        judge(&mut walk, Verdict::Pass);
        tick_after(&mut walk, BAKE);
        walk.end_with(&|effect| matches!(effect, Effect::TryResume { .. }).then(failed));
        walk
    };
    let unproven = {
        let mut walk = serving();
        walk.settings.gates = vec![gate("load")];
        walk.track("2.0");
        settle(&mut walk);
        judge(&mut walk, Verdict::Pass);
        tick_after(&mut walk, BAKE);
        let facts = gate_facts(Verdict::Fail, Some(Verdict::Pass));
        let fails = |effect: &Effect| {
            matches!(effect, Effect::AskGate { .. }).then(|| Answer::GateAsked { facts: facts.clone() })
        };
        walk.end_with(&fails);
        walk
    };
    for (what, walk) in [("guard", guarded), ("death", dead), ("sessions", unresumed), ("gate", unproven)] {
        assert_eq!(told_at_the_end(&walk), Some(NoticeKind::RolledBack), "{what}");
        assert_eq!((walk.last_good(), walk.service.traffic.share()), ("1.0".into(), Share::NONE), "{what}");
    }
    // What nobody can tell is no fault, and it is told all the same.
    let mut unsure = at_share(5);
    judge(&mut unsure, Verdict::CannotTell);
    let wakes = rollout::wakes_at(&unsure.service, unsure.now.after(BAKE)).unwrap();
    tick_at(&mut unsure, wakes);
    unsure.end();
    assert_eq!(told_at_the_end(&unsure), Some(NoticeKind::Frozen));
}

#[test]
fn cannot_tell_beyond_its_deadline_goes_back_and_blames_nobody() {
    let mut walk = at_share(5);
    judge(&mut walk, Verdict::CannotTell);
    let wakes = rollout::wakes_at(&walk.service, walk.now.after(BAKE)).expect("it waits for the deadline");
    tick_at(&mut walk, wakes);
    let end = walk.end();
    assert!(matches!(&end, End::Held { because, .. } if because.contains("cannot tell at 5 %")), "{end:?}");
    assert_eq!((walk.service.traffic.share(), walk.last_good()), (Share::NONE, "1.0".into()));
    assert!(walk.service.rejected.is_empty());
}

#[test]
fn a_broken_verdict_flips_before_anything_else_and_rejects_and_freezes() {
    for percent in [5, 25, 100] {
        let mut walk = at_share(percent);
        let from = walk.records.len();
        judge(&mut walk, Verdict::Fail);
        let orders = walk.ordered_since(from);
        assert!(matches!(&orders[..], [Effect::Route { .. }]), "{orders:?}");
        let route = &routes(&walk, from)[0];
        assert_eq!(route.last_good.as_ref().unwrap().release, digest("1.0"));
        assert!(route.candidate.is_none() && route.share == Share::NONE);
        assert_eq!(route.leaving[0].side.release, digest("2.0"));
        assert_eq!(route.leaving[0].deadline, walk.records[from].at.after(DRAIN));
        let end = walk.end();
        assert!(matches!(&end, End::RolledBack { cause: Cause::Guard { .. } }), "{end:?}");
        assert!(walk.service.rejected.contains_key(&digest("2.0")));
        assert_eq!((walk.last_good(), walk.service.holds.len()), ("1.0".into(), 1));
        // What was left finishes its tunnels first; then a later run stops it.
        assert_eq!(walk.runs("a.green"), "2.0");
        let standby = walk.service.traffic.standby.clone().unwrap();
        assert!(
            !standby.warm && standby.until > route.leaving[0].deadline,
            "it is stopped while the router closes tunnels"
        );
        walk.put(Input::Emptied { release: digest("2.0") }).unwrap();
        walk.begin(Aim::Cool);
        assert_eq!(walk.end(), End::Cooled);
        assert_eq!((walk.runs("a.green"), walk.runs("a.blue")), ("none".into(), "1.0".into()));
        assert!(walk.service.traffic.standby.is_none());
    }
}

#[test]
fn a_late_failure_goes_back_as_fast_while_the_release_before_is_warm() {
    let mut walk = at_share(100);
    pass(&mut walk);
    let from = walk.records.len();
    judge(&mut walk, Verdict::Fail);
    let end = walk.end();
    assert!(matches!(end, End::RolledBack { cause: Cause::Guard { share: Share::ALL, .. } }), "{end:?}");
    let orders = walk.ordered_since(from);
    let flip = orders.iter().position(is_route).unwrap();
    let raised = orders[..flip].iter().filter(|effect| matches!(effect, Effect::Start { .. })).count();
    assert_eq!(raised, 2, "capacity comes first: {orders:?}");
    assert_eq!((walk.last_good(), walk.service.traffic.last_good().unwrap().release), ("1.0".into(), digest("1.0")));
}

#[test]
fn an_instance_that_a_way_back_could_not_start_is_tried_again_later() {
    let mut walk = at_share(25);
    let settings = walk.settings.clone();
    walk.put(Input::Died { instance: instance("b.blue"), why: "exit status 1".into(), settings }).unwrap();
    judge(&mut walk, Verdict::Fail);
    let dead = instance("b.blue");
    let end = walk.end_with(&|effect| match effect {
        Effect::Start { instance, .. } if *instance == dead => Some(hindered()),
        _ => None,
    });
    assert!(matches!(end, End::RolledBack { .. }), "a.blue carries them alone: {end:?}");
    let left = &walk.service.instances[&dead];
    assert!(left.again_at.is_some(), "{left:?}");
    assert_eq!((left.hindered, walk.runs("b.blue")), (1, "1.0".into()));
}

#[test]
fn a_rollback_after_the_release_before_was_stopped_starts_it_first_and_flips_only_when_all_of_it_is_up() {
    let mut walk = at_share(100);
    pass(&mut walk);
    walk.now = walk.now.after(Span(WARM.0 + DRAIN.0));
    walk.begin(Aim::Cool);
    assert_eq!(walk.end(), End::Cooled);
    assert_eq!(walk.runs("a.blue"), "none");
    walk.begin(walk.back(&[], &[]));
    let orders = walk.orders();
    assert!(
        orders.iter().all(|(_, effect)| matches!(effect, Effect::Start { release, .. } if *release == digest("1.0")))
    );
    assert_eq!(orders.len(), 2);
    walk.answer_one(&|_| None);
    assert!(!walk.orders().iter().any(|(_, effect)| is_route(effect)), "half of the capacity is up");
    walk.answer_one(&|_| None);
    assert!(walk.orders().iter().any(|(_, effect)| is_route(effect)));
    assert!(matches!(walk.end(), End::RolledBack { .. }));
    assert_eq!(walk.last_good(), "1.0");
}

#[test]
fn traffic_never_goes_to_a_release_that_can_t_be_started() {
    let mut walk = at_share(100);
    pass(&mut walk);
    walk.now = walk.now.after(Span(WARM.0 + DRAIN.0));
    walk.begin(Aim::Cool);
    walk.end();
    let from = walk.records.len();
    walk.begin(walk.back(&[], &[]));
    let end = walk.end_with(&|effect| matches!(effect, Effect::Start { .. }).then(hindered));
    assert!(matches!(end, End::RollbackFailed { .. }));
    assert!(routes(&walk, from).is_empty());
    assert_eq!(walk.service.traffic.last_good().unwrap().release, digest("2.0"));
}

#[test]
fn sessions_must_be_resumable_before_more_than_a_quarter_and_a_failure_there_goes_back() {
    let mut walk = at_share(25);
    judge(&mut walk, Verdict::Pass);
    let Some(Phase::Shifting { until: Some(until), .. }) = walk.service.run.as_ref().map(|run| run.phase.clone())
    else {
        panic!("it bakes");
    };
    tick_at(&mut walk, until);
    let orders = walk.orders();
    assert!(matches!(&orders[..], [(_, Effect::TryResume { .. })]), "{orders:?}");
    let end = walk.end_with(&|effect| matches!(effect, Effect::TryResume { .. }).then(failed));
    assert!(matches!(end, End::RolledBack { cause: Cause::Candidate { .. } }), "{end:?}");
    assert_eq!(walk.last_good(), "1.0");
    // At a quarter and below nobody is asked.
    let asked =
        |walk: &Walk| walk.ordered_since(0).iter().filter(|effect| matches!(effect, Effect::TryResume { .. })).count();
    assert_eq!(asked(&at_share(25)), 0);
    assert_eq!(asked(&at_share(100)), 1);
}

#[test]
fn a_hold_lets_the_share_stand_and_never_a_way_back() {
    let mut walk = at_share(5);
    walk.say(Event::HoldSet {
        hold: lastgood_domain::terms::HoldId(0),
        reason: reason("audit"),
        until: None,
        origin: None,
        in_flight: lastgood_domain::operations::hold::InFlight::Pause,
    });
    judge(&mut walk, Verdict::Pass);
    tick_after(&mut walk, Span(BAKE.0 * 3));
    assert_eq!((walk.service.traffic.share(), walk.orders().len()), (Share::percent(5), 0));
    judge(&mut walk, Verdict::Fail);
    assert!(matches!(walk.end(), End::RolledBack { .. }));
}

#[test]
fn a_rejection_on_the_way_takes_the_traffic_back() {
    let mut walk = at_share(5);
    let tag = walk.offer("2.0").tag;
    walk.say(Event::Rejected { release: digest("2.0"), tag, reason: "slow".into() });
    walk.put(Input::Tick).unwrap();
    assert!(matches!(walk.end(), End::Held { .. }));
    assert_eq!(walk.service.traffic.share(), Share::NONE);
}

#[test]
fn a_router_that_does_not_confirm_blames_nobody_and_is_told_again_on_the_way_back() {
    let mut walk = serving();
    walk.track("2.0");
    walk.until(is_route);
    let mut failures = std::cell::Cell::new(0);
    let end = walk.end_with(&|effect| {
        (is_route(effect) && failures.get() < 3).then(|| {
            failures.set(failures.get() + 1);
            hindered()
        })
    });
    assert!(matches!(end, End::RolledBack { cause: Cause::Router { .. } }), "{end:?}");
    assert_eq!(*failures.get_mut(), 3);
    assert!(walk.service.rejected.is_empty() && walk.service.traffic.confirmed);
}

#[test]
fn a_candidate_that_dies_with_a_share_goes_back() {
    let mut walk = at_share(5);
    let settings = walk.settings.clone();
    walk.put(Input::Died { instance: instance("b.green"), why: "exit status 1".into(), settings }).unwrap();
    let end = walk.end();
    assert!(matches!(end, End::RolledBack { cause: Cause::Candidate { .. } }), "{end:?}");
}

#[test]
fn a_person_goes_back_from_every_stage() {
    for percent in [5, 25, 100] {
        let mut walk = at_share(percent);
        walk.begin(walk.back(&[], &[]));
        assert!(matches!(walk.end(), End::RolledBack { cause: Cause::Asked { .. } }));
        assert_eq!((walk.last_good(), walk.service.traffic.share()), ("1.0".into(), Share::NONE));
        assert!(walk.service.holds.is_empty(), "a person has decided: nothing more to freeze");
    }
    // Before the candidate gets anything, and again while the way back is under way.
    let mut walk = serving();
    walk.track("2.0");
    walk.until(|effect| matches!(effect, Effect::Start { .. }));
    walk.begin(walk.back(&[], &[]));
    walk.begin(walk.back(&[], &[]));
    assert!(matches!(walk.end(), End::RolledBack { .. }));
    assert_eq!(walk.service.traffic.last_good().unwrap().release, digest("1.0"));
}

/// A rollout of 2.0 whose promotion the router has been told and not confirmed.
fn at_promotion() -> Walk {
    let mut walk = at_share(100);
    judge(&mut walk, Verdict::Pass);
    let Some(Phase::Shifting { until: Some(until), .. }) = walk.service.run.as_ref().map(|run| run.phase.clone())
    else {
        panic!("it bakes");
    };
    tick_at(&mut walk, until);
    assert!(walk.orders().iter().any(|(_, effect)| is_route(effect)));
    walk
}

#[test]
fn a_promotion_that_is_not_confirmed_goes_back_to_what_was_before_it() {
    let mut walk = at_promotion();
    walk.begin(walk.back(&[], &[]));
    assert!(matches!(walk.end(), End::RolledBack { .. }));
    let route = walk.service.traffic.route.clone().unwrap();
    assert_eq!(route.last_good.unwrap().release, digest("1.0"));
    assert_eq!(route.leaving[0].side.release, digest("2.0"));

    let mut walk = at_promotion();
    let mut first = std::cell::Cell::new(true);
    let end = walk.end_with(&|effect| (is_route(effect) && first.replace(false)).then(hindered));
    assert!(matches!(end, End::RolledBack { cause: Cause::Router { .. } }), "{end:?}");
    assert!(!*first.get_mut());
    assert_eq!(walk.service.traffic.last_good().unwrap().release, digest("1.0"));
}

#[test]
fn a_first_release_that_the_router_does_not_take_is_closed_and_can_be_tried_again() {
    let mut walk = Walk::new(&[]);
    walk.settings = shared();
    walk.track("1.0");
    let tries = std::cell::Cell::new(0);
    let end = walk.end_with(&|effect| (is_route(effect) && tries.replace(tries.get() + 1) < 1).then(hindered));
    assert!(matches!(end, End::RolledBack { cause: Cause::Router { .. } }), "{end:?}");
    assert!(walk.service.traffic.route.as_ref().unwrap().last_good.is_none());
    for hold in walk.service.holds.keys().copied().collect::<Vec<_>>() {
        walk.say(Event::HoldLifted { hold, reason: reason("the port is free") });
    }
    walk.put(Input::Emptied { release: digest("1.0") }).unwrap();
    walk.track("1.0");
    assert_eq!(walk.end(), End::Promoted);
}

#[test]
fn a_way_back_that_the_router_never_confirmed_is_taken_up_again_and_leaves_the_same_release() {
    let mut walk = at_share(25);
    judge(&mut walk, Verdict::Fail);
    let end = walk.end_with(&|effect| is_route(effect).then(hindered));
    assert!(matches!(end, End::RollbackFailed { .. }), "{end:?}");
    assert_eq!(walk.service.holds.len(), 1, "the bad release must not be tried again meanwhile");
    walk.begin(walk.back(&[], &[]));
    assert!(matches!(walk.end(), End::RolledBack { .. }));
    assert!(walk.service.rejected.contains_key(&digest("2.0")) && !walk.service.rejected.contains_key(&digest("1.0")));
    assert_eq!(walk.last_good(), "1.0");
}

#[test]
fn what_died_of_last_good_is_started_while_traffic_goes_back_to_it_and_what_is_left_stays_down() {
    let mut walk = at_share(5);
    let settings = walk.settings.clone();
    walk.put(Input::Died { instance: instance("a.blue"), why: "killed".into(), settings: settings.clone() }).unwrap();
    assert!(
        matches!(walk.service.run.as_ref().unwrap().phase, Phase::Shifting { .. }),
        "it says nothing of the candidate"
    );
    let from = walk.records.len();
    judge(&mut walk, Verdict::Fail);
    let orders = walk.ordered_since(from);
    // The other carries people already: it waits for nobody.
    assert!(matches!(&orders[..], [Effect::Start { .. }, Effect::Route { .. }]), "{orders:?}");
    assert!(matches!(walk.end(), End::RolledBack { .. }));
    walk.put(Input::Died { instance: instance("a.green"), why: "killed".into(), settings }).unwrap();
    assert!(walk.service.stays_down(&instance("a.green")) && !walk.service.stays_down(&instance("a.blue")));
}

#[test]
fn one_dead_instance_of_last_good_does_not_hold_a_way_back_up() {
    let mut walk = at_share(5);
    let settings = walk.settings.clone();
    walk.put(Input::Died { instance: instance("a.blue"), why: "killed".into(), settings }).unwrap();
    judge(&mut walk, Verdict::Fail);
    let end = walk.end_with(&|effect| matches!(effect, Effect::Start { .. }).then(hindered));
    assert!(matches!(end, End::RolledBack { .. }), "{end:?}");
}

#[test]
fn a_late_verdict_on_another_release_or_share_changes_nothing() {
    let mut walk = at_share(5);
    for on in [
        Judging { release: digest("1.0"), share: Share::percent(5) },
        Judging { release: digest("2.0"), share: Share::percent(25) },
    ] {
        judge_of(&mut walk, on, Verdict::Fail);
        assert!(walk.service.traffic.judged.is_none() && walk.orders().is_empty());
    }
    judge(&mut walk, Verdict::Fail);
    walk.end();
    // The rest of the watch over 2.0 arrives when 1.0 has everything again.
    judge_of(&mut walk, Judging { release: digest("2.0"), share: Share::percent(5) }, Verdict::Fail);
    assert!(walk.service.run.is_none() && walk.last_good() == "1.0");
}

#[test]
fn a_release_that_loops_after_its_promotion_goes_back() {
    let mut walk = at_share(100);
    pass(&mut walk);
    let settings = walk.settings.clone();
    // A warm release's deaths say nothing of the one that serves.
    for name in ["a.blue", "a.blue", "a.blue", "a.green", "a.green", "a.green"] {
        assert!(walk.service.run.is_none(), "{name}");
        walk.put(Input::Died { instance: instance(name), why: "killed".into(), settings: settings.clone() }).unwrap();
        let revived = Input::Revived { instance: instance(name) };
        walk.put(revived).unwrap();
    }
    assert!(matches!(walk.end(), End::RolledBack { cause: Cause::Candidate { .. } }));
    assert_eq!(walk.last_good(), "1.0");
}
