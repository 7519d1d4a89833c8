//! When a failed message is tried again: pure, the dice come from the caller.

use lastgood_domain::terms::Span;

/// Waits after the first, second, … failed attempt: 10 attempts over 75 h 35 min, as Standard Webhooks suggests.
/// A receiver that is down over a weekend still gets its messages.
const DELAYS: [Span; 9] = [
    Span::seconds(5),
    Span::minutes(5),
    Span::minutes(30),
    Span::minutes(2 * 60),
    Span::minutes(5 * 60),
    Span::minutes(10 * 60),
    Span::minutes(14 * 60),
    Span::minutes(20 * 60),
    Span::minutes(24 * 60),
];
/// Each wait is drawn from 90 to 110 %, so that a receiver's return is not met by all messages at once.
const JITTER_PERCENT: u64 = 10;
/// A receiver that asks for a longer pause than this is not taken at its word for years: the message is dead, visibly.
const RETRY_AFTER_MAX: Span = Span::minutes(7 * 24 * 60);

/// Gives how long to wait after the `failed`th failed attempt (from 1), or `None` when no attempt is left.
///
/// `retry_after` is what the receiver asked for and is honoured in full: never sooner. `jitter` is any random number.
pub fn retry_delay(failed: u32, retry_after: Option<Span>, jitter: u32) -> Option<Span> {
    let base = DELAYS.get(usize::try_from(failed.checked_sub(1)?).ok()?)?;
    if retry_after.is_some_and(|asked| asked > RETRY_AFTER_MAX) {
        return None;
    }
    let swing = base.0 * 2 * JITTER_PERCENT / 100;
    let own = base.0 - swing / 2 + swing * u64::from(jitter) / u64::from(u32::MAX);
    Some(Span(own.max(retry_after.unwrap_or(Span::ZERO).0)))
}
