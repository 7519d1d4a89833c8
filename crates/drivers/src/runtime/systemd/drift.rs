//! Compares a unit with what lastgood writes for it and what was kept of it, and makes it so again.
//!
//! lastgood's own drop-ins must be what it would write now. The operator's files must be what they were when the release
//! last ran well here: one that was changed or removed is put back, one that came since is put aside. What systemd
//! has loaded is read back last, so that a file nobody thought of can't decide what runs.

use super::{
    super::{
        Launch, PutBack, RuntimeError,
        bus::{Bus, SERVICE, UNIT, Unit},
        members,
    },
    KILL_WAIT, Seat, SystemdRuntime, back,
    kept::{Kept, began_from, enabled, text},
    written::Written,
};
use crate::replace::{put_aside, replace};
use lastgood_domain::terms::Span;
use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

/// Longest wait for a restart: the units' default limits to stop and to start are 90 s each; 60 s more for the queue.
const RESTART_WAIT: Span = Span::seconds(240);
/// Mode of a unit's file that was removed: they are for everyone to read.
const UNIT_MODE: u32 = 0o644;
/// Pause before it is looked again whether the program was executed.
const AGAIN: Duration = Duration::from_millis(5);

/// One thing that is not as declared.
enum Difference {
    /// A file holds something else, or is not there; with what it should hold.
    File { path: PathBuf, wanted: String, there: bool, mode: u32 },
    /// A file is there that was not.
    Added(PathBuf),
    /// The link to the installation leads elsewhere.
    Link,
    /// The record of what runs is of another release.
    Release,
    /// It would not start at boot any more.
    Disabled,
    /// systemd has not read the files as they are.
    Unread,
    /// systemd can't use it; its word.
    Unusable(String),
    /// What systemd has loaded is another than declared.
    Loaded(&'static str),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, there: true, .. } => write!(f, "changed {}", short(path)),
            Self::File { path, there: false, .. } => write!(f, "missing {}", short(path)),
            Self::Added(path) => write!(f, "added {}", short(path)),
            Self::Link => f.write_str("the link to the installation"),
            Self::Release => f.write_str("the link of another release"),
            Self::Disabled => f.write_str("disabled"),
            Self::Unread => f.write_str("not read by systemd"),
            Self::Unusable(state) => write!(f, "{state} to systemd"),
            Self::Loaded(name) => write!(f, "{name} as loaded"),
        }
    }
}

/// Names a drop-in by its folder and itself, which is enough to find it; evidence is short.
fn short(path: &Path) -> String {
    let folder = path.parent().and_then(Path::file_name).map(|name| name.to_string_lossy());
    match (folder.filter(|name| name.ends_with(".d")), path.file_name()) {
        (Some(folder), Some(name)) => format!("{folder}/{}", name.display()),
        _ => path.display().to_string(),
    }
}

impl SystemdRuntime {
    /// Makes the unit what is declared and kept, and reads it back.
    pub(super) fn mend(&self, launch: &Launch, beside: &str) -> Result<PutBack, RuntimeError> {
        let seat = self.seat(&launch.service, &launch.instance);
        let bus = self.bus()?;
        let unit = bus.load(&seat.unit)?;
        // A template is compared and written by one at a time.
        let alone = back::alone();
        let kept = Kept::of(&seat, &launch.release)?;
        let mut found = Vec::new();
        if bus.property::<bool>(&unit, UNIT, "NeedDaemonReload")? {
            found.push(Difference::Unread);
        }
        // First, for only then does systemd name every file that is there now.
        self.reload_if(&bus, &unit, true)?;
        let compare = || self.compare(&bus, &seat, &unit, launch, kept.as_ref());
        for difference in compare()? {
            self.mend_one(&bus, &seat, launch, &difference, beside)?;
            found.push(difference);
        }
        if !found.is_empty() {
            self.reload_if(&bus, &unit, true)?;
            let left: Vec<String> = compare()?.iter().map(ToString::to_string).collect();
            if !left.is_empty() {
                return Err(RuntimeError::UnitDiffers { unit: seat.unit, left });
            }
        }
        drop(alone);
        let restarted = self.start_again(&bus, &seat, &unit, launch, !found.is_empty())?;
        // What systemd made of it follows from the files, and needs no word beside them.
        let words = found.iter().filter(|one| !matches!(one, Difference::Loaded(_)) || found.len() == 1);
        Ok(PutBack { differed: words.map(ToString::to_string).collect(), restarted, unit: seat.unit })
    }

    fn compare(
        &self,
        bus: &Bus,
        seat: &Seat,
        unit: &Unit,
        launch: &Launch,
        kept: Option<&Kept>,
    ) -> Result<Vec<Difference>, RuntimeError> {
        let written = self.written(seat, launch)?;
        let mut found = Vec::new();
        let mut must_hold = |path: &Path, wanted: &str, mode: u32| {
            if text(path).as_deref() != Some(wanted) {
                let there = fs::symlink_metadata(path).is_ok();
                found.push(Difference::File { path: path.into(), wanted: wanted.into(), there, mode });
            }
        };
        let (environment, wanted) = &written.environment;
        must_hold(environment, wanted, 0o600);
        for (path, wanted) in [&written.closed, &written.service] {
            must_hold(path, wanted, UNIT_MODE);
        }
        if let Some(kept) = kept {
            kept.files.iter().for_each(|(path, wanted)| must_hold(path, wanted, UNIT_MODE));
            let there = self.files(bus, seat, unit)?;
            found.extend(there.into_keys().filter(|path| !kept.has(path)).map(Difference::Added));
            if kept.enabled == "enabled" && enabled(bus, unit).unwrap_or_default() != "enabled" {
                found.push(Difference::Disabled);
            }
        }
        if seat.generation()?.is_none_or(|now| now.release.digest != launch.release.digest) {
            found.push(Difference::Release);
        } else if fs::read_link(seat.folder.join("now/program")).ok().as_ref() != Some(&launch.installation) {
            found.push(Difference::Link);
        }
        let state: String = bus.property(unit, UNIT, "LoadState")?;
        match state.as_str() {
            "loaded" => found.extend(loaded(bus, seat, unit, launch, &written)?.into_iter().map(Difference::Loaded)),
            _ => found.push(Difference::Unusable(state)),
        }
        Ok(found)
    }

