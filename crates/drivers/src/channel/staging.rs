//! Makes an installation beside the others, unseen until it is whole.
//!
//! Everything happens in a hidden folder of the installations folder (so the last step is one rename on one
//! file system), under a lock that dies with its process. What a killed install left is found by its name,
//! its processes by an environment variable they inherited, and both are removed before the next begins.

use super::{
    ChannelError,
    deadline::Deadline,
    inside::FOLDER_MODE,
    installation::{self, Facts, TREE},
    tree::Manifest,
};
use lastgood_domain::{
    facts::{Installation, Offer},
    terms::{Release, ReleaseTag},
};
use rustix::{
    fs::{FlockOperation, RenameFlags},
    process::{Pid, PidfdFlags, Signal},
};
use std::{
    fs::{self, File, OpenOptions, Permissions},
    io,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{OpenOptionsExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
    time::Duration,
};

/// Environment variable that names the hidden folder a process works for.
pub(crate) const MAKING: &str = "LASTGOOD_MAKING";
/// Start of a hidden folder's name while a release is made in it.
const MAKING_PREFIX: &str = ".making-";
/// Start of a hidden folder's name while it is removed.
const GONE_PREFIX: &str = ".gone-";
/// The lock file.
const LOCK: &str = ".lock";
/// Longest part of a folder's name that repeats the tag: names take 255 bytes, paths are read by people.
const TAG_CHARS_MAX: usize = 80;
/// How often a held lock is asked for again.
const LOCK_ASKED_EVERY: Duration = Duration::from_millis(50);
/// How often the removal of a folder is tried again while a process that is being ended still writes into it.
const REMOVALS_MAX: u32 = 20;

/// The folder that holds all installations of a service, locked by us.
pub(crate) struct Installations {
    folder: PathBuf,
    _lock: File,
}

/// A hidden folder in which one release is made; removed unless published.
pub(crate) struct Staging<'a> {
    installations: &'a Installations,
    folder: PathBuf,
    published: bool,
}

impl Installations {
    /// Makes the folder if needed, locks it and removes what killed installs left.
    pub(crate) fn open(folder: &Path, deadline: &Deadline<'_>) -> Result<Self, ChannelError> {
        let folder = std::path::absolute(folder).map_err(|error| ChannelError::io("find", folder, error))?;
        fs::create_dir_all(&folder).map_err(|error| ChannelError::io("make the folder", &folder, error))?;
        let lock = lock(&folder, deadline)?;
        let opened = Self { folder, _lock: lock };
        opened.sweep()?;
        Ok(opened)
    }

    /// Gives the folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Removes leftovers; only the holder of the lock may, so nothing that is in work is touched.
    fn sweep(&self) -> Result<(), ChannelError> {
        for name in names(&self.folder)? {
            if name.starts_with(MAKING_PREFIX) || name.starts_with(GONE_PREFIX) {
                remove(&self.folder.join(&name))?;
            }
        }
        Ok(())
    }

    /// Finds the whole, unchanged installation of `offer`; none where only fetching again can tell.
    pub(crate) fn find(&self, offer: &Offer) -> Result<Option<Installation>, ChannelError> {
        if offer.mark.is_none() {
            return Ok(None);
        }
        let start = format!("{}-", folder_name_of(&offer.tag));
        for name in names(&self.folder)?.into_iter().filter(|name| name.starts_with(&start)) {
            // A folder without facts is not ours to judge here; publishing over it is refused later.
            let Ok(facts) = installation::facts(&self.folder.join(name)) else { continue };
            let release = &facts.installation.release;
            if release.tag == offer.tag && release.origin == offer.origin && facts.mark == offer.mark {
                installation::verify_fast(&facts.installation)?;
                return Ok(Some(facts.installation));
            }
        }
        Ok(None)
    }

    /// Makes a hidden folder for `tag`.
    pub(crate) fn stage(&self, tag: &ReleaseTag) -> Result<Staging<'_>, ChannelError> {
        let folder = self.folder.join(hidden_name(MAKING_PREFIX, &folder_name_of(tag))?);
        let staging = Staging { installations: self, folder, published: false };
        for part in [&staging.folder, &staging.fetched(), &staging.tree()] {
            make_folder(part)?;
        }
        Ok(staging)
    }
}

