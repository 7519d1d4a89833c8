//! The keys of the resume gate in lastgood.toml, checked once.
#![expect(clippy::mutable_key_type, reason = "a path is compared by its text, which never changes")]

use crate::{
    config_terms::Length,
    probe::{
        body::{self, Template},
        config::{Step, check_headers, check_path},
        pattern::{JsonExpectation, JsonPath},
        variables::{self, Place},
    },
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, ops::RangeInclusive};

/// Messages of each part, if not given: enough to fall into a seam of milliseconds, over in a second.
const MESSAGES: u32 = 20;
/// Fewer would leave nothing before or after the return; more is a load test.
const MESSAGES_ALLOWED: RangeInclusive<u32> = 4..=500;
/// Clients of the last part, if not given: two begin on each release.
const CLIENTS: u32 = 4;
/// One has nobody to lose messages of; each is a thread and a connection.
const CLIENTS_ALLOWED: RangeInclusive<u32> = 2..=50;
/// Time for one connection and for what is awaited after it.
const TIMEOUT: Length = Length::seconds(5);

/// What a client that is cut off must find again on the other release, as configured and checked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "ResumeKeys", into = "ResumeKeys")]
pub struct ResumeConfig {
    pub(super) keys: ResumeKeys,
    pub(super) messages: u32,
    pub(super) clients: u32,
    pub(super) timeout: Length,
}

/// A WebSocket protocol with resume: how to connect, to send, to know a message again and to come back after a cut.
/// `{run}` is another short text for each gate; cookies and captures of `before` count for both releases.
///
/// ```toml
/// [service.chat.traffic.resume]
/// path = "/rooms/lastgood-{run}/socket"
/// resume_path = "/rooms/lastgood-{run}/socket?after={last}"
/// send_json = { type = "post", id = "{id}", text = "{n}" }
/// when = { "$.type" = "message" }
/// id = "$.id"
/// position = "$.seq"
/// ```
///
/// A service that is told after connecting who comes back has, instead of `resume_path`:
///
/// ```toml
/// session = "$.session"
/// resume_send_json = { resume = "{session}", after = "{last}" }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResumeKeys {
    /// Steps done once on last-good before, such as a log-in; as those of a probe.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<Step>,
    /// Path and query of a first connection.
    pub path: String,
    /// Path and query of a client that comes back; `{last}` is the position of the last delivery it had, `{session}` the
    /// id of its session. Default, with `resume_send` or `resume_send_json`: as `path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume_path: Option<String>,
    /// Where a message has the id of the client's session, which it is told after it has connected. It is awaited before
    /// anything is sent on a first connection; the newest counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<JsonPath>,
    /// The first text that a client sends which comes back; takes `{last}` and `{session}` too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume_send: Option<String>,
    /// The same as JSON, where each variable is put into a text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume_send_json: Option<serde_json::Value>,
    /// Headers of the request that opens a connection.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The sub-protocol asked for; the server has to agree to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// A text that sends one message; `{id}` is its id, `{n}` its number. Either this or `send_json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send: Option<String>,
    /// JSON that sends one message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_json: Option<serde_json::Value>,
    /// Which of the JSON messages that come in are deliveries, as `json` of an expectation. Default: those with an `id`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub when: BTreeMap<JsonPath, JsonExpectation>,
    /// Where a delivery has what was sent as `{id}`; several values are several deliveries.
    pub id: JsonPath,
    /// Where a delivery has its position, a text or a number: as many values as `id` has.
    pub position: JsonPath,
    /// How many messages each part sends, and each client of the last part, 4 to 500. Default `20`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<u32>,
    /// How many clients the last part has, 2 to 50. Default `4`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clients: Option<u32>,
    /// Time for one connection, and for all that is awaited after it. Default `5s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Length>,
}

impl TryFrom<ResumeKeys> for ResumeConfig {
    type Error = String;

