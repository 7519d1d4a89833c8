//! Lays out releases as the folders that a channel offers.

use crate::{LastLayerError, Release, catalogue};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Lays out every release of the [`catalogue`] in `into`, one folder each, named by its version.
///
/// `program` is the path of the `last-layer` binary, or the command that plays it.
pub fn write_releases(into: &Path, program: &[String]) -> Result<Vec<PathBuf>, LastLayerError> {
    catalogue().iter().map(|release| write_release(into, release, program)).collect()
}

/// Lays out one release: `release.json`, the launcher `last-layer` and `VERSION`.
///
/// The folder appears under its name when it is whole. One that is there already is left as it is.
pub fn write_release(into: &Path, release: &Release, program: &[String]) -> Result<PathBuf, LastLayerError> {
    let folder = into.join(&release.version);
    if folder.exists() {
        return Ok(folder);
    }
    let unfinished = into.join(format!(".{}.unfinished", release.version));
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).map_err(|source| unwritable(&unfinished, source))?;
    }
    fs::create_dir_all(&unfinished).map_err(|source| unwritable(&unfinished, source))?;
    let behaviour = serde_json::to_string_pretty(release).expect("a release has only text keys");
    for (name, text, mode) in [
        ("release.json", behaviour + "\n", 0o644),
        ("last-layer", launcher(program), 0o755),
        ("VERSION", format!("{}\n", release.version), 0o644),
    ] {
        let path = unfinished.join(name);
        fs::write(&path, text)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(mode)))
            .map_err(|source| unwritable(&path, source))?;
    }
    fs::rename(&unfinished, &folder).map_err(|source| unwritable(&folder, source))?;
    Ok(folder)
}

fn unwritable(path: &Path, source: std::io::Error) -> LastLayerError {
    LastLayerError::Unwritable { path: path.into(), source }
}

fn launcher(program: &[String]) -> String {
    let command: Vec<String> = program.iter().map(|word| format!("'{}'", word.replace('\'', r"'\''"))).collect();
    format!(
        "#!/bin/sh\n# Starts this release, wherever its folder lies.\nexec {} --release \"${{0%/*}}/release.json\" \"$@\"\n",
        command.join(" ")
    )
}
