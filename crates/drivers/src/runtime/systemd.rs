//! Instances as systemd units: the operator's template unit, and two drop-ins of ours for each instance.
//!
//! The drop-ins stay the same from release to release. What runs is decided by one link that is flipped
//! atomically while the unit is down: `STATE/units/SERVICE/INSTANCE/now` leads to a folder that holds the
//! release's record and a link to its installation. So whatever runs in the unit is what `now` says.
//!
//! The state folder must be reachable (mode x) for the unit's user, as the installations must.

mod back;
mod drift;
mod kept;
mod seat;
mod written;

use self::{
    seat::{Seat, check},
    written::{arguments, through_link},
};
use super::{
    FilesBack, Groups, Launch, PutBack, Runtime, RuntimeError, Started, Stopped, Watched,
    bus::{Bus, SERVICE, UNIT, Unit},
    closed::{self, Lasting},
    identity::open_pid,
    post_mortem::{LAST_LINES_MAX, cut, last_lines, reason},
    wait,
};
use lastgood_domain::{
    facts::Liveness,
    terms::{Digest, InstanceName, ServiceName, Span},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

/// Longest wait for a start job: the units' own default limit (`TimeoutStartSec`) is 90 s, after which
/// systemd itself gives up; 30 s more for its queue.
const START_WAIT: Span = Span::seconds(120);
/// Longest wait for processes to end after SIGKILL.
const KILL_WAIT: Span = Span::seconds(10);
/// Rounds of looking for processes forked while we killed.
const KILL_ROUNDS_MAX: usize = 20;
/// Longest wait for `journalctl`, in seconds as `timeout` reads it.
const JOURNAL_WAIT_SECONDS: &str = "5";

/// Runs each instance as a unit of systemd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SystemdConfig {
    /// Name of the unit; `{instance}` is replaced by the instance's name, such as `actual@{instance}.service`.
    /// The unit must exist; its `ExecStart`, environment and working directory are replaced by lastgood's.
    pub unit: String,
    /// Folder for the drop-ins. It must be one that systemd reads at boot, so that an instance whose data is
    /// being restored stays closed over a reboot. Default `/etc/systemd/system`.
    #[serde(default = "default_drop_in_dir")]
    pub drop_in_dir: PathBuf,
    /// Where the instance's output goes. Default `journal`: as the unit says; `file`: appended to lastgood's
    /// log of the instance.
    #[serde(default)]
    pub output: Output,
    /// D-Bus address of the systemd to use, such as `unix:path=/run/user/1000/bus`. Default: the system bus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bus: Option<String>,
}

/// Where a unit's output goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Output {
    /// As the unit says; by default systemd's journal.
    #[default]
    Journal,
    /// Appended to lastgood's log of the instance.
    File,
}

fn default_drop_in_dir() -> PathBuf {
    "/etc/systemd/system".into()
}

/// Runs instances as units of one systemd.
#[derive(Debug)]
pub struct SystemdRuntime {
    config: SystemdConfig,
    state_dir: PathBuf,
    bus: Mutex<Option<Arc<Bus>>>,
}

impl SystemdRuntime {
    /// Makes a runtime that keeps its links below `state_dir`; systemd is reached at the first order.
    pub fn new(config: SystemdConfig, state_dir: &Path) -> Result<Self, RuntimeError> {
        fs::create_dir_all(state_dir)
            .map_err(|source| RuntimeError::io("create the state folder", state_dir, source))?;
        let state_dir = fs::canonicalize(state_dir)
            .map_err(|source| RuntimeError::io("find the state folder", state_dir, source))?;
        Ok(Self { config, state_dir, bus: Mutex::default() })
    }

    fn bus(&self) -> Result<Arc<Bus>, RuntimeError> {
        let mut kept = self.bus.lock().unwrap_or_else(PoisonError::into_inner);
        match kept.as_ref() {
            Some(bus) if !bus.is_closed() => Ok(Arc::clone(bus)),
            _ => {
                let bus = Arc::new(Bus::connect(self.config.bus.as_deref())?);
                *kept = Some(Arc::clone(&bus));
                Ok(bus)
            }
        }
    }

    fn seat(&self, service: &ServiceName, instance: &InstanceName) -> Seat {
        let owner = Digest::of(self.state_dir.as_os_str().as_encoded_bytes()).short();
        Seat {
            label: format!("{service}/{instance}"),
            unit: self.config.unit.replace("{instance}", instance.as_str()),
            folder: self.state_dir.join("units").join(service.as_str()).join(instance.as_str()),
            marker: closed::marker(&self.state_dir, service, instance),
            mark: format!("{service}/{instance}@{owner}"),
        }
    }

