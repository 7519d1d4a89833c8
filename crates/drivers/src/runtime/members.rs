//! All processes of an instance, the double-forked ones included.
//!
//! A process group is not enough: a daemon leaves it. Every process of an instance inherits a mark in its
//! environment ([`MARK`]); one whose environment was overwritten in place (some programs write their title
//! there) is still known by its session.

use super::identity::{Identity, Stat, is_gone, open_pid};
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
    /// The main process as recorded, dead or alive.
    pub(crate) leader: Option<&'a Identity>,
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
    /// Finds the members among the processes not yet in `seen`, and adds all it looked at to `seen`.
    ///
    /// A second look is cheap, for it reads only what was started since.
    pub(crate) fn find(&self, seen: &mut BTreeSet<u32>) -> io::Result<Vec<Member>> {
        let leader_lives = match self.leader {
            Some(leader) => leader.open()?.is_some(),
            None => false,
        };
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
            if !seen.insert(pid) {
                continue;
            }
            // The handle is taken before the check: if the process ends in between and its id is reused,
            // the handle stays with the dead one and no stranger is signalled.
            let Some(handle) = open_pid(pid)? else { continue };
            if self.holds(pid, leader_lives)? {
                found.push(Member { pid, handle });
            }
        }
        Ok(found)
    }

    fn holds(&self, pid: u32, leader_lives: bool) -> io::Result<bool> {
        match mark_of(pid) {
            Ok(Some(mark)) if mark == self.mark.as_bytes() => return Ok(true),
            Ok(_) => {}
            Err(gone) if is_gone(&gone) => return Ok(false),
            // Another user's process; its session can still be seen.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            Err(error) => return Err(error),
        }
        let Some(leader) = self.leader else { return Ok(false) };
        let stat = match Stat::of(pid) {
            Ok(stat) => stat,
            Err(gone) if is_gone(&gone) => return Ok(false),
            Err(error) => return Err(error),
        };
        let same_session = stat.session == leader.pid || stat.group == leader.pid;
        if !same_session || stat.is_dead() || stat.start_ticks < leader.start_ticks {
            return Ok(false);
        }
        // While the leader lives, its id can't be another's session. After its death it could be, so then
        // only the inherited lock proves kinship.
        Ok(leader_lives || has_open(pid, self.lock))
    }
}

/// Gives the value of [`MARK`] in a process's environment.
pub(crate) fn mark_of(pid: u32) -> io::Result<Option<Vec<u8>>> {
    let mut environment = Vec::new();
    fs::File::open(format!("/proc/{pid}/environ"))?
        .take(ENVIRONMENT_BYTES_MAX)
        .read_to_end(&mut environment)?;
    let prefix = [MARK.as_bytes(), b"="].concat();
    let found = environment.split(|byte| *byte == 0).find_map(|entry| entry.strip_prefix(prefix.as_slice()));
    Ok(found.map(<[u8]>::to_vec))
}

fn has_open(pid: u32, path: &Path) -> bool {
    let Ok(open) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    open.flatten().any(|entry| fs::read_link(entry.path()).is_ok_and(|target| target == path))
}
