//! SQLite: a child process reads the file as its owner.
//!
//! As with snapshots (`state/worker.rs`): closing a file drops every lock its process has on it, so a live database is
//! never opened in a process that may hold it elsewhere; and as the owner, SQLite makes no file of root's beside it.

use super::{Limits, Scalar, SqlError, Table, Worker, left};
use crate::state::{Live, Owner, StateError, drop_to};
use rusqlite::{Connection, OpenFlags, config::DbConfig, limits::Limit, types::ValueRef};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use std::{
    fmt::Write as _,
    io::{self, Read as _, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// 16 MiB: a thousand rows of long texts.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// 1 MiB of order: one statement and a path.
const ORDER_BYTES_MAX: u64 = 1 << 20;

/// What the child is asked.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    path: PathBuf,
    owner: Owner,
    sql: String,
    rows: u32,
    act: Act,
    parent: i32,
}

/// What is done with the statements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Act {
    Ask,
    Install,
}

/// What the child answers instead of a table.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Refusal {
    File(StateError),
    Query(String),
    TooLong,
}

/// Asks a file; the child is killed when the time is over.
pub(super) fn query(
    name: &str,
    path: &Path,
    worker: &Worker,
    sql: &str,
    limits: Limits,
    deadline: Instant,
) -> Result<Table, SqlError> {
    have_done(Act::Ask, name, path, worker, sql, limits, deadline)
}

/// Runs statements on a file in one transaction.
pub(super) fn install(
    name: &str,
    path: &Path,
    worker: &Worker,
    script: &str,
    limits: Limits,
    deadline: Instant,
) -> Result<(), SqlError> {
    have_done(Act::Install, name, path, worker, script, limits, deadline).map(drop)
}

fn have_done(
    act: Act,
    name: &str,
    path: &Path,
    worker: &Worker,
    sql: &str,
    limits: Limits,
    deadline: Instant,
) -> Result<Table, SqlError> {
    let file = |source| SqlError::File { database: name.into(), source };
    let failed = |source| SqlError::Worker { path: path.into(), source };
    // SQLite refuses a link anywhere in the path: what we looked at is what it opens.
    let real = std::fs::canonicalize(path).map_err(|error| file(not_there(path, error)))?;
    let facts = std::fs::symlink_metadata(&real).map_err(|error| file(not_there(path, error)))?;
    if !facts.is_file() {
        return Err(file(StateError::NotSqlite { path: path.into() }));
    }
    let owner = Owner::new(facts.uid(), facts.gid());
    let parent = rustix::process::getpid().as_raw_pid();
    let order = Order { path: real, owner, sql: sql.into(), rows: limits.rows, act, parent };
    let text = serde_json::to_vec(&order).map_err(|error| failed(error.into()))?;
    let mut child = Command::new(&worker.program)
        .args(&worker.arguments)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        if let Some(mut stdin) = stdin {
            // A child that is gone is noticed by its answer.
            let _ = stdin.write_all(&text);
        }
        let mut answer = Vec::new();
        if let Some(stdout) = stdout {
            let _ = stdout.take(2 * ANSWER_BYTES_MAX as u64).read_to_end(&mut answer);
        }
        let _ = tell.send(answer);
    });
    let answer = told.recv_timeout(left(deadline)).ok();
    // It has answered or is late; whoever reads, or writes in one transaction, may be killed at any time.
    let _ = child.kill();
    let status = child.wait().map_err(failed)?;
    let Some(answer) = answer else {
        return Err(SqlError::TimedOut { database: name.into(), limit: limits.time });
    };
    match serde_json::from_slice::<Result<Table, Refusal>>(&answer) {
        Ok(Ok(table)) => Ok(table),
        Ok(Err(Refusal::File(source))) => Err(file(source)),
        Ok(Err(Refusal::Query(said))) => Err(SqlError::QueryRefused { database: name.into(), said }),
        Ok(Err(Refusal::TooLong)) => Err(SqlError::TooLong { database: name.into(), limit_bytes: ANSWER_BYTES_MAX }),
        Err(_) => Err(failed(io::Error::other(format!("it ended with {status} and no answer")))),
    }
}

