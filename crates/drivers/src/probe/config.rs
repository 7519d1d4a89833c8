//! The keys of a step in lastgood.toml, checked once into acts.
#![expect(clippy::mutable_key_type, reason = "a path is compared by its text, which never changes")]

use super::{
    body::Template,
    pattern::{JsonExpectation, JsonPath, Pattern, StatusSet},
    variables,
};
use crate::config_terms::Length;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Time for one try: a page of a slow service on a small machine takes a second or two.
const TIMEOUT: Length = Length::seconds(5);
/// Time between tries.
const PAUSE: Length = Length(lastgood_domain::terms::Span(200));
/// Most tries of one step: more would only wait, and waiting is what `ready` is for.
const TRIES_MAX: u32 = 100;
/// Most alternatives of one step, and turns of one WebSocket script: a probe is a check, not a program.
const LIST_MAX: usize = 50;

/// One step of a probe, as configured and checked.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "StepKeys", into = "StepKeys")]
pub struct Step {
    pub(crate) name: String,
    pub(crate) timeout: Length,
    pub(crate) tries: u32,
    pub(crate) pause: Length,
    pub(crate) ways: Vec<Way>,
    /// Whether the ways have names that are recorded.
    pub(crate) is_choice: bool,
    pub(super) keys: StepKeys,
}

impl PartialEq for Step {
    fn eq(&self, other: &Self) -> bool {
        self.keys == other.keys
    }
}

impl Step {
    /// Gives its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// One way to do a step: an act, what is expected of it and what is kept.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    pub(crate) name: String,
    pub(crate) act: Act,
    pub(crate) expect: ExpectKeys,
    pub(crate) capture: BTreeMap<String, Capture>,
}

#[derive(Debug, Clone)]
pub(crate) enum Act {
    Http(HttpKeys),
    WebSocket(WebSocketKeys),
    Tcp(TcpKeys),
    Command { argv: Vec<String>, env: BTreeMap<String, String> },
}

#[derive(Debug, Clone)]
pub(crate) enum Capture {
    Json(JsonPath),
    Header {
        name: String,
        pattern: Option<Pattern>,
    },
    /// Of a body, a message, or what a command wrote.
    Body(Pattern),
}

/// One step. Exactly one of `http`, `websocket`, `tcp`, `command` and `any` is given.
///
/// ```toml
/// [[service.notebook.probe]]
/// name = "log in"
/// http = { method = "POST", path = "/login", json = { name = "{account}", password = "{secret:login}" } }
/// expect = { status = 200 }
/// capture = { token = { json = "$.token" } }
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepKeys {
    /// What it does, for reports. Required in a probe; `ready` is called `ready` without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Time for one try, connection included. Default `5s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Length>,
    /// How often it is tried before it has failed, 1 to 100. Default `1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tries: Option<u32>,
    /// Time between two tries. Default `200ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Length>,
    /// An HTTP request to the instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpKeys>,
    /// A WebSocket connection to the instance and what is said on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub websocket: Option<WebSocketKeys>,
    /// A plain connection to the instance's port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpKeys>,
    /// A program with arguments, started without a shell in the folder of lastgood.toml. Every variable without a
    /// secret is in its environment: `{port}` as `LASTGOOD_PORT`. It and all it started are killed at the time-out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// For `command`: further environment, such as `{ PASSWORD = "{secret:login}" }`. Secrets go here, because
    /// arguments are seen by every user of the machine.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Alternatives tried in order, such as the new path and the old one; the first that fits counts and is recorded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub any: Vec<Alternative>,
    /// What the answer has to be. Default: any status 2xx, or exit status 0.
    #[serde(default, skip_serializing_if = "is_default")]
    pub expect: ExpectKeys,
    /// What is kept of the answer for the steps after, by name: `{ token = { json = "$.data.token" } }` is `{token}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub capture: BTreeMap<String, CaptureKeys>,
}

