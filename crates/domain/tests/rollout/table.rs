//! What each phase does with each kind of input, as one table of text.

use crate::walk::{Walk, breaking, digest, failed, hindered, instance, reason, tag};
use lastgood_domain::{
    effect::{Answer, Effect, Leg},
    event::{Aim, Event},
    facts::{Busyness, Outcomes},
    operations::hold::InFlight,
    rollout::Input,
    terms::{HoldId, OrderId, Span},
};
use std::fmt::Write as _;

/// One situation to try every input in.
type Situation = (&'static str, Walk);

fn situations() -> Vec<Situation> {
    let base = || {
        let mut walk = Walk::promoted(&["alice", "bob"], &["1.0"]);
        walk.settings.soak = Span::seconds(60);
        walk
    };
    let at = |name: &'static str, wanted: fn(&Effect) -> bool| {
        let mut walk = base();
        walk.track("2.0");
        walk.until(wanted);
        (name, walk)
    };
    let on_two = |effect: &Effect| matches!(effect, Effect::Probe { release, .. } if *release == digest("2.0"));
    let mut soaking =
        at("moving: soaking", |effect| matches!(effect, Effect::Probe { release, .. } if *release == digest("2.0")));
    soaking.1.answer_one(&|_| None);
    let mut again = soaking.1.clone();
    again.until(on_two);
    let mut passing = base();
    passing.say(Event::Rejected { release: digest("2.0"), tag: tag("2.0"), reason: "slow".into() });
    passing.older = vec!["1.5"];
    passing.track("2.0");
    passing.until(|effect| matches!(effect, Effect::Check { except, .. } if !except.is_empty()));
    let mut all = vec![
        ("nothing was ever run", Walk::new(&["alice", "bob"])),
        ("quiet", base()),
        at("checking", |effect| matches!(effect, Effect::Check { .. })),
        ("checking: in the place of a rejected one", passing),
        at("installing", |effect| matches!(effect, Effect::Install { .. })),
        at("installing: verifying last-good", |effect| matches!(effect, Effect::Verify { .. })),
        at_gates(),
        at("snapshotting", |effect| matches!(effect, Effect::Snapshot { .. })),
        at("rehearsing: control", |effect| matches!(effect, Effect::Rehearse { leg: Leg::Control, .. })),
        at("rehearsing: candidate", |effect| matches!(effect, Effect::Rehearse { leg: Leg::Candidate, .. })),
        at("rehearsing: restart", |effect| matches!(effect, Effect::Rehearse { leg: Leg::Restart, .. })),
        at("rehearsing: way back", |effect| matches!(effect, Effect::Rehearse { leg: Leg::WayBack, .. })),
        at("moving: baselining", |effect| matches!(effect, Effect::Probe { .. })),
        at("moving: asking", |effect| matches!(effect, Effect::AskBusy { .. })),
        at("moving: stopping", |effect| matches!(effect, Effect::Stop { .. })),
        at("moving: keeping", |effect| matches!(effect, Effect::SnapshotStopped { .. })),
        at("moving: starting", |effect| matches!(effect, Effect::Start { .. })),
        at("moving: probing", |effect| matches!(effect, Effect::Probe { release, .. } if *release == digest("2.0"))),
        soaking,
        ("moving: probing again", again),
    ];
    all.extend(returning());
    all
}

fn at_gates() -> Situation {
    let mut walk = Walk::promoted(&["alice", "bob"], &["1.0"]);
    walk.settings.gates = vec![crate::walk::gate("unit")];
    walk.track("2.0");
    walk.until(|effect| matches!(effect, Effect::AskGate { .. }));
    ("installing: asking a gate", walk)
}

fn returning() -> Vec<Situation> {
    let at = |name: &'static str, wanted: fn(&Effect) -> bool| {
        let mut walk = Walk::promoted(&["alice", "bob"], &["1.0"]);
        walk.track("2.0");
        walk.end_with(&breaking);
        walk.begin(walk.back(&["alice"], &[]));
        walk.until(wanted);
        (name, walk)
    };
    vec![
        at("returning: stopping", |effect| matches!(effect, Effect::Stop { .. })),
        at("returning: measuring", |effect| matches!(effect, Effect::Measure { .. })),
        at("returning: restoring", |effect| matches!(effect, Effect::Restore { .. })),
        at("returning: starting", |effect| matches!(effect, Effect::Start { .. })),
        at("returning: probing", |effect| matches!(effect, Effect::Probe { .. })),
    ]
}

