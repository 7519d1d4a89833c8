//! Secrets: read from files or systemd credentials, shown nowhere.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use lastgood_domain::failure::Coded;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    env, fmt, fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Largest secret: keys and tokens are far smaller.
const SECRET_BYTES_MAX: u64 = 64 << 10;
/// Shorter secrets are not searched for in messages: they would blank out innocent text.
const SCRUBBED_CHARS_MIN: usize = 4;

/// Where a secret comes from: exactly one of `file` and `credential`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretSource {
    /// A file whose first line is the secret; nobody but its owner and group may read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// The name of a systemd credential of lastgood's own unit (`LoadCredential=`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
}

/// A secret text; its Debug output hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Gives the text itself; for sending and nothing else.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// Loaded secrets by name.
#[derive(Debug, Clone, Default)]
pub struct Secrets {
    by_name: Arc<BTreeMap<String, Secret>>,
}

/// Why a secret can't be used. It never holds the secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// It names no source, or two.
    #[error("secret {name} needs exactly one of `file` and `credential`")]
    Source {
        /// Its name.
        name: String,
    },
    /// Its file can't be read.
    #[error("secret {name} can't be read from {}", path.display())]
    Unreadable {
        /// Its name.
        name: String,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Anyone may read its file.
    #[error("secret {name} is exposed: {} has mode {mode:o}", path.display())]
    Exposed {
        /// Its name.
        name: String,
        /// The file.
        path: PathBuf,
        /// The file's mode.
        mode: u32,
    },
    /// lastgood was not started with credentials.
    #[error("secret {name} is a systemd credential, but $CREDENTIALS_DIRECTORY is not set")]
    NoCredentials {
        /// Its name.
        name: String,
    },
    /// It is empty or far too large.
    #[error("secret {name} in {} is empty or larger than 64 KiB", path.display())]
    Size {
        /// Its name.
        name: String,
        /// The file.
        path: PathBuf,
    },
}

impl Coded for SecretError {
    fn code(&self) -> &'static str {
        match self {
            Self::Source { .. } | Self::Size { .. } => "secret-wrong",
            Self::Unreadable { .. } | Self::NoCredentials { .. } => "secret-unreadable",
            Self::Exposed { .. } => "secret-exposed",
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Source { name } => format!("[secret.{name}] file = \"/etc/lastgood/{name}\""),
            Self::Unreadable { path, .. } | Self::Size { path, .. } => format!("ls -l {}", path.display()),
            Self::Exposed { path, .. } => format!("chmod 600 {}", path.display()),
            Self::NoCredentials { name } => format!("add LoadCredential={name}:FILE to lastgood's unit, or use `file`"),
        })
    }
}

impl Secrets {
    /// Reads every secret; relative files start at `folder`.
    pub fn load(sources: &BTreeMap<String, SecretSource>, folder: &Path) -> Result<Self, SecretError> {
        let mut by_name = BTreeMap::new();
        for (name, source) in sources {
            by_name.insert(name.clone(), load(name, source, folder)?);
        }
        Ok(Self { by_name: Arc::new(by_name) })
    }

    /// Gives one secret.
    pub fn get(&self, name: &str) -> Option<&Secret> {
        self.by_name.get(name)
    }

    /// Gives the names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// Takes every secret out of a text, also where it was encoded for JSON, URLs or Basic authentication.
    pub fn scrub(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, secret) in self.by_name.iter() {
            if secret.0.chars().count() < SCRUBBED_CHARS_MIN {
                continue;
            }
            for form in forms(&secret.0) {
                if text.contains(&form) {
                    text = text.replace(&form, &format!("[secret {name}]"));
                }
            }
        }
        text
    }
}

fn forms(secret: &str) -> Vec<String> {
    let json = serde_json::to_string(secret).unwrap_or_default();
    let json = json.trim_matches('"').to_owned();
    let url: String = secret
        .bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => (byte as char).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect();
    // The longest first: what is left of a longer form must not hide a shorter one's start.
    let mut forms = vec![secret.to_owned(), json, url, BASE64_STANDARD.encode(secret)];
    forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
    forms.dedup();
    forms
}

fn load(name: &str, source: &SecretSource, folder: &Path) -> Result<Secret, SecretError> {
    let path = match (&source.file, &source.credential) {
        (Some(file), None) => folder.join(file),
        (None, Some(credential)) => match env::var_os("CREDENTIALS_DIRECTORY") {
            Some(directory) => Path::new(&directory).join(credential),
            None => return Err(SecretError::NoCredentials { name: name.into() }),
        },
        _ => return Err(SecretError::Source { name: name.into() }),
    };
    let unreadable = |source| SecretError::Unreadable { name: name.into(), path: path.clone(), source };
    let meta = fs::metadata(&path).map_err(unreadable)?;
    let mode = meta.permissions().mode() & 0o777;
    if mode & 0o007 != 0 {
        return Err(SecretError::Exposed { name: name.into(), path, mode });
    }
    if meta.len() == 0 || meta.len() > SECRET_BYTES_MAX {
        return Err(SecretError::Size { name: name.into(), path });
    }
    let text = fs::read_to_string(&path).map_err(unreadable)?;
    match text.lines().next().map(str::trim_end) {
        Some(line) if !line.is_empty() => Ok(Secret(line.to_owned())),
        _ => Err(SecretError::Size { name: name.into(), path }),
    }
}
