//! What a guard promises, checked with code that shares nothing with the code that decides.

use lastgood_domain::{
    guard::{Against, Doubt, Guard, GuardRule, GuardSettings, GuardVerdict, Rate, Taken},
    terms::{Digest, Span, Timestamp},
    traffic::{Closes, Counts, Latency, Slice},
};
use proptest::prelude::*;

const START: u64 = 1_800_000_000;

fn candidate() -> Digest {
    Digest::of(b"1.1.0")
}

fn last_good() -> Digest {
    Digest::of(b"1.0.0")
}

fn at(second: u64) -> Timestamp {
    Timestamp(i64::try_from((START + second) * 1_000).expect("a time of this century"))
}

fn guard() -> Guard {
    Guard::new(GuardSettings::default(), candidate(), Some(last_good()), at(0))
}

/// Counts of `fine` requests in 40 ms, `slow` ones in 4 s and `failed` ones.
fn counts(fine: u64, slow: u64, failed: u64) -> Counts {
    let mut times = vec![0; Latency::bucket(4_000_000) + 1];
    times[Latency::bucket(40_000)] = fine;
    times[Latency::bucket(4_000_000)] = slow;
    Counts { status: [0, fine + slow, 0, 0, failed], latency: Latency::of_counts(times), ..Counts::default() }
}

fn slice(second: u64, mine: Counts, theirs: Counts) -> Slice {
    Slice { second: START + second, counts: vec![(candidate(), mine), (last_good(), theirs)] }
}

/// Feeds `seconds` equal seconds from `from` on; gives the verdict at the end.
fn feed(guard: &mut Guard, from: u64, seconds: u64, mine: &Counts, theirs: &Counts) -> GuardVerdict {
    for second in from..from + seconds {
        assert_eq!(guard.take(&slice(second, mine.clone(), theirs.clone())), Taken::Counted);
    }
    guard.verdict(at(from + seconds - 1))
}

fn failed_by(verdict: &GuardVerdict) -> Option<GuardRule> {
    match verdict {
        GuardVerdict::Failed { rule, .. } => Some(*rule),
        _ => None,
    }
}

fn is_healthy(verdict: &GuardVerdict) -> bool {
    matches!(verdict, GuardVerdict::Healthy { .. })
}

fn doubt(verdict: &GuardVerdict) -> Option<Doubt> {
    match verdict {
        GuardVerdict::CannotTell { why, .. } => Some(*why),
        _ => None,
    }
}

fn only(sustained: bool) -> Guard {
    let settings = GuardSettings { sustained, early: !sustained, ..GuardSettings::default() };
    Guard::new(settings, candidate(), Some(last_good()), at(0))
}

#[test]
fn total_failure_at_a_hundred_a_second_goes_back_within_one_second() {
    for others in [1_900, 300] {
        let verdict = feed(&mut guard(), 0, 1, &counts(0, 0, 100), &counts(others, 0, others / 200));
        assert!(matches!(failed_by(&verdict), Some(GuardRule::EarlyErrors { .. })), "{verdict:?}");
    }
}

/// The baseline that others compare with: nothing, of which every multiple is nothing.
#[test]
fn an_always_failing_candidate_beside_a_last_good_without_an_error_is_found() {
    for sustained in [true, false] {
        let mut guard = only(sustained);
        let verdict = feed(&mut guard, 0, 180, &counts(0, 0, 1), &counts(19, 0, 0));
        assert!(failed_by(&verdict).is_some(), "{verdict:?}");
    }
}

#[test]
fn zero_errors_on_both_are_healthy_as_soon_as_there_is_enough_evidence_and_not_before() {
    let mut guard = guard();
    let verdict = feed(&mut guard, 0, 100, &counts(2, 0, 0), &counts(38, 0, 0));
    assert_eq!(doubt(&verdict), Some(Doubt::TooFew));
    assert_eq!(
        verdict.says(),
        "cannot tell yet: 15 requests without a failure are still needed; 0 of 200 requests \
        failed (0 %), p95 41 ms; last-good 0 of 3,800 (0 %), p95 41 ms; in 1 min"
    );
    let verdict = feed(&mut guard, 100, 8, &counts(2, 0, 0), &counts(38, 0, 0));
    assert!(matches!(verdict, GuardVerdict::Healthy { .. }), "{verdict:?}");
}

