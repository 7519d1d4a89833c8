//! Instances as processes that lastgood itself starts; they outlive it and are found again.
//!
//! What runs is known from the record that the launcher wrote: process id, start time and boot. Orders for one
//! instance are serialised by a lock that the launcher shares, so a driver killed in the middle of a start
//! leaves either no process or one that the next driver finds.
//!
//! A daemon that is itself a systemd unit needs `KillMode=process`, or systemd ends the instances with it.

mod children;
mod seat;

use self::{
    children::{Children, End, unknown_end},
    seat::Seat,
};
use super::{
    Launch, PutBack, Runtime, RuntimeError, Started, Stopped, Watched,
    closed::{self, Lasting},
    identity::Identity,
    launcher::{EXECUTING, Fault, Order},
    members::{self, Census},
    post_mortem::{last_lines, reason},
    user,
};
use lastgood_domain::{
    facts::Liveness,
    terms::{Digest, InstanceName, ServiceName, Span},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

/// Longest time from spawn to exec: opening files and a user's look-up, on a machine that swaps.
const LAUNCH_WAIT: Span = Span::seconds(10);
/// Largest record or end file read; ours have a few hundred bytes.
const RECORD_BYTES_MAX: u64 = 64 * 1024;

/// Runs instances as processes below `STATE/run`.
#[derive(Debug)]
pub struct ProcessRuntime {
    state_dir: PathBuf,
    launcher: PathBuf,
    children: Arc<Children>,
    census: Census,
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
        if let Some(record) = seat.record_of_what_runs(&self.census)? {
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
            let found = user::look_up(name);
            let found =
                found.ok_or_else(|| RuntimeError::UserUnknown { instance: seat.to_string(), user: name.into() })?;
            found.within(&launch.groups).map_err(|group| {
                let what = format!("its group {group} is unknown");
                RuntimeError::LaunchInvalid { instance: seat.to_string(), what }
            })
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

    fn started_last(&self, service: &ServiceName, instance: &InstanceName) -> Result<Option<Digest>, RuntimeError> {
        // A stop removes the record.
        Ok(self.seat(service, instance).record_of_what_runs(&self.census)?.map(|record| record.release.digest))
    }

    fn runs_from(&self, service: &ServiceName, instance: &InstanceName) -> Result<Vec<String>, RuntimeError> {
        let seat = self.seat(service, instance);
        let failed = |source| RuntimeError::io("look at the processes in", "/proc", source);
        let pids = self.census.marked(seat.mark.as_bytes()).map_err(failed)?;
        Ok(pids.into_iter().filter_map(members::installation_of).collect())
    }

    fn liveness(&self, service: &ServiceName, instance: &InstanceName) -> Result<Liveness, RuntimeError> {
        let seat = self.seat(service, instance);
        let Some(record) = seat.record_of_what_runs(&self.census)? else {
            let why = match (seat.marker.exists(), seat.record_path().exists()) {
                (true, _) => "stopped by lastgood",
                (false, true) => "its record is damaged, as by a power cut, and nothing of it runs",
                (false, false) => "never started",
            };
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
        let Some(record) = seat.record_of_what_runs(&self.census)? else { return Ok(None) };
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
        let Some(record) = seat.record_of_what_runs(&self.census)? else { return Ok(None) };
        if seat.handle_of(&record.identity)?.is_some() {
            return Ok(None);
        }
        let why = self.end_of(&seat, &record.identity).unwrap_or_else(unknown_end);
        let lines = last_lines(&record.log, record.log_bytes)?;
        Ok(Some(reason(seat.to_string(), why, lines)))
    }

    fn environment(&self, launch: &Launch) -> BTreeMap<String, String> {
        launch.env.clone()
    }

    fn arguments(&self, launch: &Launch) -> Vec<String> {
        launch.argv.clone()
    }

    fn put_back(&self, _launch: &Launch, _beside: &str) -> Result<Option<PutBack>, RuntimeError> {
        Ok(None)
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
