//! What came back, compared with what was expected, and what is kept of it.

use super::{
    body,
    config::{Capture, ExpectKeys},
    http,
    pattern::{JsonExpectation, JsonPath, Pattern, StatusSet},
};
use serde_json::Value;
use std::collections::BTreeMap;

/// What an act gave back.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub outcome: Outcome,
    /// Names in small letters.
    pub headers: Vec<(String, String)>,
    /// The body, the last message, or what a command wrote.
    pub body: Vec<u8>,
}

/// How it went, where the kind of act says so.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The act itself says all.
    #[default]
    Done,
    Status(u16),
    Exit(i32),
}

/// The first expectation that does not hold.
#[derive(Debug)]
pub(crate) struct Mismatch {
    pub expected: String,
    /// What there was instead, where it is more than the whole answer.
    pub found: Option<String>,
    /// The answer is not of the form that could be compared at all.
    pub is_unreadable: bool,
    /// A pattern or a variable can't be used.
    pub is_config: bool,
}

impl Mismatch {
    fn new(expected: String, found: Option<String>) -> Self {
        Self { expected, found, is_unreadable: false, is_config: false }
    }

    fn unreadable(expected: String, found: String) -> Self {
        Self { is_unreadable: true, ..Self::new(expected, Some(found)) }
    }

    fn config(expected: String, why: String) -> Self {
        Self { is_config: true, ..Self::new(expected, Some(why)) }
    }
}

/// Looks up a variable.
pub(crate) type Lookup<'l> = &'l dyn Fn(&str) -> Option<String>;

impl Answer {
    /// Writes the answer for a failure; not yet scrubbed or cut.
    pub(crate) fn described(&self) -> String {
        let body = String::from_utf8_lossy(&self.body);
        let content = if body.trim().is_empty() { "nothing else".to_owned() } else { body.trim().to_owned() };
        match self.outcome {
            Outcome::Done => content,
            Outcome::Status(status) => format!("status {status} and {content}"),
            Outcome::Exit(exit) => format!("exit status {exit} and {content}"),
        }
    }

    /// Compares with everything expected.
    pub(crate) fn judge(&self, expect: &ExpectKeys, value: Lookup<'_>) -> Result<(), Mismatch> {
        match self.outcome {
            Outcome::Done => {}
            Outcome::Status(status) => {
                let set = expect.status.clone().unwrap_or_else(StatusSet::success);
                if !set.has(status) {
                    return Err(Mismatch::new(format!("status {set}"), None));
                }
            }
            Outcome::Exit(exit) => {
                let wanted = expect.exit.unwrap_or(0);
                if exit != wanted {
                    return Err(Mismatch::new(format!("exit status {wanted}"), None));
                }
            }
        }
        self.judge_headers(&expect.headers, value)?;
        if !expect.json.is_empty() {
            judge_json(&self.json()?, &expect.json, value)?;
        }
        for (what, pattern) in [("a body", &expect.body), ("output", &expect.stdout)] {
            if let Some(pattern) = pattern {
                let expected = format!("{what} with {:?}", pattern.as_str());
                if !found_in(pattern, &String::from_utf8_lossy(&self.body), &expected, value)? {
                    return Err(Mismatch::new(expected, None));
                }
            }
        }
        Ok(())
    }

    fn judge_headers(&self, expect: &BTreeMap<String, Pattern>, value: Lookup<'_>) -> Result<(), Mismatch> {
        for (name, pattern) in expect {
            let expected = format!("a header {name} with {:?}", pattern.as_str());
            let all: Vec<&str> = http::values(&self.headers, name).collect();
            let mut fits = false;
            for one in &all {
                fits = fits || found_in(pattern, one, &expected, value)?;
            }
            if !fits {
                let found = if all.is_empty() { "none".into() } else { format!("{:?}", all.join(", ")) };
                return Err(Mismatch::new(expected, Some(found)));
            }
        }
        Ok(())
    }

    fn json(&self) -> Result<Value, Mismatch> {
        serde_json::from_slice(&self.body).map_err(|error| {
            let found = format!("{}, which is not JSON ({error})", self.described());
            Mismatch::unreadable("JSON".into(), found)
        })
    }

