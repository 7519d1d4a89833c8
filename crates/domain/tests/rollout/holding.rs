//! What a hold does to a run under way, and what passes it.

use crate::{
    traffic::{at_share, judge, settle, tick_after},
    walk::{Walk, digest, instance, reason, tag},
};
use lastgood_domain::{
    effect::Effect,
    event::{End, Event, Gate, Verdict},
    notice::notice,
    operations::hold::{Exemption, InFlight},
    rollout::Input,
    terms::{Actor, HoldId, ServiceName, Span, Timestamp, WideHoldId},
    traffic::Share,
};

fn hold(in_flight: InFlight) -> Event {
    Event::HoldSet { hold: HoldId(0), reason: reason("an audit"), until: None, origin: Some(WideHoldId(3)), in_flight }
}

/// Moves two instances until the first is on the new release and the second waits; then the hold comes.
fn held_in_the_middle(in_flight: InFlight) -> (End, Walk) {
    let mut walk = Walk::promoted(&["alice", "bob"], &["1.0"]);
    walk.track("2.0");
    walk.until(|effect| matches!(effect, Effect::Probe { instance: name, release } if *release == digest("2.0") && *name == instance("alice")));
    walk.say(hold(in_flight));
    (walk.end(), walk)
}

#[test]
fn a_run_that_may_finish_goes_on_to_its_end_and_the_next_does_not_begin() {
    let (end, mut walk) = held_in_the_middle(InFlight::Finish);
    assert_eq!(end, End::Promoted);
    assert_eq!((walk.runs("alice"), walk.runs("bob")), ("2.0".into(), "2.0".into()));
    walk.track("3.0");
    assert!(matches!(walk.end(), End::Held { because, .. } if because == "hold-3 by person:test: an audit"));
}

#[test]
fn a_run_that_is_paused_keeps_what_has_moved_and_moves_nothing_more() {
    let (end, walk) = held_in_the_middle(InFlight::Pause);
    assert!(matches!(&end, End::Held { moved, .. } if *moved == [instance("alice")]), "{end:?}");
    assert_eq!((walk.runs("alice"), walk.runs("bob")), ("2.0".into(), "1.0".into()));
}

/// What is seen outside the log while a run is under way.
fn outside(walk: &mut Walk, because: Option<&str>) {
    walk.put(Input::Held { because: because.map(Into::into) }).expect("a look always has a place");
}

fn stops_of(walk: &Walk, from: usize) -> Vec<String> {
    let stops = walk.ordered_since(from).into_iter().filter(|effect| matches!(effect, Effect::Stop { .. }));
    stops.filter_map(|effect| effect.instance().map(ToString::to_string)).collect()
}

#[test]
fn what_holds_from_outside_the_log_is_heard_before_each_stop_of_a_way_forward() {
    // Before the first stop: nothing moves.
    let mut walk = Walk::promoted(&["alice", "bob"], &["1.0"]);
    let from = walk.records.len();
    walk.track("2.0");
    walk.until(|effect| matches!(effect, Effect::AskBusy { .. }));
    outside(&mut walk, Some("the freeze file exists"));
    assert_eq!(walk.end(), End::Held { because: "the freeze file exists".into(), moved: Vec::new(), went_back: false });
    assert_eq!(stops_of(&walk, from), Vec::<String>::new());
    // After the first instance: it stays, the others too.
    let probed = |effect: &Effect| matches!(effect, Effect::Probe { instance: name, release } if *release == digest("2.0") && *name == instance("alice"));
    let from = walk.records.len();
    walk.track("2.0");
    walk.until(probed);
    outside(&mut walk, Some("the freeze file exists"));
    let end = walk.end();
    assert!(matches!(&end, End::Held { moved, .. } if *moved == [instance("alice")]), "{end:?}");
    assert_eq!((stops_of(&walk, from), walk.last_good()), (vec!["alice".to_owned()], "1.0".into()));
}

#[test]
fn what_held_from_outside_and_is_gone_holds_no_longer() {
    let mut walk = Walk::promoted(&["alice", "bob"], &["1.0"]);
    walk.track("2.0");
    walk.until(|effect| matches!(effect, Effect::AskBusy { .. }));
    outside(&mut walk, Some("the freeze file exists"));
    outside(&mut walk, None);
    let said = walk.records.len();
    outside(&mut walk, None);
    assert_eq!(walk.records.len(), said, "a look that changes nothing is not worth a record");
    assert_eq!(walk.end(), End::Promoted);
}

