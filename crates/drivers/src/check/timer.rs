//! Timers of systemd: on, not overdue, and the last run has ended well.
//!
//! systemd says of a job that runs just now that its result is "success", which is no result at all: it counts only
//! after the job has ended. It also forgets how a job ended when the machine starts anew; a marker remembers.

use super::{Sight, Wrong, cron::hour, marker};
use crate::{
    config_terms::Length,
    runtime::{
        RuntimeError,
        bus::{Bus, SERVICE, UNIT, Unit},
    },
};
use lastgood_domain::{
    failure::{Coded as _, Failure},
    terms::Span,
};
use rustix::time::ClockId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The interface of timer units.
const TIMER: &str = "org.freedesktop.systemd1.Timer";
/// What systemd writes for a time that never comes.
const NEVER: u64 = u64::MAX;

/// A timer of systemd and the job it starts.
///
/// ```toml
/// [preflight.backup]
/// timer = { unit = "backup.timer", age_max = "25h" }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TimerCheck {
    /// The timer, such as `backup.timer`.
    pub unit: String,
    /// How long ago the job may have succeeded last. Default: since the timer went off last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_max: Option<Length>,
    /// A file that the job touches after it has succeeded. It is asked while the job runs and after a start of the
    /// machine, when systemd doesn't know; needs `age_max`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub marker: Option<PathBuf>,
    /// How far the timer may be behind its own schedule. Default `1h`.
    #[serde(default = "hour")]
    pub grace: Length,
}

impl TimerCheck {
    /// Tells what no single key shows.
    pub fn problem(&self) -> Option<String> {
        if !self.unit.ends_with(".timer") {
            return Some(format!("{:?} is no timer, such as backup.timer", self.unit));
        }
        (self.marker.is_some() && self.age_max.is_none()).then(|| "a marker needs age_max".into())
    }

    pub(super) fn look(&self, sight: &Sight) -> Result<String, Wrong> {
        let seen = Seen::of(&self.unit).map_err(|error| {
            let failure = Failure::of(&error);
            let fix = error.hint().unwrap_or_else(|| format!("systemctl status {}", self.unit));
            Wrong::unknown("preflight-timer-unknown", failure.message, fix)
        })?;
        self.judge(&seen, sight)
    }

    fn judge(&self, seen: &Seen, sight: &Sight) -> Result<String, Wrong> {
        let (unit, job) = (&self.unit, &seen.job);
        if !seen.is_loaded {
            let what = format!("systemd has no {unit}");
            return Err(Wrong::fails("preflight-timer-missing", what, format!("systemctl cat {unit}")));
        }
        if seen.state != "active" {
            let what = format!("{unit} is {}, so it starts nothing", seen.state);
            return Err(Wrong::fails("preflight-timer-inactive", what, format!("systemctl enable --now {unit}")));
        }
        let logs = format!("journalctl -u {job}");
        if seen.result != "success" {
            let what = format!("{job} failed when it ran last: {}, exit status {}", seen.result, seen.exit);
            return Err(Wrong::fails("preflight-job-failed", what, logs));
        }
        if seen.overdue.is_some_and(|overdue| overdue > self.grace.0) || seen.is_over {
            let what = match seen.overdue {
                Some(overdue) => format!("{unit} is {overdue} behind its schedule"),
                None => format!("{unit} never goes off again"),
            };
            return Err(Wrong::fails("preflight-job-late", what, format!("systemctl list-timers {unit}")));
        }
        let now = u64::try_from(sight.now.as_microsecond()).unwrap_or(0);
        let ago = |at: u64| Span(now.saturating_sub(at) / 1_000);
        if seen.runs || seen.ended == 0 {
            return self.unsettled(seen, sight);
        }
        if seen.ended < seen.triggered {
            let what = format!(
                "{unit} went off {} ago, but {job} has not run since (it ended last {} ago)",
                ago(seen.triggered),
                ago(seen.ended)
            );
            return Err(Wrong::fails("preflight-job-late", what, format!("systemctl status {job}")));
        }
        if let Some(max) = self.age_max
            && ago(seen.ended) > max.0
        {
            let what = format!("{job} succeeded last {} ago, at most {} wanted", ago(seen.ended), max.0);
            return Err(Wrong::fails("preflight-job-late", what, logs));
        }
        Ok(format!("{job} succeeded {} ago", ago(seen.ended)))
    }