    /// Takes out what is to be kept.
    pub(crate) fn capture(&self, name: &str, capture: &Capture, value: Lookup<'_>) -> Result<String, Mismatch> {
        let body = String::from_utf8_lossy(&self.body);
        match capture {
            Capture::Json(path) => {
                let expected = format!("a value for {name} at {}", path.as_str());
                match path.find(&self.json()?).first() {
                    Some(Value::String(text)) => Ok(text.clone()),
                    Some(found @ (Value::Number(_) | Value::Bool(_))) => Ok(found.to_string()),
                    Some(_) => Err(Mismatch::new(expected, Some("a list, an object or null".into()))),
                    None => Err(Mismatch::new(expected, None)),
                }
            }
            Capture::Header { name: header, pattern: None } => {
                let expected = format!("a header {header} for {name}");
                let first = http::values(&self.headers, header).next();
                first.map(Into::into).ok_or_else(|| Mismatch::new(expected, Some("none".into())))
            }
            Capture::Header { name: header, pattern: Some(pattern) } => {
                let expected = format!("a header {header} with {:?} for {name}", pattern.as_str());
                let regex = pattern.regex(value).map_err(|why| Mismatch::config(expected.clone(), why))?;
                let found = http::values(&self.headers, header).find_map(|text| group(&regex, text));
                found.ok_or_else(|| Mismatch::new(expected, Some("none".into())))
            }
            Capture::Body(pattern) => {
                let expected = format!("{:?} for {name}", pattern.as_str());
                let regex = pattern.regex(value).map_err(|why| Mismatch::config(expected.clone(), why))?;
                group(&regex, &body).ok_or_else(|| Mismatch::new(expected, None))
            }
        }
    }
}

/// Gives the first group, or the whole match where there is no group.
fn group(regex: &regex::Regex, text: &str) -> Option<String> {
    let found = regex.captures(text)?;
    found.get(1).or_else(|| found.get(0)).map(|part| part.as_str().to_owned())
}

fn found_in(pattern: &Pattern, text: &str, expected: &str, value: Lookup<'_>) -> Result<bool, Mismatch> {
    pattern.regex(value).map(|regex| regex.is_match(text)).map_err(|why| Mismatch::config(expected.into(), why))
}

/// Compares the values at each path; one fitting value is enough.
#[expect(clippy::mutable_key_type, reason = "a path is compared by its text, which never changes")]
pub(crate) fn judge_json(
    json: &Value,
    expect: &BTreeMap<JsonPath, JsonExpectation>,
    value: Lookup<'_>,
) -> Result<(), Mismatch> {
    for (path, expectation) in expect {
        let all = path.find(json);
        let at = path.as_str();
        let (expected, fits) = match expectation {
            JsonExpectation::Exists(there) => {
                let expected = format!("{} at {at}", if *there { "a value" } else { "no value" });
                (expected, all.is_empty() != *there)
            }
            JsonExpectation::Equals(wanted) => {
                let expected = format!("{wanted} at {at}");
                let wanted = body::fill_json(wanted, value).map_err(|unknown| {
                    Mismatch::config(expected.clone(), format!("no value for `{{{}}}`", unknown.name))
                })?;
                (expected, all.iter().any(|found| same(found, &wanted)))
            }
            JsonExpectation::Matches(pattern) => {
                let expected = format!("{:?} at {at}", pattern.as_str());
                let mut fits = false;
                for found in &all {
                    fits = fits
                        || match found {
                            Value::String(text) => found_in(pattern, text, &expected, value)?,
                            Value::Number(_) | Value::Bool(_) => {
                                found_in(pattern, &found.to_string(), &expected, value)?
                            }
                            _ => false,
                        };
                }
                (expected, fits)
            }
        };
        if !fits {
            let found = all.first().map_or("nothing there".into(), |found| format!("{found} there"));
            // A value that is gone is no answer to the question, unless the question was whether it is there.
            let is_unreadable = all.is_empty() && !matches!(expectation, JsonExpectation::Exists(_));
            return Err(Mismatch { is_unreadable, ..Mismatch::new(expected, Some(format!("{found} in {json}"))) });
        }
    }
    Ok(())
}

/// Compares numbers by value: 1 and 1.0 are the same.
fn same(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Number(a), Value::Number(b)) => {
            // Large whole numbers that differ would be the same as floats.
            a == b || (a.is_f64() || b.is_f64()) && a.as_f64() == b.as_f64()
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        (a, b) => a == b,
    }
}
