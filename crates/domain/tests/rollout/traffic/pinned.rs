//! A pin to the release before is a way back, and one that comes in the middle of a run ends it.

use super::*;
use crate::walk::tag;

fn pin(walk: &mut Walk, to: &str) {
    walk.say(Event::Pinned { tag: tag(to), reason: reason("stay") });
}

#[test]
fn a_pin_to_the_release_before_flips_at_once_without_shares_and_blames_nobody() {
    let mut walk = at_share(100);
    pass(&mut walk);
    assert_eq!(walk.last_good(), "2.0");
    pin(&mut walk, "1.0");
    let from = walk.records.len();
    walk.track("1.0");
    assert_eq!(walk.end(), End::RolledBack { cause: Cause::Pinned { tag: tag("1.0") } });
    let routes = routes(&walk, from);
    assert_eq!(routes.len(), 1, "no shares: {routes:?}");
    assert_eq!((routes[0].last_good.as_ref().unwrap().release, routes[0].share), (digest("1.0"), Share::NONE));
    assert_eq!(walk.last_good(), "1.0");
    assert!(walk.service.rejected.is_empty() && walk.service.holds.is_empty());
    // It is there: the next run has nothing to do.
    walk.track("1.0");
    assert_eq!(walk.end(), End::UpToDate);
}

#[test]
fn a_pin_to_a_release_that_nobody_has_proven_a_way_back_to_is_rehearsed_like_any_other() {
    let mut walk = serving();
    for release in ["2.0", "3.0"] {
        walk.track(release);
        settle(&mut walk);
        while walk.last_good() != release {
            pass(&mut walk);
        }
        walk.now = walk.now.after(Span(WARM.0 + DRAIN.0));
        walk.begin(Aim::Cool);
        walk.end();
    }
    pin(&mut walk, "1.0");
    let from = walk.records.len();
    walk.track("1.0");
    settle(&mut walk);
    assert!(walk.ordered_since(from).iter().any(|effect| matches!(effect, Effect::Rehearse { .. })));
}

#[test]
fn a_pin_to_another_release_in_the_middle_of_a_share_takes_it_back() {
    for percent in [5, 25, 100] {
        let mut walk = at_share(percent);
        pin(&mut walk, "1.0");
        walk.put(Input::Tick).unwrap();
        let end = walk.end();
        let because = "pinned to 1.0 by person:test: stay";
        assert_eq!(end, End::Held { because: because.into(), moved: Vec::new(), went_back: true }, "at {percent} %");
        assert_eq!((walk.service.traffic.share(), walk.last_good()), (Share::NONE, "1.0".into()));
        assert!(walk.service.rejected.is_empty() && walk.service.holds.is_empty());
    }
}

#[test]
fn a_pin_to_the_candidate_itself_lets_it_go_on() {
    let mut walk = at_share(5);
    pin(&mut walk, "2.0");
    for percent in [25, 100] {
        pass(&mut walk);
        assert_eq!(walk.service.traffic.share(), Share::percent(percent));
    }
    pass(&mut walk);
    assert_eq!(walk.last_good(), "2.0");
}
