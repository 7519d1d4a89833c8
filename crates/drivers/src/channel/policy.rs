//! The keys of `policy` in lastgood.toml: what a release must prove of where it comes from.

use super::{
    ChannelConfig, ChannelError, Source,
    git_tag::readable,
    order::{Order, Pattern},
};
use lastgood_domain::terms::{Digest, ReleaseTag, ServiceName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// What a release must prove of where it comes from before it is tried. What is left out is not asked.
///
/// ```toml
/// [service.app.policy]
/// tags = "v*"
/// signed_by = { ssh = "/etc/lastgood/allowed-signers" }
/// passed_in = "staging"
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyConfig {
    /// A pattern that the tag must fit, such as `v*`. The channel chooses what is offered; this refuses what is
    /// offered besides, by a pin as well. Pre-releases fit only a pattern that names them, such as `*-rc*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tags: Option<String>,
    /// For `git`: the tag must be an annotated one, made under this very name. Default `false`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    annotated: bool,
    /// For `git`: the tag must be signed by one of these keys, under this very name. Means `annotated` too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signed_by: Option<SignedBy>,
    /// Digests known from elsewhere, one for each tag. Where any is given, a tag without one waits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    digest: Vec<DigestPin>,
    /// The environment that must have promoted the very same bytes, and not have rejected them: a service of this
    /// file, such as `"staging"`, or one of another lastgood on this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    passed_in: Option<PassedIn>,
}

/// The keys that may sign a git tag; a key of either file is enough. Your own git and gpg settings don't count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SignedBy {
    /// An allowed-signers file as `ssh-keygen` and git read it. A relative path starts at the folder of this file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ssh: Option<PathBuf>,
    /// OpenPGP public keys as `gpg --export` writes them, with `--armor` or without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    openpgp: Option<PathBuf>,
}

/// One release's digest, known from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DigestPin {
    /// The release.
    #[schemars(with = "String")]
    tag: ReleaseTag,
    /// 64 hex digits: the SHA-256 that lastgood gives the release, as `lastgood log` and `lastgood plan` show it.
    sha256: String,
}

/// An environment that a release must have passed in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "expected the name of a service, or { state_dir = \"/var/lib/lastgood-staging\", service = \"app\" }"
)]
pub enum PassedIn {
    /// A service of this file.
    Here(#[schemars(with = "String")] ServiceName),
    /// A service of another lastgood, whose evidence can be read here.
    There {
        /// Its state folder. A relative path starts at the folder of this file.
        state_dir: PathBuf,
        /// The service's name there.
        #[schemars(with = "String")]
        service: ServiceName,
    },
}

/// What is wrong with a policy: the key, what, and a line that would work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyProblem {
    /// The key within `policy`.
    pub key: &'static str,
    /// What is wrong with it.
    pub what: String,
    /// A line that would work.
    pub example: &'static str,
}

impl PolicyConfig {
    /// Tells whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Checks what no single value shows.
    ///
    /// Errors: a pattern or digest that is none, or a demand that this kind of channel can't meet.
    pub fn check(&self, channel: &ChannelConfig) -> Result<(), PolicyProblem> {
        let problem = |key, what, example| Err(PolicyProblem { key, what, example });
        if let Some(pattern) = &self.tags
            && let Err(what) = Pattern::new(pattern)
        {
            return problem("tags", what, "tags = \"v*\"");
        }
        if self.asks_for_git_tag() && !matches!(channel.source, Source::Git(_)) {
            let what = format!("only git tags are annotated and signed, and the channel is {}", channel.name());
            return problem("signed_by", what, "channel = { git = \"https://git.example.org/app.git\" }");
        }
        if self.signed_by.as_ref().is_some_and(|by| by.ssh.is_none() && by.openpgp.is_none()) {
            return problem("signed_by", "no key may sign".into(), "signed_by = { ssh = \"/etc/lastgood/signers\" }");
        }
        for pin in &self.digest {
            if pin.digest().is_none() {
                let what = format!("the sha256 of {} is not 64 hex digits", pin.tag);
                return problem(
                    "digest",
                    what,
                    "[[service.NAME.policy.digest]] with tag = \"1.2.0\" and sha256 = \"…\"",
                );
            }
        }
        if self.digests().len() < self.digest.len() {
            let what = "a tag is there twice".into();
            return problem("digest", what, "[[service.NAME.policy.digest]] once for each tag");
        }
        Ok(())
    }

    /// Looks whether the files of allowed keys can be read; relative paths start at `folder`.
    ///
    /// Errors: [`ChannelError::SignersUnusable`] names the first that can't.
    pub fn check_files(&self, folder: &Path) -> Result<(), ChannelError> {
        let Some(by) = &self.signed_by else { return Ok(()) };
        by.ssh(folder).into_iter().chain(by.openpgp(folder)).try_for_each(|file| readable(&file))
    }

    /// Gives the pattern of tags.
    pub fn tags(&self) -> Option<&str> {
        self.tags.as_deref()
    }

    /// Tells whether the git tag must be annotated.
    pub const fn annotated(&self) -> bool {
        self.annotated
    }

    /// Gives the keys that may sign, if one must.
    pub const fn signed_by(&self) -> Option<&SignedBy> {
        self.signed_by.as_ref()
    }

    /// Gives the digests known from elsewhere.
    pub fn digests(&self) -> BTreeMap<ReleaseTag, Digest> {
        self.digest.iter().filter_map(|pin| Some((pin.tag.clone(), pin.digest()?))).collect()
    }

    /// Gives the environment that must have promoted a release.
    pub const fn passed_in(&self) -> Option<&PassedIn> {
        self.passed_in.as_ref()
    }

    pub(crate) const fn asks_for_git_tag(&self) -> bool {
        self.annotated || self.signed_by.is_some()
    }

    pub(crate) fn fits(&self, tag: &ReleaseTag, order: Order) -> Option<bool> {
        // A pattern that is none was refused with the configuration; here it fits nothing.
        let fits = |pattern: &String| Pattern::new(pattern).is_ok_and(|pattern| pattern.fits(tag.as_str(), order));
        self.tags.as_ref().map(fits)
    }
}

impl SignedBy {
    pub(crate) fn ssh(&self, folder: &Path) -> Option<PathBuf> {
        self.ssh.as_ref().map(|file| folder.join(file))
    }

    pub(crate) fn openpgp(&self, folder: &Path) -> Option<PathBuf> {
        self.openpgp.as_ref().map(|file| folder.join(file))
    }
}

impl DigestPin {
    fn digest(&self) -> Option<Digest> {
        let digits = self.sha256.strip_prefix("sha256:").unwrap_or(&self.sha256);
        format!("sha256:{}", digits.to_ascii_lowercase()).parse().ok()
    }
}
