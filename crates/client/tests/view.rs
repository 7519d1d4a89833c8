//! What a follower believes, whatever order and age messages have.
#![expect(clippy::unwrap_used, reason = "a test that cannot set up its world has failed")]

use lastgood_client::{Message, Safe, Told, View};
use lastgood_domain::{
    switches::{Event, Record, Switches},
    terms::{Actor, Reason, SwitchName, Timestamp},
};
use proptest::prelude::*;
use std::time::{Duration, Instant};

const NAMES: [&str; 3] = ["all", "auth", "crypto"];
const LEASE: Duration = Duration::from_secs(10);

fn told(name: &str, tripped: bool, safe: Safe) -> Told {
    Told { name: name.into(), tripped, safe }
}

fn message(epoch: u64, tripped: &[&str]) -> Message {
    let switches = NAMES.map(|name| told(name, tripped.contains(&name), Safe::AsHeard)).to_vec();
    Message { environment: "production".into(), epoch, lease: LEASE, switches }
}

/// Every message of a history of trips and resets, by the fold that the daemon uses.
fn history(said: &[(usize, bool)]) -> Vec<Message> {
    let mut state = Switches::default();
    let mut all = vec![message(0, &[])];
    for (seq, (name, trips)) in (0..).zip(said) {
        let (switch, reason) = (SwitchName::new(NAMES[*name]).unwrap(), Reason::new("so it is").unwrap());
        let event = match trips {
            true => Event::Tripped { switch, reason },
            false => Event::Reset { switch, reason, requested_by: None },
        };
        let by = Actor::new("person:alice").unwrap();
        state.apply(seq, Some(&Record { v: Record::VERSION, at: Timestamp(0), by, event }));
        let tripped: Vec<&str> = NAMES.into_iter().filter(|name| state.is_tripped(name)).collect();
        all.push(message(state.epoch, &tripped));
    }
    all
}

proptest! {
    #[test]
    fn an_old_doubled_or_reordered_message_never_untrips(
        said in proptest::collection::vec((0..NAMES.len(), any::<bool>()), 1..30),
        order in proptest::collection::vec(0_usize..30, 1..200),
    ) {
        let messages = history(&said);
        let (mut view, now) = (View::default(), Instant::now());
        let mut newest: Option<usize> = None;
        for index in order.into_iter().filter(|index| *index < messages.len()) {
            let taken = view.take(messages[index].clone(), now);
            prop_assert_eq!(taken, newest.is_none_or(|newest| index >= newest));
            newest = newest.max(Some(index));
            let truth = &messages[newest.unwrap_or_default()];
            for one in &truth.switches {
                let all = truth.switches[0].tripped;
                prop_assert_eq!(view.is_tripped(&one.name, now), one.tripped || all);
            }
            prop_assert_eq!(view.epoch(), Some(truth.epoch));
        }
    }

    #[test]
    fn an_older_message_never_renews_the_lease(epoch in 1_u64..9, older in 0_u64..9, late in 0_u64..20_000) {
        let (mut view, begin) = (View::default(), Instant::now());
        view.take(message(epoch, &[]), begin);
        let ends = view.lease_ends();
        if older < epoch {
            view.take(message(older, &[]), begin + Duration::from_millis(late));
            prop_assert_eq!(view.lease_ends(), ends);
        }
    }
}

#[test]
fn everything_is_tripped_until_somebody_was_heard_and_what_nobody_knows_always() {
    let (mut view, now) = (View::default(), Instant::now());
    assert!(view.is_tripped("auth", now) && !view.is_in_contact(now));
    assert!(view.take(message(1, &[]), now));
    assert!(!view.is_tripped("auth", now));
    assert!(view.is_tripped("autth", now));
}

#[test]
fn after_the_lease_each_switch_is_as_it_was_called_safe_and_contact_brings_it_back() {
    let (mut view, now) = (View::default(), Instant::now());
    let switches = vec![
        told("all", false, Safe::AsHeard),
        told("blocks", false, Safe::Tripped),
        told("stays", false, Safe::AsHeard),
        told("stays-tripped", true, Safe::AsHeard),
    ];
    let said = Message { switches, ..message(4, &[]) };
    view.take(said.clone(), now);
    let all = |view: &View, now| ["blocks", "stays", "stays-tripped"].map(|name| view.is_tripped(name, now));
    assert_eq!(all(&view, now + LEASE - Duration::from_millis(1)), [false, false, true]);
    assert_eq!(all(&view, now + LEASE), [true, false, true]);
    // A daemon that is there again says the same once more.
    assert!(view.take(said, now + LEASE * 3));
    assert_eq!(all(&view, now + LEASE * 3), [false, false, true]);
}

#[test]
fn what_contradicts_itself_or_comes_from_elsewhere_is_not_taken() {
    let (mut view, now) = (View::default(), Instant::now());
    view.take(message(4, &["auth"]), now);
    assert!(!view.take(message(4, &[]), now), "the same epoch opened a switch");
    assert!(view.take(message(4, &["auth", "crypto"]), now), "the same epoch may block more");
    let elsewhere = Message { environment: "staging".into(), ..message(9, &[]) };
    assert!(!view.take(elsewhere, now));
    assert!(view.is_tripped("auth", now));
    let forgotten = Message { switches: vec![told("all", false, Safe::Tripped)], ..message(5, &[]) };
    assert!(view.take(forgotten, now));
    assert!(view.is_tripped("auth", now), "a switch that is gone is in doubt");
    let headless = Message { switches: vec![told("auth", false, Safe::Tripped)], ..message(6, &[]) };
    assert!(view.take(headless, now));
    assert!(view.is_tripped("auth", now), "nobody said how the switch above all stands");
}
