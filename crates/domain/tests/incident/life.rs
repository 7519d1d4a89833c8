//! One promise each.

use crate::{ID, TERMS, World, actor, item, items, reason};
use lastgood_domain::{
    failure::Coded as _,
    notice::{NoticeKind, Severity},
    operations::{
        Event, Operations, Refused, approval,
        hold::HoldKind,
        incident::{
            self, Level, Role, State,
            checklist::{self, ItemStanding},
            closing::{self, ClosingEvent},
            level,
            message::{self, FieldType, MessageKind},
            role,
            unfreeze::{self, Row},
            verify::{self, Check, Proof, Verification},
        },
        notice,
        people::{Act, People, Person},
    },
    terms::{Actor, Digest, FollowUpId, RoleName, ServiceName, Span, Timestamp},
};

pub(crate) fn code<T>(result: Result<T, impl Into<Refused>>) -> &'static str {
    match result {
        Ok(_) => "nothing was refused",
        Err(error) => error.into().code(),
    }
}

#[test]
fn an_incident_goes_from_its_declaration_to_done_and_lifts_the_least_risky_first() {
    let mut world = World::verifying(Level::L1, false);
    assert_eq!(world.incident().state, State::Verifying);
    let mut held = Vec::new();
    for _ in 0..4 {
        world.lift().unwrap();
        held.push(world.held());
        world.pass(5);
        world.verify(&[("smoke/notes", Proof::Pass)]);
    }
    use HoldKind::{Deploy, Merge, Promote};
    assert_eq!(held, [vec![Merge, Promote, Deploy], vec![Promote, Deploy], vec![Deploy], vec![]]);
    world.lift().unwrap();
    assert_eq!(world.incident().state, State::ClosedPendingRca);
    let close = |state: &Operations| closing::close(state, ID, &actor("alice"), reason("all is said"), &[]);
    assert_eq!(code(world.one(close)), "incident-owed");
    let due = world.now.after(Span::minutes(9_000));
    let owner = actor("bob");
    for event in [
        ClosingEvent::RootCause { text: reason("a retry without a key") },
        ClosingEvent::FollowUpAdded { follow_up: FollowUpId(0), text: reason("a key"), owner, due },
        ClosingEvent::Safeguard { text: reason("a probe that sends twice") },
        ClosingEvent::Reported { digest: Digest::of(b"report") },
    ] {
        world.one(|state| closing::say(state, ID, event.clone())).unwrap();
    }
    // Said is not accepted: another person reads what the services hand in.
    let notes = [ServiceName::new("notes").unwrap()];
    let unread = world.one(|state| closing::close(state, ID, &actor("alice"), reason("all is said"), &notes));
    assert!(unread.as_ref().is_err_and(|error| error.to_string().contains("the analysis of notes")), "{unread:?}");
    assert_eq!(world.incident().state, State::ClosedPendingRca);
    world.one(close).unwrap();
    assert_eq!(world.incident().state, State::Done);
    // Follow-ups go on after it.
    let closed = ClosingEvent::FollowUpClosed { follow_up: FollowUpId(0), reason: reason("merged") };
    world.one(|state| closing::say(state, ID, closed.clone())).unwrap();
}

#[test]
fn a_report_from_before_what_it_should_tell_closes_nothing() {
    let mut world = World::verifying(Level::L1, false);
    world.one(|state| closing::say(state, ID, ClosingEvent::Reported { digest: Digest::of(b"report") })).unwrap();
    world.one(|state| closing::say(state, ID, ClosingEvent::RootCause { text: reason("another one") })).unwrap();
    assert!(closing::owed(world.incident()).iter().any(|owed| owed.contains("report")));
}

#[test]
fn a_report_from_before_something_was_done_closes_nothing() {
    let mut world = World::verifying(Level::L1, false);
    let report = |world: &mut World| {
        world.one(|state| closing::say(state, ID, ClosingEvent::Reported { digest: Digest::of(b"report") })).unwrap();
        assert!(world.incident().closing.report.is_some());
    };
    report(&mut world);
    world.verify(&[("smoke/notes", Proof::Pass)]);
    assert!(world.incident().closing.report.is_none(), "it was verified since");
    for _ in 0..5 {
        report(&mut world);
        world.lift().unwrap();
        assert!(world.incident().closing.report.is_none(), "something was lifted since");
        world.pass(5);
        world.verify(&[("smoke/notes", Proof::Pass)]);
    }
    assert_eq!(world.incident().state, State::ClosedPendingRca);
    assert!(closing::owed(world.incident()).iter().any(|owed| owed.contains("report")));
    // What is only noted is no reason to write it again.
    report(&mut world);
    world.one(|_| Ok(incident::IncidentEvent::Noted { text: reason("the postmortem is on Friday") })).unwrap();
    assert!(world.incident().closing.report.is_some());
}

