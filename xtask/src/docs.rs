//! `cargo xtask docs`: the reference that is made from the program itself.

use crate::{Done, root};
use std::{fs, process::Command};

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
    let below = text.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // A description may go on in the next line, further to the right.
    let names = below.filter_map(|line| line.strip_prefix("  ")?.split(' ').next().filter(|name| !name.is_empty()));
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

/// Makes one table for each type of the schema.
fn config_page(schema: &str) -> Result<String, String> {
    let schema: serde_json::Value =
        serde_json::from_str(schema).map_err(|error| format!("the schema is no JSON: {error}"))?;
    let mut page = String::from(
        "# lastgood.toml\n\nMade by `cargo xtask docs` from the types that read the file; editors use \
         [lastgood.schema.json](lastgood.schema.json).\n",
    );
    section(&mut page, "The file", &schema);
    if let Some(types) = schema["$defs"].as_object() {
        for (name, one) in types {
            section(&mut page, name, one);
        }
    }
    Ok(page)
}

fn section(page: &mut String, name: &str, one: &serde_json::Value) {
    *page += &format!("\n## {name}\n");
    if let Some(text) = one["description"].as_str() {
        *page += &format!("\n{}\n", text.trim());
    }
    let Some(keys) = one["properties"].as_object() else { return };
    let required: Vec<&str> = one["required"].as_array().into_iter().flatten().filter_map(|key| key.as_str()).collect();
    *page += "\n| key | needed | meaning |\n|---|---|---|\n";
    for (key, value) in keys {
        let needed = if required.contains(&key.as_str()) { "yes" } else { "" };
        let text = value["description"].as_str().unwrap_or_default().replace('\n', " ").replace('|', "\\|");
        let target = value["$ref"].as_str().or_else(|| value["items"]["$ref"].as_str()).unwrap_or_default();
        let target = target.rsplit('/').next().filter(|name| !name.is_empty() && *name != "Length");
        let link = target.map_or_else(String::new, |name| format!(" See [{name}](#{}).", name.to_lowercase()));
        *page += &format!("| `{key}` | {needed} | {text}{link} |\n");
    }
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