/// All of it failing on both is no release's fault, whatever the candidate's own numbers are.
#[test]
fn when_both_releases_fail_alike_the_machine_is_named_and_not_the_candidate() {
    let mut guard = guard();
    let verdict = feed(&mut guard, 0, 600, &counts(0, 0, 5), &counts(0, 0, 95));
    assert_eq!(doubt(&verdict), Some(Doubt::BothFail));
    assert!(verdict.says().starts_with("cannot tell: last-good fails too"), "{}", verdict.says());
}

#[test]
fn a_rate_above_the_limit_is_found_after_the_time_it_must_last_and_not_before() {
    let mut guard = only(true);
    let (mine, theirs) = (counts(97, 0, 3), counts(1_880, 0, 20));
    assert_eq!(failed_by(&feed(&mut guard, 0, 179, &mine, &theirs)), None);
    let verdict = feed(&mut guard, 179, 1, &mine, &theirs);
    let rule = GuardRule::ErrorRate { above: Rate::percent(2), held: Span::minutes(3) };
    assert_eq!(failed_by(&verdict), Some(rule));
    assert_eq!(
        verdict.says(),
        "error rate above 2 % for 3 min: 540 of 18,000 requests failed (3 %), p95 41 ms; last-good 3,600 of 342,000 \
         (1.1 %), p95 41 ms; in 3 min"
    );
}

#[test]
fn one_good_minute_in_between_begins_the_time_anew() {
    let mut guard = only(true);
    let (bad, good) = (counts(97, 0, 3), counts(100, 0, 0));
    let theirs = counts(1_880, 0, 20);
    feed(&mut guard, 0, 150, &bad, &theirs);
    feed(&mut guard, 150, 60, &good, &theirs);
    assert_eq!(failed_by(&feed(&mut guard, 210, 150, &bad, &theirs)), None);
    assert!(failed_by(&feed(&mut guard, 360, 60, &bad, &theirs)).is_some());
}

#[test]
fn a_slow_candidate_is_found_by_either_way() {
    let (mine, theirs) = (counts(16, 4, 0), counts(380, 0, 0));
    let verdict = feed(&mut only(true), 0, 180, &mine, &theirs);
    let rule = GuardRule::P95 { above: Span(1_500), held: Span::minutes(3) };
    assert_eq!(failed_by(&verdict), Some(rule));
    let verdict = feed(&mut only(false), 0, 60, &mine, &theirs);
    assert!(matches!(failed_by(&verdict), Some(GuardRule::EarlySlow { .. })), "{verdict:?}");
}

#[test]
fn worse_than_last_good_counts_below_the_limit_too_but_not_below_its_quarter() {
    // 1.5 % beside 0.1 %, both under the limit of 2 %.
    let verdict = feed(&mut only(true), 0, 180, &counts(197, 0, 3), &counts(3_796, 0, 4));
    assert_eq!(failed_by(&verdict), Some(GuardRule::WorseThanLastGood { percent: 150, held: Span::minutes(3) }));
    // 0.4 % beside 0.02 %: twenty times as much of hardly anything.
    let mut guard = guard();
    let verdict = feed(&mut guard, 0, 600, &counts(249, 0, 1), &counts(4_999, 0, 1));
    assert!(matches!(verdict, GuardVerdict::Healthy { .. }), "{verdict:?}");
}

#[test]
fn tunnels_that_are_cut_or_closed_with_an_error_are_failures() {
    let broken = Closes { cut: 1, errors: 1, clean: 0, drained: 0 };
    let mine = Counts { status: [2, 0, 0, 0, 0], opened: 2, closes: broken, ..Counts::default() };
    let fine = Closes { clean: 2, ..Closes::default() };
    let theirs = Counts { status: [2, 0, 0, 0, 0], opened: 2, closes: fine, ..Counts::default() };
    let verdict = feed(&mut guard(), 0, 60, &mine, &theirs);
    assert!(matches!(failed_by(&verdict), Some(GuardRule::EarlyErrors { .. })), "{verdict:?}");
    assert_eq!(verdict.numbers().candidate.error_rate(), Rate::percent(50));
}

