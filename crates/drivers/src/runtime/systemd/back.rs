//! The operator's files of a unit on a way back: compared with what the release last ran well with, put back only for a
//! start that failed with them as they are, and undone where that did not help.

use super::{
    super::{
        FilesBack, Launch, RuntimeError,
        bus::{Bus, Unit},
    },
    Seat, SystemdRuntime,
    kept::{Kept, text},
};
use crate::replace::{exchange, put_aside};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Mode of a unit's file that was removed: they are for everyone to read.
const UNIT_MODE: u32 = 0o644;

/// Files that were put back and with which nobody has started well yet. Instances of one template go back at once, so that
/// the lock is held from a comparison until systemd has read what was made of it.
static PUT_BACK: Mutex<BTreeMap<PathBuf, Put>> = Mutex::new(BTreeMap::new());

/// A file that was put back.
pub(super) struct Put {
    /// What it holds now; none where it was put aside.
    wanted: Option<String>,
    /// Where what was there is kept; none where nothing was there.
    was: Option<PathBuf>,
    /// The instances that were or will be started with it, as `service/instance`.
    by: BTreeSet<String>,
}

/// One file that is not what it was.
enum Changed {
    /// It holds something else, or is gone; with what it held.
    File(PathBuf, String),
    /// It has come since.
    Added(PathBuf),
}

impl Changed {
    fn path(&self) -> &Path {
        match self {
            Self::File(path, _) | Self::Added(path) => path,
        }
    }

    fn says(&self) -> String {
        let how = match self {
            Self::File(path, _) if path.symlink_metadata().is_err() => "missing",
            Self::File(..) => "changed",
            Self::Added(_) => "added",
        };
        format!("{how} {}", self.path().display())
    }
}

impl SystemdRuntime {
    /// Names what differs, and remembers that the instance starts with what others have put back.
    pub(super) fn compare_files(&self, launch: &Launch) -> Result<Vec<String>, RuntimeError> {
        let seat = self.seat(&launch.service, &launch.instance);
        let Some(kept) = Kept::of(&seat, &launch.release)? else { return Ok(Vec::new()) };
        let bus = self.bus()?;
        let unit = bus.load(&seat.unit)?;
        let mut all = alone();
        let changed = self.changed(&bus, &seat, &unit, &kept)?;
        join(&mut all, &seat, &kept);
        Ok(changed.iter().map(Changed::says).collect())
    }

    pub(super) fn put_files_back(
        &self,
        launch: &Launch,
        beside: &str,
        with_shared: bool,
    ) -> Result<FilesBack, RuntimeError> {
        let seat = self.seat(&launch.service, &launch.instance);
        let mut done = FilesBack::default();
        let Some(kept) = Kept::of(&seat, &launch.release)? else { return Ok(done) };
        let bus = self.bus()?;
        let unit = bus.load(&seat.unit)?;
        let mut all = alone();
        let changed = self.changed(&bus, &seat, &unit, &kept)?;
        // What another instance of the template has put back meanwhile was not there for the start that failed.
        done.put_back
            .extend(join(&mut all, &seat, &kept).iter().map(|path| format!("{}, with another", path.display())));
        for one in changed {
            let path = one.path().to_owned();
            if !with_shared && is_shared(&seat, &path) {
                done.left.push(path.display().to_string());
                continue;
            }
            let put = match &one {
                Changed::File(path, wanted) => exchange(path, wanted.as_bytes(), UNIT_MODE, beside),
                Changed::Added(path) => put_aside(path, beside),
            };
            let was = match put {
                Ok(was) => was,
                Err(source) => {
                    done.failed.push(RuntimeError::io("put back", path, source));
                    continue;
                }
            };
            let now = was.as_ref().map_or_else(String::new, |was| format!(", what was there is {}", was.display()));
            done.put_back.push(format!("{}{now}", path.display()));
            let wanted = match one {
                Changed::File(_, wanted) => Some(wanted),
                Changed::Added(_) => None,
            };
            all.insert(path, Put { wanted, was, by: [seat.label.clone()].into() });
        }
        done.failed.extend(self.reload_if(&bus, &unit, !done.put_back.is_empty()).err());
        Ok(done)
    }

