//! The installation's key: signs checkpoints and corrective entries. Made on first use, never shown.

use lastgood_domain::{
    evidence::{NoteError, NoteKey, VerifierKey, origin_of},
    failure::Coded,
    terms::ChainName,
};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Name of the key file in the state folder.
pub const KEY_FILE: &str = "evidence.key";
/// One line of some 150 characters; more is not ours.
const KEY_FILE_BYTES_MAX: u64 = 1024;
/// Opens the key file's line: name and 32 secret bytes follow.
const KEY_LINE: &str = "lastgood-evidence-key/1";

/// Why the key can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file can't be read or made.
    #[error("the key file {} cannot be used", path.display())]
    File {
        /// The key file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Others can read it.
    #[error("the key file {} has mode {mode:o}: others can read it", path.display())]
    TooOpen {
        /// The key file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It is not what we wrote. The content is not repeated here.
    #[error("the key file {} is damaged", path.display())]
    Damaged {
        /// The key file.
        path: PathBuf,
    },
    /// The system gave no random bytes.
    #[error("the system gave no random bytes for a new key")]
    NoRandom(#[source] getrandom::Error),
    /// A name that no key can have.
    #[error("the key can't sign under this name")]
    Name(#[from] NoteError),
}

impl Coded for KeyError {
    fn code(&self) -> &'static str {
        match self {
            Self::TooOpen { .. } => "key-too-open",
            _ => "key-unusable",
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::File { path, .. } => format!("check owner and mode: ls -l {}", path.display()),
            Self::TooOpen { path, .. } => format!("chmod 600 {}", path.display()),
            Self::Damaged { path } => format!("put {} back from your backup of the state folder's key", path.display()),
            Self::NoRandom(_) => "check that /dev/urandom works".into(),
            Self::Name(_) => "use a chain name of at most 128 characters".into(),
        })
    }
}

/// Signs for one installation. Its Debug output shows the public part only.
#[derive(Debug, Clone)]
pub struct Signer {
    key: NoteKey,
}

impl Signer {
    /// Loads the key of the state folder `dir`, or makes one there, mode 0600.
    pub fn load_or_create(dir: &Path) -> Result<Self, KeyError> {
        match Self::load(dir) {
            Err(KeyError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                create(dir)?;
                Self::load(dir)
            }
            other => other,
        }
    }

    /// Loads the key of the state folder `dir`; it must be there.
    pub fn load(dir: &Path) -> Result<Self, KeyError> {
        let path = dir.join(KEY_FILE);
        let failed = |source| KeyError::File { path: path.clone(), source };
        let file = File::open(&path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(KeyError::TooOpen { path, mode });
        }
        let mut line = String::new();
        file.take(KEY_FILE_BYTES_MAX).read_to_string(&mut line).map_err(failed)?;
        let key = parse(&line).ok_or(KeyError::Damaged { path })?;
        Ok(Self { key })
    }

    /// Makes a signer of an installation name and 32 secret bytes, for tests and for keys kept elsewhere.
    pub fn from_seed(installation: &str, seed: &[u8; 32]) -> Result<Self, KeyError> {
        Ok(Self { key: NoteKey::from_seed(installation, seed)? })
    }

    /// Gives the installation's name, `lastgood/` and 16 hex digits.
    pub fn installation(&self) -> &str {
        self.key.name()
    }

    /// Gives the public key to publish; it checks every chain of this installation.
    pub fn verifier(&self) -> VerifierKey {
        self.key.verifier()
    }

    /// Gives the key under a chain's origin.
    pub(crate) fn for_chain(&self, chain: &ChainName) -> Result<NoteKey, KeyError> {
        Ok(self.key.named(&origin_of(self.installation(), chain))?)
    }
}

/// Publishes a new key under its final name only when it is whole; a process that is faster wins.
fn create(dir: &Path) -> Result<(), KeyError> {
    let path = dir.join(KEY_FILE);
    let failed = |source| KeyError::File { path: path.clone(), source };
    let mut random = [0u8; 40];
    getrandom::fill(&mut random).map_err(KeyError::NoRandom)?;
    let (name, seed) = random.split_at(8);
    let line = format!("{KEY_LINE} lastgood/{} {}\n", hex(name), hex(seed));
    // Named at random: two makers never share a draft. A kill leaves one behind, with a key that signed nothing.
    let draft = dir.join(format!(".{KEY_FILE}.{}", hex(name)));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).map_err(failed)?;
    file.write_all(line.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    let linked = fs::hard_link(&draft, &path);
    fs::remove_file(&draft).map_err(failed)?;
    match linked {
        Err(taken) if taken.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(source) => Err(failed(source)),
        Ok(()) => File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed),
    }
}

fn parse(line: &str) -> Option<NoteKey> {
    let mut words = line.strip_suffix('\n')?.split(' ');
    let (KEY_LINE, name, seed, None) = (words.next()?, words.next()?, words.next()?, words.next()) else {
        return None;
    };
    if seed.len() != 64 || !seed.is_ascii() {
        return None;
    }
    let mut bytes = [0u8; 32];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&seed[2 * at..2 * at + 2], 16).ok()?;
    }
    NoteKey::from_seed(name, &bytes).ok()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
