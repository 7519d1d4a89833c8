//! What an answer is compared with: patterns, paths into JSON and sets of status codes, compiled when they are read.

use super::variables;
use regex::Regex;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::Value;
use std::{borrow::Cow, cmp::Ordering, fmt, sync::Arc};

/// A regular expression as it stands in the configuration; it may hold `{variables}`, whose values are taken literally.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: String,
    /// Compiled once; none where a variable has to be put in first.
    regex: Option<Regex>,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// Errors: where it is wrong.
    pub fn new(text: &str) -> Result<Self, String> {
        let has_variables = variables::names(text, variables::Place::Pattern).next().is_some();
        // A stand-in shows the mistakes of the pattern itself before any value is known.
        let trial = variables::expand(text, variables::Place::Pattern, &|_| Some("x".into())).unwrap_or_default();
        let regex = Regex::new(&trial).map_err(|error| last_line(&error, text))?;
        Ok(Self { text: text.into(), regex: (!has_variables).then_some(regex) })
    }

    /// Gives it as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Gives the expression with its variables put in.
    pub(crate) fn regex(&self, value: &dyn Fn(&str) -> Option<String>) -> Result<Cow<'_, Regex>, String> {
        match &self.regex {
            Some(regex) => Ok(Cow::Borrowed(regex)),
            None => {
                let text = variables::expand(&self.text, variables::Place::Pattern, value)
                    .map_err(|unknown| format!("`{{{}}}` has no value", unknown.name))?;
                Regex::new(&text).map(Cow::Owned).map_err(|error| last_line(&error, &self.text))
            }
        }
    }
}

/// The compiler of patterns draws its errors over several lines; the last says what is wrong.
fn last_line(error: &regex::Error, text: &str) -> String {
    let whole = error.to_string();
    let line = whole.lines().last().unwrap_or_default();
    format!("{text:?} is not a pattern: {}", line.strip_prefix("error: ").unwrap_or(line))
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::new(&Cow::<str>::deserialize(from)?).map_err(D::Error::custom)
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.text)
    }
}

impl JsonSchema for Pattern {
    fn schema_name() -> Cow<'static, str> {
        "Pattern".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": "regex",
            "description": "A regular expression that is searched for; anchor it with ^ and $ where it has to fit the whole."
        })
    }
}

/// A JSONPath (RFC 9535), such as `$.data.token`.
#[derive(Debug, Clone)]
pub struct JsonPath {
    text: String,
    path: Arc<serde_json_path::JsonPath>,
}

impl JsonPath {
    /// Reads a path.
    ///
    /// Errors: where it is wrong.
    pub fn new(text: &str) -> Result<Self, String> {
        let path = serde_json_path::JsonPath::parse(text)
            .map_err(|error| format!("{text:?} is not a path into JSON such as \"$.data.token\": {error}"))?;
        Ok(Self { text: text.into(), path: Arc::new(path) })
    }

    /// Gives it as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Gives every value the path leads to.
    pub(crate) fn find<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        self.path.query(value).all()
    }
}

impl PartialEq for JsonPath {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for JsonPath {}

impl PartialOrd for JsonPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for JsonPath {
    fn cmp(&self, other: &Self) -> Ordering {
        self.text.cmp(&other.text)
    }
}

impl<'de> Deserialize<'de> for JsonPath {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::new(&Cow::<str>::deserialize(from)?).map_err(D::Error::custom)
    }
}

impl Serialize for JsonPath {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.text)
    }
}

impl JsonSchema for JsonPath {
    fn schema_name() -> Cow<'static, str> {
        "JsonPath".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "description": "A path into JSON (RFC 9535), such as $.data.token." })
    }
}

/// What one of the values at a path has to be.
#[derive(Debug, Clone, PartialEq)]
pub enum JsonExpectation {
    /// The same value; numbers by value, texts with their variables put in.
    Equals(Value),
    /// A text, number or truth value that the pattern is found in.
    Matches(Pattern),
    /// There at all, or not.
    Exists(bool),
}

