//! Copies one file: contents once through memory while they are digested, holes kept, then the file's dress.

use super::{
    beneath::Folder,
    manifest::{Content, Dress, RawBytes},
};
use lastgood_domain::terms::Digest;
use rustix::{
    fs::{AtFlags, Gid, Mode, SeekFrom, Stat, Timespec, Timestamps, Uid, XattrFlags},
    io::{Errno, ReadWriteFlags},
};
use sha2::Digest as _;
use std::{collections::BTreeMap, fs::File, io, os::unix::fs::FileExt as _, path::Path};

/// 1 MiB: larger reads were not faster, and 20 restores at once stay below 20 MiB.
const BUFFER_BYTES: usize = 1 << 20;
/// 4 MiB at most wait for the disk because of us: a service's own flush then waits 30 ms behind ours on a disk that writes
/// 131 MB/s.
pub(super) const FLUSH_BYTES: usize = 4 << 20;
/// Blocks of a sparse file's digest: what file systems commonly keep as the smallest cheap hole.
const BLOCK_BYTES: u64 = 64 << 10;
/// 64 KiB: Linux's own limit for one attribute's value and for the list of names.
const XATTR_BYTES_MAX: usize = 64 << 10;

/// Says whether a file has holes worth keeping.
pub(super) fn is_sparse(stat: &Stat) -> bool {
    let bytes = u64::try_from(stat.st_size).unwrap_or(0);
    bytes >= 2 * BLOCK_BYTES && allocated(stat) + BLOCK_BYTES <= bytes
}

/// Gives the bytes a file takes on its disk.
pub(super) fn allocated(stat: &Stat) -> u64 {
    (stat.st_blocks as u64).saturating_mul(512)
}

/// Copies all of `from` to the empty file `to`, or only digests it, and gives what was copied.
///
/// The digest of a sparse file is over each block of 64 KiB that is not all zero, with its number before it and the
/// length of the file at the end: it doesn't depend on where the file system has holes, and a hole costs nothing.
pub(super) fn copy_digested(from: &File, to: Option<&File>, sparse: bool) -> io::Result<Content> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut hash = sha2::Sha256::new();
    let bytes = if sparse {
        copy_blocks(from, to, &mut buffer, &mut hash)?
    } else {
        copy_all(from, to, &mut buffer, &mut hash)?
    };
    Ok(Content { bytes, digest: Digest(hash.finalize().into()), sparse })
}

fn copy_all(from: &File, to: Option<&File>, buffer: &mut [u8], hash: &mut sha2::Sha256) -> io::Result<u64> {
    let mut at = 0;
    loop {
        let count = read_full(from, buffer, at)?;
        hash.update(&buffer[..count]);
        if let Some(to) = to {
            to.write_all_at(&buffer[..count], at)?;
        }
        at += count as u64;
        if count < buffer.len() {
            return Ok(at);
        }
    }
}

fn copy_blocks(from: &File, to: Option<&File>, buffer: &mut [u8], hash: &mut sha2::Sha256) -> io::Result<u64> {
    let bytes = from.metadata()?.len();
    let mut at = 0;
    while at < bytes {
        match rustix::fs::seek(from, SeekFrom::Data(at)) {
            Ok(data) => at = data - data % BLOCK_BYTES,
            Err(Errno::NXIO) => break,
            // A file system without holes: read it all.
            Err(_) => {}
        }
        let count = read_full(from, buffer, at)?;
        for (index, block) in buffer[..count].chunks(BLOCK_BYTES as usize).enumerate() {
            let start = at + index as u64 * BLOCK_BYTES;
            if block.iter().any(|&byte| byte != 0) {
                hash.update((start / BLOCK_BYTES).to_le_bytes());
                hash.update(block);
                if let Some(to) = to {
                    to.write_all_at(block, start)?;
                }
            }
        }
        if count == 0 {
            break;
        }
        at += count as u64;
    }
    if let Some(to) = to {
        to.set_len(bytes)?;
    }
    hash.update(bytes.to_le_bytes());
    Ok(bytes)
}

