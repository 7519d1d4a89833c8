//! What only the text of lastgood.toml shows: what `init` left to be filled in, and the line of a value.

use std::path::{Path, PathBuf};

/// A text that `init` wrote to be replaced.
pub(super) struct LeftOver {
    /// Its line, from 1.
    pub(super) line: usize,
    /// The whole value.
    pub(super) value: String,
    /// A value like it that would work.
    pub(super) example: String,
}

/// Finds the values that still say CHANGE, in the order of the text; comments may say it.
pub(super) fn left_over(text: &str) -> Vec<LeftOver> {
    let lines = text.lines().zip(1..);
    let values = lines.flat_map(|(line, number)| quoted(line).into_iter().map(move |value| (number, value)));
    let left = values.filter_map(|(line, value)| {
        let example = example_for(&value)?;
        Some(LeftOver { line, value, example })
    });
    left.collect()
}

/// Gives what to write instead, if this is one of the texts that `init` writes.
fn example_for(value: &str) -> Option<String> {
    if value == "CHANGE" {
        return Some("its real value".into());
    }
    let program = value.strip_suffix("/CHANGE").map(|folder| format!("the program's path, such as {folder}/server"));
    program.or_else(|| value.strip_prefix("CHANGE:").map(|what| format!("{}, such as log in and read", what.trim())))
}

/// Gives the values in quotation marks of one line, without its comment.
fn quoted(line: &str) -> Vec<String> {
    let (mut all, mut open): (Vec<String>, Option<(char, String)>) = (Vec::new(), None);
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match &mut open {
            None if character == '#' => break,
            None if matches!(character, '"' | '\'') => open = Some((character, String::new())),
            None => {}
            Some((quote, _)) if character == *quote => all.extend(open.take().map(|(_, value)| value)),
            Some(('"', value)) if character == '\\' => value.extend(characters.next()),
            Some((_, value)) => value.push(character),
        }
    }
    all
}

/// Finds the line of a key that names this path.
pub(super) fn line_of(text: &str, key: &str, path: &Path, folder: &Path) -> Option<usize> {
    let names = |line: &str| {
        let table: toml::Table = toml::from_str(line).ok()?;
        Some(folder.join(table.get(key)?.as_str()?) == path)
    };
    text.lines().zip(1..).find(|(line, _)| names(line).unwrap_or(false)).map(|(_, number)| number)
}

/// Gives the one spelling of a path: no `.` and `..`, and links followed as far as it exists.
pub(super) fn real(path: &Path) -> PathBuf {
    use std::path::Component;
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => drop(plain.pop()),
            other => plain.push(other),
        }
    }
    let there = plain.ancestors().find_map(|ancestor| Some((ancestor, std::fs::canonicalize(ancestor).ok()?)));
    match there {
        Some((ancestor, real)) => plain.strip_prefix(ancestor).map_or(plain.clone(), |rest| real.join(rest)),
        None => plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_values_that_init_wrote_are_left_over() {
        let text = "a = 1\ncommand = [\"x\", \"{release}/bin/CHANGE\"] # x\nname = 'CHANGE: what users do first'\n";
        let found = left_over(text);
        let seen: Vec<_> = found.iter().map(|left| (left.line, left.value.as_str())).collect();
        assert_eq!(seen, [(2, "{release}/bin/CHANGE"), (3, "CHANGE: what users do first")]);
        assert!(found[0].example.contains("{release}/bin/server"));
        for fine in [
            "data = \"d\" # CHANGE: its data folder",
            "expect = \"CHANGE it\"",
            "# \"CHANGE\"",
            "x = \"a\\\"/CHANGED\"",
        ] {
            assert!(left_over(fine).is_empty(), "{fine}");
        }
    }
}
