//! Puts a snapshot back: content, owner, mode, attributes and times as they were; the newer data is kept aside.
//!
//! Everything new is first written whole beside the data, while the data is untouched. Then, name by name, the newer
//! thing is moved aside and the old one into its place. Each move is one rename, and after a kill the disk itself
//! tells how far it came: a name that the staged folder no longer has is in place. So the same call finishes what
//! an interrupted one began, and a call after the end does nothing.

mod swap;

use self::swap::Swap;
use super::{
    beneath::{Folder, is_folder},
    clone::{Care, Write, place_name},
    copy,
    error::{Holder, StateError},
    intent::{self, Intent, Progress},
    left,
    manifest::{Dress, Entry, Manifest},
    place::{Data, OURS, Root, Scope, StatePlace},
    ready::{Ready, discard_ready},
    scan::{self, Headers},
    snapshot::{token, verify_sizes},
    space,
};
use lastgood_domain::{
    facts::RestoreFacts,
    terms::{Digest, Span},
};
use rustix::fs::{Access, AtFlags, StatxFlags};
use std::{
    fmt, fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::Instant,
};

/// Is told of each act before it changes a disk; a test kills its process there.
pub trait Steps: fmt::Debug + Sync {
    /// Is called before `act`.
    fn before(&self, act: &str);
}

/// Lets every act pass.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSteps;

impl Steps for NoSteps {
    fn before(&self, _: &str) {}
}

/// What a restore must know besides its paths.
#[derive(Debug, Clone)]
pub struct RestoreContext<'a> {
    /// Processes that the caller found to have the data open: with one, nothing is done.
    pub still_held: Vec<Holder>,
    /// Told of each act; [`NoSteps`] outside tests.
    pub steps: &'a dyn Steps,
}

impl Default for RestoreContext<'_> {
    fn default() -> Self {
        Self { still_held: Vec::new(), steps: &NoSteps }
    }
}

/// Puts the snapshot in folder `snapshot` back to `place`, whose instance the caller has stopped.
///
/// The data that is there goes to a new folder in `aside`, which must be on the data's file system; excluded files
/// stay. `journal` is a file of this restore alone ([`super::restore_journal`]): with it the same call, repeated after a
/// kill, finishes, and repeated after the end, does nothing. What other restores beside it have left half-way is finished
/// first, and what they put aside is named as well. Errors before the first move leave everything as it was.
pub fn restore(
    snapshot: &Path,
    place: &StatePlace,
    aside: &Path,
    journal: &Path,
    context: &RestoreContext<'_>,
) -> Result<RestoreFacts, StateError> {
    if !context.still_held.is_empty() {
        return Err(StateError::StillHeld { holders: context.still_held.clone() });
    }
    let known = intent::read(journal)?;
    // Where its data is stands in it: `state` may have been changed since.
    let same = |intent: &Intent| intent.snapshot == snapshot && intent.aside.parent() == Some(aside);
    let intent = match known {
        // After evidence was put back, another snapshot may bear the id: that one is still to be restored.
        Progress::Done(intent, _) if same(&intent) && holds_another(snapshot, intent.manifest) => None,
        Progress::Done(intent, facts) if same(&intent) => return Ok(facts),
        Progress::Begun(intent) if same(&intent) => Some(intent),
        Progress::None => None,
        Progress::Begun(_) | Progress::Done(..) => return Err(StateError::JournalOther { journal: journal.into() }),
    };
    let earlier = left::clear_up(journal, context)?;
    if let Some(intent) = intent {
        return go_on(journal, &intent, earlier, context);
    }
    let (manifest, digest) = Manifest::read(snapshot)?;
    let data = place.data.as_kept(&manifest.place.data)?;
    let roots = data.roots()?;
    let ready = Ready::find(aside, &manifest, digest, &roots);
    verify_sizes(snapshot, &manifest)?;
    may_own(&manifest)?;
    make_aside(aside)?;
    let wore = look_ahead(&manifest, &roots, &Folder::open(aside)?, aside, ready.as_ref())?;
    let token = token()?;
    let aside = aside.join(format!("{}-{token}", manifest.id));
    let snapshot = snapshot.to_path_buf();
    let intent = Intent { snapshot, manifest: digest, data, token, aside, wore };
    context.steps.before("write the intent");
    intent::begin(journal, &intent)?;
    go_on(journal, &intent, earlier, context)
}

