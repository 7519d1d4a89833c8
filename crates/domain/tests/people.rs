//! Pages, caps, overrides, analyses and who may: the promises of what people do, as plain functions.
#![expect(clippy::unwrap_used, reason = "a test that cannot set up its world has failed")]

use lastgood_domain::{
    event,
    failure::Coded as _,
    operations::{
        Event, Operations, Record,
        approval::{self, ApprovalEvent, Door, Request},
        cap::{self, Caps, Risky},
        clock::{self, Circumstances},
        escalation::{self, Chains, PageEvent, Step},
        hold, incident,
        overrule::{self, Overrule},
        people::{Act, People, Person},
        rca::{self, AnalysisEvent},
    },
    service::{Pin, Service},
    terms::{
        Actor, ApprovalId, Digest, IncidentId, PageId, Reason, ReleaseTag, RoleName, ServiceName, Span, Timestamp,
        WideHoldId,
    },
};
use std::collections::{BTreeMap, BTreeSet};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// A Friday evening.
const FRIDAY: Timestamp = Timestamp(1_764_350_000_000);

fn person(name: &str) -> Actor {
    Actor::new(&format!("person:{name}")).unwrap()
}

fn clock_itself() -> Actor {
    Actor::new("lastgood:clock").unwrap()
}

fn reason(text: &str) -> Reason {
    Reason::new(text).unwrap()
}

fn at(start: Timestamp, later: i64) -> Timestamp {
    Timestamp(start.0 + later)
}

/// Alice and bob can be reached, carol can't.
fn people() -> People {
    let reached = |name: &str| Person { notice: vec![format!("pager-{name}")], ..Person::default() };
    let all =
        [(person("alice"), reached("alice")), (person("bob"), reached("bob")), (person("carol"), Person::default())];
    People { all: all.into(), ..People::default() }
}

fn step(names: &[&str]) -> Step {
    Step { to: names.iter().map(|name| person(name)).collect(), roles: BTreeSet::new(), within: Span::minutes(5) }
}

fn known(steps: Vec<Step>) -> Circumstances {
    let chains: Chains = [(escalation::DEFAULT.to_owned(), steps)].into();
    Circumstances { people: people(), chains, approvals: escalation::DEFAULT.into(), overdue: BTreeMap::new() }
}

fn take(state: &mut Operations, at: Timestamp, by: &Actor, events: impl IntoIterator<Item = Event>) {
    for event in events {
        state.take(&Record { v: Record::VERSION, at, by: by.clone(), event });
    }
}

/// Lets the clock look once, and takes what it says.
fn tick(state: &mut Operations, known: &Circumstances, now: Timestamp) -> Vec<Event> {
    let events = clock::due(state, known, &clock_itself(), now);
    take(state, now, &clock_itself(), events.clone());
    events
}

fn asked(state: &mut Operations) {
    let request = Request {
        subject: "asked/tidy".into(),
        what: "tidy up".into(),
        plan: Digest::of(b"plan"),
        needed: 1,
        of: BTreeSet::new(),
        expires: FRIDAY.after(approval::EXPIRES_AFTER),
    };
    let events = approval::request(&state.approvals, &person("alice"), request).unwrap();
    take(state, FRIDAY, &person("alice"), events.into_iter().map(Event::Approval));
}

fn paged(events: &[Event]) -> Vec<Vec<String>> {
    let names = |to: &BTreeSet<Actor>| to.iter().map(ToString::to_string).collect();
    let to = events.iter().filter_map(|event| match event {
        Event::Page { event: PageEvent::Paged { to, .. }, .. } => Some(names(to)),
        _ => None,
    });
    to.collect()
}

#[test]
fn an_approval_that_expires_over_a_weekend_is_paged_once_is_expired_and_allows_nothing() {
    let known = known(vec![step(&["bob"]), step(&["alice"])]);
    let mut state = Operations::default();
    asked(&mut state);
    // The machine sleeps from Friday to Monday: everything is due at once.
    let monday = at(FRIDAY, 3 * DAY);
    let events = tick(&mut state, &known, monday);
    let expired = Event::Approval(ApprovalEvent::Expired { approval: ApprovalId(0) });
    assert_eq!(events.iter().filter(|event| **event == expired).count(), 1, "{events:?}");
    assert!(!events.iter().any(|event| matches!(event, Event::Approval(ApprovalEvent::Reminded { .. }))), "{events:?}");
    assert_eq!(paged(&events), [["person:bob"]]);
    assert!(!state.approvals.allows("asked/tidy", &Digest::of(b"plan"), 1, monday));
    assert_eq!(tick(&mut state, &known, at(monday, 1)), []);
    // Nobody answers: the next step, once.
    assert_eq!(paged(&tick(&mut state, &known, at(monday, 5 * MINUTE))), [["person:alice"]]);
}

