//! Data a release may migrate: snapshot, clone, measure, restore.
//!
//! Two kinds of state, SQLite files and a folder, become one shape: roots with entries (`place.rs`, `scan.rs`).
//! [`snapshot()`] has a child process copy them as the data's owner (`worker.rs`) and gives the copy its name when it
//! is whole. [`clone()`] and [`restore()`] write from such a copy, never from live data. docs/design/data.md says why.

mod beneath;
mod clone;
mod copy;
mod error;
mod facts;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod intent;
mod left;
mod live;
mod loss;
mod manifest;
mod pages;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod pages_fuzzing;
mod place;
mod ready;
mod restore;
mod rows;
mod scan;
mod snapshot;
mod so_far;
mod space;
mod sqlite;
mod stop;
mod worker;

pub use clone::{clone, clone_to};
pub use error::{Cause, Holder, StateError};
pub use facts::{PlaceFacts, demand, facts};
pub use intent::restore_journal;
pub use left::{finish_begun, forget_done, refuse_begun};
pub(crate) use live::Live;
pub use loss::{LossReport, loss, loss_report};
pub use manifest::DatabaseFacts;
pub use place::{Data, Owner, Paths, StateConfig, StatePlace};
pub use ready::{discard_ready, lay_ready};
pub use restore::{NoSteps, RestoreContext, Steps, can_keep_aside, can_restore, has_room, is_where_taken, restore};
pub use snapshot::{
    Mode, Novelty, Recovery, SnapshotContext, adopt_aside, prune, snapshot, snapshot_facts, snapshot_folder,
};
pub use so_far::{loss_so_far, sweep_counts};
pub use sqlite::schema_digest;
pub(crate) use worker::drop_to;
pub use worker::worker_main;
