//! What records fold to, in whatever order they come.

use crate::{actor, flag, reason, record, switch};
use lastgood_domain::switches::{Definition, Event, Record, Switches};
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
        }
    }
}

#[test]
fn a_record_that_cannot_be_read_changes_nothing_and_is_counted() {
    let mut state = Switches::default();
    state.apply(0, Some(&record("alice", Event::Tripped { switch: switch("auth"), reason: reason("leak") })));
    assert!(state.apply(1, None));
    assert!(state.is_tripped("auth"));
    assert_eq!((state.epoch, state.unreadable), (2, 1));
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
