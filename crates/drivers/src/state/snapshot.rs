//! Takes a snapshot: starts the child that copies, and gives the copy its name when it is whole.
//!
//! A snapshot is a folder `<shelf>/<id>`. It gets this name by a rename, after everything in it is on the disk, so
//! a folder with the name is whole, and a half one has no name that anybody reads.

use super::{
    beneath::Folder,
    error::StateError,
    manifest::{FILES, MANIFEST, Manifest, root_folder},
    place::StatePlace,
    space,
    worker::Order,
};
use lastgood_domain::{
    facts::SnapshotFacts,
    terms::{Digest, SnapshotId},
};
use rustix::fs::{FlockOperation, Gid, Mode as Bits, Uid};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::unix::{fs::DirBuilderExt as _, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

/// Whether the service may be writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// It may: databases are copied through SQLite, in one transaction each.
    Online,
    /// The caller has proved that no process holds the data: files are copied, nothing is opened through SQLite.
    Stopped,
}

/// Whether what a killed service left half-written may be finished in its data, as the service itself would.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recovery {
    /// It may: without it there is no copy.
    #[default]
    Allowed,
    /// Nothing of the data is changed; such a database is an error.
    Refused,
}

/// Whether an instance may still be without data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Novelty {
    /// It has run: no data means that something is wrong.
    Existing,
    /// It is new: missing and empty data are fine.
    New,
}

/// How a snapshot is to be taken.
#[derive(Debug, Clone)]
pub struct SnapshotContext {
    /// The program that runs [`super::worker_main`]: lastgood itself.
    pub program: PathBuf,
    /// Its arguments, such as `internal snapshot`.
    pub arguments: Vec<String>,
    /// Space that must remain on the shelf's file system for what comes next (rehearsals, restores), in bytes.
    pub extra_bytes: u64,
    /// Whether the instance may be without data.
    pub novelty: Novelty,
    /// Whether the data may be recovered where it lies.
    pub recovery: Recovery,
    /// Noted in the manifest: the release's digest, the unit, the environment's digest. No secrets.
    pub about: BTreeMap<String, String>,
    /// After this the child is killed and the snapshot fails.
    pub limit: Duration,
    /// Set when nobody wants the snapshot any more: the child is killed and the snapshot fails.
    pub cancelled: Arc<AtomicBool>,
}

/// What a child may write to stderr that we keep for the error: a panic's message.
const STDERR_BYTES_MAX: u64 = 4 << 10;
/// How soon it is noticed that nobody wants a snapshot any more: an instance may be waited for.
const CANCELLED_AFTER: Duration = Duration::from_millis(20);
/// Begins the names of folders that are not yet, or no longer, snapshots.
pub(super) const HALF: &str = ".half-";

impl SnapshotContext {
    /// Makes a context that starts `program internal snapshot`, for an instance that has run.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            arguments: vec!["internal".into(), "snapshot".into()],
            extra_bytes: 0,
            novelty: Novelty::Existing,
            recovery: Recovery::Allowed,
            about: BTreeMap::new(),
            // 1 h: 100 GiB at 30 MB/s; a snapshot that takes longer wants another kind of state.
            limit: Duration::from_secs(3_600),
            cancelled: Arc::default(),
        }
    }
}

/// Takes the snapshot `id` of `place` into `<shelf>/<id>`, or gives the one that is there.
///
/// A snapshot that exists is checked by its manifest and its files' sizes. Leftovers of one that was interrupted are
/// removed. Errors: nothing but the shelf itself has changed then.
pub fn snapshot(
    place: &StatePlace,
    mode: Mode,
    id: SnapshotId,
    shelf: &Path,
    context: &SnapshotContext,
) -> Result<SnapshotFacts, StateError> {
    take(place, place, mode, id, shelf, context)
}

/// Makes a snapshot of the data that a restore put aside, so that it can itself be restored.
///
/// `aside` is the folder that [`super::restore`] reported; `place` is where its data came from.
pub fn adopt_aside(
    aside: &Path,
    place: &StatePlace,
    id: SnapshotId,
    shelf: &Path,
    context: &SnapshotContext,
) -> Result<SnapshotFacts, StateError> {
    let read = super::restore::aside_place(aside, place)?;
    take(&read, place, Mode::Stopped, id, shelf, context)
}

