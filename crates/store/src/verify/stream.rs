//! Streams one chain through the checks: this thread reads rows, another hashes them, and whoever has nothing to
//! do hashes.
//!
//! A batch is checked by itself: it begins behind the link that is stored before it. Only when the batches come
//! together, in order, is it shown that this was the link at which the batch before ended.

use super::Problem;
use crate::{
    append::NODE_LEVELS,
    error::{StoreError, during},
};
use lastgood_domain::{
    evidence::{ChainBreak, ChainCheck, ChainName, Frontier, Head, RecordView, fold_subtree},
    terms::{Digest, Timestamp},
};
use rusqlite::{Connection, Row};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::mpsc,
    thread,
};

/// Leaves of the lowest subtree that is stored.
const GROUP: usize = 1 << NODE_LEVELS;
/// A batch is handed over at this many payload bytes or records: large enough that the hand-over costs nothing,
/// small enough to stay in the processor's cache, and whole subtrees where records are small.
const BATCH_BYTES: usize = 512 * 1024;
const BATCH_RECORDS: usize = 4 * GROUP;
/// Batches under way; memory stays below 3 MiB plus one largest record each.
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
    /// The head before it, as far as the row before it tells.
    before: Option<Head>,
    bytes: Vec<u8>,
    rows: Vec<Stored>,
}

struct Stored {
    seq: u64,
    at: Timestamp,
    leaf: Digest,
    link: Digest,
    payload: Range<usize>,
}

/// A batch whose payloads were hashed and whose links follow from one another.
struct Checked {
    before: Head,
    after: Head,
    leaves: Vec<Digest>,
    /// Roots over each [`GROUP`] of the leaves.
    groups: Vec<Digest>,
    broken: Option<ChainBreak>,
    /// The buffers, to be used again.
    batch: Batch,
}

enum Work {
    Read(Batch),
    Checked(Checked),
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
    let (full_to, full_from) = mpsc::sync_channel::<Work>(BATCHES);
    let (empty_to, empty_from) = mpsc::channel::<Batch>();
    thread::scope(|scope| {
        let hashing = scope.spawn(move || gather(name, &sizes, &full_from, &empty_to));
        let mut spare = BATCHES;
        let mut unreadable = None;
        let mut batch = Batch { before: Some(Head::EMPTY), ..Batch::default() };
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
            after_last = batch.rows.last().map_or(after_last, |row| row.seq.saturating_add(1));
            if batch.bytes.len() >= BATCH_BYTES || batch.rows.len() >= BATCH_RECORDS {
                let before = batch.rows.last().map(|row| Head { size: after_last, link: row.link });
                if !hand_over(name, batch, &full_to) {
                    batch = Batch::default();
                    break;
                }
                batch = if spare > 0 {
                    spare -= 1;
                    Batch::default()
                } else {
                    empty_from.recv().unwrap_or_default()
                };
                batch.before = before;
            }
        }
        // Fails only if the hashing thread stopped at a break; then its word stands.
        let _ = full_to.send(Work::Read(batch));
        drop(full_to);
        let mut walk = hashing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        walk.broken = walk.broken.or(unreadable);
        Ok(walk)
    })
}

/// Hands a batch over. Where the reader would have to wait, it checks the batch itself: with two cores both are busy
/// to the end. `false` if nobody listens any more.
fn hand_over(name: &ChainName, batch: Batch, to: &mpsc::SyncSender<Work>) -> bool {
    match to.try_send(Work::Read(batch)) {
        Ok(()) => true,
        Err(mpsc::TrySendError::Full(Work::Read(batch))) => to.send(Work::Checked(batch.check(name))).is_ok(),
        Err(_) => false,
    }
}

