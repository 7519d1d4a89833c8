//! When to look for a new release: always a time yet to come.
//!
//! Arming or restarting never fires a missed run, so nothing is kept between runs of the daemon: the next
//! time is computed from now, and a run that was due while nobody drove is simply the next one.

use crate::config::{DrainConfig, Schedule};
use jiff::{Zoned, civil::Time, tz::TimeZone};
use lastgood_domain::terms::{Span, Timestamp};

/// Most often a channel may be asked.
const EVERY_MIN: Span = Span::minutes(1);

/// Tells what is wrong with a schedule, if anything is.
pub fn check(schedule: &Schedule) -> Result<(), String> {
    match (&schedule.at, schedule.every) {
        (Some(at), None) => time_of_day(at).map(drop),
        (None, Some(every)) if every.0 >= EVERY_MIN => Ok(()),
        (None, Some(every)) => Err(format!("every {} is more often than once in {EVERY_MIN}", every.0)),
        _ => Err("name either `at` or `every`".into()),
    }
}

/// Gives the next time strictly after `now`; `chance` (0 to 1) places it within the jitter.
///
/// A time of day that the clocks skip is taken at the first instant after the gap; one they repeat is taken once.
pub fn next(schedule: &Schedule, now: Timestamp, zone: &TimeZone, chance: f64) -> Option<Timestamp> {
    let jitter = Span((schedule.jitter.0.0 as f64 * chance.clamp(0.0, 1.0)) as u64);
    if let Some(every) = schedule.every {
        return Some(now.after(every.0).after(jitter));
    }
    let time = time_of_day(schedule.at.as_deref()?).ok()?;
    let here = jiff::Timestamp::from_millisecond(now.0).ok()?.to_zoned(zone.clone());
    let mut day = here.date();
    // Three days are enough to find one whose time is still to come, whatever the clocks do.
    for _ in 0..3 {
        let due: Zoned = day.to_datetime(time).to_zoned(zone.clone()).ok()?;
        let due = Timestamp(due.timestamp().as_millisecond());
        if due > now {
            return Some(due.after(jitter));
        }
        day = day.tomorrow().ok()?;
    }
    None
}

/// Tells what is wrong with a window, if anything is.
pub fn check_window(window: &DrainConfig) -> Result<(), String> {
    match (&window.from, &window.to) {
        (None, None) => Ok(()),
        (Some(from), Some(to)) => time_of_day(from).and(time_of_day(to)).map(drop),
        _ => Err("name both `from` and `to`, or neither".into()),
    }
}

/// Tells whether `now` lies in the window; one without limits is always open.
pub fn in_window(window: &DrainConfig, now: Timestamp, zone: &TimeZone) -> bool {
    let (Some(from), Some(to)) = (&window.from, &window.to) else { return true };
    let (Ok(from), Ok(to)) = (time_of_day(from), time_of_day(to)) else { return false };
    let Ok(here) = jiff::Timestamp::from_millisecond(now.0) else { return false };
    let time = here.to_zoned(zone.clone()).time();
    if from <= to { from <= time && time < to } else { time >= from || time < to }
}

fn time_of_day(text: &str) -> Result<Time, String> {
    let wrong = || format!("{text:?} is not a time of day such as 05:30");
    let (hour, minute) = text.split_once(':').ok_or_else(wrong)?;
    // A number's reader takes a sign for a digit.
    let two = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
    let number = |part: &str| if two(part) { part.parse().ok() } else { None };
    let (hour, minute) = (number(hour).ok_or_else(wrong)?, number(minute).ok_or_else(wrong)?);
    Time::new(hour, minute, 0, 0).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;
    use lastgood_drivers::config_terms::Length;

    fn at(text: &str, jitter_minutes: u64) -> Schedule {
        Schedule { at: Some(text.into()), every: None, jitter: Length(Span::minutes(jitter_minutes)) }
    }

    fn time(text: &str) -> Timestamp {
        Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
    }

    #[test]
    fn arming_after_the_time_waits_for_tomorrow() {
        let now = time("2026-03-01T05:30:00Z");
        assert_eq!(next(&at("05:30", 0), now, &TimeZone::UTC, 0.0), Some(time("2026-03-02T05:30:00Z")));
        let now = time("2026-03-01T05:29:59Z");
        assert_eq!(next(&at("05:30", 0), now, &TimeZone::UTC, 0.0), Some(time("2026-03-01T05:30:00Z")));
    }

    #[test]
    fn jitter_only_ever_delays() {
        let now = time("2026-03-01T00:00:00Z");
        assert_eq!(next(&at("05:30", 20), now, &TimeZone::UTC, 0.5), Some(time("2026-03-01T05:40:00Z")));
        assert_eq!(next(&at("05:30", 20), now, &TimeZone::UTC, 9.0), Some(time("2026-03-01T05:50:00Z")));
    }

    #[test]
    fn a_time_that_the_clocks_skip_still_comes_that_day() {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let now = time("2026-03-28T12:00:00Z");
        assert_eq!(next(&at("02:30", 0), now, &zone, 0.0), Some(time("2026-03-29T01:30:00Z")));
    }

    #[test]
    fn a_window_may_go_over_midnight() {
        let window = DrainConfig { from: Some("22:00".into()), to: Some("06:00".into()) };
        let open = |text: &str| in_window(&window, time(text), &TimeZone::UTC);
        assert!(open("2026-03-01T23:00:00Z"));
        assert!(open("2026-03-01T05:59:59Z"));
        assert!(!open("2026-03-01T06:00:00Z"));
        assert!(!open("2026-03-01T12:00:00Z"));
        assert!(in_window(&DrainConfig::default(), time("2026-03-01T12:00:00Z"), &TimeZone::UTC));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["5:30", "24:00", "05:60", "0530", "", "05:3x", "+5:30", "05:+3"] {
            assert!(check(&at(text, 0)).is_err(), "{text:?} was accepted");
        }
        let both = Schedule { every: Some(Length::seconds(60)), ..at("05:30", 0) };
        assert!(check(&both).is_err());
    }
}
