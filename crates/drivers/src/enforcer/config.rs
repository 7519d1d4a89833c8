//! The keys of `[enforcer.NAME]` in lastgood.toml, checked once into one of four kinds.

use crate::config_terms::Length;
use lastgood_domain::{
    operations::hold::HoldKind,
    terms::{ServiceName, Span},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// One act at one place takes no longer: a daemon looks at all of them each minute.
const TIMEOUT_MAX: Span = Span::seconds(30);
/// What a place on this machine or a forge on a slow day needs.
const TIMEOUT: Length = Length::seconds(10);
/// Where GitHub answers.
const GITHUB: &str = "https://api.github.com";

/// What enforces holds outside. Exactly one of `git`, `command`, `github` and `gitea` is given.
///
/// ```toml
/// [enforcer.repository]
/// git = "/srv/git/web.git"
/// branches = ["main", "release/*"]
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnforcerKeys {
    /// A bare repository on this machine: a pre-receive hook refuses pushes to `branches`. It works with lastgood dead,
    /// keeps a hook that is there already, and calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    git: Option<PathBuf>,
    /// Programs: `set` and `lift` get one hold in their environment, `read` prints the id of each hold that is enforced,
    /// one a line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    command: Option<CommandKeys>,
    /// A repository at GitHub, `owner/name`: each hold is a ruleset without bypass. Needs `token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    github: Option<String>,
    /// A repository at a Gitea or Forgejo, `owner/name`: each hold is a required status check that nobody gives. Needs
    /// `url` and `token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gitea: Option<String>,
    /// For `github` and `gitea`: the forge's address. Default for `github`: `https://api.github.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    /// For `github` and `gitea`: name of the secret that is the token. It must be allowed to administer the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    /// For `git`, `github` and `gitea`: the branches that are held; `*` stands for any part of a name. Default `main`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    branches: Vec<String>,
    /// For `github` and `gitea`: begins the name of the commit status that each hold is published as on the heads of open
    /// requests, such as `lastgood` for `lastgood/hold-3`; by it an exempted commit passes. Default: none is published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    check: Option<String>,
    /// For `git`: what the hook does when it can't read which holds stand, `refuse` or `allow`. Default `refuse`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    when_unreadable: Option<WhenUnreadable>,
    /// The kinds of holds it enforces: `merge`, `claim`, `promote`, `deploy`. Default: `merge`; for `command` it must be
    /// said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    kinds: Vec<HoldKind>,
    /// The services whose holds it enforces. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    services: Vec<ServiceName>,
    /// Time for one act, at most `30s`. Default `10s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeout: Option<Length>,
}

/// Three programs with their arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandKeys {
    /// Makes the place enforce one hold: `LASTGOOD_HOLD`, `LASTGOOD_HOLD_KINDS`, `LASTGOOD_HOLD_SERVICES`,
    /// `LASTGOOD_HOLD_OWNER`, `LASTGOOD_HOLD_REASON` and `LASTGOOD_HOLD_UNTIL` (seconds since 1970, or empty).
    set: Vec<String>,
    /// Makes it let go of the hold `LASTGOOD_HOLD`.
    lift: Vec<String>,
    /// Prints the id of each hold that is enforced now, one a line.
    read: Vec<String>,
}

/// What the hook does when it can't read which holds stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WhenUnreadable {
    /// Refuses every push to the branches.
    #[default]
    Refuse,
    /// Lets every push pass.
    Allow,
}

/// One enforcer, and which holds it is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "EnforcerKeys", into = "EnforcerKeys")]
#[schemars(with = "EnforcerKeys")]
pub struct EnforcerConfig {
    /// Where.
    pub place: PlaceConfig,
    /// The kinds of holds.
    pub kinds: Vec<HoldKind>,
    /// The services; empty is all.
    pub services: Vec<ServiceName>,
}

