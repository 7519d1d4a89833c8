//! What an incident has to clean up: closed with evidence, or left open with a second person for a time.

use crate::{ID, World, actor, command, item, last_approval, life::code, reason, statement};
use lastgood_domain::{
    notice::Severity,
    operations::{
        Event, Operations, approval,
        incident::{
            self, Level,
            checklist::{self, ItemStanding},
        },
        notice,
    },
    terms::{ApprovalId, Span, Timestamp},
};

#[test]
fn an_item_is_closed_by_its_owner_with_its_kind_of_evidence_and_nothing_else() {
    let mut world = World::declared(Level::L2, false);
    let queues = item("queues");
    let done = |by: &'static str, evidence| {
        let queues = queues.clone();
        move |state: &Operations| checklist::done(state, ID, &actor(by), &queues, Clone::clone(&evidence))
    };
    assert_eq!(code(world.one(done("alice", statement()))), "checklist-other-evidence");
    assert_eq!(code(world.one(done("alice", command(1)))), "checklist-command-failed");
    assert_eq!(code(world.one(done("mallory", command(0)))), "incident-not-owner");
    world.one(done("alice", command(0))).unwrap();
    assert_eq!(code(world.one(done("alice", command(0)))), "checklist-item-done");
}

#[test]
fn a_waiver_takes_a_second_person_ends_by_itself_and_opens_the_item_again() {
    let mut world = World::declared(Level::L1, false);
    let errors = item("errors");
    let standing =
        |world: &World| world.incident().checklist[&errors].standing(Level::L1, &world.operations.approvals, world.now);
    let waive = |minutes: u64| {
        let errors = errors.clone();
        move |state: &Operations, now: Timestamp| {
            let until = now.after(Span::minutes(minutes));
            checklist::waive(state, ID, &actor("alice"), &errors, reason("known noise"), until, now)
        }
    };
    assert_eq!(code(world.say("alice", waive(0))), "incident-risk-without-end");
    world.say("alice", waive(30)).unwrap();
    assert_eq!(standing(&world), ItemStanding::WaiverAwaited);
    assert!(standing(&world).is_open());
    world.approve();
    assert_eq!(standing(&world), ItemStanding::Waived);
    world.pass(30);
    assert_eq!(standing(&world), ItemStanding::Open);
    let due = incident::due(&world.operations, world.now);
    assert_eq!(due.len(), 1, "{due:?}");
    world.take("alice", due);
    let told = notice(&world.operations, world.log.last().unwrap()).unwrap();
    assert_eq!(told.severity, Severity::Critical);
    assert!(incident::due(&world.operations, world.now).is_empty(), "it is told again and again");
    world.pass(60);
    assert_eq!(standing(&world), ItemStanding::Overdue);
}

#[test]
fn a_rejected_request_waives_nothing() {
    let mut world = World::declared(Level::L1, false);
    world
        .say("alice", |state, now| {
            let until = now.after(Span::minutes(30));
            checklist::waive(state, ID, &actor("alice"), &item("errors"), reason("known noise"), until, now)
        })
        .unwrap();
    let approval = last_approval(&world);
    world
        .say("bob", |state, now| {
            Ok(vec![Event::Approval(approval::reject(&state.approvals, &actor("bob"), approval, reason("no"), now)?)])
        })
        .unwrap();
    let entry = &world.incident().checklist[&item("errors")];
    assert_eq!(entry.standing(Level::L1, &world.operations.approvals, world.now), ItemStanding::Open);
    assert_eq!(approval, ApprovalId(0));
    // A no is an answer for the time of the request, whatever the words.
    let again = |risk: &'static str| {
        move |state: &Operations, now: Timestamp| {
            let until = now.after(Span::minutes(20));
            checklist::waive(state, ID, &actor("alice"), &item("errors"), reason(risk), until, now)
        }
    };
    world.pass(1);
    assert_eq!(code(world.say("alice", again("known noise"))), "approval-rejected");
    assert_eq!(
        code(world.clone().say("alice", again("noise of the load test, which ends at six"))),
        "approval-rejected"
    );
    world.pass(30);
    assert_eq!(code(world.say("alice", again("known noise"))), "nothing was refused");
}
