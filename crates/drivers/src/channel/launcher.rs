//! Makes a folder that pip filled one that can be moved: no trace of where it was made, and launchers that find
//! their libraries beside themselves.

use super::ChannelError;
use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

/// Removes pip's note of which file it installed from: a path that is gone in a moment.
pub(crate) fn forget_download(lib: &Path) -> Result<(), ChannelError> {
    let failed = |error| ChannelError::io("read the folder", lib, error);
    for item in fs::read_dir(lib).map_err(failed)? {
        let folder = item.map_err(failed)?.path();
        let note = folder.join("direct_url.json");
        if folder.extension().is_none_or(|ending| ending != "dist-info") || !note.exists() {
            continue;
        }
        fs::remove_file(&note).map_err(|error| ChannelError::io("remove", &note, error))?;
        let record = folder.join("RECORD");
        let text = match fs::read_to_string(&record) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(ChannelError::io("read", &record, error)),
        };
        let kept: String =
            text.lines().filter(|line| !line.contains("/direct_url.json,")).flat_map(|line| [line, "\n"]).collect();
        fs::write(&record, kept).map_err(|error| ChannelError::io("write", &record, error))?;
    }
    Ok(())
}

/// Writes `bin/python` and one launcher for each program that the packages bring.
pub(crate) fn write_launchers(tree: &Path, python: &str) -> Result<(), ChannelError> {
    let bin = tree.join("bin");
    fs::create_dir(&bin).map_err(|error| ChannelError::io("make the folder", &bin, error))?;
    write_launcher(&bin.join("python"), &format!("'{python}'"))?;
    let scripts = tree.join("lib/bin");
    let items = match fs::read_dir(&scripts) {
        Ok(items) => items,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(ChannelError::io("read the folder", &scripts, error)),
    };
    for item in items {
        let item = item.map_err(|error| ChannelError::io("read the folder", &scripts, error))?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '+');
        let name = item.file_name().to_string_lossy().into_owned();
        if !name.chars().all(plain) || name == "python" || !item.path().is_file() {
            continue;
        }
        let script = format!("\"$home/lib/bin/{name}\"");
        let is_python = first_line(&item.path())?.contains("python");
        write_launcher(&bin.join(&name), &if is_python { format!("'{python}' {script}") } else { script })?;
    }
    Ok(())
}

fn write_launcher(at: &Path, words: &str) -> Result<(), ChannelError> {
    let text = format!(
        "#!/bin/sh\n\
         # Finds its libraries beside itself, wherever this installation lies. Written by lastgood.\n\
         home=$(dirname -- \"$(dirname -- \"$(readlink -f -- \"$0\")\")\")\n\
         PYTHONPATH=\"$home/lib${{PYTHONPATH:+:$PYTHONPATH}}\" PYTHONNOUSERSITE=1 PYTHONDONTWRITEBYTECODE=1\n\
         export PYTHONPATH PYTHONNOUSERSITE PYTHONDONTWRITEBYTECODE\n\
         exec {words} \"$@\"\n"
    );
    fs::write(at, text)
        .and_then(|()| fs::set_permissions(at, fs::Permissions::from_mode(0o755)))
        .map_err(|error| ChannelError::io("write", at, error))
}

fn first_line(at: &Path) -> Result<String, ChannelError> {
    let failed = |error| ChannelError::io("read", at, error);
    let mut start = Vec::new();
    // The kernel reads 256 bytes of such a line.
    File::open(at).map_err(failed)?.take(256).read_to_end(&mut start).map_err(failed)?;
    Ok(String::from_utf8_lossy(&start).lines().next().unwrap_or_default().to_owned())
}