impl Batch {
    fn push(&mut self, row: &Row<'_>) -> rusqlite::Result<()> {
        let seq: i64 = row.get(0)?;
        let seq = u64::try_from(seq).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(0, seq))?;
        let (leaf, link) = (Digest(row.get(2)?), Digest(row.get(3)?));
        let payload = row.get_ref(4)?.as_blob().map_err(|wrong| {
            rusqlite::Error::FromSqlConversionFailure(4, rusqlite::types::Type::Blob, Box::new(wrong))
        })?;
        let from = self.bytes.len();
        let at = Timestamp(row.get(1)?);
        self.bytes.extend_from_slice(payload);
        self.rows.push(Stored { seq, at, leaf, link, payload: from..self.bytes.len() });
        Ok(())
    }

    /// Hashes every payload and checks every link from the head before it on.
    fn check(self, name: &ChainName) -> Checked {
        let before = self.before.unwrap_or(Head::EMPTY);
        let mut check = ChainCheck::from(name, before);
        let mut leaves = Vec::with_capacity(self.rows.len());
        let views = self.rows.iter().map(|row| RecordView {
            seq: row.seq,
            at: row.at,
            bytes: &self.bytes[row.payload.clone()],
            leaf: Some(row.leaf),
            link: row.link,
        });
        let broken = check.next_all(views, &mut leaves).err();
        let whole = before.size.is_multiple_of(GROUP as u64);
        let groups = if whole { leaves.as_chunks::<GROUP>().0 } else { &[] };
        let groups = groups.iter().filter_map(|group| fold_subtree(group.to_vec())).collect();
        Checked { before, after: *check.head(), leaves, groups, broken, batch: self }
    }
}

/// Puts the batches together in order, checking those that the reader has not.
fn gather(name: &ChainName, sizes: &BTreeSet<u64>, full: &mpsc::Receiver<Work>, empty: &mpsc::Sender<Batch>) -> Walk {
    let mut walk = Walk {
        head: Head::EMPTY,
        frontier: Frontier::default(),
        nodes: BTreeMap::new(),
        marks: BTreeMap::new(),
        broken: None,
    };
    walk.mark(sizes, None);
    for work in full {
        let checked = match work {
            Work::Read(batch) => batch.check(name),
            Work::Checked(checked) => checked,
        };
        let broken = walk.take(&checked, sizes);
        if let Some(broken) = broken {
            walk.broken = Some((broken.seq(), broken.into()));
            return walk;
        }
        let mut batch = checked.batch;
        batch.bytes.clear();
        batch.rows.clear();
        // The reader may have ended already.
        let _ = empty.send(batch);
    }
    walk
}

impl Walk {
    /// Takes what one batch has shown, up to its break if it has one.
    fn take(&mut self, checked: &Checked, sizes: &BTreeSet<u64>) -> Option<ChainBreak> {
        if checked.before != self.head {
            // Not possible while batches are cut and checked as above; said rather than believed.
            return Some(ChainBreak::LinkBroken { seq: self.head.size });
        }
        let mut folded = checked.groups.iter();
        for group in checked.leaves.chunks(GROUP) {
            let end = self.frontier.size() + group.len() as u64;
            let root = folded.next().filter(|_| sizes.range(self.frontier.size() + 1..end).next().is_none());
            let nodes = &mut self.nodes;
            let keep = |level: u32, number, hash| {
                if level.is_multiple_of(NODE_LEVELS) {
                    nodes.insert((level, number), hash);
                }
            };
            if !root.is_some_and(|root| self.frontier.append_subtree(NODE_LEVELS, *root, keep)) {
                self.take_leaves(group, checked, sizes);
            }
            self.mark(sizes, Some(checked));
        }
        self.head = checked.after;
        checked.broken.clone()
    }

    /// Takes leaves one by one: a root is wanted in between, or they are no whole subtree.
    fn take_leaves(&mut self, leaves: &[Digest], checked: &Checked, sizes: &BTreeSet<u64>) {
        for leaf in leaves {
            let nodes = &mut self.nodes;
            self.frontier.append_telling(*leaf, |level, number, hash| {
                if level.is_multiple_of(NODE_LEVELS) {
                    nodes.insert((level, number), hash);
                }
            });
            self.mark(sizes, Some(checked));
        }
    }

    /// Notes root and last link if they are wanted at this size; `checked` has the link, which was checked.
    fn mark(&mut self, sizes: &BTreeSet<u64>, checked: Option<&Checked>) {
        let size = self.frontier.size();
        if sizes.contains(&size) {
            let last = checked.and_then(|checked| {
                let place = usize::try_from(size - checked.before.size).ok()?.checked_sub(1)?;
                checked.batch.rows.get(place).map(|row| row.link)
            });
            self.marks.insert(size, (self.frontier.root(), last.unwrap_or(Head::EMPTY.link)));
        }
    }
}
