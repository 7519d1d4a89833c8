use super::*;
use crate::config::Config;
use lastgood_domain::{
    operations::{
        approval,
        hold::{HoldKind, Selector},
        incident::{self, Declaration, Level, State},
    },
    service::{Condition, Instance},
    terms::{ApprovalId, Digest, IncidentId, InstanceName, Reason, ReleaseTag, Span, WideHoldId},
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
        let wanted = hold::Wanted {
            kinds: [HoldKind::Deploy].into(),
            selector: selector.clone(),
            reason: reason(why),
            until: None,
            review: Some(NOW.after(Span::minutes(60))),
            in_flight: hold::InFlight::Pause,
        };
        Ok(Event::Hold(hold::set(&state.holds, wanted)?))
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

/// Declares an incident about `web`, goes on to `states`, and lifts its hold of deploys; gives what each service owes.
fn owed_after(states: &[State], drill: bool) -> [Option<String>; 2] {
    let folder = tempfile::tempdir().unwrap();
    let mut desk = desk(folder.path());
    let (level, trigger, commander) = (Level::L2, reason("orders are doubled"), alice());
    let declaration = Declaration { level, trigger, services: [name("web")].into(), commander, drill };
    desk.say(&alice(), NOW, &|state| Ok(incident::declare(state, declaration.clone()))).unwrap();
    for to in states {
        let incident = IncidentId(0);
        let go = |state: &Operations| {
            Ok(Event::Incident { incident, event: incident::advance(state, incident, *to, reason("on"))? })
        };
        desk.say_one(&alice(), NOW, &go).unwrap();
    }
    if !drill {
        let lifted = Event::Hold(hold::HoldEvent::Lifted { hold: WideHoldId(3), reason: reason("it is over") });
        desk.say_one(&alice(), NOW, &|_| Ok(lifted.clone())).unwrap();
    }
    let reader = Reader::open(folder.path()).unwrap();
    ["web", "notes"].map(|one| {
        let service = fold::Folded::read(&reader, &name(one)).unwrap().service;
        service.analysis.map(|owed| format!("{} by {}", owed.because, owed.owner.unwrap()))
    })
}

#[test]
fn where_an_incident_lets_deploys_go_on_its_services_owe_an_analysis() {
    let executed = [State::Freezing, State::Planning, State::Executing];
    let owed = "incident i0: orders are doubled by person:alice".to_owned();
    assert_eq!(owed_after(&executed, false), [Some(owed), None]);
    // What turned out to be none, and a drill, owe nothing.
    assert_eq!(owed_after(&[State::Freezing], false), [None, None]);
    assert_eq!(owed_after(&executed, true), [None, None]);
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

fn exempt(desk: &mut Desk, by: &Actor, service: &str, release: Digest) -> Result<ApprovalId, String> {
    let exemption = hold::Exemption {
        release,
        tag: ReleaseTag::new("2.0.1").unwrap(),
        reason: reason("the fix itself"),
        until: NOW.after(Span::minutes(60)),
    };
    let subject = hold::Subject::default();
    let said = desk
        .say(by, NOW, &|state| hold::ask(state, by, (WideHoldId(0), &name(service), &subject), exemption.clone(), NOW));
    let (_, folded) = said.map_err(|error| error.coded().code().to_owned())?;
    Ok(*folded.state.holds.asked.keys().next_back().unwrap())
}

fn approve(desk: &mut Desk, by: &Actor, approval: ApprovalId) -> Result<(), String> {
    let said = desk.say_one(by, NOW, &|state: &Operations| {
        let plan = state.approvals.all[&approval].request.plan;
        Ok(Event::Approval(approval::approve(&state.approvals, by, approval, plan, NOW)?))
    });
    said.map(|_| ()).map_err(|error| error.coded().code().to_owned())
}

#[test]
fn one_release_of_one_service_passes_one_hold_once_a_second_person_agrees() {
    let folder = tempfile::tempdir().unwrap();
    let mut desk = desk(folder.path());
    set(&mut desk, &[], "an audit");
    set(&mut desk, &["web"], "a move of the database");
    let (bob, fix) = (Actor::new("person:bob").unwrap(), Digest::of(b"fix"));
    let passes = |service: &str| -> Vec<bool> {
        let reader = Reader::open(folder.path()).unwrap();
        let service = fold::Folded::read(&reader, &name(service)).unwrap().service;
        service.holds.values().map(|hold| hold.lets_pass(&fix, NOW)).collect()
    };
    let approval = exempt(&mut desk, &alice(), "web", fix).unwrap();
    assert_eq!(passes("web"), [false, false], "nobody has agreed yet");
    assert_eq!(approve(&mut desk, &alice(), approval), Err("approval-own".into()));
    assert_eq!(passes("web"), [false, false]);
    approve(&mut desk, &bob, approval).unwrap();
    assert_eq!(passes("web"), [true, false], "the other hold still stands");
    assert_eq!(passes("notes"), [false]);
    assert_eq!(exempt(&mut desk, &alice(), "elsewhere", fix).map(drop), Ok(()), "an empty selector is every service");
    lift(&mut desk, 0);
    set(&mut desk, &[], "another audit");
    assert_eq!(passes("web"), [false, false], "what passed one hold passes no other");
}

#[test]
fn a_hold_that_is_lifted_is_lifted_in_the_chain_of_a_service_that_is_not_configured_now() {
    let folder = tempfile::tempdir().unwrap();
    set(&mut desk(folder.path()), &[], "an audit");
    // Somebody takes `web` out of the configuration; the hold is lifted, and `web` comes back.
    let services = [(name("notes"), hold::Subject::default())].into();
    let store = Store::open(folder.path()).unwrap();
    let mut without = Desk::new(store, Scope { services, ..Scope::default() }, Vec::new());
    lift(&mut without, 0);
    assert!(holds_of(folder.path(), "notes").is_empty());
    assert!(holds_of(folder.path(), "web").is_empty());
}

#[test]
fn an_instance_that_a_held_run_left_where_it_was_keeps_no_incident_frozen() {
    let text = r#"
[service.web]
channel = { directory = "releases", version_file = "VERSION" }
command = ["{release}/run"]
state = { directory = "{data}" }
probe = [{ name = "works", http = { method = "GET", path = "/" }, expect = { status = 200 } }]
instance = [{ name = "web-1", port = 8001, data = "web-1" }]
"#;
    let config = Config::parse(text, Path::new("/lastgood.toml"), Path::new("/")).unwrap();
    let declaration = Declaration {
        level: Level::L1,
        trigger: reason("orders are doubled"),
        services: [name("web")].into(),
        commander: alice(),
        drill: true,
    };
    let mut state = Operations::default();
    for event in incident::declare(&state, declaration) {
        state.take(&Record { v: Record::VERSION, at: NOW, by: alice(), event });
    }
    let (id, good) = (IncidentId(0), Digest::of(b"1.0"));
    let unsettled = |runs: Digest, condition: Condition| {
        let instance = Instance { release: Some(runs), condition, ..Instance::default() };
        let instances = [(InstanceName::new("web-1").unwrap(), instance)].into();
        let service = Service { last_good: Some(good), instances, ..Service::default() };
        let found = &state.incidents.all[&id];
        facts_of(&|_| Ok(service.clone()), Ok(Vec::new()), &config, &state, (id, found), NOW).unsettled.len()
    };
    let left = || Condition::Deferred {
        why: "the run was held".into(),
        reason: lastgood_domain::event::DeferReason::Other,
        since: NOW,
        asked: NOW,
    };
    assert_eq!(unsettled(good, Condition::Settled), 0);
    assert_eq!(unsettled(good, left()), 0);
    assert_eq!(unsettled(Digest::of(b"2.0"), left()), 1, "one that runs something else is behind");
    assert_eq!(unsettled(good, Condition::Between), 1);
}

#[test]
fn a_timeline_tells_who_was_let_through_what_the_incident_holds_who_was_paged_and_what_enforcers_confirmed() {
    let folder = tempfile::tempdir().unwrap();
    let mut desk = desk(folder.path());
    set(&mut desk, &[], "an audit");
    let (level, trigger, commander) = (Level::L2, reason("orders are doubled"), alice());
    let declaration = Declaration { level, trigger, services: [].into(), commander, drill: false };
    desk.say(&alice(), NOW, &|state| Ok(incident::declare(state, declaration.clone()))).unwrap();
    let exempt = |state: &Operations, hold: u64| {
        let exemption = hold::Exemption {
            release: Digest::of(b"1.1"),
            tag: ReleaseTag::new("1.1").unwrap(),
            reason: reason("the fix"),
            until: NOW.after(Span::minutes(60)),
        };
        hold::ask(state, &alice(), (WideHoldId(hold), &name("web"), &hold::Subject::default()), exemption, NOW)
    };
    // One to pass the hold of somebody else, one to pass the incident's.
    desk.say(&alice(), NOW, &|state| exempt(state, 0)).unwrap();
    desk.say(&alice(), NOW, &|state| exempt(state, 4)).unwrap();
    let bob = Actor::new("person:bob").unwrap();
    let yes = |state: &Operations| {
        let plan = state.approvals.all[&ApprovalId(1)].request.plan;
        Ok(vec![Event::Approval(approval::approve(&state.approvals, &bob, ApprovalId(1), plan, NOW)?)])
    };
    desk.say(&bob, NOW, &yes).unwrap();
    let enforcer = lastgood_domain::terms::EnforcerName::new("repository").unwrap();
    for (hold, state) in [(0, hold::Enforcement::Confirmed), (2, hold::Enforcement::Confirmed)] {
        let event = hold::HoldEvent::Enforced { hold: WideHoldId(hold), enforcer: enforcer.clone(), state };
        desk.say_one(&alice(), NOW, &|_| Ok(Event::Hold(event.clone()))).unwrap();
    }
    for about in ["incident/i0/update/1", "hold/hold-2/repository", "hold/hold-0/repository", "approval/a0"] {
        let page = |state: &Operations| {
            let raised = lastgood_domain::operations::escalation::raise(&state.pages, about, about.into(), "default");
            let (page, event) = raised.unwrap();
            Ok(vec![Event::Page { page, event }])
        };
        desk.say(&alice(), NOW, &page).unwrap();
    }
    let reader = Reader::open(folder.path()).unwrap();
    let told: Vec<String> = timeline(&reader, IncidentId(0)).unwrap().into_iter().map(|entry| entry.text).collect();
    let has = |part: &str| told.iter().any(|text| text.contains(part));
    for part in [
        "may pass hold-4",
        "person:bob approves a1",
        "hold-2 is confirmed by repository",
        "incident/i0/update/1",
        "hold/hold-2/repository",
    ] {
        assert!(has(part), "{part} is not in {told:#?}");
    }
    for part in ["may pass hold-0", "hold-0 is confirmed", "hold/hold-0/repository", "approval/a0", "an audit"] {
        assert!(!has(part), "{part} is in {told:#?}");
    }
}
