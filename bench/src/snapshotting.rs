//! An online snapshot of a large SQLite file under writes: against `VACUUM INTO`, a sync and `integrity_check`.

use crate::{
    Bench,
    notebook::said,
    numbers::Rounds,
    say,
    writer::{self, Waits, Writer},
};
use lastgood_domain::terms::SnapshotId;
use lastgood_drivers::state::{Mode, SnapshotContext, StatePlace, prune, snapshot};
use rusqlite::{Connection, OpenFlags};
use std::{
    fs::{self, File},
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// Writes per second, and rounds at that rate.
const RATES: [(u32, usize); 2] = [(200, 3), (1_400, 2)];
/// How long the writer is watched with nothing going on: what the disk itself makes it wait.
const QUIET: Duration = Duration::from_secs(5);
/// The waits of the first second after a copy belong to it: the service may merge the log that grew meanwhile.
const AFTER: Duration = Duration::from_secs(1);
/// Removing 1 GiB keeps a disk busy, above all one that is told of each freed block; that is no part of a copy.
const CALM: Duration = Duration::from_secs(2);

pub(crate) fn measure(bench: &Bench) -> Result<(), String> {
    let folder = bench.scratch.join("snapshot");
    let data = folder.join("data");
    said(fs::create_dir_all(&data))?;
    let database = data.join("db.sqlite");
    let rows = writer::make(&database)?;
    for (rate, rounds) in RATES {
        let rounds = rounds.min(bench.rounds);
        measure_at(bench, &folder, &database, rows, rate, rounds)?;
    }
    said(fs::remove_dir_all(&folder))
}

fn measure_at(
    bench: &Bench,
    folder: &Path,
    database: &Path,
    rows: i64,
    rate: u32,
    rounds: usize,
) -> Result<(), String> {
    let mut service = Writer::start(database, rows, rate)?;
    let (mut floors, mut ours, mut ratio) = (Rounds::default(), Rounds::default(), Rounds::default());
    let (mut quiet, mut beside_floor, mut beside_ours) = (Waits::default(), Waits::default(), Waits::default());
    for round in 0..rounds {
        calm(&mut service)?;
        thread::sleep(QUIET);
        quiet.extend(service.waits()?);
        let copy = folder.join("floor.sqlite");
        let floor = floor(database, &copy)?;
        thread::sleep(AFTER);
        beside_floor.extend(service.waits()?);
        said(fs::remove_file(copy))?;
        calm(&mut service)?;
        let shelf = folder.join("shelf");
        let own = own(bench, database, &shelf, round as u64)?;
        thread::sleep(AFTER);
        beside_ours.extend(service.waits()?);
        said(prune(&shelf, &[]))?;
        floors.add(floor);
        ours.add(own);
        ratio.add(own / floor);
    }
    say(&format!("\nonline snapshot of 1 GiB of SQLite under {rate} writes/s, {rounds} alternating rounds"));
    say("| what | min | median | max | unit |\n|---|---|---|---|---|");
    say(&floors.row("floor: `VACUUM INTO`, sync, `integrity_check`", "s"));
    say(&ours.row("lastgood: verified snapshot", "s"));
    say(&ratio.row("lastgood / floor", "x"));
    say("\n| wait of one write | p50 | p99 | longest | unit | writes |\n|---|---|---|---|---|---|");
    for (name, waits) in [("nothing else", quiet), ("beside the floor", beside_floor), ("beside lastgood", beside_ours)]
    {
        let (middle, high, longest) = (waits.at(0.5), waits.at(0.99), waits.at(1.0));
        say(&format!("| {name} | {middle:.2} | {high:.2} | {longest:.1} | ms | {} |", waits.count()));
    }
    Ok(())
}

/// Lets what was before pass, and forgets its waits.
fn calm(service: &mut Writer) -> Result<(), String> {
    thread::sleep(CALM);
    service.waits().map(drop)
}

/// Copies in the way that SQLite itself offers, and gives the seconds it took.
fn floor(database: &Path, copy: &Path) -> Result<f64, String> {
    let began = Instant::now();
    let source = said(Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY))?;
    said(source.execute("VACUUM INTO ?1", [copy.to_string_lossy()]))?;
    said(File::open(copy).and_then(|file| file.sync_all()))?;
    let checked = said(Connection::open_with_flags(copy, OpenFlags::SQLITE_OPEN_READ_ONLY))?;
    let finding: String = said(checked.query_row("PRAGMA integrity_check", [], |row| row.get(0)))?;
    let took = began.elapsed().as_secs_f64();
    if finding != "ok" {
        return Err(finding);
    }
    Ok(took)
}

fn own(bench: &Bench, database: &Path, shelf: &Path, round: u64) -> Result<f64, String> {
    let place = StatePlace::sqlite([database]);
    let began = Instant::now();
    said(snapshot(&place, Mode::Online, SnapshotId(round), shelf, &SnapshotContext::new(&bench.lastgood)))?;
    Ok(began.elapsed().as_secs_f64())
}
