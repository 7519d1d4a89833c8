//! Secrets: read from files that only their owner reads, and taken out of everything that is shown.

use base64::{Engine as _, engine::general_purpose as base64_forms};
use lastgood_domain::failure::Coded;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fmt,
    fs::OpenOptions,
    io::{self, Read as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

/// Largest secret in bytes: a certificate with its key has some 10 KiB.
const SECRET_BYTES_MAX: u64 = 64 << 10;
/// Shortest encoded form that is looked for: shorter ones would be found in ordinary words.
const FORM_CHARS_MIN: usize = 4;
/// Shortest captured value that is taken out: shorter ones are numbers and names, not tokens.
const CAPTURE_CHARS_MIN: usize = 6;

/// Where one secret comes from; the secret itself never stands in lastgood.toml.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "SecretKeys", into = "SecretKeys")]
pub enum SecretSource {
    /// A file.
    File(PathBuf),
    /// A systemd credential.
    Credential(String),
}

/// Where one secret comes from. Exactly one of `file` and `credential` is given.
///
/// ```toml
/// [secret.login]
/// file = "/etc/lastgood/login"
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretKeys {
    /// A file that holds the secret and nothing else; a line break at its end does not count. Other users must have
    /// no rights to it (`chmod 600`). A relative path starts at the folder of lastgood.toml.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// Name of a systemd credential (`LoadCredential=` of the unit that runs lastgood).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
}

impl TryFrom<SecretKeys> for SecretSource {
    type Error = String;

    fn try_from(keys: SecretKeys) -> Result<Self, String> {
        match (keys.file, keys.credential) {
            (Some(file), None) if !file.as_os_str().is_empty() => Ok(Self::File(file)),
            (None, Some(name)) if !name.is_empty() && !name.contains('/') && !name.starts_with('.') => {
                Ok(Self::Credential(name))
            }
            _ => Err("a secret has file = \"/etc/lastgood/login\" or credential = \"login\"".into()),
        }
    }
}

impl From<SecretSource> for SecretKeys {
    fn from(source: SecretSource) -> Self {
        match source {
            SecretSource::File(file) => Self { file: Some(file), credential: None },
            SecretSource::Credential(name) => Self { file: None, credential: Some(name) },
        }
    }
}

/// Tells why a secret can't be used; never says anything of its content.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Others can read or change it, so it is none.
    #[error("the secret {name} is open to every user of the machine: {} has mode {mode:03o}", .path.display())]
    Exposed {
        /// The secret.
        name: String,
        /// Its file.
        path: PathBuf,
        /// The permission bits.
        mode: u32,
    },
    /// It can't be read.
    #[error("the secret {name} can't be read from {}", .path.display())]
    Unreadable {
        /// The secret.
        name: String,
        /// Its file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What is there is no secret.
    #[error("the secret {name} can't be used: {} {why}", .path.display())]
    Unfit {
        /// The secret.
        name: String,
        /// Its file.
        path: PathBuf,
        /// Such as `is empty`.
        why: String,
    },
    /// systemd gave no credentials.
    #[error("the secret {name} is the credential {credential}, but there is no $CREDENTIALS_DIRECTORY")]
    NoCredentials {
        /// The secret.
        name: String,
        /// The credential.
        credential: String,
    },
}

impl Coded for SecretError {
    fn code(&self) -> &'static str {
        match self {
            Self::Exposed { .. } => "secret-exposed",
            Self::Unreadable { .. } => "secret-unreadable",
            Self::Unfit { .. } => "secret-unfit",
            Self::NoCredentials { .. } => "secret-no-credentials",
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Exposed { path, .. } => {
                format!("chmod 600 {}, and change the secret: others may have read it", path.display())
            }
            Self::Unreadable { path, .. } => {
                format!("look at it as the user lastgood runs as: ls -l {}", path.display())
            }
            Self::Unfit { path, .. } => format!("write the secret into it, and nothing else: {}", path.display()),
            Self::NoCredentials { credential, .. } => format!(
                "LoadCredential={credential}:/etc/lastgood/{credential} in the unit that runs lastgood, or use file = \"...\""
            ),
        })
    }
}

/// The secrets of the configuration. Cheap to clone; shows only their names.
#[derive(Clone, Default)]
pub struct Secrets {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    values: BTreeMap<String, String>,
    scrubber: Scrubber,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.inner.values.keys()).finish()
    }
}

impl Secrets {
    /// Reads every secret; relative files start at `folder`.
    ///
    /// Errors: the first that can't be used. A secret open to every user is an error, not a warning.
    pub fn load(sources: &BTreeMap<String, SecretSource>, folder: &Path) -> Result<Self, SecretError> {
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        Self::load_from(sources, folder, credentials.as_deref())
    }

