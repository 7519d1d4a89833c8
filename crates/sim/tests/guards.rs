//! The promised figures of guards, on fixed seeds: the same draws each time, so nothing here depends on luck.

use lastgood_sim::guarding::{Cell, RATES, at_the_limit, bad, healthy_at};
use std::thread;

const RUNS: u32 = 100;
/// A busy half hour costs ten of the others.
const RUNS_BUSY: u32 = 25;

#[test]
fn a_healthy_candidate_goes_back_in_one_of_a_hundred_stages_at_most() {
    let draw = |rate: f64| healthy_at(rate, if rate < 50.0 { RUNS } else { RUNS_BUSY }, 1);
    let cells: Vec<Cell> = thread::scope(|scope| {
        let drawn = RATES.map(|rate| scope.spawn(move || draw(rate)));
        drawn.into_iter().flat_map(|cells| cells.join().unwrap()).collect()
    });
    assert_eq!(cells.len(), 64);
    for cell in cells {
        // Said in docs/design/guards.md: a loop makes every hiccup of many people weigh more.
        let most = if cell.name.starts_with("one person's loop, errors in bursts") { 5 } else { 1 };
        let (back, runs) = (cell.failed_after.len(), cell.runs);
        assert!(back <= most, "{}: {back} of {runs} went back", cell.name);
    }
}

#[test]
fn a_candidate_at_the_limit_passes_for_healthy_in_one_of_twenty_stages_at_most() {
    for cell in at_the_limit(RUNS, 1) {
        // Five are expected at most; nine or more would come in one of fifteen such draws.
        assert!(cell.healthy_after.len() <= 9, "{}: {} of {RUNS} passed", cell.name, cell.healthy_after.len());
    }
}

#[test]
fn bad_candidates_are_found_in_time() {
    let cells = bad(RUNS, 1);
    for (name, seconds) in [
        ("20 % errors, 0.2/s", 120),
        ("5 % errors, 5/s", 60),
        ("all errors, 100/s", 1),
        ("all errors, 1 person, 0.05/s", 240),
        ("all errors, 12 people, 12/s, a fifth of the traffic", 10),
        ("the same 50 of 1,000 people always, 50/s", 120),
        ("20 % errors, 11 people at once, 97/s", 12),
        ("the same, a quarter of the traffic, limit 10 %", 12),
        ("5 % errors, 11 people at once, 97/s", 60),
        ("20 % errors, 200 people at once, 400/s, a quarter", 12),
        ("5 % errors, 200 people at once, 400/s, a quarter", 60),
    ] {
        let cell = cells.iter().find(|cell| cell.name == name).unwrap();
        assert!(cell.failed_within(50).is_some_and(|half| half <= seconds), "{name}: {:?}", cell.failed_within(50));
        assert_eq!(cell.failed_after.len(), RUNS as usize, "{name}: some were never found");
    }
}