#[test]
fn a_missing_proof_can_neither_be_lifted_over_nor_signed_off() {
    let mut world = World::verifying(Level::L1, false);
    world.verify(&[("smoke/notes", Proof::Pass), ("check/ci", Proof::Missing)]);
    assert_eq!(code(world.lift()), "incident-verification-missing");
    let facts = world.facts.clone();
    let refused = world.say("alice", |state, now| {
        let until = now.after(Span::minutes(60));
        unfreeze::accept_risk(
            state,
            ID,
            &actor("alice"),
            Row::Verified,
            reason("it will do"),
            until,
            (&facts, &TERMS),
            now,
        )
    });
    assert_eq!(code(refused), "incident-risk-unknown");
}

#[test]
fn an_unmet_row_is_lifted_over_only_with_a_second_person_and_only_for_what_was_seen_and_for_a_time() {
    let mut world = World::verifying(Level::L1, false);
    world.verify(&[("smoke/notes", Proof::Fail)]);
    assert_eq!(code(world.lift()), "incident-frozen");
    let facts = world.facts.clone();
    world
        .say("alice", |state, now| {
            let until = now.after(Span::minutes(20));
            let risk = reason("the probe is wrong, not the service");
            unfreeze::accept_risk(state, ID, &actor("alice"), Row::Verified, risk, until, (&facts, &TERMS), now)
        })
        .unwrap();
    assert_eq!(code(world.lift()), "incident-frozen");
    let own = world.say("alice", |state, now| {
        let (id, one) = state.approvals.all.last_key_value().unwrap();
        Ok(vec![Event::Approval(approval::approve(&state.approvals, &actor("alice"), *id, one.request.plan, now)?)])
    });
    assert_eq!(code(own), "approval-own");
    world.approve();
    let signed = world.clone();
    // Something else fails now: that was not signed.
    world.pass(1);
    world.verify(&[("smoke/notes", Proof::Fail), ("health/notes", Proof::Fail)]);
    assert_eq!(code(world.lift()), "incident-frozen");
    // Its time is over.
    let mut late = signed.clone();
    late.pass(20);
    assert_eq!(code(late.lift()), "incident-frozen");
    let mut world = signed;
    world.lift().unwrap();
    assert!(!world.held().contains(&HoldKind::Claim));
}

#[test]
fn a_verification_that_fails_while_the_freeze_is_lifted_holds_everything_again() {
    let mut world = World::verifying(Level::L1, false);
    world.lift().unwrap();
    world.pass(5);
    world.verify(&[("smoke/notes", Proof::Pass)]);
    world.lift().unwrap();
    assert_eq!(world.held(), [HoldKind::Promote, HoldKind::Deploy]);
    world.pass(5);
    world.verify(&[("smoke/notes", Proof::Fail)]);
    assert_eq!(world.held(), HoldKind::ALL);
    assert_eq!(world.incident().state, State::Verifying);
    // What was told of its end is no longer so.
    world.pass(1);
    world.verify(&[("smoke/notes", Proof::Pass)]);
    assert_eq!(code(world.lift()), "incident-frozen");
    world.pass(1);
    world.tell(MessageKind::Complete);
    world.lift().unwrap();
}

#[test]
fn a_stage_is_lifted_only_after_the_last_was_watched_and_verified() {
    let mut world = World::verifying(Level::L1, false);
    world.lift().unwrap();
    world.pass(4);
    world.verify(&[("smoke/notes", Proof::Pass)]);
    assert_eq!(code(world.lift()), "incident-frozen");
    world.pass(1);
    world.lift().unwrap();
    world.pass(5);
    // Watched, but what was verified was the stage before.
    assert_eq!(code(world.lift()), "incident-verification-missing");
}

#[test]
fn another_release_than_the_verified_one_lifts_nothing() {
    let mut world = World::verifying(Level::L1, false);
    world.facts.target.insert(ServiceName::new("notes").unwrap(), "1.0.1 def".into());
    assert_eq!(code(world.lift()), "incident-verification-missing");
}

