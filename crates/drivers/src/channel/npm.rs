//! Releases from an npm registry, through the ordinary npm with the user's own settings.

use super::{
    ChannelError, Fetched,
    client::{Call, said},
    deadline::Deadline,
    is_in,
    order::{Order, Pattern},
    settle::{Readers, settle},
    staging::Staging,
    tree::digest_file,
    unpack::{Limits, refuse_bomb},
};
use base64::Engine as _;
use lastgood_domain::{
    facts::Offer,
    terms::{ReleaseTag, Timestamp},
};
use node_semver::{Range, Version};
use serde::Deserialize;
use sha2::Digest as _;
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

/// Dist-tags that stand for finished versions and are never part of a version's label.
const FINISHED_TAGS: [&str; 3] = ["latest", "lts", "stable"];
/// Largest package.json read: npm itself refuses to publish much smaller ones.
const PACKAGE_FILE_BYTES_MAX: u64 = 4 << 20;

#[derive(Debug, Clone)]
pub(crate) struct Npm {
    package: String,
    choice: Choice,
}

/// Which of the package's versions are followed.
#[derive(Debug, Clone)]
enum Choice {
    Tag { tag: String, any_label: bool },
    Range { text: String, range: Range },
    Matching { text: String, pattern: Pattern },
}

/// What npm tells of a package.
#[derive(Deserialize)]
struct Package {
    #[serde(rename = "dist-tags", default)]
    tags: BTreeMap<String, String>,
    #[serde(default)]
    versions: OneOrMore,
}

/// npm gives a list of one as the one alone.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    More(Vec<String>),
    One(String),
}

impl Default for OneOrMore {
    fn default() -> Self {
        Self::More(Vec::new())
    }
}

/// What npm tells of one version.
#[derive(Deserialize)]
struct OneVersion {
    version: String,
    #[serde(rename = "dist.integrity")]
    integrity: Option<String>,
    #[serde(default)]
    time: BTreeMap<String, String>,
}

