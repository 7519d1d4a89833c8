//! A release that answers by a fallback more than it may: people are told, and nobody is moved unless so configured.

use super::*;
use lastgood_domain::{
    alarm::alarms,
    event::Health,
    notice::{NoticeKind, Severity, notice},
    terms::{ServiceName, Timestamp},
    traffic::DegradedSettings,
    words,
};

const NUMBERS: &str = "60 of 100 answers came by a fallback";

fn look(walk: &mut Walk, release: &str, share: Share, health: Health) {
    let (settings, because) = (walk.settings.clone(), NUMBERS.to_owned());
    let on = Judging { release: digest(release), share };
    walk.put(Input::Degrading { on, health, because, settings }).expect("a look always has a place");
}

fn of_settings(walk: &mut Walk, goes_back: bool) {
    let degraded = DegradedSettings { percent: 20, against_last_good_percent: 150, outcomes_min: 20, goes_back };
    walk.settings.traffic.as_mut().expect("its traffic is shared").degraded = Some(degraded);
}

/// 1.0 serves, 2.0 has a quarter; its run began with these settings.
fn at_a_quarter(goes_back: bool) -> Walk {
    let mut walk = serving();
    of_settings(&mut walk, goes_back);
    walk.track("2.0");
    settle(&mut walk);
    pass(&mut walk);
    settle(&mut walk);
    assert_eq!(walk.service.traffic.share(), Share::percent(25));
    walk
}

fn degraded(walk: &Walk) -> Option<String> {
    let web = ServiceName::new("web").expect("a valid name");
    let mut all = alarms(&web, &walk.service, walk.now).into_iter();
    all.find(|alarm| alarm.kind == NoticeKind::Degraded).map(|alarm| alarm.summary)
}

#[test]
fn people_are_told_once_the_alarm_stands_while_it_lasts_and_the_share_goes_on() {
    let mut walk = at_a_quarter(false);
    let (web, from) = (ServiceName::new("web").expect("a valid name"), walk.records.len());
    let quarter = Share::percent(25);
    look(&mut walk, "2.0", quarter, Health::Good);
    look(&mut walk, "2.0", quarter, Health::CannotTell);
    assert_eq!((walk.records.len(), degraded(&walk)), (from, None), "nothing is no news");
    look(&mut walk, "2.0", quarter, Health::Degraded);
    look(&mut walk, "2.0", quarter, Health::Degraded);
    let [record] = &walk.records[from..] else { panic!("one record: {:?}", &walk.records[from..]) };
    let told = notice(&web, &walk.service, record).expect("people are told");
    assert_eq!((told.kind, told.severity), (NoticeKind::Degraded, Severity::Warning));
    assert_eq!(told.summary, format!("web: 2.0 is degraded: {NUMBERS}"));
    assert_eq!(degraded(&walk).as_ref(), Some(&told.summary));
    let why = words::why(&web, &walk.service, None, walk.now);
    assert!(why.iter().any(|one| one.because == format!("2.0: {NUMBERS}")), "{why:?}");
    // It goes on by what its guards say, and what is degraded stays so until it is seen to be no more.
    pass(&mut walk);
    settle(&mut walk);
    pass(&mut walk);
    settle(&mut walk);
    assert_eq!((walk.last_good(), degraded(&walk).is_some()), ("2.0".into(), true));
    look(&mut walk, "2.0", Share::ALL, Health::CannotTell);
    assert!(degraded(&walk).is_some());
    look(&mut walk, "2.0", Share::ALL, Health::Good);
    assert_eq!(degraded(&walk), None);
}

#[test]
fn where_it_is_so_configured_the_traffic_goes_back_and_the_release_is_rejected() {
    let mut walk = at_a_quarter(true);
    look(&mut walk, "2.0", Share::percent(25), Health::Degraded);
    let end = walk.end();
    let End::RolledBack { cause: Cause::Guard { because, .. } } = &end else { panic!("{end:?}") };
    assert_eq!(because, NUMBERS);
    assert!(walk.service.rejected.contains_key(&digest("2.0")));
    assert_eq!((walk.last_good(), degraded(&walk)), ("1.0".into(), None));
}

#[test]
fn a_promoted_release_goes_back_for_it_too_and_a_late_look_at_another_share_is_about_nothing() {
    let mut walk = at_a_quarter(true);
    let from = walk.records.len();
    look(&mut walk, "2.0", Share::percent(5), Health::Degraded);
    look(&mut walk, "1.0", Share::percent(25), Health::Degraded);
    assert_eq!(walk.records.len(), from);
    pass(&mut walk);
    settle(&mut walk);
    pass(&mut walk);
    settle(&mut walk);
    assert_eq!(walk.last_good(), "2.0");
    look(&mut walk, "2.0", Share::ALL, Health::Degraded);
    assert!(matches!(walk.end(), End::RolledBack { cause: Cause::Guard { share: Share::ALL, .. } }));
    assert_eq!(walk.last_good(), "1.0");
}

fn review(walk: &mut Walk) -> usize {
    let settings = walk.settings.clone();
    walk.put(Input::Review { settings }).expect("a review always has a place").len()
}

/// 2.0 is promoted and was found to be degraded at a quarter.
fn promoted_and_degraded() -> Walk {
    let mut walk = at_a_quarter(false);
    look(&mut walk, "2.0", Share::percent(25), Health::Degraded);
    // What its run began with holds until it ends.
    let configured = walk.settings.traffic.as_mut().and_then(|traffic| traffic.degraded.take());
    assert_eq!((review(&mut walk), degraded(&walk).is_some()), (0, true));
    walk.settings.traffic.as_mut().expect("its traffic is shared").degraded = configured;
    pass(&mut walk);
    settle(&mut walk);
    pass(&mut walk);
    settle(&mut walk);
    assert!(walk.service.run.is_none() && walk.last_good() == "2.0");
    walk
}

#[test]
fn the_alarm_ends_with_the_watch_and_not_before() {
    let mut walk = promoted_and_degraded();
    let promoted = walk.service.promoted_at.expect("it was promoted");
    walk.now = Timestamp(promoted.after(walk.settings.watch).0 - 1);
    assert_eq!((review(&mut walk), degraded(&walk).is_some()), (0, true));
    walk.now = promoted.after(walk.settings.watch);
    assert_eq!((review(&mut walk), degraded(&walk)), (1, None));
    assert_eq!(review(&mut walk), 0, "said once");
}

#[test]
fn the_alarm_ends_where_nothing_counts_as_a_fallback_any_longer() {
    let mut walk = promoted_and_degraded();
    walk.settings.traffic.as_mut().expect("its traffic is shared").degraded = None;
    assert_eq!((review(&mut walk), degraded(&walk)), (1, None));
}
