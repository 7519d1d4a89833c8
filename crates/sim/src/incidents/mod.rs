//! Whole incidents: people who are away, enforcers that lie, commands that are killed, and checks from the records alone.
//!
//! What is decided, planned, run, enforced and paged is the domain's and the engine's own code, on chains in memory. Here are
//! people with a mind of their own, what lies outside, time, kills at every append and effect, and people who come in between
//! a decision and its append. After each transaction and each look of the daemon [`checks`] say what should not be.

mod acts;
mod checks;
mod crowd;
mod daemon;
mod hands;
mod leading;
mod outside;
mod post;
mod random;
mod services;
mod setting;
mod world;

pub use random::{Incidents, random_incidents};
