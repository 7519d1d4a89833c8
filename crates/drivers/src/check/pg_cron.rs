//! Jobs of pg_cron: the row is active, the launcher is on, the scheduler lives, and the job has succeeded since it was
//! due last. Each of the first three turns jobs off without a word.

use super::{
    Sight, Wrong,
    cron::hour,
    cron_times::Times,
    postgres::{ask, literal, open, psql, text},
};
use crate::{
    config_terms::Length,
    sql::{Database, Scalar, Table},
};
use jiff::{Timestamp, tz::TimeZone};
use lastgood_domain::{terms::Span, words};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A job of pg_cron.
///
/// ```toml
/// [preflight.nightly]
/// pg_cron = { database = "app", job = "nightly-rollup" }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PgCronCheck {
    /// The database that pg_cron runs in, of `[database.NAME]`. Its role sees its own jobs only, unless it may see
    /// all; it needs `pg_monitor` to see the scheduler and its settings.
    pub database: String,
    /// The job's name.
    pub job: String,
    /// How long ago it may have begun its last success. Default: since it was due last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_max: Option<Length>,
    /// How long the job may take: a run that was due later than that is not awaited yet. Default `1h`.
    #[serde(default = "hour")]
    pub grace: Length,
}

/// What the database says of pg_cron and a job.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    /// By the server's clock.
    now: Timestamp,
    /// `cron.launch_active_jobs`; versions before 1.5 don't have it and always launch.
    launches: bool,
    /// `cron.log_run`: without it no run is recorded.
    records: bool,
    zone: String,
    /// Whether the scheduler is among the server's processes; none if this role can't see it.
    scheduler: Option<bool>,
    schedule: String,
    active: bool,
    /// When the last success began.
    succeeded: Option<Timestamp>,
    /// How the last run ended that has ended, and what it said.
    last: Option<(String, String)>,
}

impl PgCronCheck {
    /// Tells what no single key shows.
    pub fn problem(&self) -> Option<String> {
        self.job.is_empty().then(|| "job is empty".into())
    }

    pub(super) fn look(&self, sight: &Sight) -> Result<String, Wrong> {
        let database = open(&self.database, sight)?;
        let seen = self.see(&database, sight)?;
        self.judge(&seen)
    }

    fn see(&self, database: &Database, sight: &Sight) -> Result<Seen, Wrong> {
        let (name, job) = (&self.database, &self.job);
        let server = ask(
            database,
            "SELECT extract(epoch FROM now())::float8, \
             EXISTS (SELECT 1 FROM pg_extension WHERE extname = 'pg_cron'), \
             coalesce(current_setting('cron.launch_active_jobs', true), 'on'), \
             coalesce(current_setting('cron.log_run', true), 'on'), \
             coalesce(nullif(current_setting('cron.timezone', true), ''), 'GMT'), \
             EXISTS (SELECT 1 FROM pg_stat_activity WHERE backend_type LIKE 'pg_cron%' \
             OR application_name LIKE 'pg_cron%'), \
             pg_has_role(current_user, 'pg_read_all_stats', 'MEMBER')",
            sight,
        )?;
        let is = |column: usize| server.rows.first().and_then(|row| row.get(column)) == Some(&Scalar::Boolean(true));
        if !is(1) {
            let what = format!("{name} has no pg_cron");
            return Err(Wrong::fails("preflight-extension-missing", what, psql("CREATE EXTENSION pg_cron")));
        }
        let jobs = ask(
            database,
            &format!(
                "SELECT j.schedule, j.active, \
                 (SELECT extract(epoch FROM max(d.start_time))::float8 FROM cron.job_run_details d \
                 WHERE d.jobid = j.jobid AND d.status = 'succeeded'), \
                 l.status, l.return_message FROM cron.job j LEFT JOIN LATERAL \
                 (SELECT d.status, d.return_message FROM cron.job_run_details d \
                 WHERE d.jobid = j.jobid AND d.status IN ('succeeded', 'failed') \
                 ORDER BY d.start_time DESC NULLS LAST LIMIT 1) l ON true WHERE j.jobname = {}",
                literal(job)
            ),
            sight,
        )?;
        match jobs.rows.len() {
            1 => {}
            0 => {
                let what = format!("{name} has no job {job}, or this role may not see it");
                return Err(Wrong::fails("preflight-job-missing", what, psql("SELECT * FROM cron.job")));
            }
            several => {
                let what = format!("{name} has {several} jobs named {job}, of several users");
                return Err(Wrong::unknown("preflight-job-unknown", what, psql("SELECT * FROM cron.job")));
            }
        }
        let clock = time(&server, 0).ok_or_else(|| {
            Wrong::unknown("preflight-job-unknown", format!("{name} says no time"), psql("SELECT now()"))
        })?;
        Ok(Seen {
            now: clock,
            launches: text(&server, 0, 2) == "on",
            records: text(&server, 0, 3) == "on",
            zone: text(&server, 0, 4),
            scheduler: (is(5) || is(6)).then(|| is(5)),
            schedule: text(&jobs, 0, 0),
            active: jobs.rows[0].get(1) == Some(&Scalar::Boolean(true)),
            succeeded: time(&jobs, 2),
            last: Some((text(&jobs, 0, 3), text(&jobs, 0, 4))).filter(|(status, _)| !status.is_empty()),
        })
    }

