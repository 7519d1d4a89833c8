//! Touches: one folder per kind of thing outside, one file per driver. A driver decides nothing.
//!
//! Every act is a "make it so" call: doing it twice is the same as once, and it may be killed between any
//! two instructions and called again.

pub mod channel;
pub mod config_terms;
pub mod enforcer;
pub mod metric;
pub mod notice;
pub mod probe;
pub mod runtime;
pub mod state;
pub mod traffic;
