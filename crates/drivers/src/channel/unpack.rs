//! Unpacks a release that nobody has vouched for: it can't write outside its folder or fill the disk.
//!
//! Files are written first, into a folder that is ours alone, each with "create new". Links are made last,
//! after all of them together were shown to stay inside, so no name is ever resolved through a link.

use super::{
    ChannelError, Refusal,
    deadline::Deadline,
    inside::{FOLDER_MODE, clean, file_mode, link_target, stays_inside},
};
use flate2::read::MultiGzDecoder;
use std::{
    cell::Cell,
    collections::BTreeMap,
    fs::{self, File, OpenOptions, Permissions},
    io::{self, BufReader, Read, Write},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
    rc::Rc,
};
use tar::{Archive, Entry, EntryType};

/// How much a release may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all files together, unpacked.
    pub bytes_max: u64,
    /// Files, folders and links together.
    pub files_max: u64,
}

/// Largest extended header read into memory: long names and a few attributes need far less.
const HEADER_BYTES_MAX: u64 = 65_536;
/// Most bytes after the end mark: tar pads to 10 KiB, some tools to a tape block of 1 MiB.
const PADDING_BYTES_MAX: u64 = 1 << 20;
/// One copy step: large enough for few calls, small enough to ask the deadline often.
const CHUNK_BYTES: usize = 128 << 10;

/// Unpacks the `.tar`, `.tar.gz` or `.tgz` at `archive` into the empty folder `into`.
///
/// Owner is the caller; modes keep at most `r-xr-xr-x`, because installed files are never written again.
pub(crate) fn unpack(archive: &Path, into: &Path, limits: Limits, deadline: &Deadline<'_>) -> Result<(), ChannelError> {
    let file = File::open(archive).map_err(|error| ChannelError::io("open", archive, error))?;
    let mut reader = BufReader::with_capacity(CHUNK_BYTES, file);
    let zipped = is_gzip(&mut reader).map_err(|error| ChannelError::io("read", archive, error))?;
    let result = if zipped {
        unpack_stream(MultiGzDecoder::new(reader), into, limits, deadline)
    } else {
        unpack_stream(reader, into, limits, deadline)
    };
    result.map_err(|stop| match stop {
        Stop::Refused(source) => ChannelError::Refused { what: name_of(archive), source },
        Stop::Failed(error) => error,
    })
}

