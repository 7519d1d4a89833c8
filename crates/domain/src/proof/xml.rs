//! Just enough XML for reports: elements and attributes, within limits, and nothing that can expand or reach outside.

use super::Unreadable;
use alloc::{format, string::String, vec::Vec};

/// Deepest nesting: reports have four levels.
const DEPTH_MAX: usize = 64;
/// Most attributes of one element.
const ATTRIBUTES_MAX: usize = 64;
/// Most elements: a hundred thousand tests have some three hundred thousand.
const ELEMENTS_MAX: usize = 2_000_000;

/// The beginning or the end of an element; an empty one gives both.
pub(super) enum Token<'x> {
    Start { name: &'x str, attributes: Vec<(&'x str, String)> },
    End,
}

/// Reads a document from its beginning to its end.
pub(super) struct Xml<'x> {
    rest: &'x str,
    open: Vec<&'x str>,
    /// The element just given was empty: its end comes next.
    empty: bool,
    elements: usize,
}

impl<'x> Xml<'x> {
    pub(super) const fn new(text: &'x str) -> Self {
        Self { rest: text, open: Vec::new(), empty: false, elements: 0 }
    }

    /// Gives the next token; none at the end of a whole document.
    pub(super) fn next(&mut self) -> Result<Option<Token<'x>>, Unreadable> {
        if core::mem::take(&mut self.empty) {
            self.open.pop();
            return Ok(Some(Token::End));
        }
        loop {
            let Some(at) = self.rest.find('<') else { return self.end() };
            let (before, rest) = self.rest.split_at(at);
            if self.open.is_empty() && !before.trim().is_empty() {
                return Err(Unreadable::because("there is text outside of its root element"));
            }
            self.rest = rest;
            if let Some(rest) = rest.strip_prefix("<!--") {
                self.rest = after(rest, "-->")?;
            } else if let Some(rest) = rest.strip_prefix("<![CDATA[") {
                self.rest = after(rest, "]]>")?;
            } else if rest.starts_with("<!") {
                // A document type may declare entities that expand without end, or reach into files.
                return Err(Unreadable::because("it declares a document type; reports have none"));
            } else if let Some(rest) = rest.strip_prefix("<?") {
                self.rest = after(rest, "?>")?;
            } else if let Some(rest) = rest.strip_prefix("</") {
                let (name, rest) = cut(rest, '>')?;
                self.rest = rest;
                return match self.open.pop() {
                    Some(open) if open == name.trim_end() => Ok(Some(Token::End)),
                    _ => Err(Unreadable::because(format!("</{}> ends what was not begun", shown(name)))),
                };
            } else {
                return self.start(&rest[1..]).map(Some);
            }
        }
    }

    fn start(&mut self, text: &'x str) -> Result<Token<'x>, Unreadable> {
        self.elements += 1;
        if self.elements > ELEMENTS_MAX || self.open.len() >= DEPTH_MAX {
            return Err(Unreadable::because("it has too many elements, or they are too deep"));
        }
        if self.open.is_empty() && self.elements > 1 {
            return Err(Unreadable::because("it has more than one root element"));
        }
        let (name, mut rest) = word(text)?;
        let mut attributes: Vec<(&str, String)> = Vec::new();
        loop {
            rest = rest.trim_start();
            if let Some(after) = rest.strip_prefix("/>") {
                (self.empty, self.rest) = (true, after);
                break;
            }
            if let Some(after) = rest.strip_prefix('>') {
                self.rest = after;
                break;
            }
            let (key, after) = word(rest)?;
            let after = after.trim_start().strip_prefix('=').map(str::trim_start).ok_or_else(truncated)?;
            let quote = after.chars().next().filter(|c| matches!(c, '"' | '\'')).ok_or_else(truncated)?;
            let (value, after) = cut(&after[1..], quote)?;
            if attributes.len() >= ATTRIBUTES_MAX || attributes.iter().any(|(known, _)| *known == key) {
                return Err(Unreadable::because(format!("<{}> has too many attributes, or one twice", shown(name))));
            }
            attributes.push((key, unescaped(value)?));
            rest = after;
        }
        self.open.push(name);
        Ok(Token::Start { name, attributes })
    }

    fn end(&self) -> Result<Option<Token<'x>>, Unreadable> {
        if !self.open.is_empty() || self.elements == 0 {
            return Err(truncated());
        }
        match self.rest.trim().is_empty() {
            true => Ok(None),
            false => Err(Unreadable::because("there is text outside of its root element")),
        }
    }
}

fn truncated() -> Unreadable {
    Unreadable::because("it is cut short, or no XML")
}

fn cut(text: &str, at: char) -> Result<(&str, &str), Unreadable> {
    text.split_once(at).ok_or_else(truncated)
}

fn after<'x>(text: &'x str, end: &str) -> Result<&'x str, Unreadable> {
    text.split_once(end).map(|(_, rest)| rest).ok_or_else(truncated)
}

/// Splits a name off.
fn word(text: &str) -> Result<(&str, &str), Unreadable> {
    let is_name = |c: char| c.is_alphanumeric() || matches!(c, ':' | '_' | '-' | '.');
    let end = text.find(|c: char| !is_name(c)).ok_or_else(truncated)?;
    match end {
        0 => Err(truncated()),
        end => Ok(text.split_at(end)),
    }
}

/// Cuts a name for a message.
fn shown(name: &str) -> String {
    name.chars().take(40).collect()
}

/// Replaces the five entities that every XML has, and characters by number; any other is refused.
fn unescaped(text: &str) -> Result<String, Unreadable> {
    let mut parts = text.split('&');
    let mut whole = String::from(parts.next().unwrap_or_default());
    for part in parts {
        let (entity, rest) = cut(part, ';')?;
        let number = |digits: &str, radix| u32::from_str_radix(digits, radix).ok().and_then(char::from_u32);
        let c = match entity {
            "amp" => Some('&'),
            "lt" => Some('<'),
            "gt" => Some('>'),
            "quot" => Some('"'),
            "apos" => Some('\''),
            other => match other.strip_prefix("#x") {
                Some(digits) => number(digits, 16),
                None => other.strip_prefix('#').and_then(|digits| number(digits, 10)),
            },
        };
        whole.push(c.ok_or_else(|| Unreadable::because(format!("&{}; is no entity of XML", shown(entity))))?);
        whole.push_str(rest);
    }
    Ok(whole)
}