    fn judge(&self, seen: &Seen) -> Result<String, Wrong> {
        let (name, job) = (&self.database, &self.job);
        let runs = psql("SELECT * FROM cron.job_run_details ORDER BY start_time DESC LIMIT 5");
        let unknown = |what: String, fix: String| Err(Wrong::unknown("preflight-job-unknown", what, fix));
        if !seen.active {
            let fix = psql(&format!("UPDATE cron.job SET active = true WHERE jobname = '{job}'"));
            return Err(Wrong::fails("preflight-job-inactive", format!("the job {job} of {name} is not active"), fix));
        }
        if !seen.launches {
            let what = format!("pg_cron of {name} launches no job: cron.launch_active_jobs is off");
            let fix = "psql -c \"ALTER SYSTEM SET cron.launch_active_jobs = on\" -c \"SELECT pg_reload_conf()\"";
            return Err(Wrong::fails("preflight-job-launcher", what, fix));
        }
        match seen.scheduler {
            Some(true) => {}
            Some(false) => {
                let what = format!("the scheduler of pg_cron is not among the processes of {name}");
                return Err(Wrong::fails(
                    "preflight-job-scheduler",
                    what,
                    "see the server's log; systemctl restart postgresql",
                ));
            }
            None => {
                let what = format!("whether the scheduler of pg_cron of {name} lives can't be told by this role");
                return unknown(what, psql("GRANT pg_read_all_stats TO the role of the check"));
            }
        }
        if let Some((_, said)) = seen.last.as_ref().filter(|(status, _)| status == "failed") {
            let what = format!("the job {job} of {name} failed when it ran last: {}", words::brief(said));
            return Err(Wrong::fails("preflight-job-failed", what, runs));
        }
        let Some(succeeded) = seen.succeeded else {
            if !seen.records {
                return unknown(
                    format!("pg_cron of {name} records no runs: cron.log_run is off"),
                    "cron.log_run = on".into(),
                );
            }
            let what = format!("the job {job} of {name} has never succeeded");
            return Err(Wrong::fails("preflight-job-never", what, runs));
        };
        let ago = |at: Timestamp| {
            Span(u64::try_from(seen.now.as_millisecond().saturating_sub(at.as_millisecond())).unwrap_or(0))
        };
        if let Some(max) = self.age_max {
            if ago(succeeded) > max.0 {
                let what =
                    format!("the job {job} of {name} succeeded last {} ago, at most {} wanted", ago(succeeded), max.0);
                return Err(Wrong::fails("preflight-job-late", what, runs));
            }
            return Ok(format!("{job} succeeded {} ago", ago(succeeded)));
        }
        let zone = TimeZone::get(&seen.zone);
        let times = Times::parse(&seen.schedule);
        let (Ok(zone), Ok(times)) = (zone, times) else {
            let what = format!("the schedule {:?} in {} can't be read", seen.schedule, seen.zone);
            return unknown(what, "age_max = \"25h\" in the check".into());
        };
        let settled = seen.now.checked_sub(self.grace.duration()).unwrap_or(seen.now);
        let Some(due) = times.last_before(settled, &zone) else {
            let what = format!("when the job {job} of {name} was due last can't be told from {:?}", seen.schedule);
            return unknown(what, "age_max = \"25h\" in the check".into());
        };
        if succeeded < due {
            let what =
                format!("the job {job} of {name} succeeded last {} ago, but was due {} ago", ago(succeeded), ago(due));
            return Err(Wrong::fails("preflight-job-late", what, runs));
        }
        Ok(format!("{job} succeeded {} ago", ago(succeeded)))
    }
}