impl Staging<'_> {
    /// Gives the hidden folder itself.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Gives the folder for what is fetched.
    pub(crate) fn fetched(&self) -> PathBuf {
        self.folder.join("fetched")
    }

    /// Gives the folder that becomes the installed tree.
    pub(crate) fn tree(&self) -> PathBuf {
        self.folder.join(TREE)
    }

    /// Gives the path the tree will have once it is published as `release`.
    fn home(&self, release: &Release) -> PathBuf {
        self.installations.folder.join(format!("{}-{}", folder_name_of(&release.tag), release.digest.short()))
    }

    /// Seals the tree and publishes it by one rename; if the same release is there already, that one stays.
    pub(crate) fn publish(
        mut self,
        release: Release,
        version: String,
        mark: Option<String>,
        manifest: &Manifest,
    ) -> Result<Installation, ChannelError> {
        let home = self.home(&release);
        if home.try_exists().map_err(|error| ChannelError::io("look at", &home, error))? {
            return already_there(&home, &release);
        }
        let fetched = self.fetched();
        match fs::remove_dir_all(&fetched) {
            // Where the fetched folder became the tree.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other.map_err(|error| ChannelError::io("remove", &fetched, error))?,
        }
        let path = installation::text_of(&home.join(TREE))?;
        let installation = Installation { release, version, path, tree: manifest.tree(), bytes: manifest.bytes() };
        let facts = Facts { installation, mark };
        installation::seal(&self.folder, manifest, &facts)?;
        self.sync()?;
        let failed = |error: rustix::io::Errno| ChannelError::io("publish", &home, error.into());
        rustix::fs::renameat_with(rustix::fs::CWD, &self.folder, rustix::fs::CWD, &home, RenameFlags::NOREPLACE)
            .map_err(failed)?;
        self.published = true;
        sync_folder(&self.installations.folder)?;
        Ok(facts.installation)
    }

    /// Brings all files of the hidden folder to the disk.
    ///
    /// One call for the file system, because one for each of tens of thousands of files takes minutes.
    fn sync(&self) -> Result<(), ChannelError> {
        let open = File::open(&self.folder).map_err(|error| ChannelError::io("open", &self.folder, error))?;
        rustix::fs::syncfs(&open).map_err(|error| ChannelError::io("write to the disk", &self.folder, error.into()))
    }
}

impl Drop for Staging<'_> {
    fn drop(&mut self) {
        if !self.published {
            // What can't be removed now is swept by the next install.
            drop(remove(&self.folder));
        }
    }
}

fn already_there(home: &Path, release: &Release) -> Result<Installation, ChannelError> {
    let found = installation::facts(home)?.installation;
    if found.release != *release {
        let why = format!("it holds {} {}", found.release.tag, found.release.digest);
        return Err(ChannelError::Unsealed { path: home.into(), why });
    }
    installation::verify_fast(&found)?;
    Ok(found)
}

/// Lists whole installations of a folder, ordered by name; what is hidden or has no facts is left out.
pub(crate) fn published(folder: &Path) -> Result<Vec<Installation>, ChannelError> {
    if !folder.try_exists().map_err(|error| ChannelError::io("look at", folder, error))? {
        return Ok(Vec::new());
    }
    let folder = std::path::absolute(folder).map_err(|error| ChannelError::io("find", folder, error))?;
    let mut names = names(&folder)?;
    names.sort();
    Ok(names
        .iter()
        .filter(|name| !name.starts_with('.'))
        .filter_map(|name| installation::facts(&folder.join(name)).ok())
        .map(|facts| facts.installation)
        .collect())
}

/// Hides a published folder by one rename, then removes it.
pub(crate) fn remove_published(folder: &Path) -> Result<(), ChannelError> {
    let home = folder.parent().unwrap_or(Path::new("/"));
    let gone = home.join(hidden_name(GONE_PREFIX, "installation")?);
    fs::rename(folder, &gone).map_err(|error| ChannelError::io("remove", folder, error))?;
    sync_folder(home)?;
    remove(&gone)
}

fn make_folder(path: &Path) -> Result<(), ChannelError> {
    fs::create_dir(path)
        // Not the caller's mask: the service that runs from here may be another user.
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(FOLDER_MODE)))
        .map_err(|error| ChannelError::io("make the folder", path, error))
}

