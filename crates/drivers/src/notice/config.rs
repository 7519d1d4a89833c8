//! The keys of `[notice.NAME]` in lastgood.toml, checked once into one of four kinds.

use crate::config_terms::Length;
use lastgood_domain::{notice::NoticeKind, terms::Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A webhook answers within this or counts as hanging; Standard Webhooks asks for 15 to 30 s.
pub const REQUEST_TIMEOUT: Span = Span::seconds(15);
/// A command may be slower (mail through a distant relay), but it holds a lease meanwhile.
const COMMAND_TIMEOUT_MAX: Span = Span::seconds(60);

/// Where notices go. Exactly one of `webhook`, `slack`, `alertmanager` and `command` is given.
///
/// ```toml
/// [notice.ops]
/// webhook = "https://ops.example.com/lastgood"
/// secret = "ops-webhook"
/// kinds = ["rolled-back", "rollback-failed", "stale"]
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoticeKeys {
    /// Address that each notice is posted to, signed as Standard Webhooks 1.0 says. Needs `secret`. Redirects
    /// are not followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    webhook: Option<String>,
    /// For `webhook`: name of the secret that signs, whose value is `whsec_` and base64 of 24 to 64 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    /// For `webhook`: name of the secret before the last change. It signs too, until the receiver knows the new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    old_secret: Option<String>,
    /// Name of the secret whose value is the address of a Slack incoming webhook. The address itself is never
    /// written here and never shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    slack: Option<String>,
    /// For `webhook` and `slack`: allows an address of this machine or of a private network. Default `false`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    allow_private: bool,
    /// Base address of an Alertmanager, such as `http://127.0.0.1:9093`. What is wrong now is kept firing there and
    /// resolved when it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    alertmanager: Option<String>,
    /// Program with arguments that gets each notice on its standard input, as JSON, and `LASTGOOD_NOTICE_KIND`,
    /// `LASTGOOD_NOTICE_ID` and `LASTGOOD_NOTICE_SUBJECT` in its environment. Exit status 0 is delivered, 75 is
    /// try again later, any other is refused for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    command: Option<Vec<String>>,
    /// For `command`: time after which it and all it started are killed, at most `60s`. Default `15s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeout: Option<Length>,
    /// The kinds of notices it wants, such as `rolled-back` and `stale`. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    kinds: Vec<NoticeKind>,
}

/// One place that notices go to, and what it wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "NoticeKeys", into = "NoticeKeys")]
#[schemars(with = "NoticeKeys")]
pub struct NoticeConfig {
    /// What kind of place.
    pub endpoint: EndpointConfig,
    /// The kinds of notices it wants; empty is all.
    pub kinds: Vec<NoticeKind>,
}

/// A place that notices go to. Secrets are named, never held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndpointConfig {
    /// A signed POST.
    Webhook {
        /// Where to.
        url: String,
        /// Name of the signing secret.
        secret: String,
        /// Name of the secret that signs too during a rotation.
        old_secret: Option<String>,
        /// Whether loopback and private addresses are allowed.
        allow_private: bool,
    },
    /// A Slack incoming webhook, or what speaks like one.
    Slack {
        /// Name of the secret that is the address.
        url_secret: String,
        /// Whether loopback and private addresses are allowed.
        allow_private: bool,
    },
    /// An Alertmanager: gets what is wrong now, not messages.
    Alertmanager {
        /// Its base address.
        url: String,
    },
    /// A program.
    Command {
        /// Program and arguments.
        argv: Vec<String>,
        /// Time for one message.
        timeout: Length,
    },
}

impl EndpointConfig {
    /// Tells whether messages go there through the outbox; an Alertmanager is reconciled instead.
    pub fn takes_messages(&self) -> bool {
        !matches!(self, Self::Alertmanager { .. })
    }

    /// Gives the names of the secrets it needs.
    pub fn secrets(&self) -> Vec<&str> {
        match self {
            Self::Webhook { secret, old_secret, .. } => {
                std::iter::once(secret.as_str()).chain(old_secret.as_deref()).collect()
            }
            Self::Slack { url_secret, .. } => vec![url_secret],
            Self::Alertmanager { .. } | Self::Command { .. } => Vec::new(),
        }
    }

    /// Gives the longest time one message may take.
    pub fn timeout(&self) -> Span {
        match self {
            Self::Command { timeout, .. } => timeout.0,
            _ => REQUEST_TIMEOUT,
        }
    }
}