/// Refuses an archive that unpacks to more than `limits` allow, before a client unpacks it.
pub(crate) fn refuse_bomb(archive: &Path, limits: Limits, deadline: &Deadline<'_>) -> Result<(), ChannelError> {
    let failed = |error| ChannelError::io("read", archive, error);
    let file = File::open(archive).map_err(|error| ChannelError::io("open", archive, error))?;
    let mut reader = BufReader::with_capacity(CHUNK_BYTES, file);
    let mut unzipped: Box<dyn Read> =
        if is_gzip(&mut reader).map_err(failed)? { Box::new(MultiGzDecoder::new(reader)) } else { Box::new(reader) };
    // A header and padding to a block for each file, and the end mark.
    let bytes_max =
        limits.bytes_max.saturating_add(limits.files_max.saturating_mul(4 * 512)).saturating_add(PADDING_BYTES_MAX);
    let refused = |source| ChannelError::Refused { what: name_of(archive), source };
    let (mut chunk, mut bytes) = (vec![0; CHUNK_BYTES], 0);
    loop {
        deadline.check()?;
        match unzipped.read(&mut chunk).map_err(|error| refused(Refusal::of_read(&error)))? {
            0 => return Ok(()),
            count => bytes += count as u64,
        }
        if bytes > bytes_max {
            return Err(refused(Refusal::TooManyBytes { bytes_max: limits.bytes_max }));
        }
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn is_gzip(reader: &mut BufReader<File>) -> io::Result<bool> {
    Ok(io::BufRead::fill_buf(reader)?.starts_with(&[0x1f, 0x8b]))
}

/// Why unpacking ends early.
enum Stop {
    Refused(Refusal),
    Failed(ChannelError),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<ChannelError> for Stop {
    fn from(error: ChannelError) -> Self {
        Self::Failed(error)
    }
}

/// Remembers whether the stream ended: the tar reader takes an end without an end mark for a whole archive.
struct Tail<R> {
    inner: R,
    ended: Rc<Cell<bool>>,
}

impl<R: Read> Read for Tail<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        if count == 0 && !buffer.is_empty() {
            self.ended.set(true);
        }
        Ok(count)
    }
}

fn unpack_stream(from: impl Read, into: &Path, limits: Limits, deadline: &Deadline<'_>) -> Result<(), Stop> {
    let ended = Rc::new(Cell::new(false));
    let archive = Archive::new(Tail { inner: from, ended: Rc::clone(&ended) });
    let mut tree = Tree { into, limits, deadline, made: BTreeMap::new(), bytes: 0, entries: 0 };
    unpack_entries(archive, &mut tree, &ended).map_err(|stop| match stop {
        Stop::Refused(Refusal::Unreadable(_)) if ended.get() => Stop::Refused(Refusal::Truncated),
        other => other,
    })?;
    if tree.made.is_empty() {
        return Err(Refusal::Empty.into());
    }
    tree.make_links()
}

fn unpack_entries<R: Read>(mut archive: Archive<Tail<R>>, tree: &mut Tree<'_>, ended: &Cell<bool>) -> Result<(), Stop> {
    let mut long = LongNames::default();
    let entries = archive.entries().map_err(|error| Refusal::of_read(&error))?.raw(true);
    for entry in entries {
        tree.deadline.check()?;
        let mut entry = entry.map_err(|error| Refusal::of_read(&error))?;
        if !long.take_header(&mut entry)? {
            let named = std::mem::take(&mut long);
            tree.add(&mut entry, named)?;
        }
        // Headers count too, or an archive of nothing but headers would be read for ever.
        tree.count()?;
    }
    if ended.get() || long.pending() {
        return Err(Refusal::Truncated.into());
    }
    drain(&mut archive.into_inner())?;
    Ok(())
}

/// Reads to the end, which is where gzip keeps its checksum.
fn drain(reader: &mut impl Read) -> Result<(), Refusal> {
    let mut rest = reader.take(PADDING_BYTES_MAX + 1);
    let count = io::copy(&mut rest, &mut io::sink()).map_err(|error| Refusal::of_read(&error))?;
    if count > PADDING_BYTES_MAX {
        return Err(Refusal::Unreadable("more data follows its end mark".into()));
    }
    Ok(())
}

/// Names too long for a plain header, which come before the entry they belong to.
#[derive(Default)]
struct LongNames {
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
}

impl LongNames {
    fn pending(&self) -> bool {
        self.path.is_some() || self.target.is_some()
    }

    /// Takes the entry if it is such a header.
    fn take_header<R: Read>(&mut self, entry: &mut Entry<'_, R>) -> Result<bool, Refusal> {
        let kind = entry.header().entry_type();
        if kind.is_gnu_longname() || kind.is_gnu_longlink() {
            let mut name = bounded(entry)?;
            if name.last() == Some(&0) {
                name.pop();
            }
            let place = if kind.is_gnu_longname() { &mut self.path } else { &mut self.target };
            if place.replace(name).is_some() {
                return Err(Refusal::Unreadable("two long names for one file".into()));
            }
            return Ok(true);
        }
        if kind.is_pax_local_extensions() {
            let header = bounded(entry)?;
            self.take_pax(&header)?;
            return Ok(true);
        }
        if kind.is_pax_global_extensions() {
            // Only comments are expected there (git writes its commit); a global path would rename every file.
            let header = bounded(entry)?;
            let mut other = Self::default();
            other.take_pax(&header)?;
            return if other.pending() {
                Err(Refusal::Unreadable("a global header names a path".into()))
            } else {
                Ok(true)
            };
        }
        Ok(false)
    }

    fn take_pax(&mut self, header: &[u8]) -> Result<(), Refusal> {
        for extension in tar::PaxExtensions::new(header) {
            let extension = extension.map_err(|error| Refusal::of_read(&error))?;
            let place = match extension.key_bytes() {
                b"path" => &mut self.path,
                b"linkpath" => &mut self.target,
                // Two sizes for one file are how two readers are made to see two archives. Sparse files too.
                b"size" => return Err(Refusal::Unreadable("it gives a size in an extended header".into())),
                key if key.starts_with(b"GNU.sparse") => {
                    return Err(Refusal::Unreadable("it has a sparse file".into()));
                }
                _ => continue,
            };
            if place.replace(extension.value_bytes().to_vec()).is_some() {
                return Err(Refusal::Unreadable("two long names for one file".into()));
            }
        }
        Ok(())
    }
}

fn bounded<R: Read>(entry: &mut Entry<'_, R>) -> Result<Vec<u8>, Refusal> {
    if entry.size() > HEADER_BYTES_MAX {
        return Err(Refusal::Unreadable(format!("an extended header has {} bytes", entry.size())));
    }
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes).map_err(|error| Refusal::of_read(&error))?;
    if bytes.len() as u64 != entry.size() {
        return Err(Refusal::Truncated);
    }
    Ok(bytes)
}

