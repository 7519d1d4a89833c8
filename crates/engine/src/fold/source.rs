//! Names the fold by its source: the build script and a test read it, nothing else does.
//!
//! A kept state may be read only by the code that wrote it. A number that people raise would be forgotten one day; a
//! digest of the source can't be. It changes more often than it must, which costs one fold of the chain after an update.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// What decides how records are read, what they fold to and how that is written, below the workspace's folder: the
/// whole of `domain`, and the lock file for the packages that do the writing.
pub(crate) const SOURCES: [&str; 4] =
    ["crates/domain/src", "crates/engine/src/fold.rs", "crates/engine/src/log.rs", "Cargo.lock"];

/// Digests the names and contents of all [`SOURCES`] below `workspace`.
///
/// FNV-1a of 64 bits: it tells versions apart, it does not guard against people.
pub(crate) fn mark(workspace: &Path) -> io::Result<String> {
    let mut files = Vec::new();
    for source in SOURCES {
        list(workspace, Path::new(source), &mut files)?;
    }
    files.sort();
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for file in files {
        let content = fs::read(workspace.join(&file))?;
        let name = file.to_string_lossy();
        // Lengths keep a byte from moving between a name, a content and the next name unseen.
        let lengths = [name.len() as u64, content.len() as u64].map(u64::to_le_bytes);
        let bytes = lengths.iter().flatten().chain(name.as_bytes()).chain(&content);
        hash = bytes.fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    }
    Ok(format!("{hash:016x}"))
}

fn list(workspace: &Path, path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    let whole = workspace.join(path);
    if !whole.is_dir() {
        files.push(path.to_path_buf());
        return Ok(());
    }
    for entry in fs::read_dir(whole)? {
        list(workspace, &path.join(entry?.file_name()), files)?;
    }
    Ok(())
}
