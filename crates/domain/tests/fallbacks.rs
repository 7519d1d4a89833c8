//! When a release counts as degraded: its own counts against the limit, last-good at the same time, and last-good before.

use lastgood_domain::{
    event::Health,
    guard::Fallbacks,
    terms::Digest,
    traffic::{Counts, DegradedSettings, Slice},
};

fn candidate() -> Digest {
    Digest::of(b"1.1.0")
}

fn last_good() -> Digest {
    Digest::of(b"1.0.0")
}

fn fallbacks() -> Fallbacks {
    let settings = DegradedSettings { percent: 20, against_last_good_percent: 150, outcomes_min: 20, goes_back: false };
    Fallbacks::new(settings, candidate(), Some(last_good()))
}

/// Answers of one second, `degraded` of them by a fallback.
fn counts(fine: u64, degraded: u64) -> Counts {
    Counts { status: [0, fine + degraded, 0, 0, 0], degraded, ..Counts::default() }
}

fn slice(second: u64, mine: Counts, theirs: Counts) -> Slice {
    Slice { second, counts: vec![(candidate(), mine), (last_good(), theirs)] }
}

fn feed(fallbacks: &mut Fallbacks, seconds: std::ops::Range<u64>, mine: &Counts, theirs: &Counts) -> Health {
    seconds.for_each(|second| fallbacks.take(&slice(second, mine.clone(), theirs.clone())));
    fallbacks.health()
}

#[test]
fn more_by_a_fallback_than_allowed_and_than_last_good_is_degraded_and_less_is_good_again() {
    let mut one = fallbacks();
    assert_eq!(feed(&mut one, 0..1, &counts(5, 14), &counts(50, 0)), Health::CannotTell, "19 are too few");
    assert_eq!(feed(&mut one, 1..20, &counts(2, 3), &counts(50, 0)), Health::Degraded);
    let said = one.says();
    assert!(said.starts_with("71 of 114 answers came by a fallback (62 %, allowed are 20 %)"), "{said}");
    assert!(said.ends_with("last-good 0 of 1000 (0 %); in 20.0 s"), "{said}");
    // Three minutes later the bad ones are out of sight.
    assert_eq!(feed(&mut one, 20..250, &counts(5, 0), &counts(50, 0)), Health::Good);
}

#[test]
fn what_last_good_needs_as_much_is_not_the_candidates() {
    let mut one = fallbacks();
    assert_eq!(feed(&mut one, 0..60, &counts(4, 6), &counts(40, 60)), Health::Good);
    // Half as much again is still not more.
    assert_eq!(feed(&mut fallbacks(), 0..60, &counts(11, 9), &counts(70, 30)), Health::Good);
    assert_eq!(feed(&mut fallbacks(), 0..60, &counts(5, 15), &counts(70, 30)), Health::Degraded);
}

#[test]
fn once_it_has_all_it_is_held_to_what_last_good_showed_before() {
    let mut beside = fallbacks();
    feed(&mut beside, 0..60, &counts(4, 6), &counts(40, 60));
    let mut alone = beside.next_stage(None);
    assert_eq!(feed(&mut alone, 60..120, &counts(4, 6), &counts(0, 0)), Health::Good);
    assert!(alone.says().contains("last-good 3600 of 6000 (60 %)"), "{}", alone.says());
    let mut clean = fallbacks();
    feed(&mut clean, 0..60, &counts(10, 0), &counts(100, 0));
    assert_eq!(feed(&mut clean.next_stage(None), 60..300, &counts(4, 6), &counts(0, 0)), Health::Degraded);
}

#[test]
fn nobody_can_tell_that_it_is_worse_where_nothing_is_known_of_last_good() {
    // As after a restart of the daemon, once last-good has no traffic any more.
    let settings = DegradedSettings { percent: 20, against_last_good_percent: 150, outcomes_min: 20, goes_back: true };
    let alone = || Fallbacks::new(settings, candidate(), None);
    assert_eq!(feed(&mut alone(), 0..60, &counts(4, 6), &counts(0, 0)), Health::CannotTell);
    assert_eq!(feed(&mut alone(), 0..60, &counts(9, 1), &counts(0, 0)), Health::Good);
    // Too little is known as well; what was known before stands beside a last-good without traffic, however few are enough.
    assert_eq!(feed(&mut fallbacks(), 0..19, &counts(4, 6), &counts(1, 0)), Health::CannotTell);
    let any = DegradedSettings { outcomes_min: 0, ..settings };
    let mut one = Fallbacks::new(any, candidate(), Some(last_good()));
    feed(&mut one, 0..60, &counts(4, 6), &counts(40, 60));
    assert_eq!(feed(&mut one.next_stage(None), 60..120, &counts(4, 6), &counts(0, 0)), Health::Good);
}

#[test]
fn a_failure_is_no_answer_by_a_fallback_and_chance_is_no_release() {
    let broken = Counts { status: [0, 4, 0, 0, 6], degraded: 6, ..Counts::default() };
    let mut one = fallbacks();
    feed(&mut one, 0..60, &broken, &counts(100, 0));
    assert!(one.says().starts_with("240 of 600"), "those that failed are broken, not degraded: {}", one.says());
    // A little above the limit for a moment may be chance: neither is said.
    assert_eq!(feed(&mut fallbacks(), 0..4, &counts(7, 3), &counts(100, 0)), Health::CannotTell);
}

#[test]
fn a_second_counts_once_and_none_before_the_clock_was_set_back() {
    let mut one = fallbacks();
    for _ in 0..10 {
        one.take(&slice(7, counts(1, 1), Counts::default()));
    }
    assert!(one.says().starts_with("1 of 2"), "{}", one.says());
    one.clock_set_back();
    assert!(one.says().starts_with("0 of 0"), "{}", one.says());
}
