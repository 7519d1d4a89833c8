//! Lays a snapshot ready beside the data it may go back to, so that a way back moves it instead of copying it.
//!
//! Copying a gigabyte takes seconds in which an instance is stopped; moving it takes none, and needs no room on a disk
//! that a bad release may have filled. Each digest is compared and each file synced when it is laid ready; inodes,
//! sizes and change times tell at the way back that it is still that copy. Whoever can forge those is root.

use super::{
    beneath::{Folder, is_folder},
    clone::{Care, Write, place_name},
    error::StateError,
    manifest::{Entry, Manifest, What},
    place::{Root, StatePlace},
    snapshot::{token, verify_sizes},
    space,
};
use lastgood_domain::terms::{Digest, SnapshotId};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    io::{self, Read as _, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

/// How the folder of a copy begins that is whole.
const READY: &str = ".ready-";
/// How the folder of a copy begins that is being written.
const HALF: &str = ".half-ready-";
/// What the copy is known by, beside its files.
const SEAL: &str = "seal.json";
/// 64 MiB: some hundred bytes a file, of the most files a snapshot may have.
const SEAL_BYTES_MAX: u64 = 64 << 20;

/// What tells a laid copy from any other.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seal {
    manifest: Digest,
    marks: Vec<Mark>,
}

/// One file of a laid copy as it was left.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    inode: u64,
    bytes: i64,
    changed_seconds: i64,
    changed_nanoseconds: i64,
}

/// Lays the snapshot in folder `snapshot` ready in `aside`, the folder beside the data of `place`, and gives its bytes.
///
/// Replaces what was laid ready there before; one that is there already is left as it is. Errors: no room, another
/// file system, a damaged snapshot; nothing is laid ready then, and a restore copies.
pub fn lay_ready(snapshot: &Path, place: &StatePlace, aside: &Path) -> Result<u64, StateError> {
    let (manifest, digest) = Manifest::read(snapshot)?;
    let roots = place.data.as_kept(&manifest.place.data)?.roots()?;
    let failed = |error: io::Error| StateError::io("lay ready in", aside, error);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(aside).map_err(failed)?;
    let folder = Folder::open(aside)?;
    if Ready::find(aside, &manifest, digest, &roots).is_some() {
        return Ok(0);
    }
    discard(aside, |name| name.starts_with(HALF) || id_of(name).is_some())?;
    verify_sizes(snapshot, &manifest)?;
    let contents = manifest.entries.iter().filter_map(|entry| entry.what.content());
    let bytes = contents.filter(|content| !content.sparse).map(|content| content.bytes).sum();
    space::demand_room(&folder, aside, bytes)?;
    let half = PathBuf::from(format!("{HALF}{}-{}", manifest.id, token()?));
    let written = write(snapshot, &manifest, digest, &roots, &folder, &half);
    let written = written.map_err(|error| space::or_full(error, aside, bytes));
    match written {
        Ok(written) => {
            folder.move_to(&half, &folder, &ready_name(manifest.id)).and_then(|()| folder.sync()).map_err(failed)?;
            Ok(written)
        }
        Err(error) => {
            // What can't be removed is discarded with the next.
            let _ = folder.remove_tree(&half);
            Err(error)
        }
    }
}

/// Removes what lies ready in `aside` of other snapshots than `keep`.
///
/// What is just being written stays: the next that is laid ready there removes what a kill has left.
pub fn discard_ready(aside: &Path, keep: &[SnapshotId]) -> Result<(), StateError> {
    let unneeded = |name: &str| id_of(name).is_some_and(|id| !keep.contains(&id));
    match discard(aside, unneeded) {
        Err(StateError::Missing { .. }) => Ok(()),
        other => other,
    }
}

/// Gives the snapshot that a folder holds ready, if it does.
fn id_of(name: &str) -> Option<SnapshotId> {
    name.strip_prefix(READY)?.parse().ok()
}

