//! The two times of an X.509 certificate (RFC 5280, 4.1.2.5), read from its DER.

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

/// From when to when a certificate is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
}

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// Reads them; none if it is no certificate.
pub(super) fn validity(der: &[u8]) -> Option<Validity> {
    let (certificate, _) = value(der, SEQUENCE)?;
    let (mut fields, _) = value(certificate, SEQUENCE)?;
    if fields.first() == Some(&VERSION) {
        fields = value(fields, VERSION)?.1;
    }
    // Serial number, signature algorithm, issuer.
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        fields = value(fields, tag)?.1;
    }
    let (times, _) = value(fields, SEQUENCE)?;
    let (not_before, rest) = time(times)?;
    let (not_after, _) = time(rest)?;
    Some(Validity { not_before, not_after })
}

/// Takes a value with this tag off the front; gives its content and what comes behind.
fn value(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match *first {
        short @ 0..0x80 => (usize::from(short), rest),
        // A length of more than four bytes is no certificate's.
        long => {
            let count = usize::from(long & 0x7f);
            let digits = rest.get(..count).filter(|_| (1..=4).contains(&count))?;
            let length = digits.iter().fold(0_u64, |length, byte| length << 8 | u64::from(*byte));
            (usize::try_from(length).ok()?, &rest[count..])
        }
    };
    let content = rest.get(..length).filter(|_| *found == tag)?;
    Some((content, &rest[length..]))
}

fn time(der: &[u8]) -> Option<(Timestamp, &[u8])> {
    let tag = *der.first()?;
    let (content, rest) = value(der, tag)?;
    let text = std::str::from_utf8(content).ok()?.strip_suffix('Z')?;
    let text = match tag {
        // Two digits of a year are of 1950 to 2049.
        UTC_TIME if text.len() == 12 && text.is_ascii() => {
            format!("{}{text}", if text[..2].parse::<u8>().ok()? < 50 { "20" } else { "19" })
        }
        GENERALIZED_TIME if text.len() == 14 => text.to_owned(),
        _ => return None,
    };
    let time = DateTime::strptime("%Y%m%d%H%M%S", &text).ok()?;
    Some((TimeZone::UTC.to_timestamp(time).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, tag: u8) -> Option<String> {
        let der = [&[tag, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
        time(&der).map(|(time, _)| time.to_string())
    }

    #[test]
    fn both_forms_of_a_time_are_read_and_nothing_else() {
        assert_eq!(read("261126123456Z", UTC_TIME).as_deref(), Some("2026-11-26T12:34:56Z"));
        assert_eq!(read("500101000000Z", UTC_TIME).as_deref(), Some("1950-01-01T00:00:00Z"));
        assert_eq!(read("20500101000000Z", GENERALIZED_TIME).as_deref(), Some("2050-01-01T00:00:00Z"));
        for text in ["261126123456", "2611261234Z", "269926123456Z", "+61126123456Z"] {
            assert_eq!(read(text, UTC_TIME), None, "{text}");
        }
    }

    #[test]
    fn a_certificate_cut_anywhere_is_refused_and_never_a_panic() {
        let whole = [0x30, 0x82, 0x00, 0x02, 0x30, 0x00];
        for end in 0..=whole.len() {
            assert_eq!(validity(&whole[..end]), None);
        }
        assert_eq!(validity(&[0x30, 0x85, 1, 1, 1, 1, 1]), None);
        assert_eq!(validity(&[0x30, 0x80]), None);
    }
}