#[test]
fn raising_the_level_plans_anew_voids_what_was_signed_and_holds_everything_again() {
    let mut world = World::verifying(Level::L1, false);
    let plan = Digest::of(b"plan");
    world
        .say("alice", |state, now| {
            let request = approval::Request {
                subject: incident::subject(ID, "plan"),
                what: "run the plan".into(),
                plan,
                needed: 1,
                of: [].into(),
                expires: now.after(approval::EXPIRES_AFTER),
            };
            let events = approval::request(&state.approvals, &actor("alice"), request)?;
            Ok(events.into_iter().map(Event::Approval).collect())
        })
        .unwrap();
    world.approve();
    assert!(world.operations.approvals.allows("incident/i0/plan", &plan, 1, world.now));
    world.lift().unwrap();
    world.say("carol", |state, _| Ok(level::raise(state, ID, Level::L2, reason("rows are wrong"))?)).unwrap();
    assert!(!world.operations.approvals.allows("incident/i0/plan", &plan, 1, world.now));
    assert_eq!((world.incident().state, world.incident().level), (State::Planning, Level::L2));
    assert_eq!(world.held(), HoldKind::ALL);
    // Something was executed: nobody makes it undone by standing down.
    let refused = world.say("alice", |state, _| Ok(incident::stand_down(state, ID, &actor("alice"), reason("no"))?));
    assert_eq!(code(refused), "incident-executed");
    let known: Vec<_> = world.incident().checklist.keys().cloned().collect();
    let added = checklist::added(&known, Level::L2, &items(), world.now).unwrap();
    world.take("carol", vec![Event::Incident { incident: ID, event: added }]);
    assert_eq!(checklist::open(world.incident(), &world.operations.approvals, world.now).count(), 1);
}

#[test]
fn lowering_the_level_takes_the_commander_and_a_second_person() {
    let mut world = World::declared(Level::L2, false);
    let lower = |by: &'static str| {
        move |state: &Operations, now: Timestamp| {
            level::lower(state, ID, &actor(by), Level::L1, reason("only code"), now)
        }
    };
    assert_eq!(code(world.say("bob", lower("bob"))), "incident-not-commander");
    world.say("alice", lower("alice")).unwrap();
    world.say("alice", lower("alice")).unwrap();
    assert_eq!(world.incident().level, Level::L2, "one person has lowered it");
    world.approve();
    assert_eq!(world.incident().level, Level::L2);
    world.say("alice", lower("alice")).unwrap();
    assert_eq!(world.incident().level, Level::L1);
    // What belongs to the higher level needs no cleanup any more.
    let queues = &world.incident().checklist[&item("queues")];
    assert_eq!(queues.standing(Level::L1, &world.operations.approvals, world.now), ItemStanding::NotNeeded);
}

#[test]
fn a_role_that_is_handed_over_stays_where_it_is_until_it_is_accepted() {
    let mut world = World::declared(Level::L1, false);
    let bob = actor("bob");
    world.one(|state| role::assign(state, ID, &actor("alice"), Role::Data, bob.clone())).unwrap();
    assert_eq!(
        code(world.one(|state| role::assign(state, ID, &actor("alice"), Role::Data, actor("carol")))),
        "incident-role-owned"
    );
    assert_eq!(
        code(world.one(|state| role::hand_off(state, ID, &actor("dan"), Role::Data, actor("dan")))),
        "incident-not-owner"
    );
    world.one(|state| role::hand_off(state, ID, &bob, Role::Data, actor("carol"))).unwrap();
    assert_eq!(world.incident().owner(Role::Data), Some(&bob));
    assert_eq!(
        code(world.one(|state| role::accept(state, ID, &actor("dan"), Role::Data))),
        "incident-role-not-offered"
    );
    world.one(|state| role::accept(state, ID, &actor("carol"), Role::Data)).unwrap();
    assert_eq!(world.incident().owner(Role::Data), Some(&actor("carol")));
    assert_eq!(
        code(world.one(|state| role::accept(state, ID, &actor("carol"), Role::Data))),
        "incident-role-not-offered"
    );
    world.one(|state| role::hand_off(state, ID, &actor("alice"), Role::Commander, bob.clone())).unwrap();
    assert_eq!(world.incident().commander, actor("alice"));
    world.one(|state| role::accept(state, ID, &bob, Role::Commander)).unwrap();
    assert_eq!(world.incident().commander, bob);
}

