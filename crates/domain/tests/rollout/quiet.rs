//! An instance is idle once every look for the whole quiet period said so.

use lastgood_domain::{
    facts::Busyness,
    quiet::{Quiet, look_every},
    terms::Span,
};

const QUIET: Span = Span::seconds(60);

/// Hears one answer at each of these seconds; `+` is idle, `b` busy, `?` cannot tell. Gives what the last one came to.
fn heard(looks: &[(u64, char)]) -> (bool, Quiet) {
    let mut quiet = Quiet::default();
    let mut last = false;
    for &(second, answer) in looks {
        let answer = match answer {
            '+' => Busyness::Idle,
            'b' => Busyness::Busy("1 session".into()),
            _ => Busyness::CannotTell("no answer".into()),
        };
        last = quiet.hear(answer, Span::seconds(second), QUIET) == Busyness::Idle;
    }
    (last, quiet)
}

fn idle_from(first: u64, last: u64) -> impl Iterator<Item = (u64, char)> {
    (first..=last).step_by(10).map(|second| (second, '+'))
}

#[test]
fn only_idle_answers_for_the_whole_period_are_idle() {
    assert!(!heard(&[(0, '+')]).0, "the first idle answer");
    assert!(!heard(&idle_from(0, 50).collect::<Vec<_>>()).0);
    let (is_idle, quiet) = heard(&idle_from(0, 60).collect::<Vec<_>>());
    assert!(is_idle && quiet.is_over(Span::seconds(60), QUIET));
    assert!(!quiet.is_over(Span::seconds(91), QUIET), "nobody has looked since");
}

#[test]
fn one_busy_or_missing_answer_starts_it_anew() {
    for other in ['b', '?'] {
        let mut looks: Vec<_> = idle_from(0, 50).collect();
        looks.push((55, other));
        looks.extend(idle_from(60, 110));
        assert!(!heard(&looks).0, "{other}");
        looks.push((120, '+'));
        assert!(heard(&looks).0, "{other}");
    }
}

#[test]
fn a_gap_in_which_nobody_looked_starts_it_anew() {
    assert!(heard(&[(0, '+'), (30, '+'), (60, '+')]).0);
    assert!(!heard(&[(0, '+'), (31, '+'), (60, '+')]).0);
}

#[test]
fn it_is_looked_at_four_times_in_a_period_every_1_to_10_seconds() {
    let every = |seconds| look_every(Span::seconds(seconds));
    assert_eq!((every(1), every(8), every(600)), (Span::seconds(1), Span::seconds(2), Span::seconds(10)));
}
