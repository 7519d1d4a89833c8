//! The other processes of the state tests: a service that writes, one that holds a lock, a worker, a restore that dies.

use lastgood_drivers::state::{RestoreContext, StatePlace, Steps, restore, worker_main};
use rusqlite::{Connection, TransactionBehavior};
use std::{
    error::Error,
    io::{Read as _, Write as _},
    path::Path,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["internal", "snapshot"] => return ExitCode::from(worker_main()),
        ["worker", pid_file] => {
            std::fs::write(pid_file, std::process::id().to_string()).expect("the test's folder can be written");
            return ExitCode::from(worker_main());
        }
        ["hang"] => loop {
            thread::park();
        },
        ["write", database, rate] => write(database, rate.parse().unwrap_or(0)),
        ["hold", database] => hold(database),
        ["try", database] => return try_lock(database),
        ["churn", file] => churn(Path::new(file)),
        ["restore", snapshot, place, aside, journal, die_at] => {
            put_back(snapshot, place, aside, journal, die_at.parse().unwrap_or(u64::MAX))
        }
        _ => return ExitCode::from(64),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

fn say(text: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "{text}").and_then(|()| out.flush()).expect("the test reads what its peer says");
}

/// Sets the flag when the test closes our stdin.
fn until_told() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        told.store(true, Ordering::Relaxed);
    });
    stop
}

/// Moves money between 100 accounts, so that their sum never changes; `rate` transactions a second, 0 for no limit.
fn write(database: &str, rate: u64) -> Result<(), Box<dyn Error>> {
    let mut connection = Connection::open(database)?;
    connection.busy_timeout(Duration::from_secs(20))?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    let stop = until_told();
    let (mut count, mut longest) = (0_u64, Duration::ZERO);
    let began = Instant::now();
    say("writing");
    while !stop.load(Ordering::Relaxed) {
        let (from, to) = ((count % 100 + 1) as i64, (count * 7 % 100 + 1) as i64);
        let at = Instant::now();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute("UPDATE accounts SET balance = balance - 1 WHERE id = ?1", [from])?;
        transaction.execute("UPDATE accounts SET balance = balance + 1 WHERE id = ?1", [to])?;
        transaction.execute("INSERT INTO transfers (source, target) VALUES (?1, ?2)", [from, to])?;
        transaction.execute("UPDATE counts SET transfers = transfers + 1", [])?;
        transaction.commit()?;
        longest = longest.max(at.elapsed());
        count += 1;
        if let Some(pause_microseconds) = 1_000_000_u64.checked_div(rate) {
            let due = began + Duration::from_micros(pause_microseconds * count);
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    }
    say(&format!("{count} {} {}", longest.as_micros(), began.elapsed().as_millis()));
    Ok(())
}

fn hold(database: &str) -> Result<(), Box<dyn Error>> {
    let connection = Connection::open(database)?;
    connection.execute_batch("BEGIN IMMEDIATE; UPDATE counts SET transfers = transfers")?;
    say("held");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    connection.execute_batch("ROLLBACK")?;
    Ok(())
}

fn try_lock(database: &str) -> ExitCode {
    let tried = Connection::open(database).and_then(|connection| {
        connection.busy_timeout(Duration::ZERO)?;
        connection.execute_batch("BEGIN IMMEDIATE; ROLLBACK")
    });
    ExitCode::from(if tried.is_ok() { 0 } else { 7 })
}

/// Rewrites a file as fast as it can.
fn churn(file: &Path) -> Result<(), Box<dyn Error>> {
    let stop = until_told();
    let mut count = 0_u64;
    // In place and of one size: only its times tell. A truncated file would wait for the disk at each close.
    let file = std::fs::File::create(file)?;
    // So large that copying it takes many turns of the scheduler: both sides run meanwhile, even on one processor.
    std::os::unix::fs::FileExt::write_all_at(&file, &vec![1; 64 << 20], 0)?;
    say("churning");
    while !stop.load(Ordering::Relaxed) {
        std::os::unix::fs::FileExt::write_all_at(&file, &[count as u8; 4096], 0)?;
        count += 1;
    }
    Ok(())
}

/// Dies like one killed with -9, at its step number `die_at`.
#[derive(Debug)]
struct Deadly {
    die_at: u64,
    steps: AtomicU64,
}

impl Steps for Deadly {
    fn before(&self, _: &str) {
        if self.steps.fetch_add(1, Ordering::Relaxed) == self.die_at {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            loop {
                thread::park();
            }
        }
    }
}

fn put_back(snapshot: &str, place: &str, aside: &str, journal: &str, die_at: u64) -> Result<(), Box<dyn Error>> {
    let place: StatePlace = serde_json::from_str(place)?;
    let steps = Deadly { die_at, steps: AtomicU64::new(0) };
    let context = RestoreContext { still_held: Vec::new(), steps: &steps };
    let facts = restore(Path::new(snapshot), &place, Path::new(aside), Path::new(journal), &context)?;
    say(&format!("{} {}", steps.steps.load(Ordering::Relaxed), facts.bytes));
    Ok(())
}