    fn try_from(keys: ResumeKeys) -> Result<Self, String> {
        check_path(&keys.path)?;
        keys.resume_path.iter().try_for_each(|path| check_path(path))?;
        check_headers(&keys.headers)?;
        keys.check_return()?;
        if keys.send.is_some() == keys.send_json.is_some() {
            return Err("give send or send_json, such as send_json = { type = \"post\", id = \"{id}\" }".into());
        }
        let mut has_id = false;
        keys.see_sent(&mut |text| has_id |= variables::names(text, Place::Plain).any(|name| name == "id"));
        if !has_id {
            return Err("what is sent needs {id}, or nobody could tell which message came".into());
        }
        let messages = keys.messages.unwrap_or(MESSAGES);
        if !MESSAGES_ALLOWED.contains(&messages) {
            return Err("messages must be 4 to 500".into());
        }
        let clients = keys.clients.unwrap_or(CLIENTS);
        if !CLIENTS_ALLOWED.contains(&clients) {
            return Err("clients must be 2 to 50".into());
        }
        let timeout = keys.timeout.unwrap_or(TIMEOUT);
        if timeout.0.0 == 0 {
            return Err("timeout must be longer than 0s".into());
        }
        Ok(Self { messages, clients, timeout, keys })
    }
}

impl From<ResumeConfig> for ResumeKeys {
    fn from(config: ResumeConfig) -> Self {
        config.keys
    }
}

impl ResumeKeys {
    /// Checks that a client that comes back says where it was.
    fn check_return(&self) -> Result<(), String> {
        if self.resume_send.is_some() && self.resume_send_json.is_some() {
            return Err("give resume_send or resume_send_json, not both".into());
        }
        let mut said = Vec::new();
        if let Some(path) = &self.resume_path {
            said.extend(variables::names(path, Place::Path).map(ToOwned::to_owned));
        }
        self.see_resume_sent(&mut |text| said.extend(variables::names(text, Place::Plain).map(ToOwned::to_owned)));
        let names = |name: &str| said.iter().any(|one| one == name);
        if names("session") && self.session.is_none() {
            return Err("{session} needs session, such as session = \"$.session\"".into());
        }
        if names("last") || names("session") {
            return Ok(());
        }
        let sends = self.resume_send.is_some() || self.resume_send_json.is_some();
        Err(match sends {
            true => "resume_send needs {last} or {session}, such as resume_send_json = { resume = \"{session}\" }",
            false => "resume_path needs {last}, such as resume_path = \"/socket?after={last}\"",
        }
        .into())
    }

    /// Gives the path of a client that comes back.
    pub(super) fn path_back(&self) -> &str {
        self.resume_path.as_deref().unwrap_or(&self.path)
    }

    /// Calls `see` with every text of what a client first sends that comes back.
    pub(crate) fn see_resume_sent<'k>(&'k self, see: &mut dyn FnMut(&'k str)) {
        match (&self.resume_send, &self.resume_send_json) {
            (Some(text), _) => see(text),
            (None, Some(json)) => body::texts(json, see),
            (None, None) => {}
        }
    }

    /// Gives what a client first sends that comes back, if it says anything.
    pub(super) fn resume_sent(&self) -> Option<Template<'_>> {
        match (&self.resume_send, &self.resume_send_json) {
            (Some(text), _) => Some(Template::Text(text)),
            (None, json) => json.as_ref().map(Template::Json),
        }
    }

    /// Calls `see` with every text of what is sent.
    pub(crate) fn see_sent<'k>(&'k self, see: &mut dyn FnMut(&'k str)) {
        match (&self.send, &self.send_json) {
            (Some(text), _) => see(text),
            (None, Some(json)) => body::texts(json, see),
            (None, None) => {}
        }
    }

    /// Gives what is sent.
    pub(super) fn sent(&self) -> Template<'_> {
        match (&self.send, &self.send_json) {
            (None, Some(json)) => Template::Json(json),
            (text, _) => Template::Text(text.as_deref().unwrap_or_default()),
        }
    }
}

impl ResumeConfig {
    /// Gives the keys as they were written.
    pub(crate) fn keys(&self) -> &ResumeKeys {
        &self.keys
    }
}
