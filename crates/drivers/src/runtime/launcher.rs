//! The last steps before an instance's program runs, done in the process that becomes it.
//!
//! The lastgood binary executes itself as `internal launch`, so that the steps between fork and exec are plain
//! safe code in a process of one thread. The order of the steps is what makes a kill at any instant harmless:
//! the lock is taken and the record written before the program is executed, so there is either no process of
//! the instance or one that is found again, and never two.
//!
//! Standard input is a socket to the driver (order in, outcome out), standard output the driver's order lock,
//! held until the record is written. The program gets the instance's lock as its standard input: an empty
//! file, read-only, so that it reads like /dev/null and every child inherits the lock without knowing.

use super::{
    RuntimeError, fence,
    identity::Identity,
    members::{self, MARK},
    session,
    user::Account,
};
use lastgood_domain::terms::Release;
use rustix::{
    fs::FlockOperation,
    process::{Gid, Uid},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    convert::Infallible,
    ffi::OsString,
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::{
        fd::AsFd as _,
        unix::{
            fs::{OpenOptionsExt as _, PermissionsExt as _},
            net::UnixStream,
            process::CommandExt as _,
        },
    },
    path::{Path, PathBuf},
    process::Command,
};

/// Longest order: the kernel takes 2 MiB of arguments and environment by default, JSON may double that.
const ORDER_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The word that tells the driver that the program is executed next.
pub(crate) const EXECUTING: &str = "executing";

/// What the driver sends.
#[derive(Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) release: Release,
    pub(crate) argv: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) workdir: PathBuf,
    pub(crate) account: Option<Account>,
    pub(crate) log: PathBuf,
    pub(crate) mark: String,
    pub(crate) marker: PathBuf,
    pub(crate) lock: PathBuf,
    pub(crate) record: PathBuf,
}

/// What is remembered of a started instance; written before its program is executed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Always 1; another number is another lastgood's.
    pub(crate) version: u32,
    pub(crate) identity: Identity,
    /// Processes made since boot when this one was started; tells whether its id can have been reused.
    pub(crate) forks: u64,
    pub(crate) release: Release,
    pub(crate) log: PathBuf,
    /// Length of the log before this start: what follows was written by this process.
    pub(crate) log_bytes: u64,
}

/// Why the launcher gave up; sent to the driver as one line of JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Fault {
    Closed,
    LockHeld,
    Log(String),
    User(String),
    Workdir(String),
    ProgramMissing,
    ProgramNotExecutable(String),
    Other(String),
}