fn read_full(from: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read_at(&mut buffer[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Writes a file of ours to the disk from the byte `from` on, a small part at a time.
///
/// A flush of the whole file would keep the disk from the service for as long as it takes. A part is flushed by writing
/// the same bytes once more with the order to flush them, so nobody may change the file meanwhile; it may be read.
pub(super) fn flush_in_parts(file: &File, from: u64) -> io::Result<()> {
    let mut buffer = vec![0; FLUSH_BYTES];
    let mut at = from;
    loop {
        let count = read_full(file, &mut buffer, at)?;
        flush_part(file, &buffer[..count], at)?;
        at += count as u64;
        if count < buffer.len() {
            return Ok(());
        }
    }
}

fn flush_part(file: &File, mut part: &[u8], mut at: u64) -> io::Result<()> {
    while !part.is_empty() {
        match rustix::io::pwritev2(file, &[io::IoSlice::new(part)], at, ReadWriteFlags::DSYNC) {
            Ok(count) => {
                part = &part[count..];
                at += count as u64;
            }
            Err(Errno::INTR) => {}
            // A file system without it: all is flushed at the end.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// How a file was copied without being read by us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Shares the blocks until one side writes.
    Reflinked,
    /// Copied inside the kernel.
    Copied,
}

/// Copies `from` to the empty file `to` in the cheapest way the file system has.
pub(super) fn clone_file(from: &File, to: &File, sparse: bool) -> io::Result<Way> {
    if rustix::fs::ioctl_ficlone(to, from).is_ok() {
        return Ok(Way::Reflinked);
    }
    if sparse {
        copy_digested(from, Some(to), true)?;
        return Ok(Way::Copied);
    }
    let bytes = from.metadata()?.len();
    let (mut read_at, mut write_at) = (0, 0);
    while read_at < bytes {
        match rustix::fs::copy_file_range(from, Some(&mut read_at), to, Some(&mut write_at), 1 << 30) {
            Ok(0) => break,
            Ok(_) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS | Errno::IO) => {
                let mut buffer = vec![0; BUFFER_BYTES];
                copy_all(from, Some(to), &mut buffer, &mut sha2::Sha256::new())?;
                break;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Way::Copied)
}

/// Reads what a thing wears: owner, mode, time; attributes only of an open file or folder.
pub(super) fn dress_of(stat: &Stat, open: Option<&dyn AsOpen>) -> io::Result<Dress> {
    let xattrs = match open {
        Some(open) => xattrs_of(open)?,
        None => BTreeMap::new(),
    };
    Ok(Dress {
        uid: stat.st_uid,
        gid: stat.st_gid,
        mode: stat.st_mode & 0o7777,
        mtime_seconds: stat.st_mtime,
        mtime_nanoseconds: stat.st_mtime_nsec as i64,
        xattrs,
    })
}

/// An open file or folder.
pub(super) trait AsOpen {
    fn fd(&self) -> std::os::fd::BorrowedFd<'_>;
}

impl AsOpen for File {
    fn fd(&self) -> std::os::fd::BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(self)
    }
}

impl AsOpen for Folder {
    fn fd(&self) -> std::os::fd::BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(self)
    }
}

fn xattrs_of(open: &dyn AsOpen) -> io::Result<BTreeMap<String, RawBytes>> {
    let mut found = BTreeMap::new();
    let fd = open.fd();
    let mut list = [0_u8; 1024];
    let names = match rustix::fs::flistxattr(fd, &mut list[..]) {
        Ok(count) => list[..count].to_vec(),
        Err(Errno::RANGE) => {
            let mut list = vec![0_u8; XATTR_BYTES_MAX];
            let count = rustix::fs::flistxattr(fd, &mut list[..])?;
            list.truncate(count);
            list
        }
        Err(Errno::OPNOTSUPP) => return Ok(found),
        Err(error) => return Err(error.into()),
    };
    for name in names.split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        // The name of an attribute is text on every Linux; one that isn't can't be kept.
        let Ok(name) = std::str::from_utf8(name) else { continue };
        let mut value = vec![0_u8; XATTR_BYTES_MAX];
        match rustix::fs::fgetxattr(fd, name, &mut value[..]) {
            Ok(count) => {
                value.truncate(count);
                found.insert(name.to_owned(), RawBytes(value));
            }
            // Gone since it was listed, or only for the system.
            Err(Errno::NODATA | Errno::PERM | Errno::ACCESS) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

/// Puts the dress on an open file or folder: owner, then mode (a change of owner drops set-id), attributes, time last.
pub(super) fn dress(open: &dyn AsOpen, dress: &Dress) -> io::Result<()> {
    let fd = open.fd();
    let stat = rustix::fs::fstat(fd)?;
    if (stat.st_uid, stat.st_gid) != (dress.uid, dress.gid) {
        rustix::fs::fchown(fd, Some(Uid::from_raw(dress.uid)), Some(Gid::from_raw(dress.gid)))?;
    }
    rustix::fs::fchmod(fd, Mode::from_raw_mode(dress.mode))?;
    let present = xattrs_of(open)?;
    for name in present.keys().filter(|name| !dress.xattrs.contains_key(*name)) {
        // A label that the system itself puts on every file can't be taken off.
        let _ = rustix::fs::fremovexattr(fd, name.as_str());
    }
    for (name, value) in &dress.xattrs {
        if present.get(name) != Some(value) {
            rustix::fs::fsetxattr(fd, name.as_str(), &value.0, XattrFlags::empty())?;
        }
    }
    rustix::fs::futimens(fd, &times(dress))?;
    Ok(())
}

/// Puts owner and time on a symbolic link; it has no mode and no attributes of its own.
pub(super) fn dress_link(folder: &Folder, path: &Path, dress: &Dress) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(dress.uid), Gid::from_raw(dress.gid));
    let parent = folder.folder(path.parent().unwrap_or(Path::new("")))?;
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    rustix::fs::chownat(&parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    rustix::fs::utimensat(&parent, name, &times(dress), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

fn times(dress: &Dress) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        last_modification: Timespec { tv_sec: dress.mtime_seconds, tv_nsec: dress.mtime_nanoseconds },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_flushed_in_parts_is_what_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        // Two parts and a piece; no two parts alike.
        let bytes: Vec<u8> = (0..2 * FLUSH_BYTES + 5).map(|at| (at % 251) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        for from in [0, 3, bytes.len() as u64, bytes.len() as u64 + 9] {
            flush_in_parts(&file, from).unwrap();
            assert!(std::fs::read(&path).unwrap() == bytes, "from {from}");
        }
    }
}
