//! `[preflight.NAME]`: what must be so before anybody depends on it, and before what it is asked.

use lastgood_domain::terms::ServiceName;
use lastgood_drivers::{
    check::{
        Check, ClockCheck, CronCheck, DiskCheck, EnvCheck, FileCheck, HttpCheck, PgCronCheck, PortCheck, PostgresCheck,
        TimerCheck, TlsCheck,
    },
    config_terms::Length,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Longest time for one check: all of them together are back within [`crate::preflight::ALL_MAX`].
const TIMEOUT_MAX: Length = Length::seconds(4);
/// Most checks: each has a thread of its own while it is looked at.
pub(super) const CHECKS_MAX: usize = 200;

/// One check. Exactly one of `env`, `file`, `port`, `clock`, `disk`, `postgres`, `pg_cron`, `timer`, `cron`, `http` and
/// `tls` is given.
///
/// ```toml
/// [preflight.room]
/// disk = { path = "/var/lib/lastgood", free_mib_min = 2048 }
/// before = ["deploy"]
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PreflightKeys {
    /// `required` fails, `recommended` warns. Default `required`.
    #[serde(default)]
    severity: Severity,
    /// Before what it is asked: `deploy` (a required one that fails stops forward moves), `rollback`, `unfreeze`,
    /// `host`. Default: only when somebody asks, and every hour by the daemon. It never stops a way back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    before: Vec<Occasion>,
    /// The services whose moves it stops. Default: all; of `env`, the one it looks at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    services: Vec<ServiceName>,
    /// Time for it, at most `4s`. What has no answer then is no pass. Default `2s`.
    #[serde(default = "timeout")]
    timeout: Length,
    /// What to type when it fails, instead of what lastgood would say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
    /// Variables where they are used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    env: Option<EnvCheck>,
    /// A file or folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file: Option<FileCheck>,
    /// A port that must answer, or be free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    port: Option<PortCheck>,
    /// The clock of this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    clock: Option<ClockCheck>,
    /// Room on a disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    disk: Option<DiskCheck>,
    /// Settings and extensions of PostgreSQL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    postgres: Option<PostgresCheck>,
    /// A job of pg_cron.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pg_cron: Option<PgCronCheck>,
    /// A timer of systemd and its job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timer: Option<TimerCheck>,
    /// A job of cron.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cron: Option<CronCheck>,
    /// A page that says how something does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    http: Option<HttpCheck>,
    /// How long a certificate is good for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tls: Option<TlsCheck>,
}

/// One check, with what follows from it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "PreflightKeys", into = "PreflightKeys")]
#[schemars(with = "PreflightKeys")]
pub struct PreflightConfig {
    /// Whether it fails or warns.
    pub severity: Severity,
    /// Before what it is asked.
    pub before: Vec<Occasion>,
    /// The services whose moves it stops; empty is all.
    pub services: Vec<ServiceName>,
    /// Time for it.
    pub timeout: Length,
    /// What to type when it fails.
    pub fix: Option<String>,
    /// What is looked at.
    pub check: Check,
}

/// What it means when a check does not pass.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// A failure.
    #[default]
    Required,
    /// A warning.
    Recommended,
}

impl Severity {
    /// Every one.
    pub const ALL: [Self; 2] = [Self::Required, Self::Recommended];

    /// Gives the word that is written.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Required => "required",
            Self::Recommended => "recommended",
        }
    }
}

/// Something that checks are asked before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Occasion {
    /// A forward move.
    Deploy,
    /// A way back: asked for people, it stops none.
    Rollback,
    /// The end of a freeze.
    Unfreeze,
    /// Work of this machine at all.
    Host,
}

impl fmt::Display for Occasion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deploy => "deploy",
            Self::Rollback => "rollback",
            Self::Unfreeze => "unfreeze",
            Self::Host => "host",
        })
    }
}

const fn timeout() -> Length {
    Length::seconds(2)
}

impl PreflightConfig {
    /// Tells whether it stands before a forward move of a service.
    pub fn guards(&self, service: &ServiceName) -> bool {
        self.before.contains(&Occasion::Deploy)
            && match (&self.check, self.services.as_slice()) {
                (Check::Env(EnvCheck { service: Some(only), .. }), []) => only == service.as_str(),
                (_, []) => true,
                (_, some) => some.contains(service),
            }
    }

    /// Gives the database it asks.
    pub(super) fn database(&self) -> Option<&str> {
        match &self.check {
            Check::Postgres(check) => Some(&check.database),
            Check::PgCron(check) => Some(&check.database),
            _ => None,
        }
    }

    /// Gives the names of the services it speaks of.
    pub(super) fn named(&self) -> impl Iterator<Item = &str> {
        let of_env = match &self.check {
            Check::Env(EnvCheck { service, .. }) => service.as_deref(),
            _ => None,
        };
        self.services.iter().map(ServiceName::as_str).chain(of_env)
    }
}

impl TryFrom<PreflightKeys> for PreflightConfig {
    type Error = String;

    fn try_from(keys: PreflightKeys) -> Result<Self, String> {
        let PreflightKeys { severity, before, services, timeout, fix, .. } = keys;
        if timeout > TIMEOUT_MAX || timeout.0.0 == 0 {
            return Err("a check has a timeout of at most 4s".into());
        }
        let problem = |problem: Option<String>| problem.map_or(Ok(()), Err);
        let mut given = Vec::new();
        macro_rules! take {
            ($($key:ident => $kind:ident),* $(,)?) => {
                $(if let Some(check) = keys.$key {
                    problem(check.problem())?;
                    given.push(Check::$kind(check));
                })*
            };
        }
        take!(env => Env, file => File, port => Port, clock => Clock, disk => Disk);
        take!(postgres => Postgres, pg_cron => PgCron);
        take!(timer => Timer, cron => Cron, http => Http, tls => Tls);
        match (given.pop(), given.pop()) {
            (Some(check), None) => Ok(Self { severity, before, services, timeout, fix, check }),
            _ => Err(
                "a check has exactly one of env, file, port, clock, disk, postgres, pg_cron, timer, cron, http, tls"
                    .into(),
            ),
        }
    }
}

impl From<PreflightConfig> for PreflightKeys {
    fn from(config: PreflightConfig) -> Self {
        let PreflightConfig { severity, before, services, timeout, fix, check } = config;
        let mut keys = Self {
            severity,
            before,
            services,
            timeout,
            fix,
            env: None,
            file: None,
            port: None,
            clock: None,
            disk: None,
            postgres: None,
            pg_cron: None,
            timer: None,
            cron: None,
            http: None,
            tls: None,
        };
        match check {
            Check::Env(check) => keys.env = Some(check),
            Check::File(check) => keys.file = Some(check),
            Check::Port(check) => keys.port = Some(check),
            Check::Clock(check) => keys.clock = Some(check),
            Check::Disk(check) => keys.disk = Some(check),
            Check::Postgres(check) => keys.postgres = Some(check),
            Check::PgCron(check) => keys.pg_cron = Some(check),
            Check::Timer(check) => keys.timer = Some(check),
            Check::Cron(check) => keys.cron = Some(check),
            Check::Http(check) => keys.http = Some(check),
            Check::Tls(check) => keys.tls = Some(check),
        }
        keys
    }
}