/// Carries out what `journal` says was begun, from wherever it stands: all it needs stands in the intent.
///
/// `earlier` are the folders that keep newer data of other restores: whoever reads the answer is told of them.
pub(super) fn go_on(
    journal: &Path,
    intent: &Intent,
    earlier: Vec<String>,
    context: &RestoreContext<'_>,
) -> Result<RestoreFacts, StateError> {
    let began = Instant::now();
    if !context.still_held.is_empty() {
        return Err(StateError::StillHeld { holders: context.still_held.clone() });
    }
    let (manifest, digest) = Manifest::read(&intent.snapshot)?;
    if intent.manifest != digest {
        return Err(StateError::JournalOther { journal: journal.into() });
    }
    let roots = intent.data.roots()?;
    let ready = intent.aside.parent().and_then(|aside| Ready::find(aside, &manifest, digest, &roots));
    let run = Run { intent, manifest: &manifest, roots: &roots, ready: ready.as_ref(), steps: context.steps };
    let bytes = match run.stage() {
        Ok(bytes) => bytes,
        Err(error) if intent.aside.exists() => return Err(error),
        Err(error) => {
            // Nothing has been moved yet: leave no trace, so that another snapshot can be tried.
            Run::abandon(intent, &roots);
            intent::forget(journal)?;
            return Err(error);
        }
    };
    let aside = run.swap()?;
    let facts = RestoreFacts {
        snapshot: manifest.id,
        aside: aside.map(|path| path.to_string_lossy().into_owned()),
        bytes,
        took: Span(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)),
        earlier,
    };
    context.steps.before("write that all is done");
    intent::finish(journal, &facts)?;
    run.tidy();
    Ok(facts)
}

fn holds_another(snapshot: &Path, manifest: Digest) -> bool {
    Manifest::read(snapshot).is_ok_and(|(_, digest)| digest != manifest)
}

/// Gives the place of the data that a restore of `place` put aside.
pub(super) fn aside_place(aside: &Path, place: &StatePlace) -> Result<StatePlace, StateError> {
    let at = |number: usize| aside.join(number.to_string());
    let data = match &place.data {
        Data::Directory { exclude, .. } => Data::Directory { path: at(0), exclude: exclude.clone() },
        Data::Sqlite(_) => {
            let roots = place.roots()?;
            let path = |(number, root): (usize, &Root)| Some(at(number).join(place_name(root)?));
            Data::Sqlite(roots.iter().enumerate().filter_map(path).collect())
        }
    };
    // In a folder of ours: its owner can't reach it, and nothing in it is opened but as a copy.
    Ok(StatePlace { data, owner: None })
}

/// Refuses what a restore of the snapshot in folder `snapshot` to `place` would refuse, while the instance still runs.
///
/// Opens no file of the data and writes nothing.
pub fn can_restore(snapshot: &Path, place: &StatePlace, aside: &Path) -> Result<(), StateError> {
    let (manifest, digest) = Manifest::read(snapshot)?;
    let data = place.data.as_kept(&manifest.place.data)?;
    data.is_where_taken(&manifest.place.data)?;
    let roots = data.roots()?;
    may_own(&manifest)?;
    let ready = Ready::find(aside, &manifest, digest, &roots);
    look_ahead(&manifest, &roots, &aside_or_parent(aside)?, aside, ready.as_ref()).map(drop)
}

/// Refuses where a restore of the snapshot in folder `snapshot` to `place` would find no room for its copies; one that lies
/// ready is moved and needs none.
pub fn has_room(snapshot: &Path, place: &StatePlace, aside: &Path) -> Result<(), StateError> {
    let (manifest, digest) = Manifest::read(snapshot)?;
    let roots = place.data.as_kept(&manifest.place.data)?.roots()?;
    if Ready::find(aside, &manifest, digest, &roots).is_some() {
        return Ok(());
    }
    let contents = manifest.entries.iter().filter_map(|entry| entry.what.content());
    let bytes = contents.filter(|content| !content.sparse).map(|content| content.bytes).sum();
    space::demand_room(&aside_or_parent(aside)?, aside, bytes)
}

/// Refuses a place beside which the folder that the snapshot was taken of is still there, as another.
pub fn is_where_taken(snapshot: &Path, place: &StatePlace) -> Result<(), StateError> {
    let (manifest, _) = Manifest::read(snapshot)?;
    place.data.is_where_taken(&manifest.place.data)
}

/// Refuses if what a restore moves out of folder `data` could not go to `aside`; writes nothing.
pub fn can_keep_aside(data: &Path, aside: &Path) -> Result<(), StateError> {
    same_mount(&open_or_parent(data)?, data, &aside_or_parent(aside)?, aside)
}

/// Opens the folder for what goes aside, or the one that it will be made in.
fn aside_or_parent(aside: &Path) -> Result<Folder, StateError> {
    let folder = open_or_parent(aside)?;
    rustix::fs::accessat(&folder, ".", Access::WRITE_OK, AtFlags::EACCESS)
        .map_err(|error| StateError::io("make", aside, error))?;
    Ok(folder)
}

fn make_aside(aside: &Path) -> Result<(), StateError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(aside);
    made.map_err(|error| StateError::io("make", aside, error))
}

