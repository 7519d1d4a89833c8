//! From samples to a verdict.

use crate::{NOW, minutes};
use lastgood_domain::{
    signal::{Rule, State, judge, leading_failures},
    terms::{Span, Timestamp},
};
use proptest::prelude::*;

const DRAIN: Rule = Rule::Drain { within: Span::minutes(9), empty: 0.0 };
const SPIKE: Rule = Rule::Spike { times: 3.0, over: Span::minutes(60), at_least: 5.0 };

fn state(rule: &Rule, values: &[f64]) -> State {
    judge(rule, &minutes(values), NOW).state
}

#[test]
fn a_threshold_fires_beyond_its_limits_and_says_them() {
    let rule = Rule::Threshold { above: Some(10.0), below: Some(2.0) };
    for (value, wanted, why) in [
        (10.5, State::Firing, "10.5 is above 10"),
        (10.0, State::Ok, "10 is not above 10 and not below 2"),
        (2.0, State::Ok, "2 is not above 10 and not below 2"),
        (1.0, State::Firing, "1 is below 2"),
    ] {
        let judged = judge(&rule, &minutes(&[100.0, value]), NOW);
        assert_eq!((judged.state, judged.why.as_str()), (wanted, why));
    }
    assert_eq!(state(&rule, &[]), State::CannotTell);
    assert_eq!(state(&rule, &[f64::NAN]), State::CannotTell);
}

#[test]
fn a_backlog_must_drain_within_its_window() {
    let cases: [(&[f64], State); 8] = [
        (&[9., 9., 9., 9., 9., 9., 9., 9., 9., 9.], State::Firing),
        (&[1., 2., 3., 4., 5., 6., 7., 8., 9., 10.], State::Firing),
        (&[10., 9., 8., 7., 6., 5., 4., 3., 2., 1.], State::Ok),
        // One sample that jumps is no trend, neither at the end nor at the beginning.
        (&[10., 10., 10., 10., 6., 6., 6., 6., 6., 99.], State::Ok),
        (&[99., 6., 6., 6., 6., 6., 6., 6., 6., 6.], State::Firing),
        // It was empty in between: what waits now is new.
        (&[50., 50., 50., 50., 0., 60., 70., 80., 90., 99.], State::Ok),
        // Too young, and too old.
        (&[9., 9., 9.], State::CannotTell),
        (&[], State::CannotTell),
    ];
    for (values, wanted) in cases {
        let judged = judge(&DRAIN, &minutes(values), NOW);
        assert_eq!(judged.state, wanted, "{values:?}: {}", judged.why);
    }
    let firing = judge(&DRAIN, &minutes(&[9.; 10]), NOW);
    assert_eq!(firing.why, "it does not drain: around 9 at the beginning of the last 9 min, around 9 at their end");
    // A window that the daemon slept through shows no trend.
    let mut holes = minutes(&[9.; 10]);
    holes.drain(2..9);
    assert_eq!(judge(&DRAIN, &holes, NOW).state, State::CannotTell);
    assert_eq!(judge(&DRAIN, &minutes(&[9.; 10]), Timestamp(NOW.0 + 3_600_000)).state, State::CannotTell);
}

#[test]
fn a_job_fires_when_its_last_runs_failed_one_after_another() {
    let failed = |runs: &[Option<bool>]| leading_failures(runs.iter().copied());
    assert_eq!(failed(&[Some(false), None, Some(false), Some(true), Some(false)]), Ok(2));
    assert_eq!(failed(&[Some(true), Some(false)]), Ok(0));
    assert_eq!(failed(&[None]), Err("the job has no run that ended".into()));
    assert_eq!(failed(&[]), Err("the job has no run that ended".into()));
    let rule = Rule::Failures { in_row: 3 };
    assert_eq!(state(&rule, &[2.0]), State::Ok);
    let judged = judge(&rule, &minutes(&[3.0]), NOW);
    assert_eq!((judged.state, judged.why.as_str()), (State::Firing, "the last 3 runs failed, the limit is 3 in a row"));
}

