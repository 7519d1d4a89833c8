//! What a killed command left in the state folder: copies of users' data that a dry run or a count made must not lie there
//! for ever.

use crate::app::App;
use lastgood_drivers::state::sweep_counts;
use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

/// How the folders of dry runs are called.
pub(crate) const DRY_RUN: &str = "dry-run-";
/// The file that a dry run keeps locked in its folder as long as it lives; the kernel lets go of it however it ends.
const ALIVE: &str = "alive";

/// Marks a folder as that of a dry run which lives as long as the file is open.
pub(crate) fn claim(folder: &Path) -> io::Result<File> {
    let mut file = File::create_new(folder.join(ALIVE))?;
    file.lock()?;
    // Only now it may be swept: in between nobody could tell it from one that was killed.
    file.write_all(b"lastgood\n")?;
    Ok(file)
}

/// Removes the folders of dry runs and counts that were killed. What can't be removed is tried again by the next command.
pub(crate) fn sweep(app: &App) {
    for service in app.config.service.keys() {
        let _ = sweep_counts(&app.home.service(service).shelf());
    }
    let entries = fs::read_dir(app.home.root()).into_iter().flatten().flatten();
    let ours = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(DRY_RUN));
    for entry in ours.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        let Ok(file) = File::open(entry.path().join(ALIVE)) else { continue };
        let is_claimed = file.metadata().is_ok_and(|facts| facts.is_file() && facts.len() > 0);
        if is_claimed && file.try_lock().is_ok() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
