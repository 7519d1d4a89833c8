//! Writes a snapshot's data to another place: the common part of a rehearsal's copy and of a restore.

use super::{
    beneath::Folder,
    copy,
    error::StateError,
    manifest::{Dress, Entry, Manifest, What, root_folder},
    place::{Data, Owner, Root, Scope, StatePlace},
    snapshot::{open_content, verify_sizes},
    space,
};
use rustix::fs::StatFs;
use std::{
    fs::{self, File},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

/// Copies the snapshot into the folder `into`, for a rehearsal, and gives the bytes.
///
/// A folder's content comes right into `into`; SQLite files keep their places relative to the folder they have in
/// common. Use [`clone_to`] where the files must lie exactly where the configuration says. The copy shares the
/// snapshot's blocks where the file system can.
pub fn clone(snapshot: &Path, into: &Path, owner: Option<&Owner>) -> Result<u64, StateError> {
    let (manifest, _) = Manifest::read(snapshot)?;
    let data = match &manifest.place.data {
        Data::Directory { exclude, .. } => Data::Directory { path: into.into(), exclude: exclude.clone() },
        Data::Sqlite(paths) => {
            let common = common_folder(paths);
            Data::Sqlite(paths.iter().map(|path| into.join(path.strip_prefix(&common).unwrap_or(path))).collect())
        }
    };
    clone_to(snapshot, &StatePlace { data, owner: owner.cloned() })
}

/// Copies the snapshot to `place`, whose paths must be free, and gives the bytes.
pub fn clone_to(snapshot: &Path, place: &StatePlace) -> Result<u64, StateError> {
    let (manifest, _) = Manifest::read(snapshot)?;
    let roots = place.roots()?;
    if roots.len() != manifest.roots {
        let (kept, now) = (manifest.place.data.to_string(), place.data.to_string());
        return Err(StateError::OtherShape { kept, now });
    }
    verify_sizes(snapshot, &manifest)?;
    let mut bytes = 0;
    for (number, root) in roots.iter().enumerate() {
        let target = make_target(root, place.owner.as_ref())?;
        let entries: Vec<&Entry> = manifest.of_root(number).collect();
        refuse_taken(&target, root)?;
        let needed: u64 = entries
            .iter()
            .filter_map(|entry| entry.what.content())
            .filter(|content| !content.sparse)
            .map(|content| content.bytes)
            .sum();
        space::demand_room(&target, &target.path, needed)?;
        let write = Write { snapshot, number, name: place_name(root), care: Care::Throwaway(place.owner.as_ref()) };
        bytes += write.all(&entries, &target).map_err(|error| space::or_full(error, &target.path, needed))?;
    }
    Ok(bytes)
}

fn common_folder(paths: &[PathBuf]) -> PathBuf {
    let mut common = paths.first().and_then(|path| path.parent()).unwrap_or(Path::new("/")).to_path_buf();
    while !paths.iter().all(|path| path.starts_with(&common)) {
        common.pop();
    }
    common
}

fn make_target(root: &Root, owner: Option<&Owner>) -> Result<Folder, StateError> {
    let missing = !root.base.exists();
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&root.base)
        .map_err(|error| StateError::io("make", &root.base, error))?;
    let target = Folder::open(&root.base)?;
    let failed = |error: rustix::io::Errno| StateError::io("ask for room at", &root.base, error);
    if is_in_memory(&rustix::fs::fstatfs(&target).map_err(failed)?) {
        return Err(StateError::ScratchInMemory { path: root.base.clone() });
    }
    if let (true, Some(owner)) = (missing, owner) {
        let (uid, gid) = (rustix::fs::Uid::from_raw(owner.uid), rustix::fs::Gid::from_raw(owner.gid));
        rustix::fs::fchown(&target, Some(uid), Some(gid)).map_err(|error| StateError::io("own", &root.base, error))?;
    }
    Ok(target)
}

/// The numbers by which Linux names tmpfs and ramfs.
fn is_in_memory(stat: &StatFs) -> bool {
    let kind = stat.f_type as u64 & 0xffff_ffff;
    matches!(kind, 0x0102_1994 | 0x8584_58f6)
}

fn refuse_taken(target: &Folder, root: &Root) -> Result<(), StateError> {
    let failed = |error| StateError::io("list", &target.path, error);
    let taken = match &root.scope {
        Scope::Only(name) => target.stat_if_any(Path::new(name)).map_err(failed)?.is_some(),
        Scope::AllBut(_) => !target.names().map_err(failed)?.is_empty(),
    };
    if taken { Err(StateError::TargetTaken { path: target.path.clone() }) } else { Ok(()) }
}

/// The name that a root's only file gets at its place, if it is one file.
pub(super) fn place_name(root: &Root) -> Option<&Path> {
    match &root.scope {
        Scope::Only(name) => Some(Path::new(name)),
        Scope::AllBut(_) => None,
    }
}

