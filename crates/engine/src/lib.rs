//! Drives: fold, step, append, do; schedule, recover, deliver, doctor.

pub mod alerts;
mod boundary;
pub mod config;
pub mod deliver;
pub mod desk;
pub mod doctor;
pub mod drive;
pub mod enforce;
pub mod expand;
pub mod fold;
pub mod letter;
pub mod log;
pub mod operations;
pub mod paths;
pub mod ports;
pub mod provenance;
pub mod schedule;
pub mod switches;
pub mod traffic;
pub mod world;
