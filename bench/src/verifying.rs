//! A million records verified: against one thread that only reads them, and in memory on one core.

use crate::{Bench, notebook::said, numbers::Rounds, say};
use lastgood_domain::{
    evidence::{ChainCheck, ChainId, Frontier, Head, RecordView, fold_subtree, leaf},
    terms::{ChainName, Digest, Timestamp},
};
use lastgood_store::{EVIDENCE_FILE, NewRecord, Reader, Store};
use rusqlite::Connection;
use std::{fs, hint::black_box, path::Path, time::Instant};

const RECORDS: usize = 1_000_000;
const RECORD_BYTES: usize = 256;
/// Leaves of the subtrees that are hashed at once, as `evidence verify` does.
const GROUP: usize = 256;
/// Records appended in one transaction while the file is filled.
const BATCH: usize = 10_000;

pub(crate) fn measure(bench: &Bench) -> Result<(), String> {
    from_sqlite(bench)?;
    in_memory(bench)
}

fn from_sqlite(bench: &Bench) -> Result<(), String> {
    let folder = bench.scratch.join("verify");
    fill(&folder)?;
    let reader = said(Reader::open(&folder))?;
    let bare = said(Connection::open(folder.join(EVIDENCE_FILE)))?;
    // Both find the file in the system's cache.
    said(read_only(&bare))?;
    let (mut floors, mut rates, mut ratios) = (Rounds::default(), Rounds::default(), Rounds::default());
    let (mut rows, mut row_ratios) = (Rounds::default(), Rounds::default());
    for _ in 0..bench.rounds {
        let began = Instant::now();
        let read = said(read_only(&bare))?;
        let floor = began.elapsed().as_secs_f64();
        let began = Instant::now();
        black_box(said(read_rows(&bare))?);
        let whole = began.elapsed().as_secs_f64();
        let began = Instant::now();
        let found = said(reader.verify(None, None))?;
        let took = began.elapsed().as_secs_f64();
        if !found.is_ok() || found.records as usize != RECORDS || read != RECORDS * RECORD_BYTES {
            return Err("a round did not see all records".into());
        }
        floors.add(millions(floor));
        rates.add(millions(took));
        ratios.add(floor / took);
        rows.add(millions(whole));
        row_ratios.add(whole / took);
    }
    say(&format!("\n1 million records of {RECORD_BYTES} bytes in SQLite, {} alternating rounds", bench.rounds));
    say("| what | min | median | max | unit |\n|---|---|---|---|---|");
    say(&floors.row("floor: one thread reads the payloads", "M records/s"));
    say(&rows.row("floor: one thread reads all columns of the rows", "M records/s"));
    say(&rates.row("lastgood: chain, leaves, Merkle tree and head verified", "M records/s"));
    say(&ratios.row("lastgood / reading the payloads", "x"));
    say(&row_ratios.row("lastgood / reading the rows", "x"));
    Ok(())
}

fn fill(folder: &Path) -> Result<(), String> {
    let chain = said(ChainName::new("service/notebook"))?;
    let mut store = said(Store::open(folder))?;
    let mut head = Head::EMPTY;
    for first in (0..RECORDS).step_by(BATCH) {
        let records: Vec<_> = (first..first + BATCH)
            .map(|number| NewRecord { at: Timestamp(number as i64), bytes: payload(number).to_vec() })
            .collect();
        head = said(store.append(&chain, &head, &records, &[]))?;
    }
    Ok(())
}

/// Reads every payload and sums the lengths.
fn read_only(bare: &Connection) -> rusqlite::Result<usize> {
    let mut select = bare.prepare_cached("SELECT bytes FROM record")?;
    let mut rows = select.query([])?;
    let mut sum = 0;
    while let Some(row) = rows.next()? {
        sum += row.get_ref(0)?.as_blob()?.len();
    }
    Ok(sum)
}

/// Reads every row whole, as whoever wants to check it must.
fn read_rows(bare: &Connection) -> rusqlite::Result<usize> {
    let mut select = bare.prepare_cached("SELECT seq, at, leaf, link, bytes FROM record ORDER BY chain, seq")?;
    let mut rows = select.query([])?;
    let mut sum = 0;
    while let Some(row) = rows.next()? {
        let (seq, at): (i64, i64) = (row.get(0)?, row.get(1)?);
        let (leaf, link): ([u8; 32], [u8; 32]) = (row.get(2)?, row.get(3)?);
        sum += row.get_ref(4)?.as_blob()?.len() + usize::from(leaf[0] ^ link[0]) + (seq ^ at) as usize;
    }
    Ok(sum)
}

fn in_memory(bench: &Bench) -> Result<(), String> {
    let name = said(ChainName::new("service/notebook"))?;
    let id = ChainId::of(&name);
    let mut payloads = Vec::with_capacity(RECORDS * RECORD_BYTES);
    let mut head = Head::EMPTY;
    let mut stored: Vec<(Digest, Digest)> = Vec::with_capacity(RECORDS);
    for number in 0..RECORDS {
        let payload = payload(number);
        let leaf = leaf(&payload);
        head = head.then(&id, Timestamp(number as i64), &leaf);
        stored.push((leaf, head.link));
        payloads.extend_from_slice(&payload);
    }
    let records = || {
        let (payloads, _) = payloads.as_chunks::<RECORD_BYTES>();
        payloads.iter().zip(&stored).enumerate().map(|(number, (bytes, (leaf, link)))| RecordView {
            seq: number as u64,
            at: Timestamp(number as i64),
            bytes,
            leaf: Some(*leaf),
            link: *link,
        })
    };
    let (mut chain_only, mut with_tree) = (Rounds::default(), Rounds::default());
    let mut leaves = Vec::with_capacity(RECORDS);
    for _ in 0..bench.rounds {
        leaves.clear();
        let busy = on_processor()?;
        let mut check = ChainCheck::new(&name);
        said(check.next_all(records(), &mut leaves))?;
        let chain = on_processor()? - busy;
        let mut tree = Frontier::default();
        let (groups, rest) = leaves.as_chunks::<GROUP>();
        for group in groups {
            let root = fold_subtree(group.to_vec()).ok_or("a group is no whole subtree")?;
            if !tree.append_subtree(GROUP.trailing_zeros(), root, |_, _, _| {}) {
                return Err("a group does not fit the tree".into());
            }
        }
        rest.iter().for_each(|leaf| tree.append(*leaf));
        black_box((check.head(), tree.root()));
        chain_only.add(millions(chain));
        with_tree.add(millions(on_processor()? - busy));
    }
    say(&format!("\n1 million records of {RECORD_BYTES} bytes in memory, one core, processor time"));
    say("| what | min | median | max | unit |\n|---|---|---|---|---|");
    say(&chain_only.row("payloads hashed, leaves and links checked", "M records/s"));
    say(&with_tree.row("the same, and the Merkle root", "M records/s"));
    Ok(())
}

fn payload(number: usize) -> [u8; RECORD_BYTES] {
    let mut bytes = [b'x'; RECORD_BYTES];
    bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
    bytes
}

fn millions(seconds: f64) -> f64 {
    RECORDS as f64 / seconds / 1e6
}

/// Gives this thread's seconds on a processor: the wall clock would count other people's work.
fn on_processor() -> Result<f64, String> {
    let text = said(fs::read_to_string("/proc/thread-self/schedstat"))?;
    let first = text.split(' ').next().and_then(|first| first.parse::<f64>().ok());
    first.map(|nanoseconds| nanoseconds / 1e9).ok_or_else(|| "the kernel keeps no times of threads".into())
}
