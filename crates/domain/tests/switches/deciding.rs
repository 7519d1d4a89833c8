//! Who may change what.

use crate::{actor, environment, flag, reason, record, switch, variant};
use lastgood_domain::{
    failure::Coded as _,
    notice::{NoticeKind, Severity},
    switches::{self, Declared, Definition, Event, FlagKind, FlagValue, Part, Refused, Serve, Switches},
};

fn declared(reset_needs_second: bool) -> Declared {
    Declared { subsystems: [switch("auth"), switch("crypto")].into(), reset_needs_second, ..Declared::default() }
}

fn after(switches: &Switches, by: &str, event: Event) -> Switches {
    let mut next = switches.clone();
    assert!(next.apply(switches.epoch, Some(&record(by, event))));
    next
}

fn tripped() -> Switches {
    let event = switches::trip(&declared(true), &switch("auth"), &reason("tokens leak")).unwrap();
    after(&Switches::default(), "alice", event)
}

#[test]
fn one_step_by_one_person_trips_a_switch_and_one_resets_it_where_that_is_enough() {
    let tripped = tripped();
    assert!(tripped.is_tripped("auth") && !tripped.is_tripped("crypto"));
    let event =
        switches::reset(&tripped, &declared(false), &actor("alice"), &switch("auth"), &reason("fixed")).unwrap();
    assert!(!after(&tripped, "alice", event).is_tripped("auth"));
}

#[test]
fn where_a_second_person_is_needed_nobody_resets_alone() {
    let (tripped, declared, auth) = (tripped(), declared(true), switch("auth"));
    let reset = |state: &Switches, by: &str| switches::reset(state, &declared, &actor(by), &auth, &reason("fixed"));
    let confirm = |state: &Switches, by: &str| switches::confirm(state, &declared, &actor(by), &auth, &reason("seen"));
    assert_eq!(confirm(&tripped, "bob").unwrap_err().code(), "switch-reset-not-requested");
    let asked = after(&tripped, "alice", reset(&tripped, "alice").unwrap());
    assert!(asked.is_tripped("auth"), "asking alone has reset it");
    assert_eq!(confirm(&asked, "alice").unwrap_err().code(), "switch-own-confirmation");
    assert_eq!(reset(&asked, "bob").unwrap_err().code(), "switch-reset-requested");
    // Asking again does not make two persons of one.
    let again = after(&asked, "alice", reset(&asked, "alice").unwrap());
    assert_eq!(confirm(&again, "alice").unwrap_err().code(), "switch-own-confirmation");
    let event = confirm(&again, "bob").unwrap();
    assert!(matches!(&event, Event::Reset { requested_by: Some(first), .. } if *first == actor("alice")));
    assert!(!after(&again, "bob", event).is_tripped("auth"));
}

#[test]
fn a_switch_in_doubt_is_reset_by_its_name_and_by_two_where_two_are_needed() {
    let (declared, auth) = (declared(true), switch("auth"));
    let mut state = Switches::default();
    state.apply(0, None);
    let reset = |state: &Switches, name: &str| {
        switches::reset(state, &declared, &actor("alice"), &switch(name), &reason("looked"))
    };
    assert_eq!(reset(&state, "auht").unwrap_err().code(), "switch-unknown");
    let asked = after(&state, "alice", reset(&state, "auth").unwrap());
    assert!(asked.is_tripped("auth"), "asking alone has reset it");
    let confirm = |state: &Switches, by: &str| switches::confirm(state, &declared, &actor(by), &auth, &reason("seen"));
    assert_eq!(confirm(&asked, "alice").unwrap_err().code(), "switch-own-confirmation");
    // What can't be read may have been a trip, of which alice did not know.
    let mut again = asked.clone();
    again.apply(again.epoch, None);
    assert_eq!(confirm(&again, "bob").unwrap_err().code(), "switch-reset-not-requested");
    let open = after(&asked, "bob", confirm(&asked, "bob").unwrap());
    assert!(open.is_tripped("auth"), "the one above all is in doubt too");
    let asked = after(&open, "alice", reset(&open, "all").unwrap());
    let event = switches::confirm(&asked, &declared, &actor("bob"), &switches::all(), &reason("seen")).unwrap();
    let open = after(&asked, "bob", event);
    assert!(!open.is_tripped("auth") && open.is_tripped("crypto"));
}

#[test]
fn a_trip_after_the_request_makes_it_void() {
    let (declared, auth) = (declared(true), switch("auth"));
    let tripped = tripped();
    let event = switches::reset(&tripped, &declared, &actor("alice"), &auth, &reason("fixed")).unwrap();
    let asked = after(&tripped, "alice", event);
    let again = after(&asked, "carol", switches::trip(&declared, &auth, &reason("it leaks again")).unwrap());
    let refused = switches::confirm(&again, &declared, &actor("bob"), &auth, &reason("seen"));
    assert_eq!(refused.unwrap_err().code(), "switch-reset-not-requested");
    assert_eq!(again.tripped[&auth].times, 2);
    assert_eq!(again.tripped[&auth].reason, reason("tokens leak"));
}

