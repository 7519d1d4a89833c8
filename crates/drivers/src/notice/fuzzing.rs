//! A fuzz target for what endpoints answer.

use super::retry_after::parse;
use lastgood_domain::terms::{Span, Timestamp};
use std::str;

/// A number is that many seconds; a pause is asked of every time of asking, and of a later one no longer.
pub(crate) fn retry_after(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let (early, late) = (Timestamp(784_111_717_000), Timestamp(784_111_718_000));
    let found = parse(text, early);
    assert_eq!(found.is_some(), parse(text, late).is_some());
    assert!(parse(text, late) <= found, "a later try waits longer");
    if let Ok(seconds) = text.trim().parse::<u32>()
        && text.trim().bytes().all(|byte| byte.is_ascii_digit())
    {
        assert_eq!(found, Some(Span::seconds(u64::from(seconds))));
    }
}
