//! Releases in a folder: each sub-folder or archive is one, and its name is the tag.

use super::{
    ChannelError, Fetched,
    deadline::Deadline,
    inside::{FOLDER_MODE, file_mode},
    is_in,
    order::{Order, Pattern},
    staging::Staging,
    tree::{Kind, Manifest, digest_file, read_tree, refuse_leaving_links},
    unpack::{Limits, unpack},
};
use lastgood_domain::{
    facts::Offer,
    terms::{Digest, ReleaseTag},
};
use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

/// Endings of archives, longest first.
const ARCHIVE_ENDINGS: [&str; 3] = [".tar.gz", ".tgz", ".tar"];
/// The file that names the current release.
const LATEST: &str = "LATEST";
/// Entries of the folder that are looked at: far more releases than anybody keeps.
const ENTRIES_MAX: usize = 100_000;
/// Bytes copied at a time, between two looks at the deadline.
const CHUNK_BYTES: usize = 256 << 10;

#[derive(Debug, Clone)]
pub(crate) struct Directory {
    folder: PathBuf,
    matching: Option<Pattern>,
}

/// Where one release lies.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Folder(PathBuf),
    Archive(PathBuf),
}

impl Directory {
    pub(crate) fn new(folder: PathBuf, matching: Option<Pattern>) -> Self {
        Self { folder, matching }
    }

    pub(crate) fn name(&self) -> String {
        format!("directory:{}", self.folder.display())
    }

    pub(crate) fn belongs(&self, tag: &str) -> Result<(), String> {
        match &self.matching {
            Some(pattern) if !pattern.fits(tag, Order::Natural) => Err(format!("{tag} does not fit matching")),
            _ => Ok(()),
        }
    }

    pub(crate) fn newest(
        &self,
        except: &[ReleaseTag],
        limits: Limits,
        deadline: &Deadline<'_>,
    ) -> Result<Offer, ChannelError> {
        let nothing = || ChannelError::NothingOffered { channel: self.name(), wanted: "matching".into() };
        if let Some(tag) = self.latest(deadline)? {
            if except.contains(&tag) {
                return Err(nothing());
            }
            return self.offer_of(&tag, limits, deadline);
        }
        let places = self.places(deadline)?;
        let fits = |tag: &&str| !is_in(except, tag) && self.belongs(tag).is_ok();
        let tags: Vec<&str> = places.keys().map(ReleaseTag::as_str).filter(fits).collect();
        let newest = Order::Natural.newest(&tags).map_err(|(first, second)| ChannelError::Unordered {
            channel: self.name(),
            first: first.into(),
            second: second.into(),
        })?;
        match newest.and_then(|tag| places.iter().find(|(known, _)| known.as_str() == tag)) {
            Some((tag, place)) => self.offer(tag, place, limits, deadline),
            None => Err(nothing()),
        }
    }

    pub(crate) fn offer_of(
        &self,
        tag: &ReleaseTag,
        limits: Limits,
        deadline: &Deadline<'_>,
    ) -> Result<Offer, ChannelError> {
        let place = self.place_of(tag, deadline)?;
        self.offer(tag, &place, limits, deadline)
    }

    /// Offers a release with the digest of its bytes as its mark, so that a changed release shows at once.
    fn offer(
        &self,
        tag: &ReleaseTag,
        place: &Place,
        limits: Limits,
        deadline: &Deadline<'_>,
    ) -> Result<Offer, ChannelError> {
        let digest = match place {
            Place::Archive(at) => digest_file(at, limits.bytes_max, Some(deadline))?.1,
            Place::Folder(at) => as_installed(read_tree(at, limits, deadline)?).tree(),
        };
        Ok(Offer { tag: tag.clone(), origin: self.name(), mark: Some(digest.to_string()), published: None })
    }

    pub(crate) fn fetch(
        &self,
        offer: &Offer,
        staging: &Staging<'_>,
        limits: Limits,
        deadline: &Deadline<'_>,
    ) -> Result<Fetched, ChannelError> {
        let artefact = match self.place_of(&offer.tag, deadline)? {
            Place::Archive(at) => {
                // Copied first: what is digested and what is unpacked must be the same bytes.
                let copy = staging.fetched().join(at.file_name().unwrap_or_default());
                copy_file(&at, &copy, 0o600, limits.bytes_max, deadline)?;
                Some(unpack_copy(&copy, &staging.tree(), limits, deadline)?)
            }
            Place::Folder(at) => {
                copy_tree(&at, &staging.tree(), limits, deadline)?;
                None
            }
        };
        Ok(Fetched { artefact, version: None })
    }

