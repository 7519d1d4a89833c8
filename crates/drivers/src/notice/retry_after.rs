//! `Retry-After`: seconds or a date, honoured in full.

use lastgood_domain::terms::{Span, Timestamp};

/// The three forms of a date in HTTP; the last two are obsolete and still sent.
const DATES: [&str; 3] = ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];

/// Reads the header's value, as of `now`; a date that has passed is no wait at all.
pub(super) fn parse(text: &str, now: Timestamp) -> Option<Span> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number beyond any range is a very long pause, not none.
        return Some(Span::seconds(text.parse().unwrap_or(u64::MAX)));
    }
    let at = DATES.iter().find_map(|form| jiff::civil::DateTime::strptime(form, text).ok())?;
    let at = at.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
    Some(Timestamp(at.as_millisecond()).since(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_every_form_of_date_are_read() {
        // Sun, 06 Nov 1994 08:48:37 UTC: one minute before the dates below.
        let now = Timestamp(784_111_717_000);
        for (text, seconds) in [
            ("120", 120),
            (" 0 ", 0),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 60),
            ("Sunday, 06-Nov-94 08:49:37 GMT", 60),
            ("Sun Nov  6 08:49:37 1994", 60),
            ("Sun, 06 Nov 1994 08:47:00 GMT", 0),
        ] {
            assert_eq!(parse(text, now), Some(Span::seconds(seconds)), "{text}");
        }
        assert_eq!(parse("99999999999999999999999", now), Some(Span(u64::MAX)));
        for nonsense in ["", "soon", "-5", "1.5", "Sun, 99 Nov 1994 08:49:37 GMT"] {
            assert_eq!(parse(nonsense, now), None, "{nonsense}");
        }
    }
}
