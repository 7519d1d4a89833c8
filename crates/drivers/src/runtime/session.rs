//! Leaving the instance we were called from, so that a rollback of it doesn't end the driver that does it.
//!
//! A person may type the rollback in a terminal that the very service hosts. The driver is then started again
//! in a session of its own, without the instance's mark, input and output, and under systemd in a scope of its
//! own, outside of the unit's cgroup.

use super::{
    RuntimeError,
    bus::Bus,
    members::{self, MARK},
};
use serde::{Deserialize, Serialize};
use std::{
    convert::Infallible,
    ffi::OsString,
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::{fs::OpenOptionsExt as _, net::UnixStream, process::CommandExt as _},
    },
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// Longest wait for the detached process to be on its own: two calls to systemd, 25 s each.
const DETACH_WAIT: Duration = Duration::from_secs(60);
/// Longest order or answer: a command line.
const ORDER_BYTES_MAX: u64 = 1024 * 1024;

/// A process that runs on its own.
#[derive(Debug, Clone)]
pub struct Detached {
    /// Its process id.
    pub pid: u32,
    /// Where it runs.
    pub place: Place,
    ended: Arc<AtomicBool>,
}

impl Detached {
    /// Tells whether it has ended since.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }
}

/// What a detached process has left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// The caller's session, process group and terminal.
    Session,
    /// These, and the caller's unit: it runs in this scope of systemd.
    Scope(String),
}

