//! What a guard is told to judge by; stored with a run, so fields are only added, with defaults.

use crate::terms::Span;
use alloc::format;
use core::fmt;
use serde::{Deserialize, Serialize};

/// A part of requests, in millionths: errors are counted far below a percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rate(u32);

impl Rate {
    /// The whole, in millionths.
    const WHOLE: u32 = 1_000_000;

    /// Makes a rate of millionths; more than the whole is the whole.
    pub const fn millionths(count: u32) -> Self {
        Self(if count > Self::WHOLE { Self::WHOLE } else { count })
    }

    /// Gives it in millionths.
    pub const fn in_millionths(self) -> u32 {
        self.0
    }

    /// Makes a rate of whole percents; more than 100 are 100.
    pub const fn percent(percent: u8) -> Self {
        Self::millionths(percent as u32 * 10_000)
    }

    /// Gives the rate of `part` in `whole`, rounded up so that a rate of something is never nothing; zero of nothing.
    pub fn of(part: u64, whole: u64) -> Self {
        if whole == 0 {
            return Self(0);
        }
        let millionths = (u128::from(part) * u128::from(Self::WHOLE)).div_ceil(u128::from(whole));
        Self(u32::try_from(millionths).unwrap_or(Self::WHOLE).min(Self::WHOLE))
    }

    /// Gives it as a number from 0 to 1.
    pub(super) fn part(self) -> f64 {
        f64::from(self.0) / f64::from(Self::WHOLE)
    }
}

impl fmt::Display for Rate {
    /// Writes it as people say it: `24 %`, `2.1 %`, `0.31 %`, `under 0.01 %`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Hundredths of a percent, then as many digits as anybody reads.
        let text = match self.0 {
            0 => "0 %".into(),
            1..100 => "under 0.01 %".into(),
            100..100_000 => {
                let unit = if self.0 < 10_000 { 100 } else { 1_000 };
                let (digits, one) = ((self.0 + unit / 2) / unit, 10_000 / unit);
                match (digits / one, digits % one) {
                    (whole, 0) => format!("{whole} %"),
                    (whole, part) if one == 10 => format!("{whole}.{part} %"),
                    (whole, part) if part % 10 == 0 => format!("{whole}.{} %", part / 10),
                    (whole, part) => format!("{whole}.{part:02} %"),
                }
            }
            _ => format!("{} %", (self.0 + 5_000) / 10_000),
        };
        f.pad(&text)
    }
}

/// What a candidate is held to while it has a share of the traffic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GuardSettings {
    /// Highest rate of failed requests.
    pub error_rate_max: Rate,
    /// How long the rate must be above that.
    pub error_for: Span,
    /// Time that 95 of 100 requests must not exceed, to the first byte of the answer.
    pub p95_max: Span,
    /// How long the p95 must be above that.
    pub p95_for: Span,
    /// Whether times are judged. Where nobody measures them they could never speak for a release.
    #[serde(skip_serializing_if = "is_judged")]
    pub p95: bool,
    /// How much worse than last-good at the same time is still not worse, in percent: 150 is half as much again.
    ///
    /// It counts only from a quarter of `error_rate_max` on; below that no release is called worse than another.
    pub against_last_good_percent: u32,
    /// Whether the limits "above, for so long" are judged.
    pub sustained: bool,
    /// Whether a candidate that is plainly worse is found before `error_for` is over.
    pub early: bool,
    /// Chance that the early trip takes a release back that is no worse, over all stages of its rollout together.
    pub false_alarm: Rate,
    /// Chance that a release whose rate is at the limit shows enough evidence for health.
    pub doubt: Rate,
    /// How long a stage may be without an answer before the release goes back.
    pub deadline: Span,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over so")]
const fn is_judged(p95: &bool) -> bool {
    *p95
}

impl Default for GuardSettings {
    fn default() -> Self {
        Self {
            error_rate_max: Rate::percent(2),
            error_for: Span::minutes(3),
            p95_max: Span(1_500),
            p95_for: Span::minutes(3),
            p95: true,
            against_last_good_percent: 150,
            sustained: true,
            early: true,
            false_alarm: Rate::percent(1),
            doubt: Rate::percent(5),
            deadline: Span::minutes(30),
        }
    }
}

