//! The service that writes while its data is copied: a process of its own, so that it shares nothing with the copy.
//!
//! Its database is 1 GiB in WAL mode: rows with 1 KiB of noise and an index. Each write is one transaction that changes
//! three rows anywhere, moves one unit between two accounts and appends to a log, with `synchronous = NORMAL`.

use crate::notebook::said;
use rusqlite::{Connection, TransactionBehavior};
use std::{
    env,
    io::{self, BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// The argument that makes this program the writer.
pub(crate) const ARGUMENT: &str = "internal-write";
/// 1 GiB.
const DATABASE_BYTES: i64 = 1 << 30;
/// Rows of one transaction while the database is made.
const ROWS_AT_ONCE: i64 = 50_000;
/// Longer than any wait that is still a result.
const BUSY_WAIT: Duration = Duration::from_secs(30);

/// Makes the database, all of it in the file and none in the log.
pub(crate) fn make(database: &Path) -> Result<i64, String> {
    said(filled(database))
}

fn filled(database: &Path) -> rusqlite::Result<i64> {
    let connection = Connection::open(database)?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;
         CREATE TABLE items (id INTEGER PRIMARY KEY, owner INTEGER NOT NULL, hits INTEGER NOT NULL, body BLOB NOT NULL);
         CREATE INDEX items_owner ON items (owner);
         CREATE TABLE accounts (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL);
         CREATE TABLE log (id INTEGER PRIMARY KEY, source INTEGER NOT NULL, target INTEGER NOT NULL);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100)
           INSERT INTO accounts SELECT i, 1000 FROM n;",
    )?;
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let mut rows = 0;
    while number("PRAGMA page_count")? * number("PRAGMA page_size")? < DATABASE_BYTES {
        connection.execute(
            "WITH RECURSIVE n(i) AS (SELECT ?1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1 + ?2 - 1)
             INSERT INTO items SELECT i, abs(random()) % 100000, 0, randomblob(1024) FROM n",
            [rows + 1, ROWS_AT_ONCE],
        )?;
        rows += ROWS_AT_ONCE;
    }
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    Ok(rows)
}

/// How long each write of some stretch of time waited, in microseconds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Waits(Vec<u32>);

impl Waits {
    pub(crate) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Gives the wait, in milliseconds, that `share` of the writes did not exceed; 1.0 is the longest.
    pub(crate) fn at(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let last = sorted.len().saturating_sub(1);
        sorted.get((last as f64 * share) as usize).map_or(f64::NAN, |&wait| f64::from(wait) / 1e3)
    }
}

/// A running writer.
pub(crate) struct Writer {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Writer {
    pub(crate) fn start(database: &Path, rows: i64, rate: u32) -> Result<Self, String> {
        let mut command = Command::new(said(env::current_exe())?);
        command.arg(ARGUMENT).arg(database).args([rows.to_string(), rate.to_string()]);
        let mut child = said(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn())?;
        let out = child.stdout.take().ok_or("the writer has no stdout")?;
        Ok(Self { child, said: BufReader::new(out) })
    }

    /// Gives the waits since it was last asked.
    pub(crate) fn waits(&mut self) -> Result<Waits, String> {
        let stdin = self.child.stdin.as_mut().ok_or("the writer has no stdin")?;
        said(stdin.write_all(b"\n").and_then(|()| stdin.flush()))?;
        let mut line = String::new();
        said(self.said.read_line(&mut line))?;
        if line.is_empty() {
            return Err("the writer has ended".into());
        }
        line.split_whitespace().map(|word| said(word.parse())).collect::<Result<_, _>>().map(Waits)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // It ends by itself when its stdin does.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Runs as the writer until stdin ends; for each line read, prints the waits since the line before.
pub(crate) fn main(arguments: &[String]) -> Result<(), String> {
    let [database, rows, rate] = arguments else { return Err("DATABASE ROWS RATE".into()) };
    let (rows, rate) = (said(rows.parse())?, said(rate.parse())?);
    let (waits, ended) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
    let writing = thread::spawn({
        let (waits, ended, database) = (Arc::clone(&waits), Arc::clone(&ended), database.clone());
        move || said(write(Path::new(&database), rows, rate, &waits, &ended))
    });
    for line in io::stdin().lines() {
        said(line)?;
        if writing.is_finished() {
            break;
        }
        let taken: Vec<u32> = std::mem::take(&mut *waits.lock().unwrap_or_else(PoisonError::into_inner));
        let mut text: String = taken.iter().map(|wait| format!("{wait} ")).collect();
        text.push('\n');
        said(io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()))?;
    }
    ended.store(true, Ordering::Relaxed);
    writing.join().unwrap_or_else(|_| Err("the writing thread panicked".into()))
}

fn write(
    database: &Path,
    rows: i64,
    rate: u32,
    waits: &Mutex<Vec<u32>>,
    ended: &AtomicBool,
) -> Result<(), rusqlite::Error> {
    let mut connection = Connection::open(database)?;
    connection.busy_timeout(BUSY_WAIT)?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    let began = Instant::now();
    let mut count = 0_u32;
    let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
    // Xorshift: the rows need no better chance, and each run touches the same ones.
    let mut any = |below: i64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 1) as i64 % below + 1
    };
    while !ended.load(Ordering::Relaxed) {
        let at = Instant::now();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            let mut touch = transaction.prepare_cached("UPDATE items SET hits = hits + 1 WHERE id = ?1")?;
            for _ in 0..3 {
                touch.execute([any(rows)])?;
            }
            let (source, target) = (any(100), any(100));
            let mut pay = transaction.prepare_cached("UPDATE accounts SET balance = balance + ?1 WHERE id = ?2")?;
            pay.execute([-1, source])?;
            pay.execute([1, target])?;
            transaction
                .prepare_cached("INSERT INTO log (source, target) VALUES (?1, ?2)")?
                .execute([source, target])?;
        }
        transaction.commit()?;
        let wait = u32::try_from(at.elapsed().as_micros()).unwrap_or(u32::MAX);
        waits.lock().unwrap_or_else(PoisonError::into_inner).push(wait);
        count += 1;
        let due = began + Duration::from_secs_f64(f64::from(count) / f64::from(rate));
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    Ok(())
}
