//! Shared traffic, whole: the program, its proxy, a chat service in two releases, and people who count what they lose.
#![expect(clippy::unwrap_used, reason = "a test that can't be set up has failed")]

mod boundaries;
mod counting;
mod degraded;
mod demo;
mod flips;
mod haproxy;
mod incident;
mod kit;
mod late;
mod measuring;
mod moving;
#[path = "../person/mod.rs"]
mod person;
mod proving;
mod stopping;
mod surviving;
mod switching;