fn not_there(path: &Path, error: io::Error) -> StateError {
    match error.kind() {
        io::ErrorKind::NotFound => StateError::Missing { path: path.into() },
        _ => StateError::io("look at", path, error),
    }
}

/// Runs as the child: reads an order from stdin, asks, writes the answer to stdout.
///
/// For `lastgood internal query`. Gives the exit status: 0 if an answer was written, be it an error.
pub fn worker_main() -> u8 {
    let mut text = Vec::new();
    let read = io::stdin().take(ORDER_BYTES_MAX).read_to_end(&mut text);
    let Ok(order) = read.map_err(serde_json::Error::io).and_then(|_| serde_json::from_slice::<Order>(&text)) else {
        return 2;
    };
    let answer = become_owner(&order).map_err(Refusal::File).and_then(|()| match order.act {
        Act::Ask => ask(&order),
        Act::Install => write(&order),
    });
    let mut out = io::BufWriter::new(io::stdout().lock());
    match serde_json::to_writer(&mut out, &answer).map_err(io::Error::from).and_then(|()| out.flush()) {
        Ok(()) => 0,
        Err(_) => 3,
    }
}

fn become_owner(order: &Order) -> Result<(), StateError> {
    drop_to(&order.owner)?;
    // After the change of owner, which clears it.
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    let parent = rustix::process::getppid().map_or(0, rustix::process::Pid::as_raw_pid);
    if parent != order.parent {
        return Err(StateError::WorkerDied { how: "its parent was gone before it began".into() });
    }
    let _ = rustix::thread::set_no_new_privs(true);
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    Ok(())
}

fn ask(order: &Order) -> Result<Table, Refusal> {
    let live = Live::begin(&order.path).map_err(Refusal::File)?;
    // Without this, ATTACH could make a file where a connection had to be writable for recovery.
    let _ = live.connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0);
    read(&live.connection, &order.sql, order.rows)
}

fn write(order: &Order) -> Result<Table, Refusal> {
    let refused = |error: rusqlite::Error| Refusal::Query(error.to_string());
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(&order.path, flags).map_err(refused)?;
    // The limit is the caller's: it kills us.
    connection.busy_timeout(Duration::from_secs(3_600)).map_err(refused)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(refused)?;
    connection.execute_batch(&format!("BEGIN IMMEDIATE;\n{}\nCOMMIT", order.sql)).map_err(refused)?;
    Ok(Table::default())
}

fn read(connection: &Connection, sql: &str, rows_max: u32) -> Result<Table, Refusal> {
    let refused = |error: rusqlite::Error| Refusal::Query(error.to_string());
    let mut statement = connection.prepare(sql).map_err(refused)?;
    if !statement.readonly() {
        return Err(Refusal::Query("it would write".into()));
    }
    let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let mut table = Table { columns, ..Table::default() };
    let mut bytes = 0;
    let mut rows = statement.query([]).map_err(refused)?;
    while let Some(row) = rows.next().map_err(refused)? {
        if table.rows.len() as u64 >= u64::from(rows_max) {
            table.more = true;
            break;
        }
        let mut values = Vec::with_capacity(table.columns.len());
        for column in 0..table.columns.len() {
            let value = row.get_ref(column).map_err(refused)?;
            bytes += size(value);
            if bytes > ANSWER_BYTES_MAX / 2 {
                return Err(Refusal::TooLong);
            }
            values.push(scalar(value));
        }
        table.rows.push(values);
    }
    Ok(table)
}

fn size(value: ValueRef<'_>) -> usize {
    match value {
        ValueRef::Text(text) => text.len() + 16,
        ValueRef::Blob(bytes) => 2 * bytes.len() + 16,
        _ => 32,
    }
}

fn scalar(value: ValueRef<'_>) -> Scalar {
    match value {
        ValueRef::Null => Scalar::Null,
        ValueRef::Integer(whole) => Scalar::Integer(whole),
        ValueRef::Real(number) if number.is_finite() => Scalar::Number(number),
        ValueRef::Real(number) => Scalar::Text(number.to_string()),
        ValueRef::Text(text) => Scalar::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => {
            let mut text = String::from("\\x");
            for byte in bytes {
                let _ = write!(text, "{byte:02x}");
            }
            Scalar::Text(text)
        }
    }
}
