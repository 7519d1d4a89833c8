//! Streams one chain through the checks: this thread reads rows, another hashes them.

use super::Problem;
use crate::{
    append::NODE_LEVELS,
    error::{StoreError, during},
};
use lastgood_domain::{
    evidence::{ChainCheck, ChainName, Frontier, Head, RecordView, leaf},
    terms::{Digest, Timestamp},
};
use rusqlite::{Connection, Row};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::mpsc,
    thread,
};

/// A batch is handed over at this many payload bytes or records: large enough that the hand-over costs nothing,
/// small enough to stay in the processor's cache.
const BATCH_BYTES: usize = 256 * 1024;
const BATCH_RECORDS: usize = 1_024;
/// Batches under way; memory stays below 2 MiB plus one largest record each.
const BATCHES: usize = 4;

/// What walking a chain has shown, up to its end or to the first break.
pub(super) struct Walk {
    pub(super) head: Head,
    pub(super) frontier: Frontier,
    /// Roots of full subtrees at the levels that are stored.
    pub(super) nodes: BTreeMap<(u32, u64), Digest>,
    /// Root and last link at each size that was asked for.
    pub(super) marks: BTreeMap<u64, (Digest, Digest)>,
    pub(super) broken: Option<(u64, Problem)>,
}

/// Rows as read, payloads in one buffer.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    rows: Vec<(u64, Timestamp, Digest, Digest, Range<usize>)>,
    /// Payloads' digests, as far as the reader computed them.
    leaves: Vec<Digest>,
}

/// Walks the chain with number `id`; `sizes` are those at which root and link are wanted.
pub(super) fn walk(
    connection: &Connection,
    id: i64,
    name: &ChainName,
    sizes: BTreeSet<u64>,
) -> Result<Walk, StoreError> {
    let failed = during("read records to verify them");
    let mut select = connection
        .prepare_cached("SELECT seq, at, leaf, link, bytes FROM record WHERE chain = ?1 ORDER BY seq")
        .map_err(&failed)?;
    let mut rows = select.query([id]).map_err(&failed)?;
    let (full_to, full_from) = mpsc::sync_channel::<Batch>(BATCHES);
    let (empty_to, empty_from) = mpsc::channel::<Batch>();
    thread::scope(|scope| {
        let hashing = scope.spawn(move || hash(name, &sizes, &full_from, &empty_to));
        let mut spare = BATCHES;
        let mut unreadable = None;
        let mut batch = Batch::default();
        let mut after_last = 0;
        loop {
            let row = match rows.next() {
                Ok(Some(row)) => row,
                Ok(None) => break,
                // A damaged page is a finding at this place, not a failed run.
                Err(wrong) => {
                    unreadable = Some((after_last, Problem::Unreadable(wrong.to_string())));
                    break;
                }
            };
            if let Err(wrong) = batch.push(row) {
                unreadable = Some((after_last, Problem::Unreadable(wrong.to_string())));
                break;
            }
            after_last = batch.rows.last().map_or(after_last, |row| row.0 + 1);
            if batch.bytes.len() >= BATCH_BYTES || batch.rows.len() >= BATCH_RECORDS {
                if !hand_over(std::mem::take(&mut batch), &full_to) {
                    break;
                }
                batch = if spare > 0 {
                    spare -= 1;
                    Batch::default()
                } else {
                    empty_from.recv().unwrap_or_default()
                };
            }
        }
        // Fails only if the hashing thread stopped at a break; then its word stands.
        let _ = full_to.send(batch);
        drop(full_to);
        let mut walk = hashing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        walk.broken = walk.broken.or(unreadable);
        Ok(walk)
    })
}

/// Hands a batch over. Where the reader would have to wait, it takes the largest part of the hashing off the
/// other's hands: with two cores both are busy to the end. `false` if nobody listens any more.
fn hand_over(batch: Batch, to: &mpsc::SyncSender<Batch>) -> bool {
    match to.try_send(batch) {
        Ok(()) => true,
        Err(mpsc::TrySendError::Disconnected(_)) => false,
        Err(mpsc::TrySendError::Full(mut batch)) => {
            let Batch { bytes, rows, leaves } = &mut batch;
            leaves.extend(rows.iter().map(|row| leaf(&bytes[row.4.clone()])));
            to.send(batch).is_ok()
        }
    }
}

impl Batch {
    fn push(&mut self, row: &Row<'_>) -> rusqlite::Result<()> {
        let seq: i64 = row.get(0)?;
        let seq = u64::try_from(seq).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(0, seq))?;
        let (leaf, link) = (row.get::<_, [u8; 32]>(2)?, row.get::<_, [u8; 32]>(3)?);
        let payload = row.get_ref(4)?.as_blob().map_err(|wrong| {
            rusqlite::Error::FromSqlConversionFailure(4, rusqlite::types::Type::Blob, Box::new(wrong))
        })?;
        let from = self.bytes.len();
        self.bytes.extend_from_slice(payload);
        self.rows.push((seq, Timestamp(row.get(1)?), Digest(leaf), Digest(link), from..self.bytes.len()));
        Ok(())
    }
}

fn hash(name: &ChainName, sizes: &BTreeSet<u64>, full: &mpsc::Receiver<Batch>, empty: &mpsc::Sender<Batch>) -> Walk {
    let mut check = ChainCheck::new(name);
    let mut walk = Walk {
        head: Head::EMPTY,
        frontier: Frontier::default(),
        nodes: BTreeMap::new(),
        marks: BTreeMap::new(),
        broken: None,
    };
    mark(&mut walk, sizes, &check);
    for mut batch in full {
        for (place, (seq, at, stored, link, range)) in batch.rows.drain(..).enumerate() {
            let view = RecordView { seq, at, bytes: &batch.bytes[range], leaf: Some(stored), link };
            let computed = batch.leaves.get(place).copied().unwrap_or_else(|| leaf(view.bytes));
            match check.next_hashed(&view, computed) {
                Ok(leaf) => {
                    let nodes = &mut walk.nodes;
                    walk.frontier.append_telling(leaf, |level, number, hash| {
                        if level % NODE_LEVELS == 0 {
                            nodes.insert((level, number), hash);
                        }
                    });
                    mark(&mut walk, sizes, &check);
                }
                Err(broken) => {
                    walk.head = *check.head();
                    walk.broken = Some((broken.seq(), broken.into()));
                    return walk;
                }
            }
        }
        batch.bytes.clear();
        batch.leaves.clear();
        // The reader may have ended already.
        let _ = empty.send(batch);
    }
    walk.head = *check.head();
    walk
}

fn mark(walk: &mut Walk, sizes: &BTreeSet<u64>, check: &ChainCheck) {
    let head = check.head();
    if sizes.contains(&head.size) {
        walk.marks.insert(head.size, (walk.frontier.root(), head.link));
    }
}
