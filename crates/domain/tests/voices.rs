//! One person is one voice: what a guard says where a router tells people apart.

use lastgood_domain::{
    guard::{Guard, GuardRule, GuardSettings, GuardVerdict, Rate},
    terms::{Digest, Timestamp},
    traffic::{Again, Counts, Latency, Slice},
};
use proptest::prelude::*;

const START: u64 = 1_800_000_000;
/// Half an hour.
const STAGE: u64 = 1_800;

fn candidate() -> Digest {
    Digest::of(b"1.1.0")
}

fn last_good() -> Digest {
    Digest::of(b"1.0.0")
}

fn guard(settings: GuardSettings) -> Guard {
    let began = Timestamp(i64::try_from(START * 1_000).expect("a time of this century"));
    Guard::new(settings, candidate(), Some(last_good()), began)
}

fn counts(fine: u64, failed: u64, again: Again) -> Counts {
    let mut times = vec![0; Latency::bucket(40_000) + 1];
    times[Latency::bucket(40_000)] = fine;
    Counts { status: [0, fine, 0, 0, failed], again, latency: Latency::of_counts(times), ..Counts::default() }
}

fn fine(count: u64) -> Counts {
    counts(count, 0, Again::default())
}

/// One of so many people who fail with each request, `second` seconds after the first time.
fn looping(people: u64, second: u64) -> Again {
    match second {
        0 => Again::default(),
        60 => Again { requests: people, failed: people, stayed: people, people },
        _ => Again { requests: people, failed: people, stayed: 0, people: if second % 60 == 3 { people } else { 0 } },
    }
}

/// Plays seconds until a rule is broken; gives which and after how many.
fn play(guard: &mut Guard, seconds: u64, second: impl Fn(u64) -> [Counts; 2]) -> Option<(u64, GuardRule)> {
    (0..seconds).find_map(|at| {
        let [mine, theirs] = second(at);
        let counts = vec![(candidate(), mine), (last_good(), theirs)];
        guard.take(&Slice { second: START + at, counts });
        let now = Timestamp(i64::try_from((START + at) * 1_000).expect("a time of this century"));
        match guard.verdict(now) {
            GuardVerdict::Failed { rule, .. } => Some((at + 1, rule)),
            _ => None,
        }
    })
}

#[test]
fn one_persons_loop_takes_no_release_back_however_little_others_do() {
    // A request of another person every `each` seconds; the program tries once a second.
    for each in [5, 1] {
        let loops = |at| [counts(u64::from(at % each == 0), 1, looping(1, at)), fine(19)];
        let mut one = guard(GuardSettings::default());
        assert_eq!(play(&mut one, STAGE, loops), None, "every {each} s");
        let now = Timestamp(i64::try_from((START + STAGE - 1) * 1_000).expect("a time of this century"));
        let verdict = one.verdict(now);
        // Nor is it called healthy while every second fails.
        assert!(!matches!(verdict, GuardVerdict::Healthy { .. }), "{verdict:?}");
        assert!(verdict.says().contains(", 180 of them were of people who had failed before"), "{}", verdict.says());
        // The same counts of a router that can't tell people apart.
        let blind = |at| loops(at).map(|one| Counts { again: Again::default(), ..one });
        assert!(play(&mut guard(GuardSettings::default()), STAGE, blind).is_some());
    }
}

#[test]
fn a_loop_among_many_requests_does_not_keep_a_release_from_being_healthy() {
    let mut one = guard(GuardSettings::default());
    let loops = |at| [counts(200, 1, looping(1, at)), fine(3_800)];
    assert_eq!(play(&mut one, 60, loops), None);
    let now = Timestamp(i64::try_from((START + 59) * 1_000).expect("a time of this century"));
    assert!(matches!(one.verdict(now), GuardVerdict::Healthy { .. }), "{:?}", one.verdict(now));
}

#[test]
fn a_service_of_few_people_who_all_fail_is_found() {
    // Each comes once in 20 s and always fails; last-good's people are fine.
    let fails = |people: u64| {
        move |at: u64| {
            let failed = u64::from(at.is_multiple_of(20 / people));
            let again =
                if at < 20 { Again::default() } else { looping(failed, if (60..80).contains(&at) { 60 } else { 3 }) };
            [counts(0, failed, again), fine(5)]
        }
    };
    let found = |people| play(&mut guard(GuardSettings::default()), 600, fails(people));
    let (after, rule) = found(1).expect("one person");
    assert!((180..=200).contains(&after) && matches!(rule, GuardRule::ErrorRate { .. }), "{after} s: {rule:?}");
    let (after, rule) = found(5).expect("five people");
    assert!(after <= 20 && matches!(rule, GuardRule::EarlyErrors { .. }), "{after} s: {rule:?}");
}

#[test]
fn a_strict_limit_takes_one_person_for_whom_it_stays_so_for_one_voice() {
    // Four requests of others in three minutes; the program tries once a second.
    let strict = GuardSettings { early: false, error_rate_max: Rate::of(1, 200), ..GuardSettings::default() };
    let loops = |at| [counts(u64::from(at % 45 == 0), 1, looping(1, at)), fine(19)];
    assert_eq!(play(&mut guard(strict), STAGE, loops), None);
}

