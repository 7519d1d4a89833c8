//! What is kept of a unit: its files as they were when a release was first started, and from which of them the program
//! that runs was started.

use super::{
    super::{
        Launch, RuntimeError,
        bus::{Bus, UNIT, Unit},
        identity::Identity,
        launcher::write_whole,
    },
    Seat, SystemdRuntime,
};
use lastgood_domain::terms::{Digest, Release};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
};

/// Largest file of a unit that is kept: they are some lines, not data.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The operator's files of a unit: the unit itself and drop-ins of this unit or its template, with what they hold; none
/// where that is no text.
pub(super) type Files = BTreeMap<PathBuf, Option<String>>;

/// What a unit was when a release was first started.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) files: BTreeMap<PathBuf, String>,
    /// systemd's word for whether it starts at boot.
    pub(super) enabled: String,
}

/// Which process lastgood started, and from what.
#[derive(Debug, Serialize, Deserialize)]
struct Began {
    process: Identity,
    from: Digest,
}

impl Kept {
    /// Reads what was kept of the unit for a release; none before its first start, or if it was kept by nobody.
    pub(super) fn of(seat: &Seat, release: &Release) -> Result<Option<Self>, RuntimeError> {
        let path = place(&seat.folder, release);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(RuntimeError::io("read what was kept in", path, error)),
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| RuntimeError::RecordDamaged {
            instance: seat.label.clone(),
            path,
            why: error.to_string(),
        })
    }
}

impl SystemdRuntime {
    /// Keeps what the unit is now, unless it was kept for this release before.
    ///
    /// A start, which may be a way back, never fails for it: without it the operator's files are not compared.
    pub(super) fn keep(&self, bus: &Bus, seat: &Seat, unit: &Unit, launch: &Launch) {
        let path = place(&seat.folder, &launch.release);
        if path.exists() {
            return;
        }
        let Ok(files) = self.files(bus, seat, unit) else { return };
        let mut files: BTreeMap<PathBuf, String> =
            files.into_iter().filter_map(|(path, text)| Some((path, text?))).collect();
        // A template that was edited in the middle of a rollout is, for all, what it was for the first.
        for earlier in siblings(seat, &launch.release) {
            for (path, text) in &mut files {
                if let Some(first) = earlier.files.get(path) {
                    text.clone_from(first);
                }
            }
        }
        let kept = Kept { files, enabled: enabled(bus, unit).unwrap_or_default() };
        let write = || -> io::Result<()> {
            write_whole(&path, &serde_json::to_vec(&kept)?)?;
            fs::File::open(&path)?.sync_all()
        };
        let _ = write();
    }

    /// Remembers which process was started from what; without it the program is started once more than it must.
    pub(super) fn remember(&self, bus: &Bus, seat: &Seat, unit: &Unit, launch: &Launch, pid: u32) {
        let (Ok(process), Ok(from)) = (Identity::of(pid), self.origin(bus, seat, unit, launch)) else { return };
        if let Ok(bytes) = serde_json::to_vec(&Began { process, from }) {
            let _ = write_whole(&seat.folder.join("began.json"), &bytes);
        }
    }

    /// Digests all that decides how the unit's program is started.
    pub(super) fn origin(&self, bus: &Bus, seat: &Seat, unit: &Unit, launch: &Launch) -> Result<Digest, RuntimeError> {
        let written = self.written(seat, launch)?;
        let whole =
            (&launch.release, written.closed, written.service, written.environment, self.files(bus, seat, unit)?);
        Ok(Digest::of(format!("{whole:?}").as_bytes()))
    }

    /// Gives the operator's files that systemd has loaded the unit from, as they are now.
    ///
    /// Drop-ins for all services (`service.d`) belong to the whole machine, and are not among them.
    pub(super) fn files(&self, bus: &Bus, seat: &Seat, unit: &Unit) -> Result<Files, RuntimeError> {
        let fragment: String = bus.property(unit, UNIT, "FragmentPath")?;
        let drop_ins: Vec<String> = bus.typed(unit, UNIT, "DropInPaths")?;
        let of_template = seat.unit.split_once('@').map(|(template, _)| format!("{template}@.service.d"));
        let of_unit = format!("{}.d", seat.unit);
        let belongs = |path: &PathBuf| {
            let folder = path.parent().and_then(Path::file_name);
            let named = |name: &str| folder == Some(OsStr::new(name));
            (named(&of_unit) || of_template.as_deref().is_some_and(named)) && !self.is_ours(seat, path)
        };
        let paths = drop_ins.into_iter().map(PathBuf::from).filter(belongs);
        let fragment = (!fragment.is_empty()).then(|| PathBuf::from(fragment));
        Ok(fragment.into_iter().chain(paths).map(|path| (path.clone(), text(&path))).collect())
    }
}

/// Tells whether this process is the one that lastgood started, and if so whether it was started from this.
pub(super) fn began_from(seat: &Seat, pid: u32, from: Digest) -> Option<bool> {
    let began: Began = serde_json::from_slice(&fs::read(seat.folder.join("began.json")).ok()?).ok()?;
    (Identity::of(pid).ok()? == began.process).then_some(began.from == from)
}

/// Gives systemd's word for whether a unit starts at boot.
pub(super) fn enabled(bus: &Bus, unit: &Unit) -> Result<String, RuntimeError> {
    bus.call("look at", &unit.name, "GetUnitFileState", &unit.name.as_str())
}

/// Reads a small text file; none if it is no such thing.
pub(super) fn text(path: &Path) -> Option<String> {
    let facts = fs::metadata(path).ok()?;
    (facts.is_file() && facts.len() <= FILE_BYTES_MAX).then(|| fs::read_to_string(path).ok())?
}

fn place(folder: &Path, release: &Release) -> PathBuf {
    folder.join(release.digest.short()).join("unit.json")
}

/// Gives what was kept for a release of the service's other instances.
fn siblings(seat: &Seat, release: &Release) -> Vec<Kept> {
    let folders = seat.folder.parent().and_then(|folder| fs::read_dir(folder).ok());
    let others = folders.into_iter().flatten().flatten().map(|entry| entry.path());
    let bytes = others.filter_map(|folder| fs::read(place(&folder, release)).ok());
    bytes.filter_map(|bytes| serde_json::from_slice(&bytes).ok()).collect()
}
