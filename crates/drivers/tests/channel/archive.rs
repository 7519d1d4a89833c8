//! Builds archives, header by header, so that they can be as wrong as an attacker's.

use flate2::{Compression, write::GzEncoder};
use std::io::Write as _;
use tar::{EntryType, Header};

/// One member of an archive.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) kind: EntryType,
    pub(crate) mode: u32,
    pub(crate) target: String,
    pub(crate) content: Vec<u8>,
}

pub(crate) fn member(name: &str, kind: EntryType, target: &str) -> Member {
    Member { name: name.into(), kind, mode: 0o755, target: target.into(), content: Vec::new() }
}

pub(crate) fn file(name: &str, content: &str) -> Member {
    Member { mode: 0o644, content: content.into(), ..member(name, EntryType::Regular, "") }
}

pub(crate) fn folder(name: &str) -> Member {
    member(name, EntryType::Directory, "")
}

pub(crate) fn link(name: &str, target: &str) -> Member {
    member(name, EntryType::Symlink, target)
}

pub(crate) fn hard_link(name: &str, target: &str) -> Member {
    member(name, EntryType::Link, target)
}

/// Writes the members and nothing after them.
pub(crate) fn unended(members: &[Member]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for member in members {
        let mut header = Header::new_gnu();
        let old = header.as_old_mut();
        old.name[..member.name.len()].copy_from_slice(member.name.as_bytes());
        old.linkname[..member.target.len()].copy_from_slice(member.target.as_bytes());
        header.set_entry_type(member.kind);
        header.set_mode(member.mode);
        header.set_size(member.content.len() as u64);
        header.set_cksum();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(&member.content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes
}

pub(crate) fn tar(members: &[Member]) -> Vec<u8> {
    let mut bytes = unended(members);
    bytes.extend_from_slice(&[0; 1024]);
    bytes
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
