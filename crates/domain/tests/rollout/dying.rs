//! Instances that die, or can't be started, and when they are tried again.

use crate::walk::{Walk, digest, instance};
use lastgood_domain::{
    effect::Effect,
    notice::notice,
    rollout::{Input, back_off},
    terms::{ServiceName, Span},
};

#[test]
fn a_program_that_dies_again_and_again_is_started_later_and_later_up_to_five_minutes() {
    let seconds: Vec<u64> = (0..12).map(|deaths| back_off(deaths).0 / 1_000).collect();
    assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
    assert_eq!(back_off(u32::MAX), Span::minutes(5));
}

#[test]
fn a_start_that_the_machine_hinders_is_no_death_and_is_tried_later_and_later() {
    let mut walk = Walk::promoted(&["alice"], &["1.0", "2.0"]);
    let (why, settings) = ("exit status 1".to_owned(), walk.settings.clone());
    walk.put(Input::Died { instance: instance("alice"), why, settings }).expect("a death has a place");
    let mut waits = Vec::new();
    for _ in 0..4 {
        let hindered = Input::NotRevived { instance: instance("alice"), failure: crate::walk::failure("port-taken") };
        walk.put(hindered).expect("it has a place");
        let again_at = walk.service.instances[&instance("alice")].again_at.expect("it is tried again");
        let said_at = walk.records.last().expect("it was said").at;
        waits.push(again_at.since(said_at).0 / 1_000);
    }
    assert_eq!(waits, [2, 4, 8, 16]);
    // Young as it is, it goes nowhere.
    assert!(walk.service.run.is_none());
    assert_eq!(walk.service.last_good, Some(digest("2.0")));
    assert_eq!(walk.service.instances[&instance("alice")].deaths, 1);
    walk.put(Input::Revived { instance: instance("alice") }).expect("it has a place");
    assert_eq!(walk.service.instances[&instance("alice")].hindered, 0);
}

#[test]
fn what_stands_in_the_way_of_a_start_is_noticed_once_until_it_has_run_again() {
    let mut walk = Walk::promoted(&["alice"], &["1.0", "2.0"]);
    let (why, settings) = ("exit status 1".to_owned(), walk.settings.clone());
    let name = ServiceName::new("notes").expect("a valid name");
    let told = |walk: &mut Walk| {
        let died = Input::Died { instance: instance("alice"), why: why.clone(), settings: settings.clone() };
        walk.put(died).expect("a death has a place");
        let hindered = |walk: &mut Walk| {
            let hindered =
                Input::NotRevived { instance: instance("alice"), failure: crate::walk::failure("port-taken") };
            walk.put(hindered).expect("it has a place");
            let record = walk.records.last().expect("it was said");
            notice(&name, &walk.service, record).is_some()
        };
        (0..100).filter(|_| hindered(walk)).count()
    };
    assert_eq!(told(&mut walk), 1);
    walk.put(Input::Revived { instance: instance("alice") }).expect("it has a place");
    assert_eq!(told(&mut walk), 1);
}

#[test]
fn a_death_in_the_soak_names_its_instance_once() {
    let mut walk = Walk::promoted(&["alice"], &["1.0"]);
    walk.settings.soak = Span::seconds(60);
    walk.track("2.0");
    walk.until(|effect| matches!(effect, Effect::Probe { release, .. } if *release == digest("2.0")));
    walk.answer_one(&|_| None);
    let (why, settings) = ("exit status 1".to_owned(), walk.settings.clone());
    walk.put(Input::Died { instance: instance("alice"), why, settings }).expect("a death has a place");
    assert_eq!(walk.end().because(), "alice failed: it died: exit status 1 [instance-died]");
}