#[test]
fn a_request_reminds_at_half_and_pages_at_four_fifths_and_an_answer_ends_that() {
    let known = known(vec![step(&["bob"])]);
    let mut state = Operations::default();
    asked(&mut state);
    assert_eq!(tick(&mut state, &known, at(FRIDAY, 12 * HOUR - 1)), []);
    let half = tick(&mut state, &known, at(FRIDAY, 12 * HOUR));
    assert_eq!(half, [Event::Approval(ApprovalEvent::Reminded { approval: ApprovalId(0), percent: 50 })]);
    assert_eq!(tick(&mut state, &known, at(FRIDAY, 12 * HOUR)), []);
    let late = at(FRIDAY, 20 * HOUR);
    assert_eq!(paged(&tick(&mut state, &known, late)), [["person:bob"]]);
    let yes = approval::approve(&state.approvals, &person("bob"), ApprovalId(0), Digest::of(b"plan"), late).unwrap();
    take(&mut state, late, &person("bob"), [Event::Approval(yes)]);
    let ended = tick(&mut state, &known, at(late, 1));
    assert!(matches!(ended.as_slice(), [Event::Page { event: PageEvent::Ended { .. }, .. }]), "{ended:?}");
    assert_eq!(tick(&mut state, &known, at(late, DAY)), []);
}

#[test]
fn a_step_that_reaches_nobody_is_passed_at_once_and_said() {
    let known = known(vec![step(&["carol"]), step(&["nobody"]), step(&["bob"])]);
    let mut state = Operations::default();
    let (page, event) = escalation::raise(&state.pages, "incident/i0", "orders are doubled".into(), "default").unwrap();
    take(&mut state, FRIDAY, &clock_itself(), [Event::Page { page, event }]);
    let events = tick(&mut state, &known, FRIDAY);
    let said: Vec<PageEvent> =
        events.into_iter().map(|event| if let Event::Page { event, .. } = event { event } else { panic!() }).collect();
    let to = [person("bob")].into();
    assert_eq!(
        said,
        [PageEvent::Skipped { step: 0 }, PageEvent::Skipped { step: 1 }, PageEvent::Paged { step: 2, to }]
    );
    assert_eq!(escalation::ending_at_nobody(&known.chains, &known.people), Vec::<&str>::new());
    let nobody = [("default".to_owned(), vec![step(&["bob"]), step(&["carol"])])].into();
    assert_eq!(escalation::ending_at_nobody(&nobody, &known.people), ["default"]);
}

#[test]
fn whoever_is_there_stops_the_chain_and_who_is_not_lets_it_end_once() {
    for acknowledges in [true, false] {
        let known = known(vec![step(&["bob"]), step(&["alice"])]);
        let mut state = Operations::default();
        let (page, event) =
            escalation::raise(&state.pages, "incident/i0", "orders are doubled".into(), "default").unwrap();
        take(&mut state, FRIDAY, &clock_itself(), [Event::Page { page, event }]);
        tick(&mut state, &known, FRIDAY);
        if acknowledges {
            let event = escalation::acknowledge(&state.pages, PageId(0)).unwrap();
            take(&mut state, FRIDAY, &person("bob"), [Event::Page { page, event }]);
            assert!(escalation::acknowledge(&state.pages, PageId(0)).is_err());
        }
        let mut all = Vec::new();
        for minute in 0..60 {
            all.extend(tick(&mut state, &known, at(FRIDAY, minute * MINUTE)));
        }
        match acknowledges {
            true => assert_eq!(all, []),
            false => {
                assert_eq!(paged(&all), [["person:alice"]]);
                assert_eq!(all.last(), Some(&Event::Page { page, event: PageEvent::Exhausted }));
            }
        }
    }
}

/// A generator of its own: the same world again from the same seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

