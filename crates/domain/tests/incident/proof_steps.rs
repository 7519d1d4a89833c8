//! Steps of a plan that have to prove something, and who may go on without.

use crate::{ID, TERMS, World, actor, reason};
use lastgood_domain::{
    failure::Coded as _,
    operations::{
        Event, Refused,
        incident::{
            self, IncidentEvent, Level, State,
            plan::{self, Act, Area, Next, Outcome, Plan, PlanEvent, Step, Turn, Undo},
            unfreeze::{self, Row},
        },
    },
    terms::{Digest, Span},
};

const STEP: &str = "credential/token/prove-refused";

fn step(id: &str, act: Act) -> Step {
    Step {
        id: id.into(),
        area: Area::Credentials,
        act,
        says: "it is so".into(),
        undo: Undo::Nothing,
        precondition: None,
        risk: None,
        timeout: Span::minutes(1),
        attempts: 1,
        may_fail: false,
        spec: Digest::of(b"spec"),
    }
}

/// An incident whose old credential is still accepted, and one more step after that.
fn accepted() -> World {
    let mut world = World::declared(Level::L3, false);
    world.say("alice", |state, _| incident::freeze(state, ID, &[]).map_err(Into::into)).unwrap();
    let steps = vec![
        step(STEP, Act::Credential { name: "token".into(), turn: Turn::ProveRefused }),
        step("command/clear", Act::Command { name: "clear".into() }),
    ];
    let made = Plan { level: Level::L3, targets: Vec::new(), steps };
    let event = |event| Event::Incident { incident: ID, event: IncidentEvent::Plan(event) };
    world.take("alice", vec![event(PlanEvent::Made { made, hash: Digest::of(b"plan") })]);
    world.advance(State::Executing);
    world.take("alice", vec![event(PlanEvent::Begun { step: STEP.into() })]);
    let outcome = Outcome::Failed { why: "it is still accepted".into() };
    world.take("alice", vec![event(PlanEvent::Ended { step: STEP.into(), outcome })]);
    world
}

fn next(world: &World) -> String {
    match world.incident().planned.as_ref().unwrap().next() {
        Next::Stuck { step, .. } => format!("stuck at {}", step.id),
        Next::Do(step) => format!("do {}", step.id),
        other => format!("{other:?}"),
    }
}

fn waive(world: &mut World, minutes: u64) -> Result<(), Refused> {
    world.say("alice", |state, now| {
        plan::waive(
            state,
            ID,
            &actor("alice"),
            STEP,
            (reason("it is a test key"), now.after(Span::minutes(minutes))),
            now,
        )
    })
}

#[test]
fn a_credential_that_is_still_accepted_is_no_step_that_one_persons_word_settles() {
    let mut world = accepted();
    let settled = |world: &World, outcome| {
        let planned = world.incident().planned.as_ref();
        plan::settled(ID, planned, STEP, outcome).map_err(|error| error.code())
    };
    let word = Outcome::Settled { reason: reason("believe me") };
    assert_eq!(settled(&world, word.clone()), Err("incident-step-proof"));
    assert!(settled(&world, Outcome::Again { reason: reason("it is revoked now") }).is_ok());
    waive(&mut world, 60).unwrap();
    assert_eq!(next(&world), format!("stuck at {STEP}"));
    // Asked again it is the same request, and still nobody's yes.
    let records = world.log.len();
    waive(&mut world, 60).unwrap();
    assert_eq!((world.log.len(), next(&world)), (records, format!("stuck at {STEP}")));
    world.approve();
    waive(&mut world, 60).unwrap();
    assert_eq!(next(&world), "do command/clear");
    // A step that does something is settled as ever.
    let command = step("command/clear", Act::Command { name: "clear".into() });
    assert!(!command.act.proves());
}

#[test]
fn what_was_to_be_proved_is_open_again_when_the_time_of_its_waiver_is_over() {
    let mut world = accepted();
    waive(&mut world, 60).unwrap();
    world.approve();
    waive(&mut world, 60).unwrap();
    let open = |world: &World| {
        let table = unfreeze::table(&world.operations, ID, &world.facts, &TERMS, world.now).unwrap();
        table.iter().find(|line| line.row == Row::Checklist).unwrap().detail.contains(STEP)
    };
    world.clean();
    assert!(!open(&world));
    world.pass(60);
    assert!(open(&world));
}

#[test]
fn no_plan_made_anew_and_no_other_step_takes_what_was_signed() {
    let mut world = accepted();
    assert!(waive(&mut world, 0).is_err(), "no time");
    let other = world.say("alice", |state, now| {
        let until = now.after(Span::minutes(60));
        plan::waive(state, ID, &actor("alice"), "command/clear", (reason("noise"), until), now)
    });
    assert!(other.is_err());
    let led_by_another = world.say("bob", |state, now| {
        let until = now.after(Span::minutes(60));
        plan::waive(state, ID, &actor("bob"), STEP, (reason("noise"), until), now)
    });
    assert!(led_by_another.is_err());
}