fn inputs(walk: &Walk) -> Vec<(&'static str, Input)> {
    let settings = || walk.settings.clone();
    let begin = |aim| Input::Begin { aim, settings: settings(), frozen: None, preflight: None };
    let order = walk.orders().first().map_or(OrderId(9_999), |(order, _)| *order);
    let answer = |answer| Input::Answer { order, answer };
    let frozen = Some("a freeze file exists".into());
    vec![
        ("track", begin(Aim::Track)),
        ("track, frozen", Input::Begin { aim: Aim::Track, settings: settings(), frozen, preflight: None }),
        ("dry run", begin(Aim::DryRun)),
        ("rollback", begin(walk.back(&[], &[]))),
        ("rollback of bob", begin(walk.back(&["bob"], &[]))),
        ("answer: failed", answer(failed())),
        ("answer: hindered", answer(hindered())),
        (
            "answer: rehearsal failed",
            answer(Answer::RehearsalFailed { failure: crate::walk::failure("login-refused") }),
        ),
        ("answer: busy", answer(Answer::BusyAsked { busyness: Busyness::Busy("2 sessions".into()) })),
        ("answer: nothing else", answer(Answer::NothingElse)),
        ("answer: another kind", answer(Answer::Cleared)),
        ("answer: late", Input::Answer { order: OrderId(9_999), answer: Answer::Cleared }),
        ("tick", Input::Tick),
        ("alice died", Input::Died { instance: instance("alice"), why: "exit 1".into(), settings: settings() }),
        ("alice revived", Input::Revived { instance: instance("alice") }),
        (
            "alice not revived",
            Input::NotRevived { instance: instance("alice"), failure: crate::walk::failure("port-taken") },
        ),
        (
            "broken outcomes",
            Input::Counted { outcomes: Outcomes { good: 0, degraded: 0, broken: 99 }, settings: settings() },
        ),
        ("review", Input::Review { settings: settings() }),
        (
            "hold",
            Input::Say(Event::HoldSet {
                hold: HoldId(0),
                reason: reason("wait"),
                until: None,
                origin: None,
                in_flight: InFlight::Pause,
            }),
        ),
        ("reject 2.0", Input::Say(Event::Rejected { release: digest("2.0"), tag: tag("2.0"), reason: "slow".into() })),
    ]
}

fn brief(event: &Event) -> String {
    match event {
        Event::Ordered { effect, .. } => {
            let debugged = format!("{effect:?}");
            let word = debugged.split([' ', '{']).next().unwrap_or_default().to_owned();
            effect.instance().map_or_else(|| format!("do {word}"), |name| format!("do {word} {name}"))
        }
        Event::RunEnded { end, .. } => {
            let debugged = format!("{end:?}");
            format!("end {}", debugged.split([' ', '{']).next().unwrap_or_default())
        }
        Event::Deferred { instance, .. } => format!("Deferred {instance}"),
        Event::Gated { gate, verdict, .. } => format!("{gate:?} {verdict:?}"),
        event => format!("{event:?}").split([' ', '{']).next().unwrap_or_default().to_owned(),
    }
}

#[test]
fn every_phase_answers_every_input_as_in_the_table() {
    let mut table = String::new();
    for (name, walk) in situations() {
        writeln!(table, "{name}").expect("a text takes text");
        let inputs = inputs(&walk).into_iter();
        // The good answer is what the walk itself gives.
        let mut good = walk.clone();
        let before = good.records.len();
        if !walk.orders().is_empty() {
            good.answer_one(&|_| None);
            let said: Vec<String> = good.records[before..].iter().map(|record| brief(&record.event)).collect();
            writeln!(table, "  {:<26} {}", "answer: good", said.join(", ")).expect("a text takes text");
        }
        for (what, input) in inputs {
            let said = match walk.clone().put(input) {
                Ok(records) if records.is_empty() => "-".to_owned(),
                Ok(records) => records.iter().map(|record| brief(&record.event)).collect::<Vec<_>>().join(", "),
                Err(error) => format!("refused: {error}"),
            };
            writeln!(table, "  {what:<26} {said}").expect("a text takes text");
        }
    }
    insta::assert_snapshot!("phase-by-input", table);
}
