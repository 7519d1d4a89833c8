//! Placeholders of commands and environments: `{data}`, `{port}`, `{secret:NAME}`.

use std::collections::{BTreeMap, BTreeSet};

/// What `{…}` may name in a command or an environment, besides secrets.
pub const NAMES: [&str; 6] = ["release", "data", "port", "bind", "instance", "service"];

/// Tells what is wrong with the placeholders of `text`, if anything is.
pub fn check(text: &str, known: &BTreeSet<String>) -> Result<(), String> {
    replace(text, &|name| known.contains(name).then(String::new)).map(drop)
}

/// Replaces every placeholder by its value.
///
/// Errors: names the placeholder that has none and the nearest that would.
pub fn expand(text: &str, values: &BTreeMap<String, String>) -> Result<String, String> {
    replace(text, &|name| values.get(name).cloned())
}

fn replace(text: &str, value: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('{') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let Some(end) = rest.find('}') else { return Err(format!("`{{` without `}}` in {text:?}")) };
        let name = &rest[..end];
        match value(name) {
            Some(found) => out.push_str(&found),
            None => {
                let likeness = |known: &&&str| (strsim::jaro_winkler(name, known) * 1_000.0) as i64;
                let nearest = NAMES.iter().max_by_key(likeness).copied().unwrap_or_default();
                return Err(match name.strip_prefix("secret:") {
                    Some(secret) => format!("there is no [secret.{secret}]"),
                    None => format!("`{{{name}}}` is unknown; did you mean `{{{nearest}}}`?"),
                });
            }
        }
        rest = &rest[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_placeholder_names_the_nearest_known_one() {
        let known = ["data", "port", "secret:login"].map(ToOwned::to_owned).into();
        assert_eq!(check("{prot}", &known), Err("`{prot}` is unknown; did you mean `{port}`?".into()));
        assert_eq!(check("{secret:logn}", &known), Err("there is no [secret.logn]".into()));
        assert_eq!(check("{data}/x {secret:login}", &known), Ok(()));
        assert_eq!(check("{data", &known), Err("`{` without `}` in \"{data\"".into()));
    }

    #[test]
    fn a_value_is_put_in_once_and_not_read_again() {
        let values = BTreeMap::from([("data".to_owned(), "{port}".to_owned())]);
        assert_eq!(expand("a{data}b", &values), Ok("a{port}b".into()));
    }
}