/// A place that enforces holds. Secrets are named, never held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlaceConfig {
    /// A bare repository here.
    Git {
        /// Its folder.
        repository: PathBuf,
        /// The branches.
        branches: Vec<String>,
        /// What the hook does when it can't read which holds stand.
        when_unreadable: WhenUnreadable,
        /// Time for one act.
        timeout: Length,
    },
    /// Programs.
    Command {
        /// Sets one.
        set: Vec<String>,
        /// Lifts one.
        lift: Vec<String>,
        /// Lists all.
        read: Vec<String>,
        /// Time for each.
        timeout: Length,
    },
    /// A repository at GitHub.
    GitHub {
        /// `owner/name`.
        repository: String,
        /// Where it answers.
        url: String,
        /// Name of the token's secret.
        token: String,
        /// The branches.
        branches: Vec<String>,
        /// Begins the name of each hold's commit status.
        check: Option<String>,
        /// Time for one act.
        timeout: Length,
    },
    /// A repository at a Gitea or Forgejo.
    Gitea {
        /// `owner/name`.
        repository: String,
        /// Where it answers.
        url: String,
        /// Name of the token's secret.
        token: String,
        /// The branches.
        branches: Vec<String>,
        /// Begins the name of each hold's commit status.
        check: Option<String>,
        /// Time for one act.
        timeout: Length,
    },
}

impl EnforcerConfig {
    /// Gives the name of the secret it needs.
    pub fn secret(&self) -> Option<&str> {
        match &self.place {
            PlaceConfig::GitHub { token, .. } | PlaceConfig::Gitea { token, .. } => Some(token),
            PlaceConfig::Git { .. } | PlaceConfig::Command { .. } => None,
        }
    }
}

const EXAMPLE: &str = "give one of: git = \"/srv/git/web.git\"; github = \"owner/name\" with token = \"NAME\"; \
                       gitea = \"owner/name\" with url and token; command = { set = […], lift = […], read = […] }";

impl TryFrom<EnforcerKeys> for EnforcerConfig {
    type Error = String;

    fn try_from(keys: EnforcerKeys) -> Result<Self, String> {
        keys.refuse_strangers()?;
        let EnforcerKeys {
            git,
            command,
            github,
            gitea,
            url,
            token,
            branches,
            check,
            when_unreadable,
            mut kinds,
            services,
            timeout,
        } = keys;
        let timeout = timeout.unwrap_or(TIMEOUT);
        if timeout.0 == Span::ZERO || timeout.0 > TIMEOUT_MAX {
            return Err(format!("timeout must be between 1ms and {TIMEOUT_MAX}"));
        }
        let branches = if branches.is_empty() { vec!["main".to_owned()] } else { branches };
        if let Some(wrong) = branches.iter().find(|branch| !is_branch(branch)) {
            return Err(format!("{wrong:?} is no branch: write it without refs/heads/, such as \"main\""));
        }
        if let Some(wrong) = check.as_ref().filter(|check| !is_check(check)) {
            return Err(format!("{wrong:?} begins no check: use letters, digits, - and _, such as \"lastgood\""));
        }
        if kinds.is_empty() {
            if command.is_some() {
                return Err("say which holds the command enforces, such as kinds = [\"claim\"]".into());
            }
            kinds.push(HoldKind::Merge);
        }
        let needs_token = || "a forge needs token = \"NAME\", the name of the secret that is the token".to_owned();
        let place = match (git, command, github, gitea) {
            (Some(repository), None, None, None) => {
                let when_unreadable = when_unreadable.unwrap_or_default();
                PlaceConfig::Git { repository, branches, when_unreadable, timeout }
            }
            (None, Some(CommandKeys { set, lift, read }), None, None) => {
                if [&set, &lift, &read].iter().any(|argv| argv.first().is_none_or(String::is_empty)) {
                    return Err("set, lift and read each need a program".into());
                }
                PlaceConfig::Command { set, lift, read, timeout }
            }
            (None, None, Some(repository), None) => {
                let url = forge_url(&url.unwrap_or_else(|| GITHUB.into()))?;
                check_repository(&repository)?;
                let token = token.ok_or_else(needs_token)?;
                PlaceConfig::GitHub { repository, url, token, branches, check, timeout }
            }
            (None, None, None, Some(repository)) => {
                let url = forge_url(&url.ok_or("gitea needs url = \"https://…\", the forge's address")?)?;
                check_repository(&repository)?;
                let token = token.ok_or_else(needs_token)?;
                PlaceConfig::Gitea { repository, url, token, branches, check, timeout }
            }
            (None, None, None, None) => return Err(EXAMPLE.into()),
            _ => return Err(format!("several places in one; {EXAMPLE}")),
        };
        Ok(Self { place, kinds, services })
    }
}

