//! One instance's place on the disk and in the process table: its order lock, its record, its end.

use super::{
    super::{
        Launch, RuntimeError, Stopped, holders,
        identity::Identity,
        launcher::{Fault, Order, Record},
        members::{Census, Kind, Member},
        user, wait,
    },
    RECORD_BYTES_MAX,
};
use lastgood_domain::terms::{InstanceName, ServiceName, Span};
use rustix::{
    fs::FlockOperation,
    process::{Pid, Signal, kill_process_group},
};
use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::OpenOptionsExt as _,
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Longest wait for another start or stop of the same instance: more than any launch takes.
const ORDER_WAIT: Span = Span::seconds(10);
/// Longest wait for processes to end after SIGKILL: only a process inside the kernel needs any time.
const KILL_WAIT: Span = Span::seconds(5);
/// Longest wait for the main process alone before those outside its group are asked as well.
const LEADER_WAIT: Duration = Duration::from_millis(100);
/// Rounds of looking for processes started while we killed: each round kills all that were there before it.
const KILL_ROUNDS_MAX: usize = 100;

pub(super) struct Seat<'a> {
    pub(super) service: &'a ServiceName,
    pub(super) instance: &'a InstanceName,
    pub(super) folder: PathBuf,
    pub(super) marker: PathBuf,
    pub(super) mark: String,
}

impl std::fmt::Display for Seat<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.service, self.instance)
    }
}

