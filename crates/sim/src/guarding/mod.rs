//! How often guards are wrong and how soon they are right: seeded traffic of two releases, many runs a cell.
//!
//! Nothing is decided here: each second of drawn traffic goes through the real [`Guard`], which is asked after each.

mod crowd;
mod traffic;

use lastgood_domain::{
    guard::{Guard, GuardSettings, GuardVerdict, Rate},
    terms::Timestamp,
};
use std::fmt::Write as _;
use traffic::{Behaviour, Failing, Traffic, World, candidate, last_good};

/// A stage's length: 30 minutes, as in the promise about false rollbacks.
const STAGE_SECONDS: u64 = 1_800;
/// When every stage begins, in seconds since 1970.
const START: u64 = 1_800_000_000;

/// What the runs of one cell came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// What was drawn.
    pub name: String,
    /// Runs.
    pub runs: u32,
    /// Seconds until the candidate failed, of each run in which it did, sorted.
    pub failed_after: Vec<u64>,
    /// Seconds until the candidate was healthy for the first time, of each run in which it was before it failed, sorted.
    pub healthy_after: Vec<u64>,
}

impl Cell {
    /// Gives the highest true share of failed runs that these counts allow at 95 % (Clopper and Pearson, one-sided).
    pub fn failed_at_most(&self) -> f64 {
        let (failed, runs) = (self.failed_after.len() as f64, f64::from(self.runs));
        if failed >= runs {
            return 1.0;
        }
        // P(Bin(runs, share) <= failed) falls with the share: halve the interval until it is 5 %.
        let (mut low, mut high) = (0.0_f64, 1.0_f64);
        for _ in 0..50 {
            let share = f64::midpoint(low, high);
            let (mut term, mut sum) = ((1.0 - share).powf(runs), 0.0);
            for count in 0..=self.failed_after.len() {
                sum += term;
                term *= (runs - count as f64) / (count as f64 + 1.0) * share / (1.0 - share);
            }
            if sum > 0.05 { low = share } else { high = share }
        }
        high
    }

    /// Gives the seconds within which `percent` of all runs failed; `None` if fewer did.
    pub fn failed_within(&self, percent: u32) -> Option<u64> {
        at(&self.failed_after, self.runs, percent)
    }

    /// Gives the seconds within which `percent` of all runs were healthy; `None` if fewer were.
    pub fn healthy_within(&self, percent: u32) -> Option<u64> {
        at(&self.healthy_after, self.runs, percent)
    }
}

fn at(sorted: &[u64], runs: u32, percent: u32) -> Option<u64> {
    let rank = (u64::from(runs) * u64::from(percent)).div_ceil(100).max(1);
    sorted.get(usize::try_from(rank - 1).ok()?).copied()
}

/// Draws a cell; the same seed draws the same.
fn cell(name: String, world: World, runs: u32, seed: u64) -> Cell {
    let mut cell = Cell { name, runs, failed_after: Vec::new(), healthy_after: Vec::new() };
    for run in 0..runs {
        let (failed, healthy) = play(world, seed.wrapping_mul(1_000_003).wrapping_add(u64::from(run)));
        cell.failed_after.extend(failed);
        cell.healthy_after.extend(healthy);
    }
    cell.failed_after.sort_unstable();
    cell.healthy_after.sort_unstable();
    cell
}

/// Plays one stage; gives after how many seconds it failed, and after how many it was healthy first.
fn play(world: World, seed: u64) -> (Option<u64>, Option<u64>) {
    let at = |second: u64| Timestamp(i64::try_from(second * 1_000).unwrap_or(i64::MAX));
    let settings = GuardSettings { error_rate_max: Rate::of(world.limit.into(), 100), ..GuardSettings::default() };
    let mut guard = Guard::new(settings, candidate(), Some(last_good()), at(START));
    let mut traffic = Traffic::new(world, seed);
    let mut start = START;
    if world.share >= 100.0 {
        // The stage before, in which last-good showed what is normal.
        let before = World { share: 50.0, candidate: Behaviour::HEALTHY, ..world };
        let mut traffic = Traffic::new(before, seed ^ 1);
        for second in 0..600 {
            guard.take(&traffic.slice(start, second));
        }
        start += 600;
        guard = guard.next_stage(None, at(start));
    }
    let (mut healthy, end) = (None, world.from + STAGE_SECONDS);
    for second in 0..end {
        guard.take(&traffic.slice(start, second));
        match guard.verdict(at(start + second)) {
            GuardVerdict::Failed { .. } => return (Some((second + 1).saturating_sub(world.from)), healthy),
            GuardVerdict::Healthy { .. } if healthy.is_none() => healthy = Some(second + 1),
            _ => {}
        }
    }
    (None, healthy)
}

