//! How an act fails: a stable code, one sentence, and what to do now.

use crate::terms::InstanceName;
use alloc::{
    format,
    string::{String, ToString},
};
use core::fmt;
use serde::{Deserialize, Serialize};

/// An error with a stable code and a next step; every code has a page in docs/errors.
pub trait Coded: core::error::Error {
    /// Gives the stable kebab-case code, such as `snapshot-no-space`.
    fn code(&self) -> &'static str;

    /// Gives the next step to take, best of all a command to type.
    fn hint(&self) -> Option<String>;
}

/// The next step after an error that lastgood can only have made itself.
pub const REPORT: &str = "report it to who maintains lastgood, with the output of: lastgood log --all";

/// A failed act as it is kept in evidence: no secret, no stack, cut to [`Failure::MESSAGE_CHARS_MAX`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The stable kebab-case code.
    pub code: String,
    /// What failed, with the thing's name, and why.
    pub message: String,
    /// What to do now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Failure {
    /// Longest message kept, in characters: a log line of a broken program must not swell the evidence.
    pub const MESSAGE_CHARS_MAX: usize = 2_000;

    /// Makes a failure from its parts.
    pub fn new(code: &str, message: impl Into<String>, hint: Option<&str>) -> Self {
        let message: String = message.into();
        Self {
            code: code.into(),
            message: message.chars().take(Self::MESSAGE_CHARS_MAX).collect(),
            hint: hint.map(Into::into),
        }
    }

    /// Records a coded error with the chain of its causes.
    pub fn of(error: &dyn Coded) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            message = format!("{message}: {inner}");
            cause = inner.source();
        }
        Self::new(error.code(), message, error.hint().as_deref())
    }
}

impl Failure {
    /// Gives what is said of an instance that is named before it: a message that begins with `service/instance: ` would
    /// name it twice.
    pub fn about(&self, instance: &InstanceName) -> String {
        let message = match self.message.split_once(": ") {
            Some((who, rest)) if who.split_once('/').is_some_and(|(_, name)| name == instance.as_str()) => rest,
            _ => &self.message,
        };
        format!("{message} [{}]", self.code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.message, self.code)
    }
}