impl Seat<'_> {
    pub(super) fn record_path(&self) -> PathBuf {
        self.folder.join("record.json")
    }

    pub(super) fn end_path(&self) -> PathBuf {
        self.folder.join("end.json")
    }

    pub(super) fn lock_path(&self) -> PathBuf {
        self.folder.join("lock")
    }

    pub(super) fn check(&self, launch: &Launch) -> Result<(), RuntimeError> {
        let invalid = |what: &str| Err(RuntimeError::LaunchInvalid { instance: self.to_string(), what: what.into() });
        let Some(program) = launch.argv.first() else { return invalid("its command is empty") };
        if !Path::new(program).is_absolute() {
            return invalid("its program is not an absolute path");
        }
        if !launch.workdir.is_absolute() || !launch.log.is_absolute() {
            return invalid("its folder or its log is not an absolute path");
        }
        let names = launch.env.keys();
        if names.clone().any(|name| name.is_empty() || name.contains('=')) {
            return invalid("its environment has a name that is empty or holds '='");
        }
        if launch.argv.iter().chain(names).chain(launch.env.values()).any(|text| text.contains('\0')) {
            return invalid("its command or environment holds a zero byte");
        }
        Ok(())
    }

    pub(super) fn order(&self, launch: &Launch, account: Option<user::Account>) -> Order {
        let mut env = launch.env.clone();
        env.entry("PATH".into()).or_insert_with(|| super::super::DEFAULT_PATH.into());
        if let Some(account) = &account {
            env.entry("HOME".into()).or_insert_with(|| account.home.display().to_string());
            env.entry("USER".into()).or_insert_with(|| account.name.clone());
            env.entry("LOGNAME".into()).or_insert_with(|| account.name.clone());
        }
        Order {
            release: launch.release.clone(),
            argv: launch.argv.clone(),
            env,
            workdir: launch.workdir.clone(),
            account,
            log: launch.log.clone(),
            mark: self.mark.clone(),
            marker: self.marker.clone(),
            lock: self.lock_path(),
            record: self.record_path(),
        }
    }

    /// Takes the lock that every start and stop of this instance holds, the launcher included.
    pub(super) fn take_order(&self) -> Result<File, RuntimeError> {
        let path = self.folder.join("order.lock");
        let failed = |source| RuntimeError::io("lock the instance with", &path, source);
        fs::create_dir_all(&self.folder).map_err(failed)?;
        let lock = File::options().write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(failed)?;
        let until = Instant::now() + ORDER_WAIT.duration();
        loop {
            match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(lock),
                Err(rustix::io::Errno::AGAIN) if Instant::now() < until => {
                    // Only when two drivers meet. The blocking call has no time-out, so we look again.
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err(rustix::io::Errno::AGAIN) => {
                    return Err(RuntimeError::OrderUnderWay { instance: self.to_string(), waited: ORDER_WAIT });
                }
                Err(error) => return Err(failed(error.into())),
            }
        }
    }

    pub(super) fn record(&self) -> Result<Option<Record>, RuntimeError> {
        let path = self.record_path();
        let damaged =
            |why: String| RuntimeError::RecordDamaged { instance: self.to_string(), path: self.record_path(), why };
        let mut bytes = Vec::new();
        match File::open(&path).and_then(|file| file.take(RECORD_BYTES_MAX).read_to_end(&mut bytes)) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(RuntimeError::io("read the record", path, error)),
        }
        let record: Record = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        match record.version {
            1 => Ok(Some(record)),
            other => Err(damaged(format!("its version is {other}, this lastgood knows 1"))),
        }
    }

    /// Gives the record; a damaged one is as good as none where nothing of the instance runs.
    pub(super) fn record_of_what_runs(&self, census: &Census) -> Result<Option<Record>, RuntimeError> {
        match self.record() {
            Err(RuntimeError::RecordDamaged { .. }) if self.is_deserted(census)? => Ok(None),
            other => other,
        }
    }

    /// Tells whether no process carries the instance's mark or has its lock, which each of them is born with.
    fn is_deserted(&self, census: &Census) -> Result<bool, RuntimeError> {
        let marked = self.find(census, None, &mut BTreeSet::new())?;
        Ok(marked.is_empty() && holders::holders(&[&self.lock_path()])?.holders.is_empty())
    }

    pub(super) fn handle_of(&self, identity: &Identity) -> Result<Option<OwnedFd>, RuntimeError> {
        identity.open().map_err(|source| RuntimeError::io("look at the process in", "/proc", source))
    }

    pub(super) fn find(
        &self,
        census: &Census,
        leader: Option<&Record>,
        seen: &mut BTreeSet<u32>,
    ) -> Result<Vec<Member>, RuntimeError> {
        let leader = leader.map(|record| (&record.identity, record.forks));
        Kind { mark: &self.mark, leader, lock: &self.lock_path() }
            .find(census, seen)
            .map_err(|source| RuntimeError::io("look for the instance's processes in", "/proc", source))
    }

    /// Ends every process of the instance: asked first, killed after the grace.
    pub(super) fn end_all(
        &self,
        census: &Census,
        leader: Option<&Record>,
        grace: Span,
    ) -> Result<Stopped, RuntimeError> {
        let failed = |source| RuntimeError::io("end the instance's processes in", "/proc", source);
        let until = Instant::now() + grace.duration();
        let mut seen = BTreeSet::new();
        // The whole group at once, so that none is missed that is just being forked; only while its leader is
        // known to live, for afterwards the group's number may be another's.
        let mut led = false;
        if let Some(leader) = leader
            && let Some(handle) = self.handle_of(&leader.identity)?
        {
            let group = leader.identity.pid;
            signal_group(group, Signal::TERM).and_then(|()| signal_group(group, Signal::CONT)).map_err(failed)?;
            // Most are gone with their leader in some milliseconds, and then one look at all processes is enough.
            wait::wait_any(&[handle.as_fd()], until.min(Instant::now() + LEADER_WAIT)).map_err(failed)?;
            led = true;
        }
        let mut left = self.find(census, leader, &mut seen)?;
        if left.is_empty() {
            return Ok(if led { Stopped::Asked } else { Stopped::NotRunning });
        }
        for _ in 0..KILL_ROUNDS_MAX {
            for member in &left {
                member.signal(Signal::TERM).and_then(|()| member.signal(Signal::CONT)).map_err(failed)?;
            }
            left = wait::wait_all(left, until).map_err(failed)?;
            let new = self.find(census, leader, &mut seen)?;
            if left.is_empty() && new.is_empty() {
                return Ok(Stopped::Asked);
            }
            left.extend(new);
            if Instant::now() >= until {
                break;
            }
        }
        self.kill_all(census, leader, left, &mut seen).map(|()| Stopped::Killed)
    }

    fn kill_all(
        &self,
        census: &Census,
        leader: Option<&Record>,
        mut left: Vec<Member>,
        seen: &mut BTreeSet<u32>,
    ) -> Result<(), RuntimeError> {
        let failed = |source| RuntimeError::io("kill the instance's processes in", "/proc", source);
        let until = Instant::now() + KILL_WAIT.duration();
        for _ in 0..KILL_ROUNDS_MAX {
            if let Some(leader) = leader
                && self.handle_of(&leader.identity)?.is_some()
            {
                signal_group(leader.identity.pid, Signal::KILL).map_err(failed)?;
            }
            for member in &left {
                member.signal(Signal::KILL).map_err(failed)?;
            }
            left = wait::wait_all(left, until).map_err(failed)?;
            left.extend(self.find(census, leader, seen)?);
            if left.is_empty() {
                return Ok(());
            }
            if Instant::now() >= until {
                break;
            }
        }
        let pids = left.iter().map(|member| member.pid).collect();
        Err(RuntimeError::NotStoppable { instance: self.to_string(), pids, waited: KILL_WAIT })
    }

    pub(super) fn explain(&self, fault: Fault, order: &Order) -> RuntimeError {
        let instance = self.to_string();
        let program = || PathBuf::from(order.argv.first().map_or("", String::as_str));
        match fault {
            Fault::Closed => RuntimeError::Closed { instance, marker: self.marker.clone() },
            Fault::LockHeld => RuntimeError::LeftOver { instance, pids: holders_of(&self.lock_path()) },
            Fault::Log(why) => RuntimeError::LogUnwritable { instance, log: order.log.clone(), why },
            Fault::User(why) => {
                let user = order.account.as_ref().map_or_else(String::new, |account| account.name.clone());
                RuntimeError::UserNotPermitted { instance, user, why }
            }
            Fault::Workdir(why) => RuntimeError::WorkdirMissing { instance, workdir: order.workdir.clone(), why },
            Fault::ProgramMissing => RuntimeError::ProgramMissing { instance, program: program() },
            Fault::ProgramNotExecutable(why) => {
                RuntimeError::ProgramNotExecutable { instance, program: program(), why }
            }
            Fault::Other(what) => RuntimeError::LaunchInvalid { instance, what },
        }
    }
}

fn signal_group(pid: u32, signal: Signal) -> io::Result<()> {
    let Some(group) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(()) };
    match kill_process_group(group, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn holders_of(path: &Path) -> Vec<u32> {
    holders::holders(&[path])
        .map(|scan| scan.holders.into_iter().map(|holder| holder.pid).collect())
        .unwrap_or_default()
}
