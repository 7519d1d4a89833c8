//! Remembers: the evidence chains, the folded state's cache, the outbox, checkpoints and the driver's lock.
//!
//! One SQLite file holds it all, so that a record, the head it moves and the notices it causes are one
//! transaction: after a kill all of them are there or none. It is the only SQL about ourselves. What is
//! rolled back must never include this file: evidence has another fate than what it tells about.

mod anchor;
mod append;
mod cache;
mod error;
mod export;
mod key;
mod lock;
mod open;
mod outbox;
mod private;
mod read;
mod schema;
mod sign;
mod tree;
mod verify;

pub use anchor::{Anchor, AnchorError};
pub use append::{
    Append, AppendError, BATCH_RECORDS_MAX, NOTICE_BODY_BYTES_MAX, NewNotice, NewRecord, RECORD_BYTES_MAX,
};
pub use error::StoreError;
pub use export::ProveError;
pub use key::{KEY_FILE, KeyError, Signer};
pub use lock::{DriverLock, HeldBy, LockError};
pub use open::{Reader, Store};
pub use outbox::{
    Attempt, Claimed, EndpointBacklog, MessageId, NoticeRow, NoticeState, OutboxError, Outcome, Settled, Settlement,
    retry_delay,
};
pub use private::open_private;
pub use read::{ChainInfo, ChangeMark, READ_RECORDS_MAX, Record};
pub use sign::SignError;
pub use verify::{Finding, Problem, Verification, VerifiedChain};

/// Name of the evidence file in the state folder.
pub const EVIDENCE_FILE: &str = "evidence.db";
