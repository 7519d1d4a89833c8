//! Jobs of cron: the line stands, cron takes it, the daemon runs, and the job has succeeded since it was due last.

use super::{Sight, Wrong, cron_times::Times, marker};
use crate::config_terms::Length;
use jiff::tz::TimeZone;
use lastgood_domain::{terms::Span, words};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// The folder whose files cron takes only if they are root's, closed to others, and named without a dot.
const CRON_D: &str = "/etc/cron.d";
/// Names that cron daemons go by.
const DAEMONS: [&str; 4] = ["cron", "crond", "fcron", "busybox-cron"];

/// A job of cron. Cron keeps no record of how a job ended, so the job touches a marker as its last act.
///
/// ```toml
/// [preflight.backup]
/// cron = { file = "/etc/cron.d/backup", command = "backup-notes", marker = "/var/lib/backup/succeeded" }
/// ```
///
/// with the line `30 2 * * * root backup-notes && touch /var/lib/backup/succeeded` in that file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CronCheck {
    /// The file with the job's line: `/etc/crontab`, one of `/etc/cron.d`, or a user's below `/var/spool/cron`.
    pub file: PathBuf,
    /// A part of the line's command that no other line has.
    pub command: String,
    /// The file that the job touches after it has succeeded.
    pub marker: PathBuf,
    /// How old the marker may be. Default: it is newer than the last time the job was due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_max: Option<Length>,
    /// How long the job may take: a run that was due later than that is not awaited yet. Default `1h`.
    #[serde(default = "hour")]
    pub grace: Length,
}

pub(super) const fn hour() -> Length {
    Length::seconds(3_600)
}

impl CronCheck {
    /// Tells what no single key shows.
    pub fn problem(&self) -> Option<String> {
        self.command.trim().is_empty().then(|| "command is empty, so every line would be it".into())
    }

    pub(super) fn look(&self, sight: &Sight) -> Result<String, Wrong> {
        let file = sight.folder.join(&self.file);
        let line = self.line(&file)?;
        taken(&file)?;
        if !daemon_runs() {
            let what = "cron does not run, so no job of it is started";
            return Err(Wrong::fails("preflight-cron-daemon", what, "systemctl enable --now cron"));
        }
        let age = marker::age(&sight.folder.join(&self.marker), &self.command, sight.now)?;
        let run_by_hand = format!("see how it ended: journalctl -t CRON; run it by hand: {}", self.command);
        if let Some(max) = self.age_max {
            return match age > max.0 {
                true => {
                    let what = format!("{} succeeded last {age} ago, at most {} wanted", self.command, max.0);
                    Err(Wrong::fails("preflight-job-late", what, run_by_hand))
                }
                false => Ok(format!("{} succeeded {age} ago", self.command)),
            };
        }
        let settled = sight.now.checked_sub(self.grace.duration()).unwrap_or(sight.now);
        let Some(due) = line.times.last_before(settled, &line.zone) else {
            let what = format!("when {} was due last can't be told from its schedule", self.command);
            return Err(Wrong::unknown("preflight-job-unknown", what, "age_max = \"25h\" in the check"));
        };
        let since_due = Span(u64::try_from(sight.now.as_millisecond() - due.as_millisecond()).unwrap_or(0));
        if age > since_due {
            let what = format!("{} succeeded last {age} ago, but was due {since_due} ago", self.command);
            return Err(Wrong::fails("preflight-job-late", what, run_by_hand));
        }
        Ok(format!("{} succeeded {age} ago, due {since_due} ago", self.command))
    }

    fn line(&self, file: &Path) -> Result<Line, Wrong> {
        let shown = file.display();
        let text = fs::read_to_string(file).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                Wrong::fails("preflight-cron-missing", format!("{shown} is not there"), format!("ls -l {shown}"))
            }
            _ => {
                let what = format!("{shown} can't be read: {error}");
                Wrong::unknown("preflight-job-unknown", what, format!("ls -l {shown}"))
            }
        })?;
        let mut zone = TimeZone::system();
        let mut disabled = false;
        for line in text.lines().map(str::trim) {
            if let Some(name) = line.strip_prefix("CRON_TZ=") {
                zone = TimeZone::get(name.trim().trim_matches('"')).map_err(|error| {
                    let what = format!("the time zone of {shown} is unknown: {error}");
                    Wrong::unknown("preflight-job-unknown", what, format!("CRON_TZ=UTC in {shown}"))
                })?;
            }
            if !line.contains(&self.command) {
                continue;
            }
            if line.starts_with('#') {
                disabled = true;
                continue;
            }
            if let Some(fields) = schedule_of(line) {
                let times = Times::parse(&fields).map_err(|why| {
                    let what = format!("the line of {} in {shown} is none that cron takes: {why}", self.command);
                    Wrong::fails("preflight-cron-ignored", what, format!("$EDITOR {shown}"))
                })?;
                return Ok(Line { times, zone });
            }
        }
        if disabled {
            let what = format!("the line of {} in {shown} is commented out", words::brief(&self.command));
            return Err(Wrong::fails("preflight-cron-disabled", what, format!("take the # away in {shown}")));
        }
        let what = format!("{shown} has no line of {}", words::brief(&self.command));
        Err(Wrong::fails("preflight-cron-missing", what, format!("$EDITOR {shown}")))
    }
}

struct Line {
    times: Times,
    zone: TimeZone,
}

/// Takes the schedule off a line; none if it sets a variable or holds nothing behind the schedule.
fn schedule_of(line: &str) -> Option<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let count = if line.starts_with('@') { 1 } else { 5 };
    let names_a_variable = line
        .split_once('=')
        .is_some_and(|(name, _)| name.trim_end().chars().all(|c| c.is_ascii_alphanumeric() || c == '_'));
    (words.len() > count && !names_a_variable).then(|| words[..count].join(" "))
}

/// Tells whether cron takes the file at all; it says nothing when it doesn't.
fn taken(file: &Path) -> Result<(), Wrong> {
    if file.parent() != Some(Path::new(CRON_D)) {
        return Ok(());
    }
    let shown = file.display();
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
        let what = format!("cron passes {shown} over: the name has other characters than letters, digits, - and _");
        return Err(Wrong::fails("preflight-cron-ignored", what, format!("mv {shown} {}", name.replace('.', "-"))));
    }
    let facts = fs::metadata(file).map_err(|error| {
        let what = format!("{shown} can't be looked at: {error}");
        Wrong::unknown("preflight-job-unknown", what, format!("ls -l {shown}"))
    })?;
    if facts.uid() != 0 || facts.mode() & 0o022 != 0 {
        let what = format!("cron passes {shown} over: it must be root's, and only root's to write");
        return Err(Wrong::fails("preflight-cron-ignored", what, format!("chown root {shown}; chmod 0644 {shown}")));
    }
    Ok(())
}

/// Looks for the daemon among the processes.
fn daemon_runs() -> bool {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok());
    pids.filter_map(|entry| fs::read_to_string(entry.path().join("comm")).ok())
        .any(|comm| DAEMONS.contains(&comm.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_line_with_a_schedule_and_a_command_is_a_job() {
        assert_eq!(schedule_of("30 2 * * * root backup").as_deref(), Some("30 2 * * *"));
        assert_eq!(schedule_of("@daily root backup").as_deref(), Some("@daily"));
        assert_eq!(schedule_of("30 2 * * * root A=1 backup").as_deref(), Some("30 2 * * *"));
        assert_eq!(schedule_of("JOB=backup of all that is there"), None);
        assert_eq!(schedule_of("30 2 * * *"), None);
    }
}
