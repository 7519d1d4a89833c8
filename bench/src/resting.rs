//! What lastgood costs while nothing happens: the daemon's memory and time, and the time of commands that only look.

use crate::{
    Bench, history,
    notebook::{Notebooks, said},
    numbers::Rounds,
    say,
};
use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    process::Child,
    thread,
    time::{Duration, Instant},
};

/// How long the daemon is watched.
const WATCHED: Duration = Duration::from_secs(30);
/// It reads its log and looks at its instances first.
const SETTLED: Duration = Duration::from_secs(3);
/// These commands are short, so more rounds cost nothing.
const LOOKS: usize = 20;
/// Records of a long log: more than half a year of daily releases of 50 instances.
const LONG: u64 = 200_000;
/// A daemon that does not answer by then has failed.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);

pub(crate) fn measure(bench: &Bench, count: usize) -> Result<(), String> {
    let service = Notebooks::new(bench, "resting", count)?;
    service.lastgood(&["run"], &[0])?;
    let records = service.records()?.len();
    looks(&service, &format!("{count} instances at rest, {records} records"))?;
    rests(&service)?;
    let records = history::write(&service, LONG)?;
    looks(&service, &format!("{count} instances, {records} records, nothing kept: all is read"))?;
    // This daemon reads it all and keeps the state.
    rests(&service)?;
    looks(&service, &format!("{count} instances, {records} records, the state kept"))?;
    rests(&service)
}

/// Measures the commands that only look.
fn looks(service: &Notebooks, title: &str) -> Result<(), String> {
    say(&format!("\n{title}"));
    say("| what | min | median | max | unit |\n|---|---|---|---|---|");
    for arguments in [&["status"][..], &["why"], &["log", "-n", "20"], &["--version"]] {
        let mut rounds = Rounds::default();
        for _ in 0..LOOKS {
            let began = Instant::now();
            service.lastgood(arguments, &[0])?;
            rounds.add(began.elapsed().as_secs_f64() * 1e3);
        }
        say(&rounds.row(&format!("`lastgood {}`", arguments.join(" ")), "ms"));
    }
    Ok(())
}

/// Measures the daemon.
fn rests(service: &Notebooks) -> Result<(), String> {
    let began = Instant::now();
    let mut daemon = service.serve()?;
    let watched = watch(service, &daemon, began);
    if let Some(pid) = i32::try_from(daemon.id()).ok().and_then(rustix::process::Pid::from_raw) {
        said(rustix::process::kill_process(pid, rustix::process::Signal::TERM))?;
    }
    said(daemon.wait())?;
    watched
}

fn watch(service: &Notebooks, daemon: &Child, began: Instant) -> Result<(), String> {
    while scrape(service).is_err() {
        if began.elapsed() > ANSWERS_WITHIN {
            return Err("the daemon does not answer".into());
        }
        thread::sleep(Duration::from_millis(5));
    }
    let answered = began.elapsed().as_secs_f64() * 1e3;
    let mut scrapes = Rounds::default();
    for _ in 0..LOOKS {
        let began = Instant::now();
        scrape(service)?;
        scrapes.add(began.elapsed().as_secs_f64() * 1e3);
    }
    thread::sleep(SETTLED);
    let before = ticks(daemon.id())?;
    thread::sleep(WATCHED);
    let used = (ticks(daemon.id())? - before) as f64 / rustix::param::clock_ticks_per_second() as f64;
    let memory = said(fs::read_to_string(format!("/proc/{}/status", daemon.id())))?;
    let memory = memory.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok());
    let memory: f64 = memory.ok_or("the daemon has ended")?;
    let share = 100.0 * used / WATCHED.as_secs_f64();
    say(&format!("| daemon, first page after its start | | {answered:.1} | | ms |"));
    say(&scrapes.row("daemon, one scrape of `/metrics`", "ms"));
    say(&format!("| daemon, resident after {} s | | {:.1} | | MiB |", (SETTLED + WATCHED).as_secs(), memory / 1024.0));
    say(&format!("| daemon, share of a core over {} s | | {share:.2} | | % |", WATCHED.as_secs()));
    Ok(())
}

/// Asks for the metrics once; they come whole or it is an error.
fn scrape(service: &Notebooks) -> Result<(), String> {
    let mut stream = said(TcpStream::connect(("127.0.0.1", service.listen)))?;
    said(stream.set_read_timeout(Some(ANSWERS_WITHIN)))?;
    said(stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))?;
    let mut page = String::new();
    said(stream.read_to_string(&mut page))?;
    let whole = page.starts_with("HTTP/1.1 200") && page.contains("lastgood_runs_total");
    whole.then_some(()).ok_or_else(|| format!("the page is {page:.200}"))
}

fn ticks(pid: u32) -> Result<u64, String> {
    let stat = said(fs::read_to_string(format!("/proc/{pid}/stat")))?;
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    let field = |number: usize| after.split_whitespace().nth(number).and_then(|text| text.parse::<u64>().ok());
    Ok(field(11).unwrap_or(0) + field(12).unwrap_or(0))
}