const EXAMPLE: &str = "give one of: webhook = \"https://…\" with secret = \"NAME\"; slack = \"NAME of a secret\"; \
                       alertmanager = \"http://127.0.0.1:9093\"; command = [\"/path/program\"]";

impl TryFrom<NoticeKeys> for NoticeConfig {
    type Error = String;

    fn try_from(keys: NoticeKeys) -> Result<Self, String> {
        keys.refuse_strangers()?;
        let NoticeKeys { webhook, secret, old_secret, slack, allow_private, alertmanager, command, timeout, kinds } =
            keys;
        let endpoint = match (webhook, slack, alertmanager, command) {
            (Some(url), None, None, None) => {
                check_url("webhook", &url)?;
                let secret = secret.ok_or("a webhook needs secret = \"NAME\", the name of the secret that signs")?;
                EndpointConfig::Webhook { url, secret, old_secret, allow_private }
            }
            (None, Some(url_secret), None, None) if url_secret.contains("://") => {
                return Err("slack takes the NAME of a secret, not the address: it would be readable here".into());
            }
            (None, Some(url_secret), None, None) => EndpointConfig::Slack { url_secret, allow_private },
            (None, None, Some(url), None) => {
                check_url("alertmanager", &url)?;
                EndpointConfig::Alertmanager { url }
            }
            (None, None, None, Some(argv)) => {
                if argv.first().is_none_or(String::is_empty) {
                    return Err("command needs a program, such as command = [\"/usr/local/bin/tell\"]".into());
                }
                let timeout = timeout.unwrap_or(Length(REQUEST_TIMEOUT));
                if timeout.0 == Span::ZERO || timeout.0 > COMMAND_TIMEOUT_MAX {
                    return Err(format!("timeout must be between 1ms and {COMMAND_TIMEOUT_MAX}"));
                }
                EndpointConfig::Command { argv, timeout }
            }
            (None, None, None, None) => return Err(EXAMPLE.into()),
            _ => return Err(format!("several places in one; {EXAMPLE}")),
        };
        Ok(Self { endpoint, kinds })
    }
}

impl NoticeKeys {
    /// Refuses keys that the chosen kind would silently ignore.
    fn refuse_strangers(&self) -> Result<(), String> {
        let (webhook, slack, command) = (self.webhook.is_some(), self.slack.is_some(), self.command.is_some());
        let strangers = [
            ("secret", self.secret.is_some() && !webhook, "webhook"),
            ("old_secret", self.old_secret.is_some() && !webhook, "webhook"),
            ("allow_private", self.allow_private && !webhook && !slack, "webhook or slack"),
            ("timeout", self.timeout.is_some() && !command, "command"),
        ];
        match strangers.into_iter().find(|(_, strange, _)| *strange) {
            Some((key, _, with)) => Err(format!("{key} goes with {with} only")),
            None => Ok(()),
        }
    }
}

impl From<NoticeConfig> for NoticeKeys {
    fn from(config: NoticeConfig) -> Self {
        let mut keys = Self {
            webhook: None,
            secret: None,
            old_secret: None,
            slack: None,
            allow_private: false,
            alertmanager: None,
            command: None,
            timeout: None,
            kinds: config.kinds,
        };
        match config.endpoint {
            EndpointConfig::Webhook { url, secret, old_secret, allow_private } => {
                keys.webhook = Some(url);
                keys.secret = Some(secret);
                keys.old_secret = old_secret;
                keys.allow_private = allow_private;
            }
            EndpointConfig::Slack { url_secret, allow_private } => {
                keys.slack = Some(url_secret);
                keys.allow_private = allow_private;
            }
            EndpointConfig::Alertmanager { url } => keys.alertmanager = Some(url),
            EndpointConfig::Command { argv, timeout } => {
                keys.command = Some(argv);
                keys.timeout = Some(timeout);
            }
        }
        keys
    }
}

fn check_url(key: &str, url: &str) -> Result<(), String> {
    let wrong =
        |why: &str| Err(format!("{key} must be an http:// or https:// address without user and password: {why}"));
    // The address itself is not repeated: a refused one may hold a password.
    let Ok(uri) = url.parse::<ureq::http::Uri>() else { return wrong("it can't be read") };
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return wrong("it starts with neither");
    }
    match uri.authority() {
        Some(authority) if authority.as_str().contains('@') => wrong("put credentials into a secret"),
        Some(authority) if !authority.host().is_empty() => Ok(()),
        _ => wrong("it names no host"),
    }
}