fn discard(aside: &Path, unneeded: impl Fn(&str) -> bool) -> Result<(), StateError> {
    let folder = Folder::open(aside)?;
    let failed = |error| StateError::io("clear", aside, error);
    for (name, is_folder) in folder.names().map_err(failed)? {
        if is_folder && name.to_str().is_some_and(&unneeded) {
            folder.remove_tree(Path::new(&name)).map_err(failed)?;
        }
    }
    Ok(())
}

fn ready_name(id: SnapshotId) -> PathBuf {
    format!("{READY}{id}").into()
}

fn write(
    snapshot: &Path,
    manifest: &Manifest,
    digest: Digest,
    roots: &[Root],
    aside: &Folder,
    half: &Path,
) -> Result<u64, StateError> {
    let failed = |error| StateError::io("lay ready in", &aside.path, error);
    aside.make_folder(half).map_err(failed)?;
    let half = aside.folder(half).map_err(failed)?;
    let mut bytes = 0;
    for (number, root) in roots.iter().enumerate() {
        let part = part_name(number);
        half.make_folder(&part).map_err(failed)?;
        let target = half.folder(&part).map_err(failed)?;
        let entries: Vec<&Entry> = manifest.of_root(number).collect();
        bytes += Write { snapshot, number, name: place_name(root), care: Care::Exact }.all(&entries, &target)?;
    }
    let marks = marks(&half, manifest, roots).map_err(failed)?;
    let seal = serde_json::to_vec(&Seal { manifest: digest, marks }).map_err(|error| failed(error.into()))?;
    let mut file = half.make_file(Path::new(SEAL)).map_err(failed)?;
    file.write_all(&seal).and_then(|()| file.sync_all()).and_then(|()| half.sync()).map_err(failed)?;
    Ok(bytes)
}

fn part_name(number: usize) -> PathBuf {
    number.to_string().into()
}

/// Reads how each file of a laid copy is, in the manifest's order.
#[expect(clippy::unnecessary_cast, reason = "the types differ between machines")]
fn marks(laid: &Folder, manifest: &Manifest, roots: &[Root]) -> io::Result<Vec<Mark>> {
    let mut marks = Vec::new();
    for (number, root) in roots.iter().enumerate() {
        let part = part_name(number);
        for entry in manifest.of_root(number).filter(|entry| entry.what != What::Folder) {
            let stat = laid.stat(&part.join(place_name(root).unwrap_or(entry.path.path())))?;
            marks.push(Mark {
                inode: stat.st_ino as u64,
                bytes: stat.st_size as i64,
                changed_seconds: stat.st_ctime as i64,
                changed_nanoseconds: stat.st_ctime_nsec as i64,
            });
        }
    }
    Ok(marks)
}

/// A copy that lies ready and is still what it was.
#[derive(Debug)]
pub(super) struct Ready {
    aside: Folder,
    laid: PathBuf,
}

impl Ready {
    /// Finds what lies ready of a snapshot; none if there is none, or if anything about it is doubtful.
    pub(super) fn find(aside: &Path, manifest: &Manifest, digest: Digest, roots: &[Root]) -> Option<Self> {
        let laid = ready_name(manifest.id);
        let aside = Folder::open(aside).ok()?;
        let ours = rustix::process::geteuid().as_raw();
        aside.stat_if_any(&laid).ok()?.filter(|stat| is_folder(stat) && stat.st_uid == ours)?;
        let folder = aside.folder(&laid).ok()?;
        let mut text = Vec::new();
        folder.file(Path::new(SEAL)).ok()?.take(SEAL_BYTES_MAX).read_to_end(&mut text).ok()?;
        let seal: Seal = serde_json::from_slice(&text).ok()?;
        let now = Seal { manifest: digest, marks: marks(&folder, manifest, roots).ok()? };
        (seal == now).then_some(Self { aside, laid })
    }

    /// Moves the files of one root to `name` in `base`; false if the file systems differ.
    pub(super) fn take(&self, number: usize, base: &Folder, name: &Path) -> io::Result<bool> {
        match self.aside.move_to(&self.laid.join(part_name(number)), base, name) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => Ok(false),
            Err(error) => Err(error),
        }
    }
}