#[test]
fn in_any_chain_steps_are_paged_in_order_each_once_none_before_its_time_and_never_nobody() {
    for seed in 0..2_000 {
        let mut chance = Chance(seed);
        let names = ["alice", "bob", "carol", "nobody"];
        let steps: Vec<Step> = (0..chance.below(5)).map(|_| step(&[names[chance.below(4) as usize]])).collect();
        let known = known(steps.clone());
        let mut state = Operations::default();
        let (page, event) = escalation::raise(&state.pages, "x", "x".into(), "default").unwrap();
        take(&mut state, FRIDAY, &clock_itself(), [Event::Page { page, event }]);
        let (mut now, mut seen, mut last) = (FRIDAY, Vec::new(), None::<Timestamp>);
        for _ in 0..40 {
            for event in tick(&mut state, &known, now) {
                let Event::Page { event, .. } = event else { panic!("seed {seed}") };
                if let PageEvent::Paged { step, to } = &event {
                    assert!(!to.is_empty() && !to.contains(&person("carol")), "seed {seed}");
                    assert!(last.is_none_or(|last| now.since(last) >= Span::minutes(5)), "seed {seed}: too early");
                    last = Some(now);
                    assert!(*to == steps[*step as usize].reached(&known.people), "seed {seed}");
                }
                seen.push(event);
            }
            now = at(now, chance.below(20) as i64 * MINUTE);
        }
        let numbers: Vec<u32> = seen
            .iter()
            .filter_map(|event| match event {
                PageEvent::Paged { step, .. } | PageEvent::Skipped { step } => Some(*step),
                _ => None,
            })
            .collect();
        assert_eq!(numbers, (0..steps.len() as u32).collect::<Vec<_>>(), "seed {seed}");
        assert_eq!(seen.last(), Some(&PageEvent::Exhausted), "seed {seed}");
    }
}

fn overrule() -> Overrule {
    Overrule {
        gate: "preflight".into(),
        service: ServiceName::new("web").unwrap(),
        tag: ReleaseTag::new("2.0").unwrap(),
        digest: Some(Digest::of(b"2.0")),
        reason: reason("the disk is being grown"),
        until: at(FRIDAY, DAY),
    }
}

#[test]
fn only_its_owner_overrides_a_gate_for_one_release_and_a_time_and_not_without_end() {
    let caps: Caps = [(Risky::Override, 2)].into();
    let owners = [("preflight".to_owned(), person("alice"))].into();
    let people = People { owners, caps, ..people() };
    let mut state = Operations::default();
    let event = Event::Overruled(overrule());
    let code = |by: &str, state: &Operations, event: &Event, now| {
        use lastgood_domain::failure::Coded as _;
        people.permit(state, &person(by), event, now).err().map(|error| error.code())
    };
    assert_eq!(code("bob", &state, &event, FRIDAY), Some("override-not-owner"));
    let unowned = Event::Overruled(Overrule { gate: "unit".into(), ..overrule() });
    assert_eq!(code("alice", &state, &unowned, FRIDAY), Some("override-no-owner"));
    for _ in 0..2 {
        assert_eq!(code("alice", &state, &event, FRIDAY), None);
        take(&mut state, FRIDAY, &person("alice"), [event.clone()]);
    }
    assert_eq!(code("alice", &state, &event, FRIDAY), Some("cap-reached"));
    assert_eq!(code("alice", &state, &event, at(FRIDAY, DAY)), None);
    let (web, tag) = (ServiceName::new("web").unwrap(), ReleaseTag::new("2.0").unwrap());
    let stands = |tag: &ReleaseTag, bytes: &[u8], now| {
        overrule::stands(&state, "preflight", &web, tag, Some(&Digest::of(bytes)), now).is_some()
    };
    assert!(stands(&tag, b"2.0", FRIDAY));
    assert!(!stands(&tag, b"other bytes", FRIDAY));
    assert!(!stands(&ReleaseTag::new("2.1").unwrap(), b"2.0", FRIDAY));
    assert!(!stands(&tag, b"2.0", at(FRIDAY, DAY)));
}

#[test]
fn a_way_back_above_its_cap_is_done_and_pages() {
    let caps: Caps = [(Risky::Rollback, 1), (Risky::Waive, 1)].into();
    let (alice, mut state) = (person("alice"), Operations::default());
    for expected in [1, 2, 2] {
        assert_eq!(cap::check(&state.caps, &caps, &alice, Risky::Rollback, FRIDAY), Ok(()));
        let events = cap::count(&state, &caps, &alice, Risky::Rollback, FRIDAY);
        // Paged once a day, however often.
        let raised = events.iter().filter(|event| matches!(event, Event::Page { .. })).count();
        assert_eq!(raised, usize::from(expected == 2 && state.pages.all.is_empty()));
        take(&mut state, FRIDAY, &alice, events);
    }
    take(&mut state, FRIDAY, &alice, [Event::Risk { act: Risky::Waive }]);
    let reached = cap::check(&state.caps, &caps, &alice, Risky::Waive, FRIDAY).unwrap_err();
    assert_eq!((reached.count, reached.cap), (1, 1));
    assert_eq!(cap::check(&state.caps, &caps, &alice, Risky::Waive, at(FRIDAY, DAY)), Ok(()));
    assert_eq!(cap::check(&state.caps, &caps, &person("bob"), Risky::Waive, FRIDAY), Ok(()));
}

