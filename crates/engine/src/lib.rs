//! Drives: fold, step, append, do; schedule, recover, deliver, doctor.

pub mod drive;
