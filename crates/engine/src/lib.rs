//! Drives: fold, step, append, do; schedule, recover, deliver, doctor.

pub mod alerts;
pub mod bell;
mod boundary;
pub mod config;
pub mod credentials;
pub mod deliver;
pub mod desk;
pub mod doctor;
pub mod doubt;
pub mod drive;
pub mod enforce;
pub mod expand;
pub mod fold;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod incident;
pub mod letter;
pub mod links;
pub mod log;
pub mod operations;
pub mod paths;
pub mod ports;
pub mod preflight;
pub mod provenance;
pub mod room;
pub mod schedule;
pub mod setup;
pub mod signals;
pub mod switches;
pub mod traffic;
pub mod watched;
pub mod world;
