//! Promises about data, kept with real files, real databases and real processes.

#![expect(clippy::unwrap_used, reason = "what the tests' own setting needs is there, or the test fails")]

mod clone;
mod hostile;
mod interrupted;
mod live;
mod loss;
mod property;
mod ready;
mod restore;
mod room;
mod snapshot;
mod so_far;
mod stage;
