//! What a flag is: its kind, its values, and the rules that say who gets which.

use super::FlagValue;
use crate::{
    terms::{FlagKey, SwitchName, VariantName},
    traffic::SEATS,
};
use alloc::{
    collections::BTreeMap,
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::fmt;
use serde::{Deserialize, Serialize};

/// Most rules of one flag: they are looked at one after another for each question.
pub const RULES_MAX: usize = 64;
/// Most values of one flag.
pub const VARIANTS_MAX: usize = 64;
/// Most conditions of one rule, and most values of one list.
const CONDITIONS_MAX: usize = 256;

/// Which type a flag's values have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FlagKind {
    /// True or false.
    Boolean,
    /// A text.
    String,
    /// A whole number or a fraction.
    Number,
    /// A JSON object or list.
    Object,
}

impl FlagKind {
    /// Gives the word that the configuration and the command line use.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::String => "string",
            Self::Number => "number",
            Self::Object => "object",
        }
    }
}

impl fmt::Display for FlagKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// Everything about a flag but whether it is on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// The type of all its values.
    #[serde(rename = "type")]
    pub kind: FlagKind,
    /// Its values by name.
    pub variants: BTreeMap<VariantName, FlagValue>,
    /// The value that is given while the flag is off, and to whom no rule and no share gives another; without it
    /// programs use the value in their own code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub off: Option<VariantName>,
    /// Tried in order; the first whose conditions all hold decides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
    /// What those get whom no rule names.
    pub serve: Serve,
    /// The kill switch that turns this flag off while it is tripped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subsystem: Option<SwitchName>,
    /// Text that seats people for shares; without it the flag's key. Another text chooses other people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub salt: Option<String>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
}

/// What is given to people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Serve {
    /// One value for everybody.
    Variant(VariantName),
    /// Values by shares of people, in order; who is in no share gets the value of the flag when off.
    Split(Vec<Part>),
}

/// A share of people and what they get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The value.
    pub variant: VariantName,
    /// How many of 10,000 seats.
    pub seats: u16,
}

/// Conditions and what is given to whom all of them fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// All must hold; at least one.
    pub when: Vec<Condition>,
    /// What is given then.
    pub serve: Serve,
}

/// A test of one attribute. It never holds for an attribute that is missing or of another type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// The attribute's name in the context; `targetingKey` is who asks.
    pub attribute: String,
    /// What must hold of it.
    #[serde(flatten)]
    pub test: Test,
}

/// What must hold of an attribute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "test", rename_all = "kebab-case")]
pub enum Test {
    /// It is this: a text letter by letter, a number by its value, or `true` and `false`.
    Equals {
        /// What.
        value: String,
    },
    /// It is one of these.
    In {
        /// Which.
        values: Vec<String>,
    },
    /// It is a text that begins so.
    Prefix {
        /// How.
        value: String,
    },
    /// It is a number that compares so.
    Number {
        /// How.
        is: Comparison,
        /// The number, as it was written.
        value: String,
    },
    /// It is a semantic version that compares so.
    Version {
        /// How.
        is: Comparison,
        /// The version.
        value: String,
    },
}

/// How two things compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Comparison {
    /// Less.
    #[serde(rename = "<")]
    Less,
    /// Less or equal.
    #[serde(rename = "<=")]
    AtMost,
    /// Equal.
    #[serde(rename = "==")]
    Equal,
    /// Greater or equal.
    #[serde(rename = ">=")]
    AtLeast,
    /// Greater.
    #[serde(rename = ">")]
    Greater,
}

impl Comparison {
    /// Tells whether it holds of two things in this order.
    pub const fn holds(self, order: core::cmp::Ordering) -> bool {
        use core::cmp::Ordering::{Equal, Greater, Less};
        match self {
            Self::Less => matches!(order, Less),
            Self::AtMost => matches!(order, Less | Equal),
            Self::Equal => matches!(order, Equal),
            Self::AtLeast => matches!(order, Greater | Equal),
            Self::Greater => matches!(order, Greater),
        }
    }

