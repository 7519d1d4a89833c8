//! When a line of cron was due last: five fields, or one of the words with an `@`.

use jiff::{
    Timestamp, ToSpan as _,
    civil::{Date, DateTime},
    tz::TimeZone,
};

/// Farthest look back, in days: a 29th of February comes at least every eight years.
const DAYS_MAX: i32 = 8 * 366;

/// The times of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Times {
    /// By the calendar.
    Calendar(Box<Calendar>),
    /// So many seconds after the last start; pg_cron knows that.
    Every(i64),
    /// Once after each start of the machine.
    Reboot,
}

/// What each field allows, one bit for each value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Calendar {
    minutes: u64,
    hours: u64,
    days: u64,
    /// `$` in pg_cron: the last day of a month.
    last_day: bool,
    months: u64,
    weekdays: u64,
    /// A field that starts with `*` asks nothing, so the other one of the two decides alone.
    any_day: bool,
    any_weekday: bool,
}

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

impl Times {
    /// Reads a schedule as cron and pg_cron write it.
    ///
    /// Errors: what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim().to_ascii_lowercase();
        let fields = match text.as_str() {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            "@reboot" => return Ok(Self::Reboot),
            other => other,
        };
        if let Some(count) = fields.strip_suffix("seconds").or_else(|| fields.strip_suffix("second")) {
            let seconds = count.trim().parse().ok().filter(|seconds| (1..=59).contains(seconds));
            return seconds.map(Self::Every).ok_or_else(|| format!("{text:?} is no schedule"));
        }
        let parts: Vec<&str> = fields.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = parts.as_slice() else {
            return Err(format!("{text:?} is no schedule of five fields"));
        };
        let last_day = *day == "$";
        Ok(Self::Calendar(Box::new(Calendar {
            minutes: field(minute, 0, 59, &[])?,
            hours: field(hour, 0, 23, &[])?,
            days: if last_day { 0 } else { field(day, 1, 31, &[])? },
            last_day,
            months: field(month, 1, 12, &MONTHS)?,
            // 7 is Sunday too.
            weekdays: match field(weekday, 0, 7, &WEEKDAYS)? {
                bits if bits & (1 << 7) != 0 => bits | 1,
                bits => bits,
            },
            any_day: day.starts_with('*'),
            any_weekday: weekday.starts_with('*'),
        })))
    }

    /// Gives when the job was due last at `now` or before; none if it has no such time.
    pub(super) fn last_before(&self, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Self::Calendar(calendar) => calendar.last_before(now, zone),
            Self::Every(seconds) => now.checked_sub(seconds.seconds()).ok(),
            Self::Reboot => None,
        }
    }
}

impl Calendar {
    fn last_before(&self, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let local = now.to_zoned(zone.clone()).datetime();
        let mut date = local.date();
        for _ in 0..DAYS_MAX {
            if self.has(date) {
                let mut due = None;
                for (hour, minute) in self.times() {
                    let at = DateTime::from_parts(date, jiff::civil::time(hour, minute, 0, 0));
                    // A time that the clocks skip comes after the gap; of one that comes twice the first counts.
                    let at = zone.to_ambiguous_timestamp(at).compatible().ok()?;
                    if at <= now && due.is_none_or(|due| due < at) {
                        due = Some(at);
                    }
                }
                if due.is_some() {
                    return due;
                }
            }
            date = date.yesterday().ok()?;
        }
        None
    }

    fn times(&self) -> impl Iterator<Item = (i8, i8)> + '_ {
        let bit = |bits: u64, at: i8| bits & (1 << at) != 0;
        let hours = (0..24).filter(move |hour| bit(self.hours, *hour));
        hours.flat_map(move |hour| (0..60).filter(move |minute| bit(self.minutes, *minute)).map(move |at| (hour, at)))
    }

    fn has(&self, date: Date) -> bool {
        if self.months & (1 << date.month()) == 0 {
            return false;
        }
        let day = self.days & (1 << date.day()) != 0 || self.last_day && date.day() == date.days_in_month();
        let weekday = self.weekdays & (1 << date.weekday().to_sunday_zero_offset()) != 0;
        match (self.any_day, self.any_weekday) {
            // Both are asked: cron runs the job when either fits.
            (false, false) => day || weekday,
            _ => day && weekday,
        }
    }
}

