//! Decides: terms, events and the step functions. No I/O, no clock, no dice.
//!
//! Nothing here can open a file, read a clock or draw a random number: the crate is `no_std`, so such a
//! call does not compile. Time and ids come in as arguments, which is what lets the simulator replay a
//! whole rollout from its log.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod alarm;
pub mod effect;
pub mod event;
pub mod evidence;
pub mod facts;
pub mod failure;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod gate;
pub mod guard;
pub mod notice;
pub mod operations;
pub mod proof;
pub mod provenance;
pub mod quiet;
pub mod rollout;
pub mod service;
pub mod signal;
pub mod switches;
pub mod terms;
pub mod totals;
pub mod traffic;
mod way_back;
pub mod words;