#[test]
fn a_way_back_hears_nothing_from_outside() {
    let mut walk = Walk::promoted(&["alice"], &["1.0", "2.0"]);
    walk.begin(walk.back(&[], &[]));
    let said = walk.records.len();
    outside(&mut walk, Some("the freeze file exists"));
    assert_eq!(walk.records.len(), said);
    assert!(matches!(walk.end(), End::RolledBack { .. }));
}

#[test]
fn a_run_that_is_aborted_goes_back_and_nothing_is_blamed() {
    let (end, walk) = held_in_the_middle(InFlight::Abort);
    assert!(matches!(&end, End::Held { because, .. } if because == "hold-3 by person:test: an audit"), "{end:?}");
    assert_eq!((walk.runs("alice"), walk.runs("bob")), ("1.0".into(), "1.0".into()));
    assert!(walk.service.rejected.is_empty());
    assert_eq!(walk.service.holds.len(), 1, "no hold but the one that was set");
}

#[test]
fn a_pin_to_another_release_keeps_what_has_moved_and_the_next_run_takes_it_back() {
    let mut walk = Walk::promoted(&["alice", "bob"], &["1.0"]);
    walk.track("2.0");
    walk.until(|effect| matches!(effect, Effect::Probe { instance: name, release } if *release == digest("2.0") && *name == instance("alice")));
    walk.say(Event::Pinned { tag: tag("1.0"), reason: reason("stay") });
    let end = walk.end();
    assert!(
        matches!(&end, End::Held { moved, because, .. } if *moved == [instance("alice")] && because.starts_with("pinned to 1.0")),
        "{end:?}"
    );
    assert_eq!((walk.runs("alice"), walk.runs("bob")), ("2.0".into(), "1.0".into()));
    walk.track("1.0");
    assert!(matches!(walk.end(), End::RolledBack { .. }));
    assert_eq!((walk.runs("alice"), walk.runs("bob")), ("1.0".into(), "1.0".into()));
}

#[test]
fn shared_traffic_finishes_pauses_or_goes_back_as_the_hold_says() {
    for (in_flight, share) in
        [(InFlight::Finish, Share::percent(25)), (InFlight::Pause, Share::percent(5)), (InFlight::Abort, Share::NONE)]
    {
        let mut walk = at_share(5);
        walk.say(hold(in_flight));
        // A way back does not wait for anything; a share does, for its time and a verdict.
        if in_flight != InFlight::Abort {
            judge(&mut walk, Verdict::Pass);
            tick_after(&mut walk, Span::minutes(600));
        }
        settle(&mut walk);
        assert_eq!(walk.service.traffic.share(), share, "{in_flight:?}");
        assert!(walk.service.rejected.is_empty());
    }
}

fn exempt(walk: &mut Walk, release: &str, until: Timestamp) {
    let exemption = Exemption { release: digest(release), tag: tag(release), reason: reason("the fix itself"), until };
    let asked_by = Actor::new("person:alice").expect("a valid actor");
    let hold = *walk.service.holds.keys().next_back().expect("a hold stands");
    walk.say(Event::HoldExempted { hold, exemption, asked_by });
}

const LATER: Timestamp = Timestamp(i64::MAX);

