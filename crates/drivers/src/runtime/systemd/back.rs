//! The operator's files of a unit, made what they were when a release was first started here: a way back starts what
//! last-good was, not its program with somebody's later unit.

use super::{
    super::{FilesBack, Launch, RuntimeError, bus::UNIT},
    Seat, SystemdRuntime,
    kept::{Kept, text},
};
use crate::replace::{put_aside, replace};
use std::path::{Path, PathBuf};

/// Mode of a unit's file that was removed: they are for everyone to read.
const UNIT_MODE: u32 = 0o644;

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
}

impl SystemdRuntime {
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
        // Only then does systemd name every file that is there now.
        let unread = bus.property::<bool>(&unit, UNIT, "NeedDaemonReload")?;
        self.reload_if(&bus, &unit, unread)?;
        let there = self.files(&bus, &seat, &unit)?;
        let mut changed: Vec<Changed> =
            there.into_keys().filter(|path| !kept.files.contains_key(path)).map(Changed::Added).collect();
        for (path, wanted) in kept.files {
            if text(&path).as_deref() != Some(&wanted) {
                changed.push(Changed::File(path, wanted));
            }
        }
        for one in &changed {
            let path = one.path();
            if !with_shared && is_shared(&seat, path) {
                done.left.push(path.display().to_string());
                continue;
            }
            let there = path.symlink_metadata().is_ok();
            let put = match one {
                Changed::File(path, wanted) => replace(path, wanted.as_bytes(), UNIT_MODE, beside).map(drop),
                Changed::Added(path) => put_aside(path, beside),
            };
            put.map_err(|source| RuntimeError::io("put back", path, source))?;
            let now = if there { format!(", what was there is {}{beside}", path.display()) } else { String::new() };
            done.put_back.push(format!("{}{now}", path.display()));
        }
        self.reload_if(&bus, &unit, !done.put_back.is_empty())?;
        Ok(done)
    }
}

/// Tells whether a file belongs to other instances as well: a template, or a drop-in of one.
fn is_shared(seat: &Seat, path: &Path) -> bool {
    let is_own = |name: Option<&std::ffi::OsStr>| {
        name.is_some_and(|name| name == seat.unit.as_str() || name == format!("{}.d", seat.unit).as_str())
    };
    seat.unit.contains('@') && !is_own(path.file_name()) && !is_own(path.parent().and_then(Path::file_name))
}
