//! The keys of `channel = { ... }` in lastgood.toml, checked once into one of five kinds.

use super::{ChannelConfig, Source, command, directory, git, npm, order::Pattern, pypi, unpack::Limits};
use crate::config_terms::Length;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Time for one question to a channel: registries answer in seconds, and a check is repeated anyway.
const TIMEOUT: Length = Length::seconds(60);
/// Time for one install: a large dependency tree with native builds on a small machine.
const INSTALL_TIMEOUT: Length = Length::seconds(15 * 60);
/// Bytes of one release, dependencies included: 2 GiB is several times the largest services we know.
const BYTES_MAX: u64 = 2 << 30;
/// Files of one release, dependencies included: large node_modules folders have about 100,000.
const FILES_MAX: u64 = 200_000;

/// Where releases come from. Exactly one of `npm`, `pypi`, `directory`, `git` and `command` is given.
///
/// ```toml
/// channel = { npm = "@actual-app/sync-server", tag = "latest" }
/// channel = { npm = "@actual-app/sync-server", range = "^26" }
/// channel = { pypi = "isso", range = ">=0.12" }
/// channel = { directory = "/srv/releases", matching = "v*" }
/// channel = { git = "/srv/git/app.git", tags = "v*" }
/// channel = { command = ["./newest.sh"], fetch = ["./fetch.sh", "{tag}", "{into}"] }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChannelKeys {
    /// Name of an npm package. Asked and installed through `npm`, with your own npm settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    npm: Option<String>,
    /// Name of a Python project. Asked and installed through `pip`, with your own pip settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pypi: Option<String>,
    /// A folder in which each sub-folder, `.tar`, `.tar.gz` or `.tgz` is one release. Its name without the
    /// archive's ending is the tag. A file called `LATEST` in it, when there is one, names the current release;
    /// otherwise it is the newest by the numbers in the names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    directory: Option<PathBuf>,
    /// Path or address of a git repository; each tag is a release. Asked through `git`, with your own settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    git: Option<String>,
    /// Program with arguments that prints the newest release: its tag on one line, or one JSON object
    /// `{"tag": "1.2.3", "mark": "...", "published": "2026-01-31T12:00:00Z"}`. Needs `fetch`. No shell is
    /// involved; a relative program is looked up beside lastgood.toml, and it runs there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    command: Option<Vec<String>>,
    /// For `command`: program with arguments that puts the release `{tag}` into the empty folder `{into}`, either
    /// as files or as one `.tar`, `.tar.gz` or `.tgz`. `{mark}` is the mark, or nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fetch: Option<Vec<String>>,
    /// For `npm`: the dist-tag to follow, `latest` by default. The version of any other tag must carry the tag's
    /// name in its pre-release or build label, so that a tag called nightly gives nightly builds only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tag: Option<String>,
    /// For `npm` and `pypi`: the newest release within a range, such as `^26` (npm) or `>=0.12,<1` (PyPI).
    /// Pre-releases only if the range names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    range: Option<String>,
    /// For `npm`, `pypi` and `directory`: the newest release whose name fits a pattern, such as `26.*` or `v*`;
    /// for `npm` also a range. Pre-releases only if the pattern names them, such as `*-rc*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    matching: Option<String>,
    /// For `git`: a pattern of tags, such as `v*`; all tags by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tags: Option<String>,
    /// For `npm`: takes any version that the dist-tag gives, whatever its label. Default `false`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    any_label: bool,
    /// For `pypi`: the Python to install for and run with, `python3` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    python: Option<String>,
    /// A file of the release that states its version: its first line, or `version` of a `.json` file. An install
    /// whose version is not the tag's is refused. npm and PyPI releases state theirs without it; for others the
    /// tag is taken for the version where this is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version_file: Option<String>,
    /// Time for one question to the channel. Default `60s`.
    #[serde(default = "timeout")]
    timeout: Length,
    /// Time for one install, download included. Default `15m`.
    #[serde(default = "install_timeout")]
    install_timeout: Length,
    /// Most bytes one installed release may have, dependencies included. Default 2147483648 (2 GiB).
    #[serde(default = "bytes_max")]
    bytes_max: u64,
    /// Most files, folders and links one installed release may have. Default 200000.
    #[serde(default = "files_max")]
    files_max: u64,
}

