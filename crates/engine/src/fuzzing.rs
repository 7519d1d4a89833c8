//! Fuzz targets for the readers of this crate; see `cargo xtask fuzz`. Not a part of what is shipped.
//!
//! Each takes any bytes and panics if what it promises does not hold.

use crate::{
    config::{Config, ConfigError, Schedule},
    links::parse_ticket,
    schedule,
};
use jiff::tz::TimeZone;
use lastgood_domain::terms::{Span, Timestamp};
use lastgood_drivers::config_terms::Length;
use std::{path::Path, str};

/// A target: its name, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// Every target of this crate.
pub const TARGETS: &[Target] = &[("config", config), ("time_of_day", time_of_day), ("ticket", ticket)];

/// A configuration is taken or refused with a place in its text; what is taken is taken again.
pub fn config(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let (path, folder) = (Path::new("/none/lastgood.toml"), Path::new("/none"));
    match Config::parse(text, path, folder) {
        Ok(_) if text.starts_with('\u{feff}') => {}
        Ok(_) => assert!(Config::parse(&format!("# first\n{text}"), path, folder).is_ok()),
        Err(ConfigError::Wrong { line, column, .. }) => {
            assert!((1..=text.lines().count() + 1).contains(&line) && column >= 1, "line {line} of {text:?}");
        }
        Err(_) => {}
    }
}

/// A time of day is five characters, and comes within a day.
pub fn time_of_day(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let asked = Schedule { at: Some(text.into()), every: None, jitter: Length(Span::seconds(0)) };
    if schedule::check(&asked).is_err() {
        return;
    }
    let digits = |at: std::ops::Range<usize>| text.as_bytes()[at].iter().all(u8::is_ascii_digit);
    assert!(text.len() == 5 && digits(0..2) && digits(3..5), "{text:?} is taken for a time of day");
    let now = Timestamp(1_795_780_800_000);
    let next = schedule::next(&asked, now, &TimeZone::UTC, 0.0);
    assert!(next.is_some_and(|next| next > now && next.since(now) <= Span::seconds(86_400)), "{text:?}: {next:?}");
}

/// The last part of a link's address is written as it is read: no other spelling of it is one.
pub fn ticket(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let Some((approval, person, token)) = parse_ticket(text) else { return };
    let name = person.as_str().strip_prefix("person:").unwrap_or_default();
    assert_eq!(format!("{approval}.{name}.{token}"), text);
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_reader_of_the_engine_stands_its_seeds_and_what_is_made_of_them() {
        lastgood_seeds::stand(super::TARGETS);
    }
}
