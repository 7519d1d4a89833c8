//! A run that somebody asked for after a look at its plan moves to the release of that plan and to no other.

use crate::walk::{Walk, reason, tag};
use lastgood_domain::{
    effect::Effect,
    event::{Aim, End, Event},
    rollout::PLAN_MOVED,
};

fn expecting(release: &str) -> Walk {
    let mut walk = Walk::promoted(&["alice", "bob"], &["1.0", "1.1"]);
    walk.settings.expects = Some(tag(release));
    walk
}

/// Runs to the end; tells whether it was stopped for the plan, and whether anything was ordered but a look.
fn ended(mut walk: Walk) -> (bool, bool) {
    let from = walk.records.len();
    walk.begin(Aim::Track);
    let end = walk.end();
    let touched = walk.records[from..].iter().any(|record| match &record.event {
        Event::Ordered { effect, .. } => !matches!(effect, Effect::Check { .. }),
        _ => false,
    });
    (matches!(end, End::Stopped { failure } if failure.code == PLAN_MOVED), touched)
}

#[test]
fn a_run_that_expects_one_release_moves_to_it_and_stops_before_any_other() {
    let mut walk = expecting("1.2");
    walk.newest = "1.2";
    assert_eq!(ended(walk), (false, true));
    let mut walk = expecting("1.2");
    walk.newest = "1.3";
    assert_eq!(ended(walk), (true, false), "the channel went on");
}

#[test]
fn a_pin_set_since_the_plan_takes_nothing_back() {
    for (expected, is_moved) in [("1.2", true), ("1.0", false)] {
        let mut walk = expecting(expected);
        walk.say(Event::Pinned { tag: tag("1.0"), reason: reason("stay") });
        assert_eq!(ended(walk), (is_moved, !is_moved), "{expected}");
    }
}
