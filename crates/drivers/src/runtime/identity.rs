//! Which process is meant: a process id alone is reused, so it is kept with its start time and the boot.

use rustix::{
    fd::OwnedFd,
    process::{Pid, PidfdFlags, pidfd_open},
};
use serde::{Deserialize, Serialize};
use std::{fs, io};

/// One process of one boot, which no later process can be taken for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Process id.
    pub pid: u32,
    /// When it was started: clock ticks since boot, field 22 of `/proc/PID/stat`.
    pub start_ticks: u64,
    /// The kernel's random id of the boot.
    pub boot: String,
}

impl Identity {
    /// Identifies a process that exists now.
    pub fn of(pid: u32) -> io::Result<Self> {
        Ok(Self { pid, start_ticks: Stat::of(pid)?.start_ticks, boot: boot()? })
    }

    /// Gives a handle to exactly this process, or none if it is gone or a zombie.
    ///
    /// The handle is taken first and the identity checked after: a signal through it can't reach a stranger.
    pub fn open(&self) -> io::Result<Option<OwnedFd>> {
        let Some(handle) = open_pid(self.pid)? else { return Ok(None) };
        let same = match Self::of(self.pid) {
            Ok(now) => now == *self,
            Err(gone) if is_gone(&gone) => false,
            Err(error) => return Err(error),
        };
        let alive = same && Stat::of(self.pid).is_ok_and(|stat| !stat.is_dead());
        Ok(alive.then_some(handle))
    }
}

/// Gives the kernel's random id of this boot.
pub(crate) fn boot() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Opens a handle to whatever process has this id; none if there is none.
pub(crate) fn open_pid(pid: u32) -> io::Result<Option<OwnedFd>> {
    let Some(raw) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(None) };
    match pidfd_open(raw, PidfdFlags::empty()) {
        Ok(handle) => Ok(Some(handle)),
        Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Tells the two ways in which /proc says that a process has ended.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
}

/// The fields of `/proc/PID/stat` that tell a process's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) state: char,
    parent: u32,
    pub(crate) group: u32,
    pub(crate) session: u32,
    pub(crate) start_ticks: u64,
}

impl Stat {
    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        let line = fs::read(format!("/proc/{pid}/stat"))?;
        Self::parse(&String::from_utf8_lossy(&line))
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat is not understood")))
    }

    fn parse(line: &str) -> Option<Self> {
        // The program's name stands in parentheses and may hold spaces and parentheses itself.
        let mut fields = line[line.rfind(')')? + 1..].split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        let (group, session) = (fields.next()?, fields.next()?);
        // Field 22 of the line; six fields were taken, so 15 lie between.
        let start_ticks = fields.nth(15)?.parse().ok()?;
        Some(Self { state, parent, group: group.parse().ok()?, session: session.parse().ok()?, start_ticks })
    }

    /// True for a thread of the kernel: a child of kthreadd, in no group.
    pub(crate) fn is_of_kernel(self) -> bool {
        self.group == 0 && self.session == 0 && matches!(self.parent, 0 | 2)
    }

    /// True for a zombie: it runs nothing and holds nothing but its id.
    pub(crate) fn is_dead(self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_named_to_confuse_does_not_shift_the_fields() {
        let line = "4242 (a) R 1 2 (b)) S 7 11 12 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2 3";
        let stat = Stat { state: 'S', parent: 7, group: 11, session: 12, start_ticks: 987_654 };
        assert_eq!(Stat::parse(line), Some(stat));
        for cut in ["", "1 (a", "1 (a) S 1", "1 (a) S 7 11 12 0 -1 4194560 1 2 3"] {
            assert_eq!(Stat::parse(cut), None, "{cut:?}");
        }
    }

    #[test]
    fn a_reused_process_id_or_another_boot_is_a_stranger() {
        let me = Identity::of(std::process::id()).unwrap();
        assert!(me.open().unwrap().is_some());
        assert!(Identity { start_ticks: me.start_ticks + 1, ..me.clone() }.open().unwrap().is_none());
        assert!(Identity { boot: "another".into(), ..me }.open().unwrap().is_none());
    }
}