    /// Loads the unit; one that is missing, masked or broken is an error.
    fn load(&self, bus: &Bus, seat: &Seat) -> Result<Unit, RuntimeError> {
        let missing = |why: String| RuntimeError::UnitMissing { unit: seat.unit.clone(), why };
        if !seat.unit.ends_with(".service") || seat.unit.contains('/') {
            return Err(missing("its name must end in .service".into()));
        }
        let unit = bus.load(&seat.unit)?;
        let state: String = bus.property(&unit, UNIT, "LoadState")?;
        if state == "loaded" {
            return Ok(unit);
        }
        let (_, text): (String, String) = bus
            .property::<zbus::zvariant::OwnedValue>(&unit, UNIT, "LoadError")
            .ok()
            .and_then(|value| value.try_into().ok())
            .unwrap_or_default();
        Err(missing(if text.is_empty() { format!("it is {state}") } else { format!("it is {state}: {text}") }))
    }

    /// Makes systemd read the drop-ins again, if it has not: also after a kill between writing and reloading.
    fn reload_if(&self, bus: &Bus, unit: &Unit, written: bool) -> Result<(), RuntimeError> {
        if written || bus.property::<bool>(unit, UNIT, "NeedDaemonReload")? {
            bus.call::<_, ()>("reload the unit files for", &unit.name, "Reload", &())?;
        }
        Ok(())
    }

    fn state_of(&self, bus: &Bus, unit: &Unit) -> Result<String, RuntimeError> {
        bus.property(unit, UNIT, "ActiveState")
    }

    fn main_pid(&self, bus: &Bus, unit: &Unit) -> Result<Option<u32>, RuntimeError> {
        let pid: u32 = bus.property(unit, SERVICE, "MainPID")?;
        Ok((pid != 0).then_some(pid))
    }

    /// Says what the unit says of its end.
    fn end_of(&self, bus: &Bus, unit: &Unit) -> Result<String, RuntimeError> {
        let result: String = bus.property(unit, SERVICE, "Result")?;
        let code: i32 = bus.property(unit, SERVICE, "ExecMainCode")?;
        let status: i32 = bus.property(unit, SERVICE, "ExecMainStatus")?;
        // CLD_EXITED, CLD_KILLED, CLD_DUMPED of waitid(2).
        let how = match (code, status) {
            (1, status) => format!("exit status {status}"),
            (2 | 3, signal) => format!("killed by signal {signal}"),
            _ => "never started".into(),
        };
        let sub: String = bus.property(unit, UNIT, "SubState")?;
        Ok(match (result.as_str(), sub.as_str()) {
            ("success" | "exit-code" | "signal" | "core-dump", "auto-restart") => {
                format!("{how}; systemd will start it again")
            }
            ("success" | "exit-code" | "signal" | "core-dump", _) => how,
            (other, _) => format!("{how} ({other})"),
        })
    }

    fn start_unit(&self, bus: &Bus, seat: &Seat, unit: &Unit) -> Result<u32, RuntimeError> {
        let name = seat.unit.as_str();
        // A unit that never failed has nothing to reset, which systemd may call an error.
        let _ = bus.call::<_, ()>("reset", name, "ResetFailedUnit", &name);
        let (_, result) = bus.run_job("start", name, "StartUnit", &(name, "replace"), START_WAIT)?;
        let failed = |result: &str| -> Result<RuntimeError, RuntimeError> {
            let why = self.end_of(bus, unit)?;
            Ok(RuntimeError::JobFailed { act: "start", unit: name.into(), result: result.into(), why })
        };
        match result.as_deref() {
            Some("done") => {}
            Some(other) => return Err(failed(other)?),
            None => {
                return Err(RuntimeError::JobTooLong { act: "start", unit: name.into(), waited: START_WAIT });
            }
        }
        if let Some(pid) = self.main_pid(bus, unit)? {
            return Ok(pid);
        }
        // A condition that does not hold ends the job well, with nothing started.
        if !bus.property::<bool>(unit, UNIT, "ConditionResult")? {
            if seat.marker.exists() {
                return Err(RuntimeError::Closed { instance: seat.label.clone(), marker: seat.marker.clone() });
            }
            let why = "a condition of the unit does not hold".into();
            return Err(RuntimeError::JobFailed { act: "start", unit: name.into(), result: "skipped".into(), why });
        }
        Err(failed("done, but nothing runs")?)
    }

