//! What lastgood costs while nothing happens: the daemon's memory and time, and the time of `status`.

use crate::{
    Bench,
    notebook::{Notebooks, said},
    numbers::Rounds,
    say,
};
use std::{
    fs, thread,
    time::{Duration, Instant},
};

/// How long the daemon is watched.
const WATCHED: Duration = Duration::from_secs(30);
/// It reads its log and looks at its instances first.
const SETTLED: Duration = Duration::from_secs(3);
/// `status` is short, so more rounds cost nothing.
const STATUS_ROUNDS: usize = 20;

pub(crate) fn measure(bench: &Bench, count: usize) -> Result<(), String> {
    let service = Notebooks::new(bench, "resting", count)?;
    service.lastgood(&["run"], &[0])?;
    let mut status = Rounds::default();
    for _ in 0..STATUS_ROUNDS {
        let began = Instant::now();
        service.lastgood(&["status"], &[0])?;
        status.add(began.elapsed().as_secs_f64() * 1e3);
    }
    let mut daemon = service.serve()?;
    thread::sleep(SETTLED);
    let watched = watch(daemon.id());
    if let Some(pid) = i32::try_from(daemon.id()).ok().and_then(rustix::process::Pid::from_raw) {
        said(rustix::process::kill_process(pid, rustix::process::Signal::TERM))?;
    }
    said(daemon.wait())?;
    let (memory, share) = watched?;
    say(&format!("\n{count} instances at rest"));
    say("| what | min | median | max | unit |\n|---|---|---|---|---|");
    say(&status.row("`lastgood status`", "ms"));
    say(&format!("| daemon, resident after {} s | | {memory:.1} | | MiB |", (SETTLED + WATCHED).as_secs()));
    say(&format!("| daemon, share of a core over {} s | | {share:.2} | | % |", WATCHED.as_secs()));
    Ok(())
}

fn watch(pid: u32) -> Result<(f64, f64), String> {
    let before = ticks(pid)?;
    thread::sleep(WATCHED);
    let used = (ticks(pid)? - before) as f64 / rustix::param::clock_ticks_per_second() as f64;
    let status = said(fs::read_to_string(format!("/proc/{pid}/status")))?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok());
    let resident: f64 = resident.ok_or("the daemon has ended")?;
    Ok((resident / 1024.0, 100.0 * used / WATCHED.as_secs_f64()))
}

fn ticks(pid: u32) -> Result<u64, String> {
    let stat = said(fs::read_to_string(format!("/proc/{pid}/stat")))?;
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    let field = |number: usize| after.split_whitespace().nth(number).and_then(|text| text.parse::<u64>().ok());
    Ok(field(11).unwrap_or(0) + field(12).unwrap_or(0))
}
