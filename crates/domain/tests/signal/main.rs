//! What signals promise: verdicts follow from the numbers, what can't be told is never well, and each change is said once.

#![expect(clippy::unwrap_used, reason = "a test that can not go on has failed")]

mod changing;
mod judging;

use lastgood_domain::{
    signal::Sample,
    terms::{SignalName, Span, Timestamp},
};

pub(crate) const NOW: Timestamp = Timestamp(1_767_225_600_000);

pub(crate) fn name() -> SignalName {
    SignalName::new("outbox-drains").unwrap()
}

/// Samples a minute apart, the last of them now.
pub(crate) fn minutes(values: &[f64]) -> Vec<Sample> {
    let ago = |index: usize| Span::minutes((values.len() - 1 - index) as u64);
    let samples = values.iter().enumerate();
    samples.map(|(index, value)| Sample { at: Timestamp(NOW.0 - ago(index).0 as i64), value: *value }).collect()
}
