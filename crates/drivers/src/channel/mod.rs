//! Where releases come from.
//!
//! A channel answers two questions, what is newest and what is this one, and installs a release beside the
//! others. It decides nothing: whether an offer is taken is decided elsewhere, from the facts given here.

mod client;
mod command;
mod config;
mod deadline;
mod directory;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod git;
mod git_tag;
mod inside;
mod installation;
mod launcher;
mod npm;
mod order;
mod policy;
mod pypi;
mod refusal;
mod settle;
mod staging;
mod tree;
mod unpack;

pub use config::ChannelKeys;
pub use error::ChannelError;
pub use installation::{Verified, discard, verify_fast, verify_full};
pub use policy::{DigestPin, PassedIn, PolicyConfig, PolicyProblem, SignedBy};
pub use refusal::Refusal;
pub use tree::{Entry, Kind, Manifest};
pub use unpack::Limits;

use crate::config_terms::Length;
use deadline::Deadline;
use lastgood_domain::{
    facts::{Installation, Offer, Standing},
    provenance::Provenance,
    terms::{Digest, Release, ReleaseTag},
};
use order::Order;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use staging::{Installations, Staging};
use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
};

/// Largest file read for a version: a package.json of a large service has some 100 KiB.
const VERSION_FILE_BYTES_MAX: u64 = 1 << 20;

/// The circumstances a channel works in.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// The folder that relative paths and programs of the configuration start at: that of lastgood.toml.
    pub folder: PathBuf,
    /// Set to end whatever runs, soon and without a trace.
    pub cancelled: Arc<AtomicBool>,
}

/// A channel as configured and checked.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "ChannelKeys", into = "ChannelKeys")]
pub struct ChannelConfig {
    source: Source,
    version_file: Option<String>,
    timeout: Length,
    install_timeout: Length,
    limits: Limits,
    keys: ChannelKeys,
}

#[derive(Debug, Clone)]
enum Source {
    Npm(npm::Npm),
    Pypi(pypi::Pypi),
    Directory(directory::Directory),
    Git(git::Git),
    Command(command::Command),
}

/// What a driver put into the hidden folder's tree.
struct Fetched {
    /// Digest of the artefact as fetched; none where the tree itself is the artefact.
    artefact: Option<Digest>,
    /// The version the program states by itself.
    version: Option<String>,
}

impl PartialEq for ChannelConfig {
    fn eq(&self, other: &Self) -> bool {
        self.keys == other.keys
    }
}

impl ChannelConfig {
    /// Asks for the newest release that fits.
    pub fn newest(&self, context: &Context) -> Result<Offer, ChannelError> {
        self.ask(&[], context)
    }

    /// Asks for the newest release that fits and is none of `except`; `None` if there is no other.
    ///
    /// A dist-tag, a `LATEST` file and a command name one release and no other.
    pub fn newest_but(&self, except: &[ReleaseTag], context: &Context) -> Result<Option<Offer>, ChannelError> {
        match self.ask(except, context) {
            Err(ChannelError::NothingOffered { .. }) if !except.is_empty() => Ok(None),
            asked => asked.map(Some),
        }
    }

    fn ask(&self, except: &[ReleaseTag], context: &Context) -> Result<Offer, ChannelError> {
        let deadline = Deadline::start(format!("asking {}", self.name()), self.timeout, context);
        match &self.source {
            Source::Npm(npm) => npm.newest(except, &deadline),
            Source::Pypi(pypi) => pypi.newest(except, &deadline),
            Source::Directory(directory) => directory.newest(except, self.limits, &deadline),
            Source::Git(git) => git.newest(except, &deadline),
            Source::Command(command) => command.newest(except, &deadline),
        }
    }

    /// Asks for one exact release, for a pin; whether it belongs to the channel is asked by [`Self::belongs`].
    pub fn offer_of(&self, tag: &ReleaseTag, context: &Context) -> Result<Offer, ChannelError> {
        let deadline = Deadline::start(format!("asking {} for {tag}", self.name()), self.timeout, context);
        match &self.source {
            Source::Npm(npm) => npm.offer_of(tag, &deadline),
            Source::Pypi(pypi) => pypi.offer_of(tag, &deadline),
            Source::Directory(directory) => directory.offer_of(tag, self.limits, &deadline),
            Source::Git(git) => git.offer_of(tag, &deadline),
            Source::Command(command) => Ok(command.offer_of(tag)),
        }
    }