/// The launcher could not even tell its driver.
#[derive(Debug, thiserror::Error)]
pub enum LauncherError {
    /// It was not started by a driver.
    #[error("`internal` commands are started by lastgood itself, not typed")]
    NotTyped,
    /// The launch failed; the driver has been told why.
    #[error("the launch failed")]
    Told,
    /// The order to a detached or fenced process could not be carried out.
    #[error(transparent)]
    Refused(#[from] RuntimeError),
}

/// Runs one of the internal commands `launch`, `detach` or `guard`; `arguments` are those after `internal`.
///
/// Must be called first in `main`, before any thread is started. On success this process has become the
/// program.
pub fn main(mut arguments: impl Iterator<Item = OsString>) -> Result<Infallible, LauncherError> {
    match arguments.next().as_deref().and_then(|word| word.to_str()) {
        Some("launch") => launch(),
        Some("detach") => Ok(session::leave(arguments)?),
        Some("guard") => Ok(fence::guard(arguments)?),
        _ => Err(LauncherError::NotTyped),
    }
}

fn launch() -> Result<Infallible, LauncherError> {
    let socket = io::stdin().as_fd().try_clone_to_owned().map(UnixStream::from);
    let mut driver = socket.map_err(|_| LauncherError::NotTyped)?;
    let order = read_order(&driver).ok_or(LauncherError::NotTyped)?;
    let Err(fault) = become_program(&order, &mut driver);
    let told = serde_json::to_string(&fault).unwrap_or_default();
    // The driver may be dead; then nobody needs to know.
    let _ = writeln!(driver, "{told}");
    Err(LauncherError::Told)
}

fn read_order(driver: &UnixStream) -> Option<Order> {
    let mut line = String::new();
    BufReader::new(driver).take(ORDER_BYTES_MAX).read_line(&mut line).ok()?;
    serde_json::from_str(&line).ok()
}

fn become_program(order: &Order, driver: &mut UnixStream) -> Result<Infallible, Fault> {
    let other = |error: &dyn std::fmt::Display| Fault::Other(error.to_string());
    // Held until this process executes the program or ends; the copy is closed on exec.
    let _order_lock = io::stdout().as_fd().try_clone_to_owned().map_err(|error| other(&error))?;
    if order.marker.exists() {
        return Err(Fault::Closed);
    }
    let lock = take_lock(&order.lock)?;
    // A session of its own: no terminal, no signals of ours, and a name that all its children carry.
    if let Err(error) = rustix::process::setsid()
        && error != rustix::io::Errno::PERM
    {
        return Err(other(&error));
    }
    let (log, log_bytes) = open_log(&order.log, order.account.as_ref())?;
    write_record(order, log_bytes).map_err(|error| other(&error))?;
    if let Some(account) = &order.account {
        become_user(account).map_err(|error| Fault::User(error.to_string()))?;
    }
    std::env::set_current_dir(&order.workdir).map_err(|error| Fault::Workdir(error.to_string()))?;
    rustix::stdio::dup2_stdin(&lock).map_err(|error| other(&error))?;
    rustix::stdio::dup2_stdout(&log).map_err(|error| other(&error))?;
    rustix::stdio::dup2_stderr(&log).map_err(|error| other(&error))?;
    // A driver that was killed meanwhile hears nothing, but the next one finds the record: so go on.
    let _ = writeln!(driver, "{EXECUTING}");
    let [program, arguments @ ..] = order.argv.as_slice() else {
        return Err(Fault::Other("the launch names no program".into()));
    };
    let error = Command::new(program).args(arguments).env_clear().envs(&order.env).env(MARK, &order.mark).exec();
    Err(exec_fault(Path::new(program), &error))
}

fn take_lock(path: &Path) -> Result<File, Fault> {
    let opened = File::options().write(true).create(true).truncate(false).mode(0o600).open(path);
    // Opened again for reading only: the program must not be able to write into it.
    let lock = opened.and_then(|_| File::open(path)).map_err(|error| Fault::Other(error.to_string()))?;
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(rustix::io::Errno::AGAIN) => Err(Fault::LockHeld),
        Err(error) => Err(Fault::Other(error.to_string())),
    }
}

fn open_log(path: &Path, account: Option<&Account>) -> Result<(File, u64), Fault> {
    let open = || -> io::Result<(File, u64)> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let log = File::options().append(true).create(true).mode(0o640).open(path)?;
        let length = log.metadata()?.len();
        if let Some(account) = account {
            // The program may open it again by name (/dev/stdout), so it must be its user's.
            let owner = (Uid::from_raw(account.uid), Gid::from_raw(account.gid));
            rustix::fs::fchown(&log, Some(owner.0), Some(owner.1))?;
        }
        Ok((log, length))
    };
    open().map_err(|error| Fault::Log(error.to_string()))
}

fn write_record(order: &Order, log_bytes: u64) -> io::Result<()> {
    let record = Record {
        version: 1,
        identity: Identity::of(std::process::id())?,
        forks: members::forks()?,
        release: order.release.clone(),
        log: order.log.clone(),
        log_bytes,
    };
    write_whole(&order.record, &serde_json::to_vec(&record)?)
}

/// Replaces a small file so that readers see the old or the new one, never a part.
///
/// It need not survive a loss of power: the processes it tells of don't either. But it must not be torn by one: a name that
/// is there after it leads to the whole file.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension(format!("{}.new", std::process::id()));
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

/// Becomes the user for good: groups first, for afterwards the right to change them is gone.
fn become_user(account: &Account) -> rustix::io::Result<()> {
    let groups: Vec<Gid> = account.groups.iter().copied().map(Gid::from_raw).collect();
    let (uid, gid) = (Uid::from_raw(account.uid), Gid::from_raw(account.gid));
    if rustix::process::getuid() == uid && !uid.is_root() {
        return Ok(());
    }
    // One thread only, so the thread's ids are the process's.
    rustix::thread::set_thread_groups(&groups)?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)
}

fn exec_fault(program: &Path, error: &io::Error) -> Fault {
    let Ok(found) = fs::metadata(program) else {
        return match error.kind() {
            io::ErrorKind::NotFound => Fault::ProgramMissing,
            _ => Fault::ProgramNotExecutable(error.to_string()),
        };
    };
    let why = if found.is_dir() {
        "it is a folder".into()
    } else if found.permissions().mode() & 0o111 == 0 {
        "its mode has no x".into()
    } else if error.kind() == io::ErrorKind::NotFound {
        "the interpreter in its first line, or its loader, does not exist".into()
    } else {
        error.to_string()
    };
    Fault::ProgramNotExecutable(why)
}
