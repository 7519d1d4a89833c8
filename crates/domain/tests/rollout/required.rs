//! Gates that a service requires: nothing is copied or moved before each has said yes.

use crate::walk::{Walk, digest, gate, gate_facts, hindered, instance};
use lastgood_domain::{
    effect::{Answer, Effect},
    event::{Aim, End, Event, Gate, GateFacts, Verdict},
    terms::OrderId,
};

fn requiring(gates: &[&str]) -> Walk {
    let mut walk = Walk::promoted(&["one"], &["1.0"]);
    walk.settings.gates = gates.iter().map(|name| gate(name)).collect();
    walk.newest = "2.0";
    walk
}

fn says(name: &'static str, facts: GateFacts) -> impl Fn(&Effect) -> Option<Answer> {
    move |effect| match effect {
        Effect::AskGate { gate, .. } if gate.as_str() == name => Some(Answer::GateAsked { facts: facts.clone() }),
        _ => None,
    }
}

fn is_gate(effect: &Effect) -> bool {
    matches!(effect, Effect::AskGate { .. })
}

/// Everything that was ordered of this run before it was known that each gate says yes.
fn ordered(walk: &Walk, from: usize) -> Vec<Effect> {
    walk.ordered_since(from).into_iter().filter(|effect| !effect.is_housekeeping()).collect()
}

#[test]
fn every_gate_is_asked_before_anything_is_copied_and_one_that_fails_refuses_without_rejecting() {
    let mut walk = requiring(&["unit", "load"]);
    let from = walk.records.len();
    walk.begin(Aim::Track);
    let end = walk.end_with(&says("load", gate_facts(Verdict::Fail, Some(Verdict::Pass))));
    assert_eq!(end, End::Refused { gate: Gate::Required, because: "load: it says Fail".into() });
    let ordered = ordered(&walk, from);
    let asked = |name| Effect::AskGate { gate: gate(name), release: digest("2.0"), control: Some(digest("1.0")) };
    assert_eq!(ordered.iter().filter(|effect| is_gate(effect)).collect::<Vec<_>>(), [&asked("load"), &asked("unit")]);
    let touches = |effect: &Effect| {
        matches!(effect, Effect::Snapshot { .. } | Effect::Rehearse { .. } | Effect::Stop { .. } | Effect::Start { .. })
    };
    assert!(!ordered.iter().any(touches), "{ordered:?}");
    assert!(walk.service.rejected.is_empty());
    assert_eq!((walk.runs("one"), walk.last_good()), ("1.0".into(), "1.0".into()));
    // Each verdict stands in the evidence, also those that pass.
    let said: Vec<(Verdict, String)> = walk.records[from..]
        .iter()
        .filter_map(|record| match &record.event {
            Event::Gated { gate: Gate::Required, verdict, because } => Some((*verdict, because.clone())),
            _ => None,
        })
        .collect();
    assert_eq!(
        said,
        [(Verdict::Fail, "load: it says Fail".to_owned()), (Verdict::Pass, "unit: it says Pass".to_owned())]
    );
    walk.begin(Aim::Track);
    assert_eq!(walk.end(), End::Promoted);
    assert_eq!(walk.runs("one"), "2.0");
}

#[test]
fn what_nobody_can_tell_is_never_a_yes() {
    let mut walk = requiring(&["unit", "load"]);
    for answer in [
        Answer::GateAsked { facts: gate_facts(Verdict::CannotTell, None) },
        Answer::GateAsked { facts: gate_facts(Verdict::Hold, None) },
        hindered(),
        Answer::Failed { failure: crate::walk::failure("gate-timeout") },
    ] {
        walk.begin(Aim::Track);
        let end = walk.end_with(&|effect| {
            matches!(effect, Effect::AskGate { gate, .. } if gate.as_str() == "unit").then(|| answer.clone())
        });
        assert!(matches!(&end, End::Unproven { because, .. } if because.starts_with("unit: ")), "{end:?}");
    }
    // An answer of another kind.
    walk.begin(Aim::Track);
    let end = walk.end_with(&|effect| is_gate(effect).then_some(Answer::Verified));
    assert!(matches!(end, End::Stopped { .. }), "{end:?}");
    assert!(walk.service.rejected.is_empty());
    assert_eq!(walk.runs("one"), "1.0");
}