#[test]
fn what_a_second_shows_does_not_choose_how_it_is_counted() {
    // Three people fail one after another and nothing goes well: each request counts, from the next second on.
    let evidence = |tries: [u64; 2]| {
        let mut one = guard(GuardSettings { early: false, sustained: false, ..GuardSettings::default() });
        let seconds = [(1, 0), (1, 0), (1, tries[0]), (0, tries[1])];
        let failing = |at: u64| {
            let (first, again) = seconds[usize::try_from(at).unwrap()];
            [counts(0, first + again, Again { requests: again, failed: again, ..Again::default() }), fine(20)]
        };
        assert_eq!(play(&mut one, 4, failing), None);
        one.verdict(Timestamp(i64::try_from((START + 3) * 1_000).expect("a time of this century"))).numbers().evidence
    };
    assert_eq!(evidence([30, 0]), evidence([0, 0]));
    assert!(evidence([0, 30]) > evidence([0, 0]));
}

#[test]
fn the_same_few_of_many_people_failing_always_are_found_when_it_stays_so() {
    // Five of a hundred people, each once in 20 s; of last-good's 1,900 one fails now and then and is well after.
    let bad = |at: u64| {
        let failed = u64::from(at.is_multiple_of(4));
        let again =
            if at < 20 { Again::default() } else { looping(failed, if (60..80).contains(&at) { 60 } else { 3 }) };
        [counts(5 - failed, failed, again), counts(95, u64::from(at.is_multiple_of(2)), Again::default())]
    };
    let (after, rule) = play(&mut guard(GuardSettings::default()), 600, bad).expect("not found");
    assert!(after <= 80 && matches!(rule, GuardRule::EarlyErrors { .. }), "{after} s: {rule:?}");
}

#[test]
fn seconds_written_before_people_were_told_apart_are_read_and_nothing_is_said_of_none() {
    let old = r#"{"second":7,"counts":[]}"#;
    assert_eq!(serde_json::from_str::<Slice>(old).unwrap().counts, []);
    let old = r#"{"status":[0,3,0,0,1],"aborted":1,"later":true}"#;
    let read: Counts = serde_json::from_str(old).unwrap();
    assert_eq!((read.failed(), read.again), (2, Again::default()));
    assert!(!serde_json::to_string(&read).unwrap().contains("again"));
    let told = counts(1, 2, Again { requests: 2, failed: 1, stayed: 1, people: 1 });
    let text = serde_json::to_string(&told).unwrap();
    assert!(text.contains(r#""again":{"requests":2,"failed":1,"stayed":1,"people":1}"#), "{text}");
    assert_eq!(serde_json::from_str::<Counts>(&text).unwrap(), told);
}

/// Eleven people, each of whom asks ten times a second, of which a fifth fails: in the first second for the first time.
fn eleven(second: u64) -> Counts {
    let again = |requests, failed, people| Again { requests, failed, stayed: 0, people };
    match second {
        0 => counts(88, 22, again(55, 11, 0)),
        3 => counts(88, 22, again(110, 22, 11)),
        _ => counts(88, 22, again(110, 22, 0)),
    }
}

#[test]
fn many_people_who_come_within_one_second_are_as_many_voices_if_they_fail_again() {
    let ten = GuardSettings { error_rate_max: Rate::of(10, 100), ..GuardSettings::default() };
    for settings in [GuardSettings::default(), ten] {
        let (after, rule) = play(&mut guard(settings), 12, |at| [eleven(at), fine(330)]).expect("not found");
        assert!(after <= 9 && matches!(rule, GuardRule::EarlyErrors { .. }), "{after} s: {rule:?}");
    }
    // The same second, and nobody fails after it: a hiccup. Nor if one of them goes on alone.
    for alone in [0, 1] {
        let hiccup = |at: u64| match at {
            0 => [eleven(0), fine(330)],
            _ => [counts(110 - alone, alone, looping(alone, at)), fine(330)],
        };
        assert_eq!(play(&mut guard(GuardSettings::default()), STAGE, hiccup), None, "{alone}");
    }
}

#[test]
fn a_loop_does_not_make_another_peoples_hiccup_a_failure() {
    // One person's program tries each second; once in five minutes eight people fail within one second.
    let both = |at: u64| {
        let hiccup = if at % 300 == 30 { 8 } else { 0 };
        [counts(5, 1 + hiccup, looping(1, at)), fine(95)]
    };
    assert_eq!(play(&mut guard(GuardSettings::default()), STAGE, both), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The early test sees people who failed: however often they try, and whatever of it goes well, it says the same.
    #[test]
    fn what_people_who_failed_do_next_is_no_evidence_either_way(
        stage in prop::collection::vec((0_u64..10, 0_u64..10, 0_u64..4, 0_u64..4), 1..300),
    ) {
        let early = || guard(GuardSettings { sustained: false, ..GuardSettings::default() });
        let stage = |at: u64| stage.get(usize::try_from(at).unwrap()).copied().unwrap_or_default();
        let first = |at| u64::from(stage(at).0 == 0);
        let theirs = |at| counts(60, u64::from(stage(at).1 == 0), Again::default());
        let with = |at| {
            let (_, _, failed, well) = stage(at);
            let again = Again { requests: failed + well, failed, ..Again::default() };
            [counts(3 + well, first(at) + failed, again), theirs(at)]
        };
        let without = |at| [counts(3, first(at), Again::default()), theirs(at)];
        prop_assert_eq!(play(&mut early(), 300, with), play(&mut early(), 300, without));
    }
}