    /// Reads which release `LATEST` names.
    fn latest(&self, deadline: &Deadline<'_>) -> Result<Option<ReleaseTag>, ChannelError> {
        let at = self.folder(deadline).join(LATEST);
        let mut text = String::new();
        match File::open(&at) {
            // A tag has at most 128 bytes; the rest is somebody else's file.
            Ok(file) => {
                file.take(1_024).read_to_string(&mut text).map_err(|error| ChannelError::io("read", &at, error))?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(ChannelError::io("read", &at, error)),
        };
        match ReleaseTag::new(text.trim()) {
            Ok(tag) => Ok(Some(tag)),
            Err(error) => Err(ChannelError::AnswerUnreadable {
                what: at.display().to_string(),
                why: error.to_string(),
                began: String::new(),
            }),
        }
    }

    fn folder(&self, deadline: &Deadline<'_>) -> PathBuf {
        deadline.context().folder.join(&self.folder)
    }

    fn place_of(&self, tag: &ReleaseTag, deadline: &Deadline<'_>) -> Result<Place, ChannelError> {
        self.places(deadline)?
            .remove(tag)
            .ok_or_else(|| ChannelError::ReleaseGone { channel: self.name(), tag: tag.clone() })
    }

    /// Lists all releases; hidden names are left out, so a release can be copied in and then renamed.
    fn places(&self, deadline: &Deadline<'_>) -> Result<BTreeMap<ReleaseTag, Place>, ChannelError> {
        let folder = self.folder(deadline);
        let failed = |error| ChannelError::io("read the folder", &folder, error);
        let mut places = BTreeMap::new();
        for item in fs::read_dir(&folder).map_err(failed)?.take(ENTRIES_MAX) {
            deadline.check()?;
            let item = item.map_err(failed)?;
            let Ok(name) = item.file_name().into_string() else { continue };
            // Links are left out: `current -> v3` beside `v3` is the usual way, and is no release of its own.
            let kind = item.file_type().map_err(failed)?;
            let (tag, place) = if kind.is_dir() {
                (name.as_str(), Place::Folder(item.path()))
            } else if let Some(tag) = ARCHIVE_ENDINGS.iter().find_map(|ending| name.strip_suffix(ending))
                && kind.is_file()
            {
                (tag, Place::Archive(item.path()))
            } else {
                continue;
            };
            if tag.starts_with('.') {
                continue;
            }
            let Ok(tag) = ReleaseTag::new(tag) else { continue };
            if let Some(other) = places.insert(tag.clone(), place) {
                return Err(ChannelError::AnswerUnreadable {
                    what: self.name(),
                    why: format!("{tag} is there twice, as {name} and as {}", other.path().display()),
                    began: String::new(),
                });
            }
        }
        Ok(places)
    }
}

impl Place {
    fn path(&self) -> &Path {
        match self {
            Self::Folder(at) | Self::Archive(at) => at,
        }
    }
}

/// Digests our own copy of an archive and unpacks it.
pub(crate) fn unpack_copy(
    copy: &Path,
    tree: &Path,
    limits: Limits,
    deadline: &Deadline<'_>,
) -> Result<Digest, ChannelError> {
    let (_, digest) = digest_file(copy, limits.bytes_max, Some(deadline))?;
    unpack(copy, tree, limits, deadline)?;
    Ok(digest)
}

/// Tells whether a file's name is that of an archive.
pub(crate) fn is_archive(name: &str) -> bool {
    ARCHIVE_ENDINGS.iter().any(|ending| name.len() > ending.len() && name.ends_with(ending))
}

/// Gives the manifest a folder will have once it is installed, modes included.
fn as_installed(mut manifest: Manifest) -> Manifest {
    for entry in manifest.entries.values_mut() {
        entry.mode = match entry.kind {
            Kind::Folder => FOLDER_MODE,
            Kind::File { .. } => file_mode(entry.mode),
            Kind::Link { .. } => entry.mode,
        };
    }
    manifest
}

/// Copies a folder; links that lead out of it are refused, because what they lead to is not of the release.
pub(crate) fn copy_tree(from: &Path, into: &Path, limits: Limits, deadline: &Deadline<'_>) -> Result<(), ChannelError> {
    let manifest = read_tree(from, limits, deadline)?;
    refuse_leaving_links(&from.display().to_string(), &manifest)?;
    // The order of paths puts each folder before what lies in it. Links come last, so none is written through.
    for (path, entry) in &manifest.entries {
        let at = into.join(path);
        match &entry.kind {
            Kind::Folder => fs::create_dir(&at)
                .and_then(|()| fs::set_permissions(&at, Permissions::from_mode(FOLDER_MODE)))
                .map_err(|error| ChannelError::io("make the folder", &at, error))?,
            Kind::File { size, .. } => copy_file(&from.join(path), &at, file_mode(entry.mode), *size, deadline)?,
            Kind::Link { .. } => {}
        }
    }
    for (path, entry) in &manifest.entries {
        if let Kind::Link { target } = &entry.kind {
            let at = into.join(path);
            std::os::unix::fs::symlink(target, &at).map_err(|error| ChannelError::io("link", &at, error))?;
        }
    }
    Ok(())
}

/// Copies at most `bytes_max` bytes into a new file; a file that grows meanwhile is refused by its digest later.
pub(crate) fn copy_file(
    from: &Path,
    to: &Path,
    mode: u32,
    bytes_max: u64,
    deadline: &Deadline<'_>,
) -> Result<(), ChannelError> {
    let source = File::open(from).map_err(|error| ChannelError::io("open", from, error))?;
    let length = source.metadata().map_err(|error| ChannelError::io("look at", from, error))?.len();
    let failed = |error| ChannelError::io("write", to, error);
    let mut target = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).map_err(failed)?;
    let mut source = source.take(bytes_max);
    let mut chunk = vec![0; usize::try_from(length).unwrap_or(CHUNK_BYTES).clamp(1, CHUNK_BYTES)];
    loop {
        deadline.check()?;
        let count = source.read(&mut chunk).map_err(|error| ChannelError::io("read", from, error))?;
        if count == 0 {
            return target.set_permissions(Permissions::from_mode(mode)).map_err(failed);
        }
        target.write_all(&chunk[..count]).map_err(failed)?;
    }
}