    /// Reads every secret that can be used, and gives the first trouble with another: who only looks at some of them is
    /// not kept from it by the rest.
    pub fn load_usable(sources: &BTreeMap<String, SecretSource>, folder: &Path) -> (Self, Option<SecretError>) {
        let (mut usable, mut trouble) = (sources.clone(), None);
        for (name, source) in sources {
            if let Err(error) = Self::load(&BTreeMap::from([(name.clone(), source.clone())]), folder) {
                usable.remove(name);
                trouble = trouble.or(Some(error));
            }
        }
        match Self::load(&usable, folder) {
            Ok(secrets) => (secrets, trouble),
            // One of them changed just now.
            Err(error) => (Self::default(), Some(error)),
        }
    }

    fn load_from(
        sources: &BTreeMap<String, SecretSource>,
        folder: &Path,
        credentials: Option<&Path>,
    ) -> Result<Self, SecretError> {
        let mut values = BTreeMap::new();
        for (name, source) in sources {
            let path = match (source, credentials) {
                (SecretSource::File(file), _) => folder.join(file),
                (SecretSource::Credential(credential), Some(folder)) => folder.join(credential),
                (SecretSource::Credential(credential), None) => {
                    let (name, credential) = (name.clone(), credential.clone());
                    return Err(SecretError::NoCredentials { name, credential });
                }
            };
            values.insert(name.clone(), read(name, path)?);
        }
        let mut scrubber = Scrubber::default();
        for (name, value) in &values {
            scrubber.add(value, &format!("[secret {name}]"));
        }
        Ok(Self { inner: Arc::new(Inner { values, scrubber }) })
    }

    /// Gives the value of a secret.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.inner.values.get(name).map(String::as_str)
    }

    /// Takes every secret out of a text: as it is, and in its base64, URL-encoded and JSON-escaped forms.
    pub fn scrub(&self, text: &str) -> String {
        self.inner.scrubber.scrub(text)
    }

    /// Gives what takes these secrets out, to be extended with what a probe captures.
    pub(crate) fn scrubber(&self) -> Scrubber {
        self.inner.scrubber.clone()
    }
}

fn read(name: &str, path: PathBuf) -> Result<String, SecretError> {
    let unfit = |why: String| SecretError::Unfit { name: name.into(), path: path.clone(), why };
    let unreadable = |source| SecretError::Unreadable { name: name.into(), path: path.clone(), source };
    // Without waiting: a FIFO in its place must not hold up everything.
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(&path).map_err(unreadable)?;
    // Of the open file: the path may lead elsewhere a moment later.
    let facts = file.metadata().map_err(unreadable)?;
    if !facts.is_file() {
        return Err(unfit("is not a file".into()));
    }
    let mode = facts.permissions().mode() & 0o777;
    if mode & 0o007 != 0 {
        return Err(SecretError::Exposed { name: name.into(), path, mode });
    }
    if facts.len() > SECRET_BYTES_MAX {
        return Err(unfit(format!("has more than {SECRET_BYTES_MAX} bytes")));
    }
    let mut bytes = Vec::new();
    file.take(SECRET_BYTES_MAX).read_to_end(&mut bytes).map_err(unreadable)?;
    let text = String::from_utf8(bytes).map_err(|_| unfit("is not UTF-8 text".into()))?;
    let text = text.strip_suffix('\n').map(|text| text.strip_suffix('\r').unwrap_or(text)).unwrap_or(&text);
    if text.is_empty() { Err(unfit("is empty".into())) } else { Ok(text.into()) }
}

/// Takes known values out of texts, in every form they are likely to come back in.
#[derive(Clone, Default)]
pub(crate) struct Scrubber {
    /// Longest first, so that a value that holds another goes whole.
    forms: Vec<(String, String)>,
}

impl Scrubber {
    /// Takes out a value that a step captured, unless it is too short to be a token.
    pub(crate) fn add_captured(&mut self, name: &str, value: &str) {
        if value.chars().count() >= CAPTURE_CHARS_MIN {
            self.add(value, &format!("[captured {name}]"));
        }
    }

    /// Takes out the id of a session, however short it is.
    pub(crate) fn add_session(&mut self, id: &str) {
        self.add(id, "[captured session]");
    }

    /// Takes out a secret that has no name in the configuration.
    pub(crate) fn add_secret(&mut self, value: &str) {
        self.add(value, "[secret]");
    }

