//! Signals: numbers read again and again, and whether they mean that something is wrong.
//!
//! A signal belongs to no service. Its verdict is one of three, and what can't be told is never well. Samples are not
//! evidence; a change of what stands is, with its numbers.

mod event;
mod fold;
mod judge;
mod words;

pub use event::{Event, Record};
pub use fold::{Firing, Signals, Standing, decide};
pub use judge::{Judged, Rule, Sample, State, judge, leading_failures};
pub use words::{notice, sentence};
