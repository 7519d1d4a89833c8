//! What must stand before a move: it holds forward moves, is written with its numbers, and stands in no way back.

use crate::walk::Walk;
use lastgood_domain::{
    event::{Aim, End, Event, Gate, Verdict},
    rollout::{Checked, Input},
    terms::ServiceName,
    words,
};

fn begin(walk: &mut Walk, aim: Aim, verdict: Verdict) -> Vec<Event> {
    let settings = walk.settings.clone();
    let preflight = Some(Checked { verdict, because: "2 of 3 checks pass, in 7 ms".into() });
    let said = walk.put(Input::Begin { aim, settings, frozen: None, preflight }).expect("the run begins");
    said.into_iter().map(|record| record.event).collect()
}

fn gated(verdict: Verdict) -> Event {
    Event::Gated { gate: Gate::Preflight, verdict, because: "2 of 3 checks pass, in 7 ms".into() }
}

#[test]
fn a_check_that_fails_or_cannot_tell_stops_a_move_before_anything_is_asked_and_rejects_nothing() {
    for aim in [Aim::Track, Aim::Drain] {
        for verdict in [Verdict::Hold, Verdict::CannotTell] {
            let mut walk = Walk::promoted(&["alice", "bob"], &["1.0"]);
            walk.newest = "2.0";
            let from = walk.records.len();
            let said = begin(&mut walk, aim.clone(), verdict);
            assert!(said.contains(&gated(verdict)), "{said:?}");
            let because = "2 of 3 checks pass, in 7 ms".into();
            let end = match verdict {
                Verdict::CannotTell => End::Unproven { gate: Gate::Preflight, because },
                _ => End::Refused { gate: Gate::Preflight, because },
            };
            assert_eq!(walk.end(), end);
            assert_eq!(walk.ordered_since(from), [], "{aim:?} {verdict:?}");
            assert!(walk.service.rejected.is_empty());
            let name = ServiceName::new("notes").expect("a valid name");
            let why = words::why(&name, &walk.service, None, walk.now);
            assert!(why.iter().any(|one| one.how == "lastgood preflight --for deploy"), "{why:?}");
            // Once it passes, the same release moves.
            walk.begin(Aim::Track);
            assert_eq!(walk.end(), End::Promoted);
        }
    }
}

#[test]
fn a_pass_is_written_with_its_numbers_and_the_run_goes_on() {
    let mut walk = Walk::promoted(&["alice", "bob"], &["1.0"]);
    walk.newest = "2.0";
    assert!(begin(&mut walk, Aim::Track, Verdict::Pass).contains(&gated(Verdict::Pass)));
    assert_eq!(walk.end(), End::Promoted);
}

#[test]
fn a_way_back_and_a_dry_run_never_ask() {
    let mut walk = Walk::promoted(&["alice", "bob"], &["1.0", "2.0"]);
    let back = Aim::Back { to: None, instances: Vec::new(), accept_loss: Vec::new(), reason: "slow".into() };
    for aim in [Aim::DryRun, back] {
        let said = begin(&mut walk, aim.clone(), Verdict::CannotTell);
        assert!(!said.iter().any(|event| matches!(event, Event::Gated { .. })), "{said:?}");
        let end = walk.end();
        assert!(!matches!(end, End::Refused { .. }), "{aim:?}: {end:?}");
    }
    assert_eq!(walk.runs("alice"), "1.0");
}

#[test]
fn a_hold_is_said_before_any_check_is() {
    let mut walk = Walk::promoted(&["alice", "bob"], &["1.0"]);
    let settings = walk.settings.clone();
    let preflight = Some(Checked { verdict: Verdict::Hold, because: "no room".into() });
    let frozen = Some("a freeze file exists".into());
    walk.put(Input::Begin { aim: Aim::Track, settings, frozen, preflight }).expect("the run begins");
    assert!(matches!(walk.end(), End::Held { .. }));
}