fn take(
    read: &StatePlace,
    place: &StatePlace,
    mode: Mode,
    id: SnapshotId,
    shelf: &Path,
    context: &SnapshotContext,
) -> Result<SnapshotFacts, StateError> {
    read.roots()?;
    let folder = snapshot_folder(shelf, id);
    if fs::symlink_metadata(&folder).is_ok() {
        return existing(&folder, place, id, shelf);
    }
    make_shelf(shelf)?;
    let staging = Staging::make(shelf, id, read)?;
    let order = Order {
        read: read.clone(),
        place: place.clone(),
        mode,
        novelty: context.novelty,
        recovery: context.recovery,
        id,
        staging: staging.path.clone(),
        extra_bytes: context.extra_bytes,
        about: context.about.clone(),
        parent: rustix::process::getpid().as_raw_pid(),
    };
    let manifest = ask_child(&order, context)?;
    staging.publish(&manifest, &folder, shelf).map_err(|error| space::or_full(error, shelf, 0))
}

/// Gives the folder of a snapshot.
pub fn snapshot_folder(shelf: &Path, id: SnapshotId) -> PathBuf {
    shelf.join(id.to_string())
}

/// Gives the facts of the snapshot in `folder`, after checking that each file is there in its full size.
pub fn snapshot_facts(folder: &Path) -> Result<SnapshotFacts, StateError> {
    let (manifest, digest) = Manifest::read(folder)?;
    verify_sizes(folder, &manifest)?;
    Ok(manifest.facts(digest))
}

fn existing(folder: &Path, place: &StatePlace, id: SnapshotId, shelf: &Path) -> Result<SnapshotFacts, StateError> {
    let (manifest, digest) = Manifest::read(folder)?;
    if manifest.place.data != place.data || manifest.id != id {
        return Err(StateError::IdTaken { id, shelf: shelf.into() });
    }
    verify_sizes(folder, &manifest)?;
    Ok(manifest.facts(digest))
}

pub(super) fn verify_sizes(snapshot: &Path, manifest: &Manifest) -> Result<(), StateError> {
    for root in 0..manifest.roots {
        let mut open = None;
        for entry in manifest.of_root(root) {
            let Some(content) = entry.what.content() else { continue };
            let damaged =
                |what: String| StateError::Damaged { snapshot: snapshot.into(), path: entry.path.path().into(), what };
            if open.is_none() {
                open = Some(Folder::open(&root_folder(snapshot, root)).map_err(|error| damaged(error.to_string()))?);
            }
            let stat = open.as_ref().map(|folder| folder.stat(entry.path.path()));
            match stat {
                Some(Ok(stat)) if u64::try_from(stat.st_size) == Ok(content.bytes) => {}
                Some(Ok(stat)) => return Err(damaged(format!("{} bytes instead of {}", stat.st_size, content.bytes))),
                _ => return Err(damaged("it is missing".into())),
            }
        }
    }
    Ok(())
}

/// Removes all snapshots of `shelf` but those in `keep`, and what interrupted ones left; gives how many went.
///
/// A snapshot loses its name before its files, so that a half-removed one is never taken for whole.
pub fn prune(shelf: &Path, keep: &[SnapshotId]) -> Result<u64, StateError> {
    let open = match Folder::open(shelf) {
        Ok(open) => open,
        Err(StateError::Missing { .. }) => return Ok(0),
        Err(error) => return Err(error),
    };
    let failed = |error| StateError::io("prune", shelf, error);
    let mut removed = 0;
    for (name, is_folder) in open.names().map_err(failed)? {
        let Some(id) = name.to_str().and_then(|name| name.parse::<SnapshotId>().ok()) else { continue };
        // `s007` reads as 7 but is not a name that we give.
        if is_folder && id.to_string().as_str() == name && !keep.contains(&id) {
            let nameless = PathBuf::from(format!("{HALF}{id}-pruned"));
            open.remove_tree(&nameless).map_err(failed)?;
            open.move_to(Path::new(&name), &open, &nameless).map_err(failed)?;
            removed += 1;
        }
    }
    open.sync().map_err(failed)?;
    sweep(&open, HALF).map_err(failed)?;
    Ok(removed)
}

