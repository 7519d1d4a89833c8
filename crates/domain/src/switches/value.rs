//! A flag's value: JSON that was checked once and is kept and served as the bytes that it is.

use super::FlagKind;
use alloc::string::String;
use core::fmt;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::IgnoredAny};

/// Longest value: flags are switches, not files.
const VALUE_BYTES_MAX: usize = 16 * 1024;

/// Tells why a text is no value of a flag.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// It is no JSON.
    #[error("{text:?} is no JSON: {why}")]
    NotJson {
        /// Repeats the text, cut to 80 characters.
        text: String,
        /// What the parser says.
        why: String,
    },
    /// It is JSON of a kind that no flag has.
    #[error("a flag's value is a boolean, a text, a number, an object or a list, never null")]
    Null,
    /// It is too long.
    #[error("a value of {bytes} bytes is too long, at most {VALUE_BYTES_MAX} are allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
}

/// One JSON value without white space around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlagValue(String);

impl FlagValue {
    /// Checks a JSON text.
    ///
    /// Errors: [`ValueError`].
    pub fn new(text: &str) -> Result<Self, ValueError> {
        let text = text.trim();
        if text.len() > VALUE_BYTES_MAX {
            return Err(ValueError::TooLong { bytes: text.len() });
        }
        serde_json::from_str::<IgnoredAny>(text).map_err(|error| ValueError::NotJson {
            text: text.chars().take(80).collect(),
            why: alloc::format!("{error}"),
        })?;
        if text == "null" {
            return Err(ValueError::Null);
        }
        // A line break inside would end an event of a stream.
        Ok(Self(if text.contains(['\n', '\r']) { compact(text) } else { text.into() }))
    }

    /// Gives the value of a boolean flag.
    pub fn boolean(value: bool) -> Self {
        Self(if value { "true".into() } else { "false".into() })
    }

    /// Gives the JSON text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Tells what kind of flag it is a value of.
    pub fn kind(&self) -> FlagKind {
        match self.0.as_bytes().first() {
            Some(b't' | b'f') => FlagKind::Boolean,
            Some(b'"') => FlagKind::String,
            Some(b'{' | b'[') => FlagKind::Object,
            _ => FlagKind::Number,
        }
    }
}

fn compact(text: &str) -> String {
    // It was parsed a moment ago. Line breaks inside texts are escaped in JSON, so those that stand here are blanks.
    text.replace(['\n', '\r'], " ")
}

impl fmt::Display for FlagValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Serialize for FlagValue {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for FlagValue {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_told_and_nonsense_is_refused() {
        let kind = |text: &str| FlagValue::new(text).map(|value| value.kind());
        assert_eq!(kind("true"), Ok(FlagKind::Boolean));
        assert_eq!(kind(" \"a\" "), Ok(FlagKind::String));
        assert_eq!(kind("-1.5e3"), Ok(FlagKind::Number));
        assert_eq!(kind("{\"a\":[1]}"), Ok(FlagKind::Object));
        assert_eq!(kind("null"), Err(ValueError::Null));
        for bad in ["", "tru", "1 2", "{a:1}", "\"", "NaN"] {
            assert!(matches!(kind(bad), Err(ValueError::NotJson { .. })), "{bad:?} was accepted");
        }
        assert!(matches!(kind(&alloc::format!("\"{}\"", "x".repeat(20_000))), Err(ValueError::TooLong { .. })));
    }

    #[test]
    fn a_value_never_has_a_line_break() {
        assert_eq!(FlagValue::new("{\n\"a\": \"b\\n\"\r\n}").map(|value| value.0), Ok("{ \"a\": \"b\\n\"  }".into()));
    }
}
