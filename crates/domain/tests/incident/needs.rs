//! What a step needs before it is tried, and what may go wrong with it.

use crate::{ID, World, reason};
use lastgood_domain::{
    operations::{
        Event,
        incident::{
            self, IncidentEvent, Level, State,
            plan::{self, Act, Area, Next, Outcome, Plan, PlanEvent, Precondition, Risk, RiskLevel, Step, Undo},
        },
    },
    terms::{Digest, Span},
};

const STEP: &str = "command/rebuild";

fn step(precondition: Option<Precondition>, may_fail: bool) -> Step {
    Step {
        id: STEP.into(),
        area: Area::Data,
        act: Act::Command { name: "rebuild".into() },
        says: "totals are built anew".into(),
        undo: Undo::Nothing,
        precondition,
        risk: Some(Risk { level: RiskLevel::Severe, what: "readers see no totals".into() }),
        timeout: Span::minutes(1),
        attempts: 2,
        may_fail,
        spec: Digest::of(b"spec"),
    }
}

fn needs() -> Option<Precondition> {
    Some(Precondition::Asked { name: "rebuild".into() })
}

fn of(event: PlanEvent) -> Vec<Event> {
    vec![Event::Incident { incident: ID, event: IncidentEvent::Plan(event) }]
}

fn made(steps: Vec<Step>) -> Plan {
    Plan { level: Level::L2, targets: Vec::new(), steps }
}

/// An incident whose only step was begun.
fn begun(step: Step) -> World {
    let mut world = World::declared(Level::L2, false);
    world.say("alice", |state, _| incident::freeze(state, ID, &[]).map_err(Into::into)).unwrap();
    world.take("alice", of(PlanEvent::Made { made: made(vec![step]), hash: Digest::of(b"plan") }));
    world.advance(State::Executing);
    world.take("alice", of(PlanEvent::Begun { step: STEP.into() }));
    world
}

fn met(world: &World) -> bool {
    world.incident().planned.as_ref().unwrap().steps[STEP].met
}

fn ended(world: &mut World, outcome: Outcome) {
    world.take("alice", of(PlanEvent::Ended { step: STEP.into(), outcome }));
}

fn unmet() -> Outcome {
    Outcome::Unmet { why: "writers are still there".into() }
}

#[test]
fn a_step_that_lacks_what_it_needs_stops_the_plan_even_where_it_may_fail() {
    let mut world = begun(step(needs(), true));
    ended(&mut world, unmet());
    let incident = world.incident();
    let planned = incident.planned.as_ref().unwrap();
    assert!(matches!(planned.next(), Next::Stuck { step, why } if step.id == STEP && why == "writers are still there"));
    assert_eq!(planned.failed().count(), 1);
}

#[test]
fn it_counts_as_tried_only_once_what_it_needs_was_seen_and_is_asked_anew_where_somebody_wants_it_again() {
    let mut world = begun(step(needs(), false));
    assert!(!met(&world));
    world.take("alice", of(PlanEvent::Met { step: STEP.into(), evidence: "no writers".into() }));
    assert!(met(&world));
    // A second try of the same step needs no second question.
    ended(&mut world, Outcome::Failed { why: "exit status 1".into() });
    world.take("alice", of(PlanEvent::Begun { step: STEP.into() }));
    assert!(met(&world));
    ended(&mut world, Outcome::Again { reason: reason("it did nothing") });
    assert!(!met(&world));
    assert!(met(&begun(step(None, false))));
}

#[test]
fn what_was_begun_and_never_tried_is_nothing_that_a_later_plan_must_ask_about() {
    for (seen, is_asked) in [(false, false), (true, true)] {
        let mut world = begun(step(needs(), false));
        if seen {
            world.take("alice", of(PlanEvent::Met { step: STEP.into(), evidence: "no writers".into() }));
        }
        let again = made(vec![step(needs(), false)]);
        world.take("alice", of(PlanEvent::Made { made: again, hash: Digest::of(b"another") }));
        let incident = world.incident();
        let planned = incident.planned.as_ref().unwrap();
        assert_eq!(matches!(planned.next(), Next::Ask(_)), is_asked);
        let progress = planned.steps.get(STEP);
        assert_eq!(progress.is_some_and(|progress| progress.tried), is_asked);
        assert!(progress.is_none_or(|progress| !progress.met), "another plan saw it, at another time");
        // Cut off once more before anybody asked.
        let again = made(vec![step(needs(), false)]);
        world.take("alice", of(PlanEvent::Made { made: again, hash: Digest::of(b"a third") }));
        let incident = world.incident();
        assert_eq!(matches!(incident.planned.as_ref().unwrap().next(), Next::Ask(_)), is_asked);
    }
}

#[test]
fn a_person_settles_what_was_not_tried_or_wants_it_again() {
    let mut world = begun(step(needs(), false));
    ended(&mut world, unmet());
    let again = Outcome::Again { reason: reason("the writers are gone") };
    world
        .say("alice", |state, _| {
            let planned = incident::find(state, ID)?.planned.as_ref();
            Ok(of(plan::settled(ID, planned, STEP, again.clone()).map_err(incident::Refused::from)?))
        })
        .unwrap();
    let incident = world.incident();
    assert!(matches!(incident.planned.as_ref().unwrap().next(), Next::Do(step) if step.id == STEP));
}

#[test]
fn what_is_severe_is_named_and_the_rest_is_not() {
    let low = Step { risk: Some(Risk { level: RiskLevel::Low, what: "none".into() }), ..step(None, false) };
    let older = Step { risk: None, ..step(None, false) };
    let plan = made(vec![low, step(None, false), older]);
    assert_eq!(
        plan.severe().map(|step| step.risk.as_ref().unwrap().says()).collect::<Vec<_>>(),
        ["severe: readers see no totals"]
    );
}