#[test]
fn what_lastgood_declared_by_itself_somebody_takes_over_once() {
    let mut world = World::new();
    let declaration = incident::Declaration {
        level: Level::L3,
        trigger: reason("the evidence is uncertain"),
        services: [].into(),
        commander: Actor::new("lastgood:clock").unwrap(),
        drill: false,
    };
    let events = incident::declare(&world.operations, declaration);
    world.take("alice", events);
    world.one(|state| role::assign(state, ID, &actor("bob"), Role::Commander, actor("bob"))).unwrap();
    assert_eq!(world.incident().commander, actor("bob"));
    let again = world.one(|state| role::assign(state, ID, &actor("carol"), Role::Commander, actor("carol")));
    assert_eq!(code(again), "incident-not-commander");
}

#[test]
fn what_was_verified_before_a_stage_was_lifted_is_no_proof_of_what_is_after_it_however_late_it_is_written() {
    let mut world = World::verifying(Level::L1, false);
    let verified = |proof, steps| {
        move |state: &Operations, _: Timestamp| -> Result<Vec<Event>, Refused> {
            let checks = vec![Check { name: "smoke/notes".into(), proof, detail: "1 of 1".into() }];
            let target = state.incidents.all[&ID].verified.clone().unwrap().1.target;
            Ok(verify::verified_since(state, ID, Verification { target, checks }, steps)?)
        }
    };
    let begun = world.incident().unfreeze.steps;
    world.lift().unwrap();
    world.pass(5);
    assert_eq!(code(world.say("alice", verified(Proof::Pass, begun))), "incident-verification-overtaken");
    assert_eq!(code(world.lift()), "incident-verification-missing");
    let now = world.incident().unfreeze.steps;
    world.say("alice", verified(Proof::Pass, now)).unwrap();
    world.lift().unwrap();
    world.pass(5);
    // What failed blocks, whenever it was seen.
    world.say("alice", verified(Proof::Fail, begun)).unwrap();
    assert_eq!(world.held(), HoldKind::ALL);
}

#[test]
fn who_was_given_the_word_sends_messages_where_only_others_may_lead() {
    let mut world = World::declared(Level::L1, false);
    let commander = RoleName::new("incident-commander").unwrap();
    let person =
        |roles: &[&RoleName]| Person { roles: roles.iter().map(|one| (*one).clone()).collect(), notice: Vec::new() };
    let people = People {
        all: [(actor("alice"), person(&[&commander])), (actor("bob"), person(&[])), (actor("carol"), person(&[]))]
            .into(),
        may: [(Act::Lead, [commander.clone()].into())].into(),
        ..People::default()
    };
    let may = |world: &World, by: &str| {
        let event = message::send(&world.operations, ID, MessageKind::Update, [].into(), "it goes on", None).unwrap();
        people.permit(&world.operations, &actor(by), &event, world.now).is_ok()
    };
    assert!(may(&world, "alice") && !may(&world, "bob"));
    world.one(|state| role::assign(state, ID, &actor("alice"), Role::Communications, actor("bob"))).unwrap();
    assert!(may(&world, "alice") && may(&world, "bob") && !may(&world, "carol"));
    // The word is all that was given.
    let given = role::assign(&world.operations, ID, &actor("alice"), Role::Data, actor("carol")).unwrap();
    let given = Event::Incident { incident: ID, event: given };
    assert!(people.permit(&world.operations, &actor("bob"), &given, world.now).is_err());
}

#[test]
fn a_message_with_a_missing_an_unknown_or_a_wrong_field_is_not_sent() {
    let more = [("tickets".to_owned(), FieldType::Number)].into();
    let filled = |given: &[(&str, &str)]| {
        let given = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        message::filled(ID, MessageKind::Update, &more, &given).map_err(|error| error.to_string())
    };
    let whole = [("impact", "orders twice"), ("status", "going back"), ("tickets", "12")];
    assert_eq!(filled(&whole), Ok(()));
    assert_eq!(filled(&whole[..2]).unwrap_err(), "the message was not sent: its field tickets is missing");
    assert!(filled(&[whole[0], whole[1], ("tickets", "many")]).unwrap_err().contains("must be a whole number"));
    assert!(filled(&[whole[0], whole[1], whole[2], ("eta", "soon")]).unwrap_err().contains("no field eta"));
    assert!(filled(&[("impact", " "), whole[1], whole[2]]).unwrap_err().contains("one line of text"));
}

