//! All instances of a service, or one, back on last-good with their data: against the bare floor.

use crate::{Bench, floor, notebook::Notebooks, numbers::Rounds, say};
use lastgood_domain::{
    effect::Effect,
    event::{Event, Record},
    terms::{OrderId, Timestamp},
};
use std::collections::BTreeMap;

/// What one way back took, as its records say, in milliseconds since it was decided.
#[derive(Default)]
struct Return {
    /// The last instance has answered its first request.
    answering: f64,
    /// The last instance has passed the whole probe.
    proven: f64,
    /// For each kind of effect, when its last answer came.
    stages: BTreeMap<&'static str, f64>,
}

pub(crate) fn measure(bench: &Bench, count: usize) -> Result<(), String> {
    let bare = Notebooks::new(bench, &format!("floor-{count}"), count)?;
    bare.publish("2.0.0", "2.0.0")?;
    let ours = Notebooks::new(bench, &format!("ours-{count}"), count)?;
    ours.lastgood(&["run"], &[0])?;
    let (mut floors, mut answering, mut proven) = (Rounds::default(), Rounds::default(), Rounds::default());
    let (mut ratio, mut ratio_proven, mut over) = (Rounds::default(), Rounds::default(), Rounds::default());
    let mut stages: BTreeMap<&'static str, Rounds> = BTreeMap::new();
    for round in 0..bench.rounds {
        let bare = floor::round(&bare, "2.0.0")?;
        ours.publish(&format!("2.5.{round}"), "2.5.0")?;
        ours.lastgood(&["run"], &[0])?;
        ours.lastgood(&["rollback", "notebook"], &[0, 5])?;
        let back = read(&ours.records()?);
        floors.add(bare);
        answering.add(back.answering);
        proven.add(back.proven);
        ratio.add(back.answering / bare);
        ratio_proven.add(back.proven / bare);
        over.add(back.proven - bare);
        for (stage, at) in back.stages {
            stages.entry(stage).or_default().add(at);
        }
    }
    say(&format!("\n{count} instances back with 1 MiB of data each, {} alternating rounds", bench.rounds));
    say("| what | min | median | max | unit |\n|---|---|---|---|---|");
    say(&floors.row("floor: stop, copy, sync, start, first answer", "ms"));
    say(&answering.row("lastgood: last instance answers", "ms"));
    say(&proven.row("lastgood: last instance proven by its probe", "ms"));
    say(&ratio.row("answers / floor", "x"));
    say(&ratio_proven.row("proven / floor", "x"));
    say(&over.row("proven - floor", "ms"));
    for (stage, at) in stages {
        say(&at.row(&format!("lastgood: all have ended their {stage}"), "ms"));
    }
    Ok(())
}

/// Reads the times of the newest way back.
fn read(records: &[Record]) -> Return {
    let mut found = Return::default();
    let begin = records.iter().rposition(|record| matches!(record.event, Event::ReturnBegun { .. }));
    let Some(begin) = begin else { return found };
    let since = |at: Timestamp| (at.0 - records[begin].at.0) as f64;
    let mut orders: BTreeMap<OrderId, &'static str> = BTreeMap::new();
    for record in &records[begin..] {
        match &record.event {
            Event::Ordered { order, effect } => drop(orders.insert(*order, stage(effect))),
            Event::Answered { order, .. } => {
                if let Some(stage) = orders.get(order) {
                    found.stages.insert(stage, since(record.at));
                }
            }
            Event::Returned { .. } => found.proven = since(record.at),
            _ => {}
        }
    }
    found.answering = found.stages.get("4 start").copied().unwrap_or(f64::NAN);
    found
}

fn stage(effect: &Effect) -> &'static str {
    match effect {
        Effect::Stop { .. } => "1 stop",
        Effect::Measure { .. } => "2 measuring of loss",
        Effect::Restore { .. } => "3 restore",
        Effect::Start { .. } => "4 start",
        Effect::Probe { .. } => "5 probe",
        _ => "rest",
    }
}
