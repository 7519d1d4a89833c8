//! Instances as processes that lastgood itself starts; they outlive it and are found again.
//!
//! What runs is known from the record that the launcher wrote: process id, start time and boot. Orders for one
//! instance are serialised by a lock that the launcher shares, so a driver killed in the middle of a start
//! leaves either no process or one that the next driver finds.
//!
//! A daemon that is itself a systemd unit needs `KillMode=process`, or systemd ends the instances with it.

use super::{
    Launch, Runtime, RuntimeError, Started, Stopped, Watched,
    closed::{self, Lasting},
    identity::Identity,
    launcher::{EXECUTING, Fault, Order, Record, write_whole},
    members::{self, Census, Kind, Member},
    post_mortem::{last_lines, reason},
    user, wait,
};
use lastgood_domain::{
    facts::Liveness,
    terms::{Digest, InstanceName, ServiceName, Span},
};
use rustix::{
    fs::FlockOperation,
    process::{Pid, Signal, kill_process_group},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::{fs::OpenOptionsExt as _, net::UnixStream},
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Longest wait for another start or stop of the same instance: more than any launch takes.
const ORDER_WAIT: Span = Span::seconds(10);
/// Longest time from spawn to exec: opening files and a user's look-up, on a machine that swaps.
const LAUNCH_WAIT: Span = Span::seconds(10);
/// Longest wait for processes to end after SIGKILL: only a process inside the kernel needs any time.
const KILL_WAIT: Span = Span::seconds(5);
/// Longest wait for our reaper after a child has ended: it only has to be scheduled.
const REAP_WAIT: Duration = Duration::from_secs(1);
/// Longest wait for the main process alone before those outside its group are asked as well.
const LEADER_WAIT: Duration = Duration::from_millis(100);
/// Rounds of looking for processes started while we killed: each round kills all that were there before it.
const KILL_ROUNDS_MAX: usize = 100;
/// Largest record or end file read; ours have a few hundred bytes.
const RECORD_BYTES_MAX: u64 = 64 * 1024;
/// A reaper thread only waits and writes one small file.
const REAPER_STACK_BYTES: usize = 128 * 1024;

/// Runs instances as processes below `STATE/run`.
#[derive(Debug)]
pub struct ProcessRuntime {
    state_dir: PathBuf,
    launcher: PathBuf,
    children: Arc<Children>,
    census: Census,
}

/// The children of this process that are not reaped yet.
#[derive(Debug, Default)]
struct Children {
    alive: Mutex<BTreeSet<u32>>,
    reaped: Condvar,
}

/// How an instance's main process ended, as its parent saw it.
#[derive(Debug, Serialize, Deserialize)]
struct End {
    identity: Identity,
    why: String,
}

struct Seat<'a> {
    service: &'a ServiceName,
    instance: &'a InstanceName,
    folder: PathBuf,
    marker: PathBuf,
    mark: String,
}

impl ProcessRuntime {
    /// Makes a runtime that keeps its records below `state_dir` and starts through `launcher`.
    ///
    /// `launcher` is a binary that calls [`super::launcher::main`] for its argument `internal`: lastgood's own
    /// (`std::env::current_exe`), or a test's. `state_dir` is created if missing; all drivers must name the same.
    pub fn new(state_dir: &Path, launcher: &Path) -> Result<Self, RuntimeError> {
        fs::create_dir_all(state_dir)
            .map_err(|source| RuntimeError::io("create the state folder", state_dir, source))?;
        // The path marks our processes and is compared with what /proc says, so it must have one spelling.
        let state_dir = fs::canonicalize(state_dir)
            .map_err(|source| RuntimeError::io("find the state folder", state_dir, source))?;
        Ok(Self { state_dir, launcher: launcher.into(), children: Arc::default(), census: Census::default() })
    }

    fn seat<'a>(&self, service: &'a ServiceName, instance: &'a InstanceName) -> Seat<'a> {
        let folder = self.state_dir.join("run").join(service.as_str()).join(instance.as_str());
        // Two lastgoods on one machine may have instances of the same name.
        let owner = Digest::of(self.state_dir.as_os_str().as_encoded_bytes()).short();
        let mark = format!("{service}/{instance}@{owner}");
        Seat { service, instance, folder, marker: closed::marker(&self.state_dir, service, instance), mark }
    }