    /// Makes what was put back what it was before; what another instance starts with stays.
    pub(super) fn undo(&self, launch: &Launch) -> Result<FilesBack, RuntimeError> {
        let seat = self.seat(&launch.service, &launch.instance);
        let mut done = FilesBack::default();
        let mut all = alone();
        let mut mine = BTreeMap::new();
        for (path, mut put) in std::mem::take(&mut *all) {
            if put.by.remove(&seat.label) && put.by.is_empty() { &mut mine } else { &mut *all }.insert(path, put);
        }
        for (path, put) in &mine {
            match undo_one(path, put) {
                Ok(true) => done.put_back.push(path.display().to_string()),
                Ok(false) => done.left.push(path.display().to_string()),
                Err(source) => done.failed.push(RuntimeError::io("undo what was put back in", path, source)),
            }
        }
        if !mine.is_empty() {
            let bus = self.bus()?;
            let unit = bus.load(&seat.unit)?;
            self.reload_if(&bus, &unit, true)?;
        }
        Ok(done)
    }

    /// Finds what is not as it was kept. A file that is no text was not kept, and is nobody's addition.
    fn changed(&self, bus: &Bus, seat: &Seat, unit: &Unit, kept: &Kept) -> Result<Vec<Changed>, RuntimeError> {
        // Only then does systemd name every file that is there now.
        self.reload_if(bus, unit, false)?;
        let there = self.files(bus, seat, unit)?;
        let added = there.into_iter().filter(|(path, text)| text.is_some() && !kept.has(path));
        let mut changed: Vec<Changed> = added.map(|(path, _)| Changed::Added(path)).collect();
        let differs = kept.files.iter().filter(|(path, wanted)| text(path).as_ref() != Some(*wanted));
        changed.extend(differs.map(|(path, wanted)| Changed::File(path.clone(), wanted.clone())));
        Ok(changed)
    }
}

/// Waits until nobody else compares or writes files of units.
pub(super) fn alone() -> MutexGuard<'static, BTreeMap<PathBuf, Put>> {
    PUT_BACK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Forgets that the files of an instance's unit were put back: it has started well with them, and they stay.
pub(super) fn helped(seat: &Seat) {
    alone().retain(|path, _| !is_of(seat, path));
}

/// Notes that an instance starts with files that others have put back, and gives those.
fn join(all: &mut BTreeMap<PathBuf, Put>, seat: &Seat, kept: &Kept) -> Vec<PathBuf> {
    let mut joined = Vec::new();
    for (path, put) in all {
        if is_of(seat, path) && put.wanted.as_ref() == kept.files.get(path) && text(path) == put.wanted {
            put.by.insert(seat.label.clone());
            joined.push(path.clone());
        }
    }
    joined
}

/// Undoes one file, unless somebody has changed it since.
fn undo_one(path: &Path, put: &Put) -> io::Result<bool> {
    if text(path) != put.wanted {
        return Ok(false);
    }
    match &put.was {
        Some(was) => fs::rename(was, path)?,
        None => fs::remove_file(path)?,
    }
    fs::File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()?;
    Ok(true)
}

/// Tells whether a file belongs to other instances as well: a template, or a drop-in of one.
pub(super) fn is_shared(seat: &Seat, path: &Path) -> bool {
    seat.unit.contains('@') && !is_named(&seat.unit, path)
}

/// Tells whether a file is one of an instance's unit: its own, or its template's.
fn is_of(seat: &Seat, path: &Path) -> bool {
    let template = seat.unit.split_once('@').map(|(template, _)| format!("{template}@.service"));
    is_named(&seat.unit, path) || template.is_some_and(|template| is_named(&template, path))
}

/// Tells whether a file is this unit, or a drop-in of it.
fn is_named(unit: &str, path: &Path) -> bool {
    let name = |path: Option<&Path>| path.and_then(Path::file_name).map(ToOwned::to_owned);
    name(Some(path)).is_some_and(|name| name == unit)
        || name(path.parent()).is_some_and(|name| name == *format!("{unit}.d"))
}