/// Reads one field: `*`, `5`, `1-5`, `*/10`, `mon-fri`, or a list of them.
fn field(text: &str, first: u32, last: u32, names: &[&str]) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no field of a schedule from {first} to {last}");
    let value = |text: &str| -> Result<u32, String> {
        let named = names.iter().position(|name| *name == text).and_then(|at| u32::try_from(at).ok());
        let digits = Some(text).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let number = named.map(|at| at + if last == 12 { 1 } else { 0 }).or_else(|| digits?.parse().ok());
        number.filter(|number| (first..=last).contains(number)).ok_or_else(wrong)
    };
    let mut bits = 0;
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) if step.starts_with(|c: char| c.is_ascii_digit()) => {
                (range, step.parse::<u32>().ok().filter(|step| *step > 0).ok_or_else(wrong)?)
            }
            Some(_) => return Err(wrong()),
            None => (part, 1),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (first, last),
            Some((from, to)) => (value(from)?, value(to)?),
            // `5/10` is from 5 on.
            None if part.contains('/') => (value(range)?, last),
            None => (value(range)?, value(range)?),
        };
        if from > to {
            return Err(wrong());
        }
        for at in (from..=to).step_by(usize::try_from(step).unwrap_or(1)) {
            bits |= 1 << at;
        }
    }
    Ok(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last(schedule: &str, now: &str) -> String {
        let zone = TimeZone::get("Europe/Vienna").unwrap();
        let now: Timestamp = now.parse().unwrap();
        let due = Times::parse(schedule).unwrap().last_before(now, &zone);
        due.map_or("never".into(), |due| due.to_string())
    }

    #[test]
    fn the_last_time_a_job_was_due_is_found_in_its_own_time_zone() {
        // 2026-11-26 is a Thursday; Vienna is one hour ahead.
        let now = "2026-11-26T12:34:56Z";
        assert_eq!(last("* * * * *", now), "2026-11-26T12:34:00Z");
        assert_eq!(last("34 13 * * *", now), "2026-11-26T12:34:00Z");
        assert_eq!(last("35 13 * * *", now), "2026-11-25T12:35:00Z");
        assert_eq!(last("*/20 * * * *", now), "2026-11-26T12:20:00Z");
        assert_eq!(last("10/20 * * * *", now), "2026-11-26T12:30:00Z");
        assert_eq!(last("0 3 * * mon-fri", now), "2026-11-26T02:00:00Z");
        assert_eq!(last("0 3 * * 7", now), "2026-11-22T02:00:00Z");
        assert_eq!(last("0 3 * * 0,6", now), "2026-11-22T02:00:00Z");
        assert_eq!(last("0 0 29 feb *", now), "2024-02-28T23:00:00Z");
        assert_eq!(last("@monthly", now), "2026-10-31T23:00:00Z");
        assert_eq!(last("0 0 $ * *", now), "2026-10-30T23:00:00Z");
        assert_eq!(last("30 seconds", now), "2026-11-26T12:34:26Z");
        assert_eq!(last("@reboot", now), "never");
        assert_eq!(last("0 0 31 2 *", now), "never");
    }

    #[test]
    fn where_day_and_weekday_are_both_asked_either_is_enough() {
        assert_eq!(last("0 12 1 * thu", "2026-11-26T12:00:00Z"), "2026-11-26T11:00:00Z");
        assert_eq!(last("0 12 25 * mon", "2026-11-26T12:00:00Z"), "2026-11-25T11:00:00Z");
        // A step on `*` still asks nothing alone, as in cron.
        assert_eq!(last("0 12 */2 * mon", "2026-11-26T12:00:00Z"), "2026-11-23T11:00:00Z");
    }

    #[test]
    fn a_time_that_the_clocks_skip_or_repeat_comes_once() {
        // On 2026-03-29 the hour from 02:00 is left out in Vienna; on 2026-10-25 it comes twice.
        assert_eq!(last("30 2 * * *", "2026-03-29T12:00:00Z"), "2026-03-29T01:30:00Z");
        assert_eq!(last("30 2 * * *", "2026-10-25T12:00:00Z"), "2026-10-25T00:30:00Z");
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        for text in [
            "",
            "* * * *",
            "60 * * * *",
            "* * 0 * *",
            "+5 * * * *",
            "*/+5 * * * *",
            "5-1 * * * *",
            "*/0 * * * *",
            "x * * * *",
            "0 seconds",
        ] {
            assert!(Times::parse(text).is_err(), "{text:?}");
        }
    }
}