#[test]
fn a_request_that_another_release_saved_still_failed() {
    let mine = Counts { saved: 5, ..counts(5, 0, 5) };
    let verdict = feed(&mut guard(), 0, 20, &mine, &counts(190, 0, 0));
    assert!(failed_by(&verdict).is_some());
    let one = Counts { saved: 1, ..counts(0, 0, 1) };
    let said = feed(&mut guard(), 0, 1, &one, &counts(190, 0, 0)).says();
    assert!(
        said.contains("1 of 1 request failed (100 %), 1 of them was saved by a retry on last-good; last"),
        "{said}"
    );
    assert!(verdict.says().contains(" of them were saved by a retry on last-good, p95 "), "{}", verdict.says());
}

#[test]
fn requests_of_our_own_are_evidence_and_are_told_apart() {
    let mine = Counts { synthetic: 4, ..counts(5, 0, 0) };
    let verdict = feed(&mut guard(), 0, 60, &mine, &counts(0, 0, 0));
    assert!(is_healthy(&verdict), "{verdict:?}");
    assert!(
        verdict.says().starts_with("healthy: 0 of 300 requests (240 synthetic) failed (0 %)"),
        "{}",
        verdict.says()
    );
}

#[test]
fn without_traffic_or_counts_nobody_can_tell() {
    let mut guard = guard();
    let none = Counts::default();
    assert_eq!(doubt(&guard.verdict(at(5))), Some(Doubt::NoCandidateTraffic));
    assert_eq!(doubt(&guard.verdict(at(11))), Some(Doubt::NoCounts));
    let verdict = feed(&mut guard, 0, 600, &none, &counts(100, 0, 0));
    assert_eq!(doubt(&verdict), Some(Doubt::NoCandidateTraffic));
    assert_eq!(verdict.says(), "cannot tell: the candidate had no request; 215 requests are needed");
    // Healthy once, and then silence: it is not healthy any more.
    assert!(matches!(feed(&mut guard, 600, 60, &counts(10, 0, 0), &none), GuardVerdict::Healthy { .. }));
    assert_eq!(doubt(&guard.verdict(at(671))), Some(Doubt::NoCounts));
}

#[test]
fn without_last_goods_traffic_the_limits_alone_judge() {
    let none = Counts::default();
    let verdict = feed(&mut guard(), 0, 60, &counts(4, 0, 1), &none);
    assert!(matches!(failed_by(&verdict), Some(GuardRule::EarlyErrors { .. })), "{verdict:?}");
    assert_eq!(verdict.numbers().against, Against::Limit);
    let verdict = feed(&mut guard(), 0, 600, &counts(199, 0, 1), &none);
    assert!(matches!(verdict, GuardVerdict::Healthy { .. }), "{verdict:?}");
}

/// After 100 % nothing is compared at the same time: last-good's record excuses what was always so.
#[test]
fn the_watch_after_all_traffic_is_held_against_what_last_good_showed_before() {
    let (none, three_percent) = (Counts::default(), counts(97, 0, 3));
    let before = |theirs: &Counts| {
        let settings = GuardSettings { sustained: false, ..GuardSettings::default() };
        let mut guard = Guard::new(settings, candidate(), Some(last_good()), at(0));
        feed(&mut guard, 0, 60, &counts(100, 0, 0), theirs);
        guard.next_stage(None, at(60))
    };
    let verdict = feed(&mut before(&counts(97, 0, 3)), 60, 300, &three_percent, &none);
    assert_eq!(failed_by(&verdict), None);
    assert_eq!(verdict.numbers().against, Against::Record);
    let verdict = feed(&mut before(&counts(100, 0, 0)), 60, 300, &three_percent, &none);
    assert!(failed_by(&verdict).is_some(), "{verdict:?}");
    assert!(verdict.says().starts_with("the failures are more than last-good had"), "{}", verdict.says());
}

