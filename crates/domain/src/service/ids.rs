//! Ids are given away once, also after a part of the log was lost.

use serde::{Deserialize, Serialize};

/// The ids that the next records take.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NextIds {
    /// Orders so far.
    pub order: u64,
    /// Runs so far.
    pub run: u64,
    /// Holds so far.
    pub hold: u64,
    /// Snapshots so far.
    pub snapshot: u64,
}

impl NextIds {
    /// Records that may have been written after the last signature: a minute's, several times as many as any run writes.
    const UNSIGNED_MAX: u64 = 1_000;

    /// Passes over every id that the records of an abandoned log may have given away: a snapshot, a restore's journal or a
    /// flag of that name may still be there. Each id took a record of its own.
    pub(super) fn pass_over(&mut self, abandoned: u64) {
        if abandoned > 0 {
            for id in [&mut self.order, &mut self.run, &mut self.hold, &mut self.snapshot] {
                *id = (*id).max(abandoned.saturating_add(Self::UNSIGNED_MAX));
            }
        }
    }
}
