//! What the simulator's random worlds found: each would have sent people where they must not be, or waited for ever.

use super::*;

fn died(walk: &mut Walk, name: &str) {
    let settings = walk.settings.clone();
    walk.put(Input::Died { instance: instance(name), why: "it is down".into(), settings })
        .expect("a death always has a place");
}

fn until(walk: &Walk) -> Timestamp {
    match walk.service.run.as_ref().map(|run| &run.phase) {
        Some(Phase::Shifting { until: Some(until), .. }) => *until,
        phase => panic!("no share is baking: {phase:?}"),
    }
}

/// A rollout of 2.0 that was taken back for a fault, with its hold lifted.
fn left_behind() -> Walk {
    let mut walk = at_share(5);
    judge(&mut walk, Verdict::Fail);
    walk.end();
    lift_all(&mut walk);
    walk.put(Input::Emptied { release: digest("2.0") }).expect("an observation always has a place");
    walk
}

fn lift_all(walk: &mut Walk) {
    for hold in walk.service.holds.keys().copied().collect::<Vec<_>>() {
        walk.say(Event::HoldLifted { hold, reason: reason("looked at") });
    }
}

#[test]
fn a_candidate_that_is_rejected_while_the_router_is_told_is_not_promoted() {
    let mut walk = at_share(100);
    judge(&mut walk, Verdict::Pass);
    let baked = until(&walk);
    tick_at(&mut walk, baked);
    let tag = walk.offer("2.0").tag;
    walk.say(Event::Rejected { release: digest("2.0"), tag, reason: "slow".into() });
    assert!(matches!(walk.end(), End::Held { .. }));
    assert_eq!((walk.last_good(), walk.service.traffic.last_good().unwrap().release), ("1.0".into(), digest("1.0")));
}

#[test]
fn nobody_goes_back_to_a_release_that_has_not_been_seen_on_what_a_failed_candidate_left() {
    let mut walk = at_share(100);
    pass(&mut walk);
    walk.now = walk.now.after(Span(WARM.0 + DRAIN.0));
    walk.track("3.0");
    settle(&mut walk);
    judge(&mut walk, Verdict::Fail);
    walk.end();
    // 2.0 has been seen on 3.0's data, 1.0 has not.
    assert_eq!(walk.last_good(), "2.0");
    let refused = walk.put(Input::Begin {
        aim: walk.back(&[], &[]),
        settings: walk.settings.clone(),
        frozen: None,
        preflight: None,
    });
    assert!(refused.unwrap_err().to_string().contains("3.0 has been on the data"));
    judge(&mut walk, Verdict::Fail);
    assert!(walk.service.run.is_none(), "the guard must not do it either");
}

#[test]
fn a_share_is_watched_anew_when_the_clock_was_set_back() {
    let mut walk = at_share(5);
    walk.now = Timestamp(walk.now.0 - 3_600_000);
    walk.put(Input::Tick).unwrap();
    assert!(until(&walk) <= walk.now.after(BAKE));
    pass(&mut walk);
    assert_eq!(walk.service.traffic.share(), Share::percent(25));
}

#[test]
fn a_run_under_doubt_always_has_a_time_at_which_it_ends() {
    let mut walk = at_share(5);
    judge(&mut walk, Verdict::Pass);
    walk.say(Event::HoldSet {
        hold: lastgood_domain::terms::HoldId(0),
        reason: reason("weekend"),
        until: None,
        origin: None,
        in_flight: lastgood_domain::operations::hold::InFlight::Pause,
    });
    tick_after(&mut walk, Span::minutes(3_000));
    judge(&mut walk, Verdict::CannotTell);
    let wakes = rollout::wakes_at(&walk.service, walk.now).expect("it waits for the end of the doubt");
    tick_at(&mut walk, wakes);
    assert!(matches!(walk.end(), End::Held { .. }));
}

#[test]
fn what_dies_while_people_go_back_to_it_is_started_before_the_router_is_told_again() {
    let mut walk = at_share(5);
    judge(&mut walk, Verdict::Fail);
    let route = walk.until(is_route);
    let from = walk.records.len();
    died(&mut walk, "a.blue");
    died(&mut walk, "b.blue");
    walk.put(Input::Answer { order: route, answer: hindered() }).unwrap();
    let starts =
        |walk: &Walk| walk.ordered_since(from).iter().filter(|one| matches!(one, Effect::Start { .. })).count();
    assert_eq!((starts(&walk), routes(&walk, from).len()), (2, 0));
    assert!(matches!(walk.end(), End::RolledBack { .. }));
    assert_eq!((starts(&walk), routes(&walk, from).len()), (2, 1));
}

#[test]
fn what_was_left_for_a_fault_of_its_own_is_nowhere_to_go_back_to() {
    let mut walk = Walk::new(&[]);
    walk.settings = shared();
    walk.track("1.0");
    let tries = std::cell::Cell::new(0);
    walk.end_with(&|effect| (is_route(effect) && tries.replace(tries.get() + 1) < 1).then(hindered));
    lift_all(&mut walk);
    walk.put(Input::Emptied { release: digest("1.0") }).unwrap();
    let from = walk.records.len();
    walk.track("2.0");
    walk.end_with(&|effect| matches!(effect, Effect::Probe { .. }).then(failed));
    assert!(routes(&walk, from).iter().all(|route| route.last_good.is_none()), "people go to 1.0");
}