#[test]
fn a_gate_that_fails_last_good_too_is_not_taken_for_a_bad_release() {
    let mut walk = requiring(&["unit"]);
    walk.begin(Aim::Track);
    let end = walk.end_with(&says("unit", gate_facts(Verdict::Fail, Some(Verdict::Fail))));
    let End::Unproven { because, .. } = end else { panic!("{end:?}") };
    assert!(because.contains("it fails last-good too (it says Fail)"), "{because}");
    walk.begin(Aim::Track);
    let end = walk.end_with(&says("unit", gate_facts(Verdict::Fail, Some(Verdict::CannotTell))));
    assert!(matches!(end, End::Refused { gate: Gate::Required, .. }), "{end:?}");
    walk.begin(Aim::Track);
    let end = walk.end_with(&says("unit", gate_facts(Verdict::CannotTell, Some(Verdict::CannotTell))));
    assert!(matches!(&end, End::Unproven { because, .. } if because.contains("last-good does not pass it either")));
}

#[test]
fn gates_are_asked_of_a_first_release_and_in_a_dry_run_too() {
    let mut walk = Walk::new(&["one"]);
    walk.settings.gates = vec![gate("unit")];
    walk.begin(Aim::Track);
    let end = walk.end_with(&says("unit", gate_facts(Verdict::CannotTell, None)));
    assert!(matches!(end, End::Unproven { .. }));
    assert!(walk.ordered_since(0).iter().any(|effect| matches!(effect, Effect::AskGate { control: None, .. })));
    assert_eq!(walk.runs("one"), "none");
    let mut dry = requiring(&["unit"]);
    dry.begin(Aim::DryRun);
    assert!(matches!(dry.end_with(&says("unit", gate_facts(Verdict::Fail, None))), End::Refused { .. }));
    dry.begin(Aim::DryRun);
    assert!(matches!(dry.end(), End::Rehearsed { .. }));
}

#[test]
fn no_gate_stands_in_the_way_of_a_rollback_or_of_those_left_behind() {
    let mut walk = Walk::promoted(&["one", "two"], &["1.0", "2.0"]);
    walk.settings.gates = vec![gate("unit")];
    walk.settings.instances.push(instance("three"));
    let no = says("unit", gate_facts(Verdict::Fail, None));
    for aim in [Aim::Drain, Aim::Track] {
        walk.begin(aim);
        walk.end_with(&no);
        assert_eq!(walk.runs("three"), "2.0");
    }
    let from = walk.records.len();
    walk.begin(walk.back(&[], &[]));
    assert!(matches!(walk.end_with(&no), End::RolledBack { .. }));
    assert!(!walk.ordered_since(from).iter().any(is_gate));
    assert_eq!(walk.runs("one"), "1.0");
}

#[test]
fn a_rollback_takes_over_while_a_gate_is_asked_and_its_late_answer_is_refused() {
    let mut walk = Walk::promoted(&["one"], &["1.0", "1.5"]);
    walk.settings.gates = vec![gate("unit")];
    walk.track("2.0");
    let asked: OrderId = walk.until(is_gate);
    walk.begin(walk.back(&[], &[]));
    let late = Answer::GateAsked { facts: gate_facts(Verdict::Pass, None) };
    assert!(walk.put(lastgood_domain::rollout::Input::Answer { order: asked, answer: late }).is_err());
    assert!(matches!(walk.end(), End::RolledBack { .. }));
    assert_eq!(walk.runs("one"), "1.0");
}