#[test]
fn an_update_that_does_not_come_in_time_pages_once() {
    let mut world = World::declared(Level::L1, false);
    let next = world.now.after(Span::minutes(30));
    world
        .say("alice", |state, _| {
            Ok(vec![message::send(state, ID, MessageKind::Declared, [].into(), "it is bad", Some(next))?])
        })
        .unwrap();
    world.pass(29);
    assert!(incident::due(&world.operations, world.now).is_empty());
    world.pass(1);
    let due = incident::due(&world.operations, world.now);
    assert_eq!(due.len(), 1);
    world.take("alice", due);
    let told = notice(&world.operations, world.log.last().unwrap()).unwrap();
    assert_eq!((told.kind, told.severity), (NoticeKind::Incident, Severity::Critical));
    assert!(incident::due(&world.operations, world.now).is_empty());
}

#[test]
fn a_drill_goes_the_same_way_holds_nothing_and_is_told_as_a_drill_only() {
    let mut world = World::verifying(Level::L2, true);
    for _ in 0..5 {
        world.lift().unwrap();
        world.pass(5);
        if world.incident().state != State::ClosedPendingRca {
            world.verify(&[("smoke/notes", Proof::Pass)]);
        }
    }
    assert_eq!(world.incident().state, State::ClosedPendingRca);
    assert!(world.log.iter().all(|record| !matches!(record.event, Event::Hold(_))));
    let told = world.log.iter().filter_map(|record| notice(&world.operations, record));
    for notice in told {
        assert_eq!(notice.kind, NoticeKind::Drill, "{notice:?}");
        assert!(notice.summary.starts_with("DRILL: "), "{notice:?}");
    }
}

#[test]
fn standing_down_before_anything_was_executed_lifts_its_holds() {
    let mut world = World::declared(Level::L1, false);
    let down = |by: &'static str| {
        move |state: &Operations, _| Ok(incident::stand_down(state, ID, &actor(by), reason("a false alarm"))?)
    };
    assert_eq!(code(world.say("bob", down("bob"))), "incident-not-commander");
    world.say("alice", down("alice")).unwrap();
    assert_eq!(world.incident().state, State::StoodDown);
    assert!(world.held().is_empty());
}

#[test]
fn what_opens_something_is_no_arrow_that_anybody_may_take() {
    let world = World::verifying(Level::L1, false);
    for to in [State::UnfreezeReady, State::Monitoring, State::ClosedPendingRca, State::Done, State::StoodDown] {
        let refused = incident::advance(&world.operations, ID, to, reason("in a hurry"));
        assert_eq!(code(refused), "incident-step-illegal");
    }
}

#[test]
fn a_freeze_that_is_not_confirmed_is_not_planned_on() {
    let mut world = World::declared(Level::L1, false);
    let unconfirmed = ["hold-3 is not in the record of notes".to_owned()];
    world.say("alice", |state, _| Ok(incident::freeze(state, ID, &unconfirmed)?)).unwrap();
    assert_eq!(world.incident().state, State::Freezing);
    world.say("alice", |state, _| Ok(incident::freeze(state, ID, &[])?)).unwrap();
    assert_eq!(world.incident().state, State::Planning);
}

#[test]
fn every_state_has_only_the_arrows_that_are_written_here() {
    let arrows = |from: State| -> Vec<&str> {
        State::ALL.into_iter().filter(|to| from.may_become(*to)).map(State::as_str).collect()
    };
    let table: Vec<(&str, Vec<&str>)> = State::ALL.into_iter().map(|one| (one.as_str(), arrows(one))).collect();
    assert_eq!(
        table,
        [
            ("declared", vec!["freezing", "stood-down"]),
            ("freezing", vec!["planning", "stood-down"]),
            ("planning", vec!["executing", "stood-down"]),
            ("executing", vec!["planning", "cleaning"]),
            ("cleaning", vec!["planning", "verifying"]),
            ("verifying", vec!["planning", "cleaning", "unfreeze-ready"]),
            ("unfreeze-ready", vec!["planning", "verifying", "monitoring"]),
            ("monitoring", vec!["planning", "verifying", "closed-pending-rca"]),
            ("closed-pending-rca", vec!["done"]),
            ("done", vec![]),
            ("stood-down", vec![]),
        ]
    );
}
