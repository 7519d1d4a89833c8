//! Fuzz targets for what checks read.

use super::{
    certificate::validity,
    cron_times::{Calendar, Times},
};
use jiff::{Timestamp, ToSpan as _, tz::TimeZone};
use std::str;

/// A schedule that is taken has no character that cron's have not; its last time is no later than now, and the same again
/// when it is asked at that time.
pub(crate) fn cron_times(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let Ok(times) = Times::parse(text) else { return };
    let known = |c: char| c.is_ascii_alphanumeric() || c.is_whitespace() || "*/,-@$".contains(c);
    assert!(text.chars().all(known), "{text:?} is taken for a schedule");
    // 2026-11-27 12:00 UTC.
    let now = Timestamp::from_second(1_795_780_800).unwrap_or_default();
    let Some(due) = times.last_before(now, &TimeZone::UTC) else { return };
    assert!(due <= now);
    if let Times::Calendar(calendar) = times {
        let again = |calendar: Box<Calendar>| Times::Calendar(calendar).last_before(due, &TimeZone::UTC);
        assert_eq!(again(calendar.clone()), Some(due));
        let before = Times::Calendar(calendar).last_before(due - 1.second(), &TimeZone::UTC);
        assert!(before.is_none_or(|before| before < due));
    }
}

/// What stands behind a certificate changes nothing, and a cut one has no other times than the whole one.
pub(crate) fn certificate(der: &[u8]) {
    let whole = validity(der);
    if let Some(times) = whole {
        assert_eq!(validity(&[der, b"more"].concat()), Some(times));
        assert!((0..der.len()).all(|end| validity(&der[..end]).is_none_or(|other| other == times)));
    }
}
