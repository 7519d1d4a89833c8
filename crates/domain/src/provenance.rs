//! Where a release comes from: what a service demands of it, what was found, and what follows.
//!
//! Bytes that fit a tag are not enough where others can write to the channel. A policy names what must vouch for
//! them besides: a signature, a digest known from elsewhere, an environment that ran them first.

use crate::{
    gate::Verdict,
    terms::{Digest, Release, ReleaseTag},
};
use alloc::{collections::BTreeMap, format, string::String, vec::Vec};
use serde::{Deserialize, Serialize};

/// What a release must prove of where it comes from; the default demands nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Policy {
    /// The pattern that its tag must fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<String>,
    /// Its git tag must be an object of its own, with a tagger and a message.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub annotated: bool,
    /// Its git tag must be signed by an allowed key.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub signed: bool,
    /// Digests known from elsewhere; where there are any, a tag that has none waits for its own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub digests: BTreeMap<ReleaseTag, Digest>,
    /// The environment that must have promoted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passed_in: Option<String>,
}

impl Policy {
    /// Tells whether nothing is demanded.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What was found out about where a release comes from, as far as the policy asks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Provenance {
    /// Whether its tag fits the policy's pattern.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fits: Option<bool>,
    /// Its git tag, as it was looked at for the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git_tag: Option<GitTag>,
    /// What the environment that must have promoted it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<Environment>,
}

impl Provenance {
    /// Gives the commit that the git tag led to when it was looked at.
    pub fn commit(&self) -> Option<&String> {
        self.git_tag.as_ref().map(|tag| &tag.commit)
    }
}

/// A tag of a git repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitTag {
    /// The commit it leads to.
    pub commit: String,
    /// What it calls itself in its own, signed text; none for a lightweight tag, which has no text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub named: Option<String>,
    /// Its signature, if the policy asks for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
}

/// What a signature is worth.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Signature {
    /// There is none.
    Missing,
    /// By an allowed key, over exactly this text, and valid now.
    Good {
        /// Whose, with the key's fingerprint.
        signer: String,
    },
    /// Any other.
    Bad {
        /// What is wrong with it.
        why: String,
    },
}

/// What another environment's evidence says of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Environment {
    /// It was promoted there and not taken back, by records that are signed.
    Promoted {
        /// How many records the checkpoint covers that shows it.
        signed: u64,
    },
    /// It was rejected there, and nobody has waived that.
    Rejected {
        /// By whom and why.
        because: String,
    },
    /// It has not passed there so far.
    NotYet {
        /// How far it is.
        because: String,
    },
    /// The evidence there can't be read, or does not hold.
    CannotTell {
        /// Why.
        because: String,
    },
}

/// Weighs what was found against the policy: the worst verdict, and every reason that leads to it.
///
/// A demand about which nothing was found is cannot-tell, never a yes.
pub fn weigh(policy: &Policy, release: &Release, found: Option<&Provenance>) -> (Verdict, String) {
    let nothing = Provenance::default();
    let found = found.unwrap_or(&nothing);
    let mut answers = Vec::new();
    if let Some(pattern) = &policy.tags {
        answers.push(tag(&release.tag, pattern, found.fits));
    }
    if policy.annotated || policy.signed {
        answers.push(git_tag(policy, &release.tag, found.git_tag.as_ref()));
    }
    if !policy.digests.is_empty() {
        answers.push(digest(&policy.digests, release));
    }
    if let Some(name) = &policy.passed_in {
        answers.push(environment(name, &release.tag, found.environment.as_ref()));
    }
    // What is wrong for good comes before what is unknown, and that before what only has to be awaited.
    let order = [Verdict::Fail, Verdict::CannotTell, Verdict::Hold];
    let worst = order.into_iter().find(|worst| answers.iter().any(|(verdict, _)| verdict == worst));
    let worst = worst.unwrap_or(Verdict::Pass);
    let because: Vec<String> =
        answers.into_iter().filter(|(verdict, _)| *verdict == worst).map(|(_, because)| because).collect();
    (worst, because.join("; "))
}

fn tag(tag: &ReleaseTag, pattern: &str, fits: Option<bool>) -> (Verdict, String) {
    match fits {
        Some(true) => (Verdict::Pass, format!("{tag} fits {pattern}")),
        Some(false) => (Verdict::Fail, format!("{tag} does not fit the policy's tags {pattern}")),
        None => (Verdict::CannotTell, format!("nobody looked whether {tag} fits {pattern}")),
    }
}

fn git_tag(policy: &Policy, tag: &ReleaseTag, found: Option<&GitTag>) -> (Verdict, String) {
    let Some(found) = found else { return (Verdict::CannotTell, format!("nobody looked at the git tag {tag}")) };
    let Some(named) = &found.named else {
        let lacks = if policy.signed { "no signature" } else { "no tagger and no message" };
        return (Verdict::Fail, format!("{tag} is a lightweight git tag: it has {lacks}"));
    };
    // Otherwise an old, signed tag could be offered again under a new name.
    if named != tag.as_str() {
        return (Verdict::Fail, format!("the git tag {tag} was made as {named} and put under another name"));
    }
    if !policy.signed {
        return (Verdict::Pass, format!("{tag} is an annotated git tag"));
    }
    match &found.signature {
        Some(Signature::Good { signer }) => (Verdict::Pass, format!("{tag} is signed by {signer}")),
        Some(Signature::Missing) => (Verdict::Fail, format!("the git tag {tag} is not signed")),
        Some(Signature::Bad { why }) => {
            (Verdict::Fail, format!("the signature of the git tag {tag} is refused: {why}"))
        }
        None => (Verdict::CannotTell, format!("nobody looked at the signature of the git tag {tag}")),
    }
}

fn digest(pins: &BTreeMap<ReleaseTag, Digest>, release: &Release) -> (Verdict, String) {
    let Release { tag, digest, .. } = release;
    match pins.get(tag) {
        Some(pin) if pin == digest => (Verdict::Pass, format!("{tag} has the digest that the policy names")),
        Some(pin) => (Verdict::Fail, format!("{tag} is {digest}, and the policy says {pin}")),
        None => (Verdict::Hold, format!("the policy names no digest for {tag} yet; it is {digest}")),
    }
}

fn environment(name: &str, tag: &ReleaseTag, found: Option<&Environment>) -> (Verdict, String) {
    match found {
        Some(Environment::Promoted { signed }) => {
            (Verdict::Pass, format!("{tag} passed in {name}, by its {signed} signed records"))
        }
        Some(Environment::Rejected { because }) => (Verdict::Fail, format!("{tag} was rejected in {name} {because}")),
        Some(Environment::NotYet { because }) => {
            (Verdict::Hold, format!("{tag} has not passed in {name} yet: {because}"))
        }
        Some(Environment::CannotTell { because }) => {
            (Verdict::CannotTell, format!("nobody can tell whether {tag} passed in {name}: {because}"))
        }
        None => (Verdict::CannotTell, format!("nobody asked {name} about {tag}")),
    }
}
