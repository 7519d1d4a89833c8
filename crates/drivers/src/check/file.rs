//! Files and folders: there, whose, how open, how old, and with which bytes.

use super::{Sight, Wrong};
use crate::config_terms::Length;
use crate::state::Owner;
use jiff::Timestamp;
use lastgood_domain::terms::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256 as Hash};
use std::{
    borrow::Cow,
    fs::{File, Metadata},
    io::{ErrorKind, Read as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Instant,
};

/// A file or folder; links are followed.
///
/// ```toml
/// [preflight.settings]
/// file = { path = "/etc/notebook.toml", owner = "notebook", mode = "0640", age_max = "30d" }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileCheck {
    /// Where it is. A relative path starts at the folder of lastgood.toml.
    pub path: PathBuf,
    /// `file` or `folder`. Default `file`.
    #[serde(default)]
    pub kind: FileKind,
    /// The user it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The widest it may be open, such as `"0640"`: no right beyond these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Of a file: its fewest bytes. Default 1, so that an empty file fails.
    #[serde(default = "one")]
    pub bytes_min: u64,
    /// How long ago it may have been written last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_max: Option<Length>,
    /// Of a file: its SHA-256, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256>,
}

/// What a path leads to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FileKind {
    /// A file.
    #[default]
    File,
    /// A folder.
    Folder,
}

/// Permission bits, written in octal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode(u32);

/// A SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sha256([u8; 32]);

const fn one() -> u64 {
    1
}

impl FileCheck {
    /// Tells what no single key shows.
    pub fn problem(&self) -> Option<String> {
        let folder = self.kind == FileKind::Folder;
        (folder && self.sha256.is_some()).then(|| "a folder has no sha256".into())
    }

    pub(super) fn look(&self, sight: &Sight) -> Result<String, Wrong> {
        let path = sight.folder.join(&self.path);
        let shown = path.display();
        let look = format!("ls -ld {shown}");
        let facts = std::fs::metadata(&path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => Wrong::fails("preflight-file-missing", format!("{shown} is not there"), &look),
            _ => Wrong::unknown("preflight-file-unreadable", format!("{shown} can't be looked at: {error}"), &look),
        })?;
        let fits = match self.kind {
            FileKind::File => facts.is_file(),
            FileKind::Folder => facts.is_dir(),
        };
        if !fits {
            let what = format!("{shown} is no {}", if self.kind == FileKind::File { "file" } else { "folder" });
            return Err(Wrong::fails("preflight-file-kind", what, look));
        }
        self.owner_fits(&path, &facts)?;
        self.mode_fits(&path, &facts)?;
        if self.kind == FileKind::File && facts.len() < self.bytes_min {
            let what = format!("{shown} has {} bytes, at least {} wanted", facts.len(), self.bytes_min);
            return Err(Wrong::fails("preflight-file-empty", what, look));
        }
        let age = age(&facts, sight.now);
        if let Some(max) = self.age_max
            && age.is_none_or(|age| age > max.0)
        {
            let what = match age {
                Some(age) => format!("{shown} was written {age} ago, at most {} wanted", max.0),
                // Whatever is newer than now says nothing about its age.
                None => format!("{shown} was written in the future by this clock"),
            };
            return Err(Wrong::fails("preflight-file-old", what, format!("ls -l --full-time {shown}; date")));
        }
        if let Some(wanted) = self.sha256 {
            digest_fits(&path, wanted, sight.until)?;
        }
        Ok(format!("{shown} is as it must be"))
    }

    fn owner_fits(&self, path: &Path, facts: &Metadata) -> Result<(), Wrong> {
        let Some(owner) = &self.owner else { return Ok(()) };
        let shown = path.display();
        let known = Owner::named(owner).map_err(|error| {
            let what = format!("whether {shown} belongs to {owner} can't be told: {error}");
            Wrong::unknown("preflight-file-owner", what, format!("getent passwd {owner}"))
        })?;
        if facts.uid() == known.uid {
            return Ok(());
        }
        let what = format!("{shown} belongs to the user {}, not to {owner} ({})", facts.uid(), known.uid);
        Err(Wrong::fails("preflight-file-owner", what, format!("chown {owner} {shown}")))
    }

    fn mode_fits(&self, path: &Path, facts: &Metadata) -> Result<(), Wrong> {
        let Some(Mode(widest)) = self.mode else { return Ok(()) };
        let mode = facts.mode() & 0o7777;
        if mode & !widest == 0 {
            return Ok(());
        }
        let shown = path.display();
        let what = format!("{shown} has mode {mode:04o}, at most {widest:04o} wanted");
        Err(Wrong::fails("preflight-file-mode", what, format!("chmod {:04o} {shown}", mode & widest)))
    }
}

/// Gives how long ago it was written; none if that is in the future.
pub(super) fn age(facts: &Metadata, now: Timestamp) -> Option<Span> {
    let written = facts.mtime().saturating_mul(1_000).saturating_add(facts.mtime_nsec() / 1_000_000);
    u64::try_from(now.as_millisecond() - written).ok().map(Span)
}

fn digest_fits(path: &Path, Sha256(wanted): Sha256, until: Instant) -> Result<(), Wrong> {
    let shown = path.display();
    let look = format!("sha256sum {shown}");
    let unreadable = |error: std::io::Error| {
        Wrong::unknown("preflight-file-unreadable", format!("{shown} can't be read: {error}"), &look)
    };
    // Without waiting: what was a file a moment ago may be a pipe now.
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let mut file = File::options().read(true).custom_flags(nonblocking).open(path).map_err(unreadable)?;
    let mut hash = Hash::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        if Instant::now() >= until {
            let what = format!("{shown} is too large to be read in time");
            return Err(Wrong::unknown("preflight-file-unreadable", what, "give the check a longer timeout"));
        }
        match file.read(&mut buffer).map_err(unreadable)? {
            0 => break,
            count => hash.update(&buffer[..count]),
        }
    }
    let found: [u8; 32] = hash.finalize().into();
    if found == wanted {
        return Ok(());
    }
    let what = format!("{shown} has the SHA-256 {}, not {}", hex(&found), hex(&wanted));
    Err(Wrong::fails("preflight-file-digest", what, look))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(from)?;
        let mode = u32::from_str_radix(&text, 8).ok().filter(|mode| *mode <= 0o7777);
        mode.map(Self).ok_or_else(|| serde::de::Error::custom(format!("{text:?} is no mode: write it like \"0640\"")))
    }
}

impl Serialize for Mode {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{:04o}", self.0))
    }
}

impl JsonSchema for Mode {
    fn schema_name() -> Cow<'static, str> {
        "Mode".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string", "pattern": "^[0-7]{3,4}$", "description": "Permission bits in octal, such as 0640."
        })
    }
}

impl<'de> Deserialize<'de> for Sha256 {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(from)?;
        let wrong = || serde::de::Error::custom(format!("{text:?} is no SHA-256: 64 digits of 0-9 and a-f"));
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return Err(wrong());
        }
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).map_err(|_| wrong())?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Sha256 {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&hex(&self.0))
    }
}

impl JsonSchema for Sha256 {
    fn schema_name() -> Cow<'static, str> {
        "Sha256".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string", "pattern": "^[0-9a-fA-F]{64}$", "description": "A SHA-256 in hexadecimal."
        })
    }
}