#[derive(Serialize, Deserialize)]
struct Order {
    argv: Vec<String>,
    bus: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Answer {
    Leaving(Place),
    Failed(String),
}

/// Names the instance that hosts the calling process, as `service/instance`; none outside of all instances.
pub fn host() -> Option<String> {
    let mark = String::from_utf8(members::own_mark()?).ok()?;
    Some(mark.split_once('@')?.0.to_owned())
}

/// Starts `argv` outside of the caller's session, process group and unit; its output is appended to `log`.
///
/// `launcher` is as for [`super::process::ProcessRuntime::new`]; `bus` overrides the system bus. The
/// environment is the caller's without the instance's mark. Returns when the process is on its own.
/// Errors: [`RuntimeError::NotDetached`] if it could not leave the service it was called from; nothing runs then.
pub fn detach(launcher: &Path, argv: &[String], log: &Path, bus: Option<&str>) -> Result<Detached, RuntimeError> {
    let failed = |error: io::Error| RuntimeError::NotDetached { why: error.to_string() };
    let output = File::options()
        .append(true)
        .create(true)
        .mode(0o640)
        .open(log)
        .map_err(|source| RuntimeError::io("append to the log", log, source))?;
    let (mut ours, theirs) = UnixStream::pair().map_err(failed)?;
    ours.set_read_timeout(Some(DETACH_WAIT)).map_err(failed)?;
    let mut child = Command::new(launcher)
        .args(["internal", "detach"])
        .env_remove(MARK)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(output.try_clone().map_err(failed)?)
        .stderr(output)
        .spawn()
        .map_err(failed)?;
    let pid = child.id();
    let order = Order { argv: argv.to_vec(), bus: bus.map(str::to_owned) };
    let mut talk = || -> io::Result<Option<Answer>> {
        let mut line = serde_json::to_vec(&order)?;
        line.push(b'\n');
        ours.write_all(&line)?;
        let mut last = None;
        // Ends when it executes the program, or ends.
        for line in BufReader::new((&ours).take(ORDER_BYTES_MAX)).lines() {
            last = Some(serde_json::from_str(&line?)?);
        }
        Ok(last)
    };
    let why = match talk() {
        Ok(Some(Answer::Leaving(place))) => {
            // Reaps it should it end before the caller does.
            let ended = Arc::new(AtomicBool::new(false));
            let notes = Arc::clone(&ended);
            std::thread::spawn(move || {
                let _ = child.wait();
                notes.store(true, Ordering::SeqCst);
            });
            return Ok(Detached { pid, place, ended });
        }
        Ok(Some(Answer::Failed(why))) => why,
        Ok(None) => "it ended without a word".into(),
        Err(error) => error.to_string(),
    };
    let _ = child.kill();
    let _ = child.wait();
    Err(RuntimeError::NotDetached { why })
}

/// The detached side: leaves, then becomes the program.
pub(crate) fn leave(_: impl Iterator<Item = OsString>) -> Result<Infallible, RuntimeError> {
    let failed = |error: &dyn std::fmt::Display| RuntimeError::NotDetached { why: error.to_string() };
    let input = io::stdin().as_fd().try_clone_to_owned().map_err(|error| failed(&error))?;
    let mut caller = UnixStream::from(input);
    let mut line = String::new();
    BufReader::new(&caller).take(ORDER_BYTES_MAX).read_line(&mut line).map_err(|error| failed(&error))?;
    let order: Order = serde_json::from_str(&line).map_err(|error| failed(&error))?;
    let error = match try_to_leave(&order, &mut caller) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    let answer = Answer::Failed(error.to_string());
    let _ = writeln!(caller, "{}", serde_json::to_string(&answer).unwrap_or_default());
    Err(error)
}

fn try_to_leave(order: &Order, caller: &mut UnixStream) -> Result<Infallible, RuntimeError> {
    let failed = |error: &dyn std::fmt::Display| RuntimeError::NotDetached { why: error.to_string() };
    let [program, arguments @ ..] = order.argv.as_slice() else { return Err(failed(&"no command to run")) };
    rustix::process::setsid().map_err(|error| failed(&error))?;
    let place = leave_unit(order.bus.as_deref())?;
    let nothing = File::open("/dev/null").map_err(|error| failed(&error))?;
    rustix::stdio::dup2_stdin(&nothing).map_err(|error| failed(&error))?;
    let answer = serde_json::to_string(&Answer::Leaving(place)).map_err(|error| failed(&error))?;
    // The caller may have been ended by what we came to end.
    let _ = writeln!(caller, "{answer}");
    Err(failed(&Command::new(program).args(arguments).exec()))
}

/// Moves this process out of its unit, if it is in one.
fn leave_unit(bus: Option<&str>) -> Result<Place, RuntimeError> {
    let cgroups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let Some(unit) = unit_of(&cgroups) else { return Ok(Place::Session) };
    if bus.is_none() && !Path::new("/run/systemd/system").exists() {
        return Ok(Place::Session);
    }
    let pid = std::process::id();
    let scope = format!("lastgood-{pid}.scope");
    let moved =
        Bus::connect(bus).and_then(|bus| bus.start_scope(&scope, "lastgood, called from inside an instance", &[pid]));
    match moved {
        Ok(()) => Ok(Place::Scope(scope)),
        // A login's scope is not ended with a service; a service's cgroup is.
        Err(_) if unit.ends_with(".scope") => Ok(Place::Session),
        Err(error) => {
            let cause = std::error::Error::source(&error).map_or_else(String::new, |cause| format!(": {cause}"));
            Err(RuntimeError::NotDetached { why: format!("can't leave {unit}: {error}{cause}") })
        }
    }
}

/// Finds the innermost unit in `/proc/PID/cgroup`.
fn unit_of(cgroups: &str) -> Option<&str> {
    cgroups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let unit = |part: &&str| part.ends_with(".service") || part.ends_with(".scope");
        matches!(controllers, "" | "name=systemd").then(|| path.rsplit('/').find(unit)).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_unit_is_the_one_to_leave() {
        let new = "0::/user.slice/user-0.slice/session-3.scope\n";
        assert_eq!(unit_of(new), Some("session-3.scope"));
        let old = "4:memory:/a.service\n1:name=systemd:/system.slice/system-notes.slice/notes@alice.service/sub\n";
        assert_eq!(unit_of(old), Some("notes@alice.service"));
        assert_eq!(unit_of("0::/init\n"), None);
        assert_eq!(unit_of(""), None);
    }
}
