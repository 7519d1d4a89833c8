//! Drives: fold, step, append, do; schedule, recover, deliver, doctor.

pub mod alerts;
pub mod deliver;
pub mod drive;
pub mod letter;
pub mod log;
pub mod paths;
