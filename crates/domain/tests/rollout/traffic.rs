//! Shared traffic: shares grow on evidence only, a hold lets them stand, and a way back flips before it clears up.

use crate::walk::{Walk, breaking, digest, failed, hindered, instance, reason, settings};
use lastgood_domain::{
    effect::Effect,
    event::{Aim, Cause, End, Event, Gate, Settings, Verdict},
    guard::GuardSettings,
    rollout::{self, Input, Judging},
    service::Phase,
    terms::{Span, Timestamp},
    traffic::{Route, Share, ShareStep, TrafficEvent, TrafficSettings},
};

const BAKE: Span = Span::minutes(5);
const DRAIN: Span = Span::minutes(10);
const WARM: Span = Span::minutes(60);
const CANNOT_TELL: Span = Span::minutes(30);

fn shared() -> Settings {
    let mut settings = settings(&["a.blue", "b.blue", "a.green", "b.green"]);
    let side = |colour: &str| ["a", "b"].map(|name| instance(&format!("{name}.{colour}"))).to_vec();
    let steps = [5, 25, 100].map(|percent| ShareStep { share: Share::percent(percent), bake: BAKE });
    settings.traffic = Some(TrafficSettings {
        sides: [side("blue"), side("green")],
        holders: vec![instance("a.blue")],
        steps: steps.to_vec(),
        drain: DRAIN,
        warm: WARM,
        cannot_tell_max: CANNOT_TELL,
        guard: GuardSettings::default(),
        resume: true,
    });
    settings
}

/// A service with 1.0 behind it, serving on the blue side.
fn serving() -> Walk {
    let mut walk = Walk::new(&[]);
    walk.settings = shared();
    walk.track("1.0");
    assert_eq!(walk.end(), End::Promoted);
    walk
}

fn judge(walk: &mut Walk, verdict: Verdict) {
    let route = walk.service.traffic.route.clone().expect("something is routed");
    let on = match (route.candidate, route.last_good) {
        (Some(side), _) => Judging { release: side.release, share: route.share },
        (None, side) => Judging { release: side.expect("somebody serves").release, share: Share::ALL },
    };
    judge_of(walk, on, verdict);
}

fn judge_of(walk: &mut Walk, on: Judging, verdict: Verdict) {
    judge_with(walk, on, verdict, "3 of 100 requests failed");
}

fn judge_with(walk: &mut Walk, on: Judging, verdict: Verdict, because: &str) {
    let (settings, because) = (walk.settings.clone(), because.to_owned());
    walk.put(Input::Judged { on, verdict, because, settings }).expect("a verdict always has a place");
}

fn tick_at(walk: &mut Walk, at: Timestamp) {
    walk.now = at;
    walk.put(Input::Tick).expect("a tick always has a place");
}

fn tick_after(walk: &mut Walk, span: Span) {
    tick_at(walk, walk.now.after(span));
}

fn is_route(effect: &Effect) -> bool {
    matches!(effect, Effect::Route { .. })
}

/// Answers what is ordered until nothing is, without letting time pass.
fn settle(walk: &mut Walk) {
    while !walk.orders().is_empty() {
        walk.answer_one(&|_| None);
    }
}

/// Brings a rollout of 2.0 to a share.
fn at_share(percent: u8) -> Walk {
    let mut walk = serving();
    walk.track("2.0");
    settle(&mut walk);
    while walk.service.traffic.share() < Share::percent(percent) {
        pass(&mut walk);
    }
    assert_eq!(walk.service.traffic.share(), Share::percent(percent));
    walk
}

/// Lets the bake time pass with a healthy verdict.
fn pass(walk: &mut Walk) {
    judge(walk, Verdict::Pass);
    let Some(Phase::Shifting { until: Some(until), .. }) = walk.service.run.as_ref().map(|run| run.phase.clone())
    else {
        panic!("no share is baking: {:?}", walk.service.run);
    };
    tick_at(walk, until);
    settle(walk);
}

fn routes(walk: &Walk, from: usize) -> Vec<Route> {
    let routes = walk.ordered_since(from).into_iter().filter_map(|effect| match effect {
        Effect::Route { route } => Some(route),
        _ => None,
    });
    routes.collect()
}

#[test]
fn a_first_release_gets_everything_at_once_because_there_is_nobody_to_share_with() {
    let walk = serving();
    let routes = routes(&walk, 0);
    assert_eq!(routes.len(), 1);
    let side = routes[0].last_good.as_ref().unwrap();
    assert_eq!((side.release, side.instances.len(), routes[0].share), (digest("1.0"), 2, Share::NONE));
    assert_eq!((walk.runs("a.blue"), walk.runs("a.green")), ("1.0".into(), "none".into()));
}

