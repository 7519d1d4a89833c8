//! Which value of a flag somebody gets. What can't be told never gives more than the flag gives when off.

use super::{Comparison, Condition, Definition, Live, Serve, Test, salted::Salted};
use crate::terms::{FlagKey, SwitchName, VariantName};
use alloc::{string::String, vec::Vec};

/// An attribute of who asks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Attribute<'a> {
    /// It is not there, or of a type that no rule looks at.
    Absent,
    /// A text.
    Text(&'a str),
    /// A number.
    Number(f64),
    /// True or false.
    Boolean(bool),
}

/// Who asks.
pub trait Context {
    /// Gives the stable id that shares are counted by; an empty one is none.
    fn targeting_key(&self) -> Option<&str>;

    /// Gives an attribute.
    fn attribute(&self, name: &str) -> Attribute<'_>;
}

/// Why a value was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// The flag is off, or its switch is tripped.
    Disabled,
    /// Everybody gets it.
    Static,
    /// A rule fits.
    TargetingMatch,
    /// A share has the person's seat.
    Split,
    /// No rule fits and no share has the seat.
    Default,
}

impl Why {
    /// Every reason there is.
    pub const ALL: [Self; 5] = [Self::Disabled, Self::Static, Self::TargetingMatch, Self::Split, Self::Default];

    /// Gives OpenFeature's word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Disabled => "DISABLED",
            Self::Static => "STATIC",
            Self::TargetingMatch => "TARGETING_MATCH",
            Self::Split => "SPLIT",
            Self::Default => "DEFAULT",
        }
    }
}

/// What somebody gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// The value by its place among the flag's variants; `None` is the value in the program's own code.
    pub variant: Option<u16>,
    /// Why.
    pub why: Why,
}

/// Why nothing can be given; programs then use the value in their own code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failed {
    /// A share is counted by the targeting key, and there is none.
    #[error("this flag is given by shares, and the context has no targetingKey")]
    NoTargetingKey,
    /// The flag is declared with another type than it was set with.
    #[error("this flag is declared with another type than it was set with: lastgood flag show says more")]
    Conflict,
}

/// A flag made ready to be asked for often.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// Its values, as [`Outcome::variant`] counts them.
    pub variants: Vec<VariantName>,
    off: Option<u16>,
    rest: Rest,
}

#[derive(Debug, Clone)]
enum Rest {
    Off,
    Conflict,
    On { salt: Salted, rules: Vec<(Vec<Ready>, Given)>, serve: Given },
}

#[derive(Debug, Clone)]
enum Given {
    Variant(u16),
    /// Values up to these seats.
    Split(Vec<(u16, u16)>),
}

#[derive(Debug, Clone)]
struct Ready {
    attribute: String,
    test: ReadyTest,
}

#[derive(Debug, Clone)]
enum ReadyTest {
    In(Vec<String>),
    Prefix(String),
    Number(Comparison, f64),
    Version(Comparison, semver::Version),
}

impl Compiled {
    /// Makes a flag ready.
    pub fn new(key: &FlagKey, live: &Live<'_>) -> Self {
        let definition = live.definition;
        let variants: Vec<VariantName> = definition.variants.keys().cloned().collect();
        let place = |name: &VariantName| variants.iter().position(|one| one == name).and_then(|at| at.try_into().ok());
        let off = definition.off.as_ref().and_then(place);
        let rest = match (live.conflict, live.on && live.tripped.is_none(), ready(definition, key, &place)) {
            (true, _, _) | (_, _, None) => Rest::Conflict,
            (false, false, _) => Rest::Off,
            (false, true, Some(on)) => on,
        };
        Self { variants, off, rest }
    }

    /// Tells whether everybody gets the same.
    pub fn is_same_for_all(&self) -> bool {
        match &self.rest {
            Rest::Off | Rest::Conflict => true,
            Rest::On { rules, serve, .. } => rules.is_empty() && matches!(serve, Given::Variant(_)),
        }
    }

    /// Gives what `context` gets.
    ///
    /// Errors: [`Failed`]; never a value instead.
    pub fn evaluate(&self, context: &impl Context) -> Result<Outcome, Failed> {
        self.evaluate_at(context, self.seat(context))
    }

    /// Gives the seat of who asks, as this flag counts shares; none without a targeting key.
    pub fn seat(&self, context: &impl Context) -> Option<u16> {
        let Rest::On { salt, .. } = &self.rest else { return None };
        let key = context.targeting_key().filter(|key| !key.is_empty())?;
        Some(salt.seat(key.as_bytes()))
    }