    fn mend_one(
        &self,
        bus: &Bus,
        seat: &Seat,
        launch: &Launch,
        difference: &Difference,
        beside: &str,
    ) -> Result<(), RuntimeError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source: io::Error| RuntimeError::io("put back", path, source)
        };
        match difference {
            Difference::File { path, wanted, mode, .. } => {
                replace(path, wanted.as_bytes(), *mode, beside).map(drop).map_err(failed(path))
            }
            Difference::Added(path) => put_aside(path, beside).map(drop).map_err(failed(path)),
            Difference::Link => seat.lead_to(&launch.installation).map_err(failed(&seat.folder)),
            Difference::Disabled => {
                let body = (vec![seat.unit.as_str()], false, false);
                let _: (bool, Vec<(String, String, String)>) =
                    bus.call("enable", &seat.unit, "EnableUnitFiles", &body)?;
                Ok(())
            }
            // Which release runs is decided by a run or a rollback, never here.
            Difference::Release => Ok(()),
            // These follow from the files.
            Difference::Unread | Difference::Unusable(_) | Difference::Loaded(_) => Ok(()),
        }
    }

    /// Starts the program again where it may run with something else than the unit has now.
    fn start_again(
        &self,
        bus: &Bus,
        seat: &Seat,
        unit: &Unit,
        launch: &Launch,
        differed: bool,
    ) -> Result<bool, RuntimeError> {
        let Some(pid) = self.main_pid(bus, unit)? else { return Ok(false) };
        let as_declared = began_from(seat, pid, self.origin(bus, seat, unit, launch)?);
        // Of a program that somebody else started nothing is known but what it was started from just now.
        if as_declared.unwrap_or(!differed) {
            return Ok(false);
        }
        let name = seat.unit.as_str();
        match bus.run_job("restart", name, "TryRestartUnit", &(name, "replace"), RESTART_WAIT)?.1.as_deref() {
            Some("done") => {}
            None => return Err(RuntimeError::JobTooLong { act: "restart", unit: name.into(), waited: RESTART_WAIT }),
            Some(result) => {
                let (result, why) = (result.into(), self.end_of(bus, unit)?);
                return Err(RuntimeError::JobFailed { act: "restart", unit: name.into(), result, why });
            }
        }
        let until = Instant::now() + KILL_WAIT.duration();
        while let Some(pid) = self.main_pid(bus, unit)? {
            // systemd calls a unit started before it has executed the program.
            if members::carries(pid, &seat.mark) {
                self.remember(bus, seat, unit, launch, pid);
                return Ok(true);
            }
            if Instant::now() > until {
                break;
            }
            thread::sleep(AGAIN);
        }
        let (result, why) = ("done, but nothing runs".into(), self.end_of(bus, unit)?);
        Err(RuntimeError::JobFailed { act: "restart", unit: name.into(), result, why })
    }
}

/// A command as systemd has it: program, words, whether it may fail, and six facts of its last run.
type Command = (String, Vec<String>, bool, u64, u64, u64, u64, u32, i32, i32);
/// A condition as systemd has it: its kind, whether it is one of several, whether it is negated, what it is about, its state.
type Condition = (String, bool, bool, String, i32);

/// Names the properties that decide what runs and that systemd has loaded otherwise than declared.
fn loaded(
    bus: &Bus,
    seat: &Seat,
    unit: &Unit,
    launch: &Launch,
    written: &Written,
) -> Result<Vec<&'static str>, RuntimeError> {
    let commands: Vec<Command> = bus.typed(unit, SERVICE, "ExecStart")?;
    let files: Vec<(String, bool)> = bus.typed(unit, SERVICE, "EnvironmentFiles")?;
    let variables: Vec<String> = bus.typed(unit, SERVICE, "Environment")?;
    let workdir: String = bus.property(unit, SERVICE, "WorkingDirectory")?;
    let user: String = bus.property(unit, SERVICE, "User")?;
    let conditions: Vec<Condition> = bus.typed(unit, UNIT, "Conditions")?;
    let marker = seat.marker.to_string_lossy();
    let closes =
        |(kind, _, negated, about, _): &Condition| kind == "ConditionPathExists" && *negated && *about == marker;
    let environment = written.environment.0.to_string_lossy().into_owned();
    let same = [
        ("ExecStart", matches!(commands.as_slice(), [(_, argv, false, ..)] if *argv == written.argv)),
        ("EnvironmentFile", files == [(environment, false)]),
        ("Environment", variables.is_empty()),
        ("WorkingDirectory", Path::new(&workdir) == Path::new(&written.workdir)),
        ("User", launch.user.as_ref().is_none_or(|declared| *declared == user)),
        ("ConditionPathExists", conditions.iter().any(closes)),
    ];
    Ok(same.into_iter().filter(|(_, same)| !same).map(|(name, _)| name).collect())
}