#[test]
fn shares_grow_one_by_one_on_a_healthy_verdict_and_the_release_before_stays_warm() {
    let mut walk = serving();
    let from = walk.records.len();
    walk.track("2.0");
    settle(&mut walk);
    for percent in [5, 25, 100] {
        assert_eq!(walk.service.traffic.share(), Share::percent(percent));
        pass(&mut walk);
    }
    assert_eq!(walk.service.last_end.as_ref().map(|(_, _, end)| end.clone()), Some(End::Promoted));
    assert_eq!(walk.last_good(), "2.0");
    let routes = routes(&walk, from);
    assert!(routes[..3].iter().all(|route| route.salt == routes[0].salt), "people would be seated anew");
    assert!(routes[..3].iter().all(|route| route.last_good.as_ref().unwrap().release == digest("1.0")));
    assert_eq!(routes[3].last_good.as_ref().unwrap().release, digest("2.0"));
    // The candidate went to the other side, on the same data, and both still run.
    assert_eq!((walk.runs("a.blue"), walk.runs("a.green")), ("1.0".into(), "2.0".into()));
    let standby = walk.service.traffic.standby.clone().unwrap();
    assert!(standby.warm && standby.side.release == digest("1.0"));
    assert!(standby.until >= walk.now.after(Span(WARM.0 - 60_000)));
}

#[test]
fn one_instance_migrates_the_data_that_all_share_before_the_others_start() {
    let mut walk = serving();
    let from = walk.records.len();
    walk.track("2.0");
    settle(&mut walk);
    let started = walk.ordered_since(from).into_iter().filter_map(|effect| match effect {
        Effect::Start { instance, .. } => Some(format!("start {instance}")),
        Effect::Probe { instance, .. } => Some(format!("probe {instance}")),
        _ => None,
    });
    let started: Vec<String> = started.collect();
    assert_eq!(started[..3], ["start a.green", "probe a.green", "start b.green"], "{started:?}");
}

#[test]
fn nothing_grows_on_time_alone() {
    for verdict in [None, Some(Verdict::CannotTell), Some(Verdict::Hold)] {
        let mut walk = at_share(5);
        if let Some(verdict) = verdict {
            judge(&mut walk, verdict);
        }
        tick_after(&mut walk, Span(BAKE.0 + CANNOT_TELL.0 / 2));
        assert_eq!(walk.service.traffic.share(), Share::percent(5), "{verdict:?}");
        assert!(walk.orders().is_empty());
        // The evidence comes late: then it grows at once.
        judge(&mut walk, Verdict::Pass);
        settle(&mut walk);
        assert_eq!(walk.service.traffic.share(), Share::percent(25), "{verdict:?}");
    }
}