impl Npm {
    pub(crate) fn new(
        package: &str,
        tag: Option<&str>,
        range: Option<&str>,
        matching: Option<&str>,
        any_label: bool,
    ) -> Result<Self, String> {
        let plain = |text: &str| {
            !text.is_empty()
                && !text.starts_with(['.', '-', '_'])
                && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '~'))
        };
        let named = match package.strip_prefix('@') {
            Some(scoped) => scoped.split_once('/').is_some_and(|(scope, name)| plain(scope) && plain(name)),
            None => plain(package),
        };
        if !named || package.len() > 214 {
            return Err(format!("npm = {package:?} is not a package's name, such as \"@actual-app/sync-server\""));
        }
        if any_label && (range.is_some() || matching.is_some()) {
            return Err("any_label goes with tag only".into());
        }
        let choice = match (tag, range, matching) {
            (tag, None, None) => {
                let tag = tag.unwrap_or("latest");
                if !plain(tag) || Range::parse(tag).is_ok() {
                    return Err(format!("tag = {tag:?} is not a dist-tag; for versions use range = \"^26\""));
                }
                Choice::Tag { tag: tag.into(), any_label }
            }
            (None, Some(text), None) => Choice::Range { text: text.into(), range: parse_range(text)? },
            (None, None, Some(text)) => match (Pattern::new(text), text.contains(['^', '~', '<', '>', '=', ' '])) {
                (Ok(pattern), false) => Choice::Matching { text: text.into(), pattern },
                _ => Choice::Range { text: text.into(), range: parse_range(text)? },
            },
            _ => return Err("give one of tag, range and matching".into()),
        };
        Ok(Self { package: package.into(), choice })
    }

    pub(crate) fn name(&self) -> String {
        format!("npm:{}", self.package)
    }

    fn wanted(&self) -> String {
        match &self.choice {
            Choice::Tag { tag, .. } => format!("tag {tag}"),
            Choice::Range { text, .. } => format!("range {text}"),
            Choice::Matching { text, .. } => format!("matching {text}"),
        }
    }

    pub(crate) fn belongs(&self, tag: &str) -> Result<(), String> {
        let version = Version::parse(tag).map_err(|_| format!("{tag} is not a version as npm writes it"))?;
        let fits = match &self.choice {
            Choice::Tag { any_label: true, .. } => true,
            Choice::Tag { tag: name, .. } if FINISHED_TAGS.contains(&name.as_str()) => {
                if version.is_prerelease() {
                    return Err(format!(
                        "{tag} is a pre-release, and the dist-tag {name} stands for finished versions; \
                         any_label = true takes it all the same"
                    ));
                }
                true
            }
            Choice::Tag { tag: name, .. } => {
                if !has_label(tag, name) {
                    return Err(format!(
                        "{tag} has no {name:?} in its pre-release or build label, so it is no {name} build; \
                         any_label = true takes it all the same"
                    ));
                }
                true
            }
            Choice::Range { range, .. } => range.satisfies(&version),
            Choice::Matching { pattern, .. } => pattern.fits(tag, Order::Semver),
        };
        if fits { Ok(()) } else { Err(format!("{tag} is not in {}", self.wanted())) }
    }

    pub(crate) fn newest(&self, except: &[ReleaseTag], deadline: &Deadline<'_>) -> Result<Offer, ChannelError> {
        let nothing = || ChannelError::NothingOffered { channel: self.name(), wanted: self.wanted() };
        let answer = self
            .npm("view", &deadline.context().folder, deadline)
            .args(["view", &self.package, "dist-tags", "versions", "--json"])
            .run()
            .map_err(|error| if is_missing(&error) { nothing() } else { error })?;
        let package: Package = self.read(&answer)?;
        let version = match &self.choice {
            Choice::Tag { tag, .. } => package.tags.get(tag).filter(|version| !is_in(except, version)).cloned(),
            Choice::Range { .. } | Choice::Matching { .. } => {
                let versions = match package.versions {
                    OneOrMore::More(versions) => versions,
                    OneOrMore::One(version) => vec![version],
                };
                newest_of(
                    versions.into_iter().filter(|version| !is_in(except, version) && self.belongs(version).is_ok()),
                )
            }
        };
        let tag = version.and_then(|version| ReleaseTag::new(&version).ok()).ok_or_else(nothing)?;
        self.offer_of(&tag, deadline)
    }

    pub(crate) fn offer_of(&self, tag: &ReleaseTag, deadline: &Deadline<'_>) -> Result<Offer, ChannelError> {
        let gone = || ChannelError::ReleaseGone { channel: self.name(), tag: tag.clone() };
        // npm would take a dist-tag or a range here and answer with another version.
        Version::parse(tag.as_str()).map_err(|_| gone())?;
        let answer = self
            .npm("view", &deadline.context().folder, deadline)
            .args(["view", &self.spec(tag), "version", "dist.integrity", "time", "--json"])
            .run()
            .map_err(|error| if is_missing(&error) { gone() } else { error })?;
        if answer.trim_ascii().is_empty() {
            return Err(gone());
        }
        let told: OneVersion = self.read(&answer)?;
        if told.version != tag.as_str() {
            return Err(gone());
        }
        let published = told.time.get(tag.as_str()).and_then(|text| text.parse::<jiff::Timestamp>().ok());
        Ok(Offer {
            tag: tag.clone(),
            origin: self.name(),
            mark: told.integrity,
            published: published.map(|at| Timestamp(at.as_millisecond())),
        })
    }

    fn spec(&self, tag: &ReleaseTag) -> String {
        format!("{}@{tag}", self.package)
    }

    pub(crate) fn fetch(
        &self,
        offer: &Offer,
        staging: &Staging<'_>,
        limits: Limits,
        deadline: &Deadline<'_>,
    ) -> Result<Fetched, ChannelError> {
        let gone = || ChannelError::ReleaseGone { channel: self.name(), tag: offer.tag.clone() };
        Version::parse(offer.tag.as_str()).map_err(|_| gone())?;
        let (fetched, tree) = (staging.fetched(), staging.tree());
        self.npm("pack", &fetched, deadline)
            .making(staging.folder())
            .args(["pack", &self.spec(&offer.tag), "--json", "--pack-destination", "."])
            .run()
            .map_err(|error| if is_missing(&error) { gone() } else { error })?;
        let tarball = the_only_file(&fetched, "npm pack")?;
        let (_, digest) = digest_file(&tarball, limits.bytes_max, Some(deadline))?;
        self.compare_integrity(offer, &tarball)?;
        refuse_bomb(&tarball, limits, deadline)?;
        let relative = format!("../fetched/{}", tarball.file_name().unwrap_or_default().to_string_lossy());
        self.npm("install", &tree, deadline)
            .making(staging.folder())
            // Never --global: the tree must hold everything and be movable.
            .args(["install", "--prefix", ".", "--location=project", "--ignore-scripts=false", "--omit=dev"])
            .args(["--no-audit", "--no-fund", "--no-update-notifier", &relative])
            .run()?;
        settle(&tree, staging.folder(), Readers::Everyone, limits, deadline)?;
        Ok(Fetched { artefact: Some(digest), version: Some(self.installed_version(offer, &tree)?) })
    }

    /// Compares the tarball with the integrity that the registry announced before.
    fn compare_integrity(&self, offer: &Offer, tarball: &Path) -> Result<(), ChannelError> {
        let Some(announced) = &offer.mark else { return Ok(()) };
        let Some(expected) = announced.split_whitespace().find(|one| one.starts_with("sha512-")) else {
            // Very old packages have only SHA-1; npm compared that itself.
            return Ok(());
        };
        let mut hash = sha2::Sha512::new();
        let failed = |error| ChannelError::io("read", tarball, error);
        let mut file = File::open(tarball).map_err(failed)?;
        let mut chunk = vec![0; 256 << 10];
        loop {
            match file.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => hash.update(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
        let fetched = format!("sha512-{}", base64::prelude::BASE64_STANDARD.encode(hash.finalize()));
        if fetched == expected {
            return Ok(());
        }
        Err(ChannelError::DigestMismatch {
            channel: self.name(),
            tag: offer.tag.clone(),
            announced: announced.clone(),
            fetched,
        })
    }

    fn installed_version(&self, offer: &Offer, tree: &Path) -> Result<String, ChannelError> {
        let file = format!("node_modules/{}/package.json", self.package);
        let unreadable =
            |why: String| ChannelError::VersionUnreadable { tag: offer.tag.clone(), file: file.clone(), why };
        let mut text = Vec::new();
        File::open(tree.join(&file))
            .and_then(|open| open.take(PACKAGE_FILE_BYTES_MAX).read_to_end(&mut text))
            .map_err(|error| unreadable(error.to_string()))?;
        let package: serde_json::Value =
            serde_json::from_slice(&text).map_err(|error| unreadable(error.to_string()))?;
        match package["version"].as_str() {
            Some(version) => Ok(version.into()),
            None => Err(unreadable("it has no text called version".into())),
        }
    }

    fn read<T: serde::de::DeserializeOwned>(&self, answer: &[u8]) -> Result<T, ChannelError> {
        serde_json::from_slice(answer).map_err(|error| ChannelError::AnswerUnreadable {
            what: format!("npm view {}", self.package),
            why: error.to_string(),
            began: said(&answer[..answer.len().min(200)]),
        })
    }

    fn npm<'a>(&self, act: &str, folder: &Path, deadline: &'a Deadline<'a>) -> Call<'a> {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        Call::new("npm", folder, format!("npm {act} {}", self.package), deadline)
            .debian_package("npm")
            .registry_answer()
    }
}

fn parse_range(text: &str) -> Result<Range, String> {
    Range::parse(text).map_err(|_| format!("{text:?} is not a range as npm writes them, such as \"^26\""))
}

/// Tells whether `name` is in the pre-release or build label of `version`, as a word of its own.
fn has_label(version: &str, name: &str) -> bool {
    let label = version.split_once(['-', '+']).map_or("", |(_, label)| label);
    let bounded = |at: usize| {
        let outside = |c: Option<char>| c.is_none_or(|c| !c.is_ascii_alphabetic());
        outside(label[..at].chars().next_back()) && outside(label[at + name.len()..].chars().next())
    };
    label.match_indices(name).any(|(at, _)| bounded(at))
}

fn newest_of(versions: impl Iterator<Item = String>) -> Option<String> {
    versions
        .filter_map(|text| Some((Version::parse(&text).ok()?, text)))
        .max_by(|one, other| one.0.cmp(&other.0))
        .map(|(_, text)| text)
}

fn is_missing(error: &ChannelError) -> bool {
    matches!(error, ChannelError::ClientFailed { output, .. } if output.contains("E404") || output.contains("ETARGET"))
}

/// Gives the one file a client put into `folder`.
pub(crate) fn the_only_file(folder: &Path, what: &str) -> Result<PathBuf, ChannelError> {
    let failed = |error| ChannelError::io("read the folder", folder, error);
    let items: Vec<_> = fs::read_dir(folder).map_err(failed)?.take(2).collect::<Result<_, _>>().map_err(failed)?;
    match items.as_slice() {
        [one] => Ok(one.path()),
        other => Err(ChannelError::AnswerUnreadable {
            what: what.into(),
            why: format!("it left {} files instead of one", other.len()),
            began: String::new(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn npm(tag: Option<&str>, range: Option<&str>, matching: Option<&str>) -> Npm {
        Npm::new("@actual-app/sync-server", tag, range, matching, false).unwrap()
    }

    #[test]
    fn a_tag_called_nightly_takes_nightly_builds_only() {
        let nightly = npm(Some("nightly"), None, None);
        assert_eq!(nightly.belongs("26.10.0-nightly.20241001"), Ok(()));
        assert_eq!(nightly.belongs("26.10.0+nightly.7"), Ok(()));
        assert!(nightly.belongs("26.10.0").is_err());
        assert!(nightly.belongs("26.10.0-rc.1").is_err());
        assert!(nightly.belongs("26.10.0-fortnightly.1").is_err());
        let any = Npm::new("a", Some("nightly"), None, None, true).unwrap();
        assert_eq!(any.belongs("26.10.0"), Ok(()));
    }

    #[test]
    fn a_pre_release_under_the_tag_latest_does_not_belong() {
        assert_eq!(npm(None, None, None).belongs("26.9.0"), Ok(()));
        assert!(npm(None, None, None).belongs("26.10.0-nightly.1").is_err());
    }

    #[test]
    fn ranges_and_patterns_take_pre_releases_only_by_name() {
        let newest = |npm: &Npm, versions: &[&str]| {
            newest_of(versions.iter().map(ToString::to_string).filter(|version| npm.belongs(version).is_ok()))
        };
        let all = ["25.9.0", "26.9.0", "26.10.0", "26.11.0-rc.1", "27.0.0"];
        assert_eq!(newest(&npm(None, Some("^26"), None), &all).as_deref(), Some("26.10.0"));
        assert_eq!(newest(&npm(None, Some(">=26.11.0-rc.0 <26.12.0"), None), &all).as_deref(), Some("26.11.0-rc.1"));
        assert_eq!(newest(&npm(None, None, Some("26.*")), &all).as_deref(), Some("26.10.0"));
        assert_eq!(newest(&npm(None, None, Some("26.*-rc*")), &all).as_deref(), Some("26.11.0-rc.1"));
        assert_eq!(newest(&npm(None, None, Some("<26")), &all).as_deref(), Some("25.9.0"));
        assert_eq!(newest(&npm(None, Some("^28"), None), &all), None);
    }

    #[test]
    fn names_that_npm_would_read_as_something_else_are_refused() {
        for bad in ["", "-g", "../x", "a b", "file:x", "@a", "@a/b/c", "a@1", "https://x"] {
            assert!(Npm::new(bad, None, None, None, false).is_err(), "{bad:?} was accepted");
        }
        assert!(Npm::new("a", Some("^1"), None, None, false).is_err());
        assert!(Npm::new("a", Some("latest"), Some("^1"), None, false).is_err());
    }
}
