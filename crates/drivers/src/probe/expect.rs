//! What must come back, and what is taken out of it.

use super::expand::Scope;
use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json_path::JsonPath;
use std::collections::BTreeMap;

/// Longest piece of an answer that a message repeats.
const SHOWN_CHARS_MAX: usize = 200;

/// What came back.
#[derive(Debug, Default)]
pub(super) struct Got {
    /// HTTP status, or a command's exit status.
    pub(super) status: Option<i32>,
    /// Headers, names in lower case, in order.
    pub(super) headers: Vec<(String, String)>,
    /// The body, a command's output, or what a peer sent.
    pub(super) body: Vec<u8>,
    /// Which statuses are good when nothing else is expected.
    pub(super) good: Good,
}

/// What counts as good by itself.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Good {
    /// Whatever came.
    #[default]
    Anything,
    /// An HTTP status of 200 to 299.
    Http,
    /// Exit status 0.
    Exit,
}

/// A status: one number, a list of them, or a class such as "2xx".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Status {
    /// One number.
    One(i32),
    /// Any of these.
    Several(Vec<i32>),
    /// A class of HTTP statuses: `2xx`.
    Class(String),
}

/// What a JSON path must give: a plain value it equals, `{ matches = "regex" }`, or `{ exists = true }`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum JsonRule {
    /// A text that matches a regular expression.
    Matches {
        /// The regular expression.
        matches: String,
    },
    /// Whether it is there.
    Exists {
        /// True: there; false: absent.
        exists: bool,
    },
    /// Equal to this value.
    Equals(Value),
}

/// What must come back.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// The status: a number, a list, or a class such as "2xx".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// Headers by name, each a regular expression that one of its values must match.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// JSON paths of the body and what they must give.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub json: BTreeMap<String, JsonRule>,
    /// A regular expression that the body must match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// A regular expression that the body must not match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absent: Option<String>,
}

/// Where a value is taken from: `json` (a path), `header` or `body`; `regex` keeps its first group.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Capture {
    /// A JSON path of the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json: Option<String>,
    /// A header's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// With `header` or alone for the body: a regular expression; its first group is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regex: Option<String>,
}

fn regex(text: &str) -> Result<Regex, String> {
    Regex::new(text).map_err(|error| format!("{text:?} is no regular expression: {error}").replace('\n', " "))
}

fn path(text: &str) -> Result<JsonPath, String> {
    JsonPath::parse(text).map_err(|error| format!("{text:?} is no JSON path: {error}"))
}