    /// Gives what `context` gets, whose seat was asked for before.
    ///
    /// Errors: as [`Compiled::evaluate`].
    pub fn evaluate_at(&self, context: &impl Context, seat: Option<u16>) -> Result<Outcome, Failed> {
        let (rules, serve) = match &self.rest {
            Rest::Off => return Ok(Outcome { variant: self.off, why: Why::Disabled }),
            Rest::Conflict => return Err(Failed::Conflict),
            Rest::On { rules, serve, .. } => (rules, serve),
        };
        let fits = rules.iter().find(|(when, _)| when.iter().all(|one| one.holds(context)));
        let given = fits.map_or(serve, |(_, given)| given);
        match given {
            Given::Variant(variant) => {
                let why = match fits {
                    Some(_) => Why::TargetingMatch,
                    None if rules.is_empty() => Why::Static,
                    None => Why::Default,
                };
                Ok(Outcome { variant: Some(*variant), why })
            }
            Given::Split(parts) => {
                let seat = seat.ok_or(Failed::NoTargetingKey)?;
                Ok(match parts.iter().find(|(below, _)| seat < *below) {
                    Some((_, variant)) => Outcome { variant: Some(*variant), why: Why::Split },
                    None => Outcome { variant: self.off, why: Why::Default },
                })
            }
        }
    }
}

/// Makes everything about a flag ready; `None` for what [`Definition::check`] refuses.
fn ready(definition: &Definition, key: &FlagKey, place: &dyn Fn(&VariantName) -> Option<u16>) -> Option<Rest> {
    let given = |serve: &Serve| match serve {
        Serve::Variant(name) => place(name).map(Given::Variant),
        Serve::Split(parts) => {
            let mut below = 0_u16;
            let parts = parts.iter().map(|part| {
                below = below.checked_add(part.seats)?;
                Some((below, place(&part.variant)?))
            });
            parts.collect::<Option<Vec<_>>>().map(Given::Split)
        }
    };
    let rules = definition.rules.iter().map(|rule| {
        let when = rule.when.iter().map(Ready::of).collect::<Option<Vec<_>>>()?;
        Some((when, given(&rule.serve)?))
    });
    Some(Rest::On {
        salt: Salted::new(definition.salt.as_deref().unwrap_or(key.as_str()).as_bytes()),
        rules: rules.collect::<Option<Vec<_>>>()?,
        serve: given(&definition.serve)?,
    })
}

impl Ready {
    fn of(condition: &Condition) -> Option<Self> {
        let test = match &condition.test {
            Test::Equals { value } => ReadyTest::In([value.clone()].into()),
            Test::In { values } => ReadyTest::In(values.clone()),
            Test::Prefix { value } => ReadyTest::Prefix(value.clone()),
            Test::Number { is, value } => ReadyTest::Number(*is, value.parse().ok()?),
            Test::Version { is, value } => ReadyTest::Version(*is, semver::Version::parse(value).ok()?),
        };
        Some(Self { attribute: condition.attribute.clone(), test })
    }

    fn holds(&self, context: &impl Context) -> bool {
        let attribute = match self.attribute.as_str() {
            "targetingKey" => context.targeting_key().map_or(Attribute::Absent, Attribute::Text),
            name => context.attribute(name),
        };
        match (&self.test, attribute) {
            (ReadyTest::In(values), Attribute::Text(text)) => values.iter().any(|value| value == text),
            (ReadyTest::In(values), Attribute::Boolean(is)) => {
                values.iter().any(|value| value == if is { "true" } else { "false" })
            }
            (ReadyTest::In(values), Attribute::Number(number)) => {
                values.iter().any(|value| value.parse::<f64>().is_ok_and(|value| value == number))
            }
            (ReadyTest::Prefix(prefix), Attribute::Text(text)) => text.starts_with(prefix.as_str()),
            (ReadyTest::Number(is, limit), Attribute::Number(number)) => {
                number.partial_cmp(limit).is_some_and(|order| is.holds(order))
            }
            (ReadyTest::Version(is, limit), Attribute::Text(text)) => {
                semver::Version::parse(text).is_ok_and(|version| is.holds(version.cmp_precedence(limit)))
            }
            _ => false,
        }
    }
}

/// Names the switch that turns a flag off now, if one does.
pub(super) fn tripped_by<'a>(
    definition: &'a Definition,
    is_tripped: impl Fn(&str) -> bool,
    all: &'a SwitchName,
) -> Option<&'a SwitchName> {
    if is_tripped(all.as_str()) {
        return Some(all);
    }
    definition.subsystem.as_ref().filter(|switch| is_tripped(switch.as_str()))
}