fn held(releases: &[&'static str]) -> Walk {
    let mut walk = Walk::promoted(&["alice"], releases);
    walk.say(hold(InFlight::Pause));
    walk
}

#[test]
fn the_exempted_release_passes_and_the_gate_says_by_whose_word() {
    let mut walk = held(&["1.0"]);
    exempt(&mut walk, "2.0", LATER);
    walk.track("2.0");
    assert_eq!(walk.end(), End::Promoted);
    let said = walk.records.iter().find_map(|record| match &record.event {
        Event::Gated { gate: Gate::Hold, verdict: Verdict::Pass, because } => Some(because.clone()),
        _ => None,
    });
    let said = said.expect("the hold's gate has passed");
    for word in ["2.0", "hold-3", "asked by person:alice", "approved by person:test", "the fix itself"] {
        assert!(said.contains(word), "{said}");
    }
    walk.track("3.0");
    assert!(matches!(walk.end(), End::Held { .. }), "the next one is held again");
}

#[test]
fn other_bytes_under_the_exempted_tag_do_not_pass() {
    let mut walk = held(&["1.0"]);
    let exemption =
        Exemption { release: digest("other bytes"), tag: tag("2.0"), reason: reason("the fix"), until: LATER };
    let hold = *walk.service.holds.keys().next().unwrap();
    walk.say(Event::HoldExempted { hold, exemption, asked_by: Actor::new("person:alice").unwrap() });
    walk.track("2.0");
    assert!(
        matches!(walk.end(), End::Held { because, .. } if because.contains("hold-3") && because.contains("does not pass it"))
    );
    assert_eq!(walk.runs("alice"), "1.0");
}

#[test]
fn an_exemption_that_has_ended_lets_nothing_pass() {
    let mut walk = held(&["1.0"]);
    let until = walk.now;
    exempt(&mut walk, "2.0", until);
    walk.track("2.0");
    assert!(matches!(walk.end(), End::Held { .. }));
}

#[test]
fn a_second_hold_is_passed_by_its_own_exemption_only() {
    let mut walk = held(&["1.0"]);
    exempt(&mut walk, "2.0", LATER);
    walk.say(hold(InFlight::Pause));
    walk.track("2.0");
    assert!(matches!(walk.end(), End::Held { .. }));
    exempt(&mut walk, "2.0", LATER);
    walk.track("2.0");
    assert_eq!(walk.end(), End::Promoted);
}

#[test]
fn a_hold_that_comes_during_an_exempted_run_stops_it() {
    let mut walk = held(&["1.0"]);
    exempt(&mut walk, "2.0", LATER);
    walk.track("2.0");
    walk.until(|effect| matches!(effect, Effect::AskBusy { .. }));
    walk.say(hold(InFlight::Pause));
    assert!(matches!(walk.end(), End::Held { .. }));
    assert_eq!(walk.runs("alice"), "1.0");
}

#[test]
fn a_hold_that_lets_runs_finish_still_stops_a_later_run_whose_exemption_ends_on_the_way() {
    let mut walk = Walk::promoted(&["alice"], &["1.0"]);
    walk.say(hold(InFlight::Finish));
    let until = walk.now.after(Span::minutes(600));
    exempt(&mut walk, "2.0", until);
    walk.track("2.0");
    walk.until(|effect| matches!(effect, Effect::AskBusy { .. }));
    walk.now = until;
    assert!(matches!(walk.end(), End::Held { .. }));
    assert_eq!(walk.runs("alice"), "1.0");
}

#[test]
fn the_owner_of_a_hold_is_asked_again_and_again_and_it_stands_all_the_same() {
    let mut walk = Walk::promoted(&["alice"], &["1.0"]);
    let (hold, review, day) = (HoldId(0), walk.now.after(Span::minutes(60)), Span::minutes(24 * 60));
    let own =
        Event::HoldSet { hold, reason: reason("an audit"), until: None, origin: None, in_flight: InFlight::Pause };
    walk.say(own);
    assert_eq!(walk.service.reviews_due(Timestamp(i64::MAX), day), [], "nobody asked to be asked");
    walk.say(Event::HoldReviewSet { hold, review });
    walk.now = Timestamp(review.0 - 1);
    assert_eq!(walk.service.reviews_due(walk.now, day), []);
    assert_eq!(walk.service.holds[&hold].overdue_at(walk.now), None);
    for _ in 0..2 {
        walk.now = walk.service.holds[&hold].review.expect("it has a review time");
        let due = walk.service.reviews_due(walk.now, day);
        assert_eq!(due, [Event::HoldReviewDue { hold, again: walk.now.after(day) }]);
        let record = walk.records.len();
        due.into_iter().for_each(|event| walk.say(event));
        let told = notice(&ServiceName::new("notes").expect("a name"), &walk.service, &walk.records[record]);
        let told = told.expect("its owner is told").summary;
        assert_eq!(told, "notes: hold h0 still stands (an audit): person:test is asked whether it is needed");
        assert_eq!(walk.service.reviews_due(walk.now, day), [], "once until the next time");
    }
    // Overdue since the first time, not since the last.
    assert_eq!(walk.service.holds[&hold].overdue_at(walk.now), Some(review));
    walk.track("2.0");
    assert!(matches!(walk.end(), End::Held { .. }), "it never lifts by itself");
    // What is over, and what belongs to a hold over several services, is nobody's here.
    walk.say(Event::HoldLifted { hold, reason: reason("done") });
    assert_eq!(walk.service.reviews_due(Timestamp(i64::MAX), day), []);
}
