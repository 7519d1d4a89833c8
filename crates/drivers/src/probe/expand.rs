//! `{…}` in probes: instance values, secrets, and what earlier steps captured.

use super::{ProbeTarget, Secrets};
use std::collections::{BTreeMap, BTreeSet};

/// Shortest captured value that is taken out of messages: shorter ones are numbers and flags, not tokens.
const TOKEN_CHARS_MIN: usize = 6;

/// The values known at one point of a run.
pub(super) struct Scope {
    vars: BTreeMap<String, String>,
    captured: BTreeMap<String, String>,
    secrets: Secrets,
}

impl Scope {
    pub(super) fn of(target: &ProbeTarget) -> Self {
        Self { vars: target.vars.clone(), captured: BTreeMap::new(), secrets: target.secrets.clone() }
    }

    pub(super) fn capture(&mut self, values: BTreeMap<String, String>) {
        self.captured.extend(values);
    }

    /// Gives the values that a command may have in its environment.
    pub(super) fn values(&self) -> impl Iterator<Item = (&String, &String)> {
        self.vars.iter().chain(&self.captured)
    }

    /// Fills in every placeholder.
    pub(super) fn fill(&self, text: &str) -> Result<String, String> {
        replace(text, &|name| match name.strip_prefix("secret:") {
            Some(secret) => self.secrets.get(secret).map(|secret| secret.reveal().to_owned()),
            None => self.captured.get(name).or_else(|| self.vars.get(name)).cloned(),
        })
        .map_err(|name| format!("`{{{name}}}` has no value"))
    }

    /// Takes secrets and captured tokens out of a message.
    pub(super) fn scrub(&self, text: &str) -> String {
        let mut text = self.secrets.scrub(text);
        for value in self.captured.values().filter(|value| value.chars().count() >= TOKEN_CHARS_MIN) {
            text = text.replace(value.as_str(), "[captured]");
        }
        text
    }
}

/// Names what `text` asks for and nobody knows.
pub(super) fn unknown_names(text: &str, known: &BTreeSet<String>) -> Result<(), String> {
    replace(text, &|name| known.contains(name).then(String::new)).map(drop).map_err(|name| {
        let common = |known: &&String| known.chars().filter(|c| name.contains(*c)).count();
        match known.iter().max_by_key(common) {
            Some(nearest) => format!("`{{{name}}}` is unknown; did you mean `{{{nearest}}}`?"),
            None => format!("`{{{name}}}` is unknown"),
        }
    })
}

/// Replaces `{name}`; a brace that opens no name, as in JSON, stays.
fn replace(text: &str, value: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('{') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let name = rest.find('}').map(|end| &rest[..end]).filter(|name| is_name(name));
        match name {
            None => out.push('{'),
            Some(name) => {
                out.push_str(&value(name).ok_or_else(|| name.to_owned())?);
                rest = &rest[name.len() + 1..];
            }
        }
    }
    out.push_str(rest);
    Ok(out)
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ':' | '.'))
}
