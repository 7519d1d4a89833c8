//! Worlds in which a service moves by share of its traffic, with a router, a guard and people in between.

use lastgood_domain::event::Event;
use lastgood_sim::{Report, random_shared};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

/// Worlds played when nobody asks for another number: about half a minute on two cores.
const WORLDS: u64 = 4_000;

/// Failing worlds shown before the test gives up looking for more.
const SHOWN_MAX: usize = 5;

/// Records of a failing world's log that are shown.
const TAIL: usize = 60;

fn worlds() -> u64 {
    std::env::var("LASTGOOD_SIM_WORLDS").ok().and_then(|count| count.parse().ok()).unwrap_or(WORLDS)
}

fn shown(seed: u64, report: &Report) -> String {
    let text = report.text();
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines.get(lines.len().saturating_sub(TAIL)..).unwrap_or_default().join("\n");
    format!("seed {seed}:\n{tail}\nVIOLATED: {}\n", report.violations.join("\n          "))
}

#[test]
fn every_promise_of_shared_traffic_holds_in_random_worlds_with_crashes_at_any_step() {
    let (count, next) = (worlds(), AtomicU64::new(0));
    let failed: Vec<(u64, Report)> = thread::scope(|scope| {
        let play = || {
            let mut failed = Vec::new();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= count || failed.len() >= SHOWN_MAX {
                    return failed;
                }
                let report = random_shared(seed);
                if !report.violations.is_empty() {
                    failed.push((seed, report));
                }
            }
        };
        let hands = [scope.spawn(play), scope.spawn(play)];
        hands.into_iter().flat_map(|hand| hand.join().expect("a world panicked")).collect()
    });
    let shown: Vec<String> = failed.iter().map(|(seed, report)| shown(*seed, report)).collect();
    assert!(shown.is_empty(), "{}", shown.join("\n"));
}

#[test]
fn the_same_seed_gives_the_same_log_of_shared_traffic_byte_for_byte() {
    for seed in 0..200 {
        let (first, second) = (random_shared(seed), random_shared(seed));
        assert_eq!(first.records, second.records, "seed {seed}");
        assert_eq!(first.text(), second.text(), "seed {seed}");
    }
}

#[test]
fn worlds_of_shared_traffic_reach_every_end_and_everything_that_happens_to_traffic() {
    let mut ends: BTreeMap<&str, u32> = BTreeMap::new();
    let (mut kinds, mut causes) = (BTreeSet::new(), BTreeSet::new());
    for seed in 0..1_500 {
        for record in random_shared(seed).records {
            let debugged = format!("{:?}", record.event);
            let first_word = |text: &str| text.split([' ', '{', '(']).next().unwrap_or_default().to_owned();
            match &record.event {
                Event::RunEnded { end, .. } => *ends.entry(lastgood_sim::end_word(end)).or_default() += 1,
                Event::Traffic(_) => {
                    kinds.insert(first_word(&debugged["Traffic(".len()..]));
                    if let Some((_, cause)) = debugged.split_once("ReturnBegun { cause: ") {
                        causes.insert(first_word(cause));
                    }
                }
                _ => {}
            }
        }
    }
    let wanted = [
        "promoted",
        "rolled back",
        "held",
        "rollback failed",
        "superseded",
        "cooled",
        "refused",
        "up to date",
        "unproven",
    ];
    let rare: Vec<_> = wanted.iter().filter(|end| ends.get(*end).is_none_or(|count| *count < 20)).collect();
    assert!(rare.is_empty(), "hardly ever reached: {rare:?} of {ends:?}");
    assert_eq!(kinds.len(), 8, "{kinds:?}");
    // A guard, a gate, a candidate, a machine, a router, a person, a pin, and a doubt or a rejection.
    assert_eq!(causes.len(), 8, "{causes:?}");
}
