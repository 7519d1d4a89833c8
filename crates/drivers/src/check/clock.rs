//! The clock: what the kernel says of it, and what another machine's clock says.

use super::{Sight, Wrong, host, http};
use crate::config_terms::Length;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};
use zbus::blocking::{Proxy, connection::Builder};

/// Half of what a `Date` header leaves open: it has whole seconds.
const DATE_HALF_MS: i64 = 500;
/// Smallest difference that a `Date` header can tell from none.
const SKEW_MIN: Length = Length::seconds(2);

/// The clock of this machine. At least one of `kernel` and `url` is asked.
///
/// ```toml
/// [preflight.clock]
/// clock = { url = "https://example.com/", skew_max = "5s" }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClockCheck {
    /// Whether the kernel must say that its clock is disciplined (by NTP, as `timedatectl` shows). Default `true`.
    #[serde(default = "yes")]
    pub kernel: bool,
    /// A page whose `Date` header is compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// For `url`: the largest difference, at least `2s`. Default `5s`.
    #[serde(default = "five_seconds")]
    pub skew_max: Length,
    /// For `url`: certificates (PEM) to trust instead of the public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<std::path::PathBuf>,
}

const fn yes() -> bool {
    true
}

const fn five_seconds() -> Length {
    Length::seconds(5)
}

impl ClockCheck {
    /// Tells what no single key shows.
    pub fn problem(&self) -> Option<String> {
        if !self.kernel && self.url.is_none() {
            return Some("it asks nobody: leave kernel on, or give url".into());
        }
        if self.skew_max < SKEW_MIN {
            return Some("a Date header has whole seconds: skew_max is at least 2s".into());
        }
        self.url.as_ref().and_then(|url| http::url_problem(url))
    }

    pub(super) fn needs_network(&self) -> bool {
        self.url.as_ref().is_some_and(|url| !host::url_is_here(url))
    }

    pub(super) fn look(&self, sight: &Sight) -> Result<String, Wrong> {
        let mut seen = Vec::new();
        if self.kernel {
            kernel(sight)?;
            seen.push("the kernel's clock is disciplined".to_owned());
        }
        if let Some(url) = &self.url {
            seen.push(self.compare(url, sight)?);
        }
        Ok(seen.join("; "))
    }

    fn compare(&self, url: &str, sight: &Sight) -> Result<String, Wrong> {
        let unknown = |what: String| Wrong::unknown("preflight-clock-unknown", what, format!("curl -sI {url}"));
        let began = Instant::now();
        let sent = Timestamp::now();
        let answer = http::get(url, self.ca.as_deref(), &Default::default(), sight)?;
        let trip = i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX);
        let header = |name: &str| answer.header(name);
        let date = header("date").ok_or_else(|| unknown(format!("{url} says no time")))?;
        let theirs = jiff::fmt::rfc2822::parse(&date.replace("GMT", "+0000"))
            .map_err(|_| unknown(format!("{url} says a time that is none: {date:?}")))?
            .timestamp();
        // What a cache kept is older than it says.
        let kept = header("age").and_then(|age| age.trim().parse::<i64>().ok()).unwrap_or(0).saturating_mul(1_000);
        let skew = theirs.as_millisecond() + DATE_HALF_MS + kept - (sent.as_millisecond() + trip / 2);
        self.judge(skew, trip / 2 + DATE_HALF_MS, url)
    }

    /// Judges a difference in milliseconds that is known up to `doubt`.
    fn judge(&self, skew: i64, doubt: i64, url: &str) -> Result<String, Wrong> {
        let max = i64::try_from(self.skew_max.0.0).unwrap_or(i64::MAX);
        let said = format!(
            "the clocks of {url} and of this machine are {}.{} s apart",
            skew.abs() / 1_000,
            skew.abs() % 1_000 / 100
        );
        if skew.abs() - doubt > max {
            let what = format!("{said}, at most {} wanted", self.skew_max.0);
            return Err(Wrong::fails("preflight-clock-skewed", what, "timedatectl set-ntp true; timedatectl"));
        }
        if skew.abs() + doubt > max {
            let what =
                format!("{said}, give or take {doubt} ms: whether that is below {} can't be told", self.skew_max.0);
            return Err(Wrong::unknown("preflight-clock-unknown", what, format!("curl -sI {url}; date -u")));
        }
        Ok(said)
    }
}

/// Asks systemd's clock service, which asks the kernel (adjtimex), whoever disciplines the clock.
fn kernel(sight: &Sight) -> Result<(), Wrong> {
    let unknown = |why: zbus::Error| {
        let what = format!("whether the kernel's clock is disciplined can't be told: {why}");
        Wrong::unknown("preflight-clock-unknown", what, "timedatectl; without systemd: kernel = false and a url")
    };
    let left = sight.left().max(Duration::from_millis(100));
    let connection = Builder::system().and_then(|bus| bus.method_timeout(left).build()).map_err(unknown)?;
    let clock =
        Proxy::new(&connection, "org.freedesktop.timedate1", "/org/freedesktop/timedate1", "org.freedesktop.timedate1")
            .map_err(unknown)?;
    match clock.get_property::<bool>("NTPSynchronized").map_err(unknown)? {
        true => Ok(()),
        false => {
            let what = "the kernel says that nobody disciplines its clock";
            Err(Wrong::fails("preflight-clock-adrift", what, "timedatectl set-ntp true; timedatectl"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_that_is_known_too_roughly_is_never_a_pass() {
        let check = ClockCheck { kernel: false, url: None, skew_max: Length::seconds(5), ca: None };
        let judge = |skew| check.judge(skew, 600, "u").map_err(|wrong| (wrong.code, wrong.is_unknown));
        assert!(judge(4_400).is_ok() && judge(-4_400).is_ok());
        assert_eq!(judge(4_401), Err(("preflight-clock-unknown", true)));
        assert_eq!(judge(-5_600), Err(("preflight-clock-unknown", true)));
        assert_eq!(judge(5_601), Err(("preflight-clock-skewed", false)));
    }
}
