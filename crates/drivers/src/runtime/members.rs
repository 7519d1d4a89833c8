//! All processes of an instance, the double-forked ones included.
//!
//! A process group is not enough: a daemon leaves it. Every process of an instance inherits a mark in its
//! environment ([`MARK`]); one whose environment was overwritten in place (some programs write their title
//! there) is still known by its session.

use super::{
    identity::{Identity, Stat, boot, is_gone, open_pid},
    shared_look::SharedLook,
};
use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    process::{Signal, pidfd_send_signal},
};
use std::{
    collections::BTreeSet,
    fs, io,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

/// The variable that marks every process of an instance.
pub(crate) const MARK: &str = "LASTGOOD_INSTANCE";

/// Longest environment read: the kernel's own limit on arguments and environment is 6 MiB (3/4 of the
/// default 8 MiB stack).
const ENVIRONMENT_BYTES_MAX: u64 = 6 * 1024 * 1024;

/// How to recognise the processes of one instance.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind<'a> {
    /// The value of [`MARK`] in them.
    pub(crate) mark: &'a str,
    /// The main process as recorded, dead or alive, and [`forks`] when it was started.
    pub(crate) leader: Option<(&'a Identity, u64)>,
    /// The instance's lock, which is the standard input of all that did not change it.
    pub(crate) lock: &'a Path,
}

/// A living process of an instance.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) pid: u32,
    handle: Arc<OwnedFd>,
}

impl AsFd for Member {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

impl Member {
    /// Signals it; one that has ended meanwhile is no error.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.handle, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// What one look at all processes found; shared by all who asked for one at the same moment.
#[derive(Debug)]
pub(crate) struct Census(SharedLook<Result<Vec<Process>, rustix::io::Errno>>);

impl Default for Census {
    /// Its processes hold open handles, so it is forgotten as soon as nobody waits for it.
    fn default() -> Self {
        Self(SharedLook::fleeting())
    }
}

#[derive(Debug)]
struct Process {
    pid: u32,
    environment: Environment,
    stat: Stat,
}

#[derive(Debug)]
enum Environment {
    /// It holds a mark. The handle was taken between two looks at one and the same process, so that no stranger who
    /// gets the id later is signalled. Only the marked have one: a machine may run more processes than we may open.
    Marked(Vec<u8>, Arc<OwnedFd>),
    /// It holds none, or may not be read: the session can still be seen.
    Unmarked,
    /// It is empty: a thread of the kernel, or a program in the middle of an exec.
    Empty,
}

impl Census {
    /// Looks at all processes, or shares a look that began after this call.
    fn take(&self) -> io::Result<Arc<Result<Vec<Process>, rustix::io::Errno>>> {
        let shared = self.0.since(Instant::now(), || {
            count().map_err(|error| rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO))
        });
        match &*shared {
            Ok(_) => Ok(shared),
            Err(error) => Err((*error).into()),
        }
    }

    /// Gives the processes that carry a mark.
    pub(crate) fn marked(&self, mark: &[u8]) -> io::Result<Vec<u32>> {
        let all = self.take()?;
        let all = all.as_ref().as_ref().map_err(|error| io::Error::from(*error))?;
        let carries = |one: &&Process| matches!(&one.environment, Environment::Marked(own, _) if own == mark);
        Ok(all.iter().filter(carries).map(|one| one.pid).collect())
    }
}

/// Gives the instance whose process it is, such as `notes/alice`; none if it is nobody's, or may not be looked at.
pub fn instance_of(pid: u32) -> Option<String> {
    let environment = environment_of(pid).ok()?;
    let mark = String::from_utf8_lossy(mark_in(&environment)?).into_owned();
    mark.split_once('@').map(|(name, _)| name.to_owned())
}

/// Gives the name of the installation that a process runs from, as far as its program or its arguments tell.
pub(crate) fn installation_of(pid: u32) -> Option<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let arguments = line.split(|byte| *byte == 0).map(|one| String::from_utf8_lossy(one).into_owned().into());
    let program = fs::read_link(format!("/proc/{pid}/exe")).ok();
    program.into_iter().chain(arguments).find_map(|path: PathBuf| {
        let mut parts = path.iter().skip_while(|part| *part != "installations").skip(1);
        let name = parts.next()?.to_str()?.to_owned();
        (parts.next()? == "tree").then_some(name)
    })
}

fn count() -> io::Result<Vec<Process>> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        all.extend(look_at(pid)?);
    }
    Ok(all)
}

/// Looks at one process; none if it has ended.
fn look_at(pid: u32) -> io::Result<Option<Process>> {
    let stat = match Stat::of(pid) {
        Ok(stat) => stat,
        Err(gone) if is_gone(&gone) => return Ok(None),
        // Where /proc hides other users' processes (hidepid=1): not ours.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(None),
        Err(error) => return Err(error),
    };
    let environment = match environment_of(pid) {
        Ok(environment) if environment.is_empty() => Environment::Empty,
        Ok(environment) => match mark_in(&environment) {
            None => Environment::Unmarked,
            Some(mark) => match open_same(pid, stat)? {
                None => return Ok(None),
                Some(handle) => Environment::Marked(mark.to_vec(), Arc::new(handle)),
            },
        },
        Err(gone) if is_gone(&gone) => return Ok(None),
        // Another user's process.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Environment::Unmarked,
        // Its memory was taken down in the middle of the read: it ends, or executes something else.
        Err(error) if rustix::io::Errno::from_io_error(&error) == Some(rustix::io::Errno::IO) => Environment::Empty,
        Err(error) => return Err(error),
    };
    Ok(Some(Process { pid, environment, stat }))
}