/// Refuses if a rename from `base` to `aside` can't be: they are of two file systems, or of two mounts of one.
fn same_mount(base: &Folder, path: &Path, aside: &Folder, aside_path: &Path) -> Result<(), StateError> {
    let of = |folder: &Folder| {
        let asked = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
        let stat = rustix::fs::statx(folder, "", AtFlags::EMPTY_PATH, asked)
            .map_err(|error| StateError::io("look at", &folder.path, error))?;
        // Kernels before 5.8 don't tell.
        let mount = (stat.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(stat.stx_mnt_id);
        Ok((stat.stx_dev_major, stat.stx_dev_minor, mount))
    };
    if of(base)? != of(aside)? {
        return Err(StateError::AsideElsewhere { aside: aside_path.into(), path: path.into() });
    }
    Ok(())
}

fn may_own(manifest: &Manifest) -> Result<(), StateError> {
    let ours = rustix::process::geteuid();
    match manifest.entries.iter().find(|entry| entry.dress.uid != ours.as_raw()) {
        Some(entry) if !ours.is_root() => {
            Err(StateError::OwnerDenied { ours: ours.as_raw(), uid: entry.dress.uid, gid: entry.dress.gid })
        }
        _ => Ok(()),
    }
}

/// Refuses before anything is written what could only fail half-way; gives what the roots' folders wear.
fn look_ahead(
    manifest: &Manifest,
    roots: &[Root],
    aside_folder: &Folder,
    aside: &Path,
    ready: Option<&Ready>,
) -> Result<Vec<Option<Dress>>, StateError> {
    let device = |folder: &Folder| {
        folder
            .stat(Path::new(""))
            .map(|stat| stat.st_dev)
            .map_err(|error| StateError::io("look at", &folder.path, error))
    };
    let mut wore = Vec::new();
    for (number, root) in roots.iter().enumerate() {
        let base = open_or_parent(&root.base)?;
        wore.push(None);
        same_mount(&base, &root.base, aside_folder, aside)?;
        if base.path == root.base
            && let Scope::AllBut(_) = root.scope
        {
            let here = device(&base)?;
            let dress = base.stat(Path::new("")).and_then(|stat| copy::dress_of(&stat, Some(&base)));
            wore[number] = Some(dress.map_err(|error| StateError::io("look at", &root.base, error))?);
            let found = scan::scan(&base, root, Headers::Ignored)?;
            if let Some((path, _)) =
                found.seen.iter().find(|(_, seen)| is_folder(&seen.stat) && seen.stat.st_dev != here)
            {
                return Err(StateError::NestedMount { path: root.base.join(path) });
            }
        }
        if ready.is_some() {
            // It is moved, so it needs no room.
            continue;
        }
        let contents = manifest.of_root(number).filter_map(|entry| entry.what.content());
        let bytes = contents.filter(|content| !content.sparse).map(|content| content.bytes).sum();
        space::demand_room(&base, &root.base, bytes)?;
    }
    Ok(wore)
}

fn open_or_parent(base: &Path) -> Result<Folder, StateError> {
    match (Folder::open(base), base.parent()) {
        (Err(StateError::Missing { .. }), Some(parent)) => Folder::open(parent),
        (other, _) => other,
    }
}

fn half(intent: &Intent, number: usize) -> PathBuf {
    format!("{OURS}half-{}-{number}", intent.token).into()
}

fn staged(intent: &Intent, number: usize) -> PathBuf {
    format!("{OURS}new-{}-{number}", intent.token).into()
}

/// One restore under way.
pub(super) struct Run<'a> {
    intent: &'a Intent,
    manifest: &'a Manifest,
    roots: &'a [Root],
    /// What lies ready to be moved instead of copied.
    ready: Option<&'a Ready>,
    steps: &'a dyn Steps,
}