impl<'de> Deserialize<'de> for JsonExpectation {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        const FORMS: &str = "write a plain value, { equals = ... }, { matches = \"...\" } or { exists = true }";
        let value = Value::deserialize(from)?;
        let Value::Object(fields) = &value else {
            return Ok(Self::Equals(value));
        };
        let mut fields = fields.iter();
        match (fields.next(), fields.next()) {
            (Some((key, value)), None) => match (key.as_str(), value) {
                ("equals", value) => Ok(Self::Equals(value.clone())),
                ("matches", Value::String(text)) => Pattern::new(text).map(Self::Matches).map_err(D::Error::custom),
                ("exists", Value::Bool(there)) => Ok(Self::Exists(*there)),
                _ => Err(D::Error::custom(FORMS)),
            },
            _ => Err(D::Error::custom(FORMS)),
        }
    }
}

impl Serialize for JsonExpectation {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Equals(value @ Value::Object(_)) => serde_json::json!({ "equals": value }).serialize(to),
            Self::Equals(value) => value.serialize(to),
            Self::Matches(pattern) => serde_json::json!({ "matches": pattern.as_str() }).serialize(to),
            Self::Exists(there) => serde_json::json!({ "exists": there }).serialize(to),
        }
    }
}

impl JsonSchema for JsonExpectation {
    fn schema_name() -> Cow<'static, str> {
        "JsonExpectation".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A plain value to equal, { equals = ... }, { matches = \"pattern\" } or { exists = true }."
        })
    }
}

/// Status codes: `200`, `"2xx"`, or a list such as `[200, 204, "3xx"]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusSet(Vec<Status>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Exactly(u16),
    Class(u16),
}

impl StatusSet {
    /// Any code that says it went well.
    pub(crate) fn success() -> Self {
        Self(vec![Status::Class(2)])
    }

    /// Tells whether `code` is one of them.
    pub fn has(&self, code: u16) -> bool {
        self.0.iter().any(|status| match status {
            Status::Exactly(exact) => *exact == code,
            Status::Class(class) => *class == code / 100,
        })
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(code) => write!(f, "{code}"),
            Self::Class(class) => write!(f, "{class}xx"),
        }
    }
}

impl fmt::Display for StatusSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&all.join(" or "))
    }
}

fn status(value: &Value) -> Result<Status, String> {
    let wrong = || format!("{value} is not a status: write 200, \"2xx\" or a list of them");
    if let Some(code) = value.as_u64() {
        return u16::try_from(code)
            .ok()
            .filter(|code| (100..=599).contains(code))
            .map(Status::Exactly)
            .ok_or_else(wrong);
    }
    let class = value.as_str().and_then(|text| text.strip_suffix("xx")).and_then(|class| class.parse().ok());
    class.filter(|class| (1..=5).contains(class)).map(Status::Class).ok_or_else(wrong)
}

impl<'de> Deserialize<'de> for StatusSet {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let all = match Value::deserialize(from)? {
            Value::Array(all) if !all.is_empty() => all,
            one => vec![one],
        };
        all.iter().map(status).collect::<Result<_, _>>().map(Self).map_err(D::Error::custom)
    }
}

impl Serialize for StatusSet {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let one = |status: &Status| match status {
            Status::Exactly(code) => Value::from(*code),
            Status::Class(_) => Value::from(status.to_string()),
        };
        match self.0.as_slice() {
            [status] => one(status).serialize(to),
            all => all.iter().map(one).collect::<Vec<_>>().serialize(to),
        }
    }
}

impl JsonSchema for StatusSet {
    fn schema_name() -> Cow<'static, str> {
        "StatusSet".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A status code, a class such as \"2xx\", or a list of them.",
            "anyOf": [
                { "type": "integer", "minimum": 100, "maximum": 599 },
                { "type": "string", "pattern": "^[1-5]xx$" },
                { "type": "array", "items": { "type": ["integer", "string"] } }
            ]
        })
    }
}