#[test]
fn what_was_left_before_goes_on_leaving_when_a_candidate_ends_before_it_was_started() {
    let mut walk = at_share(5);
    judge(&mut walk, Verdict::Fail);
    walk.end();
    lift_all(&mut walk);
    let standby = walk.service.traffic.standby.clone();
    walk.track("3.0");
    settle(&mut walk);
    let tag = walk.offer("3.0").tag;
    walk.say(Event::Rejected { release: digest("3.0"), tag, reason: "slow".into() });
    walk.put(Input::Tick).unwrap();
    walk.end();
    // Its tunnels are closed at their deadline as before, and it is stopped after that and not sooner.
    assert_eq!(walk.service.traffic.route.as_ref().unwrap().leaving[0].side.release, digest("2.0"));
    assert_eq!(walk.service.traffic.standby, standby);
}

#[test]
fn a_candidate_that_died_is_started_again_where_nobody_can_go_back_from_it() {
    let mut walk = at_share(5);
    died(&mut walk, "a.blue");
    died(&mut walk, "b.blue");
    died(&mut walk, "a.green");
    let end = walk.end_with(&|effect| matches!(effect, Effect::Start { .. }).then(hindered));
    assert!(matches!(end, End::RollbackFailed { .. }), "{end:?}");
    assert!(walk.service.instances[&instance("a.green")].again_at.is_some());
    assert!(!walk.service.stays_down(&instance("a.green")));
}

#[test]
fn an_instance_of_another_release_that_does_not_end_is_not_the_candidates_fault() {
    let mut walk = at_share(100);
    pass(&mut walk);
    walk.now = walk.now.after(Span(DRAIN.0 * 2));
    walk.track("3.0");
    walk.end_with(&|effect| matches!(effect, Effect::Stop { .. }).then(failed));
    assert!(walk.service.rejected.is_empty());
}

#[test]
fn tunnels_that_are_being_closed_are_waited_for() {
    let mut walk = left_behind();
    // It says that it is empty no more: somebody's client is slow to answer the router's Close.
    walk.service.traffic.standby.as_mut().unwrap().empty = false;
    let deadline = walk.service.traffic.route.as_ref().unwrap().leaving[0].deadline;
    walk.track("3.0");
    settle(&mut walk);
    tick_at(&mut walk, deadline);
    assert!(walk.orders().is_empty(), "{:?}", walk.orders());
    tick_at(&mut walk, deadline.after(Span::seconds(15)));
    assert!(!walk.orders().is_empty());
}

#[test]
fn the_second_death_of_a_candidate_is_news_after_the_first_came_while_it_was_started() {
    let mut walk = serving();
    walk.track("2.0");
    walk.until(|effect| matches!(effect, Effect::Start { .. }));
    // Found down by a driver that has just begun, and started by the same.
    died(&mut walk, "a.green");
    walk.answer_one(&|_| None);
    assert_eq!(walk.service.instances[&instance("a.green")].again_at, None);
}

#[test]
fn nothing_is_started_while_the_router_has_not_confirmed_the_last_way_back_and_nothing_is_stopped() {
    let mut walk = at_share(100);
    pass(&mut walk);
    walk.begin(walk.back(&[], &[]));
    let end = walk.end_with(&|effect| is_route(effect).then(hindered));
    assert!(matches!(end, End::RollbackFailed { .. }), "{end:?}");
    lift_all(&mut walk);
    walk.now = walk.now.after(Span(WARM.0 + DRAIN.0));
    let from = walk.records.len();
    assert_eq!(walk.service.traffic.cools_at(), None, "1.0 was told to carry");
    walk.begin(Aim::Cool);
    assert_eq!(walk.end(), End::Cooled);
    walk.track("3.0");
    let end = walk.end();
    assert!(matches!(&end, End::Held { because, .. } if because.contains("way back from 2.0")), "{end:?}");
    assert!(walk.ordered_since(from).iter().all(Effect::is_housekeeping));
    walk.begin(walk.back(&[], &[]));
    assert!(matches!(walk.end(), End::RolledBack { .. }));
}

#[test]
fn what_people_go_back_to_is_looked_after_even_if_it_was_rejected_since() {
    let mut walk = at_share(100);
    pass(&mut walk);
    let tag = walk.offer("1.0").tag;
    walk.say(Event::Rejected { release: digest("1.0"), tag, reason: "slow".into() });
    died(&mut walk, "a.green");
    assert!(walk.service.stays_down(&instance("a.blue")), "it stands by, and nobody wants it");
    judge(&mut walk, Verdict::Fail);
    assert!(matches!(walk.service.run.as_ref().map(|run| &run.phase), Some(Phase::Unshifting { .. })));
    // The machine falls just now, and whoever drives next looks for what is down.
    assert!(!walk.service.stays_down(&instance("a.blue")));
}
