//! Releases that are tags of a git repository, asked through the ordinary git.
//!
//! The installed tree is what was committed, byte for byte: no hooks, filters or line endings of this machine.

use super::{
    ChannelError, Fetched,
    client::{Call, scrub},
    deadline::Deadline,
    is_in,
    order::{Order, Pattern},
    staging::Staging,
    unpack::{Limits, unpack},
};
use lastgood_domain::{facts::Offer, terms::ReleaseTag};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Variables that point git at another repository, as a git hook or an outer call of git sets them.
const STRANGERS: [&str; 8] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
];
/// Turns off everything that makes the unpacked bytes differ from the committed ones.
const AS_COMMITTED: &str = "* -export-ignore -export-subst -text -eol -ident -filter -working-tree-encoding\n";

/// The repository that a tag is fetched into, in a hidden folder.
pub(crate) const REPOSITORY: &str = "repository";

#[derive(Debug, Clone)]
pub(crate) struct Git {
    address: String,
    tags: Option<Pattern>,
}

impl Git {
    pub(crate) fn new(address: &str, tags: Option<Pattern>) -> Result<Self, String> {
        if address.is_empty() || address.starts_with('-') || address.chars().any(char::is_control) {
            return Err(format!("git = {address:?} must be a path or an address of a repository"));
        }
        Ok(Self { address: address.into(), tags })
    }

    pub(crate) fn name(&self) -> String {
        format!("git:{}", scrub(&self.address))
    }

    pub(crate) fn belongs(&self, tag: &str) -> Result<(), String> {
        match &self.tags {
            Some(pattern) if !pattern.fits(tag, Order::Natural) => Err(format!("{tag} does not fit tags")),
            _ => Ok(()),
        }
    }

    pub(crate) fn newest(&self, except: &[ReleaseTag], deadline: &Deadline<'_>) -> Result<Offer, ChannelError> {
        let mut commits = self.commits(deadline)?;
        let fits = |tag: &&str| !is_in(except, tag) && self.belongs(tag).is_ok();
        let tags: Vec<&str> = commits.keys().map(String::as_str).filter(fits).collect();
        let newest = Order::Natural
            .newest(&tags)
            .map_err(|(first, second)| ChannelError::Unordered {
                channel: self.name(),
                first: first.into(),
                second: second.into(),
            })?
            .and_then(|tag| ReleaseTag::new(tag).ok())
            .ok_or_else(|| ChannelError::NothingOffered { channel: self.name(), wanted: "tags".into() })?;
        let mark = commits.remove(newest.as_str());
        Ok(Offer { tag: newest, origin: self.name(), mark, published: None })
    }

    pub(crate) fn offer_of(&self, tag: &ReleaseTag, deadline: &Deadline<'_>) -> Result<Offer, ChannelError> {
        match self.commits(deadline)?.remove(tag.as_str()) {
            Some(commit) => Ok(Offer { tag: tag.clone(), origin: self.name(), mark: Some(commit), published: None }),
            None => Err(self.gone(tag)),
        }
    }

    fn gone(&self, tag: &ReleaseTag) -> ChannelError {
        ChannelError::ReleaseGone { channel: self.name(), tag: tag.clone() }
    }

    /// Lists tags with the commit each leads to; a tag with a message lists that commit in a second line.
    fn commits(&self, deadline: &Deadline<'_>) -> Result<BTreeMap<String, String>, ChannelError> {
        let folder = folder_of(deadline);
        let address = self.full_address(&folder);
        let answer = git(&folder, "ls-remote", deadline).args(["ls-remote", "--tags", "--", &address]).run()?;
        let text = String::from_utf8_lossy(&answer);
        let mut commits = BTreeMap::new();
        for line in text.lines() {
            let Some((commit, tag)) = line.split_once("\trefs/tags/") else { continue };
            match tag.strip_suffix("^{}") {
                Some(tag) => drop(commits.insert(tag.into(), commit.into())),
                None if ReleaseTag::new(tag).is_ok() => drop(commits.entry(tag.into()).or_insert(commit.into())),
                None => {}
            }
        }
        Ok(commits)
    }

