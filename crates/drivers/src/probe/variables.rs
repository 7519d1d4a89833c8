//! `{name}` in the texts of a probe.
//!
//! Only a brace, a name and a brace make a variable, so JSON and repetitions in patterns stay as they are written.
//! `{{name}}` is the text `{name}`. What is put in is never read again.

/// Where a text stands, and so how a value is put into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// As it is.
    Plain,
    /// Percent-encoded, so that it stays one part of a path or a query.
    Path,
    /// Escaped, so that it means itself within a pattern.
    Pattern,
}

/// A variable that nothing gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unknown {
    /// Its name.
    pub name: String,
}

#[derive(Debug, PartialEq, Eq)]
enum Piece<'t> {
    Text(&'t str),
    Name(&'t str),
}

/// Cuts a text into what stands for itself and what stands for a value.
struct Pieces<'t> {
    rest: &'t str,
    place: Place,
}

impl<'t> Iterator for Pieces<'t> {
    type Item = Piece<'t>;

    fn next(&mut self) -> Option<Piece<'t>> {
        if self.rest.is_empty() {
            return None;
        }
        if let Some((name, after)) = self.rest.strip_prefix('{').and_then(name_and_brace) {
            self.rest = after;
            return Some(Piece::Name(name));
        }
        if let Some((literal, after)) = doubled(self.rest) {
            self.rest = after;
            return Some(Piece::Text(literal));
        }
        let end = self.end_of_text();
        let (text, after) = self.rest.split_at(end);
        self.rest = after;
        Some(Piece::Text(text))
    }
}

impl Pieces<'_> {
    /// Finds the next brace that opens a name, single or doubled; always moves on.
    fn end_of_text(&self) -> usize {
        let braces = self.rest.match_indices('{').map(|(at, _)| at).filter(|at| *at > 0);
        let mut open = braces.filter(|at| {
            let (before, after) = self.rest.split_at(*at);
            // `\p{Greek}` and `\x{41}` are the pattern's own.
            let own = self.place == Place::Pattern
                && ["\\p", "\\P", "\\x", "\\u", "\\U"].iter().any(|class| before.ends_with(class));
            !own && (doubled(after).is_some() || name_and_brace(&after[1..]).is_some())
        });
        open.next().unwrap_or(self.rest.len())
    }
}

/// Reads `{{name}}` at the start of a text.
fn doubled(text: &str) -> Option<(&str, &str)> {
    let (name, after) = text.strip_prefix("{{").and_then(name_and_brace)?;
    let after = after.strip_prefix('}')?;
    Some((&text[1..name.len() + 3], after))
}

/// Reads a name and its closing brace at the start of a text.
fn name_and_brace(text: &str) -> Option<(&str, &str)> {
    let (name, after) = text.split_once('}')?;
    is_name(name).then_some((name, after))
}

/// Tells whether `text` is the name of a variable or of a secret: `token`, `secret:login`.
fn is_name(text: &str) -> bool {
    let plain = |part: &str, first: fn(&char) -> bool| {
        part.chars().next().is_some_and(|c| first(&c))
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
    };
    let word = |c: &char| c.is_ascii_alphabetic() || *c == '_';
    match text.split_once(':') {
        Some((kind, name)) => kind == "secret" && plain(name, |c| c.is_ascii_alphanumeric() || *c == '_'),
        None => plain(text, word),
    }
}

/// Tells whether a capture may be called `name`.
pub(crate) fn is_variable_name(name: &str) -> bool {
    is_name(name) && !name.contains(':')
}

/// Gives the names that `text` uses, in order.
pub(crate) fn names(text: &str, place: Place) -> impl Iterator<Item = &str> {
    Pieces { rest: text, place }.filter_map(|piece| match piece {
        Piece::Name(name) => Some(name),
        Piece::Text(_) => None,
    })
}