#[test]
fn a_new_stage_asks_for_new_evidence_of_health() {
    let mut guard = guard();
    assert!(matches!(feed(&mut guard, 0, 60, &counts(10, 0, 0), &counts(190, 0, 0)), GuardVerdict::Healthy { .. }));
    let mut next = guard.next_stage(Some(last_good()), at(60));
    assert_eq!(next.take(&slice(59, counts(1_000, 0, 0), Counts::default())), Taken::TooLate);
    assert_eq!(doubt(&feed(&mut next, 60, 5, &counts(10, 0, 0), &counts(30, 0, 0))), Some(Doubt::TooFew));
}

#[test]
fn a_clock_that_was_set_back_is_said_and_counting_goes_on_from_there() {
    let mut guard = guard();
    feed(&mut guard, 0, 600, &counts(1, 0, 0), &counts(19, 0, 0));
    assert_eq!(doubt(&guard.verdict(at(300))), Some(Doubt::ClockSetBack));
    assert_eq!(guard.take(&slice(300, counts(0, 0, 100), Counts::default())), Taken::TooLate);
    guard.clock_set_back(at(300));
    let verdict = feed(&mut guard, 300, 30, &counts(0, 0, 1), &counts(19, 0, 0));
    assert!(matches!(failed_by(&verdict), Some(GuardRule::EarlyErrors { .. })), "{verdict:?}");
}

#[test]
fn a_single_burst_of_one_person_is_no_reason_to_go_back() {
    let mut guard = guard();
    feed(&mut guard, 0, 300, &counts(1, 0, 0), &counts(19, 0, 0));
    let verdict = feed(&mut guard, 300, 1, &counts(0, 0, 8), &counts(19, 0, 0));
    assert_eq!(failed_by(&verdict), None, "{verdict:?}");
    assert!(!matches!(verdict, GuardVerdict::Healthy { .. }));
}

#[test]
fn the_largest_counts_there_are_break_nothing() {
    let huge = |failed| Counts { status: [0, u64::MAX / 4, 0, 0, failed], ..Counts::default() };
    let mut guard = guard();
    let verdict = feed(&mut guard, 0, 400, &huge(1), &huge(1 << 40));
    assert_eq!(failed_by(&verdict), None, "{verdict:?}");
    let verdict = feed(&mut guard, 400, 200, &huge(u64::MAX / 4), &huge(1 << 40));
    assert!(failed_by(&verdict).is_some(), "{verdict:?}");
}

/// P(at most `failed` of `trials` fail), each with `chance`: summed term by term.
fn tail(failed: u64, trials: u64, chance: f64) -> f64 {
    let (mut term, mut sum) = ((1.0 - chance).powf(trials as f64), 0.0);
    for count in 0..=failed.min(trials) {
        sum += term;
        term *= (trials - count) as f64 / (count + 1) as f64 * chance / (1.0 - chance);
    }
    sum
}

/// Seconds of a stage with some traffic: fine, slow and failed requests of the candidate, then last-good's.
fn stage() -> impl Strategy<Value = Vec<[u64; 6]>> {
    let errors = prop_oneof![6 => Just(0_u64), 1 => 1_u64..4];
    let second = (0_u64..6, errors.clone(), errors.clone(), 0_u64..40, errors.clone(), errors);
    prop::collection::vec(second.prop_map(|(a, b, c, d, e, f)| [a, b, c, d, e, f]), 1..400)
}

fn slices(stage: &[[u64; 6]]) -> Vec<Slice> {
    let one =
        |(second, [a, b, c, d, e, f]): (usize, &[u64; 6])| slice(second as u64, counts(*a, *b, *c), counts(*d, *e, *f));
    stage.iter().enumerate().map(one).collect()
}