impl EnforcerKeys {
    /// Refuses keys that the chosen kind would silently ignore.
    fn refuse_strangers(&self) -> Result<(), String> {
        let forge = self.github.is_some() || self.gitea.is_some();
        let strangers = [
            ("url", self.url.is_some() && !forge, "github and gitea"),
            ("token", self.token.is_some() && !forge, "github and gitea"),
            ("check", self.check.is_some() && !forge, "github and gitea"),
            ("branches", !self.branches.is_empty() && self.command.is_some(), "git, github and gitea"),
            ("when_unreadable", self.when_unreadable.is_some() && self.git.is_none(), "git"),
        ];
        match strangers.into_iter().find(|(_, stranger, _)| *stranger) {
            Some((key, _, of)) => Err(format!("{key} belongs to {of} only")),
            None => Ok(()),
        }
    }
}

/// Tells whether it is the name of a branch that a shell, a path and an address can take as it is.
fn is_branch(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./*".contains(c);
    !text.is_empty() && !text.starts_with(['-', '/']) && !text.starts_with("refs/") && text.chars().all(plain)
}

/// Tells whether a check may begin so.
fn is_check(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
}

fn check_repository(text: &str) -> Result<(), String> {
    let plain = |part: &str| {
        !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) && part != ".."
    };
    match text.split_once('/') {
        Some((owner, name)) if plain(owner) && plain(name) => Ok(()),
        _ => Err(format!("{text:?} is no repository: write owner/name")),
    }
}

fn forge_url(url: &str) -> Result<String, String> {
    let url = url.trim_end_matches('/');
    match url.starts_with("https://") || url.starts_with("http://127.0.0.1") || url.starts_with("http://localhost") {
        true => Ok(url.into()),
        false => Err("url must begin with https://: the token would be readable on its way".into()),
    }
}

impl From<EnforcerConfig> for EnforcerKeys {
    fn from(config: EnforcerConfig) -> Self {
        let EnforcerConfig { place, kinds, services } = config;
        let mut keys = Self {
            git: None,
            command: None,
            github: None,
            gitea: None,
            url: None,
            token: None,
            branches: Vec::new(),
            check: None,
            when_unreadable: None,
            kinds,
            services,
            timeout: None,
        };
        match place {
            PlaceConfig::Git { repository, branches, when_unreadable, timeout } => {
                (keys.git, keys.branches, keys.timeout) = (Some(repository), branches, Some(timeout));
                keys.when_unreadable = Some(when_unreadable);
            }
            PlaceConfig::Command { set, lift, read, timeout } => {
                (keys.command, keys.timeout) = (Some(CommandKeys { set, lift, read }), Some(timeout));
            }
            PlaceConfig::GitHub { repository, url, token, branches, check, timeout } => {
                (keys.github, keys.url, keys.token) = (Some(repository), Some(url), Some(token));
                (keys.branches, keys.check, keys.timeout) = (branches, check, Some(timeout));
            }
            PlaceConfig::Gitea { repository, url, token, branches, check, timeout } => {
                (keys.gitea, keys.url, keys.token) = (Some(repository), Some(url), Some(token));
                (keys.branches, keys.check, keys.timeout) = (branches, check, Some(timeout));
            }
        }
        keys
    }
}
