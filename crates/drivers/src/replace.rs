//! Makes one file of this machine what it should be, and keeps what was there beside it.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

/// Largest file that is replaced: configurations, not data.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Makes `path` hold `wanted`, if it does not; what was there is kept as `pathBESIDE`. Gives whether it was replaced.
///
/// Owner and mode stay; `mode` is for a file that was not there. Repeated after a kill it ends the same, and what is kept
/// stays what was there first.
/// Errors: `path` is no plain file, or the system refuses.
pub fn replace(path: &Path, wanted: &[u8], mode: u32, beside: &str) -> io::Result<bool> {
    let was = facts_of(path)?.map(|facts| fs::read(path).map(|bytes| (facts, bytes))).transpose()?;
    if was.as_ref().is_some_and(|(_, bytes)| bytes == wanted) {
        return Ok(false);
    }
    let folder = folder_of(path);
    fs::create_dir_all(folder)?;
    let new = fresh(path, ".lastgood-new");
    write(&new, wanted, mode, was.as_ref().map(|(facts, _)| facts))?;
    if let Some((facts, bytes)) = &was {
        let kept = named_after(path, beside);
        // Repeated after a kill it must not keep what it has put back itself.
        if !kept.exists() {
            // Whole or not at all: half of it would be taken for what was there before.
            let aside = fresh(path, &format!("{beside}.new"));
            write(&aside, bytes, mode, Some(facts))?;
            fs::rename(&aside, &kept)?;
        }
    }
    fs::rename(&new, path)?;
    fs::File::open(folder)?.sync_all()?;
    Ok(true)
}

/// Makes `path` hold `wanted`; what was there is kept, the very same file, as `pathBESIDE` or the next free name like it.
/// Gives that name; none if nothing was there.
///
/// Errors: as [`replace`]; `path` is what it was then.
pub(crate) fn exchange(path: &Path, wanted: &[u8], mode: u32, beside: &str) -> io::Result<Option<PathBuf>> {
    let was = facts_of(path)?;
    let folder = folder_of(path);
    fs::create_dir_all(folder)?;
    let new = fresh(path, ".lastgood-new");
    write(&new, wanted, mode, was.as_ref())?;
    let put = || -> io::Result<Option<PathBuf>> {
        let mut kept = None;
        if was.is_some() {
            let name = free_name(path, beside);
            fs::hard_link(path, &name)?;
            kept = Some(name);
        }
        fs::rename(&new, path)?;
        fs::File::open(folder)?.sync_all()?;
        Ok(kept)
    };
    let put = put();
    if put.is_err() {
        let _ = fs::remove_file(&new);
    }
    put
}

/// Takes a file or link away by another name, `pathBESIDE`, or the next free one like it. Gives that name; none if nothing
/// is there.
pub(crate) fn put_aside(path: &Path, beside: &str) -> io::Result<Option<PathBuf>> {
    let kept = free_name(path, beside);
    match fs::rename(path, &kept) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        done => done?,
    }
    fs::File::open(folder_of(path))?.sync_all()?;
    Ok(Some(kept))
}

/// Gives the facts of a plain file; none if nothing is there.
fn facts_of(path: &Path) -> io::Result<Option<fs::Metadata>> {
    match fs::symlink_metadata(path) {
        // Whatever a link leads to belongs to somebody else.
        Ok(facts) if !facts.is_file() || facts.len() > FILE_BYTES_MAX => {
            Err(io::Error::other(format!("it is no plain file of at most {FILE_BYTES_MAX} bytes")))
        }
        Ok(facts) => Ok(Some(facts)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Gives a name beside a file that nothing has yet.
fn free_name(path: &Path, beside: &str) -> PathBuf {
    let mut name = named_after(path, beside);
    let mut again = 0;
    while fs::symlink_metadata(&name).is_ok() {
        again += 1;
        name = named_after(path, &format!("{beside}.{again}"));
    }
    name
}

/// Gives a name beside a file for what is being written: of two who write it at once, each has its own.
fn fresh(path: &Path, suffix: &str) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let (process, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    named_after(path, &format!("{suffix}-{process}-{number}"))
}

fn named_after(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

fn write(path: &Path, bytes: &[u8], mode: u32, like: Option<&fs::Metadata>) -> io::Result<()> {
    // Never through what somebody may have put there: a new file, or none.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    if let Some(facts) = like {
        std::os::unix::fs::fchown(&file, Some(facts.uid()), Some(facts.gid()))?;
    }
    let mode = like.map_or(mode, |facts| facts.mode() & 0o7777);
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.sync_all()
}
