//! The words of the product as types, made by constructors that can refuse.
//!
//! REQUIREMENTS has the vocabulary; every name here is one of its words. A bare `String` or `u64` in a
//! signature elsewhere is a smell: it belongs here with a unit and a range.

use alloc::{
    borrow::ToOwned,
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::{fmt, str::FromStr};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Tells why a text is not a valid term.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a valid {what}: {why}")]
pub struct TermError {
    /// Names the term, such as `service name`.
    pub what: &'static str,
    /// Repeats the refused text, cut to 80 characters.
    pub text: String,
    /// Says what is expected instead.
    pub why: &'static str,
}

impl TermError {
    fn new(what: &'static str, text: &str, why: &'static str) -> Self {
        Self { what, text: text.chars().take(80).collect(), why }
    }
}

macro_rules! text_term {
    ($(#[$doc:meta])* $name:ident, $what:literal, $why:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Checks and wraps `text`.
            pub fn new(text: &str) -> Result<Self, TermError> {
                let check: fn(&str) -> bool = $check;
                if check(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(TermError::new($what, text, $why))
                }
            }

            /// Gives the text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = TermError;
            fn from_str(text: &str) -> Result<Self, TermError> {
                Self::new(text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = String::deserialize(from)?;
                Self::new(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    (1..=63).contains(&text.len())
        && text.starts_with(plain)
        && text.chars().all(|c| plain(c) || matches!(c, '-' | '_' | '.'))
        && !text.contains("..")
}

text_term!(
    /// Names a service; used in paths, chains and unit names.
    ServiceName, "service name",
    "use 1 to 63 of a-z, 0-9, '-', '_' and single '.', starting with a letter or digit", is_name
);
text_term!(
    /// Names one instance of a service; unique within it.
    InstanceName, "instance name",
    "use 1 to 63 of a-z, 0-9, '-', '_' and single '.', starting with a letter or digit", is_name
);
text_term!(
    /// Names a release as its channel does, such as `26.9.0` or `v2.1`. Never used as a path.
    ReleaseTag, "release tag", "use 1 to 128 visible ASCII characters, not starting with '-'",
    |text| (1..=128).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_graphic())
        && !text.starts_with('-')
);
text_term!(
    /// Names a git commit by its whole id, in SHA-1 or SHA-256: a short one may come to mean another.
    CommitId, "commit id", "use all 40 or 64 digits, in small letters, as git rev-parse prints them",
    |text| matches!(text.len(), 40 | 64) && text.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'))
);
fn is_chain(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.split('/').all(is_name)
}

text_term!(
    /// Names one evidence chain by kind and subject, such as `service/actual` or `incident/i7`.
    ChainName, "chain name",
    "use 1 to 128 ASCII characters: names of a-z, 0-9, '-', '_', '.' joined by '/', such as service/actual", is_chain
);
text_term!(
    /// Names who did something: `person:alice`, `lastgood:schedule`. Set by us, never by a client.
    Actor, "actor", "use kind:name of visible characters, 3 to 128 in all",
    |text| (3..=128).contains(&text.len())
        && text.split_once(':').is_some_and(|(kind, name)| !kind.is_empty() && !name.is_empty())
        && text.chars().all(|c| !c.is_control() && !c.is_whitespace())
);
text_term!(
    /// Says why a person did something; required by hold, pin, reject, waive.
    Reason, "reason", "say why in 1 to 500 characters on one line",
    |text| (1..=500).contains(&text.trim().len()) && !text.chars().any(char::is_control)
);

text_term!(
    /// Names the place that flags and switches are set for, such as `production`; part of a chain's name.
    EnvironmentName, "environment name",
    "use 1 to 63 of a-z, 0-9, '-', '_' and single '.', starting with a letter or digit", is_name
);
text_term!(
    /// Names one gate of the configuration, such as `unit`.
    GateName, "gate name",
    "use 1 to 63 of a-z, 0-9, '-', '_' and single '.', starting with a letter or digit", is_name
);
text_term!(
    /// Names one kill switch: a subsystem, or `all`.
    SwitchName, "switch name",
    "use 1 to 63 of a-z, 0-9, '-', '_' and single '.', starting with a letter or digit", is_name
);
text_term!(
    /// Names one signal.
    SignalName, "signal name",
    "use 1 to 63 of a-z, 0-9, '-', '_' and single '.', starting with a letter or digit", is_name
);
text_term!(
    /// Names a feature flag as programs ask for it.
    FlagKey, "flag key", "use 1 to 128 of letters, digits, '-', '_', '.' and ':'",
    |text| (1..=128).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':'))
);
text_term!(
    /// Names one of a flag's values.
    VariantName, "variant name", "use 1 to 64 of letters, digits, '-', '_' and '.'",
    |text| (1..=64).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
);

text_term!(
    /// Names what enforces holds outside, such as `repository`.
    EnforcerName, "enforcer name",
    "use 1 to 63 of a-z, 0-9, '-', '_' and single '.', starting with a letter or digit", is_name
);
text_term!(
    /// Names a role that people take, such as `incident-commander`.
    RoleName, "role name",
    "use 1 to 63 of a-z, 0-9, '-', '_' and single '.', starting with a letter or digit", is_name
);

text_term!(
    /// Names one item of a cleanup checklist, such as `queues-drained`.
    ItemName, "item name",
    "use 1 to 63 of a-z, 0-9, '-', '_' and single '.', starting with a letter or digit", is_name
);

macro_rules! id_term {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&format!(concat!($prefix, "{}"), self.0))
            }
        }

        impl FromStr for $name {
            type Err = TermError;
            fn from_str(text: &str) -> Result<Self, TermError> {
                // One spelling for each number: no sign, no zeros before it.
                let plain = |digits: &&str| {
                    digits.bytes().all(|byte| byte.is_ascii_digit()) && (*digits == "0" || !digits.starts_with('0'))
                };
                text.strip_prefix($prefix)
                    .filter(plain)
                    .and_then(|digits| digits.parse().ok())
                    .map(Self)
                    .ok_or_else(|| TermError::new("id", text, concat!("write it like ", $prefix, "12")))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

id_term!(
    /// Numbers one order to a driver within its service's chain; a late answer is refused by it.
    OrderId, "o"
);
id_term!(
    /// Numbers one run (one pass over the channel, or one rollback) within its service's chain.
    RunId, "r"
);
id_term!(
    /// Numbers one hold within its service's chain.
    HoldId, "h"
);
id_term!(
    /// Numbers one hold over several services within the operations chain.
    WideHoldId, "hold-"
);
id_term!(
    /// Numbers one request for approval within the operations chain.
    ApprovalId, "a"
);
id_term!(
    /// Numbers one page within the operations chain.
    PageId, "p"
);
id_term!(
    /// Numbers one incident within the operations chain.
    IncidentId, "i"
);
id_term!(
    /// Numbers one follow-up within its incident.
    FollowUpId, "f"
);
id_term!(
    /// Numbers one snapshot of one instance within its service's chain; also its folder's name.
    SnapshotId, "s"
);

/// A point in time: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Gives the time `span` later, or the latest time there is.
    pub fn after(self, span: Span) -> Self {
        Self(self.0.saturating_add_unsigned(span.0))
    }

    /// Gives how long ago `earlier` was; zero if the clock was set back in between.
    pub fn since(self, earlier: Self) -> Span {
        Span(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// A length of time in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct Span(pub u64);

impl Span {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// Makes a span of whole seconds.
    pub const fn seconds(count: u64) -> Self {
        Self(count.saturating_mul(1_000))
    }

    /// Makes a span of whole minutes.
    pub const fn minutes(count: u64) -> Self {
        Self::seconds(count.saturating_mul(60))
    }

    /// Gives it as the standard library's duration.
    pub const fn duration(self) -> core::time::Duration {
        core::time::Duration::from_millis(self.0)
    }
}

impl fmt::Display for Span {
    /// Writes it as people say it: `340 ms`, `12.5 s`, `7 min`, `3 h 20 min`, `17 d`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ms, s) = (self.0, self.0 / 1_000);
        let text = match s {
            0 => format!("{ms} ms"),
            1..=59 => format!("{s}.{} s", ms % 1_000 / 100),
            60..=3_599 => format!("{} min", s / 60),
            3_600..=172_799 => format!("{} h {} min", s / 3_600, s % 3_600 / 60),
            _ => format!("{} d", s / 86_400),
        };
        f.pad(&text)
    }
}

impl FromStr for Span {
    type Err = TermError;

    /// Reads `250ms`, `10s`, `5m`, `2h`, `7d`: one whole number and one unit.
    fn from_str(text: &str) -> Result<Self, TermError> {
        let wrong = || TermError::new("length of time", text, "write it like 250ms, 10s, 5m, 2h or 7d");
        let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (digits, unit) = text.split_at(split);
        let count: u64 = digits.parse().map_err(|_| wrong())?;
        let factor = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wrong()),
        };
        count.checked_mul(factor).map(Self).ok_or_else(wrong)
    }
}

/// A SHA-256 digest of bytes, written `sha256:` and 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Digests `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// Gives the first 12 hex digits: enough to tell releases apart on a screen and in a path.
    pub fn short(&self) -> String {
        hex(&self.0[..6])
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", hex(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = TermError;
    fn from_str(text: &str) -> Result<Self, TermError> {
        let wrong = || TermError::new("digest", text, "write sha256: and 64 hex digits");
        let digits = text.strip_prefix("sha256:").ok_or_else(wrong)?;
        // A number's reader takes a sign for a digit.
        if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let bytes: Vec<u8> = (0..64)
            .step_by(2)
            .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).map_err(|_| wrong()))
            .collect::<Result<_, _>>()?;
        Ok(Self(bytes.try_into().map_err(|_| wrong())?))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.to_string())
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// One immutable version: tag, digest of the artefact as fetched, and where it came from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Release {
    /// The channel's name for it.
    pub tag: ReleaseTag,
    /// SHA-256 of the artefact's bytes as fetched (a tarball, a wheel) or of the tree (a directory, git).
    pub digest: Digest,
    /// Where it came from, without credentials: `npm:@actual-app/sync-server`.
    pub origin: String,
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.tag.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_a_folder_are_refused() {
        for bad in ["", "..", "a/b", "-a", "a..b", "A", "a b", "ä"] {
            assert!(ServiceName::new(bad).is_err(), "{bad:?} was accepted");
        }
        assert_eq!(ServiceName::new("actual-server.2").map(|n| n.to_string()), Ok("actual-server.2".into()));
    }

    #[test]
    fn a_span_reads_what_people_write_and_says_it_back() {
        let said = |text: &str| text.parse::<Span>().map(|span| span.to_string()).ok();
        assert_eq!(said("250ms").as_deref(), Some("250 ms"));
        assert_eq!(said("90s").as_deref(), Some("1 min"));
        assert_eq!(said("17d").as_deref(), Some("17 d"));
        assert_eq!(said("10"), None);
        assert_eq!(said("1.5s"), None);
        assert_eq!(said("99999999999999999999d"), None);
    }

    #[test]
    fn a_clock_that_was_set_back_gives_no_negative_age() {
        assert_eq!(Timestamp(5).since(Timestamp(9)), Span::ZERO);
    }

    #[test]
    fn a_digest_survives_writing_and_reading() {
        let digest = Digest::of(b"abc");
        assert_eq!(digest.to_string(), "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert!("sha256:zz".parse::<Digest>().is_err());
        assert!(format!("sha256:{}", "+1".repeat(32)).parse::<Digest>().is_err());
    }

    #[test]
    fn an_id_has_one_spelling() {
        assert_eq!("a12".parse(), Ok(ApprovalId(12)));
        assert_eq!("a0".parse(), Ok(ApprovalId(0)));
        for text in ["a+12", "a012", "a-1", "a", "12", "a1 "] {
            assert!(text.parse::<ApprovalId>().is_err(), "{text:?} was accepted");
        }
    }
}
