//! What is sent: a text or JSON with its variables put in.

use super::variables::{self, Place, Unknown};
use serde_json::Value;

/// A body as configured.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Template<'c> {
    Text(&'c str),
    Json(&'c Value),
}

impl Template<'_> {
    /// Puts in the variables.
    pub(crate) fn fill(self, value: &dyn Fn(&str) -> Option<String>) -> Result<String, Unknown> {
        match self {
            Self::Text(text) => variables::expand(text, Place::Plain, value),
            Self::Json(json) => fill_json(json, value).map(|json| json.to_string()),
        }
    }
}

/// Puts variables into every text of a JSON value; what is put in stays a text, whatever it holds.
pub(crate) fn fill_json(json: &Value, value: &dyn Fn(&str) -> Option<String>) -> Result<Value, Unknown> {
    Ok(match json {
        Value::String(text) => Value::String(variables::expand(text, Place::Plain, value)?),
        Value::Array(items) => Value::Array(items.iter().map(|item| fill_json(item, value)).collect::<Result<_, _>>()?),
        Value::Object(fields) => Value::Object(
            fields
                .iter()
                .map(|(key, item)| Ok((key.clone(), fill_json(item, value)?)))
                .collect::<Result<_, Unknown>>()?,
        ),
        other => other.clone(),
    })
}

/// Calls `see` with every text of a JSON value.
pub(crate) fn texts<'v>(json: &'v Value, see: &mut dyn FnMut(&'v str)) {
    match json {
        Value::String(text) => see(text),
        Value::Array(items) => items.iter().for_each(|item| texts(item, see)),
        Value::Object(fields) => fields.values().for_each(|item| texts(item, see)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