fn time(table: &Table, column: usize) -> Option<Timestamp> {
    let seconds = table.rows.first()?.get(column)?.as_number()?;
    Timestamp::from_millisecond((seconds * 1_000.0) as i64).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen() -> Seen {
        Seen {
            now: "2026-11-26T12:00:00Z".parse().unwrap(),
            launches: true,
            records: true,
            zone: "GMT".into(),
            scheduler: Some(true),
            schedule: "0 3 * * *".into(),
            active: true,
            succeeded: Some("2026-11-26T03:00:01Z".parse().unwrap()),
            last: Some(("succeeded".into(), "SELECT 1".into())),
        }
    }

    fn judged(change: impl FnOnce(&mut Seen)) -> Result<(), (&'static str, bool)> {
        let check = PgCronCheck { database: "app".into(), job: "nightly".into(), age_max: None, grace: hour() };
        let mut seen = seen();
        change(&mut seen);
        check.judge(&seen).map(drop).map_err(|wrong| (wrong.code, wrong.is_unknown))
    }

    #[test]
    fn each_of_the_ways_to_be_off_is_found_and_a_success_before_it_was_due_is_none() {
        assert_eq!(judged(|_| {}), Ok(()));
        assert_eq!(judged(|seen| seen.active = false), Err(("preflight-job-inactive", false)));
        assert_eq!(judged(|seen| seen.launches = false), Err(("preflight-job-launcher", false)));
        assert_eq!(judged(|seen| seen.scheduler = Some(false)), Err(("preflight-job-scheduler", false)));
        assert_eq!(judged(|seen| seen.scheduler = None), Err(("preflight-job-unknown", true)));
        assert_eq!(judged(|seen| seen.succeeded = None), Err(("preflight-job-never", false)));
        let silent = |seen: &mut Seen| (seen.succeeded, seen.records, seen.last) = (None, false, None);
        assert_eq!(judged(silent), Err(("preflight-job-unknown", true)));
        let failed = |seen: &mut Seen| seen.last = Some(("failed".into(), "ERROR: no".into()));
        assert_eq!(judged(failed), Err(("preflight-job-failed", false)));
        let yesterday = |seen: &mut Seen| seen.succeeded = Some("2026-11-25T03:00:01Z".parse().unwrap());
        assert_eq!(judged(yesterday), Err(("preflight-job-late", false)));
        // Due at 11:30 and allowed an hour: the run before still counts.
        let under_way = |seen: &mut Seen| {
            (seen.schedule, seen.succeeded) = ("30 * * * *".into(), Some("2026-11-26T10:30:00Z".parse().unwrap()));
        };
        assert_eq!(judged(under_way), Ok(()));
        assert_eq!(judged(|seen| seen.schedule = "whenever".into()), Err(("preflight-job-unknown", true)));
    }
}
