//! `cargo xtask docs`: the reference that is made from the program itself.

use crate::{Done, root};
use serde_json::Value;
use std::{collections::BTreeMap, fs, process::Command};

/// Writes the generated pages, or with `check` says which are stale.
pub(crate) fn docs(check: bool) -> Done {
    let schema = lastgood(&["config", "schema"])?;
    let mut cli = String::from("# Command line\n\nMade by `cargo xtask docs` from the program's own help.\n");
    help(&[], &mut cli)?;
    let pages = [
        ("docs/reference/lastgood.schema.json", schema.clone()),
        ("docs/reference/config.md", config_page(&schema)?),
        ("docs/reference/cli.md", cli),
        ("docs/errors/README.md", errors_page()?),
        ("CHANGELOG.md", changelog()?),
    ];
    let mut stale = Vec::new();
    for (path, text) in pages {
        let place = root().join(path);
        if fs::read_to_string(&place).unwrap_or_default() == text {
            continue;
        }
        stale.push(path);
        if !check {
            fs::write(&place, text).map_err(|error| format!("{path} can't be written: {error}"))?;
            println!("{path} is new");
        }
    }
    if check && !stale.is_empty() {
        return Err(format!("stale: {}; type: cargo xtask docs", stale.join(", ")));
    }
    Ok(())
}

/// Writes the help of a command and of those below it, in the order in which it names them.
fn help(command: &[&str], cli: &mut String) -> Done {
    let text = lastgood(&[command, &["--help"]].concat())?;
    let title = [&["lastgood"], command].concat().join(" ");
    *cli += &format!("\n## {title}\n\n```text\n{}\n```\n", text.trim_end());
    let below = text.lines().skip_while(|line| !line.starts_with("Usage:")).take_while(|line| *line != "Options:");
    // A description may go on in the next line, further to the right; arguments stand in brackets.
    let is_name = |name: &&str| name.starts_with(|first: char| first.is_ascii_lowercase());
    let names = below.filter_map(|line| line.strip_prefix("  ")?.split(' ').next().filter(is_name));
    for name in names.filter(|name| *name != "help") {
        help(&[command, &[name]].concat(), cli)?;
    }
    Ok(())
}

fn lastgood(arguments: &[&str]) -> Result<String, String> {
    let mut all = vec!["run", "--quiet", "--package", "lastgood", "--"];
    all.extend(arguments);
    let output = Command::new("cargo")
        .args(&all)
        .current_dir(root())
        // Help is wrapped to the terminal: one width for everybody.
        .env("COLUMNS", "100")
        .output()
        .map_err(|error| format!("lastgood can't be run: {error}"))?;
    if !output.status.success() {
        return Err(format!("lastgood {} failed: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr)));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n") + "\n")
}

/// Makes one table for each table of the file, in the order in which the file nests: `[service.NAME]` and what is in it
/// first, then the others.
fn config_page(schema: &str) -> Result<String, String> {
    let schema: Value = serde_json::from_str(schema).map_err(|error| format!("the schema is no JSON: {error}"))?;
    let mut tables = Tables { types: &schema["$defs"], titles: BTreeMap::new(), order: Vec::new() };
    let (first, rest): (Vec<_>, Vec<_>) = keys(&schema).partition(|(key, _)| *key == "service");
    for (key, value) in first.into_iter().chain(rest) {
        tables.visit(key, value);
    }
    let mut page = String::from(
        "# lastgood.toml\n\nMade by `cargo xtask docs` from the types that read the file. Editors can use \
         [lastgood.schema.json](lastgood.schema.json). A table that can stand in several places is described once.\n",
    );
    tables.section(&mut page, "Top level", &schema);
    for name in &tables.order {
        tables.section(&mut page, &tables.titles[name], &tables.types[name]);
    }
    page += "\n## Values\n";
    if let Some(types) = tables.types.as_object() {
        for (name, one) in types.iter().filter(|(name, _)| !tables.titles.contains_key(*name)) {
            let text = one["description"].as_str().unwrap_or_default().trim();
            page += &format!("\n### {name}\n\n{text}\n{}", variants(one));
        }
    }
    Ok(page)
}

/// Gives the keys of a table, those that must be given first.
fn keys(table: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let is_required = |key: &str| table["required"].as_array().is_some_and(|all| all.iter().any(|one| one == key));
    let mut keys: Vec<_> = table["properties"].as_object().into_iter().flatten().collect();
    keys.sort_by_key(|(key, _)| !is_required(key.as_str()));
    keys.into_iter().map(|(key, value)| (key.as_str(), value))
}

/// Gives the type that a key's value has or holds, and how the header of its table ends.
fn held(value: &Value) -> Option<(&str, Nesting)> {
    target(value)
        .map(|name| (name, Nesting::Table))
        .or_else(|| Some((target(&value["items"])?, Nesting::List)))
        .or_else(|| Some((target(&value["additionalProperties"])?, Nesting::Named)))
}

/// Gives the name of the type that a schema refers to.
fn target(value: &Value) -> Option<&str> {
    value["$ref"].as_str().or_else(|| value["anyOf"][0]["$ref"].as_str())?.rsplit('/').next()
}

/// How a key holds tables.
enum Nesting {
    /// `[key]`
    Table,
    /// `[[key]]`
    List,
    /// `[key.NAME]`
    Named,
}

/// The tables of the file.
struct Tables<'a> {
    types: &'a Value,
    /// The header of each type that is a table, by the type's name.
    titles: BTreeMap<String, String>,
    /// The types' names in the order in which they are described.
    order: Vec<String>,
}