/// Opens the process that `stat` was read of; none if it has ended.
fn open_same(pid: u32, stat: Stat) -> io::Result<Option<OwnedFd>> {
    let Some(handle) = open_pid(pid)? else { return Ok(None) };
    let same = Stat::of(pid).is_ok_and(|now| now.start_ticks == stat.start_ticks);
    Ok(same.then_some(handle))
}

impl Kind<'_> {
    /// Finds the members among the processes not yet in `seen`, and adds those it could judge to `seen`.
    pub(crate) fn find(&self, census: &Census, seen: &mut BTreeSet<u32>) -> io::Result<Vec<Member>> {
        let session = self.session()?;
        let census = census.take()?;
        let mut found = Vec::new();
        for process in census.iter().flatten().filter(|process| !seen.contains(&process.pid)).collect::<Vec<_>>() {
            match self.judge(process, session.as_ref())? {
                Judged::Member(handle) => {
                    seen.insert(process.pid);
                    found.push(Member { pid: process.pid, handle });
                }
                Judged::Other => {
                    seen.insert(process.pid);
                }
                Judged::Unclear => {}
            }
        }
        Ok(found)
    }

    fn judge(&self, process: &Process, session: Option<&Session<'_>>) -> io::Result<Judged> {
        let stat = process.stat;
        let judged = match &process.environment {
            Environment::Marked(mark, handle) if mark == self.mark.as_bytes() => {
                return Ok(Judged::Member(Arc::clone(handle)));
            }
            Environment::Empty if stat.is_of_kernel() => return Ok(Judged::Other),
            Environment::Empty => Judged::Unclear,
            Environment::Marked(..) | Environment::Unmarked => Judged::Other,
        };
        let Some(session) = session else { return Ok(judged) };
        let same = stat.session == session.leader.pid || stat.group == session.leader.pid;
        if !same || stat.is_dead() || stat.start_ticks < session.leader.start_ticks {
            return Ok(judged);
        }
        if !session.is_ours && !has_open(process.pid, self.lock) {
            return Ok(judged);
        }
        Ok(open_same(process.pid, stat)?.map_or(Judged::Other, |handle| Judged::Member(Arc::new(handle))))
    }

    /// Tells whether the leader's id can by now be the session of strangers.
    fn session(&self) -> io::Result<Option<Session<'_>>> {
        let Some((leader, forks_at_start)) = self.leader else { return Ok(None) };
        // Ids are handed out in a circle: until as many processes and threads were made as there are ids, the
        // leader's id can't have been given to another. Half of it, for failed forks use ids uncounted.
        let ids: u64 = read_number(&fs::read_to_string("/proc/sys/kernel/pid_max")?);
        let same_circle = forks()?.saturating_sub(forks_at_start) < ids / 2;
        let reused = Stat::of(leader.pid).is_ok_and(|stat| stat.start_ticks != leader.start_ticks);
        let is_ours = leader.boot == boot()? && !reused && (same_circle || leader.open()?.is_some());
        Ok(Some(Session { leader, is_ours }))
    }
}

/// The session of an instance's main process.
struct Session<'a> {
    leader: &'a Identity,
    /// False if its id may have been given to a stranger since.
    is_ours: bool,
}

enum Judged {
    Member(Arc<OwnedFd>),
    Other,
    /// To be looked at again.
    Unclear,
}

/// Counts the processes and threads made since boot.
pub(crate) fn forks() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/stat")?;
    Ok(text.lines().find_map(|line| line.strip_prefix("processes ")).map_or(u64::MAX, read_number))
}

fn read_number(text: &str) -> u64 {
    text.trim().parse().unwrap_or(0)
}

/// Gives the value of [`MARK`] in our own environment as it was at our start.
pub(crate) fn own_mark() -> Option<Vec<u8>> {
    mark_in(&environment_of(std::process::id()).ok()?).map(<[u8]>::to_vec)
}

/// Gives the value of [`MARK`] of a process, if it is one of an instance.
pub(crate) fn mark_of(pid: u32) -> Option<String> {
    let environment = environment_of(pid).ok()?;
    mark_in(&environment).map(|mark| String::from_utf8_lossy(mark).into_owned())
}

/// Tells whether a process has been executed as one of an instance.
pub(crate) fn carries(pid: u32, mark: &str) -> bool {
    environment_of(pid).is_ok_and(|environment| mark_in(&environment) == Some(mark.as_bytes()))
}

fn environment_of(pid: u32) -> io::Result<Vec<u8>> {
    let mut environment = Vec::new();
    fs::File::open(format!("/proc/{pid}/environ"))?.take(ENVIRONMENT_BYTES_MAX).read_to_end(&mut environment)?;
    Ok(environment)
}

fn mark_in(environment: &[u8]) -> Option<&[u8]> {
    let mut entries = environment.split(|byte| *byte == 0);
    entries.find_map(|entry| entry.strip_prefix(MARK.as_bytes())?.strip_prefix(b"="))
}

fn has_open(pid: u32, path: &Path) -> bool {
    let Ok(open) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    open.flatten().any(|entry| fs::read_link(entry.path()).is_ok_and(|target| target == path))
}