/// Requests a second that healthy candidates are drawn at.
pub const RATES: [f64; 4] = [0.2, 1.0, 5.0, 50.0];

/// Draws healthy candidates: whatever fails is a false rollback.
pub fn healthy(runs: u32, seed: u64) -> Vec<Cell> {
    RATES.iter().flat_map(|rate| healthy_at(*rate, runs, seed)).collect()
}

/// Draws healthy candidates at `rate` requests a second, `runs` a cell.
pub fn healthy_at(rate: f64, runs: u32, seed: u64) -> Vec<Cell> {
    let mut cells = Vec::new();
    for (failing, word) in [
        (Failing::Alone, "errors alone"),
        (Failing::Bursts, "errors in bursts"),
        (Failing::Retries, "errors in retries"),
        (Failing::Crowd(12), "errors of 12 people"),
        (Failing::Crowd(200), "errors of 200 people"),
        (Failing::Rush(11), "11 people at once"),
        (Failing::Rush(200), "200 people at once"),
        (Failing::Loops { people: 1, tries: 1 }, "one person's loop"),
        (Failing::Loops { people: 1, tries: 10 }, "one person's loop of 10/s"),
        (Failing::Loops { people: 2, tries: 1 }, "two people's loops"),
        (Failing::LoopAndBursts, "one person's loop, errors in bursts"),
        (Failing::Polls(10), "one person's page, a tenth fails"),
        (Failing::Polls(30), "one person's page, a 30th fails"),
        (Failing::Hiccups, "both hiccup"),
    ] {
        let world = World { failing, ..steady(rate, Behaviour::HEALTHY) };
        cells.push(cell(format!("{word}, {rate}/s"), world, runs, seed));
    }
    let near = Behaviour { median_ms: 250.0, ..Behaviour::HEALTHY };
    let slow = World { last_good: near, ..steady(rate, near) };
    cells.push(cell(format!("p95 1.3 s on both, {rate}/s"), slow, runs, seed));
    let whole = World { share: 100.0, ..steady(rate, Behaviour::HEALTHY) };
    cells.push(cell(format!("errors alone, all traffic, {rate}/s"), whole, runs, seed));
    cells
}

/// Draws candidates at the very limit: whatever is healthy is a false promotion.
pub fn at_the_limit(runs: u32, seed: u64) -> Vec<Cell> {
    RATES
        .map(|rate| {
            let world = World { last_good: Behaviour::failing(0.02), ..steady(rate, Behaviour::failing(0.02)) };
            cell(format!("2 % on both, {rate}/s"), world, runs, seed)
        })
        .into()
}