    /// Waits for the unit's cgroup to be empty, killing what is left; tells whether it had to.
    fn empty(&self, bus: &Bus, seat: &Seat, unit: &Unit) -> Result<bool, RuntimeError> {
        let failed = |source| RuntimeError::io("wait for the unit's processes in", "/proc", source);
        let until = Instant::now() + KILL_WAIT.duration();
        let mut killed = false;
        for _ in 0..KILL_ROUNDS_MAX {
            let pids = bus.processes(unit)?;
            let handles: Vec<_> =
                pids.iter().filter_map(|&pid| open_pid(pid).transpose()).collect::<io::Result<_>>().map_err(failed)?;
            if pids.is_empty() || handles.is_empty() {
                return Ok(killed);
            }
            killed = true;
            // systemd kills by cgroup, so a process id that was reused meanwhile is not hit.
            let _ = bus.call::<_, ()>("kill", &seat.unit, "KillUnit", &(&seat.unit, "all", 9_i32));
            if !wait::wait_all(handles, until).map_err(failed)?.is_empty() {
                break;
            }
        }
        let pids = bus.processes(unit)?;
        if pids.is_empty() {
            return Ok(killed);
        }
        Err(RuntimeError::NotStoppable { instance: seat.label.clone(), pids, waited: KILL_WAIT })
    }

    fn journal(&self, seat: &Seat) -> String {
        let lines = LAST_LINES_MAX.to_string();
        let output = Command::new("timeout")
            .args([JOURNAL_WAIT_SECONDS, "journalctl", "--no-pager", "-q", "-o", "cat", "-n", &lines, "-u", &seat.unit])
            .output();
        match output {
            Ok(output) if output.status.success() => cut(&String::from_utf8_lossy(&output.stdout)),
            _ => String::new(),
        }
    }
}

impl Runtime for SystemdRuntime {
    fn start(&self, launch: &Launch) -> Result<Started, RuntimeError> {
        let seat = self.seat(&launch.service, &launch.instance);
        check(&seat, launch)?;
        let bus = self.bus()?;
        let unit = self.load(&bus, &seat)?;
        if !matches!(self.state_of(&bus, &unit)?.as_str(), "inactive" | "failed") {
            let now = seat.generation()?.map(|generation| generation.release);
            let same = now.as_ref().is_some_and(|release| release.digest == launch.release.digest);
            return match self.main_pid(&bus, &unit)? {
                Some(pid) if same => {
                    closed::open(&seat.marker, Lasting::OverReboot)?;
                    Ok(Started { pid, already: true })
                }
                _ => Err(RuntimeError::OtherReleaseRuns {
                    instance: seat.label.clone(),
                    running: now.map_or_else(|| "of before lastgood".into(), |release| release.to_string()),
                    asked: launch.release.digest,
                }),
            };
        }
        // Closed until everything is in place: a boot or a person must not start half of it.
        closed::close(&seat.marker, Lasting::OverReboot)?;
        let written = self.write_closed(&seat)? | self.write_service(&seat, launch)?;
        self.reload_if(&bus, &unit, written)?;
        seat.flip(launch)?;
        self.keep(&bus, &seat, &unit, launch);
        closed::open(&seat.marker, Lasting::OverReboot)?;
        let pid = self.start_unit(&bus, &seat, &unit)?;
        self.remember(&bus, &seat, &unit, launch, pid);
        Ok(Started { pid, already: false })
    }

    fn stop(&self, service: &ServiceName, instance: &InstanceName, grace: Span) -> Result<Stopped, RuntimeError> {
        let seat = self.seat(service, instance);
        let cgroup = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let inside = cgroup.lines().any(|line| line.split('/').any(|part| part == seat.unit));
        if inside {
            return Err(RuntimeError::NotDetached { why: format!("this process is a part of {}", seat.unit) });
        }
        let bus = self.bus()?;
        let unit = self.load(&bus, &seat)?;
        closed::close(&seat.marker, Lasting::OverReboot)?;
        let written = self.write_closed(&seat)?;
        self.reload_if(&bus, &unit, written)?;
        let state = self.state_of(&bus, &unit)?;
        if matches!(state.as_str(), "inactive" | "failed") {
            let left = self.empty(&bus, &seat, &unit)?;
            return Ok(if left { Stopped::Killed } else { Stopped::NotRunning });
        }
        let name = seat.unit.as_str();
        let (job, result) = bus.run_job("stop", name, "StopUnit", &(name, "replace"), grace)?;
        let mut killed = false;
        if result.is_none() {
            killed = true;
            let _ = bus.call::<_, ()>("kill", name, "KillUnit", &(name, "all", 9_i32));
            if bus.wait_job(&job, KILL_WAIT).is_none() {
                return Err(RuntimeError::JobTooLong { act: "stop", unit: name.into(), waited: KILL_WAIT });
            }
        }
        killed |= self.empty(&bus, &seat, &unit)?;
        let result: String = bus.property(&unit, SERVICE, "Result")?;
        match self.state_of(&bus, &unit)?.as_str() {
            "inactive" | "failed" if killed || result == "timeout" => Ok(Stopped::Killed),
            "inactive" | "failed" => Ok(Stopped::Asked),
            state => Err(RuntimeError::JobFailed {
                act: "stop",
                unit: name.into(),
                result: "done".into(),
                why: format!("the unit is {state}"),
            }),
        }
    }

