//! Evidence appended with its head and its notice, durably: against bare inserts of the same bytes.

use crate::{Bench, notebook::said, numbers::Rounds, say};
use lastgood_domain::{
    evidence::Head,
    terms::{ChainName, Timestamp},
};
use lastgood_store::{NewNotice, NewRecord, Store};
use rusqlite::{Connection, TransactionBehavior};
use std::{fs, path::Path, time::Instant};

/// An event of a rollout.
const RECORD_BYTES: usize = 256;
/// A CloudEvent as `lastgood` makes them.
const NOTICE_BYTES: usize = 480;
/// Commits of one turn; floor and lastgood take turns often, because a shared disk changes its mind within seconds.
const COMMITS: usize = 20;
/// Turns of each in one round.
const TURNS: usize = 10;
/// A service has a line of its own; five services on a machine are many.
const SUBJECTS: usize = 5;

pub(crate) fn measure(bench: &Bench) -> Result<(), String> {
    alternate(bench, 1)?;
    alternate(bench, 100)
}

fn alternate(bench: &Bench, batch: usize) -> Result<(), String> {
    let folder = bench.scratch.join(format!("append-{batch}"));
    let (mut bare, mut ours) = (Bare::open(&folder.join("bare"))?, Ours::open(&folder.join("ours"))?);
    let (mut floors, mut rates, mut ratios) = (Rounds::default(), Rounds::default(), Rounds::default());
    for _ in 0..bench.rounds {
        let (mut floor, mut took) = (0.0, 0.0);
        for turn in 0..TURNS {
            // Who comes first changes too: the second finds the disk's cache as the first left it.
            if turn % 2 == 0 {
                floor += bare.turn(batch)?;
                took += ours.turn(batch)?;
            } else {
                took += ours.turn(batch)?;
                floor += bare.turn(batch)?;
            }
        }
        let records = (batch * COMMITS * TURNS) as f64;
        floors.add(records / floor);
        rates.add(records / took);
        ratios.add(floor / took);
    }
    let (rounds, commits) = (bench.rounds, COMMITS * TURNS);
    say(&format!("\n{batch} records of {RECORD_BYTES} bytes per durable commit, {rounds} rounds of {commits} commits"));
    say("| what | min | median | max | unit |\n|---|---|---|---|---|");
    say(&floors.row("floor: bare inserts of record and notice", "records/s"));
    say(&rates.row("lastgood: record, link, tree, head and notice", "records/s"));
    say(&ratios.row("lastgood / floor", "x"));
    Ok(())
}

fn bytes(number: usize, length: usize) -> Vec<u8> {
    let mut bytes = vec![b'x'; length];
    bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
    bytes
}

/// Two plain tables with the settings of the evidence file, without indexes, hashes or order. A row has the bytes of ours:
/// a record its number, time, leaf, link and 256 bytes; a notice its id, record, endpoint, subject, kind, time and body.
/// What is ours alone: keys and indexes, the chain's head and tree, and the state of a delivery.
struct Bare {
    connection: Connection,
    count: usize,
}

impl Bare {
    fn open(folder: &Path) -> Result<Self, String> {
        said(fs::create_dir_all(folder))?;
        let connection = said(Connection::open(folder.join("bare.db")))?;
        said(connection.pragma_update(None, "journal_mode", "WAL"))?;
        said(connection.pragma_update(None, "synchronous", "FULL"))?;
        said(connection.execute_batch(
            "CREATE TABLE record (n INTEGER PRIMARY KEY, at INTEGER NOT NULL, leaf BLOB NOT NULL, link BLOB NOT NULL,
                                  bytes BLOB NOT NULL) STRICT;
             CREATE TABLE notice (n INTEGER PRIMARY KEY, message_id TEXT NOT NULL, record INTEGER NOT NULL,
                                  endpoint TEXT NOT NULL, subject TEXT NOT NULL, kind TEXT NOT NULL,
                                  at INTEGER NOT NULL, body BLOB NOT NULL) STRICT;",
        ))?;
        Ok(Self { connection, count: 0 })
    }

    /// Commits some batches; gives the seconds.
    fn turn(&mut self, batch: usize) -> Result<f64, String> {
        let began = Instant::now();
        for _ in 0..COMMITS {
            said(self.commit(batch))?;
        }
        Ok(began.elapsed().as_secs_f64())
    }

    fn commit(&mut self, batch: usize) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for _ in 0..batch {
            self.count += 1;
            let (number, hash) = (self.count as i64, [b'h'; 32]);
            transaction
                .prepare_cached("INSERT INTO record (at, leaf, link, bytes) VALUES (?1, ?2, ?3, ?4)")?
                .execute((number, hash, hash, bytes(self.count, RECORD_BYTES)))?;
            let NewNotice { endpoint, subject, kind, body, at } = notice(self.count);
            transaction
                .prepare_cached(
                    "INSERT INTO notice (message_id, record, endpoint, subject, kind, at, body)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                )?
                .execute((format!("msg_{number:032x}"), number, endpoint, subject, kind, at.0, body))?;
        }
        transaction.commit()
    }
}

/// The evidence file.
struct Ours {
    store: Store,
    chain: ChainName,
    head: Head,
    count: usize,
}

impl Ours {
    fn open(folder: &Path) -> Result<Self, String> {
        let chain = said(ChainName::new("service/notebook"))?;
        Ok(Self { store: said(Store::open(folder))?, chain, head: Head::EMPTY, count: 0 })
    }

    /// Commits some batches; gives the seconds.
    fn turn(&mut self, batch: usize) -> Result<f64, String> {
        let began = Instant::now();
        for _ in 0..COMMITS {
            let numbers = self.count..self.count + batch;
            let records: Vec<_> =
                numbers.clone().map(|n| NewRecord { at: Timestamp(n as i64), bytes: bytes(n, RECORD_BYTES) }).collect();
            let notices: Vec<_> = numbers.map(notice).collect();
            self.head = said(self.store.append(&self.chain, &self.head, &records, &notices))?;
            self.count += batch;
        }
        Ok(began.elapsed().as_secs_f64())
    }
}

fn notice(number: usize) -> NewNotice {
    NewNotice {
        endpoint: "ops".into(),
        subject: format!("service-{}", number % SUBJECTS),
        kind: "rolled-back".into(),
        body: bytes(number, NOTICE_BYTES),
        at: Timestamp(number as i64),
    }
}
