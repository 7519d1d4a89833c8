//! All processes of an instance, the double-forked ones included.
//!
//! A process group is not enough: a daemon leaves it. Every process of an instance inherits a mark in its
//! environment ([`MARK`]); one whose environment was overwritten in place (some programs write their title
//! there) is still known by its session.

use super::identity::{Identity, Stat, boot, is_gone, open_pid};
use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    process::{Signal, pidfd_send_signal},
};
use std::{collections::BTreeSet, fs, io, io::Read as _, path::Path};

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
    handle: OwnedFd,
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

impl Kind<'_> {
    /// Finds the members among the processes not yet in `seen`, and adds those it could judge to `seen`.
    ///
    /// A second look is cheap, for it reads only what was started since.
    pub(crate) fn find(&self, seen: &mut BTreeSet<u32>) -> io::Result<Vec<Member>> {
        let session = self.session()?;
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
            if seen.contains(&pid) {
                continue;
            }
            // The handle is taken before the check: if the process ends in between and its id is reused,
            // the handle stays with the dead one and no stranger is signalled.
            let Some(handle) = open_pid(pid)? else { continue };
            match self.judge(pid, session.as_ref())? {
                Judged::Member => {
                    seen.insert(pid);
                    found.push(Member { pid, handle });
                }
                Judged::Other => {
                    seen.insert(pid);
                }
                Judged::Unclear => {}
            }
        }
        Ok(found)
    }

    fn judge(&self, pid: u32, session: Option<&Session<'_>>) -> io::Result<Judged> {
        let mut judged = Judged::Other;
        match environment_of(pid) {
            Ok(environment) if environment.is_empty() => {
                if Stat::of(pid).is_ok_and(Stat::is_of_kernel) {
                    return Ok(Judged::Other);
                }
                // In the middle of an exec a program has none for a moment.
                judged = Judged::Unclear;
            }
            Ok(environment) if mark_in(&environment) == Some(self.mark.as_bytes()) => return Ok(Judged::Member),
            Ok(_) => {}
            Err(gone) if is_gone(&gone) => return Ok(Judged::Other),
            // Another user's process; its session can still be seen.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            Err(error) => return Err(error),
        }
        let Some(session) = session else { return Ok(judged) };
        let stat = match Stat::of(pid) {
            Ok(stat) => stat,
            Err(gone) if is_gone(&gone) => return Ok(Judged::Other),
            Err(error) => return Err(error),
        };
        let same = stat.session == session.leader.pid || stat.group == session.leader.pid;
        if !same || stat.is_dead() || stat.start_ticks < session.leader.start_ticks {
            return Ok(judged);
        }
        Ok(if session.is_ours || has_open(pid, self.lock) { Judged::Member } else { judged })
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
    Member,
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