    /// Tells how `candidate` stands to `known`, by the channel's own order of versions.
    pub fn standing(&self, candidate: &ReleaseTag, known: &ReleaseTag) -> Standing {
        self.order().standing(candidate.as_str(), known.as_str())
    }

    fn order(&self) -> Order {
        match self.source {
            Source::Npm(_) => Order::Semver,
            Source::Pypi(_) => Order::Pep440,
            Source::Directory(_) | Source::Git(_) | Source::Command(_) => Order::Natural,
        }
    }

    /// Tells why `tag` is not of this channel, if it is not: a channel called nightly gives nightly builds.
    pub fn belongs(&self, tag: &ReleaseTag) -> Result<(), String> {
        match &self.source {
            Source::Npm(npm) => npm.belongs(tag.as_str()),
            Source::Pypi(pypi) => pypi.belongs(tag.as_str()),
            Source::Directory(directory) => directory.belongs(tag.as_str()),
            Source::Git(git) => git.belongs(tag.as_str()),
            // Whatever the command names is the channel.
            Source::Command(_) => Ok(()),
        }
    }

    /// Names the channel without credentials: `npm:@actual-app/sync-server`.
    pub fn name(&self) -> String {
        match &self.source {
            Source::Npm(npm) => npm.name(),
            Source::Pypi(pypi) => pypi.name(),
            Source::Directory(directory) => directory.name(),
            Source::Git(git) => git.name(),
            Source::Command(command) => command.name(),
        }
    }

    /// Installs what `offer` offers beside the others in the folder `installations`.
    ///
    /// Doing it again finds the same installation; a kill at any point leaves nothing that is seen, and the
    /// next call removes it. Nothing is ever installed over another. Waits its turn if another process
    /// installs into the same folder.
    pub fn install(
        &self,
        offer: &Offer,
        installations: &Path,
        context: &Context,
    ) -> Result<Installation, ChannelError> {
        let what = format!("installing {} from {}", offer.tag, self.name());
        let deadline = Deadline::start(what, self.install_timeout, context);
        let installations = Installations::open(installations, &deadline)?;
        if let Some(found) = installations.find(offer)? {
            return Ok(found);
        }
        let made = installations.stage(&offer.tag).and_then(|staging| self.make(offer, staging, &deadline));
        made.map_err(|error| match error {
            // The hidden folder is gone by now; the disk is what the reader can look at.
            ChannelError::NoSpace { .. } => ChannelError::NoSpace { path: installations.folder().into() },
            other => other,
        })
    }

    /// Finds out of `offer` what `policy` asks of its tag; what another environment says of it is asked elsewhere.
    ///
    /// A git tag is fetched anew into a hidden folder of `installations`, which is removed again.
    pub fn attest(
        &self,
        offer: &Offer,
        policy: &PolicyConfig,
        installations: &Path,
        context: &Context,
    ) -> Result<Provenance, ChannelError> {
        let what = format!("looking where {} from {} comes from", offer.tag, self.name());
        let deadline = Deadline::start(what, self.install_timeout, context);
        let fits = policy.fits(&offer.tag, self.order());
        let git_tag = match &self.source {
            Source::Git(git) if policy.asks_for_git_tag() => {
                let installations = Installations::open(installations, &deadline)?;
                let staging = installations.stage(&offer.tag)?;
                Some(git.attest(&offer.tag, policy.signed_by(), &staging, &deadline)?)
            }
            _ => None,
        };
        Ok(Provenance { fits, git_tag, environment: None })
    }

    /// Lists the whole installations in a folder, ordered by name.
    pub fn installed(installations: &Path) -> Result<Vec<Installation>, ChannelError> {
        staging::published(installations)
    }

