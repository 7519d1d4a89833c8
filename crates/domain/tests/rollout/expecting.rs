//! A run that somebody asked for after a look at its plan moves to the release of that plan and to no other.

use crate::walk::{Walk, reason, tag};
use lastgood_domain::{
    effect::Effect,
    event::{Aim, End, Event, Expected},
    notice::notice,
    rollout::PLAN_MOVED,
    terms::ServiceName,
};

/// The channel's own word for the bytes of a release.
const MARK: &str = "sha512-one";

fn expecting(release: &str) -> Walk {
    let mut walk = Walk::promoted(&["alice", "bob"], &["1.0", "1.1"]);
    walk.settings.expects = Some(Expected { tag: tag(release), mark: None });
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

#[test]
fn a_release_of_other_bytes_under_the_same_tag_is_not_what_was_looked_at() {
    for (seen, now, is_moved) in [
        (Some(MARK), Some(MARK), false),
        (Some(MARK), Some("sha512-two"), true),
        (Some(MARK), None, true),
        // Of a channel that told nothing, or a plan of an older version, the tag alone is known.
        (None, Some(MARK), false),
    ] {
        let mut walk = Walk::promoted(&["alice", "bob"], &["1.0", "1.1"]);
        walk.settings.expects = Some(Expected { tag: tag("1.2"), mark: seen.map(Into::into) });
        (walk.newest, walk.mark) = ("1.2", now);
        assert_eq!(ended(walk), (is_moved, !is_moved), "{seen:?} -> {now:?}");
    }
}

#[test]
fn nobody_is_told_of_a_run_that_did_nothing_for_its_plan() {
    let mut walk = expecting("1.2");
    walk.newest = "1.3";
    walk.begin(Aim::Track);
    walk.end();
    let (service, ended) = (walk.service.clone(), walk.records.last().unwrap());
    assert!(
        matches!(&ended.event, Event::RunEnded { end: End::Stopped { failure }, .. } if failure.code == PLAN_MOVED)
    );
    assert_eq!(notice(&ServiceName::new("web").unwrap(), &service, ended), None);
}

#[test]
fn what_an_older_version_expected_is_read_and_written_as_it_was() {
    let old = serde_json::json!("1.2");
    let read: Expected = serde_json::from_value(old.clone()).unwrap();
    assert_eq!(read, Expected { tag: tag("1.2"), mark: None });
    assert_eq!(serde_json::to_value(&read).unwrap(), old);
    let marked = Expected { mark: Some(MARK.into()), ..read };
    let written = serde_json::to_value(&marked).unwrap();
    assert_eq!(written, serde_json::json!({ "tag": "1.2", "mark": MARK }));
    assert_eq!(serde_json::from_value::<Expected>(written).unwrap(), marked);
}
