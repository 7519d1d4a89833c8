//! One instance's unit and folder: which release the link `now` leads to, and how it is flipped.

use super::super::{Launch, RuntimeError, closed, launcher::write_whole, user};
use lastgood_domain::terms::Release;
use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

/// What is remembered of the release that the link leads to.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Generation {
    pub(super) release: Release,
    pub(super) log: PathBuf,
    /// Length of the log when this release was put in place.
    pub(super) log_bytes: u64,
}

pub(super) struct Seat {
    pub(super) label: String,
    pub(super) unit: String,
    pub(super) folder: PathBuf,
    pub(super) marker: PathBuf,
    pub(super) mark: String,
}

impl Seat {
    /// Reads what the link leads to; none before the first start.
    pub(super) fn generation(&self) -> Result<Option<Generation>, RuntimeError> {
        let path = self.folder.join("now/release.json");
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(RuntimeError::io("read the record", path, error)),
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| RuntimeError::RecordDamaged {
            instance: self.label.clone(),
            path,
            why: error.to_string(),
        })
    }

    /// Makes `now` lead to the launch's release: record, link and folder are on the disk before the flip.
    pub(super) fn flip(&self, launch: &Launch) -> Result<(), RuntimeError> {
        let name = launch.release.digest.short();
        let folder = self.folder.join(&name);
        let log_bytes = fs::metadata(&launch.log).map_or(0, |found| found.len());
        let record = Generation { release: launch.release.clone(), log: launch.log.clone(), log_bytes };
        let flip = || -> io::Result<()> {
            fs::create_dir_all(&folder)?;
            write_whole(&folder.join("release.json"), &serde_json::to_vec(&record)?)?;
            fs::File::open(folder.join("release.json"))?.sync_all()?;
            link_whole(&launch.installation, &folder.join("program"))?;
            closed::sync_folder(&folder)?;
            link_whole(Path::new(&name), &self.folder.join("now"))?;
            closed::sync_folder(&self.folder)
        };
        flip().map_err(|source| RuntimeError::io("flip the link of", &self.folder, source))
    }

    /// Makes the link of the release that `now` leads to lead to its installation.
    pub(super) fn lead_to(&self, installation: &Path) -> io::Result<()> {
        let folder = self.folder.join("now");
        link_whole(installation, &folder.join("program"))?;
        closed::sync_folder(&folder)
    }
}

/// Replaces a link in one step: who follows it finds the old or the new target, never none.
fn link_whole(target: &Path, link: &Path) -> io::Result<()> {
    let beside = link.with_extension(format!("{}.new", std::process::id()));
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::os::unix::fs::symlink(target, &beside)?;
    fs::rename(&beside, link)
}

/// Refuses what systemd would report only after the start, in words of its own.
pub(super) fn check(seat: &Seat, launch: &Launch) -> Result<(), RuntimeError> {
    let instance = || seat.label.clone();
    let invalid = |what: &str| RuntimeError::LaunchInvalid { instance: instance(), what: what.into() };
    let program = launch.argv.first().map(PathBuf::from).ok_or_else(|| invalid("its command is empty"))?;
    if !program.is_absolute() || !launch.workdir.is_absolute() || !launch.log.is_absolute() {
        return Err(invalid("its program, folder or log is not an absolute path"));
    }
    match fs::metadata(&program) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(RuntimeError::ProgramMissing { instance: instance(), program });
        }
        Ok(found) if found.is_dir() || found.permissions().mode() & 0o111 == 0 => {
            let why = if found.is_dir() { "it is a folder" } else { "its mode has no x" };
            return Err(RuntimeError::ProgramNotExecutable { instance: instance(), program, why: why.into() });
        }
        _ => {}
    }
    if !launch.workdir.is_dir() {
        let why = "it is no folder".into();
        return Err(RuntimeError::WorkdirMissing { instance: instance(), workdir: launch.workdir.clone(), why });
    }
    if let Some(user) = &launch.user
        && user::look_up(user).is_none()
    {
        return Err(RuntimeError::UserUnknown { instance: instance(), user: user.clone() });
    }
    Ok(())
}