/// One of the alternatives of a step. Exactly one of `http`, `websocket`, `tcp` and `command` is given.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Alternative {
    /// Its name, recorded when it is the one that answered.
    pub name: String,
    /// As of a step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpKeys>,
    /// As of a step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub websocket: Option<WebSocketKeys>,
    /// As of a step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpKeys>,
    /// As of a step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// As of a step.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// As of a step.
    #[serde(default, skip_serializing_if = "is_default")]
    pub expect: ExpectKeys,
    /// As of a step. Only what every alternative captures can be used afterwards.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub capture: BTreeMap<String, CaptureKeys>,
}

/// An HTTP request. Redirects are not followed; cookies are kept for the steps after.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpKeys {
    /// The method. Default `GET`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Path and query, such as `/notes?from={account}`. Values are percent-encoded.
    pub path: String,
    /// Headers. `Host` and the length are set by themselves.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// A body as JSON; sets `Content-Type: application/json` unless a header does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json: Option<serde_json::Value>,
    /// A body as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

/// A WebSocket connection; it is closed properly at the end.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebSocketKeys {
    /// Path and query.
    pub path: String,
    /// Headers of the request that opens it; cookies of earlier steps are sent by themselves.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The sub-protocol asked for; the server has to agree to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// What is sent and awaited, in order. Without it an open connection is enough.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub script: Vec<Turn>,
}

/// One turn of a WebSocket script. Exactly one key is given.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Turn {
    /// A text to send.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send: Option<String>,
    /// JSON to send.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_json: Option<serde_json::Value>,
    /// Waits for a message that this pattern is found in; others before it are passed over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<Pattern>,
    /// Waits for a JSON message that fits; others before it are passed over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect_json: Option<BTreeMap<JsonPath, JsonExpectation>>,
}

/// A plain connection. Without keys, an accepted connection is enough: `tcp = {}`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TcpKeys {
    /// A text to send, such as `"PING\r\n"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send: Option<String>,
    /// Reads until this pattern is found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<Pattern>,
}

/// What an answer has to be; everything given has to hold.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExpectKeys {
    /// Of HTTP: a status, a class or a list: `200`, `"2xx"`, `[200, 204]`. Default `"2xx"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<StatusSet>,
    /// Of HTTP: for each header a pattern found in one of its values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Pattern>,
    /// For each path what one of the values there has to be: a plain value, `{ matches = "..." }` or
    /// `{ exists = true }`. Of an HTTP body, or of what a command wrote.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub json: BTreeMap<JsonPath, JsonExpectation>,
    /// Of HTTP: a pattern found in the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Pattern>,
    /// Of a command: its exit status. Default `0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<i32>,
    /// Of a command: a pattern found in what it wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout: Option<Pattern>,
}

/// What is kept of an answer: `{ json = "$.token" }`, `{ header = "location" }`,
/// `{ header = "set-cookie", regex = "session=([^;]+)" }`, `{ body = "id=([0-9]+)" }` or, of a command,
/// `{ stdout = "..." }`. A pattern keeps its first group, or all of it. Nothing to keep is a failure of the step.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CaptureKeys {
    /// The value at a path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json: Option<JsonPath>,
    /// A header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// For `header`: the part to keep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regex: Option<Pattern>,
    /// A part of the body, or of the last message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Pattern>,
    /// A part of what a command wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout: Option<Pattern>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl TryFrom<StepKeys> for Step {
    type Error = String;

    fn try_from(keys: StepKeys) -> Result<Self, String> {
        let name = keys.name.clone().unwrap_or_else(|| "ready".into());
        if name.trim().is_empty() || name.chars().any(char::is_control) {
            return Err("name must say what the step does, such as name = \"log in\"".into());
        }
        let within = |why: String| format!("step {name:?}: {why}");
        let tries = keys.tries.unwrap_or(1);
        if !(1..=TRIES_MAX).contains(&tries) {
            return Err(within(format!("tries must be 1 to {TRIES_MAX}")));
        }
        let timeout = keys.timeout.unwrap_or(TIMEOUT);
        if timeout.0.0 == 0 {
            return Err(within("timeout must be longer than 0s".into()));
        }
        let is_choice = !keys.any.is_empty();
        let ways = if is_choice { keys.choice().map_err(within)? } else { vec![keys.only().map_err(within)?] };
        Ok(Self { name, timeout, tries, pause: keys.pause.unwrap_or(PAUSE), ways, is_choice, keys })
    }
}