proptest! {
    /// Healthy is only said where the counts would be seen with a chance of one in twenty at most, were the rates at their
    /// limits: 2 % of errors, and 5 % of requests slower than the p95 may be.
    #[test]
    fn nothing_is_promoted_on_too_little_evidence(stage in stage()) {
        let mut guard = guard();
        let (mut requests, mut failed, mut answered, mut slow) = (0, 0, 0, 0);
        for (second, (slice, [a, b, c, ..])) in slices(&stage).iter().zip(&stage).enumerate() {
            guard.take(slice);
            (requests, failed, answered, slow) = (requests + a + b + c, failed + c, answered + a + b, slow + b);
            if let GuardVerdict::Healthy { .. } = guard.verdict(at(second as u64)) {
                prop_assert!(tail(failed, requests, 0.02) <= 0.05 + 1e-9, "{failed} of {requests} failed");
                prop_assert!(tail(slow, answered, 0.05) <= 0.05 + 1e-9, "{slow} of {answered} were slow");
            }
        }
    }

    /// Slices that come again, or up to nine seconds late, change nothing; nor does a restart in between.
    #[test]
    fn repeated_and_reordered_slices_and_a_restart_change_nothing(stage in stage(), seed in any::<u64>(), cut in 0_usize..400) {
        let slices = slices(&stage);
        let mut plain = guard();
        slices.iter().for_each(|slice| assert_eq!(plain.take(slice), Taken::Counted));
        // Each block of nine in an order drawn from the seed, and everything so far once more now and then.
        let (mut other, mut dice) = (guard(), seed);
        for (number, block) in slices.chunks(9).enumerate() {
            let mut block: Vec<&Slice> = block.iter().collect();
            for place in (1..block.len()).rev() {
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                block.swap(place, (dice >> 33) as usize % (place + 1));
            }
            for slice in &block {
                prop_assert_eq!(other.take(slice), Taken::Counted);
                prop_assert!(other.take(slice) != Taken::Counted);
            }
            if number == cut / 9 {
                slices[..number * 9].iter().for_each(|slice| assert!(other.take(slice) != Taken::Counted));
                other = serde_json::from_str(&serde_json::to_string(&other).unwrap()).unwrap();
            }
        }
        prop_assert_eq!(plain, other);
    }

    /// Seconds that are missing are neither good nor bad: what is left is judged as if nothing else had been.
    #[test]
    fn missing_seconds_make_nothing_healthy(stage in stage(), keep in prop::collection::vec(any::<bool>(), 400)) {
        let mut guard = guard();
        let (mut requests, mut failed) = (0, 0);
        for ((slice, [a, b, c, ..]), _) in slices(&stage).iter().zip(&stage).zip(&keep).filter(|(_, keep)| **keep) {
            guard.take(slice);
            (requests, failed) = (requests + a + b + c, failed + c);
        }
        if let GuardVerdict::Healthy { .. } = guard.verdict(at(stage.len() as u64)) {
            prop_assert!(tail(failed, requests, 0.02) <= 0.05 + 1e-9, "{failed} of {requests} failed");
        }
    }

    /// A candidate that failed would have failed with more errors too, and no later.
    #[test]
    fn more_errors_never_make_a_failed_candidate_anything_better(
        stage in stage(), more in prop::collection::vec(0_u64..4, 400), burst in 0_u64..6,
    ) {
        let (mut plain, mut worse) = (guard(), guard());
        for (second, (mut now, more)) in stage.into_iter().zip(more).enumerate() {
            let second = second as u64;
            // Some stages are bad enough to fail by themselves.
            now[2] += burst * u64::from(second.is_multiple_of(7));
            plain.take(&slice(second, counts(now[0], now[1], now[2]), counts(now[3], now[4], now[5])));
            let turned = more.min(now[0]);
            worse.take(&slice(second, counts(now[0] - turned, now[1], now[2] + turned), counts(now[3], now[4], now[5])));
            let (plain, worse) = (plain.verdict(at(second)), worse.verdict(at(second)));
            if failed_by(&plain).is_some_and(|rule| !matches!(rule, GuardRule::EarlySlow { .. } | GuardRule::P95 { .. })) {
                prop_assert!(failed_by(&worse).is_some(), "{plain:?} but {worse:?}");
            }
            prop_assert!(!(is_healthy(&worse) && failed_by(&plain).is_some()), "{plain:?} but {worse:?}");
        }
    }
}