/// Draws bad candidates.
pub fn bad(runs: u32, seed: u64) -> Vec<Cell> {
    let slow = Behaviour { median_ms: 600.0, ..Behaviour::HEALTHY };
    let failing = Behaviour::failing;
    let late = |world: World| World { from: 1_500, ..world };
    let all = |world: World| World { share: 100.0, ..world };
    let crowd = |people, world: World| World { failing: Failing::Crowd(people), ..world };
    let same = |people, world: World| World { failing: Failing::Same(people), ..world };
    let rush = |people, rate, errors| World { failing: Failing::Rush(people), ..steady(rate, failing(errors)) };
    let of = |share, world: World| World { share, ..world };
    let half = |world: World| World { share: 50.0, ..world };
    let fifth = |world: World| World { share: 20.0, ..world };
    let quarter = |world: World| World { share: 25.0, ..world };
    [
        ("20 % errors, 0.2/s", steady(0.2, failing(0.2))),
        ("20 % errors, 1/s", steady(1.0, failing(0.2))),
        ("5 % errors, 0.2/s", steady(0.2, failing(0.05))),
        ("5 % errors, 1/s", steady(1.0, failing(0.05))),
        ("5 % errors, 5/s", steady(5.0, failing(0.05))),
        ("5 % errors, 50/s", steady(50.0, failing(0.05))),
        ("2 % errors, 1/s", steady(1.0, failing(0.02))),
        ("2 % errors, 5/s", steady(5.0, failing(0.02))),
        ("3 % errors, 50/s", steady(50.0, failing(0.03))),
        ("all errors, 100/s", steady(100.0, failing(1.0))),
        ("all errors, 0.2/s", steady(0.2, failing(1.0))),
        ("all errors, 100/s, a quarter of the traffic", quarter(steady(100.0, failing(1.0)))),
        ("all errors, 100/s, all traffic", all(steady(100.0, failing(1.0)))),
        ("slow: p95 3.1 s, 0.2/s", steady(0.2, slow)),
        ("slow: p95 3.1 s, 5/s", steady(5.0, slow)),
        ("20 % errors from minute 25 on, 0.2/s", late(steady(0.2, failing(0.2)))),
        ("5 % errors from minute 25 on, 5/s", late(steady(5.0, failing(0.05)))),
        ("all errors from minute 25 on, 100/s", late(steady(100.0, failing(1.0)))),
        ("20 % errors, 4 people, 0.2/s", crowd(4, steady(0.2, failing(0.2)))),
        ("5 % errors, 100 people, 5/s", crowd(100, steady(5.0, failing(0.05)))),
        ("20 % errors, 11 people at once, 97/s", rush(11, 97.0, 0.2)),
        ("the same, a quarter of the traffic, limit 10 %", World { limit: 10, ..of(25.0, rush(11, 97.0, 0.2)) }),
        ("5 % errors, 11 people at once, 97/s", rush(11, 97.0, 0.05)),
        ("5 % errors, 11 people at once, 97/s, a quarter", of(25.0, rush(11, 97.0, 0.05))),
        ("20 % errors, 200 people at once, 400/s", rush(200, 400.0, 0.2)),
        ("20 % errors, 200 people at once, 400/s, a quarter", of(25.0, rush(200, 400.0, 0.2))),
        ("5 % errors, 200 people at once, 400/s", rush(200, 400.0, 0.05)),
        ("5 % errors, 200 people at once, 400/s, a quarter", of(25.0, rush(200, 400.0, 0.05))),
        ("20 % errors, 5 people, 0.25/s, half of the traffic", crowd(5, half(steady(0.25, failing(0.2))))),
        ("20 % errors, 5 people, 5/s, half of the traffic", crowd(5, half(steady(5.0, failing(0.2))))),
        ("20 % errors, 3 people, 3/s", crowd(3, steady(3.0, failing(0.2)))),
        ("20 % errors, 12 people, 12/s, a fifth of the traffic", crowd(12, fifth(steady(12.0, failing(0.2))))),
        ("the same 5 of 100 people always, 5/s", same(100, steady(5.0, failing(0.05)))),
        ("the same 50 of 1,000 people always, 50/s", same(1_000, steady(50.0, failing(0.05)))),
        ("all errors, 1 person, 0.05/s", crowd(1, steady(0.05, failing(1.0)))),
        ("all errors, 5 people, 0.25/s", crowd(5, steady(0.25, failing(1.0)))),
        ("all errors, 5 people, 0.25/s, half of the traffic", crowd(5, half(steady(0.25, failing(1.0))))),
        ("all errors, 12 people, 12/s, a fifth of the traffic", crowd(12, fifth(steady(12.0, failing(1.0))))),
        ("all errors from minute 25 on, 5 people, 0.25/s", late(crowd(5, steady(0.25, failing(1.0))))),
        ("20 % errors, 0.2/s, all traffic", all(steady(0.2, failing(0.2)))),
        ("5 % errors from minute 25 on, 5/s, all traffic", late(all(steady(5.0, failing(0.05))))),
    ]
    .map(|(name, world)| cell(name.into(), world, runs, seed))
    .into()
}

/// 5 % of the traffic, beside a healthy last-good.
fn steady(rate: f64, candidate: Behaviour) -> World {
    World { rate, share: 5.0, candidate, last_good: Behaviour::HEALTHY, failing: Failing::Alone, from: 0, limit: 2 }
}

/// Says all figures as tables.
pub fn figures(runs: u32, seed: u64) -> String {
    let mut text = format!("{runs} runs a cell, 30 min each, seed {seed}; the candidate's requests a second\n");
    let seconds = |seconds: Option<u64>| seconds.map_or("-".into(), |seconds| format!("{seconds} s"));
    let mut table = |title: &str, cells: Vec<Cell>, healthy: bool| {
        let _ = writeln!(
            text,
            "\n{title:<52} failed  at most  half by  9 of 10 by{}",
            if healthy { "  healthy  half by" } else { "" }
        );
        for cell in cells {
            let part = |count: usize| 100.0 * count as f64 / f64::from(cell.runs);
            let _ = write!(
                text,
                "{:<52} {:>5.1} % {:>6.2} % {:>8} {:>11}",
                cell.name,
                part(cell.failed_after.len()),
                100.0 * cell.failed_at_most(),
                seconds(cell.failed_within(50)),
                seconds(cell.failed_within(90)),
            );
            if healthy {
                let _ =
                    write!(text, " {:>6.1} % {:>8}", part(cell.healthy_after.len()), seconds(cell.healthy_within(50)));
            }
            text.push('\n');
        }
    };
    table("healthy, 0.5 % errors: failing is a false alarm", self::healthy(runs, seed), true);
    table("at the limit: healthy is a false promotion", at_the_limit(runs, seed), true);
    table("bad", bad(runs, seed), true);
    text
}