/// What was unpacked at a path.
enum Made {
    /// Made because something lies in it; the archive may still name it once.
    Assumed,
    Folder,
    File,
    Link(String),
}

struct Tree<'a> {
    into: &'a Path,
    limits: Limits,
    deadline: &'a Deadline<'a>,
    made: BTreeMap<String, Made>,
    bytes: u64,
    entries: u64,
}

impl Tree<'_> {
    fn count(&mut self) -> Result<(), Refusal> {
        self.entries += 1;
        let files_max = self.limits.files_max;
        // Each file may bring up to two headers of its own.
        if self.made.len() as u64 > files_max || self.entries / 3 > files_max {
            return Err(Refusal::TooManyFiles { files_max });
        }
        Ok(())
    }

    fn add<R: Read>(&mut self, entry: &mut Entry<'_, R>, long: LongNames) -> Result<(), Stop> {
        let raw = long.path.unwrap_or_else(|| entry.path_bytes().into_owned());
        let Some(path) = clean(&raw)? else {
            // "./" itself: the folder we unpack into.
            return Ok(());
        };
        let kind = entry.header().entry_type();
        let mode = entry.header().mode().map_err(|error| Refusal::of_read(&error))?;
        if mode & 0o6000 != 0 && !kind.is_dir() {
            return Err(Refusal::SetUserId(path).into());
        }
        self.make_parents(&path)?;
        match kind {
            EntryType::Directory => self.add_folder(path),
            EntryType::Regular | EntryType::Continuous => self.add_file(path, mode, entry),
            EntryType::Symlink | EntryType::Link => {
                let target = long.target.or_else(|| entry.link_name_bytes().map(|name| name.into_owned()));
                let target = link_target(&path, target.unwrap_or_default())?;
                if kind == EntryType::Link { self.add_hard_link(path, &target) } else { self.add_link(path, target) }
            }
            EntryType::Char => Err(Refusal::SpecialFile { path, kind: "character device" }.into()),
            EntryType::Block => Err(Refusal::SpecialFile { path, kind: "block device" }.into()),
            EntryType::Fifo => Err(Refusal::SpecialFile { path, kind: "FIFO" }.into()),
            other => {
                Err(Refusal::Unreadable(format!("{path:?} is of the unknown kind {:?}", other.as_byte() as char))
                    .into())
            }
        }
    }

    /// Makes the folders above `path`; refuses a path below anything but folders of this archive.
    fn make_parents(&mut self, path: &str) -> Result<(), Stop> {
        for (end, _) in path.match_indices('/') {
            let parent = &path[..end];
            match self.made.get(parent) {
                Some(Made::Assumed | Made::Folder) => {}
                Some(_) => return Err(Refusal::ThroughLink(path.into()).into()),
                None => {
                    self.make_folder(parent)?;
                    self.made.insert(parent.into(), Made::Assumed);
                    self.count()?;
                }
            }
        }
        Ok(())
    }

    fn make_folder(&self, path: &str) -> Result<(), ChannelError> {
        let at = self.into.join(path);
        fs::create_dir(&at)
            .and_then(|()| fs::set_permissions(&at, Permissions::from_mode(FOLDER_MODE)))
            .map_err(|error| ChannelError::io("make the folder", &at, error))
    }

    fn add_folder(&mut self, path: String) -> Result<(), Stop> {
        match self.made.get(&path) {
            Some(Made::Assumed) => {}
            Some(_) => return Err(Refusal::DuplicateName(path).into()),
            None => self.make_folder(&path)?,
        }
        self.made.insert(path, Made::Folder);
        Ok(())
    }

    fn claim(&mut self, path: &str, made: Made) -> Result<(), Refusal> {
        match self.made.insert(path.into(), made) {
            None => Ok(()),
            Some(_) => Err(Refusal::DuplicateName(path.into())),
        }
    }

    fn add_file<R: Read>(&mut self, path: String, mode: u32, entry: &mut Entry<'_, R>) -> Result<(), Stop> {
        self.claim(&path, Made::File)?;
        let bytes_max = self.limits.bytes_max;
        self.bytes = self.bytes.saturating_add(entry.size());
        if self.bytes > bytes_max {
            return Err(Refusal::TooManyBytes { bytes_max }.into());
        }
        let at = self.into.join(&path);
        let failed = |error| ChannelError::io("write", &at, error);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&at).map_err(failed)?;
        let mut chunk = vec![0; CHUNK_BYTES.min(usize::try_from(entry.size()).unwrap_or(CHUNK_BYTES)).max(1)];
        let mut written = 0;
        loop {
            self.deadline.check()?;
            let count = entry.read(&mut chunk).map_err(|error| Refusal::of_read(&error))?;
            if count == 0 {
                break;
            }
            file.write_all(&chunk[..count]).map_err(failed)?;
            written += count as u64;
        }
        if written != entry.size() {
            return Err(Refusal::Truncated.into());
        }
        file.set_permissions(Permissions::from_mode(file_mode(mode))).map_err(failed)?;
        Ok(())
    }

    fn add_hard_link(&mut self, path: String, target: &str) -> Result<(), Stop> {
        let nothing = || Refusal::LinkToNothing { path: path.clone(), target: target.into() };
        let source = clean(target.as_bytes()).map_err(|refusal| match refusal {
            Refusal::BadName(_) => nothing(),
            _ => Refusal::LinkLeaves { path: path.clone(), target: target.into() },
        })?;
        let source = source.ok_or_else(nothing)?;
        if !matches!(self.made.get(&source), Some(Made::File)) {
            return Err(nothing().into());
        }
        self.claim(&path, Made::File)?;
        let at = self.into.join(&path);
        fs::hard_link(self.into.join(source), &at).map_err(|error| ChannelError::io("link", &at, error))?;
        Ok(())
    }

    fn add_link(&mut self, path: String, target: String) -> Result<(), Stop> {
        if target.starts_with('/') {
            return Err(Refusal::LinkLeaves { path, target }.into());
        }
        self.claim(&path, Made::Link(target))?;
        Ok(())
    }

    /// Makes the symbolic links, once every one of them is known to stay inside.
    fn make_links(&self) -> Result<(), Stop> {
        let links = || {
            self.made.iter().filter_map(|(path, made)| match made {
                Made::Link(target) => Some((path.as_str(), target.as_str())),
                _ => None,
            })
        };
        let known: BTreeMap<&str, &str> = links().collect();
        for (path, target) in links() {
            self.deadline.check()?;
            if !stays_inside(path, target, &known) {
                return Err(Refusal::LinkLeaves { path: path.into(), target: target.into() }.into());
            }
        }
        for (path, target) in links() {
            let at = self.into.join(path);
            std::os::unix::fs::symlink(target, &at).map_err(|error| ChannelError::io("link", &at, error))?;
        }
        Ok(())
    }
}