impl Got {
    pub(super) fn good_by_itself(&self) -> Result<(), String> {
        match (self.good, self.status) {
            (Good::Http, Some(status)) if !(200..300).contains(&status) => {
                Err(format!("status {status} instead of 2xx{}", self.shown()))
            }
            (Good::Exit, Some(status)) if status != 0 => {
                Err(format!("exit status {status} instead of 0{}", self.shown()))
            }
            _ => Ok(()),
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn json(&self) -> Result<Value, String> {
        serde_json::from_slice(&self.body).map_err(|error| format!("the body is no JSON ({error}){}", self.shown()))
    }

    fn values_of<'a>(&'a self, header: &'a str) -> impl Iterator<Item = &'a str> {
        let wanted = header.to_ascii_lowercase();
        self.headers.iter().filter(move |(name, _)| *name == wanted).map(|(_, value)| value.as_str())
    }

    fn shown(&self) -> String {
        let text: String = self.text().chars().filter(|c| !c.is_control()).take(SHOWN_CHARS_MAX).collect();
        if text.is_empty() { String::new() } else { format!(": {text}") }
    }
}

impl Expect {
    pub(super) fn check(&self) -> Result<(), String> {
        for text in self.headers.values().chain(&self.body).chain(&self.absent) {
            regex(text)?;
        }
        if let Some(Status::Class(class)) = &self.status {
            class_of(class)?;
        }
        for (text, rule) in &self.json {
            path(text)?;
            if let JsonRule::Matches { matches } = rule {
                regex(matches)?;
            }
        }
        Ok(())
    }

    /// Says what did not come as expected.
    pub(super) fn met(&self, got: &Got, scope: &Scope) -> Result<(), String> {
        match (&self.status, got.status) {
            (Some(wanted), Some(status)) if !wanted.holds(status)? => {
                return Err(format!("status {status} instead of {wanted}{}", got.shown()));
            }
            (None, _) => got.good_by_itself()?,
            _ => {}
        }
        for (name, pattern) in &self.headers {
            let pattern = scope.fill(pattern)?;
            let wanted = regex(&pattern)?;
            if !got.values_of(name).any(|value| wanted.is_match(value)) {
                return Err(format!("no header {name} matches {pattern:?}"));
            }
        }
        if let Some(pattern) = &self.body
            && !regex(pattern)?.is_match(&got.text())
        {
            return Err(format!("the body does not match {pattern:?}{}", got.shown()));
        }
        if let Some(pattern) = &self.absent
            && regex(pattern)?.is_match(&got.text())
        {
            return Err(format!("the body matches {pattern:?}, which must be absent{}", got.shown()));
        }
        if self.json.is_empty() {
            return Ok(());
        }
        let body = got.json()?;
        for (text, rule) in &self.json {
            rule.met(text, &body, scope)?;
        }
        Ok(())
    }
}

impl JsonRule {
    fn met(&self, text: &str, body: &Value, scope: &Scope) -> Result<(), String> {
        let found = path(text)?.query(body).first().cloned();
        match (self, found) {
            (Self::Exists { exists: true }, Some(_)) | (Self::Exists { exists: false }, None) => Ok(()),
            (Self::Exists { exists: false }, Some(_)) => Err(format!("{text} is there and must be absent")),
            (_, None) => Err(format!("{text} is not in the body")),
            (Self::Matches { matches }, Some(value)) => {
                let value = plain(&value);
                match regex(matches)?.is_match(&value) {
                    true => Ok(()),
                    false => Err(format!("{text} is {value:?}, which does not match {matches:?}")),
                }
            }
            (Self::Equals(Value::String(wanted)), Some(value)) => {
                let wanted = scope.fill(wanted)?;
                match value == Value::String(wanted.clone()) {
                    true => Ok(()),
                    false => Err(format!("{text} is {value} instead of {wanted:?}")),
                }
            }
            (Self::Equals(wanted), Some(value)) if *wanted == value => Ok(()),
            (Self::Equals(wanted), Some(value)) => Err(format!("{text} is {value} instead of {wanted}")),
        }
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn class_of(text: &str) -> Result<i32, String> {
    let digit = text.strip_suffix("xx").and_then(|digit| digit.parse::<i32>().ok());
    digit.filter(|digit| (1..=5).contains(digit)).ok_or_else(|| format!("{text:?} is no class such as \"2xx\""))
}

impl Status {
    fn holds(&self, status: i32) -> Result<bool, String> {
        Ok(match self {
            Self::One(wanted) => *wanted == status,
            Self::Several(wanted) => wanted.contains(&status),
            Self::Class(class) => status / 100 == class_of(class)?,
        })
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::One(wanted) => write!(f, "{wanted}"),
            Self::Several(wanted) => write!(f, "one of {wanted:?}"),
            Self::Class(class) => f.write_str(class),
        }
    }
}

impl Capture {
    pub(super) fn check(&self) -> Result<(), String> {
        if self.json.is_some() && (self.header.is_some() || self.regex.is_some()) {
            return Err("a capture takes `json` alone, or `header` and/or `regex`".into());
        }
        if self.json.is_none() && self.header.is_none() && self.regex.is_none() {
            return Err("a capture needs `json`, `header` or `regex`".into());
        }
        self.json.as_deref().map(path).transpose()?;
        self.regex.as_deref().map(regex).transpose()?;
        Ok(())
    }

    pub(super) fn take(&self, got: &Got) -> Result<String, String> {
        if let Some(text) = &self.json {
            let body = got.json()?;
            let found = path(text)?.query(&body).first().map(|value| plain(value));
            return found.ok_or_else(|| format!("there is nothing to capture at {text}"));
        }
        let sources: Vec<String> = match &self.header {
            Some(header) => got.values_of(header).map(ToOwned::to_owned).collect(),
            None => vec![got.text()],
        };
        let Some(pattern) = &self.regex else {
            return sources.into_iter().next().ok_or_else(|| "the header to capture is not there".into());
        };
        let wanted = regex(pattern)?;
        let found = sources.iter().find_map(|source| {
            let groups = wanted.captures(source)?;
            groups.get(1).or_else(|| groups.get(0)).map(|group| group.as_str().to_owned())
        });
        found.ok_or_else(|| format!("nothing to capture matches {pattern:?}"))
    }
}
