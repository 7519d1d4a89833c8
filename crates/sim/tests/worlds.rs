//! Whole rollouts in a pretended world, with a crash at every step.

use lastgood_domain::event::Event;
use lastgood_sim::{Crash, Report, random, scenarios};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

/// Worlds played when nobody asks for another number: about a minute on two cores.
const WORLDS: u64 = 100_000;

/// Failing worlds shown before the test gives up looking for more.
const SHOWN_MAX: usize = 5;

/// Records of a failing world's log that are shown: the whole of its last run.
const TAIL: usize = 60;

fn worlds() -> u64 {
    std::env::var("LASTGOOD_SIM_WORLDS").ok().and_then(|count| count.parse().ok()).unwrap_or(WORLDS)
}

fn shown(what: &str, report: &Report) -> String {
    let text = report.text();
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines.get(lines.len().saturating_sub(TAIL)..).unwrap_or_default().join("\n");
    format!("{what}:\n{tail}\nVIOLATED: {}\n", report.violations.join("\n          "))
}

fn kept_seeds() -> Vec<u64> {
    include_str!("../seeds.txt")
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim())
        .filter(|line| !line.is_empty())
        .map(|line| line.parse().expect("seeds.txt holds one number per line"))
        .collect()
}

#[test]
fn every_promise_holds_in_random_worlds_with_crashes_at_any_step() {
    let count = worlds();
    let next = AtomicU64::new(0);
    let failed: Vec<(u64, Report)> = thread::scope(|scope| {
        let hands: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut failed = Vec::new();
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= count || failed.len() >= SHOWN_MAX {
                            return failed;
                        }
                        let report = random(seed);
                        if !report.violations.is_empty() {
                            failed.push((seed, report));
                        }
                    }
                })
            })
            .collect();
        hands.into_iter().flat_map(|hand| hand.join().expect("a world panicked")).collect()
    });
    let shown: Vec<String> = failed.iter().map(|(seed, report)| shown(&format!("seed {seed}"), report)).collect();
    assert!(shown.is_empty(), "{}", shown.join("\n"));
}

#[test]
fn random_worlds_reach_every_end_and_every_kind_of_event() {
    let wanted = [
        "held",
        "up to date",
        "refused",
        "stopped",
        "gate broken",
        "rehearsal failed",
        "rehearsed",
        "promoted",
        "waiting",
        "rolled back",
        "rollback failed",
        "rollback held",
        "superseded",
    ];
    let mut ends: BTreeMap<String, u32> = wanted.iter().map(|end| ((*end).to_owned(), 0)).collect();
    let mut kinds = BTreeSet::new();
    for seed in 0..2_000 {
        let report = random(seed);
        for record in &report.records {
            if let Event::RunEnded { end, .. } = &record.event {
                *ends.entry(lastgood_sim::end_word(end).to_owned()).or_default() += 1;
            }
            let debugged = format!("{:?}", record.event);
            kinds.insert(debugged.split([' ', '{']).next().unwrap_or_default().to_owned());
        }
    }
    let rare: Vec<_> = ends.iter().filter(|(_, count)| **count < 5).collect();
    assert!(rare.is_empty(), "hardly ever reached: {rare:?} of {ends:?}");
    // 32 kinds of events exist here; a world that never shows one does not test it.
    assert_eq!(kinds.len(), 32, "{kinds:?}");
}

#[test]
fn worlds_that_failed_once_never_fail_again() {
    for seed in kept_seeds() {
        let report = random(seed);
        assert!(report.violations.is_empty(), "{}", shown(&format!("seed {seed}"), &report));
    }
}

#[test]
fn the_same_seed_gives_the_same_log_byte_for_byte() {
    for seed in 0..300 {
        let (first, second) = (random(seed), random(seed));
        assert_eq!(first.records, second.records, "seed {seed}");
        assert_eq!(first.text(), second.text(), "seed {seed}");
    }
}

#[test]
fn a_crash_at_any_step_of_any_story_leads_to_the_same_end() {
    let mut played = 0;
    for scenario in scenarios() {
        let calm = scenario.play(None);
        assert!(calm.violations.is_empty(), "{}", shown(scenario.name, &calm));
        assert!(calm.points > 10, "{} has {} steps only", scenario.name, calm.points);
        for at in 1..=calm.points {
            for crash in [Crash::Driver, Crash::Machine] {
                let report = scenario.play(Some((at, crash)));
                let what = format!("{} with a crash of the {crash:?} at {at}", scenario.name);
                assert!(report.violations.is_empty(), "{}", shown(&what, &report));
                assert_eq!(report.crashes, 1, "{what}");
                assert_eq!(report.ending, calm.ending, "{}", shown(&what, &report));
                played += 1;
            }
        }
    }
    assert!(played > 5_000, "only {played} crashes were played");
}

#[test]
fn every_story_reads_as_its_stored_answer() {
    for scenario in scenarios() {
        let report = scenario.play(None);
        insta::assert_snapshot!(scenario.name, report.text());
    }
}
