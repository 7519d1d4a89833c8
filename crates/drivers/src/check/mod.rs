//! Checks of what a service and its host need, looked at where it is used, before anybody depends on it.
//!
//! A check says what it saw, what is wrong and what to type, or that it can't tell. That something was started is
//! never taken for its success, and what can't be told is never a pass. Whoever asks decides what follows.

mod certificate;
mod clock;
mod cron;
mod cron_times;
mod disk;
mod env;
mod file;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod host;
mod http;
mod marker;
mod pg_cron;
mod port;
mod postgres;
mod timer;
mod tls;

pub use clock::ClockCheck;
pub use cron::CronCheck;
pub use disk::DiskCheck;
pub use env::{EnvCheck, EnvRule, OnlyIf};
pub use file::{FileCheck, FileKind, Mode, Sha256};
pub use http::HttpCheck;
pub use pg_cron::PgCronCheck;
pub use port::{PortCheck, PortRule};
pub use postgres::{PostgresCheck, SettingWanted};
pub use timer::TimerCheck;
pub use tls::TlsCheck;

use crate::{probe::Secrets, sql::DatabaseConfig};
use jiff::Timestamp;
use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, Instant},
};

/// What is looked at.
#[derive(Debug, Clone, PartialEq)]
pub enum Check {
    /// Variables of an environment.
    Env(EnvCheck),
    /// A file or folder.
    File(FileCheck),
    /// A port that must be free, or must answer.
    Port(PortCheck),
    /// The clock of this machine.
    Clock(ClockCheck),
    /// Room on a disk.
    Disk(DiskCheck),
    /// Settings and extensions of PostgreSQL.
    Postgres(PostgresCheck),
    /// A job of pg_cron.
    PgCron(PgCronCheck),
    /// A job of systemd.
    Timer(TimerCheck),
    /// A job of cron.
    Cron(CronCheck),
    /// A page that says how something does.
    Http(HttpCheck),
    /// How long a certificate is good for.
    Tls(TlsCheck),
}

impl Check {
    /// Gives the word for its kind.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Env(_) => "env",
            Self::File(_) => "file",
            Self::Port(_) => "port",
            Self::Clock(_) => "clock",
            Self::Disk(_) => "disk",
            Self::Postgres(_) => "postgres",
            Self::PgCron(_) => "pg_cron",
            Self::Timer(_) => "timer",
            Self::Cron(_) => "cron",
            Self::Http(_) => "http",
            Self::Tls(_) => "tls",
        }
    }

    /// Tells whether it asks anything beyond this machine.
    pub fn needs_network(&self) -> bool {
        match self {
            Self::Port(check) => check.needs_network(),
            Self::Clock(check) => check.needs_network(),
            Self::Http(check) => check.needs_network(),
            Self::Tls(check) => check.needs_network(),
            // Databases are reached by sockets and loopback only.
            Self::Env(_)
            | Self::File(_)
            | Self::Disk(_)
            | Self::Postgres(_)
            | Self::PgCron(_)
            | Self::Timer(_)
            | Self::Cron(_) => false,
        }
    }

    /// Tells what has to be read before it can look.
    pub fn needs(&self) -> Needs {
        match self {
            Self::Env(check) => Needs {
                secrets: check.service.is_some(),
                flags: check.only_if.as_ref().is_some_and(|only| only.flag.is_some()),
            },
            Self::Http(_) | Self::Postgres(_) | Self::PgCron(_) => Needs { secrets: true, flags: false },
            Self::File(_)
            | Self::Port(_)
            | Self::Clock(_)
            | Self::Disk(_)
            | Self::Timer(_)
            | Self::Cron(_)
            | Self::Tls(_) => Needs { secrets: false, flags: false },
        }
    }

    /// Looks once.
    ///
    /// Gives what was seen, as a clause. Errors: [`Wrong`], also where nothing can be told. It tries to be back
    /// at `sight.until`; a file system that hangs may keep it longer, so the caller must not wait for it.
    pub fn look(&self, sight: &Sight) -> Result<String, Wrong> {
        match self {
            Self::Env(check) => check.look(sight),
            Self::File(check) => check.look(sight),
            Self::Port(check) => check.look(sight),
            Self::Clock(check) => check.look(sight),
            Self::Disk(check) => check.look(sight),
            Self::Postgres(check) => check.look(sight),
            Self::PgCron(check) => check.look(sight),
            Self::Timer(check) => check.look(sight),
            Self::Cron(check) => check.look(sight),
            Self::Http(check) => check.look(sight),
            Self::Tls(check) => check.look(sight),
        }
    }
}

/// What has to be read before a check can look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// The secrets.
    pub secrets: bool,
    /// The feature flags.
    pub flags: bool,
}

/// What a check may look at besides the world: what the configuration says, and the time.
#[derive(Debug, Clone)]
pub struct Sight {
    /// The folder of lastgood.toml: where relative paths start.
    pub folder: PathBuf,
    /// For `{secret:NAME}`.
    pub secrets: Secrets,
    /// The environment that each instance of each service gets, or why it can't be told.
    pub environments: BTreeMap<String, Vec<Environment>>,
    /// The databases that checks ask, by name.
    pub databases: BTreeMap<String, DatabaseConfig>,
    /// Whether each feature flag is on for anybody; one that is missing was never turned on.
    pub flags: BTreeMap<String, bool>,
    /// Now.
    pub now: Timestamp,
    /// When the answer must be there.
    pub until: Instant,
}

/// What one instance's program finds in its environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// The instance.
    pub instance: String,
    /// Its variables.
    pub variables: Result<BTreeMap<String, String>, String>,
}

impl Sight {
    /// Gives the time that is left, at least a millisecond: a time-out of nothing means none at all to the system.
    pub(crate) fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
    }
}

/// What is not as it must be, or can't be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// The stable code; each has a page in docs/errors.
    pub code: &'static str,
    /// What was seen and what was wanted; never a secret.
    pub what: String,
    /// What to type.
    pub fix: String,
    /// Whether there was no answer at all. That is never a pass.
    pub is_unknown: bool,
}

impl Wrong {
    /// Says that something is not as it must be.
    pub fn fails(code: &'static str, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { code, what: what.into(), fix: fix.into(), is_unknown: false }
    }

    /// Says that there is no answer.
    pub fn unknown(code: &'static str, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { is_unknown: true, ..Self::fails(code, what, fix) }
    }
}