    /// Gives it as it is written.
    pub const fn sign(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::Equal => "==",
            Self::AtLeast => ">=",
            Self::Greater => ">",
        }
    }
}

/// Tells why a definition can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("flag {flag}: {what}")]
pub struct DefinitionError {
    /// The flag.
    pub flag: FlagKey,
    /// What is wrong.
    pub what: String,
}

impl Definition {
    /// Makes the plainest boolean flag: true when on, false when off.
    pub fn boolean() -> Self {
        let name = |text| VariantName::new(text).expect("a fixed valid name");
        let variants = [("off", false), ("on", true)].map(|(text, value)| (name(text), FlagValue::boolean(value)));
        Self {
            kind: FlagKind::Boolean,
            variants: variants.into_iter().collect(),
            off: Some(name("off")),
            rules: Vec::new(),
            serve: Serve::Variant(name("on")),
            subsystem: None,
            salt: None,
            comment: String::new(),
        }
    }

    /// Checks that everything it names is there and of its type.
    ///
    /// Errors: the first thing found wrong.
    pub fn check(&self, flag: &FlagKey) -> Result<(), DefinitionError> {
        self.wrong().map_or(Ok(()), |what| Err(DefinitionError { flag: flag.clone(), what }))
    }

    fn wrong(&self) -> Option<String> {
        if self.variants.len() > VARIANTS_MAX || self.rules.len() > RULES_MAX {
            return Some(format!("at most {VARIANTS_MAX} variants and {RULES_MAX} rules are allowed"));
        }
        if let Some((name, value)) = self.variants.iter().find(|(_, value)| value.kind() != self.kind) {
            return Some(format!("variant {name} is {value}, which is no {}", self.kind));
        }
        if let Some(off) = self.off.as_ref().filter(|off| !self.variants.contains_key(off)) {
            return Some(self.no_variant(off));
        }
        let served = core::iter::once(&self.serve).chain(self.rules.iter().map(|rule| &rule.serve));
        served.filter_map(|serve| self.wrong_serve(serve)).next().or_else(|| self.rules.iter().find_map(wrong_rule))
    }

    fn wrong_serve(&self, serve: &Serve) -> Option<String> {
        match serve {
            Serve::Variant(name) => (!self.variants.contains_key(name)).then(|| self.no_variant(name)),
            Serve::Split(parts) => {
                let missing = parts.iter().find(|part| !self.variants.contains_key(&part.variant));
                let seats: u32 = parts.iter().map(|part| u32::from(part.seats)).sum();
                match missing {
                    Some(part) => Some(self.no_variant(&part.variant)),
                    None if parts.is_empty() => Some("a split needs at least one share".into()),
                    None if seats > u32::from(SEATS) => Some("the shares are more than 100 % together".into()),
                    None => None,
                }
            }
        }
    }

    fn no_variant(&self, name: &VariantName) -> String {
        let known = self.variants.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        format!("there is no variant {name}; there are: {known}")
    }
}

fn wrong_rule(rule: &Rule) -> Option<String> {
    if rule.when.is_empty() || rule.when.len() > CONDITIONS_MAX {
        return Some(format!("a rule needs 1 to {CONDITIONS_MAX} conditions"));
    }
    rule.when.iter().find_map(|condition| match &condition.test {
        _ if condition.attribute.is_empty() => Some("a condition needs an attribute".to_string()),
        Test::In { values } if values.is_empty() || values.len() > CONDITIONS_MAX => {
            Some(format!("a list needs 1 to {CONDITIONS_MAX} values"))
        }
        Test::Number { value, .. } if !value.parse::<f64>().is_ok_and(f64::is_finite) => {
            Some(format!("{value:?} is no number"))
        }
        Test::Version { value, .. } if semver::Version::parse(value).is_err() => {
            Some(format!("{value:?} is no semantic version, such as 1.4.0"))
        }
        _ => None,
    })
}
