//! The marker that keeps an instance from being started while its data is changed.

use super::RuntimeError;
use lastgood_domain::terms::{InstanceName, ServiceName};
use std::{
    fs::{self, File},
    io::ErrorKind,
    path::{Path, PathBuf},
};

/// Names the marker of one instance below the state folder.
pub(crate) fn marker(state_dir: &Path, service: &ServiceName, instance: &InstanceName) -> PathBuf {
    state_dir.join("closed").join(service.as_str()).join(instance.as_str())
}

/// Closes: when it returns, the marker is on the disk.
pub(crate) fn close(marker: &Path) -> Result<(), RuntimeError> {
    let failed = |source| RuntimeError::io("close the instance with", marker, source);
    let Some(folder) = marker.parent() else { return Ok(()) };
    fs::create_dir_all(folder).map_err(failed)?;
    let file = File::options().create(true).append(true).open(marker).map_err(failed)?;
    file.sync_all().and_then(|()| sync_chain(folder)).map_err(failed)
}

/// Opens: when it returns, the marker is gone from the disk.
pub(crate) fn open(marker: &Path) -> Result<(), RuntimeError> {
    let failed = |source| RuntimeError::io("open the instance by removing", marker, source);
    match fs::remove_file(marker) {
        Ok(()) => match marker.parent() {
            Some(folder) => sync_folder(folder).map_err(failed),
            None => Ok(()),
        },
        Err(gone) if gone.kind() == ErrorKind::NotFound => Ok(()),
        Err(source) => Err(failed(source)),
    }
}

/// Makes renames and new names in `folder` last.
pub(crate) fn sync_folder(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Makes the folder and the two above it last: `closed/SERVICE` may be new as well.
fn sync_chain(folder: &Path) -> std::io::Result<()> {
    folder.ancestors().take(3).try_for_each(sync_folder)
}
