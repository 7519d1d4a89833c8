use super::*;
use lastgood_domain::{
    operations::{
        hold::{HoldKind, Selector},
        incident::{self, Declaration, Level},
    },
    terms::{Reason, WideHoldId},
};
use lastgood_store::Store;
use std::path::Path;

const NOW: Timestamp = Timestamp(1_767_225_600_000);

fn name(text: &str) -> ServiceName {
    ServiceName::new(text).unwrap()
}

fn reason(text: &str) -> Reason {
    Reason::new(text).unwrap()
}

fn alice() -> Actor {
    Actor::new("person:alice").unwrap()
}

fn desk(folder: &Path) -> Desk {
    let services = ["notes", "web"].map(|one| (name(one), hold::Subject::default())).into();
    Desk::new(Store::open(folder).unwrap(), Scope { services, ..Scope::default() }, Vec::new())
}

fn set(desk: &mut Desk, services: &[&str], why: &str) {
    let selector = Selector { services: services.iter().map(|one| name(one)).collect(), ..Selector::default() };
    let decide = |state: &Operations| {
        let set = hold::set(&state.holds, [HoldKind::Deploy].into(), selector.clone(), reason(why), None)?;
        Ok(Event::Hold(set))
    };
    desk.say_one(&alice(), NOW, &decide).unwrap();
}

fn lift(desk: &mut Desk, id: u64) {
    let decide = |state: &Operations| Ok(Event::Hold(hold::lift(&state.holds, WideHoldId(id), reason("over"))?));
    desk.say_one(&alice(), NOW, &decide).unwrap();
}

fn holds_of(folder: &Path, service: &str) -> Vec<String> {
    let reader = Reader::open(folder).unwrap();
    let service = fold::Folded::read(&reader, &name(service)).unwrap().service;
    service.standing_holds(NOW).map(|(_, hold)| hold.reason.to_string()).collect()
}

#[test]
fn lifting_one_of_two_holds_leaves_every_service_held_by_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let mut desk = desk(folder.path());
    set(&mut desk, &[], "an audit");
    set(&mut desk, &["web"], "a move of the database");
    assert_eq!(holds_of(folder.path(), "notes"), ["an audit"]);
    assert_eq!(holds_of(folder.path(), "web"), ["an audit", "a move of the database"]);
    lift(&mut desk, 0);
    assert!(holds_of(folder.path(), "notes").is_empty());
    assert_eq!(holds_of(folder.path(), "web"), ["a move of the database"]);
}

#[test]
fn an_incident_and_its_holds_are_one_and_stop_only_its_services() {
    let folder = tempfile::tempdir().unwrap();
    let mut desk = desk(folder.path());
    let declaration = Declaration {
        level: Level::L2,
        trigger: reason("orders are doubled"),
        services: [name("web")].into(),
        commander: alice(),
        drill: false,
    };
    let (records, _) = desk.say(&alice(), NOW, &|state| Ok(incident::declare(state, declaration.clone()))).unwrap();
    assert_eq!(records.len(), 5);
    assert_eq!(holds_of(folder.path(), "web"), ["orders are doubled"]);
    assert!(holds_of(folder.path(), "notes").is_empty());
    // What an incident holds only the incident opens.
    let refused = desk.say_one(&alice(), NOW, &|state| {
        Ok(Event::Hold(hold::lift(&state.holds, WideHoldId(3), reason("I want to deploy"))?))
    });
    assert_eq!(refused.map(|_| ()).unwrap_err().coded().code(), "hold-of-incident");
}

#[test]
fn a_service_that_came_after_a_hold_is_found_to_be_held() {
    let folder = tempfile::tempdir().unwrap();
    let mut desk = desk(folder.path());
    set(&mut desk, &[], "an audit");
    let operations = &desk.look().unwrap().state;
    let reader = Reader::open(folder.path()).unwrap();
    let service = fold::Folded::read(&reader, &name("web")).unwrap().service;
    let subject = hold::Subject::default();
    assert_eq!(unmirrored(operations, &name("web"), &subject, &service, NOW), None);
    let late = unmirrored(operations, &name("late"), &subject, &Service::default(), NOW);
    assert_eq!(late.as_deref(), Some("hold-0 by person:alice: an audit"));
}