impl From<Step> for StepKeys {
    fn from(step: Step) -> Self {
        step.keys
    }
}

impl StepKeys {
    fn only(&self) -> Result<Way, String> {
        Alternative {
            name: String::new(),
            http: self.http.clone(),
            websocket: self.websocket.clone(),
            tcp: self.tcp.clone(),
            command: self.command.clone(),
            env: self.env.clone(),
            expect: self.expect.clone(),
            capture: self.capture.clone(),
        }
        .way()
    }

    fn choice(&self) -> Result<Vec<Way>, String> {
        let alone = self.http.is_none() && self.websocket.is_none() && self.tcp.is_none() && self.command.is_none();
        if !alone || !self.env.is_empty() || !is_default(&self.expect) || !self.capture.is_empty() {
            return Err("with any, the acts, expect and capture stand in each alternative".into());
        }
        if self.any.len() > LIST_MAX {
            return Err(format!("any has more than {LIST_MAX} alternatives"));
        }
        let mut ways: Vec<Way> = Vec::with_capacity(self.any.len());
        for alternative in &self.any {
            if alternative.name.trim().is_empty() || ways.iter().any(|way| way.name == alternative.name) {
                return Err(format!("each alternative needs a name of its own, not {:?}", alternative.name));
            }
            ways.push(alternative.way().map_err(|why| format!("alternative {:?}: {why}", alternative.name))?);
        }
        Ok(ways)
    }
}

impl Alternative {
    fn way(&self) -> Result<Way, String> {
        let act = match (&self.http, &self.websocket, &self.tcp, &self.command) {
            (Some(http), None, None, None) => Act::Http(http.checked()?),
            (None, Some(socket), None, None) => Act::WebSocket(socket.checked()?),
            (None, None, Some(tcp), None) => Act::Tcp(tcp.clone()),
            (None, None, None, Some(argv)) => Act::Command { argv: command(argv)?, env: self.env.clone() },
            _ => {
                return Err("give exactly one of http, websocket, tcp, command and any, such as \
                            http = { path = \"/health\" }"
                    .into());
            }
        };
        if !self.env.is_empty() && self.command.is_none() {
            return Err("env is for command; it means nothing here".into());
        }
        act.refuse_strangers(&self.expect)?;
        let capture = self
            .capture
            .iter()
            .map(|(name, keys)| Ok((name.clone(), keys.capture(name, &act)?)))
            .collect::<Result<_, String>>()?;
        Ok(Way { name: self.name.clone(), act, expect: self.expect.clone(), capture })
    }
}

/// Checks the words of a command.
pub(crate) fn command(argv: &[String]) -> Result<Vec<String>, String> {
    match argv.first() {
        Some(program) if !program.is_empty() => Ok(argv.to_vec()),
        _ => Err("command needs a program, such as command = [\"./check\", \"{port}\"]".into()),
    }
}

impl HttpKeys {
    /// Refuses a request that can't be written.
    pub(crate) fn checked(&self) -> Result<Self, String> {
        check_path(&self.path)?;
        check_headers(&self.headers)?;
        let token = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphabetic() || b == b'-');
        if self.method.as_deref().is_some_and(|method| !token(method)) {
            return Err("method must be one word, such as method = \"POST\"".into());
        }
        if self.json.is_some() && self.body.is_some() {
            return Err("give json or body, not both".into());
        }
        Ok(self.clone())
    }

    /// Gives the body to send and its type.
    pub(crate) fn payload(&self) -> Option<(Template<'_>, Option<&'static str>)> {
        match (&self.json, &self.body) {
            (Some(json), _) => Some((Template::Json(json), Some("application/json"))),
            (None, Some(body)) => Some((Template::Text(body), None)),
            (None, None) => None,
        }
    }
}

impl WebSocketKeys {
    fn checked(&self) -> Result<Self, String> {
        check_path(&self.path)?;
        check_headers(&self.headers)?;
        if self.script.len() > LIST_MAX {
            return Err(format!("script has more than {LIST_MAX} turns"));
        }
        for turn in &self.script {
            let given =
                [turn.send.is_some(), turn.send_json.is_some(), turn.expect.is_some(), turn.expect_json.is_some()];
            if given.iter().filter(|given| **given).count() != 1 {
                return Err("each turn of a script is one of send, send_json, expect and expect_json".into());
            }
        }
        Ok(self.clone())
    }
}