    /// Spawns the launcher and waits until it has become the program.
    fn launch(&self, seat: &Seat<'_>, order: &Order, order_lock: &File) -> Result<u32, RuntimeError> {
        let failed = |why: String| RuntimeError::LauncherFailed {
            instance: seat.to_string(),
            launcher: self.launcher.clone(),
            why,
        };
        let said = |error: io::Error| failed(error.to_string());
        let (ours, theirs) = UnixStream::pair().map_err(said)?;
        ours.set_read_timeout(Some(LAUNCH_WAIT.duration())).map_err(said)?;
        ours.set_write_timeout(Some(LAUNCH_WAIT.duration())).map_err(said)?;
        let mut child = Command::new(&self.launcher)
            .args(["internal", "launch"])
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(order_lock.try_clone().map_err(said)?))
            .stderr(Stdio::null())
            .spawn()
            .map_err(said)?;
        let pid = child.id();
        match converse(&ours, order) {
            Ok(Outcome::Executed) => {
                self.children.adopt(child, seat.end_path(), Identity::of(pid).ok());
                Ok(pid)
            }
            outcome => {
                // It may hang before its exec; nothing of the program has run, so it is simply ended.
                let _ = child.kill();
                let _ = child.wait();
                let _ = fs::remove_file(seat.record_path());
                Err(match outcome {
                    Ok(Outcome::Gave(fault)) => seat.explain(fault, order),
                    Ok(Outcome::Executed | Outcome::Vanished) => failed("it ended without a word".into()),
                    Err(error) => said(error),
                })
            }
        }
    }

    /// Tells how the recorded process ended, if its parent was this process or an earlier driver.
    fn end_of(&self, seat: &Seat<'_>, identity: &Identity) -> Option<String> {
        self.children.wait_reaped(identity.pid);
        let end: End = serde_json::from_slice(&fs::read(seat.end_path()).ok()?).ok()?;
        (end.identity == *identity).then_some(end.why)
    }
}

impl Runtime for ProcessRuntime {
    fn start(&self, launch: &Launch) -> Result<Started, RuntimeError> {
        let seat = self.seat(&launch.service, &launch.instance);
        seat.check(launch)?;
        let order_lock = seat.take_order()?;
        if let Some(record) = seat.record()? {
            if seat.handle_of(&record.identity)?.is_some() {
                if record.release.digest != launch.release.digest {
                    return Err(RuntimeError::OtherReleaseRuns {
                        instance: seat.to_string(),
                        running: record.release.to_string(),
                        asked: launch.release.digest,
                    });
                }
                closed::open(&seat.marker, Lasting::UntilReboot)?;
                return Ok(Started { pid: record.identity.pid, already: true });
            }
            // It ended without a stop, so others of it may be left. A stop removes the record.
            let left = seat.find(&self.census, Some(&record), &mut BTreeSet::new())?;
            if !left.is_empty() {
                let pids = left.iter().map(|member| member.pid).collect();
                return Err(RuntimeError::LeftOver { instance: seat.to_string(), pids });
            }
        }
        let account = launch.user.as_deref().map(|name| {
            user::look_up(name)
                .ok_or_else(|| RuntimeError::UserUnknown { instance: seat.to_string(), user: name.into() })
        });
        let order = seat.order(launch, account.transpose()?);
        closed::open(&seat.marker, Lasting::UntilReboot)?;
        let pid = self.launch(&seat, &order, &order_lock)?;
        Ok(Started { pid, already: false })
    }

    fn stop(&self, service: &ServiceName, instance: &InstanceName, grace: Span) -> Result<Stopped, RuntimeError> {
        let seat = self.seat(service, instance);
        if members::own_mark().is_some_and(|mark| mark == seat.mark.as_bytes()) {
            return Err(RuntimeError::NotDetached { why: format!("this process is a part of {seat}") });
        }
        closed::close(&seat.marker, Lasting::UntilReboot)?;
        // Also waits for a launcher whose driver was killed: then its process is in the record, or there is none.
        let _order_lock = seat.take_order()?;
        // A damaged record must not keep us from stopping: the mark finds the processes as well.
        let leader = seat.record().ok().flatten();
        let stopped = seat.end_all(&self.census, leader.as_ref(), grace)?;
        match fs::remove_file(seat.record_path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(RuntimeError::io("remove the record", seat.record_path(), error))
            }
            _ => Ok(stopped),
        }
    }

    fn liveness(&self, service: &ServiceName, instance: &InstanceName) -> Result<Liveness, RuntimeError> {
        let seat = self.seat(service, instance);
        let Some(record) = seat.record()? else {
            let why = if seat.marker.exists() { "stopped by lastgood" } else { "never started" };
            return Ok(Liveness::Down { why: why.into() });
        };
        if seat.handle_of(&record.identity)?.is_some() {
            return Ok(Liveness::Up { pid: record.identity.pid, release: Some(record.release.digest) });
        }
        let why = self.end_of(&seat, &record.identity);
        Ok(Liveness::Down { why: why.unwrap_or_else(unknown_end) })
    }

    fn watch(&self, service: &ServiceName, instance: &InstanceName) -> Result<Option<Watched>, RuntimeError> {
        let seat = self.seat(service, instance);
        let Some(record) = seat.record()? else { return Ok(None) };
        let handle = seat.handle_of(&record.identity)?;
        Ok(handle.map(|handle| Watched {
            service: service.clone(),
            instance: instance.clone(),
            pid: record.identity.pid,
            handle,
        }))
    }

    fn post_mortem(
        &self,
        service: &ServiceName,
        instance: &InstanceName,
    ) -> Result<Option<RuntimeError>, RuntimeError> {
        let seat = self.seat(service, instance);
        let Some(record) = seat.record()? else { return Ok(None) };
        if seat.handle_of(&record.identity)?.is_some() {
            return Ok(None);
        }
        let why = self.end_of(&seat, &record.identity).unwrap_or_else(unknown_end);
        let lines = last_lines(&record.log, record.log_bytes)?;
        Ok(Some(reason(seat.to_string(), why, lines)))
    }
}

