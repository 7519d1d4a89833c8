//! Shares grow one by one, on evidence only; holds and doubts let them stand.

use super::*;

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

#[test]
fn a_hold_that_comes_during_the_proof_of_sessions_keeps_the_share() {
    let mut walk = at_share(25);
    judge(&mut walk, Verdict::Pass);
    let Some(Phase::Shifting { until: Some(until), .. }) = walk.service.run.as_ref().map(|run| run.phase.clone())
    else {
        panic!("it bakes");
    };
    tick_at(&mut walk, until);
    walk.say(Event::HoldSet {
        hold: lastgood_domain::terms::HoldId(0),
        reason: reason("audit"),
        until: None,
        origin: None,
        in_flight: lastgood_domain::operations::hold::InFlight::Pause,
    });
    settle(&mut walk);
    assert_eq!(walk.service.traffic.share(), Share::percent(25));
}

#[test]
fn a_doubt_after_a_long_hold_counts_from_when_it_began() {
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
