//! What the daemon says, read strictly: what is not understood is not taken.

use crate::json::{Json, parse};
use std::time::Duration;

/// What a program does about one switch when it hears nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Safe {
    /// It blocks.
    Tripped,
    /// It stays as it heard last.
    AsHeard,
}

/// One switch as it was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Its name.
    pub name: String,
    /// Whether what it names is blocked.
    pub tripped: bool,
    /// What to do without hearing.
    pub safe: Safe,
}

/// Everything the daemon says at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What the switches are set for.
    pub environment: String,
    /// Grows with each change.
    pub epoch: u64,
    /// How long this holds without being heard again.
    pub lease: Duration,
    /// Every switch there is.
    pub switches: Vec<Told>,
}

impl Message {
    /// Reads a message; unknown keys are passed over, and a `safe` that is not known is the one that blocks.
    pub fn read(text: &str) -> Option<Self> {
        let document = parse(text)?;
        let switches = document.get("switches")?.list()?.iter().map(Told::of).collect::<Option<Vec<_>>>()?;
        Some(Self {
            environment: document.get("environment")?.text()?.to_owned(),
            epoch: document.get("epoch")?.number()?,
            lease: Duration::from_millis(document.get("lease_ms")?.number()?),
            switches,
        })
    }
}

impl Told {
    fn of(one: &Json<'_>) -> Option<Self> {
        Some(Self {
            name: one.get("name")?.text()?.to_owned(),
            tripped: one.get("tripped")?.boolean()?,
            safe: match one.get("safe").and_then(Json::text) {
                Some("as-heard") => Safe::AsHeard,
                _ => Safe::Tripped,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_and_what_is_new_in_it_is_passed_over() {
        let text = r#"{"environment":"production","epoch":7,"new":{"a":[1,-2.5e3,"x\"y",null]},"lease_ms":10000,
            "switches":[{"name":"auth","safe":"as-heard","tripped":true,"since":1},{"name":"crypto","tripped":false}]}"#;
        let message = Message::read(text).unwrap();
        assert_eq!((message.environment.as_str(), message.epoch), ("production", 7));
        assert_eq!(message.lease, Duration::from_secs(10));
        let told: Vec<_> = message.switches.iter().map(|one| (one.name.as_str(), one.tripped, one.safe)).collect();
        assert_eq!(told, [("auth", true, Safe::AsHeard), ("crypto", false, Safe::Tripped)]);
    }

    #[test]
    fn what_is_not_understood_is_not_taken() {
        let good = r#"{"environment":"p","epoch":7,"lease_ms":1,"switches":[]}"#;
        assert!(Message::read(good).is_some());
        for (from, to) in [
            ("\"epoch\":7", "\"epoch\":-7"),
            ("\"epoch\":7", "\"epoch\":\"7\""),
            ("\"epoch\":7", "\"epoch\":7.5"),
            ("\"epoch\":7", "\"epoch\":99999999999999999999"),
            ("[]", "[{\"name\":\"a\"}]"),
            ("[]", "[{\"name\":\"a\",\"tripped\":0}]"),
            ("[]", "{}"),
            ("}", ""),
            ("}", "}}"),
        ] {
            assert_eq!(Message::read(&good.replacen(from, to, 1)), None, "{to}");
        }
        for end in 0..good.len() {
            assert_eq!(Message::read(&good[..end]), None, "{end} bytes");
        }
    }
}