/// Puts the values of its variables into `text`.
///
/// Errors: the first variable without a value.
pub(crate) fn expand(text: &str, place: Place, value: &dyn Fn(&str) -> Option<String>) -> Result<String, Unknown> {
    let mut out = String::with_capacity(text.len());
    for piece in (Pieces { rest: text, place }) {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Name(name) => {
                let found = value(name).ok_or_else(|| Unknown { name: name.into() })?;
                match place {
                    Place::Plain => out.push_str(&found),
                    // A path that is nothing but a variable was captured whole, such as a Location.
                    Place::Path if text.len() == name.len() + 2 => out.push_str(&found),
                    Place::Path => percent_encode(&found, &mut out),
                    Place::Pattern => out.push_str(&regex::escape(&found)),
                }
            }
        }
    }
    Ok(out)
}

/// Writes everything but letters, digits and `-._~` as `%XX`.
pub(crate) fn percent_encode(text: &str, out: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

/// Gives the known name most like a mistaken one.
pub(crate) fn nearest<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let likeness = |known: &&str| (strsim::jaro_winkler(name, known) * 1_000.0) as i64;
    known.max_by_key(likeness)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn put(text: &str, place: Place) -> Result<String, Unknown> {
        expand(text, place, &|name| match name {
            "a" => Some("1".into()),
            "odd" => Some("x/y z&é{a}".into()),
            "secret:login" => Some("pw".into()),
            _ => None,
        })
    }

    #[test]
    fn only_a_name_in_braces_is_a_variable() {
        let cases = [
            ("{a}", "1"),
            ("x{a}y{a}", "x1y1"),
            ("{\"k\": {\"n\": {a}}}", "{\"k\": {\"n\": 1}}"),
            ("{secret:login}", "pw"),
            ("{{a}}", "{a}"),
            ("{{{a}}}", "{{a}}"),
            ("[0-9]{3} {2,4} {} { a }", "[0-9]{3} {2,4} {} { a }"),
            ("{a", "{a"),
            ("{", "{"),
            ("", ""),
        ];
        for (text, expected) in cases {
            assert_eq!(put(text, Place::Plain).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_value_is_fitted_to_its_place_and_never_read_again() {
        assert_eq!(put("<{odd}>", Place::Plain).as_deref(), Ok("<x/y z&é{a}>"));
        assert_eq!(put("/q?v={odd}", Place::Path).as_deref(), Ok("/q?v=x%2Fy%20z%26%C3%A9%7Ba%7D"));
        assert_eq!(put("{odd}", Place::Path).as_deref(), Ok("x/y z&é{a}"));
        assert_eq!(put("^{a}.$", Place::Pattern).as_deref(), Ok("^1.$"));
        assert_eq!(put(r"{odd}", Place::Pattern).as_deref(), Ok(r"x/y z\&é\{a\}"));
        assert_eq!(put(r"\p{L}+{a}", Place::Pattern).as_deref(), Ok(r"\p{L}+1"));
    }

    #[test]
    fn an_unknown_variable_is_named() {
        assert_eq!(put("{a}{b}", Place::Plain), Err(Unknown { name: "b".into() }));
        assert_eq!(nearest("prot", ["host", "port", "data"].into_iter()), Some("port"));
    }

    proptest! {
        #[test]
        fn any_text_without_variables_stays_as_it_is(text in "[^{]{0,40}") {
            prop_assert_eq!(put(&text, Place::Plain), Ok(text));
        }

        #[test]
        fn any_text_is_read_to_its_end(text in r"[a-c{}:\\ \u{e9}]{0,40}") {
            for place in [Place::Plain, Place::Path, Place::Pattern] {
                let stands = expand(&text, place, &|name| Some(format!("<{name}>")));
                prop_assert!(stands.is_ok());
            }
        }

        #[test]
        fn any_value_is_put_in_whole(before in "[a-z{}]{0,9}", value in ".{0,40}", after in "[a-z ]{0,9}") {
            let text = format!("{before} {{v9}}{after}");
            let put = expand(&text, Place::Plain, &|name| Some(if name == "v9" { value.clone() } else { format!("{{{name}}}") }));
            // Names among `before` stand for themselves here, so only doubled braces may differ.
            if !before.contains("{{") {
                prop_assert_eq!(put, Ok(format!("{before} {value}{after}")));
            }
        }

        #[test]
        fn a_value_in_a_path_is_one_part_of_it(value in ".{0,40}") {
            let put = expand("/x/{v}", Place::Path, &|_| Some(value.clone())).unwrap_or_default();
            prop_assert!(put[3..].bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~%".contains(&b)));
        }
    }
}