impl<'a> Tables<'a> {
    /// Notes the table that stands under `path`, and all tables in it.
    fn visit(&mut self, path: &str, value: &'a Value) {
        let Some((name, nesting)) = held(value) else { return };
        let types = self.types;
        let one = &types[name];
        if self.titles.contains_key(name) || (one["properties"].is_null() && !has_tables(one)) {
            return;
        }
        let (path, title) = match nesting {
            Nesting::Table => (path.to_owned(), format!("[{path}]")),
            Nesting::List => (path.to_owned(), format!("[[{path}]]")),
            Nesting::Named => (format!("{path}.NAME"), format!("[{path}.NAME]")),
        };
        self.titles.insert(name.to_owned(), title);
        self.order.push(name.to_owned());
        let alternatives = one["oneOf"].as_array().into_iter().flatten();
        let inner: Vec<_> = keys(one).chain(alternatives.flat_map(keys)).collect();
        for (key, value) in inner {
            self.visit(&format!("{path}.{key}"), value);
        }
    }

    fn section(&self, page: &mut String, title: &str, one: &Value) {
        *page += &format!("\n## {title}\n");
        if let Some(text) = one["description"].as_str() {
            *page += &format!("\n{}\n", text.trim());
        }
        *page += &variants(one);
        if one["properties"].is_null() && !has_tables(one) {
            return;
        }
        *page += "\n| key | needed | meaning |\n|---|---|---|\n";
        let alternatives = one["oneOf"].as_array().into_iter().flatten();
        let of = alternatives
            .flat_map(|each| keys(each).map(move |(key, value)| (key, value, each["description"].as_str())));
        for (key, value, text) in keys(one).map(|(key, value)| (key, value, None)).chain(of) {
            let required = one["required"].as_array().is_some_and(|all| all.iter().any(|one| one == key));
            let needed = if required { "yes" } else { "" };
            let text = text.or_else(|| value["description"].as_str()).unwrap_or_default();
            let text = text.replace('\n', " ").replace('|', "\\|");
            *page += &format!("| `{key}` | {needed} | {text}{} |\n", self.link(value));
        }
    }

    /// Links to where the value of a key is described.
    fn link(&self, value: &Value) -> String {
        let Some((name, _)) = held(value).filter(|(name, _)| *name != "Length") else { return String::new() };
        let title = self.titles.get(name).map_or(name, String::as_str);
        let anchor: String = title.to_lowercase().chars().filter(|c| c.is_alphanumeric() || *c == '_').collect();
        match self.titles.contains_key(name) {
            true => format!(" See [`{title}`](#{anchor})."),
            false => format!(" See [{title}](#{anchor})."),
        }
    }
}

/// Tells whether a type is a choice of tables.
fn has_tables(one: &Value) -> bool {
    one["oneOf"].as_array().is_some_and(|all| all.iter().any(|each| !each["properties"].is_null()))
}

/// Lists the words that a value may be.
fn variants(one: &Value) -> String {
    let words = one["oneOf"].as_array().into_iter().flatten().filter_map(|each| {
        let text = each["description"].as_str().unwrap_or_default().replace('\n', " ");
        Some(format!("- `{}`: {text}\n", each["const"].as_str()?))
    });
    let list: String = words.collect();
    if list.is_empty() { list } else { format!("\n{list}") }
}

/// Joins the files of changes/, the newest first.
fn changelog() -> Result<String, String> {
    let folder = root().join("changes");
    let entries = fs::read_dir(&folder).map_err(|error| format!("changes can't be read: {error}"))?;
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    let mut page = String::from(
        "# Changes\n\nNothing is released yet. Made by `cargo xtask docs` from the files in changes/, the newest first.\n\n\
         ## 0.1.0, unreleased\n",
    );
    for file in files.iter().rev() {
        let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        // Their titles stand below the version's.
        // Links start at the folder of the file.
        page += &format!("\n##{}\n", text.trim().replace("](../", "]("));
    }
    Ok(page)
}

fn errors_page() -> Result<String, String> {
    let folder = root().join("docs/errors");
    let mut rows = Vec::new();
    for entry in fs::read_dir(&folder).map_err(|error| format!("docs/errors can't be read: {error}"))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(code) = name.strip_suffix(".md").filter(|code| *code != "README") else { continue };
        let text = fs::read_to_string(entry.path()).map_err(|error| format!("{name}: {error}"))?;
        rows.push(format!("| [{code}]({name}) | {} |\n", first_sentence(&text).replace('|', "\\|")));
    }
    rows.sort();
    Ok(format!(
        "# Error codes\n\nEvery error ends with its code in brackets; each code has a page. Made by `cargo xtask docs`.\n\n\
         | code | what happened |\n|---|---|\n{}",
        rows.concat()
    ))
}

/// Gives the first sentence below a page's headings, however its lines are broken.
fn first_sentence(page: &str) -> String {
    let is_text = |line: &&str| !line.trim().is_empty() && !line.starts_with('#');
    let lines = page.lines().skip(1).skip_while(|line| !is_text(line)).take_while(is_text);
    let paragraph = lines.map(str::trim).collect::<Vec<_>>().join(" ");
    let sentence = paragraph.split_inclusive(". ").next().unwrap_or_default();
    sentence.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::first_sentence;

    #[test]
    fn a_sentence_is_whole_wherever_its_lines_end() {
        let page = "# code\n\n## What happened\n\nThe file is there but\ncan't be used. Another\nsentence.\n\nMore.\n";
        assert_eq!(first_sentence(page), "The file is there but can't be used.");
        assert_eq!(first_sentence("# code\n\nOne\nlist:\n"), "One list:");
    }
}