/// How carefully files are written.
#[derive(Debug, Clone, Copy)]
pub(super) enum Care<'a> {
    /// For a rehearsal: another owner, no set-id bits, neither digested nor synced.
    Throwaway(Option<&'a Owner>),
    /// For a restore: each file's digest is compared while it is copied, and each is made to survive a power cut.
    Exact,
}

/// Writes the entries of one root to a folder.
#[derive(Debug)]
pub(super) struct Write<'a> {
    pub(super) snapshot: &'a Path,
    pub(super) number: usize,
    /// The name of the only file, where it differs from the snapshot's.
    pub(super) name: Option<&'a Path>,
    pub(super) care: Care<'a>,
}

/// From 64 files on, one flush of the file system is cheaper than one per file.
const SYNC_EACH_MAX: usize = 64;

impl Write<'_> {
    /// Writes all entries into `target`, which stays as it is itself, and gives the bytes.
    pub(super) fn all(&self, entries: &[&Entry], target: &Folder) -> Result<u64, StateError> {
        if entries.is_empty() {
            return Ok(0);
        }
        let source = Folder::open(&root_folder(self.snapshot, self.number)).map_err(|error| StateError::Damaged {
            snapshot: self.snapshot.into(),
            path: PathBuf::new(),
            what: error.to_string(),
        })?;
        let sync_each = matches!(self.care, Care::Exact) && entries.len() <= SYNC_EACH_MAX;
        let mut bytes = 0;
        for entry in entries {
            let path = self.name.unwrap_or(entry.path.path());
            let failed = |error| StateError::io("write", &target.path.join(path), error);
            match &entry.what {
                What::Folder if path.as_os_str().is_empty() => {}
                What::Folder => target.make_folder(path).map_err(failed)?,
                What::Link(to) => {
                    target.make_link(path, &to.0).map_err(failed)?;
                    copy::dress_link(target, path, &self.dress(entry)).map_err(failed)?;
                }
                What::File(content) | What::Database(content, _) => {
                    let from = open_content(&source, self.snapshot, entry.path.path())?;
                    let to = target.make_file(path).map_err(failed)?;
                    self.content(entry, &from, &to, content.sparse).map_err(|error| match error {
                        Refusal::Io(error) => failed(error),
                        Refusal::Damaged => StateError::Damaged {
                            snapshot: self.snapshot.into(),
                            path: entry.path.path().into(),
                            what: "its bytes are not those of its digest".into(),
                        },
                    })?;
                    copy::dress(&to, &self.dress(entry)).map_err(failed)?;
                    if sync_each {
                        to.sync_all().map_err(failed)?;
                    }
                    bytes += content.bytes;
                }
            }
        }
        self.dress_folders(entries, target, sync_each)?;
        if matches!(self.care, Care::Exact) {
            let synced = if sync_each { target.sync() } else { rustix::fs::syncfs(target).map_err(Into::into) };
            synced.map_err(|error| StateError::io("sync", &target.path, error))?;
        }
        Ok(bytes)
    }

    fn content(&self, entry: &Entry, from: &File, to: &File, sparse: bool) -> Result<(), Refusal> {
        match self.care {
            Care::Throwaway(_) => copy::clone_file(from, to, sparse).map(|_| ()).map_err(Refusal::Io),
            Care::Exact => {
                let content = copy::copy_digested(from, Some(to), sparse).map_err(Refusal::Io)?;
                if entry.what.content() == Some(&content) { Ok(()) } else { Err(Refusal::Damaged) }
            }
        }
    }

    /// Deepest first, because writing into a folder changes its time.
    fn dress_folders(&self, entries: &[&Entry], target: &Folder, sync_each: bool) -> Result<(), StateError> {
        for entry in entries.iter().rev().filter(|entry| entry.what == What::Folder) {
            let path = entry.path.path();
            let failed = |error| StateError::io("write", &target.path.join(path), error);
            if path.as_os_str().is_empty() && matches!(self.care, Care::Exact) {
                continue;
            }
            let folder = target.folder(path).map_err(failed)?;
            copy::dress(&folder, &self.dress(entry)).map_err(failed)?;
            if sync_each {
                folder.sync().map_err(failed)?;
            }
        }
        Ok(())
    }

    fn dress(&self, entry: &Entry) -> Dress {
        let mut dress = entry.dress.clone();
        if let Care::Throwaway(owner) = self.care {
            dress.mode &= 0o1777;
            if let Some(owner) = owner {
                (dress.uid, dress.gid) = (owner.uid, owner.gid);
            } else if !rustix::process::geteuid().is_root() {
                (dress.uid, dress.gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
            }
            // Of the attributes only those that any owner may set: a rehearsal gets no capabilities.
            dress.xattrs.retain(|name, _| name.starts_with("user."));
        }
        dress
    }
}

enum Refusal {
    Io(std::io::Error),
    Damaged,
}
