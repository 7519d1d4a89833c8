//! Values, shares and rules as people type them.

use super::{Comparison, Condition, Definition, FlagKind, FlagValue, Part, Rule, Serve, Test};
use crate::{
    terms::VariantName,
    traffic::{SEATS, Share},
};
use alloc::{
    borrow::ToOwned,
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::str::FromStr;

/// Reads a flag's type.
///
/// Errors: what to write instead.
pub fn kind(text: &str) -> Result<FlagKind, String> {
    let kinds = [FlagKind::Boolean, FlagKind::String, FlagKind::Number, FlagKind::Object];
    let known = kinds.into_iter().find(|kind| kind.word() == text);
    known.ok_or_else(|| "write boolean, string, number or object".into())
}

/// A value with its name: `long="Good day"`.
#[derive(Debug, Clone)]
pub struct Variant {
    /// The name.
    pub name: VariantName,
    /// The value, as it was typed.
    pub value: String,
}

impl FromStr for Variant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').ok_or("write NAME=VALUE, such as long=\"Good day\"")?;
        Ok(Self { name: name.parse().map_err(|error| format!("{error}"))?, value: value.into() })
    }
}

/// Reads a value as one of its kind: a text of a string flag may stand without quotes.
///
/// Errors: why it is no value.
pub fn value(text: &str, kind: FlagKind) -> Result<FlagValue, String> {
    let json = FlagValue::new(text);
    if kind == FlagKind::String && !json.as_ref().is_ok_and(|value| value.kind() == kind) {
        return FlagValue::new(&serde_json::Value::String(text.into()).to_string()).map_err(|error| error.to_string());
    }
    json.map_err(|error| error.to_string())
}

/// A share of people: `5`, `2.5`, `long=25`.
#[derive(Debug, Clone)]
pub struct Percent {
    variant: Option<VariantName>,
    share: Share,
}

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (variant, number) = match text.split_once('=') {
            Some((name, number)) => (Some(name.parse().map_err(|error| format!("{error}"))?), number),
            None => (None, text),
        };
        let number: f64 = number.trim_end_matches(['%', ' ']).parse().map_err(|_| "write a share such as 5 or 2.5")?;
        let seats = number * f64::from(SEATS) / 100.0;
        // A ten thousandth is the smallest share there is; what is finer was not meant.
        if !(0.0..=f64::from(SEATS)).contains(&seats) || (seats - libm::round(seats)).abs() > 1e-6 {
            return Err("a share is 0 to 100 with at most two places, such as 5 or 0.25".into());
        }
        Ok(Self { variant, share: Share::of_seats(libm::round(seats) as u16) })
    }
}

/// Gives the shares with their variants: one without a name is of the variant that is not off.
///
/// Errors: there is not exactly one that is not off.
pub fn parts(percents: &[Percent], definition: &Definition) -> Result<Vec<Part>, String> {
    let unnamed = || {
        let mut others = definition.variants.keys().filter(|name| Some(*name) != definition.off.as_ref());
        match (others.next(), others.next()) {
            (Some(only), None) => Ok(only.clone()),
            _ => Err("say of which variant, such as long=5: there is not exactly one that is not off".to_owned()),
        }
    };
    let part = |percent: &Percent| {
        let variant = percent.variant.clone().map_or_else(unnamed, Ok)?;
        Ok(Part { variant, seats: percent.share.seats() })
    };
    percents.iter().map(part).collect()
}

/// A rule: `plan in pro,team && app >= 1.4.0 => long`.
#[derive(Debug, Clone)]
pub struct RuleText {
    when: Vec<Condition>,
    gives: Gives,
}

#[derive(Debug, Clone)]
enum Gives {
    Variant(VariantName),
    Share(Percent),
}

impl FromStr for RuleText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXAMPLE: &str = "write a rule such as \"plan in pro,team && app >= 1.4.0 => long\"";
        let (when, gives) = text.rsplit_once("=>").ok_or(EXAMPLE)?;
        let gives = gives.trim();
        let gives = match gives.contains('=') || gives.ends_with('%') {
            true => Gives::Share(gives.parse()?),
            false => Gives::Variant(gives.parse().map_err(|error| format!("{error}"))?),
        };
        let when = when.split("&&").map(condition).collect::<Result<_, _>>()?;
        Ok(Self { when, gives })
    }
}

impl RuleText {
    /// Makes the rule of a flag with this definition.
    ///
    /// Errors: a share without a name, where it is not plain of which variant.
    pub fn against(&self, definition: &Definition) -> Result<Rule, String> {
        let serve = match &self.gives {
            Gives::Variant(name) => Serve::Variant(name.clone()),
            Gives::Share(percent) => Serve::Split(parts(core::slice::from_ref(percent), definition)?),
        };
        Ok(Rule { when: self.when.clone(), serve })
    }
}