    /// Judges a job of which systemd doesn't know how it ended last.
    fn unsettled(&self, seen: &Seen, sight: &Sight) -> Result<String, Wrong> {
        let job = &seen.job;
        let why = match (seen.runs, seen.triggered) {
            (true, _) => format!("{job} runs just now"),
            (false, 0) => format!("{} has never gone off", self.unit),
            (false, _) => format!("{job} has not ended since the machine started"),
        };
        let Some((marker, max)) = self.marker.as_ref().zip(self.age_max) else {
            if seen.triggered == 0 && !seen.runs {
                return Err(Wrong::fails("preflight-job-never", why, format!("systemctl start {job}")));
            }
            let what = format!("{why}, so that its last success can't be told");
            return Err(Wrong::unknown("preflight-job-unknown", what, "give the check a marker, or ask again later"));
        };
        let age = marker::age(&sight.folder.join(marker), job, sight.now)?;
        if age > max.0 {
            let what = format!("{job} succeeded last {age} ago, at most {} wanted ({why})", max.0);
            return Err(Wrong::fails("preflight-job-late", what, format!("journalctl -u {job}")));
        }
        Ok(format!("{job} succeeded {age} ago; {why}"))
    }
}

/// What systemd says of a timer and its job. Times are microseconds since 1970; 0 is never.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    is_loaded: bool,
    state: String,
    job: String,
    /// When it went off last.
    triggered: u64,
    /// By how much the time it was to go off next has passed.
    overdue: Option<Span>,
    /// It has no next time, and its job doesn't run.
    is_over: bool,
    /// The job runs.
    runs: bool,
    /// When the job ended last.
    ended: u64,
    result: String,
    exit: i32,
}

impl Seen {
    fn of(timer: &str) -> Result<Self, RuntimeError> {
        let bus = Bus::connect(None)?;
        let unit = bus.load(timer)?;
        let text = |unit: &Unit, interface, name| bus.property::<String>(unit, interface, name);
        let number = |unit: &Unit, interface, name| bus.property::<u64>(unit, interface, name);
        let is_loaded = text(&unit, UNIT, "LoadState")? == "loaded";
        let mut seen = Self {
            is_loaded,
            state: text(&unit, UNIT, "ActiveState")?,
            job: String::new(),
            triggered: 0,
            overdue: None,
            is_over: false,
            runs: false,
            ended: 0,
            result: String::new(),
            exit: 0,
        };
        if !is_loaded {
            return Ok(seen);
        }
        seen.job = text(&unit, TIMER, "Unit")?;
        seen.triggered = number(&unit, TIMER, "LastTriggerUSec")?;
        let next_real = number(&unit, TIMER, "NextElapseUSecRealtime")?;
        let next_monotonic = number(&unit, TIMER, "NextElapseUSecMonotonic")?;
        let job = bus.load(&seen.job)?;
        // One that stays active after its end (`RemainAfterExit=`) has exited.
        seen.runs = match text(&job, UNIT, "ActiveState")?.as_str() {
            "active" => text(&job, UNIT, "SubState")? != "exited",
            state => matches!(state, "activating" | "deactivating" | "reloading"),
        };
        seen.is_over = text(&unit, UNIT, "SubState")? == "elapsed";
        let behind =
            |next: u64, now: u64| (next != 0 && next != NEVER && next < now).then(|| Span((now - next) / 1_000));
        if !seen.runs {
            let real = behind(next_real, microseconds(ClockId::Realtime));
            seen.overdue = real.or(behind(next_monotonic, microseconds(ClockId::Monotonic)));
        }
        seen.result = text(&job, SERVICE, "Result")?;
        seen.exit = bus.property::<i32>(&job, SERVICE, "ExecMainStatus")?;
        seen.ended = number(&job, SERVICE, "ExecMainExitTimestamp")?;
        Ok(seen)
    }
}

fn microseconds(clock: ClockId) -> u64 {
    let now = rustix::time::clock_gettime(clock);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000).saturating_add(u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000)
}
