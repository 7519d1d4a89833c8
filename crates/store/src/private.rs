//! Files of the state folder that strangers may not open.
//!
//! Others may pass through that folder to what is theirs, and its names are known. A kernel's lock needs no more than a
//! descriptor that can read: whoever may open a lock file can keep everybody from going back.

use rustix::{
    fs::{CWD, FileType, Mode, fchmod, mknodat},
    io::Errno,
    process::geteuid,
};
use std::{
    fs::{self, File, OpenOptions, Permissions},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

/// What others may do with a file; what its group may is up to whoever gave it one.
const OTHERS: u32 = 0o007;

/// Opens a file for reading and writing that is only ours, and makes it if it is not there.
///
/// One that an older version left open to others is closed to them, if it is ours.
pub fn open_private(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    let meta = file.metadata()?;
    if is_open_to_others(&meta) {
        fchmod(&file, Mode::from_raw_mode(meta.mode() & 0o660))?;
    }
    Ok(file)
}

/// Makes a file that is only ours, or closes one that is there to others. It is not opened: whoever closes a database's
/// file lets go of all locks that their process has on it.
pub(crate) fn make_private(path: &Path) -> io::Result<()> {
    match mknodat(CWD, path, FileType::RegularFile, Mode::RUSR | Mode::WUSR, 0) {
        Ok(()) | Err(Errno::EXIST) => close_to_others(path),
        Err(other) => Err(other.into()),
    }
}

/// Closes a file to others, if there is one and it is ours.
pub(crate) fn close_to_others(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(meta) if is_open_to_others(&meta) => {
            match fs::set_permissions(path, Permissions::from_mode(meta.mode() & 0o660)) {
                // Its last user has removed it since.
                Err(gone) if gone.kind() == io::ErrorKind::NotFound => Ok(()),
                closed => closed,
            }
        }
        Ok(_) => Ok(()),
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn is_open_to_others(meta: &fs::Metadata) -> bool {
    meta.is_file() && meta.mode() & OTHERS != 0 && meta.uid() == geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use crate::{DriverLock, EVIDENCE_FILE, Store};
    use lastgood_domain::terms::{ServiceName, Timestamp};
    use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

    fn open_to_others(folder: &Path) -> Vec<String> {
        let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let open = files.filter(|path| fs::metadata(path).unwrap().permissions().mode() & 0o007 != 0);
        open.map(|path| path.display().to_string()).collect()
    }

    #[test]
    fn evidence_and_locks_are_only_the_owners_and_those_an_older_version_left_are_closed() {
        let folder = tempfile::tempdir().unwrap();
        let service = ServiceName::new("web").unwrap();
        for round in 0..2 {
            let store = Store::open(folder.path()).unwrap();
            let lock = DriverLock::take(folder.path(), &service, "test", Timestamp(0)).unwrap();
            assert!(folder.path().join(format!("{EVIDENCE_FILE}-wal")).exists(), "no log beside the evidence");
            assert_eq!(open_to_others(folder.path()), Vec::<String>::new(), "round {round}");
            drop(lock);
            // As a process that was killed leaves them, by a version that knew no better.
            std::mem::forget(store);
            for entry in fs::read_dir(folder.path()).unwrap() {
                fs::set_permissions(entry.unwrap().path(), fs::Permissions::from_mode(0o644)).unwrap();
            }
        }
    }
}