/// Refuses what can't be a path with its query.
pub(crate) fn check_path(path: &str) -> Result<(), String> {
    let whole = path.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    let is_variable = whole.is_some_and(variables::is_variable_name);
    if !(path.starts_with('/') || is_variable) || path.chars().any(|c| c.is_control() || c == ' ' || c == '#') {
        return Err(format!("path {path:?} must start with / and have no space, such as \"/notes?from={{account}}\""));
    }
    Ok(())
}

/// Refuses headers that can't be sent, or that are not the configuration's.
pub(crate) fn check_headers(headers: &BTreeMap<String, String>) -> Result<(), String> {
    for (name, value) in headers {
        if !is_header_name(name) || value.contains(['\r', '\n', '\0']) {
            return Err(format!(
                "{name:?} is not a header; write headers = {{ Authorization = \"Bearer {{token}}\" }}"
            ));
        }
        if ["content-length", "transfer-encoding", "connection", "host"].contains(&name.to_ascii_lowercase().as_str()) {
            return Err(format!("the header {name} is set by itself"));
        }
    }
    Ok(())
}

/// Tells whether `name` can be the name of a header.
pub(crate) fn is_header_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

impl Act {
    /// Refuses expectations that mean nothing for this kind: one that nobody checks looks like a check.
    fn refuse_strangers(&self, expect: &ExpectKeys) -> Result<(), String> {
        let (kind, allowed): (_, &[&str]) = match self {
            Self::Http(_) => ("http", &["status", "headers", "json", "body"]),
            Self::WebSocket(_) => ("websocket", &[]),
            Self::Tcp(_) => ("tcp", &[]),
            Self::Command { .. } => ("command", &["exit", "stdout", "json"]),
        };
        let given = [
            ("status", expect.status.is_some()),
            ("headers", !expect.headers.is_empty()),
            ("json", !expect.json.is_empty()),
            ("body", expect.body.is_some()),
            ("exit", expect.exit.is_some()),
            ("stdout", expect.stdout.is_some()),
        ];
        match given.iter().find(|(key, given)| *given && !allowed.contains(key)) {
            None => Ok(()),
            Some((key, _)) if allowed.is_empty() => {
                let inside = if kind == "tcp" { "tcp = { expect = \"...\" }" } else { "its script" };
                Err(format!("expect.{key} means nothing for {kind}; what it awaits stands in {inside}"))
            }
            Some((key, _)) => Err(format!("expect.{key} means nothing for {kind}; it takes {}", allowed.join(", "))),
        }
    }
}

impl CaptureKeys {
    fn capture(&self, name: &str, act: &Act) -> Result<Capture, String> {
        const TAKEN: [&str; 5] = ["host", "port", "data", "instance", "service"];
        if !variables::is_variable_name(name) || TAKEN.contains(&name) {
            return Err(format!("a capture can't be called {name:?}: use letters, digits and _, and no built-in name"));
        }
        let wrong = || {
            format!(
                "capture {name:?} is one of {{ json = \"$.token\" }}, {{ header = \"...\", regex = \"...\" }}, \
                 {{ body = \"...\" }} and, of a command, {{ stdout = \"...\" }}"
            )
        };
        match (&self.json, &self.header, &self.regex, &self.body, &self.stdout, act) {
            (Some(path), None, None, None, None, _) => Ok(Capture::Json(path.clone())),
            (None, Some(header), regex, None, None, Act::Http(_)) => {
                Ok(Capture::Header { name: header.to_ascii_lowercase(), pattern: regex.clone() })
            }
            (None, None, None, None, Some(pattern), Act::Command { .. }) => Ok(Capture::Body(pattern.clone())),
            (None, None, None, Some(pattern), None, Act::Http(_) | Act::WebSocket(_) | Act::Tcp(_)) => {
                Ok(Capture::Body(pattern.clone()))
            }
            _ => Err(wrong()),
        }
    }
}