#[test]
fn the_switch_above_all_blocks_everything_and_leaves_the_others_as_they_were() {
    let declared = declared(false);
    let event = switches::trip(&declared, &switches::all(), &reason("burning")).unwrap();
    let state = after(&tripped(), "alice", event);
    let blocked = |state: &Switches| state.blocked(&declared.subsystems).into_iter().collect::<Vec<_>>();
    assert_eq!(blocked(&state), [switches::all(), switch("auth"), switch("crypto")]);
    let event = switches::reset(&state, &declared, &actor("alice"), &switches::all(), &reason("out")).unwrap();
    let state = after(&state, "alice", event);
    assert_eq!(blocked(&state), [switch("auth")]);
    assert!(!state.is_tripped("crypto"));
}

#[test]
fn what_is_not_there_is_refused_with_what_is() {
    let refused = switches::trip(&declared(false), &switch("auht"), &reason("typo")).unwrap_err();
    assert_eq!(refused.code(), "switch-unknown");
    assert!(refused.hint().unwrap().contains("all, auth, crypto"));
    let refused =
        switches::reset(&Switches::default(), &declared(false), &actor("alice"), &switch("auth"), &reason("fixed"));
    assert_eq!(refused.unwrap_err().code(), "switch-not-tripped");
    let none = Switches::default();
    let on = switches::turn_on(&none, &declared(false), &flag("new"), &reason("beta")).unwrap_err();
    assert_eq!(on.code(), "flag-unknown");
    assert_eq!(switches::remove(&none, &flag("new"), &reason("old")).unwrap_err().code(), "flag-unknown");
}

#[test]
fn a_switch_that_is_no_longer_declared_can_still_be_reset() {
    let nothing = Declared::default();
    let event = switches::reset(&tripped(), &nothing, &actor("alice"), &switch("auth"), &reason("gone")).unwrap();
    assert!(!after(&tripped(), "alice", event).is_tripped("auth"));
}

#[test]
fn a_definition_that_names_what_is_not_there_is_refused() {
    let wrong = |change: &dyn Fn(&mut Definition)| {
        let mut definition = Definition::boolean();
        change(&mut definition);
        switches::set(&Switches::default(), &declared(false), &flag("new"), definition, &reason("beta")).unwrap_err()
    };
    let said = |change: &dyn Fn(&mut Definition)| match wrong(change) {
        Refused::Definition(error) => error.what,
        other => panic!("{other}"),
    };
    assert!(said(&|one| one.serve = Serve::Variant(variant("maybe"))).contains("there are: off, on"));
    assert!(said(&|one| one.off = Some(variant("maybe"))).contains("no variant maybe"));
    let part = |seats| Part { variant: variant("on"), seats };
    assert!(said(&|one| one.serve = Serve::Split([part(9_000), part(1_001)].into())).contains("more than 100 %"));
    assert!(said(&|one| one.serve = Serve::Split(Vec::new())).contains("at least one share"));
    let text = FlagValue::new("\"yes\"").unwrap();
    assert!(said(&|one| drop(one.variants.insert(variant("on"), text.clone()))).contains("is no boolean"));
    assert_eq!(wrong(&|one| one.subsystem = Some(switch("auht"))).code(), "switch-unknown");
}

#[test]
fn a_flag_keeps_its_type_until_it_is_removed() {
    let event =
        switches::set(&Switches::default(), &declared(false), &flag("new"), Definition::boolean(), &reason("beta"));
    let state = after(&Switches::default(), "alice", event.unwrap());
    let number = Definition {
        kind: FlagKind::Number,
        variants: [(variant("on"), FlagValue::new("1").unwrap())].into(),
        off: None,
        ..Definition::boolean()
    };
    let refused = switches::set(&state, &declared(false), &flag("new"), number.clone(), &reason("count"));
    assert_eq!(refused.unwrap_err().code(), "flag-other-type");
    let state = after(&state, "alice", switches::remove(&state, &flag("new"), &reason("count")).unwrap());
    assert!(switches::set(&state, &declared(false), &flag("new"), number, &reason("count")).is_ok());
}

#[test]
fn people_hear_of_trips_requests_and_resets_and_of_no_flag() {
    let told = |event: Event| switches::notice(&environment(), &record("alice", event));
    let (auth, why) = (switch("auth"), reason("tokens leak"));
    let notice = told(Event::Tripped { switch: auth.clone(), reason: why.clone() }).unwrap();
    assert_eq!((notice.kind, notice.severity), (NoticeKind::SwitchTripped, Severity::Critical));
    assert_eq!(notice.summary, "production: switch auth was tripped by person:alice: tokens leak");
    let notice = told(Event::ResetRequested { switch: auth.clone(), reason: why.clone() }).unwrap();
    assert_eq!(notice.hint, "lastgood switch confirm auth --reason …");
    let reset = Event::Reset { switch: auth, reason: why.clone(), requested_by: Some(actor("bob")) };
    assert!(told(reset).unwrap().summary.contains("was reset by person:bob and person:alice"));
    assert_eq!(told(Event::FlagTurnedOn { flag: flag("new"), reason: why }), None);
}