/// Tells why settings can't be judged by.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GuardSettingsError {
    /// A limit that nothing or everything is above.
    #[error("error_rate_max is {0}, it must be 0.01 % to 50 %")]
    ErrorRate(Rate),
    /// A limit below what is measured, or above.
    #[error("p95_max is {0}, it must be 1 ms to 10 min")]
    P95(Span),
    /// Too short for a minute's measure to repeat, or more than is kept.
    #[error("{name} is {span}, it must be 10 s to 1 h")]
    For {
        /// Which setting.
        name: &'static str,
        /// Its value.
        span: Span,
    },
    /// A candidate better than last-good would be called worse, or none ever.
    #[error("against_last_good is {0}, it must be 100 to 10000")]
    Against(u32),
    /// A chance that is none.
    #[error("{name} is {rate}, it must be 0.01 % to 20 %")]
    Chance {
        /// Which setting.
        name: &'static str,
        /// Its value.
        rate: Rate,
    },
    /// With neither, nothing could fail.
    #[error("sustained and early are both off: nothing could fail")]
    Nothing,
}

impl GuardSettings {
    /// Tells whether all of them are those that nobody has changed.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Checks that a guard can judge by them.
    ///
    /// Errors: [`GuardSettingsError`], the first thing found wrong.
    pub fn check(&self) -> Result<(), GuardSettingsError> {
        if !(Rate::millionths(100)..=Rate::percent(50)).contains(&self.error_rate_max) {
            return Err(GuardSettingsError::ErrorRate(self.error_rate_max));
        }
        if !(Span(1)..=Span::minutes(10)).contains(&self.p95_max) {
            return Err(GuardSettingsError::P95(self.p95_max));
        }
        for (name, span) in [("error_for", self.error_for), ("p95_for", self.p95_for)] {
            if !(Span::seconds(10)..=Span::minutes(60)).contains(&span) {
                return Err(GuardSettingsError::For { name, span });
            }
        }
        if !(100..=10_000).contains(&self.against_last_good_percent) {
            return Err(GuardSettingsError::Against(self.against_last_good_percent));
        }
        for (name, rate) in [("false_alarm", self.false_alarm), ("doubt", self.doubt)] {
            if !(Rate::millionths(100)..=Rate::percent(20)).contains(&rate) {
                return Err(GuardSettingsError::Chance { name, rate });
            }
        }
        if !self.sustained && !self.early {
            return Err(GuardSettingsError::Nothing);
        }
        Ok(())
    }

    /// Gives how many times last-good's rate a candidate's may be.
    pub(super) fn factor(&self) -> f64 {
        f64::from(self.against_last_good_percent.max(100)) / 100.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString as _;

    #[test]
    fn a_rate_is_said_as_people_say_it() {
        let said = [0, 1, 100, 3_100, 5_000, 9_999, 20_000, 21_400, 240_001, 1_000_000]
            .map(|count| Rate::millionths(count).to_string());
        assert_eq!(said, ["0 %", "under 0.01 %", "0.01 %", "0.31 %", "0.5 %", "1 %", "2 %", "2.1 %", "24 %", "100 %"]);
        assert_eq!(Rate::of(0, 0), Rate::default());
        assert_eq!(Rate::of(1, u64::MAX), Rate::millionths(1));
        assert_eq!(Rate::of(u64::MAX, 3), Rate::percent(100));
    }

    #[test]
    fn settings_that_could_not_be_judged_by_are_refused() {
        let with = |change: &dyn Fn(&mut GuardSettings)| {
            let mut settings = GuardSettings::default();
            change(&mut settings);
            settings.check().err().map(|error| error.to_string())
        };
        assert_eq!(with(&|_| {}), None);
        let said = [
            with(&|s| s.error_rate_max = Rate::default()),
            with(&|s| s.p95_max = Span::ZERO),
            with(&|s| s.p95_for = Span::minutes(61)),
            with(&|s| s.against_last_good_percent = 99),
            with(&|s| s.doubt = Rate::percent(21)),
            with(&|s| (s.early, s.sustained) = (false, false)),
        ];
        let expected = [
            "error_rate_max is 0 %, it must be 0.01 % to 50 %",
            "p95_max is 0 ms, it must be 1 ms to 10 min",
            "p95_for is 1 h 1 min, it must be 10 s to 1 h",
            "against_last_good is 99, it must be 100 to 10000",
            "doubt is 21 %, it must be 0.01 % to 20 %",
            "sustained and early are both off: nothing could fail",
        ];
        assert_eq!(said.map(|text| text.unwrap_or_default()), expected);
    }

    /// What a later version leaves out or adds must not make a stored run unreadable.
    #[test]
    fn settings_of_any_version_are_read_with_defaults() {
        let read: GuardSettings = serde_json::from_str(r#"{"error_rate_max":5000,"later":true}"#).unwrap();
        assert_eq!(read, GuardSettings { error_rate_max: Rate::millionths(5_000), ..GuardSettings::default() });
    }
}