#[test]
fn who_is_not_configured_opens_nothing_and_blocks_and_rolls_back_all_the_same() {
    use lastgood_domain::{
        operations::hold::HoldEvent,
        terms::{HoldId, WideHoldId},
    };
    let role = lastgood_domain::terms::RoleName::new("incident-commander").unwrap();
    let mut people = people();
    people.may = [(Act::Lift, [role.clone()].into())].into();
    people.all.get_mut(&person("alice")).unwrap().roles.insert(role);
    let state = Operations::default();
    let lift = Event::Hold(HoldEvent::Lifted { hold: WideHoldId(0), reason: reason("done") });
    let may = |by: &str, event: &Event| people.permit(&state, &person(by), event, FRIDAY).is_ok();
    assert!(may("alice", &lift) && !may("bob", &lift) && !may("mallory", &lift));
    let yes = Event::Approval(ApprovalEvent::Approved {
        approval: ApprovalId(0),
        plan: Digest::of(b"plan"),
        door: Door::Command,
    });
    assert!(may("bob", &yes) && !may("mallory", &yes));
    let set = HoldEvent::Set {
        hold: WideHoldId(0),
        kinds: BTreeSet::new(),
        selector: Default::default(),
        reason: reason("stop"),
        incident: None,
        until: None,
        review: None,
        in_flight: lastgood_domain::operations::hold::InFlight::Pause,
    };
    assert!(may("mallory", &Event::Hold(set)));
    let service =
        |by: &str, event: &event::Event| people.permit_service(&Service::default(), &person(by), event).is_ok();
    let lifted = event::Event::HoldLifted { hold: HoldId(0), reason: reason("done") };
    assert!(service("alice", &lifted) && !service("bob", &lifted));
    let tag = |name: &str| ReleaseTag::new(name).unwrap();
    let (one, other) = (tag("1.0"), tag("2.0"));
    let pin = |tag: &ReleaseTag| event::Event::Pinned { tag: tag.clone(), reason: reason("it works") };
    let pinned =
        Service { pin: Some(Pin { tag: one, by: person("alice"), reason: reason("it works") }), ..Service::default() };
    let over = |by: &str| people.permit_service(&pinned, &person(by), &pin(&other)).is_ok();
    // Where nothing is pinned it only blocks; over another pin it takes that away.
    assert!(over("alice") && !over("bob") && service("bob", &pin(&other)));
    let waived = event::Event::Waived { release: Digest::of(b"2"), reason: reason("it was good") };
    assert!(service("bob", &waived) && !service("mallory", &waived));
    let set = event::Event::HoldSet {
        hold: HoldId(0),
        reason: reason("stop"),
        until: None,
        origin: None,
        in_flight: lastgood_domain::operations::hold::InFlight::Pause,
    };
    assert!(service("mallory", &set));
    // Without people everybody may, as before.
    assert!(People::default().permit(&state, &person("mallory"), &lift, FRIDAY).is_ok());
}