/// Removes nameless folders that begin with `prefix` and that no living process works in.
pub(super) fn sweep(shelf: &Folder, prefix: &str) -> io::Result<()> {
    for (name, is_folder) in shelf.names()? {
        if !is_folder || !name.as_encoded_bytes().starts_with(prefix.as_bytes()) {
            continue;
        }
        let Ok(folder) = shelf.folder(Path::new(&name)) else { continue };
        if rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive).is_ok() {
            shelf.remove_tree(Path::new(&name))?;
        }
    }
    Ok(())
}

fn make_shelf(shelf: &Path) -> Result<(), StateError> {
    // Others may pass, so that the data's owner reaches the folder made for it, but not list or read.
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(shelf)
        .map_err(|error| StateError::io("make", shelf, error))
}

/// A nameless folder that a snapshot is written to; removed unless it is published.
struct Staging {
    path: PathBuf,
    shelf: Folder,
    name: PathBuf,
    /// Open and locked, so that nobody sweeps it away.
    folder: Folder,
    published: bool,
}

impl Staging {
    fn make(shelf_path: &Path, id: SnapshotId, read: &StatePlace) -> Result<Self, StateError> {
        let failed = |error: io::Error| StateError::io("write", shelf_path, error);
        let shelf = Folder::open(shelf_path)?;
        sweep(&shelf, &format!("{HALF}{id}-")).map_err(failed)?;
        let name = PathBuf::from(format!("{HALF}{id}-{}", token()?));
        shelf.make_folder(&name).map_err(failed).map_err(|error| space::or_full(error, shelf_path, 0))?;
        let folder = shelf.folder(&name).map_err(failed)?;
        rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive).map_err(|error| failed(error.into()))?;
        let staging = Self { path: shelf_path.join(&name), shelf, name, folder, published: false };
        if let Some(owner) = read.owner.as_ref().filter(|_| rustix::process::geteuid().is_root()) {
            rustix::fs::fchown(&staging.folder, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))
                .map_err(|error| failed(error.into()))?;
            reachable(shelf_path, owner.uid, owner.gid, &owner.groups)?;
        }
        Ok(staging)
    }

    /// Takes the folder back from the data's owner, adds the manifest, and gives the folder its name.
    fn publish(mut self, manifest: &Manifest, folder: &Path, shelf: &Path) -> Result<SnapshotFacts, StateError> {
        let failed = |error: io::Error| StateError::io("write", folder, error);
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        rustix::fs::fchown(&self.folder, Some(uid), Some(gid)).map_err(|error| failed(error.into()))?;
        rustix::fs::fchmod(&self.folder, Bits::RWXU).map_err(|error| failed(error.into()))?;
        self.only_files().map_err(failed)?;
        let text = serde_json::to_vec(manifest).map_err(|error| failed(error.into()))?;
        let mut file = self.folder.make_file(Path::new(MANIFEST)).map_err(failed)?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(failed)?;
        self.folder.sync().map_err(failed)?;
        let name = PathBuf::from(manifest.id.to_string());
        self.shelf.move_to(&self.name, &self.shelf, &name).map_err(failed)?;
        self.published = true;
        self.shelf.sync().map_err(|error| StateError::io("sync", shelf, error))?;
        Ok(manifest.facts(Digest::of(&text)))
    }

    /// Removes whatever else the owner may have put into the folder.
    fn only_files(&self) -> io::Result<()> {
        for (name, is_folder) in self.folder.names()? {
            let path = Path::new(&name);
            match is_folder {
                true if name == FILES => {}
                true => self.folder.remove_tree(path)?,
                false => rustix::fs::unlinkat(&self.folder, path, rustix::fs::AtFlags::empty())?,
            }
        }
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.published {
            // What stays is nameless, and swept by the next snapshot.
            let _ = self.shelf.remove_tree(&self.name);
        }
    }
}

/// Gives 8 hex digits of chance.
pub(super) fn token() -> Result<String, StateError> {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes)
        .map_err(|error| StateError::io("read", Path::new("/dev/urandom"), io::Error::other(error.to_string())))?;
    Ok(format!("{:08x}", u32::from_le_bytes(bytes)))
}

