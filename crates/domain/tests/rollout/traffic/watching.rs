//! The watch over a promoted release, and ways back that nothing keeps waiting.

use super::*;
use lastgood_domain::{
    alarm::alarms,
    notice::{Notice, NoticeKind, Severity, notice},
    rollout::IllegalStep,
    terms::ServiceName,
};

/// 2.0 has everything, 1.0 is warm.
fn promoted() -> Walk {
    let mut walk = at_share(100);
    pass(&mut walk);
    assert_eq!(walk.last_good(), "2.0");
    walk
}

fn fail(walk: &mut Walk, release: &str) {
    judge_of(walk, Judging { release: digest(release), share: Share::ALL }, Verdict::Fail);
}

fn is_start(effect: &Effect) -> bool {
    matches!(effect, Effect::Start { .. })
}

fn is_rehearsal(effect: &Effect) -> bool {
    matches!(effect, Effect::Rehearse { .. })
}

fn web() -> ServiceName {
    ServiceName::new("web").expect("a valid name")
}

#[test]
fn a_promoted_release_is_watched_while_the_next_one_is_looked_at() {
    let mut walk = promoted();
    walk.track("3.0");
    let rehearsal = walk.until(is_rehearsal);
    judge_of(&mut walk, Judging { release: digest("2.0"), share: Share::ALL }, Verdict::Pass);
    assert!(walk.orders().iter().any(|(_, effect)| is_rehearsal(effect)), "good news changes nothing");
    let from = walk.records.len();
    fail(&mut walk, "2.0");
    let late = walk.put(Input::Answer { order: rehearsal, answer: failed() });
    assert!(matches!(late, Err(IllegalStep::LateAnswer(_))), "the run on 3.0 is over: {late:?}");
    let end = walk.end();
    assert!(matches!(end, End::RolledBack { cause: Cause::Guard { share: Share::ALL, .. } }), "{end:?}");
    assert_eq!(routes(&walk, from)[0].last_good.as_ref().unwrap().release, digest("1.0"));
    assert_eq!(walk.last_good(), "1.0");
    assert!(walk.service.rejected.contains_key(&digest("2.0")) && !walk.service.rejected.contains_key(&digest("3.0")));
}

#[test]
fn a_promoted_release_that_loops_or_breaks_outcomes_goes_back_from_the_run_on_the_next_one_too() {
    let mut walk = promoted();
    walk.track("3.0");
    walk.until(is_rehearsal);
    let settings = walk.settings.clone();
    for _ in 0..3 {
        let died = Input::Died { instance: instance("a.green"), why: "killed".into(), settings: settings.clone() };
        walk.put(died).unwrap();
        walk.put(Input::Revived { instance: instance("a.green") }).unwrap();
    }
    assert!(matches!(walk.end(), End::RolledBack { cause: Cause::Candidate { .. } }));
    assert_eq!(walk.last_good(), "1.0");

    let mut walk = promoted();
    walk.track("3.0");
    walk.until(is_rehearsal);
    let outcomes = lastgood_domain::facts::Outcomes { good: 1, degraded: 0, broken: 99 };
    walk.put(Input::Counted { outcomes, settings }).unwrap();
    assert!(matches!(walk.end(), End::RolledBack { cause: Cause::Broken { .. } }));
    assert_eq!(walk.last_good(), "1.0");
}

#[test]
fn once_the_next_candidate_may_have_touched_the_data_the_promoted_release_is_on_trial_no_more() {
    let mut walk = promoted();
    walk.track("3.0");
    walk.until(is_start);
    fail(&mut walk, "2.0");
    assert!(matches!(walk.service.run.as_ref().unwrap().phase, Phase::Shifting { .. }));
    assert!(walk.service.traffic.judged.is_none());
}

