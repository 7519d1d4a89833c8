//! What gates ask: reports, programs, probes, queries, forges. Only positive proof passes; what can't be asked is
//! cannot-tell.

mod integrity;
mod report;

pub use integrity::{IntegrityError, Verified, verify};