#[test]
fn who_may_lead_an_incident_lifts_what_it_holds_and_needs_the_role_for_lifts_only_for_other_holds() {
    let roles = |name: &str| Person { roles: [RoleName::new(name).unwrap()].into(), ..Person::default() };
    let all = [(person("alice"), roles("lead")), (person("bob"), roles("keeper"))].into();
    let may =
        [(Act::Lead, [RoleName::new("lead").unwrap()].into()), (Act::Lift, [RoleName::new("keeper").unwrap()].into())];
    let people = People { all, may: may.into(), ..People::default() };
    let mut state = Operations::default();
    let declaration = incident::Declaration {
        level: incident::Level::L1,
        trigger: reason("orders are doubled"),
        services: [].into(),
        commander: person("alice"),
        drill: false,
    };
    let declared = incident::declare(&state, declaration);
    take(&mut state, FRIDAY, &person("alice"), declared);
    let wanted = hold::Wanted {
        kinds: [hold::HoldKind::Deploy].into(),
        selector: hold::Selector::default(),
        reason: reason("an audit"),
        until: None,
        review: Some(at(FRIDAY, DAY)),
        in_flight: hold::InFlight::Pause,
    };
    let own = hold::set(&state.holds, wanted).unwrap();
    take(&mut state, FRIDAY, &person("alice"), [Event::Hold(own)]);
    let may = |who: &str, hold: u64| {
        let lifted = Event::Hold(hold::HoldEvent::Lifted { hold: WideHoldId(hold), reason: reason("over") });
        people.permit(&state, &person(who), &lifted, FRIDAY).is_ok()
    };
    assert_eq!(
        [("alice", 0), ("bob", 0), ("alice", 4), ("bob", 4)].map(|(who, hold)| may(who, hold)),
        [true, false, false, true]
    );
    let ended = incident::stand_down(&state, IncidentId(0), &person("alice"), reason("a false alarm")).unwrap();
    assert!(
        ended.len() > 4 && ended.iter().all(|event| people.permit(&state, &person("alice"), event, FRIDAY).is_ok())
    );
}

#[test]
fn an_analysis_is_owed_until_somebody_else_accepts_it_and_a_waiver_ends_and_falls_with_the_next_rollback() {
    let mut service = Service::default();
    let mut say = |by: &str, now: Timestamp, event: event::Event| {
        let record = event::Record { v: event::Record::VERSION, at: now, by: person(by), event };
        service.apply(&record);
        service.clone()
    };
    let tag = ReleaseTag::new("2.0").unwrap();
    let owe = || rca::owe("rolled back: bob failed".into(), None, None, None, FRIDAY);
    let now = say("alice", FRIDAY, owe());
    let blocks = |service: &Service, tag: &ReleaseTag, later| {
        service.analysis.as_ref().and_then(|owed| owed.blocks(tag, at(FRIDAY, later)))
    };
    assert!(blocks(&now, &tag, 3 * HOUR).unwrap().contains("3 h 0 min, of: rolled back: bob failed; nobody has"));
    assert!(rca::accept(&now, &person("bob")).is_err());
    // A hotfix passes, nothing else, and not for ever.
    let agreed = now.analysis.clone().unwrap();
    let waive =
        |now: &Service| rca::waive(now, &agreed, reason("hotfix"), Span::minutes(60), Some(tag.clone()), FRIDAY);
    let now = say("alice", FRIDAY, waive(&now).unwrap());
    assert_eq!(blocks(&now, &tag, HOUR - 1), None);
    assert!(blocks(&now, &ReleaseTag::new("2.1").unwrap(), 0).is_some());
    assert!(blocks(&now, &tag, HOUR).is_some());
    let now = say("alice", at(FRIDAY, 1), owe());
    assert!(blocks(&now, &tag, 0).is_some());
    // What was agreed to was another rollback's.
    assert_eq!(waive(&now), Err(rca::Refused::Another { because: "rolled back: bob failed".into() }));
    let now = say("alice", FRIDAY, rca::submit(&now, Digest::of(b"it was the cache")).unwrap());
    assert!(blocks(&now, &tag, 0).unwrap().contains("handed in by person:alice"));
    assert!(rca::accept(&now, &person("alice")).is_err());
    let accepted = rca::accept(&now, &person("bob")).unwrap();
    // What was not read is not accepted.
    let other = event::Event::Analysis(AnalysisEvent::Accepted { document: Digest::of(b"another") });
    let now = say("bob", FRIDAY, other);
    assert!(now.analysis.is_some());
    let now = say("bob", FRIDAY, accepted);
    assert_eq!(now.analysis, None);
}

#[test]
fn only_people_who_are_configured_say_that_they_are_there() {
    let known = known(vec![step(&["bob"])]);
    let mut state = Operations::default();
    let (page, event) = escalation::raise(&state.pages, "incident/i0", "orders are doubled".into(), "default").unwrap();
    take(&mut state, FRIDAY, &clock_itself(), [Event::Page { page, event }]);
    let there = Event::Page { page, event: PageEvent::Acknowledged };
    let may = |people: &People, who| people.permit(&state, &person(who), &there, FRIDAY).map_err(|error| error.code());
    assert_eq!(may(&known.people, "mallory"), Err("page-stranger"));
    assert_eq!(may(&known.people, "bob"), Ok(()));
    assert_eq!(may(&People::default(), "mallory"), Ok(()));
}
