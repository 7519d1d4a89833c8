//! Touches: one folder per kind of thing outside, one file per driver. A driver decides nothing.
//!
//! Every act is a "make it so" call: doing it twice is the same as once, and it may be killed between any
//! two instructions and called again.

pub mod channel;
pub mod check;
pub mod config_terms;
pub mod credential;
pub mod enforcer;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod gate;
pub mod metric;
pub mod notice;
pub mod probe;
pub mod proof;
pub mod replace;
pub mod runtime;
pub mod signal;
pub mod sql;
pub mod state;
pub mod traffic;
