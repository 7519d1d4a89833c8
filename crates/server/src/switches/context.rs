//! Who asks: the body of a question, read once and without copying where it can be.

use lastgood_domain::switches::{Attribute, Context};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use std::{borrow::Cow, fmt};

/// The OpenFeature name of who asks.
const TARGETING_KEY: &str = "targetingKey";

/// The context of a question.
#[derive(Debug, Default)]
pub(super) struct Asked<'a> {
    key: Option<Cow<'a, str>>,
    attributes: Vec<(Cow<'a, str>, Told<'a>)>,
}

/// Why a body is no question.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unread {
    /// It is no JSON.
    Parse(String),
    /// It is JSON, but no context.
    Context(String),
}

impl Unread {
    /// Gives OpenFeature's code and the details.
    pub(super) fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::Parse(what) => ("PARSE_ERROR", what),
            Self::Context(what) => ("INVALID_CONTEXT", what),
        }
    }
}

impl<'a> Asked<'a> {
    /// Reads a body. An empty one asks for nobody.
    pub(super) fn read(body: &'a [u8]) -> Result<Self, Unread> {
        if body.is_empty() {
            return Ok(Self::default());
        }
        // What is passed over is not looked at as text, and must be some all the same.
        let text = std::str::from_utf8(body).map_err(|error| Unread::Parse(format!("it is no UTF-8: {error}")))?;
        match serde_json::from_str::<Question<'a>>(text) {
            Ok(question) => Ok(question.context.unwrap_or_default()),
            Err(error) if error.is_data() => Err(Unread::Context(error.to_string())),
            Err(error) => Err(Unread::Parse(error.to_string())),
        }
    }
}

impl Context for Asked<'_> {
    fn targeting_key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    fn attribute(&self, name: &str) -> Attribute<'_> {
        // JSON lets a name come twice; the last one counts, as in most readers.
        let found = self.attributes.iter().rev().find(|(one, _)| one == name);
        match found.map(|(_, told)| told) {
            Some(Told::Text(text)) => Attribute::Text(text),
            Some(Told::Number(number)) => Attribute::Number(*number),
            Some(Told::Boolean(is)) => Attribute::Boolean(*is),
            Some(Told::Other) | None => Attribute::Absent,
        }
    }
}

/// The body as a whole: an object, of which only the context counts.
struct Question<'a> {
    context: Option<Asked<'a>>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Question<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Body)
    }
}

struct Body;

impl<'de> Visitor<'de> for Body {
    type Value = Question<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with a context")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Question<'de>, M::Error> {
        let mut context = None;
        while let Some(Name(name)) = map.next_key()? {
            if name == "context" {
                context = map.next_value()?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Question { context })
    }
}

#[derive(Debug)]
enum Told<'a> {
    Text(Cow<'a, str>),
    Number(f64),
    Boolean(bool),
    Other,
}

impl<'de: 'a, 'a> Deserialize<'de> for Asked<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Attributes)
    }
}

struct Attributes;

impl<'de> Visitor<'de> for Attributes {
    type Value = Asked<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a context, which is an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Asked<'de>, M::Error> {
        let mut asked = Asked::default();
        while let Some(Name(name)) = map.next_key()? {
            let told: Told<'de> = map.next_value()?;
            if name != TARGETING_KEY {
                asked.attributes.push((name, told));
                continue;
            }
            asked.key = match told {
                Told::Text(text) => Some(text),
                Told::Other => None,
                Told::Number(_) | Told::Boolean(_) => {
                    return Err(M::Error::custom("targetingKey must be a text"));
                }
            };
        }
        Ok(asked)
    }
}

struct Name<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match Told::deserialize(from)? {
            Told::Text(text) => Ok(Self(text)),
            _ => Err(D::Error::custom("a name must be a text")),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Told<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(OneTold)
    }
}

struct OneTold;

impl<'de> Visitor<'de> for OneTold {
    type Value = Told<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Told<'de>, E> {
        Ok(Told::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Told<'de>, E> {
        Ok(Told::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_bool<E>(self, is: bool) -> Result<Told<'de>, E> {
        Ok(Told::Boolean(is))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Told<'de>, E> {
        Ok(Told::Number(number as f64))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Told<'de>, E> {
        Ok(Told::Number(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Told<'de>, E> {
        Ok(Told::Number(number))
    }

    fn visit_unit<E>(self) -> Result<Told<'de>, E> {
        Ok(Told::Other)
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Told<'de>, M::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Told::Other)
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<Told<'de>, S::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Told::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_context_says_is_read_and_the_last_of_two_counts() {
        let body = br#"{"context":{"targetingKey":"al\u0069ce","plan":"free","plan":"pro","n":1.5,"b":true,"o":{"a":[1]},"z":null}}"#;
        let asked = Asked::read(body).unwrap();
        assert_eq!(asked.targeting_key(), Some("alice"));
        assert_eq!(asked.attribute("plan"), Attribute::Text("pro"));
        assert_eq!(asked.attribute("n"), Attribute::Number(1.5));
        assert_eq!(asked.attribute("b"), Attribute::Boolean(true));
        for absent in ["o", "z", "other"] {
            assert_eq!(asked.attribute(absent), Attribute::Absent);
        }
    }

    #[test]
    fn nothing_asks_for_nobody_and_nonsense_is_told_apart() {
        for nobody in ["", "{}", "{\"context\":null}", "{\"context\":{}}"] {
            assert_eq!(Asked::read(nobody.as_bytes()).unwrap().targeting_key(), None, "{nobody}");
        }
        let code = |body: &str| Asked::read(body.as_bytes()).err().map(|unread| unread.parts().0);
        for wrong in ["{", "{\"context\":}", "\u{ff}"] {
            assert_eq!(code(wrong), Some("PARSE_ERROR"), "{wrong}");
        }
        // Also where nobody looks at it.
        let unread = Asked::read(b"{\"more\":\"\xe5\"}").err().unwrap();
        assert_eq!(unread.parts().0, "PARSE_ERROR");
        for wrong in ["[]", "7", "{\"context\":7}", "{\"context\":[]}", "{\"context\":{\"targetingKey\":7}}"] {
            assert_eq!(code(wrong), Some("INVALID_CONTEXT"), "{wrong}");
        }
    }
}