    /// Makes a relative path absolute; addresses stay as they are.
    fn full_address(&self, folder: &Path) -> String {
        let path = folder.join(&self.address);
        match std::path::absolute(&path) {
            Ok(absolute) if path.exists() => absolute.to_string_lossy().into_owned(),
            _ => self.address.clone(),
        }
    }

    /// Fetches one tag and what it leads to into a repository of its own; gives the commit.
    pub(crate) fn fetch_tag(
        &self,
        tag: &ReleaseTag,
        staging: &Staging<'_>,
        deadline: &Deadline<'_>,
    ) -> Result<String, ChannelError> {
        let name = tag.as_str();
        // git allows none of these in a name; in an offer they would name something else than a tag.
        if name.contains([':', '^', '~', '?', '*', '[', '\\']) || name.contains("..") || name.contains("@{") {
            return Err(self.gone(tag));
        }
        let folder = staging.fetched();
        let address = self.full_address(&folder_of(deadline));
        git(&folder, "init", deadline)
            .making(staging.folder())
            .args(["init", "--quiet", "--bare", "--template=", REPOSITORY])
            .run()?;
        let reference = reference(tag);
        own("fetch", staging, deadline)
            .args(["fetch", "--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules", "--"])
            .args([&address, &format!("+{reference}:{reference}")])
            .run()
            .map_err(|error| match error {
                ChannelError::ClientFailed { output, .. } if output.contains("couldn't find remote ref") => {
                    self.gone(tag)
                }
                other => other,
            })?;
        let answer = own("rev-parse", staging, deadline)
            .args(["rev-parse", "--verify", &format!("{reference}^{{commit}}")])
            .run()?;
        Ok(String::from_utf8_lossy(&answer).trim().to_owned())
    }

    pub(crate) fn fetch(
        &self,
        offer: &Offer,
        staging: &Staging<'_>,
        limits: Limits,
        deadline: &Deadline<'_>,
    ) -> Result<Fetched, ChannelError> {
        let folder = staging.fetched();
        let commit = self.fetch_tag(&offer.tag, staging, deadline)?;
        if let Some(announced) = offer.mark.as_ref().filter(|announced| **announced != commit) {
            return Err(ChannelError::DigestMismatch {
                channel: self.name(),
                tag: offer.tag.clone(),
                announced: announced.clone(),
                fetched: commit,
            });
        }
        let attributes = folder.join(REPOSITORY).join("info");
        fs::create_dir_all(&attributes)
            .and_then(|()| fs::write(attributes.join("attributes"), AS_COMMITTED))
            .map_err(|error| ChannelError::io("write", &attributes, error))?;
        own("archive", staging, deadline)
            .args(["-c", "tar.umask=0022", "archive", "--format=tar", "--output=release.tar", &commit])
            .run()?;
        unpack(&folder.join("release.tar"), &staging.tree(), limits, deadline)?;
        Ok(Fetched { artefact: None, version: None })
    }
}

/// Names a tag so that git takes it for nothing else.
pub(crate) fn reference(tag: &ReleaseTag) -> String {
    format!("refs/tags/{tag}")
}

/// Prepares git to work in the repository that [`Git::fetch_tag`] made.
pub(crate) fn own<'a>(act: &'static str, staging: &Staging<'_>, deadline: &'a Deadline<'a>) -> Call<'a> {
    git(&staging.fetched(), act, deadline).making(staging.folder()).args(["--git-dir", REPOSITORY])
}

fn folder_of(deadline: &Deadline<'_>) -> PathBuf {
    let folder = &deadline.context().folder;
    if folder.as_os_str().is_empty() { ".".into() } else { folder.clone() }
}

fn git<'a>(folder: &Path, act: &str, deadline: &'a Deadline<'a>) -> Call<'a> {
    let call = Call::new("git", folder, format!("git {act}"), deadline)
        .debian_package("git")
        .registry_answer()
        // A question for a password would wait for ever.
        .env("GIT_TERMINAL_PROMPT", "0")
        // We read its messages.
        .env("LC_ALL", "C");
    STRANGERS.iter().fold(call, |call, name| call.without_env(name))
}