fn condition(text: &str) -> Result<Condition, String> {
    let text = text.trim();
    let wrong = || format!("{text:?} is no condition: write ATTRIBUTE and one of ==, in, ^=, <, <=, >=, > and a value");
    let end = text.find([' ', '=', '<', '>', '^']).ok_or_else(wrong)?;
    let (attribute, rest) = (&text[..end], text[end..].trim_start());
    let (sign, value) = ["==", "^=", "<=", ">=", "in ", "<", ">"]
        .iter()
        .find_map(|sign| Some((sign.trim(), rest.strip_prefix(sign)?.trim())))
        .ok_or_else(wrong)?;
    let value = value.trim_matches('"');
    if attribute.is_empty() || value.is_empty() {
        return Err(wrong());
    }
    let compared = |is: Comparison| {
        let value = value.to_owned();
        // Two dots make a version; a number has one at most.
        if value.matches('.').count() >= 2 { Test::Version { is, value } } else { Test::Number { is, value } }
    };
    let test = match sign {
        "==" => Test::Equals { value: value.into() },
        "in" => Test::In { values: value.split(',').map(|one| one.trim().to_owned()).collect() },
        "^=" => Test::Prefix { value: value.into() },
        "<" => compared(Comparison::Less),
        "<=" => compared(Comparison::AtMost),
        ">=" => compared(Comparison::AtLeast),
        _ => compared(Comparison::Greater),
    };
    Ok(Condition { attribute: attribute.into(), test })
}

/// Writes a rule as people read it: as it could be typed, but for a share.
pub fn says(rule: &Rule) -> String {
    let when = rule.when.iter().map(|condition| {
        let attribute = &condition.attribute;
        match &condition.test {
            Test::Equals { value } => format!("{attribute} == {value}"),
            Test::In { values } => format!("{attribute} in {}", values.join(",")),
            Test::Prefix { value } => format!("{attribute} ^= {value}"),
            Test::Number { is, value } | Test::Version { is, value } => format!("{attribute} {} {value}", is.sign()),
        }
    });
    format!("{} => {}", when.collect::<Vec<_>>().join(" && "), serves(&rule.serve))
}

/// Writes who gets what: `long`, `5 % long, 95 % short`.
pub fn serves(serve: &Serve) -> String {
    match serve {
        Serve::Variant(name) => name.to_string(),
        Serve::Split(parts) => {
            let part = |part: &Part| format!("{} {}", Share::of_seats(part.seats), part.variant);
            parts.iter().map(part).collect::<Vec<_>>().join(", ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(text: &str) -> String {
        match text.parse::<RuleText>() {
            Ok(rule) => rule.against(&Definition::boolean()).map_or_else(|error| error, |rule| says(&rule)),
            Err(error) => error,
        }
    }

    #[test]
    fn a_rule_is_read_as_it_is_written_and_written_as_it_is_read() {
        for rule in ["plan in pro,team && app >= 1.4.0 => on", "plan == pro => on", "mail ^= qa- && seats < 5 => off"] {
            assert_eq!(typed(rule), rule);
        }
        assert_eq!(typed("country==ch&&seats>2=>on=5"), "country == ch && seats > 2 => 5 % on");
        assert_eq!(typed("plan == \"pro\" => 2.5%"), "plan == pro => 2.50 % on".replace("2.50", "2.5"));
    }

    #[test]
    fn what_is_no_rule_is_refused_with_an_example() {
        assert!(typed("plan == pro").contains("=> long"));
        for wrong in ["=> on", "plan => on", "plan = pro => on", "plan == => on", "plan near pro => on"] {
            assert!(typed(wrong).contains("is no condition"), "{wrong}: {}", typed(wrong));
        }
        assert!(typed("plan == pro => on=101").contains("0 to 100"));
    }

    #[test]
    fn a_share_finer_than_a_seat_is_refused() {
        let seats = |text: &str| text.parse::<Percent>().map(|percent| percent.share.seats());
        assert_eq!(
            (seats("5"), seats("0.25"), seats("on=100%"), seats("33.33")),
            (Ok(500), Ok(25), Ok(10_000), Ok(3_333))
        );
        assert!(seats("0.001").is_err() && seats("-1").is_err() && seats("NaN").is_err());
    }

    #[test]
    fn texts_need_no_quotes_and_other_kinds_are_json() {
        assert_eq!(value("Good day", FlagKind::String).map(|one| one.to_string()), Ok("\"Good day\"".into()));
        assert_eq!(value("\"Hi\"", FlagKind::String).map(|one| one.to_string()), Ok("\"Hi\"".into()));
        assert_eq!(value("5", FlagKind::String).map(|one| one.to_string()), Ok("\"5\"".into()));
        assert_eq!(value("5", FlagKind::Number).map(|one| one.to_string()), Ok("5".into()));
        assert!(value("five", FlagKind::Number).is_err());
    }
}
