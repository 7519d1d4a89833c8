//! Pretends: a seeded world in which the engine's own loop runs whole rollouts, crashes and recovers.
//!
//! Nothing here decides. The real [`lastgood_engine::drive::Driver`] drives a machine that exists only in
//! memory: releases with hidden faults, data whose schema and rows are known exactly, users who write all
//! the time, a channel that misbehaves, and a driver or machine that dies between any two steps. After each
//! step the promises of docs/design are checked by code that shares nothing with the code that decides.

mod act;
mod chance;
pub mod guarding;
mod incidents;
mod invariants;
mod machine;
mod play;
mod random;
mod release;
mod say;
mod scenario;
mod shared;
mod world;

pub use incidents::{Incidents, random_incidents};
pub use machine::Crash;
pub use random::random;
pub use say::end_word;
pub use scenario::{Ending, Scenario, scenarios};
pub use shared::random::random_shared;

use lastgood_domain::event::Record;

/// What a world came to.
#[derive(Debug)]
pub struct Report {
    /// Promises that did not hold, in the order in which that was seen.
    pub violations: Vec<String>,
    /// The whole log.
    pub records: Vec<Record>,
    /// Moments at which a crash could have come.
    pub points: u64,
    /// Crashes that came.
    pub crashes: u32,
    /// Where everything stood at the end.
    pub ending: Ending,
}

impl Report {
    /// Gives the log as text, one line per record.
    pub fn text(&self) -> String {
        say::log(&self.records)
    }
}
