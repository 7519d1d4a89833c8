//! Lays out releases as the folders that a channel offers.

use crate::{NotebookError, Release, catalogue};
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const LICENSE: &str = "The notebook is an example of the lastgood project, under the project's licence:\n\
                       Apache-2.0 or MIT, as you like.\n";

/// Lays out every release of the [`catalogue`] in `into`, one folder each, named by its version.
///
/// `program` is the command that plays a release, such as the path of the `notebook` binary; ` --release FILE` is added.
pub fn write_releases(into: &Path, program: &[String]) -> Result<Vec<PathBuf>, NotebookError> {
    catalogue().iter().map(|release| write_release(into, release, program)).collect()
}

/// Lays out one release: `release.json`, the launcher `notebook`, `VERSION` and `LICENSE`.
///
/// The folder appears under its name when it is whole. One that is there already is left as it is.
pub fn write_release(into: &Path, release: &Release, program: &[String]) -> Result<PathBuf, NotebookError> {
    let folder = into.join(&release.version);
    if folder.exists() {
        return Ok(folder);
    }
    let unfinished = fill(into, release, program, LICENSE)?;
    fs::rename(&unfinished, &folder).map_err(|source| NotebookError::Unwritable { path: folder.clone(), source })?;
    Ok(folder)
}

/// Publishes the same version once more with other bytes: the same tag, another digest.
pub fn republish(into: &Path, release: &Release, program: &[String]) -> Result<PathBuf, NotebookError> {
    let folder = into.join(&release.version);
    let unfinished = fill(into, release, program, &format!("{LICENSE}\nBuilt again.\n"))?;
    let unwritable = |source| NotebookError::Unwritable { path: folder.clone(), source };
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(unwritable)?;
    }
    fs::rename(&unfinished, &folder).map_err(unwritable)?;
    Ok(folder)
}

fn fill(into: &Path, release: &Release, program: &[String], license: &str) -> Result<PathBuf, NotebookError> {
    let folder = into.join(format!(".{}.unfinished", release.version));
    let unwritable = |source| NotebookError::Unwritable { path: folder.clone(), source };
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(unwritable)?;
    }
    fs::create_dir_all(&folder).map_err(unwritable)?;
    let behaviour = serde_json::to_string_pretty(release).expect("a release has only text keys");
    let files = [
        ("release.json", behaviour + "\n", 0o644),
        ("notebook", launcher(program), 0o755),
        ("VERSION", format!("{}\n", release.version), 0o644),
        ("LICENSE", license.to_owned(), 0o644),
    ];
    for (name, text, mode) in files {
        let path = folder.join(name);
        let mut options = fs::OpenOptions::new();
        options
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|source| NotebookError::Unwritable { path, source })?;
    }
    Ok(folder)
}

fn launcher(program: &[String]) -> String {
    let command: Vec<String> = program.iter().map(|word| quoted(word)).collect();
    format!(
        "#!/bin/sh\n# Starts this release, wherever its folder lies.\nexec {} --release \"${{0%/*}}/release.json\"\n",
        command.join(" ")
    )
}

/// Gives a word that a shell takes as it is.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_takes_a_program_path_as_it_is() {
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's $HOME"), r"'it'\''s $HOME'");
    }
}
