//! A secret in its file: read, made anew by chance, replaced whole.

use super::CredentialError;
use crate::probe::SecretError;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rustix::fs::{Gid, OFlags, Uid};
use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

/// Largest secret in bytes, as elsewhere.
const SECRET_BYTES_MAX: u64 = 64 << 10;
/// 32 bytes of chance: nobody guesses them.
const FRESH_BYTES: usize = 32;

/// A secret; its `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Value {
    /// The secret itself.
    pub(super) text: String,
    /// Whether its file ended with a line break.
    pub(super) line_break: bool,
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Value")
    }
}

impl Value {
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.text.clone().into_bytes();
        bytes.extend(self.line_break.then_some(b'\n'));
        bytes
    }
}

/// Makes a secret nobody knows, in the form of the one before.
pub(super) fn fresh(like: &Value) -> Result<Value, CredentialError> {
    let mut bytes = [0; FRESH_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| CredentialError::File {
        name: "a new secret".into(),
        act: "made",
        path: "/dev/urandom".into(),
        source: io::Error::other(error.to_string()),
    })?;
    Ok(Value { text: URL_SAFE_NO_PAD.encode(bytes), line_break: like.line_break })
}

fn file_error(name: &str, act: &'static str, path: &Path, source: impl Into<io::Error>) -> CredentialError {
    CredentialError::File { name: name.into(), act, path: path.into(), source: source.into() }
}

/// Reads a secret. A link in its place is refused: it would be replaced, and not what it leads to.
pub(super) fn read(name: &str, path: &Path) -> Result<Value, CredentialError> {
    let failed = |source: io::Error| file_error(name, "read", path, source);
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(failed)?;
    let facts = file.metadata().map_err(failed)?;
    let unfit = |why: &str| SecretError::Unfit { name: name.into(), path: path.into(), why: why.into() };
    if !facts.is_file() || facts.len() > SECRET_BYTES_MAX {
        return Err(unfit("is not a file of at most 64 KiB").into());
    }
    let mode = facts.permissions().mode() & 0o777;
    if mode & 0o007 != 0 {
        return Err(SecretError::Exposed { name: name.into(), path: path.into(), mode }.into());
    }
    let mut bytes = Vec::new();
    file.take(SECRET_BYTES_MAX).read_to_end(&mut bytes).map_err(failed)?;
    let text = String::from_utf8(bytes).map_err(|_| unfit("is not UTF-8 text"))?;
    let value = match text.strip_suffix('\n') {
        Some(text) => Value { text: text.strip_suffix('\r').unwrap_or(text).into(), line_break: true },
        None => Value { text, line_break: false },
    };
    if value.text.is_empty() { Err(unfit("is empty").into()) } else { Ok(value) }
}

/// Puts a secret into a file that is there, whole or not at all; its owner stays, others and the group lose no less
/// than the right to write.
pub(super) fn replace(name: &str, path: &Path, value: &Value) -> Result<(), CredentialError> {
    let failed = |source: io::Error| file_error(name, "written", path, source);
    let facts = fs::symlink_metadata(path).map_err(failed)?;
    // Whoever could read it by its group goes on.
    let mode = (facts.permissions().mode() & 0o640) | 0o600;
    write(path, value, mode, Some((facts.uid(), facts.gid()))).map_err(failed)
}

/// Writes a file that only its owner reads: beside, to the disk, and then under its name.
pub(super) fn write(path: &Path, value: &Value, mode: u32, owner: Option<(u32, u32)>) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(path.file_name().unwrap_or_default());
    hidden.push(".lastgood");
    let aside = folder.join(hidden);
    // What a killed one left; it was never anybody's.
    match fs::remove_file(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
    if let Some((uid, gid)) = owner {
        rustix::fs::fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    }
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(&value.bytes())?;
    file.sync_all()?;
    fs::rename(&aside, path)?;
    File::open(folder)?.sync_all()
}