fn hidden_name(prefix: &str, rest: &str) -> Result<String, ChannelError> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| {
        ChannelError::io("draw a random name in", Path::new(rest), io::Error::other(error.to_string()))
    })?;
    Ok(format!("{prefix}{rest}-{:016x}", u64::from_le_bytes(random)))
}

/// Makes a file name of a tag: the digest after it keeps two tags apart that give the same name.
fn folder_name_of(tag: &ReleaseTag) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '+');
    let name: String = tag.as_str().chars().take(TAG_CHARS_MAX).map(|c| if plain(c) { c } else { '_' }).collect();
    // A leading dot would hide it.
    if name.starts_with('.') { format!("_{name}") } else { name }
}

fn names(folder: &Path) -> Result<Vec<String>, ChannelError> {
    let failed = |error| ChannelError::io("read the folder", folder, error);
    let mut names = Vec::new();
    for item in fs::read_dir(folder).map_err(failed)? {
        // A name that is not UTF-8 is none of ours.
        if let Ok(name) = item.map_err(failed)?.file_name().into_string() {
            names.push(name);
        }
    }
    Ok(names)
}

pub(crate) fn sync_folder(folder: &Path) -> Result<(), ChannelError> {
    File::open(folder)
        .and_then(|open| open.sync_all())
        .map_err(|error| ChannelError::io("write to the disk", folder, error))
}

fn lock(folder: &Path, deadline: &Deadline<'_>) -> Result<File, ChannelError> {
    let at = folder.join(LOCK);
    // For us alone: whoever can open it can hold it, and hold us up.
    let failed = |error| ChannelError::io("lock", &at, error);
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&at).map_err(failed)?;
    loop {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) => {}
            Err(error) => return Err(failed(error.into())),
        }
        match deadline.check() {
            Err(ChannelError::TimedOut { limit, .. }) => {
                return Err(ChannelError::Busy { path: folder.into(), waited: limit });
            }
            other => other?,
        }
        std::thread::sleep(LOCK_ASKED_EVERY.min(deadline.left()));
    }
}

/// Removes a hidden folder and ends the processes that still work for it.
fn remove(folder: &Path) -> Result<(), ChannelError> {
    for attempt in 1.. {
        end_processes_of(folder);
        match fs::remove_dir_all(folder) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if attempt == REMOVALS_MAX => return Err(ChannelError::io("remove", folder, error)),
            // A process that was just ended may have written once more, or a folder may be closed to us.
            Err(_) => {
                open_folders(folder);
                std::thread::sleep(LOCK_ASKED_EVERY);
            }
        }
    }
    Ok(())
}

/// Gives ourselves the right to remove what lies in folders that a release made read-only.
fn open_folders(folder: &Path) {
    let mut ahead = vec![folder.to_path_buf()];
    while let Some(at) = ahead.pop() {
        drop(fs::set_permissions(&at, Permissions::from_mode(0o700)));
        let Ok(items) = fs::read_dir(&at) else { continue };
        ahead.extend(
            items.flatten().filter(|item| item.file_type().is_ok_and(|kind| kind.is_dir())).map(|item| item.path()),
        );
    }
}

/// Ends every process that carries our variable for this very folder.
///
/// A client that was started by a killed install lives on and would write into what is being removed.
fn end_processes_of(folder: &Path) {
    let mut needle = format!("{MAKING}=").into_bytes();
    needle.extend_from_slice(folder.as_os_str().as_bytes());
    let Ok(items) = fs::read_dir("/proc") else { return };
    for item in items.flatten() {
        let Some(id) = item.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Some(pid) = Pid::from_raw(id) else { continue };
        let works_for_it = || {
            fs::read(item.path().join("environ"))
                .is_ok_and(|environment| environment.split(|byte| *byte == 0).any(|one| one == needle))
        };
        if !works_for_it() {
            continue;
        }
        // The handle names the process before we look again, so a reused number is never hit.
        let Ok(handle) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { continue };
        if works_for_it() {
            // Ended by itself in between: that is what we wanted.
            let _ended = rustix::process::pidfd_send_signal(&handle, Signal::KILL);
        }
    }
}
