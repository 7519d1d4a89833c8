//! What runs instances: processes of our own, or systemd units.
//!
//! A runtime gives facts and obeys orders. It decides nothing: whether a dead instance is started again, and
//! after how long, is the engine's.
//!
//! An instance is *closed* while lastgood changes its data: a marker file below the state folder. `stop`
//! closes, `start` opens. Neither the launcher nor systemd starts a closed instance, so a reboot in the
//! middle of a restore can't run any code on half the data.

pub mod failure;
pub mod fence;
pub mod holders;
pub mod identity;
pub mod launcher;
pub mod process;
pub mod session;
pub mod shared_look;
pub mod systemd;

pub(crate) mod bus;
mod closed;
mod members;
mod post_mortem;
mod unit_file;
mod user;
mod wait;

pub use failure::RuntimeError;
pub use members::instance_of;
pub use wait::{Watched, wait_exit};

use lastgood_domain::{
    facts::Liveness,
    terms::{Digest, InstanceName, Release, ServiceName, Span},
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, path::PathBuf};

/// The search path of an instance whose environment names none; systemd has the same.
pub(crate) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// One order to run one release as one instance, with every placeholder already filled in.
#[derive(Clone, Serialize, Deserialize)]
pub struct Launch {
    /// The service.
    pub service: ServiceName,
    /// Its instance.
    pub instance: InstanceName,
    /// What runs; recorded beside the process, so that it is known again after a crash.
    pub release: Release,
    /// Absolute folder of the installation; systemd reaches it through a link that is flipped atomically.
    pub installation: PathBuf,
    /// Absolute program first, then its arguments.
    pub argv: Vec<String>,
    /// The whole environment; only `PATH`, and `HOME`, `USER` and `LOGNAME` of a named user, are added.
    pub env: BTreeMap<String, String>,
    /// Absolute folder it starts in.
    pub workdir: PathBuf,
    /// The user it runs as; ours if none.
    pub user: Option<String>,
    /// The groups it runs in besides those of its user; a unit adds its own by itself.
    pub groups: Groups,
    /// Absolute path of the file its output is appended to.
    pub log: PathBuf,
}

/// Groups that a unit names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Groups {
    /// Its main group, in the place of the user's own (`Group=`).
    pub main: Option<String>,
    /// More of them (`SupplementaryGroups=`).
    pub more: Vec<String>,
}

impl fmt::Debug for Launch {
    /// Shows the names of the environment, never its values: they hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Launch")
            .field("service", &self.service)
            .field("instance", &self.instance)
            .field("release", &self.release)
            .field("installation", &self.installation)
            .field("argv", &self.argv)
            .field("env", &self.env.keys().collect::<Vec<_>>())
            .field("workdir", &self.workdir)
            .field("user", &self.user)
            .field("groups", &self.groups)
            .field("log", &self.log)
            .finish()
    }
}

/// An instance runs what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Started {
    /// Its main process.
    pub pid: u32,
    /// True if it ran before the order came.
    pub already: bool,
}

/// An instance is stopped, and no process of it is left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stopped {
    /// It did not run when the order came.
    NotRunning,
    /// All of it ended by itself when asked (SIGTERM).
    Asked,
    /// Some of it had to be killed (SIGKILL) after the grace.
    Killed,
}

/// What stands on the machine around an instance was compared with what was declared and kept, and put back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutBack {
    /// What is compared: the unit's full name.
    pub unit: String,
    /// What differed; nothing does any more.
    pub differed: Vec<String>,
    /// True if the program was started again, because it was not known to have been started as declared.
    pub restarted: bool,
}

/// What became of the operator's files of a unit; each file by itself.
#[derive(Debug, Default)]
pub struct FilesBack {
    /// Files that are now what they should be, each with where what was there is kept.
    pub put_back: Vec<String>,
    /// Files that differ and were left, because others share them.
    pub left: Vec<String>,
    /// Why others are not what they should be.
    pub failed: Vec<RuntimeError>,
}

/// Runs instances; every act is a "make it so" that can be repeated after a kill at any instant.
pub trait Runtime: Send + Sync {
    /// Opens the instance and starts it, unless this release already runs as it.
    ///
    /// Returns as soon as the program has been executed; whether it is ready is a probe's question.
    /// Errors: [`RuntimeError::OtherReleaseRuns`] and [`RuntimeError::LeftOver`] ask for a stop first.
    fn start(&self, launch: &Launch) -> Result<Started, RuntimeError>;