impl std::fmt::Display for Seat<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.service, self.instance)
    }
}

impl Seat<'_> {
    fn record_path(&self) -> PathBuf {
        self.folder.join("record.json")
    }

    fn end_path(&self) -> PathBuf {
        self.folder.join("end.json")
    }

    fn lock_path(&self) -> PathBuf {
        self.folder.join("lock")
    }

    fn check(&self, launch: &Launch) -> Result<(), RuntimeError> {
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

    fn order(&self, launch: &Launch, account: Option<user::Account>) -> Order {
        let mut env = launch.env.clone();
        env.entry("PATH".into()).or_insert_with(|| super::DEFAULT_PATH.into());
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
    fn take_order(&self) -> Result<File, RuntimeError> {
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

    fn record(&self) -> Result<Option<Record>, RuntimeError> {
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

    fn handle_of(&self, identity: &Identity) -> Result<Option<OwnedFd>, RuntimeError> {
        identity.open().map_err(|source| RuntimeError::io("look at the process in", "/proc", source))
    }

    fn find(
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
    fn end_all(&self, census: &Census, leader: Option<&Record>, grace: Span) -> Result<Stopped, RuntimeError> {
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

    fn explain(&self, fault: Fault, order: &Order) -> RuntimeError {
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

impl Children {
    /// Takes over a child: a thread of its own reaps it and writes down how it ended.
    fn adopt(self: &Arc<Self>, mut child: Child, end_path: PathBuf, identity: Option<Identity>) {
        let pid = child.id();
        self.lock().insert(pid);
        let children = Arc::clone(self);
        let reap = move || {
            let status = child.wait();
            if let (Ok(status), Some(identity)) = (status, identity) {
                let end = End { identity, why: said(status) };
                // Without it the end is reported as unknown, which is true then.
                let _ = serde_json::to_vec(&end).map(|bytes| write_whole(&end_path, &bytes));
            }
            children.lock().remove(&pid);
            children.reaped.notify_all();
        };
        let spawned =
            std::thread::Builder::new().name(format!("reap-{pid}")).stack_size(REAPER_STACK_BYTES).spawn(reap);
        if spawned.is_err() {
            // No thread to be had: it stays a zombie until we end, which harms nobody; nobody may wait for it.
            self.lock().remove(&pid);
        }
    }

    /// Waits until a child that has ended is reaped; others are no child of ours.
    fn wait_reaped(&self, pid: u32) {
        let alive = self.lock();
        // The result is only read: after the time-out the end is reported as unknown.
        let _ = self.reaped.wait_timeout_while(alive, REAP_WAIT, |alive| alive.contains(&pid));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<u32>> {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Outcome {
    Executed,
    Gave(Fault),
    Vanished,
}

/// Sends the order and reads to the end of the launcher: its socket closes when it executes the program.
fn converse(mut socket: &UnixStream, order: &Order) -> io::Result<Outcome> {
    let mut line = serde_json::to_vec(order)?;
    line.push(b'\n');
    socket.write_all(&line)?;
    let mut outcome = Outcome::Vanished;
    for line in BufReader::new(socket.take(RECORD_BYTES_MAX)).lines() {
        let line = line?;
        outcome = match line.as_str() {
            EXECUTING => Outcome::Executed,
            fault => Outcome::Gave(serde_json::from_str(fault)?),
        };
    }
    Ok(outcome)
}

fn signal_group(pid: u32, signal: Signal) -> io::Result<()> {
    let Some(group) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(()) };
    match kill_process_group(group, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn holders_of(path: &Path) -> Vec<u32> {
    super::holders::holders(&[path])
        .map(|scan| scan.holders.into_iter().map(|holder| holder.pid).collect())
        .unwrap_or_default()
}

fn said(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => unknown_end(),
    }
}

fn unknown_end() -> String {
    "ended; its exit status is unknown, for lastgood was not its parent any more".into()
}