#[test]
fn a_spike_is_many_times_the_median_of_earlier_samples() {
    let with = |newest: f64| [&[2., 1., 2., 2., 3., 2., 2., 40., 2., 2., 1.], &[newest][..]].concat();
    assert_eq!(state(&SPIKE, &with(7.0)), State::Firing);
    assert_eq!(state(&SPIKE, &with(6.0)), State::Ok);
    // Few are no spike, whatever came before.
    assert_eq!(state(&SPIKE, &[0., 0., 0., 0., 0., 0., 0., 0., 0., 0., 0., 4.]), State::Ok);
    assert_eq!(state(&SPIKE, &[0., 0., 0., 0., 0., 0., 0., 0., 0., 0., 0., 5.]), State::Firing);
    assert_eq!(state(&SPIKE, &[2., 2., 2., 50.]), State::CannotTell);
    let judged = judge(&SPIKE, &minutes(&with(7.0)), NOW);
    assert_eq!(judged.why, "7 is a spike: the median of the last 1 h 0 min is 2, the limit 3 times that");
}

#[test]
fn one_gap_fires() {
    assert_eq!(state(&Rule::Gaps, &[0.0]), State::Ok);
    assert_eq!(state(&Rule::Gaps, &[1.0]), State::Firing);
    assert_eq!(state(&Rule::Gaps, &[]), State::CannotTell);
}

proptest! {
    #[test]
    fn what_only_grows_never_drains_and_what_only_falls_always_does(steps in prop::collection::vec(1u32..50, 10)) {
        let mut sum = 1.0;
        let rising: Vec<f64> = steps.iter().map(|step| { sum += f64::from(*step); sum }).collect();
        let falling: Vec<f64> = rising.iter().rev().copied().collect();
        prop_assert_eq!(state(&DRAIN, &rising), State::Firing);
        prop_assert_eq!(state(&DRAIN, &falling), State::Ok);
    }

    #[test]
    fn without_a_sample_in_the_window_nobody_knows(
        values in prop::collection::vec(-1e9f64..1e9, 0..30),
        later in 61u64..1_000,
    ) {
        let now = Timestamp(NOW.0 + (later * 60_000) as i64);
        for rule in [DRAIN, SPIKE] {
            prop_assert_eq!(judge(&rule, &minutes(&values), now).state, State::CannotTell);
        }
    }

    #[test]
    fn numbers_that_are_none_change_nothing(values in prop::collection::vec(0f64..1e6, 12), at in 0usize..12) {
        let with = minutes(&values);
        let mut without = with.clone();
        without.remove(at);
        let mut broken = with.clone();
        broken[at].value = f64::INFINITY;
        for rule in [DRAIN, SPIKE] {
            prop_assert_eq!(judge(&rule, &broken, NOW), judge(&rule, &without, NOW));
        }
    }

    #[test]
    fn a_larger_newest_number_never_turns_a_spike_into_none(
        earlier in prop::collection::vec(0f64..1e6, 10..40),
        newest in 0f64..1e6,
        more in 0f64..1e6,
    ) {
        let with = |newest: f64| { let mut all = earlier.clone(); all.push(newest); state(&SPIKE, &all) };
        prop_assert!(with(newest) != State::Firing || with(newest + more) == State::Firing);
    }

    #[test]
    fn failures_counted_never_exceed_those_there_are(runs in prop::collection::vec(prop::option::of(any::<bool>()), 0..40)) {
        let ended: Vec<bool> = runs.iter().flatten().copied().collect();
        match leading_failures(runs.iter().copied()) {
            Ok(count) => {
                let count = count as usize;
                prop_assert!(ended[..count].iter().all(|succeeded| !succeeded));
                prop_assert!(ended.get(count).is_none_or(|succeeded| *succeeded));
            }
            Err(_) => prop_assert!(ended.is_empty()),
        }
    }
}