    fn add(&mut self, value: &str, label: &str) {
        let mut add = |form: String| {
            if !form.is_empty() && self.forms.iter().all(|(known, _)| *known != form) {
                self.forms.push((form, label.into()));
            }
        };
        add(value.into());
        encoded_forms(value).into_iter().filter(|form| form.len() >= FORM_CHARS_MIN).for_each(&mut add);
        // Stored with a name in front, sent back without its last line break: each line counts as well.
        value.lines().map(str::trim).filter(|line| line.len() >= 2 * FORM_CHARS_MIN).for_each(|line| add(line.into()));
        self.forms.sort_by(|(a, _), (b, _)| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    }

    /// Gives the text without them.
    pub(crate) fn scrub(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        // Where each form comes next: looked for anew only when it was passed, since a short one may be on every second place.
        let mut next: Vec<Option<usize>> = self.forms.iter().map(|(form, _)| text.find(form.as_str())).collect();
        let mut from = 0;
        // In one pass, so that a label is never scrubbed itself. Of those that start at the same place the longest.
        while let Some((at, (form, label))) = next
            .iter()
            .zip(&self.forms)
            .filter_map(|(at, form)| Some(((*at)?, form)))
            .min_by_key(|(at, (form, _))| (*at, usize::MAX - form.len()))
        {
            out.push_str(&text[from..at]);
            out.push_str(label);
            from = at + form.len();
            for (at, (form, _)) in next.iter_mut().zip(&self.forms).filter(|(at, _)| at.is_some_and(|at| at < from)) {
                *at = text[from..].find(form.as_str()).map(|found| from + found);
            }
        }
        let rest = &text[from..];
        // A text that ends within a secret (cut by its sender, or by us, which "…" shows) still says its beginning.
        let (rest, mark) = rest.strip_suffix('…').map_or((rest, ""), |rest| (rest, "…"));
        match self.forms.iter().filter_map(|(form, label)| Some((cut_at(rest, form)?, label))).min() {
            Some((at, label)) => out.extend([&rest[..at], label, mark]),
            None => out.extend([rest, mark]),
        }
        out
    }
}

/// Finds where a text ends in a beginning of a form.
fn cut_at(text: &str, form: &str) -> Option<usize> {
    let beginnings = (FORM_CHARS_MIN..form.len()).rev().filter_map(|length| form.get(..length));
    beginnings.filter_map(|beginning| text.strip_suffix(beginning)).map(str::len).next()
}

fn encoded_forms(value: &str) -> Vec<String> {
    let mut forms = Vec::new();
    forms.push(value.bytes().map(|byte| format!("{byte:02x}")).collect());
    forms.push(value.bytes().map(|byte| format!("{byte:02X}")).collect());
    // Within longer base64 (`user:password`) a value starts at any of three offsets; the characters at its edges
    // depend on the neighbours, the ones between don't.
    for engine in [&base64_forms::STANDARD_NO_PAD, &base64_forms::URL_SAFE_NO_PAD] {
        for offset in 0..3_usize {
            let mut bytes = vec![0; offset];
            bytes.extend_from_slice(value.as_bytes());
            let whole = engine.encode(&bytes);
            let (start, end) = ((offset * 8).div_ceil(6), bytes.len() * 8 / 6);
            forms.push(whole.get(start..end).unwrap_or_default().into());
        }
        forms.push(engine.encode(value));
    }
    let mut percent = String::new();
    super::variables::percent_encode(value, &mut percent);
    // Browsers leave these as they are.
    let loose = [("%21", "!"), ("%27", "'"), ("%28", "("), ("%29", ")"), ("%2A", "*")];
    let browser = loose.iter().fold(percent.clone(), |text, (escape, c)| text.replace(escape, c));
    for form in [percent, browser] {
        forms.push(lower_escapes(&form));
        forms.push(lower_escapes(&form).replace("%20", "+"));
        forms.push(form.replace("%20", "+"));
        forms.push(form);
    }
    let json = serde_json::Value::from(value).to_string();
    let json = json[1..json.len() - 1].to_owned();
    forms.push(json.replace('/', "\\/"));
    forms.push(ascii_json(&json));
    forms.push(json);
    let debug = format!("{value:?}");
    forms.push(debug[1..debug.len() - 1].to_owned());
    let html = value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
    forms.push(html.replace('\'', "&#39;"));
    forms.push(html.replace('\'', "&#x27;"));
    forms.push(html);
    forms
}

/// Writes `%2F` as `%2f`.
fn lower_escapes(percent: &str) -> String {
    let mut parts = percent.split('%');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (digits, rest) = part.split_at(part.len().min(2));
        out.push('%');
        out.push_str(&digits.to_ascii_lowercase());
        out.push_str(rest);
    }
    out
}

/// Writes what is not ASCII as `\\u` and four digits, as many servers do.
fn ascii_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            let mut units = [0; 2];
            c.encode_utf16(&mut units).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
        }
    }
    out
}
