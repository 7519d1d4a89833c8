//! Drives: fold, step, append, do; schedule, recover, deliver, doctor.

pub mod drive;
pub mod letter;
pub mod log;
pub mod paths;
