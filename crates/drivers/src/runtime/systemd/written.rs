//! What lastgood writes for one instance: two drop-ins and the environment they name.

use super::{
    super::{Launch, RuntimeError, closed, launcher::write_whole, members::MARK, unit_file},
    Output, Seat, SystemdRuntime,
};
use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

/// The name of the drop-in that keeps a closed instance from starting.
const CLOSED: &str = "40-lastgood-closed.conf";
/// The name of the drop-in that says what runs.
const SERVICE: &str = "50-lastgood.conf";

/// What is written for a launch, and what systemd should make of it.
pub(super) struct Written {
    /// Path and text of the drop-in that closes.
    pub(super) closed: (PathBuf, String),
    /// Path and text of the drop-in that says what runs.
    pub(super) service: (PathBuf, String),
    /// Path and text of the environment; nobody but root reads it.
    pub(super) environment: (PathBuf, String),
    /// The command, through the link.
    pub(super) argv: Vec<String>,
    /// The folder it starts in, through the link.
    pub(super) workdir: String,
}

/// Gives the environment of a launch as the unit's program has it: through the link.
pub(super) fn through_link(seat: &Seat, launch: &Launch) -> BTreeMap<String, String> {
    let through = through(seat, launch);
    launch.env.iter().map(|(name, value)| (name.clone(), through(value))).collect()
}

/// Gives the command line of a launch as the unit's program has it: through the link.
pub(super) fn arguments(seat: &Seat, launch: &Launch) -> Vec<String> {
    let through = through(seat, launch);
    launch.argv.iter().map(|word| through(word)).collect()
}

fn through(seat: &Seat, launch: &Launch) -> impl Fn(&str) -> String {
    let link = seat.folder.join("now/program").to_string_lossy().into_owned();
    let installation = launch.installation.to_string_lossy().into_owned();
    move |text| unit_file::through_link(text, &installation, &link)
}

impl SystemdRuntime {
    /// Gives what is to be written for a launch; writes nothing.
    pub(super) fn written(&self, seat: &Seat, launch: &Launch) -> Result<Written, RuntimeError> {
        let through = through(seat, launch);
        let argv = arguments(seat, launch);
        let workdir = through(&launch.workdir.to_string_lossy());
        let environment_file = seat.folder.join("environment");
        let service = unit_file::service_drop_in(&unit_file::Service {
            label: &seat.label,
            argv: &argv,
            workdir: &workdir,
            environment_file: &environment_file,
            user: launch.user.as_deref(),
            log: (self.config.output == Output::File).then_some(launch.log.as_path()),
        })?;
        let mut env: Vec<(String, String)> = through_link(seat, launch).into_iter().collect();
        env.push((MARK.into(), seat.mark.clone()));
        let environment =
            unit_file::environment(&seat.label, env.iter().map(|(name, value)| (name.as_str(), value.as_str())))?;
        Ok(Written {
            closed: (self.drop_in(seat, CLOSED), unit_file::closed_drop_in(&seat.label, &seat.marker)?),
            service: (self.drop_in(seat, SERVICE), service),
            environment: (environment_file, environment),
            argv,
            workdir,
        })
    }

    /// Tells whether a file is one of the two drop-ins.
    pub(super) fn is_ours(&self, seat: &Seat, path: &Path) -> bool {
        [CLOSED, SERVICE].iter().any(|name| self.drop_in(seat, name) == path)
    }

    fn drop_in(&self, seat: &Seat, name: &str) -> PathBuf {
        self.config.drop_in_dir.join(format!("{}.d", seat.unit)).join(name)
    }

    /// Writes environment and drop-in; tells whether systemd must read again.
    pub(super) fn write_service(&self, seat: &Seat, launch: &Launch) -> Result<bool, RuntimeError> {
        let Written { service, environment: (path, text), .. } = self.written(seat, launch)?;
        let write = || -> io::Result<()> {
            fs::create_dir_all(&seat.folder)?;
            write_whole(&path, text.as_bytes())?;
            fs::File::open(&path)?.sync_all()
        };
        write().map_err(|source| RuntimeError::io("write the environment", &path, source))?;
        self.write_drop_in(&service)
    }

    /// Writes the drop-in that closes; tells whether systemd must read again.
    pub(super) fn write_closed(&self, seat: &Seat) -> Result<bool, RuntimeError> {
        let text = unit_file::closed_drop_in(&seat.label, &seat.marker)?;
        self.write_drop_in(&(self.drop_in(seat, CLOSED), text))
    }

    /// Writes a drop-in if it is not there as wanted; tells whether it wrote.
    fn write_drop_in(&self, (path, text): &(PathBuf, String)) -> Result<bool, RuntimeError> {
        if fs::read_to_string(path).is_ok_and(|there| there == *text) {
            return Ok(false);
        }
        let folder = path.parent().unwrap_or(&self.config.drop_in_dir);
        let write = || -> io::Result<()> {
            fs::create_dir_all(folder)?;
            write_whole(path, text.as_bytes())?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o644))?;
            fs::File::open(path)?.sync_all()?;
            closed::sync_folder(folder)?;
            closed::sync_folder(&self.config.drop_in_dir)
        };
        write().map_err(|source| RuntimeError::io("write the drop-in", path, source))?;
        Ok(true)
    }
}