impl Run<'_> {
    fn half(&self, number: usize) -> PathBuf {
        half(self.intent, number)
    }

    fn staged(&self, number: usize) -> PathBuf {
        staged(self.intent, number)
    }

    /// Where the empty staged folder goes when all of it is in place.
    fn placed(&self, number: usize) -> PathBuf {
        self.intent.aside.join(format!("placed-{number}"))
    }

    /// Writes each root's files beside the data, unless that is done.
    fn stage(&self) -> Result<u64, StateError> {
        let mut bytes = 0;
        for (number, root) in self.roots.iter().enumerate() {
            let entries: Vec<&Entry> = self.manifest.of_root(number).collect();
            bytes += entries.iter().filter_map(|entry| entry.what.content()).map(|content| content.bytes).sum::<u64>();
            if self.placed(number).exists() {
                continue;
            }
            let base = self.base(root)?;
            let (half, new) = (self.half(number), self.staged(number));
            let failed = |error| StateError::io("write beside", &root.base, error);
            if self.is_ours(&base, &new).map_err(failed)? {
                continue;
            }
            if let Some(ready) = self.ready {
                self.steps.before("take what lies ready");
                if ready.take(number, &base, &new).map_err(failed)? {
                    continue;
                }
            }
            self.steps.before("remove half a copy");
            base.remove_tree(&half).map_err(failed)?;
            base.make_folder(&half).map_err(failed)?;
            self.steps.before("write the copy");
            let target = base.folder(&half).map_err(failed)?;
            let write = Write { snapshot: &self.intent.snapshot, number, name: place_name(root), care: Care::Exact };
            write.all(&entries, &target).map_err(|error| space::or_full(error, &root.base, bytes))?;
            self.steps.before("name the copy whole");
            base.move_to(&half, &base, &new).map_err(failed)?;
        }
        Ok(bytes)
    }

    /// Says whether a staged folder is there; one that somebody else made is thrown away.
    fn is_ours(&self, base: &Folder, new: &Path) -> io::Result<bool> {
        match base.stat_if_any(new)? {
            Some(stat) if is_folder(&stat) && stat.st_uid == rustix::process::geteuid().as_raw() => Ok(true),
            Some(stat) if is_folder(&stat) => base.remove_tree(new).map(|()| false),
            Some(_) => Err(io::ErrorKind::AlreadyExists.into()),
            None => Ok(false),
        }
    }

    fn base(&self, root: &Root) -> Result<Folder, StateError> {
        match Folder::open(&root.base) {
            Err(StateError::Missing { path }) => {
                let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
                    return Err(StateError::BadPath { path });
                };
                let parent = Folder::open(parent)?;
                self.steps.before("make the folder");
                parent.make_folder(Path::new(name)).map_err(|error| StateError::io("make", &path, error))?;
                Folder::open(&path)
            }
            other => other,
        }
    }

    /// Removes what was staged.
    pub(super) fn abandon(intent: &Intent, roots: &[Root]) {
        for (number, root) in roots.iter().enumerate() {
            // What can't be removed has a name of ours, which nothing reads.
            if let Ok(base) = Folder::open(&root.base) {
                let _ = base.remove_tree(&half(intent, number));
                let _ = base.remove_tree(&staged(intent, number));
            }
        }
    }

    /// Moves the newer data aside and the staged data into its place; gives where the newer data is, if there was any.
    fn swap(&self) -> Result<Option<PathBuf>, StateError> {
        let failed = |error: io::Error| StateError::io("make", &self.intent.aside, error);
        self.steps.before("make the folder for what goes aside");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.intent.aside).map_err(failed)?;
        let aside = Folder::open(&self.intent.aside)?;
        let mut any = false;
        for (number, root) in self.roots.iter().enumerate() {
            let base = self.base(root)?;
            let at = self.aside_root(&aside, number)?;
            let entries: Vec<&Entry> = self.manifest.of_root(number).collect();
            let swap = Swap { run: self, root, base: &base, aside: &at, entries };
            let failed = |error| StateError::io("put the data back at", &root.base, error);
            if !self.placed(number).exists() {
                let new = base.folder(&self.staged(number)).map_err(failed)?;
                swap.all(&new).map_err(failed)?;
                self.steps.before("move the emptied folder away");
                base.move_to(&self.staged(number), &aside, Path::new(&format!("placed-{number}"))).map_err(failed)?;
            }
            swap.dress_base().map_err(failed)?;
            if let Some(Some(wore)) = self.intent.wore.get(number) {
                copy::dress(&at, wore).map_err(failed)?;
            }
            base.sync().and_then(|()| at.sync()).map_err(failed)?;
            any |= !at.names().map_err(failed)?.is_empty();
        }
        aside.sync().map_err(failed)?;
        if let Some(parent) = self.intent.aside.parent() {
            Folder::open(parent)?.sync().map_err(failed)?;
        }
        Ok(any.then(|| self.intent.aside.clone()))
    }

    fn aside_root(&self, aside: &Folder, number: usize) -> Result<Folder, StateError> {
        let name = PathBuf::from(number.to_string());
        let failed = |error| StateError::io("make", &self.intent.aside, error);
        if aside.stat_if_any(&name).map_err(failed)?.is_none() {
            self.steps.before("make the part's folder");
            aside.make_folder(&name).map_err(failed)?;
        }
        aside.folder(&name).map_err(failed)
    }

    /// Removes the empty folders of a finished restore.
    fn tidy(&self) {
        for number in 0..self.roots.len() {
            let _ = fs::remove_dir(self.placed(number));
            let _ = fs::remove_dir(self.intent.aside.join(number.to_string()));
        }
        let _ = fs::remove_dir(&self.intent.aside);
        if let Some(aside) = self.intent.aside.parent() {
            // Of what lay ready only the seal is left.
            let _ = discard_ready(aside, &[]);
        }
    }
}
