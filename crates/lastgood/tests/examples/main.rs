//! The examples of incidents as they are shipped: copied, set up by their own scripts with a PostgreSQL of their own, and
//! led from the declaration to the end at the real command line, at each level.
//!
//! `lead` is what every incident goes through, so that an example says only what is its own.
#![expect(clippy::unwrap_used, reason = "a test that can't go on says where it stopped")]

mod cloud_surface;
mod drill;
mod failing_cycle;
mod kit;
mod lead;
#[path = "../person/mod.rs"]
mod person;
