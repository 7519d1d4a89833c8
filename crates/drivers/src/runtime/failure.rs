//! How a runtime fails: one variant per failed act, each with its code and what to type next.

use lastgood_domain::{
    failure::Coded,
    terms::{Digest, Span},
};
use std::{io, path::PathBuf};

/// A failed act of a runtime, a fence or a detached session. `instance` is written `service/instance`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// The program of the launch does not exist.
    #[error("{instance}: the program {} does not exist", program.display())]
    ProgramMissing {
        /// Which instance.
        instance: String,
        /// The absolute path tried.
        program: PathBuf,
    },
    /// The program is there, but can't be executed by the instance's user.
    #[error("{instance}: {} can't be executed: {why}", program.display())]
    ProgramNotExecutable {
        /// Which instance.
        instance: String,
        /// The absolute path tried.
        program: PathBuf,
        /// What the system or the check said.
        why: String,
    },
    /// The folder to start in is missing or closed to the instance's user.
    #[error("{instance}: can't start in {}: {why}", workdir.display())]
    WorkdirMissing {
        /// Which instance.
        instance: String,
        /// The folder.
        workdir: PathBuf,
        /// What the system said.
        why: String,
    },
    /// No such user on this machine.
    #[error("{instance}: the user {user:?} does not exist on this machine")]
    UserUnknown {
        /// Which instance.
        instance: String,
        /// The name looked up.
        user: String,
    },
    /// lastgood may not become that user.
    #[error("{instance}: lastgood may not run programs as {user:?}: {why}")]
    UserNotPermitted {
        /// Which instance.
        instance: String,
        /// The user asked for.
        user: String,
        /// What the system said.
        why: String,
    },
    /// The log file can't be opened for appending.
    #[error("{instance}: can't append to the log {}: {why}", log.display())]
    LogUnwritable {
        /// Which instance.
        instance: String,
        /// The file.
        log: PathBuf,
        /// What the system said.
        why: String,
    },
    /// The launch itself is not one that can be run.
    #[error("{instance}: {what}")]
    LaunchInvalid {
        /// Which instance.
        instance: String,
        /// What is wrong with it.
        what: String,
    },
    /// Another release runs as this instance.
    #[error("{instance}: release {running} runs; {asked} can't be started beside it")]
    OtherReleaseRuns {
        /// Which instance.
        instance: String,
        /// What runs, as far as its runtime recorded it.
        running: String,
        /// Digest of the release asked for.
        asked: Digest,
    },
    /// The main process is gone, but others of the instance are not.
    #[error("{instance}: its main process is gone, but processes {pids:?} of it still run")]
    LeftOver {
        /// Which instance.
        instance: String,
        /// Their process ids.
        pids: Vec<u32>,
    },
    /// The instance is closed while its data is changed.
    #[error("{instance}: closed while its data is changed ({} exists)", marker.display())]
    Closed {
        /// Which instance.
        instance: String,
        /// The marker file.
        marker: PathBuf,
    },
    /// Someone else is starting or stopping the instance.
    #[error("{instance}: another start or stop has been under way for {waited}")]
    OrderUnderWay {
        /// Which instance.
        instance: String,
        /// How long we waited for it.
        waited: Span,
    },
    /// The launcher ended or hung before it executed the program.
    #[error("{instance}: the launcher {} did not execute the program: {why}", launcher.display())]
    LauncherFailed {
        /// Which instance.
        instance: String,
        /// The binary that was to launch it.
        launcher: PathBuf,
        /// What happened.
        why: String,
    },
    /// The program ended by itself.
    #[error("{instance}: ended by itself: {why}; last log lines:\n{last_lines}")]
    Exited {
        /// Which instance.
        instance: String,
        /// Such as `exit status 1`.
        why: String,
        /// The last lines it wrote since its start.
        last_lines: String,
    },
    /// The program ended because its address was taken.
    #[error("{instance}: ended by itself ({why}): its port is in use; last log lines:\n{last_lines}")]
    PortInUse {
        /// Which instance.
        instance: String,
        /// Such as `exit status 1`.
        why: String,
        /// The last lines it wrote since its start.
        last_lines: String,
    },
    /// Processes of the instance survived SIGKILL.
    #[error("{instance}: processes {pids:?} are still there {waited} after SIGKILL")]
    NotStoppable {
        /// Which instance.
        instance: String,
        /// Their process ids.
        pids: Vec<u32>,
        /// How long we waited after the kill.
        waited: Span,
    },
    /// The record of what runs can't be read.
    #[error("{instance}: the record {} is damaged: {why}", path.display())]
    RecordDamaged {
        /// Which instance.
        instance: String,
        /// The file.
        path: PathBuf,
        /// Why it can't be read.
        why: String,
    },
    /// The system refused an act on a file or process.
    #[error("can't {act} {}", path.display())]
    Io {
        /// What was tried, such as `open the lock`.
        act: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// systemd can't be reached over D-Bus.
    #[error("can't reach systemd over D-Bus at {address}")]
    BusUnreachable {
        /// The address tried.
        address: String,
        /// What the bus said.
        source: Box<zbus::Error>,
    },
    /// systemd refused a call.
    #[error("systemd refused to {act} {unit}")]
    SystemdRefused {
        /// What was asked.
        act: &'static str,
        /// For which unit.
        unit: String,
        /// What it said.
        source: Box<zbus::Error>,
    },
    /// We may not give orders to systemd.
    #[error("lastgood may not {act} {unit}: {why}")]
    SystemdForbids {
        /// What was asked.
        act: &'static str,
        /// For which unit.
        unit: String,
        /// What it said.
        why: String,
    },
    /// The unit does not exist.
    #[error("the unit {unit} can't be used: {why}")]
    UnitMissing {
        /// The unit's full name.
        unit: String,
        /// Its load state and what systemd said about it.
        why: String,
    },
    /// The unit is not what was declared, and could not be made so.
    #[error("the unit {unit} differs from what is declared: {}", left.join(", "))]
    UnitDiffers {
        /// The unit's full name.
        unit: String,
        /// What differs.
        left: Vec<String>,
    },
    /// A start or stop job of systemd did not end well.
    #[error("systemd's {act} job for {unit} ended as {result}: {why}")]
    JobFailed {
        /// Which job.
        act: &'static str,
        /// The unit's full name.
        unit: String,
        /// systemd's word: `failed`, `timeout`, `canceled`, `dependency`, ...
        result: String,
        /// What the unit says of itself.
        why: String,
    },
    /// A job of systemd took too long.
    #[error("systemd's {act} job for {unit} has not ended after {waited}")]
    JobTooLong {
        /// Which job.
        act: &'static str,
        /// The unit's full name.
        unit: String,
        /// How long we waited.
        waited: Span,
    },
    /// A text that a unit file can't carry.
    #[error("{instance}: {what} holds a control character, which a unit file can't carry")]
    Unspeakable {
        /// Which instance.
        instance: String,
        /// Which argument or variable, by position or name; never its value.
        what: String,
    },
    /// The fence around a rehearsal could not be closed.
    #[error("the rehearsal's fence can't {act} {}", path.display())]
    FenceOpen {
        /// What was tried.
        act: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The driver could not be started outside of the instance it was called from.
    #[error("can't leave the session that called: {why}")]
    NotDetached {
        /// What is in the way.
        why: String,
    },
}

impl RuntimeError {
    /// Says how an instance ended to who knows which one and that it did: the status and its last words.
    ///
    /// Any other failure is said whole.
    pub fn end(&self) -> String {
        match self {
            Self::Exited { why, last_lines, .. } => with_last_lines(why, last_lines),
            Self::PortInUse { why, last_lines, .. } => {
                with_last_lines(&format!("{why}, its port is in use"), last_lines)
            }
            other => other.to_string(),
        }
    }

    pub(crate) fn io(act: &'static str, path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        Self::Io { act, path: path.into(), source: source.into() }
    }
}

impl Coded for RuntimeError {
    fn code(&self) -> &'static str {
        match self {
            Self::ProgramMissing { .. } => "instance-program-missing",
            Self::ProgramNotExecutable { .. } => "instance-program-not-executable",
            Self::WorkdirMissing { .. } => "instance-workdir-missing",
            Self::UserUnknown { .. } => "instance-user-unknown",
            Self::UserNotPermitted { .. } => "instance-user-not-permitted",
            Self::LogUnwritable { .. } => "instance-log-unwritable",
            Self::LaunchInvalid { .. } => "instance-launch-invalid",
            Self::OtherReleaseRuns { .. } => "instance-runs-other-release",
            Self::LeftOver { .. } => "instance-left-over",
            Self::Closed { .. } => "instance-closed",
            Self::OrderUnderWay { .. } => "instance-order-under-way",
            Self::LauncherFailed { .. } => "instance-launcher-failed",
            Self::Exited { .. } => "instance-exited",
            Self::PortInUse { .. } => "instance-port-in-use",
            Self::NotStoppable { .. } => "instance-not-stoppable",
            Self::RecordDamaged { .. } => "instance-record-damaged",
            Self::Io { .. } => "runtime-io",
            Self::BusUnreachable { .. } => "systemd-unreachable",
            Self::SystemdRefused { .. } => "systemd-refused",
            Self::SystemdForbids { .. } => "systemd-not-permitted",
            Self::UnitMissing { .. } => "systemd-unit-missing",
            Self::UnitDiffers { .. } => "drift-unit",
            Self::JobFailed { .. } => "systemd-job-failed",
            Self::JobTooLong { .. } => "systemd-job-too-long",
            Self::Unspeakable { .. } => "systemd-text-refused",
            Self::FenceOpen { .. } => "rehearsal-fence-open",
            Self::NotDetached { .. } => "session-not-detached",
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::ProgramMissing { program, .. } => {
                format!("check `command` in the configuration; see what is there: ls -l {}", folder_of(program))
            }
            Self::ProgramNotExecutable { program, .. } => format!("look at its mode: ls -l {}", program.display()),
            Self::WorkdirMissing { workdir, .. } => format!("make it: mkdir -p {}", workdir.display()),
            Self::UserUnknown { user, .. } => {
                format!("correct `user` in the configuration, or: useradd --system {user}")
            }
            Self::UserNotPermitted { .. } => "run the daemon as root, or remove `user` from the configuration".into(),
            Self::LogUnwritable { log, .. } => format!("look at its folder: ls -ld {}", folder_of(log)),
            Self::LaunchInvalid { .. } => "correct the instance's command in the configuration".into(),
            Self::OtherReleaseRuns { .. } | Self::LeftOver { .. } => {
                "stop the instance first; lastgood does so before it moves one".into()
            }
            Self::Closed { .. } => {
                "let the restore finish (it is taken up when lastgood starts): lastgood status".into()
            }
            Self::OrderUnderWay { .. } => "wait for the other order, then try again: lastgood status".into(),
            Self::LauncherFailed { launcher, .. } => format!("check the binary: {} --version", launcher.display()),
            Self::Exited { .. } => "read the log lines above; the whole log is beside the instance".into(),
            Self::PortInUse { .. } => "find who has the port: ss -ltnp".into(),
            Self::NotStoppable { pids, .. } => match pids.first() {
                Some(pid) => {
                    format!("it waits inside the kernel (a dead disk or network mount): cat /proc/{pid}/stack")
                }
                None => "look for processes in state D: ps -eo pid,stat,wchan,cmd".into(),
            },
            Self::RecordDamaged { path, .. } => {
                format!("make sure the instance is down, then: rm {}", path.display())
            }
            Self::Io { path, .. } => {
                format!("look at its owner, mode and disk: ls -ld {p}; df {p}", p = path.display())
            }
            Self::BusUnreachable { .. } => "check that systemd runs: systemctl is-system-running".into(),
            Self::SystemdRefused { unit, .. } => format!("look at the unit: systemctl status {unit}"),
            Self::SystemdForbids { .. } => "run lastgood as root, or allow it with a polkit rule".into(),
            Self::UnitMissing { unit, .. } | Self::UnitDiffers { unit, .. } => {
                format!("see what systemd knows of it: systemctl cat {unit}")
            }
            Self::JobFailed { unit, .. } | Self::JobTooLong { unit, .. } => {
                format!("read its journal: journalctl -u {unit} -n 50")
            }
            Self::Unspeakable { .. } => "put the text into a file and name the file instead".into(),
            Self::FenceOpen { .. } => "run the rehearsal as root, or see lastgood doctor".into(),
            Self::NotDetached { .. } => "run the same command from another login, as root".into(),
        })
    }
}

fn with_last_lines(why: &str, last_lines: &str) -> String {
    if last_lines.is_empty() { why.into() } else { format!("{why}; last log lines:\n{last_lines}") }
}

fn folder_of(path: &std::path::Path) -> String {
    path.parent().unwrap_or(path).display().to_string()
}