    fn own_user(&self, service: &ServiceName, instance: &InstanceName) -> Result<Option<String>, RuntimeError> {
        let seat = self.seat(service, instance);
        let bus = self.bus()?;
        let unit = self.load(&bus, &seat)?;
        let user: String = bus.property(&unit, SERVICE, "User")?;
        Ok(Some(user).filter(|user| !user.is_empty()))
    }

    fn own_groups(&self, service: &ServiceName, instance: &InstanceName) -> Result<Groups, RuntimeError> {
        let seat = self.seat(service, instance);
        let bus = self.bus()?;
        let unit = self.load(&bus, &seat)?;
        let main: String = bus.property(&unit, SERVICE, "Group")?;
        let more = bus.typed(&unit, SERVICE, "SupplementaryGroups")?;
        Ok(Groups { main: Some(main).filter(|group| !group.is_empty()), more })
    }

    fn started_last(&self, service: &ServiceName, instance: &InstanceName) -> Result<Option<Digest>, RuntimeError> {
        let seat = self.seat(service, instance);
        // A stop closes the unit until the next start.
        let generation = if seat.marker.exists() { None } else { seat.generation()? };
        Ok(generation.map(|generation| generation.release.digest))
    }

    fn liveness(&self, service: &ServiceName, instance: &InstanceName) -> Result<Liveness, RuntimeError> {
        let seat = self.seat(service, instance);
        let bus = self.bus()?;
        let unit = self.load(&bus, &seat)?;
        if let Some(pid) = self.main_pid(&bus, &unit)? {
            let release = seat.generation()?.map(|generation| generation.release.digest);
            return Ok(Liveness::Up { pid, release });
        }
        if seat.marker.exists() {
            return Ok(Liveness::Down { why: "stopped by lastgood".into() });
        }
        Ok(Liveness::Down { why: self.end_of(&bus, &unit)? })
    }

    fn watch(&self, service: &ServiceName, instance: &InstanceName) -> Result<Option<Watched>, RuntimeError> {
        let seat = self.seat(service, instance);
        let bus = self.bus()?;
        let unit = self.load(&bus, &seat)?;
        let Some(pid) = self.main_pid(&bus, &unit)? else { return Ok(None) };
        let handle = open_pid(pid).map_err(|source| RuntimeError::io("watch the process in", "/proc", source))?;
        // Asked again: the process may have ended before the handle was taken, and its id been reused.
        let still = self.main_pid(&bus, &unit)? == Some(pid);
        Ok(handle.filter(|_| still).map(|handle| Watched {
            service: service.clone(),
            instance: instance.clone(),
            pid,
            handle,
        }))
    }

    fn post_mortem(
        &self,
        service: &ServiceName,
        instance: &InstanceName,
    ) -> Result<Option<RuntimeError>, RuntimeError> {
        let seat = self.seat(service, instance);
        let bus = self.bus()?;
        let unit = self.load(&bus, &seat)?;
        let generation = seat.generation()?;
        let (None, Some(generation)) = (self.main_pid(&bus, &unit)?, generation) else { return Ok(None) };
        if seat.marker.exists() {
            return Ok(None);
        }
        let lines = match self.config.output {
            Output::File => last_lines(&generation.log, generation.log_bytes)?,
            Output::Journal => self.journal(&seat),
        };
        Ok(Some(reason(seat.label.clone(), self.end_of(&bus, &unit)?, lines)))
    }

    fn environment(&self, launch: &Launch) -> BTreeMap<String, String> {
        through_link(&self.seat(&launch.service, &launch.instance), launch)
    }

    fn arguments(&self, launch: &Launch) -> Vec<String> {
        arguments(&self.seat(&launch.service, &launch.instance), launch)
    }

    fn files_differ(&self, launch: &Launch) -> Result<Vec<String>, RuntimeError> {
        self.compare_files(launch)
    }

    fn put_files_back(&self, launch: &Launch, beside: &str, with_shared: bool) -> Result<FilesBack, RuntimeError> {
        SystemdRuntime::put_files_back(self, launch, beside, with_shared)
    }

    fn files_helped(&self, launch: &Launch) {
        back::helped(&self.seat(&launch.service, &launch.instance));
    }

    fn undo_files_back(&self, launch: &Launch) -> Result<FilesBack, RuntimeError> {
        self.undo(launch)
    }

    fn keep_files(&self, service: &ServiceName, instance: &InstanceName) -> Result<(), RuntimeError> {
        self.keep_well(service, instance)
    }

    fn put_back(&self, launch: &Launch, beside: &str) -> Result<Option<PutBack>, RuntimeError> {
        self.mend(launch, beside).map(Some)
    }
}