    /// Closes the instance and stops all of it: asks with SIGTERM, after `grace` kills.
    ///
    /// When it returns without error, no process of the instance is left.
    fn stop(&self, service: &ServiceName, instance: &InstanceName, grace: Span) -> Result<Stopped, RuntimeError>;

    /// Gives the release that was started last and not stopped since; none if it was stopped or never started.
    fn started_last(&self, service: &ServiceName, instance: &InstanceName) -> Result<Option<Digest>, RuntimeError>;

    /// Gives the names of the installations from which processes of the instance run, whatever is recorded of them: the
    /// record may be older than they are.
    fn runs_from(&self, _service: &ServiceName, _instance: &InstanceName) -> Result<Vec<String>, RuntimeError> {
        Ok(Vec::new())
    }

    /// Gives the user that the instance runs as where its launch names none; none is ours.
    fn own_user(&self, _service: &ServiceName, _instance: &InstanceName) -> Result<Option<String>, RuntimeError> {
        Ok(None)
    }

    /// Gives the groups that the instance runs in by its unit, besides those of its user.
    fn own_groups(&self, _service: &ServiceName, _instance: &InstanceName) -> Result<Groups, RuntimeError> {
        Ok(Groups::default())
    }

    /// Tells whether it runs, and what.
    fn liveness(&self, service: &ServiceName, instance: &InstanceName) -> Result<Liveness, RuntimeError>;

    /// Gives a handle that becomes ready when the instance's main process dies; none if it is down.
    fn watch(&self, service: &ServiceName, instance: &InstanceName) -> Result<Option<Watched>, RuntimeError>;

    /// Says why a down instance went down, with its last log lines, as a coded reason for evidence.
    ///
    /// None if it runs, was stopped by us or was never started.
    fn post_mortem(&self, service: &ServiceName, instance: &InstanceName)
    -> Result<Option<RuntimeError>, RuntimeError>;

    /// Gives the environment that the program has of `launch` when this runtime starts it.
    fn environment(&self, launch: &Launch) -> BTreeMap<String, String>;

    /// Gives the command line that the program has of `launch` when this runtime starts it.
    fn arguments(&self, launch: &Launch) -> Vec<String>;

    /// Makes the unit of a running or dead instance what `launch` declares and what was kept of it for that release,
    /// and reads it back; the instance is started again only if it may run with something else.
    ///
    /// What is replaced is kept beside it, its name followed by `beside`. None where nothing of the machine's starts
    /// instances. Errors: [`RuntimeError::UnitDiffers`] names what still differs.
    fn put_back(&self, launch: &Launch, beside: &str) -> Result<Option<PutBack>, RuntimeError>;

    /// Names the operator's files of an instance's unit that are not what the release last ran well with; changes none.
    ///
    /// None where nothing was kept, or nothing of the machine's starts instances.
    fn files_differ(&self, _launch: &Launch) -> Result<Vec<String>, RuntimeError> {
        Ok(Vec::new())
    }

    /// Makes the operator's files of a stopped instance's unit what the release last ran well with, for a start that failed
    /// with them as they are; files that others share only if `with_shared`.
    ///
    /// What is replaced is kept beside it, its name followed by `beside`. All files are tried. Whoever calls it says
    /// afterwards whether that [helped](Self::files_helped), or [undoes](Self::undo_files_back) it.
    fn put_files_back(&self, _launch: &Launch, _beside: &str, _with_shared: bool) -> Result<FilesBack, RuntimeError> {
        Ok(FilesBack::default())
    }

    /// Keeps files that were put back as they are: the instance has started well on them.
    fn files_helped(&self, _launch: &Launch) {}

    /// Undoes what [`put_files_back`](Self::put_files_back) did, but for files with which another instance has started, or
    /// is about to.
    fn undo_files_back(&self, _launch: &Launch) -> Result<FilesBack, RuntimeError> {
        Ok(FilesBack::default())
    }

    /// Keeps the operator's files of a running instance's unit as those that its release runs well with, if it was started
    /// from them as they are.
    fn keep_files(&self, _service: &ServiceName, _instance: &InstanceName) -> Result<(), RuntimeError> {
        Ok(())
    }
}
