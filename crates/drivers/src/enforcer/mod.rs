//! What enforces holds outside: one file per kind of place. Each is told of holds one by one, and read back.
//!
//! A success message is no evidence: whether a hold is enforced is what [`Enforcer::read`] finds, never what
//! [`Enforcer::set`] answered.

mod check;
mod command;
mod config;
mod error;
mod gitea;
mod github;
mod hook;
mod http;
mod program;

pub use config::{CommandKeys, EnforcerConfig, EnforcerKeys, PlaceConfig, WhenUnreadable};
pub use error::EnforcerError;

use crate::notice::Secrets;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

/// A hold as an enforcer is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its id, such as `hold-3`.
    pub id: String,
    /// What it stops, separated by commas.
    pub kinds: String,
    /// Where, in words.
    pub services: String,
    /// Who set it.
    pub owner: String,
    /// Why.
    pub reason: String,
    /// When it ends by itself: seconds since 1970.
    pub until_seconds: Option<i64>,
    /// The commits that may be merged all the same, each until when: seconds since 1970.
    pub passes: BTreeMap<String, i64>,
    /// The commits that might, and whose time is over: that one still passes somewhere is nobody's doing.
    pub ended: BTreeSet<String>,
}

/// What was read back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// The ids of the holds that are enforced now.
    pub holds: BTreeSet<String>,
    /// The commits that each of them lets through now; none where the place lets nothing through, whoever agreed.
    pub passes: Option<BTreeMap<String, BTreeSet<String>>>,
    /// The commits that may pass or did, and that this place does not have.
    pub absent: BTreeSet<String>,
    /// The holds that stand and must be told again, such as to heads that came since.
    pub again: BTreeSet<String>,
    /// What else was seen, such as why one that was set does not count.
    pub remark: Option<String>,
}

/// A place that enforces holds, with its secrets read. Its `Debug` shows no secret.
#[derive(Debug)]
pub struct Enforcer(Place);

#[derive(Debug)]
enum Place {
    Git(hook::GitHook),
    Command(command::Commands),
    GitHub(github::GitHub),
    Gitea(gitea::Gitea),
}

impl Enforcer {
    /// Reads the secrets of the enforcer `name`; relative paths start at `folder`.
    ///
    /// Errors: [`EnforcerError`] names the secret that is missing, never its value.
    pub fn prepare(
        name: &str,
        config: &PlaceConfig,
        folder: &Path,
        secrets: &Secrets<'_>,
    ) -> Result<Self, EnforcerError> {
        let token = |secret: &str| {
            let value = secrets(secret).map(|value| value.trim().to_owned());
            value.ok_or_else(|| EnforcerError::SecretMissing { enforcer: name.into(), secret: secret.into() })
        };
        Ok(Self(match config {
            PlaceConfig::Git { repository, branches, when_unreadable, timeout } => Place::Git(hook::GitHook::new(
                folder.join(repository),
                branches.clone(),
                *when_unreadable,
                timeout.duration(),
            )),
            PlaceConfig::Command { set, lift, read, timeout } => {
                Place::Command(command::Commands::new(set.clone(), lift.clone(), read.clone(), timeout.duration()))
            }
            PlaceConfig::GitHub { repository, url, token: secret, branches, check, timeout } => {
                let http = http::Api::new(url, http::Scheme::Bearer, token(secret)?, timeout.duration());
                Place::GitHub(github::GitHub::new(http, repository.clone(), branches.clone(), check.as_deref()))
            }
            PlaceConfig::Gitea { repository, url, token: secret, branches, check, timeout } => {
                let http = http::Api::new(url, http::Scheme::Token, token(secret)?, timeout.duration());
                Place::Gitea(gitea::Gitea::new(http, repository.clone(), branches.clone(), check.as_deref()))
            }
        }))
    }

    /// Reads back which holds are enforced now, and what passes them. Of `wanted` it is told which commits may or might:
    /// nothing is remembered from one time to the next.
    ///
    /// Errors: [`EnforcerError`]; then nobody knows.
    pub fn read(&self, wanted: &[Held]) -> Result<Found, EnforcerError> {
        match &self.0 {
            Place::Git(one) => one.read(),
            Place::Command(one) => one.read(),
            Place::GitHub(one) => one.read(wanted),
            Place::Gitea(one) => one.read(wanted),
        }
    }

    /// Makes it enforce a hold; twice is the same as once.
    ///
    /// Errors: [`EnforcerError`]; it may be enforced all the same.
    pub fn set(&self, hold: &Held) -> Result<(), EnforcerError> {
        match &self.0 {
            Place::Git(one) => one.set(hold),
            Place::Command(one) => one.set(hold),
            Place::GitHub(one) => one.set(hold),
            Place::Gitea(one) => one.set(hold),
        }
    }

    /// Makes it let go of a hold; twice is the same as once.
    ///
    /// Errors: [`EnforcerError`]; it may be enforced still.
    pub fn lift(&self, id: &str) -> Result<(), EnforcerError> {
        match &self.0 {
            Place::Git(one) => one.lift(id),
            Place::Command(one) => one.lift(id),
            Place::GitHub(one) => one.lift(id),
            Place::Gitea(one) => one.lift(id),
        }
    }
}

/// Ends the programs that enforcers run now: a command that does not wait for them leaves none behind.
pub fn end_programs() {
    program::end_all();
}

/// Tells whether a text is the id of a hold: what comes from outside must not become a path or a name of ours.
fn is_id(text: &str) -> bool {
    text.strip_prefix("hold-").is_some_and(|number| !number.is_empty() && number.chars().all(|c| c.is_ascii_digit()))
}