fn timeout() -> Length {
    TIMEOUT
}

fn install_timeout() -> Length {
    INSTALL_TIMEOUT
}

fn bytes_max() -> u64 {
    BYTES_MAX
}

fn files_max() -> u64 {
    FILES_MAX
}

impl TryFrom<ChannelKeys> for ChannelConfig {
    type Error = String;

    fn try_from(keys: ChannelKeys) -> Result<Self, String> {
        let source = keys.source()?;
        keys.refuse_strangers(&source)?;
        if keys.timeout.0.0 == 0 || keys.install_timeout.0.0 == 0 {
            return Err("timeout and install_timeout must be longer than 0s".into());
        }
        if let Some(file) = &keys.version_file
            && !matches!(super::inside::clean(file.as_bytes()), Ok(Some(_)))
        {
            return Err(format!("version_file {file:?} must be a path within the release, such as \"VERSION\""));
        }
        Ok(Self {
            source,
            version_file: keys.version_file.clone(),
            timeout: keys.timeout,
            install_timeout: keys.install_timeout,
            limits: Limits { bytes_max: keys.bytes_max, files_max: keys.files_max },
            keys,
        })
    }
}

impl From<ChannelConfig> for ChannelKeys {
    fn from(config: ChannelConfig) -> Self {
        config.keys
    }
}

impl ChannelKeys {
    fn source(&self) -> Result<Source, String> {
        match (&self.npm, &self.pypi, &self.directory, &self.git, &self.command) {
            (Some(package), None, None, None, None) => npm::Npm::new(
                package,
                self.tag.as_deref(),
                self.range.as_deref(),
                self.matching.as_deref(),
                self.any_label,
            )
            .map(Source::Npm),
            (None, Some(project), None, None, None) => {
                pypi::Pypi::new(project, self.range.as_deref(), self.matching.as_deref(), self.python.as_deref())
                    .map(Source::Pypi)
            }
            (None, None, Some(folder), None, None) => {
                Ok(Source::Directory(directory::Directory::new(folder.clone(), pattern(self.matching.as_deref())?)))
            }
            (None, None, None, Some(address), None) => {
                git::Git::new(address, pattern(self.tags.as_deref())?).map(Source::Git)
            }
            (None, None, None, None, Some(check)) => {
                let fetch =
                    self.fetch.as_deref().ok_or("command needs fetch = [\"./fetch.sh\", \"{tag}\", \"{into}\"]")?;
                command::Command::new(check, fetch).map(Source::Command)
            }
            _ => Err("give exactly one of npm, pypi, directory, git and command, such as \
                      channel = { directory = \"/srv/releases\" }"
                .into()),
        }
    }

    /// Refuses keys that mean nothing for this kind: a limit that nobody applies looks like a limit.
    fn refuse_strangers(&self, source: &Source) -> Result<(), String> {
        let (kind, allowed): (_, &[&str]) = match source {
            Source::Npm(_) => ("npm", &["tag", "range", "matching", "any_label"]),
            Source::Pypi(_) => ("pypi", &["range", "matching", "python"]),
            Source::Directory(_) => ("directory", &["matching", "version_file"]),
            Source::Git(_) => ("git", &["tags", "version_file"]),
            Source::Command(_) => ("command", &["fetch", "version_file"]),
        };
        let given = [
            ("fetch", self.fetch.is_some()),
            ("tag", self.tag.is_some()),
            ("range", self.range.is_some()),
            ("matching", self.matching.is_some()),
            ("tags", self.tags.is_some()),
            ("any_label", self.any_label),
            ("python", self.python.is_some()),
            ("version_file", self.version_file.is_some()),
        ];
        match given.iter().find(|(key, given)| *given && !allowed.contains(key)) {
            Some((key, _)) => {
                Err(format!("{key} means nothing for a channel of kind {kind}; it takes {}", allowed.join(", ")))
            }
            None => Ok(()),
        }
    }
}

fn pattern(text: Option<&str>) -> Result<Option<Pattern>, String> {
    text.map(Pattern::new).transpose()
}