#[test]
fn a_late_failure_that_nobody_can_go_back_from_pages_once_and_stands_as_an_alarm() {
    let mut walk = promoted();
    walk.now = walk.now.after(Span(WARM.0 + DRAIN.0));
    walk.track("3.0");
    settle(&mut walk);
    judge(&mut walk, Verdict::Fail);
    walk.end();
    let broken = |walk: &Walk| {
        let mut all = alarms(&web(), &walk.service, walk.now).into_iter();
        all.find(|alarm| alarm.kind == NoticeKind::Broken).map(|alarm| alarm.summary)
    };
    assert_eq!(broken(&walk), None);
    // 3.0 has been on the data: 2.0 was seen to read what it left, 1.0 was not.
    let from = walk.records.len();
    fail(&mut walk, "2.0");
    fail(&mut walk, "2.0");
    assert!(walk.service.run.is_none());
    let told: Vec<Notice> =
        walk.records[from..].iter().filter_map(|record| notice(&web(), &walk.service, record)).collect();
    let [Notice { kind: NoticeKind::Broken, severity: Severity::Critical, summary, hint }] = &told[..] else {
        panic!("one page: {told:?}");
    };
    assert_eq!(summary, "web: 2.0 fails, and nobody has proven a way back from it: 3 of 100 requests failed");
    assert_eq!(hint, "lastgood why web");
    let stands = broken(&walk).expect("it is wrong now");
    assert_eq!(stands, "web: 2.0 fails under its traffic, and nobody has proven a way back from it");
    judge_of(&mut walk, Judging { release: digest("2.0"), share: Share::ALL }, Verdict::Pass);
    assert_eq!(broken(&walk), None);
}

#[test]
fn a_failure_that_goes_back_by_itself_is_told_as_such_only() {
    let mut walk = promoted();
    let from = walk.records.len();
    fail(&mut walk, "2.0");
    let judged = &walk.records[from];
    assert!(matches!(judged.event, Event::Traffic(TrafficEvent::Judged { .. })), "{judged:?}");
    let mut before = promoted().service;
    before.apply(judged);
    assert_eq!(notice(&web(), &before, judged), None);
}

#[test]
fn one_instance_that_hangs_in_its_start_keeps_nobody_at_what_fails_while_another_carries_people() {
    let mut walk = at_share(25);
    let settings = walk.settings.clone();
    walk.put(Input::Died { instance: instance("a.blue"), why: "killed".into(), settings }).unwrap();
    let from = walk.records.len();
    judge(&mut walk, Verdict::Fail);
    let orders = walk.ordered_since(from);
    assert!(matches!(&orders[..], [Effect::Start { .. }, Effect::Route { .. }]), "{orders:?}");
    let route = walk.until(is_route);
    walk.put(Input::Answer { order: route, answer: Answer::Routed { took: Span(3) } }).unwrap();
    // Everybody is back and it is written; only the end waits for the instance.
    assert!(walk.service.rejected.contains_key(&digest("2.0")));
    assert_eq!((walk.service.holds.len(), walk.service.traffic.share()), (1, Share::NONE));
    let [(start, Effect::Start { .. })] = &walk.orders()[..] else { panic!("it is started: {:?}", walk.orders()) };
    walk.put(Input::Answer { order: *start, answer: hindered() }).unwrap();
    assert!(walk.service.run.is_some(), "it is tried again");
    assert!(matches!(walk.end(), End::RolledBack { cause: Cause::Guard { .. } }));
    assert_eq!((walk.service.holds.len(), routes(&walk, from).len()), (1, 1));
}

#[test]
fn a_release_that_must_be_started_is_gone_back_to_with_what_is_up_of_it_within_half_a_minute() {
    let mut walk = promoted();
    walk.now = walk.now.after(Span(WARM.0 + DRAIN.0));
    walk.begin(Aim::Cool);
    assert_eq!(walk.end(), End::Cooled);
    let began = walk.now;
    walk.begin(walk.back(&[], &[]));
    walk.answer_one(&|_| None);
    assert!(!walk.orders().iter().any(|(_, effect)| is_route(effect)), "the other may be up in a moment");
    let wakes = rollout::wakes_at(&walk.service, walk.now).expect("it does not wait for ever");
    assert!(wakes <= began.after(Span::seconds(25)));
    tick_at(&mut walk, wakes);
    assert!(walk.orders().iter().any(|(_, effect)| is_route(effect)), "{:?}", walk.orders());
    assert!(matches!(walk.end(), End::RolledBack { .. }));
    assert_eq!((walk.runs("a.blue"), walk.runs("b.blue")), ("1.0".into(), "1.0".into()));

    // Nobody is sent to one of which nothing is up.
    let mut walk = promoted();
    walk.now = walk.now.after(Span(WARM.0 + DRAIN.0));
    walk.begin(Aim::Cool);
    walk.end();
    walk.begin(walk.back(&[], &[]));
    tick_after(&mut walk, Span::seconds(60));
    assert!(!walk.orders().iter().any(|(_, effect)| is_route(effect)));
}