    fn make(&self, offer: &Offer, staging: Staging<'_>, deadline: &Deadline<'_>) -> Result<Installation, ChannelError> {
        let fetched = match &self.source {
            Source::Npm(npm) => npm.fetch(offer, &staging, self.limits, deadline)?,
            Source::Pypi(pypi) => pypi.fetch(offer, &staging, self.limits, deadline)?,
            Source::Directory(directory) => directory.fetch(offer, &staging, self.limits, deadline)?,
            Source::Git(git) => git.fetch(offer, &staging, self.limits, deadline)?,
            Source::Command(command) => command.fetch(offer, &staging, self.limits, deadline)?,
        };
        let version = self.version(&offer.tag, &fetched, &staging.tree())?;
        let manifest = tree::read_tree(&staging.tree(), self.limits, deadline)?;
        if manifest.entries.is_empty() {
            return Err(ChannelError::Refused { what: offer.tag.to_string(), source: Refusal::Empty });
        }
        let digest = fetched.artefact.unwrap_or_else(|| manifest.tree());
        self.compare_mark(offer, &digest)?;
        deadline.check()?;
        let release = Release { tag: offer.tag.clone(), digest, origin: offer.origin.clone() };
        staging.publish(release, version, offer.mark.clone(), &manifest)
    }

    /// Refuses a digest other than the announced one; marks that are no SHA-256 were compared by their driver.
    fn compare_mark(&self, offer: &Offer, digest: &Digest) -> Result<(), ChannelError> {
        match offer.mark.as_deref().and_then(|mark| mark.parse::<Digest>().ok()) {
            Some(announced) if announced != *digest => Err(ChannelError::DigestMismatch {
                channel: self.name(),
                tag: offer.tag.clone(),
                announced: announced.to_string(),
                fetched: digest.to_string(),
            }),
            _ => Ok(()),
        }
    }

    /// Gives the version the installed program states; the tag where it states none.
    fn version(&self, tag: &ReleaseTag, fetched: &Fetched, tree: &Path) -> Result<String, ChannelError> {
        let stated = match (&fetched.version, &self.version_file) {
            (Some(version), _) => version.clone(),
            (None, Some(file)) => read_version(tag, tree, file)?,
            (None, None) => return Ok(tag.to_string()),
        };
        let bare = |text: &str| text.strip_prefix('v').unwrap_or(text).to_owned();
        let same = stated == tag.as_str() || bare(&stated) == bare(tag.as_str());
        if same { Ok(stated) } else { Err(ChannelError::VersionMismatch { tag: tag.clone(), found: stated }) }
    }
}

/// Tells whether `tag` is one of those that were left out of the question.
fn is_in(except: &[ReleaseTag], tag: &str) -> bool {
    except.iter().any(|one| one.as_str() == tag)
}

fn read_version(tag: &ReleaseTag, tree: &Path, file: &str) -> Result<String, ChannelError> {
    let unreadable = |why: String| ChannelError::VersionUnreadable { tag: tag.clone(), file: file.into(), why };
    let at = tree.join(file);
    // A link could lead anywhere; only a plain file of the release states its version.
    let real = at.canonicalize().map_err(|error| unreadable(error.to_string()))?;
    let root = tree.canonicalize().map_err(|error| ChannelError::io("find", tree, error))?;
    if !real.starts_with(&root) || !real.is_file() {
        return Err(unreadable("it is not a file of the release".into()));
    }
    let mut text = String::new();
    File::open(&real)
        .and_then(|open| open.take(VERSION_FILE_BYTES_MAX).read_to_string(&mut text))
        .map_err(|error| unreadable(error.to_string()))?;
    let version = if file.ends_with(".json") {
        let json: serde_json::Value = serde_json::from_str(&text).map_err(|error| unreadable(error.to_string()))?;
        json["version"].as_str().ok_or_else(|| unreadable("it has no text called version".into()))?.to_owned()
    } else {
        text.lines().next().unwrap_or_default().trim().to_owned()
    };
    if version.is_empty() || version.len() > 128 {
        return Err(unreadable("its first line is not a version".into()));
    }
    Ok(version)
}
