//! What is kept of a unit: its files as a release last ran well with them, and from which of them the program that runs
//! was started.

use super::{
    super::{
        Launch, RuntimeError,
        bus::{Bus, UNIT, Unit},
        identity::Identity,
        launcher::write_whole,
    },
    Seat, SystemdRuntime, back,
};
use lastgood_domain::terms::{Digest, InstanceName, Release, ServiceName};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
};

/// Largest file of a unit that is kept: they are some lines, not data.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The operator's files of a unit: the unit itself and drop-ins of this unit or its template, with what they hold; none
/// where that is no text.
pub(super) type Files = BTreeMap<PathBuf, Option<String>>;

/// What a unit was when a release last ran well; when it was first started, until then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) files: BTreeMap<PathBuf, String>,
    /// Files that were there and are no text, or too large: they are not put back, and are nobody's addition.
    #[serde(default)]
    no_text: BTreeSet<PathBuf>,
    /// systemd's word for whether it starts at boot.
    pub(super) enabled: String,
}

/// Which process lastgood started, and from what.
#[derive(Debug, Serialize, Deserialize)]
struct Began {
    process: Identity,
    from: Digest,
    /// The operator's files alone; none of a process that an older version started.
    #[serde(default)]
    files: Option<Digest>,
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

    /// Takes what is there now.
    fn now(files: Files, enabled: String) -> Self {
        let no_text = files.iter().filter(|(_, text)| text.is_none()).map(|(path, _)| path.clone()).collect();
        let files = files.into_iter().filter_map(|(path, text)| Some((path, text?))).collect();
        Self { files, no_text, enabled }
    }

    /// Tells whether a file was there.
    pub(super) fn has(&self, path: &Path) -> bool {
        self.files.contains_key(path) || self.no_text.contains(path)
    }

    /// Makes the files that instances share what they are for `other`.
    fn share(&mut self, other: &Self, is_shared: impl Fn(&Path) -> bool) {
        self.files.retain(|path, _| !is_shared(path));
        self.no_text.retain(|path| !is_shared(path));
        let shared = other.files.iter().filter(|(path, _)| is_shared(path));
        self.files.extend(shared.map(|(path, text)| (path.clone(), text.clone())));
        self.no_text.extend(other.no_text.iter().filter(|path| is_shared(path)).cloned());
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        write_whole(path, &serde_json::to_vec(self)?)?;
        fs::File::open(path)?.sync_all()
    }
}

impl SystemdRuntime {
    /// Keeps what the unit is now, unless it was kept for this release before; what runs well is kept by
    /// [`keep_well`](Self::keep_well).
    ///
    /// A start, which may be a way back, never fails for it: without it the operator's files are not compared.
    pub(super) fn keep(&self, bus: &Bus, seat: &Seat, unit: &Unit, launch: &Launch) {
        let path = place(&seat.folder, &launch.release);
        if path.exists() {
            return;
        }
        let Ok(files) = self.files(bus, seat, unit) else { return };
        let mut kept = Kept::now(files, enabled(bus, unit).unwrap_or_default());
        // A template that was edited in the middle of a rollout is, for all, what it was for the first.
        for (_, earlier) in siblings(seat, &launch.release) {
            for (path, text) in &mut kept.files {
                if let Some(first) = earlier.files.get(path) {
                    text.clone_from(first);
                }
            }
        }
        let _ = kept.write(&path);
    }

    /// Keeps the unit's files as those that the running release runs well with, if it was started from them as they are.
    ///
    /// What instances share is kept for all that ran the release, so that no two of them want it otherwise.
    pub(super) fn keep_well(&self, service: &ServiceName, instance: &InstanceName) -> Result<(), RuntimeError> {
        let seat = self.seat(service, instance);
        let bus = self.bus()?;
        let unit = self.load(&bus, &seat)?;
        let _alone = back::alone();
        let (Some(pid), Some(now)) = (self.main_pid(&bus, &unit)?, seat.generation()?) else { return Ok(()) };
        let files = self.files(&bus, &seat, &unit)?;
        // Of a program that somebody else started, or of files edited since, nobody knows that they go together.
        if began(&seat, pid).is_none_or(|began| began.files != Some(digest_of(&files))) {
            return Ok(());
        }
        let before = Kept::of(&seat, &now.release).ok().flatten();
        let boots = before.as_ref().map(|kept| kept.enabled.clone());
        let kept = Kept::now(files, boots.unwrap_or_else(|| enabled(&bus, &unit).unwrap_or_default()));
        if before.as_ref() == Some(&kept) {
            return Ok(());
        }
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| RuntimeError::io("keep what a unit was in", path, source)
        };
        let own = place(&seat.folder, &now.release);
        kept.write(&own).map_err(failed(&own))?;
        for (path, mut other) in siblings(&seat, &now.release) {
            let was = other.clone();
            other.share(&kept, |path| back::is_shared(&seat, path));
            if other != was {
                other.write(&path).map_err(failed(&path))?;
            }
        }
        Ok(())
    }

    /// Remembers which process was started from what; without it the program is started once more than it must.
    pub(super) fn remember(&self, bus: &Bus, seat: &Seat, unit: &Unit, launch: &Launch, pid: u32) {
        let (Ok(process), Ok(from)) = (Identity::of(pid), self.origin(bus, seat, unit, launch)) else { return };
        let files = self.files(bus, seat, unit).ok().map(|files| digest_of(&files));
        if let Ok(bytes) = serde_json::to_vec(&Began { process, from, files }) {
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
    began(seat, pid).map(|began| began.from == from)
}

/// Reads what is remembered of this very process; none if lastgood did not start it.
fn began(seat: &Seat, pid: u32) -> Option<Began> {
    let began: Began = serde_json::from_slice(&fs::read(seat.folder.join("began.json")).ok()?).ok()?;
    (Identity::of(pid).ok()? == began.process).then_some(began)
}

fn digest_of(files: &Files) -> Digest {
    Digest::of(format!("{files:?}").as_bytes())
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

/// Gives what was kept for a release of the service's instances, each with where.
fn siblings(seat: &Seat, release: &Release) -> Vec<(PathBuf, Kept)> {
    let folders = seat.folder.parent().and_then(|folder| fs::read_dir(folder).ok());
    let paths = folders.into_iter().flatten().flatten().map(|entry| place(&entry.path(), release));
    paths.filter_map(|path| Some((path.clone(), serde_json::from_slice(&fs::read(&path).ok()?).ok()?))).collect()
}
