//! How a message leaves the machine: one file per kind of place.
//!
//! Delivering is at least once: a receiver knows a repeat by the message's id. What the answer means for the
//! message is decided here; when it is tried again is the outbox's.

mod alertmanager;
mod command;
mod config;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod guard;
mod post;
mod retry_after;
mod slack;
mod webhook;

pub use alertmanager::{Alert, AlertmanagerClient};
pub use config::{EndpointConfig, NoticeConfig, NoticeKeys, REQUEST_TIMEOUT};
pub use error::NoticeError;
pub(crate) use guard::Reach;
pub(crate) use post::{agent, in_words, one_line};

use lastgood_domain::terms::{Span, Timestamp};
use slack::SecretUrl;
use ureq::Agent;
use webhook::SigningKey;

/// Gives a secret's value by its name, if there is one.
pub type Secrets<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// One message on its way.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// The same on every attempt.
    pub id: &'a str,
    /// Its kind, such as `rolled-back`.
    pub kind: &'a str,
    /// What it is about.
    pub subject: &'a str,
    /// The stored bytes.
    pub body: &'a [u8],
    /// When this attempt is made.
    pub attempt_at: Timestamp,
}

/// What came of one attempt. No text holds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// The receiver has it.
    Delivered {
        /// HTTP status or exit status.
        code: Option<u16>,
    },
    /// Worth another try.
    Retry {
        /// HTTP status or exit status, if one came.
        code: Option<u16>,
        /// What the receiver asked for, in full.
        after: Option<Span>,
        /// Kind of error, such as `timeout` or `http-503`.
        class: String,
        /// What happened.
        why: String,
    },
    /// Refused for good.
    Dead {
        /// HTTP status or exit status, if one came.
        code: Option<u16>,
        /// Kind of error, such as `http-400`.
        class: String,
        /// What happened.
        why: String,
    },
    /// The receiver says that it is gone and wants nothing more (410).
    Gone {
        /// HTTP status.
        code: Option<u16>,
        /// Kind of error.
        class: String,
        /// What happened.
        why: String,
    },
}

/// A place with its secrets read, ready to be sent to. Its `Debug` shows no secret.
#[derive(Debug, Clone)]
pub struct Endpoint {
    timeout: Span,
    place: Place,
}

#[derive(Debug, Clone)]
enum Place {
    Webhook { url: String, keys: Vec<SigningKey>, reach: Reach },
    Slack { url: SecretUrl, reach: Reach },
    Command { argv: Vec<String> },
    Reconciled,
}

impl Endpoint {
    /// Reads the secrets of the endpoint `name`.
    ///
    /// Errors: [`NoticeError`] names the secret that is missing or malformed, never its value.
    pub fn prepare(name: &str, config: &EndpointConfig, secrets: &Secrets<'_>) -> Result<Self, NoticeError> {
        let value = |secret: &str| {
            secrets(secret).ok_or_else(|| NoticeError::SecretMissing { endpoint: name.into(), secret: secret.into() })
        };
        let malformed = |secret: &str, wanted| NoticeError::SecretMalformed {
            endpoint: name.into(),
            secret: secret.into(),
            wanted,
        };
        let place = match config {
            EndpointConfig::Webhook { url, allow_private, .. } => {
                let key = |secret: &&str| {
                    SigningKey::parse(&value(secret)?).ok_or_else(|| malformed(secret, webhook::SECRET_WANTED))
                };
                let keys = config.secrets().iter().map(key).collect::<Result<_, _>>()?;
                Place::Webhook { url: url.clone(), keys, reach: reach(*allow_private) }
            }
            EndpointConfig::Slack { url_secret, allow_private } => {
                let url =
                    SecretUrl::parse(&value(url_secret)?).ok_or_else(|| malformed(url_secret, slack::URL_WANTED))?;
                Place::Slack { url, reach: reach(*allow_private) }
            }
            EndpointConfig::Command { argv, .. } => Place::Command { argv: argv.clone() },
            EndpointConfig::Alertmanager { .. } => Place::Reconciled,
        };
        Ok(Self { timeout: config.timeout(), place })
    }
}

fn reach(allow_private: bool) -> Reach {
    if allow_private { Reach::Private } else { Reach::Public }
}

/// Sends; keeps connections open between messages. Shared by threads.
#[derive(Debug, Clone)]
pub struct Sender {
    public: Agent,
    private: Agent,
}

impl Sender {
    /// Makes a sender for up to `threads` at once.
    pub fn new(threads: usize) -> Self {
        Self { public: agent(Reach::Public, threads), private: agent(Reach::Private, threads) }
    }

    /// Makes one attempt; takes at most the endpoint's time.
    pub fn deliver(&self, endpoint: &Endpoint, message: &Message<'_>) -> Delivery {
        match &endpoint.place {
            Place::Webhook { url, keys, reach } => webhook::deliver(self.agent(*reach), url, keys, message),
            Place::Slack { url, reach } => slack::deliver(self.agent(*reach), url, message),
            Place::Command { argv } => command::deliver(argv, endpoint.timeout, message),
            Place::Reconciled => Delivery::Dead {
                code: None,
                class: "not-a-message".into(),
                why: "an Alertmanager gets what is wrong now, not messages".into(),
            },
        }
    }

    fn agent(&self, reach: Reach) -> &Agent {
        match reach {
            Reach::Public => &self.public,
            Reach::Private => &self.private,
        }
    }
}
