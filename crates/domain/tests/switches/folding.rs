//! What records fold to, in whatever order they come.

use crate::{actor, flag, reason, record, switch};
use lastgood_domain::switches::{Definition, Event, Record, Standing, Switches};
use proptest::prelude::*;
use std::collections::BTreeSet;

const NAMES: [&str; 3] = ["all", "auth", "crypto"];

#[derive(Debug, Clone, Copy)]
enum Said {
    Trip(usize),
    Ask(usize),
    Reset(usize),
    Unreadable,
}

fn said() -> impl Strategy<Value = Said> {
    let name = 0..NAMES.len();
    prop_oneof![
        4 => name.clone().prop_map(Said::Trip),
        1 => name.clone().prop_map(Said::Ask),
        3 => name.prop_map(Said::Reset),
        1 => Just(Said::Unreadable),
    ]
}

fn as_record(said: Said) -> Option<Record> {
    let (switch, reason) = (|name: usize| switch(NAMES[name]), reason("so it is"));
    let event = match said {
        Said::Trip(name) => Event::Tripped { switch: switch(name), reason },
        Said::Ask(name) => Event::ResetRequested { switch: switch(name), reason },
        Said::Reset(name) => Event::Reset { switch: switch(name), reason, requested_by: Some(actor("bob")) },
        Said::Unreadable => return None,
    };
    Some(record("alice", event))
}

/// What is tripped after the first `count` of them, told by the last word about each switch.
fn tripped_after(all: &[Said], count: usize) -> BTreeSet<&'static str> {
    let last_word = |name: usize| {
        all[..count].iter().rev().find_map(|said| match said {
            Said::Trip(one) if *one == name => Some(true),
            Said::Reset(one) if *one == name => Some(false),
            _ => None,
        })
    };
    (0..NAMES.len()).filter(|name| last_word(*name) == Some(true)).map(|name| NAMES[name]).collect()
}

/// Whether a switch blocks by itself after the first `count`: what can't be read may have tripped it.
fn blocks_after(all: &[Said], count: usize, name: usize) -> bool {
    let last = all[..count].iter().rev().find(|said| match said {
        Said::Trip(one) | Said::Reset(one) => *one == name,
        Said::Unreadable => true,
        Said::Ask(_) => false,
    });
    match last {
        Some(Said::Trip(_) | Said::Unreadable) => true,
        // What can't be read behind the trip takes nothing away from the reset behind it.
        Some(Said::Reset(_)) | Some(Said::Ask(_)) | None => false,
    }
}

proptest! {
    #[test]
    fn no_old_doubled_or_reordered_record_untrips_a_switch(
        all in proptest::collection::vec(said(), 1..40),
        order in proptest::collection::vec(0_usize..40, 1..400),
    ) {
        let mut state = Switches::default();
        for seq in order.into_iter().filter(|seq| *seq < all.len()) {
            let before = state.clone();
            let taken = state.apply(seq as u64, as_record(all[seq]).as_ref());
            prop_assert_eq!(taken, seq as u64 == before.epoch);
            if !taken {
                prop_assert_eq!(&state, &before);
            }
            prop_assert!(state.epoch >= before.epoch);
            let tripped: BTreeSet<&str> = state.tripped.keys().map(|name| name.as_str()).collect();
            prop_assert_eq!(tripped, tripped_after(&all, state.epoch as usize));
            for (name, text) in NAMES.iter().enumerate() {
                let blocked = blocks_after(&all, state.epoch as usize, name) || blocks_after(&all, state.epoch as usize, 0);
                prop_assert_eq!(state.is_tripped(text), blocked, "{}", text);
            }
        }
    }
}

#[test]
fn a_record_that_cannot_be_read_trips_every_switch_that_nobody_has_set_since() {
    let mut state = Switches::default();
    let say = |state: &mut Switches, event| assert!(state.apply(state.epoch, Some(&record("alice", event))));
    let (auth, crypto) = (switch("auth"), switch("crypto"));
    let reset = |switch| Event::Reset { switch, reason: reason("looked"), requested_by: None };
    say(&mut state, Event::Tripped { switch: auth.clone(), reason: reason("leak") });
    say(&mut state, reset(auth.clone()));
    // This one was a trip of crypto.
    assert!(state.apply(2, None));
    assert_eq!(state.epoch, 3);
    assert_eq!(state.standing(&crypto), Standing::Doubtful { seq: 2, request: None });
    for name in NAMES {
        assert!(state.is_tripped(name), "{name} is open");
    }
    // Each that a person has reset since is known again, and no other.
    say(&mut state, reset(switch("all")));
    say(&mut state, reset(auth.clone()));
    assert_eq!(NAMES.map(|name| state.is_tripped(name)), [false, false, true]);
    assert_eq!(state.doubtful([&auth, &crypto]), [&crypto]);
    say(&mut state, reset(crypto.clone()));
    assert_eq!(state.standing(&crypto), Standing::Open);
    // The next one puts all of them in doubt again.
    assert!(state.apply(state.epoch, None));
    assert!(NAMES.iter().all(|name| state.is_tripped(name)));
}

#[test]
fn a_record_that_cannot_be_read_turns_every_flag_off_that_nobody_has_turned_since() {
    let mut state = Switches::default();
    let say = |state: &mut Switches, event| assert!(state.apply(state.epoch, Some(&record("alice", event))));
    let on = |key| Event::FlagTurnedOn { flag: flag(key), reason: reason("go") };
    for key in ["one", "two"] {
        say(&mut state, on(key));
    }
    // This one turned the first off.
    assert!(state.apply(2, None));
    let is_on = |state: &Switches| ["one", "two"].map(|key| state.flags[&flag(key)].on);
    assert_eq!(is_on(&state), [false, false]);
    assert_eq!(state.flags[&flag("one")].doubt, Some(2));
    // Other values don't tell whether it is on.
    let definition = Definition::boolean();
    say(&mut state, Event::FlagSet { flag: flag("one"), definition, reason: reason("new") });
    assert_eq!(is_on(&state), [false, false]);
    say(&mut state, on("two"));
    assert_eq!(is_on(&state), [false, true]);
    assert_eq!(state.flags[&flag("two")].doubt, None);
}

#[test]
fn a_flag_is_off_until_it_is_turned_on_and_again_after_it_was_removed() {
    let (new, why) = (flag("new"), reason("beta"));
    let declared = [(new.clone(), Definition::boolean())].into();
    let none = Default::default();
    let mut state = Switches::default();
    let mut say = |event: Event| {
        let seq = state.epoch;
        state.apply(seq, Some(&record("alice", event)));
        state.live(&none).first().map(|(_, live)| live.on)
    };
    let definition = Definition::boolean();
    assert_eq!(say(Event::FlagSet { flag: new.clone(), definition, reason: why.clone() }), Some(false));
    assert_eq!(say(Event::FlagTurnedOn { flag: new.clone(), reason: why.clone() }), Some(true));
    assert_eq!(say(Event::FlagRemoved { flag: new.clone(), reason: why.clone() }), None);
    // Declared, it is still there, and off.
    assert_eq!(state.live(&declared).first().map(|(_, live)| live.on), Some(false));
}