#[test]
fn a_verdict_of_the_share_before_does_not_count_for_the_next() {
    let mut walk = at_share(25);
    tick_after(&mut walk, Span(BAKE.0 * 2));
    assert_eq!(walk.service.traffic.share(), Share::percent(25));
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
fn data_that_last_good_can_t_read_is_refused_before_anything_starts() {
    let mut walk = serving();
    let from = walk.records.len();
    walk.track("2.0");
    let end = walk.end_with(&breaking);
    assert!(matches!(end, End::Refused { gate: Gate::WayBack, .. }), "{end:?}");
    assert!(
        !walk.ordered_since(from).iter().any(|effect| matches!(effect, Effect::Start { .. } | Effect::Route { .. }))
    );
    assert!(walk.service.rejected.contains_key(&digest("2.0")));
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
fn a_first_share_above_a_quarter_asks_for_the_proof_once() {
    let mut walk = serving();
    let shares = [50, 100].map(|percent| ShareStep { share: Share::percent(percent), bake: BAKE });
    walk.settings.traffic.as_mut().unwrap().steps = shares.to_vec();
    walk.track("2.0");
    walk.until(|effect| matches!(effect, Effect::TryResume { .. }));
    walk.put(Input::Tick).unwrap();
    walk.put(Input::Tick).unwrap();
    assert_eq!(walk.orders().len(), 1);
    settle(&mut walk);
    assert_eq!(walk.service.traffic.share(), Share::percent(50));
}

#[test]
fn a_hold_lets_the_share_stand_and_never_a_way_back() {
    let mut walk = at_share(5);
    walk.say(Event::HoldSet { hold: lastgood_domain::terms::HoldId(0), reason: reason("audit"), until: None });
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

#[test]
fn the_next_candidate_waits_until_what_was_left_is_empty() {
    let mut walk = at_share(5);
    judge(&mut walk, Verdict::Fail);
    walk.end();
    let hold = *walk.service.holds.keys().next().unwrap();
    walk.say(Event::HoldLifted { hold, reason: reason("looked at") });
    walk.track("3.0");
    settle(&mut walk);
    assert_eq!(walk.runs("a.green"), "2.0", "tunnels of 2.0 may still be open");
    walk.put(Input::Emptied { release: digest("2.0") }).unwrap();
    settle(&mut walk);
    assert_eq!((walk.runs("a.green"), walk.service.traffic.share()), ("3.0".into(), Share::percent(5)));
}

#[test]
fn new_entries_can_be_stopped_and_let_in_again() {
    let mut walk = serving();
    let routes = vec!["POST /rooms/*".parse().unwrap()];
    let stop = TrafficEvent::EntriesStopped { routes, retry_after: Span::minutes(2), reason: reason("audit") };
    walk.say(Event::Traffic(stop));
    assert_eq!(walk.service.traffic.stopped.as_ref().unwrap().routes.len(), 1);
    walk.say(Event::Traffic(TrafficEvent::EntriesResumed { reason: reason("done") }));
    assert!(walk.service.traffic.stopped.is_none());
    // Nothing of it moves the service: its traffic stays where it was.
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
fn what_died_of_last_good_is_started_before_traffic_goes_back_to_it_and_what_is_left_stays_down() {
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
    assert!(matches!(&orders[..], [Effect::Start { .. }]), "{orders:?}");
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
fn a_hold_that_comes_during_the_proof_of_sessions_keeps_the_share() {
    let mut walk = at_share(25);
    judge(&mut walk, Verdict::Pass);
    let Some(Phase::Shifting { until: Some(until), .. }) = walk.service.run.as_ref().map(|run| run.phase.clone())
    else {
        panic!("it bakes");
    };
    tick_at(&mut walk, until);
    walk.say(Event::HoldSet { hold: lastgood_domain::terms::HoldId(0), reason: reason("audit"), until: None });
    settle(&mut walk);
    assert_eq!(walk.service.traffic.share(), Share::percent(25));
}

#[test]
fn a_doubt_after_a_long_hold_counts_from_when_it_began() {
    let mut walk = at_share(5);
    judge(&mut walk, Verdict::Pass);
    walk.say(Event::HoldSet { hold: lastgood_domain::terms::HoldId(0), reason: reason("weekend"), until: None });
    tick_after(&mut walk, Span::minutes(3_000));
    judge(&mut walk, Verdict::CannotTell);
    tick_after(&mut walk, Span::minutes(1));
    assert_eq!(walk.service.traffic.share(), Share::percent(5), "a minute's doubt took it back");
    tick_after(&mut walk, CANNOT_TELL);
    assert_eq!(walk.service.traffic.share(), Share::NONE);
}

#[test]
fn the_next_candidate_does_not_cut_tunnels_of_a_warm_release_and_stops_all_of_it_before_it_starts() {
    let mut walk = at_share(100);
    pass(&mut walk);
    walk.track("3.0");
    settle(&mut walk);
    assert_eq!((walk.runs("a.blue"), walk.runs("b.blue")), ("1.0".into(), "1.0".into()), "tunnels of 1.0 may be open");
    let wakes = rollout::wakes_at(&walk.service, walk.now).expect("it waits for their deadline");
    let from = walk.records.len();
    tick_at(&mut walk, wakes);
    settle(&mut walk);
    let orders = walk.ordered_since(from);
    let at = |wanted: fn(&Effect) -> bool| orders.iter().position(wanted).unwrap();
    assert_eq!(orders[..at(|effect| matches!(effect, Effect::Start { .. }))].len(), 2, "both stop first: {orders:?}");
    assert_eq!((walk.runs("a.blue"), walk.runs("b.blue")), ("3.0".into(), "3.0".into()));
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

#[test]
fn instances_that_the_configuration_no_longer_has_keep_a_run_from_beginning() {
    let mut walk = Walk::promoted(&["alice"], &["1.0"]);
    walk.settings = shared();
    walk.track("2.0");
    let end = walk.end();
    assert!(matches!(&end, End::Stopped { failure } if failure.message.contains("alice")), "{end:?}");
}

#[test]
fn a_doubt_that_lasts_is_said_with_its_newest_numbers_and_its_deadline_does_not_move() {
    let mut walk = at_share(5);
    let on = Judging { release: digest("2.0"), share: Share::percent(5) };
    judge_with(&mut walk, on, Verdict::CannotTell, "no request; 85 are needed");
    let from = walk.records.len();
    for left in (5..80).rev() {
        walk.now = walk.now.after(Span::seconds(9));
        judge_with(&mut walk, on, Verdict::CannotTell, &format!("{left} more are needed"));
    }
    let records = walk.records.len() - from;
    assert!((20..=30).contains(&records), "{records} records in 12 minutes");
    assert!(walk.service.traffic.judged.as_ref().unwrap().because.ends_with("more are needed"));
    tick_after(&mut walk, Span(BAKE.0 + CANNOT_TELL.0 - 12 * 60_000));
    let end = walk.end();
    assert!(matches!(&end, End::Held { because, .. } if because.contains("more are needed")), "{end:?}");
}
