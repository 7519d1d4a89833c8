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

/// How long a marker must last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lasting {
    /// Over a loss of power: something else than lastgood starts instances at boot.
    OverReboot,
    /// Until the machine stops: then nothing but lastgood starts the instance again, and it reads its log first.
    UntilReboot,
}

/// Closes: when it returns, the marker is there, and on the disk if it must last over a reboot.
pub(crate) fn close(marker: &Path, lasting: Lasting) -> Result<(), RuntimeError> {
    let failed = |source| RuntimeError::io("close the instance with", marker, source);
    let Some(folder) = marker.parent() else { return Ok(()) };
    fs::create_dir_all(folder).map_err(failed)?;
    let file = File::options().create(true).append(true).open(marker).map_err(failed)?;
    match lasting {
        Lasting::OverReboot => file.sync_all().and_then(|()| sync_chain(folder)).map_err(failed),
        Lasting::UntilReboot => Ok(()),
    }
}

/// Opens: when it returns, the marker is gone, and from the disk if it had to last over a reboot.
pub(crate) fn open(marker: &Path, lasting: Lasting) -> Result<(), RuntimeError> {
    let failed = |source| RuntimeError::io("open the instance by removing", marker, source);
    match (fs::remove_file(marker), lasting) {
        (Ok(()), Lasting::OverReboot) => match marker.parent() {
            Some(folder) => sync_folder(folder).map_err(failed),
            None => Ok(()),
        },
        (Ok(()), Lasting::UntilReboot) => Ok(()),
        (Err(gone), _) if gone.kind() == ErrorKind::NotFound => Ok(()),
        (Err(source), _) => Err(failed(source)),
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
