//! Promises of the last layer, kept by real processes on real files, and proved against real faults.
#![expect(clippy::unwrap_used, reason = "a test that can't set up its world has failed")]

mod crashes;
mod delivery;
mod gate;
mod http;
mod instance;
mod load;
mod releases;