/// Refuses if a folder on the way to the shelf doesn't let the owner pass: SQLite opens its copy by its full path.
fn reachable(shelf: &Path, uid: u32, gid: u32, groups: &[u32]) -> Result<(), StateError> {
    let real = fs::canonicalize(shelf).map_err(|error| StateError::io("find", shelf, error))?;
    for folder in real.ancestors() {
        let stat = rustix::fs::stat(folder).map_err(|error| StateError::io("look at", folder, error))?;
        let bit = match () {
            () if uid == 0 => continue,
            () if stat.st_uid == uid => 0o100,
            () if stat.st_gid == gid || groups.contains(&stat.st_gid) => 0o010,
            () => 0o001,
        };
        if stat.st_mode & bit == 0 {
            return Err(StateError::ShelfUnreachable { path: folder.into(), uid });
        }
    }
    Ok(())
}

fn ask_child(order: &Order, context: &SnapshotContext) -> Result<Manifest, StateError> {
    let failed = |act: &str, error: io::Error| StateError::io(act, &context.program, error);
    let text = serde_json::to_vec(order).map_err(|error| failed("write to", error.into()))?;
    let mut child = Command::new(&context.program)
        .args(&context.arguments)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed("start", error))?;
    let answer = converse(&mut child, &text, context);
    if answer.is_none() {
        // Too slow, or unwanted; after its end it can't write to the folder any more.
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| failed("await", error))?;
    let Some((answer, complaint)) = answer else {
        if context.cancelled.load(Ordering::SeqCst) {
            return Err(StateError::WorkerDied { how: "nobody wanted the snapshot any more".into() });
        }
        return Err(StateError::TooSlow { limit_seconds: context.limit.as_secs() });
    };
    match serde_json::from_slice::<Result<Manifest, StateError>>(&answer) {
        Ok(Ok(manifest)) if manifest.id == order.id && manifest.place == order.place => Ok(manifest),
        Ok(Err(error)) => Err(error),
        _ => {
            let how = match (status.signal(), status.code()) {
                (Some(signal), _) => format!("killed by signal {signal}"),
                (_, code) => format!("exit status {}", code.unwrap_or(-1)),
            };
            Err(StateError::WorkerDied { how: format!("{how} {complaint}").trim().into() })
        }
    }
}

/// Gives what the child wrote to stdout and stderr, or none if it didn't end in time or nobody wants it any more.
fn converse(child: &mut Child, text: &[u8], context: &SnapshotContext) -> Option<(Vec<u8>, String)> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (tell, told) = mpsc::channel();
    let complain = thread::spawn(move || {
        let mut text = Vec::new();
        if let Some(stderr) = stderr {
            let mut stderr = stderr.take(STDERR_BYTES_MAX);
            let _ = stderr.read_to_end(&mut text);
            // Read on, so that the child doesn't stop at a full pipe.
            let _ = io::copy(&mut stderr.into_inner(), &mut io::sink());
        }
        String::from_utf8_lossy(&text).trim().to_owned()
    });
    thread::spawn(move || {
        let mut answer = Vec::new();
        if let Some(stdout) = stdout {
            let _ = stdout.take(super::manifest::MANIFEST_BYTES_MAX).read_to_end(&mut answer);
        }
        let _ = tell.send(answer);
    });
    if let Some(mut stdin) = stdin {
        // A child that is gone is noticed by its answer.
        let _ = stdin.write_all(text);
    }
    let begun = Instant::now();
    loop {
        match told.recv_timeout(CANCELLED_AFTER) {
            Ok(answer) => return Some((answer, complain.join().unwrap_or_default())),
            Err(RecvTimeoutError::Timeout)
                if begun.elapsed() < context.limit && !context.cancelled.load(Ordering::SeqCst) => {}
            Err(_) => return None,
        }
    }
}

/// Opens a file of a snapshot for reading.
pub(super) fn open_content(root: &Folder, snapshot: &Path, path: &Path) -> Result<File, StateError> {
    root.file(path).map_err(|error| StateError::Damaged {
        snapshot: snapshot.into(),
        path: path.into(),
        what: error.to_string(),
    })
}
